//! A gRPC client and server of the `@grpc/grpc-js` library, with the gateway between them.

use std::net::TcpListener;

use daemun_e2e::Gateway;
use serde_json::{Value, json};

use crate::peers::{Script, all_there, logged, of_case, port};

const PACKAGES: [&str; 2] = ["@grpc/grpc-js", "@grpc/proto-loader"];
const OK: u64 = 0;
const CANCELLED: u64 = 1;
const DEADLINE_EXCEEDED: u64 = 4;
const NOT_FOUND: u64 = 5;
const RESOURCE_EXHAUSTED: u64 = 8;
const UNIMPLEMENTED: u64 = 12;
const UNAVAILABLE: u64 = 14;

fn gateway(origin: u64) -> Gateway {
    Gateway::start(&format!(
        "workers: 1\nlimits: {{ body: 1KiB }}\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  parcels:\n    targets: [\"http://127.0.0.1:{origin}\"]\n    \
         protocol: h2c\nroutes:\n  - name: parcels\n    match: {{ prefix: /parcels.Parcels }}\n    upstream: parcels\n"
    ))
}

/// Makes these calls through a gateway; what the client tells of each.
fn call(gateway: &Gateway, cases: &[&str]) -> Vec<Value> {
    let address = format!("127.0.0.1:{}", port(gateway));
    let arguments: Vec<&str> = std::iter::once(address.as_str()).chain(cases.iter().copied()).collect();
    Script::run("grpc-client.mjs", &arguments)
}

/// The calls of a client and a server with a gateway between them, all of whose lines tell of HTTP/2.
fn through(cases: &[&str], lines: usize) -> (Vec<Value>, Vec<Value>, Script) {
    let (server, origin) = Script::serve("grpc-server.mjs");
    let gateway = gateway(origin);
    let said = call(&gateway, cases);
    let log = logged(&gateway, lines, |_| true);
    for line in &log {
        assert_eq!(line["protocol"], "HTTP/2", "{line}");
    }
    (said, log, server)
}

fn counts(call: &Value) -> Vec<u64> {
    call["messages"].as_array().unwrap().iter().map(|message| message["count"].as_u64().unwrap()).collect()
}

#[test]
fn calls_of_all_four_kinds_carry_messages_and_metadata() {
    if !all_there(&["node"], &PACKAGES) {
        return;
    }
    let (said, log, _server) = through(&["unary", "split", "gather", "exchange"], 4);
    for call in &said {
        assert_eq!(call["code"], OK, "{call}");
    }
    let unary = of_case(&said, "unary");
    assert_eq!((&unary["messages"][0]["name"], counts(unary)), (&json!("one"), vec![1]));
    assert_eq!(unary["head"]["x-word"], json!(["parcel"]), "{unary}");
    assert_eq!(unary["head"]["word-bin"], json!(["AID/"]), "{unary}");
    assert_eq!(unary["trailers"]["x-counted"], json!(["0"]), "{unary}");
    assert_eq!(counts(of_case(&said, "split")), (0..2000).collect::<Vec<_>>());
    // the limit of a body, 1 KiB here, is not one of all the messages of a stream
    let gather = of_case(&said, "gather");
    assert_eq!((&gather["messages"][0]["name"], counts(gather)), (&json!("of 1500000 bytes"), vec![125_250]));
    assert_eq!(counts(of_case(&said, "exchange")), (1..=50).collect::<Vec<_>>());
    for line in &log {
        assert_eq!((&line["status"], line.get("reason")), (&json!(200), None), "{line}");
    }
}

#[test]
fn a_status_reaches_the_client_with_its_message_and_metadata() {
    if !all_there(&["node"], &PACKAGES) {
        return;
    }
    let (said, _log, _server) = through(&["refuse", "break", "unwritten"], 3);
    for (case, why, messages) in [("refuse", "at once", 0), ("break", "half way", 3)] {
        let call = of_case(&said, case);
        assert_eq!(call["code"], RESOURCE_EXHAUSTED, "{call}");
        assert_eq!(call["details"], "no room: 100 % full, überall 없음", "{call}");
        assert_eq!(call["trailers"]["x-why"], json!([why]), "{call}");
        assert_eq!(call["trailers"]["detail-bin"], json!(["AAH+/w=="]), "{call}");
        assert_eq!(call["messages"].as_array().map(Vec::len), Some(messages), "{call}");
    }
    assert_eq!(of_case(&said, "unwritten")["code"], UNIMPLEMENTED);
}

#[test]
fn a_deadline_and_a_cancellation_reach_the_server() {
    if !all_there(&["node"], &PACKAGES) {
        return;
    }
    let (said, log, server) = through(&["deadline", "cancel", "stop", "unary"], 4);
    for (case, code) in [("deadline", DEADLINE_EXCEEDED), ("cancel", CANCELLED), ("stop", CANCELLED)] {
        assert_eq!(of_case(&said, case)["code"], code, "{said:#?}");
        server.wait_for("the call had arrived", |line| line["kept"] == case);
        server.wait_for("the server was told", |line| line["cancelled"] == case);
    }
    let kept: Vec<&Value> = log.iter().filter(|line| line["path"] == "/parcels.Parcels/Keep").collect();
    // Client and gateway both watch the deadline; either may be first.
    assert!(["client_gone", "upstream_timeout"].iter().any(|reason| kept[0]["reason"] == *reason), "{log:#?}");
    assert_eq!((&kept[1]["reason"], &kept[1]["status"]), (&json!("client_gone"), &json!(499)), "{log:#?}");
    assert_eq!(of_case(&said, "unary")["code"], OK, "the connection serves on: {said:#?}");
}

#[test]
fn large_messages_and_many_calls_at_once_come_through() {
    if !all_there(&["node"], &PACKAGES) {
        return;
    }
    let (said, _log, _server) = through(&["large", "many"], 201);
    let large = of_case(&said, "large");
    assert_eq!((&large["code"], &large["messages"]), (&json!(OK), &json!([6 * 1024 * 1024])), "{large}");
    assert_eq!(large["equal"], true, "{large}");
    assert_eq!(of_case(&said, "many")["right"], 200);
}

#[test]
fn what_the_gateway_refuses_has_a_status_of_grpc() {
    if !all_there(&["node"], &PACKAGES) {
        return;
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = gateway(u64::from(closed));
    let said = call(&gateway, &["unary", "split", "stranger"]);
    for (case, code, details) in [
        ("unary", UNAVAILABLE, "the backend does not accept connections"),
        ("split", UNAVAILABLE, "the backend does not accept connections"),
        ("stranger", NOT_FOUND, "no route matches this host and path"),
    ] {
        let call = of_case(&said, case);
        assert_eq!((&call["code"], &call["details"]), (&json!(code), &json!(details)), "{call}");
    }
    logged(&gateway, 2, |line| line["reason"] == "connect_failed");
    logged(&gateway, 1, |line| line["reason"] == "no_route");
}
