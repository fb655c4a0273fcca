//! One of several authenticators will do: whichever lets a call in, the upstream gets nothing of what the others would have taken out.

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::{Certificates, Client, Gateway, Next, Origin};
use rustls::version::TLS13;

const HOST: &str = "a.test";
const KEY: &str = "shop-app-key-0123456789";
/// `shop:shop-app-password`.
const LOGIN: &str = "Basic c2hvcDpzaG9wLWFwcC1wYXNzd29yZA==";

/// An authenticator.
struct Kind {
    name: &'static str,
    settings: String,
    /// Fields that it lets a call in for, where the test can make some.
    good: Option<String>,
    /// Whether a certificate of the client is what it lets a call in for.
    certificate: bool,
    /// What a caller forges of it.
    forged: &'static str,
    /// The same behind the body.
    behind: &'static str,
}

fn kinds(service: &str) -> Vec<Kind> {
    let kind = |name, settings: &str, good: Option<&str>, forged, behind| Kind {
        name,
        settings: settings.replace("{service}", service),
        good: good.map(str::to_owned),
        certificate: name == "mtls_auth",
        forged,
        behind,
    };
    let (key, login) = (format!("X-Api-Key: {KEY}\r\n"), format!("Authorization: {LOGIN}\r\n"));
    let introspection =
        "{ url: \"{service}/asked\", client: { id: gate, secret: gate }, from: [{ header: X-Opaque }, { cookie: t }] }";
    vec![
        kind(
            "key_auth",
            "{ header: X-Api-Key, query: key, authorization: ApiKey }",
            Some(&key),
            "X-Api-Key: forged-0123456789\r\nAuthorization: apikey forged-0123456789\r\n",
            "X-Api-Key: forged\r\n",
        ),
        kind("basic_auth", "{}", Some(&login), "Authorization: Basic forged00\r\n", ""),
        kind("token_auth", "{ header: X-Token }", None, "X-Token: forged\r\n", "X-Token: forged\r\n"),
        kind(
            "jwt",
            "{ keys: { secret: correct horse battery staple 4711 }, audience: off, from: [bearer, { cookie: jwt }, { query: jwt }] }",
            None,
            "Authorization: Bearer forged.forged.forged\r\nCookie: jwt=forged; a=1\r\n",
            "",
        ),
        kind(
            "introspection",
            introspection,
            Some("X-Opaque: good\r\n"),
            "Cookie: a=1; t=forged\r\nX.Opaque: forged\r\n",
            "X-Opaque: forged\r\n",
        ),
        kind(
            "mtls_auth",
            "{ forward: true }",
            Some(""),
            "Client-Cert: :forged00:\r\nClient.Cert: :forged00:\r\nClient-Cert-Chain: :forged00:\r\n",
            "Client-Cert: :forged00:\r\nClient.Cert: :forged00:\r\n",
        ),
        kind(
            "oidc",
            "{ issuer: \"{service}\", client_id: shop-web, client_secret: shop-web-secret, callback: \"/{pair}/back\", \
             logout: \"/{pair}/out\", session: { secret: 0123456789abcdef0123456789abcdef } }",
            None,
            "Cookie: daemun-session=forged00; a=1; daemun-session_login=forged00\r\n\
             Cookie: __Host-daemun-session=forged00; __Host-daemun-session_login=forged00\r\n",
            "Cookie: daemun-session=forged00\r\n",
        ),
        kind("hmac_auth", "{}", None, "Authorization: Signature keyId=\"forged\",signature=\"forged00\"\r\n", ""),
        kind(
            "signature_auth",
            "{}",
            None,
            "Signature-Input: sig1=(\"forged\");created=1;keyid=\"a\"\r\nSignature: sig1=:forged00:\r\n",
            "Signature: forged\r\n",
        ),
        kind(
            "forward_auth",
            "{ url: \"{service}/decide\", send: [x-good], pass: [x-user], subject: x-user }",
            Some("X-Good: good\r\n"),
            "X-User: forged\r\nX.User: forged\r\n",
            "X-User: forged\r\nX.User: forged\r\n",
        ),
    ]
}

/// What decides about calls, and about tokens.
fn service() -> Origin {
    Origin::serve(|peer, request| {
        let answer = if request.target == "/asked" {
            let active = String::from_utf8_lossy(&request.body).contains("token=good");
            let body = if active { "{\"active\":true,\"sub\":\"ann\"}" } else { "{\"active\":false}" };
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        } else if request.field("x-good") == Some("good") {
            "HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()
        };
        if peer.send(answer) { Next::Keep } else { Next::Close }
    })
}

fn yaml(certificates: &Certificates, origin: &Origin, folder: &Folder, routes: &str) -> String {
    format!(
        "workers: 1\naccess_log: off\nstore: {{ path: \"{}\" }}\ntokens: {{ shop: {{}} }}\nlisteners:\n  \
         - {{ bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ {} }}], client_ca: \"{}\", client_auth: optional }} }}\n\
         upstreams: {{ origin: {{ targets: [\"{}\"] }} }}\nroutes:\n  - {{ name: login, match: {{ path: /login }}, tokens: shop }}\n{routes}\
         consumers:\n  - name: shop-app\n    keys: [{KEY}]\n    basic: {{ username: shop, password: shop-app-password }}\n    \
         certificates: {{ san: orders.shop.test }}\n    hmac: {{ id: shop, secret: correct horse battery staple }}\n",
        folder.path().join("daemun.db").display(),
        certificates.pair("a"),
        certificates.path("ca.crt"),
        origin.url(),
    )
}

fn certificates() -> Certificates {
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue_to("/O=Shop/CN=orders", "orders", "ca", "DNS:orders.shop.test");
    certificates
}

fn route(name: &str, any: &str, policies: &str) -> String {
    format!(
        "  - {{ name: {name}, match: {{ prefix: /{name} }}, upstream: origin, authenticate: {{ any: [{any}] }}, policies: {{ {policies} }} }}\n"
    )
}

#[test]
fn nothing_that_another_of_them_would_take_out_reaches_the_upstream() {
    let (certificates, origin, service, folder) = (certificates(), Origin::echo(), service(), Folder::new());
    let kinds = kinds(&service.url());
    let good: Vec<&Kind> = kinds.iter().filter(|kind| kind.good.is_some()).collect();
    let pairs = || good.iter().flat_map(|by| kinds.iter().map(move |other| (*by, other)));
    let pairs = || pairs().filter(|(by, other)| by.name != other.name);
    let routes: String = pairs()
        .map(|(by, other)| {
            let (pair, policies) = (
                format!("{}-{}", by.name, other.name),
                format!("{}: {}, {}: {}", by.name, by.settings, other.name, other.settings),
            );
            route(&pair, &format!("{}, {}", by.name, other.name), &policies.replace("{pair}", &pair))
        })
        .collect();
    let gateway = Gateway::start(&yaml(&certificates, &origin, &folder, &routes));
    for (by, other) in pairs() {
        let identity = by.certificate.then_some("orders");
        let client = certificates.client(identity, &["http/1.1"], &[&TLS13]);
        let (good, pair) = (by.good.as_deref().unwrap_or_default(), format!("{}-{}", by.name, other.name));
        let request = format!(
            "POST /{pair}?key=forged-0123456789&jwt=forged HTTP/1.1\r\nHost: {HOST}\r\n{}{good}TE: trailers\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{}\r\n",
            other.forged, other.behind,
        );
        // a parameter is of those that are there: what no policy knows goes on
        let request = if [by.name, other.name].contains(&"key_auth") {
            request
        } else {
            request.replace("key=forged-0123456789&", "")
        };
        let request = if other.name == "jwt" { request } else { request.replace("jwt=forged", "b=1") };
        // two credentials of one kind are none
        let request = if by.name == "key_auth" { request.replace("key=forged-0123456789&", "") } else { request };
        let answer = Client::over(client.connect(gateway.address(), HOST)).call(request);
        assert_eq!(answer.status, 200, "{pair}: {}", answer.text());
        let log = origin.take();
        let got = log.requests.first().unwrap();
        assert!(!got.shown().contains("forged"), "{pair}: {}", got.shown());
        assert!(got.has("x-consumer-name"), "{pair}: {}", got.shown());
        if by.name == "forward_auth" {
            assert_eq!(got.field("x-user"), Some("alice"), "{pair}: {}", got.shown());
        }
        if by.certificate {
            assert!(got.field("client-cert").is_some_and(|sent| sent.starts_with(":MII")), "{pair}: {}", got.shown());
        }
    }
}

#[test]
fn a_credential_goes_on_where_its_authenticator_let_the_call_in_and_forwards_it() {
    let (certificates, origin, folder) = (certificates(), Origin::echo(), Folder::new());
    let jwt = |forward: bool| {
        format!("jwt: {{ keys: {{ secret: correct horse battery staple 4711 }}, audience: off, forward: {forward} }}")
    };
    let routes = [
        route("kept", "basic_auth, jwt", &format!("basic_auth: {{ forward: true }}, {}", jwt(false))),
        route("taken", "basic_auth, jwt", &format!("basic_auth: {{}}, {}", jwt(true))),
        route("unasked", "key_auth, jwt", &format!("key_auth: {{ header: X-Api-Key }}, {}", jwt(true))),
    ];
    let gateway = Gateway::start(&yaml(&certificates, &origin, &folder, &routes.concat()));
    let client = certificates.client(None, &["http/1.1"], &[&TLS13]);
    let key = format!("X-Api-Key: {KEY}\r\nAuthorization: Bearer a.b.c");
    for (path, fields, wanted) in [
        ("kept", format!("Authorization: {LOGIN}"), Some(LOGIN)),
        ("taken", format!("Authorization: {LOGIN}"), None),
        ("unasked", key, Some("Bearer a.b.c")),
    ] {
        let mut client = Client::over(client.connect(gateway.address(), HOST));
        let answer = client.call(format!("GET /{path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n\r\n"));
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(origin.take().requests.first().unwrap().field("authorization"), wanted, "{path}");
    }
}

#[test]
fn one_of_them_will_do_beside_one_that_all_must_pass() {
    let (certificates, origin, service, folder) = (certificates(), Origin::echo(), service(), Folder::new());
    let policies = format!(
        "key_auth: {{ header: X-Api-Key }}, basic_auth: {{}}, forward_auth: {{ url: \"{}\", send: [x-good] }}",
        service.url()
    );
    let routes = route("beside", "key_auth, forward_auth", &policies);
    let yaml = yaml(&certificates, &origin, &folder, &routes);
    let gateway = Gateway::start(&yaml);
    let client = certificates.client(None, &["http/1.1"], &[&TLS13]);
    let (login, key, good) =
        (format!("Authorization: {LOGIN}\r\n"), format!("X-Api-Key: {KEY}\r\n"), "X-Good: good\r\n");
    for (fields, wanted) in [
        (format!("{login}{key}"), 200),
        (format!("{login}{good}"), 200),
        (login.clone(), 401),
        (format!("{key}{good}"), 401),
        (String::new(), 401),
    ] {
        let mut client = Client::over(client.connect(gateway.address(), HOST));
        let answer = client.call(format!("GET /beside HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
        assert_eq!(answer.status, wanted, "{fields}");
    }
    folder.write("daemun.yaml", &yaml);
    let forged = format!("x-api-key: {KEY}");
    let (code, said, errors) = run_command(
        folder.path(),
        &[
            "explain",
            "-c",
            "daemun.yaml",
            "GET",
            "https://a.test/beside",
            "-H",
            &forged,
            "-H",
            &format!("authorization: {LOGIN}"),
        ],
    );
    assert!(code == Some(0) && said.contains("upstream"), "{said}{errors}");
}
