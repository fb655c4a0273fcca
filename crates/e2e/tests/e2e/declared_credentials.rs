//! Credentials of the configuration that end, are disabled, or are cut off while the gateway runs.

use std::collections::HashSet;
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::{Certificates, Client, Gateway, wait_until};
use rustls::version::TLS13;
use serde_json::Value;

use crate::signatures::{SECRET, shell, signed};

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
         - {{ name: items, match: {{ path: /items }}, answer: {{ body: ok }}, policies: {{ token_auth: {{}} }} }}\n\
         consumers:\n  - name: shop-app\n    keys: [{keys}]\n    basic:\n      \
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
    let told = gateway.admin("GET /consumers/shop-app", "").1;
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
    assert_eq!(gateway.admin("PUT /consumers/shop-app", r#"{"disabled": true}"#).0, 200);
    for (path, field) in &ways {
        assert_eq!(seen(path, field), HashSet::from([401]), "{path}");
    }
    assert_eq!(login(&gateway, 1).0, 401);
    drop(gateway);
    let gateway = Gateway::start(&yaml(&store, KEYS));
    assert_eq!(keyed(&gateway, 1), 401);
    assert_eq!(gateway.admin("GET /consumers/shop-app", "").1["disabled"], true);
    assert_eq!(gateway.admin("PUT /consumers/shop-app", r#"{"disabled": false}"#).0, 200);
    assert_eq!(keyed(&gateway, 1), 200);
}

#[test]
fn who_shows_nothing_is_let_in_no_more_once_the_anonymous_consumer_is_cut_off() {
    let folder = Folder::new();
    let store = folder.path().join("daemun.db").display().to_string();
    let yaml = format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nadmin: {{ bind: 127.0.0.1:0 }}\n\
         store: {{ path: \"{store}\" }}\npolicies: {{ key_auth: {{ header: X-Api-Key }}, basic_auth: {{}} }}\nroutes:\n  \
         - {{ name: any, match: {{ path: /any }}, answer: {{ body: ok }}, authenticate: {{ any: [key_auth, basic_auth], anonymous: guest }} }}\n  \
         - {{ name: one, match: {{ path: /one }}, answer: {{ body: ok }}, policies: {{ basic_auth: off }}, authenticate: {{ anonymous: guest }} }}\n\
         consumers:\n  - {{ name: guest, roles: [reader] }}\n  - {{ name: shop-app, keys: [shop-app-key-0001], basic: {{ username: robot, password: a-long-password }} }}\n"
    );
    let gateway = Gateway::start(&yaml);
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    let mut seen = |path: &str, field: &str| clients.iter_mut().map(|c| get(c, path, field)).collect::<HashSet<u16>>();
    let (nothing, key) = ("X-None: 1", "X-Api-Key: shop-app-key-0001");
    let (let_in, refused) = (HashSet::from([200]), HashSet::from([401]));
    for path in ["/any", "/one"] {
        assert_eq!((seen(path, nothing), seen(path, key)), (let_in.clone(), let_in.clone()), "{path}");
    }
    assert_eq!(gateway.admin("PUT /consumers/guest", r#"{"disabled": true}"#).0, 200);
    for path in ["/any", "/one"] {
        assert_eq!((seen(path, nothing), seen(path, key)), (refused.clone(), let_in.clone()), "{path}");
    }
    drop(gateway);
    let gateway = Gateway::start(&yaml);
    let plain = |path: &str| get(&mut gateway.connect(), path, nothing);
    assert_eq!(["/any", "/one"].map(plain), [401, 401]);
    assert_eq!(gateway.admin("PUT /consumers/guest", r#"{"disabled": false}"#).0, 200);
    assert_eq!(["/any", "/one"].map(plain), [200, 200]);
}

/// A request that is signed with a private key now.
fn signed_by_key(folder: &Folder) -> String {
    let script = "cd \"$FOLDER\"\ncreated=$(date +%s)\n\
        input=\"(\\\"@method\\\" \\\"@authority\\\" \\\"@path\\\" \\\"@query\\\");created=$created;keyid=\\\"partner-2026\\\"\"\n\
        printf '\"@method\": GET\\n\"@authority\": a\\n\"@path\": /partner\\n\"@query\": ?\\n\"@signature-params\": %s' \"$input\" > base.txt\n\
        signature=$(openssl pkeyutl -sign -inkey partner.key -rawin -in base.txt | openssl base64 -A)\n\
        printf 'Signature-Input: sig1=%s\\nSignature: sig1=:%s:' \"$input\" \"$signature\"\n";
    let printed = shell(script, &[("FOLDER", &folder.path().display().to_string())]);
    printed.trim().replace('\n', "\r\n")
}

#[test]
fn what_signs_and_certificates_of_the_file_are_revoked_by_their_ids_at_once_and_for_good() {
    let (folder, certificates) = (Folder::new(), Certificates::new());
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue_to("/O=Shop/CN=orders", "orders", "ca", "DNS:orders.shop.test");
    certificates.issue_to("/O=Shop/CN=stock", "stock", "ca", "DNS:stock.shop.test");
    let own = folder.path().display().to_string();
    let make = "cd \"$FOLDER\"; openssl genpkey -algorithm ed25519 -out partner.key; openssl pkey -in partner.key -pubout -out partner.pem";
    shell(make, &[("FOLDER", &own)]);
    let ok = "answer: { body: ok }";
    let yaml = format!(
        "workers: 2\naccess_log: off\nlisteners:\n  - {{ bind: \"127.0.0.1:0\" }}\n  \
         - {{ bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ {} }}], client_ca: \"{}\", client_auth: optional }} }}\n\
         admin: {{ bind: 127.0.0.1:0 }}\nstore: {{ path: \"{own}/daemun.db\" }}\nroutes:\n  \
         - {{ name: shop, match: {{ path: /shop }}, {ok}, policies: {{ hmac_auth: {{ replay: allow }} }} }}\n  \
         - {{ name: partner, match: {{ path: /partner }}, {ok}, policies: {{ signature_auth: {{ replay: allow }} }} }}\n  \
         - {{ name: orders, match: {{ path: /orders }}, {ok}, policies: {{ mtls_auth: {{}} }} }}\n\
         consumers:\n  - {{ name: shop-app, hmac: {{ id: shop, secret: {SECRET} }} }}\n  \
         - {{ name: partner, signing_keys: {{ id: partner-2026, algorithm: ed25519, public_key: \"${{file:{own}/partner.pem}}\" }} }}\n  \
         - {{ name: shop-orders, certificates: [{{ san: orders.shop.test }}, {{ san: stock.shop.test }}] }}\n",
        certificates.pair("a"),
        certificates.path("ca.crt"),
    );
    let (hmac, key) = (format!("{}\r\n", signed("GET", "/shop", "")), signed_by_key(&folder));
    let statuses = |gateway: &Gateway| {
        let by_certificate = |name: &str| {
            let client = certificates.client(Some(name), &["http/1.1"], &[&TLS13]);
            get(&mut Client::over(client.connect(&gateway.addresses()[1], "a.test")), "/orders", "X-None: 1")
        };
        let by_hmac = gateway.connect().call(&hmac).status;
        [by_hmac, get(&mut gateway.connect(), "/partner", &key), by_certificate("orders"), by_certificate("stock")]
    };
    let gateway = Gateway::start(&yaml);
    assert_eq!(statuses(&gateway), [200; 4]);
    let ids = ["shop-app", "partner", "shop-orders"].map(|name| {
        let told = gateway.admin(&format!("GET /consumers/{name}"), "").1;
        told["credentials"][0]["id"].as_str().unwrap().to_owned()
    });
    assert_eq!((ids[0].as_str(), ids[1].as_str()), ("signer:shop", "signer:partner-2026"));
    assert!(ids[2].starts_with("certificate:"), "{}", ids[2]);
    let mut wanted = [200; 4];
    for (n, id) in ids.iter().enumerate() {
        let told = gateway.admin("POST /revocations", &format!(r#"{{"credential": "{id}"}}"#));
        assert_eq!((told.0, &told.1["revoked"]), (200, &true.into()), "{}", told.1);
        wanted[n] = 401;
        assert_eq!(statuses(&gateway), wanted, "{id}");
    }
    drop(gateway);
    assert_eq!(statuses(&Gateway::start(&yaml)), [401, 401, 401, 200]);
}

#[test]
fn a_name_that_the_configuration_comes_to_have_is_its_own_and_the_log_says_what_is_good_no_more() {
    let folder = Folder::new();
    let store = folder.path().join("daemun.db").display().to_string();
    let text = yaml(&store, "shop-app-key-0001");
    let gateway = Gateway::start(&text);
    let keys = ["ann", "partner"].map(|name| {
        assert_eq!(gateway.admin(&format!("PUT /consumers/{name}"), "{}").0, 201);
        let made = gateway.admin(&format!("POST /consumers/{name}/credentials"), r#"{"kind": "key"}"#).1;
        made["key"].as_str().unwrap().to_owned()
    });
    // cut off and let in again, it stands in the store as well
    for body in [r#"{"disabled": true}"#, r#"{"disabled": false}"#] {
        assert_eq!(gateway.admin("PUT /consumers/shop-app", body).0, 200);
    }
    let by = |gateway: &Gateway, key: &str| get(&mut gateway.connect(), "/keyed", &format!("X-Api-Key: {key}"));
    let opened = |gateway: &Gateway| keys.each_ref().map(|key| by(gateway, key));
    let told = "the configuration and the store both have `ann`, `partner`: what the store has of them";
    assert_eq!(opened(&gateway), [200, 200]);
    assert!(!gateway.stderr().contains("both have"), "{}", gateway.stderr());
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let named = format!(
        "{text}  - {{ name: partner, keys: [partner-key-0000001] }}\nusers:\n  - {{ name: ann, password: \"{hash}\" }}\n"
    );
    gateway.rewrite(&named);
    wait_until("the names are the configuration's", LIMIT, || (opened(&gateway) == [401, 401]).then_some(()));
    wait_until("the log says so", LIMIT, || gateway.stderr().contains(told).then_some(()));
    assert_eq!(by(&gateway, "partner-key-0000001"), 200);
    drop(gateway);
    let gateway = Gateway::start(&named);
    wait_until("the log says so at the start", LIMIT, || gateway.stderr().contains(told).then_some(()));
    // as the log says
    let told = gateway.admin("GET /consumers/partner", "").1;
    let id = told["credentials"].as_array().unwrap().iter().find(|one| one.get("revoked").is_none()).unwrap();
    let gone = format!("DELETE /consumers/partner/credentials/{}", id["id"].as_str().unwrap());
    assert_eq!((gateway.admin(&gone, "").0, gateway.admin("DELETE /consumers/ann", "").0), (200, 200));
    drop(gateway);
    let gateway = Gateway::start(&named);
    gateway.rewrite(&format!("{named}# anew\n"));
    wait_until("what comes behind it in the log", LIMIT, || gateway.stderr().contains(" reload: ").then_some(()));
    assert!(!gateway.stderr().contains("both have"), "{}", gateway.stderr());
}
