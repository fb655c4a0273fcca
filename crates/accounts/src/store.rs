//! Where accounts last. Knows nothing of how they are used.

#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, Sqlite};

use crate::change::Change;
use crate::plan::Used;

/// Keeps changes. One thread owns it.
pub trait Store: Send {
    /// Applies what several ask for, in order, all of it or none. Once this returns it lasts. Says for each whether it was done: what somebody
    /// asks for is not where [`Change::Spend`], [`Change::UseUp`], [`Change::Consumer`] or [`Change::Credential`] finds that somebody else was
    /// first.
    ///
    /// # Errors
    /// When nothing of it lasts.
    fn apply(&mut self, asked: &[&[Change]]) -> Result<Vec<bool>, StoreError>;

    /// Gives what this process has not seen yet, in an order in which each refers only to what came before; what is seen again is the same.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, visit: &mut dyn FnMut(Change)) -> Result<(), StoreError>;

    /// Whether another process has changed something.
    ///
    /// # Errors
    /// When that cannot be told.
    fn has_news(&mut self) -> Result<bool, StoreError>;

    /// What a consumer has used, by plan and day, in no order. A store that keeps none has none to tell of.
    ///
    /// # Errors
    /// When it cannot be read.
    fn usage(&mut self, consumer: &str) -> Result<Vec<Used>, StoreError> {
        let _ = consumer;
        Ok(Vec::new())
    }

    /// Forgets at most so many tokens and logins that ended before a moment, and what was used long before it; gives how many.
    ///
    /// # Errors
    /// When that fails; nothing is lost by it.
    fn forget(&mut self, before: u64, most: usize) -> Result<usize, StoreError>;
}

/// Why a store does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);
