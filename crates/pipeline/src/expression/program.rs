//! The part of an expression that the interpreter evaluates: what it is given, and what comes out. Knows no syntax.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, Env, Value};

use super::Stop;
use super::body;
use super::check::{Tables, slot_index, slot_name};
use super::claims;
use super::cost::{self, MOST_STEPS, Size};
use super::facts::{Facts, Slot};
use super::functions::{IN_NETWORK, MATCHES, VALUE};
use super::read::children;

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
            match read(slot, facts, tables) {
                Ok(value) => given.push((index, value)),
                // what is not given is an error where it is asked for, and there the other side of `||` may decide
                Err(Stop::Error(_)) => {}
                Err(stop @ (Stop::Cost | Stop::Malformed)) => return Err(stop),
            }
        }
        let sizes = |index: usize| {
            given.iter().find(|(known, _)| *known == index).map(|(_, (_, size))| *size).unwrap_or_default()
        };
        let steps = cost::steps(&self.tree, &sizes, tables).ok_or(Stop::Cost)?;
        if facts.budget.is_some_and(|budget| !budget.spend_share(steps, MOST_STEPS)) {
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
                tables.regexes.get(at(index)).is_some_and(|regex| regex.compiled().is_match(&text))
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
            let text = String::from_utf8_lossy(&source.read(facts)?).into_owned();
            let size = Size::text(text.len());
            (Value::from(text), size)
        }
        Slot::Has(names, name) => (Value::Bool(names.has(name, facts, facts.param_names(tables))), Size::text(8)),
        Slot::All(names) => {
            let all = names.all(facts, facts.param_names(tables))?;
            let bytes = all.iter().map(|(name, value)| name.len() + value.len()).sum();
            let size = Size::flat(bytes, all.len());
            (Value::from(all), size)
        }
        Slot::List(list) => {
            let texts = list.all(facts);
            let size = Size::flat(texts.iter().map(String::len).sum(), texts.len());
            (Value::from(texts), size)
        }
        Slot::Claim(path) => claims::read(facts, path)?,
        Slot::HasClaim(path) => (Value::Bool(claims::find(facts, path).is_some()), Size::text(8)),
        Slot::Claims => claims::all(facts)?,
        Slot::Status => (Value::Int(facts.exchange.response.status.into()), Size::text(8)),
        Slot::Body => match facts.body {
            Some(body) => body.get(&facts.exchange.request)?,
            None => body::read(&facts.exchange.request)?,
        },
    })
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
