//! Keeps credentials out of what `explain` prints: whatever is a consumer's key, and the fields that carry nothing else.

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
        Self { keys: config.consumers.iter().flat_map(|consumer| &consumer.keys).map(|key| key.value).collect() }
    }

    /// A head with its secrets hidden.
    pub(super) fn head(&self, head: &[u8]) -> String {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.trim_end().split("\r\n");
        let mut shown = vec![self.target(lines.next().unwrap_or_default())];
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let hide = ALWAYS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) || self.is_key(value.trim());
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
                _ => pair.to_owned(),
            })
            .collect();
        format!("{path}?{}{end}", pairs.join("&"))
    }

    fn is_key(&self, value: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(value).into();
        self.keys.contains(&digest)
    }
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
}
