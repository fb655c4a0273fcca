//! Where browsers are sent back to with a login: addresses that clients have registered. They are compared whole.

use serde_json::Value as Json;

use super::user_sources::is_here;
use crate::decode::{Decoder, SchemaBuilder, Setting, WebUrl, text};
use crate::diagnostic::{Diagnostic, INSECURE};
use crate::tree::Node;

/// Bytes of an address.
const LONGEST: usize = 1024;

/// An address of a client (RFC 6749, section 3.1.2): of `https`, of `http` on the user's own machine (RFC 8252, section 7.3), or of a scheme
/// that is a client's own (section 7.1).
pub(super) struct RedirectText(pub(super) String);

/// Why an address is none to send a browser to.
#[must_use]
pub fn why_no_redirect(uri: &str) -> Option<&'static str> {
    if uri.len() > LONGEST {
        return Some("it is longer than 1024 bytes");
    }
    if uri.contains('*') {
        return Some("`*` stands for nothing: addresses are compared whole");
    }
    if uri.contains('#') {
        return Some("it has a fragment");
    }
    if !uri.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        return Some("it has a character that must be encoded");
    }
    let Some((scheme, _)) = uri.split_once(':') else { return Some("it has no scheme") };
    if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") {
        return WebUrl::parse(uri).err();
    }
    // what browsers know themselves (`javascript`, `data`, `file`) has no dot in its name
    let is_own = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && scheme.contains('.');
    (!is_own).then_some("a scheme of a client's own is a domain name backwards, as `com.example.app`")
}

/// What is to be said of an address whose logins others can read on their way: of `http`, and not on the user's own machine.
#[must_use]
pub fn redirect_advice(uri: &str) -> Option<&'static str> {
    let is_read = WebUrl::parse(uri).is_ok_and(|url| !url.is_https() && !is_here(url.host()));
    is_read.then_some("codes of logins go over `http`, where whoever is on the way can read them")
}

impl Setting for RedirectText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let uri = text(node, cx, "an address")?;
        if let Some(why) = why_no_redirect(uri) {
            let message = format!("no browser is sent back to `{}`: {why}", node.shown());
            cx.bad_value_help(node, message, "write it whole, like `https://app.example.com/callback`");
            return None;
        }
        if let Some(message) = redirect_advice(uri) {
            cx.report(Diagnostic::warning(INSECURE, node.at, message).help("use `https`"));
        }
        Some(Self(uri.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Address of a client, compared whole: `https://app.example.com/callback`.";
        s.pattern(
            "redirect address",
            doc,
            "^([Hh][Tt][Tt][Pp][Ss]?://[^*#\\s]+|[A-Za-z][0-9A-Za-z+-]*\\.[0-9A-Za-z+.-]*:[^*#\\s]*)$",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::why_no_redirect as wrong;

    #[test]
    fn an_address_is_whole_and_of_a_scheme_that_no_browser_runs() {
        for fine in [
            "https://app.example.com/callback",
            "https://app.example.com",
            "https://app.example.com/cb?tenant=a",
            "http://127.0.0.1/cb",
            "http://[::1]:8080/cb",
            "com.example.app:/oauth2redirect",
            "com.example.app://cb",
        ] {
            assert_eq!(wrong(fine), None, "{fine}");
        }
        for bad in [
            "",
            "/callback",
            "app.example.com/callback",
            "https://app.example.com/cb#x",
            "https://*.example.com/cb",
            "https://u@app.example.com/cb",
            "https://app.example.com:0/",
            "https:///cb",
            "https://app.example.com/a b",
            "https://app.example.com\\@evil.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "myapp:/cb",
            ".a:/cb",
            "1.a:/cb",
            "com.example app:/",
            &format!("https://a.example/{}", "x".repeat(1024)),
        ] {
            assert!(wrong(bad).is_some(), "{bad}");
        }
    }
}
