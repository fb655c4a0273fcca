//! Text with `${…}` in it: what stands between the braces is an expression. Knows no setting.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

use cel::common::ast::IdedExpr;
use daemun_config::decode::expression_end;

use super::check::{Kind, Tables, literal_text};
use super::facts::{Facts, Slot, Source};
use super::program::{Program, text_of};
use super::{ExpressionError, Scope, Stop, compile, malformed, native, too_costly};
use crate::exchange::Exchange;
use crate::fault::Fault;

/// Bytes of a text with expressions.
const MOST_TEXT: usize = 16_384;

/// A compiled text. Two are equal when they were written the same.
#[derive(Debug)]
pub struct Text {
    text: Box<str>,
    pieces: Box<[Piece]>,
    needs_body: bool,
    names_params: bool,
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.text == other.text
    }
}

impl Eq for Text {}

#[derive(Debug)]
enum Piece {
    Literal(Box<str>),
    /// What an expression gives that is a text written out.
    Constant(Box<str>),
    Source(Source),
    /// The status of the answer: what logs and answers ask for most, without the interpreter.
    Status,
    Program(Box<Program>, Arc<Tables>),
}

/// How the text that an expression gives is put in.
type Put<'a> = dyn FnMut(&[u8], &mut Vec<u8>) + 'a;

impl Text {
    /// Reads a text. A `$` that no `{` follows is one; `${"$"}` is one anywhere.
    ///
    /// # Errors
    /// The first thing that is wrong; its place is that in the whole text.
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Text, ExpressionError> {
        if text.len() > MOST_TEXT && text.contains("${") {
            let message = format!("a text with expressions has at most {MOST_TEXT} bytes, this one has {}", text.len());
            return Err(ExpressionError::new(text, 0, message));
        }
        let (mut pieces, mut needs_body, mut names_params) = (Vec::new(), false, false);
        let mut at = 0;
        while let Some(found) = text.get(at..).and_then(|rest| rest.find("${")) {
            let start = at + found + 2;
            let Some(length) = text.get(start..).and_then(expression_end) else {
                return Err(ExpressionError::new(text, start - 2, "`${` has no closing `}`"));
            };
            push_literal(&mut pieces, text.get(at..start - 2).unwrap_or_default());
            let expression = text.get(start..start + length).unwrap_or_default();
            let (piece, (body, params)) = piece(expression, scope).map_err(|error| {
                let mut moved = ExpressionError::new(text, start + error.offset, error.message);
                moved.help = error.help;
                moved
            })?;
            pieces.push(piece);
            needs_body |= body;
            names_params |= params;
            at = start + length + 1;
        }
        push_literal(&mut pieces, text.get(at..).unwrap_or_default());
        Ok(Text { text: text.into(), pieces: pieces.into(), needs_body, names_params })
    }

    /// Reads one expression, as it stands between the braces.
    ///
    /// # Errors
    /// As [`Text::parse`].
    pub fn expression(text: &str, scope: &Scope<'_>) -> Result<Text, ExpressionError> {
        let (piece, (needs_body, names_params)) = piece(text, scope)?;
        Ok(Text { text: text.into(), pieces: Box::new([piece]), needs_body, names_params })
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Appends the text. An expression to which something is not what it needs gives none.
    ///
    /// # Errors
    /// When an expression would cost more than it may.
    pub fn push(&self, exchange: &Exchange, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.put(exchange, out, &mut |value, out| out.extend_from_slice(value))
    }

    /// The same, with each value passed through `put` on its way; what is written out is not.
    ///
    /// # Errors
    /// As [`Text::push`].
    pub fn put(&self, exchange: &Exchange, out: &mut Vec<u8>, put: &mut Put<'_>) -> Result<(), Fault> {
        let facts = Facts::of(exchange);
        self.pieces.iter().try_for_each(|piece| piece.put(&facts, out, put))
    }

    /// The text, where it holds no expression.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The same, with all of it passed through `put`.
    ///
    /// # Errors
    /// As [`Text::push`].
    pub fn put_all(&self, exchange: &Exchange, out: &mut Vec<u8>, put: &mut Put<'_>) -> Result<(), Fault> {
        let facts = Facts::of(exchange);
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => {
                put(text.as_bytes(), out);
                Ok(())
            }
            Piece::Constant(_) | Piece::Source(_) | Piece::Status | Piece::Program(..) => piece.put(&facts, out, put),
        })
    }

    /// The text of an exchange. Allocates nothing where it is there as it stands.
    ///
    /// # Errors
    /// As [`Text::push`].
    pub fn value<'a>(&self, exchange: &'a Exchange) -> Result<Cow<'a, [u8]>, Fault> {
        if let [Piece::Source(source)] = &*self.pieces {
            return Ok(source.read(&Facts::of(exchange)).unwrap_or_default());
        }
        let mut out = Vec::new();
        self.push(exchange, &mut out)?;
        Ok(Cow::Owned(out))
    }

    /// Whether an expression needs the names of the path parameters in the exchange, because it was read for any route.
    #[must_use]
    pub fn names_params(&self) -> bool {
        self.names_params
    }

    /// Whether an expression speaks of the request's body.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        self.needs_body
    }
}

impl Piece {
    fn put(&self, facts: &Facts<'_>, out: &mut Vec<u8>, put: &mut Put<'_>) -> Result<(), Fault> {
        match self {
            Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Constant(text) => put(text.as_bytes(), out),
            Piece::Source(source) => {
                if let Ok(text) = source.read(facts) {
                    put(&text, out);
                }
            }
            Piece::Status => {
                let mut digits = [0; 5];
                let mut rest = digits.as_mut_slice();
                let _ = write!(rest, "{}", facts.exchange.response.status);
                let length = 5 - rest.len();
                put(digits.get(..length).unwrap_or_default(), out);
            }
            Piece::Program(program, tables) => match program.run(facts, tables) {
                Ok(value) => {
                    if let Ok(text) = text_of(&value) {
                        put(text.as_bytes(), out);
                    }
                }
                Err(Stop::Error(_)) => {}
                Err(Stop::Cost) => return Err(too_costly()),
                Err(Stop::Malformed) => return Err(malformed()),
            },
        }
        Ok(())
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Literal(text.into()));
    }
}

/// A piece, and whether it needs the body and the names of parameters.
fn piece(text: &str, scope: &Scope<'_>) -> Result<(Piece, (bool, bool)), ExpressionError> {
    let (tree, kind, tables): (IdedExpr, Kind, Tables) = compile(text, scope)?;
    if matches!(kind, Kind::List(_) | Kind::Map(_) | Kind::Bytes | Kind::Null) {
        return Err(ExpressionError::new(text, 0, format!("{} is no text", kind.name())));
    }
    let needs = (tables.slots.contains(&Slot::Body), scope.any_params && tables.slots.iter().any(Slot::names_params));
    let piece = match (literal_text(&tree), native::slot(&tree, &tables)) {
        (Some(text), _) => Piece::Constant(text.into()),
        (None, Some(Slot::Text(source))) => Piece::Source(source.clone()),
        (None, Some(Slot::Status)) => Piece::Status,
        (None, _) => Piece::Program(Box::new(Program::new(tree)), Arc::new(tables)),
    };
    Ok((piece, needs))
}

/// Appends a value so that it is one segment of a path, or a part of one: whatever could end a segment, or be read as another, is encoded. A
/// value that is only dots is encoded too, though what stands beside it may join it.
pub fn encode_segment(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-_~.!$&'()*+,=:@".contains(&byte) {
            out.push(byte);
        } else {
            let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}
