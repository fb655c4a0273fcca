//! Bodies over HTTP/2: lengths that lie, frames out of place.

use daemun_e2e::case::run_each;
use daemun_e2e::hpack::encode;
use daemun_e2e::http2::{END_HEADERS, END_STREAM, Ending, Http2, frame, kind};
use daemun_e2e::lane::{FORWARD_ALL, Lane};

/// What is sent behind the preface, and how many complete requests may reach the upstream.
struct FrameCase {
    name: &'static str,
    frames: Vec<u8>,
    refused: bool,
}

fn usual(extra: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![(":method", "POST"), (":scheme", "http"), (":path", "/t"), (":authority", "e2e.test")];
    fields.extend_from_slice(extra);
    encode(&fields)
}

fn post(extra: &[(&str, &str)], bodies: &[&str]) -> Vec<u8> {
    let end = if bodies.is_empty() { END_STREAM } else { 0 };
    let mut bytes = frame(kind::HEADERS, END_HEADERS | end, 1, &usual(extra));
    for (at, body) in bodies.iter().enumerate() {
        bytes.extend(frame(kind::DATA, u8::from(at + 1 == bodies.len()), 1, body.as_bytes()));
    }
    bytes
}

fn run(cases: &[FrameCase]) {
    run_each(
        cases.len(),
        || Lane::start(FORWARD_ALL),
        |lane, index| judge(lane, &cases[index]).map_err(|why| format!("{}\n    {why}", cases[index].name)),
    );
}

fn judge(lane: &Lane, case: &FrameCase) -> Result<(), String> {
    let mut client = Http2::connect(lane.gateway.address());
    client.send(&case.frames);
    let ending = client.ending(1).map_err(|broken| format!("{broken}; so far {:?}", client.so_far(1)))?;
    let log = lane.settle().map_err(|why| format!("{why}; the stream ended with {ending:?}"))?;
    if !log.faults.is_empty() {
        return Err(format!("the upstream received {}", log.faults.join(" and ")));
    }
    let answered = matches!(&ending, Ending::Answer(answer) if answer.status == 200);
    if answered == case.refused || log.requests.len() != usize::from(!case.refused) {
        return Err(format!("the stream ended with {ending:?}; the upstream received {:?}", log.requests));
    }
    Ok(())
}

#[test]
fn a_length_that_differs_from_the_body_is_refused() {
    let case = |name, extra: &[(&str, &str)], bodies: &[&str], refused| FrameCase {
        name,
        frames: post(extra, bodies),
        refused,
    };
    let length = |value| [("content-length", value)];
    run(&[
        case("a true length", &length("5"), &["hello"], false),
        case("a true length in two frames", &length("5"), &["he", "llo"], false),
        case("no length", &[], &["hello"], false),
        case("no body", &[], &[], false),
        case("an empty last frame", &length("5"), &["hello", ""], false),
        case("a longer body", &length("3"), &["hello"], true),
        case("a longer body in a second frame", &length("3"), &["hel", "lo"], true),
        case("a shorter body", &length("9"), &["hello"], true),
        case("a body against length 0", &length("0"), &["GET /smuggled HTTP/1.1\r\nHost: e2e.test\r\n\r\n"], true),
        case("no body against a length", &length("5"), &[], true),
        case("two lengths", &[("content-length", "5"), ("content-length", "5")], &["hello"], true),
        case("two different lengths", &[("content-length", "5"), ("content-length", "6")], &["hello"], true),
        case("a list of lengths", &length("5, 5"), &["hello"], true),
        case("a signed length", &length("+5"), &["hello"], true),
        case("an empty length", &length(""), &["hello"], true),
        case("a length in hexadecimal", &length("0x5"), &["hello"], true),
        case("a length over 2^64", &length("18446744073709551621"), &["hello"], true),
        case("a coding", &[("transfer-encoding", "chunked")], &["5\r\nhello\r\n0\r\n\r\n"], true),
        case("a coding and a length", &[("transfer-encoding", "chunked"), ("content-length", "5")], &["hello"], true),
    ]);
}

#[test]
fn frames_out_of_place_end_the_connection() {
    let get = |stream| frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &usual(&[]));
    let case = |name, parts: &[Vec<u8>]| FrameCase { name, frames: parts.concat(), refused: true };
    run(&[
        case("DATA on a stream that was never opened", &[frame(kind::DATA, END_STREAM, 1, b"hello")]),
        case("HEADERS on stream 0", &[get(0)]),
        case("HEADERS on an even stream", &[get(2), get(1)]),
        case("DATA on stream 0", &[frame(kind::DATA, END_STREAM, 0, b"hello"), get(1)]),
        case("CONTINUATION without HEADERS", &[frame(kind::CONTINUATION, END_HEADERS, 1, &usual(&[]))]),
        case(
            "a frame within a head",
            &[
                frame(kind::HEADERS, END_STREAM, 1, &usual(&[])),
                frame(kind::PING, 0, 0, &[0; 8]),
                frame(kind::CONTINUATION, END_HEADERS, 1, &[]),
            ],
        ),
        case(
            "CONTINUATION of another stream",
            &[frame(kind::HEADERS, END_STREAM, 1, &usual(&[])), frame(kind::CONTINUATION, END_HEADERS, 3, &[])],
        ),
        case("PUSH_PROMISE from a client", &[frame(kind::PUSH, END_HEADERS, 1, &[0, 0, 0, 2]), get(1)]),
        case(
            "a head that does not decode",
            &[frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
        ),
        case("a frame larger than allowed", &[frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &vec![0; 20_000])]),
        case("padding longer than its frame", &[frame(kind::HEADERS, END_HEADERS | END_STREAM | 8, 1, &[255, 0x82])]),
        case("a SETTINGS frame of 5 bytes", &[frame(kind::SETTINGS, 0, 0, &[0; 5]), get(1)]),
        case("a PING of 7 bytes", &[frame(kind::PING, 0, 0, &[0; 7]), get(1)]),
        case("a window of 0", &[frame(kind::WINDOW, 0, 0, &[0; 4]), get(1)]),
        case(
            "a window over 2^31",
            &[
                frame(kind::WINDOW, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
                frame(kind::WINDOW, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
                get(1),
            ],
        ),
        case("garbage", &[b"GET /smuggled HTTP/1.1\r\nHost: e2e.test\r\n\r\n".to_vec()]),
    ]);
}

#[test]
fn a_reset_in_the_middle_of_a_body_cancels_the_call() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = Http2::connect(lane.gateway.address());
    client.send(&frame(kind::HEADERS, END_HEADERS, 1, &usual(&[("content-length", "50")])));
    client.data(1, b"hello", false);
    client.frame(kind::RESET, 0, 1, &8_u32.to_be_bytes());
    let ending = client.get(3, "/next").unwrap();
    assert!(matches!(&ending, Ending::Answer(answer) if answer.body == b"/next"), "{ending:?}");
    let log = lane.settle().unwrap();
    let targets: Vec<&str> = log.requests.iter().map(|request| request.target.as_str()).collect();
    assert_eq!((targets, log.faults), (vec!["/next"], vec![]));
}

#[test]
fn frames_split_at_every_position_are_read_the_same() {
    let lane = Lane::start(FORWARD_ALL);
    let bytes = post(&[("content-length", "5")], &["he", "llo"]);
    for at in 1..bytes.len() {
        let client = Http2::connect(lane.gateway.address());
        let mut plain = daemun_e2e::Client { wire: client.wire };
        plain.send_apart(&bytes[..at]);
        let mut client = Http2::over(plain.wire);
        client.send(&bytes[at..]);
        let ending = client.ending(1).unwrap();
        assert!(matches!(&ending, Ending::Answer(answer) if answer.body == b"hello"), "split at {at}: {ending:?}");
    }
    assert_eq!(lane.origin.look(|log| log.faults.clone()), Vec::<String>::new());
}
