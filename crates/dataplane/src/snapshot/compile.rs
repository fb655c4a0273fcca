//! `Config` becomes `Snapshot`: everything that can be decided before a request comes is decided here, and every finding reported.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use daemun_config::Draft;
use daemun_config::diagnostic::{BAD_VALUE, Diagnostic, Diagnostics, FILES_ROOT, ROUTE_LESS_PROTECTED};
use daemun_config::model::{
    self, Authenticate, Config, Importance, LogFormat, PathRewrite as PathRewriteConfig, PolicyEntry, Underscores,
};
use daemun_config::tree::{At, Node, Value};
use daemun_pipeline::expression::{Expression, ExpressionError, Scope, Text};
use daemun_pipeline::{BuildContext, Carry, CutOff, Directory, Nowhere, Phase, Policy, PolicyRow, Upstreams, World};

use super::callers::directory;
use super::failure::{Names, OwnFailure};
use super::template::{Template, split_expressions};
use super::ways::Ways;
use super::{Destination, Entrance, Own, PathRewrite, Redirect, Rewrite, Route, Settings, Snapshot, answer, upstream};
use crate::chain::{Anonymous, Chain, Link};
use crate::clock::nanos;
use crate::http1::parse::Bounds;
use crate::record::{LogFields, LogTemplate, Metrics};
use crate::respond::ErrorBodies;
use crate::router::{Router, normal_prefix, normal_template};

/// Most warnings of routes that protect less.
const MAX_LESS_PROTECTED: usize = 100;

/// Runtimes of a policy, and the requests they run on.
type Built = (Vec<(Phase, Arc<dyn Policy>)>, Option<Expression>);

impl Snapshot {
    /// Compiles a checked configuration. Never touches a running snapshot; state that outlives a reload is found through `carry`.
    /// `None` only after an error was reported.
    pub fn compile(
        config: &Config,
        registry: &'static [PolicyRow],
        carry: &Carry,
        world: &Arc<dyn World>,
        metrics: &Arc<Metrics>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Snapshot> {
        compile(config, true, registry, carry, world, metrics, diagnostics)
    }

    /// Reports what compiling would find in what could be read of a configuration with errors, so that all is told at once.
    pub fn examine(
        draft: &Draft,
        registry: &'static [PolicyRow],
        metrics: &Arc<Metrics>,
        diagnostics: &mut Diagnostics,
    ) {
        let mut found = Diagnostics::new();
        compile(
            draft.config(),
            draft.knows_policies(),
            registry,
            &Carry::detached(),
            &Nowhere::shared(),
            metrics,
            &mut found,
        );
        diagnostics.append(draft.keep(found));
    }
}

/// Goes on behind every error, to report all there are. Without `policies` what a route has of them is not looked at.
fn compile(
    config: &Config,
    policies: bool,
    registry: &'static [PolicyRow],
    carry: &Carry,
    world: &Arc<dyn World>,
    metrics: &Arc<Metrics>,
    diagnostics: &mut Diagnostics,
) -> Option<Snapshot> {
    let mut names_params = check_log(config, diagnostics);
    let names = Names::of(&config.upstreams);
    let upstreams: Vec<_> = config
        .upstreams
        .iter()
        .map(|u| upstream::compile(u, config.zone.as_deref(), &names, carry, metrics, diagnostics).map(Arc::new))
        .collect();
    names_params |= upstreams.iter().flatten().any(|upstream| upstream.choice.names_params());
    let directory = Arc::new(directory(config).with_cut_off(CutOff::of(carry)));
    let router = Router::build(config.routes.iter().map(Into::into), config.hosts_fall_through, diagnostics);
    let bodies = config.routes.iter().map(|route| route.body_limit.unwrap_or(config.limits.body));
    let known: Arc<dyn Upstreams> = Arc::new(Ways::new(&config.upstreams, &upstreams));
    let settings = settings(config);
    let implied = implied(config, registry);
    let mut compiler = Compiler {
        registry,
        implied: &implied,
        carry,
        world,
        token_services: &config.tokens,
        has_store: config.store.is_some(),
        folders: &config.folders,
        upstreams: &known,
        directory: &directory,
        diagnostics,
        names: Names::of(&config.upstreams),
        balances: &config.upstreams,
        shared: HashMap::new(),
        alike: HashMap::new(),
        body: 0,
        largest_body: bodies.max().unwrap_or(config.limits.body),
        errors: &settings.errors,
        names_params,
    };
    let global: Vec<&PolicyEntry> = config.policies.iter().filter(|p| p.settings.is_some()).collect();
    let unmatched = policies.then(|| compiler.unmatched(&global)).flatten();
    let mut plain: Option<Option<Arc<Chain>>> = None;
    let mut routes = Vec::with_capacity(config.routes.len());
    for (index, route) in config.routes.iter().enumerate() {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let Some(params) = parameters(router.as_ref(), route, number) else { continue };
        let chain = if !policies {
            None
        } else if route.policies.is_empty() && route.authenticate == Authenticate::All && route.anonymous.is_none() {
            let chain = || compiler.chain(&global, &[], (&Authenticate::All, None), None, &[]).map(Arc::new);
            plain.get_or_insert_with(chain).clone()
        } else {
            let name = route.name.value.as_str();
            compiler.body = route.body_limit.unwrap_or(config.limits.body);
            compiler
                .chain(&global, &route.policies, (&route.authenticate, route.anonymous.as_ref()), Some(name), &params)
                .map(Arc::new)
        };
        routes.extend(compiler.route(route, &params, chain, metrics));
    }
    if let Some(router) = &router {
        less_protected(config, registry, router, diagnostics);
    }
    if routes.len() == config.routes.len() {
        super::own_paths::check(config, &routes, diagnostics);
    }
    let upstreams = upstreams.into_iter().collect::<Option<Vec<_>>>();
    let entrances = entrances(config, carry, diagnostics);
    let (router, unmatched, upstreams, entrances) = (router?, unmatched?, upstreams?, entrances?);
    let tells_ends = upstreams.iter().any(|upstream| upstream.proxy_protocol.is_some());
    let importance = config.consumers.iter().map(|consumer| consumer.importance).collect();
    let snapshot =
        Snapshot { router, routes, unmatched, upstreams, directory, entrances, tells_ends, settings, importance };
    (snapshot.routes.len() == config.routes.len()).then_some(snapshot)
}

/// Names of a route's parameters; where all the routes made no router, of one with this route alone. `None` if its path is wrong,
/// which has been reported.
fn parameters(router: Option<&Router>, route: &model::Route, index: u32) -> Option<Vec<String>> {
    let names = |router: &Router, index| router.parameters(index).map(str::to_owned).collect();
    match router {
        Some(router) => Some(names(router, index)),
        None => Router::build([route.into()], false, &mut Diagnostics::new()).map(|router| names(&router, 0)),
    }
}

/// Reports what is wrong with the template of the access log, which is opened only when the configuration is published. Gives whether
/// exchanges must know the names of their path parameters for it.
fn check_log(config: &Config, diagnostics: &mut Diagnostics) -> bool {
    let Some(log) = &config.access_log else { return false };
    let (at, path, error) = match &log.format {
        LogFormat::Template(template) => match LogTemplate::parse(&template.value) {
            Ok(template) => return template.names_params(),
            Err(error) => (template.at, "access_log.format".to_owned(), error),
        },
        LogFormat::Json => match LogFields::parse(&log.fields) {
            Ok(fields) => return fields.names_params(),
            Err((index, error)) => {
                let Some((name, text)) = log.fields.get(index) else { return false };
                (text.at.within(&text.value, error.offset), format!("access_log.fields.{}", name.value), error)
            }
        },
    };
    let found = Diagnostic::error(BAD_VALUE, at, error.message).path(path);
    diagnostics.push(match error.help {
        Some(help) => found.help(help),
        None => found,
    });
    false
}

/// What routes may have of their own but a rewrite: limits of body, connecting and answer, upgrades, a parameter that is hashed, importance,
/// names of parameters.
type Exceptions = (Option<u64>, Option<u64>, Option<u64>, Vec<String>, Option<u16>, Importance, Option<Arc<[String]>>);

struct Compiler<'a> {
    registry: &'static [PolicyRow],
    /// What routes with an authenticator have without being told to.
    implied: &'a [PolicyEntry],
    carry: &'a Carry,
    world: &'a Arc<dyn World>,
    token_services: &'a [model::TokenService],
    has_store: bool,
    folders: &'a [PathBuf],
    upstreams: &'a Arc<dyn Upstreams>,
    directory: &'a Arc<Directory>,
    diagnostics: &'a mut Diagnostics,
    names: Names<'a>,
    /// Global policies are built once and shared by the routes that have them.
    shared: HashMap<(String, bool), Option<Built>>,
    /// What of each upstream is hashed.
    balances: &'a [model::Upstream],
    /// What routes without a rewrite have of their own.
    alike: HashMap<Exceptions, Arc<Own>>,
    /// Bytes of a request body that `limits.body` allows on the route whose chain is made, and the most that it allows on any.
    body: u64,
    largest_body: u64,
    /// Replacement bodies of the gateway's own answers on every route.
    errors: &'a ErrorBodies,
    /// Whether exchanges must know the names of their path parameters.
    names_params: bool,
}

impl Compiler<'_> {
    fn unmatched(&mut self, global: &[&PolicyEntry]) -> Option<Chain> {
        let mut links = Some(Vec::new());
        for entry in global {
            // what needs an authenticator runs behind one, and is left out here
            let built = self.global(entry, true).zip(self.row(&entry.name.value));
            links = links.zip(built).map(|(mut links, (built, (name, row)))| {
                links.extend(link(name, row, built, false).into_iter().filter(|link| link.phase == Phase::Admit));
                links
            });
        }
        Some(Chain::new(links?, None))
    }

    fn chain(
        &mut self,
        global: &[&PolicyEntry],
        own: &[PolicyEntry],
        (authenticate, anonymous): (&Authenticate, Option<&model::Spanned<String>>),
        route: Option<&str>,
        params: &[String],
    ) -> Option<Chain> {
        let is_inherited = |g: &&PolicyEntry| !own.iter().any(|o| o.name.value == g.name.value);
        let mut inherited: Vec<&PolicyEntry> = global.iter().copied().filter(is_inherited).collect();
        let implied = self.implied.iter().filter(is_inherited);
        let own: Vec<&PolicyEntry> = own.iter().filter(|o| o.settings.is_some()).collect();
        let authenticated = inherited.iter().chain(&own).any(|e| self.is_authenticator(&e.name.value));
        inherited.extend(implied.filter(|_| authenticated));
        let any: &[_] = match authenticate {
            Authenticate::Any(names) => names,
            Authenticate::All => &[],
        };
        let is_always = |e: &PolicyEntry| anonymous.is_none() && !any.iter().any(|a| a.value == e.name.value);
        let always = inherited.iter().chain(&own).filter(|e| is_always(e) && self.is_authenticator(&e.name.value));
        let always: Vec<&str> = always.map(|e| e.name.value.as_str()).collect();
        let mut links = Some(Vec::new());
        let inherited = inherited.into_iter().map(|entry| (entry, true));
        for (entry, global) in inherited.chain(own.into_iter().map(|entry| (entry, false))) {
            let built = if global {
                self.global(entry, authenticated)
            } else {
                self.build(entry, (authenticated, &always), route, params)
            };
            links = links.zip(built.zip(self.row(&entry.name.value))).map(|(mut links, (built, (name, row)))| {
                links.extend(link(name, row, built, any.iter().any(|a| a.value == name)));
                links
            });
        }
        let anonymous = anonymous.and_then(|name| self.anonymous(&name.value));
        links.map(|links| Chain::new(links, anonymous))
    }

    /// Who is not there was reported when the configuration was read.
    fn anonymous(&self, name: &str) -> Option<Anonymous> {
        let consumer = self.directory.find(name)?;
        let known = self.directory.get(consumer)?;
        Some(Anonymous { consumer, name: known.name.as_str().into(), roles: known.roles.join(",").into() })
    }

    fn global(&mut self, entry: &PolicyEntry, authenticated: bool) -> Option<Built> {
        let key = (entry.name.value.clone(), authenticated);
        if let Some(built) = self.shared.get(&key) {
            return built.clone();
        }
        let built = self.build(entry, (authenticated, &[]), None, &[]);
        self.shared.insert(key, built.clone());
        built
    }

    fn build(
        &mut self,
        entry: &PolicyEntry,
        (authenticated, always): (bool, &[&str]),
        route: Option<&str>,
        params: &[String],
    ) -> Option<Built> {
        // what is wrong with them was reported when they were read
        let settings = entry.settings.as_ref().filter(|_| entry.sound)?;
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
            world: self.world,
            token_services: self.token_services,
            has_store: self.has_store,
            folders: self.folders,
            upstreams: self.upstreams,
            route,
            authenticated,
            always,
            body: if route.is_some() { self.body } else { self.largest_body },
            path,
            at: settings.at,
            param_names: params,
        };
        let built = (row.build)(settings, &mut ctx);
        // before authenticators have run, no consumer is known
        let knows_consumer = built.iter().flatten().all(|(phase, _)| *phase > Phase::Authenticate);
        let when = match &entry.when {
            Some(when) => Some(ctx.condition(when, knows_consumer)?),
            None => None,
        };
        Some((built?.into_iter().map(|(phase, policy)| (phase, Arc::from(policy))).collect(), when))
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
        params: &[String],
        chain: Option<Arc<Chain>>,
        metrics: &Arc<Metrics>,
    ) -> Option<Route> {
        let destination = match &route.destination {
            model::Destination::Upstream(index) => Some(Destination::Upstream(*index)),
            model::Destination::Answer(config) => Some(Destination::Answer(Box::new(answer(config)))),
            model::Destination::Redirect(redirect) => self
                .location(route, &redirect.to, params)
                .map(|to| Destination::Redirect(Box::new(Redirect { to, status: redirect.status }))),
            model::Destination::Files(files) => self.files(route, files),
            model::Destination::Policy(_) => Some(Destination::Policy),
        };
        let rewrite = self.rewrite(route, params);
        let (destination, rewrite, chain) = (destination?, rewrite?, chain?);
        Some(Route {
            name: Arc::from(route.name.value.as_str()),
            key: key_of(&route.name.value),
            chain,
            destination,
            cells: metrics.route(&route.name.value),
            own: self.own(route, rewrite, params),
        })
    }

    /// Which of the route's parameters its upstream hashes.
    fn hash_param(&self, route: &model::Route, params: &[String]) -> Option<u16> {
        let model::Destination::Upstream(index) = &route.destination else { return None };
        let model::Balance::Hash(model::HashBy::Param(name)) = &self.balances.get(*index)?.balance else {
            return None;
        };
        params.iter().position(|param| param == name).and_then(|position| u16::try_from(position).ok())
    }

    fn own(&mut self, route: &model::Route, rewrite: Option<Rewrite>, params: &[String]) -> Arc<Own> {
        let hash_param = self.hash_param(route, params);
        let param_names: Option<Arc<[String]>> = (self.names_params && !params.is_empty()).then(|| params.into());
        let (body, upgrades) = (route.body_limit, route.upgrades.clone());
        let (connect, response) = (route.timeouts.connect.map(nanos), route.timeouts.response.map(nanos));
        let importance = route.importance;
        let failure = OwnFailure::compile(route, &self.names, self.carry);
        let errors = (!route.errors.is_empty()).then(|| Box::new(ErrorBodies::of(&route.errors, &self.errors.0)));
        let is_alone = rewrite.is_some() || failure.is_some() || errors.is_some();
        let key = (body, connect, response, upgrades.clone(), hash_param, importance, param_names.clone());
        let own =
            Own { body, connect, response, upgrades, rewrite, failure, hash_param, importance, param_names, errors };
        if is_alone { Arc::new(own) } else { Arc::clone(self.alike.entry(key).or_insert_with(|| Arc::new(own))) }
    }

    #[allow(clippy::option_option, reason = "outer: an error was reported; inner: nothing is rewritten")]
    fn rewrite(&mut self, route: &model::Route, params: &[String]) -> Option<Option<Rewrite>> {
        let config = &route.rewrite;
        let path = match &config.path {
            None => None,
            Some(PathRewriteConfig::StripPrefix(prefix)) => {
                let read = normal_prefix(&prefix.value, route.keep_slashes, route.keep_encoded_slash);
                Some(PathRewrite::StripPrefix(self.normal(route, "rewrite.strip_prefix", prefix.at, read)?))
            }
            Some(PathRewriteConfig::ReplacePrefix(prefix)) => {
                let read = |prefix: &str| normal_prefix(prefix, route.keep_slashes, route.keep_encoded_slash);
                // what is wrong with that was reported when the router was built
                let Some(model::PathMatch::Prefix(from)) = route.matches.path.as_ref().map(|path| &path.value) else {
                    return None;
                };
                let from = read(from).ok()?;
                let to = self.normal(route, "rewrite.replace_prefix", prefix.at, read(&prefix.value))?;
                let whole = |prefix: String| prefix.trim_end_matches('/').to_owned();
                Some(PathRewrite::ReplacePrefix(whole(from), whole(to)))
            }
            Some(PathRewriteConfig::Template(template)) => {
                let split = split_expressions(&template.value, &scope(params));
                let (plain, texts) = self.expression(route, "rewrite.path", template, split)?;
                let read = normal_template(&plain, route.keep_slashes);
                let value = self.normal(route, "rewrite.path", template.at, read)?;
                let template = model::Spanned { value, at: template.at };
                let marks = (0..texts.len()).map(|index| format!("@{index}"));
                let names: Vec<String> = params.iter().cloned().chain(marks).collect();
                let template = self.template(route, "rewrite.path", &template, &names)?.with(params.len(), texts);
                if template.is_plain(params.len()) {
                    Some(PathRewrite::Template(template))
                } else {
                    let (keep_slashes, keep_encoded_slash) = (route.keep_slashes, route.keep_encoded_slash);
                    Some(PathRewrite::Mixed { template, keep_slashes, keep_encoded_slash })
                }
            }
        };
        let empty = path.is_none()
            && config.query_remove.is_empty()
            && config.query_set.is_empty()
            && config.query_add.is_empty();
        let rewrite = Rewrite {
            path,
            query_remove: config.query_remove.clone(),
            query_set: self.query_values(route, "rewrite.query.set", &config.query_set, params)?,
            query_add: self.query_values(route, "rewrite.query.add", &config.query_add, params)?,
        };
        Some((!empty).then_some(rewrite))
    }

    fn query_values(
        &mut self,
        route: &model::Route,
        key: &str,
        values: &[(String, model::Spanned<String>)],
        params: &[String],
    ) -> Option<Vec<(String, Text)>> {
        let read = values.iter().map(|(name, value)| {
            let text = Text::parse(&value.value, &scope(params));
            Some((name.clone(), self.expression(route, &format!("{key}.{name}"), value, text)?))
        });
        // all of them, so that each error is reported
        read.collect::<Vec<_>>().into_iter().collect()
    }

    /// What a text with expressions was read as, or its error reported.
    fn expression<T>(
        &mut self,
        route: &model::Route,
        key: &str,
        text: &model::Spanned<String>,
        read: Result<T, ExpressionError>,
    ) -> Option<T> {
        let error = match read {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let found = Diagnostic::error(BAD_VALUE, text.at.within(&text.value, error.offset), error.message);
        let found = found.path(format!("routes.{}.{key}", route.name.value));
        self.diagnostics.push(match error.help {
            Some(help) => found.help(help),
            None => found,
        });
        None
    }

    /// What a path was read as, or its error reported.
    fn normal(&mut self, route: &model::Route, key: &str, at: At, read: Result<String, String>) -> Option<String> {
        read.map_err(|message| {
            self.diagnostics.error(BAD_VALUE, format!("routes.{}.{key}", route.name.value), at, message);
        })
        .ok()
    }

    /// Files whose folder is there; it is opened anew for each request, so that one that is put in its place is served from then on.
    fn files(&mut self, route: &model::Route, files: &model::Files) -> Option<Destination> {
        let root = &files.root;
        let message = match std::fs::read_dir(&root.value) {
            Ok(_) => return Some(Destination::Files(Arc::new(files.clone()))),
            Err(error) => format!("`{}` is not a folder that can be read: {error}", root.value.display()),
        };
        self.diagnostics.error(FILES_ROOT, format!("routes.{}.files.root", route.name.value), root.at, message);
        None
    }

    /// Where a redirect leads; a caller may not choose its host.
    fn location(&mut self, route: &model::Route, to: &model::Spanned<String>, params: &[String]) -> Option<Template> {
        let template = self.template(route, "redirect.to", to, params)?;
        let Some(before) = template.open_host() else { return Some(template) };
        let message = format!("behind `{before}` a caller could choose the host with the value that follows");
        let found =
            Diagnostic::error(BAD_VALUE, to.at, message).path(format!("routes.{}.redirect.to", route.name.value));
        self.diagnostics.push(found.help("write a `/` before it; only `{host}` and `{path}` may stand there"));
        None
    }

    fn template(
        &mut self,
        route: &model::Route,
        key: &str,
        text: &model::Spanned<String>,
        params: &[String],
    ) -> Option<Template> {
        match Template::parse(&text.value, params) {
            Ok(template) => {
                let Some(dots) = template.open_dots() else { return Some(template) };
                let message = format!("`{dots}` beside a parameter is a dot segment when the parameter is empty");
                let found = Diagnostic::error(BAD_VALUE, text.at, message);
                let found = found.path(format!("routes.{}.{key}", route.name.value));
                self.diagnostics
                    .push(found.help("give the parameter a segment of its own, or put another character between"));
                None
            }
            Err(name) => {
                let path = format!("routes.{}.{key}", route.name.value);
                let message = format!("`{{{name}}}` is no parameter of the route's path");
                self.diagnostics.error("unknown_parameter", path, text.at, message);
                None
            }
        }
    }
}

/// What expressions of a rewrite may speak of.
fn scope(params: &[String]) -> Scope<'_> {
    Scope { params, consumer: true, ..Scope::default() }
}

/// Policies beside authenticators that keep calls away.
const GUARDS: &[&str] = &["ip_filter", "bot_filter", "body_limit", "csrf", "permission", "validate"];

/// Warns of routes whose requests, when they fail only its conditions, go to one that asks for less proof of who calls.
fn less_protected(config: &Config, registry: &[PolicyRow], router: &Router, diagnostics: &mut Diagnostics) {
    // Where no route has anything of its own, all are protected alike.
    let is_plain = |route: &model::Route| route.policies.is_empty() && route.anonymous.is_none();
    if config.routes.iter().all(|route| is_plain(route) && route.authenticate == Authenticate::All) {
        return;
    }
    let route_at = |index: u32| config.routes.get(usize::try_from(index).ok()?);
    let mut found = 0;
    for pair in router.fall_through(config.routes.iter().map(Into::into)) {
        let (Some(route), Some(next)) = (route_at(pair.route), route_at(pair.next)) else { continue };
        let asked = proofs(config, registry, next);
        let missing =
            proofs(config, registry, route).into_iter().find(|proof| !asked.iter().any(|asked| covers(asked, proof)));
        let Some(missing) = missing else { continue };
        let names: Vec<String> = missing.iter().map(|(name, _)| format!("`{name}`")).collect();
        let message = format!(
            "a request that fails only the conditions of `{}` (a header, a method) goes to `{}`, which does not ask for {}",
            route.name.value,
            next.name.value,
            names.join(" or "),
        );
        let finding = Diagnostic::warning(ROUTE_LESS_PROTECTED, route.name.at, message)
            .path(format!("routes.{}.name", route.name.value))
            .related(next.name.at, format!("`{}` is here", next.name.value));
        diagnostics.push(finding);
        found += 1;
        if found == MAX_LESS_PROTECTED {
            break;
        }
    }
}

/// The name of a policy that keeps calls away, and the condition under which it does.
type Proof<'a> = (&'a str, Option<&'a str>);

/// Whether whoever passes one of `asked` has passed one of `proof`: without a condition, or with the same.
fn covers(asked: &BTreeSet<Proof<'_>>, proof: &BTreeSet<Proof<'_>>) -> bool {
    asked.iter().all(|(name, when)| {
        proof.iter().any(|(other, condition)| name == other && (when.is_none() || when == condition))
    })
}

/// What a caller of a route must pass: of each set one authenticator, and what else keeps calls away.
fn proofs<'a>(config: &'a Config, registry: &[PolicyRow], route: &'a model::Route) -> Vec<BTreeSet<Proof<'a>>> {
    let own = |name: &str| route.policies.iter().any(|own| own.name.value == name);
    let inherited = config.policies.iter().filter(|global| !own(&global.name.value));
    let is_authenticator = |name: &str| {
        GUARDS.contains(&name) || registry.iter().any(|row| row.name == name && row.phase == Phase::Authenticate)
    };
    let names = inherited.chain(&route.policies).filter(|entry| entry.settings.is_some());
    // where somebody without a credential is let past, none is asked for
    let asks = |name: &str| GUARDS.contains(&name) || route.anonymous.is_none();
    let names = names.filter(|entry| is_authenticator(&entry.name.value) && asks(&entry.name.value));
    let names = names.map(|entry| (entry.name.value.as_str(), entry.when.as_ref().map(|when| when.value.as_str())));
    let (any, all): (BTreeSet<Proof<'_>>, BTreeSet<Proof<'_>>) =
        names.partition(|(name, _)| match &route.authenticate {
            Authenticate::Any(listed) => listed.iter().any(|listed| listed.value == *name),
            Authenticate::All => false,
        });
    let each = all.into_iter().map(|name| BTreeSet::from([name]));
    each.chain((!any.is_empty()).then_some(any)).collect()
}

/// FNV-1a of a route's name: the same over reloads, told apart well enough from others by its consumers, which check nothing secret with it.
fn key_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)).max(1)
}

/// What comes before requests at the listeners, by name: the address as configured, numbered from the second of the same on.
fn entrances(config: &Config, carry: &Carry, diagnostics: &mut Diagnostics) -> Option<HashMap<String, Entrance>> {
    let mut out = HashMap::new();
    let mut complete = true;
    for (index, listener) in config.listeners.iter().enumerate() {
        if listener.tls.is_none() && listener.proxy_protocol.is_none() {
            continue;
        }
        let same = config.listeners.iter().take(index).filter(|other| other.bind.value == listener.bind.value).count();
        let tls = listener.tls.is_some().then(|| crate::tls::server(listener, carry, diagnostics));
        if matches!(tls, Some(None)) {
            complete = false;
            continue;
        }
        let proxy = listener.proxy_protocol.clone().map(Arc::new);
        out.insert(
            crate::listener::name(&listener.bind.value, same),
            Entrance { unnamed: Arc::default(), proxy, tls: tls.flatten() },
        );
    }
    complete.then_some(out)
}

fn link(name: &'static str, row: u8, (built, when): Built, any: bool) -> Vec<Link> {
    let link = |(phase, policy)| {
        // what an authenticator does behind all of them is no other way to prove who calls
        let any = any && phase == Phase::Authenticate;
        Link { name, row, phase, policy, any, apart: any, when: when.clone() }
    };
    built.into_iter().map(link).collect()
}

/// Policies that the configuration says nothing of, and that routes with an authenticator have all the same; none where nothing that they
/// go by can ever be there, neither from the configuration, nor from a store, nor by the admin listener.
fn implied(config: &Config, registry: &'static [PolicyRow]) -> Vec<PolicyEntry> {
    if config.plans.is_empty() && config.store.is_none() && config.admin.is_none() {
        return Vec::new();
    }
    let is_named = |row: &&PolicyRow| config.policies.iter().any(|policy| policy.name.value == row.name);
    let rows = registry.iter().filter(|row| row.implied && !is_named(row));
    let entry = |row: &PolicyRow| PolicyEntry {
        name: model::Spanned { value: row.name.to_owned(), at: At::default() },
        settings: Some(Node { at: At::default(), value: Value::Map(Vec::new()) }),
        when: None,
        sound: true,
    };
    rows.map(entry).collect()
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
        errors: ErrorBodies::of(&config.errors, &[]),
    }
}

/// min(16,000, (descriptors − 256) / 2), of the soft limit after it was raised.
fn default_connections() -> usize {
    let (soft, _) = daemun_sys::raise_nofile().unwrap_or((1024, 1024));
    usize::try_from(soft.saturating_sub(256) / 2).unwrap_or(16_000).clamp(16, 16_000)
}

#[cfg(test)]
mod tests {
    use daemun_config::policy::{PolicyDescription, Vocabulary};
    use daemun_config::{System, load_text};

    use super::*;
    use crate::record::Setup;

    static ROWS: [PolicyRow; 1] = [PolicyRow {
        name: "key_auth",
        phase: Phase::Authenticate,
        manual: "",
        ends: false,
        implied: false,
        unconditional: None,
        check: |_, _| {},
        schema: |_| true.into(),
        build: |_, _| Some(Vec::new()),
    }];

    fn compile(routes: &str) -> (Option<Snapshot>, Vec<String>) {
        let text = format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ targets: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n{routes}"
        );
        let row = PolicyDescription {
            name: "key_auth",
            phase: "authenticate",
            doc: "",
            authenticator: true,
            ends: false,
            implied: false,
            unconditional: None,
            check: |_, _| {},
            schema: |_| true.into(),
        };
        let loaded = load_text("test.yaml".as_ref(), &text, &System, &Vocabulary { policies: &[row] });
        let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.sources, false)));
        let setup = Setup { workers: 1, policies: Vec::new(), version: "test", commit: "test", started: 0 };
        let (metrics, _) = Metrics::new(setup);
        let mut diagnostics = Diagnostics::new();
        let snapshot =
            Snapshot::compile(&config, &ROWS, &Carry::detached(), &Nowhere::shared(), &metrics, &mut diagnostics);
        let found = diagnostics.iter().map(|found| format!("{} {}", found.code, found.message)).collect();
        (snapshot, found)
    }

    #[test]
    fn a_route_whose_requests_fall_through_to_one_without_its_authenticator_is_warned_of() {
        let routes = |products: &str| {
            format!(
                "  - {{ name: item, upstream: u, match: {{ path: /items/x, methods: [GET], headers: {{ x-flag: a }} }}, policies: {{ key_auth: {{}} }} }}\n  - {{ name: products, upstream: u, match: {{ path: /items/x }}{products} }}"
            )
        };
        let (_, found) = compile(&routes(""));
        assert_eq!(
            found,
            [
                "route_less_protected a request that fails only the conditions of `item` (a header, a method) goes to `products`, which does not ask for `key_auth`"
            ]
        );
        assert_eq!(compile(&routes(", policies: { key_auth: {} }")).1, [""; 0]);
    }

    #[test]
    fn a_template_of_the_access_log_is_checked_before_the_log_is_opened() {
        let route = "  - { name: a, match: { path: /a }, answer: { body: a } }\n";
        assert_eq!(compile(&format!("{route}access_log: {{ format: '${{id}} ${{status}}' }}\n")).1, [""; 0]);
        let (_, found) = compile(&format!("{route}access_log: {{ format: '${{id}} ${{statu}}' }}\n"));
        assert!(found.len() == 1 && found[0].contains("statu"), "{found:?}");
    }

    #[test]
    fn a_stripped_prefix_is_read_like_the_path_of_a_request() {
        for (typed, read) in [("/%7Euser", "/~user"), ("/상품", "/%EC%83%81%ED%92%88")] {
            let route = format!(
                "  - {{ name: a, upstream: u, match: {{ prefix: {typed} }}, rewrite: {{ strip_prefix: {typed} }} }}"
            );
            let (snapshot, _) = compile(&route);
            let rewrite = snapshot.and_then(|mut snapshot| Arc::get_mut(&mut snapshot.routes[0].own)?.rewrite.take());
            assert!(matches!(rewrite.unwrap().path, Some(PathRewrite::StripPrefix(prefix)) if prefix == read));
        }
        let (snapshot, found) = compile("  - { name: a, upstream: u, rewrite: { strip_prefix: /a%2Fb } }");
        assert!(snapshot.is_none());
        assert!(found[0].starts_with("bad_value "), "{found:?}");
    }

    #[test]
    fn the_text_of_a_rewritten_path_is_brought_into_normal_form_or_refused() {
        assert_eq!(normal_template("/상/%7e{id}/v{a}.{b}/", false).as_deref(), Ok("/%EC%83%81/~{id}/v{a}.{b}/"));
        assert_eq!(normal_template("/a//b", true).as_deref(), Ok("/a//b"));
        for wrong in ["/x/../{id}", "/x/%2e/{id}", "/a/%2f%zz{id}", "/a//{id}", "/.{id}", "/x/{id}..", "/%2e{id}/y"] {
            let (snapshot, found) = compile(&format!(
                "  - {{ name: a, upstream: u, match: {{ path: \"/p/{{id}}\" }}, rewrite: {{ path: \"{wrong}\" }} }}"
            ));
            assert!(snapshot.is_none(), "{wrong}");
            assert!(found[0].starts_with("bad_value "), "{found:?}");
        }
    }
}
