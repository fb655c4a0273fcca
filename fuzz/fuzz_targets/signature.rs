//! Signatures of requests, in both forms: no text makes a reader panic, and what is read has one spelling that reads as the same.
#![no_main]

use daemun_pipeline::{Exchange, Method, Span};
use daemun_policies::{hmac_auth, signature_auth};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((form, text)) = data.split_first() else { return };
    let held =
        if form % 2 == 0 { hmac_auth::check_reader(text) } else { signature_auth::check_reader(text, &exchange()) };
    assert_eq!(held, Ok(()));
});

/// A request with something of each kind that can be covered.
fn exchange() -> Exchange {
    let mut exchange = Exchange::default();
    let request = &mut exchange.request;
    request.version = 11;
    request.method = Method::Get;
    request.method_span = request.head.store(b"GET");
    request.target = request.head.store(b"/a?b=c&d=e%20f&d=");
    let start = request.target.start();
    request.path = Span::new(start, start + 2);
    request.query = Some(Span::new(start + 3, request.target.range().end));
    request.authority = request.head.store(b"Example.com:80");
    for (name, value) in [("x-list", "a, b;c, d=(1 2)"), ("x-list", "e=:YQ==:"), ("content-digest", "sha-256=:YQ==:")] {
        assert!(request.head.append(name, value.as_bytes()));
    }
    exchange
}
