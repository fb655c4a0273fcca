//! Who may call: consumers and credentials that are not in the configuration, and the tokens given out. All that a request needs is in
//! memory; what must last goes to a store, and is acknowledged once it is there. Knows no policy and no socket.

pub mod text;
mod mark;
pub mod grant;
pub mod consumer;
mod intern;
mod expiry;
mod once;
mod ended;
mod uses;
pub mod gcra;
pub mod plan;
pub mod accounts;
pub mod change;
mod journal;
pub mod seal;
pub mod store;
mod table;

pub use accounts::{Accounts, Bound, Checks, Code, HeldKey, MOST_PLANS, Refusal, Revoked, Trouble, Whose};
pub use change::{Change, SigningKeyRow};
pub use consumer::{Consumer, Credential, CredentialKind};
pub use grant::{Asked, Grant, Holder, Issued, Kind, Mint, Text, Token, Wanted};
pub use plan::{Plan, Used};
pub use store::Store;
pub use uses::Uses;
