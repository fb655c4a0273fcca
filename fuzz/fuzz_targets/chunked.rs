//! The chunked coding: whole and in pieces it decodes the same, what is accepted is what a strict reader takes, and what is encoded is
//! decoded.
#![no_main]

use daemun_dataplane::http1::chunked::{ChunkDecoder, Progress, push_chunk_head, push_last_chunk};
use daemun_fuzz::{cuts, heads};
use daemun_pipeline::{Head, Reason};
use libfuzzer_sys::fuzz_target;

/// What a body came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    payload: Vec<u8>,
    /// Bytes used; `None` after a refusal, which may come before all that was fed is used.
    used: Option<usize>,
    done: bool,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

fuzz_target!(|data: &[u8]| {
    let [options, one, other, raw @ ..] = data else { return };
    let new = || {
        let reason = if options & 1 == 0 { Reason::BadRequest } else { Reason::BadResponse };
        ChunkDecoder::new(reason).keep_underscores(options & 2 != 0)
    };
    let room = usize::from(options >> 2);
    let whole = decode(new(), raw, [raw.len()].into_iter(), usize::MAX);
    let in_pieces = decode(new(), raw, cuts(raw.len(), *one, *other).into_iter(), room.max(1));
    assert_eq!(whole, in_pieces);
    let by_byte = decode(new(), raw, 0..=raw.len(), 1);
    assert_eq!(whole, by_byte);
    if whole.done {
        let (payload, used) = strictly(raw).expect("what is accepted is strict");
        assert_eq!((&whole.payload, whole.used), (&payload, Some(used)));
    }
    let mut trailers = Head::default();
    for (name, value) in &whole.trailers {
        assert!(trailers.append(str::from_utf8(name).expect("a token"), value));
    }
    let again = encode(raw, usize::from(*one), &trailers);
    let ends = cuts(again.len(), *other, *one);
    let expected = Decoded { payload: raw.to_vec(), used: Some(again.len()), done: true, trailers: whole.trailers };
    assert_eq!(decode(new(), &again, ends.into_iter(), room.max(1)), expected);
});

/// Feeds a body as a connection does: what was not used stays before what comes next.
fn decode(mut decoder: ChunkDecoder, raw: &[u8], ends: impl Iterator<Item = usize>, room: usize) -> Decoded {
    let mut result = Decoded { used: Some(0), ..Decoded::default() };
    let mut used = 0;
    'pieces: for end in ends {
        loop {
            let before = result.payload.len();
            let Ok((taken, progress)) = decoder.decode(&raw[used..end], &mut result.payload, room) else {
                result.used = None;
                return result;
            };
            let given = result.payload.len() - before;
            assert!(given <= taken && given <= room && used + taken <= end, "more was given than was there");
            used += taken;
            result.done = progress == Progress::Done;
            if result.done {
                break 'pieces;
            }
            if taken == 0 {
                assert_eq!(used, end, "bytes and room were left, and nothing happened");
                break;
            }
        }
    }
    result.used = Some(used);
    if let Some(trailers) = decoder.take_trailers() {
        result.trailers = trailers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
    }
    result
}

/// A reader of complete bodies written from RFC 9112, section 7.1, alone: the payload, and where the body ends.
fn strictly(raw: &[u8]) -> Result<(Vec<u8>, usize), heads::Bad> {
    let mut rest = raw;
    let mut payload = Vec::new();
    loop {
        let line = heads::take_line(&mut rest)?;
        let size = line.split(|&byte| byte == b';').next().unwrap_or(line);
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err(heads::Bad("a size is malformed"));
        }
        let size = str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        match size.ok_or(heads::Bad("a size is too large"))? {
            0 => break,
            size => {
                payload.extend(rest.get(..size).ok_or(heads::Bad("a chunk does not end"))?);
                rest = rest.get(size..).and_then(|rest| rest.strip_prefix(b"\r\n")).ok_or(heads::Bad("no CRLF"))?;
            }
        }
    }
    loop {
        let line = heads::take_line(&mut rest)?;
        if line.is_empty() {
            return Ok((payload, raw.len() - rest.len()));
        }
        let name = line.split(|&byte| byte == b':').next().filter(|name| name.len() < line.len());
        if !name.is_some_and(heads::is_token) {
            return Err(heads::Bad("a trailer line is malformed"));
        }
    }
}

/// The body in chunks, the first of `size` bytes and each one longer than that before it.
fn encode(mut body: &[u8], mut size: usize, trailers: &Head) -> Vec<u8> {
    let mut out = Vec::new();
    while !body.is_empty() {
        size += 1;
        let (chunk, rest) = body.split_at(size.min(body.len()));
        push_chunk_head(chunk.len(), &mut out);
        out.extend([chunk, b"\r\n"].concat());
        body = rest;
    }
    push_last_chunk(Some(trailers), &mut out);
    out
}
