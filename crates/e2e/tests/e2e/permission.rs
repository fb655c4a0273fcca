//! `permission` and `csrf` on the wire: what is refused does not reach the upstream, policies of files are read again, and a decision
//! service decides.

use std::time::Duration;

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::{Client, Gateway, Lane, Next, Origin, Peer, Request, Response, wait_until};
use serde_json::{Value, json};

const APP: &str = "shop-app-key-0123456789";
const CLERK: &str = "clerk-key-0123456789abc";

const CONSUMERS: &str = "consumers:\n  \
     - { name: app, roles: [buyer], keys: [shop-app-key-0123456789] }\n  \
     - { name: clerk, roles: [seller], groups: [staff], keys: [clerk-key-0123456789abc] }\n";

fn yaml(origin: &Origin, policies: &str) -> String {
    format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\nupstreams: {{ origin: {{ targets: [\"{}\"] }} }}\n\
         routes: [{{ name: orders, match: {{ path: \"/orders/{{id}}\" }}, upstream: origin, policies: {{ {policies} }} }}]\n{CONSUMERS}",
        origin.url()
    )
}

fn lane(policies: &str) -> Lane {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, policies));
    Lane { origin, gateway }
}

fn call(client: &mut Client, method: &str, key: &str) -> Response {
    let key = if key.is_empty() { String::new() } else { format!("X-Api-Key: {key}\r\n") };
    client.call(format!("{method} /orders/17 HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n{key}\r\n"))
}

/// What the access log says of the last request.
fn cause(gateway: &Gateway, count: usize) -> String {
    let log = wait_until("the access log", Duration::from_secs(10), || {
        Some(gateway.access_log()).filter(|lines| lines.len() >= count)
    });
    log[count - 1]["cause"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_follows_a_semicolon_passes_no_rule_by() {
    let (origin, service) = (
        Origin::echo(),
        Origin::serve(|peer, request| {
            let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let denied = asked["input"]["path"] == json!(["orders", "13"]) || asked["input"]["params"]["id"] == "14";
            let body = json!({ "result": !denied }).to_string();
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            Next::Keep
        }),
    );
    let rules = format!(
        "permission: {{ allow: [{{ anyone: true }}], service: {{ url: \"{}\" }}, deny: [{{ when: 'request.path == \"/orders/17\"' }}, \
         {{ when: 'params[\"id\"] == \"16\"' }}, {{ when: 'request.full_path == \"/orders/15;x\"' }}] }}",
        service.url()
    );
    let gateway = Gateway::start(&yaml(&origin, &rules));
    for (path, wanted) in [
        ("/orders/17", 403),
        ("/orders/17;x", 403),
        ("/orders;x/17;y;z", 403),
        ("/orders/16;x", 403),
        ("/orders/15", 200),
        ("/orders/15;x", 403),
        ("/orders/14;x", 403),
        ("/orders;y/13;x", 403),
        ("/orders/18;x", 200),
    ] {
        assert_eq!(gateway.get(path).status, wanted, "{path}");
    }
    let reached: Vec<String> = origin.look(|log| log.requests.iter().map(|request| request.target.clone()).collect());
    assert_eq!(reached, ["/orders/15", "/orders/18;x"], "it is forwarded as it came");
    origin.take();
    let folder = Folder::new();
    folder.write(
        "orders.cedar",
        "permit (principal, action, resource);\n\
         forbid (principal, action, resource == Path::\"/orders/17\");\n\
         forbid (principal, action, resource) when { resource.path == \"/orders/13\" || resource.params.id == \"16\" };\n\
         forbid (principal, action, resource) when { resource.full_path == \"/orders/15;x\" };\n",
    );
    let gateway = Gateway::start_in(folder, &yaml(&origin, "permission: { cedar: { policies: orders.cedar } }"));
    for (path, wanted) in [
        ("/orders/17", 403),
        ("/orders/17;x", 403),
        ("/orders;x/17;y;z", 403),
        ("/orders/%31%37;x", 403),
        ("/orders/13;x", 403),
        ("/orders;y/13", 403),
        ("/orders/16;x", 403),
        ("/orders;y/16;x", 403),
        ("/orders/15", 200),
        ("/orders/15;x", 403),
        ("/orders/18;x", 200),
    ] {
        assert_eq!(gateway.get(path).status, wanted, "{path}");
    }
    let reached: Vec<String> = origin.look(|log| log.requests.iter().map(|request| request.target.clone()).collect());
    assert_eq!(reached, ["/orders/15", "/orders/18;x"], "nor one in Cedar");
}

#[test]
fn what_no_rule_allows_does_not_reach_the_upstream() {
    let lane = lane(
        "key_auth: { header: X-Api-Key }, permission: { allow: [{ name: reading, roles: [buyer, seller], methods: [GET] }, \
         { roles: seller, when: 'params[\"id\"] == \"17\"' }], deny: [{ name: no-staff, groups: staff, methods: [DELETE] }] }",
    );
    let mut client = lane.connect();
    for (method, key, status) in [
        ("GET", APP, 200),
        ("HEAD", APP, 200),
        ("PUT", APP, 403),
        ("PUT", CLERK, 200),
        ("DELETE", CLERK, 403),
        ("GET", "", 401),
    ] {
        if method == "HEAD" {
            client.send(format!("HEAD /orders/17 HTTP/1.1\r\nHost: e2e.test\r\nX-Api-Key: {key}\r\n\r\n"));
            assert_eq!(client.response_to("HEAD").unwrap().status, status);
            continue;
        }
        assert_eq!(call(&mut client, method, key).status, status, "{method} {key}");
    }
    let refused = call(&mut client, "DELETE", CLERK);
    let told = refused.json();
    assert_eq!(
        (told["type"].as_str(), told["detail"].as_str()),
        (Some("https://daemun.dev/problems/forbidden"), Some("the caller may not do this"))
    );
    assert_eq!(lane.origin.look(|log| log.requests.len()), 3);
    assert!(cause(&lane.gateway, 7).contains("the rule `no-staff` denies it"));
}

#[test]
fn policies_in_cedar_are_read_again_when_their_files_change() {
    let origin = Origin::echo();
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("cedar")).unwrap();
    std::fs::write(
        folder.path().join("cedar/a.cedar"),
        "@id(\"buyers\") permit (principal in Role::\"buyer\", action == Action::\"GET\", resource in Route::\"orders\");")
    .unwrap();
    let policies = "key_auth: { header: X-Api-Key }, permission: { cedar: { policies: cedar } }";
    let gateway = Gateway::start_in(folder, &yaml(&origin, policies));
    let mut client = gateway.connect();
    assert_eq!((call(&mut client, "GET", APP).status, call(&mut client, "GET", CLERK).status), (200, 403));
    assert!(cause(&gateway, 2).contains("no Cedar policy permits it"));
    // a broken file changes nothing
    let within = Duration::from_secs(30);
    std::fs::write(gateway.folder().join("cedar/a.cedar"), "permit (").unwrap();
    wait_until("the refused reload", within, || {
        gateway.metrics().sum("daemun_config_reloads_total", &["result=\"failed\""]).gt(&0.5).then_some(())
    });
    assert_eq!((call(&mut client, "GET", APP).status, call(&mut client, "GET", CLERK).status), (200, 403));
    std::fs::write(gateway.folder().join("cedar/a.cedar"), "permit (principal in Role::\"buyer\", action, resource);")
        .unwrap();
    // and one that is new in the folder is read
    std::fs::write(gateway.folder().join("cedar/b.cedar"), "@id(\"staff\") permit (principal in Group::\"staff\", action, resource) when { resource.params.id == \"17\" };").unwrap();
    wait_until("the reload", within, || (call(&mut client, "GET", CLERK).status == 200).then_some(()));
    assert_eq!(call(&mut client, "PUT", APP).status, 200);
    let (code, out, err) = run_command(
        gateway.folder(),
        &["explain", "GET", "http://e2e.test/orders/17", "-H", &format!("X-Api-Key: {CLERK}")],
    );
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("the Cedar policy `staff` permits it"), "{out}");
    assert_eq!(run_command(gateway.folder(), &["check"]).0, Some(0));
    std::fs::write(gateway.folder().join("cedar/b.cedar"), "permit (principal, action, resource) when { x };").unwrap();
    let (code, out, err) = run_command(gateway.folder(), &["check"]);
    let all = format!("{out}{err}");
    assert_eq!(code, Some(1), "{all}");
    assert!(
        all.contains("error[cedar] routes.orders.policies.permission.cedar") && all.contains("b.cedar`, line 1"),
        "{all}"
    );
}

/// A decision service: buyers may read. What it is asked for `/orders/broken` it answers with 500.
fn decides(peer: &mut Peer, request: &Request) -> Next {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let input = &asked["input"];
    assert_eq!(
        (request.method.as_str(), request.target.as_str(), request.field("authorization")),
        ("POST", "/v1/data/shop", Some("Bearer sesame"))
    );
    let reads =
        input["method"] == "GET" && input["consumer"]["roles"] == json!(["buyer"]) && input["params"]["id"] == "17";
    let body = match input["headers"]["x-case"].as_str() {
        Some("broken") => {
            return if peer.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") { Next::Keep } else { Next::Close };
        }
        Some("gone") => return Next::Reset,
        Some("undefined") => json!({}),
        _ => json!({ "result": { "allow": reads } }),
    }
    .to_string();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    if peer.send(answer) { Next::Keep } else { Next::Close }
}

#[test]
fn a_decision_service_decides_and_where_it_fails_nobody_passes() {
    let service = Origin::serve(decides);
    let lane = lane(&format!(
        "key_auth: {{ header: X-Api-Key }}, permission: {{ service: {{ url: '{}/v1/data/shop', headers: [x-case], send: {{ authorization: Bearer sesame }} }} }}",
        service.url()
    ));
    let mut client = lane.connect();
    let mut case = |method: &str, key: &str, case: &str| {
        client.call(format!(
            "{method} /orders/17 HTTP/1.1\r\nHost: e2e.test\r\nX-Api-Key: {key}\r\nX-Case: {case}\r\nContent-Length: 0\r\n\r\n"
        ))
    };
    for (method, key, name, status) in [
        ("GET", APP, "", 200),
        ("GET", APP, "", 200),
        ("PUT", APP, "", 403),
        ("GET", CLERK, "", 403),
        ("GET", APP, "undefined", 403),
        ("GET", APP, "broken", 503),
        ("GET", APP, "gone", 503),
        ("GET", APP, "", 200),
    ] {
        let answer = case(method, key, name);
        assert_eq!(answer.status, status, "{method} {key} {name}: {}", answer.text());
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
    assert_eq!(lane.origin.look(|log| log.requests.len()), 3);
    assert!(cause(&lane.gateway, 6).contains("answered with 500"));
    drop(service);
    let down = case("GET", APP, "");
    assert_eq!((down.status, down.json()["type"].as_str()), (503, Some("https://daemun.dev/problems/undecided")));
    assert_eq!(lane.origin.look(|log| log.requests.len()), 3);
}

#[test]
fn a_page_of_the_site_can_send_and_no_other() {
    let lane = lane("csrf: { secret: 0123456789abcdef0123456789abcdef, field: t }");
    let mut client = lane.connect();
    let page = client.call("GET /orders/1 HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    let cookie = page.field("set-cookie").unwrap().to_owned();
    let token = cookie.strip_prefix("csrf=").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(lane.origin.only_request().field("x-csrf-token"), Some(token.as_str()));
    let mut post = |fields: &str, body: &str| {
        client.call(format!(
            "POST /orders/1 HTTP/1.1\r\nHost: e2e.test\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (fields, body, status) in [
        (format!("Cookie: csrf={token}\r\nX-Csrf-Token: {token}\r\nOrigin: http://e2e.test\r\n"), String::new(), 200),
        (format!("Cookie: csrf={token}\r\n{form}"), format!("a=b&t={token}"), 200),
        (format!("Cookie: csrf={token}\r\n{form}"), "a=b".to_owned(), 403),
        (format!("Cookie: csrf={token}\r\n"), String::new(), 403),
        (format!("Cookie: csrf={token}\r\nX-Csrf-Token: {token}\r\nOrigin: http://bad.test\r\n"), String::new(), 403),
        (
            format!("Cookie: csrf={token}\r\nX-Csrf-Token: {token}\r\nSec-Fetch-Site: cross-site\r\n"),
            String::new(),
            403,
        ),
        (format!("Cookie: csrf={token}\r\n{form}"), format!("t={token}&a={}", "b".repeat(70_000)), 413),
    ] {
        let answer = post(&fields, &body);
        assert_eq!(answer.status, status, "{fields}");
        assert_eq!(answer.field("set-cookie"), None, "{fields}");
    }
    let bodies = lane.origin.look(|log| log.requests.iter().map(|request| request.body.len()).collect::<Vec<_>>());
    assert_eq!(bodies, [0, 0, format!("a=b&t={token}").len()]);
}
