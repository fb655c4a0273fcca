//! The settings of `transform`.

use daemun_config::decode::{Decoder, JsonValue, Key, Mapping, OneOrMany, SchemaBuilder, Setting, Size};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::model::Spanned;
use daemun_config::settings;
use daemun_config::tree::{At, Node, Value};
use serde_json::json;

use super::path::is_normal;
use super::target::{Segment, Target, clip};
use super::template::Template;
use crate::headers::config::{Direction, refused};

/// Largest `max_body`: a body that is changed takes several times its size in memory.
const MOST: u64 = 16 << 20;

/// Changes to requests and answers; a list alone is what changes in requests.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformConfig(pub TransformSettings);

settings! {
    /// Changes to requests and answers, step by step.
    #[derive(Clone, Debug, PartialEq)]
    pub struct TransformSettings {
        /// What changes on the way to the upstream, in this order.
        pub request: Vec<StepConfig> = "[]",
        /// What changes on the way to the caller, in this order.
        pub response: Vec<StepConfig> = "[]",
        /// Statuses of the answers that `response` is for: `200`, `2xx`; all when absent.
        pub statuses: Option<OneOrMany<StatusMatch>>,
        /// Largest body that is changed, and largest that a template writes.
        pub max_body: Size = "1MiB",
        /// What becomes of a body that steps cannot read: one that is neither JSON, XML nor a form, is coded, or has another charset than UTF-8.
        pub on_other_body: OnOther = "refuse",
        /// What becomes of an answer whose body is malformed, lacks what a step needs, or is larger than `max_body`.
        pub on_bad_answer: OnOther = "refuse",
    }
    check check;
}

settings! {
    /// One step.
    #[derive(Clone, Debug, PartialEq)]
    pub enum StepConfig {
        /// Gives values, whatever was there; `${…}` in a text is an expression.
        Set(Mapping<Target, Literal>) = "set",
        /// Takes out.
        Remove(OneOrMany<Spanned<Target>>) = "remove",
        /// Gives other names.
        Rename(Mapping<Target, Spanned<String>>) = "rename",
        /// Takes out all but these, of each of headers, query and body that is named here.
        Keep(OneOrMany<Spanned<Target>>) = "keep",
        /// Gives texts that templates write.
        Template(TemplateConfig) = "template",
    }
}

settings! {
    /// What becomes of something that cannot be changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum OnOther {
        /// A request is refused, and an answer replaced by a failure.
        Refuse = "refuse",
        /// It passes as it is, with its headers changed.
        Pass = "pass",
    }
}

/// Texts that templates write, and the content type of one that writes the body.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateConfig {
    /// Content type of the body that is written; when absent, that of the body that was there.
    pub content_type: Option<String>,
    /// What is written, and the template that writes it.
    pub texts: Vec<(Spanned<Target>, String)>,
}

/// A value as written: a text, a number, a list, anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    pub(super) json: String,
    /// The text of a scalar.
    pub(super) text: Option<String>,
    /// Whether it was written as a text.
    pub(super) is_text: bool,
    pub(super) at: At,
}

/// A status, or all of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusMatch {
    pub(super) from: u16,
    pub(super) to: u16,
}

impl Setting for TransformConfig {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_seq().is_none() {
            return TransformSettings::decode(node, cx).map(Self);
        }
        let before = cx.error_count();
        let request = Vec::decode(node, cx)?;
        check_steps(&request, Direction::Request, cx, node);
        if request.is_empty() && cx.error_count() == before {
            cx.bad_value(node, "there is no step");
        }
        let settings = TransformSettings {
            request,
            response: Vec::new(),
            statuses: None,
            max_body: Size(1 << 20),
            on_other_body: OnOther::Refuse,
            on_bad_answer: OnOther::Refuse,
        };
        Some(Self(settings))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let (settings, steps) = (TransformSettings::schema(s), Vec::<StepConfig>::schema(s));
        json!({ "anyOf": [settings, steps] })
    }
}

impl Key for Target {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        read_target(key, at, cx)
    }
}

impl Setting for Target {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        read_target(&String::decode(node, cx)?, node.at, cx)
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> JsonValue {
        json!({ "type": "string", "title": "place in a message", "description": TARGETS })
    }
}

const TARGETS: &str =
    "`header.NAME`, `query.NAME`, `path`, `status`, `body`, or a place in the body: `body.items[*].price`.";

fn read_target(text: &str, at: At, cx: &mut Decoder<'_>) -> Option<Target> {
    match Target::parse(text) {
        Ok(target) => Some(target),
        Err(message) => {
            let help = "places are `header.NAME`, `query.NAME`, `path`, `status`, `body`, and `body.items[*].price`";
            cx.report(Diagnostic::error(diagnostic::BAD_VALUE, at, message).help(help));
            None
        }
    }
}

impl Setting for Literal {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let mut json = String::new();
        push_json(node, &mut json, cx)?;
        let (text, is_text) = match &node.value {
            Value::String(_) => (node.as_template().map(str::to_owned), true),
            Value::Bool(_) | Value::Number(_) => (Some(json.clone()), false),
            Value::Null => (Some(String::new()), false),
            Value::Seq(_) | Value::Map(_) => (None, false),
        };
        Some(Literal { json, text, is_text, at: node.at })
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> JsonValue {
        json!({ "title": "value" })
    }
}

/// Writes a value as JSON.
fn push_json(node: &Node, out: &mut String, cx: &mut Decoder<'_>) -> Option<()> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(text) => {
            if serde_json::from_str::<&serde_json::value::RawValue>(text).is_err() {
                cx.bad_value_help(node, format!("`{text}` is not a number of JSON"), "quote it if it is a text");
                return None;
            }
            out.push_str(text);
        }
        Value::String(text) => out.push_str(&quoted(&text.text)),
        Value::Seq(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push_json(item, out, cx)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (at, entry) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(&entry.key));
                out.push(':');
                push_json(&entry.value, out, cx)?;
            }
            out.push('}');
        }
    }
    Some(())
}

impl Setting for TemplateConfig {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let (mut content_type, mut texts) = (None, Vec::new());
        for entry in cx.map(node)? {
            cx.key(&entry.key, |cx| {
                let text = String::decode(&entry.value, cx)?;
                if entry.key == "content_type" {
                    let sound = text.contains('/') && text.bytes().all(|b| (0x20..0x7f).contains(&b));
                    if !sound {
                        cx.bad_value(&entry.value, format!("`{}` is not a content type", entry.value.shown()));
                    }
                    content_type = Some(text);
                    return Some(());
                }
                let target = read_target(&entry.key, entry.key_at, cx)?;
                if let Err(message) = Template::parse(&text, 0) {
                    cx.bad_value(&entry.value, message);
                }
                texts.push((Spanned { value: target, at: entry.key_at }, text));
                Some(())
            });
        }
        let writes_body =
            texts.iter().any(|(target, _)| matches!(&target.value, Target::Body(path) if path.is_whole()));
        if content_type.is_some() && !writes_body {
            cx.bad_value_help(
                node,
                "`content_type` is given, but no `body`",
                "it is the type of the body that is written",
            );
        }
        Some(TemplateConfig { content_type, texts })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.define("TransformTemplate", |_| {
            json!({
                "type": "object",
                "description": "Texts that templates write, each by the place it is put.",
                "properties": { "content_type": { "type": "string", "description": "Content type of the `body` that is written." } },
                "additionalProperties": { "type": "string" },
            })
        })
    }
}

impl Setting for StatusMatch {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Number(text) => text.to_string(),
            Value::String(text) => text.text.clone(),
            Value::Null | Value::Bool(_) | Value::Seq(_) | Value::Map(_) => String::new(),
        };
        let parsed = match text.strip_suffix("xx") {
            Some(hundred) => hundred.parse().ok().map(|n: u16| (n.saturating_mul(100), n.saturating_mul(100) | 99)),
            None => text.parse().ok().map(|status| (status, status)),
        };
        let parsed = parsed.filter(|(from, _)| (200..600).contains(from));
        if parsed.is_none() {
            cx.bad_value_help(node, format!("`{}` is no status of an answer", node.shown()), "write `404` or `2xx`");
        }
        parsed.map(|(from, to)| StatusMatch { from, to: if from == to { to } else { from + 99 } })
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> JsonValue {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 200, "maximum": 599 },
            { "type": "string", "pattern": "^([2-5][0-9][0-9]|[2-5]xx)$" },
        ] })
    }
}

fn check(settings: &TransformSettings, node: &Node, cx: &mut Decoder<'_>) {
    for (key, direction, steps) in
        [("request", Direction::Request, &settings.request), ("response", Direction::Response, &settings.response)]
    {
        if let Some(node) = node.get(key) {
            cx.key(key, |cx| check_steps(steps, direction, cx, node));
        }
    }
    if node.get("request").is_none() && node.get("response").is_none() {
        let found = Diagnostic::error(diagnostic::MISSING_KEY, node.at, "nothing is changed here");
        cx.report(found.help("give one of `request` and `response`"));
    }
    if settings.max_body.0 > MOST {
        let at = node.get("max_body").unwrap_or(node);
        cx.key("max_body", |cx| cx.bad_value(at, "`max_body` is larger than the largest, `16MiB`"));
    }
}

/// What spans a step, and what only one of request and answer has.
fn check_steps(steps: &[StepConfig], direction: Direction, cx: &mut Decoder<'_>, node: &Node) {
    let items = node.as_seq().unwrap_or_default();
    for (index, step) in steps.iter().enumerate() {
        let at = items.get(index).map_or(node.at, |item| item.at);
        cx.numbered(index, |cx| check_step(step, direction, at, cx));
    }
}

fn check_step(step: &StepConfig, direction: Direction, at: At, cx: &mut Decoder<'_>) {
    match step {
        StepConfig::Set(values) => {
            for (target, value) in &values.0 {
                check_target(&target.value, "set", direction, target.at, cx);
                check_value(&target.value, value, cx);
            }
        }
        StepConfig::Remove(targets) | StepConfig::Keep(targets) => {
            let verb = if matches!(step, StepConfig::Keep(_)) { "keep" } else { "remove" };
            for target in &targets.0 {
                check_target(&target.value, verb, direction, target.at, cx);
            }
            if targets.0.is_empty() {
                report(cx, at, format!("`{verb}` names nothing"));
            }
        }
        StepConfig::Rename(names) => {
            for (target, new) in &names.0 {
                check_target(&target.value, "rename", direction, target.at, cx);
                check_name(&target.value, new, direction, cx);
            }
        }
        StepConfig::Template(template) => {
            for (target, _) in &template.texts {
                check_target(&target.value, "template", direction, target.at, cx);
            }
            if template.texts.is_empty() {
                report(cx, at, "`template` writes nothing".to_owned());
            }
        }
    }
}

/// Whether a step may be about this at all.
fn check_target(target: &Target, verb: &str, direction: Direction, at: At, cx: &mut Decoder<'_>) {
    let one = direction == Direction::Request;
    let wrong = match target {
        Target::Header(name) if verb != "keep" => {
            if let Some(reason) = refused(name, direction) {
                let message = format!("`{name}` cannot be changed here");
                cx.report(Diagnostic::error(diagnostic::BAD_VALUE, at, message).help(reason));
            }
            false
        }
        Target::Header(_) => false,
        Target::Query(_) => !one,
        Target::Path => !one || !matches!(verb, "set" | "template"),
        Target::Status => one || verb != "set",
        Target::Body(path) => matches!(
            (path.0.last(), verb),
            (None, "remove" | "rename" | "keep")
                | (Some(Segment::Index(_) | Segment::Every), "rename")
                | (Some(_), "template")
        ),
    };
    if wrong {
        let side = if one { "a request" } else { "an answer" };
        report(cx, at, format!("`{verb}` cannot be done to `{target}` of {side}"));
    }
}

fn check_value(target: &Target, value: &Literal, cx: &mut Decoder<'_>) {
    let at = value.at;
    match target {
        Target::Body(_) => {}
        Target::Status => {
            let status = value.text.as_deref().and_then(|text| text.parse().ok());
            if !status
                .is_some_and(|status: u16| (200..600).contains(&status) && !matches!(status, 204 | 205 | 206 | 304))
            {
                report(cx, at, format!("`{}` is no status of an answer with a body", value.json));
            }
        }
        Target::Header(_) | Target::Query(_) | Target::Path if !value.is_text => {
            let found = Diagnostic::error(diagnostic::WRONG_TYPE, at, format!("expected a text for `{target}`"));
            cx.report(match &value.text {
                Some(text) if !text.is_empty() => found.help(format!("quote it: `\"{text}\"`")),
                Some(_) | None => found.help("only a body holds other values"),
            });
        }
        Target::Header(_) => {
            let text = value.text.as_deref().unwrap_or_default();
            if text.trim() != text || text.chars().any(|char| char.is_control() && char != '\t') {
                report(cx, at, "a header holds no control characters, and no white space at its ends".to_owned());
            }
        }
        Target::Path => {
            let text = value.text.as_deref().unwrap_or_default();
            // what expressions give is looked at when it is known
            if !text.contains("${") && !is_normal(text) {
                let found = Diagnostic::error(diagnostic::BAD_VALUE, at, "a path that is set must have one reading");
                cx.report(found.help("it begins with `/`, has no empty, `.` or `..` segments and no `;`, `?` or `#`"));
            }
        }
        Target::Query(_) => {}
    }
}

fn check_name(target: &Target, new: &Spanned<String>, direction: Direction, cx: &mut Decoder<'_>) {
    let (name, at) = (&new.value, new.at);
    let kind = match target {
        Target::Header(_) => "header.",
        Target::Query(_) => "query.",
        Target::Body(_) | Target::Path | Target::Status => "body.",
    };
    if let Some(bare) = name.strip_prefix(kind).filter(|bare| !bare.is_empty()) {
        let message = format!("`{}` is taken as the new name as it stands", clip(name));
        let found = Diagnostic::error(diagnostic::BAD_VALUE, at, message);
        cx.report(found.help(format!("write the name alone: `{}`", clip(bare))));
        return;
    }
    let sound = match target {
        Target::Header(_) => match Target::parse(&format!("header.{name}")) {
            Ok(Target::Header(name)) => {
                if let Some(reason) = refused(&name, direction) {
                    let message = format!("`{name}` cannot be changed here");
                    cx.report(Diagnostic::error(diagnostic::BAD_VALUE, at, message).help(reason));
                }
                true
            }
            Ok(_) | Err(_) => false,
        },
        Target::Query(_) | Target::Body(_) => !name.is_empty() && name.len() <= 256 && !name.contains(char::is_control),
        Target::Path | Target::Status => true,
    };
    if !sound {
        report(cx, at, format!("`{}` is not a name", clip(name)));
    }
}

fn report(cx: &mut Decoder<'_>, at: At, message: String) {
    cx.report(Diagnostic::error(diagnostic::BAD_VALUE, at, message));
}
