//! Token services that send browsers to a provider, and the clients that ask them to.

use std::path::Path;

use crate::findings::finds;
use crate::support::{VOCABULARY, World, load};
use daemun_config::{PrintOptions, load_text, print};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ROUTE: &str = "store: memory\nroutes: [{ name: a, answer: {} }]\n";
const CLIENT: &str = "consumers: [{ name: spa, redirect_uris: \"https://spa.example/cb\" }]";

fn provider(more: &str) -> String {
    let issuer = if more.contains("issuer:") { "" } else { "issuer: \"https://accounts.example\", " };
    let secret = if more.contains(" secret:") { String::new() } else { format!(", secret: {SECRET}") };
    format!("provider: {{ {issuer}client_id: gw, client_secret: s{secret}{more} }}")
}

/// The findings of a service that gives tokens for codes.
#[track_caller]
fn service(text: &str, expected: &[&str]) {
    finds(
        &format!("{ROUTE}tokens: {{ shop: {{ grants: [authorization_code, refresh_token], {text} }} }}\n{CLIENT}"),
        expected,
    );
}

const ISSUER: &str = "issuer: \"https://api.example\"";

#[test]
fn a_service_for_browsers_has_a_provider_and_says_who_it_is() {
    service(&format!("{ISSUER}, {}", provider("")), &[]);
    service(
        &format!(
            "{ISSUER}, code: {{ lifetime: 1m }}, {}",
            provider(", subject: [email, sub], roles: a.b, claims: { hd: shop }")
        ),
        &[],
    );
    service(
        "access: { lifetime: 1m }",
        &[
            "missing_key tokens.shop: for `authorization_code` the service says who it is, and there is no `issuer`; write `issuer: \
             https://api.example.com`",
            "missing_key tokens.shop: for `authorization_code` users log in somewhere, and there is no `provider`; write `provider: { issuer: \
             https://accounts.example.com, client_id: …, client_secret: …, secret: … }`",
        ],
    );
    for (text, finding) in [
        (", leeway: 11m", "bad_value tokens.shop.provider.leeway: a leeway is `10m` at most"),
        (", subject: []", "bad_value tokens.shop.provider.subject: expected at least one claim, found an empty list"),
        (
            ", scopes: [profile]",
            "bad_value tokens.shop.provider.scopes: `openid` is missing; without it the provider does not say who logs in",
        ),
        (", secret: []", "bad_value tokens.shop.provider.secret: expected 1 to 8 secrets, found 0"),
        (
            ", secret: short",
            "short_key tokens.shop.provider.secret: the secret has 5 bytes, and needs 32; `openssl rand -hex 32` makes one; keep it in \
             `${env:LOGIN_SECRET}`",
        ),
        (", issuer: \"https://a.example?x\"", "bad_value tokens.shop.provider.issuer: an issuer has no query"),
        (
            ", issuer: \"http://a.example\"",
            "insecure tokens.shop.provider.issuer: logins come over `http`, so that whoever is on the way can read and change them; use \
             `https`",
        ),
    ] {
        service(&format!("{ISSUER}, {}", provider(text)), &[finding]);
    }
    service(
        &format!("{ISSUER}, code: {{ lifetime: 61s }}, {}", provider("")),
        &["bad_value tokens.shop.code.lifetime: a code is good for `1m` at most"],
    );
    service(
        &format!("{ISSUER}, urls: {{ callback: \"https://other.example/cb\" }}, {}", provider("")),
        &[
            "bad_value tokens.shop.urls: `authorize` and `callback` are of two sites, and a browser shows its cookie to one alone",
        ],
    );
    service(&format!("{ISSUER}, urls: {{ callback: \"https://API.example/cb\" }}, {}", provider("")), &[]);
}

#[test]
fn what_is_never_used_is_told() {
    finds(
        &format!("{ROUTE}tokens: {{ shop: {{ {}, code: {{}} }} }}", provider("")),
        &[
            "no_effect tokens.shop.provider: `provider` is never used: `grants` does not have `authorization_code`",
            "no_effect tokens.shop.code: `code` is never used: `grants` does not have `authorization_code`",
        ],
    );
    finds(
        &format!("{ROUTE}{CLIENT}"),
        &[
            "no_effect consumers.spa.redirect_uris: no token service gives tokens for logins of users, so nothing is ever sent back to \
           `redirect_uris`; add `authorization_code` to the `grants` of one, and a `provider`",
        ],
    );
    finds(
        &format!(
            "{ROUTE}tokens: {{ shop: {{ grants: [authorization_code], refresh: off, {ISSUER}, {} }} }}",
            provider("")
        ),
        &[
            "no_credentials tokens.shop.grants: no consumer has `redirect_uris`, so no client can ask for a login; write `redirect_uris: \
           [https://app.example.com/callback]` at a consumer",
        ],
    );
    for held in ["store: { path: daemun.db }", "store: memory\nadmin: { bind: \"127.0.0.1:9900\" }"] {
        let route = ROUTE.replace("store: memory", held);
        let service = format!("grants: [authorization_code], refresh: off, {ISSUER}, {}", provider(""));
        finds(&format!("{route}tokens: {{ shop: {{ {service} }} }}"), &[]);
    }
}

/// The findings of consumers beside a service for them.
#[track_caller]
fn clients(text: &str, expected: &[&str]) {
    let service = format!("shop: {{ grants: [authorization_code, refresh_token], {ISSUER}, {} }}", provider(""));
    finds(&format!("{ROUTE}tokens: {{ {service} }}\nconsumers: [{text}]"), expected);
}

#[test]
fn a_client_has_one_name_and_addresses_that_are_whole() {
    let basic = "basic: { username: web, password: long enough }";
    clients(
        &format!("{{ name: shop, {basic}, redirect_uris: [\"https://a.example/cb\", \"com.example.app:/cb\"] }}"),
        &[],
    );
    clients(
        &format!("{{ name: shop, {basic} }}, {{ name: web, redirect_uris: \"https://a.example/cb\" }}"),
        &["duplicate_name consumers.web.name: two clients would be known by `web`"],
    );
    clients(&format!("{{ name: web, {basic}, redirect_uris: \"https://a.example/cb\" }}"), &[]);
    clients(
        "{ name: spa, redirect_uris: \"http://a.example/cb\" }, { name: cli, redirect_uris: \"http://localhost/cb\" }",
        &[
            "insecure consumers.spa.redirect_uris: codes of logins go over `http`, where whoever is on the way can read them; use `https`",
        ],
    );
    let wrong = |uri: &str, why: &str| {
        clients(
            &format!("{{ name: spa, redirect_uris: \"{uri}\" }}, {{ name: b, redirect_uris: \"https://b.example\" }}"),
            &[&format!(
                "bad_value consumers.spa.redirect_uris: no browser is sent back to `{uri}`: {why}; write it whole, like \
                 `https://app.example.com/callback`"
            )],
        );
    };
    wrong("https://*.a.example/cb", "`*` stands for nothing: addresses are compared whole");
    wrong("https://a.example/cb#x", "it has a fragment");
    wrong("/cb", "it has no scheme");
    wrong("myapp:/cb", "a scheme of a client's own is a domain name backwards, as `com.example.app`");
    wrong("https://u@a.example/cb", "the host or port is malformed");
    let many: Vec<String> = (0..65).map(|n| format!("\"https://a.example/{n}\"")).collect();
    clients(
        &format!(
            "{{ name: spa, redirect_uris: [{}] }}, {{ name: b, redirect_uris: \"https://b.example\" }}",
            many.join(", ")
        ),
        &["bad_value consumers.spa.redirect_uris: expected 64 addresses at most"],
    );
}

#[test]
fn where_browsers_come_stands_behind_the_issuer_and_what_is_secret_is_not_shown() {
    let text = |secrets: &str| {
        format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\n{ROUTE}tokens:\n  shop:\n    grants: [authorization_code]\n    refresh: off\n    \
             issuer: https://api.example/v1\n    provider: {{ issuer: \"https://accounts.example\", client_id: gw, {secrets} }}\n{CLIENT}\n"
        )
    };
    let loaded = load(&text(&format!("client_secret: s, secret: {SECRET}")));
    let config = loaded.config.unwrap();
    let service = &config.tokens[0];
    assert_eq!(service.urls.authorize, "https://api.example/v1/authorize");
    assert_eq!(service.urls.callback, "https://api.example/v1/callback");
    assert_eq!(
        (service.code.as_secs(), config.consumers[0].redirect_uris.as_slice()),
        (30, &["https://spa.example/cb".to_owned()][..])
    );
    let hidden = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t";
    for secrets in [
        format!("client_secret: {hidden}, secret: [{hidden}]"),
        format!("client_secret: {hidden}, secret: {hidden}, clientsecret: {hidden}"),
        format!("client_secret: [{hidden}], secret: [[{hidden}]]"),
    ] {
        let loaded = load_text(Path::new("a.yaml"), &text(&secrets), &World::default(), &VOCABULARY);
        let tree = loaded.tree.as_ref();
        let tree = tree.map(|tree| print(tree, PrintOptions { hide_secrets: true, escape_dollars: false }));
        let shown = format!("{} {loaded:?} {tree:?}", loaded.diagnostics.render(&loaded.sources, false));
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
