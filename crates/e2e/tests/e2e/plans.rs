//! Plans of consumers: over routes, over processes, and over the end of one.

use std::time::Duration;

use daemun_e2e::gateway::{Folder, Signal};
use daemun_e2e::{Client, Gateway, wait_until};
use serde_json::{Value, json};

/// How long a reload may take, or another process to hear of something.
const LIMIT: Duration = Duration::from_secs(20);
const FREE: &str = "plans: { free: { limit: 3/day } }\n";

fn yaml(store: &str, plans: &str, plan: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nadmin: {{ bind: 127.0.0.1:0 }}\nstore: {store}\n\
         tokens: {{ shop: {{}} }}\n{plans}policies: {{ key_auth: {{ header: X-Api-Key }} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: shop, policies: {{ key_auth: off }} }}\n  \
         - {{ name: a, match: {{ path: /a }}, answer: {{ body: ok }} }}\n  \
         - {{ name: b, match: {{ path: /b }}, answer: {{ body: ok }} }}\n  \
         - {{ name: out, match: {{ path: /out }}, answer: {{ body: ok }}, policies: {{ plan: off }} }}\n  \
         - {{ name: t, match: {{ path: /t }}, answer: {{ body: ok }}, policies: {{ key_auth: off, token_auth: {{}} }} }}\n\
         consumers:\n  - {{ name: shop-app, keys: [shop-app-key-0001]{plan} }}\n"
    )
}

fn store(folder: &Folder) -> String {
    format!("{{ path: \"{}\" }}", folder.path().join("daemun.db").display())
}

fn call(gateway: &Gateway, path: &str, field: &str) -> u16 {
    gateway.connect().call(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).status
}

fn keyed(gateway: &Gateway, path: &str, key: &str) -> u16 {
    call(gateway, path, &format!("X-Api-Key: {key}"))
}

fn admin(gateway: &Gateway, line: &str, body: &str) -> (u16, Value) {
    let (host, length) = (gateway.admin_address(), body.len());
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let answer = Client::connect(host)
        .call(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{kind}Content-Length: {length}\r\n\r\n{body}"));
    (answer.status, answer.json())
}

/// A consumer of the store on a plan; gives its key.
fn partner(gateway: &Gateway, plan: &str) -> String {
    assert_eq!(admin(gateway, "PUT /consumers/partner", &json!({ "plans": [plan] }).to_string()).0, 201);
    let made = admin(gateway, "POST /consumers/partner/credentials", r#"{"kind": "key"}"#).1;
    made["key"].as_str().unwrap().to_owned()
}

/// Calls that were admitted, on all days: a test may run at midnight.
fn used(gateway: &Gateway, consumer: &str) -> u64 {
    let told = admin(gateway, &format!("GET /consumers/{consumer}/usage"), "").1;
    told["days"].as_array().unwrap().iter().map(|day| day["calls"].as_u64().unwrap()).sum()
}

#[test]
fn a_plan_of_the_file_counts_over_all_routes_and_the_refusal_names_it() {
    let folder = Folder::new();
    check("memory");
    check(&store(&folder));
}

fn check(store: &str) {
    let gateway = Gateway::start(&yaml(store, FREE, ", plan: free"));
    let key = "shop-app-key-0001";
    assert_eq!(["/a", "/b", "/a"].map(|path| keyed(&gateway, path, key)), [200; 3]);
    let refused = gateway.connect().call(format!("GET /b HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n"));
    assert_eq!((refused.status, refused.field("RateLimit-Policy")), (429, Some("\"free\";q=3;w=86400")));
    assert!(
        refused.field("Retry-After").is_some() && refused.json()["detail"].as_str().unwrap().contains("plan `free`")
    );
    assert_eq!((keyed(&gateway, "/out", key), keyed(&gateway, "/a", "wrong-key-of-nobody")), (200, 401));
    let told = admin(&gateway, "GET /consumers/shop-app", "").1;
    assert_eq!((&told["plans"], used(&gateway, "shop-app")), (&json!(["free"]), 3), "{told}");
}

#[test]
fn a_plan_of_the_store_is_in_force_at_once_and_outlives_a_kill() {
    let folder = Folder::new();
    let text = yaml(&store(&folder), "", "");
    let gateway = Gateway::start(&text);
    assert_eq!(admin(&gateway, "PUT /plans/gold", r#"{"limit": "2/day"}"#).0, 201);
    let key = partner(&gateway, "gold");
    assert_eq!(["/a", "/b", "/a"].map(|path| keyed(&gateway, path, &key)), [200, 200, 429]);
    // a token of the consumer is the consumer
    let login = format!("POST /auth HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\nContent-Length: 0\r\n\r\n");
    let token = gateway.connect().call(login).json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(call(&gateway, "/t", &format!("Authorization: Bearer {token}")), 429);
    assert_eq!(admin(&gateway, "PUT /plans/gold", r#"{"limit": "4/day"}"#).0, 200);
    assert_eq!(call(&gateway, "/t", &format!("Authorization: Bearer {token}")), 200);
    assert_eq!(used(&gateway, "partner"), 3);
    assert_eq!(admin(&gateway, "PUT /plans/silver", r#"{"limit": "1/s", "burst": 7}"#).0, 201);
    gateway.signal(Signal::KILL);
    assert!(!gateway.wait_exit().success());
    let again = Gateway::start(&text);
    let silver = json!({ "name": "silver", "limit": "1/s", "burst": 7, "declared": false });
    assert_eq!(admin(&again, "GET /plans/silver", "").1, silver);
    assert_eq!(admin(&again, "GET /consumers/partner", "").1["plans"], json!(["gold"]));
    assert_eq!((0..6).map(|_| keyed(&again, "/a", &key)).filter(|status| *status == 200).count(), 4);
}

#[test]
fn nothing_that_was_used_is_lost_when_the_process_is_told_to_end() {
    let folder = Folder::new();
    let text = yaml(&store(&folder), FREE, ", plan: free");
    for round in 1..=3 {
        let gateway = Gateway::start(&text);
        assert_eq!((keyed(&gateway, "/a", "shop-app-key-0001"), used(&gateway, "shop-app")), (200, round));
        gateway.signal(Signal::TERM);
        assert!(gateway.wait_exit().success());
    }
}

#[test]
fn another_process_hears_of_plans_and_what_both_admit_adds_up() {
    let folder = Folder::new();
    let text = yaml(&store(&folder), "", "");
    let (one, other) = (Gateway::start(&text), Gateway::start(&text));
    assert_eq!(admin(&one, "PUT /plans/gold", r#"{"limit": "2/day"}"#).0, 201);
    let key = partner(&one, "gold");
    wait_until("the other one knows the plan", LIMIT, || {
        (admin(&other, "GET /consumers/partner", "").1["plans"] == json!(["gold"])).then_some(())
    });
    wait_until("the other one knows the key", LIMIT, || (keyed(&other, "/out", &key) == 200).then_some(()));
    for gateway in [&one, &other] {
        assert_eq!([0; 3].map(|_| keyed(gateway, "/a", &key)), [200, 200, 429], "each counts what it admits");
    }
    wait_until("what both admitted", LIMIT, || (used(&one, "partner") == 4).then_some(()));
    wait_until("the same", LIMIT, || (used(&other, "partner") == 4).then_some(()));
}

#[test]
fn who_is_on_a_plan_that_the_file_has_no_more_is_refused_and_the_log_says_so() {
    let folder = Folder::new();
    let text = yaml(&store(&folder), FREE, "");
    let gateway = Gateway::start(&text);
    let key = partner(&gateway, "free");
    assert_eq!(keyed(&gateway, "/a", &key), 200);
    assert_eq!(admin(&gateway, "DELETE /plans/free", "").0, 409);
    gateway.rewrite(&yaml(&store(&folder), "", ""));
    wait_until("the plan is gone", LIMIT, || (keyed(&gateway, "/a", &key) == 403).then_some(()));
    let told = gateway.stderr();
    assert!(told.contains("consumer `partner` of the store is on plan `free`"), "{told}");
    assert_eq!(admin(&gateway, "PUT /plans/free", r#"{"limit": "9/day"}"#).0, 201);
    assert_eq!((keyed(&gateway, "/a", &key), keyed(&gateway, "/a", "shop-app-key-0001")), (200, 200));
}
