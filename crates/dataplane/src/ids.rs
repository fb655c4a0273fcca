//! Request ids and trace context of one worker. Knows no exchange.

use std::hash::{BuildHasher, RandomState};

/// Where a gateway's ids come from.
#[derive(Clone, Copy, Debug)]
pub struct IdSource {
    seed: u64,
}

impl IdSource {
    /// Seeded by the system: no two processes give the same ids.
    #[must_use]
    pub fn random() -> IdSource {
        IdSource { seed: RandomState::new().hash_one("daemun") }
    }

    /// Always the same ids, for comparing runs.
    #[must_use]
    pub fn fixed(seed: u64) -> IdSource {
        IdSource { seed }
    }

    pub(crate) fn worker(self, index: usize) -> Ids {
        let mut state = self.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let trace = [mix(&mut state), mix(&mut state)];
        Ids { prefix: mix(&mut self.seed.clone()) >> 32, worker: index as u64 & 0xff, counter: 0, state: trace[0] ^ trace[1] }
    }
}

/// Ids of one worker: a prefix of the process, the worker, a counter; trace ids from a generator.
#[derive(Debug)]
pub(crate) struct Ids {
    prefix: u64,
    worker: u64,
    counter: u64,
    state: u64,
}

impl Ids {
    /// Appends a request id: 20 hexadecimal digits.
    pub(crate) fn push_request_id(&mut self, out: &mut Vec<u8>) {
        self.counter += 1;
        push_hex(self.prefix, 8, out);
        push_hex(self.worker, 2, out);
        push_hex(self.counter, 10, out);
    }

    /// Appends a `traceparent` that goes on from `received`, or begins a trace where that is absent or malformed (W3C Trace Context,
    /// section 3.2). Says whether it went on.
    pub(crate) fn push_traceparent(&mut self, received: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        let kept = received.filter(|v| is_traceparent(v));
        out.extend_from_slice(b"00-");
        match kept {
            Some(value) => out.extend_from_slice(value.get(3..35).unwrap_or_default()),
            None => {
                push_hex(mix(&mut self.state) | 1, 16, out);
                push_hex(mix(&mut self.state), 16, out);
            }
        }
        out.push(b'-');
        push_hex(mix(&mut self.state) | 1, 16, out);
        out.push(b'-');
        out.extend_from_slice(kept.and_then(|v| v.get(53..55)).unwrap_or(b"00"));
        kept.is_some()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn push_hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        let nibble = u8::try_from((value >> (4 * place)) & 15).unwrap_or(0);
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
}

fn is_traceparent(value: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        value.get(range).is_some_and(|v| v.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)))
    };
    let zero = |range: std::ops::Range<usize>| value.get(range).is_some_and(|v| v.iter().all(|&b| b == b'0'));
    value.len() == 55
        && value.starts_with(b"00-")
        && value.get(35) == Some(&b'-')
        && value.get(52) == Some(&b'-')
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && !zero(3..35)
        && !zero(36..52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_received_trace_goes_on_under_a_new_parent() {
        let mut ids = IdSource::fixed(1).worker(0);
        let received = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut out = Vec::new();
        assert!(ids.push_traceparent(Some(received), &mut out));
        assert!(is_traceparent(&out));
        assert_eq!(out[..36], received[..36]);
        assert_eq!(out[53..], received[53..]);
        assert_ne!(out[36..52], received[36..52]);
    }

    #[test]
    fn a_malformed_trace_is_not_believed() {
        let mut ids = IdSource::fixed(1).worker(0);
        for bad in [&b"00-00000000000000000000000000000000-b7ad6b7169203331-01"[..], b"ff-x", b"", b"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            let mut out = Vec::new();
            assert!(!ids.push_traceparent(Some(bad), &mut out));
            assert!(is_traceparent(&out));
        }
    }

    #[test]
    fn request_ids_of_a_worker_differ() {
        let mut ids = IdSource::random().worker(3);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        ids.push_request_id(&mut a);
        ids.push_request_id(&mut b);
        assert_ne!(a, b);
        assert_eq!(a.len(), 20);
    }
}
