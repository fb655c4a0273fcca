//! Tokens of the gateway's own: given out, used, refreshed, revoked, and not lost, whatever happens to the process.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use daemun_e2e::gateway::{Folder, Signal};
use daemun_e2e::wire::Address;
use daemun_e2e::{Client, Gateway, wait_until};
use serde_json::Value;

const KEY: &str = "X-Api-Key: shop-app-key-0001";

fn yaml(store: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nadmin: {{ bind: 127.0.0.1:0 }}\n\
         store: {{ path: \"{store}\" }}\ntokens: {{ shop: {{ max_tokens: 1000000 }} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: shop }}\n  \
         - {{ name: logout, match: {{ path: /revoke }}, tokens: {{ service: shop, endpoint: revoke }} }}\n  \
         - name: items\n    match: {{ path: /items }}\n    answer: {{ body: items }}\n    policies: {{ token_auth: {{}} }}\n\
         consumers: [{{ name: shop-app, keys: [shop-app-key-0001] }}]\n"
    )
}

/// A store that outlives the gateways that have it.
fn store(folder: &Folder) -> String {
    folder.path().join("daemun.db").display().to_string()
}

fn post(client: &mut Client, path: &str, field: &str, form: &str) -> (u16, Value) {
    let kind = if form.is_empty() { "" } else { "Content-Type: application/x-www-form-urlencoded\r\n" };
    let field = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
    let length = form.len();
    let answer =
        client.call(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{field}{kind}Content-Length: {length}\r\n\r\n{form}"));
    (answer.status, answer.json())
}

/// What the admin listener says of a revocation.
fn revoke(host: &Address, body: &str) -> (u16, Value) {
    let length = body.len();
    let kind = "Content-Type: application/json";
    let request =
        format!("POST /revocations HTTP/1.1\r\nHost: {host}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    let answer = Client::connect(host).call(request);
    (answer.status, answer.json())
}

fn call(client: &mut Client, token: &str) -> u16 {
    client.call(format!("GET /items HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")).status
}

fn given(told: &Value) -> (String, String) {
    let text = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("no {name} in {told}")).to_owned();
    (text("access_token"), text("refresh_token"))
}

#[test]
fn a_token_is_good_on_every_worker_until_it_is_revoked() {
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&store(&folder)));
    // as many connections as it takes to have some at each worker
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    let mut all = |token: &str| clients.iter_mut().map(|client| call(client, token)).collect::<HashSet<u16>>();
    let mut client = gateway.connect();
    let (access, refresh) = given(&post(&mut client, "/auth", KEY, "").1);
    assert_eq!(all(&access), HashSet::from([200]));
    assert_eq!(all(&refresh), HashSet::from([401]));
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    let (next, _) = given(&post(&mut client, "/auth", "", &form).1);
    assert_eq!(all(&next), HashSet::from([200]));
    assert_eq!(post(&mut client, "/revoke", "", &format!("token={access}")).0, 200);
    assert_eq!(all(&access), HashSet::from([401]));
    assert_eq!(all(&next), HashSet::from([200]));
    assert_eq!(post(&mut client, "/auth", "", &form).0, 400);
    assert_eq!(all(&next), HashSet::from([401]));
    let (more, _) = given(&post(&mut client, "/auth", KEY, "").1);
    assert_eq!(revoke(gateway.admin_address(), r#"{"subject": "shop-app"}"#).0, 200);
    assert_eq!(all(&more), HashSet::from([401]));
}

#[test]
fn wrong_keys_shut_out_no_right_one_of_the_same_address() {
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&store(&folder)));
    let mut client = gateway.connect();
    for number in 0..50 {
        assert_eq!(post(&mut client, "/auth", &format!("X-Api-Key: no-such-key-0000{number:02}"), "").0, 401);
    }
    assert_eq!(post(&mut client, "/auth", KEY, "").0, 200);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "whether a moment has passed is told by the real clock")]
fn what_is_given_out_from_now_on_cannot_be_revoked() {
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&store(&folder)));
    let mut client = gateway.connect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for what in [r#""all": true"#, r#""subject": "shop-app""#] {
        for ahead in [3600, 1_000_000_000] {
            let (status, told) = revoke(gateway.admin_address(), &format!("{{{what}, \"before\": {}}}", now + ahead));
            assert_eq!(status, 400, "{told}");
            assert!(told["detail"].as_str().unwrap().starts_with("`before` is to come"), "{told}");
        }
        let (access, _) = given(&post(&mut client, "/auth", KEY, "").1);
        assert_eq!(revoke(gateway.admin_address(), &format!("{{{what}, \"before\": {}}}", now - 3600)).0, 200);
        assert_eq!(call(&mut client, &access), 200);
    }
    assert_eq!(revoke(gateway.admin_address(), r#"{"all": true}"#).0, 200);
    wait_until("what is given out later is good", Duration::from_secs(10), || {
        let (access, _) = given(&post(&mut client, "/auth", KEY, "").1);
        (call(&mut client, &access) == 200).then_some(())
    });
}

#[test]
fn a_revocation_that_is_not_kept_is_in_force_and_told_and_logged_as_such() {
    let folder = Folder::new();
    let path = store(&folder);
    let gateway = Gateway::start(&yaml(&path));
    let mut client = gateway.connect();
    let (access, _) = given(&post(&mut client, "/auth", KEY, "").1);
    // somebody else writes to the store, and does not end
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for (body, what) in [
        (format!(r#"{{"token": "{access}"}}"#), "a token was revoked"),
        (r#"{"subject": "shop-app"}"#.to_owned(), "every token of `shop-app` was revoked"),
    ] {
        let (status, told) = revoke(gateway.admin_address(), &body);
        assert_eq!(status, 503, "{told}");
        assert!(told["detail"].as_str().unwrap().contains("comes back"), "{told}");
        assert_eq!(call(&mut client, &access), 401, "it is in force");
        let line = wait_until("it is logged", Duration::from_secs(10), || {
            gateway.stderr().lines().find(|line| line.contains(what)).map(str::to_owned)
        });
        assert!(line.contains("audit") && line.contains("not kept"), "{line}");
        assert!(!gateway.stderr().contains(&access));
    }
    drop(other);
    assert_eq!(revoke(gateway.admin_address(), r#"{"subject": "shop-app"}"#).0, 200);
}

/// What was acknowledged.
#[derive(Default)]
struct Known {
    /// Tokens that are good.
    good: Vec<String>,
    /// Tokens that were revoked.
    revoked: Vec<String>,
}

/// Asks for tokens and revokes every third, until the gateway is gone.
fn work(gateway: &Gateway, known: &Arc<Mutex<Known>>, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (address, known, stop) = (gateway.address().clone(), Arc::clone(known), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut count = 0_usize;
        while !stop.load(Ordering::Relaxed) {
            // the gateway is killed under this: whatever is not acknowledged is not counted
            let done = std::panic::catch_unwind(|| {
                let mut client = Client::connect(&address);
                let mut made = Vec::new();
                for _ in 0..10 {
                    let (status, told) = post(&mut client, "/auth", KEY, "");
                    if status != 200 {
                        return;
                    }
                    let access = given(&told).0;
                    known.lock().unwrap().good.push(access.clone());
                    made.push(access);
                }
                for token in made.into_iter().step_by(3) {
                    // from here on it may be revoked
                    known.lock().unwrap().good.retain(|good| *good != token);
                    if post(&mut client, "/revoke", "", &format!("token={token}")).0 == 200 {
                        known.lock().unwrap().revoked.push(token);
                    }
                }
            });
            count += usize::from(done.is_ok());
            if done.is_err() {
                break;
            }
        }
        let _ = count;
    })
}

#[test]
fn twenty_kills_under_load_lose_no_acknowledged_token_or_revocation() {
    let folder = Folder::new();
    let known: Arc<Mutex<Known>> = Arc::default();
    for round in 0..20 {
        let gateway = Gateway::start(&yaml(&store(&folder)));
        let counts = || {
            let known = known.lock().unwrap();
            (known.good.len(), known.revoked.len())
        };
        let before = counts();
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4).map(|_| work(&gateway, &known, &stop)).collect();
        wait_until("tokens were given out and revoked", Duration::from_secs(30), || {
            let now = counts();
            (now.0 >= before.0 + 20 && now.1 > before.1).then_some(())
        });
        gateway.signal(Signal::KILL);
        stop.store(true, Ordering::Relaxed);
        let _ = gateway.wait_exit();
        for thread in threads {
            let _ = thread.join();
        }
        drop(gateway);
        if round % 5 == 4 {
            let gateway = Gateway::start(&yaml(&store(&folder)));
            let known = known.lock().unwrap();
            let mut client = gateway.connect();
            for (tokens, status) in [(&known.good, 200), (&known.revoked, 401)] {
                for token in tokens {
                    assert_eq!(call(&mut client, token), status, "round {round}: {token}");
                }
            }
        }
    }
    let known = known.lock().unwrap();
    assert!(known.good.len() >= 400 && known.revoked.len() >= 20, "{} {}", known.good.len(), known.revoked.len());
}

#[test]
fn what_takes_over_knows_the_tokens_that_were_given_out_and_revoked_before() {
    let folder = Folder::new();
    let gateway = Gateway::start(&yaml(&store(&folder)));
    let mut old = gateway.connect();
    let tokens: Vec<String> = (0..3).map(|_| given(&post(&mut old, "/auth", KEY, "").1).0).collect();
    assert_eq!(post(&mut old, "/revoke", "", &format!("token={}", tokens[0])).0, 200);
    gateway.signal(Signal::USR2);
    wait_until("the successor serves", Duration::from_secs(20), || (gateway.ready_lines() == 2).then_some(()));
    // until it has ended, the one that goes takes connections as well
    drop(old);
    assert!(gateway.wait_exit().success());
    let mut new = gateway.connect();
    assert_eq!([0, 1, 2].map(|n| call(&mut new, &tokens[n])), [401, 200, 200]);
}
