//! The least upstreams that speak HTTP/2: one that answers every stream at once, one that sends without end and gives no window back.

use std::collections::BTreeMap;

use crate::hpack::{Decoder, encode};
use crate::http2::{END_HEADERS, END_STREAM, PREFACE, frame, kind};
use crate::origin::{Next, Peer, Request};
use crate::wire::Wire;

/// A script that answers each stream 200 with its target, small enough for any window.
pub fn echo_streams(peer: &mut Peer) -> Next {
    answer_streams(peer, |stream, target| {
        let mut answer = frame(kind::HEADERS, END_HEADERS, stream, &encode(&[(":status", "200")]));
        answer.extend(frame(kind::DATA, END_STREAM, stream, target.as_bytes()));
        answer
    })
}

/// A script that answers the head of each stream with what `answer` makes of its number and its target.
pub fn answer_streams(peer: &mut Peer, answer: impl Fn(u32, &str) -> Vec<u8>) -> Next {
    let mut decoder = Decoder::default();
    each_frame(peer, |peer, (frame_kind, _, stream, payload)| {
        if frame_kind != kind::HEADERS {
            return true;
        }
        let Ok(fields) = decoder.decode(payload) else { return false };
        let one = |name: &str| fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let (method, target) = (one(":method").unwrap_or_default(), one(":path").unwrap_or_default());
        peer.note(&Request { connection: peer.number, method, target: target.clone(), ..Request::default() });
        peer.send(answer(stream, &target))
    })
}

/// A script that answers each stream with `head` and as much of a body without end as the windows take, and gives no window back.
pub fn pour(peer: &mut Peer, head: impl Fn(u32) -> Vec<u8>) -> Next {
    let (mut initial, mut connection) = (65_535_i64, 65_535_i64);
    let mut windows: BTreeMap<u32, i64> = BTreeMap::new();
    each_frame(peer, |peer, (frame_kind, flags, stream, payload)| {
        match frame_kind {
            kind::SETTINGS if flags & 1 == 0 => {
                for setting in payload.chunks_exact(6).filter(|setting| setting[1] == 4) {
                    let next = i64::from(number(&setting[2..]));
                    windows.values_mut().for_each(|window| *window += next - initial);
                    initial = next;
                }
            }
            kind::WINDOW if stream == 0 => connection += i64::from(number(payload)),
            kind::WINDOW => *windows.entry(stream).or_insert(initial) += i64::from(number(payload)),
            kind::HEADERS => {
                peer.send(head(stream));
                windows.entry(stream).or_insert(initial);
            }
            _ => return true,
        }
        for (stream, window) in &mut windows {
            while let Ok(room @ 1..) = usize::try_from((*window).min(connection).min(16_384)) {
                peer.send(frame(kind::DATA, 0, *stream, &vec![b'x'; room]));
                *window -= i64::try_from(room).unwrap_or(0);
                connection -= i64::try_from(room).unwrap_or(0);
            }
        }
        true
    })
}

/// Type, flags, stream, payload.
type Came<'a> = (u8, u8, u32, &'a [u8]);

/// Greets, confirms what must be confirmed, and hands every frame over, until the peer leaves or `take` has had enough.
fn each_frame(peer: &mut Peer, mut take: impl FnMut(&mut Peer, Came<'_>) -> bool) -> Next {
    if !fill(&mut peer.wire, PREFACE.len()) || peer.wire.buffer.drain(..PREFACE.len()).ne(PREFACE.iter().copied()) {
        return Next::Close;
    }
    peer.send(frame(kind::SETTINGS, 0, 0, &[]));
    while let Some((frame_kind, flags, stream, payload)) = read(&mut peer.wire) {
        let confirmed = flags & 1 == 0 && matches!(frame_kind, kind::SETTINGS | kind::PING);
        if confirmed {
            peer.send(frame(frame_kind, 1, 0, if frame_kind == kind::PING { &payload } else { &[] }));
        }
        if frame_kind == kind::GOAWAY || !take(peer, (frame_kind, flags, stream, &payload)) {
            return Next::Close;
        }
    }
    Next::Close
}

fn fill(wire: &mut Wire, count: usize) -> bool {
    while wire.buffer.len() < count {
        if wire.fill().is_err() {
            return false;
        }
    }
    true
}

fn read(wire: &mut Wire) -> Option<(u8, u8, u32, Vec<u8>)> {
    if !fill(wire, 9) {
        return None;
    }
    let head: Vec<u8> = wire.buffer.drain(..9).collect();
    let length = usize::try_from(number(&head[..3])).ok()?;
    if !fill(wire, length) {
        return None;
    }
    Some((head[3], head[4], number(&head[5..]) & 0x7fff_ffff, wire.buffer.drain(..length).collect()))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}
