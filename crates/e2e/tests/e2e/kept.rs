//! The last good answer, given in place of one that failed: to whom, of what, for how long, and never more than may be kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemun_e2e::hpack::encode;
use daemun_e2e::http2::{Answer, END_HEADERS, END_STREAM, Ending, Http2, frame, kind};
use daemun_e2e::http2_origin::answer_streams;
use daemun_e2e::{Gateway, Next, Origin, Response, wait_until};

/// What an upstream says to every request from now on.
#[derive(Clone)]
struct Tape(Arc<Mutex<(String, Next)>>);

impl Tape {
    fn origin() -> (Tape, Origin) {
        let tape = Tape(Arc::new(Mutex::new((String::new(), Next::Close))));
        let own = tape.clone();
        let origin = Origin::serve(move |peer, _| {
            let (text, next) = own.0.lock().unwrap().clone();
            if text == "hang" {
                peer.stall();
            } else {
                peer.send(text);
            }
            next
        });
        (tape, origin)
    }

    /// Answers 200 with these fields, each with its line's end, and a body.
    fn says(&self, fields: &str, body: &str) {
        self.sends(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len()), Next::Keep);
    }

    fn sends(&self, text: &str, next: Next) {
        *self.0.lock().unwrap() = (text.to_owned(), next);
    }

    fn fails(&self) {
        self.sends("", Next::Close);
    }
}

/// A gateway whose only upstream has a fallback.
fn gateway(origin: &Origin, fallback: &str) -> Gateway {
    Gateway::start(&yaml(origin, fallback))
}

fn yaml(origin: &Origin, fallback: &str) -> String {
    format!(
        "listeners: [{{ bind: 127.0.0.1:0 }}]\naccess_log: {{ format: json, to: stdout }}\n\
         upstreams:\n  origin:\n    targets: [\"{}\"]\n    timeouts: {{ response: 500ms }}\n    fallback: {fallback}\n\
         routes:\n  - {{ name: keyed, match: {{ prefix: /keyed }}, upstream: origin, policies: {{ key_auth: {{ header: x-key }} }} }}\n\
         \x20 - name: changed\n    match: {{ prefix: /changed }}\n    upstream: origin\n    policies:\n\
         \x20     compress: {{ min_size: 1B }}\n      transform: {{ response: [{{ set: {{ header.x-set: here }} }}] }}\n\
         \x20 - {{ name: all, upstream: origin }}\n\
         consumers:\n  - {{ name: one, keys: [one-one-one-one-one] }}\n  - {{ name: two, keys: [two-two-two-two-two] }}\n",
        origin.url()
    )
}

fn ask(gateway: &Gateway, method: &str, target: &str, fields: &str) -> Response {
    let mut client = gateway.connect();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: e2e.test\r\nConnection: close\r\n{fields}\r\n"));
    client.response_to(method).unwrap()
}

fn get(gateway: &Gateway, target: &str, fields: &str) -> Response {
    ask(gateway, "GET", target, fields)
}

/// Whether an answer was given before.
fn was_kept(answer: &Response) -> bool {
    let kept = answer.field("cache-status") == Some("daemun; hit; detail=fallback");
    assert_eq!(kept, answer.status < 500, "{answer:?}");
    assert_eq!(kept, answer.field("age").is_some(), "{answer:?}");
    kept
}

#[test]
fn a_call_that_fails_gets_the_last_good_answer_and_its_age() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: {}, on: [failure, \"503\"] }");
    tape.says("Content-Type: text/x\r\nX-A: b\r\nAge: 100\r\nCache-Control: max-age=5\r\n", "good");
    let good = get(&gateway, "/a?b=c", "");
    assert_eq!((good.status, good.field("cache-status")), (200, None));
    let failures = [
        ("", Next::Close),
        ("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", Next::Keep),
        ("hang", Next::Close),
        ("no answer\r\n\r\n", Next::Close),
    ];
    for (text, next) in failures {
        tape.sends(text, next);
        let kept = get(&gateway, "/a?b=c", "");
        assert!(was_kept(&kept));
        assert_eq!((kept.status, kept.text().as_str(), kept.field("x-a")), (200, "good", Some("b")));
        assert!((100..160).contains(&kept.field("age").unwrap().parse().unwrap()), "{kept:?}");
        assert!(kept.field("date").is_some() && kept.field("x-request-id").is_some(), "{kept:?}");
        // what is asked for is what it was an answer to
        assert!(matches!(get(&gateway, "/a?b=d", "").status, 502..=504));
    }
    assert_eq!(get(&gateway, "/a?b=c", "Content-Length: 1\r\n\r\na").status, 502);
    let head = ask(&gateway, "HEAD", "/a?b=c", "");
    assert!(was_kept(&head));
    assert_eq!((head.text().as_str(), head.field("content-length")), ("", Some("4")));
    assert_eq!(ask(&gateway, "POST", "/a?b=c", "Content-Length: 0\r\n").status, 502);
    let lines = wait_until("the log is written", Duration::from_secs(10), || {
        let lines = gateway.access_log();
        (lines.len() == 12).then_some(lines)
    });
    let stood_in =
        |line: &serde_json::Value| line["cause"].as_str().is_some_and(|cause| cause.contains("stands in for"));
    assert_eq!(lines.iter().filter(|line| stood_in(line) && line["status"] == 200).count(), 5, "{lines:?}");
}

#[test]
fn a_status_that_nothing_is_kept_for_is_passed_on_and_another_fallback_comes_second() {
    let (tape, origin) = Tape::origin();
    let cached = gateway(&origin, "{ cached: {}, on: [\"503\"] }");
    let both = gateway(&origin, "{ cached: {}, answer: { status: 203, body: sorry }, on: [\"503\"] }");
    tape.says("", "good");
    get(&both, "/there", "");
    tape.sends("HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nill", Next::Keep);
    let passed = get(&cached, "/there", "");
    assert_eq!((passed.status, passed.text().as_str()), (503, "ill"));
    assert_eq!(get(&both, "/there", "").text(), "good");
    assert_eq!(get(&both, "/elsewhere", "").text(), "sorry");
}

#[test]
fn what_one_consumer_was_given_reaches_no_other() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: {} }");
    tape.says("Cache-Control: public\r\n", "of one");
    assert_eq!(get(&gateway, "/keyed", "X-Key: one-one-one-one-one\r\n").status, 200);
    tape.fails();
    assert!(!was_kept(&get(&gateway, "/keyed", "X-Key: two-two-two-two-two\r\n")));
    assert_eq!(get(&gateway, "/keyed", "X-Key: one-one-one-one-one\r\n").text(), "of one");
    assert_eq!(get(&gateway, "/keyed", "").status, 401);
    // nor does another tenant's, however the gateway is told of it
    tape.says("", "of a");
    get(&gateway, "/", "X-Tenant: a\r\n");
    tape.fails();
    assert!(!was_kept(&get(&gateway, "/", "X-Tenant: b\r\n")));
    assert!(!was_kept(&get(&gateway, "/", "")));
    assert!(was_kept(&get(&gateway, "/", "X-TENANT: a\r\nUser-Agent: other\r\n")));
}

#[test]
fn what_a_shared_cache_may_not_keep_is_not_kept() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: {} }");
    let cases = [
        ("", "Cache-Control: private\r\n", ""),
        ("", "Cache-Control: no-store\r\n", ""),
        ("", "Cache-Control: must-revalidate\r\n", ""),
        ("", "Set-Cookie: a=b\r\n", ""),
        ("", "Vary: *\r\n", ""),
        ("Cache-Control: no-store\r\n", "", ""),
        ("Cookie: session=a\r\n", "", "Cookie: session=a\r\n"),
        ("Authorization: Bearer a\r\n", "", "Authorization: Bearer a\r\n"),
        // one that was given without credentials is not for a caller with some
        ("", "", "Cookie: session=a\r\n"),
        ("", "", "Authorization: Bearer a\r\n"),
        ("", "Vary: Accept-Language\r\n", "Accept-Language: ko\r\n"),
    ];
    for (number, (request, answer, again)) in cases.iter().enumerate() {
        let target = format!("/{number}");
        tape.says(answer, "good");
        assert_eq!(get(&gateway, &target, request).status, 200);
        tape.fails();
        assert!(!was_kept(&get(&gateway, &target, again)), "{request} {answer} {again}");
    }
    for (target, fields) in [("/cookie", "Cookie: a=b\r\n"), ("/token", "Authorization: Bearer a\r\n")] {
        tape.says("Cache-Control: public\r\n", "good");
        get(&gateway, target, fields);
        tape.fails();
        assert!(was_kept(&get(&gateway, target, fields)), "{fields}");
    }
    tape.says("Vary: Accept-Language\r\n", "good");
    get(&gateway, "/vary", "Accept-Language: en\r\n");
    tape.says("Vary: Accept-Language\r\n", "ko");
    get(&gateway, "/vary", "Accept-Language: ko\r\n");
    tape.fails();
    assert_eq!(get(&gateway, "/vary", "Accept-Language: en\r\n").text(), "good");
    assert_eq!(get(&gateway, "/vary", "Accept-Language: ko\r\n").text(), "ko");
}

#[test]
fn an_answer_that_is_too_large_or_not_whole_is_not_kept() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: { max: 8B } }");
    let chunked = |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    for (number, (text, kept)) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678".to_owned(), true),
        (chunked("4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n"), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789".to_owned(), false),
        (chunked("4\r\n1234\r\n5\r\n56789\r\n0\r\n\r\n"), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n1234567".to_owned(), false),
        (chunked("4\r\n1234\r\n"), false),
        (chunked("4\r\n1234\r\n0\r\nX-A: b\r\n\r\n"), false),
        ("HTTP/1.1 200 OK\r\n\r\n12345678".to_owned(), false),
        ("HTTP/1.1 206 OK\r\nContent-Range: bytes 0-0/2\r\nContent-Length: 1\r\n\r\na".to_owned(), false),
        ("HTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\na".to_owned(), false),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1\r\n\r\na".to_owned(), false),
    ]
    .iter()
    .enumerate()
    {
        let target = format!("/{number}");
        tape.sends(text, Next::Close);
        let mut client = gateway.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\nConnection: close\r\n\r\n"));
        let _ = client.rest();
        tape.fails();
        assert_eq!(was_kept(&get(&gateway, &target, "")), *kept, "{text}");
    }
}

#[test]
fn memory_is_bounded_and_what_was_not_used_for_longest_is_forgotten() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: { memory: 1MiB, max: 256KiB } }");
    tape.says("", &"a".repeat(200 * 1024));
    for number in 0..8 {
        assert_eq!(get(&gateway, &format!("/{number}"), "").status, 200);
    }
    tape.fails();
    let kept: Vec<bool> = (0..8).map(|number| was_kept(&get(&gateway, &format!("/{number}"), ""))).collect();
    assert_eq!(kept, [false, false, false, false, false, true, true, true]);
    assert_eq!(get(&gateway, "/7", "").text().len(), 200 * 1024);
}

#[test]
fn a_reload_keeps_answers_while_their_settings_stay() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: {} }");
    tape.says("", "good");
    assert_eq!(get(&gateway, "/a", "").status, 200);
    tape.fails();
    let reload = |fallback: &str, mark: &str| {
        let route = format!("  - {{ name: {mark}, match: {{ path: /{mark} }}, answer: {{ body: here }} }}\n");
        gateway.rewrite(&yaml(&origin, fallback).replace("routes:\n", &format!("routes:\n{route}")));
        wait_until("the new configuration is there", Duration::from_secs(10), || {
            (get(&gateway, &format!("/{mark}"), "").text() == "here").then_some(())
        });
    };
    reload("{ cached: {} }", "same");
    assert!(was_kept(&get(&gateway, "/a", "")));
    reload("{ cached: { for: 5m } }", "other");
    assert!(!was_kept(&get(&gateway, "/a", "")));
}

#[test]
fn what_was_changed_is_not_answered_as_it_was() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: {} }");
    tape.says("", "good");
    for target in ["/a", "/b"] {
        assert_eq!(get(&gateway, target, "").status, 200);
    }
    // one that was refused changed nothing
    tape.sends("HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n", Next::Keep);
    assert_eq!(ask(&gateway, "PUT", "/b", "Content-Length: 0\r\n").status, 409);
    tape.says("", "");
    assert_eq!(ask(&gateway, "PUT", "/a", "Content-Length: 0\r\n").status, 200);
    tape.fails();
    assert!(!was_kept(&get(&gateway, "/a", "")));
    assert!(was_kept(&get(&gateway, "/b", "")));
}

#[test]
fn policies_run_over_it_as_over_any_answer() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: {} }");
    let body = "the same again ".repeat(100);
    tape.says("Content-Type: text/plain\r\nVary: Accept-Encoding\r\n", &body);
    let coded = get(&gateway, "/changed", "Accept-Encoding: gzip\r\n");
    assert_eq!((coded.field("content-encoding"), coded.field("x-set")), (Some("gzip"), Some("here")));
    tape.fails();
    let kept = get(&gateway, "/changed", "Accept-Encoding: gzip\r\n");
    assert!(was_kept(&kept));
    assert_eq!((kept.field("content-encoding"), kept.field("x-set")), (Some("gzip"), Some("here")));
    assert!(kept.body.len() < body.len());
    let head = ask(&gateway, "HEAD", "/changed", "Accept-Encoding: gzip\r\n");
    assert!(was_kept(&head) && head.field("x-set") == Some("here"));
}

#[test]
fn clients_of_http2_get_it_too() {
    let (tape, origin) = Tape::origin();
    let gateway = gateway(&origin, "{ cached: {} }");
    tape.says("", "good");
    let mut client = Http2::connect(gateway.address());
    let mut get = |stream: u32| -> Answer {
        match client.get(stream, "/a").unwrap() {
            Ending::Answer(answer) => *answer,
            other @ (Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed) => panic!("{other:?}"),
        }
    };
    assert_eq!(get(1).status, 200);
    tape.fails();
    let kept = get(3);
    assert_eq!((kept.status, kept.field("cache-status")), (200, Some("daemun; hit; detail=fallback")));
    assert_eq!(kept.body, b"good");
}

#[test]
fn answers_over_http2_are_kept_when_they_are_whole() {
    let fails = Arc::new(AtomicBool::new(false));
    let own = Arc::clone(&fails);
    let origin = Origin::start(move |peer| {
        let own = Arc::clone(&own);
        answer_streams(peer, move |stream, target| {
            let reset = frame(kind::RESET, 0, stream, &2_u32.to_be_bytes());
            if own.load(Ordering::SeqCst) {
                return reset;
            }
            let mut answer = frame(kind::HEADERS, END_HEADERS, stream, &encode(&[(":status", "200")]));
            let whole = target == "/whole";
            answer.extend(frame(kind::DATA, if whole { END_STREAM } else { 0 }, stream, b"good"));
            if !whole {
                answer.extend(reset);
            }
            answer
        })
    });
    let gateway = Gateway::start(&yaml(&origin, "{ cached: {} }").replace("timeouts:", "protocol: h2c\n    timeouts:"));
    assert_eq!(get(&gateway, "/whole", "").text(), "good");
    let mut client = gateway.connect();
    client.send("GET /torn HTTP/1.1\r\nHost: e2e.test\r\nConnection: close\r\n\r\n");
    let _ = client.rest();
    fails.store(true, Ordering::SeqCst);
    assert_eq!(get(&gateway, "/whole", "").text(), "good");
    assert!(!was_kept(&get(&gateway, "/torn", "")));
}

/// A policy that refuses an answer, and those that saw it before, see what comes in its place as well.
#[test]
fn what_comes_in_place_of_an_answer_that_a_policy_refused_passes_all_policies() {
    let (tape, origin) = Tape::origin();
    let (other_tape, other) = Tape::origin();
    let gateway = Gateway::start(&format!(
        "listeners: [{{ bind: 127.0.0.1:0 }}]\naccess_log: off\nupstreams:\n  kept: {{ targets: [\"{0}\"], fallback: {{ cached: {{}}, on: [failure] }} }}\n\
         \x20 led: {{ targets: [\"{0}\"], fallback: {{ upstream: other, on: [failure] }} }}\n  other: {{ targets: [\"{1}\"] }}\n\
         policies: {{ transform: {{ response: [{{ remove: body.secret }}, {{ remove: header.x-inner }}, {{ set: {{ header.x-done: done }} }}] }} }}\n\
         routes:\n  - {{ name: kept, match: {{ prefix: /kept }}, upstream: kept }}\n  - {{ name: led, match: {{ prefix: /led }}, upstream: led }}\n",
        origin.url(),
        other.url(),
    ));
    let fields = "Content-Type: application/json\r\nX-Inner: host-7\r\n";
    let judge = |answer: &Response| {
        assert_eq!(
            (answer.status, answer.field("x-done"), answer.field("x-inner")),
            (200, Some("done"), None),
            "{answer:?}"
        );
        let body = String::from_utf8_lossy(&answer.body);
        assert!(body.contains("told") && !body.contains("secret"), "{body}");
    };
    tape.says(fields, r#"{"secret":"s","told":1}"#);
    other_tape.says(fields, r#"{"secret":"o","told":2}"#);
    judge(&get(&gateway, "/kept", ""));
    tape.says(fields, "{broken");
    let kept = get(&gateway, "/kept", "");
    assert!(was_kept(&kept));
    judge(&kept);
    judge(&get(&gateway, "/led", ""));
}
