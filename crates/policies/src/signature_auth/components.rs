//! The signature base: what a signature is made over, out of the request as it came (RFC 9421, section 2). Knows no key.

use daemun_pipeline::head::is_token;
use daemun_pipeline::{Exchange, exchange};
use sfv::{Dictionary, FieldType as _, InnerList, Item, List, ListEntry, Parameters, Parser};

/// Derived components of a request that need no parameters.
pub(crate) const DERIVED: &[&str] =
    &["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"];
/// Most components that a signature covers.
const MOST: usize = 64;

/// The signature base of what `list` covers; `None` when the request does not have all of it, or it covers what is not understood.
pub(crate) fn base(list: &InnerList, exchange: &Exchange) -> Option<Vec<u8>> {
    if list.items.len() > MOST {
        return None;
    }
    let mut out = Vec::with_capacity(512);
    for (at, item) in list.items.iter().enumerate() {
        // one that is covered twice could be read in two ways
        if list.items.iter().take(at).any(|before| before == item) {
            return None;
        }
        out.extend_from_slice(item.serialize().as_bytes());
        out.extend_from_slice(b": ");
        push(item, exchange, &mut out)?;
        out.push(b'\n');
    }
    out.extend_from_slice(b"\"@signature-params\": ");
    out.extend_from_slice(List::from([ListEntry::InnerList(list.clone())]).serialize()?.as_bytes());
    Some(out)
}

/// Whether a signature covers a component: itself, or one that it is part of.
pub(crate) fn covers(list: &InnerList, exchange: &Exchange, wanted: &str) -> bool {
    let has = |name: &str| {
        list.items.iter().any(|item| {
            item.params.is_empty() && item.bare_item.as_string().is_some_and(|known| known.as_str() == name)
        })
    };
    has(wanted)
        || match wanted {
            "@authority" | "@scheme" => has("@target-uri"),
            "@path" => has("@target-uri") || has("@request-target"),
            "@query" => has("@target-uri") || has("@request-target") || exchange.request.query.is_none(),
            _ => false,
        }
}

/// Appends the value of one component.
fn push(item: &Item, exchange: &Exchange, out: &mut Vec<u8>) -> Option<()> {
    let name = item.bare_item.as_string()?.as_str();
    let request = &exchange.request;
    if name == "@query-param" {
        return push_parameter(&item.params, exchange, out);
    }
    if !name.starts_with('@') {
        return push_field(name, &item.params, exchange, out);
    }
    if !item.params.is_empty() {
        return None;
    }
    let target = request.head.bytes(request.target);
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (target.get(..at)?, target.get(at..)?),
        None => (target, &b"?"[..]),
    };
    match name {
        "@method" => out.extend_from_slice(request.head.bytes(request.method_span)),
        "@authority" => push_authority(exchange, out),
        "@scheme" => out.extend_from_slice(scheme(exchange)),
        "@target-uri" => {
            out.extend_from_slice(scheme(exchange));
            out.extend_from_slice(b"://");
            push_authority(exchange, out);
            out.extend_from_slice(target);
        }
        "@request-target" => out.extend_from_slice(target),
        "@path" => out.extend_from_slice(path),
        "@query" => out.extend_from_slice(query),
        _ => return None,
    }
    Some(())
}

fn scheme(exchange: &Exchange) -> &'static [u8] {
    if exchange.is_https() { b"https" } else { b"http" }
}

/// The host in lower case, without the port that the scheme has anyway (section 2.2.3).
fn push_authority(exchange: &Exchange, out: &mut Vec<u8>) {
    let authority = exchange.request.head.bytes(exchange.request.authority);
    let port: &[u8] = if exchange.is_https() { b":443" } else { b":80" };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    out.extend(authority.iter().map(u8::to_ascii_lowercase));
}

/// Appends the value of the one query parameter of a name (section 2.2.8).
fn push_parameter(params: &Parameters, exchange: &Exchange, out: &mut Vec<u8>) -> Option<()> {
    let name = params.get("name").filter(|_| params.len() == 1)?.as_string()?.as_str();
    let encoded = |text: &str| {
        let mut encoded = Vec::new();
        encode(&exchange::decode(text.as_bytes(), true), &mut encoded);
        encoded
    };
    let mut named = exchange.request.query_pairs().filter(|(sent, _)| encoded(sent) == name.as_bytes());
    let (Some((_, value)), None) = (named.next(), named.next()) else { return None };
    out.extend_from_slice(&encoded(value));
    Some(())
}

/// Percent-encodes as the form serializer of browsers does, but for spaces.
fn encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            out.push(byte);
        } else {
            let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Appends the value of a field (section 2.1), whole, as bytes (`bs`) or one member of its dictionary (`key`).
fn push_field(name: &str, params: &Parameters, exchange: &Exchange, out: &mut Vec<u8>) -> Option<()> {
    if name.is_empty() || !name.bytes().all(|byte| is_token(byte) && !byte.is_ascii_uppercase()) {
        return None;
    }
    let mut values = exchange.request.head.values(name).peekable();
    values.peek()?;
    let mut params = params.iter();
    match (params.next(), params.next()) {
        (None, _) => push_joined(values, out),
        (Some((key, value)), None) if key.as_str() == "bs" && value.as_boolean() == Some(true) => {
            for (at, value) in values.enumerate() {
                out.extend_from_slice(if at > 0 { b", :" } else { b":" });
                crate::base64_text::encode(value.trim_ascii(), out);
                out.push(b':');
            }
        }
        (Some((key, member)), None) if key.as_str() == "key" => {
            let mut joined = Vec::new();
            push_joined(values, &mut joined);
            let fields: Dictionary = Parser::new(&joined).parse().ok()?;
            let text = match fields.get(member.as_string()?.as_str())? {
                ListEntry::Item(item) => item.serialize(),
                list @ ListEntry::InnerList(_) => List::from([list.clone()]).serialize()?,
            };
            out.extend_from_slice(text.as_bytes());
        }
        _ => return None,
    }
    Some(())
}

fn push_joined<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value.trim_ascii());
    }
}
