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
    pub(crate) fn reuse(&self) -> Option<Box<H1Up>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.up.conn.stream.is_quiet() {
                idle.up.renew();
                return Some(idle.up);
            }
        }
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
