//! The recorder as a whole, and what the tests of its parts share.

use std::net::{IpAddr, Ipv4Addr};

use daemun_pipeline::{Consumer, ConsumerId, Directory, Method, Reason, Span, Times};

use super::*;

pub(super) const WALL: u64 = 1_767_225_600_123_000_000;

/// Metrics and recorders with two policies.
pub(super) fn metrics(workers: usize) -> (Arc<Metrics>, Vec<Recorder>) {
    Metrics::new(Setup {
        workers,
        policies: vec!["key_auth", "rate_limit"],
        version: "1.2.3",
        commit: "abcdef0",
        started: 1_767_225_600_000_000_000,
    })
}

/// An exchange: `GET /items/7?token=secret&page=2` by a known consumer, 12.5 ms long.
pub(super) fn exchange(id: &str) -> Exchange {
    let mut exchange = Exchange::default();
    let request = &mut exchange.request;
    let head = &mut request.head;
    request.method = Method::Get;
    request.method_span = head.store(b"GET");
    request.target = head.store(b"/items/7?token=secret&page=2");
    request.path = Span::new(request.target.start(), request.target.start() + 8);
    request.query = Some(Span::new(request.target.start() + 9, request.target.start() + request.target.len()));
    request.host = head.store(b"api.example.com");
    request.authority = request.host;
    request.version = 11;
    assert!(head.append("User-Agent", b"curl/8 \"quoted\""));
    assert!(head.append("Authorization", b"Bearer secret-token"));
    let consumer = Consumer { name: "shop-app".into(), ..Consumer::default() };
    exchange.directory = Some(Arc::new(Directory::new(vec![consumer])));
    exchange.consumer = Some(ConsumerId(0));
    exchange.client.ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    exchange.client.peer = Some(exchange.client.ip);
    exchange.id = id.as_bytes().to_vec();
    exchange.trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_vec();
    exchange.wall = WALL;
    let start = 1_000_000_000;
    exchange.times = Times {
        again: 0,
        start,
        decided: start + 100_000,
        connected: start + 600_000,
        answered: start + 12_000_000,
        end: start + 12_500_000,
    };
    exchange
}

/// An exchange that ended with this status, without route and target.
pub(super) fn finished(exchange: &Exchange, status: u16) -> Finished<'_> {
    Finished {
        uncalled: None,
        hedged: false,
        fallback: None,
        exchange,
        route: None,
        target: None,
        status,
        fault: None,
        bytes_in: 10,
        bytes_out: 200,
        verdicts: &[(0, PolicyVerdict::Passed), (1, PolicyVerdict::Passed)],
        attempts: 1,
        reused: true,
        upgraded: false,
    }
}

/// Value of a sample, by its name and labels as shown.
pub(super) fn sample(text: &str, series: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Sum of all samples of a metric.
pub(super) fn total(text: &str, name: &str) -> u64 {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(of_name).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn every_answer_is_counted_exactly_once_whatever_thread_gave_it() {
    const EACH: u64 = 20_000;
    let (metrics, recorders) = metrics(4);
    let names: Vec<String> = (0..7).map(|n| format!("route-{n}")).collect();
    let routes: Vec<_> = names.iter().map(|name| metrics.route(name)).collect();
    let target = metrics.target("catalog", "http://10.0.0.11:9001");
    std::thread::scope(|scope| {
        for recorder in recorders {
            let (names, routes, target) = (&names, &routes, &*target);
            scope.spawn(move || {
                let exchange = exchange("a");
                for n in 0..EACH {
                    let route = (n % 8) as usize;
                    let called =
                        Called { metrics: target, upstream: "catalog", url: "http://10.0.0.11:9001", status: 200 };
                    let route = routes.get(route).map(|cells| (&**cells, names[route].as_str()));
                    let status = [200, 200, 404, 299, 503][(n % 5) as usize];
                    recorder.finish(&Finished { route, target: Some(called), ..finished(&exchange, status) });
                }
            });
        }
        // reading meanwhile disturbs nothing, and never shows more than there is
        for _ in 0..20 {
            assert!(total(&metrics.render(), "daemun_requests_total") <= 4 * EACH);
        }
    });
    let text = metrics.render();
    assert_eq!(total(&text, "daemun_requests_total"), 4 * EACH);
    assert_eq!(total(&text, "daemun_request_duration_seconds_count"), 4 * EACH);
    assert_eq!(total(&text, "daemun_upstream_requests_total"), 4 * EACH);
    assert_eq!(total(&text, "daemun_upstream_response_seconds_count"), 4 * EACH);
    assert_eq!(total(&text, "daemun_response_body_bytes_total"), 4 * EACH * 200);
    assert_eq!(total(&text, "daemun_policy_verdicts_total"), 8 * EACH);
    assert_eq!(sample(&text, "daemun_requests_total{route=\"(none)\",code=\"404\"}"), Some(4 * EACH / 40));
}

#[test]
fn a_client_that_leaves_before_an_answer_is_no_answer() {
    let (metrics, recorders) = metrics(1);
    let exchange = exchange("a");
    let fault = Fault::new(Reason::ClientGone, "the client left");
    recorders[0].finish(&Finished { fault: Some(&fault), ..finished(&exchange, 499) });
    let text = metrics.render();
    assert_eq!(total(&text, "daemun_requests_total"), 0);
    assert_eq!(sample(&text, "daemun_requests_abandoned_total{route=\"(none)\"}"), Some(1));
    assert_eq!(sample(&text, "daemun_faults_total{reason=\"client_gone\"}"), Some(1));
    // one that leaves while it gets a 200 was answered, and so was one whose upstream says 499
    recorders[0].finish(&Finished { fault: Some(&fault), ..finished(&exchange, 200) });
    recorders[0].finish(&finished(&exchange, 499));
    let text = metrics.render();
    assert_eq!(total(&text, "daemun_requests_total"), 2);
    assert_eq!(sample(&text, "daemun_faults_total{reason=\"client_gone\"}"), Some(2));
}

#[test]
fn answers_to_what_never_became_an_exchange_are_counted_as_well() {
    let (metrics, recorders) = metrics(1);
    let recorder = &recorders[0];
    let fault = Fault::new(Reason::BadRequest, "malformed");
    let bad = BadHead { wall: WALL, id: b"5f0c", client_ip: None, tls: false, fault: &fault, status: Some(400) };
    recorder.bad_head(&bad);
    recorder.bad_head(&BadHead { status: None, ..bad });
    recorder.connection_refused(Some(503));
    recorder.connection_refused(None);
    assert!(recorder.find(b"5f0c").is_some());
    let text = metrics.render();
    assert_eq!(sample(&text, "daemun_bad_heads_total{reason=\"bad_request\"}"), Some(2));
    assert_eq!(sample(&text, "daemun_connections_refused_total"), Some(2));
    assert_eq!(sample(&text, "daemun_requests_total{route=\"(none)\",code=\"400\"}"), Some(1));
    assert_eq!(sample(&text, "daemun_requests_total{route=\"(none)\",code=\"503\"}"), Some(1));
    assert_eq!(total(&text, "daemun_requests_total"), 2);
}

#[test]
fn a_retried_call_is_counted_for_each_target_it_went_to() {
    let (metrics, recorders) = metrics(1);
    let recorder = &recorders[0];
    let (a, b) = (metrics.target("u", "http://a"), metrics.target("u", "http://b"));
    let exchange = exchange("a");
    recorder.connected(&a, false);
    recorder.attempt_failed(&a, 0, 0);
    recorder.connected(&b, true);
    let called = Called { metrics: &b, upstream: "u", url: "http://b", status: 200 };
    recorder.finish(&Finished { target: Some(called), attempts: 2, ..finished(&exchange, 200) });
    let text = metrics.render();
    let series = |name: &str, target: &str, more: &str| {
        sample(&text, &format!("daemun_upstream_{name}{{upstream=\"u\",target=\"http://{target}\"{more}}}"))
    };
    assert_eq!(series("requests_total", "a", ",class=\"none\""), Some(1));
    assert_eq!(series("requests_total", "b", ",class=\"2xx\""), Some(1));
    assert_eq!(series("connect_failures_total", "a", ""), Some(1));
    assert_eq!(series("connects_total", "b", ""), Some(1));
    // 11.4 ms from the connection to the answer's head
    assert_eq!(series("response_seconds_bucket", "b", ",le=\"0.01\""), Some(0));
    assert_eq!(series("response_seconds_bucket", "b", ",le=\"0.025\""), Some(1));
}

#[test]
fn what_failed_at_an_upstream_is_counted_and_outlives_it() {
    let (metrics, _recorders) = metrics(1);
    let cells = metrics.upstream("u");
    assert!(!metrics.render().contains("upstream=\"u\""), "nothing failed");
    cells.count_retry();
    cells.count_hedge();
    cells.count_fallback(Fallback::Cached);
    cells.count_fault(Reason::ConnectFailed);
    cells.count_fault(Reason::ConnectFailed);
    let counted = |name: &str| {
        let text = metrics.render();
        let find = |metric: &str, more: &str| {
            sample(&text, &format!("daemun_upstream_{metric}_total{{upstream=\"{name}\"{more}}}"))
        };
        [
            find("retries", ""),
            find("hedges", ""),
            find("fallbacks", ",kind=\"cached\""),
            find("faults", ",reason=\"connect_failed\""),
        ]
    };
    let all = [Some(1), Some(1), Some(1), Some(2)];
    assert_eq!(counted("u"), all);
    drop(cells);
    metrics.sweep();
    assert_eq!(counted("u"), [None; 4]);
    assert_eq!(counted("(removed)"), all);
}

#[test]
fn a_tunnel_is_timed_up_to_its_upgrade() {
    let (metrics, recorders) = metrics(1);
    let mut exchange = exchange("a");
    exchange.times.end = exchange.times.start + 3_600_000_000_000;
    recorders[0].finish(&Finished { upgraded: true, ..finished(&exchange, 101) });
    let text = metrics.render();
    assert!(text.contains("daemun_request_duration_seconds_sum{route=\"(none)\"} 0.012000000\n"), "{text}");
}

#[test]
fn connections_that_are_open_are_those_accepted_and_not_closed() {
    let (metrics, recorders) = metrics(2);
    for recorder in &recorders {
        recorder.connection_opened();
        recorder.connection_opened();
        recorder.handshake_failed();
    }
    recorders[1].connection_closed();
    let text = metrics.render();
    assert_eq!(sample(&text, "daemun_connections_open"), Some(3));
    assert_eq!(sample(&text, "daemun_connections_accepted_total"), Some(4));
    assert_eq!(sample(&text, "daemun_tls_handshakes_failed_total"), Some(2));
}
