//! What the upstream is told of the caller and of the way, and what it is called by.

use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::{Next, Origin, Request};

fn forwarded(yaml: &str, fields: &str) -> Request {
    let lane = Lane::start(yaml);
    let answer = lane.connect().call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"));
    assert_eq!(answer.status, 200);
    lane.origin.only_request()
}

fn trusting(yaml: &str) -> String {
    format!("trusted_proxies: [127.0.0.0/8]\n{yaml}")
}

#[test]
fn the_caller_is_named_in_the_usual_fields() {
    let request = forwarded(FORWARD_ALL, "");
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto"), Some("http"));
    assert_eq!(request.field("x-forwarded-host"), Some("e2e.test"));
    assert_eq!(request.field("host"), Some("e2e.test"));
    let forwarded = request.field("forwarded").expect("one `forwarded` field").to_ascii_lowercase();
    for part in ["for=127.0.0.1", "proto=http", "e2e.test"] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
    assert!(request.field("via").is_some_and(|via| via.starts_with("1.1 ")), "{:?}", request.field("via"));
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to() {
    let fields = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n\
                  Forwarded: for=203.0.113.7;proto=https\r\n";
    let request = forwarded(&trusting(FORWARD_ALL), fields);
    let path: Vec<&str> = request.head.all("x-forwarded-for").flat_map(|value| value.split(", ")).collect();
    assert_eq!(path, ["203.0.113.7", "127.0.0.1"]);
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    assert_eq!(request.field("x-forwarded-host"), Some("shop.example"));
    let all: Vec<&str> = request.head.all("forwarded").flat_map(|value| value.split(", ")).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains("203.0.113.7") && all[1].contains("127.0.0.1"), "{all:?}");
}

#[test]
fn the_client_behind_a_trusted_proxy_is_found_from_the_right() {
    let origin = Origin::echo();
    let yaml = trusting(FORWARD_ALL).replace(
        "routes:\n",
        "routes:\n  - name: inside\n    match: { prefix: /, client_ip: [203.0.113.0/24] }\n    answer: { status: 200, body: inside }\n",
    );
    let lane = Lane::with(&yaml, origin);
    for (fields, inside) in [
        ("X-Forwarded-For: 203.0.113.7\r\n", true),
        ("X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n", true),
        ("X-Forwarded-For: 203.0.113.7, 127.0.0.2\r\n", true),
        ("X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\n", false),
        ("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 198.51.100.1\r\n", false),
        ("X-Forwarded-For: garbage\r\n", false),
        ("X-Forwarded-For: 203.0.113.7, garbage\r\n", false),
        ("X-Real-Ip: 203.0.113.7\r\n", false),
        ("", false),
    ] {
        let answer = lane.connect().call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"));
        assert_eq!(answer.text() == "inside", inside, "{fields}");
    }
}

#[test]
fn a_stranger_cannot_choose_his_address() {
    let yaml = FORWARD_ALL.replace(
        "routes:\n",
        "routes:\n  - name: inside\n    match: { prefix: /, client_ip: [203.0.113.0/24] }\n    answer: { status: 200, body: inside }\n",
    );
    let lane = Lane::start(&yaml);
    for fields in ["X-Forwarded-For: 203.0.113.7\r\n", "Forwarded: for=203.0.113.7\r\n", "X-Real-Ip: 203.0.113.7\r\n"] {
        let answer = lane.connect().call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"));
        assert_ne!(answer.text(), "inside", "{fields}");
    }
}

#[test]
fn the_host_follows_its_rule() {
    let with = |rule: &str| FORWARD_ALL.replace("    targets:", &format!("    host: {rule}\n    targets:"));
    assert_eq!(forwarded(&with("preserve"), "").field("host"), Some("e2e.test"));
    assert_eq!(forwarded(&with("shop.example"), "").field("host"), Some("shop.example"));
    let lane = Lane::start(&with("target"));
    assert_eq!(lane.gateway.get("/t").status, 200);
    let authority = lane.origin.url().replace("http://", "");
    assert_eq!(lane.origin.only_request().field("host"), Some(authority.as_str()));
}

#[test]
fn a_base_path_comes_before_every_path() {
    let yaml = FORWARD_ALL.replace("{origin}", "{origin}/base/v1/");
    let lane = Lane::start(&yaml);
    for (sent, seen) in [("/t?x=1", "/base/v1/t?x=1"), ("/", "/base/v1/"), ("/a/../b", "/base/v1/b")] {
        assert_eq!(lane.gateway.get(sent).text(), seen);
    }
}

#[test]
fn every_request_has_an_id_and_a_trace() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = lane.connect();
    let mut seen = std::collections::BTreeSet::new();
    for at in 0..20 {
        let answer = client.get(&format!("/{at}"));
        let id = answer.field("x-request-id").expect("the answer tells the id").to_owned();
        let request = lane.origin.look(|log| log.requests.last().cloned().unwrap());
        assert_eq!(request.field("x-request-id"), Some(id.as_str()));
        let trace = request.field("traceparent").expect("a trace").to_owned();
        let parts: Vec<&str> = trace.split('-').collect();
        let hexadecimal = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        assert!(parts.len() == 4 && parts[0] == "00", "{trace}");
        assert!(hexadecimal(parts[1], 32) && hexadecimal(parts[2], 16) && hexadecimal(parts[3], 2), "{trace}");
        assert!(seen.insert(id) && seen.insert(trace), "an id came twice");
    }
}

#[test]
fn a_trace_goes_on_and_a_bad_one_is_begun_anew() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = forwarded(FORWARD_ALL, &format!("Traceparent: {trace}\r\nTracestate: a=b\r\n"));
    let found = request.field("traceparent").unwrap();
    assert!(found.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && found != trace, "{found}");
    assert_eq!(request.field("tracestate"), Some("a=b"));
    for bad in [
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "garbage",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "",
    ] {
        let request = forwarded(FORWARD_ALL, &format!("Traceparent: {bad}\r\n"));
        let found = request.field("traceparent").unwrap();
        assert!(
            found.len() == 55 && !found.contains("4bf92f") && !found.contains(&"0".repeat(32)),
            "{bad} became {found}"
        );
    }
}

#[test]
fn ordinary_fields_pass_both_ways_in_order() {
    let origin = Origin::serve(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\nX-A: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nServer: mine\r\nVary: x\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0\r\n\r\n");
        Next::Keep
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let answer = lane.connect().call(
        "GET /t HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Basic eDp5\r\nCookie: a=b\r\nAccept: */*\r\nUser-Agent: x/1\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
    );
    let request = lane.origin.only_request();
    for (name, value) in [("authorization", "Basic eDp5"), ("cookie", "a=b"), ("accept", "*/*"), ("user-agent", "x/1")]
    {
        assert_eq!(request.field(name), Some(value));
    }
    assert_eq!(request.head.all("x-a").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(answer.head.all("set-cookie").collect::<Vec<_>>(), ["a=b", "c=d"]);
    for (name, value) in [("x-a", "1"), ("server", "mine"), ("vary", "x"), ("date", "Tue, 15 Nov 1994 08:12:31 GMT")] {
        assert_eq!(answer.field(name), Some(value));
    }
}

#[test]
fn underscores_may_be_kept_but_never_in_identity() {
    let yaml = format!("underscores: keep\n{FORWARD_ALL}");
    let lane = Lane::start(&yaml);
    lane.connect().call(
        "GET /t HTTP/1.1\r\nHost: e2e.test\r\nX_A: b\r\nX_Consumer_Name: admin\r\nX-Consumer_Name: admin\r\n\r\n",
    );
    let request = lane.origin.look(|log| log.requests[0].clone());
    assert_eq!(request.field("x_a"), Some("b"));
    assert!(!request.has("x_consumer_name") && !request.has("x-consumer_name"), "{}", request.shown());
}

#[test]
fn the_callers_credentials_for_a_proxy_stay_here() {
    let request = forwarded(FORWARD_ALL, "Proxy-Authorization: Basic eDp5\r\n");
    assert!(!request.has("proxy-authorization"));
}
