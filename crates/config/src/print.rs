//! Prints a tree as YAML in one canonical form: reading it again gives the same tree. Knows no key of the language.

use std::fmt::Write as _;

use crate::diagnostic::Diagnostics;
use crate::parse::{Format, parse};
use crate::tree::{Node, Text, Value};

/// How a tree is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrintOptions {
    /// Secrets are printed as `…`; what is printed is for reading then, not for loading.
    pub hide_secrets: bool,
    /// Dollars are doubled: for a tree whose references have been replaced and that is to be loaded again.
    pub escape_dollars: bool,
}

/// The tree as YAML.
#[must_use]
pub fn print(node: &Node, options: PrintOptions) -> String {
    let mut printer = Printer { out: String::new(), options };
    match &node.value {
        Value::Seq(items) if !items.is_empty() => printer.items(items, 0),
        Value::Map(entries) if !entries.is_empty() => printer.entries(entries, 0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
            printer.scalar(node);
            printer.out.push('\n');
        }
    }
    printer.out
}

/// What fuzzing holds against the readers and the printer: a text that can be read gives the same tree when it is printed and read
/// again, and prints the same then.
///
/// # Errors
/// What differs.
pub fn check_round_trip(text: &str, format: Format) -> Result<(), String> {
    let mut diagnostics = Diagnostics::new();
    let Some(tree) = parse(text, format, 0, &mut diagnostics).filter(|_| !diagnostics.has_errors()) else {
        return Ok(());
    };
    let printed = print(&tree, PrintOptions::default());
    let again = parse(&printed, Format::Yaml, 0, &mut diagnostics).filter(|_| !diagnostics.has_errors());
    match again {
        None => Err(format!("what was printed cannot be read: {printed:?}")),
        Some(again) if !again.same(&tree) => Err(format!("what was printed is read differently: {printed:?}")),
        Some(again) if print(&again, PrintOptions::default()) != printed => {
            Err(format!("printing differs: {printed:?}"))
        }
        Some(_) => Ok(()),
    }
}

/// Longest key that YAML lets stand on one line with its colon, with room to spare.
const LONGEST_KEY: usize = 900;

struct Printer {
    out: String,
    options: PrintOptions,
}

impl Printer {
    /// The items of a list, each line at `indent`; the first begins where the cursor is.
    fn items(&mut self, items: &[Node], indent: usize) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.indent(indent);
            }
            self.out.push_str("- ");
            self.nested(item, indent + 2);
        }
    }

    /// The entries of a mapping, each line at `indent`; the first begins where the cursor is.
    fn entries(&mut self, entries: &[crate::tree::Entry], indent: usize) {
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 {
                self.indent(indent);
            }
            let start = self.out.len();
            self.text(&entry.key);
            if self.out.len() - start > LONGEST_KEY {
                self.out.insert_str(start, "? ");
                self.out.push('\n');
                self.indent(indent);
            }
            self.out.push(':');
            match &entry.value.value {
                Value::Seq(items) if !items.is_empty() => {
                    self.line(indent + 2);
                    self.items(items, indent + 2);
                }
                Value::Map(entries) if !entries.is_empty() => {
                    self.line(indent + 2);
                    self.entries(entries, indent + 2);
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
                    self.out.push(' ');
                    self.scalar(&entry.value);
                    self.out.push('\n');
                }
            }
        }
    }

    /// An item of a list, its further lines at `indent`.
    fn nested(&mut self, node: &Node, indent: usize) {
        match &node.value {
            Value::Seq(items) if !items.is_empty() => self.items(items, indent),
            Value::Map(entries) if !entries.is_empty() => self.entries(entries, indent),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
                self.scalar(node);
                self.out.push('\n');
            }
        }
    }

    fn scalar(&mut self, node: &Node) {
        match &node.value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(value) => {
                let _ = write!(self.out, "{value}");
            }
            Value::Number(text) => self.out.push_str(text),
            Value::String(Text { secret: true, .. }) if self.options.hide_secrets => self.out.push_str("\"…\""),
            Value::String(text) if self.options.escape_dollars => self.text(&text.text.replace('$', "$$")),
            Value::String(text) => self.text(&text.text),
            Value::Seq(_) => self.out.push_str("[]"),
            Value::Map(_) => self.out.push_str("{}"),
        }
    }

    /// A text, quoted where it would be read as something else.
    fn text(&mut self, text: &str) {
        if is_plain(text) {
            self.out.push_str(text);
            return;
        }
        self.out.push('"');
        for char in text.chars() {
            match char {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\t' => self.out.push_str("\\t"),
                '\r' => self.out.push_str("\\r"),
                // What YAML does not count as printable, or reads as a line break.
                _ if char.is_control()
                    || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
                {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(char));
                }
                _ => self.out.push(char),
            }
        }
        self.out.push('"');
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.indent(indent);
    }

    fn indent(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }
}

/// Whether a text means itself without quotes, whatever stands round it.
fn is_plain(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|char| char.is_ascii_alphanumeric() || char == '/');
    let rest = text.chars().all(|char| char.is_ascii_alphanumeric() || "_-./".contains(char));
    let is_text = matches!(crate::parse::plain(text), Value::String(_));
    first && rest && is_text && !matches!(text, "yes" | "no" | "on" | "y" | "n")
}
