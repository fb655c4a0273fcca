//! The one place that waits: bounded polling of a condition. Tests themselves never sleep.

use std::time::{Duration, Instant};

/// How long anything may take before a test calls it hung. Generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A moment after which something is late.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment `limit` from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(now() + limit)
    }

    /// What is left until then; `None` once it has passed.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.0.checked_duration_since(now()).filter(|left| !left.is_zero())
    }
}

/// The present moment, for measuring how long something took.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "black-box tests measure the real clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `probe` again and again until it answers with a value, for at most `limit`.
///
/// # Panics
/// When `limit` passes first; the message names `what`.
pub fn wait_until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    poll(limit, probe).unwrap_or_else(|| panic!("waited {limit:?} in vain until {what}"))
}

/// Like [`wait_until`], but a `limit` that passes first is `None`.
#[allow(clippy::disallowed_methods, reason = "the one bounded polling loop of the tests")]
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(limit);
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        deadline.left()?;
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}
