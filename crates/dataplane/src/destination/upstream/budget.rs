//! How many connections to upstreams the process has at most, and how upstreams share them: every one costs a descriptor, and clients must
//! still find some. Knows neither targets nor what is sent. Touched when a connection is made or ends, not by calls over one that rests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

/// Descriptors put aside for listening sockets, logs, files that are read, status and admin callers.
const RESERVE: usize = 256;
/// Connections there may be, however few descriptors there are.
const LEAST: usize = 16;
/// An upstream beside others gets no further connection when it has more than so many for each that is free. One whose targets hang so
/// leaves a ninth to the rest, among whom the same holds.
const FOR_EACH_FREE: usize = 8;
/// Resting connections of all workers are asked for once in this time at most, nanoseconds, so that a flood of calls does not do away
/// with everybody's; and so long a call waits for their places.
const ASKING: u64 = 100_000_000;

/// The connections of all workers.
pub(crate) struct Budget {
    descriptors: usize,
    workers: usize,
    open: AtomicUsize,
    /// What each upstream has, by its name; looked up when a configuration is adopted.
    shares: Mutex<HashMap<Arc<str>, Weak<Share>>>,
    /// When resting connections were last asked for.
    asked_at: AtomicU64,
    asked: Notify,
    shed: Notify,
}

/// The connections of one upstream.
#[derive(Default)]
pub(crate) struct Share {
    open: AtomicUsize,
}

/// A connection's place; given back when it is dropped.
pub(crate) struct Place {
    budget: Arc<Budget>,
    share: Arc<Share>,
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
            asked_at: AtomicU64::new(0),
            asked: Notify::new(),
            shed: Notify::new(),
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
    pub(crate) fn take(self: &Arc<Budget>, share: &Arc<Share>, most: usize, alone: bool) -> Option<Place> {
        let place = Place { budget: Arc::clone(self), share: Arc::clone(share) };
        let free = most.saturating_sub(self.open.fetch_add(1, Ordering::Relaxed));
        let own = share.open.fetch_add(1, Ordering::Relaxed);
        (free > 0 && (alone || own / FOR_EACH_FREE < free)).then_some(place)
    }

    /// Asks every worker to close what rests; whether it was, which is not again so soon.
    pub(crate) fn ask(&self, now: u64) -> bool {
        let last = self.asked_at.load(Ordering::Relaxed);
        let asks = (last == 0 || now.saturating_sub(last) >= ASKING)
            && self.asked_at.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if asks {
            self.asked.notify_waiters();
        }
        asks
    }

    /// Until when other workers may give places, if there are any.
    pub(crate) fn given_until(&self, now: u64) -> Option<u64> {
        let until = self.asked_at.load(Ordering::Relaxed).saturating_add(ASKING);
        (self.workers > 1 && now < until).then_some(until)
    }

    /// Tries `take` again whenever a worker has closed what rested there, until it finds a place.
    pub(crate) async fn given<T>(&self, take: impl Fn() -> Option<T>) -> T {
        loop {
            let shed = self.shed.notified();
            if let Some(taken) = take() {
                return taken;
            }
            shed.await;
        }
    }

    /// Does `close` whenever resting connections are asked for.
    pub(crate) async fn whenever_asked(&self, close: impl Fn()) {
        let mut asked = Box::pin(self.asked.notified());
        loop {
            asked.await;
            // whoever asks from here on may not have seen what is closed now
            asked = Box::pin(self.asked.notified());
            close();
            self.shed.notify_waiters();
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
        assert!(budget.take(&share, 10, true).is_none());
        places.pop();
        assert!(budget.take(&share, 10, true).is_some());
        drop(places);
        assert_eq!((budget.open.load(Ordering::Relaxed), share.open.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn one_that_takes_all_it_gets_leaves_room_for_the_others() {
        let budget = Budget::new(1, 0);
        let taken = |share: &Arc<Share>| {
            let mut places = Vec::new();
            while let Some(place) = budget.take(share, 900, false) {
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

    #[tokio::test]
    async fn what_rests_with_other_workers_is_asked_for_when_there_is_no_place() {
        let budget = Budget::new(2, 0);
        let share = budget.share(&name("a"));
        let resting = std::cell::RefCell::new(vec![budget.take(&share, 1, true).unwrap()]);
        let asks = async {
            assert!(budget.take(&share, 1, true).is_none());
            assert!(budget.ask(5) && !budget.ask(6));
            assert_eq!(budget.given_until(6), Some(5 + ASKING));
            budget.given(|| budget.take(&share, 1, true)).await
        };
        let found = tokio::select! {
            biased;
            () = budget.whenever_asked(|| resting.borrow_mut().clear()) => None,
            place = asks => Some(place),
        };
        assert!(found.is_some());
        assert!(budget.given_until(5 + ASKING).is_none());
        assert!(budget.ask(5 + ASKING));
    }
}
