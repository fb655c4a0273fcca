//! The request's body on its way to a target; outlives an attempt, and can be begun again where it was kept. Knows no socket.

use std::task::{Context, Poll};

use daemun_pipeline::{Exchange, Fault, Head, Reason};

use super::picked::Awaited;
use crate::peer::Down;
use crate::pipe::{Buffers, Pipe};

/// The request's body on its way; outlives an attempt.
pub(crate) struct Upload {
    pub(crate) pipe: Pipe,
    /// Everything was written.
    pub(crate) done: bool,
    /// The upstream takes no more; its answer may still come.
    pub(crate) refused: bool,
    /// The upstream said that it did nothing with the call.
    pub(crate) unprocessed: bool,
    /// An interim answer went to the client.
    pub(crate) told: bool,
    /// Whom to tell that all of the call was sent.
    pub(crate) awaited: Option<Awaited>,
    /// When the body began to be awaited.
    pub(crate) began: u64,
    /// Last time something moved.
    pub(crate) moved: u64,
    kept: Kept,
}

/// What is kept of a body, to send it again.
enum Kept {
    /// Nothing: one that was begun is gone.
    Nothing,
    /// All that came so far, up to so many bytes.
    Copy { bytes: Vec<u8>, most: usize, ended: bool },
    /// It stands whole in the exchange; what comes behind it.
    Whole(Option<Box<Head>>),
}

impl Upload {
    /// Of the body of this request, which is here whole or still to come. Of the latter, up to `most` bytes are kept.
    pub(crate) fn new(exchange: &Exchange, trailers: Option<Box<Head>>, most: usize, now: u64) -> Upload {
        let kept = match &exchange.request.body {
            Some(_) => Kept::Whole(trailers),
            None if most > 0 => Kept::Copy { bytes: Vec::new(), most, ended: false },
            None => Kept::Nothing,
        };
        let mut upload = Upload::of(Pipe::default(), now);
        upload.kept = kept;
        upload.begin(exchange);
        upload
    }

    /// What goes both ways once a connection is a tunnel; nothing of it is kept.
    pub(crate) fn of(pipe: Pipe, now: u64) -> Upload {
        Upload {
            pipe,
            done: false,
            refused: false,
            unprocessed: false,
            told: false,
            awaited: None,
            began: now,
            moved: now,
            kept: Kept::Nothing,
        }
    }

    /// How long the answer was waited for by `now`; `None` while not all of the call was sent.
    pub(crate) fn waited(&self, now: u64) -> Option<u64> {
        self.done.then(|| now.saturating_sub(self.moved))
    }

    /// Whether the call can be made again: nothing went to the client, and all that came of the body is here.
    pub(crate) fn can_repeat(&self) -> bool {
        let is_here = match &self.kept {
            Kept::Nothing => self.pipe.total == 0,
            Kept::Copy { .. } | Kept::Whole(_) => true,
        };
        is_here && !self.told
    }

    /// Counts its times from `now`: nothing was done for it before.
    pub(crate) fn begin_at(&mut self, now: u64) {
        self.began = now;
        self.moved = now;
    }

    /// Begins anew, for another attempt.
    pub(crate) fn repeat(&mut self, exchange: &Exchange, now: u64) {
        self.done = false;
        self.refused = false;
        self.unprocessed = false;
        self.moved = now;
        self.begin(exchange);
    }

    /// Puts what is kept into the pipe.
    fn begin(&mut self, exchange: &Exchange) {
        self.pipe = match (&self.kept, &exchange.request.body) {
            (Kept::Whole(trailers), Some(body)) => Pipe::whole(body.clone(), trailers.clone()),
            (Kept::Copy { bytes, ended: true, .. }, _) => Pipe::whole(bytes.clone(), None),
            (Kept::Copy { bytes, .. }, _) if !bytes.is_empty() => Pipe::begun(bytes.clone()),
            (Kept::Copy { .. } | Kept::Whole(_) | Kept::Nothing, _) => Pipe::default(),
        };
    }

    /// Reads what it can of the body before anything is sent of it. `Ready` with a fault only: the client has left, or the body is wrong.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut Down<'_>,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        while !self.pipe.eof {
            let come = self.pipe.total;
            let filled = down.poll_fill(cx, &mut self.pipe, buffers);
            self.keep(come);
            match filled {
                Poll::Ready(Ok(())) if self.pipe.total > come || self.pipe.eof => {}
                Poll::Ready(Ok(())) | Poll::Pending => break,
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(client_side(fault))),
            }
        }
        Poll::Pending
    }

    /// Keeps what came since `before` bytes had; to be called before any of it is taken out.
    pub(crate) fn keep(&mut self, before: u64) {
        let Kept::Copy { bytes, most, ended } = &mut self.kept else { return };
        let new = usize::try_from(self.pipe.total - before).unwrap_or(usize::MAX);
        let data = self.pipe.data();
        // fields behind a body are not kept
        if bytes.len().saturating_add(new) > *most || self.pipe.trailers.is_some() {
            self.kept = Kept::Nothing;
            return;
        }
        bytes.extend_from_slice(data.get(data.len().saturating_sub(new)..).unwrap_or_default());
        *ended = self.pipe.eof;
    }

    /// The body, where all of it came and was kept; for a request without one, nothing.
    pub(crate) fn all<'a>(&'a self, exchange: &'a Exchange) -> Option<&'a [u8]> {
        match (&self.kept, &exchange.request.body) {
            (Kept::Whole(None), Some(body)) => Some(body),
            (Kept::Copy { bytes, ended: true, .. }, _) => Some(bytes),
            (Kept::Whole(_) | Kept::Copy { .. } | Kept::Nothing, _) => None,
        }
    }
}

/// A client whose connection ends within its body has left; one that cheats is told so.
pub(super) fn client_side(fault: Fault) -> Fault {
    let left = fault.reason == Reason::BadRequest && fault.detail.starts_with("the connection");
    if left { Fault { reason: Reason::ClientGone, ..fault } } else { fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(upload: &mut Upload, piece: &[u8], eof: bool) {
        let before = upload.pipe.total;
        upload.pipe.append(|buf| buf.extend_from_slice(piece));
        upload.pipe.eof = eof;
        upload.keep(before);
    }

    #[test]
    fn a_body_that_was_kept_is_begun_again_and_goes_on() {
        let exchange = Exchange::default();
        let mut upload = Upload::new(&exchange, None, 6, 1);
        fill(&mut upload, b"abc", false);
        upload.pipe.consume(3);
        fill(&mut upload, b"d", false);
        upload.refused = true;
        assert!(upload.can_repeat() && upload.all(&exchange).is_none());
        upload.repeat(&exchange, 2);
        assert_eq!((upload.pipe.data(), upload.pipe.eof, upload.pipe.total), (&b"abcd"[..], false, 4));
        assert!(!upload.refused);
        fill(&mut upload, b"ef", true);
        assert_eq!(upload.all(&exchange), Some(&b"abcdef"[..]));
        upload.repeat(&exchange, 3);
        assert_eq!((upload.pipe.data(), upload.pipe.eof), (&b"abcdef"[..], true));
    }

    #[test]
    fn a_body_that_is_too_long_is_not_kept() {
        let exchange = Exchange::default();
        let mut upload = Upload::new(&exchange, None, 3, 1);
        assert!(upload.can_repeat());
        fill(&mut upload, b"abcd", true);
        assert!(!upload.can_repeat() && upload.all(&exchange).is_none());
    }

    #[test]
    fn without_a_buffer_only_a_body_that_was_not_begun_is_begun_again() {
        let exchange = Exchange::default();
        let mut upload = Upload::new(&exchange, None, 0, 1);
        assert!(upload.can_repeat());
        fill(&mut upload, b"a", false);
        assert!(!upload.can_repeat());
    }

    #[test]
    fn a_body_that_a_policy_held_is_begun_again_as_often_as_need_be() {
        let mut exchange = Exchange::default();
        exchange.request.body = Some(b"held".to_vec());
        let mut upload = Upload::new(&exchange, None, 0, 1);
        for now in 2..4 {
            assert_eq!((upload.pipe.data(), upload.pipe.eof), (&b"held"[..], true));
            upload.pipe.consume(4);
            assert!(upload.can_repeat());
            upload.repeat(&exchange, now);
        }
        assert_eq!(upload.all(&exchange), Some(&b"held"[..]));
    }

    #[test]
    fn nothing_is_sent_again_once_the_client_was_told_something() {
        let mut upload = Upload::new(&Exchange::default(), None, 10, 1);
        upload.told = true;
        assert!(!upload.can_repeat());
    }
}
