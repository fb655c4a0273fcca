//! Who calls, by the certificate of the client: what the upstream learns of it.

use daemun_e2e::{Certificates, Client, Gateway, Origin, TlsClient};
use rustls::version::{TLS12, TLS13};

use super::HOST;

fn certificates() -> Certificates {
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue_to("/O=Shop/CN=orders", "orders", "ca", "DNS:orders.shop.test,URI:spiffe://shop.test/orders");
    certificates.issue_to("/O=Shop/CN=stock", "stock", "ca", "URI:spiffe://shop.test/stock");
    certificates.issue_to("/O=Else/CN=stray", "stray", "ca", "URI:spiffe://else.test/orders");
    certificates
}

fn gateway(certificates: &Certificates, origin: &Origin, policies: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "workers: 1\naccess_log: off\nlisteners:\n  - {{ bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ {} }}], client_ca: \"{}\", client_auth: optional }} }}\n\
         upstreams: {{ origin: {{ targets: [\"{}\"] }} }}\npolicies: {policies}\nroutes: [{{ name: all, upstream: origin{rest} }}]\nconsumers:\n  \
         - {{ name: shop-orders, roles: [reader], keys: [shop-app-key-0123456789], certificates: {{ san: orders.shop.test }} }}\n",
        certificates.pair("a"),
        certificates.path("ca.crt"),
        origin.url(),
    ))
}

fn call(client: &TlsClient, gateway: &Gateway, fields: &str) -> u16 {
    let mut client = Client::over(client.connect(gateway.address(), HOST));
    let first = client.call(format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).status;
    let second = client.call(format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).status;
    assert_eq!(first, second, "a connection that is kept is judged alike");
    first
}

#[test]
fn a_consumer_is_known_by_its_certificate_and_nobody_else_is() {
    let (certificates, origin) = (certificates(), Origin::echo());
    let gateway = gateway(&certificates, &origin, "{ mtls_auth: {} }", "");
    let forged = "X-Consumer-Name: root\r\nClient-Cert: :YQ==:\r\nclient_cert: :YQ==:\r\nClient-Cert-Chain: :YQ==:\r\n";
    for version in [&TLS12, &TLS13] {
        for (identity, wanted) in [(Some("orders"), 200), (Some("stock"), 401), (Some("stray"), 401), (None, 401)] {
            let client = certificates.client(identity, &["http/1.1"], &[version]);
            assert_eq!(call(&client, &gateway, forged), wanted, "{identity:?}");
        }
    }
    let log = origin.take();
    assert_eq!(log.requests.len(), 4);
    for request in &log.requests {
        let told = (request.field("x-consumer-name"), request.field("x-consumer-roles"));
        assert_eq!(told, (Some("shop-orders"), Some("reader")));
        assert!(!request.has("client-cert") && !request.has("client-cert-chain"), "{}", request.shown());
    }
}

#[test]
fn a_workload_of_the_trust_domain_is_known_by_its_id() {
    let (certificates, origin) = (certificates(), Origin::echo());
    let settings = "{ mtls_auth: { subject: san_uri, trust_domains: [shop.test], forward: true } }";
    let gateway = gateway(&certificates, &origin, settings, "");
    for (identity, wanted) in [("stock", 200), ("stray", 401), ("orders", 200)] {
        let client = certificates.client(Some(identity), &["http/1.1"], &[&TLS13]);
        assert_eq!(call(&client, &gateway, ""), wanted, "{identity}");
    }
    let log = origin.take();
    let names: Vec<_> = log.requests.iter().map(|request| request.field("x-consumer-name").unwrap()).collect();
    let stock = "spiffe://shop.test/stock";
    assert_eq!(names, [stock, stock, "shop-orders", "shop-orders"]);
    let sent = log.requests[0].field("client-cert").unwrap();
    assert!(sent.starts_with(":MII") && sent.ends_with(':'), "{sent}");
}

#[test]
fn a_key_will_do_where_either_may_prove_who_calls() {
    let (certificates, origin) = (certificates(), Origin::echo());
    let settings = "{ key_auth: { header: X-Api-Key }, mtls_auth: {} }";
    let gateway = gateway(&certificates, &origin, settings, ", authenticate: { any: [key_auth, mtls_auth] }");
    let key = "X-Api-Key: shop-app-key-0123456789\r\n";
    for (identity, fields, wanted) in
        [(None, key, 200), (Some("orders"), "", 200), (Some("stock"), key, 200), (Some("stock"), "", 401)]
    {
        let client = certificates.client(identity, &["http/1.1"], &[&TLS13]);
        assert_eq!(call(&client, &gateway, fields), wanted, "{identity:?} {fields}");
    }
}

#[test]
fn who_calls_without_a_certificate_says_nothing_that_a_certificate_says() {
    let (certificates, origin) = (certificates(), Origin::echo());
    let rest = ", authenticate: { any: [mtls_auth], anonymous: shop-orders }";
    let gateway = gateway(&certificates, &origin, "{ mtls_auth: { forward: true } }", rest);
    let client = certificates.client(None, &["http/1.1"], &[&TLS13]);
    let forged = "Client-Cert: :YQ==:\r\nclient_cert: :YQ==:\r\nClient-Cert-Chain: :YQ==:\r\nX-Consumer-Name: root\r\n";
    assert_eq!(call(&client, &gateway, forged), 200);
    let log = origin.take();
    for request in &log.requests {
        assert_eq!(request.field("x-consumer-name"), Some("shop-orders"));
        assert!(!request.has("client-cert") && !request.has("client-cert-chain"), "{}", request.shown());
        assert!(!request.has("client_cert"), "{}", request.shown());
    }
}
