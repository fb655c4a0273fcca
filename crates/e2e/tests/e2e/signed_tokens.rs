//! Signed tokens of the gateway's own: their keys outlive the process, are those of every process with the same store, change under load,
//! and open nothing without the key of the store.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daemun_e2e::gateway::{Folder, Signal};
use daemun_e2e::{Client, Gateway, wait_until};
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

const STORE_KEY: &str = "0123456789abcdef0123456789abcdef";

fn yaml(store: &str, key: &str, access: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstore: {{ path: \"{store}\", key: {key} }}\n\
         tokens:\n  shop:\n    issuer: https://api.shop.test\n    max_tokens: 1000000\n    access: {{ format: jwt{access} }}\n\
         routes:\n  - {{ name: login, match: {{ path: /auth }}, tokens: shop }}\n  \
         - {{ name: logout, match: {{ path: /revoke }}, tokens: {{ service: shop, endpoint: revoke }} }}\n  \
         - {{ name: keys, match: {{ path: /keys }}, tokens: {{ service: shop, endpoint: jwks }} }}\n  \
         - name: items\n    match: {{ path: /items }}\n    answer: {{ body: items }}\n    policies: {{ token_auth: {{}} }}\n\
         consumers: [{{ name: shop-app, keys: [shop-app-key-0001] }}]\n"
    )
}

fn store(folder: &Folder) -> String {
    folder.path().join("daemun.db").display().to_string()
}

fn token(client: &mut Client) -> String {
    let answer =
        client.call("POST /auth HTTP/1.1\r\nHost: a\r\nX-Api-Key: shop-app-key-0001\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

fn call(client: &mut Client, token: &str) -> u16 {
    client.call(format!("GET /items HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")).status
}

/// Name of the key that a token is signed with.
fn key_of(token: &str) -> String {
    let head = BASE64URL_NOPAD.decode(token.split('.').next().unwrap().as_bytes()).unwrap();
    let head: Value = serde_json::from_slice(&head).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

/// Names of the keys that are published.
fn keys(client: &mut Client) -> BTreeSet<String> {
    let answer = client.call("GET /keys HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn keys_outlive_the_process_and_are_those_of_every_process_with_the_store() {
    let folder = Folder::new();
    let yaml = yaml(&store(&folder), STORE_KEY, "");
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.connect();
    let first = token(&mut client);
    let published = keys(&mut client);
    assert_eq!(published, BTreeSet::from([key_of(&first)]));
    let other = Gateway::start(&yaml);
    let mut there = other.connect();
    assert_eq!(keys(&mut there), published);
    assert_eq!(call(&mut there, &first), 200);
    let second = token(&mut there);
    assert_eq!(key_of(&second), key_of(&first));
    wait_until("the first process knows it", Duration::from_secs(20), || {
        (call(&mut client, &second) == 200).then_some(())
    });
    for gateway in [gateway, other] {
        gateway.signal(Signal::KILL);
        let _ = gateway.wait_exit();
    }
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.connect();
    assert_eq!([&first, &second].map(|token| call(&mut client, token)), [200, 200]);
    assert_eq!(keys(&mut client), published);
    assert_eq!(key_of(&token(&mut client)), key_of(&first));
    // neither the keys nor the key of the store are in the store's files in clear
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let is_there = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        // an elliptic-curve private key in DER begins with its version and the length of its 32 bytes (RFC 5915)
        assert!(!is_there(STORE_KEY.as_bytes()) && !is_there(&[2, 1, 1, 4, 32]));
    }
}

#[test]
fn without_the_key_of_the_store_nothing_starts() {
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&store(&folder), STORE_KEY, ""));
    let first = token(&mut gateway.connect());
    drop(gateway);
    let wrong = "ffffffffffffffffffffffffffffffff";
    let refused = Gateway::launch(Folder::new(), &yaml(&store(&folder), wrong, ""), &[]).err().expect("it is refused");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("the keys that tokens of `shop` are signed with cannot be opened with this key"), "{said}");
    assert!(said.contains("store.key") && !said.contains(wrong), "{said}");
    let missing = yaml(&store(&folder), STORE_KEY, "").replace(&format!(", key: {STORE_KEY}"), "");
    let refused = Gateway::launch(Folder::new(), &missing, &[]).err().expect("it is refused");
    assert!(refused.stderr.contains("`store.key` is missing to seal the keys under"), "{}", refused.stderr);
    let gateway = Gateway::start(&yaml(&store(&folder), STORE_KEY, ""));
    assert_eq!(call(&mut gateway.connect(), &first), 200);
}

#[test]
fn the_admin_listener_revokes_what_is_as_long_as_it_may_be() {
    let folder = Folder::new();
    let key = "k".repeat(512);
    let yaml = yaml(&store(&folder), STORE_KEY, "")
        .replace("store:", "admin: { bind: 127.0.0.1:0 }\nstore:")
        .replace("keys: [", &format!("keys: [{key}, "));
    let gateway = Gateway::start(&yaml);
    let revoke = |body: &str| {
        let (status, told) = gateway.admin("POST /revocations", body);
        (status, told.to_string())
    };
    let mut client = gateway.connect();
    let (one, other) = (token(&mut client), token(&mut client));
    assert!(one.len() > 300, "{one}");
    let (status, told) = revoke(&format!(r#"{{"token": "{one}"}}"#));
    assert_eq!(status, 200, "{told}");
    assert_eq!((call(&mut client, &one), call(&mut client, &other)), (401, 200));
    let mut ask =
        || client.call(format!("POST /auth HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(ask().status, 200);
    assert_eq!(revoke(&format!(r#"{{"key": "{key}"}}"#)).0, 200);
    assert_eq!(ask().status, 401);
    for (member, most) in [("token", 8192), ("key", 512), ("credential", 512), ("subject", 512)] {
        let (fits, longer) = ("x".repeat(most), "x".repeat(most + 1));
        assert_eq!(revoke(&format!(r#"{{"{member}": "{fits}"}}"#)).0, 200, "{member}");
        let (status, told) = revoke(&format!(r#"{{"{member}": "{longer}"}}"#));
        assert!(status == 400 && told.contains("bytes and no control characters"), "{member}: {told}");
    }
}

#[test]
fn a_revoked_token_is_refused_at_once_on_every_worker() {
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&store(&folder), STORE_KEY, ""));
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    let mut all = |token: &str| clients.iter_mut().map(|client| call(client, token)).collect::<HashSet<u16>>();
    let mut client = gateway.connect();
    let (one, other) = (token(&mut client), token(&mut client));
    assert_eq!((all(&one), all(&other)), (HashSet::from([200]), HashSet::from([200])));
    let form = format!("token={one}");
    let answer = client.call(format!(
        "POST /revoke HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ));
    assert_eq!(answer.status, 200);
    assert_eq!((all(&one), all(&other)), (HashSet::from([401]), HashSet::from([200])));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "whether a token may have ended is told by the real clock")]
fn keys_change_under_load_without_a_refused_call() {
    const LIFETIME: Duration = Duration::from_secs(3);
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&store(&folder), STORE_KEY, ", lifetime: 3s, rotate: 3s"));
    let (seen, done) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    let work = || {
        let mut client = gateway.connect();
        while !done.load(Ordering::Relaxed) {
            let began = Instant::now();
            let token = token(&mut client);
            let (status, published) = (call(&mut client, &token), keys(&mut client));
            // a machine that stands still for so long has seen it end
            if began.elapsed() < LIFETIME {
                assert_eq!(status, 200);
            }
            assert!(published.contains(&key_of(&token)), "{published:?}");
            assert!((1..=5).contains(&published.len()), "{published:?}");
            seen.lock().unwrap().insert(key_of(&token));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        wait_until("three keys have signed", Duration::from_secs(60), || {
            let ended = workers.iter().any(|worker| worker.is_finished());
            (ended || seen.lock().unwrap().len() >= 3).then_some(())
        });
        done.store(true, Ordering::Relaxed);
    });
    assert!(seen.lock().unwrap().len() >= 3);
    assert!(!gateway.stderr().contains("signing_keys"), "{}", gateway.stderr());
}
