//! Findings as a terminal and as a program reads them. Hides what [`Sources`] says must not be shown.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::json;

use super::{Diagnostic, Diagnostics, Severity};
use crate::shown::{Shown, is_active};
use crate::tree::{At, Sources};

/// Characters of a source line that a snippet shows.
const WIDTH: usize = 120;
/// Findings that a terminal gets: who has more begins with these.
const SHOWN: usize = 100;
/// Findings that a program gets.
const LISTED: usize = 100_000;

pub(super) fn text(all: &Diagnostics, sources: &Sources, color: bool) -> String {
    let mut page = Page { out: String::new(), lines: Lines::new(sources), color };
    let shown = most_important(all, SHOWN);
    let rest = all.len().saturating_sub(shown.len());
    shown.into_iter().for_each(|found| page.diagnostic(found));
    if rest > 0 {
        let _ = writeln!(page.out, "… and {rest} more, which `--format json` of `daemun check` lists\n");
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
    let listed = most_important(all, LISTED);
    let left_out = all.len().saturating_sub(listed.len());
    let list: Vec<serde_json::Value> = listed
        .into_iter()
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
    let mut page = json!({ "diagnostics": list, "errors": errors, "warnings": all.len().saturating_sub(errors) });
    if let Some(page) = page.as_object_mut().filter(|_| left_out > 0) {
        page.insert("left_out".to_owned(), left_out.into());
    }
    page
}

/// At most `most` findings in their order: warnings only where errors leave room.
fn most_important(all: &Diagnostics, most: usize) -> Vec<&Diagnostic> {
    let mut errors = most;
    let mut warnings = most.saturating_sub(all.error_count());
    let taken = move |found: &&Diagnostic| {
        let left = match found.severity {
            Severity::Error => &mut errors,
            Severity::Warning => &mut warnings,
        };
        let takes = *left > 0;
        *left = left.saturating_sub(1);
        takes
    };
    all.iter().filter(taken).collect()
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
        let message = self.paint("1", &Shown(&found.message).to_string());
        let _ = writeln!(self.out, "{head} {}{separator}{message}", Shown(&found.path));
        self.place("-->", found.at, "^", "");
        for (at, message) in &found.related {
            self.place(":::", *at, "-", message);
        }
        if let Some(help) = &found.help {
            let label = self.paint("1;36", "help");
            let _ = writeln!(self.out, "{label}: {}", Shown(help));
        }
        self.out.push('\n');
    }

    fn place(&mut self, arrow: &str, at: At, mark: &str, message: &str) {
        let message = Shown(message).to_string();
        let Some(path) = self.lines.sources.path(at.file).filter(|_| at.line > 0) else {
            if !message.is_empty() {
                let _ = writeln!(self.out, "  {arrow} {message}");
            }
            return;
        };
        let path = Shown(path.display()).to_string();
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

/// Lines by number, found once per file; what is shown of them, found once per line.
struct Lines<'a> {
    sources: &'a Sources,
    files: HashMap<u16, Vec<&'a str>>,
    masks: HashMap<(u16, u32), Vec<(u32, u32)>>,
    read: HashMap<(u16, u32), Line<'a>>,
}

/// A line that findings stand on, however many.
struct Line<'a> {
    text: &'a str,
    /// Where in the text each [`STRIDE`]th character begins.
    starts: Vec<usize>,
    /// Column ranges that must not be shown, in order and apart.
    hidden: Vec<(u32, u32)>,
}

/// Characters between places that are known in a line.
const STRIDE: u32 = 1024;

impl<'a> Line<'a> {
    fn new(text: &'a str, mut hidden: Vec<(u32, u32)>, unread: bool) -> Self {
        default_ranges(text, &mut hidden);
        if unread {
            long_words(text, &mut hidden);
        }
        hidden.sort_unstable();
        hidden.dedup_by(|next, before| {
            let meets = next.0 <= before.1;
            if meets {
                before.1 = before.1.max(next.1);
            }
            meets
        });
        let starts = text.char_indices().step_by(STRIDE as usize).map(|(start, _)| start).collect();
        Self { text, starts, hidden }
    }

    /// The characters from `first` on, each with its number from 0.
    fn from(&self, first: u32) -> impl Iterator<Item = (u32, char)> {
        let known = self.starts.get((first / STRIDE) as usize).copied().unwrap_or(self.text.len());
        let rest = self.text.get(known..).unwrap_or_default();
        (first / STRIDE * STRIDE..).zip(rest.chars()).skip((first % STRIDE) as usize)
    }

    fn is_hidden(&self, column: u32) -> bool {
        let behind = self.hidden.partition_point(|(from, _)| *from <= column);
        behind.checked_sub(1).and_then(|last| self.hidden.get(last)).is_some_and(|(_, to)| column < *to)
    }
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
        Self { sources, files: HashMap::new(), masks, read: HashMap::new() }
    }

    fn line(&mut self, at: At) -> Option<&Line<'a>> {
        let key = (at.file, at.line);
        if !self.read.contains_key(&key) {
            let text = self.sources.text(at.file)?;
            let lines = self.files.entry(at.file).or_insert_with(|| text.lines().collect());
            let text = *lines.get(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
            let masks = self.masks.remove(&key).unwrap_or_default();
            self.read.insert(key, Line::new(text, masks, self.sources.is_unread()));
        }
        self.read.get(&key)
    }

    /// The line of `at` for showing, secrets hidden, and the columns to mark in it, from 0.
    fn snippet(&mut self, at: At) -> Option<(String, usize, usize)> {
        let line = self.line(at)?;
        let start = at.column.saturating_sub(1);
        let end = if at.end_line == at.line { at.end_column.saturating_sub(1) } else { u32::MAX };
        // A long line is shown from a little before what is marked.
        let first = if start > 90 { start - 60 } else { 0 };
        let mut shown = String::new();
        let (mut width, mut mark_start, mut mark_end) = (0_usize, None, 0_usize);
        if first > 0 {
            shown.push('…');
            width += 1;
        }
        let mut was_hidden = false;
        for (index, char) in line.from(first) {
            if index >= start && mark_start.is_none() {
                mark_start = Some(width);
            }
            let hide = line.is_hidden(index + 1);
            if !hide || !was_hidden {
                let before = shown.len();
                match char {
                    _ if hide => shown.push('…'),
                    '\t' => shown.push(' '),
                    _ if is_active(char) => shown.extend(char.escape_unicode()),
                    _ => shown.push(char),
                }
                let added = shown.get(before..).unwrap_or_default();
                width += added.chars().map(|char| if is_wide(char) { 2 } else { 1 }).sum::<usize>();
            }
            was_hidden = hide;
            if index < end && !char.is_whitespace() {
                mark_end = width;
            }
            if width >= WIDTH {
                shown.push('…');
                break;
            }
        }
        let start = mark_start.unwrap_or(width);
        Some((shown, start, mark_end.max(start)))
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

/// Adds what a credential may be: 16 or more characters in quotes, or without white space, quotes and brackets.
fn long_words(line: &str, hidden: &mut Vec<(u32, u32)>) {
    let mut word = 1_u32;
    let mut quote: Option<(char, u32)> = None;
    for (column, char) in (1_u32..).zip(line.chars().chain(std::iter::once('\n'))) {
        if char.is_whitespace() || "\"'[]{},".contains(char) {
            if column - word >= 16 {
                hidden.push((word, column));
            }
            word = column + 1;
        }
        match quote {
            Some((open, start)) if char == open || char == '\n' => {
                if column - start >= 16 {
                    hidden.push((start, column));
                }
                quote = None;
            }
            None if char == '"' || char == '\'' => quote = Some((char, column + 1)),
            _ => {}
        }
    }
}

/// Whether a terminal shows a character two columns wide.
fn is_wide(char: char) -> bool {
    matches!(u32::from(char),
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f
        | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::BAD_VALUE;
    use std::path::Path;

    /// The snippet of `column..end` in a one-line file.
    fn snippet(line: &str, column: u32, end: u32, unread: bool) -> String {
        let mut sources = Sources::new();
        let file = sources.add(Path::new("a"), line.to_owned()).unwrap();
        if unread {
            sources.mask_unread();
        }
        let mut all = Diagnostics::new();
        all.push(Diagnostic::error(BAD_VALUE, At { file, line: 1, column, end_line: 1, end_column: end }, "x"));
        let text = text(&all, &sources, false);
        text.lines().skip(2).take(2).map(|line| line.split_once("| ").unwrap().1).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn marks_stand_under_wide_characters() {
        assert_eq!(snippet("대문: 문", 5, 6, false), "대문: 문\n      ^^");
    }

    #[test]
    fn what_a_terminal_acts_on_is_escaped_in_names_texts_and_lines() {
        assert_eq!(snippet("a\t\u{1b}[2Jb: \u{202e}c", 8, 9, false), "a \\u{1b}[2Jb: \\u{202e}c\n            ^");
        let mut sources = Sources::new();
        let file = sources.add(Path::new("a\u{1b}\u{202e}\n.yaml"), "x".to_owned()).unwrap();
        let mut all = Diagnostics::new();
        let found = Diagnostic::error(BAD_VALUE, At::file(file), "m\u{9b}").path("p\u{1b}").help("h\u{200f}");
        all.push(found.related(At::file(file), "r\u{7}"));
        let text = text(&all, &sources, false);
        assert!(!text.contains(|char| char != '\n' && is_active(char)), "{text:?}");
        assert!(text.contains("--> a\\u{1b}\\u{202e}\\u{a}.yaml:1:1\n"), "{text}");
    }

    #[test]
    fn a_long_line_is_cut_round_what_is_marked() {
        let line = format!("{}bad{}", "a".repeat(1000), "b".repeat(1000));
        let shown = snippet(&line, 1001, 1004, false);
        let (text, marks) = shown.split_once('\n').unwrap();
        assert!(text.chars().count() <= WIDTH + 1 && text.starts_with("…aaa") && text.ends_with('…'));
        let start = marks.find('^').unwrap();
        assert_eq!(text.chars().skip(start).take(3).collect::<String>(), "bad");
        assert_eq!(marks.trim(), "^^^");
    }

    #[test]
    fn many_findings_on_one_line_are_counted_and_the_first_are_shown_errors_before_warnings() {
        let mut sources = Sources::new();
        let text = "a: ${env:B:-secret}, 문 ".repeat(30_000);
        let file = sources.add(Path::new("a"), text).unwrap();
        let mut all = Diagnostics::new();
        for column in (1..=600_000).step_by(20) {
            let at = At { file, line: 1, column, end_line: 1, end_column: column + 1 };
            sources.mask(At { column: column + 3, end_column: column + 4, ..at });
            all.push(if column > 300_000 {
                Diagnostic::error(BAD_VALUE, at, "x")
            } else {
                Diagnostic::warning(BAD_VALUE, at, "y")
            });
        }
        let mut page = Page { out: String::new(), lines: Lines::new(&sources), color: false };
        all.iter().for_each(|found| page.diagnostic(found));
        assert_eq!(page.lines.read.len(), 1);
        assert!(!page.out.contains("secret"));
        let text = text_of(&all, &sources);
        assert_eq!((text.matches("error[").count(), text.matches("warning[").count()), (100, 0));
        assert!(text.ends_with(
            "… and 29900 more, which `--format json` of `daemun check` lists\n\n15000 errors, 15000 warnings\n"
        ));
        let json = all.to_json(&sources);
        assert_eq!(json["diagnostics"].as_array().unwrap().len(), 30_000);
        assert!(json.get("left_out").is_none());
        let few = most_important(&all, 15_001);
        assert_eq!((few[0].message.as_str(), few[1].message.as_str(), few.len()), ("y", "x", 15_001));
    }

    fn text_of(all: &Diagnostics, sources: &Sources) -> String {
        text(all, sources, false)
    }

    #[test]
    fn defaults_of_references_are_hidden() {
        assert_eq!(snippet("a: ${env:B:-secret} ${env:C:-}", 1, 2, false), "a: ${env:B:-…} ${env:C:-}\n^");
        assert_eq!(snippet("a: ${env:B:-secret", 1, 2, false), "a: ${env:B:-…\n^");
    }

    #[test]
    fn what_may_be_a_credential_is_hidden_where_the_text_was_not_understood() {
        assert_eq!(snippet("keys: [p@ss!word#12345678, 'a key with spaces'", 1, 5, true), "keys: […, '…'\n^^^^");
        assert_eq!(snippet("path: /short", 1, 5, true), "path: /short\n^^^^");
    }
}
