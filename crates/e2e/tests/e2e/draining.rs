//! A target that is told to drain while the gateway runs: no new call goes there, none under way is touched, and nothing fails.

use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

use daemun_e2e::gateway::Folder;
use daemun_e2e::load::{Connections, Load};
use daemun_e2e::wait::PATIENCE;
use daemun_e2e::{Client, Gateway, Next, Origin, Response, wait_until};
use serde_json::Value;

/// One upstream `u` for every path; `rest` are its keys, `routes` those beside the one to it.
fn yaml(rest: &str, routes: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nadmin: {{ bind: 127.0.0.1:0 }}\n\
         upstreams: {{ u: {{ {rest} }} }}\n\
         routes:\n  - {{ name: all, match: {{ prefix: / }}, upstream: u }}\n{routes}"
    )
}

/// An upstream whose `/events` are a stream that goes on when told to.
fn streaming() -> (Origin, SyncSender<&'static str>) {
    let (more, next) = sync_channel::<&'static str>(1);
    let next = Mutex::new(next);
    let origin = Origin::serve(move |peer, request| {
        if request.target != "/events" {
            peer.answer("same");
            return Next::Keep;
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        while let Ok(event) = next.lock().unwrap().recv() {
            peer.send(event);
        }
        Next::Close
    });
    (origin, more)
}

/// Asks `PUT` or `DELETE` for the drain of a target, its URL as `/upstreams` shows it.
fn drain(gateway: &Gateway, method: &str, url: &str) -> Response {
    let target = url.replace('%', "%25").replace(':', "%3A").replace('/', "%2F");
    let address = gateway.admin_address();
    Client::connect(address)
        .call(format!("{method} /upstreams/u/targets/{target}/drain HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

fn told(gateway: &Gateway, place: usize) -> Value {
    let address = gateway.admin_address();
    let answer = Client::connect(address).call(format!("GET /upstreams HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    answer.json()["upstreams"][0]["targets"][place].clone()
}

fn calls(origin: &Origin) -> usize {
    origin.look(|log| log.requests.len())
}

#[test]
fn a_target_drains_under_load_without_a_failure_and_its_streams_go_on() {
    let ((first, events), second) = (streaming(), Origin::named("same"));
    let gateway = Gateway::start(&yaml(&Origin::targets(&[&first, &second]), ""));
    let mut stream = gateway.connect();
    wait_until("the first target has the stream", PATIENCE, || {
        stream = gateway.connect();
        stream.send("GET /events HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        let head = stream.wire.head().unwrap();
        head.has("content-type").then_some(())
    });
    let load = Load::start(gateway.address(), 6, Connections::Kept, "/", "same");
    load.wait_for(200);
    let answer = drain(&gateway, "PUT", &first.url());
    assert_eq!((answer.status, answer.json()["state"].as_str()), (200, Some("draining")), "{answer:?}");
    assert_eq!(told(&gateway, 0)["reason"], "told to drain");
    load.wait_for(200);
    // whatever was under way when it was told is over
    assert_eq!(load.stop().failures, [""; 0]);
    let (before, others) = (calls(&first), calls(&second));
    assert!(before > 1);
    let load = Load::start(gateway.address(), 6, Connections::Fresh, "/", "same");
    load.wait_for(200);
    assert_eq!(calls(&first), before);
    assert!(calls(&second) >= others + 200);
    events.send("data: later\n\n").unwrap();
    while daemun_e2e::wire::find(&stream.wire.buffer, b"data: later").is_none() {
        stream.wire.fill().unwrap();
    }
    let answer = drain(&gateway, "DELETE", &first.url());
    assert_eq!((answer.status, answer.json()["state"].as_str()), (200, Some("healthy")), "{answer:?}");
    first.wait("it is called again", |log| (log.requests.len() > before).then_some(()));
    assert_eq!(load.stop().failures, [""; 0]);
    let told = gateway.stderr();
    let line = format!("info drain: target `{}` of upstream `u`", first.url());
    assert!(told.contains(&format!("{line} drains and gets no new call")), "{told}");
    assert!(told.contains(&format!("{line} no longer drains")), "{told}");
    drop((stream, events));
}

#[test]
fn a_drain_is_told_once_and_where_all_targets_drain_calls_are_refused_at_once() {
    let (first, second) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&yaml(&Origin::targets(&[&first, &second]), ""));
    for _ in 0..3 {
        assert_eq!(drain(&gateway, "PUT", &first.url()).status, 200);
    }
    assert_eq!(drain(&gateway, "PUT", &second.url()).status, 200);
    let refused = gateway.get("/");
    assert!(refused.status == 503 && refused.text().contains("no_target"), "{refused:?}");
    assert_eq!(drain(&gateway, "DELETE", &second.url()).status, 200);
    let mut client = gateway.connect();
    assert!((0..10).all(|_| client.get("/").text() == "b"));
    assert_eq!(calls(&first), 0);
    let url = "http://127.0.0.1:1";
    assert_eq!(drain(&gateway, "PUT", url).status, 404);
    wait_until("it is told", PATIENCE, || gateway.stderr().contains("no longer drains").then_some(()));
    assert_eq!(gateway.stderr().matches("info drain: ").count(), 3, "{}", gateway.stderr());
}

#[test]
fn a_drain_lasts_over_reloads_until_its_target_leaves() {
    let (first, second) = (Origin::named("a"), Origin::named("b"));
    let both = Origin::targets(&[&first, &second]);
    let gateway = Gateway::start(&yaml(&both, ""));
    assert_eq!(drain(&gateway, "PUT", &first.url()).status, 200);
    let mut number = 0;
    let mut reload = |rest: &str| {
        number += 1;
        gateway.rewrite(&yaml(
            rest,
            &format!("  - {{ name: r, match: {{ path: /r }}, answer: {{ body: \"{number}\" }} }}\n"),
        ));
        wait_until("it is reloaded", PATIENCE, || (gateway.get("/r").text() == number.to_string()).then_some(()));
    };
    let mut client = gateway.connect();
    // another balance and weight make it another upstream and another target, at the same address
    for rest in
        [&both, &format!("targets: [{{ url: {}, weight: 9 }}, {}], balance: least_requests", first.url(), second.url())]
    {
        reload(rest);
        assert_eq!(told(&gateway, 0)["state"], "draining", "{rest}");
        assert!((0..10).all(|_| client.get("/").text() == "b"), "{rest}");
    }
    assert_eq!(calls(&first), 0);
    reload(&Origin::targets(&[&second]));
    // what was published before goes once nothing uses it
    wait_until("it is back as if it were new", PATIENCE * 3, || {
        reload(&both);
        let state = told(&gateway, 0)["state"].clone();
        if state != "healthy" {
            reload(&Origin::targets(&[&second]));
        }
        (state == "healthy").then_some(())
    });
    wait_until("it is called", PATIENCE, || (client.get("/").text() == "a").then_some(()));
}

#[test]
fn what_belongs_to_a_target_by_cookie_or_hash_moves_on_when_it_drains_and_what_was_found_drains_too() {
    let origins = [Origin::named("a"), Origin::named("b")];
    let folder = Folder::new();
    let urls: Vec<String> = origins.iter().map(Origin::url).collect();
    let path = folder.write("targets.yaml", format!("[\"{}\", \"{}\"]", urls[0], urls[1]));
    for balance in ["{ sticky: { cookie: shop } }", "{ hash: { header: x-user } }"] {
        let rest = format!("discover: {{ file: {{ path: {} }} }}, balance: {balance}", path.display());
        let gateway = Gateway::start(&yaml(&rest, ""));
        let mut client = gateway.connect();
        let mut of = |field: &str| client.call(format!("GET / HTTP/1.1\r\nHost: e2e.test\r\n{field}\r\n\r\n"));
        let field = match of("x-user: some").field("set-cookie") {
            Some(cookie) => format!("cookie: {}", cookie.split(';').next().unwrap()),
            None => "x-user: some".to_owned(),
        };
        let own = of(&field).text();
        assert!((0..10).all(|_| of(&field).text() == own), "{balance}");
        let place = usize::from(own == "b");
        assert_eq!(drain(&gateway, "PUT", &urls[place]).json()["state"], "draining", "{balance}");
        assert!((0..10).all(|_| of(&field).text() != own), "{balance}");
        assert_eq!(drain(&gateway, "DELETE", &urls[place]).status, 200);
        assert!((0..10).all(|_| of(&field).text() == own), "{balance}");
    }
}

#[test]
fn only_this_machine_and_no_page_of_another_origin_drains_a_target() {
    let first = Origin::named("a");
    let gateway = Gateway::start(&yaml(&Origin::targets(&[&first]), ""));
    let address = gateway.admin_address();
    let target = first.url().replace(':', "%3A").replace('/', "%2F");
    for (fields, status) in [
        (format!("Host: {address}\r\nOrigin: http://evil.example"), 403),
        (format!("Host: {address}\r\nSec-Fetch-Site: cross-site"), 403),
        ("Host: rebound.example".to_owned(), 421),
    ] {
        let call = format!("PUT /upstreams/u/targets/{target}/drain HTTP/1.1\r\n{fields}\r\n\r\n");
        assert_eq!(Client::connect(address).call(call).status, status, "{fields}");
    }
    assert_eq!(gateway.get("/").text(), "a");
}

/// Where no second call could be made beside it, a call that waits at a target which is ejected leaves it as any other does.
#[test]
fn a_call_that_got_no_second_one_leaves_a_target_that_hangs() {
    let good = Origin::named("good");
    let hung = Origin::serve(|peer, _| {
        peer.stall();
        Next::Close
    });
    let rest = format!(
        "{}, outliers: {{ slower_than: 2s, eject_for: 60s }}, timeouts: {{ response: 60s }}, \
         retry: {{ retries: 1, on: [timeout], budget: 100% }}, hedge: {{ after: 50ms }}",
        Origin::targets(&[&good, &hung])
    );
    let late = "  - { name: late, match: { path: /late }, upstream: u, timeouts: { response: 500ms } }\n";
    let gateway = Gateway::start(&yaml(&rest, late));
    assert_eq!(drain(&gateway, "PUT", &good.url()).status, 200);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    hung.wait("it is waited for", |log| (!log.requests.is_empty()).then_some(()));
    // one that came later has waited longer than a second call takes to be due
    assert_eq!(gateway.get("/late").status, 504);
    assert_eq!(drain(&gateway, "DELETE", &good.url()).status, 200);
    // it finds by itself that the target hangs
    assert_eq!(client.response().unwrap().text(), "good");
    assert_eq!(told(&gateway, 1)["state"], "ejected");
}

/// Nor does it wait longer where the second call failed at once.
#[test]
fn a_call_whose_second_one_failed_leaves_a_target_that_hangs() {
    let good = Origin::named("good");
    let hung = Origin::serve(|peer, _| {
        peer.stall();
        Next::Close
    });
    let broken = Origin::serve(|_, _| Next::Close);
    let rest = format!(
        "{}, outliers: {{ consecutive_failures: 100, slower_than: 2s, eject_for: 60s }}, timeouts: {{ response: 60s }}, \
         retry: {{ retries: 1, on: [timeout], budget: 100% }}, hedge: {{ after: 50ms, budget: 100% }}",
        Origin::targets(&[&hung, &broken, &good])
    );
    // of one worker, the first in the list is called first
    let gateway = Gateway::start(&yaml(&rest, "").replace("workers: 2", "workers: 1"));
    assert_eq!(drain(&gateway, "PUT", &good.url()).status, 200);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    hung.wait("it is waited for", |log| (!log.requests.is_empty()).then_some(()));
    broken.wait("the second call was made", |log| (!log.requests.is_empty()).then_some(()));
    assert_eq!(drain(&gateway, "DELETE", &good.url()).status, 200);
    assert_eq!(drain(&gateway, "PUT", &broken.url()).status, 200);
    // far from the time limit
    assert_eq!(client.response().unwrap().text(), "good");
    assert_eq!(told(&gateway, 0)["state"], "ejected");
}
