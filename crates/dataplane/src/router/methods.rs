//! Sets of request methods as bits, so that comparing them costs one instruction. Knows nothing of what a method does, but
//! that GET includes HEAD.

/// Methods with a bit of their own from the start, in the order `Allow` lists them.
const STANDARD: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// The bit of all methods that no route names.
const OTHER: u32 = 63;

/// A set of methods; which bit is which method, the [`Methods`] of the same router know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MethodSet(u64);

impl MethodSet {
    /// No method.
    pub(super) const NONE: Self = Self(0);
    /// Every method, those no route names included.
    pub(super) const ANY: Self = Self(u64::MAX);

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn includes(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The numbers of its methods.
    pub(super) fn bits(self) -> impl Iterator<Item = u32> {
        (0..=OTHER).filter(move |bit| self.0 & (1 << bit) != 0)
    }

    #[must_use]
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The methods that routes of one router name.
#[derive(Clone, Debug, Default)]
pub(super) struct Methods {
    custom: Vec<Box<str>>,
}

impl Methods {
    /// The set a route gives: any method when it names none. `None` when the router knows too many methods already.
    pub(super) fn intern<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Option<MethodSet> {
        let mut set = MethodSet::default();
        for name in names {
            let mut one = self.set_of(name);
            if one == MethodSet(1 << OTHER) {
                if STANDARD.len() + self.custom.len() >= OTHER as usize {
                    return None;
                }
                self.custom.push(name.into());
                one = self.set_of(name);
            }
            if name == "GET" {
                one = one.with(self.set_of("HEAD"));
            }
            set = set.with(one);
        }
        Some(if set.is_empty() { MethodSet::ANY } else { set })
    }

    /// The set of this one method.
    pub(super) fn set_of(&self, method: &str) -> MethodSet {
        let mut names = STANDARD.iter().copied().chain(self.custom.iter().map(AsRef::as_ref));
        let bit = names.position(|name| name == method).and_then(|bit| u32::try_from(bit).ok());
        MethodSet(1 << bit.unwrap_or(OTHER))
    }

    /// The names in a set, in a fixed order; the methods no route names have no name.
    pub(super) fn names(&self, set: MethodSet) -> impl Iterator<Item = &str> {
        let all = STANDARD.iter().copied().chain(self.custom.iter().map(AsRef::as_ref));
        (0_u32..).zip(all).filter(move |(bit, _)| set.0 & (1 << bit) != 0).map(|(_, name)| name)
    }
}
