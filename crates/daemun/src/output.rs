//! Where results and diagnostics go: standard output and error, or buffers in tests.

use std::io::{self, IsTerminal, Write};

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
    /// Writes one line of a result.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", text.as_ref())?;
        self.out.flush()
    }

    /// Writes one line of progress or a diagnostic. One that cannot be written is lost: there is nowhere to say so.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.err, "{}", text.as_ref());
    }
}

/// Whether standard error is a terminal that wants colours (`NO_COLOR` refuses them).
pub(crate) fn wants_color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A number and what it counts: `1 route`, `2 routes`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
