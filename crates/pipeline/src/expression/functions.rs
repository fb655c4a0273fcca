//! The functions an expression may call, and the kinds they take. What they do is the interpreter's.

use cel::common::ast::operators;

use super::check::Kind;

/// `matches` with the number of its compiled expression.
pub(super) const MATCHES: &str = "@matches";
/// `in_network` with the number of its network.
pub(super) const IN_NETWORK: &str = "@in_network";
/// A value of a mapping of an exchange, empty when it is not there.
pub(super) const VALUE: &str = "@value";

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Whether it stands behind a value and a dot.
    is_member: bool,
    takes: &'static [Takes],
    pub(super) gives: Kind,
}

#[derive(Debug)]
enum Takes {
    Text,
    Int,
    Number,
    List,
    Map,
    Bytes,
    Bool,
}

const fn member(name: &'static str, takes: &'static [Takes], gives: Kind) -> Function {
    Function { name, is_member: true, takes, gives }
}

const fn global(name: &'static str, takes: &'static [Takes], gives: Kind) -> Function {
    Function { name, is_member: false, takes, gives }
}

/// All of them; several of a name are several ways to call it.
pub(super) static ALL: &[Function] = &[
    member("startsWith", &[Takes::Text, Takes::Text], Kind::Bool),
    member("endsWith", &[Takes::Text, Takes::Text], Kind::Bool),
    member("contains", &[Takes::Text, Takes::Text], Kind::Bool),
    member("matches", &[Takes::Text, Takes::Text], Kind::Bool),
    global("matches", &[Takes::Text, Takes::Text], Kind::Bool),
    global("in_network", &[Takes::Text, Takes::Text], Kind::Bool),
    member("lowerAscii", &[Takes::Text], Kind::Text),
    member("upperAscii", &[Takes::Text], Kind::Text),
    member("trim", &[Takes::Text], Kind::Text),
    member("replace", &[Takes::Text, Takes::Text, Takes::Text], Kind::Text),
    member("substring", &[Takes::Text, Takes::Int], Kind::Text),
    member("substring", &[Takes::Text, Takes::Int, Takes::Int], Kind::Text),
    member("indexOf", &[Takes::Text, Takes::Text], Kind::Int),
    member("split", &[Takes::Text, Takes::Text], Kind::Any),
    member("join", &[Takes::List, Takes::Text], Kind::Text),
    member("size", &[Takes::Text], Kind::Int),
    member("size", &[Takes::List], Kind::Int),
    member("size", &[Takes::Map], Kind::Int),
    global("size", &[Takes::Text], Kind::Int),
    global("size", &[Takes::List], Kind::Int),
    global("size", &[Takes::Map], Kind::Int),
    global("size", &[Takes::Bytes], Kind::Int),
    global("int", &[Takes::Text], Kind::Int),
    global("int", &[Takes::Number], Kind::Int),
    global("double", &[Takes::Text], Kind::Double),
    global("double", &[Takes::Number], Kind::Double),
    global("string", &[Takes::Text], Kind::Text),
    global("string", &[Takes::Number], Kind::Text),
    global("string", &[Takes::Bool], Kind::Text),
];

impl Function {
    /// Whether a call with so many arguments, a target counted, is one of it.
    pub(super) fn is_called(&self, is_member: bool, count: usize) -> bool {
        self.is_member == is_member && self.takes.len() == count
    }

    pub(super) fn takes(&self, kinds: &[Kind]) -> bool {
        self.takes.iter().zip(kinds).all(|(takes, kind)| match (takes, kind) {
            (_, Kind::Any)
            | (Takes::Text, Kind::Text)
            | (Takes::Int, Kind::Int)
            | (Takes::Number, Kind::Int | Kind::Uint | Kind::Double)
            | (Takes::List, Kind::List(_))
            | (Takes::Map, Kind::Map(_))
            | (Takes::Bytes, Kind::Bytes)
            | (Takes::Bool, Kind::Bool) => true,
            (Takes::Text | Takes::Int | Takes::Number | Takes::List | Takes::Map | Takes::Bytes | Takes::Bool, _) => {
                false
            }
        })
    }

    /// How it is written.
    pub(super) fn usage(&self) -> String {
        let mut words = self.takes.iter().map(|takes| match takes {
            Takes::Text => "text",
            Takes::Int | Takes::Number => "number",
            Takes::List => "list",
            Takes::Map => "mapping",
            Takes::Bytes => "bytes",
            Takes::Bool => "bool",
        });
        let name = self.name;
        if self.is_member {
            let target = words.next().unwrap_or_default();
            format!("`{target}.{name}({})`", words.collect::<Vec<_>>().join(", "))
        } else {
            format!("`{name}({})`", words.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Their names, each once.
pub(super) fn names() -> String {
    let mut names: Vec<&str> = ALL.iter().map(|function| function.name).collect();
    names.dedup();
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether a function's name is an operator's.
pub(super) fn is_operator(name: &str) -> bool {
    matches!(
        name,
        operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::SUBSTRACT
            | operators::ADD
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::EQUALS
            | operators::NOT_EQUALS
            | operators::GREATER_EQUALS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::LESS
            | operators::NEGATE
            | operators::INDEX
            | operators::NOT_STRICTLY_FALSE
            | operators::IN
    )
}
