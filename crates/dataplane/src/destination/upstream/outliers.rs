//! What calls tell of a target: whether it is ejected, for how long, and when it is back. Shared by workers: atomics only. Time is an argument.

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use super::latency::Latency;
use super::window::{Window, is_share};

/// A target that is waited for is not called silent before this time unless it is said otherwise, nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// How many times as long as the others take for an answer a target may be silent, unless it is said otherwise.
const TIMES: u64 = 10;
/// Calls in a row that others overtook before the target counts as silent since the first.
const OVERTAKEN: u32 = 3;
/// Answers that take no longer than this are never too slow beside others', nanoseconds.
const QUICK: u64 = 20_000_000;
/// Time from one call that tries a target to the next, nanoseconds.
const BETWEEN_TRIALS: u64 = 1_000_000_000;

/// What ejects a target, and for how long. Times in nanoseconds, shares in hundredths of a per cent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutlierRules {
    /// 0: any number.
    pub(crate) failures: u32,
    pub(crate) ratio: Option<u32>,
    pub(crate) window: u64,
    pub(crate) min_requests: u64,
    pub(crate) slower_than: Option<u64>,
    pub(crate) peers: Option<u32>,
    pub(crate) statuses: Vec<u16>,
    pub(crate) eject_for: u64,
    pub(crate) max_eject_for: u64,
    pub(crate) max_ejected: u32,
}

impl OutlierRules {
    /// Whether one more of so many targets may be ejected: of several always one, never the last.
    pub(crate) fn may_eject(&self, ejected: usize, all: usize) -> bool {
        let most = (all * self.max_ejected as usize / 10_000).max(1).min(all.saturating_sub(1));
        ejected < most
    }
}

/// Why a target was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// So many failures in a row.
    Failures(u32),
    /// So many hundredths of a per cent failed.
    Ratio(u32),
    /// It was waited for so many milliseconds without any answer.
    Silent(u32),
    /// It took so many times as long as the others.
    Peers(u32),
    /// It failed when it was tried again.
    Again,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Failures(n) => write!(f, "{n} consecutive failures"),
            Cause::Ratio(share) => write!(f, "{}.{:02} % of calls failed", share / 100, share % 100),
            Cause::Silent(millis) => write!(f, "no answer for {}.{} s", millis / 1_000, millis % 1_000 / 100),
            Cause::Peers(times) => write!(f, "{times} times as slow as the others"),
            Cause::Again => f.write_str("failed when it was tried again"),
        }
    }
}

impl Cause {
    fn code(self) -> u64 {
        let (kind, n) = match self {
            Cause::Failures(n) => (1u64, n),
            Cause::Ratio(n) => (2, n),
            Cause::Silent(n) => (3, n),
            Cause::Peers(n) => (4, n),
            Cause::Again => (5, 0),
        };
        kind << 32 | u64::from(n)
    }

    fn of(code: u64) -> Option<Cause> {
        let n = u32::try_from(code & 0xffff_ffff).unwrap_or_default();
        match code >> 32 {
            1 => Some(Cause::Failures(n)),
            2 => Some(Cause::Ratio(n)),
            3 => Some(Cause::Silent(n)),
            4 => Some(Cause::Peers(n)),
            5 => Some(Cause::Again),
            _ => None,
        }
    }
}

/// What calls told of one target.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Calls under way; those of them that wait for an answer in the upper half.
    load: AtomicU64,
    /// When an answer last came, or since when one is waited for.
    heard: AtomicU64,
    /// When the second of the calls that wait was sent, if that was after the last answer.
    second: AtomicU64,
    /// Calls in a row that others overtook, and when the first was; nobody waits for these any more.
    overtaken: AtomicU32,
    overtaken_at: AtomicU64,
    pub(crate) latency: Latency,
    failures: AtomicU32,
    window: Window,
    /// Until when it is ejected, and behind that tried; 0 when it is not.
    until: AtomicU64,
    /// How long it was ejected last, and when that was over.
    length: AtomicU64,
    ended: AtomicU64,
    cause: AtomicU64,
    ejections: AtomicU64,
    /// A call tries it.
    trying: AtomicBool,
    /// When the last call that tried it began, and when that was sent; 0 when it was not.
    trial_at: AtomicU64,
    trial_sent: AtomicU64,
    /// How long those were waited for that tried it since it was ejected, and ended without an answer.
    unanswered: AtomicU64,
}

/// What a report came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Nothing,
    /// There is cause to eject it.
    Outlier(Cause),
    /// It is back.
    Back,
}

impl Told {
    /// A call begins.
    pub(crate) fn begin(&self) {
        self.load.fetch_add(1, AcqRel);
    }

    /// A call was sent, so that its answer is waited for. `trial`: it tries a target that was ejected, of whose silence only that of
    /// such calls since counts.
    pub(crate) fn wait(&self, trial: bool, now: u64) {
        let before = self.load.fetch_add(1 << 32, AcqRel);
        if trial {
            if self.heard.load(Relaxed) < self.until.load(Acquire) {
                self.overtaken.store(0, Relaxed);
            }
            self.trial_sent.store(now, Relaxed);
            self.heard.store(now.saturating_sub(self.unanswered.load(Relaxed)), Relaxed);
        } else if before >> 32 == 0 {
            self.heard.store(now, Relaxed);
        } else if before >> 32 == 1 && self.second.load(Relaxed) < self.heard.load(Relaxed) {
            self.second.store(now, Relaxed);
        }
    }

    /// How long two calls at least have waited without any answer: one alone may be slow of its own.
    fn silence_of_several(&self, now: u64) -> u64 {
        let second = self.second.load(Relaxed);
        let several = self.load.load(Relaxed) >> 33 > 0 && second >= self.heard.load(Relaxed);
        if several { now.saturating_sub(second) } else { 0 }
    }

    /// The call that tried it ended before it was answered.
    pub(crate) fn unanswered(&self, now: u64) {
        let sent = self.trial_sent.swap(0, Relaxed);
        if sent > 0 {
            self.unanswered.fetch_add(now.saturating_sub(sent), Relaxed);
        }
    }

    /// An answer is no longer waited for.
    pub(crate) fn waited(&self) {
        self.load.fetch_sub(1 << 32, AcqRel);
    }

    /// A call is over.
    pub(crate) fn end(&self) {
        self.load.fetch_sub(1, AcqRel);
    }

    /// Calls under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.load.load(Relaxed) & 0xffff_ffff
    }

    /// How long an answer has been waited for; 0 when none is, or none that was sent since it was ejected.
    pub(crate) fn silence(&self, now: u64) -> u64 {
        if self.heard.load(Relaxed) < self.until.load(Acquire) {
            return 0;
        }
        let waited = self.load.load(Relaxed) >> 32 > 0;
        let since = |moment: &AtomicU64| now.saturating_sub(moment.load(Relaxed));
        let overtaken = self.overtaken.load(Relaxed) >= OVERTAKEN;
        let silence = if waited { since(&self.heard) } else { 0 };
        if overtaken { silence.max(since(&self.overtaken_at)) } else { silence }
    }

    /// Another attempt was answered before one that had begun here earlier.
    pub(crate) fn overtaken(&self, now: u64) {
        if self.overtaken.fetch_add(1, Relaxed) == 0 {
            self.overtaken_at.store(now, Relaxed);
        }
    }

    /// Notes an answer, and how long its head took where that is known; `peaks`: somebody looks at the peaks of that.
    pub(crate) fn answered(&self, nanos: Option<u64>, peaks: bool, now: u64) {
        self.heard.store(now, Relaxed);
        if self.overtaken.load(Relaxed) != 0 {
            self.overtaken.store(0, Relaxed);
        }
        if let Some(nanos) = nanos {
            self.latency.observe(nanos, peaks, now);
        }
    }

    /// Takes what a call came to that was answered after `nanos`, or not at all.
    pub(crate) fn report(
        &self,
        failed: bool,
        nanos: Option<u64>,
        trial: bool,
        rules: &OutlierRules,
        now: u64,
    ) -> Finding {
        let slow = nanos.zip(rules.slower_than).is_some_and(|(nanos, longest)| nanos > longest);
        let failed = failed || slow;
        let until = self.until.load(Acquire);
        if until > 0 {
            return match failed {
                // calls from before it was ejected tell nothing new
                _ if now < until => Finding::Nothing,
                true if trial => Finding::Outlier(Cause::Again),
                true => Finding::Nothing,
                false => Finding::Back,
            };
        }
        if rules.ratio.is_some() {
            self.window.add(failed, slow, rules.window, now);
        }
        if !failed {
            if self.failures.load(Relaxed) != 0 {
                self.failures.store(0, Relaxed);
            }
            return Finding::Nothing;
        }
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if rules.failures > 0 && failures >= rules.failures {
            return Finding::Outlier(Cause::Failures(failures));
        }
        let Some(share) = rules.ratio else { return Finding::Nothing };
        let counts = self.window.counts(rules.window, now);
        if counts.calls >= rules.min_requests && is_share(counts.failed, counts.calls, share) {
            let share = counts.failed * 10_000 / counts.calls.max(1);
            return Finding::Outlier(Cause::Ratio(u32::try_from(share).unwrap_or(10_000)));
        }
        Finding::Nothing
    }

    /// Whether it hangs or is far slower than the others, whose mean is `peers`, and of whom one answered last at `peers_heard`. Looked
    /// at now and then: the calls that are under way tell it, long before they run into a time limit.
    pub(crate) fn look(&self, peers: Option<u64>, peers_heard: u64, rules: &OutlierRules, now: u64) -> Option<Cause> {
        let silence = self.silence(now);
        let millis = |nanos: u64| u32::try_from(nanos / 1_000_000).unwrap_or(u32::MAX);
        if rules.slower_than.is_some_and(|longest| silence > longest) {
            return Some(Cause::Silent(millis(silence)));
        }
        // whoever says how slow is too slow says it for all
        if rules.slower_than.is_some() && rules.peers.is_none() {
            return None;
        }
        let ejected = self.until.load(Acquire) > 0;
        let times = rules.peers.map_or(TIMES, u64::from);
        let peers = peers?;
        let alone_counts = self.overtaken.load(Relaxed) >= OVERTAKEN || ejected;
        let silence = if alone_counts { silence } else { self.silence_of_several(now) };
        let others_answer = peers_heard > self.heard.load(Relaxed);
        if others_answer && silence > peers.saturating_mul(times).max(PATIENCE) {
            return Some(Cause::Silent(millis(silence)));
        }
        let mean = self.latency.mean().filter(|_| rules.peers.is_some() && !ejected)?;
        let slow = mean > peers.saturating_mul(times).max(QUICK);
        slow.then(|| Cause::Peers(u32::try_from(mean / peers.max(1)).unwrap_or(u32::MAX)))
    }

    /// Whether [`Told::look`] can tell something new: it has its calls, or was tried since it was ejected.
    pub(crate) fn is_watched(&self, now: u64) -> bool {
        let until = self.until.load(Acquire);
        until == 0 || until <= now && (self.is_tried() || self.overtaken.load(Relaxed) >= OVERTAKEN)
    }

    /// Ejects it: for longer when it failed again at once.
    pub(crate) fn eject(&self, cause: Cause, rules: &OutlierRules, now: u64) {
        let (length, ended) = (self.length.load(Relaxed), self.ended.load(Relaxed));
        let again = self.until.load(Acquire) > 0 || length > 0 && now.saturating_sub(ended) < length;
        let length = if again { length.saturating_mul(2).min(rules.max_eject_for) } else { rules.eject_for };
        self.length.store(length, Relaxed);
        if cause != Cause::Again || self.cause.load(Relaxed) == 0 {
            self.cause.store(cause.code(), Relaxed);
        }
        self.ejections.fetch_add(1, Relaxed);
        self.trial_sent.store(0, Relaxed);
        self.unanswered.store(0, Relaxed);
        self.until.store(now.saturating_add(length).max(1), Release);
    }

    /// How often it was ejected.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// Lets it have calls again.
    pub(crate) fn readmit(&self, now: u64) {
        self.ended.store(now, Relaxed);
        self.failures.store(0, Relaxed);
        self.overtaken.store(0, Relaxed);
        self.window.clear();
        self.latency.clear();
        self.cause.store(0, Relaxed);
        self.until.store(0, Release);
    }

    /// Until when it is ejected, and behind that tried; 0 when it is not.
    pub(crate) fn ejected(&self) -> u64 {
        self.until.load(Acquire)
    }

    /// Why it was ejected.
    pub(crate) fn cause(&self) -> Option<Cause> {
        Cause::of(self.cause.load(Relaxed))
    }

    /// Whether this call is the one that tries it, one a second at most; its end is to be told with [`Told::tried`].
    pub(crate) fn may_try(&self, now: u64) -> bool {
        let until = self.until.load(Acquire);
        let due = || now >= self.trial_at.load(Acquire).saturating_add(BETWEEN_TRIALS);
        if until == 0 || now < until || !due() || self.trying.swap(true, AcqRel) {
            return false;
        }
        // another worker's call may have come and gone meanwhile
        if !due() {
            self.tried();
            return false;
        }
        self.trial_sent.store(0, Relaxed);
        self.trial_at.store(now, Release);
        true
    }

    fn is_tried(&self) -> bool {
        self.trying.load(Acquire)
    }

    /// The call that tried it is over.
    pub(crate) fn tried(&self) {
        self.trying.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemun_seeded::{Random, seeds};

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    fn rules() -> OutlierRules {
        OutlierRules {
            failures: 5,
            ratio: None,
            window: 10 * SECOND,
            min_requests: 10,
            slower_than: None,
            peers: None,
            statuses: Vec::new(),
            eject_for: 10 * SECOND,
            max_eject_for: 60 * SECOND,
            max_ejected: 5_000,
        }
    }

    fn report(told: &Told, failed: bool, rules: &OutlierRules, now: u64) -> Finding {
        told.report(failed, (!failed).then_some(MS), false, rules, now)
    }

    #[test]
    fn failures_in_a_row_are_cause_to_eject_and_a_success_begins_anew() {
        let told = Told::default();
        for failed in [true, true, true, true, false, true, true, true, true] {
            assert_eq!(report(&told, failed, &rules(), SECOND), Finding::Nothing);
        }
        assert_eq!(report(&told, true, &rules(), SECOND), Finding::Outlier(Cause::Failures(5)));
    }

    #[test]
    fn a_share_of_failures_is_cause_to_eject_from_enough_calls_on() {
        let rules = OutlierRules { failures: 0, ratio: Some(5_000), ..rules() };
        let told = Told::default();
        let found: Vec<Finding> = (0..10).map(|i| report(&told, i % 2 == 1, &rules, SECOND)).collect();
        assert_eq!(found.last(), Some(&Finding::Outlier(Cause::Ratio(5_000))));
        assert!(found.iter().take(9).all(|found| *found == Finding::Nothing));
    }

    #[test]
    fn answers_that_take_too_long_count_as_failures() {
        let rules = OutlierRules { slower_than: Some(2 * SECOND), failures: 1, ..rules() };
        let told = Told::default();
        assert_eq!(told.report(false, Some(2 * SECOND), false, &rules, SECOND), Finding::Nothing);
        assert!(matches!(told.report(false, Some(3 * SECOND), false, &rules, SECOND), Finding::Outlier(_)));
    }

    #[test]
    fn it_is_ejected_for_longer_each_time_it_fails_at_once_and_tried_by_one_call_at_a_time() {
        let told = Told::default();
        let mut now = SECOND;
        for length in [10, 20, 40, 60, 60] {
            told.eject(Cause::Failures(5), &rules(), now);
            assert_eq!(told.ejected(), now + length * SECOND);
            assert!(!told.may_try(now + length * SECOND - 1));
            now += length * SECOND;
            assert!(told.may_try(now) && !told.may_try(now));
            assert_eq!(told.report(true, None, true, &rules(), now), Finding::Outlier(Cause::Again));
            told.tried();
        }
        now += SECOND;
        assert!(told.may_try(now));
        assert_eq!(told.report(false, Some(MS), true, &rules(), now), Finding::Back);
        told.readmit(now);
        told.eject(Cause::Failures(5), &rules(), now + 100 * SECOND);
        assert_eq!(told.ejected(), now + 110 * SECOND);
    }

    #[test]
    fn a_target_that_hangs_is_found_by_its_calls_under_way() {
        let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
        let told = Told::default();
        told.wait(false, SECOND);
        assert_eq!(told.look(None, 0, &rules, 3 * SECOND), None);
        assert_eq!(told.look(None, 0, &rules, 3 * SECOND + MS), Some(Cause::Silent(2_001)));
        told.waited();
        assert_eq!(told.look(None, 0, &rules, 9 * SECOND), None);
    }

    #[test]
    fn a_target_that_hangs_while_others_answer_is_found_without_a_limit() {
        let told = Told::default();
        told.wait(false, SECOND);
        told.wait(false, SECOND);
        // nobody answers: it is not the target
        assert_eq!(told.look(Some(10 * MS), SECOND / 2, &rules(), 5 * SECOND), None);
        assert_eq!(told.look(Some(10 * MS), 4 * SECOND, &rules(), 2 * SECOND), None);
        assert!(matches!(told.look(Some(10 * MS), 4 * SECOND, &rules(), 5 * SECOND), Some(Cause::Silent(_))));
        // the others take long as well
        assert_eq!(told.look(Some(SECOND), 4 * SECOND, &rules(), 5 * SECOND), None);
        // the call that tries it begins anew
        told.eject(Cause::Silent(1), &rules(), 5 * SECOND);
        told.wait(true, 15 * SECOND);
        assert_eq!(told.look(Some(10 * MS), 15 * SECOND + 1, &rules(), 16 * SECOND), None);
        assert!(told.look(Some(10 * MS), 16 * SECOND, &rules(), 16 * SECOND + MS).is_some());
    }

    #[test]
    fn one_call_that_takes_long_among_quick_ones_ejects_nobody() {
        let told = Told::default();
        let look = |now: u64| told.look(Some(5 * MS), now - MS, &rules(), now);
        told.wait(false, SECOND);
        // alone for long, and then not for a moment
        assert_eq!(look(4 * SECOND), None);
        told.wait(false, 4 * SECOND);
        assert_eq!(look(4 * SECOND + 5 * MS), None);
        assert!(look(5 * SECOND + 5 * MS).is_some());
    }

    #[test]
    fn a_limit_on_slowness_holds_in_place_of_the_usual_one() {
        let told = Told::default();
        let rules = OutlierRules { slower_than: Some(6 * SECOND), peers: None, ..rules() };
        told.wait(false, SECOND);
        told.wait(false, SECOND);
        assert_eq!(told.look(Some(5 * MS), 5 * SECOND, &rules, 6 * SECOND), None);
        assert!(told.look(Some(5 * MS), 7 * SECOND, &rules, 8 * SECOND).is_some());
    }

    #[test]
    fn the_silence_of_calls_that_tried_it_and_ended_unanswered_adds_up() {
        let told = Told::default();
        told.eject(Cause::Failures(5), &rules(), SECOND);
        let look = |now: u64| told.look(Some(10 * MS), now - 1, &rules(), now);
        for second in 11..15 {
            let now = second * SECOND;
            assert!(told.may_try(now));
            told.wait(true, now);
            assert_eq!(look(now + 240 * MS), None, "{second}");
            told.waited();
            told.unanswered(now + 240 * MS);
            told.tried();
            assert!(!told.is_watched(now + 300 * MS) && !told.may_try(now + 999 * MS));
        }
        // one that found no connection does not count
        assert!(told.may_try(15 * SECOND));
        told.unanswered(15 * SECOND + 900 * MS);
        told.tried();
        assert!(told.may_try(16 * SECOND));
        told.wait(true, 16 * SECOND);
        assert_eq!(look(16 * SECOND + 40 * MS), None);
        assert_eq!(look(16 * SECOND + 50 * MS), Some(Cause::Silent(1_010)));
    }

    #[test]
    fn calls_that_hang_since_before_it_was_ejected_tell_nothing_of_it_when_it_is_tried() {
        let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
        let told = Told::default();
        told.wait(false, SECOND);
        told.eject(Cause::Silent(1), &rules, 4 * SECOND);
        assert!(told.may_try(14 * SECOND) && told.is_watched(14 * SECOND));
        assert_eq!(told.look(None, 0, &rules, 14 * SECOND + MS), None);
    }

    #[test]
    fn a_target_that_hangs_behind_second_calls_is_found_too() {
        let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
        let told = Told::default();
        (0..3).for_each(|i| told.overtaken(SECOND + i * MS));
        assert_eq!(told.look(None, 0, &rules, 3 * SECOND), None);
        assert!(matches!(told.look(None, 0, &rules, 3 * SECOND + MS), Some(Cause::Silent(_))));
        told.answered(Some(MS), false, 3 * SECOND);
        assert_eq!(told.look(None, 0, &rules, 9 * SECOND), None);
    }

    #[test]
    fn a_target_far_slower_than_the_others_is_found() {
        let rules = OutlierRules { peers: Some(5), ..rules() };
        let told = Told::default();
        (0..8).for_each(|i| told.answered(Some(100 * MS), false, i * MS));
        assert_eq!(told.look(Some(10 * MS), 0, &rules, SECOND), Some(Cause::Peers(10)));
        assert_eq!(told.look(Some(30 * MS), 0, &rules, SECOND), None);
    }

    #[test]
    fn of_several_targets_one_may_always_be_ejected_and_never_the_last() {
        let rules = rules();
        let most = |all: usize| (0..10).filter(|ejected| rules.may_eject(*ejected, all)).count();
        assert_eq!([1, 2, 3, 4, 5, 10].map(most), [0, 1, 1, 2, 2, 5]);
        let all = OutlierRules { max_ejected: 10_000, ..rules };
        assert!(all.may_eject(2, 4) && !all.may_eject(3, 4));
    }

    /// A target hangs for a while: it gets few calls meanwhile, and calls as before soon behind that.
    #[test]
    fn a_target_that_hangs_gets_two_calls_a_second_at_most_after_three_seconds() {
        let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
        for seed in seeds() {
            let mut random = Random::new(seed);
            let (told, limit) = (Told::default(), 30 * SECOND);
            let (from, until) = (5 * SECOND, (35 + random.below(20)) * SECOND);
            // end, whether it is answered, whether it tries
            let mut calls: Vec<(u64, bool, bool, u64)> = Vec::new();
            let (mut now, mut ill, mut last) = (0, 0, 0);
            while now < 200 * SECOND {
                now += 10 * MS + random.below(20 * MS);
                calls.retain(|(end, answered, trial, begun)| {
                    let end = if *answered { *end } else { (*begun + limit).min((*end).max(until)) };
                    if end > now {
                        return true;
                    }
                    let took = end - begun;
                    told.waited();
                    if took < limit {
                        told.answered(Some(took), false, now);
                    }
                    let finding = told.report(took >= limit, (took < limit).then_some(took), *trial, &rules, now);
                    match finding {
                        Finding::Outlier(cause) => told.eject(cause, &rules, now),
                        Finding::Back => told.readmit(now),
                        Finding::Nothing => {}
                    }
                    if *trial {
                        told.tried();
                    }
                    false
                });
                if told.is_watched(now)
                    && let Some(cause) = told.look(None, 0, &rules, now)
                {
                    told.eject(cause, &rules, now);
                }
                let trial = told.may_try(now);
                if trial || told.ejected() == 0 {
                    told.wait(trial, now);
                    let hangs = (from..until).contains(&now);
                    ill += u64::from(hangs && now > from + 3 * SECOND);
                    calls.push((now + MS, !hangs, trial, now));
                    last = now;
                }
            }
            let seconds = (until - from) / SECOND - 3;
            assert!(ill <= 2 * seconds, "seed {seed}: {ill} in {seconds} s");
            assert!(now - last < SECOND, "seed {seed}: not back");
        }
    }

    /// Calls that hang for a while end as callers and second calls let them: nothing of that makes it called more.
    #[test]
    fn a_target_that_hangs_gets_few_calls_whoever_gives_them_up() {
        let rules = rules();
        for seed in seeds() {
            let mut random = Random::new(seed);
            let (hedge, patience) = match seed % 4 {
                0 => (Some(50 * MS), None),
                1 => (None, Some(300 * MS)),
                2 => (Some(50 * MS), Some(300 * MS)),
                _ => (None, None),
            };
            let told = Told::default();
            let (from, until) = (5 * SECOND, (35 + random.below(20)) * SECOND);
            let given_up = [hedge, patience, Some(30 * SECOND)].into_iter().flatten().min().unwrap();
            // when it began, whether it is answered, whether it tries
            let mut calls: Vec<(u64, bool, bool)> = Vec::new();
            let (mut now, mut ill, mut last) = (0, 0, 0);
            while now < until + 70 * SECOND {
                now += 10 * MS + random.below(20 * MS);
                calls.retain(|(begun, answered, trial)| {
                    let end = if *answered { begun + MS } else { begun + given_up };
                    if end > now {
                        return true;
                    }
                    told.waited();
                    let finding = if *answered || given_up == 30 * SECOND {
                        if *answered {
                            told.answered(Some(MS), false, now);
                        }
                        told.report(!answered, answered.then_some(MS), *trial, &rules, now)
                    } else {
                        if hedge.is_some() {
                            told.overtaken(now);
                        }
                        if *trial {
                            told.unanswered(now);
                        }
                        Finding::Nothing
                    };
                    match finding {
                        Finding::Outlier(cause) => told.eject(cause, &rules, now),
                        Finding::Back => told.readmit(now),
                        Finding::Nothing => {}
                    }
                    if *trial {
                        told.tried();
                    }
                    false
                });
                if told.is_watched(now)
                    && let Some(cause) = told.look(Some(MS), now, &rules, now)
                {
                    told.eject(cause, &rules, now);
                }
                let trial = told.may_try(now);
                if trial || told.ejected() == 0 {
                    told.wait(trial, now);
                    let hangs = (from..until).contains(&now);
                    ill += u64::from(hangs && now > from + 3 * SECOND);
                    calls.push((now, !hangs, trial));
                    last = now;
                }
            }
            assert!(told.ejections() >= 2, "seed {seed}: it is left alone for longer when it hangs again");
            // a few for each time it was ejected, not one a second
            assert!(ill <= 15, "seed {seed}: {ill} calls");
            assert!(now - last < SECOND, "seed {seed}: not back");
        }
    }
}
