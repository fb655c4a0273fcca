//! Targets are checked: over HTTP, TLS, TCP and gRPC; one that is not well gets no calls until it is again.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::finding::{until_answering, until_told};
use daemun_e2e::hpack::encode;
use daemun_e2e::http2::{END_HEADERS, END_STREAM, frame, kind};
use daemun_e2e::http2_origin::answer_streams;
use daemun_e2e::wait::PATIENCE;
use daemun_e2e::{Certificates, Gateway, Next, Origin, Peer, Request, wait_until};

/// Answers checks with 500 while `sick`, all else with `name`.
fn script(name: &'static str, sick: &Arc<AtomicBool>) -> impl Fn(&mut Peer, &Request) -> Next + use<> {
    let sick = Arc::clone(sick);
    move |peer, request| {
        let checked = request.target.starts_with("/healthz");
        let answer = match (checked, sick.load(Ordering::SeqCst)) {
            (true, true) => "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nsick".to_owned(),
            (true, false) => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok: 1".to_owned(),
            (false, _) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()),
        };
        peer.send(answer);
        Next::Keep
    }
}

fn configuration(targets: &[String], rest: &str) -> String {
    let targets = targets.join("\", \"");
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
         upstreams:\n  u:\n    targets: [\"{targets}\"]\n{rest}\n\
         routes: [{{ name: a, upstream: u }}]\n"
    )
}

const CHECKED: &str =
    "    health: { path: /healthz, interval: 100ms, timeout: 10s, unhealthy_after: 2, healthy_after: 2 }";

/// One target falls sick and recovers beside one that stays well.
fn sick_for_a_while(first: &Origin, second: &Origin, sick: &AtomicBool, rest: &str) -> Gateway {
    let gateway = Gateway::start(&configuration(&[first.url(), second.url()], rest));
    until_answering(&gateway, &["a", "b"]);
    sick.store(true, Ordering::SeqCst);
    until_answering(&gateway, &["b"]);
    until_told(&gateway, &format!("target `{}` of `u` is unhealthy: 2 checks failed: status 500", first.url()));
    sick.store(false, Ordering::SeqCst);
    until_answering(&gateway, &["a", "b"]);
    until_told(&gateway, &format!("target `{}` of `u` is healthy: 2 checks succeeded", first.url()));
    gateway
}

#[test]
fn a_target_that_fails_its_checks_gets_no_calls_until_it_recovers() {
    let (sick, well) = (Arc::default(), Arc::default());
    let (first, second) = (Origin::serve(script("a", &sick)), Origin::serve(script("b", &well)));
    drop(sick_for_a_while(&first, &second, &sick, CHECKED));
    let own = first.url().trim_start_matches("http://").to_owned();
    first.look(|log| {
        let check = log.requests.iter().find(|request| request.target == "/healthz").unwrap();
        assert_eq!((check.method.as_str(), check.field("host")), ("GET", Some(own.as_str())));
    });
}

/// An upstream whose checks fail while its switch is on.
fn switched(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let sick = Arc::default();
    (Origin::serve(script(name, &sick)), sick)
}

/// Asserts who answered so many calls in a row, in the order of their names; whenever something changes about a target, turns begin anew,
/// which moves a call or two.
fn assert_shares(gateway: &Gateway, wanted: &[(&str, usize)]) {
    let found = shares(gateway, wanted.iter().map(|(_, calls)| calls).sum());
    let is_near = |((own, calls), (name, wanted)): ((&String, &usize), &(&str, usize))| {
        own == name && calls.abs_diff(*wanted) <= 2
    };
    assert!(found.len() == wanted.len() && found.iter().zip(wanted).all(is_near), "{found:?} for {wanted:?}");
}

/// Who answers so many calls in a row.
fn shares(gateway: &Gateway, calls: usize) -> BTreeMap<String, usize> {
    let mut client = gateway.connect();
    let mut shares = BTreeMap::new();
    (0..calls).for_each(|_| *shares.entry(client.get("/x").text()).or_default() += 1);
    shares
}

#[test]
fn a_target_that_recovers_begins_with_a_tenth_of_its_weight_and_comes_back_to_the_whole() {
    let ((first, sick), (second, _)) = (switched("a"), switched("b"));
    let config = |slow_start: &str| {
        let rest = format!("{CHECKED}\n    slow_start: {slow_start}");
        configuration(&[first.url(), second.url()], &rest)
    };
    let gateway = Gateway::start(&config("10h"));
    // one that was never sick has its whole weight
    assert_shares(&gateway, &[("a", 20), ("b", 20)]);
    sick.store(true, Ordering::SeqCst);
    until_answering(&gateway, &["b"]);
    sick.store(false, Ordering::SeqCst);
    until_told(&gateway, &format!("target `{}` of `u` is healthy", first.url()));
    // weights are 1 and 10 for the hour that follows
    assert_shares(&gateway, &[("a", 10), ("b", 100)]);
    // what it has been healthy for is kept, so that the rest of a shorter rise is over soon
    gateway.rewrite(&config("1s"));
    wait_until("both have the same share", PATIENCE, || (shares(&gateway, 20)["b"] <= 11).then_some(()));
}

#[test]
fn the_share_of_a_target_that_recovers_grows_and_never_falls() {
    let ((first, sick), (second, _)) = (switched("a"), switched("b"));
    let rest = format!("{CHECKED}\n    slow_start: 2s");
    let gateway = Gateway::start(&configuration(&[first.url(), second.url()], &rest));
    sick.store(true, Ordering::SeqCst);
    until_answering(&gateway, &["b"]);
    sick.store(false, Ordering::SeqCst);
    let mut most = 0;
    wait_until("it has half of the calls", PATIENCE, || {
        let share = shares(&gateway, 40).remove("a").unwrap_or(0);
        // each step within the calls that were counted begins their turns anew
        assert!(share + 5 >= most, "{share} after {most}");
        most = most.max(share);
        (share >= 19).then_some(())
    });
}

/// Three targets, two of whom fail their checks.
fn two_of_three_are_sick(threshold: &str) -> (Gateway, [(Origin, Arc<AtomicBool>); 3]) {
    let origins = [switched("a"), switched("b"), switched("c")];
    let urls = origins.each_ref().map(|(origin, _)| origin.url());
    let checked = CHECKED.replace(" }", &format!("{threshold} }}"));
    let gateway = Gateway::start(&configuration(&urls, &checked));
    until_answering(&gateway, &["a", "b", "c"]);
    for (origin, sick) in &origins[..2] {
        sick.store(true, Ordering::SeqCst);
        until_told(&gateway, &format!("target `{}` of `u` is unhealthy", origin.url()));
    }
    (gateway, origins)
}

#[test]
fn below_the_panic_threshold_all_targets_are_called_again_and_above_it_only_those_that_are_well() {
    let (gateway, origins) = two_of_three_are_sick(", panic_threshold: 50%");
    assert_shares(&gateway, &[("a", 10), ("b", 10), ("c", 10)]);
    origins[0].1.store(false, Ordering::SeqCst);
    until_told(&gateway, &format!("target `{}` of `u` is healthy", origins[0].0.url()));
    assert_shares(&gateway, &[("a", 15), ("c", 15)]);
}

#[test]
fn without_a_panic_threshold_the_last_target_that_is_well_has_all_calls() {
    let (gateway, origins) = two_of_three_are_sick("");
    assert_shares(&gateway, &[("c", 30)]);
    origins[2].1.store(true, Ordering::SeqCst);
    until_told(&gateway, &format!("target `{}` of `u` is unhealthy", origins[2].0.url()));
    let refused = gateway.get("/x");
    assert!(refused.status == 503 && refused.text().contains("no_target"), "{refused:?}");
}

#[test]
fn a_target_on_a_unix_socket_is_checked() {
    let folder = daemun_e2e::gateway::Folder::new();
    let (sick, well) = (Arc::default(), Arc::default());
    let first = Origin::start_unix(&folder.path().join("a.sock"), daemun_e2e::origin::serving(script("a", &sick)));
    let second = Origin::start_unix(&folder.path().join("b.sock"), daemun_e2e::origin::serving(script("b", &well)));
    sick_for_a_while(&first, &second, &sick, CHECKED);
}

#[test]
fn a_target_behind_tls_is_checked_as_it_is_called() {
    let certificates = Certificates::new();
    certificates.authority("ca");
    certificates.issue("good", "ca", "DNS:shop.test");
    let (sick, well) = (Arc::default(), Arc::default());
    let server = || certificates.server("good", None, &["http/1.1"]);
    let first = Origin::start_tls(server(), daemun_e2e::origin::serving(script("a", &sick)));
    let second = Origin::start_tls(server(), daemun_e2e::origin::serving(script("b", &well)));
    let urls = [&first, &second].map(|origin| origin.url().replace("http://", "https://"));
    let tls = format!("    tls: {{ ca: {}, server_name: shop.test }}\n{CHECKED}", certificates.path("ca.crt"));
    let gateway = Gateway::start(&configuration(&urls, &tls));
    until_answering(&gateway, &["a", "b"]);
    sick.store(true, Ordering::SeqCst);
    until_answering(&gateway, &["b"]);
    sick.store(false, Ordering::SeqCst);
    until_answering(&gateway, &["a", "b"]);
}

#[test]
fn a_check_asks_what_it_is_told_to_and_judges_status_and_body() {
    let (sick, well) = (Arc::default(), Arc::default());
    let (first, second) = (Origin::serve(script("a", &sick)), Origin::serve(script("b", &well)));
    let rest = "    health:\n      path: /healthz?full=1\n      interval: 100ms\n      timeout: 10s\n      unhealthy_after: 1\n      \
                method: POST\n      host: checked.example\n      headers: { x-check: \"yes\" }\n      \
                expect: { status: [2xx, 500], body: { regex: \"^ok: [0-9]$\" } }\n";
    let gateway = Gateway::start(&configuration(&[first.url(), second.url()], rest));
    until_answering(&gateway, &["a", "b"]);
    sick.store(true, Ordering::SeqCst);
    until_answering(&gateway, &["b"]);
    until_told(&gateway, "is unhealthy: 1 check failed: the body does not hold what it should");
    first.look(|log| {
        let check = log.requests.iter().find(|request| request.target == "/healthz?full=1").unwrap();
        assert_eq!((check.method.as_str(), check.field("host")), ("POST", Some("checked.example")));
        assert_eq!(check.field("x-check"), Some("yes"));
    });
}

#[test]
fn while_no_target_is_healthy_calls_get_503_at_once() {
    let sick = Arc::new(AtomicBool::new(true));
    let only = Origin::serve(script("a", &sick));
    let gateway = Gateway::start(&configuration(&[only.url()], CHECKED));
    wait_until("calls get 503", PATIENCE, || (gateway.get("/x").status == 503).then_some(()));
    sick.store(false, Ordering::SeqCst);
    until_answering(&gateway, &["a"]);
}

#[test]
fn a_connection_is_all_that_a_check_over_tcp_takes() {
    let well = Arc::default();
    let other = Origin::serve(script("b", &well));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let rest = "    health: { protocol: tcp, interval: 100ms, timeout: 10s, unhealthy_after: 3, healthy_after: 1 }";
    let gateway = Gateway::start(&configuration(&[format!("http://{address}"), other.url()], rest));
    until_told(
        &gateway,
        &format!("target `http://{address}` of `u` is unhealthy: 3 checks failed: no connection: connection refused"),
    );
    let back = TcpListener::bind(address).unwrap();
    until_told(&gateway, &format!("target `http://{address}` of `u` is healthy"));
    drop(back);
}

/// Sends interim answers until nobody reads any more.
fn only_interim(peer: &mut Peer) -> usize {
    let mut sent = 0;
    while peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") {
        sent += 1;
    }
    sent
}

#[test]
fn a_target_that_sends_interim_answers_without_end_fails_its_check_soon() {
    let most = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&most);
    let endless = Origin::serve(move |peer, _| {
        own.fetch_max(only_interim(peer), Ordering::SeqCst);
        Next::Close
    });
    let few = Origin::serve(|peer, _| {
        peer.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(16));
        peer.answer("ok");
        Next::Keep
    });
    let rest = "    health: { path: /healthz, interval: 100ms, timeout: 60s, unhealthy_after: 1 }";
    let gateway = Gateway::start(&configuration(&[endless.url(), few.url()], rest));
    let reason = "is unhealthy: 1 check failed: more than 16 interim answers (1xx) and none behind them";
    until_told(&gateway, &format!("target `{}` of `u` {reason}", endless.url()));
    assert!(!gateway.stderr().contains(&format!("`{}` of `u` is unhealthy", few.url())));
    // what the sockets' buffers take, and no more
    wait_until("nobody reads any more", PATIENCE, || (most.load(Ordering::SeqCst) > 0).then_some(()));
    endless.quiet();
}

#[test]
fn a_target_that_sends_interim_answers_over_http2_without_end_fails_its_check_as_well() {
    let origin = Origin::start(|peer| {
        answer_streams(peer, |stream, _| {
            let head = encode(&[(":status", "103")]);
            frame(kind::HEADERS, END_HEADERS, stream, &head).repeat(17)
        })
    });
    let rest = "    protocol: h2c\n    health: { path: /healthz, interval: 100ms, timeout: 60s, unhealthy_after: 1 }";
    let gateway = Gateway::start(&configuration(&[origin.url()], rest));
    until_told(&gateway, "is unhealthy: 1 check failed: more than 16 interim answers (1xx) and none behind them");
}

#[test]
fn the_health_service_of_grpc_is_asked() {
    let serving = Arc::new(AtomicBool::new(true));
    let own = Arc::clone(&serving);
    let origin = Origin::start(move |peer| {
        answer_streams(peer, |stream, target| {
            if target != "/grpc.health.v1.Health/Check" {
                let head = encode(&[(":status", "200"), ("grpc-status", "0")]);
                return frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &head);
            }
            let status = if own.load(Ordering::SeqCst) { 1 } else { 2 };
            let head = encode(&[(":status", "200"), ("content-type", "application/grpc")]);
            let mut answer = frame(kind::HEADERS, END_HEADERS, stream, &head);
            answer.extend(frame(kind::DATA, 0, stream, &[0, 0, 0, 0, 2, 8, status]));
            answer.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &encode(&[("grpc-status", "0")])));
            answer
        })
    });
    let rest = "    protocol: h2c\n    health: { protocol: grpc, interval: 100ms, timeout: 10s, unhealthy_after: 2, \
                healthy_after: 1, grpc_service: shop.Orders }";
    let gateway = Gateway::start(&configuration(&[origin.url()], rest));
    wait_until("calls are answered", PATIENCE, || (gateway.get("/x").status == 200).then_some(()));
    serving.store(false, Ordering::SeqCst);
    until_told(&gateway, "is unhealthy: 2 checks failed: it says `NOT_SERVING`");
    assert_eq!(gateway.get("/x").status, 503);
    serving.store(true, Ordering::SeqCst);
    wait_until("calls are answered again", PATIENCE, || (gateway.get("/x").status == 200).then_some(()));
}

#[test]
fn checks_go_on_over_a_reload_that_leaves_them_and_end_with_one_that_does_not() {
    let sick = Arc::new(AtomicBool::new(true));
    let only = Origin::serve(script("a", &sick));
    let text = configuration(&[only.url()], CHECKED);
    let gateway = Gateway::start(&text);
    until_told(&gateway, "is unhealthy");
    gateway.rewrite(&format!("{text}timeouts: {{ drain: 3s }}\n"));
    until_told(&gateway, "number 2,");
    // nothing was forgotten, and nothing is told anew
    assert_eq!(gateway.get("/x").status, 503);
    assert_eq!(gateway.stderr().matches("is unhealthy").count(), 1);

    gateway.rewrite(&configuration(&[only.url()], ""));
    until_told(&gateway, "number 3,");
    until_answering(&gateway, &["a"]);
    only.quiet();
    let checks = || only.look(|log| log.requests.iter().filter(|request| request.target == "/healthz").count());
    let before = checks();
    // some time passes: as long as several checks would take
    let asked = AtomicUsize::new(0);
    wait_until("calls have been answered", PATIENCE, || {
        gateway.get("/x");
        (asked.fetch_add(1, Ordering::SeqCst) > 100).then_some(())
    });
    assert!(checks() <= before + 1, "checks go on");
}
