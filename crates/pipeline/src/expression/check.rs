//! What a tree means: every name becomes a slot, every operator and function is held against the types of what it is given, and what cannot
//! mean anything is refused where it stands. Evaluates nothing.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, operators,
};
use daemun_config::diagnostic::nearest;
use daemun_config::model::IpNet;
use regex::Regex;

use super::Scope;
use super::facts::{List, Names, Slot, Source};
use super::functions::{self, Function};
use crate::bounded::{Bounded, MOST_COMPILED};

/// `all`, `exists`, `map` and `filter` within each other.
const MOST_MACROS: usize = 2;

/// What is known of a value before there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Null,
    List(Box<Kind>),
    Map(Box<Kind>),
    /// Known only when it is there.
    Any,
}

/// What is wrong, and which node it is about.
pub(super) struct Wrong {
    pub(super) node: u64,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Tables that the checked tree refers into.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) slots: Vec<Slot>,
    pub(super) regexes: Vec<Bounded<Regex>>,
    pub(super) nets: Vec<IpNet>,
    /// Names of the route's parameters.
    pub(super) params: Vec<String>,
    /// The names are those of the route that an exchange took.
    pub(super) any_params: bool,
}

/// The checker of one tree.
pub(super) struct Checker<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) tables: Tables,
    /// Variables of macros, innermost last.
    locals: Vec<(String, Kind)>,
    macros: usize,
}

const FIELDS: &[(&str, &[&str])] = &[
    (
        "request",
        &["body", "cookie", "full_path", "header", "host", "id", "method", "path", "query", "query_string", "scheme"],
    ),
    ("response", &["header", "status"]),
    ("client", &["ip"]),
    ("consumer", &["claims", "credential", "groups", "name", "roles", "scopes", "tags"]),
    ("tls", &["dns_names", "fingerprint", "issuer", "server_name", "subject", "subject_cn", "uris", "version"]),
];

type Checked = Result<Kind, Wrong>;

impl Kind {
    /// As messages say it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Bool => "true or false",
            Kind::Int => "a whole number",
            Kind::Uint => "an unsigned number",
            Kind::Double => "a fraction",
            Kind::Text => "a text",
            Kind::Bytes => "bytes",
            Kind::Null => "null",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Any => "any value",
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Kind::Int | Kind::Uint | Kind::Double)
    }

    /// Whether a value of this kind can be of the other.
    pub(super) fn fits(&self, other: &Kind) -> bool {
        match (self, other) {
            (Kind::Any, _) | (_, Kind::Any) => true,
            (Kind::List(own), Kind::List(other)) | (Kind::Map(own), Kind::Map(other)) => own.fits(other),
            (own, other) => own == other,
        }
    }

    /// Whether values can be equal.
    fn compares(&self, other: &Kind) -> bool {
        self.fits(other) || self.is_number() && other.is_number() || *self == Kind::Null || *other == Kind::Null
    }

    /// The kind of what may be either.
    fn or(self, other: Kind) -> Kind {
        if self == other { self } else { Kind::Any }
    }
}

fn wrong<T>(node: &IdedExpr, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { node: node.id, message: message.into(), help: None })
}

fn wrong_help<T>(node: &IdedExpr, message: impl Into<String>, help: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { node: node.id, message: message.into(), help: Some(help.into()) })
}

/// What stands behind `in`.
const IN_HELP: &str = "behind `in` stands a list: `[\"a\", \"b\"]`; a text is looked through by `.contains(\"a\")`";

/// The network that `client.ip` is compared with as if it were an address.
fn network_for_address(call: &CallExpr) -> Option<&str> {
    if ![operators::EQUALS, operators::NOT_EQUALS, operators::IN].contains(&call.func_name.as_str()) {
        return None;
    }
    let is_address = |node: &IdedExpr| {
        let Expr::Select(select) = &node.expr else { return false };
        select.field == "ip" && matches!(&select.operand.expr, Expr::Ident(name) if name == "client")
    };
    fn texts(node: &IdedExpr) -> Vec<&str> {
        match &node.expr {
            Expr::List(list) => list.elements.iter().filter_map(literal_text).collect(),
            _ => literal_text(node).into_iter().collect(),
        }
    }
    let is_network = |text: &&str| text.contains('/') && text.parse::<IpNet>().is_ok();
    call.args.iter().find(|node| is_address(node))?;
    call.args.iter().flat_map(texts).find(is_network)
}

/// The name under which the interpreter finds a slot; no expression can spell it.
pub(super) fn slot_name(index: usize) -> String {
    format!("@{index}")
}

/// The slot an identifier of a checked tree stands for.
pub(super) fn slot_index(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}

/// The text of a literal.
pub(super) fn literal_text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// The number of a literal.
pub(super) fn literal_int(node: &IdedExpr) -> Option<i64> {
    match &node.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(*number.inner()),
        _ => None,
    }
}

impl<'a> Checker<'a> {
    pub(super) fn new(scope: &'a Scope<'a>) -> Checker<'a> {
        let tables = Tables { params: scope.params.to_vec(), any_params: scope.any_params, ..Tables::default() };
        Checker { scope, tables, locals: Vec::new(), macros: 0 }
    }

    /// Finds the kind of a node, and puts slots in place of what it names.
    pub(super) fn check(&mut self, node: &mut IdedExpr) -> Checked {
        if let Some(kind) = self.named(node)? {
            return Ok(kind);
        }
        let id = node.id;
        match &mut node.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Kind::Bool,
                LiteralValue::Bytes(_) => Kind::Bytes,
                LiteralValue::Double(_) => Kind::Double,
                LiteralValue::Int(_) => Kind::Int,
                LiteralValue::Null => Kind::Null,
                LiteralValue::String(_) => Kind::Text,
                LiteralValue::UInt(_) => Kind::Uint,
            }),
            Expr::Ident(_) => {
                let Expr::Ident(name) = &node.expr else { return Ok(Kind::Any) };
                match self.locals.iter().rev().find(|(known, _)| known == name) {
                    Some((_, kind)) => Ok(kind.clone()),
                    None => self.unknown(node, name),
                }
            }
            Expr::Select(select) => self.select(id, select),
            Expr::Call(call) => {
                let mut taken = std::mem::take(call);
                let kind = self.call(id, &mut taken);
                node.expr = Expr::Call(taken);
                kind
            }
            Expr::List(ListExpr { elements, .. }) => {
                let mut kinds = Vec::with_capacity(elements.len());
                for element in elements {
                    kinds.push(self.check(element)?);
                }
                Ok(Kind::List(Box::new(kinds.into_iter().reduce(Kind::or).unwrap_or(Kind::Any))))
            }
            Expr::Map(map) => {
                let mut value = None;
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        let key = self.check(&mut entry.key)?;
                        if !key.fits(&Kind::Text) && !key.is_number() && key != Kind::Bool {
                            return wrong(&entry.key, format!("{} is no key", key.name()));
                        }
                        let kind = self.check(&mut entry.value)?;
                        value = Some(value.map_or(kind.clone(), |known: Kind| known.or(kind)));
                    }
                }
                Ok(Kind::Map(Box::new(value.unwrap_or(Kind::Any))))
            }
            Expr::Comprehension(over) => self.comprehension(id, over),
            Expr::Struct(_) => wrong(node, "messages cannot be built here"),
            Expr::Unspecified => wrong(node, "something is missing"),
        }
    }

    /// Puts a slot in place of a node.
    fn put(&mut self, node: &mut IdedExpr, slot: Slot) {
        let index = self.tables.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
            self.tables.slots.push(slot);
            self.tables.slots.len() - 1
        });
        node.expr = Expr::Ident(slot_name(index));
    }

    /// Resolves a node that names something of an exchange.
    fn named(&mut self, node: &mut IdedExpr) -> Result<Option<Kind>, Wrong> {
        if let Some(names) = self.names_of(node)? {
            self.put(node, Slot::All(names));
            return Ok(Some(Kind::Map(Box::new(Kind::Text))));
        }
        if let Some((slot, kind)) = self.claim(node)? {
            self.put(node, slot);
            return Ok(Some(kind));
        }
        let found = match &node.expr {
            Expr::Select(select) => match self.names_of(&select.operand)? {
                Some(names) if select.test => Some((self.has(names, &select.field), Kind::Bool)),
                Some(names) => Some((Slot::Text(self.value_of(names, &select.field, node)?), Kind::Text)),
                None => self.variable(node, select)?,
            },
            Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
                [of, key] => match (self.names_of(of)?, literal_text(key)) {
                    (Some(names), Some(key)) => Some((Slot::Text(self.value_of(names, key, node)?), Kind::Text)),
                    _ => None,
                },
                _ => None,
            },
            Expr::Call(call) if call.func_name == operators::IN => match call.args.as_slice() {
                [key, of] => match (literal_text(key), self.names_of(of)?) {
                    (Some(key), Some(names)) => Some((self.has(names, key), Kind::Bool)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        Ok(found.map(|(slot, kind)| {
            self.put(node, slot);
            kind
        }))
    }

    /// The mapping a node names.
    fn names_of(&self, node: &IdedExpr) -> Result<Option<Names>, Wrong> {
        match &node.expr {
            Expr::Ident(name) if name == "params" => Ok(Some(Names::Params)),
            Expr::Select(select) if !select.test => {
                let Expr::Ident(root) = &select.operand.expr else { return Ok(None) };
                Ok(match (root.as_str(), select.field.as_str()) {
                    ("request", "header") => Some(Names::Header),
                    ("request", "query") => Some(Names::Query),
                    ("request", "cookie") => Some(Names::Cookie),
                    ("response", "header") => {
                        self.needs_answer(node)?;
                        Some(Names::AnswerHeader)
                    }
                    _ => None,
                })
            }
            _ => Ok(None),
        }
    }

    fn has(&self, names: Names, key: &str) -> Slot {
        Slot::Has(names, folded(names, key))
    }

    /// The source of one name of a mapping.
    fn value_of(&self, names: Names, key: &str, node: &IdedExpr) -> Result<Source, Wrong> {
        if names != Names::Params {
            return Ok(Source::Named(names, folded(names, key)));
        }
        if self.scope.any_params {
            return Ok(Source::ParamOf(key.into()));
        }
        match self.scope.params.iter().zip(0..).find(|(name, _)| *name == key) {
            Some((_, index)) => Ok(Source::Param(index)),
            None if self.scope.params.is_empty() => {
                wrong(node, format!("there is no parameter `{key}`: the route's path has none"))
            }
            None => wrong_help(
                node,
                format!("the route's path has no parameter `{key}`"),
                format!("it has {}", listed(self.scope.params.iter().map(String::as_str))),
            ),
        }
    }

    /// Resolves `root.field`.
    fn variable(&self, node: &IdedExpr, select: &SelectExpr) -> Result<Option<(Slot, Kind)>, Wrong> {
        let Expr::Ident(root) = &select.operand.expr else { return Ok(None) };
        let Some((_, fields)) = FIELDS.iter().find(|(known, _)| known == root) else { return Ok(None) };
        if select.test {
            return wrong(node, format!("`{root}.{}` is always there", select.field));
        }
        let text = |source| Ok(Some((Slot::Text(source), Kind::Text)));
        let list = |list| Ok(Some((Slot::List(list), Kind::List(Box::new(Kind::Text)))));
        match (root.as_str(), select.field.as_str()) {
            ("request", "method") => text(Source::Method),
            ("request", "path") => text(Source::Path),
            ("request", "full_path") => text(Source::FullPath),
            ("request", "host") => text(Source::Host),
            ("request", "scheme") => text(Source::Scheme),
            ("request", "query_string") => text(Source::QueryString),
            ("request", "id") => text(Source::Id),
            ("request", "body") if !self.scope.body => wrong_help(
                node,
                "the body is not read here",
                "the `when` of a route's `match` reads it, where `body: 64KiB` beside it says how much",
            ),
            ("request", "body") => Ok(Some((Slot::Body, Kind::Any))),
            ("client", "ip") => text(Source::ClientIp),
            ("tls", "fingerprint") => text(Source::Fingerprint),
            ("tls", "version") => text(Source::TlsVersion),
            ("tls", "server_name") => text(Source::ServerName),
            ("tls", "subject") => text(Source::Subject),
            ("tls", "subject_cn") => text(Source::SubjectCn),
            ("tls", "issuer") => text(Source::Issuer),
            ("tls", "dns_names") => list(List::DnsNames),
            ("tls", "uris") => list(List::Uris),
            ("consumer", field) if !self.scope.consumer && fields.contains(&field) => self.unknown_caller(node),
            ("consumer", "name") => text(Source::Consumer),
            ("consumer", "credential") => text(Source::Credential),
            ("consumer", "roles") => list(List::Roles),
            ("consumer", "groups") => list(List::Groups),
            ("consumer", "tags") => list(List::Tags),
            ("consumer", "scopes") => list(List::Scopes),
            ("consumer", "claims") => Ok(Some((Slot::Claims, Kind::Map(Box::new(Kind::Any))))),
            ("response", "status") => {
                self.needs_answer(node)?;
                Ok(Some((Slot::Status, Kind::Int)))
            }
            (root, field) => {
                let help = match nearest(field, fields.iter().copied()) {
                    Some(near) => format!("did you mean `{root}.{near}`?"),
                    None => format!("it has {}", listed(fields.iter().copied())),
                };
                wrong_help(node, format!("`{root}` has no `{field}`"), help)
            }
        }
    }

    fn unknown_caller<T>(&self, node: &IdedExpr) -> Result<T, Wrong> {
        let help =
            "a route is chosen before anybody is asked who calls; `when` of a policy of the route may speak of it";
        wrong_help(node, "who calls is not known yet where this stands", help)
    }

    /// Resolves what leads into the claims of a caller.
    fn claim(&self, node: &IdedExpr) -> Result<Option<(Slot, Kind)>, Wrong> {
        let found = match &node.expr {
            Expr::Select(select) if select.test => {
                // claims themselves are always there, which is said where fields are resolved
                claim_path(&select.operand).map(|path| (Slot::HasClaim(longer(path, &select.field)), Kind::Bool))
            }
            Expr::Call(call) if call.func_name == operators::IN => match call.args.as_slice() {
                [key, of] => literal_text(key)
                    .zip(claim_path(of).filter(Vec::is_empty))
                    .map(|(key, path)| (Slot::HasClaim(longer(path, key)), Kind::Bool)),
                _ => None,
            },
            _ => claim_path(node).filter(|path| !path.is_empty()).map(|path| (Slot::Claim(path.into()), Kind::Any)),
        };
        match found {
            Some(_) if !self.scope.consumer => self.unknown_caller(node),
            found => Ok(found),
        }
    }

    fn needs_answer(&self, node: &IdedExpr) -> Result<(), Wrong> {
        if self.scope.answer { Ok(()) } else { wrong(node, "there is no answer yet where this stands") }
    }

    fn unknown<T>(&self, node: &IdedExpr, name: &str) -> Result<T, Wrong> {
        if let Some((_, fields)) = FIELDS.iter().find(|(known, _)| *known == name) {
            let fields = listed(fields.iter().copied());
            return wrong_help(node, format!("`{name}` is no value by itself"), format!("it has {fields}"));
        }
        let roots = FIELDS.iter().map(|(root, _)| *root).chain(["params"]);
        let known = self.locals.iter().map(|(name, _)| name.as_str()).filter(|name| !name.starts_with('@'));
        let help = match nearest(name, roots.clone().chain(known)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the variables are {}; a text stands in quotes: `\"{name}\"`", listed(roots)),
        };
        wrong_help(node, format!("there is no variable `{name}`"), help)
    }

    fn select(&mut self, id: u64, select: &mut SelectExpr) -> Checked {
        let kind = self.check(&mut select.operand)?;
        let value = match kind {
            Kind::Any => Kind::Any,
            Kind::Map(value) => *value,
            other => {
                let message = format!("{} has no field `{}`", other.name(), select.field);
                return Err(Wrong { node: id, message, help: None });
            }
        };
        Ok(if select.test { Kind::Bool } else { value })
    }

    fn call(&mut self, id: u64, call: &mut CallExpr) -> Checked {
        if call.target.is_none()
            && let Some(kind) = self.operator(id, call)?
        {
            return Ok(kind);
        }
        let name = call.func_name.clone();
        let mut kinds = Vec::with_capacity(call.args.len() + 1);
        let is_member = call.target.is_some();
        if let Some(target) = &mut call.target {
            kinds.push(self.check(target)?);
        }
        for argument in &mut call.args {
            kinds.push(self.check(argument)?);
        }
        let fail = |message: String, help: Option<String>| Err(Wrong { node: id, message, help });
        let mut same = functions::ALL.iter().filter(|known| known.name == name).peekable();
        if same.peek().is_none() {
            let help = match nearest(&name, functions::ALL.iter().map(|known| known.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the functions are {}", functions::names()),
            };
            return fail(format!("there is no function `{name}`"), Some(help));
        }
        let usage =
            || functions::ALL.iter().filter(|known| known.name == name).map(Function::usage).collect::<Vec<_>>();
        let mut counted = same.filter(|known| known.is_called(is_member, kinds.len())).peekable();
        if counted.peek().is_none() {
            return fail(format!("`{name}` is not called like this"), Some(format!("write {}", usage().join(" or "))));
        }
        let Some(function) = counted.find(|known| known.takes(&kinds)) else {
            let given = kinds.iter().map(Kind::name).collect::<Vec<_>>().join(" and ");
            return fail(format!("`{name}` does not take {given}"), Some(format!("write {}", usage().join(" or "))));
        };
        if matches!(function.name, "matches" | "in_network") {
            self.compile(call)?;
        }
        Ok(function.gives.clone())
    }

    /// Compiles the second argument of a function that takes a literal only.
    fn compile(&mut self, call: &mut CallExpr) -> Result<(), Wrong> {
        let is_regex = call.func_name == "matches";
        let Some(last) = call.args.last_mut() else { return Ok(()) };
        let what = if is_regex { "a regular expression" } else { "a network" };
        let Some(text) = literal_text(last) else {
            return wrong(last, format!("{what} is written out, so that it is known while the configuration is read"));
        };
        let index = if is_regex {
            match Bounded::build(|size| regex::RegexBuilder::new(text).size_limit(size).build()) {
                Ok(regex) => self.tables.regexes.push(regex),
                Err(regex::Error::CompiledTooBig(_)) => {
                    return wrong(last, format!("`{text}` needs more than {MOST_COMPILED} bytes when compiled"));
                }
                Err(error) => {
                    let reason = error.to_string();
                    let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    return wrong(last, format!("`{text}` is not a regular expression: {reason}"));
                }
            }
            self.tables.regexes.len() - 1
        } else {
            match text.parse::<IpNet>() {
                Ok(net) => self.tables.nets.push(net),
                Err(error) => return wrong(last, error),
            }
            self.tables.nets.len() - 1
        };
        last.expr = Expr::Literal(LiteralValue::Int(i64::try_from(index).unwrap_or(i64::MAX).into()));
        call.func_name = if is_regex { functions::MATCHES } else { functions::IN_NETWORK }.to_owned();
        if let Some(target) = call.target.take() {
            call.args.insert(0, *target);
        }
        Ok(())
    }

    /// The kind of an operator's result; `None` if the call is none.
    fn operator(&mut self, id: u64, call: &mut CallExpr) -> Result<Option<Kind>, Wrong> {
        let name = call.func_name.as_str();
        let sign = name.trim_matches('_').trim_start_matches('@').to_owned();
        if !functions::is_operator(name) {
            return Ok(None);
        }
        self.slip(id, call)?;
        let kinds = call.args.iter_mut().map(|argument| self.check(argument)).collect::<Result<Vec<_>, _>>()?;
        let is_in = call.func_name == operators::IN;
        let fail = |message: String| Err(Wrong { node: id, message, help: is_in.then(|| IN_HELP.to_owned()) });
        let kind = match (call.func_name.as_str(), kinds.as_slice()) {
            (operators::CONDITIONAL, [test, yes, no]) => {
                if !test.fits(&Kind::Bool) {
                    return fail(format!("before `?` stands a condition, not {}", test.name()));
                }
                yes.clone().or(no.clone())
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, kinds) => {
                match kinds.iter().find(|kind| !kind.fits(&Kind::Bool)) {
                    Some(kind) => return fail(format!("`{sign}` takes conditions, not {}", kind.name())),
                    None => Kind::Bool,
                }
            }
            (operators::NOT_STRICTLY_FALSE, _) => Kind::Bool,
            (operators::NEGATE, [kind]) if kind.is_number() || *kind == Kind::Any => kind.clone(),
            (operators::NEGATE, [kind]) => return fail(format!("`-` takes a number, not {}", kind.name())),
            (operators::EQUALS | operators::NOT_EQUALS, [one, other]) if one.compares(other) => Kind::Bool,
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [one, other],
            ) if is_ordered(one, other) => Kind::Bool,
            (operators::ADD, [one, other]) if is_added(one, other) => match (one, other) {
                (Kind::Any, kind) | (kind, Kind::Any) => kind.clone(),
                (Kind::List(one), Kind::List(other)) => Kind::List(Box::new(one.as_ref().clone().or(*other.clone()))),
                (kind, _) => kind.clone(),
            },
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [one, other])
                if one.fits(other) && (one.is_number() || other.is_number() || *one == Kind::Any) =>
            {
                if *one == Kind::Any { other.clone() } else { one.clone() }
            }
            (operators::IN, [_, Kind::Any]) => Kind::Bool,
            (operators::IN, [one, Kind::List(item)]) if one.compares(item) => Kind::Bool,
            (operators::IN, [one, Kind::Map(_)]) if one.fits(&Kind::Text) || one.is_number() || *one == Kind::Bool => {
                self.fold_key(call, 0, 1);
                Kind::Bool
            }
            (operators::INDEX, [Kind::Any, key]) if key.fits(&Kind::Text) || key.is_number() => Kind::Any,
            (operators::INDEX, [Kind::List(item), key]) if key.fits(&Kind::Int) => item.as_ref().clone(),
            (operators::INDEX, [Kind::Map(value), key]) if key.fits(&Kind::Text) || key.is_number() => {
                let value = value.as_ref().clone();
                if self.fold_key(call, 1, 0) {
                    // what is not there is empty, as where the name is written out
                    call.func_name = functions::VALUE.to_owned();
                }
                value
            }
            (_, [one, other]) => {
                let sign = if call.func_name == operators::INDEX { "[…]" } else { sign.as_str() };
                return fail(format!("`{sign}` does not take {} and {}", one.name(), other.name()));
            }
            _ => return fail(format!("`{sign}` is not written like this")),
        };
        Ok(Some(kind))
    }

    /// Refuses what reads as something else than was meant.
    fn slip(&self, id: u64, call: &CallExpr) -> Result<(), Wrong> {
        if let Some((written, meant)) = self.dashed(call) {
            let message = format!("`{written}` is a subtraction");
            return Err(Wrong { node: id, message, help: Some(format!("write `{meant}`")) });
        }
        match network_for_address(call) {
            None => Ok(()),
            Some(network) => {
                let help = Some(format!("write `in_network(client.ip, \"{network}\")`"));
                Err(Wrong { node: id, message: format!("an address is never `{network}`"), help })
            }
        }
    }

    /// A name with dashes behind a dot, such as `request.header.x-tenant`, which reads as `x` less `tenant`: as written, and as meant.
    fn dashed(&self, call: &CallExpr) -> Option<(String, String)> {
        let [left, right] = call.args.as_slice() else { return None };
        let last = leading(right)?;
        let is_known = self.locals.iter().any(|(known, _)| known == last);
        if call.func_name != operators::SUBSTRACT || is_known {
            return None;
        }
        let mut name = format!("-{last}");
        let mut node = left;
        while let Expr::Call(inner) = &node.expr {
            let ([next, right], operators::SUBSTRACT) = (inner.args.as_slice(), inner.func_name.as_str()) else {
                return None;
            };
            let Expr::Ident(part) = &right.expr else { return None };
            name = format!("-{part}{name}");
            node = next;
        }
        let Expr::Select(select) = &node.expr else { return None };
        let of = match self.names_of(&select.operand).ok()?? {
            Names::Header => "request.header",
            Names::Query => "request.query",
            Names::Cookie => "request.cookie",
            Names::AnswerHeader => "response.header",
            Names::Params => "params",
        };
        let name = format!("{}{name}", select.field);
        Some((format!("{of}.{name}"), format!("{of}[\"{name}\"]")))
    }

    /// Puts a computed key into the case that names of headers are in. Gives whether the mapping is one of an exchange.
    fn fold_key(&self, call: &mut CallExpr, key: usize, of: usize) -> bool {
        let slot = match call.args.get(of).map(|of| &of.expr) {
            Some(Expr::Ident(name)) => slot_index(name).and_then(|index| self.tables.slots.get(index)),
            _ => None,
        };
        let Some(Slot::All(names)) = slot else { return false };
        if matches!(names, Names::Header | Names::AnswerHeader)
            && let Some(key) = call.args.get_mut(key)
        {
            let id = key.id;
            let written = std::mem::take(key);
            let folded =
                CallExpr { func_name: "lowerAscii".to_owned(), target: Some(Box::new(written)), args: Vec::new() };
            *key = IdedExpr { id, expr: Expr::Call(folded) };
        }
        true
    }

    fn comprehension(&mut self, id: u64, over: &mut ComprehensionExpr) -> Checked {
        self.macros += 1;
        if self.macros > MOST_MACROS {
            let message = format!("macros that go over lists are more than {MOST_MACROS} within each other");
            return Err(Wrong { node: id, message, help: None });
        }
        // what is gone over may hold macros of its own, beside these and not within
        self.macros -= 1;
        let range = self.check(&mut over.iter_range);
        self.macros += 1;
        let item = match range? {
            Kind::List(item) => *item,
            Kind::Map(_) => Kind::Text,
            Kind::Any => Kind::Any,
            other => {
                let message = format!("{} is nothing to go over", other.name());
                return Err(Wrong { node: id, message, help: None });
            }
        };
        let is_taken = |name: &str| name == "params" || FIELDS.iter().any(|(root, _)| *root == name);
        if is_taken(&over.iter_var) || over.iter_var.starts_with('@') {
            let message = format!("`{}` is a variable of its own already", over.iter_var);
            return Err(Wrong { node: id, message, help: Some("give it another name".to_owned()) });
        }
        let start = self.check(&mut over.accu_init)?;
        let depth = self.locals.len();
        self.locals.push((over.iter_var.clone(), item));
        self.locals.push((over.accu_var.clone(), start.clone()));
        let condition = self.check(&mut over.loop_cond)?;
        let step = self.check(&mut over.loop_step)?;
        if !condition.fits(&Kind::Bool) || !step.fits(&start) {
            let message = "the condition is neither true nor false".to_owned();
            return Err(Wrong { node: id, message, help: None });
        }
        if let Some(result) = self.locals.last_mut() {
            result.1 = step;
        }
        let result = self.check(&mut over.result);
        self.locals.truncate(depth);
        self.macros -= 1;
        result
    }
}

fn is_ordered(one: &Kind, other: &Kind) -> bool {
    let ordered = |kind: &Kind| {
        matches!(kind, Kind::Bool | Kind::Int | Kind::Uint | Kind::Double | Kind::Text | Kind::Bytes | Kind::Any)
    };
    ordered(one) && ordered(other) && (one.fits(other) || one.is_number() && other.is_number())
}

fn is_added(one: &Kind, other: &Kind) -> bool {
    let added = |kind: &Kind| kind.is_number() || matches!(kind, Kind::Text | Kind::Bytes | Kind::List(_) | Kind::Any);
    match (one, other) {
        (Kind::List(_), Kind::List(_)) => true,
        _ => added(one) && added(other) && one.fits(other),
    }
}

/// The names that lead to a claim; none for `consumer.claims` itself.
fn claim_path(node: &IdedExpr) -> Option<Vec<Box<str>>> {
    match &node.expr {
        Expr::Select(select) if !select.test => match &select.operand.expr {
            Expr::Ident(root) => (root == "consumer" && select.field == "claims").then(Vec::new),
            _ => {
                let mut path = claim_path(&select.operand)?;
                path.push(select.field.as_str().into());
                Some(path)
            }
        },
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [of, key] => {
                let mut path = claim_path(of)?;
                path.push(literal_text(key)?.into());
                Some(path)
            }
            _ => None,
        },
        _ => None,
    }
}

fn longer(mut path: Vec<Box<str>>, name: &str) -> super::claims::Path {
    path.push(name.into());
    path.into()
}

/// The name that a node begins with.
fn leading(node: &IdedExpr) -> Option<&String> {
    match &node.expr {
        Expr::Ident(name) => Some(name),
        Expr::Select(select) => leading(&select.operand),
        Expr::Call(call) => leading(call.target.as_deref()?),
        _ => None,
    }
}

/// A name as it is looked up.
fn folded(names: Names, key: &str) -> Box<str> {
    match names {
        Names::Header | Names::AnswerHeader => key.to_ascii_lowercase().into(),
        Names::Query | Names::Cookie | Names::Params => key.into(),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
