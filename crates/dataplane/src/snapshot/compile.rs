//! `Config` becomes `Snapshot`: everything that can be decided before a request comes is decided here, and every finding reported.

use std::collections::HashMap;
use std::sync::Arc;

use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{self, Authenticate, Config, PathRewrite as PathRewriteConfig, PolicyEntry, Underscores};
use daemun_pipeline::{BuildContext, Carry, Consumer, Directory, Phase, Policy, PolicyRow};

use super::template::Template;
use super::{Destination, PathRewrite, Rewrite, Route, Settings, Snapshot, answer, upstream};
use crate::chain::{Chain, Link};
use crate::clock::nanos;
use crate::http1::parse::Bounds;
use crate::record::Metrics;
use crate::respond::ErrorBodies;
use crate::router::Router;

type Built = Vec<(Phase, Arc<dyn Policy>)>;

impl Snapshot {
    /// Compiles a checked configuration. Never touches a running snapshot; state that outlives a reload is found through `carry`.
    /// `None` only after an error was reported.
    pub fn compile(
        config: &Config,
        registry: &'static [PolicyRow],
        carry: &Carry,
        metrics: &Arc<Metrics>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Snapshot> {
        let directory = Arc::new(directory(config));
        let router = Router::build(config.routes.iter().map(Into::into), config.hosts_fall_through, diagnostics)?;
        let mut compiler = Compiler { registry, carry, directory: &directory, diagnostics, shared: HashMap::new() };
        let global: Vec<&PolicyEntry> = config.policies.iter().filter(|p| p.settings.is_some()).collect();
        let unmatched = compiler.unmatched(&global)?;
        let mut plain: Option<Arc<Chain>> = None;
        let mut upgrades = HashMap::new();
        let mut routes = Vec::with_capacity(config.routes.len());
        for (index, route) in config.routes.iter().enumerate() {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let params: Vec<String> = router.parameters(number).map(str::to_owned).collect();
            let params = params.as_slice();
            let chain = if route.policies.is_empty() && route.authenticate == Authenticate::All {
                match &plain {
                    Some(chain) => Arc::clone(chain),
                    None => {
                        let chain = compiler.chain(&global, &[], &Authenticate::All, None, &[])?;
                        Arc::clone(plain.insert(Arc::new(chain)))
                    }
                }
            } else {
                let name = route.name.value.as_str();
                Arc::new(compiler.chain(&global, &route.policies, &route.authenticate, Some(name), params)?)
            };
            let upgrades =
                upgrades.entry(route.upgrades.clone()).or_insert_with(|| Arc::<[String]>::from(route.upgrades.clone()));
            routes.push(compiler.route(route, number, params, chain, Arc::clone(upgrades), metrics)?);
        }
        let upstreams: Vec<_> =
            config.upstreams.iter().map(|u| upstream::compile(u, metrics, diagnostics).map(Arc::new)).collect();
        let upstreams = upstreams.into_iter().collect::<Option<Vec<_>>>();
        let tls = tls(config, carry, diagnostics);
        let (upstreams, tls) = (upstreams?, tls?);
        Some(Snapshot { router, routes, unmatched, upstreams, directory, tls, settings: settings(config) })
    }
}

struct Compiler<'a> {
    registry: &'static [PolicyRow],
    carry: &'a Carry,
    directory: &'a Arc<Directory>,
    diagnostics: &'a mut Diagnostics,
    /// Global policies are built once and shared by the routes that have them.
    shared: HashMap<(String, bool), Built>,
}

impl Compiler<'_> {
    fn unmatched(&mut self, global: &[&PolicyEntry]) -> Option<Chain> {
        let mut links = Vec::new();
        for entry in global {
            let built = self.global(entry, true)?; // what needs an authenticator runs behind one, and is left out here
            let (name, row) = self.row(&entry.name.value)?;
            links.extend(link(name, row, built, false).into_iter().filter(|link| link.phase == Phase::Admit));
        }
        Some(Chain::new(links))
    }

    fn chain(
        &mut self,
        global: &[&PolicyEntry],
        own: &[PolicyEntry],
        authenticate: &Authenticate,
        route: Option<&str>,
        params: &[String],
    ) -> Option<Chain> {
        let inherited: Vec<&PolicyEntry> =
            global.iter().copied().filter(|g| !own.iter().any(|o| o.name.value == g.name.value)).collect();
        let own: Vec<&PolicyEntry> = own.iter().filter(|o| o.settings.is_some()).collect();
        let authenticated = inherited.iter().chain(&own).any(|e| self.is_authenticator(&e.name.value));
        let any: &[_] = match authenticate {
            Authenticate::Any(names) => names,
            Authenticate::All => &[],
        };
        let mut links = Vec::new();
        for entry in inherited {
            let built = self.global(entry, authenticated)?;
            let (name, row) = self.row(&entry.name.value)?;
            links.extend(link(name, row, built, any.iter().any(|a| a.value == name)));
        }
        for entry in own {
            let built = self.build(entry, authenticated, route, params)?;
            let (name, row) = self.row(&entry.name.value)?;
            links.extend(link(name, row, built, any.iter().any(|a| a.value == name)));
        }
        Some(Chain::new(links))
    }

    fn global(&mut self, entry: &PolicyEntry, authenticated: bool) -> Option<Built> {
        let key = (entry.name.value.clone(), authenticated);
        if let Some(built) = self.shared.get(&key) {
            return Some(built.clone());
        }
        let built = self.build(entry, authenticated, None, &[])?;
        self.shared.insert(key, built.clone());
        Some(built)
    }

    fn build(
        &mut self,
        entry: &PolicyEntry,
        authenticated: bool,
        route: Option<&str>,
        params: &[String],
    ) -> Option<Built> {
        let settings = entry.settings.as_ref()?;
        let (name, row) = self.row(&entry.name.value)?;
        let row = self.registry.get(usize::from(row))?;
        let path = match route {
            Some(route) => format!("routes.{route}.policies.{name}"),
            None => format!("policies.{name}"),
        };
        let mut ctx = BuildContext {
            diagnostics: &mut *self.diagnostics,
            directory: self.directory,
            carry: self.carry,
            route,
            authenticated,
            path,
            at: settings.at,
            param_names: params,
        };
        let built = (row.build)(settings, &mut ctx)?;
        Some(built.into_iter().map(|(phase, policy)| (phase, Arc::from(policy))).collect())
    }

    fn row(&self, name: &str) -> Option<(&'static str, u8)> {
        let index = self.registry.iter().position(|row| row.name == name)?;
        Some((self.registry.get(index)?.name, u8::try_from(index).ok()?))
    }

    fn is_authenticator(&self, name: &str) -> bool {
        self.registry.iter().any(|row| row.name == name && row.phase == Phase::Authenticate)
    }

    fn route(
        &mut self,
        route: &model::Route,
        index: u32,
        params: &[String],
        chain: Arc<Chain>,
        upgrades: Arc<[String]>,
        metrics: &Arc<Metrics>,
    ) -> Option<Route> {
        let destination = match &route.destination {
            model::Destination::Upstream(index) => Destination::Upstream(*index),
            model::Destination::Answer(config) => Destination::Answer(Box::new(answer(config))),
            model::Destination::Redirect(redirect) => Destination::Redirect {
                to: self.template(route, "redirect.to", &redirect.to, params)?,
                status: redirect.status,
            },
        };
        Some(Route {
            name: Arc::from(route.name.value.as_str()),
            key: key_of(&route.name.value),
            index,
            chain,
            destination,
            cells: metrics.route(&route.name.value),
            body: route.body_limit,
            rewrite: self.rewrite(route, params)?,
            connect: route.timeouts.connect.map(nanos),
            response: route.timeouts.response.map(nanos),
            upgrades,
        })
    }

    #[allow(clippy::option_option, reason = "outer: an error was reported; inner: nothing is rewritten")]
    fn rewrite(&mut self, route: &model::Route, params: &[String]) -> Option<Option<Box<Rewrite>>> {
        let config = &route.rewrite;
        let path = match &config.path {
            None => None,
            Some(PathRewriteConfig::StripPrefix(prefix)) => Some(PathRewrite::StripPrefix(prefix.value.clone())),
            Some(PathRewriteConfig::Template(template)) => {
                Some(PathRewrite::Template(self.template(route, "rewrite.path", template, params)?))
            }
        };
        let empty = path.is_none()
            && config.query_remove.is_empty()
            && config.query_set.is_empty()
            && config.query_add.is_empty();
        let rewrite = Rewrite {
            path,
            query_remove: config.query_remove.clone(),
            query_set: config.query_set.clone(),
            query_add: config.query_add.clone(),
        };
        Some((!empty).then(|| Box::new(rewrite)))
    }

    fn template(
        &mut self,
        route: &model::Route,
        key: &str,
        text: &model::Spanned<String>,
        params: &[String],
    ) -> Option<Template> {
        match Template::parse(&text.value, params) {
            Ok(template) => Some(template),
            Err(name) => {
                let path = format!("routes.{}.{key}", route.name.value);
                let message = format!("`{{{name}}}` is no parameter of the route's path");
                self.diagnostics.error("unknown_parameter", path, text.at, message);
                None
            }
        }
    }
}

/// FNV-1a of a route's name: the same over reloads, told apart well enough from others by its consumers, which check nothing secret with it.
fn key_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)).max(1)
}

/// TLS of the listeners by name: the address as configured, numbered from the second of the same on.
fn tls(
    config: &Config,
    carry: &Carry,
    diagnostics: &mut Diagnostics,
) -> Option<HashMap<String, Arc<rustls::ServerConfig>>> {
    let mut out = HashMap::new();
    let mut complete = true;
    for (index, listener) in config.listeners.iter().enumerate() {
        if listener.tls.is_none() {
            continue;
        }
        let same = config.listeners.iter().take(index).filter(|other| other.bind.value == listener.bind.value).count();
        match crate::tls::server(listener, index, carry, diagnostics) {
            Some(tls) => {
                out.insert(crate::listener::name(&listener.bind.value, same), tls);
            }
            None => complete = false,
        }
    }
    complete.then_some(out)
}

fn link(name: &'static str, row: u8, built: Built, any: bool) -> Vec<Link> {
    built.into_iter().map(|(phase, policy)| Link { name, row, phase, policy, any }).collect()
}

fn directory(config: &Config) -> Directory {
    let consumers = config.consumers.iter().map(|c| Consumer {
        name: c.name.value.clone(),
        roles: c.roles.clone(),
        keys: c.keys.iter().map(|k| k.value).collect(),
    });
    Directory::new(consumers.collect())
}

fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    let times = &config.timeouts;
    Settings {
        bounds: Bounds {
            head: limits.head,
            fields: limits.fields,
            target: limits.target,
            keep_underscores: config.underscores == Underscores::Keep,
        },
        body: limits.body,
        connections: limits.connections.unwrap_or_else(default_connections),
        head: nanos(times.head),
        body_idle: nanos(times.body_idle),
        write_idle: nanos(times.write_idle),
        keep_alive: nanos(times.keep_alive),
        stream_idle: nanos(times.stream_idle),
        min_rate: times.min_rate,
        min_rate_after: nanos(times.min_rate_after),
        trusted_proxies: config.trusted_proxies.clone(),
        errors: ErrorBodies(config.errors.clone()),
    }
}

/// min(16,000, (descriptors − 256) / 2), of the soft limit after it was raised.
fn default_connections() -> usize {
    let (soft, _) = daemun_sys::raise_nofile().unwrap_or((1024, 1024));
    usize::try_from(soft.saturating_sub(256) / 2).unwrap_or(16_000).clamp(16, 16_000)
}
