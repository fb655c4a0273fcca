//! What is wrong with settings, and that secrets are not shown.

use daemun_config::decode::{Decoder, Setting};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::parse_text;

use super::bed::{Bed, Browser};
use crate::oidc::OidcConfig;

const GOOD: &str = "issuer: 'https://accounts.example.com', client_id: shop-web, client_secret: abc, \
                    session: { secret: 0123456789abcdef0123456789abcdef }";

#[test]
fn settings_that_cannot_work_are_refused() {
    let bench = crate::testing::Bench::new(Vec::new());
    assert_eq!(bench.errors(&format!("oidc: {{ {GOOD} }}")), [""; 0]);
    for (from, to, words) in [
        ("https://accounts.example.com", "accounts", "cannot be asked"),
        ("https://accounts.example.com", "https://a/?b", "cannot be asked"),
        ("client_id: shop-web", "client_id: ''", "client_id"),
        ("client_secret: abc", "client_secret: ''", "client_secret"),
        ("client_secret: abc, ", "", "client_secret"),
        ("0123456789abcdef0123456789abcdef", "short", "needs 32"),
        ("secret: 0123456789abcdef0123456789abcdef", "secret: []", "expected 1 to 8 secrets"),
        ("client_id", "scopes: [profile], client_id", "`openid` is missing"),
        ("client_id", "scopes: [openid, 'a b'], client_id", "without blanks"),
        ("client_id", "callback: 'oidc', client_id", "neither a path nor an address"),
        ("client_id", "callback: '//evil.example/a', client_id", "neither a path nor an address"),
        ("client_id", "callback: '/a?b', client_id", "no query"),
        ("client_id", "logout: /oidc/callback, client_id", "the same path"),
        ("client_id", "logout: 'https://a/b', client_id", "`logout` is a path"),
        ("client_id", "after_logout: 'javascript:alert(1)', client_id", "neither a path nor an address"),
        ("client_id", "leeway: 11m, client_id", "`10m`"),
        ("client_id", "subject: [], client_id", "at least one claim"),
        ("session: { ", "session: { lifetime: 1s, ", "`1m`"),
        ("session: { ", "session: { idle: 2161h, ", "`2160h`"),
        ("session: { ", "session: { cookie: __Host-a, ", "the gateway's to choose"),
        ("session: { ", "session: { cookie: 'a b', ", "name of a cookie"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let errors = bench.errors(&format!("oidc: {{ {} }}", GOOD.replacen(from, to, 1)));
        assert!(errors.iter().any(|error| error.contains(words)), "{to}: {errors:?}");
        assert!(errors.iter().all(|error| !error.contains("0123456789abcdef")), "{errors:?}");
    }
    let chain = bench.build(&format!("oidc: {{ {} }}", GOOD.replace("https", "http"))).unwrap();
    assert!(chain.findings.lines()[0].starts_with("insecure "), "{:?}", chain.findings);
}

#[test]
fn secrets_are_not_shown() {
    let mut found = Diagnostics::new();
    let node = parse_text(&format!("{{ {GOOD} }}").replace("abc,", "the-client-secret,"), &mut found).unwrap();
    let settings = OidcConfig::decode(&node, &mut Decoder::new(&mut found, "a")).unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains("0123456789abcdef") && !shown.contains("the-client-secret"), "{shown}");
    let bed = Bed::new();
    let chain = bed.chain("");
    let browser = Browser::login(&bed, &chain);
    let (_, detail) = browser.explain(&chain, "GET / HTTP/1.1");
    assert_eq!(detail, "the session is of `ann`; cookies of sessions are not passed on");
    let (_, detail) = Browser::default().explain(&chain, "GET /oidc/callback?code=a&state=b HTTP/1.1");
    assert!(detail.contains("would be asked"), "{detail}");
}
