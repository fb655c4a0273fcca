//! The counters as Prometheus text (exposition format 0.0.4). The one place where metrics have names.

use std::fmt::{Display, Write as _};

use daemun_pipeline::Reason;

use super::PolicyVerdict;
use super::cells::{ANSWER_CLASSES, BOUNDS, HistogramSum};
use super::metrics::{MOST_NAMES, Metrics, OfAccounts, WorkerCells};
use super::ring::RING_SLOTS;
use super::upstream::{CLASSES, Fallback, UpstreamSum};
use crate::destination::upstream::choice::UpstreamStatus;
use crate::destination::upstream::state::Standing;

/// Media type of what [`Metrics::render`] returns.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric: its name, its kind, its labels, and what it tells.
pub(super) struct Family {
    pub(super) name: &'static str,
    kind: Kind,
    #[cfg_attr(not(test), allow(dead_code, reason = "the manual is held against it"))]
    pub(super) labels: &'static [&'static str],
    help: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! families {
    ($($id:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(const $id: Family = Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// Every metric, in the order they are shown.
        #[cfg_attr(not(test), allow(dead_code, reason = "the manual is held against it"))]
        pub(super) const FAMILIES: &[Family] = &[$($id),*];
    };
}

families! {
    REQUESTS = "daemun_requests_total", Counter, ["route", "code"],
        "Answers sent to clients, those of the gateway itself included.";
    ABANDONED = "daemun_requests_abandoned_total", Counter, ["route"],
        "Requests whose client left before there was an answer.";
    DURATION = "daemun_request_duration_seconds", Histogram, ["route"],
        "Time from the end of the request's head to the end of the answer.";
    REQUEST_BYTES = "daemun_request_body_bytes_total", Counter, ["route"],
        "Bytes of request bodies.";
    RESPONSE_BYTES = "daemun_response_body_bytes_total", Counter, ["route"],
        "Bytes of the answers' bodies.";
    FAULTS = "daemun_faults_total", Counter, ["reason"],
        "Exchanges that failed, by reason.";
    BAD_HEADS = "daemun_bad_heads_total", Counter, ["reason"],
        "Requests whose head could not be read and that never became an exchange.";
    VERDICTS = "daemun_policy_verdicts_total", Counter, ["policy", "verdict"],
        "What policies decided.";
    UPSTREAM_REQUESTS = "daemun_upstream_requests_total", Counter, ["upstream", "target", "class"],
        "Calls sent to a target, by class of its answer; none: there was no answer.";
    UPSTREAM_DURATION = "daemun_upstream_response_seconds", Histogram, ["upstream", "target"],
        "Time from the sending of the call to the end of the answer's head.";
    UPSTREAM_CONNECTS = "daemun_upstream_connects_total", Counter, ["upstream", "target"],
        "Connections made to a target.";
    UPSTREAM_CONNECT_FAILURES = "daemun_upstream_connect_failures_total", Counter, ["upstream", "target"],
        "Connections to a target that could not be made.";
    CALLS_IN_FLIGHT = "daemun_upstream_calls_in_flight", Gauge, ["upstream"],
        "Calls in flight to an upstream whose calls are bounded, streams included.";
    CALLS_LIMIT = "daemun_upstream_calls_limit", Gauge, ["upstream"],
        "Calls that may be in flight to an upstream: what was set, or what was learned.";
    CALLS_WAITING = "daemun_upstream_calls_waiting", Gauge, ["upstream"],
        "Calls that wait for an upstream.";
    CALLS_SHED = "daemun_upstream_calls_shed_total", Counter, ["upstream", "importance"],
        "Calls that were refused because an upstream could take no more.";
    TARGET_HEALTHY = "daemun_target_healthy", Gauge, ["upstream", "target"],
        "1 when a target gets its share of the calls, 0 when it does not.";
    TARGET_STATE = "daemun_target_state", Gauge, ["upstream", "target", "state"],
        "Always 1; the state is healthy, unhealthy, ejected, trial or draining.";
    TARGET_EJECTIONS = "daemun_target_ejections_total", Counter, ["upstream", "target"],
        "How often a target was ejected for what its calls told.";
    TARGET_CALLS = "daemun_target_calls_in_flight", Gauge, ["upstream", "target"],
        "Calls to a target that are under way, where its upstream counts them.";
    BREAKER = "daemun_breaker_state", Gauge, ["upstream"],
        "0 while the breaker of an upstream is closed, 1 while it is half open, 2 while it is open.";
    PANIC = "daemun_upstream_panic", Gauge, ["upstream"],
        "1 while so few targets of an upstream are healthy that all of them are called.";
    DISCOVERY = "daemun_upstream_discovery_ok", Gauge, ["upstream"],
        "1 while the targets of an upstream are found without trouble, 0 while they are not.";
    RETRIES = "daemun_upstream_retries_total", Counter, ["upstream"],
        "Calls that were sent again after a failed attempt.";
    HEDGES = "daemun_upstream_hedges_total", Counter, ["upstream"],
        "Second calls that were made beside one that took long.";
    FALLBACKS = "daemun_upstream_fallbacks_total", Counter, ["upstream", "kind"],
        "Calls that failed and that something else stood in for: answer, upstream or cached.";
    UPSTREAM_FAULTS = "daemun_upstream_faults_total", Counter, ["upstream", "reason"],
        "Calls to an upstream that failed after all attempts, those included that something stood in for.";
    CONNECTIONS_OPEN = "daemun_connections_open", Gauge, [],
        "Client connections that are open.";
    CONNECTIONS_ACCEPTED = "daemun_connections_accepted_total", Counter, [],
        "Client connections that were accepted.";
    CONNECTIONS_REFUSED = "daemun_connections_refused_total", Counter, [],
        "Client connections that were refused because too many were open.";
    FAILED_HANDSHAKES = "daemun_tls_handshakes_failed_total", Counter, [],
        "TLS handshakes of clients that failed.";
    UNNAMED_CONNECTIONS = "daemun_proxy_protocol_refused_total", Counter, [],
        "Client connections that were closed for want of a PROXY protocol header from who is believed.";
    LOST_LINES = "daemun_access_log_lost_lines_total", Counter, [],
        "Access-log lines that could not be written.";
    LOG_ERRORS = "daemun_access_log_write_errors_total", Counter, [],
        "Failed attempts to write or re-open the access log.";
    RELOADS = "daemun_config_reloads_total", Counter, ["result"],
        "Attempts to reload the configuration.";
    RELOAD_OK = "daemun_config_last_reload_ok", Gauge, [],
        "1 when the newest configuration is the one that runs, 0 when it was refused.";
    GENERATION = "daemun_config_generation", Gauge, [],
        "Number of the running configuration, counted from 1 at the start.";
    LOADED_AT = "daemun_config_loaded_timestamp_seconds", Gauge, [],
        "When the running configuration was published, in Unix time.";
    BUILD = "daemun_build_info", Gauge, ["version", "commit"],
        "Always 1; the labels tell what runs.";
    WORKERS = "daemun_workers", Gauge, [],
        "Worker threads.";
    STARTED = "daemun_process_start_time_seconds", Gauge, [],
        "When the process started, in Unix time.";
    RING = "daemun_recent_requests_capacity", Gauge, [],
        "Requests that all workers together keep for the admin listener.";
    TOKENS = "daemun_tokens", Gauge, [],
        "Tokens that are known here: given out, and not forgotten, which each is within seconds of its end.";
    PASSWORDS = "daemun_password_checks_total", Counter, ["by"],
        "Passwords of users that were checked, whether there is such a user or not.";
}

/// Everything as text.
pub(super) fn render(metrics: &Metrics, upstreams: &[UpstreamStatus], accounts: &OfAccounts) -> String {
    let mut out = Text(String::with_capacity(16 * 1024));
    routes(&mut out, metrics);
    reasons(&mut out, &FAULTS, |reason| sum(metrics, |w| w.faults.get(reason)));
    reasons(&mut out, &BAD_HEADS, |reason| sum(metrics, |w| w.bad_heads.get(reason)));
    verdicts(&mut out, metrics);
    targets(&mut out, metrics);
    gates(&mut out, metrics);
    standing(&mut out, upstreams);
    process(&mut out, metrics);
    out.family(&TOKENS);
    out.sample(&TOKENS, "", &[], accounts.tokens);
    out.family(&PASSWORDS);
    for (by, count) in [("hash", accounts.hashes), ("bind", accounts.binds)] {
        out.sample(&PASSWORDS, "", &[("by", &by)], count);
    }
    out.0
}

fn routes(out: &mut Text, metrics: &Metrics) {
    let sums = metrics.route_sums();
    out.family(&REQUESTS);
    for (route, sum) in &sums {
        for (code, count) in sum.statuses() {
            out.sample(&REQUESTS, "", &[("route", &route), ("code", &code)], count);
        }
    }
    out.family(&ABANDONED);
    for (route, sum) in sums.iter().filter(|(_, sum)| sum.abandoned > 0) {
        out.sample(&ABANDONED, "", &[("route", &route)], sum.abandoned);
    }
    out.family(&DURATION);
    for (route, sum) in sums.iter().filter(|(_, sum)| sum.duration.count() > 0) {
        out.histogram(&DURATION, &[("route", &route)], &sum.duration);
    }
    let used = || sums.iter().filter(|(_, sum)| sum.duration.count() + sum.abandoned > 0);
    out.family(&REQUEST_BYTES);
    for (route, sum) in used() {
        out.sample(&REQUEST_BYTES, "", &[("route", &route)], sum.bytes_in);
    }
    out.family(&RESPONSE_BYTES);
    for (route, sum) in used() {
        out.sample(&RESPONSE_BYTES, "", &[("route", &route)], sum.bytes_out);
    }
}

fn reasons(out: &mut Text, family: &Family, count: impl Fn(usize) -> u64) {
    out.family(family);
    for (index, reason) in Reason::ALL.iter().enumerate() {
        out.sample(family, "", &[("reason", &reason.code())], count(index));
    }
}

fn verdicts(out: &mut Text, metrics: &Metrics) {
    out.family(&VERDICTS);
    for (index, policy) in metrics.setup.policies.iter().enumerate() {
        for verdict in PolicyVerdict::ALL {
            let count = sum(metrics, |w| w.verdicts.get(index).and_then(|cells| cells.get(verdict as usize)));
            out.sample(&VERDICTS, "", &[("policy", policy), ("verdict", &verdict.as_str())], count);
        }
    }
}

fn targets(out: &mut Text, metrics: &Metrics) {
    let mut sums = metrics.target_sums();
    sums.retain(|(_, sum)| sum.connects + sum.connect_failures + sum.answers.iter().sum::<u64>() > 0);
    out.family(&UPSTREAM_REQUESTS);
    for (name, sum) in &sums {
        for (class, count) in ANSWER_CLASSES.iter().zip(sum.answers).filter(|(_, count)| *count > 0) {
            let labels: [Label<'_>; 3] = [("upstream", &name.upstream), ("target", &name.url), ("class", class)];
            out.sample(&UPSTREAM_REQUESTS, "", &labels, count);
        }
    }
    out.family(&UPSTREAM_DURATION);
    for (name, sum) in sums.iter().filter(|(_, sum)| sum.response.count() > 0) {
        out.histogram(&UPSTREAM_DURATION, &[("upstream", &name.upstream), ("target", &name.url)], &sum.response);
    }
    out.family(&UPSTREAM_CONNECTS);
    for (name, sum) in &sums {
        out.sample(&UPSTREAM_CONNECTS, "", &[("upstream", &name.upstream), ("target", &name.url)], sum.connects);
    }
    out.family(&UPSTREAM_CONNECT_FAILURES);
    for (name, sum) in &sums {
        let labels: [Label<'_>; 2] = [("upstream", &name.upstream), ("target", &name.url)];
        out.sample(&UPSTREAM_CONNECT_FAILURES, "", &labels, sum.connect_failures);
    }
}

fn gates(out: &mut Text, metrics: &Metrics) {
    let sums = metrics.upstream_sums();
    let bounded = || sums.iter().filter(|(_, sum)| sum.bounded);
    type Value = fn(&UpstreamSum) -> Option<usize>;
    let gauges: [(&Family, Value); 3] = [
        (&CALLS_IN_FLIGHT, |sum| Some(sum.in_flight)),
        (&CALLS_LIMIT, |sum| sum.limit),
        (&CALLS_WAITING, |sum| Some(sum.waiting)),
    ];
    for (family, value) in gauges {
        out.family(family);
        for (name, value) in bounded().filter_map(|(name, sum)| Some((name, value(sum)?))) {
            out.sample(family, "", &[("upstream", &name)], value);
        }
    }
    out.family(&CALLS_SHED);
    for (name, sum) in bounded() {
        for (class, count) in CLASSES.iter().zip(sum.shed) {
            out.sample(&CALLS_SHED, "", &[("upstream", name), ("importance", class)], count);
        }
    }
    failures(out, &sums);
}

/// What was done about calls that failed or took long, of upstreams where there were any.
fn failures(out: &mut Text, sums: &[(Box<str>, UpstreamSum)]) {
    type Count = fn(&UpstreamSum) -> u64;
    let counters: [(&Family, Count); 2] = [(&RETRIES, |sum| sum.retries), (&HEDGES, |sum| sum.hedges)];
    for (family, value) in counters {
        out.family(family);
        for (name, count) in sums.iter().map(|(name, sum)| (name, value(sum))).filter(|(_, count)| *count > 0) {
            out.sample(family, "", &[("upstream", name)], count);
        }
    }
    let fallbacks = Fallback::ALL.map(Fallback::as_str);
    let reasons = Reason::ALL.iter().map(|reason| reason.code()).collect::<Vec<_>>();
    type Values = fn(&UpstreamSum) -> &[u64];
    let labelled: [(&Family, &str, &[&'static str], Values); 2] = [
        (&FALLBACKS, "kind", &fallbacks, |sum| &sum.fallbacks),
        (&UPSTREAM_FAULTS, "reason", &reasons, |sum| &sum.faults),
    ];
    for (family, label, texts, values) in labelled {
        out.family(family);
        for (name, sum) in sums {
            for (text, count) in texts.iter().zip(values(sum)).filter(|(_, count)| **count > 0) {
                out.sample(family, "", &[("upstream", name), (label, text)], count);
            }
        }
    }
}

/// How upstreams and their targets stand, as far as there is room for names.
fn standing(out: &mut Text, upstreams: &[UpstreamStatus]) {
    let all = || upstreams.iter().flat_map(|upstream| upstream.targets.iter().map(move |target| (upstream, target)));
    let each = || all().take(MOST_NAMES);
    out.family(&TARGET_HEALTHY);
    for (upstream, target) in each() {
        let healthy = u8::from(target.standing == Standing::Healthy);
        out.sample(&TARGET_HEALTHY, "", &[("upstream", &upstream.name), ("target", &target.url)], healthy);
    }
    out.family(&TARGET_STATE);
    for (upstream, target) in each() {
        let state = target.standing.as_str();
        let labels: [Label<'_>; 3] = [("upstream", &upstream.name), ("target", &target.url), ("state", &state)];
        out.sample(&TARGET_STATE, "", &labels, 1);
    }
    out.family(&TARGET_EJECTIONS);
    for (upstream, target) in each().filter(|(_, target)| target.ejections > 0) {
        let labels: [Label<'_>; 2] = [("upstream", &upstream.name), ("target", &target.url)];
        out.sample(&TARGET_EJECTIONS, "", &labels, target.ejections);
    }
    out.family(&TARGET_CALLS);
    for ((upstream, target), calls) in each().filter_map(|each| each.1.in_flight.map(|calls| (each, calls))) {
        out.sample(&TARGET_CALLS, "", &[("upstream", &upstream.name), ("target", &target.url)], calls);
    }
    out.family(&BREAKER);
    for (upstream, breaker) in upstreams.iter().filter_map(|upstream| Some((upstream, upstream.breaker?))) {
        let state = match breaker {
            "closed" => 0,
            "half_open" => 1,
            _ => 2,
        };
        out.sample(&BREAKER, "", &[("upstream", &upstream.name)], state);
    }
    out.family(&DISCOVERY);
    let found = upstreams.iter().filter_map(|upstream| Some((upstream, upstream.finding.as_ref()?)));
    for (upstream, finding) in found.take(MOST_NAMES) {
        out.sample(&DISCOVERY, "", &[("upstream", &upstream.name)], u8::from(finding.trouble.is_none()));
    }
    out.family(&PANIC);
    for upstream in upstreams.iter().filter(|upstream| upstream.may_panic).take(MOST_NAMES) {
        out.sample(&PANIC, "", &[("upstream", &upstream.name)], u8::from(upstream.panic));
    }
}

fn process(out: &mut Text, metrics: &Metrics) {
    use std::sync::atomic::Ordering::Relaxed;

    let setup = &metrics.setup;
    // closed is read first: a connection that closes meanwhile is shown as open, never the other way round
    let closed = sum(metrics, |w| Some(&w.closed));
    let accepted = sum(metrics, |w| Some(&w.accepted));
    out.one(&CONNECTIONS_OPEN, accepted.saturating_sub(closed));
    out.one(&CONNECTIONS_ACCEPTED, accepted);
    out.one(&CONNECTIONS_REFUSED, sum(metrics, |w| Some(&w.refused)));
    out.one(&FAILED_HANDSHAKES, sum(metrics, |w| Some(&w.failed_handshakes)));
    out.one(&UNNAMED_CONNECTIONS, sum(metrics, |w| Some(&w.unnamed)));
    out.one(&LOST_LINES, metrics.log.lost_lines.load(Relaxed));
    out.one(&LOG_ERRORS, metrics.log.write_errors.load(Relaxed));
    let reloads = metrics.reloads();
    out.family(&RELOADS);
    out.sample(&RELOADS, "", &[("result", &"ok")], reloads.succeeded);
    out.sample(&RELOADS, "", &[("result", &"failed")], reloads.failed);
    out.one(&RELOAD_OK, u8::from(reloads.last_succeeded));
    out.one(&GENERATION, reloads.generation);
    out.one(&LOADED_AT, Seconds(reloads.last_success));
    out.family(&BUILD);
    out.sample(&BUILD, "", &[("version", &setup.version), ("commit", &setup.commit)], 1);
    out.one(&WORKERS, setup.workers);
    out.one(&STARTED, Seconds(setup.started));
    out.one(&RING, RING_SLOTS * setup.workers);
}

fn sum<'a>(metrics: &'a Metrics, cell: impl Fn(&'a WorkerCells) -> Option<&'a super::cells::Cell>) -> u64 {
    metrics.workers.iter().filter_map(cell).map(super::cells::Cell::get).sum()
}

type Label<'a> = (&'a str, &'a dyn Display);

/// Nanoseconds, shown as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if rest == 0 { write!(f, "{whole}") } else { write!(f, "{whole}.{rest:09}") }
    }
}

/// Writing to a `String` cannot fail, so the results of `write!` are dropped.
struct Text(String);

impl Text {
    fn family(&mut self, family: &Family) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {0} {1}\n# TYPE {0} {kind}", family.name, family.help);
    }

    fn one(&mut self, family: &Family, value: impl Display) {
        self.family(family);
        self.sample(family, "", &[], value);
    }

    fn sample(&mut self, family: &Family, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        self.0.push_str(family.name);
        self.0.push_str(suffix);
        for (position, (name, text)) in labels.iter().enumerate() {
            self.0.push(if position == 0 { '{' } else { ',' });
            self.0.push_str(name);
            self.0.push_str("=\"");
            let _ = write!(Escaped(&mut self.0), "{text}");
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, family: &Family, labels: &[Label<'_>], sum: &HistogramSum) {
        let mut below = 0;
        let bounds = BOUNDS.iter().map(|(_, shown)| *shown).chain(["+Inf"]);
        for (bound, count) in bounds.zip(sum.buckets) {
            below += count;
            let with_bound: Vec<Label<'_>> = labels.iter().copied().chain([("le", &bound as &dyn Display)]).collect();
            self.sample(family, "_bucket", &with_bound, below);
        }
        self.sample(family, "_sum", labels, Seconds(sum.sum));
        self.sample(family, "_count", labels, below);
    }
}

/// Escapes a label's value: backslash, quote and line feed.
struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
