//! A worker's own connections to one target: those at rest, newest first. Knows nothing of what is sent on them.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::budget::{Place, Share};
use super::gate::bound::TargetBound;
use super::links::Links;
use crate::http1::up::H1Up;
use crate::http2::link::Link;
use crate::snapshot::upstream::{Target, Upstream};

/// Connections at rest a worker keeps per target.
const IDLE_MOST: usize = 256;

struct Idle {
    up: Box<H1Up>,
    since: u64,
    /// The worker's turn in which it was put here.
    turn: u64,
}

/// A connection that rests in a pool.
pub(crate) enum Resting {
    /// Where it lies.
    H1(usize),
    H2(Rc<Link>),
}

/// Whether a connection that rested makes room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Nothing,
    AtOnce,
    /// When its task has taken leave of the target; [`super::budget::Budget::closed`] tells.
    Soon,
}

/// One target of one upstream as one worker sees it.
pub(crate) struct LocalTarget {
    /// Name of its upstream.
    pub(crate) upstream: Arc<str>,
    pub(crate) shared: Arc<Target>,
    /// The upstream.
    pub(crate) home: Arc<Upstream>,
    /// What a cookie holds that tells it; empty where none does.
    pub(crate) digest: Box<str>,
    pub(crate) pool: Rc<Pool>,
    /// Bounds of its own.
    pub(crate) bound: Option<Arc<TargetBound>>,
}

/// All pools of a worker, by [`Target::key`].
#[derive(Default)]
pub(crate) struct Pools(RefCell<HashMap<String, Rc<Pool>>>);

impl Pools {
    /// The one of a target.
    pub(crate) fn of(&self, target: &Target) -> Rc<Pool> {
        let mut pools = self.0.borrow_mut();
        if let Some(pool) = pools.get(&target.key) {
            return Rc::clone(pool);
        }
        let pool = Rc::<Pool>::default();
        pools.insert(target.key.clone(), Rc::clone(&pool));
        pool
    }

    /// Closes what rests in pools whose targets are gone.
    pub(crate) fn forget_unused(&self) {
        self.0.borrow_mut().retain(|_, pool| Rc::strong_count(pool) > 1);
    }

    /// All of them, while nothing waits.
    pub(crate) fn all(&self) -> Ref<'_, HashMap<String, Rc<Pool>>> {
        self.0.borrow()
    }
}

/// Connections of one worker to one address; targets of several upstreams with the same address and TLS share it.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// Those over HTTP/2.
    pub(crate) links: Rc<Links>,
    next_address: Cell<usize>,
}

impl Pool {
    /// A connection at rest that neither ended nor said anything unasked. `turn` gives the worker's; of what came within it the kernel has
    /// told nothing yet, of what came before it everything, because one look takes all there is (see `gateway::runtime`). `told` is what its
    /// target must have been told of the client, and `lost` says which address its name has no longer.
    pub(crate) async fn reuse(
        &self,
        told: Option<&[u8]>,
        turn: impl Fn() -> u64,
        lost: impl Fn(&SocketAddr) -> bool,
    ) -> Option<Box<H1Up>> {
        loop {
            // asked anew each time: another turn may have begun below
            let now = turn();
            let Idle { mut up, turn: kept, .. } = self.pop(told, now)?;
            if up.to.as_ref().is_some_and(&lost) {
                continue;
            }
            let unheard = kept == now;
            if up.dubious || unheard && !up.conn.stream.is_plain() {
                // what should not be there may be here without having been noticed: it would be read as the next answer
                tokio::task::yield_now().await;
            }
            if up.conn.stream.is_quiet(unheard) {
                up.renew();
                return Some(up);
            }
        }
    }

    /// The newest of those that rested while the kernel was asked; where there is none, the newest.
    fn pop(&self, told: Option<&[u8]>, turn: u64) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let at = match told {
            None => idle.iter().rposition(|idle| idle.turn != turn).or(idle.len().checked_sub(1))?,
            // of one target all were told of a client, or none
            Some(told) => idle.iter().rposition(|idle| idle.up.told.as_deref() == Some(told))?,
        };
        Some(idle.remove(at))
    }

    /// Keeps a connection whose call ended cleanly. Where each serves one client alone, the oldest makes room: its client may be gone.
    pub(crate) fn keep(&self, up: Box<H1Up>, now: u64, turn: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_MOST {
            if up.told.is_none() {
                return;
            }
            idle.remove(0);
        }
        idle.push(Idle { up, since: now, turn });
    }

    /// Closes what rested longer than `limit`; the oldest come first.
    pub(crate) fn expire(&self, now: u64, limit: u64) {
        let mut idle = self.idle.borrow_mut();
        let old = idle.iter().take_while(|c| now.saturating_sub(c.since) > limit).count();
        idle.drain(..old);
        idle.retain_mut(|c| c.up.conn.stream.is_quiet(false));
        self.links.expire(now, limit);
    }

    /// Closes what rests, for want of places, where `close` says so of its place and of since when it rests.
    pub(crate) fn shed(&self, now: u64, close: impl Fn(&Place, u64) -> bool) {
        self.idle.borrow_mut().retain(|idle| !close(&idle.up.place, idle.since));
        self.links.shed(now, close);
    }

    /// What has rested longest, of the connections of `share` or of all; and since when.
    pub(crate) fn oldest(&self, share: Option<&Share>, now: u64) -> Option<(u64, Resting)> {
        let idle = self.idle.borrow();
        let mut all = idle.iter().enumerate();
        let old = all.find(|(_, idle)| share.is_none_or(|share| idle.up.place.is_of(share)));
        let old = old.map(|(at, idle)| (idle.since, Resting::H1(at)));
        let link = self.links.oldest(share, now).map(|(since, link)| (since, Resting::H2(link)));
        old.into_iter().chain(link).min_by_key(|(since, _)| *since)
    }

    /// Closes what [`Pool::oldest`] gave just now.
    pub(crate) fn close(&self, resting: Resting) -> Closed {
        match resting {
            Resting::H1(at) => {
                let mut idle = self.idle.borrow_mut();
                if at < idle.len() {
                    drop(idle.remove(at));
                }
                Closed::AtOnce
            }
            Resting::H2(link) => {
                self.links.forget(&link);
                Closed::Soon
            }
        }
    }

    /// Whether a connection may be at rest.
    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.borrow().is_empty() || !self.links.is_empty()
    }

    /// Which of a name's addresses is next.
    pub(crate) fn turn(&self) -> usize {
        let turn = self.next_address.get();
        self.next_address.set(turn.wrapping_add(1));
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use daemun_pipeline::Reason;

    use super::super::budget::Budget;
    use super::{H1Up, Pool};
    use crate::http1::conn::Conn;
    use crate::io::Stream;

    /// A connection whose other end is the test's, and that end.
    fn pair(dubious: bool) -> (Box<H1Up>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        own.set_nonblocking(true).unwrap();
        let stream = Stream::Tcp(tokio::net::TcpStream::from_std(own).unwrap());
        let budget = Budget::new(1, 0);
        let place = budget.take(&budget.share(&"a".into()), 1, true).unwrap();
        let mut up = Box::new(H1Up::new(Conn::new(stream, Reason::BodyBroken), place));
        up.dubious = dubious;
        (up, listener.accept().unwrap().0)
    }

    fn port(up: &H1Up) -> u16 {
        let Stream::Tcp(stream) = &up.conn.stream else { panic!("not TCP") };
        stream.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn what_came_behind_an_answer_without_a_body_is_seen_before_its_connection_is_used() {
        let pool = Pool::default();
        let (up, mut target) = pair(true);
        tokio::task::yield_now().await;
        pool.keep(up, 0, 0);
        // the socket holds it, but nobody was told yet
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").unwrap();
        assert!(pool.reuse(None, || 1, |_| false).await.is_none());
    }

    #[tokio::test]
    async fn what_came_behind_an_answer_within_the_same_turn_is_seen_before_its_connection_is_used() {
        let pool = Pool::default();
        let (up, mut target) = pair(false);
        tokio::task::yield_now().await;
        pool.keep(up, 0, 3);
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").unwrap();
        assert!(pool.reuse(None, || 3, |_| false).await.is_none());
    }

    #[tokio::test]
    async fn what_came_behind_an_answer_in_the_turn_that_began_over_another_connection_is_seen_too() {
        let pool = Pool::default();
        let ((doubted, mut target), (other, mut other_target)) = (pair(true), pair(false));
        tokio::task::yield_now().await;
        pool.keep(doubted, 0, 2);
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").unwrap();
        let turn = Cell::new(3);
        let mut reuse = Box::pin(pool.reuse(None, || turn.get(), |_| false));
        let mut other = Some(other);
        let given = std::future::poll_fn(|cx| {
            if turn.get() > 3
                && let Some(other) = other.take()
            {
                pool.keep(other, 0, turn.get());
                other_target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").unwrap();
            }
            let given = reuse.as_mut().poll(cx);
            turn.set(turn.get() + 1);
            given
        });
        assert!(given.await.is_none());
        assert!(other.is_none());
    }

    #[tokio::test]
    async fn what_came_over_tls_within_the_same_turn_is_seen_before_its_connection_is_used() {
        let pool = Pool::default();
        let (mut up, mut target) = pair(false);
        // of what TLS is over, nobody sees the socket
        let plain = std::mem::replace(&mut up.conn.stream, Stream::Tls(Box::new(tokio::io::empty())));
        up.conn.stream = Stream::Tls(Box::new(plain));
        tokio::task::yield_now().await;
        pool.keep(up, 0, 3);
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").unwrap();
        assert!(pool.reuse(None, || 3, |_| false).await.is_none());
    }

    #[tokio::test]
    async fn a_connection_that_was_put_back_within_the_same_turn_is_used_again_when_there_is_no_other() {
        let pool = Pool::default();
        let mut targets = Vec::new();
        for turn in [1, 2, 3, 3] {
            let (up, target) = pair(false);
            targets.push((port(&up), target));
            pool.keep(up, 0, turn);
        }
        let mut order = Vec::new();
        while let Some(up) = pool.reuse(None, || 3, |_| false).await {
            order.push(targets.iter().position(|(own, _)| *own == port(&up)).unwrap());
        }
        assert_eq!(order, [1, 0, 3, 2]);
    }

    #[tokio::test]
    async fn of_many_connections_that_all_ended_none_is_used_again() {
        for _ in 0..2 {
            let pool = Pool::default();
            let mut targets = Vec::new();
            for _ in 0..200 {
                let (up, mut target) = pair(false);
                target.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").unwrap();
                pool.keep(up, 0, 0);
                targets.push(target);
            }
            drop(targets);
            tokio::task::yield_now().await;
            assert!(pool.reuse(None, || 1, |_| false).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_connection_to_an_address_its_name_has_lost_is_closed_instead_of_used_again() {
        let pool = Pool::default();
        let (old, new) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let mut targets = Vec::new();
        for to in [Some(new), Some(old)] {
            let (mut up, target) = pair(false);
            up.to = to;
            pool.keep(up, 0, 0);
            targets.push(target);
        }
        let up = pool.reuse(None, || 1, |to| *to == old).await.unwrap();
        assert_eq!(up.to, Some(new));
        assert!(!pool.has_idle());
    }

    #[tokio::test]
    async fn a_connection_that_kept_quiet_is_used_again_and_is_no_longer_doubted() {
        let pool = Pool::default();
        let (up, _target) = pair(true);
        pool.keep(up, 0, 0);
        let up = pool.reuse(None, || 1, |_| false).await.unwrap();
        assert!(!up.dubious);
    }
}
