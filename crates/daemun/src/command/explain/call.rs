//! What an explanation says of a call to an upstream beside its head: who gets it, what bounds it, and what is done when it fails. Only what
//! is configured is said.

use std::time::Duration;

use daemun_config::model::{
    Balance, Breaker, Config, Destination, Discover, DnsRecords, Fallback, FallbackTo, HashBy, Importance, RetryOn,
    Route, Source, Upstream,
};
use daemun_dataplane::Snapshot;
use daemun_dataplane::explain::Explained;
use daemun_pipeline::Method;

use super::mask::Mask;
use crate::run::discover::in_file;

/// What is told, in a word, and how it is.
pub(super) type Line = (&'static str, String);

/// Gives the targets that files list to the upstreams of a snapshot that is not run; of other sources nobody is asked.
pub(super) fn read_lists(config: &Config, snapshot: &Snapshot) {
    for (upstream, compiled) in config.upstreams.iter().zip(snapshot.upstreams()) {
        if let Some(Discover { source: Source::File(path), .. }) = &upstream.discover
            && let Ok(found) = in_file(path)
        {
            compiled.replace_targets(&found);
        }
    }
}

/// What is to be told of a call.
pub(super) fn lines(config: &Config, method: &str, explained: &Explained, mask: &Mask) -> Vec<Line> {
    let name = explained.route.as_deref();
    let Some(route) = config.routes.iter().find(|route| Some(route.name.value.as_str()) == name) else {
        return Vec::new();
    };
    let (Destination::Upstream(index), Some(_)) = (&route.destination, &explained.upstream) else { return Vec::new() };
    let Some(upstream) = config.upstreams.get(*index) else { return Vec::new() };
    let method = Asked { method, repeats: Method::of(method.as_bytes()).is_idempotent() };
    let lines = [
        ("standing", standing(explained)),
        ("targets", upstream.discover.as_ref().map(|discover| found(discover, explained))),
        ("balance", balance(upstream, explained, mask)),
        ("importance", importance(explained)),
        ("limits", limits(upstream)),
        ("concurrency", concurrency(upstream)),
        ("retry", retry(route, upstream, method)),
        ("hedge", hedge(upstream, method)),
        ("breaker", upstream.breaker.as_ref().map(breaker)),
        (
            "fallback",
            route.fallback.as_ref().map_or(upstream.fallback.as_ref(), Option::as_ref).map(|of| fallback(of, method)),
        ),
        ("mirror", mirror(route)),
    ];
    lines.into_iter().filter_map(|(what, how)| Some((what, how?))).collect()
}

/// The method of the request.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a str,
    /// It may be repeated.
    repeats: bool,
}

impl Asked<'_> {
    /// What is said of a call that is not made twice.
    fn unsafe_note(self) -> String {
        if self.repeats {
            return String::new();
        }
        format!("; `{}` only where it had no effect", self.method)
    }
}

/// Tier and zone of the target, where there are others.
fn standing(explained: &Explained) -> Option<String> {
    let targets = &explained.upstream.as_ref()?.targets;
    let target = targets.iter().find(|target| Some(&target.url) == explained.target.as_ref())?;
    let tier = targets.iter().any(|other| other.tier != target.tier).then(|| format!("tier {}", target.tier));
    let zone = target.zone.as_ref().map(|zone| format!("zone {zone}"));
    let parts: Vec<String> = [tier, zone].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn found(discover: &Discover, explained: &Explained) -> String {
    let by = match &discover.source {
        Source::Dns(dns) => {
            let records = match dns.records {
                DnsRecords::A => "A",
                DnsRecords::Aaaa => "AAAA",
                DnsRecords::Addresses => "A and AAAA",
                DnsRecords::Srv => "SRV",
            };
            format!("{records} records of `{}`", dns.name)
        }
        Source::File(path) => {
            let now = match in_file(path) {
                Ok(found) if found.is_empty() => "which lists none now".to_owned(),
                Ok(_) => "as it is now".to_owned(),
                Err(why) => format!("which cannot be read: {why}"),
            };
            return format!("of the file `{}`, {now}", path.display());
        }
        Source::Http(http) => format!("a list that `{}` serves", http.server.authority),
        Source::Consul(consul) => {
            format!("the service `{}` of Consul at `{}`", consul.service, consul.server.authority)
        }
        Source::Kubernetes(kubernetes) => {
            let namespace = kubernetes.namespace.as_deref().map(|name| format!("{name}/")).unwrap_or_default();
            format!("the service `{namespace}{}` of Kubernetes", kubernetes.service)
        }
    };
    let more = if explained.found_later { "" } else { "more are " };
    format!("{more}found while the gateway runs, by {by}")
}

fn balance(upstream: &Upstream, explained: &Explained, mask: &Mask) -> Option<String> {
    let value = |hidden: bool| match &explained.kept_by {
        None => "which the request lacks".to_owned(),
        Some(_) if hidden => "here `…`".to_owned(),
        Some(value) => format!("here `{}`", mask.value(value)),
    };
    Some(match &upstream.balance {
        Balance::RoundRobin => return None,
        Balance::LeastRequests => "least_requests".to_owned(),
        Balance::Latency => "latency".to_owned(),
        Balance::Hash(by) => {
            let (what, hidden) = match by {
                HashBy::ClientIp => ("the client's address".to_owned(), false),
                HashBy::Consumer => ("the consumer".to_owned(), false),
                HashBy::Header(name) => (format!("the header `{name}`"), Mask::hides(name)),
                HashBy::Cookie(name) => (format!("the cookie `{name}`"), true),
                HashBy::Query(name) => (format!("the query parameter `{name}`"), false),
                HashBy::Param(name) => (format!("the path parameter `{name}`"), false),
                // what it reads may be a credential
                HashBy::Expression(text) => (format!("`{}`", text.value), true),
            };
            format!("hash of {what}, {}", value(hidden))
        }
        Balance::Sticky(sticky) => format!("sticky by the cookie `{}`, {}", sticky.cookie, value(true)),
    })
}

fn importance(explained: &Explained) -> Option<String> {
    let (importance, own) = explained.importance;
    let word = match importance {
        Importance::High => "high",
        Importance::Normal if own => "normal",
        Importance::Normal => return None,
        Importance::Low => "low",
    };
    Some(format!("{word}{}", if own { ", the consumer's own" } else { "" }))
}

fn limits(upstream: &Upstream) -> Option<String> {
    let limits = &upstream.limits;
    let bounds = [
        (limits.requests, "calls at once"),
        (limits.connections, "connections"),
        (limits.target_requests, "calls at once at each target"),
        (limits.target_connections, "connections to each target"),
    ];
    let mut parts: Vec<String> =
        bounds.iter().filter_map(|(bound, of)| bound.map(|bound| format!("{bound} {of}"))).collect();
    if parts.is_empty() && upstream.concurrency.is_none() {
        return None;
    }
    parts.push(match limits.queue {
        0 => "none waits".to_owned(),
        queue => format!("{queue} more wait up to {}", time(limits.queue_timeout)),
    });
    Some(parts.join(", "))
}

fn concurrency(upstream: &Upstream) -> Option<String> {
    upstream.concurrency.map(|learned| format!("learned, {} to {} calls at once", learned.min, learned.max))
}

fn retry(route: &Route, upstream: &Upstream, method: Asked<'_>) -> Option<String> {
    let retry = match &route.retry {
        Some(own) => own.as_ref(),
        None => upstream.retry.as_ref(),
    };
    let Some(retry) = retry.filter(|retry| retry.retries > 0) else {
        return route.retry.as_ref().map(|_| "off".to_owned());
    };
    let on: Vec<String> = retry
        .on
        .iter()
        .map(|on| match on {
            RetryOn::ConnectFailure => "connect_failure".to_owned(),
            RetryOn::Reset => "reset".to_owned(),
            RetryOn::Timeout => "timeout".to_owned(),
            RetryOn::Status(status) => status.to_string(),
        })
        .collect();
    let times = if retry.retries == 1 { "once".to_owned() } else { format!("up to {} times", retry.retries) };
    let budget = share(retry.budget);
    Some(format!("{times}, after {}, {budget} of all calls at most{}", on.join(", "), method.unsafe_note()))
}

fn hedge(upstream: &Upstream, method: Asked<'_>) -> Option<String> {
    let hedge = upstream.hedge?;
    if !method.repeats {
        return Some(format!("none for `{}`", method.method));
    }
    Some(format!("a second call after {}, {} of all calls at most", time(hedge.after), share(hedge.budget)))
}

fn breaker(breaker: &Breaker) -> String {
    let ratio = breaker.failure_ratio.map(|ratio| format!("{} failed calls of {}", share(ratio), time(breaker.window)));
    let row = breaker.consecutive.map(|most| format!("{most} failed calls in a row"));
    let slow = breaker.slow.map(|(limit, part)| format!("{} calls slower than {}", share(part), time(limit)));
    let when: Vec<String> = [ratio, row, slow].into_iter().flatten().collect();
    format!("opens after {}, for {}", when.join(" or "), time(breaker.open_for))
}

fn fallback(fallback: &Fallback, method: Asked<'_>) -> String {
    let failure = fallback.on_failure.then(|| "failure".to_owned());
    let statuses = fallback.on_status.iter().map(u16::to_string);
    let on: Vec<String> = failure.into_iter().chain(statuses).collect();
    let cached = fallback.cached.as_ref().filter(|_| matches!(method.method, "GET" | "HEAD"));
    let cached = cached.map(|cached| format!("the last good answer, if it is no older than {}", time(cached.keep)));
    let to = fallback.to.as_ref().map(|to| match to {
        FallbackTo::Upstream(name) => format!("upstream {}{}", name.value, method.unsafe_note()),
        FallbackTo::Answer(answer) => format!("answer {}", answer.status),
    });
    let to: Vec<String> = cached.into_iter().chain(to).collect();
    if to.is_empty() {
        return format!("none for `{}`", method.method);
    }
    format!("after {}, {}", on.join(", "), to.join(", else "))
}

fn mirror(route: &Route) -> Option<String> {
    let mirror = route.mirror.as_ref()?;
    let part =
        if mirror.share == 10_000 { "every call".to_owned() } else { format!("{} of the calls", share(mirror.share)) };
    Some(format!("{part} to upstream {} as well", mirror.upstream.value))
}

/// Hundredths of a per cent, as they are written.
fn share(basis_points: u32) -> String {
    let (whole, part) = (basis_points / 100, basis_points % 100);
    let text =
        if part == 0 { whole.to_string() } else { format!("{whole}.{part:02}").trim_end_matches('0').to_owned() };
    text + "%"
}

/// A duration in the largest unit that it is whole in.
fn time(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_written_as_they_are_in_a_configuration() {
        for (basis_points, text) in [(0, "0%"), (5_000, "50%"), (1_250, "12.5%"), (1, "0.01%"), (10_000, "100%")] {
            assert_eq!(share(basis_points), text);
        }
        for (millis, text) in
            [(0, "0ms"), (80, "80ms"), (1_000, "1s"), (90_000, "90s"), (600_000, "10m"), (7_200_000, "2h")]
        {
            assert_eq!(time(Duration::from_millis(millis)), text);
        }
    }
}
