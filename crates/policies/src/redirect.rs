//! What policies that send callers elsewhere share: with which status, for which paths not, and the answer. Knows no reason to do so.

use bytes::Bytes;
use daemun_config::decode::{Decoder, JsonValue, SchemaBuilder, Setting, text};
use daemun_config::tree::Node;
use daemun_pipeline::{Answer, Request, Stop};
use serde_json::json;

/// The status of a redirect: 301, 302, 307 or 308. The last two keep method and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedStatus(pub u16);

impl Setting for MovedStatus {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let status = u16::decode(node, cx)?;
        if [301, 302, 307, 308].contains(&status) {
            return Some(Self(status));
        }
        let message = format!("`{}` is not the status of such a redirect", node.shown());
        cx.bad_value_help(node, message, "the statuses are 301, 302, 307 and 308");
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.or_reference(json!({ "enum": [301, 302, 307, 308] }))
    }
}

/// A path and everything below it, by whole segments; without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BelowPath(pub String);

impl Setting for BelowPath {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let path = text(node, cx, "a path")?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\%;".contains(&byte);
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let is_read = |segment: &str| !matches!(segment, "" | "." | "..");
        let fits = path.starts_with('/') && path.bytes().all(plain) && trimmed.split('/').skip(1).all(is_read);
        if !fits || path.len() > 1024 {
            let help = "write it as requests have it, like `/.well-known/acme-challenge`";
            cx.bad_value_help(node, format!("`{}` is not a path", node.shown()), help);
            return None;
        }
        Some(Self(trimmed.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let doc = "A path and everything below it, by whole segments: `/.well-known/acme-challenge`.";
        s.pattern("path and below", doc, "^/[^?#\\\\%;\\s]{0,1023}$")
    }
}

/// Paths that stay where they are.
#[derive(Debug)]
pub(crate) struct Except(Box<[BelowPath]>);

impl Except {
    pub(crate) fn new(paths: Vec<BelowPath>) -> Except {
        Except(paths.into())
    }

    /// The entry that holds the path of a request, if one does.
    pub(crate) fn find(&self, request: &Request) -> Option<&str> {
        let path = request.head.bytes(request.path);
        let holds = |below: &&BelowPath| {
            path.strip_prefix(below.0.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        };
        self.0.iter().find(holds).map(|below| below.0.as_str())
    }
}

/// Where a request is sent: the same path and query at another place. Scheme and host are the caller's to give, so that no part of the
/// request but its own host can choose them.
pub(crate) fn location(scheme: &str, host: &[u8], port: &[u8], request: &Request) -> String {
    let path = request.head.bytes(request.path);
    let query = request.query.map(|query| request.head.bytes(query));
    // the path of `OPTIONS *` has none
    let slash: &[u8] = if path.first() == Some(&b'/') { b"" } else { b"/" };
    let mark: &[u8] = if query.is_some() { b"?" } else { b"" };
    let rest = [host, port, slash, path, mark, query.unwrap_or_default()].concat();
    format!("{scheme}://{}", String::from_utf8_lossy(&rest))
}

/// The answer of a redirect.
#[cold]
pub(crate) fn moved(status: MovedStatus, location: String) -> Stop {
    let fields = vec![("Location".to_owned(), location)];
    Stop::Answer(Box::new(Answer { status: status.0, fields, body: Bytes::new() }))
}
