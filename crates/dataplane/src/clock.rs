//! The only reader of time. Knows nothing of what time is used for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// A clock that is shared by every worker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// `origin` is a moment of the monotonic clock.
    System {
        origin: u64,
        offset: Arc<AtomicU64>,
    },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    now: AtomicU64,
    moved: Notify,
}

/// Nanoseconds between two looks at the wall clock.
const FOLLOW: u64 = 1_000_000_000;
/// Wall-clock time at which a manual clock starts: 2026-01-01T00:00:00Z.
const MANUAL_EPOCH: u64 = 1_767_225_600_000_000_000;

impl Default for Clock {
    fn default() -> Clock {
        Clock::system()
    }
}

impl Clock {
    /// The machine's clocks: monotonic for intervals, wall clock for what people read.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn system() -> Clock {
        // one second ahead, so that 0 never is a valid moment
        let origin = monotonic().wrapping_sub(1_000_000_000);
        let clock = Clock(Source::System { origin, offset: Arc::new(AtomicU64::new(0)) });
        clock.sync_wall();
        clock
    }

    /// A clock that moves only by [`Clock::advance`].
    #[must_use]
    pub fn manual() -> Clock {
        Clock(Source::Manual(Arc::new(Manual { now: AtomicU64::new(1_000_000_000), moved: Notify::new() })))
    }

    /// Nanoseconds since a fixed moment before the start; never goes back. Some 20 ns.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System { origin, .. } => monotonic().wrapping_sub(*origin),
            Source::Manual(manual) => manual.now.load(Ordering::Acquire),
        }
    }

    /// Wall-clock time of a moment of [`Clock::now`], nanoseconds since the Unix epoch; reads no clock.
    #[must_use]
    pub fn wall(&self, now: u64) -> u64 {
        match &self.0 {
            Source::System { offset, .. } => offset.load(Ordering::Relaxed).wrapping_add(now),
            Source::Manual(_) => MANUAL_EPOCH.wrapping_add(now),
        }
    }

    /// Follows a wall clock that is set, or that went on while the machine slept, for as long as it is polled.
    pub async fn follow_wall(&self) {
        loop {
            self.sync_wall();
            self.wait(self.now().saturating_add(FOLLOW)).await;
        }
    }

    /// Reads the wall clock anew.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn sync_wall(&self) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.set_wall(u64::try_from(wall).unwrap_or(u64::MAX));
    }

    /// Takes it to be so late, in nanoseconds since the Unix epoch, until the wall clock is looked at again; nothing on a manual clock.
    pub fn set_wall(&self, wall: u64) {
        if let Source::System { offset, .. } = &self.0 {
            offset.store(wall.wrapping_sub(self.now()), Ordering::Relaxed);
        }
    }

    /// Moves a manual clock; nothing on the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.now.fetch_add(nanos(by), Ordering::AcqRel);
            manual.moved.notify_waiters();
        }
    }

    /// Waits until `until` may have come: at it on the system's clock, at the next move of a manual one.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub async fn wait(&self, until: u64) {
        match &self.0 {
            Source::System { .. } => tokio::time::sleep(Duration::from_nanos(until.saturating_sub(self.now()))).await,
            Source::Manual(manual) => {
                let moved = manual.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if self.now() < until {
                    moved.await;
                }
            }
        }
    }
}

/// The monotonic clock, which is never behind zero. Read without the arithmetic of `Instant`, which costs as much as the reading.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned())
}

/// A duration in nanoseconds, at most 584 years.
#[must_use]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a clock's wall is from the machine's, in seconds.
    #[allow(clippy::disallowed_methods, reason = "the clock is what is looked at")]
    fn error(clock: &Clock) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        u64::try_from(wall).unwrap().abs_diff(clock.wall(clock.now())) / 1_000_000_000
    }

    // waits take no time
    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_is_followed_again_and_again() {
        const HOUR: u64 = 3_600_000_000_000;
        let clock = Clock::system();
        let follows = clock.clone();
        let following = tokio::spawn(async move { follows.follow_wall().await });
        for step in [HOUR, HOUR.wrapping_neg()] {
            clock.set_wall(clock.wall(clock.now()).wrapping_add(step));
            assert!(error(&clock) > 3_000);
            clock.wait(clock.now() + 2 * FOLLOW).await;
            assert!(error(&clock) < 60);
        }
        following.abort();
    }
}
