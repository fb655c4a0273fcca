//! Which target a call goes to: what is slow, dead or hung gets few calls, what belongs together stays together, and where there is nothing
//! to call that is said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use daemun_e2e::gateway::Signal;
use daemun_e2e::load::{Connections, Load};
use daemun_e2e::wait::{PATIENCE, now, wait_until};
use daemun_e2e::{Client, Gateway, Next, Origin, Response};
use serde_json::Value;

/// One upstream `u` for every path; `rest` are its other keys, `targets` among them.
fn yaml(rest: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\n\
         upstreams: {{ u: {{ {rest} }} }}\n\
         routes: [{{ name: all, match: {{ prefix: / }}, upstream: u }}]\n"
    )
}

/// An upstream whose status can be changed, 200 at first.
fn changing(name: &'static str) -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let own = Arc::clone(&status);
    let origin = Origin::serve(move |peer, _| {
        let status = own.load(Ordering::SeqCst);
        peer.send(format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
        Next::Keep
    });
    (origin, status)
}

/// An upstream that takes calls and never answers.
fn hung() -> Origin {
    Origin::serve(|peer, _| {
        peer.stall();
        Next::Close
    })
}

/// The address of a target that nobody listens at.
fn dead() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// What is told of the target at `place`.
fn told(gateway: &Gateway, place: usize) -> Value {
    gateway.status("/upstreams").json()["upstreams"][0]["targets"][place].clone()
}

fn wait_for_state(gateway: &Gateway, place: usize, state: &str) {
    wait_until(&format!("target {place} is {state}"), PATIENCE, || {
        (told(gateway, place)["state"] == state).then_some(())
    });
}

/// A GET with a field.
fn get_with(client: &mut Client, field: &str) -> Response {
    client.call(format!("GET / HTTP/1.1\r\nHost: e2e.test\r\n{field}\r\n\r\n"))
}

#[test]
fn a_target_that_fails_is_ejected_and_back_when_it_is_well_again() {
    let (good, (bad, status)) = (Origin::named("good"), changing("bad"));
    status.store(503, Ordering::SeqCst);
    let outliers = "outliers: { consecutive_failures: 3, eject_for: 300ms }";
    let gateway = Gateway::start(&yaml(&format!("{}, {outliers}", Origin::targets(&[&good, &bad]))));
    let mut client = gateway.connect();
    let failed = wait_until("the bad one is ejected", PATIENCE, || {
        let failed = client.get("/").status == 503;
        (told(&gateway, 1)["ejections"] != 0).then_some(failed)
    });
    assert!(failed);
    let why = told(&gateway, 1);
    assert!(why["reason"].as_str().unwrap().starts_with("3 consecutive failures"), "{why}");
    let metrics = gateway.metrics();
    let ejections =
        metrics.sum("daemun_target_ejections_total", &["upstream=\"u\"", &format!("target=\"{}\"", bad.url())]);
    assert!(ejections >= 1.0, "{ejections}");
    status.store(200, Ordering::SeqCst);
    wait_until("the bad one is back", PATIENCE, || {
        client.get("/");
        (told(&gateway, 1)["state"] == "healthy").then_some(())
    });
    let answers: BTreeSet<String> = (0..10).map(|_| client.get("/").text()).collect();
    assert_eq!(answers.len(), 2);
}

#[test]
fn a_target_that_nobody_listens_at_costs_no_call() {
    let (good, dead) = (Origin::named("good"), dead());
    let rest = format!("targets: [{dead}, {}], outliers: {{ consecutive_failures: 3 }}", good.url());
    let gateway = Gateway::start(&yaml(&rest));
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/").text(), "good"));
    wait_for_state(&gateway, 0, "ejected");
}

#[test]
fn a_target_that_hangs_is_found_by_its_calls_under_way_and_then_hardly_called() {
    let (good, hung) = (Origin::named("good"), hung());
    let rest = format!(
        "{}, outliers: {{ slower_than: 300ms, eject_for: 60s }}, timeouts: {{ response: 60s }}",
        Origin::targets(&[&good, &hung])
    );
    let gateway = Gateway::start(&yaml(&rest));
    let mut waiting = Vec::new();
    wait_until("it is ejected", PATIENCE, || {
        // whatever comes to hang is left hanging
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        waiting.push(client);
        (told(&gateway, 1)["state"] == "ejected").then_some(())
    });
    let why = told(&gateway, 1);
    assert!(why["reason"].as_str().unwrap().starts_with("no answer for"), "{why}");
    hung.quiet();
    let before = hung.look(|log| log.requests.len());
    let mut client = gateway.connect();
    (0..40).for_each(|_| assert_eq!(client.get("/").text(), "good"));
    assert_eq!(hung.look(|log| log.requests.len()), before);
}

/// Asks until the target at place 1 is ejected for its silence, and gives how many of the calls had no answer.
fn until_silent(gateway: &Gateway, mut ask: impl FnMut() -> bool) -> usize {
    let mut lost = 0;
    wait_until("it is ejected", PATIENCE * 2, || {
        lost += usize::from(!ask());
        (told(gateway, 1)["state"] == "ejected").then_some(())
    });
    let why = told(gateway, 1);
    assert!(why["reason"].as_str().unwrap().starts_with("no answer for"), "{why}");
    lost
}

#[test]
fn safe_calls_that_wait_at_a_target_that_is_ejected_go_to_another_and_others_wait_on() {
    let (good, hung) = (Origin::named("good"), hung());
    let rest = format!(
        "{}, outliers: {{ slower_than: 2s, eject_for: 60s }}, timeouts: {{ response: 60s }}, \
         retry: {{ retries: 1, on: [timeout], budget: 100% }}",
        Origin::targets(&[&good, &hung])
    );
    // targets take turns
    let gateway = Gateway::start(&yaml(&rest).replace("workers: 2", "workers: 1"));
    let mut clients = Vec::new();
    let post = ("POST", "Content-Length: 0\r\n");
    let calls = [("GET", ""), ("GET", ""), post, post];
    for (number, (method, length)) in calls.into_iter().enumerate() {
        let mut client = gateway.connect();
        client.send(format!("{method} /{method} HTTP/1.1\r\nHost: e2e.test\r\n{length}\r\n"));
        wait_until("a target has the call", PATIENCE, || {
            let seen = |origin: &Origin| origin.look(|log| log.requests.len());
            (seen(&good) + seen(&hung) > number).then_some(())
        });
        clients.push(client);
    }
    // whoever comes by finds that it hangs
    wait_until("it is ejected", PATIENCE, || {
        let mut client = gateway.connect();
        client.set_timeout(Duration::from_millis(100)).send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        let _ = client.response();
        (told(&gateway, 1)["state"] == "ejected").then_some(())
    });
    assert_eq!(clients[1].response().unwrap().text(), "good");
    good.look(|log| {
        let count = |method: &str| log.requests.iter().filter(|request| request.target == format!("/{method}")).count();
        assert_eq!((count("GET"), count("POST")), (2, 1));
    });
}

#[test]
fn a_target_that_hangs_is_found_by_clients_that_give_up_soon_one_after_the_other() {
    let (good, hung) = (Origin::named("good"), hung());
    let rest = format!("{}, outliers: {{ eject_for: 60s }}", Origin::targets(&[&good, &hung]));
    let gateway = Gateway::start(&yaml(&rest));
    let lost = until_silent(&gateway, || {
        let mut client = gateway.connect();
        client.set_timeout(Duration::from_millis(300)).send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        client.response().is_ok()
    });
    assert!(lost >= 4, "{lost}");
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/").text(), "good"));
}

#[test]
fn a_target_that_hangs_is_found_by_upgrades_and_calls_of_grpc_that_wait() {
    const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: e2e.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    const GRPC: &str = "POST /a.B/C HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
                        Content-Length: 5\r\n\r\n\0\0\0\0\0";
    for call in [UPGRADE, GRPC] {
        let (good, hung) = (Origin::named("good"), hung());
        let rest = format!("{}, outliers: {{ eject_for: 60s }}", Origin::targets(&[&good, &hung]));
        let gateway = Gateway::start(&yaml(&rest));
        let mut waiting = Vec::new();
        until_silent(&gateway, || {
            if waiting.len() < 8 {
                let mut client = gateway.connect();
                client.send(call);
                waiting.push(client);
            }
            // the other one answers
            let mut client = gateway.connect();
            client.set_timeout(Duration::from_millis(1)).send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
            client.response().is_ok()
        });
    }
}

#[test]
fn a_second_call_that_tries_a_target_and_loses_says_that_it_was_not_answered() {
    let status = Arc::new(AtomicU16::new(503));
    let own = Arc::clone(&status);
    let bad = Origin::serve(move |peer, _| match own.load(Ordering::SeqCst) {
        0 => {
            peer.stall();
            Next::Close
        }
        status => {
            peer.send(format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n"));
            Next::Keep
        }
    });
    let good = Origin::serve(|peer, _| {
        let began = now();
        wait_until("some time has passed", PATIENCE, || (began.elapsed() > Duration::from_millis(600)).then_some(()));
        peer.answer("good");
        Next::Keep
    });
    let rest = "outliers: { consecutive_failures: 2, slower_than: 1500ms, eject_for: 100ms }, \
                balance: { sticky: { cookie: shop } }, hedge: { after: 20ms, budget: 100% }";
    let gateway = Gateway::start(&yaml(&format!("{}, {rest}", Origin::targets(&[&good, &bad]))));
    let mut client = gateway.connect();
    let cookie = wait_until("a cookie tells the good one", PATIENCE, || {
        let answer = client.get("/");
        (answer.text() == "good").then(|| answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned())
    });
    wait_until("the other one is ejected", PATIENCE, || {
        client.get("/");
        (told(&gateway, 1)["ejections"] != 0).then_some(())
    });
    status.store(0, Ordering::SeqCst);
    let before = told(&gateway, 1)["ejections"].as_u64().unwrap();
    // a client that has its target tries no other, but its second calls do
    let call = format!("GET / HTTP/1.1\r\nHost: e2e.test\r\ncookie: {cookie}\r\n\r\n");
    let mut other = gateway.connect();
    wait_until("it is ejected again", PATIENCE * 2, || {
        let began = now();
        client.send(&call);
        wait_until("the second call waits", PATIENCE, || (began.elapsed() > Duration::from_millis(250)).then_some(()));
        // whoever comes by looks whether one that is tried is silent
        other.send(&call);
        assert!([&mut client, &mut other].iter_mut().all(|client| client.response().unwrap().text() == "good"));
        (told(&gateway, 1)["ejections"].as_u64().unwrap() > before).then_some(())
    });
}

#[test]
fn passive_findings_alone_never_leave_an_upstream_without_targets() {
    let (only, status) = changing("only");
    status.store(500, Ordering::SeqCst);
    let rest = format!("{}, outliers: {{ consecutive_failures: 1, max_ejected: 100% }}", Origin::targets(&[&only]));
    let gateway = Gateway::start(&yaml(&rest));
    let mut client = gateway.connect();
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 500));
    assert_eq!(told(&gateway, 0)["state"], "healthy");
}

#[test]
fn least_requests_leaves_a_slow_target_alone() {
    let (quick, slow) = (Origin::named("quick"), hung());
    let gateway = Gateway::start(&yaml(&format!("{}, balance: least_requests", Origin::targets(&[&quick, &slow]))));
    let seen = |origin: &Origin| origin.look(|log| log.requests.len());
    let mut waiting = Vec::new();
    for done in 1..=40 {
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        wait_until("a target has the call", PATIENCE, || (seen(&quick) + seen(&slow) >= done).then_some(()));
        wait_until("the quick one is done", PATIENCE, || (told(&gateway, 0)["in_flight"] == 0).then_some(()));
        waiting.push(client);
    }
    // the first is drawn
    assert!(seen(&slow) <= 1, "{}", seen(&slow));
    assert_eq!(seen(&quick) + seen(&slow), 40);
}

#[test]
fn latency_prefers_the_target_that_answers_faster() {
    let (quick, slow) = (
        Origin::named("quick"),
        Origin::serve(|peer, _| {
            // as long as it takes until the gateway has waited for some milliseconds
            let began = now();
            wait_until("some time has passed", PATIENCE, || {
                (began.elapsed() > Duration::from_millis(30)).then_some(())
            });
            peer.answer("slow");
            Next::Keep
        }),
    );
    let gateway = Gateway::start(&yaml(&format!("{}, balance: latency", Origin::targets(&[&quick, &slow]))));
    let mut client = gateway.connect();
    let slow = (0..60).filter(|_| client.get("/").text() == "slow").count();
    assert!(slow <= 3, "{slow}");
}

#[test]
fn a_key_keeps_its_target_when_another_one_leaves() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let all: Vec<&Origin> = origins.iter().collect();
    let config = |targets: &str| yaml(&format!("{targets}, balance: {{ hash: {{ header: x-user }} }}"));
    let gateway = Gateway::start(&config(&Origin::targets(&all)));
    let mut client = gateway.connect();
    let mut of = |user: usize| get_with(&mut client, &format!("x-user: user-{user}")).text();
    let before: Vec<String> = (0..40).map(&mut of).collect();
    assert_eq!((0..40).map(&mut of).collect::<Vec<_>>(), before);
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3);
    let written: Vec<String> = origins.iter().map(Origin::url).collect();
    let drained = format!("targets: [{}, {}, {{ url: {}, drain: true }}]", written[0], written[1], written[2]);
    gateway.rewrite(&config(&drained));
    wait_for_state(&gateway, 2, "draining");
    for (user, before) in before.iter().enumerate() {
        let after = of(user);
        assert!(after != "c" && (before == "c" || after == *before), "user {user}: {before} {after}");
    }
}

#[test]
fn a_client_with_the_cookie_stays_with_its_target_until_that_is_gone() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let all: Vec<&Origin> = origins.iter().collect();
    let sticky = "balance: { sticky: { cookie: shop, ttl: 1h } }";
    let gateway = Gateway::start(&yaml(&format!("{}, {sticky}", Origin::targets(&all))));
    let mut client = gateway.connect();
    let first = client.get("/");
    let cookie = first.field("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("shop=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"));
    assert!(!cookie.contains("127.0.0.1") && !cookie.contains(&origins[0].port().to_string()));
    let cookie = format!("cookie: {}", cookie.split(';').next().unwrap());
    for _ in 0..10 {
        let again = get_with(&mut client, &cookie);
        assert_eq!((again.text(), again.field("set-cookie")), (first.text(), None));
    }
    // one that was not given out means nothing
    assert!(get_with(&mut client, "cookie: shop=0123").field("set-cookie").is_some());
    let left: Vec<&Origin> = [("a", &origins[0]), ("b", &origins[1]), ("c", &origins[2])]
        .into_iter()
        .filter(|(name, _)| *name != first.text())
        .map(|(_, origin)| origin)
        .collect();
    gateway.rewrite(&yaml(&format!("{}, {sticky}", Origin::targets(&left))));
    let moved = wait_until("its target is gone", PATIENCE, || {
        let answer = get_with(&mut client, &cookie);
        answer.field("set-cookie").map(str::to_owned).map(|set| (answer.text(), set))
    });
    assert_ne!(moved.0, first.text());
    let cookie = format!("cookie: {}", moved.1.split(';').next().unwrap());
    (0..5).for_each(|_| assert_eq!(get_with(&mut client, &cookie).text(), moved.0));
}

#[test]
fn a_target_that_drains_gets_no_call_and_where_all_do_that_is_said_at_once() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = |a_drains: bool| {
        yaml(&format!("targets: [{{ url: {}, drain: {a_drains} }}, {{ url: {}, drain: true }}]", a.url(), b.url()))
    };
    let gateway = Gateway::start(&config(false));
    let mut client = gateway.connect();
    (0..10).for_each(|_| assert_eq!(client.get("/").text(), "a"));
    gateway.rewrite(&config(true));
    wait_for_state(&gateway, 0, "draining");
    let refused = client.get("/");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("no_target"), "{}", refused.text());
    assert_eq!(b.look(|log| log.requests.len()), 0);
}

#[test]
fn while_checks_say_that_no_target_is_well_calls_are_refused_at_once() {
    let (origin, status) = changing("it");
    status.store(500, Ordering::SeqCst);
    let health = "health: { path: /healthz, interval: 100ms, unhealthy_after: 1, healthy_after: 1 }";
    let gateway = Gateway::start(&yaml(&format!("{}, {health}", Origin::targets(&[&origin]))));
    wait_for_state(&gateway, 0, "unhealthy");
    let refused = gateway.get("/");
    assert!(refused.status == 503 && refused.text().contains("no_target"), "{refused:?}");
    assert!(origin.look(|log| log.requests.iter().all(|request| request.target == "/healthz")));
    status.store(200, Ordering::SeqCst);
    wait_for_state(&gateway, 0, "healthy");
    wait_until("it is called again", PATIENCE, || (gateway.get("/").status == 200).then_some(()));
}

#[test]
fn the_next_tier_is_called_while_the_first_cannot_be() {
    let (first, status) = changing("first");
    let second = Origin::named("second");
    let rest = format!(
        "targets: [{}, {{ url: {}, tier: 1 }}], outliers: {{ consecutive_failures: 2, eject_for: 60s }}",
        first.url(),
        second.url()
    );
    let gateway = Gateway::start(&yaml(&rest));
    let mut client = gateway.connect();
    (0..10).for_each(|_| assert_eq!(client.get("/").text(), "first"));
    status.store(503, Ordering::SeqCst);
    (0..2).for_each(|_| assert_eq!(client.get("/").status, 503));
    (0..10).for_each(|_| assert_eq!(client.get("/").text(), "second"));
}

#[test]
fn targets_of_the_own_zone_are_preferred() {
    let (near, far) = (Origin::named("near"), Origin::named("far"));
    let rest = format!("targets: [{{ url: {}, zone: b }}, {{ url: {}, zone: a }}]", far.url(), near.url());
    let gateway = Gateway::start(&format!("zone: a\n{}", yaml(&rest)));
    let mut client = gateway.connect();
    (0..10).for_each(|_| assert_eq!(client.get("/").text(), "near"));
}

#[test]
fn a_breaker_leaves_a_failing_upstream_alone_and_closes_when_it_is_well() {
    let (origin, status) = changing("it");
    status.store(500, Ordering::SeqCst);
    let breaker = "breaker: { failure_ratio: 50%, min_requests: 5, open_for: 500ms, half_open_requests: 2 }";
    let gateway = Gateway::start(&yaml(&format!("{}, {breaker}", Origin::targets(&[&origin]))));
    let mut client = gateway.connect();
    let answers: Vec<u16> = (0..5).map(|_| client.get("/").status).collect();
    assert_eq!(answers, [500; 5]);
    let seen = origin.look(|log| log.requests.len());
    let refused = client.get("/");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("circuit_open"), "{}", refused.text());
    assert_eq!(origin.look(|log| log.requests.len()), seen);
    status.store(200, Ordering::SeqCst);
    let mut statuses = BTreeMap::<u16, u32>::new();
    wait_until("it is closed", PATIENCE, || {
        *statuses.entry(client.get("/").status).or_default() += 1;
        (gateway.status("/upstreams").json()["upstreams"][0]["breaker"] == "closed").then_some(())
    });
    assert!(statuses.keys().all(|status| [200, 503].contains(status)), "{statuses:?}");
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
}

#[test]
fn a_call_that_finds_no_connection_goes_to_the_next_tier_and_zone() {
    let well = Origin::named("well");
    let (first, second) = (dead(), dead());
    let tiers = format!("targets: [{first}, {{ url: {second}, tier: 1 }}, {{ url: {}, tier: 2 }}]", well.url());
    let zones = format!("targets: [{{ url: {first}, zone: a }}, {{ url: {}, zone: b }}]", well.url());
    for targets in [tiers, zones] {
        for balance in ["round_robin", "least_requests", "latency", "{ hash: { header: x-user } }"] {
            let gateway = Gateway::start(&format!("zone: a\n{}", yaml(&format!("{targets}, balance: {balance}"))));
            let mut client = gateway.connect();
            for user in 0..5 {
                let answer = get_with(&mut client, &format!("x-user: user-{user}"));
                assert_eq!((answer.status, answer.text()), (200, "well".to_owned()), "{targets} {balance}");
            }
            assert_eq!(client.get("/").text(), "well", "{targets} {balance}");
        }
    }
}

/// Lets calls fail until the second target is ejected, and then be well.
fn eject(gateway: &Gateway, client: &mut Client, status: &AtomicU16) {
    let before = told(gateway, 1)["ejections"].as_u64().unwrap();
    status.store(503, Ordering::SeqCst);
    let mut user = 0;
    wait_until("the target is ejected", PATIENCE, || {
        user += 1;
        get_with(client, &format!("x-user: user-{user}"));
        (told(gateway, 1)["ejections"].as_u64().unwrap() > before).then_some(())
    });
    status.store(200, Ordering::SeqCst);
}

#[test]
fn a_client_that_has_its_target_does_not_try_another_one() {
    let (good, (bad, status)) = (Origin::named("good"), changing("bad"));
    let rest = "outliers: { consecutive_failures: 2, eject_for: 100ms }, balance: { sticky: { cookie: shop } }";
    let gateway = Gateway::start(&yaml(&format!("{}, {rest}", Origin::targets(&[&good, &bad]))));
    let mut client = gateway.connect();
    let cookie = wait_until("a cookie tells the good one", PATIENCE, || {
        let answer = client.get("/");
        (answer.text() == "good").then(|| answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned())
    });
    eject(&gateway, &mut client, &status);
    wait_for_state(&gateway, 1, "trial");
    for _ in 0..10 {
        let answer = get_with(&mut client, &format!("cookie: {cookie}"));
        assert_eq!((answer.text().as_str(), answer.field("set-cookie")), ("good", None));
    }
    assert_eq!(told(&gateway, 1)["state"], "trial");
    wait_until("a client without one tries the other", PATIENCE, || (client.get("/").text() == "bad").then_some(()));
    wait_for_state(&gateway, 1, "healthy");
}

#[test]
fn a_key_tries_no_target_but_its_own() {
    let (good, (bad, status)) = (Origin::named("good"), changing("bad"));
    let rest = "outliers: { consecutive_failures: 2, eject_for: 100ms }, balance: { hash: { header: x-user } }";
    let gateway = Gateway::start(&yaml(&format!("{}, {rest}", Origin::targets(&[&good, &bad]))));
    let mut client = gateway.connect();
    let mut of = |user: usize| get_with(&mut client, &format!("x-user: user-{user}")).text();
    let (goods, bads): (Vec<usize>, Vec<usize>) = (0..40).partition(|user| of(*user) == "good");
    assert!(!goods.is_empty() && !bads.is_empty());
    eject(&gateway, &mut client, &status);
    wait_for_state(&gateway, 1, "trial");
    let mut of = |user: usize| get_with(&mut client, &format!("x-user: user-{user}")).text();
    assert!(goods.iter().all(|user| of(*user) == "good"));
    assert_eq!(told(&gateway, 1)["state"], "trial");
    wait_until("one of its own tries it", PATIENCE, || (of(bads[0]) == "bad").then_some(()));
    assert!(bads.iter().all(|user| of(*user) == "bad"));
}

#[test]
fn a_stream_that_tried_a_target_does_not_go_on_trying_it() {
    let status = Arc::new(AtomicU16::new(200));
    let own = Arc::clone(&status);
    let bad = Origin::serve(move |peer, request| {
        if request.target == "/events" {
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
            peer.stall();
            return Next::Close;
        }
        peer.send(format!("HTTP/1.1 {} Said\r\nContent-Length: 0\r\n\r\n", own.load(Ordering::SeqCst)));
        Next::Keep
    });
    let good = Origin::named("good");
    let rest =
        format!("{}, outliers: {{ consecutive_failures: 2, eject_for: 100ms }}", Origin::targets(&[&good, &bad]));
    let gateway = Gateway::start(&yaml(&rest));
    let mut client = gateway.connect();
    eject(&gateway, &mut client, &status);
    wait_for_state(&gateway, 1, "trial");
    let mut stream = gateway.connect();
    stream.send("GET /events HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert!(stream.wire.head().unwrap().start.contains(" 200 "));
    wait_for_state(&gateway, 1, "healthy");
    eject(&gateway, &mut client, &status);
    wait_until("it is back though the stream lasts", PATIENCE, || {
        client.get("/");
        (told(&gateway, 1)["state"] == "healthy").then_some(())
    });
    drop(stream);
}

/// Its process takes connections, and does nothing with them.
#[test]
fn a_target_whose_process_is_stopped_gets_two_calls_a_second_at_most_and_no_caller_fails() {
    let answers = |body: &str| {
        format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nroutes: [{{ name: all, answer: {{ status: 200, body: {body} }} }}]\n"
        )
    };
    let (stopped, other) = (Gateway::start(&answers("same")), Origin::named("same"));
    let url = format!("http://{}", stopped.address());
    let rest = format!(
        "targets: [{url}, {}], outliers: {{ eject_for: 500ms, max_eject_for: 1s }}, timeouts: {{ response: 1500ms }}, \
         retry: {{ retries: 2, on: [timeout], budget: 100% }}",
        other.url()
    );
    let hedged = format!("{rest}, hedge: {{ after: 50ms, budget: 100% }}");
    let gateways = [rest, hedged].map(|rest| Gateway::start(&yaml(&rest)));
    let loads = gateways.each_ref().map(|gateway| Load::start(gateway.address(), 6, Connections::Kept, "/", "same"));
    let calls =
        |gateway: &Gateway| gateway.metrics().sum("daemun_upstream_requests_total", &[&format!("target=\"{url}\"")]);
    wait_until("it is called", PATIENCE, || gateways.iter().all(|gateway| calls(gateway) > 10.0).then_some(()));
    stopped.signal(Signal::STOP);
    let since = now();
    let pass = |seconds: u64| {
        wait_until("time passes", PATIENCE, || (since.elapsed() > Duration::from_secs(seconds)).then_some(()));
    };
    pass(3);
    let before = gateways.each_ref().map(calls);
    let began = now();
    pass(7);
    let seconds = began.elapsed().as_secs_f64();
    for (gateway, before) in gateways.iter().zip(before) {
        let calls = calls(gateway) - before;
        assert!(calls <= 2.0 * seconds, "{calls} in {seconds} s");
    }
    stopped.signal(Signal::CONT);
    for (gateway, load) in gateways.iter().zip(loads) {
        wait_for_state(gateway, 0, "healthy");
        assert_eq!(load.stop().failures, [""; 0]);
    }
}
