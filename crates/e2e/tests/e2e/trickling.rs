//! Upstreams that send their answers byte by byte, with retries and second calls on: a call ends at its time limit, is made again only
//! before a byte of an answer went to its client, and takes no more memory than another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daemun_e2e::wait::{PATIENCE, now, poll};
use daemun_e2e::{Gateway, Next, Origin, Peer, wait_until};

const RETRY: &str = "retry: { retries: 1, on: [timeout, reset, connect_failure], budget: 100% }";
const HEDGE: &str = "hedge: { after: 100ms, budget: 100% }";
const LIMIT: Duration = Duration::from_secs(1);

/// One upstream `u` for every path; its attempts have a second each for the head of an answer, and as much between two pieces of it.
fn gateway(origins: &[&Origin], rest: &str) -> Gateway {
    let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
    Gateway::start(&format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\n\
         upstreams: {{ u: {{ targets: [{}], timeouts: {{ response: 1s }}, {rest} }} }}\n\
         routes: [{{ name: all, match: {{ prefix: / }}, upstream: u }}]\n",
        urls.join(", ")
    ))
}

/// Sends bytes one by one, with a pause before each; whether all went.
fn trickle(peer: &mut Peer, bytes: impl IntoIterator<Item = u8>, pause: Duration) -> bool {
    bytes.into_iter().all(|byte| {
        let _ = poll(pause, || None::<()>);
        peer.send([byte])
    })
}

/// A head that never ends.
fn endless() -> impl Iterator<Item = u8> {
    b"HTTP/1.1 200 OK\r\nX-Long: ".iter().copied().chain(std::iter::repeat(b'a'))
}

/// An upstream whose heads come byte by byte and have no end.
fn without_end() -> Origin {
    Origin::serve(|peer, _| {
        trickle(peer, endless(), Duration::from_millis(20));
        Next::Close
    })
}

fn good() -> Origin {
    Origin::serve(|peer, _| {
        peer.answer("good");
        Next::Keep
    })
}

fn calls(origin: &Origin) -> usize {
    origin.look(|log| log.requests.len())
}

#[test]
fn a_head_that_trickles_ends_at_the_time_limit_and_the_call_goes_to_another_target() {
    let (bad, good) = (without_end(), good());
    let gateway = gateway(&[&bad, &good], RETRY);
    let mut client = gateway.connect();
    let mut times = Vec::new();
    while calls(&bad) < 2 {
        let (before, began) = (calls(&bad), now());
        assert_eq!(client.get("/").text(), "good");
        if calls(&bad) > before {
            times.push(began.elapsed());
        }
    }
    assert!(times.iter().all(|time| *time >= LIMIT), "{times:?}");
    bad.wait("its connections are closed", |log| (log.ended.len() == log.accepted).then_some(()));
}

#[test]
fn where_all_heads_trickle_the_last_time_limit_ends_the_call() {
    let (first, second) = (without_end(), without_end());
    let gateway = gateway(&[&first, &second], &format!("{RETRY}, {HEDGE}"));
    let began = now();
    let answer = gateway.get("/");
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
    // the call and its repetition, each with a second one at most
    assert!((2..=4).contains(&(calls(&first) + calls(&second))));
    for origin in [&first, &second] {
        origin.wait("its connections are closed", |log| (log.ended.len() == log.accepted).then_some(()));
    }
}

#[test]
fn a_second_call_overtakes_a_head_that_trickles() {
    let (bad, good) = (without_end(), good());
    let gateway = gateway(&[&bad, &good], HEDGE);
    let mut client = gateway.connect();
    (0..6).for_each(|_| assert_eq!(client.get("/").text(), "good"));
    assert!(calls(&bad) > 0);
    bad.wait("its connections are closed", |log| (log.ended.len() == log.accepted).then_some(()));
}

#[test]
fn a_body_that_trickles_arrives_whole_by_one_call() {
    let origin = Origin::serve(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n");
        if trickle(peer, [b'a'; 60], Duration::from_millis(20)) { Next::Keep } else { Next::Close }
    });
    let spare = good();
    // a body takes longer than a second call waits, and one is made only while there is no head
    let gateway = gateway(&[&origin, &spare], &format!("{RETRY}, hedge: {{ after: 800ms, budget: 100% }}"));
    let mut client = gateway.connect();
    let answers: Vec<String> = (0..4).map(|_| client.get("/").text()).collect();
    let whole = "a".repeat(60);
    assert_eq!(answers.iter().filter(|answer| **answer == whole).count(), 2, "{answers:?}");
    assert_eq!((calls(&origin), calls(&spare)), (2, 2));
}

#[test]
fn a_body_that_stops_within_breaks_off_at_the_time_limit_and_is_not_asked_for_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let script = |asked: &Arc<AtomicUsize>| {
        let asked = Arc::clone(asked);
        Origin::serve(move |peer, _| {
            asked.fetch_add(1, Ordering::SeqCst);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n");
            trickle(peer, [b'a'; 10], Duration::from_millis(2));
            peer.stall();
            Next::Close
        })
    };
    let origins = [script(&asked), script(&asked)];
    let gateway = gateway(&[&origins[0], &origins[1]], &format!("{RETRY}, {HEDGE}"));
    let began = now();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "aaaaaaaaaa"));
    assert!(answer.broken.is_some());
    assert!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn many_heads_without_end_take_little_memory_and_one_that_is_too_long_ends_its_call() {
    // as fast as the gateway takes it
    let fast = Origin::serve(|peer, _| {
        let piece: Vec<u8> = endless().take(1_000).collect();
        let mut more = peer.send(&piece);
        while more {
            more = peer.send([b'a'; 1_000]);
        }
        Next::Close
    });
    let gateway = gateway(&[&fast], &format!("{RETRY}, {HEDGE}"));
    assert_eq!(gateway.get("/").status, 502);
    let before = gateway.resident_kib();
    let mut clients: Vec<_> = (0..100).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    }
    let most = wait_until("all are answered", PATIENCE, || {
        let most = gateway.resident_kib();
        clients.retain_mut(|client| client.response().unwrap().status != 502);
        clients.is_empty().then_some(most.max(gateway.resident_kib()))
    });
    // a head of 64 KiB at most for each, and as much again for what was read beside it
    assert!(most < before + 100 * 2 * 64 + 16 * 1024, "{before} KiB, then {most} KiB");
}
