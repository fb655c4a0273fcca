//! Good requests over HTTP/2 with prior knowledge.

use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::{Next, Origin};

fn post(target: &str) -> Vec<(String, String)> {
    [(":method", "POST"), (":scheme", "http"), (":path", target), (":authority", "e2e.test")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn answered(ending: Ending) -> daemun_e2e::http2::Answer {
    match ending {
        Ending::Answer(answer) => *answer,
        other @ (Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed) => panic!("{other:?}"),
    }
}

#[test]
fn many_streams_of_one_connection_get_their_own_answers() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = Http2::connect(lane.gateway.address());
    for at in 0..80_u32 {
        client.headers(2 * at + 1, &post(&format!("/t/{at}")), false);
    }
    for at in (0..80_u32).rev() {
        client.data(2 * at + 1, format!("body {at}").as_bytes(), true);
    }
    for at in 0..80_u32 {
        let answer = answered(client.ending(2 * at + 1).unwrap());
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, format!("body {at}").as_bytes());
        assert_eq!(answer.field("x-seen"), Some(format!("POST /t/{at}").as_str()));
    }
    assert_eq!(lane.settle().unwrap().faults, Vec::<String>::new());
}

#[test]
fn a_body_larger_than_every_window_arrives_whole_both_ways() {
    let yaml = format!("limits: {{ body: 64MiB }}\n{FORWARD_ALL}");
    let lane = Lane::start(&yaml);
    let mut client = Http2::connect(lane.gateway.address());
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    client.headers(1, &post("/t"), false);
    client.upload(1, &body).unwrap();
    let answer = answered(client.ending(1).unwrap());
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

#[test]
fn answers_without_a_body_and_with_trailers_pass() {
    let origin = Origin::serve(|peer, request| {
        let sent = match request.target.as_str() {
            "/empty" => peer.send("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
            "/same" => peer.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 50\r\n\r\n"),
            "/hints" => peer.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            ),
            "/trailers" => peer.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
            ),
            "/hop" => peer.send(
                "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                 Content-Length: 2\r\n\r\nok",
            ),
            _ => return daemun_e2e::origin::echo(peer, request),
        };
        if sent { Next::Keep } else { Next::Close }
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = Http2::connect(lane.gateway.address());
    let empty = answered(client.get(1, "/empty").unwrap());
    assert_eq!((empty.status, empty.body.len(), empty.field("x-a")), (204, 0, Some("b")));
    let same = answered(client.get(3, "/same").unwrap());
    assert_eq!((same.status, same.body.len(), same.field("etag")), (304, 0, Some("\"x\"")));
    let hints = answered(client.get(5, "/hints").unwrap());
    assert_eq!((hints.interim, hints.status, hints.body), (vec![103], 200, b"ok".to_vec()));
    let trailers = answered(client.get(7, "/trailers").unwrap());
    assert_eq!(trailers.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let hop = answered(client.get(9, "/hop").unwrap());
    assert_eq!(
        (hop.status, hop.field("x-hop"), hop.field("keep-alive"), hop.field("connection")),
        (200, None, None, None)
    );
    client.headers(11, &[(":method", "HEAD"), (":scheme", "http"), (":path", "/t"), (":authority", "e2e.test")], true);
    let head = answered(client.ending(11).unwrap());
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn the_gateways_own_refusals_are_complete_answers() {
    let yaml = FORWARD_ALL.replace("prefix: /", "prefix: /known");
    let origin = Origin::echo();
    let gateway = daemun_e2e::Gateway::start(&yaml.replace("{origin}", &origin.url()));
    let mut client = Http2::connect(gateway.address());
    let answer = answered(client.get(1, "/unknown").unwrap());
    assert_eq!(answer.status, 404);
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["status"], 404);
    let again = answered(client.get(3, "/known").unwrap());
    assert_eq!(again.status, 200);
}

#[test]
fn an_upstream_that_breaks_off_breaks_the_stream_and_only_it() {
    let origin = Origin::serve(|peer, request| match request.target.as_str() {
        "/broken" => {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
            Next::Close
        }
        "/gone" => Next::Close,
        _ => daemun_e2e::origin::echo(peer, request),
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = Http2::connect(lane.gateway.address());
    let broken = client.get(1, "/broken").unwrap();
    assert!(matches!(broken, Ending::Reset(_)), "{broken:?}");
    let gone = answered(client.get(3, "/gone").unwrap());
    assert_eq!(gone.status, 502);
    let good = answered(client.get(5, "/good").unwrap());
    assert_eq!(good.body, b"/good");
}
