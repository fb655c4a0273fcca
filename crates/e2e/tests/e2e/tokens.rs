//! Tokens of the gateway's own: given out, used, refreshed, revoked, and not lost, whatever happens to the process.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use daemun_e2e::gateway::{Folder, Signal, ask_admin};
use daemun_e2e::wire::Address;
use daemun_e2e::{Client, Gateway, wait_until};
use serde_json::Value;

const KEY: &str = "X-Api-Key: shop-app-key-0001";

fn yaml(store: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\n\
         admin: {{ bind: 127.0.0.1:0 }}\n\
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
    ask_admin(host, "POST /revocations", body)
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
    assert_eq!(gateway.metrics().samples()["daemun_tokens"], 2.0);
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
fn a_key_from_before_is_taken_in_by_its_digest_and_its_consumer_is_cut_off_and_let_in_again() {
    let folder = Folder::new();
    let yaml = yaml(&store(&folder));
    let gateway = Gateway::start(&yaml);
    let old = "X-Api-Key: a-key-from-before";
    // of `a-key-from-before`
    let digest = "102dc2b78654a95e98f756fda3a801f9fdcf9a8954e9e0eabf83efbcccd44553";
    assert_eq!(gateway.admin("PUT /consumers/partner", "{}").0, 201);
    let of_partner = "POST /consumers/partner/credentials";
    assert_eq!(post(&mut gateway.connect(), "/auth", old, "").0, 401);
    let (status, told) = gateway.admin(of_partner, &format!(r#"{{"kind": "key", "sha256": "{digest}"}}"#));
    assert_eq!((status, told.get("key")), (201, None), "{told}");
    // the file's own
    let of_file = "21d3a7885988f1be54e40e3bddd98c445cbe635237111353d0bfa963ca72d4e7";
    assert_eq!(gateway.admin(of_partner, &format!(r#"{{"sha256": "{of_file}"}}"#)).0, 409);
    let (access, refresh) = given(&post(&mut gateway.connect(), "/auth", old, "").1);
    assert_eq!(call(&mut gateway.connect(), &access), 200);

    // access tokens end alone, which lasts
    let (other, _) = given(&post(&mut gateway.connect(), "/auth", KEY, "").1);
    let ends = r#"{"subject": "partner", "tokens": "access"}"#;
    assert_eq!(gateway.admin("POST /revocations", ends).0, 200);
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    let seen: Vec<u16> = clients.iter_mut().map(|client| call(client, &access)).collect();
    assert_eq!(seen, [401; 8]);
    assert_eq!(call(&mut gateway.connect(), &other), 200);
    gateway.signal(Signal::KILL);
    let _ = gateway.wait_exit();
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.connect();
    assert_eq!(call(&mut client, &access), 401);
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    let (next, refresh) = given(&post(&mut client, "/auth", "", &form).1);
    assert_eq!(call(&mut client, &next), 200);

    // one that is cut off has neither key nor tokens; let in again, its key alone
    assert_eq!(gateway.admin("PUT /consumers/partner", r#"{"disabled": true}"#).0, 200);
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    let tries = |client: &mut Client| [call(client, &next), post(client, "/auth", "", &form).0];
    assert_eq!((tries(&mut client), post(&mut client, "/auth", old, "").0), ([401, 400], 401));
    assert_eq!(call(&mut client, &other), 200);
    assert_eq!(gateway.admin("PUT /consumers/partner", r#"{"disabled": false}"#).0, 200);
    assert_eq!(tries(&mut client), [401, 400]);
    let (again, _) = given(&post(&mut client, "/auth", old, "").1);
    assert_eq!(call(&mut client, &again), 200);
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

/// Keeps of each of the store's files, in the folder `PLUG`, what it held when it was last synchronized: what a disk has for sure when the
/// power goes.
const PLUG: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int kept(const char *name, int file) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  int done = real(file);
  char link[64], path[4096] = {0}, copy[8192], part[65536];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  if (done != 0 || readlink(link, path, sizeof path - 1) < 0 || !strstr(path, "daemun.db")) return done;
  snprintf(copy, sizeof copy, "%s/%s", getenv("PLUG"), strrchr(path, '/') + 1);
  int to = open(copy, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  ssize_t got;
  for (off_t at = 0; (got = pread(file, part, sizeof part, at)) > 0; at += got)
    if (write(to, part, got) != got) abort();
  close(to);
  return done;
}

int fsync(int file) { return kept("fsync", file); }
int fdatasync(int file) { return kept("fdatasync", file); }
"#;

#[test]
fn with_durability_power_what_was_acknowledged_is_on_the_disk_by_then() {
    let tools = Folder::new();
    let (source, library) = (tools.write("plug.c", PLUG), tools.path().join("plug.so"));
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success());
    let preload = library.display().to_string();
    for (durability, outlive) in [("power", true), ("process", false)] {
        let (live, disk) = (Folder::new(), Folder::new());
        let yaml_of = |folder: &Folder| {
            yaml(&store(folder)).replace("daemun.db\" }", &format!("daemun.db\", durability: {durability} }}"))
        };
        let plug = disk.path().display().to_string();
        let environment = [("LD_PRELOAD", preload.as_str()), ("PLUG", plug.as_str())];
        let gateway = Gateway::launch(Folder::new(), &yaml_of(&live), &environment).expect("it starts");
        let mut client = gateway.connect();
        let (revoked, refresh) = given(&post(&mut client, "/auth", KEY, "").1);
        assert_eq!(post(&mut client, "/revoke", KEY, &format!("token={refresh}")).0, 200);
        let (good, _) = given(&post(&mut client, "/auth", KEY, "").1);
        // nothing that comes later than the answer counts: it is killed, and what goes on is what the disk had by then
        gateway.signal(Signal::KILL);
        let _ = gateway.wait_exit();
        let after = Gateway::start(&yaml_of(&disk));
        let mut client = after.connect();
        assert_eq!(call(&mut client, &good) == 200, outlive, "{durability}");
        assert_eq!(call(&mut client, &revoked), 401, "{durability}");
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Known {
    /// Tokens that are good.
    good: Vec<String>,
    /// Tokens that were revoked by themselves, with their login, with all of their subject, and with the key that they were given for.
    alone: Vec<String>,
    with_login: Vec<String>,
    with_subject: Vec<String>,
    with_key: Vec<String>,
    /// Refresh tokens and keys that were revoked.
    refreshes: Vec<String>,
    keys: Vec<String>,
}

impl Known {
    fn revoked(&self) -> [&Vec<String>; 4] {
        [&self.alone, &self.with_login, &self.with_subject, &self.with_key]
    }

    /// How many are good, and how many of each kind were revoked.
    fn counts(&self) -> (usize, [usize; 4]) {
        (self.good.len(), self.revoked().map(Vec::len))
    }
}

/// Consumers whose tokens are revoked together, and keys that are revoked.
const SUBJECTS: usize = 4;
const SPARE: usize = 400;

fn spare(number: usize) -> String {
    format!("spare-key-{number:07}")
}

/// The same with those consumers.
fn yaml_of_many(store: &str) -> String {
    let subjects: String =
        (0..SUBJECTS).map(|n| format!("  - {{ name: subject-{n}, keys: [subject-key-000000{n}] }}\n")).collect();
    let keys: Vec<String> = (0..SPARE).map(spare).collect();
    let spare = format!("  - {{ name: spare, keys: [{}] }}\n", keys.join(", "));
    let shop = "consumers: [{ name: shop-app, keys: [shop-app-key-0001] }]\n";
    let many = format!("consumers:\n  - {{ name: shop-app, keys: [shop-app-key-0001] }}\n{subjects}{spare}");
    yaml(store).replace(shop, &many)
}

/// One of those who ask for tokens and revoke some.
struct Worker {
    address: Address,
    admin: Address,
    subject: usize,
    known: Arc<Mutex<Known>>,
    next_key: Arc<AtomicUsize>,
}

impl Worker {
    /// A pair of tokens for a key; `None` where none is given.
    fn pair(client: &mut Client, key: &str) -> Option<(String, String)> {
        let (status, told) = post(client, "/auth", &format!("X-Api-Key: {key}"), "");
        (status == 200).then(|| given(&told))
    }

    fn note(&self, note: impl FnOnce(&mut Known)) {
        note(&mut self.known.lock().unwrap());
    }

    /// Asks for tokens and revokes some in each way. The gateway is killed under this: what is not acknowledged is not noted.
    fn round(&self) -> Option<()> {
        let mut client = Client::connect(&self.address);
        let mut made = Vec::new();
        for _ in 0..10 {
            let (access, _) = Self::pair(&mut client, "shop-app-key-0001")?;
            self.note(|known| known.good.push(access.clone()));
            made.push(access);
        }
        for token in made.into_iter().step_by(3) {
            // from here on it may be revoked
            self.note(|known| known.good.retain(|good| *good != token));
            if post(&mut client, "/revoke", "", &format!("token={token}")).0 == 200 {
                self.note(|known| known.alone.push(token));
            }
        }
        let (access, refresh) = Self::pair(&mut client, "shop-app-key-0001")?;
        if post(&mut client, "/revoke", "", &format!("token={refresh}")).0 == 200 {
            self.note(|known| {
                known.with_login.push(access);
                known.refreshes.push(refresh);
            });
        }
        let (access, _) = Self::pair(&mut client, &format!("subject-key-000000{}", self.subject))?;
        if revoke(&self.admin, &format!(r#"{{"subject": "subject-{}"}}"#, self.subject)).0 == 200 {
            self.note(|known| known.with_subject.push(access));
        }
        let number = self.next_key.fetch_add(1, Ordering::Relaxed);
        if number < SPARE {
            let key = spare(number);
            let (access, _) = Self::pair(&mut client, &key)?;
            if revoke(&self.admin, &format!(r#"{{"key": "{key}"}}"#)).0 == 200 {
                self.note(|known| {
                    known.with_key.push(access);
                    known.keys.push(key);
                });
            }
        }
        Some(())
    }

    fn work(self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.round()));
            if !matches!(done, Ok(Some(()))) {
                return;
            }
        }
    }
}

/// Whether everything that was acknowledged holds.
fn hold(gateway: &Gateway, known: &Known, round: usize) {
    let mut client = gateway.connect();
    for token in &known.good {
        assert_eq!(call(&mut client, token), 200, "round {round}: {token}");
    }
    for (way, tokens) in known.revoked().into_iter().enumerate() {
        for token in tokens {
            assert_eq!(call(&mut client, token), 401, "round {round}, revoked in way {way}: {token}");
        }
    }
    for refresh in &known.refreshes {
        let form = format!("grant_type=refresh_token&refresh_token={refresh}");
        assert_eq!(post(&mut client, "/auth", "", &form).0, 400, "round {round}: {refresh}");
    }
    for key in &known.keys {
        assert!(Worker::pair(&mut client, key).is_none(), "round {round}: {key}");
    }
}

#[test]
fn twenty_kills_under_load_lose_no_acknowledged_token_or_revocation_of_any_kind() {
    let folder = Folder::new();
    let yaml = yaml_of_many(&store(&folder));
    let known: Arc<Mutex<Known>> = Arc::default();
    let next_key: Arc<AtomicUsize> = Arc::default();
    for round in 0..20 {
        let gateway = Gateway::start(&yaml);
        let (good, revoked) = known.lock().unwrap().counts();
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..SUBJECTS)
            .map(|subject| {
                let (address, admin) = (gateway.address().clone(), gateway.admin_address().clone());
                let (known, next_key) = (Arc::clone(&known), Arc::clone(&next_key));
                let (worker, stop) = (Worker { address, admin, subject, known, next_key }, Arc::clone(&stop));
                std::thread::spawn(move || worker.work(&stop))
            })
            .collect();
        wait_until("tokens were given out and revoked", Duration::from_secs(60), || {
            let now = known.lock().unwrap().counts();
            let keys_left = next_key.load(Ordering::Relaxed) < SPARE;
            let mut more = now.1.iter().zip(revoked).map(|(now, before)| *now > before);
            (now.0 >= good + 20 && more.by_ref().take(3).all(|more| more) && (more.next() == Some(true) || !keys_left))
                .then_some(())
        });
        gateway.signal(Signal::KILL);
        stop.store(true, Ordering::Relaxed);
        let _ = gateway.wait_exit();
        for thread in threads {
            let _ = thread.join();
        }
        drop(gateway);
        if round % 5 == 4 {
            hold(&Gateway::start(&yaml), &known.lock().unwrap(), round);
        }
    }
    let (good, revoked) = known.lock().unwrap().counts();
    assert!(good >= 400 && revoked.iter().all(|count| *count >= 10), "{good} {revoked:?}");
}

#[test]
fn what_one_of_two_processes_gives_out_the_other_takes_at_once() {
    let folder = Folder::new();
    let (one, other) = (Gateway::start(&yaml(&store(&folder))), Gateway::start(&yaml(&store(&folder))));
    let (mut first, mut second) = (one.connect(), other.connect());
    for turn in 0..20 {
        let (from, to) = if turn % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let (access, refresh) = given(&post(from, "/auth", KEY, "").1);
        assert_eq!(call(to, &access), 200, "turn {turn}");
        let body = format!("grant_type=refresh_token&refresh_token={refresh}");
        let (next, _) = given(&post(to, "/auth", "", &body).1);
        assert_eq!(call(from, &next), 200, "turn {turn}");
        // once in both of them together
        assert_eq!(post(from, "/auth", "", &body).0, 400, "turn {turn}");
        assert_eq!(call(from, &next), 401, "turn {turn}");
    }
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
