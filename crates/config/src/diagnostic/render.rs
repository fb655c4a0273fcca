//! Findings as a terminal and as a program reads them. Hides what [`Sources`] says must not be shown.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::json;

use super::{Diagnostic, Diagnostics, Severity};
use crate::tree::{At, Sources};

/// Characters of a source line that a snippet shows.
const WIDTH: usize = 120;

pub(super) fn text(all: &Diagnostics, sources: &Sources, color: bool) -> String {
    let mut page = Page { out: String::new(), lines: Lines::new(sources), color };
    for diagnostic in all {
        page.diagnostic(diagnostic);
    }
    page.summary(all);
    page.out
}

pub(super) fn json(all: &Diagnostics, sources: &Sources) -> serde_json::Value {
    let place = |at: &At| {
        let file = sources.path(at.file).map(|path| path.display().to_string());
        json!({
            "file": file, "line": at.line, "column": at.column, "end_line": at.end_line, "end_column": at.end_column,
        })
    };
    let list: Vec<serde_json::Value> = all
        .iter()
        .map(|found| {
            let related: Vec<serde_json::Value> =
                found.related.iter().map(|(at, message)| json!({ "at": place(at), "message": message })).collect();
            json!({
                "severity": found.severity.as_str(),
                "code": found.code,
                "path": found.path,
                "at": place(&found.at),
                "message": found.message,
                "help": found.help,
                "related": related,
            })
        })
        .collect();
    let errors = all.error_count();
    json!({ "diagnostics": list, "errors": errors, "warnings": all.len().saturating_sub(errors) })
}

struct Page<'a> {
    out: String,
    lines: Lines<'a>,
    color: bool,
}

impl Page<'_> {
    fn diagnostic(&mut self, found: &Diagnostic) {
        let paint = match found.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        };
        let head = format!("{}[{}]", found.severity.as_str(), found.code);
        let head = self.paint(paint, &head);
        let separator = if found.path.is_empty() { "" } else { ": " };
        let message = self.paint("1", &found.message);
        let _ = writeln!(self.out, "{head} {}{separator}{message}", found.path);
        self.place("-->", found.at, "^", "");
        for (at, message) in &found.related {
            self.place(":::", *at, "-", message);
        }
        if let Some(help) = &found.help {
            let label = self.paint("1;36", "help");
            let _ = writeln!(self.out, "{label}: {help}");
        }
        self.out.push('\n');
    }

    fn place(&mut self, arrow: &str, at: At, mark: &str, message: &str) {
        let Some(path) = self.lines.sources.path(at.file).filter(|_| at.line > 0) else {
            if !message.is_empty() {
                let _ = writeln!(self.out, "  {arrow} {message}");
            }
            return;
        };
        let path = path.display().to_string();
        let arrow = self.paint("34", arrow);
        let _ = writeln!(self.out, "  {arrow} {path}:{}:{}", at.line, at.column);
        let Some((line, start, end)) = self.lines.snippet(at) else { return };
        let number = at.line.to_string();
        let margin = " ".repeat(number.len());
        let marks = mark.repeat(end.saturating_sub(start).max(1));
        let marks = self.paint(if mark == "^" { "1;31" } else { "34" }, &marks);
        let gap = if message.is_empty() { "" } else { " " };
        let _ = writeln!(self.out, "{number} | {line}");
        let _ = writeln!(self.out, "{margin} | {}{marks}{gap}{message}", " ".repeat(start));
    }

    fn summary(&mut self, all: &Diagnostics) {
        let errors = all.error_count();
        let warnings = all.len().saturating_sub(errors);
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let _ = match (errors, warnings) {
            (0, 0) => Ok(()),
            (_, 0) => writeln!(self.out, "{}", count(errors, "error")),
            (0, _) => writeln!(self.out, "{}", count(warnings, "warning")),
            _ => writeln!(self.out, "{}, {}", count(errors, "error"), count(warnings, "warning")),
        };
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Lines by number, found once per file.
struct Lines<'a> {
    sources: &'a Sources,
    files: HashMap<u16, Vec<&'a str>>,
    masks: HashMap<(u16, u32), Vec<(u32, u32)>>,
}

impl<'a> Lines<'a> {
    fn new(sources: &'a Sources) -> Self {
        let mut masks: HashMap<(u16, u32), Vec<(u32, u32)>> = HashMap::new();
        for at in sources.masked() {
            for line in at.line..=at.end_line {
                let from = if line == at.line { at.column } else { 1 };
                let to = if line == at.end_line { at.end_column } else { u32::MAX };
                masks.entry((at.file, line)).or_default().push((from, to));
            }
        }
        Self { sources, files: HashMap::new(), masks }
    }

    /// The line of `at` for showing, secrets hidden, and the columns to mark in it, from 0.
    fn snippet(&mut self, at: At) -> Option<(String, usize, usize)> {
        let text = self.sources.text(at.file)?;
        let lines = self.files.entry(at.file).or_insert_with(|| text.lines().collect());
        let line = *lines.get(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
        let hidden = self.hidden(at, line);
        let start = at.column.saturating_sub(1);
        let end = if at.end_line == at.line { at.end_column.saturating_sub(1) } else { u32::MAX };
        let first = start.saturating_sub(60).min(start);
        let mut shown = String::new();
        let (mut width, mut mark_start, mut mark_end) = (0_usize, None, 0_usize);
        let mut was_hidden = false;
        for (index, char) in (0_u32..).zip(line.chars()) {
            if index < first {
                continue;
            }
            if index >= start && mark_start.is_none() {
                mark_start = Some(width);
            }
            let hide = hidden.iter().any(|(from, to)| (*from..*to).contains(&(index + 1)));
            if hide && !was_hidden {
                shown.push('…');
                width += 1;
            } else if !hide {
                shown.push(if char.is_control() { ' ' } else { char });
                width += 1;
            }
            was_hidden = hide;
            if index < end {
                mark_end = width;
            }
            if width >= WIDTH {
                break;
            }
        }
        let start = mark_start.unwrap_or(width);
        Some((shown, start, mark_end.max(start)))
    }

    /// Column ranges of a line that must not be shown.
    fn hidden(&self, at: At, line: &str) -> Vec<(u32, u32)> {
        let mut hidden = self.masks.get(&(at.file, at.line)).cloned().unwrap_or_default();
        default_ranges(line, &mut hidden);
        if self.sources.is_unread() {
            long_words(line, &mut hidden);
        }
        hidden
    }
}

/// Adds the default of each `${…:-default}` reference.
fn default_ranges(line: &str, hidden: &mut Vec<(u32, u32)>) {
    let mut inside = false;
    let mut from = None;
    let mut last = ' ';
    let mut before_last = ' ';
    for (column, char) in (1_u32..).zip(line.chars()) {
        match (last, char) {
            ('$', '{') => inside = true,
            (_, '}') => {
                if let Some(from) = from.take() {
                    hidden.push((from, column));
                }
                inside = false;
            }
            _ if inside && from.is_none() && before_last == ':' && last == '-' => from = Some(column),
            _ => {}
        }
        before_last = last;
        last = char;
    }
    if let Some(from) = from {
        hidden.push((from, u32::MAX));
    }
}

/// Adds each run of 16 or more characters that a credential may consist of.
fn long_words(line: &str, hidden: &mut Vec<(u32, u32)>) {
    let mut start = 1_u32;
    let mut column = 1_u32;
    for char in line.chars().chain(std::iter::once(' ')) {
        if !(char.is_ascii_alphanumeric() || "_-+/=.~".contains(char)) {
            if column - start >= 16 {
                hidden.push((start, column));
            }
            start = column + 1;
        }
        column += 1;
    }
}
