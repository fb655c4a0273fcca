//! Routes of the configuration become a [`Router`], with all that is to be said about them. Knows nothing of requests.

use std::cmp::Reverse;
use std::collections::HashMap;

use daemun_config::diagnostic::{self, Diagnostic, Diagnostics};
use daemun_config::model::{Match, PathMatch, Route, Spanned};
use daemun_config::tree::At;
use daemun_pipeline::expression::{Expression, Scope};

use super::Router;
use super::conditions::{ConditionSet, RegexCache, When, anchored};
use super::conflicts;
use super::grow::Grower;
use super::hosts::{HostKind, Hosts, read_pattern};
use super::methods::{MethodSet, Methods};
use super::pattern::{Keep, MAX_PARAMETERS, Pattern};
use super::reach;
use super::trie::{Entry, EntryFlags, List, NONE, PathRegex};

/// Most entries (routes times their hosts) of a router: keeps every number within its type.
const MAX_ENTRIES: usize = 1 << 24;

/// What the router needs to know of a route.
#[derive(Clone, Copy, Debug)]
pub struct RouteSpec<'a> {
    /// Its name, for findings.
    pub name: &'a Spanned<String>,
    /// Its conditions.
    pub matches: &'a Match,
    /// Decides between routes of equal host rank; higher wins.
    pub priority: i32,
    /// Whether it reads paths with their empty segments.
    pub keep_slashes: bool,
    /// Whether it takes paths with `%2F`.
    pub keep_encoded_slash: bool,
}

impl<'a> From<&'a Route> for RouteSpec<'a> {
    fn from(route: &'a Route) -> Self {
        Self {
            name: &route.name,
            matches: &route.matches,
            priority: route.priority,
            keep_slashes: route.keep_slashes,
            keep_encoded_slash: route.keep_encoded_slash,
        }
    }
}

impl RouteSpec<'_> {
    pub(super) fn keep(&self) -> Keep {
        Keep { slashes: self.keep_slashes, encoded_slash: self.keep_encoded_slash }
    }

    /// Where a finding about the route's path condition points.
    pub(super) fn at(&self) -> At {
        self.matches.path.as_ref().map_or(self.name.at, |path| path.at)
    }

    /// The place of a key of `match`, in the configuration's own names.
    pub(super) fn path(&self, key: &str) -> String {
        format!("routes.{}.match{key}", self.name.value)
    }

    fn path_key(&self) -> &'static str {
        match self.matches.path.as_ref().map(|path| &path.value) {
            Some(PathMatch::Prefix(_)) => ".prefix",
            Some(PathMatch::Regex(_)) => ".path_regex",
            Some(PathMatch::Pattern(_)) | None => ".path",
        }
    }
}

/// A route under one host, on its way to its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Number of the host pattern; once sorted, its rank.
    pub(super) host: u32,
    key: (u32, u32),
    pub(super) priority: i32,
    /// What [`ConditionSet::weight`] gave.
    pub(super) weight: u64,
    pub(super) methods: MethodSet,
    pub(super) route: u32,
    conditions: u32,
    flags: EntryFlags,
}

impl Item {
    pub(super) fn any_method(&self) -> bool {
        self.methods == MethodSet::ANY
    }
}

/// Everything that is collected before the tree is built.
#[derive(Default)]
pub(super) struct Draft<'a> {
    pub(super) specs: Vec<RouteSpec<'a>>,
    pub(super) items: Vec<Item>,
    /// All keys, one after the other.
    keys: Vec<u8>,
    pub(super) conditions: Vec<ConditionSet>,
    methods: Methods,
    hosts: Vec<(HostKind, &'a str)>,
    host_numbers: HashMap<(HostKind, &'a str), u32>,
    regexes: Vec<PathRegex>,
    regex_numbers: HashMap<String, u32>,
    cache: RegexCache,
    names: Vec<Box<[Box<str>]>>,
    name_numbers: HashMap<Vec<String>, u32>,
    route_names: Vec<u32>,
}

impl Router {
    /// Compiles routes, in file order. All findings go to `diagnostics`; `None` when one of them is an error. Takes a few
    /// hundred nanoseconds per route.
    pub fn build<'a>(
        routes: impl IntoIterator<Item = RouteSpec<'a>>,
        hosts_fall_through: bool,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut draft = Draft::default();
        let mut found = Diagnostics::new();
        for spec in routes {
            draft.add(spec, &mut found);
            if draft.items.len() > MAX_ENTRIES {
                let message = format!("there are more than {MAX_ENTRIES} routes, each counted once per host");
                found.error(diagnostic::LIMIT, "routes", spec.name.at, message);
                break;
            }
        }
        draft.sort();
        conflicts::report(&draft, &mut found);
        let router = (!found.has_errors()).then(|| draft.finish(hosts_fall_through, &mut found));
        diagnostics.append(found);
        router
    }
}

impl<'a> Draft<'a> {
    /// Adds a route; reports what is wrong with it.
    fn add(&mut self, spec: RouteSpec<'a>, found: &mut Diagnostics) {
        let route = number(self.specs.len());
        self.specs.push(spec);
        self.route_names.push(0);
        let mut conditions = ConditionSet::compile(spec.matches, &mut self.cache, &mut |regex, message| {
            found.error(diagnostic::BAD_VALUE, spec.path(""), regex.at, message);
        });
        let methods = self.methods.intern(spec.matches.methods.iter().map(|method| method.value.as_str()));
        if methods.is_none() {
            let at = spec.matches.methods.first().map_or(spec.name.at, |method| method.at);
            found.error(diagnostic::LIMIT, spec.path(".methods"), at, "the routes name more than 63 different methods");
        }
        let pattern = self.pattern(&spec, found);
        let (Some(pattern), Some(methods)) = (pattern, methods) else { return };
        conditions.when = when(&spec, &pattern.names, found);
        let start = self.keys.len();
        self.keys.extend_from_slice(&pattern.key);
        if let Some(slot) = self.route_names.get_mut(route as usize) {
            *slot = intern_names(&mut self.names, &mut self.name_numbers, pattern.names);
        }
        let mut item = Item {
            host: 0,
            key: (number(start), number(self.keys.len())),
            priority: spec.priority,
            weight: conditions.weight(),
            methods,
            route,
            conditions: NONE,
            flags: EntryFlags {
                keep_slashes: spec.keep_slashes,
                keep_encoded_slash: spec.keep_encoded_slash,
                needs_slash: pattern.needs_slash,
                captures_rest: pattern.captures_rest,
            },
        };
        if !conditions.is_empty() {
            item.conditions = number(self.conditions.len());
            self.conditions.push(conditions);
        }
        self.add_hosts(&spec, item, found);
    }

    /// Reads the path condition of a route, and completes its key and names if it is an expression.
    fn pattern(&mut self, spec: &RouteSpec<'_>, found: &mut Diagnostics) -> Option<Pattern> {
        let condition = spec.matches.path.as_ref();
        let mut pattern = match Pattern::read(condition.map(|path| &path.value), spec.keep()) {
            Ok(pattern) => pattern,
            Err(error) => {
                let mut finding = Diagnostic::error(diagnostic::BAD_VALUE, spec.at(), error.message);
                finding.help = error.help;
                found.push(finding.path(spec.path(spec.path_key())));
                return None;
            }
        };
        if let Some(text) = pattern.regex.take() {
            let result = self.regex(text, &pattern.regex_prefix).and_then(|number| {
                pattern.names = self.group_names(number)?;
                pattern.key.extend_from_slice(&number.to_be_bytes());
                Ok(())
            });
            if let Err(message) = result {
                found.error(diagnostic::BAD_VALUE, spec.path(spec.path_key()), spec.at(), message);
                return None;
            }
        }
        Some(pattern)
    }

    /// The number of an expression: the same text is the same expression, ranked by where it stood first.
    fn regex(&mut self, text: String, prefix: &[u8]) -> Result<u32, String> {
        if let Some(&known) = self.regex_numbers.get(&text) {
            return Ok(known);
        }
        let regex = anchored(&text)?;
        let new = number(self.regexes.len());
        self.regexes.push(PathRegex { text: text.as_str().into(), regex, prefix: prefix.into() });
        self.regex_numbers.insert(text, new);
        Ok(new)
    }

    fn group_names(&self, regex: u32) -> Result<Vec<String>, String> {
        let Some(regex) = self.regexes.get(regex as usize) else { return Ok(Vec::new()) };
        let names: Vec<String> = regex.regex.compiled().capture_names().flatten().map(str::to_owned).collect();
        if names.len() > MAX_PARAMETERS {
            return Err(format!("`{}` has more than {MAX_PARAMETERS} named groups", regex.text));
        }
        Ok(names)
    }

    /// Puts a route under each of its hosts, under any host if it names none.
    fn add_hosts(&mut self, spec: &RouteSpec<'a>, item: Item, found: &mut Diagnostics) {
        let first = self.items.len();
        if spec.matches.hosts.is_empty() {
            let host = self.host(HostKind::Any, "");
            self.items.push(Item { host, ..item });
        }
        for pattern in &spec.matches.hosts {
            let Some((kind, name)) = read_pattern(&pattern.value) else {
                let message = format!("`{}` is not a host name or `*.` and one", pattern.value);
                found.error(diagnostic::BAD_VALUE, spec.path(".hosts"), pattern.at, message);
                continue;
            };
            let host = self.host(kind, name);
            if !self.items.get(first..).unwrap_or_default().iter().any(|item| item.host == host) {
                self.items.push(Item { host, ..item });
            }
        }
    }

    fn host(&mut self, kind: HostKind, name: &'a str) -> u32 {
        *self.host_numbers.entry((kind, name)).or_insert_with(|| {
            self.hosts.push((kind, name));
            number(self.hosts.len() - 1)
        })
    }

    /// Puts hosts and items into their order of precedence, priorities aside.
    fn sort(&mut self) {
        let mut order: Vec<u32> = (0..number(self.hosts.len())).collect();
        let host = |number: &u32| self.hosts.get(*number as usize).copied().unwrap_or((HostKind::Any, ""));
        order.sort_by_key(|number| {
            let (kind, name) = host(number);
            (kind, Reverse(if kind == HostKind::Wildcard { name.len() } else { 0 }), name)
        });
        let mut ranks = vec![0; order.len()];
        for (rank, &host) in (0..).zip(&order) {
            if let Some(slot) = ranks.get_mut(host as usize) {
                *slot = rank;
            }
        }
        self.hosts = order.iter().map(host).collect();
        let Self { items, keys, .. } = self;
        for item in items.iter_mut() {
            item.host = ranks.get(item.host as usize).copied().unwrap_or_default();
        }
        items.sort_unstable_by(|a, b| {
            a.host
                .cmp(&b.host)
                .then_with(|| key_of(keys, a).cmp(key_of(keys, b)))
                .then_with(|| b.priority.cmp(&a.priority))
                .then_with(|| b.weight.cmp(&a.weight))
                .then_with(|| a.any_method().cmp(&b.any_method()))
                .then_with(|| a.route.cmp(&b.route))
        });
    }

    /// The key of an item.
    pub(super) fn key(&self, item: &Item) -> &[u8] {
        key_of(&self.keys, item)
    }

    /// The conditions of an item; `None` when it has none.
    pub(super) fn conditions(&self, item: &Item) -> Option<&ConditionSet> {
        self.conditions.get(item.conditions as usize)
    }

    /// A host pattern by its rank, as it was written.
    pub(super) fn host_pattern(&self, rank: u32) -> String {
        match self.hosts.get(rank as usize) {
            Some((HostKind::Exact, name)) => (*name).to_owned(),
            Some((HostKind::Wildcard, name)) => format!("*.{name}"),
            Some((HostKind::Any, _)) | None => "any host".to_owned(),
        }
    }

    fn finish(self, hosts_fall_through: bool, found: &mut Diagnostics) -> Router {
        let Self { specs, items, keys, conditions, methods, hosts, regexes, names, route_names, .. } = self;
        let entries: Vec<Entry> = items
            .iter()
            .map(|item| Entry {
                methods: item.methods,
                route: item.route,
                priority: item.priority,
                conditions: item.conditions,
                flags: item.flags,
            })
            .collect();
        let item_keys: Vec<&[u8]> = items.iter().map(|item| key_of(&keys, item)).collect();
        let mut grower = Grower::new(&item_keys, &entries, regexes);
        let mut patterns = Vec::with_capacity(hosts.len());
        let mut start = 0;
        for (rank, (kind, name)) in (0..).zip(hosts) {
            let rest = items.get(start..).unwrap_or_default();
            let len = rest.partition_point(|item| item.host <= rank);
            if len > 0 {
                let (root, max_priority) = grower.root(start..start + len);
                patterns.push((kind, name, root, max_priority, List { start: number(start), len: number(len) }));
            }
            start += len;
        }
        let keeps_slashes = entries.iter().any(|entry| entry.flags.keep_slashes);
        let trie = grower.finish(patterns.iter_mut().map(|(_, _, root, _, _)| root));
        let router = Router {
            hosts: Hosts::new(patterns.into_iter()),
            trie,
            conditions: conditions.into(),
            methods,
            names: names.into(),
            route_names: route_names.into(),
            hosts_fall_through,
            keeps_slashes,
        };
        reach::report_unreachable(&router, &specs, &item_keys, found);
        router
    }
}

/// Reads the expression of a route, whose parameters have these names.
fn when(spec: &RouteSpec<'_>, names: &[String], found: &mut Diagnostics) -> Option<When> {
    let text = spec.matches.when.as_ref()?;
    let scope = Scope { params: names, body: spec.matches.body.is_some(), ..Scope::default() };
    match Expression::parse(&text.value, &scope) {
        Ok(expression) => {
            if spec.matches.body.is_some() && !expression.needs_body() {
                let message = "`when` does not speak of `request.body`, so that none is read";
                let finding = Diagnostic::warning(diagnostic::NO_EFFECT, text.at, message);
                found.push(finding.path(spec.path(".body")));
            }
            Some(When { expression, body: spec.matches.body.unwrap_or(0) })
        }
        Err(error) => {
            let at = text.at.within(&text.value, error.offset);
            let mut finding = Diagnostic::error(diagnostic::BAD_VALUE, at, error.to_string());
            finding.help = error.help;
            found.push(finding.path(spec.path(".when")));
            None
        }
    }
}

fn key_of<'k>(keys: &'k [u8], item: &Item) -> &'k [u8] {
    keys.get(item.key.0 as usize..item.key.1 as usize).unwrap_or_default()
}

/// The number of a list of names, the same for equal lists.
fn intern_names(lists: &mut Vec<Box<[Box<str>]>>, numbers: &mut HashMap<Vec<String>, u32>, names: Vec<String>) -> u32 {
    if let Some(&known) = numbers.get(&names) {
        return known;
    }
    let new = number(lists.len());
    lists.push(names.iter().map(|name| name.as_str().into()).collect());
    numbers.insert(names, new);
    new
}

/// Lengths here stay far below 2^32, see [`MAX_ENTRIES`].
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}
