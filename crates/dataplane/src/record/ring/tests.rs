//! What the ring keeps, and what it must not.

use std::sync::Arc;

use daemun_pipeline::{Fault, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{exchange, finished, metrics};
use super::super::{Called, Finished};
use super::*;

fn json(recent: &Recent) -> Value {
    let mut out = Vec::new();
    recent.write_json(&mut out);
    serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
}

#[test]
fn a_request_is_found_by_its_id_with_the_time_of_each_step_and_without_secrets() {
    let (metrics, recorders) = metrics(1);
    let (route, target) = (metrics.route("get-item"), metrics.target("catalog", "http://10.0.0.11:9001"));
    let exchange = exchange("0af3");
    let fault = Fault::new(Reason::RateLimited, "too many").cause("secret cause");
    recorders[0].finish(&Finished {
        route: Some((&route, "get-item")),
        target: Some(Called { metrics: &target, upstream: "catalog", url: "http://10.0.0.11:9001", status: 0 }),
        fault: Some(&fault),
        verdicts: &[(0, PolicyVerdict::Passed), (1, PolicyVerdict::Refused), (9, PolicyVerdict::Answered)],
        ..finished(&exchange, 429)
    });
    let found = json(&recorders[0].find(b"0af3").unwrap());
    assert_eq!(
        found,
        json!({
            "time": "2026-01-01T00:00:00.123Z", "id": "0af3", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "client_ip": "192.0.2.1", "method": "GET",
            "host": "api.example.com", "path": "/items/7?token=***&page=***", "protocol": "HTTP/1.1", "scheme": "http",
            "status": 429, "route": "get-item", "upstream": "catalog", "target": "http://10.0.0.11:9001",
            "reason": "rate_limited", "consumer": "shop-app", "bytes_in": 10, "bytes_out": 200, "attempts": 1,
            "reused": true, "upgraded": false, "duration_ms": 12.5,
            "steps": [{"step": "policies", "ms": 0.1}, {"step": "connect", "ms": 0.5}, {"step": "wait", "ms": 11.4},
                      {"step": "transfer", "ms": 0.5}],
            "policies": [{"policy": "key_auth", "verdict": "passed"}, {"policy": "rate_limit", "verdict": "refused"},
                         {"policy": "unknown", "verdict": "answered"}],
        })
    );
    assert!(!found.to_string().contains("secret"));
    assert!(recorders[0].find(b"0af4").is_none());
}

#[test]
fn the_oldest_is_overwritten_and_the_newest_come_first() {
    let (_metrics, recorders) = metrics(1);
    let recorder = &recorders[0];
    assert!(recorder.latest(5).is_empty());
    let total = RING_SLOTS * 2 + 10;
    for n in 0..total {
        recorder.finish(&finished(&exchange(&format!("id-{n}")), 200));
        assert_eq!(recorder.latest(1)[0].id(), format!("id-{n}").as_bytes());
    }
    let latest = recorder.latest(usize::MAX);
    let ids: Vec<_> = latest.iter().map(|recent| String::from_utf8(recent.id().to_vec()).unwrap()).collect();
    let expected: Vec<_> = (total - RING_SLOTS..total).rev().map(|n| format!("id-{n}")).collect();
    assert_eq!(ids, expected);
    assert!(recorder.find(format!("id-{}", total - RING_SLOTS).as_bytes()).is_some());
    assert!(recorder.find(format!("id-{}", total - RING_SLOTS - 1).as_bytes()).is_none());
}

#[test]
fn what_several_workers_kept_is_merged_newest_first() {
    let (_metrics, recorders) = metrics(2);
    for n in 0..10u64 {
        let mut exchange = exchange(&n.to_string());
        exchange.wall += n;
        recorders[n as usize % 2].finish(&finished(&exchange, 200));
    }
    let merged = Recent::newest(recorders.iter().flat_map(|r| r.latest(4)).collect(), 4);
    let ids: Vec<_> = merged.iter().map(|recent| recent.id().to_vec()).collect();
    assert_eq!(ids, [b"9", b"8", b"7", b"6"]);
    assert!(merged[0].time() > merged[1].time());
}

#[test]
fn a_slot_has_room_for_every_text_at_its_longest() {
    assert_eq!(PIECES.iter().map(|(_, most)| most).sum::<usize>(), TEXT);
    assert!(PIECES.iter().enumerate().all(|(at, (piece, most))| *piece as usize == at && *most <= 255));
    assert!(size_of::<Slot>() <= 768, "{}", size_of::<Slot>());
}

fn line<'a>(text: &'a [u8], query: Option<&'a [u8]>, name: &'a str) -> Line<'a> {
    Line {
        hedged: false,
        fallback: None,
        wall: 0,
        id: text,
        trace_id: text,
        client_ip: None,
        method: text,
        host: text,
        path: text,
        query,
        version: 11,
        tls: true,
        status: 200,
        route: Some(name),
        upstream: Some(name),
        target: Some(name),
        fault: None,
        cause: None,
        times: Times::default(),
        bytes_in: 0,
        bytes_out: 0,
        consumer: Some(name.as_bytes()),
        exchange: None,
        head: None,
        attempts: 0,
        reused: false,
        upgraded: false,
    }
}

proptest! {
    #[test]
    fn any_bytes_fit_and_are_shown_as_json(
        text in proptest::collection::vec(any::<u8>(), 0..300),
        query in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        name in "\\PC{0,100}",
    ) {
        let mut ring = Ring::default();
        let policies: Arc<[&'static str]> = Arc::new([]);
        for _ in 0..2 {
            ring.push(&line(&text, query.as_deref(), &name), &[(0, PolicyVerdict::Passed); 40]);
            let latest = ring.latest(1, &policies);
            let id = latest[0].id();
            prop_assert_eq!(id, &text[..text.len().min(64)]);
            let shown = json(&latest[0]);
            prop_assert_eq!(shown["policies"].as_array().unwrap().len(), VERDICTS);
            if name.len() <= 48 {
                prop_assert_eq!(shown["consumer"].as_str().unwrap_or_default(), &name);
            }
            prop_assert!(ring.find(&text, &policies).is_some());
        }
    }

    #[test]
    fn no_value_of_a_query_is_kept(names in proptest::collection::vec("[a-z]{0,8}", 0..12), bare in any::<bool>()) {
        let mut query: Vec<String> = names.iter().map(|name| format!("{name}=SECRET=SECRET")).collect();
        if bare {
            query.insert(query.len() / 2, "SECRET".into());
        }
        let mut ring = Ring::default();
        ring.push(&line(b"/", Some(query.join("&").as_bytes()), ""), &[]);
        let policies: Arc<[&'static str]> = Arc::new([]);
        let path = json(&ring.latest(1, &policies)[0])["path"].as_str().unwrap().to_owned();
        prop_assert!(!path.contains("SECRET"), "{path}");
        prop_assert!(path.starts_with("/?"));
    }
}
