//! How the program ends: its exit codes, and the error that carries one.

use std::fmt;
use std::io;

/// An exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Done = 0,
    /// The configuration or the input is wrong.
    Wrong = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A port or file is not to be had.
    Unavailable = 69,
    /// Something that should not happen did.
    Internal = 70,
}

/// Why a command ends early: what to say, and how to exit.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    /// The input is wrong.
    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Self { code: Code::Wrong, message: message.into() }
    }

    /// A port or file is not to be had.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { code: Code::Unavailable, message: message.into() }
    }

    /// Something that should not happen did.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { code: Code::Internal, message: message.into() }
    }

    /// Everything there is to say has been said.
    pub(crate) fn said(code: Code) -> Self {
        Self { code, message: String::new() }
    }

    /// How to exit.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What to say; empty when it has been said.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

/// Output that cannot be written: a reader that has seen enough is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::said(Code::Done);
        }
        Self::unavailable(format!("cannot write the output: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
