//! What log lines and counters say of calls that were made again, made twice, or that something stands in for.

use std::net::{Ipv4Addr, TcpListener};

use daemun_e2e::wait::{PATIENCE, wait_until};
use daemun_e2e::{Gateway, Next, Origin};
use serde_json::Value;

fn gateway(upstreams: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\nupstreams: {{ {upstreams} }}\n\
         routes: [{{ name: all, match: {{ prefix: / }}, upstream: u{route} }}]\n"
    ))
}

/// A place where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Answers at once.
fn quick() -> Origin {
    Origin::serve(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Next::Keep
    })
}

/// Never answers.
fn silent() -> Origin {
    Origin::serve(|peer, _| {
        peer.stall();
        Next::Close
    })
}

fn only_line(gateway: &Gateway) -> Value {
    wait_until("the line is there", PATIENCE, || gateway.access_log().first().cloned())
}

#[test]
fn a_fixed_answer_that_stands_in_does_not_hide_the_outage() {
    let dead = nowhere();
    let gateway =
        gateway(&format!("u: {{ targets: [\"{dead}\"], fallback: {{ answer: {{ status: 200, body: sorry }} }} }}"), "");
    assert_eq!(gateway.get("/").text(), "sorry");
    let line = only_line(&gateway);
    assert_eq!(
        (&line["status"], &line["fallback"], &line["target"]),
        (&200.into(), &"answer".into(), &dead.as_str().into())
    );
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.starts_with("a fixed answer stands in for connect_failed: "), "{cause}");
    assert!(line.get("reason").is_none(), "the exchange did not fail: {line}");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("daemun_upstream_fallbacks_total", &["upstream=\"u\"", "kind=\"answer\""]), 1.0);
    assert_eq!(metrics.sum("daemun_upstream_faults_total", &["upstream=\"u\"", "reason=\"connect_failed\""]), 1.0);
    assert_eq!(metrics.sum("daemun_faults_total", &[]), 0.0);
}

#[test]
fn another_upstream_that_stands_in_is_the_one_that_the_line_names() {
    let (dead, other) = (nowhere(), quick());
    let upstreams = format!(
        "u: {{ targets: [\"{dead}\"], fallback: {{ upstream: spare }} }}, spare: {{ targets: [\"{}\"] }}",
        other.url()
    );
    let gateway = gateway(&upstreams, "");
    assert_eq!(gateway.get("/").text(), "ok");
    let line = only_line(&gateway);
    assert_eq!((&line["upstream"], &line["target"]), (&"spare".into(), &other.url().as_str().into()));
    assert_eq!((&line["fallback"], &line["attempts"]), (&"upstream".into(), &2.into()));
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.starts_with("upstream `spare` stands in for connect_failed: "), "{cause}");
    assert_eq!(gateway.metrics().sum("daemun_upstream_fallbacks_total", &["upstream=\"u\"", "kind=\"upstream\""]), 1.0);
}

#[test]
fn the_times_of_a_call_that_was_made_again_are_those_of_its_last_attempt() {
    let (slow, quick) = (silent(), quick());
    // the first in the list is called first
    let targets = format!("targets: [\"{}\", \"{}\"], timeouts: {{ response: 600ms }}", slow.url(), quick.url());
    let gateway = gateway(&format!("u: {{ {targets}, retry: {{ retries: 1, on: [timeout], budget: 100% }} }}"), "");
    assert_eq!(gateway.get("/").text(), "ok");
    let line = only_line(&gateway);
    assert_eq!((&line["target"], &line["attempts"]), (&quick.url().as_str().into(), &2.into()));
    let ms = |field: &str| line[field].as_f64().unwrap_or_else(|| panic!("{field}: {line}"));
    assert!(ms("retry_ms") >= 600.0, "{line}");
    assert!(ms("duration_ms") >= ms("retry_ms") + ms("connect_ms") + ms("wait_ms"), "{line}");
    // the earlier attempt waited that long
    assert!(ms("connect_ms") + ms("wait_ms") < 600.0, "{line}");
    assert!(line.get("hedged").is_none() && line.get("fallback").is_none(), "{line}");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("daemun_upstream_retries_total", &["upstream=\"u\""]), 1.0);
    assert_eq!(metrics.sum("daemun_upstream_hedges_total", &[]), 0.0);
}

#[test]
fn a_second_call_is_told_from_one_that_was_made_again() {
    let (slow, quick) = (silent(), quick());
    let targets = format!("targets: [\"{}\", \"{}\"]", slow.url(), quick.url());
    let gateway = gateway(&format!("u: {{ {targets}, hedge: {{ after: 500ms, budget: 100% }} }}"), "");
    assert_eq!(gateway.get("/").text(), "ok");
    let line = only_line(&gateway);
    assert_eq!(
        (&line["target"], &line["attempts"], &line["hedged"]),
        (&quick.url().as_str().into(), &2.into(), &true.into())
    );
    let ms = |field: &str| line[field].as_f64().unwrap_or_else(|| panic!("{field}: {line}"));
    assert!(ms("retry_ms") >= 500.0 && ms("connect_ms") + ms("wait_ms") < 500.0, "{line}");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("daemun_upstream_hedges_total", &["upstream=\"u\""]), 1.0);
    assert_eq!(metrics.sum("daemun_upstream_retries_total", &[]), 0.0);
}

#[test]
fn a_call_that_no_target_got_names_the_upstream_and_what_was_wrong_with_it() {
    let gateway = gateway(
        "u: { targets: [{ url: \"http://127.0.0.1:1\", drain: true }, { url: \"http://127.0.0.1:2\", drain: true }] }",
        "",
    );
    assert_eq!(gateway.get("/").status, 503);
    let line = only_line(&gateway);
    assert_eq!((&line["reason"], &line["upstream"]), (&"no_target".into(), &"u".into()));
    assert_eq!(line["cause"], "upstream `u`: none of its 2 targets can be called");
    assert!(line.get("target").is_none(), "{line}");
    assert_eq!(gateway.metrics().sum("daemun_upstream_faults_total", &["upstream=\"u\"", "reason=\"no_target\""]), 1.0);
}

#[test]
fn a_route_switches_its_upstreams_fallback_off() {
    let gateway = gateway(
        &format!("u: {{ targets: [\"{}\"], fallback: {{ answer: {{ status: 200, body: sorry }} }} }}", nowhere()),
        ", fallback: off",
    );
    assert_eq!(gateway.get("/").status, 502);
    let line = only_line(&gateway);
    assert_eq!(line["reason"], "connect_failed");
    assert!(line.get("fallback").is_none(), "{line}");
}

#[test]
fn another_upstream_that_fails_as_well_does_not_stand_in() {
    let (dead, spare) = (nowhere(), nowhere());
    let upstreams = format!(
        "u: {{ targets: [\"{dead}\"], fallback: {{ upstream: spare }} }}, spare: {{ targets: [\"{spare}\"] }}, \
         none: {{ targets: [{{ url: \"{spare}\", drain: true }}] }}, v: {{ targets: [\"{dead}\"], fallback: {{ upstream: none }} }}"
    );
    let gateway = gateway(&upstreams, " }, { name: v, match: { prefix: /v }, upstream: v");
    assert_eq!((gateway.get("/").status, gateway.get("/v").status), (502, 503));
    let lines = wait_until("both lines are there", PATIENCE, || {
        let lines = gateway.access_log();
        (lines.len() == 2).then_some(lines)
    });
    let (first, second) = (&lines[0], &lines[1]);
    assert_eq!((&first["reason"], &first["target"]), (&"connect_failed".into(), &spare.as_str().into()));
    assert_eq!((&second["reason"], &second["upstream"]), (&"no_target".into(), &"none".into()));
    for (line, name) in [(first, "`u`"), (second, "`v`")] {
        assert!(line.get("fallback").is_none(), "{line}");
        let cause = line["cause"].as_str().unwrap();
        assert!(cause.contains(&format!("; called in place of {name}: connect_failed: ")), "{cause}");
    }
    let metrics = gateway.metrics();
    let faults = |name: &str| metrics.sum("daemun_upstream_faults_total", &[&format!("upstream=\"{name}\"")]);
    assert_eq!([faults("u"), faults("v"), faults("spare"), faults("none")], [1.0; 4]);
    assert_eq!(metrics.sum("daemun_upstream_fallbacks_total", &[]), 0.0);
    // each attempt once
    assert_eq!(metrics.sum("daemun_upstream_requests_total", &[]), 3.0);
}
