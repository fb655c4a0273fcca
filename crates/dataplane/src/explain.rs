//! What the gateway would do with a request, and why: the same router, policies and head writer as for a live one, with nothing spent
//! and nothing sent.

use std::net::IpAddr;
use std::rc::Rc;

use daemun_config::model::{Importance, UpstreamProtocol};
use daemun_pipeline::{Client, Exchange, Explanation, Fault, Reason};

use crate::clock::Clock;
use crate::destination::upstream::choice::UpstreamStatus;
use crate::destination::upstream::{self, head};
use crate::http1::parse::{Scan, parse_request};
use crate::http1::request::read_target;
use crate::ids::{IdSource, Ids};
use crate::route::{self, Miss};
use crate::router::{self, path};
use crate::serve::{Arrived, check_length};
use crate::snapshot::{Destination, Route, Snapshot};

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// The head as it would be sent over HTTP/1.1, with its final empty line.
    pub head: Vec<u8>,
    /// Peer address.
    pub peer: IpAddr,
    /// Whether it comes over TLS.
    pub tls: bool,
    /// Where its ids come from.
    pub ids: IdSource,
}

/// What would happen.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Name of the route, when one matches.
    pub route: Option<String>,
    /// Every route that was considered, and why it was taken or passed over.
    pub considered: Option<router::Explanation>,
    /// The method that a CORS preflight announces and its route was found by; headers, query and cookies were not looked at.
    pub preflight: Option<String>,
    /// Path parameters.
    pub params: Vec<(String, String)>,
    /// What each policy would decide, in running order.
    pub verdicts: Vec<(&'static str, Explanation)>,
    /// The refusal, when no destination is reached.
    pub fault: Option<Fault>,
    /// Status of the answer the gateway would give itself.
    pub status: Option<u16>,
    /// Where the route ends, as text.
    pub destination: Option<String>,
    /// The target, as written in the configuration.
    pub target: Option<String>,
    /// How the upstream picks a target, and how its targets stand.
    pub upstream: Option<UpstreamStatus>,
    /// No target is known before the gateway runs.
    pub found_later: bool,
    /// What of the request keeps it at one target, where something does: the value that is hashed, or the cookie's.
    pub kept_by: Option<String>,
    /// Whether the call goes first when not all can, and whether that is the consumer's own.
    pub importance: (Importance, bool),
    /// The head that would be sent upstream, as HTTP/1.1 writes it.
    pub upstream_head: Option<Vec<u8>>,
    /// Whether it is sent over HTTP/2, which has no framing fields and writes the first line as fields.
    pub over_http2: bool,
}

/// Explains a request under a snapshot.
#[must_use]
pub fn explain(snapshot: &Snapshot, request: &ExplainRequest) -> Explained {
    explain_with(snapshot, request, &mut request.ids.worker(0), &Clock::system())
}

/// Explains a request with a running gateway's clock and the ids that come next, so that it can be held against that gateway.
#[must_use]
pub fn explain_with(snapshot: &Snapshot, request: &ExplainRequest, ids: &mut Ids, clock: &Clock) -> Explained {
    let mut out = Explained {
        route: None,
        considered: None,
        preflight: None,
        params: Vec::new(),
        verdicts: Vec::new(),
        fault: None,
        status: None,
        destination: None,
        target: None,
        upstream: None,
        found_later: false,
        kept_by: None,
        importance: (Importance::Normal, false),
        upstream_head: None,
        over_http2: false,
    };
    let mut exchange = Exchange::default();
    exchange.times.start = clock.now();
    exchange.wall = clock.wall(exchange.times.start);
    if let Err(fault) = run(snapshot, request, ids, &mut exchange, &mut out) {
        out.status = Some(fault.status());
        out.fault = Some(fault);
    }
    out
}

fn run(
    snapshot: &Snapshot,
    request: &ExplainRequest,
    ids: &mut Ids,
    exchange: &mut Exchange,
    out: &mut Explained,
) -> Result<(), Fault> {
    let arrived = read(snapshot, request, exchange);
    if arrived.is_err() {
        // as for a live head that cannot be read: it gets an id, and nothing in it is believed
        exchange.request.head.fields.clear();
    }
    crate::worker::identify(ids, exchange, snapshot);
    let arrived = arrived?;
    let mut buffer = Vec::new();
    let raw = exchange.request.head.bytes(exchange.request.path).to_vec();
    let reading = path::read(&raw, &mut buffer);
    if let Ok(reading) = &reading {
        let view = reading.view(&raw, &buffer);
        let (considered, preflight) = route::explain(snapshot, exchange, &view);
        out.preflight = preflight.map(str::to_owned);
        out.considered = Some(considered);
    }
    let found = match route::find(snapshot, exchange) {
        Err(Miss::Body(_)) => {
            // there is no body to be explained with: what asks for one does not hold
            exchange.request.body = Some(Vec::new());
            let found = route::find(snapshot, exchange);
            exchange.request.body = None;
            found
        }
        found => found,
    };
    let route = match found {
        Ok(route) => route,
        Err(Miss::Body(_)) => return Err(Fault::new(Reason::Internal, "the body is not there")),
        Err(Miss::Fault(fault)) => {
            out.verdicts = snapshot.unmatched.explain(exchange);
            return Err(fault);
        }
    };
    out.route = Some(route.name.to_string());
    let names = snapshot.param_names(route);
    for (index, span) in &exchange.params {
        let name = names.get(usize::from(*index)).cloned().unwrap_or_default();
        out.params.push((name, exchange.request.text(*span).to_owned()));
    }
    check_length(route, &snapshot.settings, exchange, arrived.framing)?;
    out.verdicts = route.chain.explain(exchange);
    if let Some((_, last)) = out.verdicts.last() {
        match last.outcome {
            daemun_pipeline::Outcome::Pass | daemun_pipeline::Outcome::Skip => {}
            daemun_pipeline::Outcome::Answer(status) | daemun_pipeline::Outcome::Refuse(status, _) => {
                out.status = Some(status);
                return Ok(());
            }
        }
    }
    destination(snapshot, route, arrived, exchange, out)
}

fn destination(
    snapshot: &Snapshot,
    route: &Route,
    arrived: Arrived,
    exchange: &Exchange,
    out: &mut Explained,
) -> Result<(), Fault> {
    match &route.destination {
        Destination::Answer(answer) => {
            out.status = Some(answer.status);
            out.destination = Some(format!("answer {}", answer.status));
        }
        Destination::Redirect(redirect) => {
            let status = redirect.status;
            let answer = crate::destination::redirect(redirect, exchange);
            out.status = Some(status);
            let location = answer.fields.first().map(|(_, v)| v.as_str()).unwrap_or_default();
            out.destination = Some(format!("redirect {status} to {location}"));
        }
        Destination::Policy => out.destination = route.chain.names().last().map(str::to_owned),
        Destination::Files(files) => {
            head::check_path(exchange, route.own.rewrite.as_ref())?;
            out.destination = Some(format!("files {}", files.root.value.display()));
        }
        Destination::Upstream(index) => {
            let index = exchange.elsewhere.as_ref().map_or(*index, |elsewhere| elsewhere.upstream);
            let Some(upstream) = snapshot.upstreams.get(index) else { return Ok(()) };
            out.destination = Some(format!("upstream {}", upstream.name));
            let upgrade = upstream::wanted_upgrade(route, exchange, arrived.framing, arrived.upgrade)?;
            head::check_path(exchange, route.own.rewrite.as_ref())?;
            let (targets, now) = (upstream.targets(), exchange.times.start);
            out.upstream = Some(upstream.status(now));
            out.kept_by = upstream.choice.kept_by(exchange, route);
            out.importance = importance(snapshot, route, exchange);
            // `auto` is settled by the target when it is called
            out.over_http2 = matches!(upstream.protocol, UpstreamProtocol::H2 | UpstreamProtocol::H2c);
            if upstream.finds && targets.is_empty() {
                out.found_later = true;
                return Ok(());
            }
            let index = upstream.choice.expect(&targets, exchange, route, now);
            let target = index.and_then(|index| targets.get(index)).ok_or_else(upstream::no_target)?;
            out.target = Some(target.url.clone());
            if out.over_http2 && upgrade.is_some() {
                return Err(upstream::no_upgrade());
            }
            let framing = upstream::sent_framing(upgrade.as_deref(), arrived.framing);
            let upgrade = upgrade.as_deref().map(str::as_bytes);
            let mut bytes = Vec::new();
            head::write(exchange, upstream, target, route.own.rewrite.as_ref(), framing, upgrade, &mut bytes);
            out.upstream_head = Some(bytes);
        }
    }
    Ok(())
}

/// How important the call is, and whether its consumer says so.
fn importance(snapshot: &Snapshot, route: &Route, exchange: &Exchange) -> (Importance, bool) {
    let own = exchange.consumer.and_then(|id| snapshot.importance.get(id.0 as usize).copied().flatten());
    (own.unwrap_or(route.own.importance), own.is_some())
}

/// Reads the head as a connection would.
fn read(snapshot: &Snapshot, request: &ExplainRequest, exchange: &mut Exchange) -> Result<Arrived, Fault> {
    let trusted = snapshot.settings.trusted_proxies.trust(Some(request.peer));
    exchange.client = Client {
        peer: Some(request.peer),
        ip: request.peer,
        peer_text: Rc::from(request.peer.to_string()),
        trusted,
        unreadable: false,
        tls: request.tls,
        handshake: None,
        identity: None,
        ends: None,
    };
    exchange.request.head.buf.extend_from_slice(&request.head);
    let mut fields = std::mem::take(&mut exchange.request.head.fields);
    let parsed =
        parse_request(&exchange.request.head.buf, &snapshot.settings.bounds, &mut Scan::default(), &mut fields);
    exchange.request.head.fields = fields;
    let head = parsed?.ok_or_else(|| Fault::new(Reason::BadRequest, "the head is incomplete"))?;
    exchange.request.head.buf.truncate(head.len);
    read_target(&mut exchange.request, &head)?;
    Ok(Arrived { framing: head.body, upgrade: head.upgrade })
}
