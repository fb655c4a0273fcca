//! Calls that fail are made again, elsewhere, or not at all; and calls that are made twice.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemun_dataplane::Clock;
use support::{PATIENCE, Running, client, read_head, read_to_end, start};

/// A request as a target received it: first line, and body.
type Seen = (String, String);

/// What a target does with its connections, given what it received.
type Script = dyn Fn(&mut TcpStream, &Seen) -> bool + Send + Sync;

/// A target that tells what it received, and then does as its script says until that is false.
fn target(script: impl Fn(&mut TcpStream, &Seen) -> bool + Send + Sync + 'static) -> (SocketAddr, Receiver<Seen>) {
    let (tell, told) = sync_channel(10_000);
    let script: Arc<Script> = Arc::new(script);
    let tell = Mutex::new(tell);
    let address = support::origin(move |mut stream| {
        let tell: SyncSender<Seen> = tell.lock().unwrap().clone();
        while let Some(seen) = read(&mut stream) {
            let _ = tell.send(seen.clone());
            if !script(&mut stream, &seen) {
                return;
            }
        }
    });
    (address, told)
}

fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    let end = read_head(stream, &mut head)?;
    let mut body = head.split_off(end);
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let more = |stream: &mut TcpStream, body: &mut Vec<u8>| {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).unwrap_or(0);
        body.extend_from_slice(&piece[..n]);
        n > 0
    };
    if lower.contains("transfer-encoding: chunked") {
        while !body.ends_with(b"0\r\n\r\n") {
            if !more(stream, &mut body) {
                return None;
            }
        }
        body = whole(std::str::from_utf8(&body).unwrap()).into_bytes();
    }
    while length.is_some_and(|length| body.len() < length.parse().unwrap()) {
        if !more(stream, &mut body) {
            return None;
        }
    }
    Some((head.lines().next().unwrap().to_owned(), String::from_utf8(body).unwrap()))
}

/// The text of chunks.
fn whole(chunks: &str) -> String {
    let (size, rest) = chunks.split_once("\r\n").unwrap();
    let size = usize::from_str_radix(size, 16).unwrap();
    if size == 0 { String::new() } else { rest[..size].to_owned() + &whole(&rest[size + 2..]) }
}

fn says(text: &'static str) -> impl Fn(&mut TcpStream, &Seen) -> bool + Send + Sync + 'static {
    move |stream, _| answer(stream, "200 OK", text)
}

fn answer(stream: &mut TcpStream, status: &str, text: &str) -> bool {
    let length = text.len();
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}").as_bytes()).is_ok()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A gateway with one route to targets that are asked in turn; `upstream` and `route` are further lines of each.
fn gateway(targets: &[SocketAddr], upstream: &str, route: &str, more: &str, clock: Clock) -> Running {
    let targets: Vec<String> = targets.iter().map(|target| format!("\"http://{target}\"")).collect();
    let yaml = format!(
        "upstreams:\n  main: {{ targets: [{}], {upstream} }}\n{more}\nroutes:\n  - {{ name: all, upstream: main, {route} }}\n",
        targets.join(", ")
    );
    start(&yaml, clock)
}

fn get(running: &Running) -> String {
    ask(running, "GET / HTTP/1.1\r\n\r\n")
}

/// Status and body of the answer to a request without `Host`.
fn ask(running: &Running, request: &str) -> String {
    let request = request.replacen("\r\n", "\r\nHost: a\r\nConnection: close\r\n", 1);
    short(&read_to_end(&mut client(running.address, request.as_bytes())))
}

fn short(answer: &str) -> String {
    let (head, body) = answer.rsplit_once("\r\n\r\n").unwrap_or((answer, ""));
    let last = head.rfind("HTTP/1.1 ").map_or(head, |at| &head[at..]);
    let status = last.get(9..12).unwrap_or("nothing");
    if status.starts_with('2') { format!("{status} {body}") } else { status.to_owned() }
}

const RETRY: &str = "retry: { retries: 1, on: [connect_failure, reset, timeout, \"503\"], backoff: 0ms }";

#[test]
fn a_call_that_was_reset_is_made_again_on_another_target_if_that_is_safe() {
    let (bad, _) = target(|_, _| false);
    let (good, seen) = target(says("good"));
    let running = gateway(&[bad, good], RETRY, "", "", Clock::system());
    // every other call begins at the bad one
    for _ in 0..4 {
        assert_eq!(get(&running), "200 good");
    }
    assert_eq!(seen.try_iter().count(), 4);
    let posts = [(), ()].map(|()| ask(&running, "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na"));
    assert!(posts.contains(&"200 good".to_owned()) && posts.contains(&"502".to_owned()), "{posts:?}");
    support::until_said(&running, "daemun_upstream_retries_total{upstream=\"main\"} 2\n");
}

#[test]
fn without_the_setting_a_call_that_was_reset_is_not_made_again() {
    let (bad, seen) = target(|_, _| false);
    let (good, _) = target(says("good"));
    let running = gateway(&[bad, good], "", "", "", Clock::system());
    let mut both = [get(&running), get(&running)];
    both.sort();
    assert_eq!(both, ["200 good", "502"]);
    assert_eq!(seen.try_iter().count(), 1);
}

#[test]
fn a_route_may_have_its_own_retries_or_none() {
    let (bad, _) = target(|_, _| false);
    let (good, _) = target(says("good"));
    let running = gateway(&[bad, good], RETRY, "retry: off", "", Clock::system());
    let mut both = [get(&running), get(&running)];
    both.sort();
    assert_eq!(both, ["200 good", "502"]);
    let running = gateway(&[bad, good], "", RETRY, "", Clock::system());
    assert_eq!([get(&running), get(&running)], ["200 good", "200 good"]);
}

#[test]
fn a_status_that_is_listed_is_asked_for_again_and_passed_on_when_there_is_no_better() {
    let (ill, seen) = target(|stream, _| answer(stream, "503 Service Unavailable", "ill"));
    let (good, _) = target(says("good"));
    let running = gateway(&[ill, good], RETRY, "", "", Clock::system());
    for _ in 0..4 {
        assert_eq!(get(&running), "200 good");
    }
    let running = gateway(&[ill], "retry: { retries: 2, on: [\"503\"], backoff: 0ms }", "", "", Clock::system());
    let _ = seen.try_iter().count();
    assert_eq!(get(&running), "503");
    assert_eq!(seen.try_iter().count(), 3);
    // what failed by its status may fail otherwise the next time
    let retry = "retry: { retries: 2, on: [\"503\", connect_failure], backoff: 0ms }";
    let running = gateway(&[ill, nobody(), good], retry, "", "", Clock::system());
    assert_eq!([get(&running), get(&running), get(&running)], ["200 good"; 3]);
    // it is not listed
    let (other, seen) = target(|stream, _| answer(stream, "500 Oh", "no"));
    let running = gateway(&[other], RETRY, "", "", Clock::system());
    assert_eq!(get(&running), "500");
    assert_eq!(seen.try_iter().count(), 1);
}

#[test]
fn a_body_is_sent_again_from_what_was_kept_of_it() {
    let (bad, seen_bad) = target(|_, _| false);
    let (good, seen) = target(says("good"));
    for put in [
        "PUT /p HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789",
        "PUT /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    ] {
        let retry = "retry: { buffer: 10B }";
        let running = gateway(&[bad, good], retry, "", "", Clock::system());
        assert_eq!([ask(&running, put), ask(&running, put)], ["200 good", "200 good"]);
        for (line, body) in seen.try_iter() {
            assert_eq!(line, "PUT /p HTTP/1.1");
            assert_eq!(body, "0123456789");
        }
        assert_eq!(seen_bad.try_iter().count(), 1);
        let running = gateway(&[bad, good], "retry: { buffer: 9B }", "", "", Clock::system());
        let mut both = [ask(&running, put), ask(&running, put)];
        both.sort();
        assert_eq!(both, ["200 good", "502"]);
        let _ = (seen.try_iter().count(), seen_bad.try_iter().count());
    }
}

#[test]
fn nothing_is_sent_again_after_a_byte_went_to_the_client() {
    let (bad, _) = target(|stream, _| {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").unwrap();
        false
    });
    let (broken, _) = target(|stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
        false
    });
    let (good, seen) = target(says("good"));
    let running = gateway(&[bad, good], RETRY, "", "", Clock::system());
    let mut both = [get(&running), get(&running)];
    both.sort();
    assert_eq!(both, ["200 good", "502"]);
    let running = gateway(&[broken, good], RETRY, "", "", Clock::system());
    let mut both = [get(&running), get(&running)];
    both.sort();
    assert_eq!(both, ["200 good", "200 half"]);
    assert_eq!(seen.try_iter().count(), 2);
}

#[test]
fn a_call_that_is_not_answered_in_time_is_made_again() {
    let (hung, told) = target(|stream, _| stream.read(&mut [0]).is_err());
    let (good, _) = target(says("good"));
    let clock = Clock::manual();
    let upstream = format!("{RETRY}, timeouts: {{ response: 1s }}");
    let running = gateway(&[hung, good], &upstream, "", "", clock);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        if told.recv_timeout(Duration::from_millis(300)).is_ok() {
            support::advance_until_readable(&running, &stream, Duration::from_millis(100), Duration::from_secs(20));
        }
        answers.push(short(&read_to_end(&mut stream)));
    }
    assert_eq!(answers, ["200 good", "200 good"]);
}

#[test]
fn retries_stop_where_the_budget_ends() {
    let (bad, seen) = target(|_, _| false);
    let retry = "retry: { retries: 3, budget: 0%, backoff: 0ms }";
    // time alone pays for one a second: here it stands still
    let running = gateway(&[bad], retry, "", "", Clock::manual());
    for _ in 0..20 {
        assert_eq!(get(&running), "502");
    }
    assert_eq!(seen.try_iter().count(), 20 + 10);
}

#[test]
fn a_second_call_is_made_beside_one_that_takes_long_and_the_first_answer_counts() {
    let (slow, told) = target(|stream, _| stream.read(&mut [0]).is_err());
    let (good, seen) = target(says("good"));
    let clock = Clock::manual();
    let running = gateway(&[slow, good], "hedge: { after: 50ms }", "", "", clock);
    let mut hedged = 0;
    for _ in 0..2 {
        let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        if told.recv_timeout(Duration::from_millis(300)).is_ok() {
            hedged += 1;
            support::advance_until_readable(&running, &stream, Duration::from_millis(10), Duration::from_secs(5));
        }
        assert_eq!(short(&read_to_end(&mut stream)), "200 good");
    }
    assert_eq!((hedged, seen.try_iter().count()), (1, 2));
    // what must not be done twice waits
    let posts = (0..2).map(|_| {
        let post = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let stream = client(running.address, post);
        (told.recv_timeout(Duration::from_millis(300)).is_ok(), stream)
    });
    let (_, stream) = posts.into_iter().find(|(slow, _)| *slow).unwrap();
    let moved = support::advance_until_readable(&running, &stream, Duration::from_secs(1), Duration::from_secs(60));
    assert!(moved >= Duration::from_secs(29), "{moved:?}");
}

#[test]
fn a_call_that_failed_falls_back_to_another_upstream_or_an_answer() {
    let (other, seen) = target(says("other"));
    let more = format!("  spare: {{ targets: [\"http://{other}\"] }}");
    let to = "fallback: { upstream: spare }";
    let running = gateway(&[nobody()], to, "", &more, Clock::system());
    assert_eq!(get(&running), "200 other");
    // nothing of it was sent, so that even this may go elsewhere
    assert_eq!(ask(&running, "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), "200 other");
    assert_eq!(seen.try_iter().map(|(_, body)| body).collect::<Vec<_>>(), ["", "abc"]);
    let (bad, _) = target(|_, _| false);
    let running = gateway(&[bad], to, "", &more, Clock::system());
    assert_eq!(get(&running), "200 other");
    assert_eq!(ask(&running, "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), "502");
    let fixed = "fallback: { answer: { status: 203, body: sorry } }";
    let running = gateway(&[bad], to, fixed, &more, Clock::system());
    assert_eq!(get(&running), "203 sorry");
    assert_eq!(ask(&running, "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), "203 sorry");
}

#[test]
fn a_status_may_count_as_failed() {
    let (ill, _) = target(|stream, _| answer(stream, "503 Service Unavailable", "ill"));
    let fallback = "fallback: { on: [\"503\"], answer: { body: sorry } }";
    let running = gateway(&[ill], fallback, "", "", Clock::system());
    assert_eq!(get(&running), "200 sorry");
    let running = gateway(&[nobody()], fallback, "", "", Clock::system());
    assert_eq!(get(&running), "502");
    let (other, seen) = target(says("other"));
    let more = format!("  spare: {{ targets: [\"http://{other}\"] }}");
    let fallback =
        "fallback: { on: [failure, \"503\"], upstream: spare }, retry: { retries: 1, on: [\"503\"], backoff: 0ms }";
    let running = gateway(&[ill], fallback, "", &more, Clock::system());
    assert_eq!(get(&running), "200 other");
    // it may have had an effect, so that its answer stays what it was
    assert_eq!(ask(&running, "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), "503");
    assert_eq!(seen.try_iter().count(), 1);
}

#[test]
fn the_answer_of_a_fallback_is_passed_on_whatever_its_status() {
    let (ill, _) = target(|stream, _| answer(stream, "503 Service Unavailable", "ill"));
    let (other, _) = target(|stream, _| answer(stream, "503 Service Unavailable", "also ill"));
    let more = format!("  spare: {{ targets: [\"http://{other}\"] }}");
    let route = "fallback: { on: [failure, \"503\"], upstream: spare }";
    let running = gateway(&[ill], "", route, &more, Clock::system());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = read_to_end(&mut client(running.address, request));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("also ill"), "{answer}");
}

#[test]
fn a_fallback_has_its_own_attempts_that_need_no_setting() {
    let (good, _) = target(says("good"));
    let more = format!("  spare: {{ targets: [\"http://{}\", \"http://{good}\"] }}", nobody());
    let to = "fallback: { upstream: spare }";
    let running = gateway(&[nobody(), nobody(), nobody()], to, "", &more, Clock::system());
    for _ in 0..4 {
        assert_eq!(get(&running), "200 good");
    }
}

#[test]
fn the_last_good_answer_is_given_until_it_is_too_old() {
    let (ill, _) = {
        let asked = AtomicUsize::new(0);
        target(move |stream, _| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => answer(stream, "200 OK", "good"),
            _ => answer(stream, "503 Service Unavailable", "ill"),
        })
    };
    let clock = Clock::manual();
    let running = gateway(&[ill], "fallback: { cached: { for: 1m }, on: [\"503\"] }", "", "", clock.clone());
    let whole = || read_to_end(&mut client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    assert_eq!(get(&running), "200 good");
    let date = "date: Thu, 01 Jan 2026 00:00:01 GMT\r\n";
    for (more, age) in [(30, 30), (29, 59)] {
        clock.advance(Duration::from_secs(more));
        let kept = whole();
        assert!(kept.contains(&format!("age: {age}\r\n")) && kept.contains(date), "{kept}");
        assert!(kept.starts_with("HTTP/1.1 200 ") && kept.ends_with("good"), "{kept}");
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(get(&running), "503");
}

#[test]
fn an_open_breaker_and_a_full_upstream_count_as_failed() {
    let (ill, _) = target(|stream, _| answer(stream, "500 Oh", "ill"));
    let upstream = "breaker: { consecutive: 1, open_for: 1h }, fallback: { answer: { body: sorry } }";
    let running = gateway(&[ill], upstream, "", "", Clock::system());
    assert_eq!(get(&running), "500");
    assert_eq!(get(&running), "200 sorry");
    let (hung, seen) = target(|stream, _| stream.read(&mut [0]).is_err());
    let upstream = "limits: { requests: 1, queue: 0 }, fallback: { answer: { body: sorry } }";
    let running = gateway(&[hung], upstream, "", "", Clock::system());
    let _holds = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    seen.recv_timeout(PATIENCE).unwrap();
    assert_eq!(get(&running), "200 sorry");
}

#[test]
fn a_call_does_not_wait_for_a_place_at_an_upstream_without_a_healthy_target() {
    let (hung, seen) = target(|stream, _| stream.read(&mut [0]).is_err());
    let upstream = "limits: { requests: 1, queue: 10, queue_timeout: 1h }, health: { path: / }";
    let running = gateway(&[hung], upstream, "", "", Clock::manual());
    let _holds = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    seen.recv_timeout(PATIENCE).unwrap();
    let upstream = running.snapshot.upstreams().next().unwrap();
    upstream.targets()[0].state().report_active(false, "it was told so", running.clock.now());
    assert_eq!(get(&running), "503");
}

#[test]
fn an_answer_that_nobody_else_could_better_is_passed_on() {
    let (ill, seen) = target(|stream, _| answer(stream, "503 Service Unavailable", "ill"));
    // the first answer opens the breaker
    let upstream = format!("{RETRY}, breaker: {{ consecutive: 1, open_for: 1h }}");
    let running = gateway(&[ill], &upstream, "", "", Clock::system());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = read_to_end(&mut client(running.address, request));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("ill"), "{answer}");
    assert_eq!(seen.try_iter().count(), 1);
}

#[test]
fn the_bodies_of_copies_that_hang_are_bounded() {
    let (main, _) = target(says("main"));
    let (hung, seen) = target(|stream, _| stream.read(&mut [0]).is_err());
    let more = format!("  shadow: {{ targets: [\"http://{hung}\"] }}");
    let route = "limits: { body: 20MiB }, mirror: { upstream: shadow, buffer: 20MiB }";
    let running = gateway(&[main], "", route, &more, Clock::system());
    let body = "x".repeat(20 << 20);
    let post = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for _ in 0..5 {
        assert_eq!(ask(&running, &post), "200 main");
    }
    // a call without a body goes there after them
    assert_eq!(get(&running), "200 main");
    let mut copies = Vec::new();
    while !copies.contains(&"GET / HTTP/1.1".to_owned()) || copies.len() < 4 {
        copies.push(seen.recv_timeout(PATIENCE).unwrap().0);
    }
    assert_eq!(copies.iter().filter(|line| line.starts_with("POST")).count(), 3);
    assert!(seen.recv_timeout(Duration::from_millis(200)).is_err());
}

#[test]
fn a_connection_on_which_a_copy_was_answered_early_is_not_used_again() {
    let (main, _) = target(says("main"));
    let (tell, told) = sync_channel(100);
    let tell = Mutex::new(tell);
    // answers what it reads of the head, and reads no body until it is told to
    let shadow = support::origin(move |mut stream| {
        let tell = tell.lock().unwrap().clone();
        let mut head = Vec::new();
        while read_head(&mut stream, &mut head).is_some() {
            let _ = tell.send(String::from_utf8_lossy(&head[..head.len().min(10)]).into_owned());
            answer(&mut stream, "200 OK", "early");
            head.clear();
        }
    });
    let more = format!("  shadow: {{ targets: [\"http://{shadow}\"] }}");
    let route = "limits: { body: 20MiB }, mirror: { upstream: shadow, buffer: 20MiB }";
    let running = gateway(&[main], "", route, &more, Clock::system());
    let body = "x".repeat(14 << 20);
    let post = format!("POST /p HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(ask(&running, &post), "200 main");
    assert!(told.recv_timeout(PATIENCE).unwrap().starts_with("POST /p"));
    support::until_said(&running, &format!("target=\"http://{shadow}\",class=\"2xx\"}} 1\n"));
    assert_eq!(get(&running), "200 main");
    // on a connection of its own, not within the body of the first
    assert!(told.recv_timeout(PATIENCE).unwrap().starts_with("GET / "));
}

#[test]
fn a_share_of_the_calls_is_sent_elsewhere_as_well_with_their_bodies() {
    let (main, _) = target(says("main"));
    let (shadow, seen) = target(|stream, _| answer(stream, "500 Oh", "nobody reads this"));
    let more = format!("  shadow: {{ targets: [\"http://{shadow}\"] }}");
    let running = gateway(&[main], "", "mirror: { upstream: shadow, buffer: 10B }", &more, Clock::system());
    assert_eq!(get(&running), "200 main");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), ("GET / HTTP/1.1".to_owned(), String::new()));
    for body in ["01234567890", "0123456789"] {
        let post = format!("POST /p HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(ask(&running, &post), "200 main");
    }
    // the first was too long
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), ("POST /p HTTP/1.1".to_owned(), "0123456789".to_owned()));
    let running = gateway(&[main], "", "mirror: { upstream: shadow, share: 0% }", &more, Clock::system());
    assert_eq!(get(&running), "200 main");
    let running = gateway(
        &[main],
        "",
        "mirror: { upstream: gone }",
        "  gone: { targets: [\"http://127.0.0.1:1\"] }",
        Clock::system(),
    );
    assert_eq!(get(&running), "200 main");
    assert!(seen.try_recv().is_err());
}
