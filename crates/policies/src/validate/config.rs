//! The settings of `validate`.

use std::path::PathBuf;

use daemun_config::decode::{Decoder, JsonValue, Mapping, SchemaBuilder, Setting, Size};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::{Node, Value};
use serde_json::json;

settings! {
    /// Whether requests and answers are as an OpenAPI document or JSON Schemas describe them.
    #[derive(Clone, Debug)]
    pub struct ValidateConfig {
        /// An OpenAPI 3.0 or 3.1 document: a file, or the document itself.
        pub openapi: Option<Source>,
        /// What the paths of the document stand below, in place of the paths of its `servers`.
        pub base_path: Option<String>,
        /// What becomes of a call that the document does not describe.
        pub unknown_operations: Unknown = "refuse",
        /// Schema of the JSON body of requests: a file, or the schema itself.
        pub body: Option<Source>,
        /// Schema of the query: an object of its parameters.
        pub query: Option<Source>,
        /// Schema of the request's headers: an object with their names in lower case.
        pub headers: Option<Source>,
        /// Schema of the parameters of the route's path: an object of them.
        pub path: Option<Source>,
        /// Schema of the JSON body of answers with a status of 2xx.
        pub response: Option<Source>,
        /// What becomes of an answer that is not as described; when absent `enforce` with `response`, and `off` without it.
        pub responses: Option<Responses>,
        /// Documents that references name by an address, `https://…`, each with the file it is in, or itself.
        pub documents: Option<Mapping<String, Source>>,
        /// Largest body that is looked at; a larger request is refused.
        pub max_body: Size = "1MiB",
        /// Whether `format` is a rule or a note; when absent a rule in OpenAPI documents and in schemas up to draft 7.
        pub formats: Option<bool>,
    }
    check check;
}

settings! {
    /// What becomes of a call that is not described.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Unknown {
        /// It is answered with 404, or 405 where its path is described.
        Refuse = "refuse",
        /// It passes as it is.
        Pass = "pass",
    }
}

settings! {
    /// What becomes of an answer that is not as described.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Responses {
        /// Answers are not looked at.
        Off = "off",
        /// It passes, and the access log says what is wrong with it.
        Report = "report",
        /// The caller gets 502 instead.
        Enforce = "enforce",
    }
}

/// A document: its file, or itself.
#[derive(Clone, Debug)]
pub enum Source {
    /// Path of a YAML or JSON file.
    File(PathBuf),
    /// The document.
    Inline(Node),
}

impl Setting for Source {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => {
                // as a schema it would say nothing, and let all pass
                if let [entry] = entries.as_slice()
                    && ["file", "path", "url"].contains(&entry.key.as_str())
                    && let Some(place) = entry.value.as_str()
                {
                    let message = format!("a mapping of nothing but `{}` is no document", entry.key);
                    cx.bad_value_help(node, message, format!("write the path of a file itself: `{place}`"));
                    return None;
                }
                Some(Source::Inline(node.clone()))
            }
            Value::Bool(_) => Some(Source::Inline(node.clone())),
            Value::String(_) => {
                let path = PathBuf::decode(node, cx)?;
                cx.reads_file(&path);
                Some(Source::File(path))
            }
            Value::Null | Value::Number(_) | Value::Seq(_) => {
                cx.wrong_type(node, "a file, or a document");
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let file = PathBuf::schema(s);
        json!({ "anyOf": [file, { "type": ["object", "boolean"] }] })
    }
}

fn check(settings: &ValidateConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    let schemas = ["body", "query", "headers", "path", "response"];
    if node.get("openapi").is_none() && schemas.iter().all(|key| node.get(key).is_none()) {
        let found = Diagnostic::error(diagnostic::MISSING_KEY, node.at, "nothing says what is valid");
        cx.report(found.help("give `openapi`, or one of `body`, `query`, `headers`, `path` and `response`"));
    }
    if node.get("openapi").is_none() {
        for key in ["base_path", "unknown_operations"].into_iter().filter(|key| node.get(key).is_some()) {
            let found = Diagnostic::error(
                diagnostic::CONFLICTING_KEYS,
                at(key).at,
                format!("`{key}` is of an `openapi` document"),
            );
            cx.key(key, |cx| cx.report(found.help("there is none here")));
        }
    }
    if let Some(entry) = node.entry("unknown_operations").filter(|_| settings.unknown_operations == Unknown::Pass) {
        let message = "a call that the document does not describe passes unchecked, by another method or path too";
        cx.key("unknown_operations", |cx| {
            cx.report(Diagnostic::warning(diagnostic::INSECURE, entry.key_at, message));
        });
    }
    if node.get("openapi").is_none()
        && settings.response.is_none()
        && settings.responses.is_some_and(|to| to != Responses::Off)
    {
        let found =
            Diagnostic::error(diagnostic::MISSING_KEY, at("responses").at, "nothing says what answers are valid");
        cx.key("responses", |cx| cx.report(found.help("give `openapi` or `response`")));
    }
    if let Some(base) = &settings.base_path
        && (!base.starts_with('/') || base.contains(['?', '#']) || base.len() > 4096)
    {
        let message = format!("`{}` is not a path", at("base_path").shown());
        cx.key("base_path", |cx| cx.bad_value_help(at("base_path"), message, "write it like `/api/v1`"));
    }
    for (address, _) in settings.documents.iter().flat_map(|documents| &documents.0) {
        if !address.value.contains("://") || address.value.contains('#') || address.value.len() > 4096 {
            let found = Diagnostic::error(diagnostic::BAD_VALUE, address.at, "a document is named by its address");
            cx.key("documents", |cx| cx.report(found.help("write it like `https://example.com/schemas/address.json`")));
        }
    }
    if settings.max_body.0 > MAX_BODY || settings.max_body.0 == 0 {
        let help = "from 1B to 64MiB; a body is held in memory while it is looked at";
        cx.key("max_body", |cx| cx.bad_value_help(at("max_body"), "the size is out of range", help));
    }
}

/// Largest body that may be looked at.
const MAX_BODY: u64 = 64 << 20;
