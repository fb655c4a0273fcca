//! Changes to a head, ready to be made. Knows nothing of settings or of which way the head goes.

use daemun_pipeline::Head;

use super::config::HeaderEdits;

/// Changes in the order they are made: fields that go, then fields that come.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Names of fields that are removed, those that are set included.
    remove: Box<[Box<str>]>,
    /// Fields that are appended.
    append: Box<[(Box<str>, Box<str>)]>,
}

impl Edits {
    /// From settings.
    pub(super) fn new(settings: HeaderEdits) -> Edits {
        let remove = settings.remove.map(|names| names.0).unwrap_or_default();
        let set = settings.set.map(|set| set.0).unwrap_or_default();
        let add = settings.add.map(|add| add.0).unwrap_or_default();
        let gone = remove.into_iter().map(|name| name.0).chain(set.iter().map(|(name, _)| name.value.0.clone()));
        let remove = gone.map(Into::into).collect();
        let set = set.into_iter().map(|(name, value)| (name.value.0.into(), value.0.into()));
        let add = add.into_iter().flat_map(|(name, values)| {
            let name = name.value.0;
            values.0.into_iter().map(move |value| (name.clone().into(), value.0.into()))
        });
        Edits { remove, append: set.chain(add).collect() }
    }

    /// Makes the changes. Costs one pass over the head's names for each field that goes.
    pub(super) fn apply(&self, head: &mut Head) {
        for name in &self.remove {
            head.remove(name);
        }
        for (name, value) in &self.append {
            head.append(name, value.as_bytes());
        }
    }

    /// Names of fields that go, those that are set included.
    pub(super) fn removed(&self) -> &[Box<str>] {
        &self.remove
    }

    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.append.is_empty()
    }

    /// The names that change; never values, which may be secrets.
    pub(super) fn describe(&self) -> String {
        let appended = |name: &str| self.append.iter().any(|(other, _)| &**other == name);
        let mut parts = Vec::new();
        for name in &self.remove {
            parts.push(format!("{} `{name}`", if appended(name) { "sets" } else { "removes" }));
        }
        let mut added: Vec<&str> = self.append.iter().map(|(name, _)| &**name).collect();
        added.retain(|name| !self.remove.iter().any(|other| &**other == *name));
        added.dedup();
        parts.extend(added.into_iter().map(|name| format!("adds `{name}`")));
        parts.join(", ")
    }
}
