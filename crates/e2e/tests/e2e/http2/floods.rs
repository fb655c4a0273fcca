//! Floods of frames that cost the sender little. The gateway ends the connection or outlives it, and others are served.

use daemun_e2e::hpack::encode;
use daemun_e2e::http2::{END_HEADERS, END_STREAM, Ending, Http2, frame, kind};
use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::wait_until;
use std::time::Duration;

/// The most a flood may add to the gateway's resident memory, in KiB.
const GROWTH: u64 = 64 * 1024;

fn usual() -> Vec<u8> {
    encode(&[(":method", "GET"), (":scheme", "http"), (":path", "/t"), (":authority", "e2e.test")])
}

/// Sends `flood` to a gateway, which must serve others meanwhile and afterwards, and must not grow.
fn outlives(name: &str, flood: impl Fn(&mut Http2)) {
    let lane = Lane::start(FORWARD_ALL);
    assert_eq!(lane.gateway.get("/before").status, 200);
    let before = lane.gateway.resident_kib();
    let mut client = Http2::connect(lane.gateway.address());
    flood(&mut client);
    assert_eq!(lane.gateway.get("/during").status, 200, "{name}: another client is not served");
    let grown = lane.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH, "{name}: resident memory grew by {grown} KiB");
    drop(client);
    let log = lane.settle().unwrap();
    assert_eq!(log.faults, Vec::<String>::new(), "{name}");
}

/// Begins 5,000 streams, each followed by a frame that ends it; `what` is the frame's payload.
fn is_not_passed_on_as_load(ending: u8, what: u32) {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = Http2::connect(lane.gateway.address());
    let mut bytes = Vec::new();
    for at in 0..5000_u32 {
        let stream = 2 * at + 1;
        bytes.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &usual()));
        bytes.extend(frame(ending, 0, stream, &what.to_be_bytes()));
    }
    client.send(&bytes);
    assert_eq!(lane.gateway.get("/during").status, 200);
    let outcome = client.until_closed_or_quiet();
    assert!(matches!(outcome, Ok(Some(_))), "5000 resets did not end the connection: {outcome:?}");
    let seen = lane.settle().unwrap().requests.len();
    assert!(seen < 2500, "{seen} requests that nobody waits for reached the upstream");
}

#[test]
fn rapid_reset_does_not_reach_the_upstream_as_load() {
    is_not_passed_on_as_load(kind::RESET, 8);
}

#[test]
fn a_flood_of_continuations_is_cut_off() {
    let lane = Lane::start(FORWARD_ALL);
    let before = lane.gateway.resident_kib();
    let mut client = Http2::connect(lane.gateway.address());
    client.frame(kind::HEADERS, END_STREAM, 1, &usual());
    let piece = frame(kind::CONTINUATION, 0, 1, &encode(&[("x-a", "v".repeat(4000))]));
    for _ in 0..20_000 {
        if client.wire.send(&piece).is_err() {
            break;
        }
    }
    let ending = client.ending(1);
    let cut = match &ending {
        Ok(Ending::Answer(answer)) => answer.status == 431,
        Ok(Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed) => true,
        Err(_) => false,
    };
    assert!(cut, "{ending:?}");
    let grown = lane.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH, "resident memory grew by {grown} KiB");
    assert_eq!(lane.settle().unwrap().requests.len(), 0);
}

#[test]
fn a_flood_of_empty_continuations_is_cut_off() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = Http2::connect(lane.gateway.address());
    client.frame(kind::HEADERS, END_STREAM, 1, &usual());
    let pieces = frame(kind::CONTINUATION, 0, 1, &[]).repeat(1000);
    for _ in 0..200 {
        if client.wire.send(&pieces).is_err() {
            break;
        }
    }
    client.set_timeout(Duration::from_secs(5));
    let ending = client.ending(1);
    assert!(matches!(ending, Ok(Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed)), "{ending:?}");
    assert_eq!(lane.settle().unwrap().requests.len(), 0);
}

#[test]
fn a_flood_of_settings_is_outlived() {
    outlives("SETTINGS", |client| {
        let some = frame(kind::SETTINGS, 0, 0, &[]).repeat(1000);
        for _ in 0..100 {
            if client.wire.send(&some).is_err() {
                break;
            }
        }
    });
}

#[test]
fn a_flood_of_pings_is_outlived() {
    outlives("PING", |client| {
        let some = frame(kind::PING, 0, 0, &[7; 8]).repeat(1000);
        for _ in 0..100 {
            if client.wire.send(&some).is_err() {
                break;
            }
        }
    });
}

#[test]
fn a_flood_of_empty_data_is_outlived() {
    outlives("empty DATA", |client| {
        let head = encode(&[(":method", "POST"), (":scheme", "http"), (":path", "/t"), (":authority", "e2e.test")]);
        client.frame(kind::HEADERS, END_HEADERS, 1, &head);
        let some = frame(kind::DATA, 0, 1, &[]).repeat(1000);
        for _ in 0..100 {
            if client.wire.send(&some).is_err() {
                break;
            }
        }
    });
}

#[test]
fn a_flood_of_priorities_and_windows_is_outlived() {
    outlives("PRIORITY and WINDOW_UPDATE", |client| {
        let mut some = Vec::new();
        for at in 0..500_u32 {
            some.extend(frame(kind::PRIORITY, 0, 2 * at + 1, &[0, 0, 0, 0, 16]));
            some.extend(frame(kind::WINDOW, 0, 0, &1_u32.to_be_bytes()));
        }
        for _ in 0..100 {
            if client.wire.send(&some).is_err() {
                break;
            }
        }
    });
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_rest_is_served() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = Http2::connect(lane.gateway.address());
    let mut bytes = Vec::new();
    for at in 0..1000_u32 {
        bytes.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &usual()));
    }
    client.send(&bytes);
    let mut served = 0;
    for at in 0..1000_u32 {
        match client.ending(2 * at + 1).unwrap() {
            Ending::Answer(answer) if answer.status == 200 => served += 1,
            Ending::Answer(answer) => panic!("{answer:?}"),
            Ending::Reset(7) => {}
            Ending::GoAway(11) => break,
            other @ (Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed) => {
                panic!("stream {}: {other:?}", 2 * at + 1)
            }
        }
    }
    assert!(served > 0);
    let log = lane.settle().unwrap();
    assert!(log.requests.len() <= 1000 && log.faults.is_empty(), "{:?}", log.faults);
}

#[test]
fn a_client_that_gives_no_window_holds_no_memory_and_is_let_go() {
    let yaml = FORWARD_ALL.replace("workers: 1\n", "workers: 1\ntimeouts: { write_idle: 500ms }\n");
    let body = "b".repeat(1024 * 1024);
    let origin = daemun_e2e::Origin::serve(move |peer, request| {
        if request.target.starts_with("/settle") {
            daemun_e2e::origin::echo(peer, request)
        } else {
            peer.answer(&body);
            daemun_e2e::Next::Keep
        }
    });
    let lane = Lane::with(&yaml, origin);
    let before = lane.gateway.resident_kib();
    let mut client = Http2::connect_with(lane.gateway.address(), 0);
    for at in 0..50_u32 {
        client.frame(kind::HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &usual());
    }
    wait_until("the calls reached the upstream", Duration::from_secs(10), || {
        lane.origin.look(|log| (!log.requests.is_empty()).then_some(()))
    });
    let ending = client.ending(1);
    assert!(matches!(ending, Ok(Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed)), "{ending:?}");
    let grown = lane.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH, "resident memory grew by {grown} KiB");
    lane.settle().unwrap();
}

/// The client gets the gateway to reset its streams, which it counts no more itself: the other way to have work done for nobody.
#[test]
fn streams_that_the_client_has_reset_by_its_errors_do_not_reach_the_upstream_as_load() {
    is_not_passed_on_as_load(kind::WINDOW, 0);
}

#[test]
fn a_head_that_swells_when_it_is_unpacked_is_refused() {
    let lane = Lane::start(FORWARD_ALL);
    assert_eq!(lane.gateway.get("/before").status, 200);
    let before = lane.gateway.resident_kib();
    let mut client = Http2::connect(lane.gateway.address());
    // a field of some 4,000 bytes goes into the table, and is then named by one byte each time
    let mut kept = usual();
    kept.extend([0x40, 3]);
    kept.extend(b"x-a");
    kept.extend([0x7f, 0xa1, 0x1e]);
    kept.extend([b'v'; 4000]);
    client.frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &kept);
    assert!(matches!(client.ending(1), Ok(Ending::Answer(answer)) if answer.status == 200));
    for at in 1..100_u32 {
        let mut bomb = usual();
        bomb.extend([0x80 | 62; 16_000]);
        client.frame(kind::HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &bomb);
        match client.ending(2 * at + 1).unwrap() {
            Ending::Answer(answer) => assert_eq!(answer.status, 431),
            Ending::Reset(_) => {}
            Ending::GoAway(_) | Ending::Closed => break,
        }
    }
    let grown = lane.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH / 4, "resident memory grew by {grown} KiB");
    let log = lane.settle().unwrap();
    assert_eq!(log.requests.iter().filter(|request| request.target == "/t").count(), 1);
}

#[test]
fn windows_that_change_all_the_time_are_outlived() {
    outlives("SETTINGS of the initial window", |client| {
        let head = encode(&[(":method", "POST"), (":scheme", "http"), (":path", "/t"), (":authority", "e2e.test")]);
        for at in 0..100_u32 {
            client.frame(kind::HEADERS, END_HEADERS, 2 * at + 1, &head);
        }
        let size = |bytes: u32| {
            let mut payload = vec![0, 4];
            payload.extend(bytes.to_be_bytes());
            frame(kind::SETTINGS, 0, 0, &payload)
        };
        let some = [size(0), size(0x7fff_ffff)].concat().repeat(200);
        for _ in 0..50 {
            if client.wire.send(&some).is_err() {
                break;
            }
        }
    });
}

#[test]
fn windows_that_open_byte_by_byte_are_outlived() {
    let body = "b".repeat(1024 * 1024);
    let origin = daemun_e2e::Origin::serve(move |peer, request| {
        if request.target == "/t" {
            peer.answer(&body)
        } else {
            return daemun_e2e::origin::echo(peer, request);
        };
        daemun_e2e::Next::Keep
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    assert_eq!(lane.gateway.get("/before").status, 200);
    let before = lane.gateway.resident_kib();
    let mut client = Http2::connect_with(lane.gateway.address(), 0);
    for at in 0..100_u32 {
        client.frame(kind::HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &usual());
    }
    let some: Vec<u8> = (0..100_u32).flat_map(|at| frame(kind::WINDOW, 0, 2 * at + 1, &1_u32.to_be_bytes())).collect();
    for _ in 0..500 {
        if client.wire.send(&some).is_err() {
            break;
        }
    }
    assert_eq!(lane.gateway.get("/during").status, 200);
    let grown = lane.gateway.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH, "resident memory grew by {grown} KiB");
    drop(client);
    lane.settle().unwrap();
}

#[test]
fn a_body_that_stalls_ends_its_stream_and_no_other() {
    let yaml = FORWARD_ALL.replace("workers: 1\n", "workers: 1\ntimeouts: { body_idle: 500ms }\n");
    let lane = Lane::start(&yaml);
    let mut client = Http2::connect(lane.gateway.address());
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/stalled"),
        (":authority", "e2e.test"),
        ("content-length", "1000000"),
    ];
    for at in 0..50_u32 {
        client.headers(2 * at + 1, &post, false);
        client.data(2 * at + 1, b"some", false);
    }
    // the connection goes on while they stall, and after they were ended
    assert!(matches!(client.get(1001, "/during"), Ok(Ending::Answer(answer)) if answer.status == 200));
    for at in 0..50_u32 {
        match client.ending(2 * at + 1).unwrap() {
            Ending::Answer(answer) => assert_eq!(answer.status, 408),
            other @ (Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed) => panic!("{other:?}"),
        }
    }
    assert!(matches!(client.get(1003, "/after"), Ok(Ending::Answer(answer)) if answer.status == 200));
    let log = lane.settle().unwrap();
    assert!(log.requests.iter().all(|request| request.target != "/stalled"));
}
