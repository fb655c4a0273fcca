//! What is told of one request, wherever it is told: log lines and the ring read it from here. Borrows everything.

use std::net::IpAddr;
use std::ops::Range;

use daemun_pipeline::{Exchange, Fault, Head, Times};

use super::{BadHead, Fallback, Finished};

/// Where the trace id stands in a `traceparent` (W3C Trace Context, section 3.2).
const TRACE_ID: Range<usize> = 3..35;

/// One request and what became of it.
pub(super) struct Line<'a> {
    pub(super) wall: u64,
    pub(super) id: &'a [u8],
    /// Empty when there is none.
    pub(super) trace_id: &'a [u8],
    pub(super) client_ip: Option<IpAddr>,
    pub(super) method: &'a [u8],
    pub(super) host: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) query: Option<&'a [u8]>,
    /// HTTP version times ten; 0 when it is not known.
    pub(super) version: u8,
    pub(super) tls: bool,
    pub(super) status: u16,
    pub(super) route: Option<&'a str>,
    pub(super) upstream: Option<&'a str>,
    pub(super) target: Option<&'a str>,
    pub(super) fault: Option<&'a Fault>,
    /// What the client was not told of the fault, or what is remarked of an answer that is none.
    pub(super) cause: Option<&'a str>,
    pub(super) times: Times,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) consumer: Option<&'a [u8]>,
    pub(super) head: Option<&'a Head>,
    /// All of it, for what lines compute.
    pub(super) exchange: Option<&'a Exchange>,
    pub(super) attempts: u8,
    pub(super) reused: bool,
    pub(super) hedged: bool,
    pub(super) fallback: Option<Fallback>,
    pub(super) upgraded: bool,
}

impl<'a> Line<'a> {
    #[inline]
    pub(super) fn of(finished: &Finished<'a>) -> Line<'a> {
        let exchange: &'a Exchange = finished.exchange;
        let request = &exchange.request;
        Line {
            wall: exchange.wall,
            id: &exchange.id,
            trace_id: exchange.trace.get(TRACE_ID).unwrap_or_default(),
            client_ip: known(exchange.client.ip),
            method: request.head.bytes(request.method_span),
            host: request.head.bytes(request.host),
            path: request.head.bytes(request.path),
            query: request.query.map(|query| request.head.bytes(query)),
            version: request.version,
            tls: exchange.client.tls,
            status: finished.status,
            route: finished.route.map(|(_, name)| name),
            upstream: finished.target.as_ref().map(|called| called.upstream).or(finished.uncalled),
            target: finished.target.as_ref().map(|called| called.url),
            fault: finished.fault,
            cause: finished.fault.and_then(|fault| fault.cause.as_deref()).or(exchange.remark.as_deref()),
            times: exchange.times,
            bytes_in: finished.bytes_in,
            bytes_out: finished.bytes_out,
            consumer: exchange.consumer_bytes(),
            head: Some(&request.head),
            exchange: Some(exchange),
            attempts: finished.attempts,
            reused: finished.reused,
            hedged: finished.hedged,
            fallback: finished.fallback,
            upgraded: finished.upgraded,
        }
    }

    /// Of something that never became an exchange little is known.
    pub(super) fn of_bad_head(bad: &BadHead<'a>) -> Line<'a> {
        Line {
            wall: bad.wall,
            id: bad.id,
            trace_id: b"",
            client_ip: bad.client_ip.and_then(known),
            method: b"",
            host: b"",
            path: b"",
            query: None,
            version: 0,
            tls: bad.tls,
            status: bad.status.unwrap_or(0),
            route: None,
            upstream: None,
            target: None,
            fault: Some(bad.fault),
            cause: bad.fault.cause.as_deref(),
            times: Times::default(),
            bytes_in: 0,
            bytes_out: 0,
            consumer: None,
            head: None,
            exchange: None,
            attempts: 0,
            reused: false,
            hedged: false,
            fallback: None,
            upgraded: false,
        }
    }
}

/// On a Unix socket there is no address.
fn known(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}

/// How long each step took.
pub(super) struct Steps {
    pub(super) total: Option<u64>,
    pub(super) policies: Option<u64>,
    pub(super) retry: Option<u64>,
    pub(super) connect: Option<u64>,
    pub(super) wait: Option<u64>,
    pub(super) transfer: Option<u64>,
}

impl Steps {
    /// A step whose end was not reached has no length.
    pub(super) fn of(times: &Times) -> Steps {
        let sent = if times.connected > 0 { times.connected } else { times.called() };
        Steps {
            total: between(times.start, times.end),
            policies: between(times.start, times.decided),
            retry: between(times.decided, times.again),
            connect: between(times.called(), times.connected),
            wait: between(sent, times.answered),
            transfer: between(times.answered, times.end),
        }
    }
}

/// Nanoseconds from one moment to another, when both came.
#[inline]
pub(super) fn between(from: u64, to: u64) -> Option<u64> {
    if from == 0 || to == 0 { None } else { Some(to.saturating_sub(from)) }
}

/// `HTTP/1.1` and its like.
pub(super) fn protocol(version: u8) -> Option<&'static str> {
    match version {
        10 => Some("HTTP/1.0"),
        11 => Some("HTTP/1.1"),
        20 => Some("HTTP/2"),
        _ => None,
    }
}
