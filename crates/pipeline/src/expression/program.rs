//! The part of an expression that the interpreter evaluates: what it is given, and what comes out. Knows no syntax.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, Env, Value};

use super::Stop;
use super::check::{Tables, slot_index, slot_name};
use super::cost::{self, Size};
use super::facts::{Facts, Names, Slot};
use super::functions::{IN_NETWORK, MATCHES, VALUE};
use super::read::children;

/// Lists and mappings within each other in a body; the reader of JSON has the same bound.
const MOST_JSON_DEPTH: usize = 128;

/// A checked tree with what it needs.
#[derive(Debug)]
pub(super) struct Program {
    tree: IdedExpr,
    slots: Box<[usize]>,
    calls: Box<[&'static str]>,
}

/// What every expression is read and evaluated with.
pub(super) fn env() -> &'static Arc<Env> {
    static ENV: OnceLock<Arc<Env>> = OnceLock::new();
    ENV.get_or_init(|| {
        let mut env = Env::stdlib().with_optional_support(false);
        // refused only where a name is taken: by none of the standard ones, which a test holds
        let _ = env.add_extension(cel::extensions::strings);
        Arc::new(env)
    })
}

impl Program {
    pub(super) fn new(tree: IdedExpr) -> Program {
        let (mut slots, mut calls) = (Vec::new(), Vec::new());
        collect(&tree, &mut slots, &mut calls);
        Program { tree, slots: slots.into(), calls: calls.into() }
    }

    /// Evaluates it.
    pub(super) fn run(&self, facts: &Facts<'_>, tables: &Arc<Tables>) -> Result<Value, Stop> {
        let mut given = Vec::with_capacity(self.slots.len());
        for &index in &self.slots {
            let slot = tables.slots.get(index).ok_or_else(|| Stop::Error("a name is missing".to_owned()))?;
            given.push((index, read(slot, facts, tables)?));
        }
        let sizes = |index: usize| {
            given.iter().find(|(known, _)| *known == index).map(|(_, (_, size))| *size).unwrap_or_default()
        };
        if !cost::is_bounded(&self.tree, &sizes) {
            return Err(Stop::Cost);
        }
        let mut context = Context::with_env(Arc::clone(env()));
        for (index, (value, _)) in given {
            context.add_variable_from_value(slot_name(index), value);
        }
        for call in &self.calls {
            self.add(call, &mut context, tables).map_err(|error| Stop::Error(error.to_string()))?;
        }
        Value::resolve(&self.tree, &context).map_err(|error| Stop::Error(error.to_string()))
    }

    fn add(
        &self,
        call: &'static str,
        context: &mut Context<'_, '_>,
        tables: &Arc<Tables>,
    ) -> Result<(), cel::DeclarationError> {
        let tables = Arc::clone(tables);
        let at = |index: i64| usize::try_from(index).unwrap_or(usize::MAX);
        match call {
            MATCHES => context.add_function(call, move |text: Arc<String>, index: i64| {
                tables.regexes.get(at(index)).is_some_and(|regex| regex.is_match(&text))
            }),
            IN_NETWORK => context.add_function(call, move |text: Arc<String>, index: i64| {
                let ip = text.parse();
                ip.is_ok_and(|ip| tables.nets.get(at(index)).is_some_and(|net| net.contains(ip)))
            }),
            VALUE => context.add_function(call, move |of: Value, key: Arc<String>| -> Value {
                let found = match &of {
                    Value::Map(map) => map.get(&cel::objects::Key::String(key)).cloned(),
                    _ => None,
                };
                found.unwrap_or_else(|| Value::from(""))
            }),
            _ => Ok(()),
        }
    }
}

/// Collects the slots of a tree, and its calls of functions that are not the interpreter's own.
fn collect(node: &IdedExpr, slots: &mut Vec<usize>, calls: &mut Vec<&'static str>) {
    match &node.expr {
        Expr::Ident(name) => {
            if let Some(index) = slot_index(name)
                && !slots.contains(&index)
            {
                slots.push(index);
            }
        }
        Expr::Call(call) => {
            let own = [MATCHES, IN_NETWORK, VALUE].into_iter().find(|own| *own == call.func_name);
            calls.extend(own.filter(|own| !calls.contains(own)));
        }
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => {}
    }
    children(node).into_iter().for_each(|child| collect(child, slots, calls));
}

/// The value of a slot, and its size.
fn read(slot: &Slot, facts: &Facts<'_>, tables: &Tables) -> Result<(Value, Size), Stop> {
    Ok(match slot {
        Slot::Text(source) => {
            let text = String::from_utf8_lossy(&source.read(facts)).into_owned();
            let size = Size::text(text.len());
            (Value::from(text), size)
        }
        Slot::Has(names, name) => (Value::Bool(has(*names, name, facts, tables)), Size::text(8)),
        Slot::All(names) => {
            let all = names.all(facts, &tables.params);
            let bytes = all.iter().map(|(name, value)| name.len() + value.len()).sum();
            let size = Size { items: all.len() as u64, ..Size::text(bytes) };
            (Value::from(all.into_iter().collect::<HashMap<String, String>>()), size)
        }
        Slot::Roles => {
            let roles = facts.roles();
            let size = Size { items: roles.len() as u64, ..Size::text(roles.iter().map(String::len).sum()) };
            (Value::from(roles.to_vec()), size)
        }
        Slot::Status => (Value::Int(facts.exchange.response.status.into()), Size::text(8)),
        Slot::Body => body(facts)?,
    })
}

/// Whether a name is there.
pub(super) fn has(names: Names, name: &str, facts: &Facts<'_>, tables: &Tables) -> bool {
    match names {
        Names::Params => tables.params.iter().any(|known| known == name),
        _ => names.get(name, facts).is_some(),
    }
}

/// The body, read as JSON.
fn body(facts: &Facts<'_>) -> Result<(Value, Size), Stop> {
    let request = &facts.exchange.request;
    let Some(body) = &request.body else { return Err(Stop::Error("the body is not there".to_owned())) };
    let kind = request.head.get_id(crate::FieldId::ContentType).unwrap_or_default();
    if !is_json(kind) {
        return Err(Stop::Error("the body is not JSON".to_owned()));
    }
    let json = serde_json::from_slice(body).map_err(|error| Stop::Error(format!("the body is not JSON: {error}")))?;
    let mut size = Size::default();
    Ok((value_of(json, &mut size, MOST_JSON_DEPTH), size))
}

/// Whether a media type is JSON's: `application/json`, or one that ends in `+json` (RFC 6839, section 3.1).
#[must_use]
pub fn is_json(kind: &[u8]) -> bool {
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let ending = kind.len().checked_sub(5).and_then(|at| kind.get(at..)).unwrap_or_default();
    kind.eq_ignore_ascii_case(b"application/json") || ending.eq_ignore_ascii_case(b"+json")
}

fn value_of(json: serde_json::Value, size: &mut Size, depth: usize) -> Value {
    use serde_json::Value as Json;
    match json {
        _ if depth == 0 => Value::Null,
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(bool),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), ..) => Value::Int(int),
            (None, Some(uint), _) => Value::UInt(uint),
            (None, None, double) => Value::Float(double.unwrap_or_default()),
        },
        Json::String(text) => {
            *size = size.and(Size::text(text.len()));
            Value::from(text)
        }
        Json::Array(items) => {
            size.items += items.len() as u64;
            Value::from(items.into_iter().map(|item| value_of(item, size, depth - 1)).collect::<Vec<Value>>())
        }
        Json::Object(fields) => {
            size.items += fields.len() as u64;
            let mut map = HashMap::with_capacity(fields.len());
            for (name, value) in fields {
                *size = size.and(Size::text(name.len()));
                map.insert(name, value_of(value, size, depth - 1));
            }
            Value::from(map)
        }
    }
}

/// A value as text; lists, mappings and bytes are none.
pub(super) fn text_of(value: &Value) -> Result<Cow<'_, str>, Stop> {
    Ok(match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::UInt(number) => Cow::Owned(number.to_string()),
        Value::Float(number) => Cow::Owned(number.to_string()),
        Value::Bool(bool) => Cow::Borrowed(if *bool { "true" } else { "false" }),
        Value::Null => Cow::Borrowed(""),
        _ => return Err(Stop::Error("what comes out is no text".to_owned())),
    })
}
