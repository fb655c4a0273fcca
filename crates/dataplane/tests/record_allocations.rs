//! Recording an exchange allocates nothing, once the route, the target and the ring are warm.

use std::net::{IpAddr, Ipv4Addr};

use daemun_dataplane::record::{Called, Finished, Metrics, PolicyVerdict, Setup};
use daemun_pipeline::{Exchange, Method, Span, Times};
use daemun_sys::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::system();

#[test]
fn recording_allocates_nothing_once_it_is_warm() {
    let setup = Setup { workers: 1, policies: vec!["key_auth"], version: "0", commit: "0", started: 1 };
    let (metrics, recorders) = Metrics::new(setup);
    let (route, target) = (metrics.route("get-item"), metrics.target("catalog", "http://10.0.0.11:9001"));
    let mut exchange = Exchange::default();
    let head = &mut exchange.request.head;
    exchange.request.method = Method::Get;
    exchange.request.method_span = head.store(b"GET");
    exchange.request.target = head.store(b"/products/items/1?page=2");
    exchange.request.path = Span::new(exchange.request.target.start(), exchange.request.target.start() + 17);
    exchange.request.query =
        Some(Span::new(exchange.request.target.start() + 18, exchange.request.target.start() + 24));
    exchange.request.host = head.store(b"api.example.com");
    exchange.client.ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    exchange.id.extend_from_slice(b"5f0c1d2e3a4b5c6d-1-2345");
    exchange.times = Times { start: 1_000, decided: 2_000, again: 0, connected: 0, answered: 90_000, end: 100_000 };
    let finish = || {
        recorders[0].finish(&Finished {
            uncalled: None,
            hedged: false,
            fallback: None,
            exchange: &exchange,
            route: Some((&route, "get-item")),
            target: Some(Called { metrics: &target, upstream: "catalog", url: "http://10.0.0.11:9001", status: 200 }),
            status: 200,
            fault: None,
            bytes_in: 0,
            bytes_out: 63,
            verdicts: &[(0, PolicyVerdict::Passed)],
            attempts: 1,
            reused: true,
            upgraded: false,
        });
    };
    finish();
    let before = CountingAllocator::thread_allocations();
    for _ in 0..3_000 {
        recorders[0].connection_opened();
        finish();
        recorders[0].connection_closed();
    }
    assert_eq!(CountingAllocator::thread_allocations() - before, 0);
}
