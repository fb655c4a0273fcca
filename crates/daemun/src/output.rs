//! Where results and diagnostics go: standard output and error, or buffers in tests.

use std::io::{self, IsTerminal, Write};

use daemun_config::{Shown, is_active};

/// The two ways out of a command, and whether people look at them.
pub struct Output<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Diagnostics and progress.
    pub err: &'a mut (dyn Write + Send),
    /// Whether diagnostics are coloured.
    pub color: bool,
}

impl Output<'_> {
    /// Writes a result for people: one line, or some.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", lines(text.as_ref()))?;
        self.out.flush()
    }

    /// Writes a result for programs.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        // what a terminal acts on stands within texts only, where JSON has an escape for it
        let mut text = String::new();
        for char in format!("{value:#}").chars() {
            if char != '\n' && is_active(char) {
                char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
            } else {
                text.push(char);
            }
        }
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Writes progress or a diagnostic: one line, or some. What cannot be written is lost: there is nowhere to say so.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.err, "{}", lines(text.as_ref()));
    }

    /// Writes findings, which are escaped and coloured already.
    pub(crate) fn findings(&mut self, report: &str) {
        let _ = writeln!(self.err, "{}", report.trim_end());
    }
}

/// The lines of a text, escaped where a terminal would act on them.
fn lines(text: &str) -> String {
    text.split('\n').map(|line| Shown(line).to_string()).collect::<Vec<_>>().join("\n")
}

/// Whether standard error is a terminal that wants colours (`NO_COLOR` refuses them).
pub(crate) fn wants_color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A number and what it counts: `1 route`, `2 routes`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
