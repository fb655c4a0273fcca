//! The digests of all known keys, and whose they are. Knows no key in clear and no request.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use daemun_accounts::Accounts;
use daemun_config::model::CredentialName;
use daemun_pipeline::{ConsumerId, Directory};

use crate::lasting::Lasting;

/// A digest and whose key it is of, on one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    digest: [u8; 32],
    caller: Caller,
}

/// Whose key was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The consumer.
    pub(crate) consumer: ConsumerId,
    /// Whether name and roles have room here, one behind the other. Nearly all have.
    is_here: bool,
    /// Whether the key ends at some time.
    ends: bool,
    name_len: u8,
    roles_len: u8,
    text: [u8; TEXT],
}

/// Room for name and roles.
const TEXT: usize = 24;

const _: () = assert!(size_of::<Option<Entry>>() == 64, "an entry is one cache line");

impl Caller {
    fn new(consumer: ConsumerId, name: &str, roles: &str, ends: bool) -> Caller {
        let mut caller = Caller { consumer, is_here: false, ends, name_len: 0, roles_len: 0, text: [0; TEXT] };
        let all = [name, roles].concat();
        if let (Some(text), Ok(name), Ok(roles)) =
            (caller.text.get_mut(..all.len()), u8::try_from(name.len()), u8::try_from(roles.len()))
        {
            text.copy_from_slice(all.as_bytes());
            (caller.is_here, caller.name_len, caller.roles_len) = (true, name, roles);
        }
        caller
    }

    /// Its name and its roles as they are sent; `None` when they are to be looked up.
    pub(crate) fn sent(&self) -> Option<(&[u8], &[u8])> {
        let (name, behind) = self.text.split_at_checked(usize::from(self.name_len)).filter(|_| self.is_here)?;
        Some((name, behind.get(..usize::from(self.roles_len))?))
    }
}

/// Where a key stands among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

/// All keys of a directory. The first eight bytes of a digest find its place (a digest is as good as random, and its maker cannot steer
/// it without guessing keys); the whole is then compared in constant time.
#[derive(Debug)]
pub(crate) struct Keys {
    /// A power of two in length, at most four fifths full: a key is looked up on one line, or two that lie side by side.
    places: Box<[Option<Entry>]>,
    /// How long the key at each place is good: looked at for those that end, and where uses are kept.
    lasting: Box<[Option<Lasting>]>,
    count: usize,
}

impl Keys {
    /// Takes the digests of all consumers; `roles` are theirs as they are sent, by position.
    pub(crate) fn new(directory: &Directory, roles: &[Box<str>], accounts: &Accounts) -> Keys {
        let count = directory.iter().map(|(_, consumer)| consumer.keys.len()).sum::<usize>();
        let size = (count + count / 4 + 1).next_power_of_two().max(8);
        let lasting = std::iter::repeat_with(|| None).take(size).collect();
        let mut keys = Keys { places: std::iter::repeat_with(|| None).take(size).collect(), lasting, count };
        for (id, consumer) in directory.iter() {
            let roles = roles.get(id.0 as usize).map_or("", |roles| roles);
            for digest in &consumer.keys {
                let lasting = Lasting::new(consumer, &CredentialName::Key(*digest), accounts);
                let caller = Caller::new(id, &consumer.name, roles, lasting.ends());
                keys.put(Entry { digest: *digest, caller }, lasting);
            }
        }
        keys
    }

    fn put(&mut self, entry: Entry, lasting: Lasting) {
        let mask = self.places.len() - 1;
        let free = (self.start(&entry.digest)..).map(|n| n & mask).find(|n| matches!(self.places.get(*n), Some(None)));
        if let Some((place, beside)) = free.and_then(|n| self.places.get_mut(n).zip(self.lasting.get_mut(n))) {
            (*place, *beside) = (Some(entry), Some(lasting));
        }
    }

    /// Whose key this is, by its digest, and its place; allocates nothing.
    pub(crate) fn find(&self, wanted: &[u8; 32]) -> Option<(&Caller, Place)> {
        let mask = self.places.len() - 1;
        let mut at = self.start(wanted);
        while let Some(entry) = self.places.get(at)? {
            if verify_slices_are_equal(&entry.digest, wanted).is_ok() {
                return Some((&entry.caller, Place(at)));
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// How long the key at a place is good.
    pub(crate) fn lasting(&self, place: Place) -> Option<&Lasting> {
        self.lasting.get(place.0)?.as_ref()
    }

    /// Whether a key that was found has expired. Looks at nothing else where it does not end.
    #[inline]
    pub(crate) fn has_expired(&self, (caller, place): (&Caller, Place), now: u64) -> bool {
        caller.ends && self.lasting(place).is_none_or(|lasting| !lasting.is_current(now))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn start(&self, digest: &[u8]) -> usize {
        let first = digest.first_chunk::<8>().copied().unwrap_or_default();
        (u64::from_le_bytes(first) as usize) & (self.places.len() - 1)
    }
}
