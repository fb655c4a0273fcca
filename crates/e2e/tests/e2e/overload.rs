//! An upstream that gets more calls than it can take: who waits, who goes first, who is refused, and that no place is lost.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::wait::now;
use daemun_e2e::{Client, Gateway, Next, Origin, Response, wait_until};

const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any call waits in a queue that is not to run out.
const QUEUE: Duration = Duration::from_secs(60);

/// Lets calls at an upstream end, one by one.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<usize>, Condvar)>);

impl Door {
    /// An upstream whose answers wait for this.
    fn origin(&self) -> Origin {
        let door = self.clone();
        Origin::serve(move |peer, request| {
            let (open, opened) = &*door.0;
            let open = opened.wait_while(open.lock().unwrap(), |open| *open == 0);
            *open.unwrap() -= 1;
            if peer.answer(&request.target) { Next::Keep } else { Next::Close }
        })
    }

    fn open(&self, calls: usize) {
        *self.0.0.lock().unwrap() += calls;
        self.0.1.notify_all();
    }
}

fn yaml(upstream: &str, origin: &Origin) -> String {
    format!(
        "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\n\
         upstreams:\n  origin:\n    targets: [\"{}\"]\n    {upstream}\n\
         routes:\n  - {{ name: low, match: {{ prefix: /low }}, upstream: origin, importance: low }}\n\
         \x20 - {{ name: high, match: {{ prefix: /high }}, upstream: origin, importance: high }}\n\
         \x20 - {{ name: keyed, match: {{ prefix: /keyed }}, upstream: origin, policies: {{ key_auth: {{ header: x-key }} }} }}\n\
         \x20 - {{ name: all, upstream: origin }}\n\
         consumers:\n  - {{ name: greedy, keys: [greedy-greedy-greedy] }}\n  - {{ name: modest, keys: [modest-modest-modest] }}\n\
         \x20 - {{ name: urgent, keys: [urgent-urgent-urgent], importance: high }}\n",
        origin.url()
    )
}

fn ask(gateway: &Gateway, target: &str) -> Client {
    let key = target.rsplit('/').next().unwrap_or_default();
    let mut client = gateway.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\nX-Key: {key}-{key}-{key}\r\n\r\n"));
    client
}

fn gauge(gateway: &Gateway, name: &str) -> f64 {
    gateway.metrics().sum(&format!("daemun_upstream_calls_{name}"), &["upstream=\"origin\""])
}

fn wait_for(gateway: &Gateway, name: &str, value: f64) {
    wait_until(&format!("{name} is {value}"), PATIENCE, || (gauge(gateway, name) == value).then_some(()));
}

/// Puts calls in flight, or into the queue behind what is, one after the other.
fn line_up(gateway: &Gateway, targets: &[&str]) -> Vec<Client> {
    let before = gauge(gateway, "waiting") + gauge(gateway, "in_flight");
    let mut clients = Vec::new();
    for target in targets {
        clients.push(ask(gateway, target));
        let there = before + clients.len() as f64;
        wait_until("the call is there", PATIENCE, || {
            (gauge(gateway, "waiting") + gauge(gateway, "in_flight") == there).then_some(())
        });
    }
    clients
}

fn assert_overloaded(answer: &Response) {
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")), "{answer:?}");
    assert!(answer.text().contains("overloaded"), "{answer:?}");
}

#[test]
fn calls_beyond_the_bound_wait_and_those_beyond_the_queue_are_refused() {
    let door = Door::default();
    let origin = door.origin();
    let gateway = Gateway::start(&yaml("limits: { requests: 2, queue: 2, queue_timeout: 1m }", &origin));
    let clients = line_up(&gateway, &["/1", "/2", "/3", "/4"]);
    assert_eq!([gauge(&gateway, "limit"), gauge(&gateway, "in_flight"), gauge(&gateway, "waiting")], [2.0; 3]);
    assert_overloaded(&ask(&gateway, "/5").response().unwrap());
    door.open(4);
    for mut client in clients {
        assert_eq!(client.response().unwrap().status, 200);
    }
    wait_for(&gateway, "in_flight", 0.0);
    assert_eq!(origin.look(|log| log.requests.len()), 4);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("daemun_upstream_calls_shed_total", &["importance=\"normal\""]), 1.0);
    assert_eq!(metrics.sum("daemun_faults_total", &["reason=\"overloaded\""]), 1.0);
    let logged = wait_until("it is logged", PATIENCE, || {
        gateway.access_log().into_iter().find(|line| line["reason"] == "overloaded")
    });
    assert_eq!(logged["cause"], "upstream `origin`: no place is left in the queue");
}

#[test]
fn a_call_that_waits_too_long_is_refused_and_never_sent() {
    let door = Door::default();
    let origin = door.origin();
    let gateway = Gateway::start(&yaml("limits: { requests: 1, queue_timeout: 300ms }", &origin));
    let mut first = line_up(&gateway, &["/1"]).remove(0);
    let begun = now();
    assert_overloaded(&ask(&gateway, "/2").response().unwrap());
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(gauge(&gateway, "waiting"), 0.0);
    door.open(1);
    assert_eq!(first.response().unwrap().status, 200);
    let targets: Vec<_> = origin.take().requests.into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/1"]);
}

#[test]
fn a_consumer_that_asks_for_more_waits_no_less_than_another() {
    let door = Door::default();
    let origin = door.origin();
    let gateway = Gateway::start(&yaml("limits: { requests: 1, queue: 30, queue_timeout: 1m }", &origin));
    let _clients = line_up(&gateway, &[["/1"].as_slice(), &["/keyed/greedy"; 20], &["/keyed/modest"; 4]].concat());
    door.open(9);
    let served = origin.wait("nine calls were served and a tenth came", |log| {
        (log.requests.len() == 10).then(|| log.requests.iter().map(|r| r.target.clone()).collect::<Vec<_>>())
    });
    let count = |target: &str| served.iter().skip(1).filter(|served| *served == target).count();
    assert_eq!((count("/keyed/greedy"), count("/keyed/modest")), (5, 4), "{served:?}");
}

#[test]
fn what_matters_least_is_refused_first_and_what_matters_most_goes_first() {
    let door = Door::default();
    let origin = door.origin();
    let gateway = Gateway::start(&yaml("limits: { requests: 1, queue: 3, queue_timeout: 1m }", &origin));
    let mut clients = line_up(&gateway, &["/1", "/low/a", "/low/b", "/normal"]);
    let mut high = ask(&gateway, "/high");
    assert_overloaded(&clients[2].response().unwrap());
    // a consumer's own importance wins over its route's
    let mut urgent = ask(&gateway, "/keyed/urgent");
    assert_overloaded(&clients[1].response().unwrap());
    assert_overloaded(&ask(&gateway, "/low/c").response().unwrap());
    door.open(4);
    for client in [&mut high, &mut urgent] {
        assert_eq!(client.response().unwrap().status, 200);
    }
    assert_eq!(clients[3].response().unwrap().status, 200);
    let served: Vec<_> = origin.take().requests.into_iter().map(|request| request.target).collect();
    assert_eq!(served.first().map(String::as_str), Some("/1"));
    assert_eq!(served.last().map(String::as_str), Some("/normal"), "{served:?}");
    assert_eq!(served.len(), 4);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("daemun_upstream_calls_shed_total", &["importance=\"low\""]), 3.0);
    assert_eq!(metrics.sum("daemun_upstream_calls_shed_total", &[]), 3.0);
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let door = Door::default();
    let origin = door.origin();
    let gateway = Gateway::start(&yaml("limits: { requests: 1, queue: 1, queue_timeout: 1m }", &origin));
    let mut clients = line_up(&gateway, &["/1", "/2"]);
    clients.remove(1).reset();
    wait_for(&gateway, "waiting", 0.0);
    let mut third = line_up(&gateway, &["/3"]).remove(0);
    // and one that leaves while its call is answered
    clients.remove(0).reset();
    origin.wait("the third call came", |log| (log.requests.len() == 2).then_some(()));
    door.open(2);
    assert_eq!(third.response().unwrap().text(), "/3");
    wait_for(&gateway, "in_flight", 0.0);
    assert!(origin.look(|log| log.requests.iter().all(|request| request.target != "/2")));
}

#[test]
fn a_client_that_leaves_within_its_body_gives_its_place_back() {
    let door = Door::default();
    let origin = door.origin();
    let gateway = Gateway::start(&yaml("limits: { requests: 1, queue: 1, queue_timeout: 1m }", &origin));
    let mut first = line_up(&gateway, &["/1"]).remove(0);
    let mut leaves = gateway.connect();
    leaves.send("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    wait_for(&gateway, "waiting", 1.0);
    leaves.reset();
    wait_for(&gateway, "waiting", 0.0);
    // one that stays loses nothing of its body
    let mut stays = gateway.connect();
    stays.send("POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    wait_for(&gateway, "waiting", 1.0);
    stays.send("+other");
    door.open(2);
    assert_eq!(first.response().unwrap().text(), "/1");
    assert_eq!(stays.response().unwrap().text(), "/3");
    let bodies = origin.look(|log| log.requests.iter().map(|request| request.body.clone()).collect::<Vec<_>>());
    assert_eq!(bodies, [b"".to_vec(), b"half+other".to_vec()]);
}

#[test]
fn a_reload_keeps_what_is_in_flight_and_lets_in_what_there_is_room_for() {
    let door = Door::default();
    let origin = door.origin();
    let limits = |requests| yaml(&format!("limits: {{ requests: {requests}, queue: 5, queue_timeout: 1m }}"), &origin);
    let gateway = Gateway::start(&limits(1));
    let mut clients = line_up(&gateway, &["/1", "/2", "/3"]);
    gateway.rewrite(&limits(2));
    wait_for(&gateway, "limit", 2.0);
    wait_for(&gateway, "in_flight", 2.0);
    assert_eq!(gauge(&gateway, "waiting"), 1.0);
    clients.extend(line_up(&gateway, &["/4"]));
    door.open(4);
    for mut client in clients {
        assert_eq!(client.response().unwrap().status, 200);
    }
    wait_for(&gateway, "in_flight", 0.0);
}

#[test]
fn a_target_that_has_enough_is_passed_over() {
    let door = Door::default();
    let (origin, other) = (door.origin(), door.origin());
    let text = yaml("limits: { per_target: { requests: 2 }, queue_timeout: 1m }", &origin);
    let both = format!("[\"{}\", {{ url: \"{}\", weight: 100 }}]", origin.url(), other.url());
    let gateway = Gateway::start(&text.replace(&format!("[\"{}\"]", origin.url()), &both));
    let clients = line_up(&gateway, &["/1", "/2", "/3", "/4", "/5"]);
    assert_eq!([gauge(&gateway, "in_flight"), gauge(&gateway, "waiting")], [4.0, 1.0]);
    for origin in [&origin, &other] {
        origin.wait("each has two", |log| (log.requests.len() == 2).then_some(()));
    }
    door.open(5);
    for mut client in clients {
        assert_eq!(client.response().unwrap().status, 200);
    }
}

#[test]
fn calls_wait_while_the_targets_that_are_called_have_enough_and_those_at_others_take_no_place() {
    let door = Door::default();
    let (a, b) = (door.origin(), door.origin());
    let config = |a_drains: bool| {
        let text = yaml("limits: { per_target: { requests: 1 }, queue: 100, queue_timeout: 1m }", &a);
        let both = format!("[{{ url: {}, drain: {a_drains} }}, {{ url: {}, drain: {} }}]", a.url(), b.url(), !a_drains);
        text.replace(&format!("[\"{}\"]", a.url()), &both)
    };
    let gateway = Gateway::start(&config(false));
    let mut clients = line_up(&gateway, &["/1", "/2", "/3"]);
    assert_eq!([gauge(&gateway, "in_flight"), gauge(&gateway, "waiting")], [1.0, 2.0]);
    door.open(2);
    for client in clients.drain(..2) {
        let mut client = client;
        assert_eq!(client.response().unwrap().status, 200);
    }
    wait_for(&gateway, "waiting", 0.0);
    assert_eq!(a.wait_requests(3).len(), 3);
    gateway.rewrite(&config(true));
    // the call at the one that drains now does not keep another from the other one
    wait_for(&gateway, "limit", 2.0);
    clients.extend(line_up(&gateway, &["/4", "/5"]));
    assert_eq!(b.wait_requests(1).len(), 1);
    assert_eq!([gauge(&gateway, "in_flight"), gauge(&gateway, "waiting")], [2.0, 1.0]);
    door.open(3);
    for mut client in clients {
        assert_eq!(client.response().unwrap().status, 200);
    }
}

/// Whether it leaves the list that its source gives, or the configuration.
#[test]
fn calls_at_a_target_that_is_gone_take_no_place_from_those_that_are_there() {
    for found in [true, false] {
        let (stays, leaves) = (Door::default(), Door::default());
        let (first, second) = (stays.origin(), leaves.origin());
        let folder = Folder::new();
        let list = |targets: &[&Origin]| {
            let urls: Vec<String> = targets.iter().map(|origin| format!("\"{}\"", origin.url())).collect();
            format!("[{}]", urls.join(", "))
        };
        let path = folder.write("targets.json", list(&[&first, &second]));
        let config = |targets: &[&Origin]| {
            let source = format!("discover: {{ file: {{ path: {} }} }}", path.display());
            let from = if found { source } else { format!("targets: {}", list(targets)) };
            format!(
                "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\n\
                 upstreams: {{ origin: {{ {from}, limits: {{ per_target: {{ requests: 2 }}, queue: 0 }} }} }}\n\
                 routes: [{{ name: all, upstream: origin }}]\n"
            )
        };
        let gateway = Gateway::start(&config(&[&first, &second]));
        let mut clients: Vec<Client> = (0..4).map(|_| ask(&gateway, "/t")).collect();
        for origin in [&first, &second] {
            origin.wait_requests(2);
        }
        assert_overloaded(&gateway.get("/t"));
        if found {
            folder.write("targets.json", list(&[&first]));
        } else {
            gateway.rewrite(&config(&[&first]));
        }
        wait_until("the second target is gone", PATIENCE, || {
            let told = gateway.status("/upstreams").json();
            (told["upstreams"][0]["targets"].as_array().unwrap().len() == 1).then_some(())
        });
        // those that are there have all the places, and no more
        stays.open(2);
        wait_for(&gateway, "in_flight", 2.0);
        clients.extend((0..2).map(|_| ask(&gateway, "/t")));
        first.wait_requests(4);
        assert_overloaded(&gateway.get("/t"));
        stays.open(2);
        leaves.open(2);
        assert!(clients.iter_mut().all(|client| client.response().unwrap().status == 200), "found: {found}");
        wait_for(&gateway, "in_flight", 0.0);
    }
}

#[test]
fn there_are_no_more_connections_than_there_may_be() {
    for limits in ["connections: 2", "per_target: { connections: 2 }"] {
        let door = Door::default();
        let origin = door.origin();
        let gateway = Gateway::start(&yaml(&format!("limits: {{ {limits}, queue_timeout: 60s }}"), &origin));
        let mut clients: Vec<Client> = (0..8).map(|_| ask(&gateway, "/t")).collect();
        for round in 0..10 {
            // two calls are there, and go on only when they may
            origin.wait_requests(2 + 2 * round);
            // each has a connection, and there is none beside; that one was closed may be noticed late
            origin.wait("two connections are open", |log| (log.accepted - log.ended.len() == 2).then_some(()));
            clients.extend((0..2).map(|_| ask(&gateway, "/t")));
            door.open(2);
        }
        assert_eq!(gauge(&gateway, "limit"), 2.0);
        door.open(clients.len());
        for client in &mut clients {
            assert_eq!(client.set_timeout(QUEUE).response().unwrap().status, 200, "{limits}");
        }
    }
}

#[test]
fn a_stream_keeps_its_place_by_number_and_says_nothing_of_how_many_calls_there_should_be() {
    let origin = Origin::serve(|peer, request| {
        if request.target == "/events" {
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            peer.stall();
            return Next::Close;
        }
        daemun_e2e::origin::echo(peer, request)
    });
    let upstream = "limits: { requests: 3, queue: 0 }\n    concurrency: { adaptive: { min: 1, max: 1 } }";
    let gateway = Gateway::start(&yaml(upstream, &origin));
    let events = || {
        let mut client = ask(&gateway, "/events");
        assert!(client.wire.head().unwrap().start.contains(" 200 "));
        client
    };
    let streams: Vec<_> = (0..2).map(|_| events()).collect();
    wait_for(&gateway, "in_flight", 2.0);
    assert_eq!(gateway.get("/t").status, 200);
    wait_for(&gateway, "in_flight", 2.0);
    let third = events();
    wait_for(&gateway, "in_flight", 3.0);
    assert_overloaded(&gateway.get("/t"));
    drop((streams, third));
    wait_for(&gateway, "in_flight", 0.0);
    assert_eq!(gateway.get("/t").status, 200);
}
