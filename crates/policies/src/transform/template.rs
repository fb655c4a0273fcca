//! Templates: compiled with the configuration, rendered within bounds. Knows the template engine; nobody else here does.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use daemun_pipeline::{Exchange, Head, Request};
use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::body::Kind;
use super::json::{Json, text, write_text};
use super::pairs::push_encoded;
use super::trouble::Trouble;
use super::xml::{Child, Element, Xml};

/// Bytes of a template.
const MAX_SOURCE: usize = 256 << 10;
/// Steps that a template may take beside what the size of a body asks for.
const FUEL: u64 = 100_000;
/// Values within values that a template reads.
const MAX_DEPTH: usize = 32;

/// How values are written where a template puts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// As they are.
    Plain,
    /// As JSON values, texts in quotes.
    Json,
    /// With the characters escaped that XML reads.
    Xml,
    /// Percent-encoded: one segment of a path, or one name or value of a form.
    Encoded,
}

impl Escape {
    const ALL: [Escape; 4] = [Escape::Plain, Escape::Json, Escape::Xml, Escape::Encoded];

    /// What a body of a kind needs.
    pub(super) fn of(kind: Option<Kind>) -> Escape {
        match kind {
            Some(Kind::Json) => Escape::Json,
            Some(Kind::Xml) => Escape::Xml,
            Some(Kind::Form) => Escape::Encoded,
            None => Escape::Plain,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Escape::Plain => "plain",
            Escape::Json => "json",
            Escape::Xml => "xml",
            Escape::Encoded => "encoded",
        }
    }
}

/// A compiled template.
#[derive(Clone)]
pub(super) struct Template {
    environment: Arc<Environment<'static>>,
    reads: Reads,
}

/// What of a message a template reads.
#[derive(Clone, Copy, Debug, Default)]
struct Reads {
    body: bool,
    header: bool,
    query: bool,
    params: bool,
}

/// What a template is rendered over.
pub(super) struct Over<'a> {
    pub(super) exchange: &'a Exchange,
    /// The head whose fields it reads.
    pub(super) head: &'a Head,
    pub(super) body: Option<(Kind, &'a [u8])>,
    /// Names of path parameters, by their index.
    pub(super) names: &'a [String],
    /// Whether it changes the answer.
    pub(super) answer: bool,
}

impl Template {
    /// Compiles a template; `max` is what one may write.
    pub(super) fn parse(source: &str, max: u64) -> Result<Template, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("the template is longer than {MAX_SOURCE} bytes"));
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL.saturating_add(max / 8)));
        environment.set_recursion_limit(64);
        environment.set_auto_escape_callback(|name| {
            match Escape::ALL.into_iter().find(|escape| escape.name() == name) {
                Some(Escape::Plain) | None => AutoEscape::None,
                Some(escape) => AutoEscape::Custom(escape.name().into()),
            }
        });
        environment.set_formatter(format_value);
        environment.add_filter("tojson", to_json);
        for escape in Escape::ALL {
            environment.add_template_owned(escape.name(), source.to_owned()).map_err(|error| told(&error))?;
        }
        let template = environment.get_template(Escape::Plain.name()).map_err(|error| told(&error))?;
        let used = template.undeclared_variables(false);
        const KNOWN: [&str; 7] = ["body", "header", "query", "params", "path", "method", "status"];
        // functions of the engine are known to it as globals
        let globals: Vec<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
        if let Some(unknown) = used.iter().find(|name| !KNOWN.contains(&name.as_str()) && !globals.contains(name)) {
            let known = "`body`, `header`, `query`, `params`, `path`, `method` and `status`";
            return Err(format!("`{unknown}` is nothing that a template can read; there are {known}"));
        }
        let reads = |name: &str| used.contains(name);
        let reads =
            Reads { body: reads("body"), header: reads("header"), query: reads("query"), params: reads("params") };
        drop(template);
        Ok(Template { environment: Arc::new(environment), reads })
    }

    /// Whether it reads the body.
    pub(super) fn reads_body(&self) -> bool {
        self.reads.body
    }

    /// Renders it; of more than `max` bytes, nothing comes out.
    pub(super) fn render(&self, over: &Over<'_>, escape: Escape, max: u64) -> Result<String, Trouble> {
        let context = self.context(over)?;
        let template = self.environment.get_template(escape.name()).map_err(|error| trouble(&error))?;
        let mut out = Bounded { bytes: Vec::new(), left: usize::try_from(max).unwrap_or(usize::MAX) };
        template.render_captured_to(context, &mut out).map_err(|error| trouble(&error))?;
        String::from_utf8(out.bytes).map_err(|_| Trouble::unsendable("a template did not write UTF-8"))
    }

    /// What it reads, and nothing else.
    fn context(&self, over: &Over<'_>) -> Result<Value, Trouble> {
        let request = &over.exchange.request;
        let mut values: Vec<(&str, Value)> =
            vec![("path", Value::from(request.path_text())), ("method", Value::from(request.method_text()))];
        if over.answer {
            values.push(("status", Value::from(over.exchange.response.status)));
        }
        if self.reads.header {
            values.push(("header", headers(over.head)));
        }
        if self.reads.query {
            values.push(("query", query(request)));
        }
        if self.reads.params {
            let params = over.exchange.params.iter().filter_map(|(at, span)| {
                Some((over.names.get(usize::from(*at))?.clone(), Value::from(request.text(*span))))
            });
            values.push(("params", Value::from_pairs(params)));
        }
        if self.reads.body
            && let Some((kind, bytes)) = over.body
        {
            values.push(("body", body(kind, bytes)?));
        }
        Ok(Value::from_pairs(values))
    }
}

/// Fields by their names in lower case; of several lines, one list (RFC 9110, section 5.3).
fn headers(head: &Head) -> Value {
    let mut fields: HashMap<String, String> = HashMap::new();
    for (_, name, value) in head.iter() {
        let value = String::from_utf8_lossy(value);
        let known = fields.entry(String::from_utf8_lossy(name).to_ascii_lowercase());
        known
            .and_modify(|known| {
                known.push_str(", ");
                known.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    Value::from_pairs(fields.into_iter().map(|(name, value)| (name, Value::from(value))))
}

/// Parameters, decoded; of a name that is repeated, the first.
fn query(request: &Request) -> Value {
    form(request.query_text().unwrap_or_default())
}

fn form(text: &str) -> Value {
    let mut known = std::collections::HashSet::new();
    let pairs = form_urlencoded::parse(text.as_bytes()).filter(|(name, _)| known.insert(name.clone().into_owned()));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect();
    Value::from_pairs(pairs)
}

fn body(kind: Kind, bytes: &[u8]) -> Result<Value, Trouble> {
    match kind {
        Kind::Json => {
            let text = text(bytes)?;
            // what is not opened below is known to be well-formed by this
            let raw: &serde_json::value::RawValue = serde_json::from_str(text).map_err(Trouble::malformed)?;
            json(raw.get(), MAX_DEPTH)
        }
        Kind::Xml => {
            let document = Xml::parse(bytes)?;
            let root = document.root();
            Ok(Value::from_pairs([(root.name.to_string(), xml(root))]))
        }
        Kind::Form => Ok(form(text(bytes)?)),
    }
}

/// A JSON value as templates see it.
fn json(text: &str, depth: usize) -> Result<Value, Trouble> {
    let deeper = || depth.checked_sub(1).ok_or_else(|| Trouble::malformed("it is too deep"));
    match Json::open(text)? {
        Json::Object(members) => {
            let depth = deeper()?;
            let values = members.into_iter().map(|(name, inner)| match inner {
                Json::Raw(text) => Ok((name.into_owned(), json(text, depth)?)),
                Json::Object(_) | Json::Array(_) => Err(Trouble::malformed("it is open already")),
            });
            Ok(Value::from_pairs(values.collect::<Result<Vec<_>, _>>()?))
        }
        Json::Array(items) => {
            let depth = deeper()?;
            let values = items.into_iter().map(|inner| match inner {
                Json::Raw(text) => json(text, depth),
                Json::Object(_) | Json::Array(_) => Err(Trouble::malformed("it is open already")),
            });
            Ok(Value::from(values.collect::<Result<Vec<_>, _>>()?))
        }
        Json::Raw("null") => Ok(Value::from(())),
        Json::Raw("true") => Ok(Value::from(true)),
        Json::Raw("false") => Ok(Value::from(false)),
        Json::Raw(text) if text.starts_with('"') => {
            Ok(Value::from(serde_json::from_str::<String>(text).map_err(Trouble::malformed)?))
        }
        Json::Raw(text) => Ok(number(text)),
    }
}

/// A number that templates can count with, or one that they can only put elsewhere, digit for digit.
fn number(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return if text == "-0" { Value::from(-0.0) } else { Value::from(whole) };
    }
    if let Ok(whole) = text.parse::<i128>() {
        return Value::from(whole);
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let is_zero = mantissa.bytes().all(|b| !(b'1'..=b'9').contains(&b));
    // so many digits a float keeps
    match text.parse::<f64>() {
        Ok(value) if digits <= 15 && (value.is_normal() || is_zero) => Value::from(value),
        Ok(_) | Err(_) => Value::from_object(Digits(text.into())),
    }
}

/// A number that no machine number holds.
#[derive(Debug)]
struct Digits(Box<str>);

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An element: its text when it has nothing else; its attributes as `@name`, its elements by name, several as a list, and its text as
/// `#text` otherwise.
fn xml(element: &Element<'_>) -> Value {
    let mut text = String::new();
    let mut members: Vec<(String, Value)> =
        element.attribute_values().map(|(name, value)| (format!("@{name}"), Value::from(&*value))).collect();
    let mut names: Vec<(&str, Vec<Value>)> = Vec::new();
    // where each name stands among these
    let mut places: HashMap<&str, usize> = HashMap::new();
    for child in &element.children {
        match child {
            Child::Element(inner) => {
                let at = *places.entry(&inner.name).or_insert(names.len());
                match names.get_mut(at) {
                    Some((_, values)) => values.push(xml(inner)),
                    None => names.push((&inner.name, vec![xml(inner)])),
                }
            }
            Child::Raw(piece) => push_plain(piece, &mut text),
        }
    }
    if members.is_empty() && names.is_empty() {
        return Value::from(text);
    }
    for (name, mut values) in names {
        let value = if values.len() == 1 { values.pop().unwrap_or_default() } else { Value::from(values) };
        members.push((name.to_owned(), value));
    }
    if !text.trim().is_empty() {
        members.push(("#text".to_owned(), Value::from(text)));
    }
    Value::from_pairs(members)
}

/// What a piece of a document says, without comments and instructions.
fn push_plain(piece: &str, out: &mut String) {
    if let Some(data) = piece.strip_prefix("<![CDATA[").and_then(|piece| piece.strip_suffix("]]>")) {
        out.push_str(data);
    } else if !piece.starts_with('<') {
        out.push_str(&quick_xml::escape::unescape(piece).unwrap_or_default());
    }
}

/// Writes a value where a template puts it.
fn format_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let named = |name: &str| Escape::ALL.into_iter().find(|escape| escape.name() == name);
    let escape = if let AutoEscape::Custom(name) = state.auto_escape() { named(name) } else { None };
    let escape = escape.unwrap_or(Escape::Plain);
    let written = if value.is_safe() && escape != Escape::Encoded { Escape::Plain } else { escape };
    match written {
        Escape::Plain => write!(out, "{value}")?,
        Escape::Json => out.write_str(&json_text(value)?)?,
        Escape::Xml => out.write_str(&quick_xml::escape::escape(value.to_string()))?,
        Escape::Encoded => {
            let mut encoded = String::new();
            push_encoded(&mut encoded, value.to_string().as_bytes());
            out.write_str(&encoded)?;
        }
    }
    Ok(())
}

/// The filter `tojson`.
fn to_json(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let text = json_text(value)?;
    state.consume_fuel(text.len() as u64 / 64)?;
    // elsewhere than in JSON, it is a text like any other
    let is_json = matches!(state.auto_escape(), AutoEscape::Custom(name) if name == Escape::Json.name());
    Ok(if is_json { Value::from_safe_string(text) } else { Value::from(text) })
}

fn json_text(value: &Value) -> Result<String, Error> {
    let mut out = Vec::new();
    push_json(value, MAX_DEPTH * 2, &mut out)?;
    String::from_utf8(out).map_err(|_| ErrorKind::BadSerialization.into())
}

fn push_json(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let deeper = depth.checked_sub(1).ok_or(ErrorKind::BadSerialization)?;
    if let Some(Digits(digits)) = value.downcast_object_ref() {
        out.extend_from_slice(digits.as_bytes());
        return Ok(());
    }
    match value.kind() {
        ValueKind::None => out.extend_from_slice(b"null"),
        ValueKind::Bool => out.extend_from_slice(if value.is_true() { b"true" } else { b"false" }),
        ValueKind::Number => push_number(value, out)?,
        ValueKind::String => write_text(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push(b'[');
            for (at, item) in value.try_iter()?.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                push_json(&item, deeper, out)?;
            }
            out.push(b']');
        }
        ValueKind::Map => {
            out.push(b'{');
            for (at, key) in value.try_iter()?.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(&key.to_string(), out);
                out.push(b':');
                push_json(&value.get_item(&key)?, deeper, out)?;
            }
            out.push(b'}');
        }
        // the engine may come to know more
        ValueKind::Undefined | ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid | _ => {
            return Err(ErrorKind::UndefinedError.into());
        }
    }
    Ok(())
}

fn push_number(value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    if value.is_integer() {
        out.extend_from_slice(value.to_string().as_bytes());
        return Ok(());
    }
    let float = f64::try_from(value.clone())?;
    if !float.is_finite() {
        return Err(ErrorKind::BadSerialization.into());
    }
    serde_json::to_writer(out, &float).map_err(|_| Error::from(ErrorKind::BadSerialization))
}

/// What is wrong with a template, for whoever wrote it.
fn told(error: &Error) -> String {
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("the template cannot be read{line}: {detail}"),
        None => format!("the template cannot be read{line}"),
    }
}

/// What went wrong while one was rendered; never what the message holds.
fn trouble(error: &Error) -> Trouble {
    let line = error.line().unwrap_or(0);
    let cause = format!("line {line} of a template: {}", error.kind());
    if matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) {
        Trouble::too_much(format!("{cause}, beyond its bound"))
    } else {
        Trouble::shape(cause)
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(piece.len()).ok_or(io::ErrorKind::StorageFull)?;
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
