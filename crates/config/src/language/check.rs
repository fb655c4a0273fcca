//! What spans the parts of a configuration: names that must exist and be unique, addresses that must not meet.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::consumer::ConsumerText;
use super::credentials::KeyId;
use super::edge::ListenerProxyText;
use super::plan::NOT_ASCII;
use super::policies::unknown_policy;
use super::route::{AuthenticateText, RouteText};
use super::tokens::StoreText;
use super::{Root, UnderscoresText};
use crate::decode::{Decoder, Name, OrOff};
use crate::diagnostic::{
    ADMIN_NOT_LOOPBACK, BAD_VALUE, DUPLICATE_NAME, Diagnostic, KEY_REUSED, MISSING_KEY, NO_CREDENTIALS, NO_EFFECT,
    NO_LISTENER, NO_ROUTE, NOT_AN_AUTHENTICATOR, PORT_TWICE, UNKNOWN_CONSUMER, UNKNOWN_PLAN, UNKNOWN_UPSTREAM,
    UNUSED_UPSTREAM,
};
use crate::model::{Bind, PolicyEntry, Spanned};
use crate::tree::{At, Node, clip};

/// Checks the whole; gives the index of each route's upstream.
pub(super) fn check(root: &Root, node: &Node, cx: &mut Decoder<'_>) -> Vec<Option<usize>> {
    existence(root, node, cx);
    addresses(root, node, cx);
    tokens(root, node, cx);
    proxies(root, node, cx);
    let destinations = upstreams(root, node, cx);
    routes(root, node, cx);
    underscores(root, cx);
    consumers(root, cx);
    plans(root, node, cx);
    users(root, cx);
    clients(root, cx);
    destinations
}

fn existence(root: &Root, node: &Node, cx: &mut Decoder<'_>) {
    let empty = |key: &str| node.get(key).is_none_or(|list| list.as_seq().is_some_and(<[Node]>::is_empty));
    let at = |key: &str| node.entry(key).map_or(node.at, |entry| entry.key_at);
    if root.listeners.is_empty() && empty("listeners") {
        let found = Diagnostic::error(NO_LISTENER, at("listeners"), "there is no listener, so nobody could call");
        cx.report(found.path("listeners").help("write `listeners: [{ bind: 0.0.0.0:8080 }]`"));
    }
    if root.routes.is_empty() && empty("routes") {
        let message = "there is no route, so every request is answered with 404";
        cx.report(Diagnostic::warning(NO_ROUTE, at("routes"), message).path("routes"));
    }
}

/// Tokens are kept somewhere.
fn tokens(root: &Root, node: &Node, cx: &mut Decoder<'_>) {
    let first = node.get("tokens").and_then(Node::as_map).and_then(<[crate::tree::Entry]>::first);
    if let Some(first) = first.filter(|_| root.store.is_none() && node.get("store").is_none()) {
        let found = Diagnostic::error(MISSING_KEY, first.key_at, "`store` is missing: tokens must be kept somewhere");
        let help = "write `store: { path: daemun.db }`, or `store: memory` to lose them with the process";
        cx.report(found.path(format!("tokens.{}", first.key)).help(help));
    }
    for (name, _) in root
        .tokens
        .0
        .iter()
        .filter(|(_, service)| root.users.is_empty() && service.sound && service.value.needs_users())
    {
        let message = "there are no users, so nobody gets tokens for a password";
        let found =
            Diagnostic::warning(NO_CREDENTIALS, name.at, message).path(format!("tokens.{}.grants", name.value.0));
        cx.report(found.help("write `users: [{ name: …, password: … }]`, or say with `users: …` where they are known"));
    }
    let signs = root.tokens.0.iter().find(|(_, service)| service.value.signs());
    if let (Some((name, _)), Some(store)) = (signs, &root.store)
        && store.lacks_key()
    {
        let message =
            format!("tokens of `{}` are signed, and `store.key` is missing to seal the keys under", name.value.0);
        let found = Diagnostic::error(MISSING_KEY, store.at(), message).path("store.key");
        let help = "write `key: \"${env:DAEMUN_STORE_KEY}\"`; `daemun key new` makes one that will do";
        cx.report(found.help(help));
    }
}

fn addresses(root: &Root, node: &Node, cx: &mut Decoder<'_>) {
    if let Some(admin) = &root.admin {
        let bind = &admin.bind;
        let loopback = match &bind.value {
            Bind::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Bind::Unix(_) => true,
        };
        if !loopback {
            let message = "the admin listener is off loopback, which needs TLS and login, and these are not available in this version";
            let found = Diagnostic::error(ADMIN_NOT_LOOPBACK, bind.at, message).path("admin.bind");
            cx.report(found.help("bind it to `127.0.0.1`; `status` may listen anywhere"));
        }
    }
    let mut taken: HashMap<Option<u16>, Vec<&Spanned<Bind>>> = HashMap::new();
    let places = super::places(&root.listeners, node);
    let listeners = root.listeners.iter().zip(places);
    let listeners = listeners.map(|(listener, place)| (&listener.bind, format!("listeners[{place}].bind")));
    let admin = root.admin.iter().map(|admin| (&admin.bind, "admin.bind".to_owned()));
    let status = root.status.iter().map(|status| (&status.bind, "status.bind".to_owned()));
    for (bind, path) in listeners.chain(admin).chain(status) {
        let port = match &bind.value {
            Bind::Tcp(address) => Some(address.port()),
            Bind::Unix(_) => None,
        };
        let others = taken.entry(port).or_default();
        if let Some(first) = others.iter().find(|first| meet(&first.value, &bind.value)) {
            let found = Diagnostic::error(PORT_TWICE, bind.at, "the same address is wanted twice").path(path);
            cx.report(found.related(first.at, "first wanted here"));
        } else if port != Some(0) {
            others.push(bind);
        }
    }
}

/// A listener that would believe those of `trusted_proxies` would close every connection where there are none.
fn proxies(root: &Root, node: &Node, cx: &mut Decoder<'_>) {
    let none = node.get("trusted_proxies").is_none_or(|list| list.as_seq().is_some_and(<[Node]>::is_empty));
    let places = super::places(&root.listeners, node);
    for (listener, place) in root.listeners.iter().zip(places) {
        let OrOff::On(proxy) = &listener.proxy_protocol else { continue };
        if none && matches!(proxy.value, ListenerProxyText::Trusted) {
            let message = "`proxy_protocol: true` believes those of `trusted_proxies`, and there are none";
            let found =
                Diagnostic::error(MISSING_KEY, proxy.at, message).path(format!("listeners[{place}].proxy_protocol"));
            cx.report(found.help("name the load balancers: `proxy_protocol: { from: [10.0.0.0/8] }`"));
        }
    }
}

/// Whether two listeners cannot both have their address.
fn meet(a: &Bind, b: &Bind) -> bool {
    let covers =
        |a: &SocketAddr, b: &SocketAddr| a.ip() == b.ip() || a.ip().is_unspecified() && a.is_ipv4() == b.is_ipv4();
    match (a, b) {
        (Bind::Tcp(a), Bind::Tcp(b)) => a.port() == b.port() && a.port() != 0 && (covers(a, b) || covers(b, a)),
        (Bind::Unix(a), Bind::Unix(b)) => a == b,
        (Bind::Tcp(_), Bind::Unix(_)) | (Bind::Unix(_), Bind::Tcp(_)) => false,
    }
}

/// Whether every policy for all routes is known by its name, if not by its settings.
pub(super) fn policies_are_whole(root: &Root, node: &Node) -> bool {
    root.policies.1 && node.get("policies").is_none_or(|policies| policies.as_map().is_some())
}

/// Whether it can be told which upstream each route is sent to.
fn uses_are_known(root: &Root, node: &Node) -> bool {
    let written = node.get("routes").map_or(Some(0), |routes| routes.as_seq().map(<[Node]>::len));
    let goes_somewhere = |route: &RouteText| route.upstream.is_some() || route.goes_elsewhere();
    written == Some(root.routes.len()) && root.routes.iter().all(|route| route.sound || goes_somewhere(route))
}

/// Finds the upstream of each route, and upstreams that none uses.
fn upstreams(root: &Root, node: &Node, cx: &mut Decoder<'_>) -> Vec<Option<usize>> {
    let indices: HashMap<&str, usize> =
        root.upstreams.0.iter().enumerate().map(|(index, (name, _))| (name.value.0.as_str(), index)).collect();
    // An upstream whose settings are wrong is there all the same.
    let written: HashSet<&str> = match node.get("upstreams").and_then(Node::as_map) {
        Some(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        None => HashSet::new(),
    };
    let mut used: HashSet<&str> = HashSet::new();
    let mut meant: HashSet<&str> = HashSet::new();
    let names: Vec<&str> = root.upstreams.0.iter().map(|(name, _)| name.value.0.as_str()).collect();
    let mut destinations = Vec::with_capacity(root.routes.len());
    let mut named: Vec<(&Spanned<String>, String)> = Vec::new();
    for (position, route) in root.routes.iter().enumerate() {
        let index = route.upstream.as_ref().and_then(|name| indices.get(name.value.as_str()).copied());
        destinations.push(index);
        let path = route_path(route, position);
        let fallback = match &route.fallback {
            Some(OrOff::On(fallback)) => fallback.upstream.as_ref(),
            Some(OrOff::Off) | None => None,
        };
        let mirror = route.mirror.as_ref().map(|mirror| &mirror.upstream);
        for (name, key) in
            [(route.upstream.as_ref(), "upstream"), (fallback, "fallback.upstream"), (mirror, "mirror.upstream")]
        {
            named.extend(name.map(|name| (name, format!("{path}.{key}"))));
        }
    }
    for (name, upstream) in &root.upstreams.0 {
        let fallback = upstream.value.fallback.as_ref().and_then(|fallback| fallback.upstream.as_ref());
        named.extend(fallback.map(|to| (to, format!("upstreams.{}.fallback.upstream", name.value.0))));
    }
    let of_policies = cx.take_upstreams();
    named.extend(of_policies.iter().map(|(name, path)| (name, path.clone())));
    for (name, path) in named {
        used.insert(&name.value);
        if written.contains(name.value.as_str()) {
            continue;
        }
        let near = cx.suggest(&name.value, names.iter().copied());
        meant.extend(near);
        let mut found =
            Diagnostic::error(UNKNOWN_UPSTREAM, name.at, format!("there is no upstream `{}`", clip(&name.value)));
        found = match near {
            Some(_) => found.did_you_mean(near),
            None => found.help("`upstreams` defines upstreams by name"),
        };
        cx.report(found.path(path));
    }
    let unused = |name: &str| !used.contains(name) && !meant.contains(name);
    let known = uses_are_known(root, node);
    for (name, _) in root.upstreams.0.iter().filter(|(name, _)| known && unused(&name.value.0)) {
        let message = format!("no route uses the upstream `{}`", name.value.0);
        cx.report(Diagnostic::warning(UNUSED_UPSTREAM, name.at, message).path(format!("upstreams.{}", name.value.0)));
    }
    destinations
}

fn route_path(route: &RouteText, position: usize) -> String {
    match &route.name.0 {
        Some(name) => format!("routes.{}", name.value.0),
        None => format!("routes[{position}]"),
    }
}

/// The policies that misspelt names in `policies` may mean.
fn meant_policies(root: &Root, node: &Node, cx: &mut Decoder<'_>) -> HashSet<&'static str> {
    if policies_are_whole(root, node) {
        return HashSet::new();
    }
    let known: Vec<&'static str> = cx.known_policies().iter().map(|policy| policy.name).collect();
    match node.get("policies").and_then(Node::as_map) {
        Some(entries) => entries.iter().filter_map(|entry| cx.suggest(&entry.key, known.iter().copied())).collect(),
        None => known.into_iter().collect(),
    }
}

fn routes(root: &Root, node: &Node, cx: &mut Decoder<'_>) {
    let whole = policies_are_whole(root, node);
    let meant = meant_policies(root, node, cx);
    let mut names: HashMap<&str, At> = HashMap::new();
    for (position, route) in root.routes.iter().enumerate() {
        if let Some(name) = &route.name.0
            && let Some(first) = names.insert(&name.value.0, name.at)
        {
            names.insert(&name.value.0, first);
            let found = Diagnostic::error(DUPLICATE_NAME, name.at, format!("there are two routes `{}`", name.value.0));
            cx.report(found.path(format!("routes.{}.name", name.value.0)).related(first, "the first is here"));
        }
        for policy in route.policies.0.iter().filter(|policy| policy.settings.is_none()) {
            let is_it = |global: &&PolicyEntry| global.name.value == policy.name.value && global.settings.is_some();
            let global = root.policies.0.iter().find(is_it);
            if global.is_none() && !is_implied(&policy.name.value, cx) && !meant.contains(policy.name.value.as_str()) {
                let message = format!(
                    "`{}: off` has no effect: `policies` does not switch it on for every route",
                    policy.name.value
                );
                let path = format!("{}.policies.{}", route_path(route, position), policy.name.value);
                cx.report(Diagnostic::warning(NO_EFFECT, policy.name.at, message).path(path));
            }
        }
        authenticate(root, route, position, whole && route.policies.1, cx);
    }
    for policy in root.policies.0.iter().filter(|policy| policy.settings.is_none()) {
        if is_implied(&policy.name.value, cx) {
            continue;
        }
        let message = format!(
            "`{}: off` has no effect here: only a route can switch off what `policies` switches on",
            policy.name.value
        );
        let path = format!("policies.{}", policy.name.value);
        cx.report(Diagnostic::warning(NO_EFFECT, policy.name.at, message).path(path));
    }
}

/// Whether routes have a policy that none says anything of.
fn is_implied(name: &str, cx: &Decoder<'_>) -> bool {
    cx.known_policies().iter().any(|policy| policy.implied && policy.name == name)
}

/// Fields with `_` in their names never reach a condition or a policy, unless they are kept.
fn underscores(root: &Root, cx: &mut Decoder<'_>) {
    let mut read = cx.take_underscored();
    if matches!(root.underscores, UnderscoresText::Keep) {
        return;
    }
    for (position, route) in root.routes.iter().enumerate() {
        for (name, _) in route.matches.headers.0.iter().filter(|(name, _)| name.value.0.contains('_')) {
            let path = format!("{}.match.headers.{}", route_path(route, position), name.value.0);
            read.push((path, name.at, name.value.0.clone()));
        }
    }
    for (path, at, name) in read {
        let message = format!("no request has the field `{}`: fields with `_` in their names are dropped", clip(&name));
        let found = Diagnostic::warning(NO_EFFECT, at, message).path(path);
        cx.report(found.help("write `-`, or keep such fields with `underscores: keep`"));
    }
}

/// The policies that `authenticate` names must be authenticators that the route has.
///
/// `whole`: every policy that it may have is known by name.
fn authenticate(root: &Root, route: &RouteText, position: usize, whole: bool, cx: &mut Decoder<'_>) {
    let Some(AuthenticateText { any, all, anonymous }) = &route.authenticate else { return };
    if let Some(name) = anonymous {
        anonymous_caller(root, route, position, name, whole, cx);
    }
    let (names, key) = match (any, all) {
        (Some(names), _) => (&names.0, "any"),
        (None, Some(names)) => (&names.0, "all"),
        (None, None) => return,
    };
    let path = format!("{}.authenticate.{key}", route_path(route, position));
    for name in names {
        let Some(policy) = cx.known_policies().iter().find(|policy| policy.name == name.value) else {
            let mut found = crate::Diagnostics::new();
            let policies = cx.known_policies();
            unknown_policy(&name.value, name.at, &mut Decoder::new(&mut found, &path).policies(policies));
            found.iter().for_each(|found| cx.report(found.clone()));
            continue;
        };
        let own = route.policies.0.iter().find(|own| own.name.value == name.value);
        let global = root.policies.0.iter().find(|global| global.name.value == name.value);
        let on = own.or(global).is_some_and(|policy| policy.settings.is_some());
        let message = match (policy.authenticator, on) {
            (true, true) => continue,
            (true, false) if !whole => continue,
            (false, _) => format!("`{}` does not tell who calls", clip(&name.value)),
            (true, false) => format!("the route does not have the policy `{}`", clip(&name.value)),
        };
        cx.report(Diagnostic::error(NOT_AN_AUTHENTICATOR, name.at, message).path(path.clone()));
    }
}

/// Whom calls without a credential are of must be a consumer, and there must be authenticators that would refuse them otherwise.
fn anonymous_caller(
    root: &Root,
    route: &RouteText,
    position: usize,
    name: &Spanned<Name>,
    whole: bool,
    cx: &mut Decoder<'_>,
) {
    let path = format!("{}.authenticate.anonymous", route_path(route, position));
    let known = || root.consumers.iter().filter_map(|consumer| consumer.name.0.as_ref().map(|name| &*name.value.0));
    if !known().any(|known| known == name.value.0) {
        let message = format!("there is no consumer `{}`", clip(&name.value.0));
        let found = Diagnostic::error(UNKNOWN_CONSUMER, name.at, message).path(path.clone());
        let near = cx.suggest(&name.value.0, known().take(10_000));
        let help = "`consumers` defines it: `consumers: [{ name: guest, roles: [reader] }]`";
        cx.report(if near.is_some() { found.did_you_mean(near) } else { found.help(help) });
    }
    if route.ends_in_tokens() {
        let message = "a token service is asked here, and would tell anybody what it tells those who may ask";
        cx.report(Diagnostic::error(NOT_AN_AUTHENTICATOR, name.at, message).path(path.clone()));
    }
    let own = |name: &str| route.policies.0.iter().any(|own| own.name.value == name);
    let inherited = root.policies.0.iter().filter(|global| !own(&global.name.value));
    let is_on = |name: &str| cx.known_policies().iter().any(|policy| policy.name == name && policy.authenticator);
    let mut on = inherited.chain(&route.policies.0).filter(|policy| policy.settings.is_some());
    if whole && !on.any(|policy| is_on(&policy.name.value)) {
        let message = "the route has no authenticator, so that nobody is known there, with a credential or without";
        cx.report(Diagnostic::error(NOT_AN_AUTHENTICATOR, name.at, message).path(path));
    }
}

fn consumers(root: &Root, cx: &mut Decoder<'_>) {
    let mut names: HashMap<&str, At> = HashMap::new();
    let mut keys: HashMap<[u8; 32], (usize, At)> = HashMap::new();
    let mut usernames: HashMap<&str, At> = HashMap::new();
    let mut others: HashMap<String, At> = HashMap::new();
    for (position, consumer) in root.consumers.iter().enumerate() {
        let path = match &consumer.name.0 {
            Some(name) => format!("consumers.{}", name.value.0),
            None => format!("consumers[{position}]"),
        };
        if let Some(name) = &consumer.name.0 {
            match names.get(name.value.0.as_str()) {
                None => {
                    names.insert(&name.value.0, name.at);
                }
                Some(first) => {
                    let found = Diagnostic::error(
                        DUPLICATE_NAME,
                        name.at,
                        format!("there are two consumers `{}`", name.value.0),
                    );
                    cx.report(found.path(format!("{path}.name")).related(*first, "the first is here"));
                }
            }
        }
        for Spanned { value, at } in consumer.basic.0.iter().map(|basic| &basic.username) {
            if let Some(first) = usernames.insert(&value.0, *at) {
                usernames.insert(&value.0, first);
                let found = Diagnostic::error(DUPLICATE_NAME, *at, "this username is given twice");
                cx.report(found.path(format!("{path}.basic.username")).related(first, "first given here"));
            }
        }
        twice(consumer, &path, &mut others, cx);
        for key in &consumer.keys {
            match keys.get(&key.0.value) {
                None => {
                    keys.insert(key.0.value, (position, key.0.at));
                }
                Some((other, first)) => {
                    let message = if *other == position {
                        "this key is given twice"
                    } else {
                        "this key is another consumer's as well"
                    };
                    let found = Diagnostic::error(KEY_REUSED, key.0.at, message).path(format!("{path}.keys"));
                    cx.report(found.related(*first, "first given here"));
                }
            }
        }
    }
}

/// The plans that consumers are on must be there.
fn plans(root: &Root, node: &Node, cx: &mut Decoder<'_>) {
    // one whose settings are wrong is there all the same
    let written = node.get("plans").and_then(Node::as_map).unwrap_or_default();
    let names: HashSet<&str> = written.iter().map(|entry| entry.key.as_str()).collect();
    for (name, _) in root.plans.0.iter().filter(|(name, _)| !name.value.0.is_ascii()) {
        let path = format!("plans.{}", clip(&name.value.0));
        cx.report(Diagnostic::error(BAD_VALUE, name.at, NOT_ASCII).path(path));
    }
    for consumer in &root.consumers {
        let Some(owner) = &consumer.name.0 else { continue };
        for plan in consumer.plan.0.iter().filter(|plan| !names.contains(plan.value.0.as_str())) {
            let message = format!("there is no plan `{}`", clip(&plan.value.0));
            let near = cx.suggest(&plan.value.0, written.iter().map(|entry| entry.key.as_str()).take(10_000));
            let found =
                Diagnostic::error(UNKNOWN_PLAN, plan.at, message).path(format!("consumers.{}.plan", owner.value.0));
            let help = "`plans` defines plans by name: `plans: { gold: { limit: 1000/s } }`";
            cx.report(if near.is_some() { found.did_you_mean(near) } else { found.help(help) });
        }
    }
}

/// A user and a consumer of one name would share limits and permissions.
fn users(root: &Root, cx: &mut Decoder<'_>) {
    let named = root.consumers.iter().filter_map(|consumer| consumer.name.0.as_ref());
    let consumers: HashMap<&str, At> = named.map(|name| (name.value.0.as_str(), name.at)).collect();
    let mut names: HashMap<&str, At> = HashMap::new();
    for name in root.users.iter().filter_map(|user| user.name.0.as_ref()) {
        let (text, path) = (name.value.0.as_str(), format!("users.{}.name", name.value.0));
        if let Some(first) = names.get(text) {
            let found = Diagnostic::error(DUPLICATE_NAME, name.at, format!("there are two users `{}`", clip(text)));
            cx.report(found.path(path).related(*first, "the first is here"));
            continue;
        }
        names.insert(text, name.at);
        if let Some(consumer) = consumers.get(text) {
            let message = format!(
                "a consumer is named `{}` as well, and one would have the permissions of the other",
                clip(text)
            );
            let found = Diagnostic::error(DUPLICATE_NAME, name.at, message).path(path);
            cx.report(found.related(*consumer, "the consumer is here"));
        }
    }
}

/// Clients that ask for logins of users are known by one name each, and there is somebody to ask.
fn clients(root: &Root, cx: &mut Decoder<'_>) {
    let named =
        root.consumers.iter().filter_map(|consumer| consumer.name.0.as_ref().map(|name| (name, &consumer.value)));
    let clients: Vec<_> = named.filter(|(_, consumer)| !consumer.redirect_uris.0.is_empty()).collect();
    let logins = root.consumers.iter().flat_map(|consumer| consumer.basic.0.iter().map(|basic| &basic.username));
    let usernames: HashMap<&str, At> = logins.map(|name| (name.value.0.as_str(), name.at)).collect();
    for (name, _) in clients.iter().filter(|(_, consumer)| consumer.basic.0.is_empty()) {
        if let Some(other) = usernames.get(name.value.0.as_str()) {
            let message = format!("two clients would be known by `{}`", clip(&name.value.0));
            let found = Diagnostic::error(DUPLICATE_NAME, name.at, message);
            let found = found.path(format!("consumers.{}.name", name.value.0));
            cx.report(found.related(*other, "the other is known by this username"));
        }
    }
    let is_whole = root.tokens.0.iter().all(|(_, service)| service.sound);
    let mut services = root.tokens.0.iter().filter(|(_, service)| service.value.gives_for_codes()).peekable();
    if services.peek().is_none() && is_whole {
        for (name, _) in &clients {
            let message =
                "no token service gives tokens for logins of users, so nothing is ever sent back to `redirect_uris`";
            let found = Diagnostic::warning(NO_EFFECT, name.at, message);
            let found = found.path(format!("consumers.{}.redirect_uris", name.value.0));
            cx.report(found.help("add `authorization_code` to the `grants` of one, and a `provider`"));
        }
    }
    let are_whole = root.consumers.iter().all(|consumer| consumer.sound);
    // others are made over the admin listener, and a file may have them already
    let may_be_held = root.admin.is_some() || !root.store.as_ref().is_some_and(StoreText::is_memory);
    for (name, _) in services.filter(|_| clients.is_empty() && are_whole && !may_be_held) {
        let message = "no consumer has `redirect_uris`, so no client can ask for a login";
        let found =
            Diagnostic::warning(NO_CREDENTIALS, name.at, message).path(format!("tokens.{}.grants", name.value.0));
        cx.report(found.help("write `redirect_uris: [https://app.example.com/callback]` at a consumer"));
    }
}

/// Reports certificates and ids of keys that stand twice: nobody could say whose they are.
fn twice(consumer: &ConsumerText, path: &str, known: &mut HashMap<String, At>, cx: &mut Decoder<'_>) {
    let certificates = consumer.certificates.0.iter().map(|rule| (rule.key(), "certificates", "this certificate"));
    let id = |id: &Spanned<KeyId>| (format!("id {}", id.value.0), id.at);
    let secrets = consumer.hmac.0.iter().map(|key| (id(&key.id), "hmac.id", "this id of a key"));
    let keys = consumer.signing_keys.0.iter().map(|key| (id(&key.id), "signing_keys.id", "this id of a key"));
    for ((key, at), within, what) in certificates.chain(secrets).chain(keys) {
        match known.get(&key) {
            None => _ = known.insert(key, at),
            Some(first) => {
                let found = Diagnostic::error(DUPLICATE_NAME, at, format!("{what} is given twice"));
                cx.report(found.path(format!("{path}.{within}")).related(*first, "first given here"));
            }
        }
    }
}
