//! What `compress` holds beyond its page.

use std::io::Read;

use daemun_pipeline::Exchange;

use crate::testing::{Bench, Chain, field_lines};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(settings).unwrap()
}

/// An answer that ran through a chain.
fn answered(chain: &Chain, request: &str, status: u16, fields: &[(&str, &str)]) -> Exchange {
    let mut exchange = chain.exchange(request);
    let (passed, verdict) = chain.inward(&mut exchange);
    verdict.unwrap();
    exchange.response.status = status;
    for (name, value) in fields {
        assert!(exchange.response.head.append(name, value.as_bytes()));
    }
    chain.outward(passed, &mut exchange).unwrap();
    exchange
}

/// Codes pieces, with a flush behind each; what came out up to each flush, and the whole.
fn coded(chain: &Chain, exchange: &Exchange, pieces: &[&[u8]]) -> (Vec<usize>, Vec<u8>) {
    let mut coder = chain.steps[0].1.coder(exchange).expect("a coder");
    let (mut out, mut flushed) = (Vec::new(), Vec::new());
    for piece in pieces {
        coder.push(piece, &mut out).unwrap();
        coder.flush(&mut out).unwrap();
        flushed.push(out.len());
        coder.flush(&mut out).unwrap();
        assert_eq!(out.len(), *flushed.last().unwrap(), "nothing more is there to flush");
    }
    coder.finish(&mut out).unwrap();
    assert!(coder.push(b"x", &mut out).is_err() && coder.finish(&mut out).is_err(), "behind the end nothing is taken");
    (flushed, out)
}

fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out),
        other => panic!("{other}"),
    };
    // what was flushed can be read, though the end is not there yet
    let _ = read;
    out
}

#[test]
fn every_coding_gives_back_what_was_put_in_and_each_piece_as_soon_as_it_is_flushed() {
    let chain = chain("compress: {}");
    let text = "a line of text that repeats itself\n".repeat(3000);
    let pieces: [&[u8]; 4] = [b"first", b"", text.as_bytes(), b"last"];
    for coding in ["gzip", "br", "zstd"] {
        let request = format!("GET / HTTP/1.1\nAccept-Encoding: {coding}");
        let exchange = answered(&chain, &request, 200, &[("Content-Type", "text/plain")]);
        assert_eq!(exchange.coding, Some(coding));
        let (flushed, out) = coded(&chain, &exchange, &pieces);
        assert_eq!(decoded(coding, &out), pieces.concat(), "{coding}");
        assert!(out.len() < text.len() / 20, "{coding} made {} bytes", out.len());
        assert_eq!(decoded(coding, &out[..flushed[0]]), b"first", "{coding}");
        assert_eq!(decoded(coding, &out[..flushed[2]]).len(), 5 + text.len(), "{coding}");
        let (_, empty) = coded(&chain, &exchange, &[]);
        assert_eq!(decoded(coding, &empty), b"", "{coding}");
    }
}

#[test]
fn what_must_stay_as_it_is_stays() {
    let chain = chain("compress: {}");
    let json = ("Content-Type", "application/json");
    for (status, fields, varies) in [
        (200, vec![json, ("Content-Encoding", "gzip")], false),
        (200, vec![json, ("Content-Encoding", "identity")], false),
        (200, vec![json, ("Cache-Control", "max-age=1, No-Transform")], false),
        (200, vec![("Content-Type", "image/png")], false),
        (200, vec![("Content-Type", "text/event-stream")], false),
        (200, vec![("Content-Type", "application/grpc")], false),
        (200, vec![], false),
        (204, vec![json], false),
        (205, vec![json], false),
        (304, vec![json], true),
        (304, vec![], true),
        (304, vec![("Content-Type", "image/png")], false),
        (304, vec![("Content-Encoding", "gzip")], false),
        (101, vec![json], false),
        (206, vec![json], true),
        (200, vec![json, ("Content-Range", "bytes 0-1/5")], true),
        (200, vec![json, ("Content-Length", "1023")], true),
        (200, vec![json, ("Content-Length", "0")], true),
    ] {
        let exchange = answered(&chain, "GET / HTTP/1.1\nAccept-Encoding: gzip", status, &fields);
        let mut expected: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        expected.extend(varies.then(|| "vary: Accept-Encoding".to_owned()));
        assert_eq!(field_lines(&exchange.response.head), expected, "{status}");
        assert!(exchange.coding.is_none() && chain.steps[0].1.coder(&exchange).is_none(), "{status} {fields:?}");
    }
    let exchange = answered(&chain, "GET / HTTP/1.1\nAccept-Encoding: gzip\nCache-Control: no-transform", 200, &[json]);
    assert_eq!(exchange.coding, None);
}

#[test]
fn the_head_of_a_coded_answer_tells_nothing_of_the_bytes_as_they_were() {
    let fields = [
        ("Content-Type", "text/html"),
        ("Content-Length", "1024"),
        ("Accept-Ranges", "bytes"),
        ("Content-MD5", "x"),
        ("Repr-Digest", "sha-256=:x:"),
        ("Vary", "Cookie, accept-encoding"),
        ("ETag", "W/\"1\""),
    ];
    let exchange = answered(&chain("compress: {}"), "GET / HTTP/1.1\nAccept-Encoding: br", 404, &fields);
    assert_eq!(
        field_lines(&exchange.response.head),
        ["Content-Type: text/html", "Vary: Cookie, accept-encoding", "ETag: W/\"1\"", "content-encoding: br"]
    );
}

#[test]
fn an_answer_that_nothing_changed_has_the_validator_by_which_the_caller_knows_it() {
    let chain = chain("compress: {}");
    for (asked, sent, told) in [
        ("W/\"x\"", "\"x\"", "W/\"x\""),
        ("\"a,b\", W/\"x\"", "\"x\"", "W/\"x\""),
        ("W/\"a,b\"", "\"a,b\"", "W/\"a,b\""),
        ("\"x\"", "\"x\"", "\"x\""),
        ("W/\"xx\", *", "\"x\"", "\"x\""),
        ("W/\"x\"", "W/\"x\"", "W/\"x\""),
    ] {
        let request = format!("GET / HTTP/1.1\nAccept-Encoding: gzip\nIf-None-Match: {asked}");
        let exchange = answered(&chain, &request, 304, &[("ETag", sent)]);
        let expected = [("etag", told.as_bytes()), ("vary", &b"Accept-Encoding"[..])];
        for (name, value) in expected {
            assert_eq!(exchange.response.head.get(name), Some(value), "{asked} {sent}");
        }
        assert!(exchange.coding.is_none());
    }
}

#[test]
fn head_is_told_what_get_would_be() {
    let chain = chain("compress: {}");
    for (length, coded) in [("5000", true), ("100", false)] {
        let mut exchange = chain.exchange("HEAD / HTTP/1.1\nAccept-Encoding: gzip");
        let (passed, _) = chain.inward(&mut exchange);
        exchange.response.status = 200;
        for (name, value) in [("Content-Type", "text/html"), ("Content-Length", length), ("ETag", "\"x\"")] {
            assert!(exchange.response.head.append(name, value.as_bytes()));
        }
        exchange.response.body = Some(Vec::new());
        chain.outward(passed, &mut exchange).unwrap();
        let head = &exchange.response.head;
        assert_eq!(head.get("content-length").is_none(), coded);
        assert_eq!(head.get("content-encoding").is_some(), coded);
        assert_eq!(head.get("etag").is_some_and(|tag| tag.starts_with(b"W/")), coded);
    }
}

#[test]
fn what_the_caller_takes_is_known_though_a_step_takes_the_field_out() {
    let chain = chain("{ compress: { min_size: 0B }, transform: { response: [{ set: { body.a: 1 } }] } }");
    let mut exchange = chain.exchange("GET / HTTP/1.1\nAccept-Encoding: gzip");
    let (passed, verdict) = chain.inward(&mut exchange);
    verdict.unwrap();
    exchange.response.status = 200;
    exchange.response.head.append("content-type", b"application/json");
    chain.hold_answer(&mut exchange, b"{}".to_vec());
    chain.outward(passed, &mut exchange).unwrap();
    assert_eq!(exchange.coding, Some("gzip"));
    assert_eq!(exchange.response.body.as_deref(), Some(&b"{\"a\":1}"[..]));
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, codes) in [
        ("{ codings: [] }", vec!["bad_value"]),
        ("{ codings: [gzip, br, gzip] }", vec!["bad_value"]),
        ("{ codings: deflate }", vec!["bad_value"]),
        ("{ types: ['*/*'] }", vec!["bad_value"]),
        ("{ min_size: 100 }", vec!["bad_value"]),
        ("{ levels: { gzip: 10 } }", vec!["bad_value"]),
        ("{ levels: { br: 12, zstd: 20 } }", vec!["bad_value"; 2]),
        ("{ level: 1 }", vec!["unknown_key"]),
        ("{ codings: [br], types: text/html, levels: { br: 0, zstd: 1, gzip: 1 } }", vec![]),
    ] {
        let errors = bench.errors(&format!("compress: {settings}"));
        let found: Vec<_> = errors.iter().filter_map(|error| error.split(' ').next()).collect();
        assert_eq!(found, codes, "{settings}: {errors:?}");
    }
}
