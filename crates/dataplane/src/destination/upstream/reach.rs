//! From a target to a connection on which a call is begun: one at rest or with room, or a new one. Knows no answer.

use daemun_config::model::UpstreamProtocol;
use daemun_pipeline::{Exchange, Fault, Reason};

use super::connect::Fresh;
use super::local::LocalUpstream;
use super::pool::LocalTarget;
use super::transfer::CallLimits;
use super::{connect, grpc, head, no_upgrade, place};
use crate::http1::parse::BodyLength;
use crate::http2::link::Hold;
use crate::http2::up::H2Up;
use crate::peer::Up;
use crate::serve::Trail;
use crate::snapshot::Route;
use crate::timers::{Deadline, NEVER};
use crate::worker::{Local, Worker};

/// Connections a call tries when those it finds turn out to take no more.
const LINK_TRIES: u8 = 3;

/// Where an attempt is made from.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) local: &'a Local,
    pub(crate) route: &'a Route,
    pub(crate) deadline: &'a Deadline,
}

/// Finds a connection for the call and queues its head there.
pub(super) async fn begin(
    site: Site<'_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    upgrade: Option<&str>,
    framing: BodyLength,
    trail: &mut Trail,
) -> Result<Up, Fault> {
    let rewrite = site.route.own.rewrite.as_ref();
    for _ in 0..LINK_TRIES {
        match connection(site, exchange, upstream, target, upgrade.is_some(), trail).await? {
            Fresh::H1(mut up) => {
                let upgrade = upgrade.map(str::as_bytes);
                head::write(exchange, &upstream.shared, &target.shared, rewrite, framing, upgrade, &mut up.conn.out);
                up.begin(framing);
                return Ok(Up::H1(up));
            }
            Fresh::H2(_) if upgrade.is_some() => return Err(no_upgrade()),
            Fresh::H2(hold) => match H2Up::call(hold, exchange, &upstream.shared, &target.shared, rewrite, framing) {
                Ok(up) => return Ok(Up::H2(up)),
                Err(fault) if fault.retry => {}
                Err(fault) => return Err(fault),
            },
        }
    }
    Err(Fault::new(Reason::ConnectFailed, "the backend takes no more calls").cause(&target.shared.url).retryable())
}

/// A connection at rest or with room, or a new one, within the connect limit.
async fn connection(
    site: Site<'_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    old: bool,
    trail: &mut Trail,
) -> Result<Fresh, Fault> {
    let told = upstream.shared.proxy_protocol.map(|version| connect::told(version, &exchange.client));
    if !trail.fresh
        && let Some(up) =
            target.pool.reuse(told.as_deref(), || site.worker.turn(), |to| target.shared.has_lost(to)).await
    {
        trail.reused = true;
        return Ok(Fresh::H1(up));
    }
    let limit = site.route.own.connect.unwrap_or(upstream.shared.connect);
    site.deadline.set(site.worker.clock.now().saturating_add(limit));
    let many = upstream.shared.protocol != UpstreamProtocol::Http1 && !old;
    if many && let Some(hold) = shared_link(site, target).await? {
        trail.reused = true;
        return Ok(Fresh::H2(hold));
    }
    trail.reused = false;
    // boxed, so that calls over connections there are do not carry the size of this
    Box::pin(new_connection(site, exchange, upstream, target, told, many)).await
}

/// Makes a connection, within the time that is left of the limit. `many`: one for several calls at a time, if the target likes.
async fn new_connection(
    site: Site<'_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    told: Option<Box<[u8]>>,
    many: bool,
) -> Result<Fresh, Fault> {
    let shared = &target.shared;
    let links = &target.pool.links;
    let connecting = many.then(|| links.connect());
    let result = match place::find(site, upstream, target).await {
        Ok(place) => {
            let connect = connect::connect(site.worker, &target.pool, &upstream.shared, shared, told, !many, place);
            let connected = site.deadline.limit(connect).await;
            exchange.times.connected = site.worker.clock.now();
            let result = connected.unwrap_or_else(|| Err(connect_timeout(&shared.url)));
            site.worker.recorder.connected(&shared.cells, result.is_ok());
            result
        }
        Err(fault) => Err(fault),
    };
    match (&result, connecting) {
        (Ok(Fresh::H2(hold)), Some(connecting)) => {
            links.keep(hold.link(), connecting);
            site.worker.pools_used();
        }
        (Ok(Fresh::H1(_)), Some(_)) => links.prefers_old(),
        (Err(fault), Some(connecting)) => connecting.failed(fault),
        // only who may speak HTTP/2 asks for it
        (Ok(_) | Err(_), None) => {}
    }
    result
}

/// A place on a connection with room; waits for one that is being made.
async fn shared_link(site: Site<'_>, target: &LocalTarget) -> Result<Option<Hold>, Fault> {
    let links = &target.pool.links;
    let take = || links.take(|to| target.shared.has_lost(to));
    loop {
        let hold = take();
        if hold.is_some() || !links.is_coming() {
            return Ok(hold);
        }
        let waited =
            site.deadline.limit(links.wait()).await.unwrap_or_else(|| Err(connect_timeout(&target.shared.url)));
        if let Err(fault) = waited {
            // another attempt may have ended well meanwhile
            return take().map(Some).ok_or(fault);
        }
    }
}

fn connect_timeout(url: &str) -> Fault {
    Fault::new(Reason::ConnectTimeout, "the backend did not accept a connection in time").cause(url).retryable()
}

/// The limits of one call.
pub(super) fn limits(site: Site<'_>, exchange: &Exchange, upstream: &LocalUpstream, upgrade: bool) -> CallLimits {
    let settings = &site.local.snapshot.settings;
    let grpc = exchange.request.grpc;
    let response = if grpc { settings.stream_idle } else { upstream.shared.response };
    CallLimits {
        response: site.route.own.response.unwrap_or(response),
        body: site.route.own.body.unwrap_or(settings.body).min(exchange.body_limit.unwrap_or(u64::MAX)),
        stream: grpc || upgrade,
        until: if grpc { grpc::deadline(exchange) } else { NEVER },
        body_idle: settings.body_idle,
        write_idle: settings.write_idle,
        stream_idle: settings.stream_idle,
        look_at: NEVER,
        min_rate: settings.min_rate,
        min_rate_after: settings.min_rate_after,
    }
}
