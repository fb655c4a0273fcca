//! Changes to a head, ready to be made. Knows nothing of settings or of which way the head goes.

use daemun_config::model::Spanned;
use daemun_pipeline::expression::Text;
use daemun_pipeline::{BuildContext, Exchange, Fault, Head, Line, Name};

use super::config::HeaderEdits;

/// Changes in the order they are made: fields that go, then fields that come.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Names of fields that are removed, those that are set included.
    remove: Box<[Box<str>]>,
    /// Fields that are appended.
    append: Box<[Added]>,
    /// Whether a value is computed.
    computed: bool,
}

#[derive(Debug)]
enum Added {
    Literal(Line),
    Computed(Name, Text),
}

impl Added {
    /// `None` for what no header can hold, which the reader of settings has refused.
    fn new(name: &str, text: Text) -> Option<Added> {
        match text.literal() {
            Some(value) => Line::new(name, value).map(Added::Literal),
            None => Name::new(name).map(|name| Added::Computed(name, text)),
        }
    }

    fn name(&self) -> &str {
        match self {
            Added::Literal(line) => line.name(),
            Added::Computed(name, _) => name.as_str(),
        }
    }
}

impl Edits {
    /// From settings; `side` is their key. `None` only after an error was reported.
    pub(super) fn new(settings: HeaderEdits, side: &str, ctx: &mut BuildContext<'_>) -> Option<Edits> {
        let remove = settings.remove.map(|names| names.0).unwrap_or_default();
        let set = settings.set.map(|set| set.0).unwrap_or_default();
        let add = settings.add.map(|add| add.0).unwrap_or_default();
        let gone = remove.into_iter().map(|name| name.0).chain(set.iter().map(|(name, _)| name.value.0.clone()));
        let remove = gone.map(Into::into).collect();
        let set = set.into_iter().map(|(name, value)| ("set", name.value.0, value));
        let add = add.into_iter().flat_map(|(name, values)| {
            let name = name.value.0;
            values.0.into_iter().map(move |value| ("add", name.clone(), value))
        });
        let (mut append, mut failed) = (Vec::new(), false);
        for (list, name, value) in set.chain(add) {
            let text = Spanned { value: value.value.0, at: value.at };
            match ctx.text(&format!("{side}.{list}.{name}"), &text, side == "response") {
                Some(text) => append.extend(Added::new(&name, text)),
                None => failed = true,
            }
        }
        let computed = append.iter().any(|added| matches!(added, Added::Computed(..)));
        (!failed).then(|| Edits { remove, append: append.into(), computed })
    }

    /// Makes the changes. Costs one pass over the head's names for each field that goes.
    pub(super) fn apply(&self, exchange: &mut Exchange, head: fn(&mut Exchange) -> &mut Head) -> Result<(), Fault> {
        if self.computed {
            return self.apply_computed(exchange, head);
        }
        let head = head(exchange);
        for name in &self.remove {
            head.remove(name);
        }
        for added in &self.append {
            if let Added::Literal(line) = added {
                line.append(head);
            }
        }
        Ok(())
    }

    /// The same where values are computed: all of them before anything changes, so that they may speak of what goes. A value that comes out
    /// empty, or that no header can have, is left out.
    fn apply_computed(&self, exchange: &mut Exchange, of: fn(&mut Exchange) -> &mut Head) -> Result<(), Fault> {
        let mut values = Vec::new();
        let mut ends = Vec::with_capacity(self.append.len());
        for added in &self.append {
            if let Added::Computed(_, text) = added {
                text.push(exchange, &mut values)?;
            }
            ends.push(values.len());
        }
        let head = of(exchange);
        for name in &self.remove {
            head.remove(name);
        }
        let mut start = 0;
        for (added, end) in self.append.iter().zip(ends) {
            let bytes = values.get(start..end).unwrap_or_default().trim_ascii();
            start = end;
            match added {
                Added::Literal(line) => line.append(head),
                Added::Computed(_, _) if bytes.is_empty() => {}
                Added::Computed(name, _) => drop(name.append(head, bytes)),
            }
        }
        Ok(())
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
        let appended = |name: &str| self.append.iter().any(|added| added.name() == name);
        let mut parts = Vec::new();
        for name in &self.remove {
            parts.push(format!("{} `{name}`", if appended(name) { "sets" } else { "removes" }));
        }
        let mut added: Vec<&str> = self.append.iter().map(Added::name).collect();
        added.retain(|name| !self.remove.iter().any(|other| &**other == *name));
        added.dedup();
        parts.extend(added.into_iter().map(|name| format!("adds `{name}`")));
        parts.join(", ")
    }
}
