//! The digests of all known keys, and whose they are. Knows no key in clear and no request.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use daemun_pipeline::{ConsumerId, Directory};

/// The longest key that is looked at, in bytes.
pub(super) const MAX_KEY: usize = 512;

/// A digest, and whose key it is of.
#[derive(Debug)]
struct Entry {
    digest: [u8; 32],
    consumer: ConsumerId,
}

/// All keys of a directory. The first eight bytes of a digest find its place (a digest is as good as random, and its maker cannot steer
/// it without guessing keys); the whole is then compared in constant time.
#[derive(Debug)]
pub(super) struct Keys {
    /// Index into `entries` plus one; 0 is empty. A power of two in length, at most half full.
    places: Box<[u32]>,
    entries: Box<[Entry]>,
}

impl Keys {
    /// Takes the digests of all consumers.
    pub(super) fn new(directory: &Directory) -> Keys {
        let entries: Box<[Entry]> = directory
            .iter()
            .flat_map(|(id, consumer)| consumer.keys.iter().map(move |digest| Entry { digest: *digest, consumer: id }))
            .collect();
        let mut keys = Keys { places: vec![0; (entries.len() * 2).next_power_of_two().max(8)].into(), entries };
        let starts: Vec<usize> = keys.entries.iter().map(|entry| keys.start(&entry.digest)).collect();
        for (start, number) in starts.into_iter().zip(1_u32..) {
            let mask = keys.places.len() - 1;
            let free = (start..).map(|n| n & mask).find(|n| keys.places.get(*n) == Some(&0));
            if let Some(place) = free.and_then(|n| keys.places.get_mut(n)) {
                *place = number;
            }
        }
        keys
    }

    /// Whose key this is; costs one SHA-256 whether it is known or not, and allocates nothing.
    pub(super) fn find(&self, key: &[u8]) -> Option<ConsumerId> {
        let digest = digest(&SHA256, key);
        let wanted = digest.as_ref();
        let mask = self.places.len() - 1;
        let mut at = self.start(wanted);
        loop {
            let number = *self.places.get(at)? as usize;
            let entry = self.entries.get(number.checked_sub(1)?)?;
            if verify_slices_are_equal(&entry.digest, wanted).is_ok() {
                return Some(entry.consumer);
            }
            at = (at + 1) & mask;
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn start(&self, digest: &[u8]) -> usize {
        let first = digest.first_chunk::<8>().copied().unwrap_or_default();
        (u64::from_le_bytes(first) as usize) & (self.places.len() - 1)
    }
}
