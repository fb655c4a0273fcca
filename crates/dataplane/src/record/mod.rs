//! Everything that is seen of the gateway: one record per exchange goes into metrics, the ring of recent requests and the access log.
//! Reads no clock and decides nothing. But for the access log nothing is formatted, and nothing is allocated once it is warm.

mod text;
mod line;
mod cells;
mod upstream;
mod metrics;
mod render;
mod ring;
mod fields;
mod log;
mod writer;
pub mod events;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use daemun_pipeline::{Exchange, Fault};
use tokio::sync::Notify;

use crate::clock::{Clock, nanos};

pub use cells::{RouteCells, TargetMetrics};
pub use events::{Events, Level};
pub use fields::{LogFields, LogTemplate, TemplateError, log_fields};
pub use log::AccessLog;
pub use metrics::{LogCounters, MOST_NAMES, MOST_POLICIES, Metrics, OfAccounts, Setup};
pub use render::METRICS_CONTENT_TYPE;
pub use ring::Recent;
pub use upstream::Fallback;
pub(crate) use upstream::UpstreamCells;

use cells::Served;
use line::{Line, between};
use log::LogBuffer;
use metrics::WorkerCells;
use ring::Ring;

/// Longest time a line of the access log stays with its worker.
const LOG_DELAY: Duration = Duration::from_millis(100);
/// Status recorded when the client left before there was an answer; no client ever gets it from the gateway itself.
const ABANDONED: u16 = 499;

/// What a policy decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PolicyVerdict {
    /// It let the request pass.
    Passed,
    /// It answered itself.
    Answered,
    /// It refused the request.
    Refused,
}

impl PolicyVerdict {
    /// All of them.
    pub const ALL: [PolicyVerdict; 3] = [PolicyVerdict::Passed, PolicyVerdict::Answered, PolicyVerdict::Refused];

    /// Name in metrics and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PolicyVerdict::Passed => "passed",
            PolicyVerdict::Answered => "answered",
            PolicyVerdict::Refused => "refused",
        }
    }
}

/// The target that was called last.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// Its counters.
    pub metrics: &'a TargetMetrics,
    /// Name of its upstream.
    pub upstream: &'a str,
    /// The target as written.
    pub url: &'a str,
    /// Status it sent; 0 when no complete head came.
    pub status: u16,
}

/// An exchange that ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// The exchange, its `times.end` set.
    pub exchange: &'a Exchange,
    /// Its route: counters, and its name.
    pub route: Option<(&'a RouteCells, &'a str)>,
    /// The target that was called last.
    pub target: Option<Called<'a>>,
    /// The upstream that would have been called, where none of its targets was.
    pub uncalled: Option<&'a str>,
    /// Status of the answer as the client got it; 499 when the client left before there was one.
    pub status: u16,
    /// Why it failed, also when that was after the answer's head had been sent.
    pub fault: Option<&'a Fault>,
    /// Bytes of the request body that came in.
    pub bytes_in: u64,
    /// Bytes of the answer's body that went out.
    pub bytes_out: u64,
    /// What the policies decided that ran: index into [`Setup::policies`], and the decision.
    pub verdicts: &'a [(u8, PolicyVerdict)],
    /// Calls sent upstream.
    pub attempts: u8,
    /// Whether the last call went over a connection that was there already.
    pub reused: bool,
    /// Whether a second call was made beside one that took long.
    pub hedged: bool,
    /// What stands in for the call that failed.
    pub fallback: Option<Fallback>,
    /// Whether the connection was upgraded.
    pub upgraded: bool,
}

/// A request whose head could not be read and that never became an exchange.
#[derive(Clone, Copy, Debug)]
pub struct BadHead<'a> {
    /// Wall-clock time, nanoseconds since the Unix epoch.
    pub wall: u64,
    /// Request id, when one was given; else empty.
    pub id: &'a [u8],
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// What was wrong.
    pub fault: &'a Fault,
    /// Status it was answered with; `None` when the connection was closed without an answer.
    pub status: Option<u16>,
}

/// What one worker tells of its exchanges. [`Metrics::new`] makes the only one of each worker; it may be moved to the worker's thread,
/// and is then used from there alone.
pub struct Recorder {
    metrics: Arc<Metrics>,
    worker: usize,
    policies: Arc<[&'static str]>,
    ring: RefCell<Ring>,
    log: RefCell<Option<LogBuffer>>,
    first_line: Notify,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Recorder {
    fn new(metrics: Arc<Metrics>, worker: usize) -> Recorder {
        let policies = metrics.setup.policies.clone().into();
        Recorder {
            metrics,
            worker,
            policies,
            ring: RefCell::default(),
            log: RefCell::default(),
            first_line: Notify::new(),
        }
    }

    /// The counters of the process.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Records an exchange; to be called exactly once for each. Some 100 ns without the access log, and no allocation once the route,
    /// the target and the ring are warm.
    pub fn finish(&self, finished: &Finished<'_>) {
        self.count(finished);
        let line = Line::of(finished);
        self.ring.borrow_mut().push(&line, finished.verdicts);
        self.log_line(&line);
    }

    /// Records a request that never became an exchange.
    pub fn bad_head(&self, bad: &BadHead<'_>) {
        if let Some(cell) = self.cells().and_then(|cells| cells.bad_heads.get(bad.fault.reason as usize)) {
            cell.add(1);
        }
        if let Some(status) = bad.status {
            self.metrics.unrouted.count_answer(self.worker, status);
        }
        let line = Line::of_bad_head(bad);
        self.ring.borrow_mut().push(&line, &[]);
        self.log_line(&line);
    }

    /// A client's connection was accepted.
    pub fn connection_opened(&self) {
        self.add(|cells| &cells.accepted);
    }

    /// A client's connection ended; once for each that was opened.
    pub fn connection_closed(&self) {
        self.add(|cells| &cells.closed);
    }

    /// A client's connection was refused, there being too many. `status` is what it was answered with, if it was.
    pub fn connection_refused(&self, status: Option<u16>) {
        self.add(|cells| &cells.refused);
        if let Some(status) = status {
            self.metrics.unrouted.count_answer(self.worker, status);
        }
    }

    /// A client's TLS handshake failed.
    pub fn handshake_failed(&self) {
        self.add(|cells| &cells.failed_handshakes);
    }

    /// A client's connection was closed, since it did not begin with the header that its listener asks for.
    pub fn connection_unnamed(&self) {
        self.add(|cells| &cells.unnamed);
    }

    /// A connection to a target was made, or could not be.
    pub fn connected(&self, target: &TargetMetrics, made: bool) {
        target.count_connect(self.worker, made);
    }

    /// A call was sent that is now sent again, here or elsewhere; [`Recorder::finish`] counts the last attempt only. `status` is what
    /// the target answered, 0 when it did not, and `nanos` how long that took.
    pub fn attempt_failed(&self, target: &TargetMetrics, status: u16, nanos: u64) {
        target.count(self.worker, status, nanos);
    }

    /// A call was sent elsewhere as well; `status` is what the target answered, 0 when it did not.
    pub fn mirrored(&self, target: &TargetMetrics, status: u16) {
        target.count(self.worker, status, 0);
    }

    /// The newest of this worker's last 1,024 requests with this id.
    #[must_use]
    pub fn find(&self, id: &[u8]) -> Option<Recent> {
        self.ring.borrow().find(id, &self.policies)
    }

    /// The newest `n` of this worker's last 1,024 requests, newest first.
    #[must_use]
    pub fn latest(&self, n: usize) -> Vec<Recent> {
        self.ring.borrow().latest(n, &self.policies)
    }

    /// Writes to this log from now on, or to none. What is held for the one before is handed to it.
    pub fn use_log(&self, log: Option<AccessLog>) {
        let before = self.log.replace(log.map(LogBuffer::new));
        if let Some(before) = before {
            before.close();
        }
    }

    /// Hands the lines held to the log's writer, if it can take them.
    pub fn flush(&self) {
        self.hand_over();
    }

    /// Hands the last lines to the log's writer; to be called when the worker has ended its last exchange. Nothing is logged after.
    pub fn close(&self) {
        self.use_log(None);
    }

    /// The task that hands lines over at the latest [`LOG_DELAY`] after the first of them; runs as long as the worker, and sleeps
    /// while nothing is logged.
    pub async fn flusher(self: Rc<Self>, clock: Clock) {
        loop {
            self.first_line.notified().await;
            let mut handed_over = false;
            while !handed_over {
                let due = clock.now().saturating_add(nanos(LOG_DELAY));
                while clock.now() < due {
                    clock.wait(due).await;
                }
                handed_over = self.hand_over();
            }
        }
    }

    #[inline]
    fn count(&self, finished: &Finished<'_>) {
        let times = &finished.exchange.times;
        // a tunnel's hours say nothing of how fast requests are answered
        let end = if finished.upgraded && times.answered > 0 { times.answered } else { times.end };
        let abandoned =
            finished.status == ABANDONED && finished.fault.is_some_and(|fault| fault.reason.status() == ABANDONED);
        let served = Served {
            status: (!abandoned).then_some(finished.status),
            duration: end.saturating_sub(times.start),
            bytes_in: finished.bytes_in,
            bytes_out: finished.bytes_out,
        };
        finished.route.map_or(&self.metrics.unrouted, |(cells, _)| cells).count(self.worker, &served);
        if let Some(called) = &finished.target {
            let sent = if times.connected > 0 { times.connected } else { times.called() };
            called.metrics.count(self.worker, called.status, between(sent, times.answered).unwrap_or(0));
        }
        let Some(cells) = self.cells() else { return };
        if let Some(cell) = finished.fault.and_then(|fault| cells.faults.get(fault.reason as usize)) {
            cell.add(1);
        }
        for (policy, verdict) in finished.verdicts {
            if let Some(cell) = cells.verdicts.get(usize::from(*policy)).and_then(|of| of.get(*verdict as usize)) {
                cell.add(1);
            }
        }
    }

    fn log_line(&self, line: &Line<'_>) {
        if let Some(log) = self.log.borrow_mut().as_mut()
            && log.write(line)
        {
            self.first_line.notify_one();
        }
    }

    /// Whether no line is held any more.
    fn hand_over(&self) -> bool {
        self.log.borrow_mut().as_mut().is_none_or(LogBuffer::hand_over)
    }

    fn cells(&self) -> Option<&WorkerCells> {
        self.metrics.workers.get(self.worker)
    }

    fn add(&self, cell: impl FnOnce(&WorkerCells) -> &cells::Cell) {
        if let Some(cells) = self.cells() {
            cell(cells).add(1);
        }
    }
}

#[cfg(test)]
mod tests;
