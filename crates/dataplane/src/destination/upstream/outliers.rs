//! What calls tell of a target: whether it is ejected, for how long, and when it is back. Shared by workers: atomics only. Time is an argument.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use super::forsaken::Forsaken;
use super::latency::Latency;
use super::peers::Peers;
use super::window::{Window, is_share};

/// A target that is waited for is not called silent before this time unless it is said otherwise, nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// How many times as long as the others take for an answer a target may be silent, unless it is said otherwise.
const TIMES: u64 = 10;
/// Calls in a row that others overtook before the target counts as silent since the first; and of those that were given up, before what
/// they waited adds up to a silence.
const IN_A_ROW: u32 = 3;
/// The same as [`PATIENCE`] for calls whose answer may rightly begin late, as that to a stream of gRPC.
const LONG_PATIENCE: u64 = 5_000_000_000;
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
    /// When a call was sent while another waited, if that was after the last answer.
    second: AtomicU64,
    /// Calls in a row that others overtook, and when the first was; nobody waits for these any more.
    overtaken: AtomicU32,
    overtaken_at: AtomicU64,
    /// Calls in a row that were given up before they were answered, and how long one at least of these was waited for.
    given_up: AtomicU32,
    quiet: AtomicU64,
    /// When the last of these was sent, and the one before.
    given_up_last: AtomicU64,
    given_up_before: AtomicU64,
    /// Which share of the calls is given up, but for those in a row since the last answer.
    forsaken: Forsaken,
    /// Calls that wait whose answer may begin late; when one was sent behind another, if that was after the last answer.
    lasting: AtomicU64,
    lasting_since: AtomicU64,
    /// When one of these was sent; 0 while none is looked at.
    sample: AtomicU64,
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
        } else if self.second.load(Relaxed) < self.heard.load(Relaxed) {
            self.second.store(now, Relaxed);
        }
    }

    /// The same for a call whose answer may begin late. Whether it is the one whose age is looked at, until it is waited for no longer.
    pub(crate) fn wait_lasting(&self, trial: bool, now: u64) -> bool {
        let before = self.lasting.fetch_add(1, AcqRel);
        if trial {
            self.trial_sent.store(now, Relaxed);
        } else if before == 0 {
            if self.waiting() == 0 {
                self.heard.store(now, Relaxed);
            }
        } else if self.lasting_since.load(Relaxed) < self.heard.load(Relaxed) {
            self.lasting_since.store(now, Relaxed);
        }
        self.sample.compare_exchange(0, now.max(1), Relaxed, Relaxed).is_ok()
    }

    /// It is waited for no longer.
    pub(crate) fn waited_lasting(&self, looked_at: bool) {
        self.lasting.fetch_sub(1, AcqRel);
        if looked_at {
            self.sample.store(0, Relaxed);
        }
    }

    /// Calls that wait, but for those whose answer may begin late.
    fn waiting(&self) -> u64 {
        self.load.load(Relaxed) >> 32
    }

    /// How long the call has waited that is looked at of those whose answer may begin late.
    pub(super) fn age_of_lasting(&self, now: u64) -> u64 {
        match self.sample.load(Relaxed) {
            0 => 0,
            sent => now.saturating_sub(sent),
        }
    }

    /// How long these have waited without any answer: two at least, or the one that tries the target, with those that tried it before.
    fn silence_of_lasting(&self, now: u64) -> u64 {
        let lasting = self.lasting.load(Relaxed);
        if self.until.load(Acquire) > 0 {
            let sent = self.trial_sent.load(Relaxed);
            let counts = sent > 0 && lasting > 0;
            return if counts { now.saturating_sub(sent) + self.unanswered.load(Relaxed) } else { 0 };
        }
        let since = self.lasting_since.load(Relaxed);
        if lasting > 1 && since >= self.heard.load(Relaxed) { now.saturating_sub(since) } else { 0 }
    }

    /// How long two calls at least have waited without any answer: one alone may be slow of its own.
    fn silence_of_several(&self, now: u64) -> u64 {
        let second = self.second.load(Relaxed);
        let several = self.waiting() > 1 && second >= self.heard.load(Relaxed);
        if several { now.saturating_sub(second) } else { 0 }
    }

    /// A call that was sent at this time ended before it was answered, though not for the target's sake; of those that wait it is none
    /// any more. One that was given up sooner than the target answers tells nothing.
    pub(crate) fn gave_up(&self, sent: u64, now: u64) {
        let waited = now.saturating_sub(sent);
        if self.until.load(Acquire) > 0 || self.latency.mean().is_some_and(|mean| waited < mean) {
            return;
        }
        self.given_up.fetch_add(1, Relaxed);
        let before = self.given_up_last.swap(sent, Relaxed);
        self.given_up_before.store(before, Relaxed);
        if self.waiting() == 0 {
            let silent = now.saturating_sub(self.heard.load(Relaxed).max(sent));
            self.quiet.fetch_add(silent, Relaxed);
        }
    }

    /// How long one at least was waited for of the calls in a row that were given up, and of those that wait now.
    fn silence_of_given_up(&self, now: u64) -> u64 {
        if self.given_up.load(Relaxed) == 0 {
            return 0;
        }
        let waits = if self.waiting() > 0 { now.saturating_sub(self.heard.load(Relaxed)) } else { 0 };
        self.quiet.load(Relaxed).saturating_add(waits)
    }

    /// Which share of its calls is given up, hundredths of a per cent.
    pub(super) fn forsaken(&self) -> u64 {
        self.forsaken.share()
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
        let waited = self.waiting() > 0;
        let since = |moment: &AtomicU64| now.saturating_sub(moment.load(Relaxed));
        let overtaken = self.overtaken.load(Relaxed) >= IN_A_ROW;
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
        if self.given_up.load(Relaxed) != 0 || !self.forsaken.is_settled() {
            self.forsaken.answered(self.given_up.swap(0, Relaxed));
            self.quiet.store(0, Relaxed);
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

    /// Whether it hangs or is far slower than the others. Looked at now and then: the calls that are under way tell it, long before they
    /// run into a time limit.
    pub(crate) fn look(&self, peers: &Peers, rules: &OutlierRules, now: u64) -> Option<Cause> {
        let silence = self.silence(now);
        let silent = |nanos: u64| Some(Cause::Silent(u32::try_from(nanos / 1_000_000).unwrap_or(u32::MAX)));
        if rules.slower_than.is_some_and(|longest| silence > longest) {
            return silent(silence);
        }
        let ejected = self.until.load(Acquire) > 0;
        let times = rules.peers.map_or(TIMES, u64::from);
        // whoever says how slow is too slow says it for all
        let given = rules.slower_than.filter(|_| rules.peers.is_none());
        let patience = given.or_else(|| Some(peers.mean?.saturating_mul(times).max(PATIENCE)))?;
        let given_up = self.given_up.load(Relaxed);
        // callers that often give up do so at every target
        let unlikely = || {
            let usual = peers.forsaken.max(self.forsaken.share());
            u64::from(given_up) + self.waiting() >= Forsaken::unlikely(usual)
        };
        if peers.heard > self.heard.load(Relaxed) {
            let alone_counts = self.overtaken.load(Relaxed) >= IN_A_ROW || ejected;
            let silence = if alone_counts { silence } else { self.silence_of_several(now) };
            if given.is_none() && silence > patience && (alone_counts || given_up == 0 || unlikely()) {
                return silent(silence);
            }
            let silence = self.silence_of_lasting(now);
            if silence > patience.max(LONG_PATIENCE) && silence > peers.lasting.saturating_mul(2) {
                return silent(silence);
            }
        }
        if given_up >= IN_A_ROW && peers.heard > self.given_up_before.load(Relaxed) {
            let silence = self.silence_of_given_up(now);
            if silence > patience && unlikely() {
                return silent(silence);
            }
        }
        if given.is_some() {
            return None;
        }
        let peers = peers.mean?;
        let mean = self.latency.mean().filter(|_| rules.peers.is_some() && !ejected)?;
        let slow = mean > peers.saturating_mul(times).max(QUICK);
        slow.then(|| Cause::Peers(u32::try_from(mean / peers.max(1)).unwrap_or(u32::MAX)))
    }

    /// Whether [`Told::look`] can tell something new: it has its calls, or was tried since it was ejected.
    pub(crate) fn is_watched(&self, now: u64) -> bool {
        let until = self.until.load(Acquire);
        until == 0 || until <= now && (self.is_tried() || self.overtaken.load(Relaxed) >= IN_A_ROW)
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
        self.given_up.store(0, Relaxed);
        self.quiet.store(0, Relaxed);
        self.until.store(now.saturating_add(length).max(1), Release);
    }

    /// Whether it was ejected for its silence at this time or later, and is not back.
    pub(crate) fn is_silent_since(&self, time: u64) -> bool {
        let until = self.until.load(Acquire);
        until > 0
            && matches!(self.cause(), Some(Cause::Silent(_)))
            && until.saturating_sub(self.length.load(Relaxed)) >= time
    }

    /// How often it was ejected.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// Lets it have calls again; whether it had none before: of calls that succeed at once, one brings it back.
    pub(crate) fn readmit(&self, now: u64) -> bool {
        self.ended.store(now, Relaxed);
        self.failures.store(0, Relaxed);
        self.overtaken.store(0, Relaxed);
        self.window.clear();
        self.latency.clear();
        self.cause.store(0, Relaxed);
        self.until.swap(0, AcqRel) != 0
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
