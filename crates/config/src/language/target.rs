//! Reads the address of a target, and host names. Knows no upstream.

use serde_json::Value as Json;

use super::edge::unix_path;
use crate::decode::{Decoder, SchemaBuilder, Setting, text};
use crate::model::TargetAddress;
use crate::tree::Node;

/// The address of a target, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetUrl {
    /// As written.
    pub(super) written: String,
    /// Where to connect.
    pub(super) address: TargetAddress,
    /// Whether it is `https`.
    pub(super) tls: bool,
    /// Path before each forwarded path; empty when there is none.
    pub(super) base_path: String,
}

impl Setting for TargetUrl {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "the address of a target")?;
        if let Some(path) = written.strip_prefix("unix:") {
            let address = TargetAddress::Unix(unix_path(path, node, cx)?);
            return Some(Self { written: written.to_owned(), address, tls: false, base_path: String::new() });
        }
        match read(written) {
            Ok(url) => Some(url),
            Err((reason, help)) => {
                cx.bad_value_help(node, format!("`{}` is not the address of a target: {reason}", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Address of a target: `http://host:port/base`, `https://host`, `unix:/run/x.sock`.";
        s.pattern(
            "target address",
            doc,
            "^(unix:.+|https?://([0-9A-Za-z_.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[^?#\\s@]*)?)$",
        )
    }
}

/// What is wrong with an address, and what would be right.
type Refused = (&'static str, &'static str);

const FORM: &str = "write it like `http://10.0.0.11:9001`, `https://orders.internal/base` or `unix:/run/orders.sock`";

fn read(written: &str) -> Result<TargetUrl, Refused> {
    let Some((scheme, rest)) = written.split_once("://") else {
        return Err(("it has no scheme", FORM));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        "h2c" | "grpc" | "h2" | "grpcs" => {
            return Err(("the scheme is `http` or `https`", "the upstream's `protocol: h2c` or `h2` chooses HTTP/2"));
        }
        _ => return Err(("the scheme is `http`, `https` or `unix`", FORM)),
    };
    if rest.contains('#') {
        return Err(("it has a fragment", "leave out the `#` and what follows"));
    }
    if rest.contains('?') {
        return Err(("it has a query", "a route's `rewrite: {query: …}` adds query parameters"));
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at_checked(slash).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err(("it has a user or password", "set an `Authorization` header with the `headers` policy instead"));
    }
    let (host, port) = split_authority(authority).ok_or(("the host or port is malformed", FORM))?;
    let port = port.unwrap_or(if tls { 443 } else { 80 });
    if port == 0 {
        return Err(("port 0 cannot be called", FORM));
    }
    let base_path = base_path(path)?;
    Ok(TargetUrl { written: written.to_owned(), address: TargetAddress::Tcp { host, port }, tls, base_path })
}

/// Host in lower case without brackets, and the port if there is one.
pub(crate) fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, behind) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) };
        (host, port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if !is_host(host) {
            return None;
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
        Some(_) => return None,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// Whether `name` may stand in `Host`: a host, and a port perhaps.
pub(super) fn is_authority(name: &str) -> bool {
    split_authority(name).is_some_and(|(_, port)| port != Some(0))
}

/// Whether `host` is a host name or an IPv4 address. `_` is let through, as names of containers have it.
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let numeric =
        name.rsplit('.').next().is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric {
        return name.parse::<std::net::Ipv4Addr>().is_ok();
    }
    name.len() <= 253 && name.split('.').all(label)
}

/// A base path in the one form paths have: unreserved characters decoded, hexadecimal upper case, no trailing slash.
fn base_path(path: &str) -> Result<String, Refused> {
    let help = "a base path is made of plain segments, like `/v1/base`";
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut normal = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        normal.push('/');
        let start = normal.len();
        let mut chars = segment.chars();
        while let Some(char) = chars.next() {
            match char {
                '%' => {
                    let digits: String = chars.by_ref().take(2).collect();
                    let byte =
                        u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2 && !digits.starts_with('+'));
                    match byte {
                        None => return Err(("a `%` of the base path is not followed by two hexadecimal digits", help)),
                        Some(0 | b'/' | b'\\') => return Err(("the base path has an encoded `/`, `\\` or NUL", help)),
                        Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                            normal.push(char::from(byte))
                        }
                        Some(_) => {
                            normal.push('%');
                            normal.push_str(&digits.to_ascii_uppercase());
                        }
                    }
                }
                _ if char.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:".contains(char) => normal.push(char),
                _ => return Err(("the base path has a character that must be encoded", help)),
            }
        }
        if matches!(normal.get(start..), None | Some("" | "." | "..")) {
            return Err(("the base path has an empty or dot segment", help));
        }
    }
    Ok(normal)
}

/// A host name or IPv4 address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

impl Setting for HostName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a host name")?;
        if is_host(name) {
            return Some(Self(name.to_ascii_lowercase()));
        }
        cx.bad_value(node, format!("`{}` is not a host name", node.shown()));
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("host name", "Host name: `orders.internal`.", "^[0-9A-Za-z_]([0-9A-Za-z_.-]*[0-9A-Za-z_.])?$")
    }
}
