//! Credentials of the configuration that end, are disabled, or are cut off while the gateway runs.

use std::collections::HashSet;
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::{Client, Gateway, wait_until};
use serde_json::Value;

/// How long a reload may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A gateway whose consumer has these keys, and a route for each authenticator.
fn yaml(store: &str, keys: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nadmin: {{ bind: 127.0.0.1:0 }}\n\
         store: {{ path: \"{store}\" }}\ntokens: {{ shop: {{}} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: shop }}\n  \
         - {{ name: keyed, match: {{ path: /keyed }}, answer: {{ body: ok }}, policies: {{ key_auth: {{ header: X-Api-Key }} }} }}\n  \
         - {{ name: basic, match: {{ path: /basic }}, answer: {{ body: ok }}, policies: {{ basic_auth: {{}} }} }}\n  \
         - {{ name: items, match: {{ path: /items }}, answer: {{ body: ok }}, policies: {{ token_auth: {{}} }} }}\n  \
         - {{ name: open, match: {{ path: /open }}, answer: {{ body: ok }}, policies: {{ key_auth: {{ header: X-Api-Key }} }}, \
         authenticate: {{ any: [key_auth], anonymous: guest }} }}\n\
         consumers:\n  - {{ name: guest }}\n  - name: shop-app\n    keys: [{keys}]\n    basic:\n      \
         - {{ username: robot, password: a-long-password }}\n      \
         - {{ username: ended, password: a-long-password, expires: 2020-01-01 }}\n      \
         - {{ username: off, password: a-long-password, disabled: true }}\n"
    )
}

const KEYS: &str = "shop-app-key-0001, { key: shop-app-key-0002, expires: 2100-01-01T00:00:00Z, label: next }, \
                    { key: shop-app-key-0003, expires: 2020-01-01 }, { key: shop-app-key-0004, disabled: true }";

fn get(client: &mut Client, path: &str, field: &str) -> u16 {
    client.call(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).status
}

fn keyed(gateway: &Gateway, n: u8) -> u16 {
    get(&mut gateway.connect(), "/keyed", &format!("X-Api-Key: shop-app-key-000{n}"))
}

fn login(gateway: &Gateway, n: u8) -> (u16, Value) {
    let key = format!("X-Api-Key: shop-app-key-000{n}");
    let answer =
        gateway.connect().call(format!("POST /auth HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Length: 0\r\n\r\n"));
    (answer.status, answer.json())
}

fn admin(gateway: &Gateway, line: &str, body: &str) -> (u16, Value) {
    let (host, length) = (gateway.admin_address(), body.len());
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let answer = Client::connect(host)
        .call(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{kind}Content-Length: {length}\r\n\r\n{body}"));
    (answer.status, answer.json())
}

#[test]
fn a_credential_that_has_ended_or_is_disabled_is_refused_like_one_that_is_not_known() {
    let folder = Folder::new();
    let store = folder.path().join("daemun.db").display().to_string();
    let gateway = Gateway::start(&yaml(&store, KEYS));
    assert_eq!([1, 2, 3, 4, 5].map(|n| keyed(&gateway, n)), [200, 200, 401, 401, 401]);
    // robot, ended, off, and nobody, with the same password
    let logins = [
        "cm9ib3Q6YS1sb25nLXBhc3N3b3Jk",
        "ZW5kZWQ6YS1sb25nLXBhc3N3b3Jk",
        "b2ZmOmEtbG9uZy1wYXNzd29yZA==",
        "bm9ib2R5OmEtbG9uZy1wYXNzd29yZA==",
    ];
    let basic = |login: &str| get(&mut gateway.connect(), "/basic", &format!("Authorization: Basic {login}"));
    assert_eq!(logins.map(basic), [200, 401, 401, 401]);
    assert_eq!([1, 2, 3, 4].map(|n| login(&gateway, n).0), [200, 200, 401, 401]);
    let told = admin(&gateway, "GET /consumers/shop-app", "").1;
    let of = |n: usize, what: &str| told["credentials"][n][what].clone();
    assert_eq!((of(1, "label"), of(1, "expires")), ("next".into(), 4_102_444_800_u64.into()), "{told}");
    assert!(of(0, "last_used").is_u64() && of(1, "last_used").is_u64() && of(2, "last_used").is_null(), "{told}");
}

#[test]
fn logins_end_when_the_key_they_came_from_is_disabled_or_taken_out() {
    let folder = Folder::new();
    let store = folder.path().join("daemun.db").display().to_string();
    let gateway = Gateway::start(&yaml(&store, "shop-app-key-0001, shop-app-key-0002, shop-app-key-0003"));
    let given = [1, 2, 3].map(|n| login(&gateway, n).1["access_token"].as_str().unwrap().to_owned());
    let items = |token: &String| get(&mut gateway.connect(), "/items", &format!("Authorization: Bearer {token}"));
    assert_eq!(given.each_ref().map(items), [200; 3]);
    gateway.rewrite(&yaml(&store, "{ key: shop-app-key-0001, disabled: true }, shop-app-key-0002"));
    wait_until("the key is disabled", LIMIT, || (keyed(&gateway, 1) == 401).then_some(()));
    wait_until("its login has ended", LIMIT, || (items(&given[0]) == 401).then_some(()));
    assert_eq!(given.each_ref().map(items), [401, 200, 401]);
}

#[test]
fn a_consumer_of_the_file_is_cut_off_at_once_on_every_worker_and_after_a_restart() {
    let folder = Folder::new();
    let store = folder.path().join("daemun.db").display().to_string();
    let gateway = Gateway::start(&yaml(&store, KEYS));
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    let mut seen = |path: &str, field: &str| clients.iter_mut().map(|c| get(c, path, field)).collect::<HashSet<u16>>();
    let token = login(&gateway, 1).1["access_token"].as_str().unwrap().to_owned();
    let ways = [
        ("/keyed", "X-Api-Key: shop-app-key-0001".to_owned()),
        ("/basic", "Authorization: Basic cm9ib3Q6YS1sb25nLXBhc3N3b3Jk".to_owned()),
        ("/items", format!("Authorization: Bearer {token}")),
    ];
    for (path, field) in &ways {
        assert_eq!(seen(path, field), HashSet::from([200]), "{path}");
    }
    assert_eq!(admin(&gateway, "PUT /consumers/shop-app", r#"{"disabled": true}"#).0, 200);
    for (path, field) in &ways {
        assert_eq!(seen(path, field), HashSet::from([401]), "{path}");
    }
    assert_eq!(login(&gateway, 1).0, 401);
    drop(gateway);
    let gateway = Gateway::start(&yaml(&store, KEYS));
    assert_eq!(keyed(&gateway, 1), 401);
    assert_eq!(admin(&gateway, "GET /consumers/shop-app", "").1["disabled"], true);
    assert_eq!(admin(&gateway, "PUT /consumers/shop-app", r#"{"disabled": false}"#).0, 200);
    assert_eq!(keyed(&gateway, 1), 200);
}

#[test]
fn nobody_calls_as_an_anonymous_consumer_that_is_cut_off() {
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&folder.path().join("daemun.db").display().to_string(), KEYS));
    let mut client = gateway.connect();
    let key = "X-Api-Key: shop-app-key-0001";
    let mut seen = || (get(&mut client, "/open", "X-Other: a"), get(&mut client, "/open", key));
    assert_eq!(seen(), (200, 200));
    assert_eq!(admin(&gateway, "PUT /consumers/guest", r#"{"disabled": true}"#).0, 200);
    assert_eq!(seen(), (401, 200));
    assert_eq!(admin(&gateway, "PUT /consumers/guest", r#"{"disabled": false}"#).0, 200);
    assert_eq!(seen(), (200, 200));
}
