//! Keeps credentials out of what `explain` prints: whatever is a consumer's key or password, and the fields that carry nothing else.

use std::collections::HashSet;

use daemun_config::model::Config;
use sha2::{Digest, Sha256};

/// What a hidden value is shown as.
const HIDDEN: &str = "…";
/// Fields whose values are credentials, whoever issued them.
const ALWAYS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];

/// What must not be shown.
pub(super) struct Mask {
    keys: HashSet<[u8; 32]>,
}

impl Mask {
    pub(super) fn new(config: &Config) -> Self {
        let keys = config.consumers.iter().flat_map(|consumer| &consumer.keys).map(|key| key.value);
        let passwords = config.consumers.iter().flat_map(|consumer| &consumer.basic).map(|login| login.password);
        Self { keys: keys.chain(passwords).collect() }
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
        let Some((path, rest)) = text.split_once('?') else { return text.to_owned() };
        let (query, end) =
            rest.split_once(' ').map_or((rest, String::new()), |(query, end)| (query, format!(" {end}")));
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if self.is_key(value) => format!("{name}={HIDDEN}"),
                None if self.is_key(pair) => HIDDEN.to_owned(),
                _ => pair.to_owned(),
            })
            .collect();
        format!("{path}?{}{end}", pairs.join("&"))
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
        let mask = Mask { keys: HashSet::from([Sha256::digest("a-key-of-16-bytes").into()]) };
        let head = "GET /a?key=a-key-of-16-bytes&b=c HTTP/1.1\r\nHost: x\r\nX-Odd: a-key-of-16-bytes\r\nCookie: s=1\r\nA: b\r\n\r\n";
        let shown = "GET /a?key=…&b=c HTTP/1.1\nHost: x\nX-Odd: …\nCookie: …\nA: b";
        assert_eq!(mask.head(head.as_bytes()), shown);
        assert_eq!(mask.target("http://x/a?k=a-key-of-16-bytes"), "http://x/a?k=…");
    }

    #[test]
    fn a_key_is_hidden_however_it_is_written() {
        let mask = Mask { keys: HashSet::from([Sha256::digest("a-key+of/16-bytes").into()]) };
        for key in ["a-key+of/16-bytes", "%61-key+of/16-bytes", "a-key%2Bof%2f16-bytes"] {
            assert_eq!(mask.target(&format!("http://x/a?b=%zz&k={key}&c=%")), "http://x/a?b=%zz&k=…&c=%");
            assert_eq!(mask.target(&format!("GET /a?{key} HTTP/1.1")), "GET /a?… HTTP/1.1");
            let head = format!(
                "GET / HTTP/1.1\r\nReferer: http://x/?k={key}&c=d\r\nX-List: one, {key}\r\nA: Token {key}\r\n\r\n"
            );
            assert_eq!(mask.head(head.as_bytes()), "GET / HTTP/1.1\nReferer: …\nX-List: …\nA: …");
        }
    }
}
