//! The digests of all known keys, and whose they are. Knows no key in clear and no request.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use daemun_pipeline::{Consumer, ConsumerId, Directory};

/// The longest key that is looked at, in bytes.
pub(super) const MAX_KEY: usize = 512;

/// A digest and whose key it is of, on one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    digest: [u8; 32],
    caller: Caller,
}

/// Whose key was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The consumer.
    pub(super) consumer: ConsumerId,
    name_len: u8,
    roles_len: u8,
    /// Name and roles one behind the other, for those who have room here: nearly all.
    text: [u8; 26],
}

impl Caller {
    fn new(consumer: ConsumerId, name: &str, roles: &str) -> Caller {
        let mut caller = Caller { consumer, name_len: 0, roles_len: 0, text: [0; 26] };
        let all = [name, roles].concat();
        if let Some(text) = caller.text.get_mut(..all.len()) {
            text.copy_from_slice(all.as_bytes());
            // no more than 26
            (caller.name_len, caller.roles_len) = (name.len() as u8, roles.len() as u8);
        }
        caller
    }

    /// Its name and its roles as they are sent; `None` when they are to be looked up.
    pub(super) fn sent(&self) -> Option<(&[u8], &[u8])> {
        let (name, behind) = self.text.split_at_checked(usize::from(self.name_len))?;
        let roles = behind.get(..usize::from(self.roles_len))?;
        (!name.is_empty()).then_some((name, roles))
    }
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
    /// Takes the digests of all consumers; `roles` are theirs as they are sent, by position.
    pub(super) fn new(directory: &Directory, roles: &[Box<str>]) -> Keys {
        let entry = |(id, consumer): (ConsumerId, &Consumer), digest: &[u8; 32]| {
            let roles = roles.get(id.0 as usize).map_or("", |roles| roles);
            Entry { digest: *digest, caller: Caller::new(id, &consumer.name, roles) }
        };
        let entries: Box<[Entry]> =
            directory.iter().flat_map(|known| known.1.keys.iter().map(move |digest| entry(known, digest))).collect();
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
    pub(super) fn find(&self, key: &[u8]) -> Option<&Caller> {
        let digest = digest(&SHA256, key);
        let wanted = digest.as_ref();
        let mask = self.places.len() - 1;
        let mut at = self.start(wanted);
        loop {
            let number = *self.places.get(at)? as usize;
            let entry = self.entries.get(number.checked_sub(1)?)?;
            if verify_slices_are_equal(&entry.digest, wanted).is_ok() {
                return Some(&entry.caller);
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
