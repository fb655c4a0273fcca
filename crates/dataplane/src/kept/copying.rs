//! A copy of an answer that is made while it passes. It holds nobody up, and becomes nothing unless the answer was whole. Knows neither
//! sockets nor framing.

use std::sync::Arc;

use bytes::Bytes;
use daemun_pipeline::{Exchange, Method};

use super::key::Digest;
use super::store::Store;
use super::{Kept, rules};
use crate::http1::parse::BodyLength;
use crate::http1::response::ResponseHead;
use crate::pipe::Pipe;
use crate::snapshot::Route;

/// An answer that is being copied.
pub(crate) struct Copying {
    store: Arc<Store>,
    call: Digest,
    varied: Option<Digest>,
    /// What it becomes, while that is to come.
    kept: Option<Kept>,
    body: Vec<u8>,
    /// Bytes that the store has made room for.
    reserved: usize,
    /// It turned out not to fit.
    spoilt: bool,
}

impl Copying {
    /// Begins a copy of the answer whose head stands in an exchange, if it may be kept; notes what a request has changed. `is_head` is
    /// whether its request is its head alone.
    pub(crate) fn begin(
        store: &Arc<Store>,
        exchange: &Exchange,
        route: &Route,
        head: &ResponseHead,
        is_head: bool,
    ) -> Option<Box<Copying>> {
        let now = exchange.times.answered;
        let asked = store.asked(exchange, route);
        match exchange.request.method {
            Method::Get if is_head && rules::is_good(head.status) && !exchange.request.grpc => {}
            Method::Get | Method::Head | Method::Options | Method::Trace => return None,
            // whatever they did, they did it when they were not refused
            Method::Post | Method::Put | Method::Delete | Method::Connect | Method::Patch | Method::Other => {
                if (200..400).contains(&head.status) {
                    store.changed(asked.resource(store.seed()), now);
                }
                return None;
            }
        }
        let length = match head.body {
            BodyLength::Length(length) if length <= store.max() => length,
            BodyLength::None | BodyLength::Chunked => 0,
            // where it ends cannot be told from where it breaks off
            BodyLength::Length(_) | BodyLength::UntilClose => return None,
        };
        if !store.may_look(asked.coarse(store.seed()), now) {
            return None;
        }
        let vary = rules::vary_names(&exchange.response.head);
        if !store.may_copy(asked.quick(store.seed(), vary), now) {
            return None;
        }
        let terms = rules::judge(&exchange.request.head, &exchange.response.head)?;
        let call = asked.digest();
        let varied = (!terms.vary.is_empty()).then(|| asked.varied(&call, &terms.vary));
        let kept = Some(Kept::of(exchange, terms, store.keep(), asked.resource(store.seed())));
        let store = Arc::clone(store);
        let mut copy = Copying { store, call, varied, kept, body: Vec::new(), reserved: 0, spoilt: false };
        copy.make_room(usize::try_from(length).ok()?);
        (!copy.spoilt).then(|| Box::new(copy))
    }

    /// Copies what came into a pipe since it held so many bytes in all.
    pub(crate) fn take(&mut self, pipe: &Pipe, before: u64) {
        let data = pipe.data();
        let new = usize::try_from(pipe.total.saturating_sub(before)).unwrap_or(usize::MAX);
        let Some(piece) = data.len().checked_sub(new).and_then(|start| data.get(start..)) else {
            self.spoil();
            return;
        };
        if self.spoilt || piece.is_empty() {
            return;
        }
        if (self.body.len() + piece.len()) as u64 > self.store.max() {
            self.spoil();
            return;
        }
        self.make_room(piece.len());
        if !self.spoilt {
            self.body.extend_from_slice(piece);
        }
    }

    /// Keeps the copy of an answer that ended; not of one with fields behind its body.
    pub(crate) fn end(mut self, pipe: &Pipe) {
        let whole = !self.spoilt && pipe.trailers.is_none();
        let Some(mut kept) = self.kept.take().filter(|_| whole) else { return };
        let mut body = std::mem::take(&mut self.body);
        body.shrink_to_fit();
        kept.body = Bytes::from(body);
        self.store.put(self.call, self.varied, kept);
    }

    /// Takes memory for so many bytes more, within the bounds of the store.
    fn make_room(&mut self, more: usize) {
        if self.body.capacity() - self.body.len() >= more {
            return;
        }
        // doubled, as a vector would be, but no further than the largest body
        let most = usize::try_from(self.store.max()).unwrap_or(usize::MAX);
        let wanted = (self.body.len() + more).max((self.body.capacity() * 2).min(most));
        if self.store.reserve(wanted - self.reserved) {
            self.reserved = wanted;
            self.body.reserve_exact(wanted - self.body.len());
        } else {
            self.spoil();
        }
    }

    fn spoil(&mut self) {
        self.spoilt = true;
        self.body = Vec::new();
        self.store.release(std::mem::take(&mut self.reserved));
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.store.release(self.reserved);
    }
}
