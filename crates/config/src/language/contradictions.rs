//! Settings that are each fine and together never do what they say: of one upstream, and of the routes that lead to it. Knows no policy but
//! whether it tells who calls.

use super::Whole;
use crate::decode::Decoder;
use crate::diagnostic::{CONTRADICTION, Diagnostic};
use crate::model::{
    Balance, Config, Destination, Fallback, FallbackTo, HashBy, PathMatch, Route, Spanned, Target, Upstream,
};
use crate::tree::{At, Node, clip};

/// How long an answer may take unless it is said.
const RESPONSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Warns of what contradicts itself in the sound parts of a configuration.
pub(super) fn check(config: &Config, whole: Whole, root: &Node, cx: &mut Decoder<'_>) {
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let name = upstream.name.value.as_str();
        let node = root.get("upstreams").and_then(|upstreams| upstreams.get(name));
        let of = Of { upstream, node, path: format!("upstreams.{name}") };
        of.targets(cx);
        of.fallback(cx);
        of.hedge(config, whole, index, cx);
        of.alone(cx);
        of.bounds(cx);
    }
    // what is left out has moved the others
    if whole.upstreams {
        let written = root.get("routes").and_then(Node::as_seq).unwrap_or_default();
        // looked up, since there may be a hundred thousand
        let by_name: std::collections::HashMap<At, &Node> =
            written.iter().filter_map(|item| Some((item.get("name")?.at, item))).collect();
        for route in &config.routes {
            of_route(config, whole, route, by_name.get(&route.name.at).copied(), cx);
        }
    }
}

/// An upstream, and where it is written.
struct Of<'a> {
    upstream: &'a Upstream,
    node: Option<&'a Node>,
    path: String,
}

impl Of<'_> {
    fn at(&self, keys: &[&str]) -> At {
        at(self.node, keys, self.upstream.name.at)
    }

    fn targets(&self, cx: &mut Decoder<'_>) {
        let targets = &self.upstream.targets;
        let is_out = |target: &Target| target.drain || target.weight == 0;
        let found_too = self.upstream.discover.is_some();
        // that all weights are zero is an error of its own
        if !found_too && targets.iter().all(is_out) && targets.iter().any(|target| target.drain) {
            let message =
                "no target gets a call, so every call is answered with 503: all are drained or have no weight";
            let found = Diagnostic::warning(CONTRADICTION, self.at(&["targets"]), message);
            cx.report(found.path(format!("{}.targets", self.path)).help("leave `drain` out at one of them"));
        }
        let mut seen: std::collections::HashMap<_, At> = std::collections::HashMap::new();
        for (position, target) in targets.iter().enumerate() {
            let place = (&target.address, target.tls, target.base_path.as_str());
            let Some(first) = seen.insert(place, target.url.at) else { continue };
            seen.insert(place, first);
            let message = format!("the target `{}` is given twice, and gets twice the calls", clip(&target.url.value));
            let found = Diagnostic::warning(CONTRADICTION, target.url.at, message);
            let help = "a greater share is written `{ url: …, weight: 2 }`";
            let path = format!("{}.targets[{position}]", self.path);
            cx.report(found.path(path).related(first, "first given here").help(help));
        }
    }

    /// What needs another target, or one that comes back.
    fn alone(&self, cx: &mut Decoder<'_>) {
        let upstream = self.upstream;
        if upstream.hedge.is_some() && upstream.discover.is_none() && upstream.targets.len() == 1 {
            let message = "a second call is never made: it goes to another target, and there is one only";
            let found = Diagnostic::warning(CONTRADICTION, self.at(&["hedge"]), message);
            cx.report(found.path(format!("{}.hedge", self.path)).help("add a target, or leave `hedge` out"));
        }
        if upstream.slow_start.is_some() && upstream.health.is_none() && upstream.outliers.is_none() {
            let message = "`slow_start` never acts: a target is healthy again only where `health` or `outliers` said that it was not";
            let found = Diagnostic::warning(CONTRADICTION, self.at(&["slow_start"]), message);
            cx.report(found.path(format!("{}.slow_start", self.path)).help("add `health` or `outliers`"));
        }
    }

    /// Bounds of which one is never reached, since another is lower.
    fn bounds(&self, cx: &mut Decoder<'_>) {
        let limits = &self.upstream.limits;
        let Some(all) = limits.requests else { return };
        let mut report = |keys: &[&str], what: &str, number: usize| {
            let message =
                format!("`{what}` of {number} is never reached: `limits.requests` lets {all} calls in at once");
            let found = Diagnostic::warning(CONTRADICTION, self.at(keys), message);
            cx.report(
                found
                    .path(format!("{}.{}", self.path, keys.join(".")))
                    .help("raise `limits.requests`, or leave this out"),
            );
        };
        if let Some(each) = limits.target_requests.filter(|each| *each > all) {
            report(&["limits", "per_target", "requests"], "per_target.requests", each);
        }
        if let Some(adaptive) = self.upstream.concurrency.filter(|adaptive| adaptive.min > all) {
            report(&["concurrency"], "concurrency.min", adaptive.min);
        }
    }

    fn fallback(&self, cx: &mut Decoder<'_>) {
        let own = &self.upstream.name.value;
        to_itself(self.upstream.fallback.as_ref(), own, &format!("{}.fallback.upstream", self.path), cx);
    }

    /// A second call that the time limit of the first always comes before.
    fn hedge(&self, config: &Config, whole: Whole, index: usize, cx: &mut Decoder<'_>) {
        let Some(hedge) = &self.upstream.hedge else { return };
        let own = self.upstream.timeouts.response.unwrap_or(RESPONSE);
        let is_hers = |route: &&Route| matches!(route.destination, Destination::Upstream(to) if to == index);
        let longer = |route: &Route| route.timeouts.response.is_some_and(|limit| limit > hedge.after);
        if hedge.after < own || !whole.all() || config.routes.iter().filter(is_hers).any(longer) {
            return;
        }
        let (after, at) = (hedge.after, self.at(&["hedge", "after"]));
        let message =
            format!("a second call after {after:?} is never made: `timeouts.response` ends the first at {own:?}");
        let found = Diagnostic::warning(CONTRADICTION, at, message);
        let help = "set `after` near the time that the slowest twentieth of the answers take";
        cx.report(found.path(format!("{}.hedge.after", self.path)).help(help));
    }
}

fn of_route(config: &Config, whole: Whole, route: &Route, node: Option<&Node>, cx: &mut Decoder<'_>) {
    let Destination::Upstream(index) = route.destination else { return };
    let Some(upstream) = config.upstreams.get(index) else { return };
    let (own, path) = (&upstream.name.value, format!("routes.{}", route.name.value));
    to_itself(route.fallback.as_ref().and_then(Option::as_ref), own, &format!("{path}.fallback.upstream"), cx);
    if let Some(mirror) = route.mirror.as_ref().filter(|mirror| mirror.upstream.value == *own) {
        let message = format!("calls to `{own}` are sent to `{own}` once more, which doubles them and tries nothing");
        let found = Diagnostic::warning(CONTRADICTION, mirror.upstream.at, message);
        cx.report(found.path(format!("{path}.mirror.upstream")).help("name the upstream that is on trial"));
    }
    let Balance::Hash(by) = &upstream.balance else { return };
    let at = at(node, &["upstream"], route.name.at);
    let report = |message: String, help: &str, cx: &mut Decoder<'_>| {
        let found = Diagnostic::warning(CONTRADICTION, at, message);
        cx.report(found.path(format!("{path}.upstream")).help(help));
    };
    match by {
        HashBy::Param(name) if !has_parameter(route, name) => {
            let message = format!(
                "`{own}` is balanced by the parameter `{{{0}}}`, which the `path` of this route does not have: its calls go \
                 to any target",
                clip(name)
            );
            let help =
                format!("write a `path` like `/items/{{{0}}}`, or balance by something every request has", clip(name));
            report(message, &help, cx);
        }
        HashBy::Consumer if whole.policies && !is_authenticated(config, route, cx) => {
            let message = format!(
                "`{own}` is balanced by consumer, and nothing on this route tells who calls: its calls go to any target"
            );
            report(message, "add an authenticator, such as `key_auth`, or balance by `client_ip`", cx);
        }
        HashBy::Param(_)
        | HashBy::Consumer
        | HashBy::ClientIp
        | HashBy::Header(_)
        | HashBy::Cookie(_)
        | HashBy::Query(_)
        | HashBy::Expression(_) => {}
    }
}

/// What failed there is sent there again, as a retry would be, but without its bounds.
fn to_itself(fallback: Option<&Fallback>, own: &str, path: &str, cx: &mut Decoder<'_>) {
    let Some(Fallback { to: Some(FallbackTo::Upstream(Spanned { value, at })), .. }) = fallback else { return };
    if value == own {
        let message = format!("the fallback of calls to `{own}` is `{own}` itself");
        let found = Diagnostic::warning(CONTRADICTION, *at, message);
        cx.report(found.path(path).help("name another upstream; `retry` makes calls to the same one again"));
    }
}

fn has_parameter(route: &Route, name: &str) -> bool {
    let Some(Spanned { value: PathMatch::Pattern(pattern), .. }) = &route.matches.path else { return false };
    let names = super::pattern::parameters(pattern);
    // one that cannot be read is told elsewhere
    names.is_ok_and(|names| names.iter().any(|own| own == name))
}

fn is_authenticated(config: &Config, route: &Route, cx: &Decoder<'_>) -> bool {
    let is_one = |name: &str| cx.known_policies().iter().any(|policy| policy.name == name && policy.authenticator);
    let own = |name: &str| route.policies.iter().find(|own| own.name.value == name);
    route.policies.iter().any(|policy| policy.settings.is_some() && is_one(&policy.name.value))
        || config
            .policies
            .iter()
            .any(|policy| policy.settings.is_some() && own(&policy.name.value).is_none() && is_one(&policy.name.value))
}

/// Where a value below a node stands.
fn at(node: Option<&Node>, keys: &[&str], otherwise: At) -> At {
    let found = node.and_then(|node| keys.iter().try_fold(node, |node, key| node.get(key)));
    found.map_or(otherwise, |node| node.at)
}
