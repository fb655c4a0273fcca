//! A token service of the gateway's own as programs of others see it: an OAuth client that finds it by its metadata and completes each
//! grant, and a library that verifies its signed tokens with the keys it publishes.

use daemun_e2e::Gateway;
use serde_json::json;

use crate::oidc::Provider;
use crate::peers::{Script, all_there, of_case, port};

const ISSUER: &str = "http://auth.shop.test/v1";
/// `password`, by the reference implementation.
const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

fn yaml(algorithm: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstore: memory\ntokens:\n  shop:\n    \
         issuer: {ISSUER}\n    grants: [key, client_credentials, refresh_token, password]\n    \
         access: {{ format: jwt, algorithm: {algorithm}, audience: shop-api }}\n    \
         urls: {{ token: /auth, jwks: /keys, revoke: /revoke, introspect: /introspect }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /v1/auth }}, tokens: shop }}\n  \
         - {{ name: logout, match: {{ path: /v1/revoke }}, tokens: {{ service: shop, endpoint: revoke }} }}\n  \
         - name: asks\n    match: {{ path: /v1/introspect }}\n    tokens: {{ service: shop, endpoint: introspect }}\n    \
         policies: {{ basic_auth: {{}} }}\n  \
         - {{ name: keys, match: {{ path: /v1/keys }}, tokens: {{ service: shop, endpoint: jwks }} }}\n  \
         - name: found\n    match: {{ path: /.well-known/oauth-authorization-server/v1 }}\n    \
         tokens: {{ service: shop, endpoint: metadata }}\n  \
         - name: items\n    match: {{ path: /items }}\n    answer: {{ body: items }}\n    policies: {{ token_auth: {{}} }}\n\
         consumers:\n  - name: shop-app\n    roles: [buyer]\n    scopes: [read, write]\n    keys: [shop-app-key-0001]\n    \
         basic: {{ username: shop, password: \"shop secret: 0123\" }}\n  \
         - {{ name: auditor, basic: {{ username: auditor, password: auditor0123456789 }} }}\n\
         users: [{{ name: alice, password: \"{HASH}\", roles: [clerk], scopes: [read, write] }}]\n"
    )
}

#[test]
fn an_oauth_client_completes_each_grant_and_others_verify_what_it_is_given() {
    if !all_there(&["node"], &["openid-client", "jose"]) {
        return;
    }
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let gateway = Gateway::start(&yaml(algorithm));
        let said = Script::run("oauth-client.mjs", &[&port(&gateway).to_string(), ISSUER]);
        let metadata = &of_case(&said, "metadata")["server"];
        assert_eq!(metadata["issuer"], ISSUER);
        assert_eq!(metadata["introspection_endpoint"], format!("{ISSUER}/introspect"));
        assert_eq!(metadata["scopes_supported"], json!(["read", "write"]));
        for (grant, client, scope) in [
            ("client_credentials", "shop", "read"),
            ("key", "shop-app", "read write"),
            ("refresh_token", "shop-app", "read write"),
        ] {
            let line = of_case(&said, grant);
            assert_eq!(line["header"]["alg"], algorithm);
            assert_eq!(line["status"], 200, "{line}");
            let claims = &line["payload"];
            assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("shop-app"), &json!(client)));
            assert_eq!((&claims["scope"], &claims["roles"]), (&json!(scope), &json!(["buyer"])));
        }
        for case in ["password", "password again"] {
            let line = of_case(&said, case);
            assert_eq!((&line["header"]["alg"], &line["status"]), (&json!(algorithm), &json!(200)), "{line}");
            let claims = &line["payload"];
            assert_eq!((&claims["sub"], &claims["scope"]), (&json!("alice"), &json!("read")));
            assert_eq!(claims["roles"], json!(["clerk"]));
        }
        let told = &of_case(&said, "introspection")["told"];
        let claims = &of_case(&said, "refresh_token")["payload"];
        for name in ["sub", "iss", "jti", "client_id", "scope", "exp", "iat"] {
            assert_eq!(told[name], claims[name], "{name}");
        }
        assert_eq!((&told["active"], &told["aud"]), (&json!(true), &json!(["shop-api"])));
        let revoked = of_case(&said, "revocation");
        assert_eq!(
            (&revoked["status"], &revoked["active"], &revoked["other"]),
            (&json!(401), &json!(false), &json!(200))
        );
        let refused = of_case(&said, "refused");
        assert_eq!((&refused["twice"], &refused["scope"]), (&json!("invalid_grant"), &json!("invalid_scope")));
        assert_eq!(refused["password"], "invalid_grant");
        assert_eq!(refused["forged"], "ERR_JWS_SIGNATURE_VERIFICATION_FAILED");
        assert_eq!(
            (&refused["forgedStatus"], &refused["audience"]),
            (&json!(401), &json!("ERR_JWT_CLAIM_VALIDATION_FAILED"))
        );
    }
}

/// A service that sends browsers to a provider.
pub(crate) fn with_logins(provider: &Provider, issuer: &str, store: &str) -> String {
    format!(
        "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstore: {store}\ntokens:\n  shop:\n    issuer: {issuer}\n    \
         grants: [authorization_code, refresh_token]\n    access: {{ format: jwt, audience: shop-api }}\n    \
         urls: {{ token: /auth, jwks: /keys }}\n    provider:\n      issuer: http://127.0.0.1:{}\n      client_id: shop-web\n      \
         client_secret: shop-web-secret-0123456789\n      userinfo: true\n      roles: roles\n      \
         secret: correct horse battery staple 4711\nroutes:\n  \
         - {{ name: login, match: {{ path_regex: \"(/v1)?/auth\" }}, tokens: shop }}\n  \
         - {{ name: begins, match: {{ path_regex: \"(/v1)?/authorize\" }}, tokens: {{ service: shop, endpoint: authorize }} }}\n  \
         - {{ name: ends, match: {{ path_regex: \"(/v1)?/callback\" }}, tokens: {{ service: shop, endpoint: callback }} }}\n  \
         - {{ name: keys, match: {{ path: /v1/keys }}, tokens: {{ service: shop, endpoint: jwks }} }}\n  \
         - name: found\n    match: {{ path: /.well-known/oauth-authorization-server/v1 }}\n    \
         tokens: {{ service: shop, endpoint: metadata }}\n  \
         - {{ name: items, match: {{ path: /items }}, answer: {{ body: items }}, policies: {{ token_auth: {{}} }} }}\n\
         consumers:\n  - {{ name: shop-spa, scopes: [read, write], redirect_uris: https://spa.example/cb }}\n  \
         - {{ name: shop-cli, scopes: [read], redirect_uris: \"http://127.0.0.1/cb\" }}\n  \
         - name: web-shop\n    scopes: [read, write]\n    basic: {{ username: web, password: \"web secret: 0123\" }}\n    \
         redirect_uris: [\"https://web.example/cb\"]\n",
        provider.port
    )
}

#[test]
fn an_oauth_client_has_users_log_in_at_a_provider_with_a_browser() {
    if !all_there(&["node"], &["openid-client", "jose", "oidc-provider"]) {
        return;
    }
    let provider = Provider::start();
    let gateway = Gateway::start(&with_logins(&provider, ISSUER, "memory"));
    let said = Script::run("oauth-browser.mjs", &[&port(&gateway).to_string(), ISSUER]);
    for (kind, client) in
        [("public", "shop-spa"), ("native", "shop-cli"), ("confidential", "web"), ("in the form", "web")]
    {
        let line = of_case(&said, kind);
        let claims = &line["payload"];
        assert_eq!((&line["status"], &line["scope"]), (&json!(200), &json!("read")), "{line}");
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("ann"), &json!(client)), "{line}");
        assert_eq!((&claims["scope"], &claims["roles"]), (&json!("read"), &json!(["buyer"])), "{line}");
        assert_eq!(line["cookies"], 0, "nothing of a login stays in the browser");
        let metadata = &line["metadata"];
        assert_eq!(metadata["authorization_endpoint"], format!("{ISSUER}/authorize"));
        assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
        for (what, expected) in [
            ("mixed", "OAUTH_INVALID_RESPONSE"),
            ("verifier", "invalid_grant"),
            ("plain", "invalid_request"),
            ("none", "invalid_request"),
            ("admin", "invalid_scope"),
            ("twice", "invalid_grant"),
            ("again", "invalid_grant"),
        ] {
            assert_eq!(line[what], expected, "{kind} {what}");
        }
        assert_eq!(line["after"], 401, "a code that is used twice revokes what came out of it");
    }
    let shown = format!("{}{:?}", gateway.stderr(), gateway.access_log());
    assert!(shown.contains("token_reused") || shown.contains("a code was used twice"), "{shown}");
    for secret in ["shop-web-secret", "correct horse", "web secret", "dmc_", "dmr_"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}
