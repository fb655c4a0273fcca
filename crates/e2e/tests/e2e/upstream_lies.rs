//! Upstreams that lie, break off, babble or say nothing. The client gets a refusal of the gateway, a visibly broken answer, or a
//! right one; never a wrong one that looks complete, and nobody else gets what was not theirs.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use daemun_e2e::case::run_each;
use daemun_e2e::client::shown;
use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::{Broken, Client, Next, Origin, Response};

/// Forwards everything, and waits for an answer's head for half a second only.
fn hurried() -> String {
    FORWARD_ALL.replace("    targets:", "    timeouts: { connect: 1s, response: 500ms }\n    targets:")
}

/// What an upstream answers, and what the client may get.
struct Lie {
    name: &'static str,
    request: &'static str,
    answer: Vec<u8>,
    /// How often `answer` is sent; the gateway may hang up before.
    times: usize,
    then: Next,
    outcomes: Vec<Outcome>,
}

/// What a client may get.
enum Outcome {
    /// A complete answer with this status and the gateway's own body.
    Refused(u16),
    /// A head with status 200 and then a body that visibly breaks off.
    Cut,
    /// A complete answer with this status and body.
    Whole(u16, &'static [u8]),
    /// A complete answer with this status for which this holds.
    Fits(u16, fn(&Response) -> bool),
    /// The connection is closed without a final answer.
    Gone,
}

use Outcome::{Cut, Fits, Gone, Refused, Whole};

fn lie(name: &'static str, answer: impl AsRef<[u8]>, outcomes: Vec<Outcome>) -> Lie {
    let answer = answer.as_ref().to_vec();
    Lie { name, request: "GET", answer, times: 1, then: Next::Close, outcomes }
}

impl Lie {
    fn to(mut self, method: &'static str) -> Self {
        self.request = method;
        self
    }

    fn keeps(mut self) -> Self {
        self.then = Next::Keep;
        self
    }

    fn resets(mut self) -> Self {
        self.then = Next::Reset;
        self
    }

    fn many(mut self, times: usize) -> Self {
        self.times = times;
        self
    }
}

fn run(lies: Vec<Lie>) {
    let answers: Arc<Vec<(Vec<u8>, usize, Next)>> =
        Arc::new(lies.iter().map(|lie| (lie.answer.clone(), lie.times, lie.then)).collect());
    let make = || {
        let answers = Arc::clone(&answers);
        let origin = Origin::serve(move |peer, request| {
            let number = request.target.strip_prefix("/lie/").and_then(|number| number.parse::<usize>().ok());
            let Some((answer, times, then)) = number.and_then(|number| answers.get(number)) else {
                return daemun_e2e::origin::echo(peer, request);
            };
            for _ in 0..*times {
                if !peer.send(answer) {
                    return Next::Close;
                }
            }
            *then
        });
        Lane::with(&hurried(), origin)
    };
    run_each(lies.len(), make, |lane, index| {
        let lie = &lies[index];
        judge(lane, lie, index)
            .map_err(|why| format!("{}\n    {why}\n    the upstream answered `{}`", lie.name, shown(&lie.answer)))
    });
}

fn judge(lane: &Lane, lie: &Lie, index: usize) -> Result<(), String> {
    let mut client = lane.connect();
    client.send(format!("{} /lie/{index} HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n\r\n", lie.request));
    let got = client.response_to(lie.request);
    if lie.outcomes.iter().any(|outcome| outcome.holds(&got)) {
        let log = lane.settle()?;
        return if log.faults.is_empty() { Ok(()) } else { Err(log.faults.join(" and ")) };
    }
    match got {
        Ok(answer) => {
            let broken = answer.broken.as_ref().map_or("complete".to_owned(), Broken::to_string);
            Err(format!("the client got `{}` body `{}`, {broken}", answer.head.shown(), shown(&answer.body)))
        }
        Err(broken) => Err(format!("the client got nothing: {broken}; it read `{}`", shown(&client.wire.record))),
    }
}

impl Outcome {
    fn holds(&self, got: &Result<Response, Broken>) -> bool {
        match (self, got) {
            (Self::Refused(status), Ok(answer)) => {
                let own = answer.field("content-type") == Some("application/problem+json");
                answer.status == *status && own && answer.broken.is_none()
            }
            (Self::Cut, Ok(answer)) => {
                let visible = matches!(answer.broken, Some(Broken::Truncated | Broken::Reset));
                answer.status == 200 && visible && b"hello".starts_with(&answer.body[..answer.body.len().min(5)])
            }
            (Self::Whole(status, body), Ok(answer)) => {
                answer.status == *status && answer.broken.is_none() && answer.body == *body
            }
            (Self::Fits(status, check), Ok(answer)) => {
                answer.status == *status && answer.broken.is_none() && check(answer)
            }
            (Self::Gone, Err(Broken::Closed | Broken::Reset | Broken::Truncated)) => true,
            _ => false,
        }
    }
}

fn with(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

#[test]
fn an_answer_whose_length_can_be_read_in_two_ways_is_refused() {
    let bad = |name, fields: &str| lie(name, with(fields, "hello"), vec![Refused(502)]);
    let mut lies = vec![
        bad("two different lengths", "Content-Length: 5\r\nContent-Length: 4\r\n"),
        bad("two different lengths, the smaller first", "Content-Length: 4\r\nContent-Length: 5\r\n"),
        bad("a list of different lengths", "Content-Length: 5, 4\r\n"),
        bad("a signed length", "Content-Length: +5\r\n"),
        bad("a negative length", "Content-Length: -5\r\n"),
        bad("a length in hexadecimal", "Content-Length: 0x5\r\n"),
        bad("a length in words", "Content-Length: five\r\n"),
        bad("a length with a letter", "Content-Length: 5a\r\n"),
        bad("an empty length", "Content-Length:\r\n"),
        bad("a length over 2^64", "Content-Length: 18446744073709551621\r\n"),
        bad("an unknown coding", "Transfer-Encoding: xchunked\r\n"),
        bad("identity", "Transfer-Encoding: identity\r\n"),
        bad("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
        bad("chunked, identity", "Transfer-Encoding: chunked, identity\r\n"),
        bad("an empty coding", "Transfer-Encoding:\r\n"),
        bad("a folded length", "Content-Length:\r\n 5\r\n"),
        bad("a folded coding", "Transfer-Encoding:\r\n chunked\r\n"),
        bad("a NUL in the length", "Content-Length: 5\0\r\n"),
        bad("a bare LF", "Content-Length: 5\nX-A: b\r\n"),
        bad("a bare CR", "X-A: b\rContent-Length: 5\r\n"),
    ];
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    lies.extend([
        lie(
            "two equal lengths",
            with("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            vec![Refused(502), Whole(200, b"hello")],
        ),
        lie(
            "a list of equal lengths",
            with("Content-Length: 5, 5\r\n", "hello"),
            vec![Refused(502), Whole(200, b"hello")],
        ),
        lie(
            "both framings",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks),
            vec![Refused(502), Whole(200, b"hello")],
        ),
        lie(
            "both framings the other way",
            with("Transfer-Encoding: chunked\r\nContent-Length: 50\r\n", chunks),
            vec![Refused(502), Whole(200, b"hello")],
        ),
        lie("gzip, chunked", with("Transfer-Encoding: gzip, chunked\r\n", chunks), vec![Refused(502)]),
        lie(
            "chunked in HTTP/1.0",
            with("Transfer-Encoding: chunked\r\n", chunks).replace("/1.1", "/1.0"),
            vec![Refused(502), Cut],
        ),
        lie(
            "a space before the colon of the length",
            with("Content-Length : 5\r\n", "hello"),
            vec![Refused(502), Whole(200, b"hello")],
        ),
    ]);
    run(lies);
}

#[test]
fn an_answer_that_is_no_http_is_refused() {
    let bad = |name, bytes: &[u8]| lie(name, bytes, vec![Refused(502)]);
    let open = |name, bytes: &[u8]| lie(name, bytes, vec![Refused(502), Fits(200, |answer| answer.body == b"hello")]);
    let long = format!("HTTP/1.1 200 {}\r\nContent-Length: 5\r\n\r\nhello", "x".repeat(2_000_000));
    let mut lies = vec![
        bad("nothing", b""),
        bad("garbage", b"\x15\x03\x01\x00\x02\x02\x50 garbage \r\n\r\n"),
        bad("a line of garbage", b"garbage\r\n"),
        bad("a page without a head", b"<html><body>hello</body></html>"),
        bad("half a status line", b"HTTP/1.1 20"),
        bad("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        bad("a head without its end", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"),
        bad("no status", b"HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a status in words", b"HTTP/1.1 abc OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a status of 0", b"HTTP/1.1 000 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a status below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a negative status", b"HTTP/1.1 -20 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("HTTP/2", b"HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("HTTP/3.0", b"HTTP/3.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("another protocol", b"ICY 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a lower-case protocol", b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a request", b"GET /smuggled HTTP/1.1\r\nHost: e2e.test\r\n\r\n"),
        bad("a space before the status line", b" HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a control byte in a value", b"HTTP/1.1 200 OK\r\nX-A: b\x01c\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a NUL in a value", b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a space in a name", b"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 5\r\n\r\nhello"),
        bad("an empty name", b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a line without a colon", b"HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a bare CR in a value", b"HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a bare CR in the phrase", b"HTTP/1.1 200 O\rK\r\nContent-Length: 5\r\n\r\nhello"),
        bad("a status line without end", long.as_bytes()),
        open("no phrase", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
        open("an empty phrase", b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"),
        open("two spaces", b"HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        open("HTTP/1.2", b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        open("an empty line before", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        open("LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
        open("a folded value", b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello"),
        open("a space before a colon", b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 5\r\n\r\nhello"),
        lie(
            "a status of 600",
            "HTTP/1.1 600 Odd\r\nContent-Length: 5\r\n\r\nhello",
            vec![Refused(502), Whole(600, b"hello")],
        ),
        lie(
            "a status of 999",
            "HTTP/1.1 999 Odd\r\nContent-Length: 5\r\n\r\nhello",
            vec![Refused(502), Whole(999, b"hello")],
        ),
    ];
    let resets = [("nothing, and a reset", &b""[..]), ("half a head, and a reset", b"HTTP/1.1 200 OK\r\nContent-Le")];
    lies.extend(resets.map(|(name, bytes)| bad(name, bytes).resets()));
    run(lies);
}

#[test]
fn an_answer_without_end_is_bounded() {
    let bounded = || vec![Refused(502), Refused(504), Gone];
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let lies = vec![
        lie("a field without end", format!("HTTP/1.1 200 OK\r\nX-A: {}", "v".repeat(4_000_000)), vec![Refused(502)]),
        lie("fields without end", format!("HTTP/1.1 200 OK\r\n{}", "X-A: b\r\n".repeat(500_000)), vec![Refused(502)]),
        lie("100 without end", interim.repeat(200), bounded()).many(20_000),
        lie("103 without end", hints.repeat(200), bounded()).many(20_000),
        lie("100, and then nothing", interim, vec![Refused(502)]),
        lie("100, and then silence", interim, vec![Refused(504)]).keeps(),
        lie("silence", "", vec![Refused(504)]).keeps(),
        lie("half a head, and silence", "HTTP/1.1 200 OK\r\nContent-", vec![Refused(502), Refused(504)]).keeps(),
    ];
    run(lies);
}

#[test]
fn a_body_that_breaks_off_is_seen_to_break_off() {
    let chunked = |body: &str| with("Transfer-Encoding: chunked\r\n", body);
    let cut = || vec![Cut];
    let soon = || vec![Cut, Refused(502)];
    let lies = vec![
        lie("shorter than its length", with("Content-Length: 50\r\n", "hello"), cut()),
        lie("shorter than its length, and a reset", with("Content-Length: 50\r\n", "hello"), soon()).resets(),
        lie("nothing of its length", with("Content-Length: 50\r\n", ""), soon()),
        lie("chunks without the last", chunked("5\r\nhello\r\n"), soon()),
        lie("chunks without the last, and a reset", chunked("5\r\nhello\r\n"), soon()).resets(),
        lie("within a chunk", chunked("50\r\nhello"), soon()),
        lie("within a size line", chunked("5\r\nhello\r\n1"), soon()),
        lie("within the last chunk", chunked("5\r\nhello\r\n0\r\n"), soon()),
        lie("within a trailer", chunked("5\r\nhello\r\n0\r\nX-A: b\r\n"), soon()),
        lie("before the first chunk", chunked(""), soon()),
        lie("a bad first size", chunked("xyz\r\nhello\r\n0\r\n\r\n"), soon()),
        lie("a bad second size", chunked("5\r\nhello\r\nxyz\r\nhello\r\n0\r\n\r\n"), soon()),
        lie("an empty size", chunked("5\r\nhello\r\n\r\n0\r\n\r\n"), soon()),
        lie("a negative size", chunked("5\r\nhello\r\n-1\r\nx\r\n0\r\n\r\n"), soon()),
        lie("a size over 2^64", chunked("5\r\nhello\r\n10000000000000001\r\nx\r\n0\r\n\r\n"), soon()),
        lie("a size of 2^64 - 1", chunked("5\r\nhello\r\nffffffffffffffff\r\nx\r\n0\r\n\r\n"), soon()),
        lie("no line end behind a chunk", chunked("5\r\nhello0\r\n\r\n"), soon()),
        lie("a longer chunk than its size", chunked("3\r\nhello\r\n0\r\n\r\n"), soon()),
        lie("a bare LF behind a size", chunked("5\nhello\r\n0\r\n\r\n"), soon()),
        lie("a bare LF behind a chunk", chunked("5\r\nhello\n0\r\n\r\n"), soon()),
        lie("a malformed trailer", chunked("5\r\nhello\r\n0\r\nX A: b\r\n\r\n"), soon()),
        lie("a trailer with a bare LF", chunked("5\r\nhello\r\n0\r\nX-A: b\nX-B: c\r\n\r\n"), soon()),
        lie("until close, and a reset", with("", "hello"), soon()).resets(),
    ];
    run(lies);
}

#[test]
fn an_answer_that_must_have_no_body_has_none() {
    let empty = |status| vec![Whole(status, b"")];
    let or_bad = |status| vec![Whole(status, b""), Refused(502)];
    let lies = vec![
        lie("204 with a length and a body", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", or_bad(204))
            .keeps(),
        lie(
            "204 with a body",
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            empty(204),
        )
        .keeps(),
        lie(
            "204 with chunks",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            or_bad(204),
        )
        .keeps(),
        lie("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", empty(304)).keeps(),
        lie("304 with a length and a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", empty(304))
            .keeps(),
        lie(
            "304 with another answer",
            "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            empty(304),
        )
        .keeps(),
        lie("HEAD with a length", with("Content-Length: 5\r\n", ""), empty(200)).to("HEAD").keeps(),
        lie("HEAD with a length and a body", with("Content-Length: 5\r\n", "hello"), empty(200)).to("HEAD").keeps(),
        lie("HEAD with chunks", with("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), empty(200))
            .to("HEAD")
            .keeps(),
        lie("HEAD with the head of chunks", with("Transfer-Encoding: chunked\r\n", ""), empty(200)).to("HEAD").keeps(),
        lie("HEAD without a length", with("", ""), empty(200)).to("HEAD").keeps(),
        lie(
            "HEAD with another answer",
            with("Content-Length: 5\r\n", &with("Content-Length: 6\r\n", "poison")),
            empty(200),
        )
        .to("HEAD")
        .keeps(),
        lie("205 with nothing", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", empty(205)).keeps(),
        lie(
            "100 with a length",
            "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello",
            vec![Refused(502), Refused(504)],
        )
        .keeps(),
        lie(
            "101 unasked",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            vec![Refused(502)],
        )
        .keeps(),
        lie("101 without a protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n", vec![Refused(502)]).keeps(),
    ];
    run(lies);
}

#[test]
fn what_follows_an_answer_reaches_nobody() {
    let poison = with("Content-Length: 6\r\n", "poison");
    let hello = || vec![Whole(200, b"hello")];
    let lies = vec![
        lie("a second answer", with("Content-Length: 5\r\n", &format!("hello{poison}")), hello()).keeps(),
        lie(
            "a second answer behind chunks",
            with("Transfer-Encoding: chunked\r\n", &format!("5\r\nhello\r\n0\r\n\r\n{poison}")),
            hello(),
        )
        .keeps(),
        lie("a second answer behind nothing", with("Content-Length: 0\r\n", &poison), vec![Whole(200, b"")]).keeps(),
        lie("garbage", with("Content-Length: 5\r\n", "hello, world"), hello()).keeps(),
        lie("one byte", with("Content-Length: 5\r\n", "hello!"), hello()).keeps(),
        lie("an empty line", with("Content-Length: 5\r\n", "hello\r\n"), hello()).keeps(),
        lie("half an answer", with("Content-Length: 5\r\n", "helloHTTP/1.1 200 OK\r\nConte"), hello()).keeps(),
        lie("an interim answer", with("Content-Length: 5\r\n", "helloHTTP/1.1 100 Continue\r\n\r\n"), hello()).keeps(),
        lie("a second answer to POST", with("Content-Length: 5\r\n", &format!("hello{poison}")), hello())
            .to("POST")
            .keeps(),
    ];
    run(lies);
}

#[test]
fn odd_but_good_answers_pass() {
    let hello = || vec![Whole(200, b"hello")];
    let named = |check: fn(&Response) -> bool| vec![Fits(200, check)];
    let many: String = (0..90).fold(String::new(), |text, at| text + &format!("X-{at}: b\r\n"));
    let lies = vec![
        lie("until close", with("", "hello"), hello()),
        lie("until close in HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", hello()),
        lie("a length in HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", hello()),
        lie("keep-alive in HTTP/1.0", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", hello()).keeps(),
        lie("close", with("Connection: close\r\nContent-Length: 5\r\n", "hello"), hello()),
        lie("close, and it stays open", with("Connection: close\r\nContent-Length: 5\r\n", "hello"), hello()).keeps(),
        lie("100 first", format!("HTTP/1.1 100 Continue\r\n\r\n{}", with("Content-Length: 5\r\n", "hello")), hello()).keeps(),
        lie("102 first", format!("HTTP/1.1 102 Processing\r\n\r\n{}", with("Content-Length: 5\r\n", "hello")), hello()).keeps(),
        lie("chunks", with("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), hello()).keeps(),
        lie("chunks with extensions", with("Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0;c\r\n\r\n"), vec![Whole(200, b"hello"), Cut, Refused(502)]).keeps(),
        lie("chunks with trailers", with("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"), named(|answer| {
            answer.body == b"hello" && answer.trailers.iter().any(|(name, value)| name.eq_ignore_ascii_case("x-sum") && value == "7")
        })).keeps(),
        lie("cookies", with("Set-Cookie: a=1; Expires=Wed, 01 Jan 2030 00:00:00 GMT\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\n", "hello"), named(|answer| {
            answer.head.all("set-cookie").collect::<Vec<_>>() == ["a=1; Expires=Wed, 01 Jan 2030 00:00:00 GMT", "b=2"]
        })).keeps(),
        lie("bytes over 127", b"HTTP/1.1 200 \xc3\xa4\r\nX-A: b\xc3\xa4\r\nContent-Length: 5\r\n\r\nhello", vec![Whole(200, b"hello"), Refused(502)]).keeps(),
        lie("90 fields", with(&format!("{many}Content-Length: 5\r\n"), "hello"), hello()).keeps(),
        lie("a field of 30 KiB", with(&format!("X-A: {}\r\nContent-Length: 5\r\n", "v".repeat(30 * 1024)), "hello"), hello()).keeps(),
        lie("500", "HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nhello", vec![Whole(500, b"hello")]).keeps(),
        lie("418", "HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\n\r\nhello", vec![Whole(418, b"hello")]).keeps(),
        lie("299", "HTTP/1.1 299 Odd\r\nContent-Length: 5\r\n\r\nhello", vec![Whole(299, b"hello")]).keeps(),
        lie("fields of the connection", with("Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nContent-Length: 5\r\n", "hello"), named(|answer| {
            let gone = ["x-hop", "keep-alive", "proxy-connection"].iter().all(|name| !answer.head.has(name));
            gone && answer.body == b"hello"
        })).keeps(),
        lie("an upgrade it would like", with("Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n", "hello"), named(|answer| {
            !answer.head.has("upgrade") && answer.body == b"hello"
        })).keeps(),
    ];
    run(lies);
}

#[test]
fn an_answer_that_comes_late_and_unasked_is_not_the_next_clients() {
    let (ask, asked) = sync_channel::<()>(1);
    let (done, sent) = sync_channel::<()>(1);
    let asked = Mutex::new(asked);
    let origin = Origin::serve(move |peer, request| {
        daemun_e2e::origin::echo(peer, request);
        if request.target == "/first" {
            asked.lock().unwrap().recv().unwrap();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
            done.send(()).unwrap();
        }
        Next::Keep
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    assert_eq!(lane.gateway.get("/first").text(), "/first");
    ask.send(()).unwrap();
    sent.recv().unwrap();
    assert_eq!(lane.gateway.get("/second").text(), "/second");
}

#[test]
fn a_body_behind_an_answer_that_has_none_is_not_the_next_clients() {
    const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (method, head) in [
        ("HEAD", with("Content-Length: 45\r\n", "")),
        ("HEAD", with("", "")),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n".into()),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 45\r\n\r\n".into()),
    ] {
        for together in [true, false] {
            let (ask, asked) = sync_channel::<()>(1);
            let (done, sent) = sync_channel::<()>(1);
            let asked = Mutex::new(asked);
            let head = head.clone();
            let origin = Origin::serve(move |peer, request| {
                if request.target != "/first" {
                    return daemun_e2e::origin::echo(peer, request);
                }
                if together {
                    peer.send(format!("{head}{POISON}"));
                } else {
                    peer.send(&head);
                    asked.lock().unwrap().recv().unwrap();
                    peer.send(POISON);
                    done.send(()).unwrap();
                }
                Next::Keep
            });
            let lane = Lane::with(FORWARD_ALL, origin);
            let mut client = lane.connect();
            client.send(format!("{method} /first HTTP/1.1\r\nHost: e2e.test\r\n\r\n"));
            assert_eq!(client.response_to(method).unwrap().body, b"");
            if !together {
                ask.send(()).unwrap();
                sent.recv().unwrap();
            }
            for target in ["/second", "/third"] {
                assert_eq!(lane.gateway.get(target).text(), target, "{method}, together: {together}");
            }
        }
    }
}

#[test]
fn a_pooled_connection_that_the_upstream_closed_is_not_used() {
    for reset in [false, true] {
        let origin = Origin::serve(move |peer, request| {
            daemun_e2e::origin::echo(peer, request);
            if reset { Next::Reset } else { Next::Close }
        });
        let lane = Lane::with(FORWARD_ALL, origin);
        for at in 0..20 {
            let method = if at % 2 == 0 { "POST" } else { "GET" };
            let answer =
                lane.connect().call(format!("{method} /{at} HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!((answer.status, answer.text()), (200, format!("/{at}")), "reset: {reset}");
            lane.origin.wait("the connection ended", |log| (log.ended.len() > at).then_some(()));
        }
        assert_eq!(lane.origin.look(|log| log.requests.len()), 20);
    }
}

#[test]
fn what_is_not_safe_to_repeat_is_not_sent_twice() {
    let origin = Origin::serve(|peer, request| match request.target.as_str() {
        "/dies" => Next::Close,
        _ => daemun_e2e::origin::echo(peer, request),
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    for _ in 0..3 {
        assert_eq!(lane.gateway.get("/warm").status, 200);
        let answer = lane.connect().call("POST /dies HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(answer.status, 502);
        let log = lane.settle().unwrap();
        let sent = log.requests.iter().filter(|request| request.target == "/dies").count();
        assert_eq!(sent, 1, "a POST was sent {sent} times");
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let origin = Origin::start(|peer| {
        while let Some(mut request) = peer.request_head() {
            if request.target == "/early" {
                peer.note(&request);
                peer.send("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello");
                return Next::Close;
            }
            if !peer.body(&mut request) || daemun_e2e::origin::echo(peer, &request) != Next::Keep {
                return Next::Close;
            }
        }
        Next::Close
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    client.send("POST /early HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 5000000\r\n\r\nhello");
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), answer.broken), (403, &b"hello"[..], None));
    client.send(vec![b'x'; 100_000]);
    lane.settle().unwrap();
}

#[test]
fn an_upstream_that_is_down_or_says_nothing_is_a_gateway_error() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let yaml = |port: u16| hurried().replace("{origin}", &format!("http://127.0.0.1:{port}"));
    let gateway = daemun_e2e::Gateway::start(&yaml(closed.port()));
    for method in ["GET", "POST"] {
        let request = format!("{method} /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n\r\n");
        let answer = gateway.connect().call(request);
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
        assert!(!answer.text().contains("127.0.0.1"), "an internal address: {}", answer.text());
    }
    let gateway = daemun_e2e::Gateway::start(&yaml(silent.local_addr().unwrap().port()));
    assert_eq!(gateway.get("/t").status, 504);
}

#[test]
fn a_connection_of_the_client_survives_the_upstreams_faults() {
    let origin = Origin::serve(|peer, request| match request.target.as_str() {
        "/dies" => Next::Reset,
        "/garbage" => {
            peer.send("garbage\r\n\r\n");
            Next::Close
        }
        _ => daemun_e2e::origin::echo(peer, request),
    });
    let lane = Lane::with(&hurried(), origin);
    let mut client: Client = lane.connect();
    for target in ["/a", "/dies", "/b", "/garbage", "/c"] {
        let answer = client.get(target);
        let wanted = if target.len() == 2 { 200 } else { 502 };
        assert_eq!(answer.status, wanted, "{target}");
    }
}
