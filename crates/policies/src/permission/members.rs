//! Which roles, groups and tags each consumer of a directory has, as numbers. Worked out once for all routes; knows no request.

use std::collections::HashMap;

use daemun_pipeline::{Consumer, ConsumerId, Directory, Identity};

/// What a consumer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Role,
    Group,
    Tag,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Role, Kind::Group, Kind::Tag];

    /// One of the kind, as messages say it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Role => "role",
            Kind::Group => "group",
            Kind::Tag => "tag",
        }
    }

    /// Those that a credential brings along.
    #[inline]
    pub(super) fn brought(self, identity: &Identity) -> &[String] {
        match self {
            Kind::Role => &identity.roles,
            Kind::Group => &identity.groups,
            Kind::Tag => &identity.tags,
        }
    }

    fn of(self, consumer: &Consumer) -> &[String] {
        match self {
            Kind::Role => &consumer.roles,
            Kind::Group => &consumer.groups,
            Kind::Tag => &consumer.tags,
        }
    }
}

/// All memberships of a directory: what a consumer has lies side by side.
#[derive(Debug)]
pub(super) struct Members {
    numbers: HashMap<(Kind, Box<str>), u32>,
    /// Where the numbers of each consumer begin, and those of the last end.
    starts: Box<[u32]>,
    of_all: Box<[u32]>,
}

impl Members {
    pub(super) fn new(directory: &Directory) -> Members {
        let mut numbers: HashMap<(Kind, Box<str>), u32> = HashMap::new();
        let (mut starts, mut of_all) = (vec![0], Vec::new());
        for (_, consumer) in directory.iter() {
            for kind in Kind::ALL {
                for name in kind.of(consumer) {
                    let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                    of_all.push(*numbers.entry((kind, name.as_str().into())).or_insert(next));
                }
            }
            starts.push(u32::try_from(of_all.len()).unwrap_or(u32::MAX));
        }
        Members { numbers, starts: starts.into(), of_all: of_all.into() }
    }

    /// The number of a name; `None` when no consumer has it.
    pub(super) fn number(&self, kind: Kind, name: &str) -> Option<u32> {
        self.numbers.get(&(kind, name.into())).copied()
    }

    /// What a consumer has.
    #[inline]
    pub(super) fn of(&self, consumer: ConsumerId) -> &[u32] {
        let at = consumer.0 as usize;
        let ends = self.starts.get(at).zip(self.starts.get(at + 1));
        ends.and_then(|(start, end)| self.of_all.get(*start as usize..*end as usize)).unwrap_or_default()
    }

    /// All names of a kind.
    pub(super) fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.numbers.keys().filter(move |(known, _)| *known == kind).map(|(_, name)| &**name)
    }
}
