//! The settings of `cors`.

use std::time::Duration;

use daemun_config::decode::{Decoder, FieldName, JsonValue, Method, OneOrMany, SchemaBuilder, Setting};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;

use super::origin::Origin;

settings! {
    /// Which pages of other origins may call, as the Fetch standard has browsers enforce it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CorsConfig {
        /// Origins whose pages may call: `https://shop.example.com`, `https://*.example.com`, `http://localhost:*`, or `*` for all.
        pub origins: OneOrMany<Origin>,
        /// Methods they may use.
        pub methods: OneOrMany<Method> = "[GET, HEAD, POST, PUT, PATCH, DELETE]",
        /// Request headers they may send; when absent, those that the browser asks for.
        pub headers: Option<OneOrMany<FieldName>>,
        /// Response headers they may read beside the simple ones.
        pub expose_headers: OneOrMany<FieldName> = "[]",
        /// Whether cookies and HTTP authentication of the user go with the call.
        pub credentials: bool = "false",
        /// How long a browser may remember the answer to a preflight.
        pub max_age: Duration = "5m",
    }
    check check;
}

fn check(settings: &CorsConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    if at("origins").as_seq().is_some_and(<[Node]>::is_empty) {
        cx.key("origins", |cx| cx.bad_value(at("origins"), "`origins` is empty, so that no page could call"));
    }
    if settings.credentials && settings.origins.0.contains(&Origin::Any) {
        let message = "`credentials: true` cannot go with the origin `*`: any page could act as the user";
        let found = Diagnostic::error(diagnostic::CONFLICTING_KEYS, at("credentials").at, message);
        cx.key("credentials", |cx| cx.report(found.help("list the origins that may")));
    }
    for (key, names) in [("headers", settings.headers.as_ref()), ("expose_headers", Some(&settings.expose_headers))] {
        if names.is_some_and(|names| names.0.iter().any(|name| name.0 == "*")) {
            let help =
                if key == "headers" { "leave the key out to allow what is asked for" } else { "name each header" };
            cx.key(key, |cx| cx.bad_value_help(at(key), "`*` is not the name of a header", help));
        }
    }
}

/// Reads `*`, or an origin as browsers write it, in which the first label of the host or the port may be `*`.
impl Setting for Origin {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = String::decode(node, cx)?;
        let parsed = Origin::parse(&text);
        if parsed.is_none() {
            let help = "write scheme, host and port only: `https://shop.example.com`, `https://*.example.com`, `http://localhost:*`";
            cx.bad_value_help(node, format!("`{}` is not an origin", node.shown()), help);
        }
        parsed
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let doc = "An origin: `https://shop.example.com`, `https://*.example.com`, `http://localhost:*`, `*`.";
        s.pattern("origin", doc, "^(\\*|[A-Za-z][A-Za-z0-9+.-]*://(\\*\\.)?[^/*?#@\\s]+(:\\*)?)$")
    }
}
