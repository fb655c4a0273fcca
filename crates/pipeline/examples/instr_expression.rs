//! Asks one comparison of N exchanges (N from the command line), for counting instructions: run it under callgrind with two counts and
//! subtract.

use daemun_pipeline::expression::{Expression, Scope};
use daemun_pipeline::{Exchange, Method};

/// A request as browsers send them; the field that is asked for stands behind the others.
const FIELDS: [(&str, &str); 9] = [
    ("Host", "api.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "application/json"),
    ("Accept-Language", "ko,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://shop.example.com/"),
    ("Connection", "keep-alive"),
    ("Cookie", "session=0123456789abcdef"),
    ("X-Country", "KR"),
];

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let Ok(expression) = Expression::parse("request.header[\"x-country\"] == \"KR\"", &Scope::default()) else {
        return;
    };
    let mut exchange = Exchange::default();
    exchange.request.method = Method::Get;
    for (name, value) in FIELDS {
        exchange.request.head.append(name, value.as_bytes());
    }
    assert_eq!(measured(&expression, &exchange, count), count);
}

/// What is counted.
#[inline(never)]
fn measured(expression: &Expression, exchange: &Exchange, count: u64) -> u64 {
    let mut held = 0;
    for _ in 0..count {
        held += u64::from(std::hint::black_box(expression).test(std::hint::black_box(exchange)) == Ok(true));
    }
    held
}
