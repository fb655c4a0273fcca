//! The fields of an access-log line: their names, and how each is written. Knows nothing of files and buffers.

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

            /// `,"name":`
            fn json_key(self) -> &'static str { match self { $(Field::$variant => concat!(",\"", $name, "\":"),)* } }
        }
    };
}

fields! {
    Time = "time";
    Id = "id";
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
    Connect = "connect_ms";
    Wait = "wait_ms";
    Transfer = "transfer_ms";
    BytesIn = "bytes_in";
    BytesOut = "bytes_out";
    Consumer = "consumer";
    UserAgent = "user_agent";
    Attempts = "attempts";
    Reused = "reused";
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

    /// Writes the value; writes nothing and says so when there is none.
    fn write(self, out: &mut Vec<u8>, line: &Line<'_>, steps: &Steps, stamp: &mut Stamp, style: Style) -> bool {
        match self {
            Field::Time => quoted(out, style, |out| stamp.push(out, line.wall)),
            Field::Id => text(out, line.id, style),
            Field::ClientIp => line.client_ip.is_some_and(|ip| quoted(out, style, |out| push_ip(out, ip))),
            Field::Method => text(out, line.method, style),
            Field::Host => text(out, line.host, style),
            Field::Path => !line.path.is_empty() && done(push_text(out, line.path, MOST_PATH, style)),
            Field::Protocol => text(out, protocol(line.version).unwrap_or_default().as_bytes(), style),
            Field::Scheme => text(out, if line.tls { b"https" } else { b"http" }, style),
            Field::Status => line.status > 0 && done(push_u64(out, line.status.into())),
            Field::Route => text(out, line.route.unwrap_or_default().as_bytes(), style),
            Field::Upstream => text(out, line.upstream.unwrap_or_default().as_bytes(), style),
            Field::Target => text(out, line.target.unwrap_or_default().as_bytes(), style),
            Field::Reason => line.fault.is_some_and(|fault| text(out, fault.reason.code().as_bytes(), style)),
            Field::Cause => {
                let cause = line.fault.and_then(|fault| fault.cause.as_deref());
                text(out, cause.unwrap_or_default().as_bytes(), style)
            }
            Field::Duration => millis(out, steps.total),
            Field::Policies => millis(out, steps.policies),
            Field::Connect => millis(out, steps.connect),
            Field::Wait => millis(out, steps.wait),
            Field::Transfer => millis(out, steps.transfer),
            Field::BytesIn => done(push_u64(out, line.bytes_in)),
            Field::BytesOut => done(push_u64(out, line.bytes_out)),
            Field::Consumer => text(out, line.consumer.unwrap_or_default().as_bytes(), style),
            Field::UserAgent => text(out, line.head.and_then(|head| head.get("user-agent")).unwrap_or_default(), style),
            Field::Attempts => line.attempts > 0 && done(push_u64(out, line.attempts.into())),
            Field::Reused => line.attempts > 0 && done(push_bool(out, line.reused)),
            Field::Upgraded => line.upgraded && done(push_bool(out, true)),
        }
    }
}

fn done((): ()) -> bool {
    true
}

fn text(out: &mut Vec<u8>, text: &[u8], style: Style) -> bool {
    !text.is_empty() && done(push_text(out, text, MOST_TEXT, style))
}

fn millis(out: &mut Vec<u8>, nanos: Option<u64>) -> bool {
    nanos.is_some_and(|nanos| done(push_millis(out, nanos)))
}

fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// For values that need no escaping.
fn quoted(out: &mut Vec<u8>, style: Style, write: impl FnOnce(&mut Vec<u8>)) -> bool {
    match style {
        Style::Json => {
            out.push(b'"');
            write(out);
            out.push(b'"');
        }
        Style::Plain => write(out),
    }
    true
}

/// Writes a line as one JSON object, with its line feed. Fields without a value are left out.
pub(super) fn write_json(out: &mut Vec<u8>, line: &Line<'_>, stamp: &mut Stamp) {
    let steps = Steps::of(&line.times);
    let start = out.len();
    for field in Field::ALL {
        let before = out.len();
        out.extend_from_slice(field.json_key().as_bytes());
        if !field.write(out, line, &steps, stamp, Style::Json) {
            out.truncate(before);
        }
    }
    // the first key's comma; the time is always there
    if let Some(first) = out.get_mut(start) {
        *first = b'{';
    }
    out.extend_from_slice(b"}\n");
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Field(Field),
}

/// A compiled template of a line: text with `${field}` references.
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

/// Bytes of a template.
const MOST_TEMPLATE: usize = 4_096;

impl LogTemplate {
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
            let Some((name, behind)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
                let help = "a field is written `${name}`, a dollar `$$`";
                return wrong(offset, "`$` begins neither a field nor a dollar".into(), Some(help.into()));
            };
            let Some(field) = Field::named(name) else {
                return wrong(offset + 2, format!("there is no log field `{name}`"), Some(suggestion(name)));
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Field(field));
            rest = behind;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(LogTemplate(parts))
    }

    /// Writes a line, with its line feed. A field without a value is `-`.
    pub(super) fn write(&self, out: &mut Vec<u8>, line: &Line<'_>, stamp: &mut Stamp) {
        let steps = Steps::of(&line.times);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(field) => {
                    if !field.write(out, line, &steps, stamp, Style::Plain) {
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
