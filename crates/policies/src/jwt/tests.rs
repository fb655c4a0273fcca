//! What `jwt` holds beyond its page.

mod claims;
mod issuer;
mod signer;
mod tokens;
