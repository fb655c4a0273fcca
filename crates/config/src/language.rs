//! The language itself: every key of a configuration, how it is checked, and how it becomes a [`Config`].

mod balance;
mod check;
mod conditions;
mod consumer;
mod contradictions;
mod credentials;
mod discover;
mod edge;
mod failure;
mod files;
pub(crate) mod gate;
mod health;
mod outliers;
mod pattern;
mod plan;
mod policies;
mod provider;
mod redirect_uri;
mod route;
pub(crate) mod saml;
pub(crate) mod target;
mod targets;
mod terms;
mod tokens;
mod upstream;
pub(crate) mod user_sources;
mod users;

pub use consumer::{MOST_PLANS, MOST_REDIRECTS};
pub use plan::read_plan;
pub use redirect_uri::{redirect_advice, why_no_redirect};
pub use targets::{TargetList, read_targets};

use serde_json::{Value as Json, json};

use crate::decode::{Bounded, Checked, Decoder, Mapping, Name, OrOff, SchemaBuilder, Setting, Status};
use crate::model::{Config, Reload, Spanned, Underscores};
use crate::policy::Vocabulary;
use crate::settings;
use crate::tree::{Node, Value};

use consumer::ConsumerText;
use edge::{
    AccessLogText, AdminText, ClientTimeoutsText, ErrorText, LimitsText, ListenerText, ProxyText, StatusText,
    trusted_proxies,
};
use plan::PlanText;
use policies::PoliciesText;
use route::RouteText;
use tokens::{StoreText, TokenServiceText};
use upstream::UpstreamText;
use users::UserText;

settings! {
    /// The configuration of a Daemun gateway.
    struct Root {
        /// Where the JSON Schema of this file is, for editors.
        _schema: Option<String> as "$schema",
        /// Worker threads; one per core when absent. The environment variable `DAEMUN_WORKERS` wins; a change needs a restart.
        workers: Option<Bounded<1, 1024>>,
        /// What makes the gateway read its configuration again.
        reload: ReloadText = "watch",
        /// Where callers come in; at least one.
        listeners: Vec<Checked<ListenerText>> = "[]",
        /// The admin listener; none when absent.
        admin: Option<AdminText>,
        /// The status listener: `/metrics`, `/upstreams`, `/healthz`, `/readyz`; none when absent.
        status: Option<StatusText>,
        /// The access log, or `off`.
        access_log: OrOff<AccessLogText> = "{ format: json, to: stdout }",
        /// Peers whose forwarding fields are believed: addresses, ranges, and `unix` for whoever connects to a Unix socket.
        trusted_proxies: Vec<ProxyText> = "[]",
        /// What happens to header fields with `_` in their name.
        underscores: UnderscoresText = "drop",
        /// Whether a request that no route of its host matches is tried under a wildcard or any host.
        hosts_fall_through: bool = "false",
        /// Bounds on what a client may send, and on how many clients there may be.
        limits: LimitsText = "{}",
        /// Time limits towards clients.
        timeouts: ClientTimeoutsText = "{}",
        /// Where the gateway is: targets of the same `zone` are preferred. `${env:ZONE}` takes it from the environment.
        zone: Option<Name>,
        /// Pools of targets, by name.
        upstreams: Mapping<Name, Checked<UpstreamText>> = "{}",
        /// Where consumers, credentials and tokens last that are not in this file: a file, or `memory`.
        store: Option<StoreText>,
        /// Services that give out tokens, by name; routes with `tokens: NAME` are where they are asked.
        tokens: Mapping<Name, Checked<TokenServiceText>> = "{}",
        /// Policies of every route; a route's own of the same name replaces one, `off` there removes it.
        policies: PoliciesText = "{}",
        /// Rules of what goes where.
        routes: Vec<Checked<RouteText>> = "[]",
        /// What consumers may be on, by name: how often each of them may call, over all routes together.
        plans: Mapping<Name, Checked<PlanText>> = "{}",
        /// Known callers.
        consumers: Vec<Checked<ConsumerText>> = "[]",
        /// People who call with a name and a password.
        users: Vec<Checked<UserText>> = "[]",
        /// Replacement bodies of the gateway's own answers, by status.
        errors: Mapping<Status, ErrorText> = "{}",
    }
}

settings! {
    /// What makes the gateway read its configuration again.
    enum ReloadText {
        /// A change of the files, and SIGHUP.
        Watch = "watch",
        /// SIGHUP alone.
        Signal = "signal",
    }
}

settings! {
    /// What happens to header fields with `_` in their name: a back end may read `_` as `-`.
    enum UnderscoresText {
        /// They are removed.
        Drop = "drop",
        /// They are passed on.
        Keep = "keep",
    }
}

/// Reads a whole configuration. What is wrong is reported; what has an error is left out.
pub(crate) fn read(root: &Node, cx: &mut Decoder<'_>) -> Option<(Config, Whole)> {
    let text = Root::decode(root, cx)?;
    let destinations = check::check(&text, root, cx);
    let whole = check::policies_are_whole(&text, root);
    let (config, whole) = text.lower(root, destinations, whole);
    contradictions::check(&config, whole, root, cx);
    Some((config, whole))
}

/// Of which parts of a configuration nothing was left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Whole {
    pub(crate) listeners: bool,
    pub(crate) upstreams: bool,
    pub(crate) policies: bool,
    pub(crate) routes: bool,
    pub(crate) consumers: bool,
}

impl Whole {
    pub(crate) fn all(self) -> bool {
        self.listeners && self.upstreams && self.policies && self.routes && self.consumers
    }
}

/// Where in the list as written each listener stands that could be read.
fn places(listeners: &[Checked<ListenerText>], node: &Node) -> Vec<usize> {
    let mut written = node.get("listeners").and_then(Node::as_seq).unwrap_or_default().iter().enumerate();
    let place = |listener: &Checked<ListenerText>| {
        let is_it = |item: &Node| item.get("bind").is_some_and(|bind| bind.at == listener.bind.at);
        written.find(|(_, item)| is_it(item)).map(|(index, _)| index).unwrap_or_default()
    };
    listeners.iter().map(place).collect()
}

/// What of a list is sound.
fn sound<T>(list: Vec<Checked<T>>) -> impl Iterator<Item = T> {
    list.into_iter().filter(|item| item.sound).map(|item| item.value)
}

impl Root {
    /// `destinations` holds, for each route, the index of its upstream.
    fn lower(self, node: &Node, destinations: Vec<Option<usize>>, policies: bool) -> (Config, Whole) {
        let written = |key: &str| match node.get(key).map(|node| &node.value) {
            None => Some(0),
            Some(Value::Seq(items)) => Some(items.len()),
            Some(Value::Map(entries)) => Some(entries.len()),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => None,
        };
        let places = places(&self.listeners, node);
        let trusted = trusted_proxies(self.trusted_proxies);
        let routes = self.routes.into_iter().zip(destinations).filter(|(route, _)| route.sound);
        let store = self.store.map(StoreText::lower);
        let config = Config {
            folders: Vec::new(),
            workers: self.workers.and_then(|workers| usize::try_from(workers.get()).ok()),
            reload: match self.reload {
                ReloadText::Watch => Reload::Watch,
                ReloadText::Signal => Reload::Signal,
            },
            listeners: self
                .listeners
                .into_iter()
                .zip(places)
                .filter(|(listener, _)| listener.sound)
                .map(|(listener, place)| listener.value.lower(place, &trusted))
                .collect(),
            admin: self.admin.map(|admin| admin.bind),
            status: self.status.map(|status| status.bind),
            access_log: match self.access_log {
                OrOff::Off => None,
                OrOff::On(log) => Some(log.lower()),
            },
            trusted_proxies: trusted,
            underscores: match self.underscores {
                UnderscoresText::Drop => Underscores::Drop,
                UnderscoresText::Keep => Underscores::Keep,
            },
            hosts_fall_through: self.hosts_fall_through,
            limits: self.limits.lower(),
            timeouts: self.timeouts.lower(),
            zone: self.zone.map(|zone| zone.0),
            upstreams: self
                .upstreams
                .0
                .into_iter()
                .filter(|(_, upstream)| upstream.sound)
                .map(|(Spanned { value, at }, upstream)| upstream.value.lower(Spanned { value: value.0, at }))
                .collect(),
            tokens: self
                .tokens
                .0
                .into_iter()
                .filter(|(_, service)| service.sound)
                .map(|(name, service)| service.value.lower(name, store.as_ref()))
                .collect(),
            store,
            policies: self.policies.0,
            routes: routes.filter_map(|(route, upstream)| route.value.lower(upstream)).collect(),
            consumers: sound(self.consumers).filter_map(ConsumerText::lower).collect(),
            users: sound(self.users).filter_map(UserText::lower).collect(),
            plans: plan::lower(self.plans),
            errors: self.errors.0.into_iter().map(|(status, error)| (status.value.0, error.lower())).collect(),
        };
        let whole = Whole {
            listeners: written("listeners") == Some(config.listeners.len()),
            upstreams: written("upstreams") == Some(config.upstreams.len()),
            policies,
            routes: written("routes") == Some(config.routes.len()),
            consumers: written("consumers") == Some(config.consumers.len()),
        };
        (config, whole)
    }
}

/// The JSON Schema (2020-12) of the configuration, the policies' settings included.
#[must_use]
pub fn schema(vocabulary: &Vocabulary<'_>) -> Json {
    let mut builder = SchemaBuilder::new(vocabulary.policies);
    let root = Root::schema(&mut builder);
    let mut definitions = builder.definitions();
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Daemun configuration",
    });
    let name = root.get("$ref").and_then(Json::as_str).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let mut body = definitions.remove(name).unwrap_or_default();
    if let Some(listeners) = body.pointer_mut("/properties/listeners").and_then(Json::as_object_mut) {
        listeners.remove("default");
        listeners.insert("minItems".to_owned(), 1.into());
    }
    if let (Some(schema), Some(body)) = (schema.as_object_mut(), body.as_object()) {
        schema.extend(body.clone());
        schema.insert("required".to_owned(), json!(["listeners"]));
        schema.insert("$defs".to_owned(), definitions.into());
    }
    schema
}
