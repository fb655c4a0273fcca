//! JSON as RFC 8259 has it, tabs and all, with positions.

use super::build::{Builder, Stopped};
use crate::diagnostic::{Diagnostics, SYNTAX};
use crate::tree::{At, Node, Text, Value};

/// Reads a text; what is wrong with it is reported. `None` when there is no tree.
pub(super) fn parse(text: &str, file: u16, diagnostics: &mut Diagnostics) -> Option<Node> {
    let mut reader = Reader { file, rest: text, line: 1, column: 1, builder: Builder::new(diagnostics) };
    reader.document().ok()?;
    reader.builder.finish()
}

/// What may come next inside a list or mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// A value, or the closing bracket of a list just opened.
    FirstItem,
    /// A value.
    Item,
    /// A key, or the closing bracket of a mapping just opened.
    FirstKey,
    /// A key.
    Key,
    /// A comma or the closing bracket.
    Comma,
}

struct Reader<'a> {
    file: u16,
    rest: &'a str,
    line: u32,
    column: u32,
    builder: Builder<'a>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<(), Stopped> {
        // The closing brackets that are still to come.
        let mut open: Vec<char> = Vec::new();
        let mut expect = Expect::Item;
        loop {
            self.space();
            let start = self.here();
            match (expect, self.peek()) {
                (Expect::FirstItem, Some(']')) | (Expect::FirstKey, Some('}')) => self.close(&mut open),
                (Expect::Item | Expect::FirstItem, _) => {
                    if let Some(closing) = self.value(start)? {
                        open.push(closing);
                        expect = if closing == ']' { Expect::FirstItem } else { Expect::FirstKey };
                        continue;
                    }
                }
                (Expect::Key | Expect::FirstKey, Some('"')) => {
                    self.key(start)?;
                    expect = Expect::Item;
                    continue;
                }
                (Expect::Key | Expect::FirstKey, _) => return Err(self.expected("a key in double quotes")),
                (Expect::Comma, Some(',')) => {
                    self.take();
                    expect = if open.last() == Some(&']') { Expect::Item } else { Expect::Key };
                    continue;
                }
                (Expect::Comma, next) if next.is_some() && next == open.last().copied() => self.close(&mut open),
                (Expect::Comma, _) => {
                    let closing = open.last().copied().unwrap_or(']');
                    return Err(self.expected(&format!("`,` or `{closing}`")));
                }
            }
            if open.is_empty() {
                break;
            }
            expect = Expect::Comma;
        }
        self.space();
        if self.peek().is_some() { Err(self.expected("the end of the file")) } else { Ok(()) }
    }

    fn close(&mut self, open: &mut Vec<char>) {
        self.take();
        open.pop();
        self.builder.close(Some((self.line, self.column)), |_| {});
    }

    fn key(&mut self, start: (u32, u32)) -> Result<(), Stopped> {
        let key = self.string(start)?;
        let at = self.at(start);
        self.builder.key(key, at);
        self.space();
        if self.take_if(':') { Ok(()) } else { Err(self.expected("`:` behind the key")) }
    }

    /// Reads a scalar, or opens a list or mapping and gives its closing bracket.
    fn value(&mut self, start: (u32, u32)) -> Result<Option<char>, Stopped> {
        let value = match self.peek() {
            Some('{') => {
                self.take();
                let at = self.at(start);
                self.builder.open_map(at)?;
                return Ok(Some('}'));
            }
            Some('[') => {
                self.take();
                let at = self.at(start);
                self.builder.open_seq(at)?;
                return Ok(Some(']'));
            }
            Some('"') => {
                let text = self.string(start)?;
                Value::String(Text { text, quoted: true, reference: false, secret: false, template: None })
            }
            Some(char) if char == '-' || char.is_ascii_digit() => self.number()?,
            Some(char) if char.is_ascii_alphabetic() => self.word()?,
            _ => return Err(self.expected("a value")),
        };
        let at = self.at(start);
        self.builder.value(Node { at, value });
        Ok(None)
    }

    fn word(&mut self) -> Result<Value, Stopped> {
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if self.rest.starts_with(word) {
                self.skip(word.len());
                return Ok(value);
            }
        }
        Err(self.expected("a value (texts stand in double quotes)"))
    }

    fn number(&mut self) -> Result<Value, Stopped> {
        let length = self.rest.bytes().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count();
        let text = self.rest.get(..length).unwrap_or_default();
        if !is_number(text) {
            return Err(self.expected("a number"));
        }
        let value = Value::Number(text.into());
        self.skip(length);
        Ok(value)
    }

    fn string(&mut self, start: (u32, u32)) -> Result<String, Stopped> {
        self.take();
        let mut text = String::new();
        loop {
            let plain = self.rest.find(['"', '\\']).unwrap_or(self.rest.len());
            let (run, rest) = self.rest.split_at_checked(plain).unwrap_or((self.rest, ""));
            if let Some(control) = run.find(|char: char| char < ' ') {
                self.advance(control);
                return Err(
                    self.expected("`\"` at the end of the text; control characters are written `\\n`, `\\u0000`")
                );
            }
            text.push_str(run);
            self.column = self.column.saturating_add(u32::try_from(run.chars().count()).unwrap_or(u32::MAX));
            self.rest = rest;
            match self.take() {
                Some('"') => return Ok(text),
                Some(_) => text.push(self.escape()?),
                None => {
                    let at = self.at(start);
                    return Err(self.builder.stop(SYNTAX, at, "this is not JSON: the text has no closing `\"`"));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stopped> {
        let char = match self.peek() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(char @ ('"' | '\\' | '/')) => char,
            Some('u') => {
                self.take();
                return self.unicode();
            }
            _ => return Err(self.expected("an escape like `\\n`, `\\\"` or `\\u00e9`")),
        };
        self.take();
        Ok(char)
    }

    /// The four digits behind `\u`, and the second half of a surrogate pair.
    fn unicode(&mut self) -> Result<char, Stopped> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.rest.starts_with("\\u") {
            self.skip(2);
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(code).ok_or_else(|| self.expected("a character"));
            }
        }
        char::from_u32(first).ok_or_else(|| self.expected("both halves of a surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32, Stopped> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.skip(4);
                Ok(code)
            }
            None => Err(self.expected("four hexadecimal digits")),
        }
    }

    fn expected(&mut self, what: &str) -> Stopped {
        let found = match self.peek() {
            Some(char) if char.is_control() => format!("`{}`", char.escape_default()),
            Some(char) => format!("`{char}`"),
            None => "the end of the file".to_owned(),
        };
        let (line, column) = self.here();
        let at = At { file: self.file, line, column, end_line: line, end_column: column.saturating_add(1) };
        self.builder.stop(SYNTAX, at, format!("this is not JSON: expected {what}, found {found}"))
    }

    fn space(&mut self) {
        let length = self.rest.bytes().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.advance(length);
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.advance(char.len_utf8());
        Some(char)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.take();
        }
        there
    }

    /// Skips ASCII bytes that hold no line break.
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        self.column = self.column.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Moves on, counting lines and columns.
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for char in passed.chars() {
            if char == '\n' {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            } else {
                self.column = self.column.saturating_add(1);
            }
        }
        self.rest = rest;
    }

    fn here(&self) -> (u32, u32) {
        (self.line, self.column)
    }

    fn at(&self, (line, column): (u32, u32)) -> At {
        At { file: self.file, line, column, end_line: self.line, end_column: self.column }
    }
}

/// JSON's number grammar.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}
