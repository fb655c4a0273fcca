//! What `jwt` holds beyond its page.

mod claims;
mod issuer;
pub(crate) mod signer;
mod tokens;
