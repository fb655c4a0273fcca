//! What `introspection` holds beyond its page.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use daemun_pipeline::{Exchange, FieldId, OutAnswer, OutCall, OutError, Outcome, Stop};
use serde_json::json;

use crate::scripted_world::{Given, Scripted, away, ok};
use crate::testing::{Bench, Chain, SECOND, WALL, consumer};

const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";

fn bench(world: &Arc<Scripted>) -> Bench {
    Bench { world: Arc::new(Given(Arc::clone(world))), ..Bench::new(vec![consumer("shop", &["buyer"], &[])]) }
}

fn chain(world: &Arc<Scripted>, more: &str) -> Chain {
    let settings = format!(
        "introspection: {{ url: 'https://id/introspect?x=1', client: {{ id: 'gate:way', secret: 's e+cret' }}, {more} }}"
    );
    bench(world).build(&settings).unwrap()
}

fn request(chain: &Chain, token: &str, second: u64) -> Exchange {
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nAuthorization: Bearer {token}"));
    exchange.wall = WALL + second * SECOND;
    exchange
}

fn status(chain: &Chain, second: u64) -> u16 {
    chain.status(&mut request(chain, TOKEN, second))
}

fn active(expires: u64) -> Result<OutAnswer, OutError> {
    let roles = json!({ "roles": ["admin"] });
    let answer = json!({
        "active": true, "sub": "ann", "scope": "a b", "exp": expires, "client_id": "shop", "realm_access": roles,
        "iss": "https://id", "aud": ["x"],
    });
    ok(answer.to_string())
}

#[test]
fn the_service_is_asked_as_the_standard_says_and_its_answer_tells_who_calls() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&asked);
    let world = Scripted::new(move |call: &OutCall| {
        note.lock().unwrap().push(call.clone());
        active(1_800_000_600)
    });
    let chain = chain(&world, "roles: realm_access.roles, issuer: https://id, audience: [x, y]");
    let mut exchange = request(&chain, TOKEN, 0);
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.consumer_name(), Some("ann"));
    assert!(exchange.has_role("admin") && exchange.has_scope("b") && exchange.consumer().is_none());
    assert_eq!(exchange.request.head.values_id(FieldId::Authorization).count(), 0);
    let asked = asked.lock().unwrap();
    assert_eq!((asked[0].method, asked[0].target.as_str()), ("POST", "/introspect?x=1"));
    assert_eq!(&*asked[0].body, format!("token={TOKEN}&token_type_hint=access_token").as_bytes());
    let own = asked[0].fields.iter().find(|(name, _)| name == "authorization").unwrap();
    // `gate%3Away:s+e%2Bcret`
    assert_eq!(own.1, b"Basic Z2F0ZSUzQXdheTpzK2UlMkJjcmV0");
}

#[test]
fn name_and_secret_may_go_into_the_body() {
    let world = Scripted::new(|call: &OutCall| {
        assert!(call.fields.iter().all(|(name, _)| name != "authorization"));
        assert!(call.body.ends_with(b"&client_id=me&client_secret=a%26b"), "{:?}", call.body);
        active(1_800_000_600)
    });
    let settings = "introspection: { url: https://id/, client: { id: me, secret: a&b, send: body } }";
    let chain = bench(&world).build(settings).unwrap();
    assert_eq!(status(&chain, 0), 0);
}

#[test]
fn an_answer_is_kept_for_a_while_and_never_longer_than_the_token_lives() {
    for (more, expires, steps) in [
        ("cache: 30s", 1_800_000_600, &[(0, 0, 1), (29, 0, 1), (30, 0, 2), (59, 0, 2), (60, 0, 3)][..]),
        ("cache: 30s, leeway: 0s", 1_800_000_010, &[(0, 0, 1), (9, 0, 1), (10, 401, 2), (11, 401, 2)]),
        ("cache: 0s", 1_800_000_600, &[(0, 0, 1), (0, 0, 2), (0, 0, 3)]),
    ] {
        let world = Scripted::new(move |_| active(expires));
        let chain = chain(&world, more);
        for (second, expected, calls) in steps {
            assert_eq!(status(&chain, *second), *expected, "{more} after {second} s");
            assert_eq!(world.seen().calls.len(), *calls, "{more} after {second} s");
        }
    }
}

#[test]
fn what_is_not_active_is_remembered_as_well() {
    let world = Scripted::new(|_| ok(r#"{"active":false}"#));
    let chain = chain(&world, "");
    for second in [0, 1, 29] {
        assert_eq!(status(&chain, second), 401);
    }
    assert_eq!(world.seen().calls.len(), 1);
    world.answers(|_| active(1_800_000_600));
    assert_eq!(status(&chain, 30), 0);
}

#[test]
fn a_token_that_is_not_valid_yet_is_taken_as_soon_as_it_is() {
    for claim in ["nbf", "iat"] {
        let world =
            Scripted::new(move |_| ok(format!(r#"{{"active":true,"sub":"a","exp":1800000600,"{claim}":1800000010}}"#)));
        let chain = chain(&world, "cache: 1h, leeway: 0s");
        for (second, wanted) in [(0, 401), (9, 401), (10, 0), (20, 0)] {
            assert_eq!(status(&chain, second), wanted, "{claim} after {second} s");
        }
        assert_eq!(world.seen().calls.len(), 3, "what is taken is kept");
    }
}

#[test]
fn many_who_bring_the_same_token_ask_once() {
    let (let_go, gate) = mpsc::sync_channel::<()>(0);
    let gate = Mutex::new(gate);
    let world = Scripted::new(move |_| {
        let _ = gate.lock().unwrap().recv();
        active(1_800_000_600)
    });
    let chain = chain(&world, "cache: 30s");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| status(&chain, 0))).collect();
        world.until(|seen| seen.calls.len() == 1);
        drop(let_go);
        for one in all {
            assert_eq!(one.join().unwrap(), 0);
        }
    });
    assert_eq!(world.seen().calls.len(), 1);
}

#[test]
fn a_service_that_does_not_answer_opens_nothing() {
    let answer = |status: u16, body: &str| OutAnswer { status, fields: Vec::new(), body: body.to_owned().into() };
    for wrong in [
        None,
        Some(answer(401, "")),
        Some(answer(302, r#"{"active":true,"sub":"a"}"#)),
        Some(answer(500, r#"{"active":true,"sub":"a"}"#)),
        Some(answer(201, r#"{"active":true,"sub":"a"}"#)),
        Some(answer(200, "")),
        Some(answer(200, "true")),
        Some(answer(200, r#"{"sub":"a"}"#)),
        Some(answer(200, r#"{"active":"true","sub":"a"}"#)),
        Some(answer(200, r#"{"active":true,"active":true,"sub":"a"}"#)),
    ] {
        let given = wrong.clone();
        let world = Scripted::new(move |_| given.clone().map_or_else(away, Ok));
        let chain = chain(&world, "");
        assert_eq!(status(&chain, 0), 503, "{wrong:?}");
        assert_eq!(status(&chain, 0), 503, "{wrong:?}, again");
        assert_eq!(world.seen().calls.len(), 2, "no answer is not kept");
        assert_eq!(world.seen().told.len(), 1, "{:?}", world.seen().told);
        assert!(world.seen().told[0].starts_with("introspection: `id` cannot be asked"), "{:?}", world.seen().told);
        world.answers(|_| active(1_800_000_600));
        assert_eq!(status(&chain, 0), 0);
    }
}

#[test]
fn what_is_answered_is_judged() {
    for (more, answer) in [
        ("issuer: https://other", active(1_800_000_600)),
        ("audience: y", active(1_800_000_600)),
        ("claims: { client_id: other }", active(1_800_000_600)),
        ("consumer: sub", active(1_800_000_600)),
        ("subject: email", active(1_800_000_600)),
        ("", active(1_700_000_000)),
        ("", ok(r#"{"active":true}"#)),
        ("", ok(r#"{"active":true,"sub":"shop"}"#)),
        ("", ok(r#"{"active":true,"sub":"a","nbf":1900000000}"#)),
        ("", ok(r#"{"active":true,"sub":"a","exp":"soon"}"#)),
    ] {
        let given = answer.clone();
        let world = Scripted::new(move |_| given.clone());
        let chain = chain(&world, more);
        assert_eq!(status(&chain, 0), 401, "{more} {answer:?}");
        assert_eq!(status(&chain, 0), 401, "{more} {answer:?}");
    }
    let world = Scripted::new(|_| active(1_800_000_600));
    let chain = chain(&world, "consumer: client_id");
    let mut exchange = request(&chain, TOKEN, 0);
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.consumer().unwrap().name, "shop");
}

#[test]
fn what_cannot_be_a_token_is_not_asked_about() {
    let world = Scripted::new(|_| active(1_800_000_600));
    let chain = chain(&world, "max_size: 256B, from: [bearer, query: t]");
    for text in [
        format!("GET / HTTP/1.1\nAuthorization: Bearer {}", "a".repeat(257)),
        "GET / HTTP/1.1\nAuthorization: Bearer a b".to_owned(),
        "GET /?t=a%0Ab HTTP/1.1".to_owned(),
        "GET /?t=%C3%A4 HTTP/1.1".to_owned(),
        "GET /?t=a HTTP/1.1\nAuthorization: Bearer a".to_owned(),
        "GET / HTTP/1.1".to_owned(),
    ] {
        assert_eq!(chain.status(&mut chain.exchange(&text)), 401, "{text}");
    }
    assert!(world.seen().calls.is_empty());
}

#[test]
fn explain_says_who_would_be_asked_and_asks_nobody() {
    let world = Scripted::new(|_| active(1_800_000_600));
    let chain = chain(&world, "");
    let (outcome, detail) = chain.explain(&mut request(&chain, TOKEN, 0));
    assert_eq!(outcome, Outcome::Refuse(503, "auth_unavailable"));
    assert!(detail.contains("`id` would be asked") && !detail.contains(TOKEN), "{detail}");
    assert!(world.seen().calls.is_empty());
    assert_eq!(status(&chain, 0), 0);
    let (outcome, detail) = chain.explain(&mut request(&chain, TOKEN, 0));
    assert_eq!((outcome, detail.as_str()), (Outcome::Pass, "the token is of `ann`"));
}

#[test]
fn neither_secret_nor_token_is_in_what_is_told() {
    let world = Scripted::new(|_| away());
    let chain = chain(&world, "");
    let Err(Stop::Fault(fault)) = chain.inward(&mut request(&chain, TOKEN, 0)).1 else { panic!("it is refused") };
    let told = format!("{fault:?} {:?}", world.seen().told);
    assert!(!told.contains(TOKEN) && !told.contains("cret") && !told.contains("introspect?x=1"), "{told}");
}

#[test]
fn a_reload_keeps_the_answers() {
    let world = Scripted::new(|_| active(1_800_000_600));
    let bench = bench(&world);
    let build = |secret: &str| {
        let settings = format!("introspection: {{ url: https://id/, client: {{ id: me, secret: {secret} }} }}");
        bench.build(&settings).unwrap()
    };
    let first = build("one");
    assert_eq!(status(&first, 0), 0);
    let second = build("one");
    drop(first);
    bench.carry.sweep();
    assert_eq!(status(&second, 1), 0);
    assert_eq!(world.seen().calls.len(), 1);
    assert_eq!(status(&build("other"), 1), 0);
    assert_eq!(world.seen().calls.len(), 2);
    world.pass(Duration::from_secs(1));
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    let alone = "client: { id: me, secret: sesame-sesame }";
    let client = format!("audience: off, {alone}");
    for (settings, code) in [
        (format!("{{ {client} }}"), "missing_key"),
        ("{ url: https://id/ }".to_owned(), "missing_key"),
        (format!("{{ url: id, {client} }}"), "bad_value"),
        ("{ url: https://id/, client: { id: me } }".to_owned(), "missing_key"),
        ("{ url: https://id/, audience: off, client: { id: '', secret: a } }".to_owned(), "bad_value"),
        ("{ url: https://id/, client: { id: me, secret: '' } }".to_owned(), "bad_value"),
        (format!("{{ url: https://id/, {client}, cache: 2h }}"), "bad_value"),
        (format!("{{ url: https://id/, {client}, timeout: 0s }}"), "bad_value"),
        (format!("{{ url: https://id/, {client}, max_tokens: 0 }}"), "bad_value"),
        (format!("{{ url: https://id/, {client}, max_size: 1B }}"), "bad_value"),
        (format!("{{ url: https://id/, {client}, subject: [] }}"), "bad_value"),
        (format!("{{ url: https://id/, {client}, from: {{ header: Host }} }}"), "bad_value"),
        (format!("{{ url: https://id/, {client}, leeway: 1h }}"), "bad_value"),
        (format!("{{ url: https://id/, {alone}, audience: [] }}"), "bad_value"),
    ] {
        let errors = bench.errors(&format!("introspection: {settings}"));
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code) && !errors[0].contains("sesame"), "{settings}: {errors:?}");
    }
    let built = bench.build(&format!("introspection: {{ url: http://id/, {client} }}")).unwrap();
    let lines = built.findings.lines();
    assert!(lines.len() == 1 && lines[0].starts_with("insecure") && lines[0].contains("`http`"), "{lines:?}");
    let built = bench.build(&format!("introspection: {{ url: https://id/, {alone} }}")).unwrap();
    let lines = built.findings.lines();
    assert!(lines.len() == 1 && lines[0].starts_with("insecure") && lines[0].contains("`audience`"), "{lines:?}");
}

#[test]
fn an_audience_that_is_off_is_that_of_any_token() {
    for (audience, of_token, wanted) in [
        ("off", json!(["x"]), 0),
        ("off", json!("off"), 0),
        ("off", json!(null), 0),
        ("[off]", json!("off"), 0),
        ("[off]", json!("x"), 401),
        ("x", json!(["y", "x"]), 0),
        ("x", json!("xy"), 401),
        ("x", json!(null), 401),
    ] {
        let mut said = json!({ "active": true, "sub": "ann" });
        if !of_token.is_null() {
            said["aud"] = of_token.clone();
        }
        let world = Scripted::new(move |_| ok(said.to_string()));
        let built = chain(&world, &format!("audience: {audience}"));
        assert_eq!(status(&built, 0), wanted, "{audience} {of_token}");
        assert!(built.findings.lines().is_empty(), "{:?}", built.findings.lines());
    }
}

#[test]
fn whom_the_service_calls_by_the_name_of_a_consumer_is_not_taken_for_it() {
    for (subject, more, wanted) in [
        ("shop", "", 401),
        ("Shop", "", 0),
        // said to be the consumer, it is
        ("shop", ", consumer: sub", 0),
        ("Shop", ", consumer: sub", 401),
        ("a\r\nb: c", "", 401),
    ] {
        let said = json!({ "active": true, "sub": subject, "exp": 1_800_000_600 });
        let world = Scripted::new(move |_| ok(said.to_string()));
        let chain = chain(&world, &format!("audience: off{more}"));
        // once as it is answered, and once as it is remembered
        for _ in 0..2 {
            let mut exchange = request(&chain, TOKEN, 0);
            assert_eq!(chain.status(&mut exchange), wanted, "{subject:?} {more}");
            let (name, told) = (exchange.consumer_name(), exchange.request.head.get("x-consumer-name"));
            assert_eq!((name.is_some(), told.is_some()), (wanted == 0, wanted == 0), "{subject:?} {more}");
        }
        assert_eq!(world.seen().calls.len(), 1, "{subject:?} {more}");
    }
}

#[test]
fn a_subject_with_the_name_of_a_consumer_of_the_store_is_not_taken_for_it() {
    let world = Scripted::new(|_: &OutCall| active(1_800_000_600));
    let bench = bench(&world);
    let settings = "introspection: { url: 'https://id/introspect', client: { id: gateway, secret: secret } }";
    let chain = bench.build(settings).unwrap();
    assert_eq!(status(&chain, 0), 0);
    let _accounts = bench.with_stored("ann");
    assert_eq!(status(&chain, 0), 401);
}
