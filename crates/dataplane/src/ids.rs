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

    /// The ids of one worker, in their order.
    #[must_use]
    pub fn worker(self, index: usize) -> Ids {
        let mut state = self.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let trace = [mix(&mut state), mix(&mut state)];
        let mut prefix = [b'0'; 10];
        let (process, worker) = (hex(mix(&mut self.seed.clone())), hex(index as u64));
        for (to, from) in prefix.iter_mut().zip(process.iter().take(8).chain(worker.iter().skip(14))) {
            *to = *from;
        }
        Ids { prefix, counter: 0, state: trace[0] ^ trace[1] }
    }
}

/// Ids of one worker: a prefix of the process, the worker, a counter; trace ids from a generator.
#[derive(Debug)]
pub struct Ids {
    /// Eight digits of the process, two of the worker.
    prefix: [u8; 10],
    counter: u64,
    state: u64,
}

impl Ids {
    /// Appends a request id: 20 hexadecimal digits.
    pub(crate) fn push_request_id(&mut self, out: &mut Vec<u8>) {
        self.counter += 1;
        out.extend_from_slice(&self.prefix);
        let counter = hex(self.counter);
        out.extend_from_slice(counter.last_chunk::<10>().unwrap_or(&[b'0'; 10]));
    }

    /// Appends a `traceparent` that goes on from `received`, or begins a trace where that is absent or malformed (W3C Trace Context,
    /// section 3.2). Says whether it went on.
    pub(crate) fn push_traceparent(&mut self, received: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let kept = received.filter(|v| is_traceparent(v));
        match kept {
            Some(value) => text.copy_from_slice(value),
            None => {
                put(&mut text, 3, &hex(mix(&mut self.state) | 1));
                put(&mut text, 19, &hex(mix(&mut self.state)));
            }
        }
        put(&mut text, 36, &hex(mix(&mut self.state) | 1));
        out.extend_from_slice(&text);
        kept.is_some()
    }
}

fn put(text: &mut [u8; 55], at: usize, digits: &[u8; 16]) {
    if let Some(to) = text.get_mut(at..at + 16) {
        to.copy_from_slice(digits);
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

/// A number as 16 hexadecimal digits: nibbles are spread over 16 bytes, then each is made a digit by arithmetic on all.
fn hex(value: u64) -> [u8; 16] {
    let mut wide = u128::from(value);
    wide = (wide | (wide << 32)) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    wide = (wide | (wide << 16)) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    wide = (wide | (wide << 8)) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    wide = (wide | (wide << 4)) & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f;
    let letters = ((wide + 0x0606_0606_0606_0606_0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101_0101_0101_0101_0101;
    (wide + 0x3030_3030_3030_3030_3030_3030_3030_3030 + letters * 39).to_be_bytes()
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
        for bad in [
            &b"00-00000000000000000000000000000000-b7ad6b7169203331-01"[..],
            b"ff-x",
            b"",
            b"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let mut out = Vec::new();
            assert!(!ids.push_traceparent(Some(bad), &mut out));
            assert!(is_traceparent(&out));
        }
    }

    #[test]
    fn hexadecimal_digits_are_those_of_the_standard_library() {
        for value in [0, 1, 9, 10, 0xf, 0x0123_4567_89ab_cdef, u64::MAX, 0x8000_0000_0000_0000] {
            assert_eq!(hex(value), *format!("{value:016x}").as_bytes());
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
