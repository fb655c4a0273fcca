//! Where a call finds what it shows, by its digest.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::grant::{Grant, Token};
use crate::text::Digest;

/// A digest is as good as random, so that its first bytes are its hash.
#[derive(Default)]
pub(super) struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
    }

    // the length, which is always the same
    fn write_usize(&mut self, _: usize) {}
}

pub(super) type ByDigest<T> = papaya::HashMap<Digest, T, BuildHasherDefault<First>>;

/// A token beside its login, so that a call does not have to wait for the one to find the other in memory.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) token: Arc<Token>,
    pub(super) grant: Arc<Grant>,
}
