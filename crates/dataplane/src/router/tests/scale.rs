//! The router at size: building, looking up, and the worst that a client can send. Times are printed, not judged.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use super::super::path;
use super::super::trie::{Reached, Visitor};
use super::super::{Captures, Outcome, Query, Router};
use super::{Request, TestRoute, exact, get, request, route, taken, try_build};

/// Processor time of this thread, where the system tells it: other programs do not count. Elsewhere nothing.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = processor_time();
    let result = run();
    (result, processor_time().saturating_sub(start))
}

/// A table as gateways have them: one third literal, one third with parameters, one sixth remainders, one sixth under wildcard
/// hosts; up to 100 expressions among them. With each route a request that it takes.
fn table(count: usize) -> (Vec<TestRoute>, Vec<Request>) {
    let expressions = (count / 10).min(100);
    let mut routes = Vec::with_capacity(count);
    let mut requests = Vec::with_capacity(count);
    for index in 0..count {
        let name = format!("route-{index}");
        let service = format!("/api/v1/service-{}/resource-{}", index / 60, index % 60);
        let host = "api.example.com";
        let (added, sent) = if index < expressions {
            (
                route(&name).host(host).regex(&format!("{service}/[0-9]+-[a-z]+")),
                request("GET", host, &format!("{service}/17-abc")),
            )
        } else {
            match index % 6 {
                0 | 1 => (
                    route(&name).host(host).path(&format!("{service}/list")),
                    request("GET", host, &format!("{service}/list")),
                ),
                2 | 3 => (
                    route(&name).host(host).path(&format!("{service}/{{id}}/items/{{item}}")),
                    request("GET", host, &format!("{service}/8a7f/items/{index}")),
                ),
                4 => (
                    route(&name).host(host).path(&format!("{service}/files/{{*rest}}")),
                    request("GET", host, &format!("{service}/files/a/b/{index}.png")),
                ),
                _ => (
                    route(&name)
                        .host(&format!("*.tenant-{}.example.org", index / 60))
                        .path(&format!("{service}/{{id}}")),
                    request("GET", &format!("eu.tenant-{}.example.org", index / 60), &format!("{service}/17")),
                ),
            }
        };
        routes.push(added);
        requests.push(sent);
    }
    (routes, requests)
}

fn build_timed(routes: &[TestRoute]) -> (Router, Duration) {
    let ((router, diagnostics), took) = timed(|| try_build(routes, false));
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    (router.expect("a router"), took)
}

/// The same numbers in an order that has no pattern.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for index in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(index, (state % (index as u64 + 1)) as usize);
    }
    order
}

#[test]
fn a_hundred_thousand_routes_are_built_and_found() {
    for count in [10, 1_000, 100_000] {
        let (routes, requests) = table(count);
        let (router, took) = build_timed(&routes);
        println!("{count} routes built in {took:?}");
        // One behind the other in the order they are sent, so that reading them costs next to nothing.
        let order = shuffled(count);
        let lines = order.iter().map(|&at| format!("{at} {} {}\n", requests[at].host, requests[at].path));
        let sent: String = lines.collect();
        let rounds = (300_000 / count).max(1);
        let asked = request("GET", "", "");
        let run = |look_up: bool| {
            for line in std::iter::repeat_n(&sent, rounds).flat_map(|sent| sent.lines()) {
                let mut words = line.split(' ');
                let (index, host, path) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                let index: usize = black_box(index.parse().unwrap());
                if look_up {
                    assert_eq!(find(&router, host, path, &asked), Some(index));
                }
            }
        };
        run(true);
        let ((), all) = timed(|| run(true));
        let ((), reading) = timed(|| run(false));
        let each = all.saturating_sub(reading).as_nanos() as f64 / (rounds * count) as f64;
        println!("{count} routes: {each:.0} ns per lookup");
    }
}

#[inline(never)]
fn find(router: &Router, host: &str, path: &str, request: &Request) -> Option<usize> {
    let mut buffer = Vec::new();
    let reading = path::read(path.as_bytes(), &mut buffer).ok()?;
    let path = reading.view(path.as_bytes(), &buffer);
    let query = Query { host: host.as_bytes(), path: &path, method: "GET", request };
    match router.find(&query, &mut Captures::new()) {
        Outcome::Found(found) => Some(found.route as usize),
        Outcome::MethodNotAllowed(_) | Outcome::NotFound | Outcome::EncodedSlash => None,
    }
}

#[test]
fn reading_a_path_is_timed() {
    let paths =
        ["/api/v1/service-17/resource-3/8a7f/items/4711", "/api/%76%31/service-17/./resource-3", "/api//v1/a;b=c"];
    for raw in paths {
        let mut buffer = Vec::new();
        let ((), took) = timed(|| {
            for _ in 0..100_000 {
                black_box(path::read(black_box(raw.as_bytes()), &mut buffer)).unwrap();
            }
        });
        println!("{raw}: {} ns to read", took.as_nanos() / 100_000);
    }
}

struct Counter(usize);

impl Visitor for Counter {
    fn wants(&self, _max_priority: i32) -> bool {
        true
    }

    fn visit(&mut self, _reached: &Reached<'_>) -> ControlFlow<()> {
        self.0 += 1;
        ControlFlow::Continue(())
    }
}

#[test]
fn backtracking_costs_no_more_than_the_nodes_there_are() {
    // Every choice of a literal or a parameter at each of twelve segments: the most that a path of twelve can fork.
    let depth = 12;
    let routes: Vec<TestRoute> = (0..1_usize << depth)
        .map(|bits| {
            let segment = |at: usize| if bits >> at & 1 == 0 { "/a".to_owned() } else { format!("/{{p{at}}}") };
            route(&format!("r{bits}")).path(&format!("{}/end", (0..depth).map(segment).collect::<String>()))
        })
        .collect();
    let (router, _) = build_timed(&routes);
    assert!(router.trie.nodes.len() + router.trie.leaves.count() <= 2 << depth);
    assert_eq!(taken(&routes, &router, &get(&format!("{}/end", "/a".repeat(depth)))), "r0");
    for path in [format!("{}/no", "/a".repeat(depth)), "/a".repeat(4_000)] {
        let (answer, took) = timed(|| taken(&routes, &router, &get(&path)));
        assert_eq!(answer, "404");
        println!("{} forks that lead nowhere: {took:?}", routes.len());
    }
    assert_eq!(size_of_val(&router.trie.nodes[0]), 64);
    assert_eq!(size_of::<super::super::trie::Leaf>(), 64);
    let mut counter = Counter(0);
    let _ =
        router.trie.walk(router.hosts.list()[0].root, format!("{}/end", "/a".repeat(depth)).as_bytes(), &mut counter);
    assert_eq!(counter.0, routes.len());
}

#[test]
fn deep_patterns_and_long_paths_do_not_exhaust_the_stack() {
    let deep = |last: &str| format!("/{{a}}{}/{last}", "/x".repeat(126));
    let mut routes = vec![route("deep").path(&deep("y")), route("rest").path("/{*rest}")];
    for at in 1..120 {
        routes.push(route(&format!("fork-{at}")).path(&format!("/{{a}}{}/z", "/x".repeat(at))));
    }
    let (router, _) = build_timed(&routes);
    assert_eq!(taken(&routes, &router, &get(&format!("/q{}/y", "/x".repeat(126)))), "deep");
    assert_eq!(taken(&routes, &router, &get(&"/x".repeat(500_000))), "rest");
}

#[test]
fn many_expressions_of_one_place_are_asked_in_file_order() {
    let mut routes: Vec<TestRoute> =
        (0..300).map(|index| route(&format!("r{index}")).regex(&format!("/[a-z]+/{index}[0-9]*"))).collect();
    routes.push(route("rest"));
    let (router, _) = build_timed(&routes);
    for (path, name) in [("/a/7", "r7"), ("/a/77", "r7"), ("/a/299", "r2"), ("/a/x", "rest"), ("/7/7", "rest")] {
        assert_eq!(taken(&routes, &router, &get(path)), name);
    }
    let asked = get("");
    let ((), took) = timed(|| {
        for _ in 0..10_000 {
            assert_eq!(find(&router, "", black_box("/orders/x/y"), &asked), Some(300));
        }
    });
    println!("300 expressions that do not match: {} ns", took.as_nanos() / 10_000);
}

#[test]
fn hosts_without_end_cost_no_more_than_long_ones() {
    let routes = [route("wild").host("*.example.com"), route("any").path("/any")];
    let (router, _) = build_timed(&routes);
    assert_eq!(taken(&routes, &router, &request("GET", &format!("{}example.com", "a.".repeat(100)), "/")), "wild");
    assert_eq!(taken(&routes, &router, &request("GET", &format!("{}example.com", "a.".repeat(30_000)), "/any")), "any");
}

#[test]
fn a_hundred_thousand_routes_that_differ_in_conditions_only_are_built_in_one_go() {
    let by_header: Vec<TestRoute> = (0..100_000)
        .map(|index| route(&format!("r{index}")).path("/a").header("x-tenant", exact(&format!("t{index}"))))
        .collect();
    let (router, took) = build_timed(&by_header);
    println!("100,000 routes told apart by a header: {took:?}");
    assert_eq!(taken(&by_header, &router, &get("/a").header("x-tenant", "t99999")), "r99999");

    let same: Vec<TestRoute> = (0..100_000).map(|index| route(&format!("r{index}")).path("/a")).collect();
    let ((router, diagnostics), took) = timed(|| try_build(&same, false));
    assert!(router.is_none());
    println!("100,000 routes that are the same: {took:?}, {} findings", diagnostics.len());

    let by_priority: Vec<TestRoute> =
        (0..100_000).map(|index| route(&format!("r{index}")).path("/a").priority(index)).collect();
    let ((router, diagnostics), took) = timed(|| try_build(&by_priority, false));
    println!("100,000 routes of which the last takes all: {took:?}, {} findings", diagnostics.len());
    assert_eq!(taken(&by_priority, &router.unwrap(), &get("/a")), "r99999");
}

#[test]
fn finding_what_a_request_falls_through_to_is_not_quadratic() {
    let (mut routes, _) = table(20_000);
    routes.iter_mut().for_each(|route| *route = route.clone().method("GET"));
    routes.push(route("rest").host("api.example.com").path("/{*rest}"));
    let (router, _) = build_timed(&routes);
    let (pairs, took) = timed(|| router.fall_through(routes.iter().map(TestRoute::spec)));
    println!("20,000 routes: {} fall through, found in {took:?}", pairs.len());
    assert!(pairs.len() > 15_000 && pairs.iter().all(|pair| pair.next == 20_000));
}
