//! Reads path patterns, prefixes, host patterns and the templates that name a pattern's parameters. Knows no routing.

use serde_json::Value as Json;

use crate::decode::{Decoder, SchemaBuilder, Setting, expression_end, text};
use crate::tree::Node;

/// Longest path pattern.
const LONGEST: usize = 4096;

/// What is wrong with a text, and what would be right.
type Refused = (&'static str, &'static str);

const PATH_HELP: &str = "a path is made of segments, like `/products/items/{id}` or `/files/{*rest}`";

/// A path pattern: literal segments, `{name}` for one segment, `{*name}` at the end for the remainder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    /// As written.
    pub(super) text: String,
    /// The names of its parameters.
    pub(super) parameters: Vec<String>,
}

impl Setting for PathPattern {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a path")?;
        match parameters(written) {
            Ok(parameters) => Some(Self { text: written.to_owned(), parameters }),
            Err((reason, help)) => {
                cx.bad_value_help(node, format!("`{}` is not a path pattern: {reason}", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Whole path: `{name}` stands for one segment, `{*name}` at the end for the remainder.";
        let parameter = "\\{[A-Za-z_][A-Za-z0-9_]*\\}";
        let literal = "[^{}?#;\\s\\\\]*";
        let pattern = format!("^(/(/|{parameter}|{literal}))+(\\{{\\*[A-Za-z_][A-Za-z0-9_]*\\}})?$");
        s.pattern("path pattern", doc, &pattern)
    }
}

/// The names of a pattern's parameters.
pub(super) fn parameters(pattern: &str) -> Result<Vec<String>, Refused> {
    let mut names: Vec<String> = Vec::new();
    plain_path(pattern)?;
    let mut segments = pattern.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let Some(inner) = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) else {
            if segment.contains(['{', '}']) {
                return Err((
                    "a parameter takes a whole segment",
                    "write `/{id}`, and nothing else between the slashes",
                ));
            }
            literal_segment(segment)?;
            continue;
        };
        let name = match inner.strip_prefix('*') {
            Some(_) if segments.peek().is_some() => {
                return Err((
                    "`{*…}` takes the whole remainder",
                    "put it at the end, or write `{name}` for one segment",
                ));
            }
            Some(name) => name,
            None => inner,
        };
        if !is_parameter_name(name) {
            return Err(("a parameter has a name of letters, digits and `_`", "write it like `{id}` or `{*rest}`"));
        }
        if names.iter().any(|known| known == name) {
            return Err(("it names a parameter twice", "give each parameter a name of its own"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn is_parameter_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What holds for every path in a configuration.
fn plain_path(path: &str) -> Result<(), Refused> {
    if !path.starts_with('/') {
        return Err(("it does not begin with `/`", PATH_HELP));
    }
    if path.len() > LONGEST {
        return Err(("it is longer than 4096 bytes", PATH_HELP));
    }
    if path.contains('?') {
        return Err(("it has a query", "`match: {query: …}` matches query parameters"));
    }
    if path.contains(';') {
        return Err(("`;parameters` are ignored in matching", "leave out the `;` and what follows"));
    }
    if path.contains(|char: char| char.is_control() || char.is_whitespace() || char == '#' || char == '\\') {
        return Err(("it has a character that no path has", PATH_HELP));
    }
    Ok(())
}

/// What holds for every literal segment of a path.
fn literal_segment(segment: &str) -> Result<(), Refused> {
    let mut decoded: Vec<u8> = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit =
            |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(("a `%` is not followed by two hexadecimal digits", "write `%25` for a per cent sign"));
        };
        match high * 16 + low {
            0 | b'\\' => return Err(("`%00` and `%5C` are refused in every request", PATH_HELP)),
            byte => decoded.push(byte),
        }
    }
    if decoded == b"." || decoded == b".." {
        return Err(("dot segments are resolved before matching, so it would never match", PATH_HELP));
    }
    Ok(())
}

/// A prefix of whole segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPrefix(pub(super) String);

impl Setting for PathPrefix {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a path")?;
        let checked = plain_path(written).and_then(|()| {
            if written.contains(['{', '}']) {
                return Err(("a prefix has no parameters", "write `path: /shops/{id}/{*rest}` instead"));
            }
            if written.ends_with("/*") {
                return Err(("a prefix ends without `*`", "leave out the `*`: a prefix matches everything below it"));
            }
            written.split('/').skip(1).try_for_each(literal_segment)
        });
        match checked {
            Ok(()) => Some(Self(written.to_owned())),
            Err((reason, help)) => {
                cx.bad_value_help(node, format!("`{}` is not a prefix: {reason}", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern(
            "path prefix",
            "Whole segments: `/products` matches `/products` and all below it.",
            "^/[^{}?#;\\s\\\\*]*$",
        )
    }
}

/// A host, or `*.` and a suffix; lower case, no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPattern(pub(super) String);

impl Setting for HostPattern {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a host")?;
        match host_pattern(written) {
            Ok(host) => Some(Self(host)),
            Err((reason, help)) => {
                cx.bad_value_help(node, format!("`{}` is not a host: {reason}", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Host name, or `*.` and a suffix: `api.example.com`, `*.example.com`.";
        s.pattern("host pattern", doc, "^((\\*\\.)?[0-9A-Za-z_]([0-9A-Za-z_.-]*[0-9A-Za-z_.])?|\\[[0-9A-Fa-f:.]+\\])$")
    }
}

fn host_pattern(written: &str) -> Result<String, Refused> {
    const HELP: &str = "write it like `api.example.com` or `*.example.com`";
    if written == "*" {
        return Err(("it has no name", "leave `hosts` out to match any host"));
    }
    if written.contains("://") {
        return Err(("it has a scheme", HELP));
    }
    if written.contains('/') {
        return Err(("it has a path", "`path` or `prefix` matches the path"));
    }
    if !written.is_ascii() {
        return Err((
            "it has letters that stand in no `Host`",
            "write the form that is sent, which begins with `xn--`",
        ));
    }
    let lower = written.to_ascii_lowercase();
    if let Some(inner) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(lower),
            Err(_) => Err(("the address is malformed", HELP)),
        };
    }
    if lower.contains(':') {
        return Err(("it has a port", "leave out the port: hosts are matched without it"));
    }
    let (wildcard, name) = match lower.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", lower.as_str()),
    };
    if name.contains('*') {
        return Err(("`*` stands at the beginning only, for whole labels", HELP));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if super::target::is_host(name) { Ok(format!("{wildcard}{name}")) } else { Err(("the name is malformed", HELP)) }
}

/// The names in braces of a template, or what is wrong with it.
pub(super) fn names(template: &str) -> Result<Vec<&str>, Refused> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        let inner = rest.get(brace..).and_then(|text| text.strip_prefix('{'));
        let Some((name, behind)) = inner.and_then(|inner| inner.split_once('}')) else {
            return Err(("its braces do not pair", "a parameter stands in braces, like `{id}`"));
        };
        if name.starts_with('*') {
            return Err(("a template names a remainder without `*`", "write `{rest}` where the path has `{*rest}`"));
        }
        if !is_parameter_name(name) {
            return Err((
                "a parameter has a name of letters, digits and `_`",
                "a parameter stands in braces, like `{id}`",
            ));
        }
        names.push(name);
        rest = behind;
    }
    Ok(names)
}

/// The path that is forwarded instead, with `{name}` of the path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathTemplate(pub(super) String);

impl Setting for PathTemplate {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let plain = text(node, cx, "a path")?;
        let written = node.as_template().unwrap_or(plain);
        let checked = match without_expressions(written) {
            None => Err(("a `${` has no closing `}`", "an expression stands in `${…}`")),
            Some(plain) if plain.contains('?') => Err(("it has a query", "`rewrite: {query: …}` changes the query")),
            Some(plain) => plain_path(&plain).and_then(|()| names(&plain).map(|_| ())),
        };
        match checked {
            Ok(()) => Some(Self(written.to_owned())),
            Err((reason, help)) => {
                cx.bad_value_help(node, format!("`{}` is not a path to forward: {reason}", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Path with `{name}` of the path pattern and `${…}` expressions: `/v2/items/{id}`.";
        s.pattern("path template", doc, "^/([^{}?#;\\s\\\\]|\\{[A-Za-z_][A-Za-z0-9_]*\\}|\\$\\{.*\\})*$")
    }
}

/// A template with a letter in place of each expression; `None` when one does not end.
pub(super) fn without_expressions(template: &str) -> Option<String> {
    let mut plain = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("${") {
        plain.push_str(before);
        plain.push('x');
        rest = behind.get(expression_end(behind)? + 1..).unwrap_or_default();
    }
    plain.push_str(rest);
    Some(plain)
}

/// Where a redirect leads, with `{name}` of the path pattern and `{path}`, `{query}`, `{host}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location(pub(super) String);

impl Setting for Location {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        const HELP: &str = "write it like `https://shop.example.com{path}` or `/new/{id}`";
        let written = text(node, cx, "where the redirect leads")?;
        let strange =
            |char: char| char.is_control() || char.is_whitespace() || !char.is_ascii() || "\"<>\\^`|".contains(char);
        let checked = if written.contains(strange) {
            Err(("it has a character that must be encoded", HELP))
        } else if written.starts_with("//") || !(written.starts_with('/') || has_scheme(written)) {
            Err(("it begins with neither `/` nor `https://`", HELP))
        } else {
            names(written).map(|_| ())
        };
        match checked {
            Ok(()) => Some(Self(written.to_owned())),
            Err((reason, help)) => {
                cx.bad_value_help(node, format!("`{}` is not where a redirect may lead: {reason}", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Location with `{name}` of the path pattern, `{path}`, `{query}`, `{host}`.";
        s.pattern(
            "location",
            doc,
            "^([hH][tT][tT][pP][sS]?://|\\{path\\}|/(?!/))([^{}\\s]|\\{[A-Za-z_][A-Za-z0-9_]*\\})*$",
        )
    }
}

fn has_scheme(location: &str) -> bool {
    let lower = location.to_ascii_lowercase();
    lower.starts_with("https://") || lower.starts_with("http://") || lower.starts_with("{path}")
}
