//! How many connections to upstreams the process has at most, and how upstreams share them: every one costs a descriptor, and clients must
//! still find some. Knows neither targets nor what is sent. Touched when a connection is made or ends, not by calls over one that rests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::gate::bound::ConnectionTo;

/// Descriptors put aside for listening sockets, logs, files that are read, status and admin callers.
const RESERVE: usize = 256;
/// Connections there may be, however few descriptors there are.
const LEAST: usize = 16;
/// An upstream beside others gets no further connection when it has more than so many for each that is free. One whose targets hang so
/// leaves a ninth to the rest, among whom the same holds.
const FOR_EACH_FREE: usize = 8;
/// Other workers are asked for what rests there once in this time at most, nanoseconds, so that a flood of calls does not do away with
/// everybody's; and so long a call waits for their places.
pub(crate) const ASKING: u64 = 100_000_000;

/// The connections of all workers.
pub(crate) struct Budget {
    descriptors: usize,
    workers: usize,
    open: AtomicUsize,
    /// What each upstream has, by its name; looked up when a configuration is adopted.
    shares: Mutex<HashMap<Arc<str>, Weak<Share>>>,
    /// What waits for any place.
    wants: Wants,
    asked: Notify,
    closed: Notify,
}

/// The connections of one upstream.
#[derive(Default)]
pub(crate) struct Share {
    open: AtomicUsize,
    /// What waits for a place of its own.
    wants: Wants,
}

#[derive(Default)]
struct Wants {
    /// Calls that wait.
    calls: AtomicUsize,
    /// When other workers were last asked for what rests there.
    asked_at: AtomicU64,
}

impl Share {
    /// Connections there are.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// All are taken.
    Place,
    /// The upstream has its share of them; what rests of it must go first.
    Share,
    /// The upstream has as many as it may; what rests of it must go first.
    Upstream,
    /// One of its targets has; what rests of it must go first.
    Target,
}

/// Held while a call waits for a place.
pub(crate) struct Wanted<'a>(&'a Wants);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's place; given back when it is dropped.
pub(crate) struct Place {
    budget: Arc<Budget>,
    share: Arc<Share>,
    /// One of its target's, where those are bounded.
    pub(crate) target: Option<ConnectionTo>,
}

impl Place {
    /// Whether it is one of this upstream's.
    pub(crate) fn is_of(&self, share: &Share) -> bool {
        std::ptr::eq(&raw const *self.share, share)
    }

    /// What it is a place of.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.open.fetch_sub(1, Ordering::Relaxed);
        self.share.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    /// For so many workers in a process that may have so many descriptors.
    pub(crate) fn new(workers: usize, descriptors: u64) -> Arc<Budget> {
        Arc::new(Budget {
            descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX),
            workers,
            open: AtomicUsize::new(0),
            shares: Mutex::default(),
            wants: Wants::default(),
            asked: Notify::new(),
            closed: Notify::new(),
        })
    }

    /// The share of the upstream of this name, the same for all workers and over reloads.
    pub(crate) fn share(&self, name: &Arc<str>) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(name).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::<Share>::default();
        shares.insert(Arc::clone(name), Arc::downgrade(&share));
        share
    }

    /// Connections there may be beside so many of clients: what they leave of the descriptors, but no less than half.
    pub(crate) fn most(&self, clients: usize) -> usize {
        let all = self.descriptors.saturating_sub(RESERVE);
        all.saturating_sub(clients).max(all / 2).max(LEAST)
    }

    /// A place among `most`; an upstream that is `alone` may have all of them.
    pub(crate) fn take(self: &Arc<Budget>, share: &Arc<Share>, most: usize, alone: bool) -> Result<Place, Missing> {
        let place = Place { budget: Arc::clone(self), share: Arc::clone(share), target: None };
        let free = most.saturating_sub(self.open.fetch_add(1, Ordering::Relaxed));
        let own = share.open.fetch_add(1, Ordering::Relaxed);
        // where none is free, one that would be would not do either: nobody else's is closed for it
        if !alone && own / FOR_EACH_FREE >= free.max(1) {
            return Err(Missing::Share);
        }
        if free == 0 { Err(Missing::Place) } else { Ok(place) }
    }

    /// Notes that a call waits for what is missing, until what this gives is dropped.
    pub(crate) fn want<'a>(&'a self, share: &'a Share, missing: Missing) -> Wanted<'a> {
        let wants = self.wants_of(share, missing);
        wants.calls.fetch_add(1, Ordering::Relaxed);
        Wanted(wants)
    }

    /// Whether a call waits that this place would help.
    pub(crate) fn wants(&self, place: &Place) -> bool {
        self.wants.calls.load(Ordering::Relaxed) > 0 || place.share.wants.calls.load(Ordering::Relaxed) > 0
    }

    /// Asks other workers, if not just now, to close what rests and would help. Until when they may; `None` where there are none.
    pub(crate) fn ask(&self, share: &Share, missing: Missing, now: u64) -> Option<u64> {
        if self.workers < 2 {
            return None;
        }
        let asked_at = &self.wants_of(share, missing).asked_at;
        let last = asked_at.load(Ordering::Relaxed);
        if last != 0 && now.saturating_sub(last) < ASKING {
            return Some(last.saturating_add(ASKING));
        }
        if asked_at.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.asked.notify_waiters();
        }
        Some(now.saturating_add(ASKING))
    }

    fn wants_of<'a>(&'a self, share: &'a Share, missing: Missing) -> &'a Wants {
        match missing {
            Missing::Place => &self.wants,
            Missing::Share | Missing::Upstream | Missing::Target => &share.wants,
        }
    }

    /// Ends when connections that rested are closed from now on.
    pub(crate) fn closed(&self) -> Notified<'_> {
        self.closed.notified()
    }

    /// Notes that some are.
    pub(crate) fn tell_closed(&self) {
        self.closed.notify_waiters();
    }

    /// Does `close` whenever another worker asks for what rests.
    pub(crate) async fn whenever_asked(&self, close: impl Fn()) {
        let mut asked = Box::pin(self.asked.notified());
        loop {
            asked.await;
            // whoever asks from here on may not have seen what is closed now
            asked = Box::pin(self.asked.notified());
            close();
            self.tell_closed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn clients_and_a_reserve_come_first_but_never_take_more_than_half() {
        for (descriptors, clients, most) in
            [(600, 172, 172), (1024, 384, 384), (1_048_576, 16_000, 1_032_320), (1024, 10_000, 384), (64, 16, LEAST)]
        {
            assert_eq!(Budget::new(1, descriptors).most(clients), most, "{descriptors} {clients}");
        }
        assert!(Budget::new(1, u64::MAX).most(16_000) > 1 << 40);
    }

    #[test]
    fn an_upstream_that_is_alone_may_have_everything_and_no_more() {
        let budget = Budget::new(1, 0);
        let share = budget.share(&name("a"));
        let mut places: Vec<_> = (0..10).map(|_| budget.take(&share, 10, true).unwrap()).collect();
        assert!(budget.take(&share, 10, true).is_err_and(|missing| missing == Missing::Place));
        places.pop();
        assert!(budget.take(&share, 10, true).is_ok());
        drop(places);
        assert_eq!((budget.open.load(Ordering::Relaxed), share.open.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn one_that_takes_all_it_gets_leaves_room_for_the_others() {
        let budget = Budget::new(1, 0);
        let taken = |share: &Arc<Share>| {
            let mut places = Vec::new();
            while let Ok(place) = budget.take(share, 900, false) {
                places.push(place);
            }
            places
        };
        let (first, second, third) = (budget.share(&name("a")), budget.share(&name("b")), budget.share(&name("c")));
        let greedy = taken(&first);
        assert!((795..=805).contains(&greedy.len()), "{}", greedy.len());
        let also = taken(&second);
        assert!((85..=95).contains(&also.len()), "{}", also.len());
        assert!(!taken(&third).is_empty());
        drop((greedy, also));
        assert_eq!(taken(&third).len(), 800);
    }

    #[test]
    fn a_share_is_found_again_while_it_is_used_and_forgotten_then() {
        let budget = Budget::new(1, 0);
        let share = budget.share(&name("a"));
        assert!(Arc::ptr_eq(&share, &budget.share(&name("a"))));
        drop(share);
        let _other = budget.share(&name("b"));
        assert_eq!(budget.shares.lock().unwrap().len(), 1);
    }

    #[test]
    fn one_that_has_its_share_is_told_apart_from_one_that_finds_all_places_taken() {
        let budget = Budget::new(1, 0);
        let (first, second) = (budget.share(&name("a")), budget.share(&name("b")));
        let missing = |share: &Arc<Share>| budget.take(share, 18, false).err();
        let all = |share: &Arc<Share>| std::iter::from_fn(|| budget.take(share, 18, false).ok()).collect::<Vec<_>>();
        let places = all(&first);
        assert_eq!((places.len(), missing(&first)), (16, Some(Missing::Share)));
        let others = all(&second);
        assert_eq!((others.len(), missing(&second)), (2, Some(Missing::Place)));
        // nothing that the second could close would be enough
        assert_eq!(missing(&first), Some(Missing::Share));
    }

    #[tokio::test]
    async fn what_rests_with_other_workers_is_asked_for_when_there_is_no_place() {
        let budget = Budget::new(2, 0);
        let share = budget.share(&name("a"));
        let resting = std::cell::RefCell::new(vec![budget.take(&share, 1, true).unwrap()]);
        let close = || resting.borrow_mut().retain(|place| !budget.wants(place));
        let asks = async {
            // nobody waits for a place
            let closed = budget.closed();
            assert_eq!(budget.ask(&share, Missing::Place, 5), Some(5 + ASKING));
            closed.await;
            let closed = budget.closed();
            assert!(budget.take(&share, 1, true).is_err());
            let _wanted = budget.want(&share, Missing::Place);
            assert_eq!(budget.ask(&share, Missing::Place, 6), Some(5 + ASKING));
            assert_eq!(budget.ask(&share, Missing::Place, 5 + ASKING), Some(5 + 2 * ASKING));
            closed.await;
            budget.take(&share, 1, true).ok()
        };
        let found = tokio::select! {
            biased;
            () = budget.whenever_asked(close) => None,
            place = asks => place,
        };
        assert!(found.is_some());
        assert_eq!(Budget::new(1, 0).ask(&share, Missing::Place, 5), None);
    }

    #[test]
    fn an_upstream_that_has_its_share_waits_for_its_own_only() {
        let budget = Budget::new(2, 0);
        let (first, second) = (budget.share(&name("a")), budget.share(&name("b")));
        let places = [&first, &second].map(|share| budget.take(share, 100, false).unwrap());
        let wanted = || places.each_ref().map(|place| budget.wants(place));
        let share = budget.want(&first, Missing::Share);
        assert_eq!(wanted(), [true, false]);
        let any = budget.want(&second, Missing::Place);
        assert_eq!(wanted(), [true, true]);
        drop((share, any));
        assert_eq!(wanted(), [false, false]);
        // one that hangs does not keep others from asking
        assert_eq!(budget.ask(&first, Missing::Share, 5), Some(5 + ASKING));
        assert_eq!(budget.ask(&second, Missing::Place, 50), Some(50 + ASKING));
    }
}
