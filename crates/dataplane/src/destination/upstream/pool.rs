//! A worker's own connections to one target: those at rest, newest first. Knows nothing of what is sent on them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::links::Links;
use crate::http1::up::H1Up;
use crate::snapshot::upstream::Target;

/// Connections at rest a worker keeps per target.
const IDLE_MOST: usize = 256;

struct Idle {
    up: Box<H1Up>,
    since: u64,
}

/// One target of one upstream as one worker sees it.
pub(crate) struct LocalTarget {
    /// Name of its upstream.
    pub(crate) upstream: Arc<str>,
    pub(crate) shared: Arc<Target>,
    pub(crate) pool: Rc<Pool>,
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
    /// A connection at rest that neither ended nor said anything unasked.
    pub(crate) async fn reuse(&self) -> Option<Box<H1Up>> {
        loop {
            let mut up = self.pop()?;
            if up.dubious {
                // a body that should not be may be here without having been noticed: it would be read as the next answer
                tokio::task::yield_now().await;
            }
            if up.conn.stream.is_quiet() {
                up.renew();
                return Some(up);
            }
        }
    }

    fn pop(&self) -> Option<Box<H1Up>> {
        self.idle.borrow_mut().pop().map(|idle| idle.up)
    }

    /// Keeps a connection whose call ended cleanly.
    pub(crate) fn keep(&self, up: Box<H1Up>, now: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MOST {
            idle.push(Idle { up, since: now });
        }
    }

    /// Closes what rested longer than `limit`; the oldest come first.
    pub(crate) fn expire(&self, now: u64, limit: u64) {
        let mut idle = self.idle.borrow_mut();
        let old = idle.iter().take_while(|c| now.saturating_sub(c.since) > limit).count();
        idle.drain(..old);
        idle.retain_mut(|c| c.up.conn.stream.is_quiet());
        self.links.expire(now, limit);
    }

    /// Closes everything that rests, for want of descriptors.
    pub(crate) fn shed(&self) {
        self.idle.borrow_mut().clear();
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

    #[tokio::test]
    async fn what_came_behind_an_answer_without_a_body_is_seen_before_its_connection_is_used() {
        let pool = Pool::default();
        let (up, mut target) = pair(true);
        tokio::task::yield_now().await;
        pool.keep(up, 0);
        // the socket holds it, but nobody was told yet
        target.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").unwrap();
        assert!(pool.reuse().await.is_none());
    }

    #[tokio::test]
    async fn of_many_connections_that_all_ended_none_is_used_again() {
        for _ in 0..2 {
            let pool = Pool::default();
            let mut targets = Vec::new();
            for _ in 0..200 {
                let (up, mut target) = pair(false);
                target.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").unwrap();
                pool.keep(up, 0);
                targets.push(target);
            }
            drop(targets);
            tokio::task::yield_now().await;
            assert!(pool.reuse().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_connection_that_kept_quiet_is_used_again_and_is_no_longer_doubted() {
        let pool = Pool::default();
        let (up, _target) = pair(true);
        pool.keep(up, 0);
        let up = pool.reuse().await.unwrap();
        assert!(!up.dubious);
    }
}
