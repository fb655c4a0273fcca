//! Leaves an upstream alone that fails: closed, then open for a while, then half open, when a few calls try it. Shared by workers and kept
//! over reloads that leave its settings as they are; atomics only. Time is an argument.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

use super::window::{Window, is_share};

/// When it opens and for how long. Times in nanoseconds, shares in hundredths of a per cent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BreakerRules {
    pub(crate) failure_ratio: Option<u32>,
    pub(crate) consecutive: Option<u32>,
    pub(crate) slow: Option<(u64, u32)>,
    pub(crate) window: u64,
    pub(crate) min_requests: u64,
    pub(crate) statuses: Vec<u16>,
    pub(crate) open_for: u64,
    pub(crate) half_open_requests: u32,
}

/// A breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) rules: BreakerRules,
    window: Window,
    /// Failures in a row.
    failures: AtomicU32,
    /// Until when it is open; 0 while it is closed.
    until: AtomicU64,
    /// Which time it is open, so that a call which tried it another time tells nothing.
    times: AtomicU32,
    /// Calls that try it and how many of them were well, the latter in the upper half.
    tries: AtomicU64,
    /// Which time it was last told that calls try it.
    told: AtomicU32,
}

/// That a call may be made. Its end must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// One of many.
    Closed,
    /// One that tries the upstream, while it is open for so many times.
    Try(u32),
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Closed,
    /// For so long.
    Open(u64),
    HalfOpen,
}

/// What a call turned it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Opened(Why),
    /// This many calls that tried it were well.
    Closed(u32),
}

/// Why it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// So many failures in a row.
    InARow(u32),
    /// So many of so many calls failed.
    Failed(u64, u64),
    /// So many of so many calls were slow.
    Slow(u64, u64),
    /// A call that tried the upstream failed, or was slow.
    Again { slow: bool },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::InARow(failures) => write!(f, "{failures} consecutive failures"),
            Why::Failed(part, calls) => write!(f, "{part} of {calls} calls failed"),
            Why::Slow(part, calls) => write!(f, "{part} of {calls} calls were slow"),
            Why::Again { slow: false } => f.write_str("a call that tried it failed"),
            Why::Again { slow: true } => f.write_str("a call that tried it was slow"),
        }
    }
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was answered well after so long.
    Good(u64),
    /// It failed.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl Breaker {
    pub(crate) fn new(rules: BreakerRules) -> Breaker {
        Breaker {
            rules,
            window: Window::default(),
            failures: AtomicU32::new(0),
            until: AtomicU64::new(0),
            times: AtomicU32::new(0),
            tries: AtomicU64::new(0),
            told: AtomicU32::new(0),
        }
    }

    /// Whether a call may be made, or after which time to ask again.
    pub(crate) fn admit(&self, now: u64) -> Result<Pass, u64> {
        let until = self.until.load(Acquire);
        if until == 0 {
            return Ok(Pass::Closed);
        }
        if now < until {
            return Err(until - now);
        }
        let most = u64::from(self.rules.half_open_requests);
        let tried = |tries: u64| ((tries & HALF) < most).then_some(tries + 1);
        match self.tries.fetch_update(AcqRel, Acquire, tried) {
            Ok(_) => Ok(Pass::Try(self.times.load(Acquire))),
            // those that try it are under way
            Err(_) => Err(0),
        }
    }

    /// Whether this is the first call that tries it since it opened.
    pub(crate) fn half_opens(&self, pass: Pass) -> bool {
        match pass {
            Pass::Closed => false,
            Pass::Try(times) => self.told.swap(times, Relaxed) != times,
        }
    }

    /// Takes what a call came to, and says what that turned it to; of several calls at once, one turns it.
    pub(crate) fn end(&self, pass: Pass, end: End, now: u64) -> Option<Turn> {
        match pass {
            Pass::Closed if self.until.load(Acquire) == 0 => {
                let why = self.count(end, now)?;
                self.times.fetch_add(1, AcqRel);
                (self.open(now) == 0).then_some(Turn::Opened(why))
            }
            Pass::Try(times) if times == self.times.load(Acquire) => self.tried(times, end, now),
            Pass::Closed | Pass::Try(_) => None,
        }
    }

    /// Why it is to be opened, if it is.
    fn count(&self, end: End, now: u64) -> Option<Why> {
        let (failed, slow) = match end {
            End::Good(nanos) => (false, self.is_slow(nanos)),
            End::Failed => (true, false),
            End::Unknown => return None,
        };
        let rules = &self.rules;
        self.window.add(failed, slow, rules.window, now);
        if failed {
            let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
            if rules.consecutive.is_some_and(|most| failures >= most) {
                return Some(Why::InARow(failures));
            }
        } else if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if !failed && !slow {
            return None;
        }
        let counts = self.window.counts(rules.window, now);
        let many = |part: u64, share: u32| part > 0 && is_share(part, counts.calls, share);
        if counts.calls < rules.min_requests {
            return None;
        }
        let failing = rules.failure_ratio.is_some_and(|share| many(counts.failed, share));
        let slow = rules.slow.is_some_and(|(_, share)| many(counts.slow, share));
        let slow = slow.then_some(Why::Slow(counts.slow, counts.calls));
        failing.then_some(Why::Failed(counts.failed, counts.calls)).or(slow)
    }

    fn tried(&self, times: u32, end: End, now: u64) -> Option<Turn> {
        match end {
            End::Good(nanos) if !self.is_slow(nanos) => {
                let well = (self.tries.fetch_add(1 << 32, AcqRel) >> 32) + 1;
                if well >= u64::from(self.rules.half_open_requests) {
                    self.window.clear();
                    self.failures.store(0, Relaxed);
                    let open = self.until.swap(0, AcqRel) != 0;
                    return open.then_some(Turn::Closed(self.rules.half_open_requests));
                }
                None
            }
            End::Good(_) | End::Failed => {
                // of two that fail at once, one opens it
                self.times.compare_exchange(times, times.wrapping_add(1), AcqRel, Relaxed).ok()?;
                self.open(now);
                Some(Turn::Opened(Why::Again { slow: end != End::Failed }))
            }
            // another one may try in its place
            End::Unknown => {
                let _ = self.tries.fetch_update(AcqRel, Acquire, |tries| (tries & HALF > 0).then(|| tries - 1));
                None
            }
        }
    }

    /// Gives until when it was open before; 0 when it was closed.
    fn open(&self, now: u64) -> u64 {
        self.tries.store(0, std::sync::atomic::Ordering::Release);
        self.until.swap(now.saturating_add(self.rules.open_for).max(1), AcqRel)
    }

    fn is_slow(&self, nanos: u64) -> bool {
        self.rules.slow.is_some_and(|(longest, _)| nanos > longest)
    }

    /// Where it stands.
    pub(crate) fn position(&self, now: u64) -> Position {
        match self.until.load(Acquire) {
            0 => Position::Closed,
            until if now < until => Position::Open(until - now),
            _ => Position::HalfOpen,
        }
    }
}

const HALF: u64 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use super::*;
    use daemun_seeded::{Random, seeds};

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    fn rules() -> BreakerRules {
        BreakerRules {
            failure_ratio: Some(5_000),
            consecutive: None,
            slow: None,
            window: 10 * SECOND,
            min_requests: 20,
            statuses: Vec::new(),
            open_for: 5 * SECOND,
            half_open_requests: 3,
        }
    }

    fn call(breaker: &Breaker, end: End, now: u64) -> bool {
        let pass = breaker.admit(now);
        if let Ok(pass) = pass {
            breaker.end(pass, end, now);
        }
        pass.is_ok()
    }

    fn opened(rules: BreakerRules, now: u64) -> Breaker {
        let breaker = Breaker::new(rules);
        (0..20).for_each(|_| assert!(call(&breaker, End::Failed, now)));
        assert!(matches!(breaker.position(now), Position::Open(_)));
        breaker
    }

    #[test]
    fn it_opens_when_the_share_is_reached_and_enough_calls_were_made() {
        let breaker = Breaker::new(rules());
        (0..10).for_each(|_| assert!(call(&breaker, End::Good(0), SECOND)));
        (0..9).for_each(|_| assert!(call(&breaker, End::Failed, SECOND)));
        assert_eq!(breaker.position(SECOND), Position::Closed);
        assert!(call(&breaker, End::Failed, SECOND));
        assert_eq!(breaker.admit(SECOND), Err(5 * SECOND));
    }

    #[test]
    fn it_opens_after_failures_in_a_row() {
        let breaker = Breaker::new(BreakerRules { consecutive: Some(3), failure_ratio: None, ..rules() });
        for end in [End::Failed, End::Failed, End::Good(0), End::Failed, End::Failed] {
            assert!(call(&breaker, end, SECOND));
        }
        assert!(call(&breaker, End::Failed, SECOND));
        assert!(breaker.admit(SECOND).is_err());
    }

    #[test]
    fn it_opens_when_too_many_calls_are_slow() {
        let breaker = Breaker::new(BreakerRules { slow: Some((SECOND, 5_000)), failure_ratio: None, ..rules() });
        (0..10).for_each(|_| assert!(call(&breaker, End::Good(MS), SECOND)));
        (0..10).for_each(|_| assert!(call(&breaker, End::Good(2 * SECOND), SECOND)));
        assert!(breaker.admit(SECOND).is_err());
    }

    #[test]
    fn half_open_it_lets_few_calls_try_and_closes_when_all_are_well() {
        let breaker = opened(rules(), SECOND);
        let tries: Vec<Pass> = (0..3).map(|_| breaker.admit(7 * SECOND).unwrap()).collect();
        assert_eq!(breaker.admit(7 * SECOND), Err(0));
        breaker.end(tries[0], End::Unknown, 7 * SECOND);
        let again = breaker.admit(7 * SECOND).unwrap();
        for pass in [tries[1], tries[2], again] {
            assert_eq!(breaker.position(7 * SECOND), Position::HalfOpen);
            breaker.end(pass, End::Good(0), 7 * SECOND);
        }
        assert_eq!(breaker.position(7 * SECOND), Position::Closed);
        assert!(call(&breaker, End::Failed, 7 * SECOND));
        assert_eq!(breaker.position(7 * SECOND), Position::Closed);
    }

    #[test]
    fn half_open_it_opens_again_at_the_first_failure_and_older_calls_tell_nothing() {
        let breaker = opened(rules(), SECOND);
        let (first, second) = (breaker.admit(7 * SECOND).unwrap(), breaker.admit(7 * SECOND).unwrap());
        breaker.end(first, End::Failed, 8 * SECOND);
        assert_eq!(breaker.position(8 * SECOND), Position::Open(5 * SECOND));
        breaker.end(second, End::Good(0), 8 * SECOND);
        breaker.end(Pass::Closed, End::Good(0), 8 * SECOND);
        assert_eq!(breaker.position(8 * SECOND), Position::Open(5 * SECOND));
    }

    #[test]
    fn a_failing_upstream_gets_few_calls_and_a_well_one_gets_all_again() {
        for seed in seeds() {
            let mut random = Random::new(seed);
            let breaker = Breaker::new(rules());
            let (fails_from, fails_until) = (20 * SECOND, (40 + random.below(20)) * SECOND);
            let (mut now, mut refused_when_well, mut made_when_ill) = (SECOND, 0, 0);
            let mut under_way: Vec<(u64, Pass, End)> = Vec::new();
            while now < 100 * SECOND {
                now += random.below(20 * MS);
                under_way.retain(|(until, pass, end)| {
                    let over = *until <= now;
                    if over {
                        breaker.end(*pass, *end, now);
                    }
                    !over
                });
                let ill = (fails_from..fails_until).contains(&now);
                match breaker.admit(now) {
                    Ok(pass) => {
                        made_when_ill += u64::from(ill);
                        let end = if random.below(20) == 0 {
                            End::Unknown
                        } else if ill || random.below(10) == 0 {
                            End::Failed
                        } else {
                            End::Good(0)
                        };
                        under_way.push((now + random.below(50 * MS), pass, end));
                    }
                    Err(_) => refused_when_well += u64::from(now > fails_until + 60 * SECOND),
                }
            }
            // some 2,000 to 4,000 calls come while it is ill
            assert!(made_when_ill < 1_100, "seed {seed}: {made_when_ill}");
            assert_eq!(refused_when_well, 0, "seed {seed}");
        }
    }
}
