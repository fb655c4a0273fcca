//! Reads a request head and a response head of eight fields each N times (N from the command line), for counting instructions: run it
//! under callgrind with two counts and subtract.

use std::hint::black_box;

use daemun_dataplane::http1::parse::{BodyLength, Bounds, Scan, parse_request};
use daemun_dataplane::http1::request::read_target;
use daemun_dataplane::http1::response::parse_response;
use daemun_pipeline::Request;

const REQUEST: &[u8] = b"GET /products/items/4711?currency=KRW HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: ko-KR,ko;q=0.8,en-US;q=0.5,en;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    X-Api-Key: dk_0123456789abcdef0123456789abcdef\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark\r\n\
    Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Sat, 21 Nov 2026 07:00:00 GMT\r\n\
    Server: nginx\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 1234\r\n\
    Cache-Control: private, max-age=60\r\n\
    ETag: \"33a64df551425fcc55e4d42a148795d9\"\r\n\
    Vary: Accept-Encoding\r\n\
    Connection: keep-alive\r\n\r\n";

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    assert_eq!(measured(count), count);
}

/// What is counted.
#[inline(never)]
fn measured(count: u64) -> u64 {
    let bounds = Bounds::default();
    let mut request = Request::default();
    let mut fields = Vec::new();
    let mut read = 0_u64;
    for _ in 0..count {
        request.head.clear();
        request.head.buf.extend_from_slice(black_box(REQUEST));
        let head = parse_request(&request.head.buf, &bounds, &mut Scan::default(), &mut request.head.fields);
        let Ok(Some(head)) = head else { break };
        if read_target(&mut request, &head).is_err() {
            break;
        }
        let answer = parse_response(black_box(RESPONSE), &bounds, &mut Scan::default(), &mut fields, false);
        let Ok(Some(answer)) = black_box(answer) else { break };
        read += u64::from(answer.body == BodyLength::Length(1234) && request.head.fields.len() + fields.len() == 16);
    }
    read
}
