//! Text that others wrote, on its way to a terminal: what would move the cursor, colour, hide or reorder is escaped.

use std::fmt::{self, Write as _};

/// A text as a terminal may get it: control characters (line ends too), those that reorder or end lines, and those that take no room
/// become `\u{…}`.
#[derive(Clone, Copy, Debug)]
pub struct Shown<T>(pub T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, char) in text.char_indices().filter(|(_, char)| is_active(*char)) {
            self.0.write_str(text.get(plain..at).unwrap_or_default())?;
            write!(self.0, "{}", char.escape_unicode())?;
            plain = at + char.len_utf8();
        }
        self.0.write_str(text.get(plain..).unwrap_or_default())
    }
}

/// Whether a terminal does something else with a character than show it.
#[must_use]
pub fn is_active(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped_and_all_else_stays() {
        let plain = "a b, 대문 `x` é 🚪";
        assert_eq!(Shown(plain).to_string(), plain);
        let active = "a\u{1b}[31m\n\r\t\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200b}\u{feff}b";
        let shown = "a\\u{1b}[31m\\u{a}\\u{d}\\u{9}\\u{7f}\\u{9b}2J\\u{202e}\\u{2066}\\u{200b}\\u{feff}b";
        assert_eq!(Shown(active).to_string(), shown);
    }
}
