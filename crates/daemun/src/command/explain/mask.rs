//! Keeps secrets out of what `explain` prints: whatever is a consumer's key or password, the fields that carry nothing else, and what
//! references of the configuration stand for.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use daemun_config::Given;
use daemun_config::model::Config;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a hidden value is shown as.
const HIDDEN: &str = "…";
/// Fields whose values are credentials, whoever issued them.
const ALWAYS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];

/// What must not be shown.
pub(super) struct Mask {
    keys: HashSet<[u8; 32]>,
    /// The longest first.
    given: Vec<Given>,
}

/// From so many bytes on, what a reference stands for is found within other words as well.
const WITHIN: usize = 8;
/// Shorter ones are found nowhere: they would be part of anything.
const LEAST: usize = 4;

impl Mask {
    pub(super) fn new(config: &Config, given: Vec<Given>) -> Self {
        let keys = config.consumers.iter().flat_map(|consumer| &consumer.keys).map(|key| key.value);
        let passwords = config.consumers.iter().flat_map(|consumer| &consumer.basic).map(|login| login.password);
        Self { keys: keys.chain(passwords).collect(), given: secret(given) }
    }

    /// A text with what references stand for written as they are.
    pub(super) fn references<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.given.iter().fold(Cow::Borrowed(text), |text, given| match replaced(&text, given) {
            Some(replaced) => Cow::Owned(replaced),
            None => text,
        })
    }

    /// The same for every text in a document.
    pub(super) fn references_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(hidden) = self.references(text) {
                    *text = hidden;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.references_in(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.references_in(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A head with its secrets hidden.
    pub(super) fn head(&self, head: &[u8]) -> String {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.trim_end().split("\r\n");
        let mut shown = vec![self.target(lines.next().unwrap_or_default())];
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let hide = Mask::hides(name) || self.holds_key(value);
            shown.push(if hide { format!("{name}: {HIDDEN}") } else { line.to_owned() });
        }
        shown.join("\n")
    }

    /// A URL, or a request line, with keys in its query hidden.
    pub(super) fn target(&self, text: &str) -> String {
        let Some((path, rest)) = text.split_once('?') else { return self.decoded(text).into_owned() };
        let path = self.decoded(path);
        let (query, end) =
            rest.split_once(' ').map_or((rest, String::new()), |(query, end)| (query, format!(" {end}")));
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if self.is_key(value) => format!("{name}={HIDDEN}"),
                None if self.is_key(pair) => HIDDEN.to_owned(),
                _ => self.decoded(pair).into_owned(),
            })
            .collect();
        format!("{path}?{}{end}", pairs.join("&"))
    }

    /// A text, decoded where what a reference stands for is percent-encoded in it.
    fn decoded<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text.contains('%') {
            return Cow::Borrowed(text);
        }
        let plain = String::from_utf8_lossy(&decoded(text.as_bytes())).into_owned();
        match self.references(&plain) {
            Cow::Owned(hidden) => Cow::Owned(hidden),
            Cow::Borrowed(_) => Cow::Borrowed(text),
        }
    }

    /// A value that is no credential by its nature, hidden where it is one all the same.
    pub(super) fn value<'v>(&self, value: &'v str) -> &'v str {
        if self.holds_key(value) { HIDDEN } else { value }
    }

    /// Whether the values of a field are credentials, whoever issued them.
    pub(super) fn hides(name: &str) -> bool {
        ALWAYS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
    }

    /// Whether a field's value is a key, or has one as a part: behind a scheme, in a list, in a URL.
    fn holds_key(&self, value: &str) -> bool {
        self.is_key(value.trim()) || value.split(&[' ', ',', ';', '=', '&', '?', '"'][..]).any(|part| self.is_key(part))
    }

    /// Whether this is a key, as it is or percent-encoded: a policy reads both alike.
    fn is_key(&self, text: &str) -> bool {
        let is = |bytes: &[u8]| self.keys.contains(&<[u8; 32]>::from(Sha256::digest(bytes)));
        is(text.as_bytes()) || text.contains('%') && is(&decoded(text.as_bytes()))
    }
}

/// Those that are worth hiding, and can be.
fn secret(mut given: Vec<Given>) -> Vec<Given> {
    given.retain(|given| given.text.len() >= LEAST && !is_plain(&given.text));
    given
}

/// What is no secret by its kind: a short number, an address.
fn is_plain(text: &str) -> bool {
    text.len() < WITHIN && text.parse::<f64>().is_ok()
        || text.parse::<IpAddr>().is_ok()
        || text.parse::<SocketAddr>().is_ok()
}

/// The text with a reference in place of what it stands for; `None` where that is not in it.
fn replaced(text: &str, given: &Given) -> Option<String> {
    let mut shown = String::new();
    let mut rest = text;
    let mut found = false;
    while let Some(at) = rest.find(&given.text) {
        let (before, behind) = (rest.get(..at)?, rest.get(at + given.text.len()..)?);
        let is_word = |near: Option<char>| near.is_none_or(|near| !near.is_alphanumeric());
        let stands_alone =
            is_word(before.chars().next_back().or(shown.chars().next_back())) && is_word(behind.chars().next());
        let hides = given.text.len() >= WITHIN || stands_alone;
        found |= hides;
        shown.push_str(before);
        shown.push_str(if hides { &given.reference } else { &given.text });
        rest = behind;
    }
    shown.push_str(rest);
    found.then_some(shown)
}

/// The bytes with `%XX` decoded; a `+` is itself, since keys may contain it.
fn decoded(mut rest: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&first, behind)) = rest.split_first() {
        let hex = |at: usize| behind.get(at).copied().and_then(digit);
        let (byte, behind) = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => (high << 4 | low, behind.get(2..).unwrap_or_default()),
            _ => (first, behind),
        };
        out.push(byte);
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden_wherever_they_are_and_credentials_by_their_field() {
        let mask = Mask { keys: HashSet::from([Sha256::digest("a-key-of-16-bytes").into()]), given: Vec::new() };
        let head = "GET /a?key=a-key-of-16-bytes&b=c HTTP/1.1\r\nHost: x\r\nX-Odd: a-key-of-16-bytes\r\nCookie: s=1\r\nA: b\r\n\r\n";
        let shown = "GET /a?key=…&b=c HTTP/1.1\nHost: x\nX-Odd: …\nCookie: …\nA: b";
        assert_eq!(mask.head(head.as_bytes()), shown);
        assert_eq!(mask.target("http://x/a?k=a-key-of-16-bytes"), "http://x/a?k=…");
    }

    #[test]
    fn a_key_is_hidden_however_it_is_written() {
        let mask = Mask { keys: HashSet::from([Sha256::digest("a-key+of/16-bytes").into()]), given: Vec::new() };
        for key in ["a-key+of/16-bytes", "%61-key+of/16-bytes", "a-key%2Bof%2f16-bytes"] {
            assert_eq!(mask.target(&format!("http://x/a?b=%zz&k={key}&c=%")), "http://x/a?b=%zz&k=…&c=%");
            assert_eq!(mask.target(&format!("GET /a?{key} HTTP/1.1")), "GET /a?… HTTP/1.1");
            let head = format!(
                "GET / HTTP/1.1\r\nReferer: http://x/?k={key}&c=d\r\nX-List: one, {key}\r\nA: Token {key}\r\n\r\n"
            );
            assert_eq!(mask.head(head.as_bytes()), "GET / HTTP/1.1\nReferer: …\nX-List: …\nA: …");
        }
    }

    #[test]
    fn what_references_stand_for_is_written_as_they_are() {
        let given = |name: &str, text: &str| Given { reference: format!("${{env:{name}}}"), text: text.to_owned() };
        let all = vec![
            given("LONG", "correct-horse-battery"),
            given("PART", "horse-battery"),
            given("STAGE", "prod"),
            given("SHORT", "abc"),
            given("HOST", "10.11.12.13"),
            given("PORT", "8080"),
            given("CODE", "13579246"),
        ];
        let mask = Mask { keys: HashSet::new(), given: secret(all) };
        for (text, shown) in [
            ("X-A: correct-horse-battery", "X-A: ${env:LONG}"),
            ("xhorse-batteryx", "x${env:PART}x"),
            ("prod products prod/a (prod)", "${env:STAGE} products ${env:STAGE}/a (${env:STAGE})"),
            ("abc at 10.11.12.13:8080", "abc at 10.11.12.13:8080"),
            ("pin=13579246", "pin=${env:CODE}"),
        ] {
            assert_eq!(mask.references(text), shown);
        }
        let odd = Mask { keys: HashSet::new(), given: secret(vec![given("ODD", "a b/c+d=e f")]) };
        assert_eq!(odd.target("GET /x?k=a%20b%2Fc%2Bd%3De%20f&l=%20 HTTP/1.1"), "GET /x?k=${env:ODD}&l=%20 HTTP/1.1");
        assert_eq!(odd.target("GET /a%20b/c+d=e%20f/x HTTP/1.1"), "GET /${env:ODD}/x HTTP/1.1");
        let mut document = serde_json::json!({ "a": ["prod", 1, { "b": "correct-horse-battery" }] });
        mask.references_in(&mut document);
        assert_eq!(document, serde_json::json!({ "a": ["${env:STAGE}", 1, { "b": "${env:LONG}" }] }));
    }
}
