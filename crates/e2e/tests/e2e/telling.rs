//! What the gateway's own log says of upstreams and listeners while it serves: each change once, a flood of them cut short, and nothing stale
//! where their state is shown.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use daemun_e2e::wait::{PATIENCE, wait_until};
use daemun_e2e::{Gateway, Next, Origin};
use serde_json::Value;

use crate::finding::until_told;

fn yaml(rest: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\n\
         upstreams: {{ u: {{ {rest} }} }}\n\
         routes: [{{ name: all, match: {{ prefix: / }}, upstream: u }}]\n"
    )
}

/// An upstream whose status can be changed, 200 at first.
fn changing() -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let own = Arc::clone(&status);
    let origin = Origin::serve(move |peer, _| {
        let status = own.load(Ordering::SeqCst);
        peer.send(format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nok"));
        Next::Keep
    });
    (origin, status)
}

fn upstream(gateway: &Gateway) -> Value {
    gateway.status("/upstreams").json()["upstreams"][0].clone()
}

/// How many lines of the log hold this.
fn lines(gateway: &Gateway, text: &str) -> usize {
    gateway.stderr().lines().filter(|line| line.contains(text)).count()
}

#[test]
fn an_ejection_and_its_end_are_told_once_each_with_target_reason_and_time() {
    let ((good, _), (bad, status)) = (changing(), changing());
    status.store(503, Ordering::SeqCst);
    let outliers = "outliers: { consecutive_failures: 3, eject_for: 200ms }";
    let gateway = Gateway::start(&yaml(&format!("targets: [{}, {}], {outliers}", good.url(), bad.url())));
    let ejected =
        format!("warning outliers: target `{}` of `u` is ejected for 200ms: 3 consecutive failures", bad.url());
    wait_until("it is ejected", PATIENCE, || {
        gateway.get("/");
        gateway.stderr().contains(&ejected).then_some(())
    });
    let again = format!("target `{}` of `u` is ejected for 400ms: failed when it was tried again", bad.url());
    wait_until("it is ejected again", PATIENCE, || {
        gateway.get("/");
        gateway.stderr().contains(&again).then_some(())
    });
    status.store(200, Ordering::SeqCst);
    let back = format!("info outliers: target `{}` of `u` is back", bad.url());
    wait_until("it is back", PATIENCE, || {
        gateway.get("/");
        gateway.stderr().contains(&back).then_some(())
    });
    let ejections = upstream(&gateway)["targets"][1]["ejections"].as_u64().unwrap();
    assert_eq!(lines(&gateway, "is ejected for") as u64, ejections);
    assert_eq!(lines(&gateway, "is back"), 1);
    assert_eq!(lines(&gateway, &format!("`{}` of `u` is ejected", good.url())), 0);
}

#[test]
fn each_turn_of_a_breaker_is_told_once_with_its_figures() {
    let (origin, status) = changing();
    status.store(500, Ordering::SeqCst);
    let breaker = "breaker: { failure_ratio: 50%, min_requests: 5, open_for: 200ms, half_open_requests: 2 }";
    let gateway = Gateway::start(&yaml(&format!("targets: [{}], {breaker}", origin.url())));
    let called_until = |text: &str| {
        wait_until(text, PATIENCE, || {
            gateway.get("/");
            gateway.stderr().contains(text).then_some(())
        });
    };
    called_until("warning breaker: breaker of `u` is open for 200ms: 5 of 5 calls failed");
    called_until("info breaker: breaker of `u` is half open: 2 calls at most try it");
    called_until("warning breaker: breaker of `u` is open for 200ms: a call that tried it failed");
    status.store(200, Ordering::SeqCst);
    called_until("info breaker: breaker of `u` is closed: 2 calls tried it well");
    assert_eq!(lines(&gateway, "calls failed"), 1);
    // each time that it opened it was tried before it turned
    let (opened, tried) = (lines(&gateway, "is open for"), lines(&gateway, "is half open"));
    assert_eq!((opened, lines(&gateway, "is closed")), (tried, 1));
}

#[test]
fn the_begin_and_the_end_of_calling_all_targets_are_told() {
    let ((first, one), (second, other)) = (changing(), changing());
    let health = "health: { path: /healthz, interval: 100ms, timeout: 10s, unhealthy_after: 1, healthy_after: 1, \
                  panic_threshold: 50% }";
    let gateway = Gateway::start(&yaml(&format!("targets: [{}, {}], {health}", first.url(), second.url())));
    one.store(500, Ordering::SeqCst);
    other.store(500, Ordering::SeqCst);
    // nobody calls meanwhile
    until_told(
        &gateway,
        "warning panic_mode: all targets of `u` are called: 0 % of their weight is healthy, less than \
         `panic_threshold` (50 %)",
    );
    one.store(200, Ordering::SeqCst);
    until_told(&gateway, "info panic_mode: only healthy targets of `u` are called again: 50 % of their weight");
    (0..20).for_each(|_| drop(gateway.get("/")));
    assert_eq!(lines(&gateway, "panic_mode:"), 2);
}

#[test]
fn a_target_that_fails_in_another_way_is_shown_with_the_reason_of_now() {
    let (origin, status) = changing();
    status.store(500, Ordering::SeqCst);
    let health = "health: { path: /healthz, interval: 100ms, timeout: 10s, unhealthy_after: 2, healthy_after: 1000 }";
    let gateway = Gateway::start(&yaml(&format!("targets: [{}], {health}", origin.url())));
    let until_shown = |text: &str| {
        wait_until(text, PATIENCE, || {
            let target = upstream(&gateway)["targets"][0].clone();
            (target["state"] == "unhealthy" && target["reason"].as_str()?.contains(text)).then_some(())
        });
    };
    until_shown("checks failed: status 500");
    // nobody counts its calls, and nothing is said of them
    assert!(upstream(&gateway)["targets"][0].get("in_flight").is_none());
    status.store(404, Ordering::SeqCst);
    until_shown("checks failed: status 404");
    status.store(204, Ordering::SeqCst);
    until_shown("of 1000 succeeded");
    assert_eq!(lines(&gateway, "warning health:"), 1);
}

#[test]
fn connections_without_the_header_are_told_with_the_reason_and_a_flood_of_them_in_few_lines() {
    let yaml = "workers: 2\naccess_log: off\nlisteners:\n  - bind: 127.0.0.1:0\n    \
                proxy_protocol: { from: [127.0.0.0/8] }\nroutes: [{ name: a, answer: {} }]\n";
    let gateway = Gateway::start(yaml);
    let refused = || {
        let mut client = gateway.connect();
        client.send("GET /secret HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        assert!(client.response().is_err());
    };
    (0..200).for_each(|_| refused());
    until_told(
        &gateway,
        "warning proxy_protocol: `127.0.0.1:0` closed a connection from `127.0.0.1`: it does not begin with a PROXY header",
    );
    wait_until("the number of those left out is told", PATIENCE, || {
        refused();
        gateway.stderr().contains("more were closed since the last line").then_some(())
    });
    assert!(lines(&gateway, "proxy_protocol:") < 100, "{}", gateway.stderr());
    assert!(!gateway.stderr().contains("secret"));

    let others = Gateway::start(&yaml.replace("127.0.0.0/8", "10.0.0.1"));
    let mut client = others.connect();
    client.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert!(client.response().is_err());
    until_told(&others, "takes a PROXY header from others only");
}

#[test]
fn a_target_that_nobody_listens_at_is_told_as_ejected_with_what_failed() {
    let (good, _) = changing();
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let rest = format!("targets: [\"http://{gone}\", {}], outliers: {{ consecutive_failures: 3 }}", good.url());
    let gateway = Gateway::start(&yaml(&rest));
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    until_told(&gateway, &format!("target `http://{gone}` of `u` is ejected for 10s: 3 consecutive failures"));
}
