//! Time limits of one worker: a deadline per connection in one dense table, and one task that looks at it when the nearest may have come.
//! Moving a deadline costs two writes and no timer of the runtime.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::clock::Clock;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;
/// A deadline that has come.
const FIRED: u64 = 0;
/// Deadlines are seen at most this much late, in nanoseconds.
const GRAIN: u64 = 5_000_000;

#[derive(Debug, Default)]
struct Table {
    deadlines: Vec<u64>,
    idle: Vec<bool>,
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
    next_look: u64,
    ticker: Option<Waker>,
}

/// The deadlines of one worker.
#[derive(Debug)]
pub(crate) struct Timers {
    clock: Clock,
    table: RefCell<Table>,
}

impl Timers {
    /// An empty table.
    #[must_use]
    pub(crate) fn new(clock: Clock) -> Rc<Timers> {
        Rc::new(Timers { clock, table: RefCell::new(Table { next_look: NEVER, ..Table::default() }) })
    }

    /// A slot without a deadline.
    #[must_use]
    pub(crate) fn slot(self: &Rc<Timers>) -> Deadline {
        let mut table = self.table.borrow_mut();
        let index = table.free.pop().unwrap_or_else(|| {
            table.deadlines.push(NEVER);
            table.idle.push(false);
            table.wakers.push(None);
            table.deadlines.len() - 1
        });
        Deadline { timers: Rc::clone(self), index }
    }

    /// Brings the deadline of every idle connection forward to `at` at the latest; those of a drain.
    pub(crate) fn hurry_idle(&self, at: u64) {
        let mut table = self.table.borrow_mut();
        let Table { deadlines, idle, .. } = &mut *table;
        for (deadline, idle) in deadlines.iter_mut().zip(idle.iter()) {
            if *idle && *deadline != FIRED && *deadline > at {
                *deadline = at;
            }
        }
        table.next_look = table.next_look.min(at);
        if let Some(ticker) = &table.ticker {
            ticker.wake_by_ref();
        }
    }

    /// The task that fires deadlines; runs as long as the worker.
    pub(crate) async fn run(self: Rc<Timers>) {
        loop {
            let next = self.fire(self.clock.now());
            let wait = self.clock.wait(next);
            tokio::pin!(wait);
            poll_fn(|cx| {
                let mut table = self.table.borrow_mut();
                table.ticker = Some(cx.waker().clone());
                let sooner = table.next_look < next;
                drop(table);
                if sooner { Poll::Ready(()) } else { wait.as_mut().poll(cx) }
            })
            .await;
        }
    }

    fn fire(&self, now: u64) -> u64 {
        let mut table = self.table.borrow_mut();
        let Table { deadlines, wakers, next_look, .. } = &mut *table;
        let mut nearest = NEVER;
        for (deadline, waker) in deadlines.iter_mut().zip(wakers.iter_mut()) {
            if *deadline == FIRED {
                continue;
            }
            if *deadline <= now {
                *deadline = FIRED;
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            } else {
                nearest = nearest.min(*deadline);
            }
        }
        // several that come close together are fired in one look; a day is as good as never for the runtime's own timer
        *next_look = if nearest == NEVER { now + 86_400_000_000_000 } else { nearest.max(now + GRAIN) };
        *next_look
    }
}

use std::future::Future;

/// One slot; freed when dropped.
#[derive(Debug)]
pub(crate) struct Deadline {
    timers: Rc<Timers>,
    index: usize,
}

impl Deadline {
    /// Sets it to a moment of the clock, or [`NEVER`].
    pub(crate) fn set(&self, at: u64) {
        self.put(at, false);
    }

    /// Sets it for a connection between two exchanges, which a drain may cut short.
    pub(crate) fn set_idle(&self, at: u64) {
        self.put(at, true);
    }

    fn put(&self, at: u64, idle: bool) {
        let mut table = self.timers.table.borrow_mut();
        if let Some(slot) = table.deadlines.get_mut(self.index) {
            *slot = at.max(FIRED + 1);
        }
        if let Some(slot) = table.idle.get_mut(self.index) {
            *slot = idle;
        }
        if at < table.next_look {
            table.next_look = at;
            if let Some(ticker) = &table.ticker {
                ticker.wake_by_ref();
            }
        }
    }

    /// Ready when it has come.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut table = self.timers.table.borrow_mut();
        if table.deadlines.get(self.index) == Some(&FIRED) {
            return Poll::Ready(());
        }
        if let Some(waker) = table.wakers.get_mut(self.index) {
            match waker {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *waker = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// Ready when `limit` has come; else sets it as the deadline. For limits that move with every poll: one that was set before and has
    /// fired counts only if `limit` has come as well.
    pub(crate) fn poll_until(&self, cx: &mut Context<'_>, limit: u64) -> Poll<()> {
        if self.poll(cx).is_ready() && self.timers.clock.now() >= limit {
            return Poll::Ready(());
        }
        self.set(limit);
        self.poll(cx)
    }

    /// Runs `work` until it is done or the deadline has come (`None`); work that is done wins.
    pub(crate) async fn limit<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(out) => Poll::Ready(Some(out)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut table = self.timers.table.borrow_mut();
        if let Some(slot) = table.deadlines.get_mut(self.index) {
            *slot = NEVER;
        }
        if let Some(waker) = table.wakers.get_mut(self.index) {
            *waker = None;
        }
        if let Some(idle) = table.idle.get_mut(self.index) {
            *idle = false;
        }
        table.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_deadline_fires_when_the_clock_reaches_it_and_not_before() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let clock = Clock::manual();
                let timers = Timers::new(clock.clone());
                tokio::task::spawn_local(Rc::clone(&timers).run());
                tokio::task::yield_now().await;
                let slot = timers.slot();
                slot.set(clock.now() + 1_000_000_000);
                let waiting = tokio::task::spawn_local(async move { slot.limit(std::future::pending::<()>()).await });
                clock.advance(Duration::from_millis(900));
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                assert!(!waiting.is_finished());
                clock.advance(Duration::from_millis(200));
                assert!(waiting.await.unwrap().is_none());
            })
            .await;
    }
}
