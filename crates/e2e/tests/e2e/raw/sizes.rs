//! Oversized everything.

use daemun_e2e::case::{After, Case, case, run_cases};
use daemun_e2e::lane::FORWARD_ALL;

use super::{get, post};

fn fields(count: usize) -> String {
    (0..count).fold(String::new(), |text, at| text + &format!("X-{at}: y\r\n"))
}

#[test]
fn a_head_has_its_bounds() {
    let seen_fields = |count: usize| {
        move |request: &daemun_e2e::Request| {
            let found = request.head.fields.iter().filter(|(_, value)| value == "y").count();
            if found == count { Ok(()) } else { Err(format!("{found} fields instead of {count}")) }
        }
    };
    let path = |length: usize| format!("/{}", "p".repeat(length - 1));
    let target = |length: usize| format!("GET {} HTTP/1.1\r\nHost: e2e.test\r\n\r\n", path(length));
    let cases = vec![
        case("100 fields", get(fields(99))).passes_as(seen_fields(99)),
        case("101 fields", get(fields(100))).refused(&[431]),
        case("1,000 fields", get(fields(1000))).refused(&[431]),
        case("5,000 fields", get(fields(5000))).refused(&[431]),
        case("a value of 60 KiB", get(format!("X-A: {}\r\n", "v".repeat(60 * 1024)))).passes_as(|request| {
            if request.field("x-a").is_some_and(|value| value.len() == 60 * 1024) {
                Ok(())
            } else {
                Err("cut".to_owned())
            }
        }),
        case("a value of 64 KiB", get(format!("X-A: {}\r\n", "v".repeat(64 * 1024)))).refused(&[431]),
        case("a value of 1 MiB", get(format!("X-A: {}\r\n", "v".repeat(1024 * 1024)))).refused(&[431]),
        case("a name of 64 KiB", get(format!("{}: v\r\n", "n".repeat(64 * 1024)))).refused(&[400, 431]),
        case("90 values of 1 KiB", get(format!("X-A: {}\r\n", "v".repeat(1024)).repeat(90))).refused(&[431]),
        case("a target of 16 KiB", target(16 * 1024)).passes(),
        case("a target of 16 KiB and one", target(16 * 1024 + 1)).refused(&[414]),
        case("a target of 60 KiB", target(60 * 1024)).refused(&[414]),
        case("a target of 100 KiB", target(100 * 1024)).refused(&[414, 431]),
        case("a query of 16 KiB", target(100).replace("/pp", &format!("/p?{}", "q".repeat(16 * 1024)))).refused(&[414]),
        case("a target without end", format!("GET /{}", "p".repeat(1024 * 1024))).refused(&[400, 414, 431]),
        case("a method without end", "M".repeat(1024 * 1024)).refused(&[400, 405, 414, 431, 501]),
        case("a head without end", format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{}", "X-A: y\r\n".repeat(100_000)))
            .refused(&[431]),
        case("a field without end", format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\nX-A: {}", "v".repeat(1024 * 1024)))
            .refused(&[431]),
        case("a refused head, and a request behind it", [get(fields(200)), super::SMUGGLED.into()].concat())
            .refused(&[431]),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_body_has_its_bound() {
    const MOST: usize = 10 * 1024 * 1024;
    let whole = |length: usize| {
        move |request: &daemun_e2e::Request| {
            if request.body.len() == length { Ok(()) } else { Err(format!("{} bytes", request.body.len())) }
        }
    };
    let chunks = |length: usize| format!("{length:x}\r\n{}\r\n0\r\n\r\n", "b".repeat(length));
    // what is left of the body may be there already, and then the next request can be told from it
    let refused = |case: Case| case.answered(&[&[413]], After::Any, vec![]).allow_partial();
    let cases = vec![
        case("10 MiB", post(&format!("Content-Length: {MOST}\r\n"), &"b".repeat(MOST))).passes_as(whole(MOST)),
        case("10 MiB and one, announced", post(&format!("Content-Length: {}\r\n", MOST + 1), "b")).refused(&[413]),
        case("1 TiB, announced", post("Content-Length: 1099511627776\r\n", "b")).refused(&[413]),
        case("10 MiB in chunks", post("Transfer-Encoding: chunked\r\n", &chunks(MOST))).passes_as(whole(MOST)),
        refused(case("10 MiB and one in a chunk", post("Transfer-Encoding: chunked\r\n", &chunks(MOST + 1)))),
        refused(case("a chunk of 1 TiB, announced", post("Transfer-Encoding: chunked\r\n", "10000000000\r\nb"))),
        refused(case(
            "11 MiB in small chunks",
            post("Transfer-Encoding: chunked\r\n", &format!("400\r\n{}\r\n", "b".repeat(1024)).repeat(11 * 1024)),
        )),
        case("too much with an expectation", post("Expect: 100-continue\r\nContent-Length: 10485761\r\n", ""))
            .answered(&[&[413, 417]], After::Any, vec![]),
    ];
    run_cases(FORWARD_ALL, cases);
}
