//! Conditions and values that the configuration computes from an exchange, in the Common Expression Language. Reading and general evaluation
//! are the `cel` crate's; what stands here is which names there are, what is refused, what it may cost, and the short way for common forms.
//! Knows no setting and no socket.

mod body;
mod claims;
#[allow(clippy::wildcard_enum_match_arm, reason = "each place speaks of a few forms of a language of many")]
mod check;
mod cost;
mod facts;
mod functions;
#[allow(clippy::wildcard_enum_match_arm, reason = "each place speaks of a few forms of a language of many")]
mod native;
#[allow(clippy::wildcard_enum_match_arm, reason = "each place speaks of a few forms of a language of many")]
mod program;
mod read;
mod text;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "only a few kinds of condition hold others")]
mod tests;

use std::fmt;
use std::sync::Arc;

use crate::bounded::{Bounded, Budget};
use crate::exchange::Exchange;
use crate::fault::{Fault, Reason};
use check::{Checker, Kind, Tables};
use facts::{Facts, Slot};
use native::Test;

pub use body::{ReadBody, has_json, is_json};
pub use facts::Place;
pub use text::{Text, encode_segment};

/// What an expression may speak of where it stands, beside the request's head and the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// Names of the path parameters of the route, by index of [`Exchange::params`].
    pub params: &'a [String],
    /// The parameters of whichever route an exchange took, by their names in [`Exchange::param_names`]; `params` is then empty.
    pub any_params: bool,
    /// Who calls: where authenticators have run.
    pub consumer: bool,
    /// The answer.
    pub answer: bool,
    /// The request's body.
    pub body: bool,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// What is wrong.
    pub message: String,
    /// Byte of the text at which it is wrong.
    pub offset: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What would be right.
    pub help: Option<String>,
}

impl ExpressionError {
    fn new(text: &str, offset: usize, message: impl Into<String>) -> ExpressionError {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ExpressionError { message: message.into(), offset, line, column, help: None }
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {}:{} of the expression)", self.message, self.line, self.column)
    }
}

/// Why an evaluation came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    /// It would have cost more than it may.
    Cost,
    /// The body says that it is JSON, but not everyone would read it alike.
    Malformed,
    /// Something was not what the expression needs, such as a field that a body has not.
    Error(String),
}

fn malformed() -> Fault {
    Fault::new(Reason::InvalidRequest, "the body is not JSON that can be read in one way only")
}

/// What a request fails with that holds more than an expression goes through.
#[must_use]
pub fn too_costly() -> Fault {
    Fault::new(Reason::ExpressionCost, "the request holds more than an expression of the configuration goes through")
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Expression(Arc<Condition>);

#[derive(Debug)]
struct Condition {
    text: Box<str>,
    test: Test,
    tables: Arc<Tables>,
    needs_params: bool,
}

/// Two are equal when their texts are.
impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expression {}

/// A tree that means something, and its tables.
fn compile(text: &str, scope: &Scope<'_>) -> Result<(cel::common::ast::IdedExpr, Kind, Tables), ExpressionError> {
    let mut parsed = read::parse(text, program::env())?;
    let mut checker = Checker::new(scope);
    match checker.check(&mut parsed.tree) {
        Ok(kind) => {
            Bounded::share(&mut checker.tables.regexes);
            Ok((parsed.tree, kind, checker.tables))
        }
        Err(wrong) => {
            let place = parsed.places.offset_for(wrong.node).map_or(0, |(start, _)| start as usize);
            let mut error = ExpressionError::new(text, place, wrong.message);
            error.help = wrong.help;
            Err(error)
        }
    }
}

impl Expression {
    /// Reads a condition.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place: what cannot be read, names and functions that are not known, kinds that do not fit,
    /// more than there may be.
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Expression, ExpressionError> {
        let (tree, kind, tables) = compile(text, scope)?;
        if !kind.fits(&Kind::Bool) {
            let message = format!("a condition is true or false, this is {}", kind.name());
            return Err(ExpressionError::new(text, 0, message));
        }
        let test = native::lower(&tree, &tables);
        let needs_params = tables.slots.iter().any(Slot::is_param);
        Ok(Expression(Arc::new(Condition { text: text.into(), test, tables: Arc::new(tables), needs_params })))
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it holds. Where something is not what it needs (a field that a body has not, a text that is no number) it does not hold.
    ///
    /// # Errors
    /// When it would cost more than it may, or asks for a JSON body that cannot be read in one way only.
    pub fn test(&self, exchange: &Exchange) -> Result<bool, Fault> {
        self.test_or(exchange, false)
    }

    /// Whether it holds; `in_doubt` where something is not what it needs.
    ///
    /// # Errors
    /// When it would cost more than it may.
    pub fn test_or(&self, exchange: &Exchange, in_doubt: bool) -> Result<bool, Fault> {
        self.holds(&Facts::of(exchange), in_doubt)
    }

    /// The same before the route is found, when path and parameters are only known to the router. What is read of the body is kept in
    /// `body` for the next that asks for it.
    ///
    /// # Errors
    /// As [`Expression::test`], and when not so much is left of `budget`.
    pub fn test_at(
        &self,
        exchange: &Exchange,
        place: Place<'_>,
        body: &ReadBody,
        budget: &Budget,
    ) -> Result<bool, Fault> {
        self.holds(&Facts { exchange, place: Some(place), body: Some(body), budget: Some(budget) }, false)
    }

    #[inline]
    fn holds(&self, facts: &Facts<'_>, in_doubt: bool) -> Result<bool, Fault> {
        match self.0.test.holds(facts, &self.0.tables) {
            Ok(holds) => Ok(holds),
            Err(Stop::Error(_)) => Ok(in_doubt),
            Err(Stop::Cost) => Err(too_costly()),
            Err(Stop::Malformed) => Err(malformed()),
        }
    }

    /// Whether it speaks of path parameters.
    #[must_use]
    pub fn needs_params(&self) -> bool {
        self.0.needs_params
    }

    /// Whether no exchange fulfils both. `false` also where that cannot be told: it is seen only of texts that are compared with what is
    /// written out.
    #[must_use]
    pub fn excludes(&self, other: &Expression) -> bool {
        native::exclude(&self.0.test, &other.0.test)
    }

    /// Whether it speaks of the request's body.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        self.0.tables.slots.contains(&Slot::Body)
    }
}
