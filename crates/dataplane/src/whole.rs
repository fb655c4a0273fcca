//! Reads a request's body whole, for policies that need it so. Knows no policy, and not what becomes of the body.

use std::future::poll_fn;
use std::task::{Context, Poll};

use daemun_pipeline::{Exchange, Fault, Head, Reason};

use crate::http1::parse::BodyLength;
use crate::peer::Down;
use crate::pipe::Pipe;
use crate::serve::Ask;
use crate::snapshot::Settings;
use crate::timers::{Deadline, NEVER};
use crate::worker::Worker;

/// What is needed to read it, and within which limits.
pub(crate) struct Reader<'a, 'd> {
    worker: &'a Worker,
    deadline: &'a Deadline,
    down: &'a mut Down<'d>,
    framing: BodyLength,
    /// Bytes, whoever asks.
    most: u64,
    body_idle: u64,
    min_rate: u64,
    min_rate_after: u64,
    /// Fields behind it.
    pub(crate) trailers: Option<Box<Head>>,
}

impl<'a, 'd> Reader<'a, 'd> {
    /// For the body of a request that takes this route.
    pub(crate) fn new<'ask>(ask: &'ask mut Ask<'a, 'd>) -> Reader<'ask, 'd>
    where
        'a: 'ask,
    {
        let settings = &ask.local.snapshot.settings;
        Reader {
            worker: ask.worker,
            deadline: ask.deadline,
            down: &mut *ask.down,
            framing: ask.framing,
            most: ask.route.own.body.unwrap_or(settings.body),
            body_idle: settings.body_idle,
            min_rate: settings.min_rate,
            min_rate_after: settings.min_rate_after,
            trailers: None,
        }
    }

    /// For the body of a request whose route depends on it.
    pub(crate) fn before_route(
        worker: &'a Worker,
        settings: &Settings,
        deadline: &'a Deadline,
        down: &'a mut Down<'d>,
        framing: BodyLength,
    ) -> Reader<'a, 'd> {
        Reader {
            worker,
            deadline,
            down,
            framing,
            most: settings.body,
            body_idle: settings.body_idle,
            min_rate: settings.min_rate,
            min_rate_after: settings.min_rate_after,
            trailers: None,
        }
    }

    /// Puts the body into the exchange, if it is not there yet. Of more than `max` bytes, it is refused.
    pub(crate) async fn read(&mut self, exchange: &mut Exchange, max: u64) -> Result<(), Fault> {
        let most = self.most.min(max).min(exchange.body_limit.unwrap_or(u64::MAX));
        let length = match (&exchange.request.body, self.framing) {
            (Some(body), _) => body.len() as u64,
            (None, BodyLength::Length(length)) => length,
            (None, BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose) => 0,
        };
        if length > most {
            return Err(too_large(most));
        }
        if exchange.request.body.is_some() {
            return Ok(());
        }
        if self.framing == BodyLength::None {
            exchange.request.body = Some(Vec::new());
            return Ok(());
        }
        // boxed, so that calls whose bodies pass do not carry the size of this
        exchange.request.body = Some(Box::pin(self.read_all(most)).await?);
        Ok(())
    }

    async fn read_all(&mut self, most: u64) -> Result<Vec<u8>, Fault> {
        self.down.limit_body(most);
        let began = self.worker.clock.now();
        let (mut body, mut pipe, mut moved) = (Vec::new(), Pipe::default(), began);
        let result = poll_fn(|cx| self.poll_all(cx, &mut pipe, &mut body, most, began, &mut moved)).await;
        self.trailers = pipe.trailers.take();
        pipe.release(&self.worker.buffers);
        result.map(|()| body)
    }

    fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        body: &mut Vec<u8>,
        most: u64,
        began: u64,
        moved: &mut u64,
    ) -> Poll<Result<(), Fault>> {
        let before = body.len();
        loop {
            let filled = self.down.poll_fill(cx, pipe, &self.worker.buffers)?;
            body.extend_from_slice(pipe.data());
            pipe.consume(pipe.data().len());
            if body.len() as u64 > most {
                return Poll::Ready(Err(too_large(most)));
            }
            if pipe.eof {
                return Poll::Ready(Ok(()));
            }
            if filled.is_pending() {
                break;
            }
        }
        if body.len() > before {
            *moved = self.worker.clock.now();
        }
        let limit = moved.saturating_add(self.body_idle).min(self.rate_limit(began, body.len()));
        let late = || Err(Fault::new(Reason::ClientTimeout, "the request body did not arrive in time"));
        self.deadline.poll_until(cx, limit).map(|()| late())
    }

    /// When the body will have been too slow, if nothing more comes.
    fn rate_limit(&self, began: u64, read: usize) -> u64 {
        if self.min_rate == 0 {
            return NEVER;
        }
        let allowed = read as u128 * 1_000_000_000 / u128::from(self.min_rate);
        let allowed = u64::try_from(allowed).unwrap_or(u64::MAX).max(self.min_rate_after);
        began.saturating_add(allowed)
    }
}

fn too_large(most: u64) -> Fault {
    Fault::new(Reason::BodyTooLarge, format!("the request body is larger than {most} bytes"))
}
