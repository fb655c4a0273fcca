//! A worker's connections to one address over HTTP/2: few, shared by many calls. Those who find none while one is being made wait for it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use daemun_pipeline::Fault;
use tokio::sync::Notify;

use crate::http2::link::{Hold, Link};

/// Connections a worker opens to one address; beyond them, calls wait on those there are.
const LINKS_MOST: usize = 64;
/// Calls that wait for one connection to be made; those beyond make another.
const WAITING_MOST: usize = 100;

/// The connections.
#[derive(Default)]
pub(crate) struct Links {
    known: RefCell<Vec<Rc<Link>>>,
    /// Connections that are being made.
    connecting: Cell<usize>,
    waiting: Cell<usize>,
    /// Calls that a connection was last seen to take; 0 before any was.
    most: Cell<usize>,
    ended: Notify,
    /// How the last attempt to connect failed.
    failed: RefCell<Option<Fault>>,
    /// The target was last seen to prefer HTTP/1.1, of whose connections everybody needs an own.
    prefers_old: Cell<bool>,
}

impl Links {
    /// A place on a connection that takes another call; where as many as may be are open, on the one with the fewest calls.
    pub(crate) fn take(&self) -> Option<Hold> {
        let mut known = self.known.borrow_mut();
        if known.iter().any(|link| link.is_closed()) {
            known.retain(|link| !link.is_closed());
        }
        let free = known.iter().find(|link| link.has_room());
        let least = || (known.len() >= LINKS_MOST).then(|| known.iter().min_by_key(|link| link.open())).flatten();
        let link = free.or_else(least)?;
        self.most.set(link.most());
        Some(link.hold())
    }

    /// Keeps a new connection. Others wait for it until its target has said how many calls it takes: those that came sooner could be too
    /// many, and would stand behind each other on it.
    pub(crate) fn keep(&self, link: &Rc<Link>, connecting: Connecting) {
        self.known.borrow_mut().push(Rc::clone(link));
        self.prefers_old.set(false);
        link.keep_until_greeted(connecting);
    }

    /// Notes that the target, asked for HTTP/2, chose HTTP/1.1.
    pub(crate) fn prefers_old(&self) {
        self.prefers_old.set(true);
    }

    /// Whether a connection is being made that this call may hope for.
    pub(crate) fn is_coming(&self) -> bool {
        // whoever connects has a call of its own
        let each = if self.most.get() == 0 { WAITING_MOST } else { WAITING_MOST.min(self.most.get() - 1) };
        !self.prefers_old.get() && self.waiting.get() < self.connecting.get() * each
    }

    /// Waits until an attempt to connect has ended; its fault is that of all who waited.
    pub(crate) async fn wait(&self) -> Result<(), Fault> {
        let _waiting = Waiting::new(&self.waiting);
        self.ended.notified().await;
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// Begins an attempt to connect, which ends when what this gives is dropped.
    pub(crate) fn connect(self: &Rc<Links>) -> Connecting {
        self.connecting.set(self.connecting.get() + 1);
        *self.failed.borrow_mut() = None;
        Connecting(Rc::downgrade(self))
    }

    /// Lets go of connections without calls for longer than `limit`; they then end by themselves.
    pub(crate) fn expire(&self, now: u64, limit: u64) {
        self.known.borrow_mut().retain(|link| !link.is_closed() && !link.is_stale(now, limit));
    }

    /// Whether there is no connection.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.borrow().is_empty()
    }
}

/// An attempt to connect. The connection it makes holds it until it is greeted, so it must not hold the connections in turn.
pub(crate) struct Connecting(Weak<Links>);

impl Connecting {
    /// Tells those who wait why there is no connection.
    pub(crate) fn failed(&self, fault: &Fault) {
        if let Some(links) = self.0.upgrade() {
            *links.failed.borrow_mut() = Some(fault.clone());
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(links) = self.0.upgrade() {
            links.connecting.set(links.connecting.get() - 1);
            links.ended.notify_waiters();
        }
    }
}

struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Waiting<'a> {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
