//! What expressions know of a TLS connection and of the certificate a client shows.

use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::{Certificates, Client, Gateway, Origin};
use rustls::version::{TLS12, TLS13};

use super::HOST;

const ROUTES: &str = r#"
routes:
  - name: internal
    priority: 2
    match: { path: /who, when: '"spiffe://shop.test/orders" in tls.uris && tls.version == "1.3"' }
    answer: { body: internal }
  - name: named
    priority: 1
    match: { path: /who, when: 'tls.dns_names.exists(name, name.endsWith(".shop.test")) && tls.server_name == "a.test"' }
    answer: { body: named }
  - name: who
    match: { path: /who }
    answer: { body: nobody }
  - name: all
    match: { prefix: / }
    upstream: origin
    policies:
      headers:
        request:
          set: { x-subject: '${tls.subject}', x-cn: '${tls.subject_cn}', x-issuer: '${tls.issuer}', x-tls: '${tls.version} ${tls.server_name}' }
      rate_limit: { limit: 1/day, by: route, when: '!(tls.subject_cn in ["orders", ""])' }
"#;

fn gateway(certificates: &Certificates, origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "workers: 1\naccess_log: off\nlisteners:\n  - {{ bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ {} }}], client_ca: \"{}\", client_auth: optional }} }}\n\
         upstreams: {{ origin: {{ targets: [\"{}\"] }} }}\n{ROUTES}",
        certificates.pair("a"),
        certificates.path("ca.crt"),
        origin.url(),
    ))
}

#[test]
fn expressions_know_whom_the_certificate_of_a_client_names() {
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue_to(
        "/C=KR/O=Shop,Inc/CN=orders",
        "orders",
        "ca",
        "DNS:Orders.Shop.test,URI:spiffe://shop.test/orders",
    );
    certificates.issue_to("/CN=one/CN=two", "two", "ca", "DNS:*.test,email:a@shop.test,IP:127.0.0.1");
    let origin = Origin::echo();
    let gateway = gateway(&certificates, &origin);
    let connect = |identity, version, name| {
        Client::over(certificates.client(identity, &["http/1.1"], &[version]).connect(gateway.address(), name))
    };
    for (identity, version, name, body) in [
        (Some("orders"), &TLS13, HOST, "internal"),
        (Some("orders"), &TLS12, "A.test", "named"),
        (Some("orders"), &TLS12, "127.0.0.1", "nobody"),
        (Some("two"), &TLS13, HOST, "nobody"),
        (None, &TLS13, HOST, "nobody"),
    ] {
        let mut client = connect(identity, version, name);
        // kept, as what a certificate says is read once
        for _ in 0..2 {
            assert_eq!(client.get("/who").text(), body, "{identity:?} {name}");
        }
    }
    let seen = |identity, version, name| {
        let mut client = connect(identity, version, name);
        let statuses = [client.get("/x").status, client.get("/x").status];
        let request = origin.take().requests.remove(0);
        let fields = ["x-subject", "x-cn", "x-issuer", "x-tls"];
        (statuses, fields.map(|field| request.field(field).unwrap_or("none").to_owned()))
    };
    let fields = |texts: [&str; 4]| texts.map(str::to_owned);
    assert_eq!(
        seen(Some("orders"), &TLS13, HOST),
        ([200, 200], fields(["CN=orders,O=Shop\\,Inc,C=KR", "orders", "CN=ca", "1.3 a.test"]))
    );
    assert_eq!(seen(Some("two"), &TLS12, "127.0.0.1"), ([200, 200], fields(["CN=two,CN=one", "none", "CN=ca", "1.2"])));
    assert_eq!(seen(None, &TLS13, HOST), ([200, 200], fields(["none", "none", "none", "1.3 a.test"])));
    certificates.issue("guest", "ca", "DNS:guest.test");
    assert_eq!(seen(Some("guest"), &TLS13, HOST).0, [200, 429]);
}

#[test]
fn they_are_known_over_http2_as_well() {
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue("orders", "ca", "URI:spiffe://shop.test/orders");
    let origin = Origin::echo();
    let gateway = gateway(&certificates, &origin);
    let stream = certificates.client(Some("orders"), &["h2"], &[&TLS13]).connect(gateway.address(), HOST);
    let mut client = Http2::begin(stream, 1 << 20);
    let ending = client.get(1, "/who");
    assert!(matches!(&ending, Ok(Ending::Answer(answer)) if answer.body == b"internal"), "{ending:?}");
}
