//! Decisions that are kept for a while, bounded in number, and one question for many callers that would ask the same at once. Shared by all
//! workers: they meet at a lock of their key's part for as long as a look takes. Keys are digests: nothing a caller sent is kept. Knows
//! nothing of what is asked.

use std::collections::HashMap;
use std::future::Future;
use std::hash::RandomState;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hashlink::LruCache;

use super::decision::{Decision, Trouble};

/// What tells one question from another.
pub(super) type Digest = [u8; 32];

/// Parts of a store that is large.
const PARTS: usize = 16;
/// Decisions of a store from which on it has several.
const LARGE: usize = 1024;

/// What a question came to for those who waited for it.
#[derive(Clone)]
pub(super) enum Shared {
    /// A decision, or trouble, that is theirs as well.
    Same(Result<Decision, Trouble>),
    /// A decision on one call alone: each asks for itself.
    Own,
    /// Nothing, since who asked is gone: it is another's turn.
    Gone,
}

/// Kept decisions.
pub(super) struct Store {
    parts: Box<[Mutex<Part>]>,
}

struct Part {
    kept: LruCache<Digest, (Decision, u64), RandomState>,
    flights: HashMap<Digest, Arc<Flight>>,
}

/// A question that is being asked.
#[derive(Default)]
struct Flight(Mutex<State>);

#[derive(Default)]
struct State {
    landed: Option<Shared>,
    waiting: Vec<Waker>,
}

/// What there is about a question.
pub(super) enum Found<'s> {
    /// A decision that still holds.
    Kept(Decision),
    /// Somebody is asking.
    Asked(Waiting),
    /// Nobody is; whoever gets this asks.
    Nothing(Asking<'s>),
}

/// Waits for what somebody else asks.
pub(super) struct Waiting(Arc<Flight>);

/// The right to ask. Dropped without a word, it goes to whoever of those who wait takes it up first.
pub(super) struct Asking<'s> {
    store: &'s Store,
    digest: Digest,
    flight: Arc<Flight>,
}

impl Store {
    /// For so many decisions at once.
    pub(super) fn new(most: usize) -> Store {
        let parts = if most < LARGE { 1 } else { PARTS };
        let part = || {
            let kept = LruCache::with_hasher((most / parts).max(1), RandomState::new());
            Mutex::new(Part { kept, flights: HashMap::new() })
        };
        Store { parts: (0..parts).map(|_| part()).collect() }
    }

    /// A decision that still holds. Allocates nothing.
    pub(super) fn find(&self, digest: &Digest, now: u64) -> Option<Decision> {
        let mut part = lock(self.part(digest)?);
        let (decision, until) = part.kept.get(digest)?;
        (now < *until).then(|| decision.clone())
    }

    /// What there is about a question. `None` only where there is no store at all.
    pub(super) fn ask(&self, digest: &Digest, now: u64) -> Option<Found<'_>> {
        let mut part = lock(self.part(digest)?);
        if let Some((decision, until)) = part.kept.get(digest)
            && now < *until
        {
            return Some(Found::Kept(decision.clone()));
        }
        if let Some(flight) = part.flights.get(digest) {
            return Some(Found::Asked(Waiting(Arc::clone(flight))));
        }
        let flight = Arc::<Flight>::default();
        part.flights.insert(*digest, Arc::clone(&flight));
        Some(Found::Nothing(Asking { store: self, digest: *digest, flight }))
    }

    fn part(&self, digest: &Digest) -> Option<&Mutex<Part>> {
        let place = digest.first().map_or(0, |byte| usize::from(*byte));
        self.parts.get(place % self.parts.len().max(1))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).kept.len()).sum()
    }
}

impl Asking<'_> {
    /// Ends the question: what it came to is shared with those who wait, and kept until then, where it is given.
    pub(super) fn end(self, shared: Shared, until: Option<u64>) {
        if let (Shared::Same(Ok(decision)), Some(until), Some(part)) = (&shared, until, self.store.part(&self.digest)) {
            lock(part).kept.insert(self.digest, (decision.clone(), until));
        }
        self.land(shared);
    }

    fn land(&self, shared: Shared) {
        if let Some(part) = self.store.part(&self.digest) {
            lock(part).flights.remove(&self.digest);
        }
        let waiting = {
            let mut state = lock(&self.flight.0);
            state.landed.get_or_insert(shared);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if lock(&self.flight.0).landed.is_none() {
            self.land(Shared::Gone);
        }
    }
}

impl Future for Waiting {
    type Output = Shared;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Shared> {
        let mut state = lock(&self.0.0);
        if let Some(shared) = &state.landed {
            return Poll::Ready(shared.clone());
        }
        if !state.waiting.iter().any(|known| known.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward_auth::decision::Grant;
    use crate::testing::wait;

    fn grant() -> Decision {
        Decision::Grant(Arc::new(Grant { passed: Box::new([]), for_caller: None, identity: None, way: None }))
    }

    fn digest(n: u16) -> Digest {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&n.to_le_bytes());
        digest
    }

    fn asking(store: &Store, n: u16) -> Asking<'_> {
        match store.ask(&digest(n), 0) {
            Some(Found::Nothing(asking)) => asking,
            _ => panic!("somebody asks or it is known"),
        }
    }

    #[test]
    fn what_is_kept_holds_until_its_time_and_no_longer() {
        let store = Store::new(10);
        asking(&store, 1).end(Shared::Same(Ok(grant())), Some(100));
        assert!(store.find(&digest(1), 99).is_some() && store.find(&digest(1), 100).is_none());
        assert!(store.find(&digest(2), 0).is_none());
        asking(&store, 3).end(Shared::Same(Ok(grant())), None);
        assert!(store.find(&digest(3), 0).is_none());
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        for most in [1, 7, 1024, 5000] {
            let store = Store::new(most);
            for n in 0..10_000 {
                asking(&store, n).end(Shared::Same(Ok(grant())), Some(100));
            }
            assert!(store.len() <= most && store.len() * 2 > most, "{most}: {}", store.len());
            assert!(store.find(&digest(9_999), 0).is_some(), "the last one is there");
        }
    }

    #[test]
    fn those_who_wait_get_what_the_one_who_asks_gets() {
        let store = Store::new(10);
        let one = asking(&store, 1);
        let others: Vec<_> = (0..3)
            .map(|_| match store.ask(&digest(1), 0) {
                Some(Found::Asked(waiting)) => waiting,
                _ => panic!("nobody asks"),
            })
            .collect();
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = others.into_iter().map(|waiting| scope.spawn(|| wait(waiting))).collect();
            one.end(Shared::Same(Ok(grant())), Some(5));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(results.iter().all(|result| matches!(result, Shared::Same(Ok(Decision::Grant(_))))));
        assert!(matches!(store.ask(&digest(1), 4), Some(Found::Kept(_))));
    }

    #[test]
    fn who_stops_asking_lets_the_others_ask() {
        let store = Store::new(10);
        let one = asking(&store, 1);
        let Some(Found::Asked(waiting)) = store.ask(&digest(1), 0) else { panic!("nobody asks") };
        drop(one);
        assert!(matches!(wait(waiting), Shared::Gone));
        asking(&store, 1).end(Shared::Own, Some(5));
        assert!(store.find(&digest(1), 0).is_none(), "nothing was decided");
    }
}
