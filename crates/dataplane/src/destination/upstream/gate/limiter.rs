//! How many calls an upstream can work on at once, learned from how long its answers take. A pure core: time and samples are arguments.
//!
//! While more calls than there are slots are in flight, they wait for each other in the upstream, and answers take longer. Whether they take
//! long for that reason or because the work itself does is told by trying: with fewer calls in flight, answers come sooner only if calls
//! waited. So no time that was once the shortest is believed for ever, and an upstream that has become slower keeps the calls it works on.

use std::cmp::Ordering;

/// Answers of a window: what they usually take is judged.
const SAMPLES: usize = 128;
/// Fewer do when they take long to come.
const FEWEST: usize = 48;
/// A window lasts so long at least, nanoseconds.
const SHORTEST: u64 = 50_000_000;
/// However many come within the shortest window, no more are kept.
const MOST_SAMPLES: usize = SAMPLES * 8;
/// After so long fewer answers do, nanoseconds.
const LONG: u64 = 500_000_000;
/// Calls in flight to begin with.
const BEGIN: usize = 64;
/// More calls are let through while answers take at most so much longer than at best.
const NEAR: f64 = 1.25;
/// Fewer are tried when they take so much longer.
const FAR: f64 = 1.5;
/// Much fewer when they take so much longer.
const VERY_FAR: f64 = 3.0;
/// How the number grows.
const GROW: f64 = 1.25;
/// How it falls for a trial.
const FALL: f64 = 0.75;
const FALL_FAR: f64 = 0.5;
/// How it falls when the upstream itself refuses calls.
const FALL_REFUSED: f64 = 0.9;
/// After so many windows at the limit fewer calls are tried, whatever the answers take: what is best is measured again.
const WINDOWS: u32 = 30;
/// The part of a difference that is taken over at a time.
const EASE: f64 = 0.25;

/// How a call ended, as far as it tells of the upstream's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer began after so long, nanoseconds.
    Answered(u64),
    /// None had begun after so long.
    Unanswered(u64),
    /// It was answered that the upstream is overloaded (429, 503).
    Refused,
}

/// A number of calls that is tried, and what was before it.
#[derive(Clone, Copy, Debug)]
struct Trial {
    limit: f64,
    usual: f64,
}

/// Learns the number of calls in flight; one for each upstream.
#[derive(Debug)]
pub(super) struct Limiter {
    min: f64,
    max: f64,
    limit: f64,
    /// How long answers take at best, nanoseconds; 0 while that is not known.
    base: f64,
    /// Calls that began before say nothing of the present limit.
    since: u64,
    samples: Vec<u64>,
    /// Of them, those that ended while the limit was reached.
    full: usize,
    refused: usize,
    trial: Option<Trial>,
    /// Windows at the limit since the best was measured.
    windows: u32,
}

impl Limiter {
    /// Between `min` and `max` calls, of which neither is 0.
    pub(super) fn new(min: usize, max: usize) -> Limiter {
        let (low, high) = (min.max(1), max.max(min).max(1));
        Limiter {
            min: low as f64,
            max: high as f64,
            limit: BEGIN.clamp(low, high) as f64,
            base: 0.0,
            since: 0,
            samples: Vec::with_capacity(MOST_SAMPLES),
            full: 0,
            refused: 0,
            trial: None,
            // what is measured first may be with too many already
            windows: WINDOWS,
        }
    }

    /// Goes on between other bounds.
    pub(super) fn bound(&mut self, min: usize, max: usize) {
        self.min = min.max(1) as f64;
        self.max = max.max(min).max(1) as f64;
        self.limit = self.limit.clamp(self.min, self.max);
        self.trial = None;
    }

    /// Calls that may be in flight.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Takes note of a call that ended `now`, had begun at `begun`, and with which `in_flight` were. Whether the limit may have changed.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
    pub(super) fn observe(&mut self, now: u64, begun: u64, in_flight: usize, outcome: Outcome) -> bool {
        if self.since == 0 {
            self.since = begun;
        }
        if begun < self.since {
            return false;
        }
        match outcome {
            Outcome::Answered(nanos) => self.samples.push(nanos),
            // that it did not come sooner is all that is known
            Outcome::Unanswered(nanos) if nanos as f64 > self.base => self.samples.push(nanos),
            Outcome::Unanswered(_) => return false,
            Outcome::Refused => self.refused += 1,
        }
        self.full += usize::from(in_flight as f64 >= self.limit * 0.9);
        let count = self.samples.len() + self.refused;
        if count < FEWEST {
            return false;
        }
        let span = now.saturating_sub(self.since);
        let complete = count >= SAMPLES && span >= SHORTEST || count >= FEWEST && span >= LONG;
        if !complete && self.samples.len() < MOST_SAMPLES {
            return false;
        }
        let before = self.limit;
        let usual = self.close(count);
        // calls that begin while the upstream still has those of another limit would tell of both
        self.since = if self.limit() == before as usize { now } else { now.saturating_add(usual) };
        self.samples.clear();
        self.full = 0;
        self.refused = 0;
        true
    }

    /// Judges a window; what its answers usually took.
    fn close(&mut self, count: usize) -> u64 {
        if self.refused * 8 > count {
            self.trial = None;
            self.set(self.limit * FALL_REFUSED);
            return 0;
        }
        let Some(usual) = usual(&mut self.samples) else { return 0 };
        self.weigh(count, usual);
        usual as u64
    }

    fn weigh(&mut self, count: usize, usual: f64) {
        if self.base == 0.0 {
            self.base = usual;
        }
        if let Some(trial) = self.trial.take() {
            self.judge(trial, usual);
        } else if usual < self.base * (2.0 - NEAR) {
            self.base = usual;
        } else if usual < self.base {
            self.base += (usual - self.base) * EASE;
        }
        let ratio = usual / self.base.max(1.0);
        let at_limit = self.full * 2 >= count;
        if !at_limit {
            // whatever they take, it is not for the calls that are let through
            self.base += (usual - self.base).max(0.0) * EASE;
        } else if ratio > FAR {
            self.try_fewer(usual, if ratio > VERY_FAR { FALL_FAR } else { FALL });
            return;
        } else if self.windows >= WINDOWS {
            self.try_fewer(usual, FALL);
            return;
        }
        self.windows += u32::from(at_limit);
        if ratio <= NEAR && self.full * 10 >= count {
            self.set((self.limit * GROW).max(self.limit + 1.0));
        }
    }

    /// What a trial came to: had calls waited for each other, answers would take as much less as there were fewer.
    fn judge(&mut self, trial: Trial, usual: f64) {
        let expected = trial.usual * self.limit / trial.limit;
        if usual <= f64::midpoint(trial.usual, expected) {
            self.base = self.base.min(usual);
            // as long as fewer are better, there may be better still
            self.windows = WINDOWS;
        } else {
            self.base = usual;
            self.set(trial.limit);
        }
    }

    fn try_fewer(&mut self, usual: f64, share: f64) {
        self.windows = 0;
        let trial = Trial { limit: self.limit, usual };
        self.set(self.limit * share);
        if self.limit().cmp(&(trial.limit as usize)) == Ordering::Less {
            self.trial = Some(trial);
        } else {
            // there are no fewer to try
            self.base += (usual - self.base) * EASE;
        }
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.min, self.max);
    }
}

/// The mean of what was observed, in which nothing counts for more than three times the middle one: so that a few that take very long for
/// reasons of their own do not tell of all.
fn usual(samples: &mut [u64]) -> Option<f64> {
    if samples.is_empty() {
        return None;
    }
    let middle = samples.len() / 2;
    let most = samples.select_nth_unstable(middle).1.saturating_mul(3);
    let sum: f64 = samples.iter().map(|nanos| (*nanos).min(most) as f64).sum();
    Some(sum / samples.len() as f64)
}
