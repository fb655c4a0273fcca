//! Keys that an issuer publishes.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use daemun_pipeline::{Exchange, Flow, OutAnswer, OutCall, OutError, Outcome};
use serde_json::{Value, json};

use super::signer::Signer;
use crate::jwt::Algorithm;
use crate::jwt::remote::MOST_WAITING;
use crate::scripted_world::{Given, Scripted, away, ok};
use crate::testing::{Bench, Chain, WALL, wait};

const ISSUER: &str = "https://accounts.example.com/realms/shop";
const DISCOVERY: &str = "GET accounts.example.com/realms/shop/.well-known/openid-configuration";
const KEYS: &str = "GET accounts.example.com/keys";

fn bench(world: &Arc<Scripted>) -> Bench {
    Bench { world: Arc::new(Given(Arc::clone(world))), ..Bench::new(Vec::new()) }
}

fn chain(bench: &Bench) -> Chain {
    bench.build(&format!("jwt: {{ issuer: '{ISSUER}', audience: off }}")).unwrap()
}

fn signer(kid: &str) -> (Signer, Value) {
    let signer = Signer::new(Algorithm::Es256);
    let jwk = signer.jwk_with(&json!({ "kid": kid }));
    (signer, jwk)
}

fn token(signer: &Signer, kid: &str) -> String {
    let claims = json!({ "iss": ISSUER, "sub": "ann", "exp": 1_900_000_000 });
    signer.sign(Algorithm::Es256, &json!({ "kid": kid }), &claims)
}

/// An issuer that answers in order.
fn issuer(keys: &[&Value]) -> impl Fn(&OutCall) -> Result<OutAnswer, OutError> + Send + Sync + 'static {
    let set = json!({ "keys": keys }).to_string();
    move |call: &OutCall| match call.target.as_str() {
        "/realms/shop/.well-known/openid-configuration" => {
            ok(json!({ "issuer": ISSUER, "jwks_uri": "https://accounts.example.com/keys" }).to_string())
        }
        "/keys" => ok(set.clone()),
        other => panic!("nobody asks for {other}"),
    }
}

fn request(chain: &Chain, token: &str) -> Exchange {
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nAuthorization: Bearer {token}"));
    exchange.wall = WALL;
    exchange
}

fn status(chain: &Chain, token: &str) -> u16 {
    chain.status(&mut request(chain, token))
}

/// The same of a token whose key is asked for when the last call is long enough ago.
fn status_after_pause(world: &Scripted, chain: &Chain, token: &str) -> u16 {
    std::thread::scope(|scope| {
        let status = scope.spawn(|| status(chain, token));
        // a pause that is left from before may end first: time passes for each once
        let mut passed_for = 0;
        while !status.is_finished() {
            let (waiting, waits) = {
                let seen = world.seen();
                (seen.waiting, seen.waits)
            };
            if waiting >= 2 && waits != passed_for {
                passed_for = waits;
                world.pass(Duration::from_secs(5));
            }
            std::thread::yield_now();
        }
        status.join().unwrap()
    })
}

/// Whether the decision is made at once.
fn is_now(chain: &Chain, token: &str) -> bool {
    matches!(chain.steps[0].1.on_request(&mut request(chain, token)), Flow::Now(_))
}

#[test]
fn keys_are_discovered_before_they_are_needed() {
    let (signer, jwk) = signer("1");
    let world = Scripted::new(issuer(&[&jwk]));
    let chain = chain(&bench(&world));
    world.until(|seen| seen.answered == 2 && seen.waiting == 1);
    assert!(is_now(&chain, &token(&signer, "1")));
    assert_eq!(status(&chain, &token(&signer, "1")), 0);
    assert_eq!(world.seen().calls, [DISCOVERY, KEYS]);
    assert_eq!(world.seen().told, [""; 0]);
}

#[test]
fn who_comes_before_the_keys_waits_for_them() {
    let (signer, jwk) = signer("1");
    let (let_go, gate) = mpsc::sync_channel::<()>(0);
    let (gate, script) = (Mutex::new(gate), issuer(&[&jwk]));
    let world = Scripted::new(move |call| {
        let _ = gate.lock().unwrap().recv();
        script(call)
    });
    let chain = chain(&bench(&world));
    let mut exchange = request(&chain, &token(&signer, "1"));
    let Flow::Later(waiting) = chain.steps[0].1.on_request(&mut exchange) else { panic!("there are no keys yet") };
    drop(let_go);
    assert!(wait(waiting).is_ok());
}

#[test]
fn without_keys_nobody_is_let_in() {
    let world = Scripted::new(|_| away());
    let chain = chain(&bench(&world));
    let (signer, _) = signer("1");
    let token = token(&signer, "1");
    assert_eq!(status(&chain, &token), 503);
    world.until(|seen| seen.waiting == 1);
    assert_eq!(status(&chain, &token), 503, "an issuer that is away is not waited for: the clock stands still");
    assert_eq!(status(&chain, "nonsense"), 401);
    let told = world.seen().told.clone();
    assert_eq!(told, [format!("keys: the keys of `{ISSUER}` cannot be had: no connection")]);
    let (outcome, detail) = chain.explain(&mut request(&chain, &token));
    assert_eq!(outcome, Outcome::Refuse(503, "auth_unavailable"));
    assert!(detail.contains(ISSUER), "{detail}");
}

#[test]
fn a_flood_of_made_up_keys_has_no_good_token_called_bad() {
    let ((_, old_jwk), (new, _)) = (signer("1"), signer("2"));
    let world = Scripted::new(issuer(&[&old_jwk]));
    let chain = chain(&bench(&world));
    world.until(|seen| seen.answered == 2 && seen.waiting == 1);
    let mut made_up: Vec<Exchange> = (0..MOST_WAITING).map(|_| request(&chain, &token(&new, "made up"))).collect();
    let policy = &chain.steps[0].1;
    let mut waiting: Vec<_> = made_up
        .iter_mut()
        .map(|exchange| match policy.on_request(exchange) {
            Flow::Later(waiting) => waiting,
            Flow::Now(_) => panic!("the key is not known yet"),
        })
        .collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.iter_mut().all(|waiting| waiting.as_mut().poll(&mut context).is_pending()));
    assert_eq!(status(&chain, &token(&new, "2")), 503, "it may be good");
}

#[test]
fn keys_without_a_name_are_tried_up_to_a_bound_and_those_behind_it_are_told_of() {
    let key = |name: &str| {
        let (_, mut jwk) = signer(name);
        jwk.as_object_mut().unwrap().remove("kid");
        jwk
    };
    for (count, wanted) in [(4, 0), (5, 1), (7, 3)] {
        let keys: Vec<Value> = (0..count).map(|number| key(&number.to_string())).collect();
        let set = json!({ "keys": keys }).to_string();
        let path = std::env::temp_dir().join(format!("daemun-keys-{}-{count}.json", std::process::id()));
        std::fs::write(&path, set).unwrap();
        let settings = format!("jwt: {{ keys: {{ file: \"{}\" }}, audience: off }}", path.display());
        let findings = Bench::new(Vec::new()).build(&settings).unwrap().findings.lines();
        std::fs::remove_file(&path).unwrap();
        let told = findings.iter().find(|line| line.contains("are never used"));
        assert_eq!(told.is_some(), wanted > 0, "{findings:?}");
        assert!(told.is_none_or(|line| line.contains(&format!("{wanted} keys of the file"))), "{findings:?}");
    }
}

#[test]
fn an_issuer_that_comes_back_is_found_and_told_of_once() {
    let world = Scripted::new(|_| away());
    let chain = chain(&bench(&world));
    let (signer, jwk) = signer("1");
    // 1 s, 2 s, 4 s: each try is later than the one before
    for (tries, pause) in [(1, 1), (2, 2), (3, 4)] {
        world.until(|seen| seen.answered == tries && seen.waiting == 1);
        world.pass(Duration::from_secs(pause));
    }
    world.until(|seen| seen.answered == 4 && seen.waiting == 1);
    assert_eq!(world.seen().told.len(), 1, "said once");
    world.answers(issuer(&[&jwk]));
    world.pass(Duration::from_secs(8));
    world.until(|seen| seen.answered == 6 && seen.waiting == 1);
    assert_eq!(status(&chain, &token(&signer, "1")), 0);
}

#[test]
fn a_new_key_is_fetched_when_it_is_first_named_once_for_all() {
    let ((old, old_jwk), (new, new_jwk)) = (signer("1"), signer("2"));
    let world = Scripted::new(issuer(&[&old_jwk]));
    let chain = chain(&bench(&world));
    world.until(|seen| seen.answered == 2 && seen.waiting == 1);
    assert_eq!(status(&chain, &token(&old, "1")), 0);
    world.answers(issuer(&[&new_jwk]));
    world.pass(Duration::from_secs(5));
    let tokens: Vec<String> = (0..20).map(|_| token(&new, "2")).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> = tokens.iter().map(|token| scope.spawn(|| status(&chain, token))).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), 0);
        }
    });
    assert_eq!(world.seen().calls, [DISCOVERY, KEYS, DISCOVERY, KEYS]);
    let of_old = token(&old, "1");
    assert_eq!(status_after_pause(&world, &chain, &of_old), 401, "what was signed with a key that is gone");
}

#[test]
fn what_is_remembered_goes_with_its_key_and_stays_with_it() {
    let ((old, old_jwk), (kept, kept_jwk), (new, new_jwk)) = (signer("1"), signer("2"), signer("3"));
    let world = Scripted::new(issuer(&[&old_jwk, &kept_jwk]));
    let chain = chain(&bench(&world));
    world.until(|seen| seen.answered == 2 && seen.waiting == 1);
    let (of_old, of_kept) = (token(&old, "1"), token(&kept, "2"));
    let identity = |token: &str| {
        let mut exchange = request(&chain, token);
        (chain.status(&mut exchange) == 0).then(|| exchange.identity.unwrap())
    };
    let before = identity(&of_kept).unwrap();
    assert!(identity(&of_old).is_some());
    world.answers(issuer(&[&new_jwk, &kept_jwk]));
    world.pass(Duration::from_secs(5));
    assert!(identity(&token(&new, "3")).is_some());
    assert!(Arc::ptr_eq(&before, &identity(&of_kept).unwrap()), "its key is the same");
    assert_eq!(status_after_pause(&world, &chain, &of_old), 401, "its key is gone");
}

#[test]
fn names_of_keys_that_nobody_has_do_not_make_an_issuer_be_called_without_end() {
    let ((old, old_jwk), (unknown, _)) = (signer("1"), signer("x"));
    let world = Scripted::new(issuer(&[&old_jwk]));
    let chain = chain(&bench(&world));
    world.until(|seen| seen.answered == 2 && seen.waiting == 1);
    let tokens: Vec<String> = (0..10).map(|n| token(&unknown, &format!("x{n}"))).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> = tokens.iter().map(|token| scope.spawn(|| status(&chain, token))).collect();
        // all wait for one call that waits for the clock, and those with a known key do not
        world.until(|seen| seen.waiting == 2);
        assert!(is_now(&chain, &token(&old, "1")));
        assert_eq!(world.seen().calls.len(), 2);
        // a request may join after the first of them was refused already, and then waits for a call of its own
        let moving = scope.spawn(|| {
            for one in all {
                while !one.is_finished() {
                    world.pass(Duration::from_secs(1));
                    std::thread::yield_now();
                }
                assert_eq!(one.join().unwrap(), 401);
            }
        });
        moving.join().unwrap();
    });
    let passed = world.seen().calls.len();
    assert!(passed <= 2 + 2 * 10, "{passed} calls");
}

#[test]
fn a_token_that_cannot_be_valid_with_any_key_asks_for_none() {
    let ((_, jwk), (unknown, _)) = (signer("1"), signer("x"));
    let world = Scripted::new(issuer(&[&jwk]));
    let chain = chain(&bench(&world));
    world.until(|seen| seen.answered == 2 && seen.waiting == 1);
    for claims in [
        json!({ "iss": "https://other", "sub": "a", "exp": 1_900_000_000 }),
        json!({ "iss": ISSUER, "sub": "a", "exp": 1_700_000_000 }),
        json!({ "sub": "a", "exp": 1_900_000_000 }),
    ] {
        let token = unknown.sign(Algorithm::Es256, &json!({ "kid": "x" }), &claims);
        assert!(is_now(&chain, &token));
        assert_eq!(status(&chain, &token), 401);
    }
    assert_eq!(world.seen().calls.len(), 2);
}

#[test]
fn whatever_is_no_set_of_keys_leaves_the_old_ones() {
    let (signer, jwk) = signer("1");
    let answer = |status: u16, body: &str| OutAnswer { status, fields: Vec::new(), body: body.to_owned().into() };
    let of = |issuer: &str, keys: &str| json!({ "issuer": issuer, "jwks_uri": keys }).to_string();
    let keys = "https://accounts.example.com/keys";
    for (discovered, set, words) in [
        (answer(302, ""), answer(200, "{}"), "the answer is 302"),
        (answer(200, "<html>"), answer(200, "{}"), "no JSON object"),
        (answer(200, "{}"), answer(200, "{}"), "`issuer` is another"),
        (answer(200, &of("https://accounts.example.com", keys)), answer(200, "{}"), "`issuer` is another"),
        (answer(200, &of(ISSUER, "http://accounts.example.com/keys")), answer(200, "{}"), "not `https`"),
        (answer(200, &of(ISSUER, "file:///etc/passwd")), answer(200, "{}"), "no address"),
        (answer(200, &json!({ "issuer": ISSUER }).to_string()), answer(200, "{}"), "names no `jwks_uri`"),
        (answer(200, &of(ISSUER, keys)), answer(500, ""), "the answer is 500"),
        (answer(200, &of(ISSUER, keys)), answer(301, ""), "the answer is 301"),
        (answer(200, &of(ISSUER, keys)), answer(200, ""), "no JSON object"),
        (answer(200, &of(ISSUER, keys)), answer(200, "{\"keys\":[]}"), "no keys"),
        (answer(200, &of(ISSUER, keys)), answer(200, r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#), "no key of it"),
    ] {
        let world = Scripted::new(issuer(&[&jwk]));
        let chain = chain(&bench(&world));
        world.until(|seen| seen.answered == 2 && seen.waiting == 1);
        world.answers(move |call| Ok(if call.target == "/keys" { set.clone() } else { discovered.clone() }));
        world.pass(Duration::from_secs(450));
        world.until(|seen| !seen.told.is_empty());
        assert!(world.seen().told[0].contains(words), "{:?} has {words}", world.seen().told);
        assert!(world.seen().told[0].contains("those known before stay"), "{:?}", world.seen().told);
        assert_eq!(status(&chain, &token(&signer, "1")), 0, "{words}");
    }
}

#[test]
fn a_published_secret_is_never_a_key() {
    let (signer, jwk) = signer("1");
    let secret = Signer::new(Algorithm::Hs256);
    let both = json!({ "keys": [secret.jwk_with(&json!({ "kid": "s" })), jwk] }).to_string();
    let world = Scripted::new(move |_| ok(both.clone()));
    let chain = bench(&world).build("jwt: { keys: { url: https://a/keys }, audience: off }").unwrap();
    world.until(|seen| seen.answered == 1 && seen.waiting == 1);
    assert_eq!(status(&chain, &token(&signer, "1")), 0);
    let confused = secret.sign(Algorithm::Hs256, &json!({ "kid": "s" }), &json!({ "sub": "a", "exp": 1_900_000_000 }));
    assert_eq!(status_after_pause(&world, &chain, &confused), 401);
    assert!(world.seen().told[0].contains("a shared secret"), "{:?}", world.seen().told);
}

#[test]
fn keys_are_fetched_again_before_they_are_stale() {
    for (said, after) in [
        (None, 450u64),
        (Some("public, max-age=1000"), 750),
        (Some("max-age=1"), 45),
        (Some("no-store"), 45),
        (Some("max-age=99999999"), 64_800),
        (Some("max-age=soon"), 450),
    ] {
        let (_, jwk) = signer("1");
        let set = json!({ "keys": [jwk] }).to_string();
        let fields = said.map(|said| ("cache-control".to_owned(), said.as_bytes().to_vec()));
        let answer = OutAnswer { status: 200, fields: fields.into_iter().collect(), body: set.into() };
        let world = Scripted::new(move |_| Ok(answer.clone()));
        let _chain = bench(&world).build("jwt: { keys: { url: https://a/keys }, audience: off }").unwrap();
        // the wait is in steps, so that keys that nobody needs are let go of
        let mut passed = 0;
        while passed < after {
            world.until(|seen| seen.waits == 1 + passed.div_ceil(30) as usize);
            assert_eq!(world.seen().answered, 1, "{said:?} after {passed} s");
            let step = (after - passed).min(30);
            world.pass(Duration::from_secs(step));
            passed += step;
        }
        world.until(|seen| seen.answered == 2);
    }
}

#[test]
fn a_reload_keeps_the_keys_and_all_routes_share_them() {
    let (signer, jwk) = signer("1");
    let world = Scripted::new(issuer(&[&jwk]));
    let bench = bench(&world);
    let first = chain(&bench);
    world.until(|seen| seen.answered == 2 && seen.waiting == 1);
    let second = bench.build(&format!("jwt: {{ issuer: '{ISSUER}', audience: off, roles: r }}")).unwrap();
    drop(first);
    bench.carry.sweep();
    assert!(is_now(&second, &token(&signer, "1")));
    assert_eq!(world.seen().calls.len(), 2);
}
