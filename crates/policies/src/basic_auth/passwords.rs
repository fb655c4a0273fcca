//! The digests of all known passwords, by username. Knows no password in clear and no request.

use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::Accounts;
use daemun_config::model::CredentialName;
use daemun_pipeline::{ConsumerId, Directory};

use crate::lasting::Lasting;

/// A credential.
#[derive(Debug)]
struct Login {
    digest: [u8; 32],
    consumer: ConsumerId,
    lasting: Lasting,
}

/// What the password of an unknown username is compared with, so that it takes the work of a known one.
const NOBODY: [u8; 32] = [0; 32];

/// All credentials of a directory.
#[derive(Debug)]
pub(crate) struct Passwords(HashMap<Box<[u8]>, Login>);

impl Passwords {
    /// Takes the credentials of all consumers.
    pub(crate) fn new(directory: &Directory, accounts: &Accounts) -> Passwords {
        let mut all = HashMap::new();
        for (id, consumer) in directory.iter() {
            for known in &consumer.basic {
                let lasting = Lasting::new(consumer, &CredentialName::Basic(known.username.clone()), accounts);
                let login = Login { digest: known.password, consumer: id, lasting };
                all.insert(known.username.as_bytes().into(), login);
            }
        }
        Passwords(all)
    }

    /// Whose username and password these are, and how long they are good; costs one SHA-256 and one comparison in constant time, whatever
    /// is wrong.
    pub(crate) fn find(&self, username: &[u8], password: &[u8]) -> Option<(ConsumerId, &Lasting)> {
        let presented = digest(&SHA256, password);
        let login = self.0.get(username);
        let known = login.map_or(&NOBODY, |login| &login.digest);
        let same = verify_slices_are_equal(known, presented.as_ref()).is_ok();
        login.filter(|_| same).map(|login| (login.consumer, &login.lasting))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
