//! A worker's connections to one address over HTTP/2: few, shared by many calls. Those who find none while one is being made wait for it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use daemun_pipeline::Fault;
use tokio::sync::Notify;

use super::budget::{Place, Share};
use crate::http2::link::{Hold, Link};

/// Connections a worker has to one address, those that are being made among them; beyond them, calls wait on those there are.
const LINKS_MOST: usize = 64;
/// Calls that wait for one connection to be made; those beyond make another.
const WAITING_MOST: usize = 100;

/// The connections.
#[derive(Default)]
pub(crate) struct Links {
    known: RefCell<Vec<Rc<Link>>>,
    /// Connections that are being made, or have not been greeted yet.
    connecting: Cell<usize>,
    /// Those of them that are not among the known ones.
    unknown: Cell<usize>,
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
    /// A place on a connection that takes another call; where as many as may be are open, on the one with the fewest calls. `lost` says
    /// which address the target's name has no longer; connections to it are let go of, and end with their calls.
    pub(crate) fn take(&self, lost: impl Fn(&SocketAddr) -> bool) -> Option<Hold> {
        let mut known = self.known.borrow_mut();
        let ends = |link: &Link| link.is_closed() || link.to().is_some_and(&lost);
        if known.iter().any(|link| ends(link)) {
            known.retain(|link| !ends(link));
        }
        let free = known.iter().find(|link| link.has_room());
        let full = known.len() + self.unknown.get() >= LINKS_MOST;
        let least = || full.then(|| known.iter().min_by_key(|link| link.open())).flatten();
        let link = free.or_else(least)?;
        self.most.set(link.most());
        Some(link.hold())
    }

    /// Keeps a new connection. Others wait for it until its target has said how many calls it takes: those that came sooner could be too
    /// many, and would stand behind each other on it.
    pub(crate) fn keep(&self, link: &Rc<Link>, mut connecting: Connecting) {
        let was_full = self.is_full();
        self.known.borrow_mut().push(Rc::clone(link));
        connecting.is_known(self);
        self.prefers_old.set(false);
        link.keep_until_greeted(connecting);
        if was_full {
            // who found no connection at all can wait on this one
            self.ended.notify_waiters();
        }
    }

    /// Notes that the target, asked for HTTP/2, chose HTTP/1.1.
    pub(crate) fn prefers_old(&self) {
        self.prefers_old.set(true);
    }

    /// Whether a connection is being made that this call may hope for.
    pub(crate) fn is_coming(&self) -> bool {
        // whoever connects has a call of its own
        let each = if self.most.get() == 0 { WAITING_MOST } else { WAITING_MOST.min(self.most.get() - 1) };
        !self.prefers_old.get() && (self.is_full() || self.waiting.get() < self.connecting.get() * each)
    }

    /// Whether no further connection may be made.
    fn is_full(&self) -> bool {
        self.known.borrow().len() + self.unknown.get() >= LINKS_MOST
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
        self.unknown.set(self.unknown.get() + 1);
        *self.failed.borrow_mut() = None;
        Connecting { links: Rc::downgrade(self), known: false }
    }

    /// Lets go of connections without calls for longer than `limit`; they then end by themselves.
    pub(crate) fn expire(&self, now: u64, limit: u64) {
        let stale = |link: &Link| link.rests_since(now).is_some_and(|since| now.saturating_sub(since) > limit);
        self.known.borrow_mut().retain(|link| !link.is_closed() && !stale(link));
    }

    /// That without calls for the longest time, of those of `share` or of all; and since when.
    pub(crate) fn oldest(&self, share: Option<&Share>, now: u64) -> Option<(u64, Rc<Link>)> {
        let known = self.known.borrow();
        let wanted = known.iter().filter(|link| share.is_none_or(|share| link.place().is_of(share)));
        let resting = wanted.filter_map(|link| Some((link.rests_since(now)?, link)));
        resting.min_by_key(|(since, _)| *since).map(|(since, link)| (since, Rc::clone(link)))
    }

    /// Lets go of a connection, which ends with its calls.
    pub(crate) fn forget(&self, link: &Rc<Link>) {
        self.known.borrow_mut().retain(|known| !Rc::ptr_eq(known, link));
    }

    /// Lets go of connections without calls for which `close` says so, given since when they have none; they then end by themselves.
    pub(crate) fn shed(&self, now: u64, close: impl Fn(&Place, u64) -> bool) {
        let sheds = |link: &Link| link.rests_since(now).is_some_and(|since| close(link.place(), since));
        self.known.borrow_mut().retain(|link| !sheds(link));
    }

    /// Whether there is no connection.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.borrow().is_empty()
    }
}

/// An attempt to connect. The connection it makes holds it until it is greeted, so it must not hold the connections in turn.
pub(crate) struct Connecting {
    links: Weak<Links>,
    known: bool,
}

impl Connecting {
    /// Tells those who wait why there is no connection.
    pub(crate) fn failed(&self, fault: &Fault) {
        if let Some(links) = self.links.upgrade() {
            *links.failed.borrow_mut() = Some(fault.clone());
        }
    }

    /// Notes that its connection is among the known ones.
    fn is_known(&mut self, links: &Links) {
        self.known = true;
        links.unknown.set(links.unknown.get() - 1);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(links) = self.links.upgrade() {
            links.connecting.set(links.connecting.get() - 1);
            if !self.known {
                links.unknown.set(links.unknown.get() - 1);
            }
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

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;

    use super::super::budget::Budget;
    use super::*;
    use crate::io::Stream;
    use crate::pipe::Buffers;

    /// A connection whose other end, the test's, never says anything; and that end.
    async fn silent() -> (Rc<Link>, std::net::TcpStream) {
        silent_at(None).await
    }

    /// The same to one of a name's addresses.
    async fn silent_at(to: Option<SocketAddr>) -> (Rc<Link>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        own.set_nonblocking(true).unwrap();
        let other = listener.accept().unwrap().0;
        other.set_nonblocking(true).unwrap();
        let budget = Budget::new(1, 0);
        let place = budget.take(&budget.share(&"a".into()), 1, true).unwrap();
        let stream = Stream::Tcp(tokio::net::TcpStream::from_std(own).unwrap());
        (Link::begin(&Rc::<Buffers>::default(), stream, 16 * 1024, place, to).await.unwrap(), other)
    }

    async fn local(test: impl Future<Output = ()>) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn connections_that_were_never_greeted_end_with_the_target_they_lead_to() {
        local(async {
            let links = Rc::new(Links::default());
            let connecting = links.connect();
            let (link, mut other) = silent().await;
            links.keep(&link, connecting);
            assert_eq!((links.connecting.get(), links.unknown.get()), (1, 0));
            let (gone, link_gone) = (Rc::downgrade(&links), Rc::downgrade(&link));
            drop((links, link));
            assert!(gone.upgrade().is_none() && link_gone.upgrade().is_none());
            let mut buf = [0; 1024];
            loop {
                match other.read(&mut buf) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        tokio::task::yield_now().await;
                    }
                }
            }
        })
        .await;
    }

    #[tokio::test]
    async fn connections_whose_target_goes_before_it_greets_are_forgotten() {
        local(async {
            let links = Rc::new(Links::default());
            let connecting = links.connect();
            let (link, other) = silent().await;
            links.keep(&link, connecting);
            drop((link, other));
            while links.connecting.get() > 0 {
                tokio::task::yield_now().await;
            }
            assert!(links.take(|_| false).is_none());
            assert!(links.is_empty() && !links.is_coming());
        })
        .await;
    }

    #[tokio::test]
    async fn connections_that_are_being_made_count_among_those_there_may_be() {
        local(async {
            let links = Rc::new(Links::default());
            // as one whose target takes a single call, so that nobody waits for another's
            links.most.set(1);
            let mut made = Vec::new();
            while !links.is_coming() {
                made.push(links.connect());
            }
            assert_eq!(made.len(), LINKS_MOST);
            assert!(links.take(|_| false).is_none());
            let mut waits = Box::pin(links.wait());
            assert!(at_once(&mut waits).await.is_none());
            // the first that is there is shared
            let (link, _other) = silent().await;
            links.keep(&link, made.pop().unwrap());
            assert!(at_once(&mut waits).await.is_some_and(|waited| waited.is_ok()));
            assert!(links.take(|_| false).is_some());
            drop(made);
            assert_eq!((links.connecting.get(), links.unknown.get()), (1, 0));
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_to_an_address_its_name_has_lost_takes_no_call_and_ends_with_those_it_has() {
        local(async {
            let links = Rc::new(Links::default());
            let (old, new): (SocketAddr, SocketAddr) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
            let mut others = Vec::new();
            for to in [Some(old), Some(new), None] {
                let connecting = links.connect();
                let (link, other) = silent_at(to).await;
                links.keep(&link, connecting);
                others.push(other);
            }
            let call = links.take(|_| false).unwrap();
            assert_eq!(call.link().to(), Some(&old));
            assert_eq!(links.take(|to| *to == old).unwrap().link().to(), Some(&new));
            assert_eq!(links.take(|_| true).unwrap().link().to(), None);
            assert_eq!(links.known.borrow().len(), 1);
            assert!(!call.link().is_closed());
        })
        .await;
    }

    /// What a future gives at once.
    async fn at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(out) => std::task::Poll::Ready(Some(out)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
