//! The digests of all known passwords, by username. Knows no password in clear and no request.

use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use daemun_pipeline::{ConsumerId, Directory};

/// The digest of a password, and whose it is.
type Login = ([u8; 32], Option<ConsumerId>);

/// What an unknown username is compared with, so that it takes the work of a known one.
const NOBODY: Login = ([0; 32], None);

/// All credentials of a directory.
#[derive(Debug)]
pub(crate) struct Passwords(HashMap<Box<[u8]>, Login>);

impl Passwords {
    /// Takes the credentials of all consumers.
    pub(crate) fn new(directory: &Directory) -> Passwords {
        let all = directory.iter().flat_map(|(id, consumer)| consumer.basic.iter().map(move |login| (id, login)));
        Passwords(all.map(|(id, login)| (login.username.as_bytes().into(), (login.password, Some(id)))).collect())
    }

    /// Whose username and password these are; costs one SHA-256 and one comparison in constant time, whatever is wrong.
    pub(crate) fn find(&self, username: &[u8], password: &[u8]) -> Option<ConsumerId> {
        let presented = digest(&SHA256, password);
        let (known, consumer) = self.0.get(username).unwrap_or(&NOBODY);
        let same = verify_slices_are_equal(known, presented.as_ref()).is_ok();
        consumer.filter(|_| same)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
