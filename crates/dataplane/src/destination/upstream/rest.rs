//! What is left of a call that may last: a tunnel, or the answer of a stream. Needs nothing of the configuration that its exchange began
//! under, which may be replaced meanwhile. Knows neither routes nor policies.

use std::sync::Arc;

use daemun_pipeline::{Exchange, Fault};

use super::finish;
use super::transfer::{CallLimits, Transfer};
use super::upload::Upload;
use crate::chain::Unwanted;
use crate::coded::Coded;
use crate::http1::response::ResponseHead;
use crate::peer::{Down, Up};
use crate::pipe::Pipe;
use crate::serve::Trail;
use crate::timers::Deadline;
use crate::worker::Worker;

/// The rest of a call. Nothing of it can be answered otherwise any more.
pub(crate) struct Rest {
    up: Up,
    upload: Upload,
    limits: CallLimits,
    unwanted: Arc<Unwanted>,
    left: Left,
}

/// What it is.
pub(crate) enum Left {
    /// Bytes both ways; the client was told so.
    Tunnel,
    /// The answer, whose head stands in the exchange, with what was read of its body and what that passes through.
    Answer(ResponseHead, Pipe, Option<Box<Coded>>),
}

impl Rest {
    pub(crate) fn new(
        up: Up,
        upload: &mut Upload,
        limits: CallLimits,
        unwanted: &Arc<Unwanted>,
        left: Left,
    ) -> Box<Rest> {
        let upload = std::mem::replace(upload, Upload::of(Pipe::default(), 0));
        Box::new(Rest { up, upload, limits, unwanted: Arc::clone(unwanted), left })
    }

    /// Does it.
    pub(crate) async fn pass(
        self,
        worker: &Worker,
        deadline: &Deadline,
        down: &mut Down<'_>,
        exchange: &mut Exchange,
        trail: &mut Trail,
    ) -> Result<(), Fault> {
        let Rest { mut up, mut upload, limits, unwanted, left } = self;
        let (head, download, coded) = match left {
            Left::Tunnel => (None, Pipe::default(), None),
            Left::Answer(head, download, coded) => (Some(head), download, coded),
        };
        let mut transfer = Transfer {
            worker,
            deadline,
            down,
            up: &mut up,
            exchange,
            limits,
            unwanted: &unwanted,
            upload: &mut upload,
            download,
            coded,
            copying: None,
            is_due: false,
        };
        let result = match &head {
            None => transfer.tunnel().await,
            Some(head) => transfer.until_end(head.body).await,
        };
        trail.bytes_out = transfer.download.total;
        trail.bytes_in = upload.pipe.total;
        match (head, &trail.target) {
            (Some(head), Some(target)) => finish(worker, down, exchange, target, up, &upload, &head, result),
            (None, _) | (_, None) => result,
        }
    }
}
