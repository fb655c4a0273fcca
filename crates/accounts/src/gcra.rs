//! The arithmetic of one limit: a leaking bucket kept as a single number. Knows no clock, no caller and no request.
//!
//! This is the generic cell rate algorithm (ITU-T I.371): a bucket is the moment at which it will be full again. Taking a token
//! moves that moment one interval on; a token may be taken while the moment is less than the whole bucket away. Whatever happens in
//! between, at most `burst + rate × t` tokens are taken in any window of length t, and at a standing clock exactly `burst`.
//!
//! Moments are counted in sixteenths of a nanosecond of the gateway's clock, so that fast limits are exact enough and slow ones fit:
//! the interval is rounded up to a whole unit, a limit is therefore never faster than written, and at 1,000,000/s at most 0.006 %
//! slower. A moment overflows after 36 years of uptime.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Units in a nanosecond.
const UNITS_PER_NANO: u64 = 16;
/// Units in a second.
const UNITS_PER_SECOND: u64 = UNITS_PER_NANO * 1_000_000_000;
/// The longest time that an empty bucket may take to fill, in units: 366 days.
const LONGEST_FILL: u64 = 366 * 24 * 3600 * UNITS_PER_SECOND;

/// A moment of the gateway's clock, from nanoseconds to units.
#[must_use]
#[inline]
pub const fn units(nanos: u64) -> u64 {
    nanos.saturating_mul(UNITS_PER_NANO)
}

/// Units to whole seconds, rounded up, at least 1.
#[must_use]
#[inline]
pub fn seconds(units: u64) -> u64 {
    units.div_ceil(UNITS_PER_SECOND).max(1)
}

/// One limit: how fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// Units until one more token is there.
    interval: u64,
    /// Units until an empty bucket is full.
    capacity: u64,
}

impl Gcra {
    /// `count` tokens per `period`, and room for `burst` of them. `None` when an empty bucket would take longer than 366 days to fill,
    /// or when one of the numbers is zero.
    #[must_use]
    #[inline]
    pub fn new(count: u64, period: Duration, burst: u64) -> Option<Gcra> {
        let period = u64::try_from(period.as_nanos()).ok()?.checked_mul(UNITS_PER_NANO)?;
        if count == 0 || burst == 0 || period == 0 {
            return None;
        }
        let interval = period.div_ceil(count);
        let capacity = interval.checked_mul(burst).filter(|capacity| *capacity <= LONGEST_FILL)?;
        Some(Gcra { interval, capacity })
    }

    /// Takes a token from a bucket that is full at `full_at`: when it is full then, or how long to wait. All in units.
    ///
    /// # Errors
    /// How long to wait.
    #[inline]
    pub fn admit(self, full_at: u64, now: u64) -> Result<u64, u64> {
        let next = full_at.max(now).saturating_add(self.interval);
        match (next - now).checked_sub(self.capacity) {
            None | Some(0) => Ok(next),
            Some(wait) => Err(wait),
        }
    }

    /// Tokens in a bucket that is full at `full_at`.
    #[must_use]
    #[inline]
    pub fn left(self, full_at: u64, now: u64) -> u64 {
        self.capacity.saturating_sub(full_at.saturating_sub(now)) / self.interval
    }

    /// Takes a token from a bucket shared by threads; `Err` is how long to wait, in units. `floor` is the least it counts as full at.
    ///
    /// # Errors
    /// How long to wait.
    #[inline]
    pub fn take(self, bucket: &AtomicU64, floor: u64, now: u64) -> Result<Taken<'_>, u64> {
        let mut seen = bucket.load(Ordering::Acquire);
        loop {
            let before = seen.max(floor);
            let written = self.admit(before, now)?;
            match bucket.compare_exchange_weak(seen, written, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Taken { bucket, before: before.max(now), written }),
                Err(other) => seen = other,
            }
        }
    }
}

/// A token that was taken and may be given back.
#[derive(Debug)]
pub struct Taken<'a> {
    /// Where from.
    pub bucket: &'a AtomicU64,
    /// What the bucket counted as before.
    pub before: u64,
    /// What it was set to.
    pub written: u64,
}

impl Taken<'_> {
    /// Puts the token back, unless the bucket was used since: it cannot be told then whether the token has dripped in again in the
    /// meantime, and a token lost is better than one too many.
    #[inline]
    pub fn give_back(&self) {
        let _ = self.bucket.compare_exchange(self.written, self.before, Ordering::AcqRel, Ordering::Relaxed);
    }
}
