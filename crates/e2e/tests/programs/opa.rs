//! Open Policy Agent itself as the decision service of `permission`: policies in Rego decide, over HTTP and over TLS.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::wire::Address;
use daemun_e2e::{Certificates, Client, Gateway, Origin, Response, wait_until};
use rustls::version::TLS13;

use crate::peers::{PATIENCE, Script, is_there};

const POLICY: &str = r#"
package shop

# who may do what: buyers read on working networks, each clerk writes for their own tenant, and nobody reaches an item that is hidden
default allow := false

allow if {
	input.method == "GET"
	input.route == "orders"
	input.consumer.configured
	"buyer" in input.consumer.roles
	net.cidr_contains("127.0.0.0/8", input.client_ip)
	not hidden
}

allow if {
	input.method == "PUT"
	input.path == ["orders", input.params.id]
	"staff" in input.consumer.groups
	input.headers["x-tenant"] == "mill"
	input.query.force == ["yes", "really"]
	not hidden
}

hidden if input.path[1] in {"13", "a/b"}

object := {"allow": allow, "reason": "by the roles of the caller"}

# none for whom nothing is said
partly := true if input.consumer.name == "app"

worded := "yes"
"#;

/// Two rules that contradict each other.
const CLASH: &str = r#"
package clash

allow := true if input.method

allow := false if input.route
"#;

/// The page of the policy, with one in Rego.
const PAGE: &str = include_str!("../../../policies/src/permission/README.md");

/// Whoever asks OPA must show a token.
const CLOSED: &str = r#"
package system.authz

default allow := false

allow if input.identity == "s3cret-of-the-gateway"
"#;

const APP: &str = "X-Api-Key: shop-app-key-0123456789\r\n";
const CLERK: &str = "X-Api-Key: clerk-key-0123456789abc\r\n";

/// OPA, where `cargo xtask test` put it.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let opa = own.ancestors().nth(3)?.join("opa/bin/opa");
    opa.is_file().then_some(opa)
}

fn is_here() -> bool {
    is_there(if program().is_some() { &[] } else { &["Open Policy Agent"] })
}

/// OPA with the policy, and the port it listens on; over TLS, it wants a token as well.
fn opa(folder: &Folder, certificates: Option<&Certificates>) -> (Script, u16) {
    let mut command = vec!["run".to_owned(), "--server".to_owned(), "--skip-version-check".to_owned()];
    command.extend(["--log-level", "error", "--shutdown-grace-period", "0"].map(str::to_owned));
    let page = PAGE.split_once("```rego\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    for (name, policy) in [("shop.rego", POLICY), ("clash.rego", CLASH), ("page.rego", page)] {
        command.push(folder.write(name, policy).display().to_string());
    }
    if let Some(certificates) = certificates {
        let (certificate, key) = (certificates.path("opa.crt"), certificates.path("opa.key"));
        command.extend(["--authentication=token", "--authorization=basic", "--tls-cert-file"].map(str::to_owned));
        command.extend([certificate, "--tls-private-key-file".to_owned(), key]);
        command.push(folder.write("closed.rego", CLOSED).display().to_string());
    }
    // another program may take the port meanwhile: then another is tried
    for _ in 0..20 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut started = Command::new(program().unwrap());
        started.args(&command).arg("--addr").arg(format!("127.0.0.1:{port}"));
        let mut script = Script::of(started);
        let is_up = || match certificates {
            Some(known) => known.client(None, &["http/1.1"], &[&TLS13]).try_connect(&address, "localhost").is_ok(),
            None => Client::try_connect(&address).is_ok_and(|mut client| {
                client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
                client.response().is_ok_and(|answer| answer.status == 200)
            }),
        };
        let up = wait_until("OPA answers, or has ended", PATIENCE, || match script.has_ended() {
            true => Some(false),
            false => is_up().then_some(true),
        });
        if up {
            return (script, port);
        }
    }
    panic!("no port for OPA");
}

/// Puts another policy in place of the one that a running OPA read.
fn change(port: u16, folder: &Folder, policy: &str) {
    let file = folder.path().join("shop.rego").display().to_string();
    let id = file.trim_start_matches('/').replace('/', "%2F");
    let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let head = format!("PUT /v1/policies/{id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", policy.len());
    let changed = Client::connect(&address).call(head + policy);
    assert_eq!(changed.status, 200, "{}", changed.text());
}

fn yaml(origin: &Origin, services: &[(&str, String)]) -> String {
    let routes: String = services
        .iter()
        .map(|(name, service)| {
            let path = if *name == "orders" { "orders/{id}" } else { name };
            format!(
                "  - {{ name: {name}, match: {{ path: \"/{path}\" }}, upstream: origin, policies: {{ key_auth: {{ header: X-Api-Key }}, \
                 permission: {{ service: {{ {service} }} }} }} }}\n"
            )
        })
        .collect();
    format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ targets: [\"{}\"] }} }}\nroutes:\n{routes}consumers:\n  \
         - {{ name: app, roles: [buyer], keys: [shop-app-key-0123456789] }}\n  \
         - {{ name: clerk, groups: [staff], keys: [clerk-key-0123456789abc] }}\n",
        origin.url()
    )
}

fn call(gateway: &Gateway, line: &str, fields: &str) -> Response {
    gateway.connect().call(format!("{line} HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n{fields}\r\n"))
}

/// What the access log says of the last of so many calls.
fn cause(gateway: &Gateway, count: usize) -> String {
    let log =
        wait_until("the calls are logged", PATIENCE, || Some(gateway.access_log()).filter(|log| log.len() >= count));
    log.last().unwrap()["cause"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn policies_in_rego_decide_and_nothing_else_than_true_lets_a_call_pass() {
    if !is_here() {
        return;
    }
    let (folder, origin) = (Folder::new(), Origin::echo());
    let (opa, port) = opa(&folder, None);
    let url = |path: &str, more: &str| format!("url: \"http://127.0.0.1:{port}/v1/data/{path}\"{more}");
    let services = [
        ("orders", url("shop/allow", ", headers: [x-tenant]")),
        ("object", url("shop/object", "")),
        ("package", url("shop", "")),
        ("partly", url("shop/partly", "")),
        ("nothing", url("shop/nothing", "")),
        ("worded", url("shop/worded", "")),
        ("both", url("clash/allow", "")),
        ("page", url("shop/orders", ", headers: [x-tenant]")),
        ("kept", url("shop/partly", ", cache: { for: 1h }")),
    ];
    let gateway = Gateway::start(&yaml(&origin, &services));
    let mill = "X-Tenant: mill\r\n";
    let calls = [
        ("GET /orders/17", APP, "", 200),
        ("GET /orders/17", CLERK, "", 403),
        ("GET /orders/13", APP, "", 403),
        ("GET /orders/13;x", APP, "", 403),
        ("GET /orders;y/%31%33", APP, "", 403),
        ("DELETE /orders/17", APP, "", 403),
        ("PUT /orders/17?force=yes&a=b&force=really", CLERK, mill, 200),
        ("PUT /orders/17?force=yes&force=really", CLERK, "X-Tenant: bakery\r\n", 403),
        ("PUT /orders/17?force=yes", CLERK, mill, 403),
        ("PUT /orders/17?force=yes&force=really", APP, mill, 403),
        ("GET /partly", APP, "", 200),
        ("GET /partly", CLERK, "", 403),
        ("GET /nothing", APP, "", 403),
        ("GET /page", APP, mill, 200),
        ("GET /page", APP, "", 403),
        ("GET /page", CLERK, mill, 403),
        ("GET /kept", APP, "", 200),
        // only of the route `orders`: the object says no, and so does what the package says as a whole
        ("GET /object", APP, "", 403),
        ("GET /package", APP, "", 403),
        // neither a text nor rules that contradict each other are a decision
        ("GET /worded", APP, "", 503),
        ("GET /both", APP, "", 503),
    ];
    for (line, key, fields, wanted) in calls {
        let answer = call(&gateway, line, &format!("{key}{fields}"));
        assert_eq!(answer.status, wanted, "{line} {key}{fields}: {}", answer.text());
    }
    assert!(cause(&gateway, calls.len()).contains("answered with 500"), "{}", cause(&gateway, calls.len()));
    let passed = calls.iter().filter(|(.., wanted)| *wanted == 200).count();
    assert_eq!(origin.take().requests.len(), passed, "what is refused reaches nothing");

    // a policy that changes there decides differently here
    change(port, &folder, "package shop\nallow := input.consumer.name == \"clerk\"\nobject := {\"allow\": true}\n");
    for (line, key, wanted) in [
        ("GET /orders/17", CLERK, 200),
        ("GET /orders/17", APP, 403),
        ("GET /object", APP, 200),
        ("GET /partly", APP, 403),
        ("GET /kept", APP, 200),
    ] {
        assert_eq!(call(&gateway, line, key).status, wanted, "{line} {key}");
    }

    // gone, it lets nobody in but for what was kept
    drop(opa);
    for (line, key, wanted) in
        [("GET /orders/17", CLERK, 503), ("GET /object", APP, 503), ("GET /kept", APP, 200), ("GET /kept", CLERK, 503)]
    {
        let answer = call(&gateway, line, key);
        assert_eq!(answer.status, wanted, "{line} {key}");
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
}

#[test]
fn opa_is_asked_over_tls_with_a_token_and_must_prove_who_it_is() {
    if !is_here() {
        return;
    }
    let certificates = Certificates::new();
    certificates.issue("opa", "ca", "DNS:localhost");
    certificates.authority("other");
    let (folder, origin) = (Folder::new(), Origin::echo());
    let (_opa, port) = opa(&folder, Some(&certificates));
    let service = |host: &str, ca: &str, token: &str| {
        let ca = certificates.path(&format!("{ca}.crt"));
        format!(
            "url: \"https://{host}:{port}/v1/data/shop/allow\", ca_file: \"{ca}\", send: {{ authorization: Bearer {token} }}"
        )
    };
    let good = "s3cret-of-the-gateway";
    let services = [("orders", service("localhost", "ca", good))];
    let gateway = Gateway::start(&yaml(&origin, &services));
    assert_eq!(call(&gateway, "GET /orders/17", APP).status, 200);
    assert_eq!(call(&gateway, "GET /orders/17", CLERK).status, 403);
    let mut wrong = String::new();
    for (service, why) in [
        (service("localhost", "ca", "s3cret-of-another"), "answered with 401"),
        (service("localhost", "other", good), "certificate"),
        (service("127.0.0.1", "ca", good), "certificate"),
    ] {
        let doubting = Gateway::start(&yaml(&origin, &[("orders", service.clone())]));
        assert_eq!(call(&doubting, "GET /orders/17", APP).status, 503, "{service}");
        let told = cause(&doubting, 1);
        assert!(told.contains(why), "{service}: {told}");
        wrong += &told;
        wrong += &doubting.stderr();
    }
    assert!(!wrong.contains("s3cret"), "{wrong}");
    assert_eq!(origin.take().requests.len(), 1);
    let (code, said, _) =
        run_command(gateway.folder(), &["explain", "GET", "http://e2e.test/orders/17", "-H", APP.trim_end()]);
    assert!(code == Some(0) && said.contains("would be asked") && !said.contains("s3cret"), "{said}");
}
