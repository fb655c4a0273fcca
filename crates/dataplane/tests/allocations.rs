//! At steady state the plain HTTP/1.1 path allocates nothing. A test binary of its own, since the allocator counts the whole process.

mod support;

use std::io::{Read, Write};

use daemun_dataplane::Clock;
use daemun_sys::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::system();

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
const REQUEST: &[u8] =
    b"GET /some/path?and=query HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n";

#[test]
fn the_plain_path_allocates_nothing_at_steady_state() {
    let origin = support::origin(|mut stream| {
        let mut buf = [0u8; 4096];
        // one request, one answer; a head never comes in two pieces here
        while let Ok(n) = stream.read(&mut buf) {
            if n == 0 || stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    });
    let running = support::start(&support::proxy_to(origin, ""), Clock::system());
    let mut client = support::client(running.address, b"");
    let mut buf = [0u8; 4096];
    let mut call = || {
        client.write_all(REQUEST).unwrap();
        let mut got = 0;
        while !buf[..got].ends_with(b"hello") {
            let n = client.read(&mut buf[got..]).unwrap();
            assert!(n > 0);
            got += n;
        }
    };
    for _ in 0..2_000 {
        call();
    }
    let before = CountingAllocator::allocations();
    for _ in 0..2_000 {
        call();
    }
    assert_eq!(CountingAllocator::allocations() - before, 0, "allocations in 2,000 exchanges");
}
