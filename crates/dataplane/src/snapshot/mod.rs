//! One compiled configuration: router, routes with their chains and destinations, upstreams. Immutable, shared by all workers.

mod callers;
mod compile;
mod own_paths;
pub(crate) mod failure;
pub(crate) mod reach;
pub(crate) mod set;
pub(crate) mod template;
pub(crate) mod upstream;
pub(crate) mod ways;

use std::collections::HashMap;
use std::sync::Arc;

use daemun_config::model::{
    Answer as AnswerConfig, CredentialName, Files, Importance, ListenerProxy, Terms, TrustedProxies,
};
use daemun_pipeline::expression::Text;
use daemun_pipeline::{Answer, Consumer, Directory};

use crate::chain::Chain;
use crate::http1::parse::Bounds;
use crate::record::RouteCells;
use crate::record::events::Sparing;
use crate::respond::ErrorBodies;
use crate::router::Router;
use failure::OwnFailure;
use template::Template;
use upstream::Upstream;

/// A compiled configuration.
pub struct Snapshot {
    pub(crate) router: Router,
    pub(crate) routes: Vec<Route>,
    pub(crate) unmatched: Chain,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) directory: Arc<Directory>,
    /// What comes before requests at a listener, where anything does, by its name.
    pub(crate) entrances: HashMap<String, Entrance>,
    /// Whether an upstream is told whose connection a call came over.
    pub(crate) tells_ends: bool,
    pub(crate) settings: Settings,
    /// Of each consumer, by its position in the directory.
    pub(crate) importance: Vec<Option<Importance>>,
}

/// What comes before requests at a listener.
#[derive(Clone)]
pub(crate) struct Entrance {
    /// Lines about connections without the header it asks for.
    pub(crate) unnamed: Arc<Sparing>,
    /// First, a header of the PROXY protocol.
    pub(crate) proxy: Option<Arc<ListenerProxy>>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// What holds for every exchange. Times in nanoseconds.
pub(crate) struct Settings {
    pub(crate) bounds: Bounds,
    pub(crate) body: u64,
    pub(crate) connections: usize,
    pub(crate) head: u64,
    pub(crate) body_idle: u64,
    pub(crate) write_idle: u64,
    pub(crate) keep_alive: u64,
    pub(crate) stream_idle: u64,
    pub(crate) min_rate: u64,
    pub(crate) min_rate_after: u64,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) errors: ErrorBodies,
}

/// A compiled route; one cache line, for there may be very many.
#[repr(align(64))]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    /// Tells it from other routes, the same over reloads.
    pub(crate) key: u64,
    pub(crate) chain: Arc<Chain>,
    pub(crate) destination: Destination,
    pub(crate) cells: Arc<RouteCells>,
    pub(crate) own: Arc<Own>,
}

const _: () = assert!(size_of::<Route>() == 64, "a route is one cache line");

/// What a route has of its own in place of what is usual; shared by those that are alike.
#[derive(Default)]
pub(crate) struct Own {
    /// In place of the global limit.
    pub(crate) body: Option<u64>,
    pub(crate) connect: Option<u64>,
    pub(crate) response: Option<u64>,
    pub(crate) upgrades: Vec<String>,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) importance: Importance,
    pub(crate) failure: Option<Box<OwnFailure>>,
    /// Which of its parameters its upstream hashes.
    pub(crate) hash_param: Option<u16>,
    /// Names of its path parameters, where exchanges must know them.
    pub(crate) param_names: Option<Arc<[String]>>,
    /// Its replacement bodies with the global ones behind them, where it has any.
    pub(crate) errors: Option<Box<ErrorBodies>>,
}

/// What an exchange is counted by when it outlives its route.
pub(crate) type Ledger = (Arc<RouteCells>, Arc<str>);

impl Route {
    /// Replacement bodies of the gateway's own answers here.
    pub(crate) fn errors<'a>(&'a self, settings: &'a Settings) -> &'a ErrorBodies {
        self.own.errors.as_deref().unwrap_or(&settings.errors)
    }

    /// What its exchanges are counted by, and under which name.
    pub(crate) fn entry(&self) -> (&RouteCells, &str) {
        (&self.cells, &self.name)
    }

    /// The same to be kept.
    pub(crate) fn ledger(&self) -> Ledger {
        (Arc::clone(&self.cells), Arc::clone(&self.name))
    }
}

/// Where a matched request ends.
pub(crate) enum Destination {
    /// Index into [`Snapshot::upstreams`].
    Upstream(usize),
    /// A fixed answer.
    Answer(Box<Answer>),
    /// A redirect.
    Redirect(Box<Redirect>),
    /// Files of a folder.
    Files(Arc<Files>),
    /// What the last policy of the chain answers.
    Policy,
}

/// A redirect, compiled.
pub(crate) struct Redirect {
    pub(crate) to: Template,
    pub(crate) status: u16,
}

/// What is forwarded in place of path and query.
#[derive(Default)]
pub(crate) struct Rewrite {
    pub(crate) path: Option<PathRewrite>,
    pub(crate) query_remove: Vec<String>,
    pub(crate) query_set: Vec<(String, Text)>,
    pub(crate) query_add: Vec<(String, Text)>,
}

/// What is forwarded in place of the path.
pub(crate) enum PathRewrite {
    /// Each value takes a segment of its own.
    Template(Template),
    /// Values stand beside other text, so that what comes out is read again.
    Mixed {
        template: Template,
        keep_slashes: bool,
        keep_encoded_slash: bool,
    },
    StripPrefix(String),
    /// A prefix of whole segments, and what stands in its place; neither ends in a slash.
    ReplacePrefix(String, String),
}

impl Snapshot {
    /// Names of the routes, in the order of the configuration.
    pub fn route_names(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|route| route.name.as_ref())
    }

    /// Whether the configuration has a consumer of this name.
    #[must_use]
    pub fn has_consumer(&self, name: &str) -> bool {
        self.directory.find(name).is_some()
    }

    /// Names of the plans that a consumer of the configuration is on.
    #[must_use]
    pub fn plans_of(&self, consumer: &str) -> Vec<String> {
        let known = self.directory.find(consumer).and_then(|id| self.directory.get(id));
        known.map(|known| known.plans.clone()).unwrap_or_default()
    }

    /// Plans of the configuration, in no order.
    pub fn plans(&self) -> impl Iterator<Item = daemun_config::model::Plan> {
        self.directory.plans().map(|plan| plan.as_ref().clone())
    }

    /// Whether the configuration has a user of this name, who is no consumer.
    #[must_use]
    pub fn has_user(&self, name: &str) -> bool {
        self.directory.user(name).is_some()
    }

    /// Names of the consumers of the configuration.
    pub fn consumer_names(&self) -> impl Iterator<Item = &str> {
        self.directory.iter().map(|(_, consumer)| consumer.name.as_str())
    }

    /// Names of the users of the configuration, in no order.
    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.directory.users().map(|user| user.name.value.as_str())
    }

    /// Whether a consumer of the configuration has this credential, good or not. Goes through all of them.
    #[must_use]
    pub fn has_credential(&self, sought: &CredentialName) -> bool {
        self.directory.iter().any(|(_, consumer)| consumer.credentials().iter().any(|(name, _)| name == sought))
    }

    /// The credentials of a consumer of the configuration, good or not, and what is said of each.
    #[must_use]
    pub fn credentials_of(&self, consumer: &str) -> Vec<(CredentialName, Terms)> {
        let found = self.directory.find(consumer).and_then(|id| self.directory.get(id));
        found.map(Consumer::credentials).unwrap_or_default()
    }

    /// Ids of the keys and passwords that are not disabled, and whose each is.
    #[must_use]
    pub fn logins(&self) -> Vec<(String, String)> {
        let of = |consumer: &Consumer| {
            let keys = consumer.keys.iter().map(|digest| CredentialName::Key(*digest).id());
            let basic = consumer.basic.iter().map(|known| CredentialName::Basic(known.username.clone()).id());
            keys.chain(basic).map(|id| (id, consumer.name.clone())).collect::<Vec<_>>()
        };
        self.directory.iter().flat_map(|(_, consumer)| of(consumer)).collect()
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Upstreams, whose names the control runtime resolves.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.iter()
    }

    /// Policies of a route, in running order.
    pub fn policies_of(&self, route: usize) -> impl Iterator<Item = &'static str> {
        self.routes.get(route).into_iter().flat_map(|route| route.chain.names())
    }

    /// Names of a route's path parameters; looks for it among all.
    pub(crate) fn param_names(&self, route: &Route) -> Vec<String> {
        let index = self.routes.iter().position(|other| std::ptr::eq(other, route));
        let names = index.and_then(|index| u32::try_from(index).ok()).map(|index| self.router.parameters(index));
        names.into_iter().flatten().map(str::to_owned).collect()
    }

    /// Where a route ends, as text.
    #[must_use]
    pub fn destination_of(&self, route: usize) -> String {
        let last = || self.policies_of(route).last().unwrap_or_default().to_owned();
        match self.routes.get(route).map(|route| &route.destination) {
            Some(Destination::Upstream(index)) => {
                format!("upstream {}", self.upstreams.get(*index).map_or("", |upstream| upstream.name.as_str()))
            }
            Some(Destination::Answer(answer)) => format!("answer {}", answer.status),
            Some(Destination::Redirect(redirect)) => format!("redirect {}", redirect.status),
            Some(Destination::Files(files)) => format!("files {}", files.root.value.display()),
            Some(Destination::Policy) => last(),
            None => String::new(),
        }
    }
}

/// A fixed answer, compiled.
fn answer(config: &AnswerConfig) -> Answer {
    let mut fields = config.headers.clone();
    if !config.body.is_empty() && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        fields.push(("content-type".to_owned(), "text/plain; charset=utf-8".to_owned()));
    }
    Answer { status: config.status, fields, body: config.body.clone().into() }
}
