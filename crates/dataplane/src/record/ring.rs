//! The newest requests of one worker, each in a slot of fixed size that is overwritten in turn. Keeps no header, no query value and
//! no credential, so that nothing secret can be read from it.

use std::net::IpAddr;
use std::sync::Arc;

use daemun_pipeline::{Reason, Times};

use super::line::{Line, Steps, protocol};
use super::text::{Stamp, push_ip, push_millis, push_quoted, push_u64};
use super::{Fallback, PolicyVerdict};

/// Requests a worker keeps.
pub(super) const RING_SLOTS: usize = 1_024;

/// The texts of a slot, in the order they lie in it, and the bytes of each that are kept.
const PIECES: [(Piece, usize); 9] = [
    (Piece::Id, 64),
    (Piece::TraceId, 32),
    (Piece::Method, 16),
    (Piece::Path, 128),
    (Piece::Host, 64),
    (Piece::Route, 64),
    (Piece::Upstream, 48),
    (Piece::Target, 96),
    (Piece::Consumer, 48),
];
const TEXT: usize = 560;
const VERDICTS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Id,
    TraceId,
    Method,
    Path,
    Host,
    Route,
    Upstream,
    Target,
    Consumer,
}

impl Piece {
    fn most(self) -> usize {
        PIECES.get(self as usize).map_or(0, |(_, most)| *most)
    }
}

/// One request.
#[derive(Clone, Debug)]
struct Slot {
    wall: u64,
    times: Times,
    bytes_in: u64,
    bytes_out: u64,
    client_ip: Option<IpAddr>,
    status: u16,
    reason: Option<Reason>,
    version: u8,
    attempts: u8,
    tls: bool,
    reused: bool,
    hedged: bool,
    fallback: Option<Fallback>,
    upgraded: bool,
    decided: u8,
    verdicts: [(u8, PolicyVerdict); VERDICTS],
    lengths: [u8; PIECES.len()],
    used: u16,
    text: [u8; TEXT],
}

impl Slot {
    const EMPTY: Slot = Slot {
        wall: 0,
        times: Times { start: 0, decided: 0, again: 0, connected: 0, answered: 0, end: 0 },
        bytes_in: 0,
        bytes_out: 0,
        client_ip: None,
        status: 0,
        reason: None,
        version: 0,
        attempts: 0,
        tls: false,
        reused: false,
        hedged: false,
        fallback: None,
        upgraded: false,
        decided: 0,
        verdicts: [(0, PolicyVerdict::Passed); VERDICTS],
        lengths: [0; PIECES.len()],
        used: 0,
        text: [0; TEXT],
    };

    fn set(&mut self, line: &Line<'_>, verdicts: &[(u8, PolicyVerdict)]) {
        self.wall = line.wall;
        self.times = line.times;
        self.bytes_in = line.bytes_in;
        self.bytes_out = line.bytes_out;
        self.client_ip = line.client_ip;
        self.status = line.status;
        self.reason = line.fault.map(|fault| fault.reason);
        self.version = line.version;
        self.attempts = line.attempts;
        self.tls = line.tls;
        self.reused = line.reused;
        self.hedged = line.hedged;
        self.fallback = line.fallback;
        self.upgraded = line.upgraded;
        self.decided = 0;
        for (slot, verdict) in self.verdicts.iter_mut().zip(verdicts) {
            *slot = *verdict;
            self.decided += 1;
        }
        self.used = 0;
        self.put(Piece::Id, line.id);
        self.put(Piece::TraceId, line.trace_id);
        self.put(Piece::Method, line.method);
        self.put(Piece::Path, line.path);
        if let Some(query) = line.query {
            self.put_query(query);
        }
        self.put(Piece::Host, line.host);
        self.put(Piece::Route, line.route.unwrap_or_default().as_bytes());
        self.put(Piece::Upstream, line.upstream.unwrap_or_default().as_bytes());
        self.put(Piece::Target, line.target.unwrap_or_default().as_bytes());
        self.put(Piece::Consumer, line.consumer.unwrap_or_default());
    }

    #[inline]
    fn put(&mut self, piece: Piece, bytes: &[u8]) {
        if let Some(length) = self.lengths.get_mut(piece as usize) {
            *length = 0;
        }
        self.append(piece, bytes);
    }

    /// Adds to the piece that lies last.
    #[inline]
    fn append(&mut self, piece: Piece, bytes: &[u8]) {
        let Some(length) = self.lengths.get_mut(piece as usize) else { return };
        let n = bytes.len().min(piece.most().saturating_sub(usize::from(*length)));
        let start = usize::from(self.used);
        if let (Some(to), Some(from)) = (self.text.get_mut(start..start + n), bytes.get(..n)) {
            to.copy_from_slice(from);
            // a piece has at most 128 bytes, all together `TEXT`
            *length += n as u8;
            self.used += n as u16;
        }
    }

    /// Adds the names of a query's parameters to the path; values may be secrets, and so may a parameter that is only a value.
    fn put_query(&mut self, query: &[u8]) {
        const MASK: &[u8] = b"***";
        self.append(Piece::Path, b"?");
        for (position, pair) in query.split(|byte| *byte == b'&').enumerate() {
            if position > 0 {
                self.append(Piece::Path, b"&");
            }
            let before = self.length(Piece::Path);
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=') {
                self.append(Piece::Path, pair.get(..=equals).unwrap_or_default());
            }
            if !pair.is_empty() {
                self.append(Piece::Path, MASK);
                if self.length(Piece::Path) == before {
                    return;
                }
            }
        }
    }

    fn length(&self, piece: Piece) -> usize {
        self.lengths.get(piece as usize).map_or(0, |length| usize::from(*length))
    }

    fn get(&self, piece: Piece) -> &[u8] {
        let start: usize = self.lengths.iter().take(piece as usize).map(|length| usize::from(*length)).sum();
        self.text.get(start..start + self.length(piece)).unwrap_or_default()
    }
}

/// The newest requests of a worker.
#[derive(Debug, Default)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    /// Where the next request goes; the oldest, once all are taken.
    next: usize,
}

impl Ring {
    /// Keeps a request in place of the oldest. The first call makes room for all; no other allocates.
    pub(super) fn push(&mut self, line: &Line<'_>, verdicts: &[(u8, PolicyVerdict)]) {
        if self.slots.len() < RING_SLOTS {
            if self.slots.capacity() == 0 {
                self.slots.reserve_exact(RING_SLOTS);
            }
            self.slots.push(Slot::EMPTY);
        }
        if let Some(slot) = self.slots.get_mut(self.next) {
            slot.set(line, verdicts);
        }
        self.next = (self.next + 1) % RING_SLOTS;
    }

    /// Newest first.
    fn iter(&self) -> impl Iterator<Item = &Slot> {
        let (newer, older) = self.slots.split_at(self.next.min(self.slots.len()));
        newer.iter().rev().chain(older.iter().rev())
    }

    /// The newest request with this id.
    pub(super) fn find(&self, id: &[u8], policies: &Arc<[&'static str]>) -> Option<Recent> {
        let id = id.get(..Piece::Id.most()).unwrap_or(id);
        self.iter().find(|slot| slot.get(Piece::Id) == id).map(|slot| Recent::of(slot, policies))
    }

    /// The newest `n` requests, newest first.
    pub(super) fn latest(&self, n: usize, policies: &Arc<[&'static str]>) -> Vec<Recent> {
        self.iter().take(n).map(|slot| Recent::of(slot, policies)).collect()
    }
}

/// One request as the ring kept it: nothing of it is secret, and long texts are cut.
#[derive(Clone, Debug)]
pub struct Recent {
    slot: Box<Slot>,
    policies: Arc<[&'static str]>,
}

impl Recent {
    fn of(slot: &Slot, policies: &Arc<[&'static str]>) -> Recent {
        Recent { slot: Box::new(slot.clone()), policies: Arc::clone(policies) }
    }

    /// When its head was complete, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.slot.wall
    }

    /// Request id, its first 64 bytes.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.slot.get(Piece::Id)
    }

    /// The newest `n` of what several workers kept, newest first.
    #[must_use]
    pub fn newest(mut of_all: Vec<Recent>, n: usize) -> Vec<Recent> {
        of_all.sort_by_key(|recent| std::cmp::Reverse(recent.slot.wall));
        of_all.truncate(n);
        of_all
    }

    /// Appends it as one JSON object. Members without a value are left out.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let slot = &*self.slot;
        out.extend_from_slice(b"{\"time\":\"");
        Stamp::default().push(out, slot.wall);
        out.push(b'"');
        text(out, "id", slot.get(Piece::Id));
        text(out, "trace_id", slot.get(Piece::TraceId));
        if let Some(ip) = slot.client_ip {
            out.extend_from_slice(b",\"client_ip\":\"");
            push_ip(out, ip);
            out.push(b'"');
        }
        text(out, "method", slot.get(Piece::Method));
        text(out, "host", slot.get(Piece::Host));
        text(out, "path", slot.get(Piece::Path));
        text(out, "protocol", protocol(slot.version).unwrap_or_default().as_bytes());
        text(out, "scheme", if slot.tls { b"https" } else { b"http" });
        if slot.status > 0 {
            number(out, "status", slot.status.into());
        }
        text(out, "route", slot.get(Piece::Route));
        text(out, "upstream", slot.get(Piece::Upstream));
        text(out, "target", slot.get(Piece::Target));
        text(out, "reason", slot.reason.map_or("", Reason::code).as_bytes());
        text(out, "consumer", slot.get(Piece::Consumer));
        number(out, "bytes_in", slot.bytes_in);
        number(out, "bytes_out", slot.bytes_out);
        number(out, "attempts", slot.attempts.into());
        flag(out, "reused", slot.reused);
        if slot.hedged {
            flag(out, "hedged", true);
        }
        text(out, "fallback", slot.fallback.map_or("", Fallback::as_str).as_bytes());
        flag(out, "upgraded", slot.upgraded);
        self.write_steps(out);
        self.write_verdicts(out);
        out.push(b'}');
    }

    fn write_steps(&self, out: &mut Vec<u8>) {
        let steps = Steps::of(&self.slot.times);
        if let Some(total) = steps.total {
            key(out, "duration_ms");
            push_millis(out, total);
        }
        key(out, "steps");
        out.push(b'[');
        let named = [
            ("policies", steps.policies),
            ("retry", steps.retry),
            ("connect", steps.connect),
            ("wait", steps.wait),
            ("transfer", steps.transfer),
        ];
        for (position, (name, nanos)) in named.iter().filter_map(|(name, nanos)| Some((name, (*nanos)?))).enumerate() {
            out.extend_from_slice(if position > 0 { b",{\"step\":\"" } else { b"{\"step\":\"" });
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\",\"ms\":");
            push_millis(out, nanos);
            out.push(b'}');
        }
        out.push(b']');
    }

    fn write_verdicts(&self, out: &mut Vec<u8>) {
        key(out, "policies");
        out.push(b'[');
        let decided = self.slot.verdicts.iter().take(usize::from(self.slot.decided));
        for (position, (policy, verdict)) in decided.enumerate() {
            let name = self.policies.get(usize::from(*policy)).copied().unwrap_or("unknown");
            out.extend_from_slice(if position > 0 { b",{\"policy\":" } else { b"{\"policy\":" });
            push_quoted(out, name.as_bytes());
            out.extend_from_slice(b",\"verdict\":\"");
            out.extend_from_slice(verdict.as_str().as_bytes());
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        key(out, name);
        push_quoted(out, value);
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    push_u64(out, value);
}

fn flag(out: &mut Vec<u8>, name: &str, value: bool) {
    key(out, name);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests;
