//! Users on the wire: their passwords are hashed by a command, exchanged for tokens, and checked beside the workers.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use daemun_e2e::gateway::{Folder, binary};
use daemun_e2e::{Broken, Client, Gateway, Origin, Response};

const PASSWORD: &str = "correct horse";

/// What `daemun password hash` says of a password on standard input: its exit code, the hash, and what it notes.
fn hash(password: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(["password", "hash"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the gateway's binary");
    child.stdin.take().expect("a pipe").write_all(password.as_bytes()).expect("the password is read");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn yaml(origin: &Origin, store: &str) -> String {
    let (code, hash, note) = hash(&format!("{PASSWORD}\n"));
    assert_eq!(code, Some(0), "{note}");
    assert!(hash.starts_with("$argon2id$v=19$") && !note.contains(PASSWORD), "{hash} {note}");
    format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstore: {store}\n\
         upstreams: {{ origin: {{ targets: [\"{}\"] }} }}\ntokens: {{ shop: {{ grants: [password, refresh_token] }} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: shop }}\n  \
         - {{ name: items, match: {{ prefix: /items }}, upstream: origin, policies: {{ token_auth: {{}} }} }}\n  \
         - {{ name: basic, match: {{ prefix: /basic }}, upstream: origin, policies: {{ basic_auth: {{ users: embedded }} }} }}\n  \
         - {{ name: open, match: {{ prefix: /open }}, upstream: origin }}\nusers:\n  \
         - {{ name: alice, password: \"{hash}\", roles: [clerk] }}\n  \
         - {{ name: carol, password: \"{hash}\", recovery: [{}] }}\n",
        origin.url(),
        RECOVERY_DIGEST
    )
}

/// A recovery code, and its digest.
const RECOVERY: &str = "dmn_recovery_code_of_carol_0001";
const RECOVERY_DIGEST: &str = "6c911c2a5283c6f69335153a009c4964b34d9b0ec43f78ac28274734556cfc1f";

fn login(name: &str, password: &str, more: &str) -> String {
    let body = format!("grant_type=password&username={name}&password={}{more}", password.replace(' ', "+"));
    format!(
        "POST /auth HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn token(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["access_token"].as_str().expect("an access token").to_owned()
}

fn items(gateway: &Gateway, token: &str) -> u16 {
    let request = format!("GET /items HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    gateway.connect().call(request).status
}

#[test]
fn a_password_is_exchanged_for_tokens_and_reaches_nothing_else() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, "memory"));
    let access = token(&gateway.connect().call(login("alice", PASSWORD, "")));
    assert_eq!(items(&gateway, &access), 200);
    let request = origin.only_request();
    assert_eq!((request.field("x-consumer-name"), request.field("x-consumer-roles")), (Some("alice"), Some("clerk")));
    assert!(!request.has("authorization"), "{}", request.shown());
    let wrong = gateway.connect().call(login("alice", "correct horsf", ""));
    let unknown = gateway.connect().call(login("nobody", PASSWORD, ""));
    for refused in [&wrong, &unknown] {
        assert_eq!((refused.status, &refused.json()["error"]), (400, &"invalid_grant".into()));
        assert_eq!(refused.json()["detail"], wrong.json()["detail"]);
    }
    // `alice:correct horse`, `alice:correct horsf`
    for (credentials, status) in [("YWxpY2U6Y29ycmVjdCBob3JzZQ==", 200), ("YWxpY2U6Y29ycmVjdCBob3JzZg==", 401)] {
        let request = format!("GET /basic HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Basic {credentials}\r\n\r\n");
        assert_eq!(gateway.connect().call(request).status, status);
    }
    let log = gateway.access_log().iter().map(ToString::to_string).collect::<String>();
    assert!(!log.contains("horse") && !log.contains(&access), "{log}");
}

/// How often each is tried.
const EACH: u8 = 2;

#[test]
fn a_name_that_nobody_has_takes_the_work_of_a_wrong_password_and_is_answered_with_the_same_bytes() {
    let origin = Origin::echo();
    let yaml = yaml(&origin, "memory");
    let gateway = Gateway::start(&format!("{yaml}status: {{ bind: 127.0.0.1:0 }}\n"));
    let hashed = || gateway.metrics().samples()["daemun_password_checks_total{by=\"hash\"}"];
    // `alice:correct horsf`, `nobody:correct horsf`
    let basic = |credentials: &str| {
        let request = format!("GET /basic HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Basic {credentials}\r\n\r\n");
        gateway.connect().call(request)
    };
    let asks: [(&dyn Fn() -> Response, u16); 4] = [
        (&|| gateway.connect().call(login("alice", "correct horsf", "")), 400),
        (&|| gateway.connect().call(login("nobody", "correct horsf", "")), 400),
        (&|| basic("YWxpY2U6Y29ycmVjdCBob3JzZg=="), 401),
        (&|| basic("bm9ib2R5OmNvcnJlY3QgaG9yc2Y="), 401),
    ];
    let answers = asks.map(|(ask, status)| {
        let before = hashed();
        let answers: Vec<String> = (0..EACH)
            .map(|_| {
                let answer = ask();
                assert_eq!(answer.status, status, "{}", answer.text());
                answer.without_ids()
            })
            .collect();
        assert!((hashed() - before - f64::from(EACH)).abs() < 0.5, "{before} {}", hashed());
        answers
    });
    let [wrong, unknown, wrong_basic, unknown_basic] = answers;
    assert_eq!((wrong, wrong_basic), (unknown, unknown_basic));
    assert_eq!(gateway.metrics().samples()["daemun_password_checks_total{by=\"bind\"}"], 0.0);
}

#[test]
fn a_recovery_code_is_good_once_also_after_a_restart() {
    let origin = Origin::echo();
    let folder = Folder::new();
    let store = folder.path().join("accounts.db");
    let yaml = yaml(&origin, &format!("{{ path: {} }}", store.display()));
    let first = Gateway::start(&yaml);
    let missing = first.connect().call(login("carol", PASSWORD, ""));
    assert_eq!((missing.status, &missing.json()["otp_required"]), (400, &true.into()));
    let more = format!("&otp={RECOVERY}");
    let access = token(&first.connect().call(login("carol", PASSWORD, &more)));
    drop(first);
    let second = Gateway::start(&yaml);
    let again = second.connect().call(login("carol", PASSWORD, &more));
    assert_eq!((again.status, &again.json()["error"]), (400, &"invalid_grant".into()));
    assert_eq!(items(&second, &access), 200, "what was given for it stays good");
}

/// Of no password that anybody has; checking one takes as long as it may.
const SLOW: &str =
    "$argon2id$v=19$m=262144,t=10,p=1$BwcHBwcHBwcHBwcHBwcHBw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn calls_are_served_while_a_password_is_hashed() {
    let origin = Origin::echo();
    let yaml =
        yaml(&origin, "memory").replace("users:\n", &format!("users:\n  - {{ name: slow, password: \"{SLOW}\" }}\n"));
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.connect();
    // the one worker has it before anything else comes
    client.send_apart(login("slow", PASSWORD, ""));
    let mut caller = gateway.connect();
    for _ in 0..20 {
        assert_eq!(caller.get("/open").status, 200);
    }
    // it takes seconds: if the worker had hashed, this would have been answered before the first of those
    let early = client.set_timeout(Duration::from_millis(1)).response();
    assert!(matches!(early, Err(Broken::TimedOut)), "{early:?}");
    assert_eq!(client.set_patience().response().expect("an answer").status, 400);
}

#[test]
fn whoever_logs_in_with_many_others_is_answered() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, "memory"));
    let mut crowd: Vec<Client> = (0..80).map(|_| gateway.connect()).collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        client.send(login(if number % 2 == 0 { "alice" } else { "nobody" }, PASSWORD, ""));
    }
    for client in &mut crowd {
        let answer = client.response().expect("every login is answered");
        match answer.status {
            200 => assert!(answer.json()["access_token"].is_string()),
            400 => assert_eq!(answer.json()["error"], "invalid_grant"),
            429 | 503 => assert!(answer.field("retry-after").is_some()),
            other => panic!("{other}: {}", answer.text()),
        }
    }
}

#[test]
fn of_one_time_passwords_that_come_at_once_no_more_are_judged_than_one_after_another() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, "memory"));
    let mut crowd: Vec<Client> = (0..24).map(|_| gateway.connect()).collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        client.send(login("carol", PASSWORD, &format!("&otp=dmn_recovery_code_of_carol_1{number:03}")));
    }
    let statuses: Vec<u16> = crowd.iter_mut().map(|client| client.response().expect("an answer").status).collect();
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(400), count(429)), (2, 22), "{statuses:?}");
    let right = gateway.connect().call(login("carol", PASSWORD, &format!("&otp={RECOVERY}")));
    assert_eq!(right.status, 429, "who waits is not told that one is right");
}
