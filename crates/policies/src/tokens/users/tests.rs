use std::sync::{Arc, Mutex, PoisonError};

use daemun_accounts::{Accounts, Consumer as Stored, Revoked};
use daemun_config::model::PasswordHash;
use daemun_pipeline::world::Busy;
use daemun_pipeline::{Later, Nowhere, OutAnswer, OutCall, OutError, Outcome, Stop, World};
use serde_json::{Value, json};

use crate::testing::{Bench, Chain, consumer, status, upstream_lines, wait};

/// Milliseconds since the Unix epoch: the middle of a step of one-time passwords.
const NOW: u64 = 1_111_111_111_000;
const PASSWORD: &str = "correct horse";

/// A world that counts what is computed, and has no room for it when it is told so.
#[derive(Default)]
pub(in crate::tokens) struct Computing {
    done: Mutex<usize>,
    full: Mutex<bool>,
}

impl Computing {
    fn done(&self) -> usize {
        std::mem::take(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(in crate::tokens) fn fill(&self, full: bool) {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = full;
    }
}

impl World for Computing {
    fn call(&self, call: OutCall) -> Later<Result<OutAnswer, OutError>> {
        Nowhere.call(call)
    }

    fn spawn(&self, _: Later<()>) {}

    fn compute(&self, job: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>> {
        if *self.full.lock().unwrap_or_else(PoisonError::into_inner) {
            return Box::pin(std::future::ready(Err(Busy)));
        }
        job();
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Box::pin(std::future::ready(Ok(())))
    }

    fn wait(&self, _: std::time::Duration) -> Later<()> {
        Box::pin(std::future::ready(()))
    }

    fn now(&self) -> u64 {
        NOW * 1_000_000
    }

    fn tell(&self, _: &'static str, _: String) {}
}

/// Users `alice`, `carol` with a second factor and `dave`, who is disabled; all have one password.
fn users(of_alice: &str) -> String {
    let hash = PasswordHash::make(PASSWORD.as_bytes(), &[7; 16]).unwrap().text();
    let code: String =
        daemun_accounts::text::digest(b"recovery-code-0001").iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "- {{ name: alice, password: \"{hash}\", scopes: [read, write], {of_alice} }}\n\
         - {{ name: carol, password: \"{hash}\", totp: GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ, recovery: ['{code}'] }}\n\
         - {{ name: dave, password: \"{hash}\", disabled: true }}\n"
    )
}

fn bench() -> (Bench, Arc<Computing>, Arc<Accounts>) {
    let world = Arc::new(Computing::default());
    let bench = Bench { world: Arc::clone(&world) as Arc<dyn World>, ..Bench::new(Vec::new()) };
    let accounts = Accounts::of(&bench.carry);
    (bench.with_users(Vec::new(), &users("roles: [clerk], groups: [sales], tags: [de]")), world, accounts)
}

/// What a form comes to: its status, and the answer's body or the members of the problem.
fn ask(chain: &Chain, body: &str, at: u64) -> (u16, Value) {
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let mut exchange = chain.exchange(&format!("POST /auth HTTP/1.1\r\nHost: a\r\n{kind}\r\n\r\n"));
    exchange.wall = (NOW + at) * 1_000_000;
    exchange.times.start = 1_000_000_000 + at * 1_000_000;
    match chain.inward_with(&mut exchange, body.as_bytes()).1 {
        Ok(()) => (0, Value::Null),
        Err(Stop::Answer(answer)) => (answer.status, serde_json::from_slice(&answer.body).unwrap()),
        Err(Stop::Fault(fault)) => {
            let members = fault.members.unwrap_or_default().0;
            let members = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            (fault.reason.status(), Value::Object(members))
        }
    }
}

fn form(name: &str, password: &str, more: &str) -> String {
    format!("grant_type=password&username={name}&password={}{more}", password.replace(' ', "+"))
}

fn call(chain: &Chain, token: &str) -> (u16, Vec<String>) {
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
    exchange.wall = NOW * 1_000_000;
    let status = chain.status(&mut exchange);
    (status, upstream_lines(&exchange.request).into_iter().filter(|line| line.starts_with("X-Consumer")).collect())
}

#[test]
fn a_password_is_given_tokens_that_say_who_the_user_is() {
    let (bench, _, accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let (status, told) = ask(&chain, &form("alice", PASSWORD, "&scope=read"), 0);
    assert_eq!((status, &told["scope"], &told["token_type"]), (200, &json!("read"), &json!("Bearer")), "{told}");
    let token = told["access_token"].as_str().unwrap();
    let lines = ["X-Consumer-Name: alice".to_owned(), "X-Consumer-Roles: clerk".to_owned()];
    assert_eq!(call(&bench.build("token_auth: {}").unwrap(), token), (0, lines.to_vec()));
    let identity = accounts.check(token.as_bytes(), "shop", NOW).unwrap();
    assert_eq!((&*identity.subject, identity.consumer.as_deref()), ("alice", None));
    assert_eq!((&*identity.groups, &*identity.tags), (&["sales".to_owned()][..], &["de".to_owned()][..]));
    assert_eq!(ask(&chain, &form("alice", PASSWORD, "&scope=admin"), 0).1["error"], "invalid_scope");
    let refresh = format!("grant_type=refresh_token&refresh_token={}", told["refresh_token"].as_str().unwrap());
    assert_eq!(ask(&chain, &refresh, 0).0, 200);
}

#[test]
fn whatever_is_wrong_is_answered_alike_and_takes_the_same_work() {
    let (bench, world, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let wrong = ask(&chain, &form("alice", "correct horsf", ""), 0);
    assert_eq!((wrong.0, &wrong.1["error"]), (400, &json!("invalid_grant")));
    assert_eq!(world.done(), 1);
    for body in [
        form("nobody", PASSWORD, ""),
        form("ALICE", PASSWORD, ""),
        form("dave", PASSWORD, ""),
        form("dave", "correct horsf", ""),
        form("carol", "correct horsf", ""),
        form("carol", "correct horsf", "&otp=050471"),
        form("carol", PASSWORD, "&otp=000000"),
    ] {
        assert_eq!(ask(&chain, &body, 0), wrong, "{body}");
        assert_eq!(world.done(), 1, "{body}");
    }
    let (bench, world, _accounts) = self::bench();
    let chain = bench.build("tokens: shop").unwrap();
    let long = "x".repeat(513);
    for body in [form("alice", &long, ""), form(&"a".repeat(256), PASSWORD, ""), form("a%00", PASSWORD, "")] {
        assert_eq!(ask(&chain, &body, 0), wrong, "{body}");
    }
    assert_eq!(world.done(), 0, "what no user can have is not hashed");
    for body in ["grant_type=password&username=alice", "grant_type=password&password=x", "grant_type=password"] {
        assert_eq!(ask(&chain, body, 0).1["error"], "invalid_request", "{body}");
    }
}

#[test]
fn guessing_is_slowed_down_for_a_name_whether_it_is_a_users_or_not() {
    for name in ["alice", "nobody"] {
        let (bench, world, _accounts) = bench();
        let chain = bench.build("tokens: shop").unwrap();
        let guess = |at| ask(&chain, &form(name, "correct horsf", ""), at);
        for _ in 0..11 {
            assert_eq!(guess(0).0, 400);
        }
        assert_eq!(world.done(), 11);
        let (status, told) = guess(0);
        assert_eq!((status, &told["error"]), (429, &json!("slow_down")));
        assert_eq!(world.done(), 0, "who is slowed down costs no work");
        assert_eq!(guess(3_000).0, 400);
    }
}

#[test]
fn when_too_much_waits_to_be_hashed_the_client_is_told_to_come_again() {
    let (bench, world, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    world.fill(true);
    let (status, told) = ask(&chain, &form("alice", PASSWORD, ""), 0);
    assert_eq!((status, &told["error"]), (503, &json!("temporarily_unavailable")));
    world.fill(false);
    assert_eq!(ask(&chain, &form("alice", PASSWORD, ""), 0).0, 200, "that counts as no failure");
}

#[test]
fn a_second_factor_is_asked_for_behind_the_password_and_each_is_good_once() {
    let (bench, _, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let ask = |more: &str, at| ask(&chain, &form("carol", PASSWORD, more), at);
    let (status, told) = ask("", 0);
    assert_eq!((status, &told["error"], &told["otp_required"]), (400, &json!("invalid_grant"), &json!(true)));
    // of the RFC: of this step, and of the one before
    assert_eq!(ask("&otp=050471", 0).0, 200);
    let again = ask("&otp=050471", 0);
    assert_eq!((again.0, again.1.get("otp_required")), (400, None));
    assert_eq!(ask("&otp=081804", 60_000).0, 400, "those of earlier steps are used up with it");
    assert_eq!(ask("&otp=recovery-code-0001", 120_000).0, 200);
    assert_eq!(ask("&otp=recovery-code-0001", 180_000).0, 400);
    assert_eq!(ask("&otp=recovery-code-0002", 240_000).0, 400);
}

#[test]
fn wrong_one_time_passwords_are_slowed_down_sooner() {
    let (bench, world, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let guess = || ask(&chain, &form("carol", PASSWORD, "&otp=123456"), 0).0;
    assert_eq!((guess(), guess(), guess()), (400, 400, 429));
    assert_eq!(world.done(), 2);
}

#[test]
fn tokens_end_with_the_user_and_with_the_password_and_follow_the_roles() {
    let (mut bench, _, accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let (_, told) = ask(&chain, &form("alice", PASSWORD, ""), 0);
    let (token, refresh) = (told["access_token"].as_str().unwrap(), told["refresh_token"].as_str().unwrap());
    let directory = |users: &str| Bench::new(Vec::new()).with_users(Vec::new(), users).directory;
    bench.directory = directory(&users("roles: [boss]"));
    let (status, lines) = call(&bench.build("token_auth: {}").unwrap(), token);
    assert_eq!((status, lines), (0, vec!["X-Consumer-Name: alice".to_owned(), "X-Consumer-Roles: boss".to_owned()]));
    assert_eq!(accounts.check(token.as_bytes(), "shop", NOW).unwrap().roles, ["boss"], "that is not worked out anew");
    let body = format!("grant_type=refresh_token&refresh_token={refresh}");
    for gone in [users("disabled: true"), users("").replace("alice", "bob"), users("").replacen("$BwcH", "$CwcH", 1)] {
        bench.directory = directory(&gone);
        assert_eq!(call(&bench.build("token_auth: {}").unwrap(), token).0, 401);
        assert_eq!(ask(&bench.build("tokens: shop").unwrap(), &body, 0).1["error"], "invalid_grant");
    }
    let (status, told) = ask(&chain, &body, 0);
    assert_eq!(status, 200, "none of that has used it up");
    let next = accounts.check(told["access_token"].as_str().unwrap().as_bytes(), "shop", NOW).unwrap();
    assert_eq!(next.roles, ["clerk"], "a refresh gives tokens for what the user is now");
}

#[test]
fn a_user_who_has_a_consumers_name_or_a_revoked_password_gets_nothing() {
    let (bench, _, accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    wait(accounts.put_consumer(Stored { name: "alice".to_owned(), ..Stored::default() }, NOW)).unwrap();
    assert_eq!(ask(&chain, &form("alice", PASSWORD, ""), 0).1["error"], "invalid_grant");
    wait(accounts.remove_consumer("alice", NOW)).unwrap();
    let (_, told) = ask(&chain, &form("alice", PASSWORD, ""), 1);
    let identity = accounts.check(told["access_token"].as_str().unwrap().as_bytes(), "shop", NOW).unwrap();
    let credential = identity.credential.as_deref().unwrap().to_owned();
    wait(accounts.revoke(&Revoked::Credential(credential), None, NOW)).unwrap();
    assert_eq!(ask(&chain, &form("alice", PASSWORD, ""), 2).1["error"], "invalid_grant");
}

/// A call with HTTP Basic; credentials in base64.
fn basic(chain: &Chain, login: &str, at: u64) -> (u16, Vec<String>) {
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {login}\r\n\r\n"));
    exchange.wall = (NOW + at) * 1_000_000;
    exchange.times.start = 1_000_000_000 + at * 1_000_000;
    let ended = chain.inward(&mut exchange).1;
    (ended.err().map_or(0, |stop| status(&stop)), upstream_lines(&exchange.request).split_off(2))
}

/// `alice:correct horse`, `alice:correct horsf`, `nobody:correct horse`, `carol:correct horse` and `dave:correct horse`.
const ALICE: &str = "YWxpY2U6Y29ycmVjdCBob3JzZQ==";
const WRONG: &str = "YWxpY2U6Y29ycmVjdCBob3JzZg==";
const NOBODY: &str = "bm9ib2R5OmNvcnJlY3QgaG9yc2U=";
const CAROL: &str = "Y2Fyb2w6Y29ycmVjdCBob3JzZQ==";
const DAVE: &str = "ZGF2ZTpjb3JyZWN0IGhvcnNl";

#[test]
fn basic_lets_users_in_and_hashes_once_in_a_while() {
    let (bench, world, accounts) = bench();
    let chain = bench.build("basic_auth: { users: embedded }").unwrap();
    let lines = vec!["X-Consumer-Name: alice".to_owned(), "X-Consumer-Roles: clerk".to_owned()];
    for _ in 0..5 {
        assert_eq!(basic(&chain, ALICE, 0), (0, lines.clone()));
    }
    assert_eq!(world.done(), 1);
    assert_eq!(basic(&chain, ALICE, 30_000), (0, lines.clone()));
    assert_eq!(world.done(), 1);
    for (login, at) in [(WRONG, 0), (NOBODY, 1), (CAROL, 2), (DAVE, 3)] {
        assert_eq!(basic(&chain, login, at).0, 401, "{login}");
        assert_eq!(world.done(), 1, "{login}");
    }
    for _ in 0..20 {
        let _ = basic(&chain, WRONG, 40_000);
    }
    assert_eq!(basic(&chain, WRONG, 40_000).0, 429);
    assert_eq!(basic(&chain, ALICE, 40_000).0, 429, "what is kept does not tell either which guess is right");
    assert_eq!(basic(&chain, ALICE, 45_000), (0, lines));
    wait(accounts.put_consumer(Stored { name: "alice".to_owned(), ..Stored::default() }, NOW)).unwrap();
    assert_eq!(basic(&chain, ALICE, 45_000).0, 401);
}

#[test]
fn a_user_who_was_let_in_is_not_taken_for_a_consumer_that_has_the_name_later() {
    let (bench, world, _accounts) = bench();
    let chain = bench.build("basic_auth: { users: embedded }").unwrap();
    assert_eq!(basic(&chain, ALICE, 0).0, 0);
    let hashed = world.done();
    let admin = consumer("alice", &["admin"], &["key-of-alice-000001"]);
    let bench = bench.with_users(vec![admin], &users("roles: [clerk]"));
    let chain = bench.build("basic_auth: { users: embedded }").unwrap();
    for at in [1, 30_000] {
        let (status, told) = basic(&chain, ALICE, at);
        assert_eq!(status, 401, "whether it is remembered or not");
        assert!(!told.iter().any(|line| line.starts_with("X-Consumer")), "{told:?}");
    }
    assert!(world.done() <= hashed + 2);
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {ALICE}\r\n\r\n"));
    let (outcome, _) = chain.explain(&mut exchange);
    assert_eq!((outcome, exchange.is_known()), (Outcome::Refuse(401, "unauthenticated"), false));
}

#[test]
fn explain_says_who_a_password_is_of_and_shows_none() {
    let (bench, world, _accounts) = bench();
    let chain = bench.build("basic_auth: { users: embedded }").unwrap();
    for (login, words) in [
        (ALICE, "those of `alice`"),
        (WRONG, "is another"),
        (NOBODY, "no user"),
        (CAROL, "one-time"),
        (DAVE, "disabled"),
    ] {
        let mut exchange =
            chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {login}\r\n\r\n"));
        let (_, detail) = chain.explain(&mut exchange);
        assert!(detail.contains(words) && !detail.contains("horse"), "{detail}");
    }
    assert_eq!(world.done(), 0);
    let tokens = bench.build("tokens: shop").unwrap();
    let (_, detail) = tokens.explain(&mut tokens.exchange("POST /auth HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(detail.contains("would check the username and the password"), "{detail}");
}

#[test]
fn a_service_or_policy_without_users_says_so() {
    let bench = Bench::new(Vec::new());
    let chain = bench.build("basic_auth: { users: embedded }").unwrap();
    assert_eq!(chain.findings.lines(), ["no_credentials routes.items.policies.basic_auth: there are no users"]);
    let chain = bench.build("tokens: shop").unwrap();
    assert_eq!(ask(&chain, &form("alice", PASSWORD, ""), 0).1["error"], "unsupported_grant_type");
}

#[test]
fn a_scope_that_was_taken_from_a_user_is_gone_with_the_next_refresh() {
    let (bench, _, _accounts) = bench();
    let (_, told) = ask(&bench.build("tokens: shop").unwrap(), &form("alice", PASSWORD, ""), 0);
    assert_eq!(told["scope"], "read write");
    let fewer = users("roles: [clerk], groups: [sales], tags: [de]").replace("[read, write]", "[read]");
    let bench = bench.with_users(Vec::new(), &fewer);
    let refresh = format!("grant_type=refresh_token&refresh_token={}", told["refresh_token"].as_str().unwrap());
    let (status, told) = ask(&bench.build("tokens: shop").unwrap(), &refresh, 0);
    assert_eq!((status, &told["scope"]), (200, &json!("read")), "{told}");
}

#[test]
fn who_has_lost_the_name_to_a_consumer_of_the_store_goes_on_with_no_login() {
    let (bench, _, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let (_, told) = ask(&chain, &form("alice", PASSWORD, ""), 0);
    let _stored = bench.with_stored("alice");
    let refresh = format!("grant_type=refresh_token&refresh_token={}", told["refresh_token"].as_str().unwrap());
    assert_eq!(ask(&chain, &refresh, 0).1["error"], "invalid_grant");
}
