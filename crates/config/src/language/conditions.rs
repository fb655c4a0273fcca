//! The conditions of a route.

use serde_json::{Value as Json, json};

use super::pattern::{HostPattern, PathPattern, PathPrefix};
use crate::decode::{
    Decoder, ExpressionText, FieldName, Key, Mapping, Method, NonEmpty, OneOrMany, RegexText, SchemaBuilder, Setting,
    Size, text,
};
use crate::diagnostic::{BAD_VALUE, Diagnostic, NO_EFFECT};
use crate::model::{IpNet, Match, PathMatch, Spanned, ValueMatch};
use crate::settings;
use crate::tree::{At, Node, Value};

/// Bytes of a body that a condition may read.
const MOST_BODY: u64 = 1 << 20;

settings! {
    /// Conditions of a route; all that are given must hold. Without any, every request matches.
    pub(super) struct MatchText {
        /// Hosts, exact or `*.` and a suffix; any host when absent.
        hosts: Option<NonEmpty<Spanned<HostPattern>>>,
        /// Whole path: `{name}` stands for one segment, `{*name}` at the end for the remainder, which may be empty.
        pub(super) path: Option<Spanned<PathPattern>>,
        /// Path of whole segments and everything below it.
        pub(super) prefix: Option<Spanned<PathPrefix>>,
        /// Regular expression that the whole path must match.
        pub(super) path_regex: Option<Spanned<RegexText>>,
        /// Methods, upper case; GET includes HEAD. Any when absent.
        methods: Option<NonEmpty<Spanned<Method>>>,
        /// Header fields: a text, a list of texts, `{regex: …}` or `{present: true}` for each.
        pub(super) headers: Mapping<FieldName, ValueMatch> = "{}",
        /// Query parameters, as `headers`.
        query: Mapping<ParameterName, ValueMatch> = "{}",
        /// Cookies, as `headers`.
        cookies: Mapping<CookieName, ValueMatch> = "{}",
        /// Addresses or ranges the client may have.
        client_ip: Option<OneOrMany<IpNet>>,
        /// A condition in CEL, such as `request.header["x-tier"] == "gold" && !request.path.startsWith("/internal/")`.
        when: Option<ExpressionText>,
        /// Largest JSON body that `when` reads, up to 1 MiB; it reads none when absent.
        body: Option<Spanned<Size>>,
    }
    exclusive { "path", "prefix", "path_regex" }
    check MatchText::check;
}

impl MatchText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let Some(list) = node.get("client_ip").filter(|list| list.as_seq().is_some_and(<[Node]>::is_empty)) {
            cx.key("client_ip", |cx| cx.bad_value(list, "expected at least one item, found an empty list"));
        }
        if let (Some(body), Some(found)) = (&self.body, node.get("body")) {
            if body.value.0 > MOST_BODY || body.value.0 == 0 {
                cx.key("body", |cx| cx.bad_value(found, format!("expected up to 1MiB, found {}", found.found())));
            } else if self.when.is_none() {
                let message = "no `when` is here that could read the body";
                cx.key("body", |cx| cx.report(Diagnostic::warning(NO_EFFECT, found.at, message)));
            }
        }
    }

    pub(super) fn lower(self) -> Match {
        let path = self.path.map(|Spanned { value, at }| Spanned { value: PathMatch::Pattern(value.text), at });
        let prefix = self.prefix.map(|Spanned { value, at }| Spanned { value: PathMatch::Prefix(value.0), at });
        let regex = self.path_regex.map(|Spanned { value, at }| Spanned { value: PathMatch::Regex(value.0), at });
        Match {
            hosts: plain(self.hosts, |host| host.0),
            path: path.or(prefix).or(regex),
            methods: plain(self.methods, |method| method.0),
            headers: pairs(self.headers, |name| name.0),
            query: pairs(self.query, |name| name.0),
            cookies: pairs(self.cookies, |name| name.0),
            client_ip: self.client_ip.map(|nets| nets.0).unwrap_or_default(),
            when: self.when.map(|when| when.0),
            body: self.body.map(|size| size.value.0),
        }
    }
}

fn plain<T>(list: Option<NonEmpty<Spanned<T>>>, into: impl Fn(T) -> String) -> Vec<Spanned<String>> {
    let list = list.map(|list| list.0).unwrap_or_default();
    list.into_iter().map(|Spanned { value, at }| Spanned { value: into(value), at }).collect()
}

fn pairs<K>(mapping: Mapping<K, ValueMatch>, into: impl Fn(K) -> String) -> Vec<(Spanned<String>, ValueMatch)> {
    let pair = |(Spanned { value, at }, matched)| (Spanned { value: into(value), at }, matched);
    mapping.0.into_iter().map(pair).collect()
}

/// The name of a query parameter, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ParameterName(pub(super) String);

impl Key for ParameterName {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        if key.is_empty() {
            cx.report(Diagnostic::error(BAD_VALUE, at, "a query parameter has a name"));
            return None;
        }
        Some(Self(key.to_owned()))
    }

    fn key_schema() -> Option<Json> {
        Some(json!({ "type": "string", "minLength": 1 }))
    }
}

impl Setting for ParameterName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a query parameter")?;
        Self::decode_key(name, node.at, cx)
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "title": "query parameter" })
    }
}

/// The name of a cookie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CookieName(pub(super) String);

impl Key for CookieName {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        let fits = |char: char| char.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(char);
        if key.is_empty() || !key.chars().all(fits) {
            let message = format!("`{}` is not the name of a cookie", crate::tree::clip(key));
            cx.report(Diagnostic::error(BAD_VALUE, at, message));
            return None;
        }
        Some(Self(key.to_owned()))
    }

    fn key_schema() -> Option<Json> {
        Some(json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" }))
    }
}

impl Setting for CookieName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a cookie")?;
        Self::decode_key(name, node.at, cx)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("cookie name", "Name of a cookie.", "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
    }
}

impl Setting for ValueMatch {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let read = match &node.value {
            Value::Map(_) => ValueTest::decode(node, cx).map(ValueTest::lower),
            Value::Seq(_) => {
                let texts = NonEmpty::<String>::decode(node, cx)?;
                Some(Self::OneOf(texts.0))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let expected = "a text to match, a list of texts, `{regex: …}` or `{present: …}`";
                text(node, cx, expected).map(|text| Self::Exact(text.to_owned()))
            }
        }?;
        Some(if has_secret(node) { Self::Secret(Box::new(read)) } else { read })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let list = NonEmpty::<String>::schema(s);
        let test = ValueTest::schema(s);
        s.define("value_match", |_| json!({ "anyOf": [{ "type": "string" }, list, test] }))
    }
}

/// Whether a text in a value must not be shown.
fn has_secret(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => node.is_secret(),
        Value::Seq(items) => items.iter().any(has_secret),
        Value::Map(entries) => entries.iter().any(|entry| has_secret(&entry.value)),
    }
}

settings! {
    /// A test of a value.
    enum ValueTest {
        /// Regular expression that the whole value must match.
        Regex(Spanned<RegexText>) = "regex",
        /// Whether the value is there at all.
        Present(bool) = "present",
    }
}

impl ValueTest {
    fn lower(self) -> ValueMatch {
        match self {
            Self::Regex(Spanned { value, at }) => ValueMatch::Regex(Spanned { value: value.0, at }),
            Self::Present(true) => ValueMatch::Present,
            Self::Present(false) => ValueMatch::Absent,
        }
    }
}
