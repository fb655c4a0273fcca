//! A read-only hash table from bytes to numbers, laid out so that a lookup touches one cache line of it. Knows nothing of
//! what the numbers mean: the caller says whether the one found is the one meant.
//!
//! The keys are the operator's; a client chooses only what is looked up. A probe therefore never costs more than the longest
//! run of neighbours, which is short at that load, whatever a client sends; no secret seed is needed.

/// A number that is never stored.
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    value: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    /// A power of two of them, at most four fifths of them used: the fewer lines, the more of them are at hand.
    slots: Box<[Slot]>,
}

impl Table {
    /// A table of hashes and their numbers, none of which is `u32::MAX`.
    pub(super) fn new(pairs: &[(u64, u32)]) -> Self {
        let size = size_for(pairs.len());
        let mut slots = vec![Slot { tag: 0, value: EMPTY }; size].into_boxed_slice();
        let mask = size - 1;
        for &(hash, value) in pairs {
            let mut at = first(hash, mask);
            while slots.get(at).is_some_and(|slot| slot.value != EMPTY) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = Slot { tag: tag(hash), value };
            }
        }
        Self { slots }
    }

    /// The first number of this hash that `accept` takes.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut accept: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let mask = self.slots.len() - 1;
        let mut at = first(hash, mask);
        loop {
            let slot = self.slots.get(at)?;
            if slot.value == EMPTY {
                return None;
            }
            if slot.tag == tag(hash)
                && let Some(found) = accept(slot.value)
            {
                return Some(found);
            }
            at = (at + 1) & mask;
        }
    }
}

/// Places for so many: at most four fifths are used.
pub(super) fn size_for(count: usize) -> usize {
    count.saturating_add(count / 4 + 1).next_power_of_two()
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the mask keeps the low bits only")]
pub(super) fn first(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the tag is the upper half")]
pub(super) fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A hash of bytes under a number; fast for short texts, in which every bit of the input reaches every bit of the output.
#[inline]
pub(super) fn hash(number: u32, bytes: &[u8]) -> u64 {
    let mut state = fold(u64::from(number) ^ 0x9E37_79B9_7F4A_7C15, bytes.len() as u64 ^ 0xD6E8_FEB8_6659_FD93);
    let (chunks, tail) = bytes.as_chunks::<8>();
    for chunk in chunks {
        state = fold(state ^ u64::from_le_bytes(*chunk), 0xA076_1D64_78BD_642F);
    }
    let mut last = 0;
    for &byte in tail {
        last = last << 8 | u64::from(byte);
    }
    fold(state ^ last, 0xE703_7ED1_A0B4_28DB)
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}
