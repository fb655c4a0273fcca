//! Conditions of the common forms, answered from the bytes of the exchange without the interpreter and without allocation; a test holds
//! them against it. What has another form stays a program.

use std::net::IpAddr;
use std::sync::Arc;

use cel::Value;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use daemun_config::model::IpNet;
use regex::Regex;

use super::Stop;
use super::check::{Tables, literal_int, literal_text, slot_index};
use super::claims;
use super::facts::{self, Facts, List, Names, Slot, Source};
use super::functions::{IN_NETWORK, MATCHES};
use super::program::Program;
use crate::bounded::Bounded;

/// A condition.
#[derive(Debug)]
pub(super) enum Test {
    Const(bool),
    Not(Box<Test>),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    /// The text is this one.
    Is(Source, Box<str>),
    /// Two texts are the same.
    Same(Source, Source),
    /// The text is one of these.
    OneOf(Source, Box<[Box<str>]>),
    Begins(Source, Box<str>),
    Ends(Source, Box<str>),
    Holds(Source, Box<str>),
    Matches(Source, Bounded<Regex>),
    Has(Names, Box<str>),
    /// The text is in the list.
    Listed(List, Box<str>),
    In(IpNet),
    /// The claim is this text.
    ClaimIs(claims::Path, Box<str>),
    /// The claim is one of these texts.
    ClaimOneOf(claims::Path, Box<[Box<str>]>),
    /// The claim is the same text.
    ClaimSame(claims::Path, Source),
    /// The text is in the claim.
    ClaimHolds(claims::Path, Box<str>),
    HasClaim(claims::Path),
    Status(Order, i64),
    Program(Box<Program>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, one: i64, other: i64) -> bool {
        match self {
            Order::Equal => one == other,
            Order::Less => one < other,
            Order::LessOrEqual => one <= other,
            Order::Greater => one > other,
            Order::GreaterOrEqual => one >= other,
        }
    }

    /// The same with its sides changed.
    fn turned(self) -> Order {
        match self {
            Order::Equal => Order::Equal,
            Order::Less => Order::Greater,
            Order::LessOrEqual => Order::GreaterOrEqual,
            Order::Greater => Order::Less,
            Order::GreaterOrEqual => Order::LessOrEqual,
        }
    }
}

/// Makes a condition of a checked tree.
pub(super) fn lower(node: &IdedExpr, tables: &Tables) -> Test {
    native(node, tables).unwrap_or_else(|| Test::Program(Box::new(Program::new(node.clone()))))
}

fn native(node: &IdedExpr, tables: &Tables) -> Option<Test> {
    match &node.expr {
        Expr::Literal(LiteralValue::Boolean(bool)) => Some(Test::Const(*bool.inner())),
        Expr::Ident(_) => match slot(node, tables)? {
            Slot::Has(names, name) => Some(Test::Has(*names, name.clone())),
            Slot::HasClaim(path) => Some(Test::HasClaim(path.clone())),
            _ => None,
        },
        Expr::Call(call) => call_of(call, tables),
        _ => None,
    }
}

fn call_of(call: &CallExpr, tables: &Tables) -> Option<Test> {
    match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
        (operators::LOGICAL_NOT, None, [one]) => Some(Test::Not(Box::new(native(one, tables)?))),
        (name @ (operators::LOGICAL_AND | operators::LOGICAL_OR), None, [one, other]) => {
            let (one, other) = (native(one, tables), native(other, tables));
            if one.is_none() && other.is_none() {
                // one program, so that what both speak of is read once
                return None;
            }
            let [one, other] = [(one, 0), (other, 1)].map(|(test, index)| {
                test.or_else(|| call.args.get(index).map(|node| lower(node, tables))).map(Box::new)
            });
            Some(if name == operators::LOGICAL_AND { Test::And(one?, other?) } else { Test::Or(one?, other?) })
        }
        (operators::EQUALS, None, [one, other]) => equal(one, other, tables),
        (operators::NOT_EQUALS, None, [one, other]) => Some(Test::Not(Box::new(equal(one, other, tables)?))),
        (operators::IN, None, [one, other]) => among(one, other, tables),
        ("startsWith", Some(of), [what]) => Some(Test::Begins(source(of, tables)?, literal_text(what)?.into())),
        ("endsWith", Some(of), [what]) => Some(Test::Ends(source(of, tables)?, literal_text(what)?.into())),
        ("contains", Some(of), [what]) => Some(Test::Holds(source(of, tables)?, literal_text(what)?.into())),
        (MATCHES, None, [of, index]) => {
            let index = usize::try_from(literal_int(index)?).ok()?;
            Some(Test::Matches(source(of, tables)?, tables.regexes.get(index)?.clone()))
        }
        (IN_NETWORK, None, [of, index]) if source(of, tables)? == Source::ClientIp => {
            let index = usize::try_from(literal_int(index)?).ok()?;
            tables.nets.get(index).copied().map(Test::In)
        }
        (name, None, [one, other]) => {
            let order = match name {
                operators::LESS => Order::Less,
                operators::LESS_EQUALS => Order::LessOrEqual,
                operators::GREATER => Order::Greater,
                operators::GREATER_EQUALS => Order::GreaterOrEqual,
                _ => return None,
            };
            status(order, one, other, tables)
        }
        _ => None,
    }
}

fn equal(one: &IdedExpr, other: &IdedExpr, tables: &Tables) -> Option<Test> {
    let claim = |node| match slot(node, tables) {
        Some(Slot::Claim(path)) => Some(path.clone()),
        _ => None,
    };
    for (path, other) in [(claim(one), other), (claim(other), one)] {
        let Some(path) = path else { continue };
        return match (source(other, tables), literal_text(other)) {
            (Some(source), _) => Some(Test::ClaimSame(path, source)),
            (None, Some(text)) => Some(Test::ClaimIs(path, text.into())),
            (None, None) => None,
        };
    }
    match (source(one, tables), source(other, tables)) {
        (Some(one), Some(other)) => Some(Test::Same(one, other)),
        (Some(source), None) => Some(Test::Is(source, literal_text(other)?.into())),
        (None, Some(source)) => Some(Test::Is(source, literal_text(one)?.into())),
        (None, None) => status(Order::Equal, one, other, tables),
    }
}

fn among(one: &IdedExpr, other: &IdedExpr, tables: &Tables) -> Option<Test> {
    if let Some(Slot::List(list)) = slot(other, tables) {
        return literal_text(one).map(|text| Test::Listed(*list, text.into()));
    }
    if let Some(Slot::Claim(path)) = slot(other, tables) {
        return literal_text(one).map(|text| Test::ClaimHolds(path.clone(), text.into()));
    }
    let Expr::List(list) = &other.expr else { return None };
    let texts = list.elements.iter().map(|text| literal_text(text).map(Box::from)).collect::<Option<Vec<_>>>()?;
    if let Some(Slot::Claim(path)) = slot(one, tables) {
        return Some(Test::ClaimOneOf(path.clone(), texts.into()));
    }
    Some(Test::OneOf(source(one, tables)?, texts.into()))
}

fn status(order: Order, one: &IdedExpr, other: &IdedExpr, tables: &Tables) -> Option<Test> {
    match (slot(one, tables), slot(other, tables)) {
        (Some(Slot::Status), _) => literal_int(other).map(|number| Test::Status(order, number)),
        (_, Some(Slot::Status)) => literal_int(one).map(|number| Test::Status(order.turned(), number)),
        _ => None,
    }
}

/// The slot a node stands for.
pub(super) fn slot<'t>(node: &IdedExpr, tables: &'t Tables) -> Option<&'t Slot> {
    let Expr::Ident(name) = &node.expr else { return None };
    tables.slots.get(slot_index(name)?)
}

/// The text of an exchange that a node stands for.
pub(super) fn source(node: &IdedExpr, tables: &Tables) -> Option<Source> {
    match slot(node, tables)? {
        Slot::Text(source) => Some(source.clone()),
        _ => None,
    }
}

impl Test {
    /// Whether it holds. As in CEL, an error on one side of `&&` and `||` does not count where the other decides.
    pub(super) fn holds(&self, facts: &Facts<'_>, tables: &Arc<Tables>) -> Result<bool, Stop> {
        Ok(match self {
            Test::Const(bool) => *bool,
            Test::Not(test) => !test.holds(facts, tables)?,
            Test::And(one, other) => return either(one, other, false, facts, tables),
            Test::Or(one, other) => return either(one, other, true, facts, tables),
            Test::Is(Source::ClientIp, text) => is_address(text, facts.client_ip()?),
            // the two that are asked most, without a copy on the way
            Test::Is(Source::Named(Names::Header, name), text) => {
                *facts::header(&facts.exchange.request.head, name).unwrap_or_default() == *text.as_bytes()
            }
            Test::Is(Source::Method, text) => facts.exchange.request.method_text() == &**text,
            Test::Is(source, text) => *source.read(facts)? == *text.as_bytes(),
            Test::Same(one, other) => one.read(facts)? == other.read(facts)?,
            Test::OneOf(source, texts) => {
                let value = source.read(facts)?;
                texts.iter().any(|text| *value == *text.as_bytes())
            }
            Test::Begins(source, text) => source.read(facts)?.starts_with(text.as_bytes()),
            Test::Ends(source, text) => source.read(facts)?.ends_with(text.as_bytes()),
            Test::Holds(source, text) => holds(&source.read(facts)?, text.as_bytes()),
            Test::Matches(source, regex) => {
                let text = source.read(facts)?;
                let text = String::from_utf8_lossy(&text);
                let compiled = regex.over(text.len()).ok_or(Stop::Cost)?;
                if facts.budget.is_some_and(|budget| !budget.spend(regex.work(text.len()))) {
                    return Err(Stop::Cost);
                }
                compiled.is_match(&text)
            }
            Test::Has(names, name) => names.has(name, facts, facts.param_names(tables)),
            Test::Listed(list, text) => list.has(text, facts),
            // a claim of another kind than a text is equal to none
            Test::ClaimIs(path, text) => claims::get(facts, path)?.as_str() == Some(text),
            Test::ClaimOneOf(path, texts) => {
                let claim = claims::get(facts, path)?.as_str();
                claim.is_some_and(|claim| texts.iter().any(|text| *claim == **text))
            }
            Test::ClaimSame(path, source) => {
                let claim = claims::get(facts, path)?.as_str();
                let text = source.read(facts)?;
                claim.is_some_and(|claim| *claim.as_bytes() == *text)
            }
            Test::ClaimHolds(path, text) => claims::holds(claims::get(facts, path)?, text)?,
            Test::HasClaim(path) => claims::find(facts, path).is_some(),
            Test::In(net) => net.contains(facts.client_ip()?),
            Test::Status(order, number) => order.holds(facts.exchange.response.status.into(), *number),
            Test::Program(program) => match program.run(facts, tables)? {
                Value::Bool(bool) => bool,
                _ => return Err(Stop::Error("the condition is neither true nor false".to_owned())),
            },
        })
    }
}

/// `&&` or `||`: `decides` is the value that decides.
fn either(one: &Test, other: &Test, decides: bool, facts: &Facts<'_>, tables: &Arc<Tables>) -> Result<bool, Stop> {
    match one.holds(facts, tables) {
        Ok(value) if value == decides => Ok(decides),
        Ok(_) => other.holds(facts, tables),
        Err(stop @ (Stop::Cost | Stop::Malformed)) => Err(stop),
        Err(error) => match other.holds(facts, tables) {
            Ok(value) if value == decides => Ok(decides),
            Err(stop @ (Stop::Cost | Stop::Malformed)) => Err(stop),
            Ok(_) | Err(Stop::Error(_)) => Err(error),
        },
    }
}

/// Whether a text is the address as it is written.
fn is_address(text: &str, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    text.parse() == Ok(ip) && (ip.is_ipv4() || text == ip.to_string())
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// What a part of a condition asks of a text: that it is one of these, or none of these.
struct Demand<'a> {
    source: &'a Source,
    texts: Vec<&'a str>,
    denied: bool,
}

/// Whether no exchange fulfils both conditions, as far as it can be seen.
pub(super) fn exclude(one: &Test, other: &Test) -> bool {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    demands(one, &mut own);
    demands(other, &mut others);
    own.iter().any(|one| {
        others.iter().filter(|other| one.source == other.source).any(|other| match (one.denied, other.denied) {
            (false, false) => !one.texts.iter().any(|text| other.texts.contains(text)),
            (false, true) => one.texts.iter().all(|text| other.texts.contains(text)),
            (true, false) => other.texts.iter().all(|text| one.texts.contains(text)),
            (true, true) => false,
        })
    })
}

/// Collects what all must hold for a condition to hold.
fn demands<'a>(test: &'a Test, all: &mut Vec<Demand<'a>>) {
    match test {
        Test::And(one, other) => {
            demands(one, all);
            demands(other, all);
        }
        Test::Not(test) => {
            let mut one = Vec::new();
            demands(test, &mut one);
            if let (Test::Is(..) | Test::OneOf(..), Some(demand)) = (&**test, one.pop()) {
                all.push(Demand { denied: true, ..demand });
            }
        }
        Test::Is(source, text) => all.push(Demand { source, texts: vec![text], denied: false }),
        Test::OneOf(source, texts) => {
            all.push(Demand { source, texts: texts.iter().map(AsRef::as_ref).collect(), denied: false });
        }
        _ => {}
    }
}
