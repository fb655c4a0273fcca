//! What the store's thread tells the accounts and asks of them, and what they ask it of other processes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Accounts, Trouble, answer};
use crate::change::Change;
use crate::grant::Token;
use crate::journal::Around;
use crate::plan::Used;
use crate::text::Prefix;

/// Tokens that are forgotten at once where there is no store, the pause after that, and the time between two looks.
const PIECE: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(2);
const EVERY: Duration = Duration::from_secs(1);

/// What the store's thread knows of the accounts.
pub(super) struct Surroundings {
    pub(super) accounts: Weak<Accounts>,
    pub(super) now: Box<dyn Fn() -> u64 + Send>,
    pub(super) tell: Box<dyn Fn(String) + Send>,
}

impl Around for Surroundings {
    fn came(&self, changes: Vec<Change>) -> Vec<Change> {
        let Some(accounts) = self.accounts.upgrade() else { return Vec::new() };
        let (now, mut grants) = ((self.now)(), Vec::new());
        let takes_away = changes.iter().any(Change::takes_away);
        for change in changes {
            accounts.absorb(change, now, &mut grants);
        }
        accounts.drop_empty(&grants);
        // what one process took away while another, which did not know of it yet, gave out tokens for it; whichever knows of both ends that
        let of_gone = if takes_away { accounts.grants_of_gone() } else { accounts.of_gone(grants) };
        of_gone.into_iter().map(|grant| Change::Revoked(grant.id)).collect()
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
    /// Has what has ended forgotten by a thread, where no store's does; ends when a store keeps them, or nobody uses them. Once is enough.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn forget_alone(self: &Arc<Self>, now: impl Fn() -> u64 + Send + 'static) -> std::io::Result<()> {
        if self.is_kept() || self.forgets.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let accounts = Arc::downgrade(self);
        let work = move || {
            while let Some(accounts) = accounts.upgrade().filter(|accounts| !accounts.is_kept()) {
                let more = accounts.forget(now(), PIECE);
                drop(accounts);
                std::thread::park_timeout(if more { PAUSE } else { EVERY });
            }
        };
        std::thread::Builder::new().name("daemun-accounts".into()).spawn(work).map(drop)
    }

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
