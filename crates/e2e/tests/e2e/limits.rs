//! Time limits and bounds on clients: who is slow, who is many.

use std::time::Duration;

use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::wait::now;
use daemun_e2e::{Broken, Client, Gateway, Next, Origin, poll, wait_until};

fn with(timeouts: &str) -> String {
    format!("timeouts: {{ {timeouts} }}\n{FORWARD_ALL}")
}

/// Waits for the gateway to let a slow client go: 408, or closed without a word.
fn is_let_go(client: &mut Client, what: &str) {
    let begun = now();
    match client.response() {
        Ok(answer) => {
            assert_eq!(answer.status, 408, "{what}: {answer:?}");
            assert!(client.is_closed(), "{what}");
        }
        Err(Broken::Closed | Broken::Reset) => {}
        Err(broken) => panic!("{what}: {broken}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{what}: let go after {:?}", begun.elapsed());
}

#[test]
fn a_slow_head_is_not_waited_for() {
    let lane = Lane::start(&with("head: 300ms"));
    let mut client = lane.connect();
    client.send("GET /t HTTP/1.1\r\nHost: e2e");
    is_let_go(&mut client, "half a head");
    let mut dribble = lane.connect();
    let begun = now();
    let sent = poll(Duration::from_secs(5), || dribble.wire.send(b"X").err());
    assert!(sent.is_some(), "a head that dribbles in is taken for ever");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(lane.settle().unwrap().requests.len(), 0);
}

#[test]
fn a_slow_head_behind_a_good_request_is_not_waited_for() {
    let lane = Lane::start(&with("head: 300ms"));
    let mut client = lane.connect();
    assert_eq!(client.get("/t").status, 200);
    client.send("GET /u HTTP/1.1\r\n");
    is_let_go(&mut client, "half a second head");
}

#[test]
fn an_idle_connection_is_closed() {
    let lane = Lane::start(&with("keep_alive: 300ms, head: 500ms"));
    let mut used = lane.connect();
    assert_eq!(used.get("/t").status, 200);
    assert!(used.is_closed(), "a used connection");
    let mut fresh = lane.connect();
    fresh.set_timeout(Duration::from_secs(15));
    assert!(fresh.is_closed(), "a connection that never asked");
}

#[test]
fn a_slow_body_is_not_waited_for() {
    let lane = Lane::start(&with("body_idle: 300ms"));
    for head in [
        "Content-Length: 50\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let mut client = lane.connect();
        client.send(format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\n{head}"));
        is_let_go(&mut client, head);
    }
    let log = lane.settle().unwrap();
    assert_eq!((log.requests.len(), log.faults), (0, vec![]));
}

#[test]
fn a_body_below_the_least_rate_is_not_waited_for() {
    let lane = Lane::start(&with("body_idle: 5s, min_rate: 1000B, min_rate_after: 500ms"));
    let mut client = lane.connect();
    client.send("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 100000\r\n\r\n");
    let begun = now();
    let stopped = poll(Duration::from_secs(5), || client.wire.send(b"x").err());
    let took = begun.elapsed();
    assert!(
        stopped.is_some() || matches!(client.response(), Ok(answer) if answer.status == 408),
        "dribbled for {took:?}"
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(lane.settle().unwrap().requests.len(), 0);
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let origin = Origin::serve(|peer, request| {
        if request.target != "/big" {
            return daemun_e2e::origin::echo(peer, request);
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        let bytes = vec![b'x'; 1024 * 1024];
        while peer.send(&bytes) {}
        Next::Close
    });
    let lane = Lane::with(&with("write_idle: 400ms"), origin);
    let mut client = lane.connect();
    client.wire.stream.shrink_receive_buffer();
    client.send("GET /big HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    lane.origin.wait("the call ended", |log| (!log.ended.is_empty()).then_some(()));
    lane.settle().unwrap();
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_504() {
    let origin = Origin::serve(|peer, request| {
        if request.target.starts_with("/slow") {
            peer.stall();
            return Next::Close;
        }
        daemun_e2e::origin::echo(peer, request)
    });
    let yaml = FORWARD_ALL
        .replace("    targets:", "    timeouts: { response: 300ms }\n    targets:")
        .replace("routes:\n", "routes:\n  - name: own\n    match: { path: /slow-but-allowed }\n    upstream: origin\n    timeouts: { response: 1200ms }\n");
    let lane = Lane::with(&yaml, origin);
    for (target, least, most) in [("/slow", 250, 1100), ("/slow-but-allowed", 1100, 5000)] {
        let begun = now();
        let answer = lane.gateway.get(target);
        let took = begun.elapsed();
        assert_eq!(answer.status, 504);
        let bounds = Duration::from_millis(least)..Duration::from_millis(most);
        assert!(bounds.contains(&took), "{target}: {took:?}");
    }
    lane.origin.wait("the calls were cancelled", |log| (log.ended.len() >= 2).then_some(()));
    lane.settle().unwrap();
}

#[test]
fn more_connections_than_allowed_are_refused_and_room_is_given_back() {
    let yaml = format!("limits: {{ connections: 10 }}\n{FORWARD_ALL}");
    let lane = Lane::start(&yaml);
    let mut held: Vec<Client> = (0..10).map(|_| lane.connect()).collect();
    for client in &mut held {
        assert_eq!(client.get("/held").status, 200);
    }
    let mut over = lane.connect();
    over.send("GET /over HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    over.set_timeout(Duration::from_millis(500));
    match over.response() {
        Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
        Err(Broken::Closed | Broken::Reset | Broken::TimedOut) => {}
        Err(broken) => panic!("{broken}"),
    }
    drop(over);
    for client in &mut held {
        assert_eq!(client.get("/still").status, 200, "those who were in stay in");
    }
    held.truncate(5);
    wait_until("room was given back", Duration::from_secs(5), || {
        let mut client = Client::try_connect(lane.gateway.address()).ok()?;
        client.send("GET /again HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        client.response().ok().filter(|answer| answer.status == 200).map(|_| ())
    });
    assert!(lane.origin.look(|log| log.requests.iter().all(|request| request.target != "/over")));
}

#[test]
fn smaller_bounds_are_kept_as_configured() {
    let yaml = format!("limits: {{ head: 2KiB, fields: 5, target: 128B, body: 10B }}\n{FORWARD_ALL}");
    let lane = Lane::start(&yaml);
    let call = |text: String| lane.connect().call(text).status;
    assert_eq!(call("GET /t HTTP/1.1\r\nHost: e2e.test\r\n\r\n".to_owned()), 200);
    assert_eq!(call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{}\r\n", "X-A: b\r\n".repeat(5))), 431);
    assert_eq!(call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\nX-A: {}\r\n\r\n", "b".repeat(3000))), 431);
    assert_eq!(call(format!("GET /{} HTTP/1.1\r\nHost: e2e.test\r\n\r\n", "t".repeat(200))), 414);
    assert_eq!(call("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 10\r\n\r\n0123456789".to_owned()), 200);
    assert_eq!(call("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 11\r\n\r\n0123456789x".to_owned()), 413);
    assert_eq!(
        call(
            "POST /t HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789x\r\n0\r\n\r\n"
                .to_owned()
        ),
        413
    );
}

#[test]
fn two_hundred_slow_clients_do_not_keep_others_out() {
    let lane = Lane::start(&with("head: 5s"));
    let slow: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = lane.connect();
            client.send("GET /slow HTTP/1.1\r\nHost: e2e");
            client
        })
        .collect();
    for at in 0..20 {
        assert_eq!(lane.gateway.get(&format!("/{at}")).status, 200);
    }
    drop(slow);
}

#[test]
fn a_gateway_out_of_descriptors_recovers() {
    let lane = Lane::start(FORWARD_ALL);
    let pid = rustix::process::Pid::from_raw(lane.gateway.pid());
    let few = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    if rustix::process::prlimit(pid, rustix::process::Resource::Nofile, few).is_err() {
        return;
    }
    let mut many: Vec<Client> = (0..100).filter_map(|_| Client::try_connect(lane.gateway.address()).ok()).collect();
    for client in &mut many {
        client.send("GET /many HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    }
    drop(many);
    let gateway: &Gateway = &lane.gateway;
    wait_until("the gateway accepted again", Duration::from_secs(10), || {
        let mut client = Client::try_connect(gateway.address()).ok()?;
        client.set_timeout(Duration::from_secs(1));
        client.send("GET /again HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        client.response().ok().filter(|answer| answer.status == 200).map(|_| ())
    });
}
