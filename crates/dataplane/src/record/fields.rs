//! The fields of an access-log line: their names, and how each is written. Knows nothing of files and buffers.

use std::net::IpAddr;
use std::sync::Arc;

use daemun_config::decode::expression_end;
use daemun_config::model::Spanned;
use daemun_pipeline::expression::{ExpressionError, Scope, Text};

use super::Fallback;
use super::line::{Line, Steps, protocol};
use super::text::{Stamp, Style, push_ip, push_millis, push_text, push_u64};

macro_rules! fields {
    ($($variant:ident = $name:literal;)*) => {
        /// A field of a line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Field { $($variant,)* }

        impl Field {
            /// Every field, in the order of a JSON line.
            pub(super) const ALL: &'static [Field] = &[$(Field::$variant,)*];
            /// Their names, in the same order.
            pub(super) const NAMES: &'static [&'static str] = &[$($name,)*];

            /// `","name":"`
            fn json_key(self) -> &'static str { match self { $(Field::$variant => concat!("\",\"", $name, "\":\""),)* } }
        }
    };
}

fields! {
    Time = "time";
    Id = "id";
    TraceId = "trace_id";
    ClientIp = "client_ip";
    Method = "method";
    Host = "host";
    Path = "path";
    Protocol = "protocol";
    Scheme = "scheme";
    Status = "status";
    Route = "route";
    Upstream = "upstream";
    Target = "target";
    Reason = "reason";
    Cause = "cause";
    Duration = "duration_ms";
    Policies = "policies_ms";
    Retry = "retry_ms";
    Connect = "connect_ms";
    Wait = "wait_ms";
    Transfer = "transfer_ms";
    BytesIn = "bytes_in";
    BytesOut = "bytes_out";
    Consumer = "consumer";
    UserAgent = "user_agent";
    Attempts = "attempts";
    Reused = "reused";
    Hedged = "hedged";
    Fallback = "fallback";
    Upgraded = "upgraded";
}

/// Bytes of a path that are written; longer ones are cut.
const MOST_PATH: usize = 4_096;
/// Bytes of any other text that are written.
const MOST_TEXT: usize = 512;

impl Field {
    /// Finds a field by name.
    pub(super) fn named(name: &str) -> Option<Field> {
        Field::ALL.iter().zip(Field::NAMES).find(|(_, known)| **known == name).map(|(field, _)| *field)
    }

    /// What the field is for this request.
    fn value<'a>(self, line: &Line<'a>, steps: &Steps) -> Value<'a> {
        match self {
            Field::Time => Value::Moment(line.wall),
            Field::Id => Value::text(line.id),
            Field::TraceId => Value::text(line.trace_id),
            Field::ClientIp => line.client_ip.map_or(Value::None, Value::Address),
            Field::Method => Value::text(line.method),
            Field::Host => Value::text(line.host),
            Field::Path => Value::cut(line.path, MOST_PATH),
            Field::Protocol => Value::name(protocol(line.version)),
            Field::Scheme => Value::text(if line.tls { b"https" } else { b"http" }),
            Field::Status => Value::positive(line.status.into()),
            Field::Route => Value::name(line.route),
            Field::Upstream => Value::name(line.upstream),
            Field::Target => Value::name(line.target),
            Field::Reason => Value::name(line.fault.map(|fault| fault.reason.code())),
            Field::Cause => Value::name(line.cause),
            Field::Duration => Value::millis(steps.total),
            Field::Policies => Value::millis(steps.policies),
            Field::Retry => Value::millis(steps.retry),
            Field::Connect => Value::millis(steps.connect),
            Field::Wait => Value::millis(steps.wait),
            Field::Transfer => Value::millis(steps.transfer),
            Field::BytesIn => Value::Number(line.bytes_in),
            Field::BytesOut => Value::Number(line.bytes_out),
            Field::Consumer => Value::name(line.consumer.and_then(|name| std::str::from_utf8(name).ok())),
            Field::UserAgent => Value::text(line.head.and_then(|head| head.get("user-agent")).unwrap_or_default()),
            Field::Attempts => Value::positive(line.attempts.into()),
            Field::Reused => {
                if line.attempts > 0 {
                    Value::Flag(line.reused)
                } else {
                    Value::None
                }
            }
            Field::Hedged => Value::only(line.hedged),
            Field::Fallback => Value::name(line.fallback.map(Fallback::as_str)),
            Field::Upgraded => Value::only(line.upgraded),
        }
    }
}

/// What a field is.
#[derive(Clone, Copy)]
enum Value<'a> {
    None,
    Text(&'a [u8]),
    Moment(u64),
    Address(IpAddr),
    Number(u64),
    Millis(u64),
    Flag(bool),
}

impl<'a> Value<'a> {
    fn text(text: &'a [u8]) -> Value<'a> {
        Value::cut(text, MOST_TEXT)
    }

    fn name(text: Option<&'a str>) -> Value<'a> {
        text.map_or(Value::None, |text| Value::text(text.as_bytes()))
    }

    fn cut(text: &'a [u8], most: usize) -> Value<'a> {
        if text.is_empty() { Value::None } else { Value::Text(text.get(..most).unwrap_or(text)) }
    }

    /// What is told only when it is so.
    fn only(flag: bool) -> Value<'a> {
        if flag { Value::Flag(true) } else { Value::None }
    }

    fn positive(number: u64) -> Value<'a> {
        if number > 0 { Value::Number(number) } else { Value::None }
    }

    fn millis(nanos: Option<u64>) -> Value<'a> {
        nanos.map_or(Value::None, Value::Millis)
    }

    /// Whether it stands between quotes in JSON.
    fn is_quoted(self) -> bool {
        matches!(self, Value::Text(_) | Value::Moment(_) | Value::Address(_))
    }

    /// Writes it, without quotes around it.
    fn write(self, out: &mut Vec<u8>, stamp: &mut Stamp, style: Style) {
        match self {
            Value::None => {}
            Value::Text(text) => push_text(out, text, style),
            Value::Moment(wall) => stamp.push(out, wall),
            Value::Address(ip) => push_ip(out, ip),
            Value::Number(number) => push_u64(out, number),
            Value::Millis(nanos) => push_millis(out, nanos),
            Value::Flag(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        }
    }
}

/// What expressions of the log may speak of: an exchange that ended, of any route.
const SCOPE: Scope<'static> = Scope { params: &[], any_params: true, consumer: true, answer: true, body: false };

/// Computed fields of a JSON line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFields(Vec<(Box<str>, Arc<Text>)>);

impl LogFields {
    /// Reads fields: their names, and texts with expressions.
    ///
    /// # Errors
    /// What is wrong, and with which field.
    pub fn parse(fields: &[(Spanned<String>, Spanned<String>)]) -> Result<LogFields, (usize, TemplateError)> {
        let mut parsed = Vec::with_capacity(fields.len());
        for (index, (name, text)) in fields.iter().enumerate() {
            if Field::named(&name.value).is_some() {
                let message = format!("a line has a field `{}` already", name.value);
                return Err((index, TemplateError { offset: 0, message, help: None }));
            }
            let text = Text::parse(&text.value, &SCOPE).map_err(|error| (index, error.into()))?;
            parsed.push((format!("\"{}\":", name.value).into(), Arc::new(text)));
        }
        Ok(LogFields(parsed))
    }

    /// Whether an exchange must know the names of its path parameters.
    #[must_use]
    pub fn names_params(&self) -> bool {
        self.0.iter().any(|(_, text)| text.names_params())
    }

    /// Writes them behind a field; `quoted` is whether that one's closing quote is missing, and then whether the last one's is.
    fn write(&self, out: &mut Vec<u8>, line: &Line<'_>, text: &mut Vec<u8>, quoted: &mut bool) {
        for (key, value) in &self.0 {
            if compute(value, line, text) {
                out.extend_from_slice(if *quoted { b"\"," } else { b"," });
                out.extend_from_slice(key.as_bytes());
                out.push(b'"');
                push_text(out, text.get(..MOST_TEXT).unwrap_or(text), Style::Json);
                *quoted = true;
            }
        }
    }
}

/// What is kept from line to line, so that one costs less.
#[derive(Default)]
pub(super) struct Kept {
    stamp: Stamp,
    /// Where values are computed.
    text: Vec<u8>,
}

impl Kept {
    /// Room for a computed value. A long one, of which little is written, does not hold its memory for good.
    fn text(&mut self) -> &mut Vec<u8> {
        if self.text.capacity() > 16 * MOST_TEXT {
            self.text = Vec::new();
        }
        &mut self.text
    }
}

/// Puts a computed value in place of `out`; whether there is one.
fn compute(value: &Text, line: &Line<'_>, out: &mut Vec<u8>) -> bool {
    out.clear();
    line.exchange.is_some_and(|exchange| value.push(exchange, out).is_ok() && !out.is_empty())
}

/// Writes a line as one JSON object, with its line feed. Fields without a value are left out.
pub(super) fn write_json(out: &mut Vec<u8>, line: &Line<'_>, kept: &mut Kept, fields: &LogFields) {
    let steps = Steps::of(&line.times);
    let start = out.len();
    // the quotes of two neighbours are written together with the key between them
    let mut quoted = false;
    for field in Field::ALL {
        let value = field.value(line, &steps);
        if matches!(value, Value::None) {
            continue;
        }
        let key = field.json_key();
        let from = usize::from(!quoted);
        quoted = value.is_quoted();
        let to = key.len() - usize::from(!quoted);
        out.extend_from_slice(key.as_bytes().get(from..to).unwrap_or_default());
        value.write(out, &mut kept.stamp, Style::Json);
    }
    if !fields.0.is_empty() {
        fields.write(out, line, kept.text(), &mut quoted);
    }
    // the first key's comma; the time is always there
    if let Some(first) = out.get_mut(start) {
        *first = b'{';
    }
    out.extend_from_slice(if quoted { b"\"}\n" } else { b"}\n" });
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Field(Field),
    Computed(Arc<Text>),
}

/// A compiled template of a line: text with `${field}` references and `${…}` expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTemplate(Vec<Part>);

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte of the template at which it is wrong.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// The nearest known name, or all of them.
    pub help: Option<String>,
}

impl From<ExpressionError> for TemplateError {
    fn from(error: ExpressionError) -> TemplateError {
        TemplateError { offset: error.offset, message: error.message, help: error.help }
    }
}

/// Bytes of a template.
const MOST_TEMPLATE: usize = 4_096;

impl LogTemplate {
    /// Whether an exchange must know the names of its path parameters.
    #[must_use]
    pub fn names_params(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Computed(text) if text.names_params()))
    }

    /// Reads a template; `$$` is a dollar.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place: an unknown field, a `$` that begins nothing, a control character, too long a text.
    pub fn parse(template: &str) -> Result<LogTemplate, TemplateError> {
        let wrong = |offset: usize, message: String, help: Option<String>| Err(TemplateError { offset, message, help });
        if template.is_empty() || template.len() > MOST_TEMPLATE {
            return wrong(
                0,
                format!("a template has 1 to {MOST_TEMPLATE} bytes, this one has {}", template.len()),
                None,
            );
        }
        if let Some(offset) = template.find(char::is_control) {
            return wrong(
                offset,
                "a template may not hold control characters".into(),
                Some("a line ends by itself".into()),
            );
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            let offset = template.len() - after.len() - 1;
            if let Some(behind) = after.strip_prefix('$') {
                literal.push('$');
                rest = behind;
                continue;
            }
            let end = after.strip_prefix('{').and_then(|inner| Some((inner, expression_end(inner)?)));
            let Some((name, behind)) = end.and_then(|(inner, end)| Some((inner.get(..end)?, inner.get(end + 1..)?)))
            else {
                let help = "a field is written `${name}`, a dollar `$$`";
                return wrong(offset, "`$` begins neither a field nor a dollar".into(), Some(help.into()));
            };
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let part = Field::named(name).map(Part::Field);
            let Some(part) = (match part {
                None if !is_name => {
                    let moved = |error: ExpressionError| ExpressionError { offset: offset + 2 + error.offset, ..error };
                    Some(Part::Computed(Arc::new(Text::expression(name, &SCOPE).map_err(moved)?)))
                }
                part => part,
            }) else {
                return wrong(offset + 2, format!("there is no log field `{name}`"), Some(suggestion(name)));
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(part);
            rest = behind;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(LogTemplate(parts))
    }

    /// Writes a line, with its line feed. A field without a value is `-`.
    pub(super) fn write(&self, out: &mut Vec<u8>, line: &Line<'_>, kept: &mut Kept) {
        let steps = Steps::of(&line.times);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(field) => {
                    let value = field.value(line, &steps);
                    if matches!(value, Value::None) {
                        out.push(b'-');
                    }
                    value.write(out, &mut kept.stamp, Style::Plain);
                }
                Part::Computed(value) => {
                    let text = kept.text();
                    if compute(value, line, text) {
                        push_text(out, text.get(..MOST_TEXT).unwrap_or(text), Style::Plain);
                    } else {
                        out.push(b'-');
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

/// Names of all fields of a line, in the order of a JSON line.
#[must_use]
pub fn log_fields() -> &'static [&'static str] {
    Field::NAMES
}

fn suggestion(typed: &str) -> String {
    match daemun_config::diagnostic::nearest(typed, Field::NAMES.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the fields are {}", Field::NAMES.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_fields() {
        let template = LogTemplate::parse("$$ ${method} \"${path}\" ${status}$$").unwrap();
        let text = |t: &str| Part::Text(t.into());
        assert_eq!(
            template.0,
            [
                text("$ "),
                Part::Field(Field::Method),
                text(" \""),
                Part::Field(Field::Path),
                text("\" "),
                Part::Field(Field::Status),
                text("$")
            ]
        );
    }

    #[test]
    fn every_field_is_found_by_its_name() {
        for (name, field) in Field::NAMES.iter().zip(Field::ALL) {
            assert_eq!(LogTemplate::parse(&format!("${{{name}}}")).unwrap().0, [Part::Field(*field)]);
        }
    }

    #[test]
    fn what_is_wrong_with_a_template_is_told_with_its_place() {
        let wrong = |template: &str| LogTemplate::parse(template).unwrap_err();
        let unknown = wrong("a ${stauts}");
        assert_eq!((unknown.offset, unknown.message.as_str()), (4, "there is no log field `stauts`"));
        assert_eq!(unknown.help.as_deref(), Some("did you mean `status`?"));
        assert!(wrong("${authorization_header}").help.unwrap().starts_with("the fields are time, id,"));
        for (template, offset) in
            [("abc $", 4), ("${status", 0), ("$status", 0), ("a\nb", 1), ("", 0), ("${}", 2), ("${status}${", 9)]
        {
            assert_eq!(wrong(template).offset, offset, "{template}");
        }
        assert_eq!(wrong(&"x".repeat(5_000)).offset, 0);
    }
}
