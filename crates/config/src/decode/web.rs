//! The address of something on a web server. Knows nothing of what is asked there.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::{Decoder, SchemaBuilder, Setting, text};
use crate::language::target::split_authority;
use crate::model::{Server, TargetAddress};
use crate::tree::Node;

/// An address of `http` or `https`: host, port, path and query. No user, no fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebUrl {
    written: String,
    host: String,
    port: u16,
    tls: bool,
    authority: String,
    target: String,
}

impl WebUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, in words, without the address.
    pub fn parse(written: &str) -> Result<WebUrl, &'static str> {
        let (scheme, rest) = written.split_once("://").ok_or("it has no scheme")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("the scheme is `http` or `https`"),
        };
        let (authority, target) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at_checked(end).unwrap_or((rest, "/")),
            None => (rest, "/"),
        };
        let (host, port) = split_authority(authority).ok_or("the host or port is malformed")?;
        if port == Some(0) {
            return Err("port 0 cannot be called");
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err("it has a fragment, or a character that must be encoded");
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let written = written.to_owned();
        Ok(WebUrl { written, host, port, tls, authority: authority.to_ascii_lowercase(), target })
    }

    /// As written; may hold a secret.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.tls
    }

    /// Host in lower case, without brackets and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path and query, which may hold a secret.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The server; its certificate must chain to `ca_file`, or to the system's authorities.
    #[must_use]
    pub fn server(&self, ca_file: Option<PathBuf>) -> Server {
        let address = TargetAddress::Tcp { host: self.host.clone(), port: self.port };
        Server { address, tls: self.tls, authority: self.authority.clone(), ca_file }
    }
}

impl Setting for WebUrl {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "an address of `http` or `https`")?;
        match WebUrl::parse(written) {
            Ok(url) => Some(url),
            Err(why) => {
                let help = "write it like `https://accounts.internal/keys?of=shop`";
                cx.bad_value_help(node, format!("`{}` is not an address: {why}", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Address of `http` or `https`: `https://inventory.internal/targets?of=orders`.";
        s.pattern(
            "web address",
            doc,
            "^[Hh][Tt][Tt][Pp][Ss]?://([0-9A-Za-z_.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?([/?][!-\"$-~]*)?$",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_or_refused_with_the_reason() {
        let url = WebUrl::parse("HTTPS://Accounts.internal/keys?of=shop").unwrap();
        assert_eq!((url.host(), url.target(), url.is_https()), ("accounts.internal", "/keys?of=shop", true));
        assert_eq!(url.server(None).address, TargetAddress::Tcp { host: "accounts.internal".into(), port: 443 });
        let url = WebUrl::parse("http://[::1]:8080?x").unwrap();
        assert_eq!((url.target(), url.server(None).authority.as_str()), ("/?x", "[::1]:8080"));
        for wrong in ["accounts", "ftp://a/", "http://a:0/", "http://u@a/", "http://a/#x", "http://a/ b", "http:///x"] {
            assert!(WebUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}
