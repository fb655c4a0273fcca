//! Tasks that serve streams, each one after the other: to make a task for a stream costs more than many a stream does. Knows nothing of
//! what is served.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Open;
use super::stream::{self, Incoming};
use crate::worker::Worker;
use daemun_pipeline::Client;

/// Tasks of a worker that wait for a stream; some kilobytes each. Those beyond end with their stream.
const IDLE_MOST: usize = 256;

/// A stream to be served.
pub(super) struct Job {
    pub(super) incoming: Incoming,
    pub(super) client: Client,
    pub(super) open: Open,
}

/// The tasks of one worker that have no stream.
#[derive(Default)]
pub(crate) struct Tasks {
    idle: RefCell<Vec<Rc<Slot>>>,
}

impl Tasks {
    /// Notes that a task has no stream; false when enough have none.
    fn rest(&self, slot: &Rc<Slot>) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MOST {
            idle.push(Rc::clone(slot));
            return true;
        }
        false
    }
}

/// Where a task without a stream is given one.
struct Slot {
    job: RefCell<Option<Job>>,
    waiting: RefCell<Option<Waker>>,
}

impl Slot {
    fn give(&self, job: Job) {
        *self.job.borrow_mut() = Some(job);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    fn poll_given(&self, cx: &Context<'_>) -> Poll<()> {
        if self.job.borrow().is_some() {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Serves a stream in a task that has none, or in a new one.
pub(super) fn serve(worker: &Rc<Worker>, job: Job) {
    let idle = worker.stream_tasks.idle.borrow_mut().pop();
    match idle {
        Some(slot) => slot.give(job),
        None => {
            let slot = Rc::new(Slot { job: RefCell::new(Some(job)), waiting: RefCell::default() });
            drop(tokio::task::spawn_local(run(Rc::clone(worker), slot)));
        }
    }
}

async fn run(worker: Rc<Worker>, slot: Rc<Slot>) {
    loop {
        poll_fn(|cx| slot.poll_given(cx)).await;
        stream::serve(&worker, &slot.job).await;
        if !worker.stream_tasks.rest(&slot) {
            return;
        }
    }
}
