//! The least upstream that speaks HTTP/2: it answers every stream once its request has ended. Knows no flow control, since its answers
//! are small.

use std::time::Duration;

use crate::hpack::{Decoder, encode};
use crate::http2::{END_HEADERS, END_STREAM, PREFACE, frame, kind};
use crate::origin::{Next, Peer, Request};
use crate::wire::Wire;

/// A script that answers each stream 200 with its target.
pub fn echo_streams(peer: &mut Peer) -> Next {
    peer.wire.stream.set_timeout(Duration::from_secs(120));
    if !fill(&mut peer.wire, PREFACE.len()) || peer.wire.buffer.drain(..PREFACE.len()).ne(PREFACE.iter().copied()) {
        return Next::Close;
    }
    peer.send(frame(kind::SETTINGS, 0, 0, &[]));
    let mut decoder = Decoder::default();
    while let Some((frame_kind, flags, stream, payload)) = read(&mut peer.wire) {
        match frame_kind {
            kind::SETTINGS if flags & 1 == 0 => _ = peer.send(frame(kind::SETTINGS, 1, 0, &[])),
            kind::PING if flags & 1 == 0 => _ = peer.send(frame(kind::PING, 1, 0, &payload)),
            kind::HEADERS => {
                let Ok(fields) = decoder.decode(&payload) else { return Next::Close };
                let one = |name: &str| fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
                let (method, target) = (one(":method").unwrap_or_default(), one(":path").unwrap_or_default());
                peer.note(&Request { connection: peer.number, method, target: target.clone(), ..Request::default() });
                let mut answer = frame(kind::HEADERS, END_HEADERS, stream, &encode(&[(":status", "200")]));
                answer.extend(frame(kind::DATA, END_STREAM, stream, target.as_bytes()));
                peer.send(answer);
            }
            kind::GOAWAY => return Next::Close,
            _ => {}
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
    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    let length = usize::try_from(number(&head[..3])).ok()?;
    if !fill(wire, length) {
        return None;
    }
    Some((head[3], head[4], number(&head[5..]) & 0x7fff_ffff, wire.buffer.drain(..length).collect()))
}
