//! Findings in a configuration, and how they are shown. Knows no rule of the language, only how to report a broken one.

mod codes;
mod render;

pub use codes::*;

use std::collections::HashSet;

use crate::tree::{At, Sources};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration works, but probably not as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of the kind of finding, one of [`CODES`].
    pub code: &'static str,
    /// Where in the configuration, in its own names: `routes.get-item.upstream`. Empty for a text that could not be read.
    pub path: String,
    /// Where in the text.
    pub at: At,
    /// What is wrong; one line, lower case, no final period.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// Other places that matter, each with what is there.
    pub related: Vec<(At, String)>,
}

impl Diagnostic {
    /// An error. A path left empty is filled in by [`Decoder::report`](crate::decode::Decoder::report).
    #[must_use]
    pub fn error(code: &'static str, at: At, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, at, message.into())
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: &'static str, at: At, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, at, message.into())
    }

    fn new(severity: Severity, code: &'static str, at: At, message: String) -> Self {
        Self { severity, code, path: String::new(), at, message, help: None, related: Vec::new() }
    }

    /// Says where in the configuration, in its own names.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Says what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Offers `name` as what was probably meant; nothing when there is none.
    #[must_use]
    pub fn did_you_mean(mut self, name: Option<&str>) -> Self {
        if let Some(name) = name {
            self.help = Some(format!("did you mean `{name}`?"));
        }
        self
    }

    /// Adds another place that matters.
    #[must_use]
    pub fn related(mut self, at: At, message: impl Into<String>) -> Self {
        self.related.push((at, message.into()));
        self
    }
}

/// The findings of a pass, in the order they were found until [`Diagnostics::sort`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    errors: usize,
}

impl Diagnostics {
    /// No findings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            self.errors = self.errors.saturating_add(1);
        }
        self.list.push(diagnostic);
    }

    /// Adds an error.
    pub fn error(&mut self, code: &'static str, path: impl Into<String>, at: At, message: impl Into<String>) {
        self.push(Diagnostic::error(code, at, message).path(path));
    }

    /// Adds a warning.
    pub fn warning(&mut self, code: &'static str, path: impl Into<String>, at: At, message: impl Into<String>) {
        self.push(Diagnostic::warning(code, at, message).path(path));
    }

    /// Adds all findings of another pass.
    pub fn append(&mut self, mut other: Self) {
        self.errors = self.errors.saturating_add(other.errors);
        self.list.append(&mut other.list);
    }

    /// Whether a finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// How many findings there are, warnings included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Puts the findings in the order of their places, and drops exact repetitions.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| (a.at, a.severity, a.code, &a.message).cmp(&(b.at, b.severity, b.code, &b.message)));
        self.list.dedup();
        self.errors = self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    }

    /// All findings as a compiler shows them, each with place, snippet and help, and a last line that counts them.
    #[must_use]
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        render::text(self, sources, color)
    }

    /// All findings for editors and CI: `{"diagnostics": […], "errors": n, "warnings": n}`.
    #[must_use]
    pub fn to_json(&self, sources: &Sources) -> serde_json::Value {
        render::json(self, sources)
    }

    /// Drops the findings that `drop` picks.
    pub(crate) fn remove(&mut self, drop: impl Fn(&Diagnostic) -> bool) {
        self.list.retain(|found| !drop(found));
        self.errors = self.list.iter().filter(|found| found.severity == Severity::Error).count();
    }

    /// Replaces secrets in messages and helps by `…`: what stands in backticks always, what stands within other words as long as
    /// there are not so many findings and secrets that it would take long.
    pub(crate) fn hide(&mut self, secrets: &[String]) {
        let known: HashSet<String> = secrets.iter().map(|secret| crate::tree::clip(secret)).collect();
        let few = self.list.len().saturating_mul(secrets.len()) <= 1_000_000;
        for found in &mut self.list {
            for text in [&mut found.message, &mut found.path].into_iter().chain(&mut found.help) {
                if text.split('`').any(|piece| known.contains(piece)) {
                    let pieces = text.split('`').map(|piece| if known.contains(piece) { "…" } else { piece });
                    *text = pieces.collect::<Vec<_>>().join("`");
                }
                if few {
                    secrets.iter().for_each(|secret| hide(text, secret));
                }
            }
        }
    }
}

fn hide(text: &mut String, secret: &str) {
    if text.contains(secret) {
        *text = text.replace(secret, "…");
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The name among `names` nearest to `typed`, if one is near enough to be a slip: a third of its letters at most.
#[must_use]
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = typed.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = (typed.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for name in names {
        let limit = best.map_or(allowed, |(distance, _)| distance.saturating_sub(1));
        if let Some(distance) = distance(&typed, name, limit)
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap neighbours) between `typed` and `name`, if no more than `limit`.
fn distance(typed: &[char], name: &str, limit: usize) -> Option<usize> {
    if name.chars().take(65).count().abs_diff(typed.len()) > limit.saturating_add(1) {
        return None;
    }
    let name: Vec<char> = name.chars().take(64).flat_map(char::to_lowercase).collect();
    if typed.len().abs_diff(name.len()) > limit {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=name.len()).collect();
    for (row, a) in typed.iter().enumerate() {
        let mut current = Vec::with_capacity(last.len());
        current.push(row + 1);
        for (column, b) in name.iter().enumerate() {
            let cell = |line: &[usize], at: usize| line.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = cell(&last, column) + usize::from(a != b);
            best = best.min(cell(&last, column + 1) + 1).min(cell(&current, column) + 1);
            let swapped = row > 0
                && column > 0
                && typed.get(row - 1) == Some(b)
                && name.get(column - 1) == Some(a)
                && !before_last.is_empty();
            if swapped {
                best = best.min(cell(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_slip_away_or_none() {
        assert_eq!(nearest("order", ["orders", "other"]), Some("orders"));
        assert_eq!(nearest("listner", ["listeners", "listener"]), Some("listener"));
        assert_eq!(nearest("upstraem", ["upstream", "routes"]), Some("upstream"));
        assert_eq!(nearest("zzz", ["orders"]), None);
        assert_eq!(nearest("", ["a"]), Some("a"));
        assert_eq!(nearest("GET", ["get"]), Some("get"));
    }

    #[test]
    fn sorting_orders_by_place_and_drops_repetitions() {
        let mut all = Diagnostics::new();
        all.error(UNKNOWN_KEY, "b", At { line: 2, ..At::default() }, "two");
        all.warning(UNUSED_UPSTREAM, "a", At { line: 1, ..At::default() }, "one");
        all.error(UNKNOWN_KEY, "b", At { line: 2, ..At::default() }, "two");
        all.sort();
        assert_eq!(all.len(), 2);
        assert_eq!(all.error_count(), 1);
        assert_eq!(all.iter().next().unwrap().message, "one");
    }
}
