//! What the store's thread tells the accounts and asks of them, and what they ask it of other processes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{Accounts, Trouble, answer};
use crate::change::Change;
use crate::grant::Token;
use crate::journal::Around;
use crate::plan::Used;
use crate::text::Prefix;

/// What the store's thread knows of the accounts.
pub(super) struct Surroundings {
    pub(super) accounts: Weak<Accounts>,
    pub(super) now: Box<dyn Fn() -> u64 + Send>,
    pub(super) tell: Box<dyn Fn(String) + Send>,
}

impl Around for Surroundings {
    fn came(&self, changes: Vec<Change>) {
        let Some(accounts) = self.accounts.upgrade() else { return };
        let (now, mut grants) = ((self.now)(), Vec::new());
        for change in changes {
            accounts.absorb(change, now, &mut grants);
        }
        accounts.drop_empty(&grants);
    }

    fn now(&self) -> u64 {
        (self.now)()
    }

    fn tell(&self, what: String) {
        (self.tell)(what);
    }

    fn due(&self, most: usize) -> (Vec<Change>, bool) {
        let Some(accounts) = self.accounts.upgrade() else { return (Vec::new(), false) };
        let more = accounts.forget((self.now)(), most);
        let (counted, more_counted) = accounts.counted();
        let mut changes = accounts.uses((self.now)());
        changes.extend(counted);
        (changes, more || more_counted)
    }

    fn not_written(&self, changes: &[Change]) {
        if let Some(accounts) = self.accounts.upgrade() {
            accounts.count_again(changes);
        }
    }

    fn counted_of(&self, consumer: &str) -> Vec<Used> {
        self.accounts.upgrade().map(|accounts| accounts.counted_of(consumer)).unwrap_or_default()
    }

    fn others(&self) -> bool {
        self.accounts.upgrade().is_some_and(|accounts| accounts.others.load(Ordering::Acquire))
    }

    fn set_others(&self, others: bool) {
        if let Some(accounts) = self.accounts.upgrade() {
            accounts.others.store(others, Ordering::Release);
        }
    }

    fn is_gone(&self) -> bool {
        self.accounts.strong_count() == 0
    }
}

impl Accounts {
    /// As [`Accounts::find`], also where another process gave the token out a moment ago: what must not be missed for that is looked for
    /// with this. What cannot be a token of ours is not.
    ///
    /// # Errors
    /// When it is not known here, and what other processes did cannot be found out.
    pub async fn find_anywhere(&self, text: &[u8]) -> Result<Option<Arc<Token>>, Trouble> {
        match (self.find(text), self.journal.get()) {
            (None, Some(journal)) if self.has_others() || Prefix::is_of_token(text) => {
                answer(journal.look()).await?;
                Ok(self.find(text))
            }
            (found, _) => Ok(found),
        }
    }
}
