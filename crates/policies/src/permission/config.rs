//! The settings of `permission`.

use std::path::PathBuf;
use std::time::Duration;

use daemun_config::decode::{
    Bounded, Decoder, ExpressionText, FieldName, FieldValue, JsonValue, Mapping, Method, Name, NonEmpty, OneOrMany,
    SchemaBuilder, Setting, TemplateText, TimeLimit, WebUrl,
};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::model::{IpNet, Spanned};
use daemun_config::settings;
use daemun_config::tree::{Node, Value};
use serde_json::json;

/// Rules of one list.
const MAX_RULES: usize = 1_000;
/// Names in one condition.
const MAX_NAMES: usize = 1_000;
/// Bytes of a name in a condition.
const MAX_NAME: usize = 256;
/// Longest that a decision is kept: what changed at the service counts after that.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);

settings! {
    /// What callers may do. A call passes when no rule of `deny` applies to it, and `allow`, where it is given, lets it pass.
    #[derive(Clone, Debug)]
    pub struct PermissionConfig {
        /// Rules of which one must apply.
        pub allow: Option<NonEmpty<RuleConfig>>,
        /// Rules of which none may apply, whatever else would let the call pass.
        pub deny: Option<NonEmpty<RuleConfig>>,
        /// Policies in Cedar, which must permit the call as well.
        pub cedar: Option<CedarConfig>,
        /// An outside service that decides, which must allow the call as well.
        pub service: Option<ServiceConfig>,
        /// What `WWW-Authenticate` asks of a caller that nobody knows, where a known one might be let in.
        pub challenge: FieldValue = "Bearer realm=\"daemun\"",
    }
    check check;
}

settings! {
    /// A rule applies to a call when all of its conditions hold; a condition with several values, when one of them does.
    #[derive(Clone, Debug)]
    pub struct RuleConfig {
        /// What explanations and the log call it.
        pub name: Option<Name>,
        /// Every call, whoever it comes from.
        pub anyone: bool = "false",
        /// Whoever an authenticator found.
        pub authenticated: bool = "false",
        /// Consumers of the configuration.
        pub consumers: Option<OneOrMany<Spanned<Name>>>,
        /// Callers that are none of these, by whom their credential names: consumers of a store, or subjects of tokens.
        pub subjects: Option<OneOrMany<Spanned<String>>>,
        /// Roles, the consumer's or those that its credential gives: one of them, or `{ all: [ … ] }`.
        pub roles: Option<Wanted>,
        /// Groups, as `roles`.
        pub groups: Option<Wanted>,
        /// Tags, as `roles`.
        pub tags: Option<Wanted>,
        /// Scopes of the credential, as `roles`.
        pub scopes: Option<Wanted>,
        /// Claims of the credential, each with the value it must have, values of which it must have one, or `{ all: [ … ] }`. A `.` in
        /// a name leads into a claim that is an object.
        pub claims: Option<Mapping<String, ClaimWanted>>,
        /// Methods; `GET` includes `HEAD`.
        pub methods: Option<NonEmpty<Method>>,
        /// Addresses of callers, or ranges of them.
        pub client_ip: Option<OneOrMany<IpNet>>,
        /// A condition in CEL.
        pub when: Option<ExpressionText>,
    }
    check check_rule;
}

settings! {
    /// Policies in Cedar, and how a request is put to them.
    #[derive(Clone, Debug)]
    pub struct CedarConfig {
        /// Files of policies, or folders, of which each file `*.cedar` is read.
        pub policies: OneOrMany<ReadFile>,
        /// File of a schema that the policies must fit: `*.json`, or in Cedar's own form.
        pub schema: Option<ReadFile>,
        /// File of entities in JSON: what is known of consumers, roles and resources beside what a request says.
        pub entities: Option<ReadFile>,
        /// Namespace of the types of all entities.
        pub namespace: Option<TypeName>,
        /// Types of who calls.
        pub principal: PrincipalConfig = "{}",
        /// What is done, as `Action::"…"`: text with `${…}`. The method when absent, `GET` for `HEAD`.
        pub action: Option<Spanned<TemplateText>>,
        /// To what it is done.
        pub resource: ResourceConfig = "{}",
        /// Headers of the request that policies may ask for, as `context.headers`.
        pub headers: OneOrMany<FieldName> = "[]",
    }
    check check_cedar;
}

settings! {
    /// A service that decides as Open Policy Agent does: it is asked `{"input": …}` and answers `{"result": …}`.
    #[derive(Clone, Debug)]
    pub struct ServiceConfig {
        /// Where it is asked: `https://opa.internal:8181/v1/data/shop/allow`.
        pub url: WebUrl,
        /// Time for an answer.
        pub timeout: TimeLimit = "1s",
        /// Authorities that the service's certificate must chain to, a PEM file; the system's when absent.
        pub ca_file: Option<ReadFile>,
        /// Fields of the call to the service, such as `authorization`; the values are secrets.
        pub send: Mapping<FieldName, FieldValue> = "{}",
        /// Headers of the request that the service is told.
        pub headers: OneOrMany<FieldName> = "[]",
        /// How long decisions are kept; each is asked for when absent.
        pub cache: Option<CacheConfig>,
    }
    check check_service;
}

settings! {
    /// How decisions are kept.
    #[derive(Clone, Debug)]
    pub struct CacheConfig {
        /// How long, at most `1h`.
        pub lasts: TimeLimit as "for",
        /// What a decision depends on beside method, scheme, host, path and query: text with `${…}`. All that the service is asked when absent.
        pub by: Option<Spanned<TemplateText>>,
        /// Whether a decision counts for every method, scheme, host, path and query, because the service decides by `by` alone.
        pub any_request: bool = "false",
        /// Decisions that each worker keeps; more take the place of those used longest ago.
        pub max: Bounded<1, 1_000_000> = "10000",
    }
}

settings! {
    /// Types of entities that callers are.
    #[derive(Clone, Debug)]
    pub struct PrincipalConfig {
        /// Of consumers of the configuration, by name.
        pub consumer: TypeName = "Consumer",
        /// Of callers that are none, by whom their credential names.
        pub subject: TypeName = "Subject",
        /// Of the roles they are in.
        pub role: TypeName = "Role",
        /// Of the groups they are in.
        pub group: TypeName = "Group",
    }
}

settings! {
    /// What a call is about.
    #[derive(Clone, Debug)]
    pub struct ResourceConfig {
        /// Type of the entity.
        pub kind: TypeName as "type" = "Path",
        /// Its id: text with `${…}`. The path when absent.
        pub id: Option<Spanned<TemplateText>>,
    }
}

/// A file, or folder, that is read beside the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile(pub PathBuf);

impl Setting for ReadFile {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let path = PathBuf::decode(node, cx)?;
        cx.reads_file(&path);
        Some(Self(path))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        PathBuf::schema(s)
    }
}

/// The name of a type, or of a namespace, in Cedar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName(pub String);

impl Setting for TypeName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = String::decode(node, cx)?;
        let is_part = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !["true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"].contains(&part)
        };
        if name.len() <= MAX_NAME && name.split("::").all(is_part) {
            return Some(Self(name));
        }
        let help = "write it like `Consumer` or `Shop::Consumer`";
        cx.bad_value_help(node, format!("`{}` is not the name of a type in Cedar", node.shown()), help);
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let doc = "Name of a type in Cedar: `Consumer`, `Shop::Consumer`.";
        s.pattern("type name", doc, "^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*$")
    }
}

fn check_service(settings: &ServiceConfig, node: &Node, cx: &mut Decoder<'_>) {
    if let Some(entry) = node.entry("ca_file").filter(|_| !settings.url.is_https()) {
        let found =
            Diagnostic::error(diagnostic::CONFLICTING_KEYS, entry.key_at, "`ca_file` is for a server that is `https`");
        cx.key("ca_file", |cx| cx.report(found));
    }
    if let Some(at) = node.get("headers") {
        for FieldName(name) in &settings.headers.0 {
            cx.key("headers", |cx| cx.reads_field(at, name));
        }
    }
    if let Some(at) = node.get("cache").and_then(|cache| cache.get("for"))
        && settings.cache.as_ref().is_some_and(|cache| cache.lasts.0 > LONGEST_KEPT)
    {
        cx.key("cache", |cx| cx.key("for", |cx| cx.bad_value(at, "a decision is kept for `1h` at most")));
    }
    if let Some(at) = node.get("cache").and_then(|cache| cache.get("any_request"))
        && settings.cache.as_ref().is_some_and(|cache| cache.any_request && cache.by.is_none())
    {
        let help = "say with `by` what a decision depends on instead";
        cx.key("cache", |cx| {
            cx.key("any_request", |cx| {
                cx.bad_value_help(
                    at,
                    "a decision that depends on all that is asked is not one for every request",
                    help,
                );
            });
        });
    }
    let own = ["host", "content-length", "content-type", "transfer-encoding", "connection"];
    for (name, _) in settings.send.0.iter().filter(|(name, _)| own.contains(&name.value.0.as_str())) {
        let message = format!("`{}` is set by the gateway itself", name.value.0);
        cx.key("send", |cx| cx.report(Diagnostic::error(diagnostic::BAD_VALUE, name.at, message)));
    }
}

fn check_cedar(settings: &CedarConfig, node: &Node, cx: &mut Decoder<'_>) {
    if let (true, Some(at)) = (settings.policies.0.is_empty(), node.get("policies")) {
        cx.key("policies", |cx| cx.bad_value(at, "expected at least one file, found an empty list"));
    }
    if let Some(at) = node.get("headers") {
        for FieldName(name) in &settings.headers.0 {
            cx.key("headers", |cx| cx.reads_field(at, name));
        }
    }
}

/// Names of which one, or all, must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether all must be.
    pub all: bool,
    /// The names.
    pub names: Vec<Spanned<String>>,
}

/// Values of which one, or all, a claim must have.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimWanted {
    /// Whether it must have all.
    pub all: bool,
    /// The values: texts, whole numbers, `true` and `false`.
    pub values: Vec<JsonValue>,
}

/// `(all, the items)` of a value, a list, or `{ all: list }`.
fn either<'n>(node: &'n Node, what: &str, cx: &mut Decoder<'_>) -> Option<(bool, &'n [Node])> {
    let (all, list) = match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [entry] if entry.key == "all" => (true, &entry.value),
            _ => {
                let message = format!("expected {what}, a list, or `{{ all: [ … ] }}`, found {}", node.found());
                cx.report(Diagnostic::error(diagnostic::WRONG_TYPE, node.at, message));
                return None;
            }
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) => (false, node),
    };
    let items = match &list.value {
        Value::Seq(items) => items.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Map(_) => {
            std::slice::from_ref(list)
        }
    };
    if items.is_empty() || items.len() > MAX_NAMES {
        cx.bad_value(list, format!("expected 1 to {MAX_NAMES} values, found {}", items.len()));
        return None;
    }
    Some((all, items))
}

impl Setting for Wanted {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let (all, items) = either(node, "a name", cx)?;
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            let name = Spanned::<String>::decode(item, cx)?;
            if name.value.is_empty() || name.value.len() > MAX_NAME {
                cx.bad_value(item, format!("expected a name of 1 to {MAX_NAME} bytes, found {}", name.value.len()));
            }
            names.push(name);
        }
        Some(Self { all, names })
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> JsonValue {
        with_all(&json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME }))
    }
}

impl Setting for ClaimWanted {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let (all, items) = either(node, "a value", cx)?;
        let values = items.iter().map(|item| claim_value(item, cx)).collect::<Option<_>>()?;
        Some(Self { all, values })
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> JsonValue {
        with_all(&json!({ "type": ["string", "integer", "boolean"] }))
    }
}

fn claim_value(node: &Node, cx: &mut Decoder<'_>) -> Option<JsonValue> {
    match &node.value {
        Value::Bool(value) => Some((*value).into()),
        Value::String(text) if text.text.len() <= 4 * MAX_NAME => Some(text.text.as_str().into()),
        Value::Number(text) => {
            let number = text.parse::<i64>().ok();
            if number.is_none() {
                cx.bad_value(node, format!("expected a whole number of 64 bits, found `{text}`"));
            }
            number.map(Into::into)
        }
        Value::Null | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
            cx.wrong_type(
                node,
                &format!("a text of at most {} bytes, a whole number, `true` or `false`", 4 * MAX_NAME),
            );
            None
        }
    }
}

fn with_all(one: &JsonValue) -> JsonValue {
    let list = json!({ "type": "array", "items": one, "minItems": 1, "maxItems": MAX_NAMES });
    let all =
        json!({ "type": "object", "properties": { "all": list }, "required": ["all"], "additionalProperties": false });
    json!({ "anyOf": [one, list, all] })
}

fn check(settings: &PermissionConfig, node: &Node, cx: &mut Decoder<'_>) {
    if ["allow", "cedar", "service"].iter().all(|key| node.get(key).is_none()) {
        let found =
            Diagnostic::error(diagnostic::MISSING_KEY, node.at, "nothing says who may call, so that nobody could");
        cx.report(
            found.help(
                "give `allow`, `cedar` or `service`; all that `deny` leaves pass with `allow: [{ anyone: true }]`",
            ),
        );
    }
    for (key, rules) in [("allow", &settings.allow), ("deny", &settings.deny)] {
        if let (Some(rules), Some(node)) = (rules, node.get(key))
            && rules.0.len() > MAX_RULES
        {
            cx.key(key, |cx| cx.bad_value(node, format!("expected 1 to {MAX_RULES} rules, found {}", rules.0.len())));
        }
    }
}

fn check_rule(rule: &RuleConfig, node: &Node, cx: &mut Decoder<'_>) {
    for (key, given) in [("anyone", rule.anyone), ("authenticated", rule.authenticated)] {
        if let (false, Some(at)) = (given, node.get(key)) {
            cx.key(key, |cx| cx.bad_value_help(at, format!("`{key}` is `true` where it is given"), "leave it out"));
        }
    }
    let of_callers = ["authenticated", "consumers", "subjects", "roles", "groups", "tags", "scopes", "claims"];
    if let (true, Some(entry)) = (rule.anyone, of_callers.iter().find_map(|key| node.entry(key))) {
        let message = format!("`anyone` asks nothing of the caller, and `{}` does", entry.key);
        cx.report(Diagnostic::error(diagnostic::CONFLICTING_KEYS, entry.key_at, message).help("leave one of them out"));
    }
    // a key that is not known is told of already
    if node.as_map().unwrap_or_default().iter().all(|entry| entry.key == "name") {
        let found = Diagnostic::error(diagnostic::MISSING_KEY, node.at, "the rule has no condition");
        cx.report(found.help("`anyone: true` is one that holds for every call"));
    }
    if let Some(claims) = &rule.claims {
        let claims_node = node.get("claims").unwrap_or(node);
        let count = claims_node.as_map().map_or(claims.0.len(), <[_]>::len);
        if count == 0 || count > MAX_NAMES {
            let message = format!("expected 1 to {MAX_NAMES} claims, found {count}");
            cx.key("claims", |cx| cx.bad_value(claims_node, message));
        }
        for (name, _) in claims.0.iter().filter(|(name, _)| name.value.is_empty() || name.value.len() > MAX_NAME) {
            let message = format!("the name of a claim has 1 to {MAX_NAME} bytes, this one {}", name.value.len());
            cx.key("claims", |cx| cx.report(Diagnostic::error(diagnostic::BAD_VALUE, name.at, message)));
        }
    }
    for (key, empty) in [
        ("consumers", rule.consumers.as_ref().is_some_and(|list| list.0.is_empty())),
        ("subjects", rule.subjects.as_ref().is_some_and(|list| list.0.is_empty())),
        ("client_ip", rule.client_ip.as_ref().is_some_and(|list| list.0.is_empty())),
    ] {
        if let (true, Some(at)) = (empty, node.get(key)) {
            cx.key(key, |cx| cx.bad_value(at, "expected at least one value, found an empty list"));
        }
    }
}
