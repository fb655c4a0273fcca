//! What the gateway itself vouches for: the body that a caller signed, and the credentials that an upstream is shown. Knows no scheme of
//! either.

use std::fmt;

/// What the body of a request must be, since its caller signed that. All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedBody {
    /// Its SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// Its SHA-512.
    pub sha512: Option<[u8; 64]>,
    /// It is empty.
    pub empty: bool,
}

/// A call as it is about to be sent, as far as what signs it may ask.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Method.
    pub method: &'a [u8],
    /// What stands in `Host` or `:authority`.
    pub authority: &'a [u8],
    /// Path as sent, and behind a `?` the query.
    pub target: &'a [u8],
    /// Wall clock when the attempt is sent, nanoseconds since the Unix epoch.
    pub wall: u64,
}

/// What an upstream is shown of who calls it: made for each attempt, when it is known what is sent where, and never part of the request
/// that policies, logs and caches see. Prints no secret.
pub trait Credentials: fmt::Debug + Send + Sync {
    /// Gives every field to `add`, names in lower case.
    fn fields(&self, call: &Outgoing<'_>, add: &mut dyn FnMut(&[u8], &[u8]));

    /// A parameter that is added to the query, as it is sent: `key=…`. Empty for none.
    fn query(&self) -> &[u8] {
        &[]
    }
}
