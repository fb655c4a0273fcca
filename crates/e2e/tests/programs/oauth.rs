//! A token service of the gateway's own as programs of others see it: an OAuth client that finds it by its metadata and completes each
//! grant, and a library that verifies its signed tokens with the keys it publishes.

use daemun_e2e::Gateway;
use serde_json::json;

use crate::peers::{Script, all_there, of_case, port};

const ISSUER: &str = "http://auth.shop.test/v1";

fn yaml(algorithm: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstore: memory\ntokens:\n  shop:\n    \
         issuer: {ISSUER}\n    access: {{ format: jwt, algorithm: {algorithm}, audience: shop-api }}\n    \
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
         - {{ name: auditor, basic: {{ username: auditor, password: auditor0123456789 }} }}\n"
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
        assert_eq!(refused["forged"], "ERR_JWS_SIGNATURE_VERIFICATION_FAILED");
        assert_eq!(
            (&refused["forgedStatus"], &refused["audience"]),
            (&json!(401), &json!("ERR_JWT_CLAIM_VALIDATION_FAILED"))
        );
    }
}
