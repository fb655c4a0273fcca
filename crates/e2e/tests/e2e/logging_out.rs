//! Sessions of browsers that end, without a provider: whose page may end one.

use daemun_e2e::{Client, Gateway};

#[test]
fn behind_another_end_of_tls_pages_of_the_site_that_callback_names_log_out() {
    let gateway = Gateway::start(
        "workers: 1\naccess_log: off\nlisteners: [{ bind: 127.0.0.1:0 }]\npolicies:\n  oidc:\n    issuer: http://127.0.0.1:1\n    \
         client_id: shop-web\n    client_secret: open-sesame-0123456789\n    callback: https://shop.example.com/oidc/callback\n    \
         session: { secret: a-secret-of-the-shop-gateway-0001 }\nroutes: [{ name: all, match: { prefix: / }, answer: { body: ok } }]\n",
    );
    for (origin, status) in [
        ("https://shop.example.com", 303),
        ("http://shop.example.com", 303),
        ("https://shop.example.com:8443", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let head = format!(
            "POST /oidc/logout HTTP/1.1\r\nHost: shop.example.com\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(Client::connect(gateway.address()).call(head).status, status, "{origin}");
    }
}
