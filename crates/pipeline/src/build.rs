//! What a policy may ask for while it is compiled. Knows nothing of the running gateway but what is carried over from it.

use std::path::PathBuf;
use std::sync::Arc;

use daemun_config::decode::{Decoder, Setting};
use daemun_config::diagnostic::{BAD_VALUE, Diagnostic, Diagnostics};
use daemun_config::model::{Spanned, TokenService};
use daemun_config::tree::{At, Node};

use crate::carry::Carry;
use crate::directory::Directory;
use crate::elsewhere::Upstreams;
use crate::expression::{Expression, ExpressionError, Scope, Text};
use crate::world::World;

/// Given to every policy that is built for a route.
pub struct BuildContext<'a> {
    /// Where findings go.
    pub diagnostics: &'a mut Diagnostics,
    /// Known callers.
    pub directory: &'a Arc<Directory>,
    /// State that outlives a reload.
    pub carry: &'a Carry,
    /// What lies outside an exchange.
    pub world: &'a Arc<dyn World>,
    /// Whether consumers and credentials may be held in a store beside the configuration.
    pub has_store: bool,
    /// Services that give out tokens.
    pub token_services: &'a [TokenService],
    /// Where exchanges may be sent in place of where the route ends.
    pub upstreams: &'a Arc<dyn Upstreams>,
    /// Name of the route, or `None` for requests that match no route.
    pub route: Option<&'a str>,
    /// Whether an authenticator runs on this route.
    pub authenticated: bool,
    /// Authenticators that each exchange of this route must pass, whatever else it shows; empty for what is given for every route.
    pub always: &'a [&'a str],
    /// Bytes of a request body that `limits.body` allows on this route; for what is given for every route, the most that one allows.
    pub body: u64,
    /// Path of the settings in the configuration, for findings.
    pub path: String,
    /// The folder of each file of the configuration, which relative paths in the settings refer to.
    pub folders: &'a [PathBuf],
    /// Where the settings stand.
    pub at: At,
    /// Names of the path parameters of the route's pattern, by index of [`crate::Exchange::params`].
    pub param_names: &'a [String],
}

impl BuildContext<'_> {
    /// Reads settings out of the tree; findings are reported here only if [`daemun_config::load`] did not check them before.
    pub fn decode<T: Setting>(&mut self, node: &Node) -> Option<T> {
        let mut decoder = Decoder::new(self.diagnostics, &self.path).folders(self.folders);
        T::decode(node, &mut decoder)
    }

    /// Reads a text with expressions, at a key below the settings; what is wrong with it is reported. `answer` is whether it may speak of
    /// the answer.
    pub fn text(&mut self, key: &str, text: &Spanned<String>, answer: bool) -> Option<Text> {
        let scope = Scope { params: self.param_names, consumer: true, answer, ..Scope::default() };
        self.read(key, text, Text::parse(&text.value, &scope))
    }

    /// Reads an expression that stands alone, otherwise as [`BuildContext::text`]; it may not speak of the answer.
    pub fn expression(&mut self, key: &str, text: &Spanned<String>) -> Option<Text> {
        let scope = Scope { params: self.param_names, consumer: true, ..Scope::default() };
        self.read(key, text, Text::expression(&text.value, &scope))
    }

    /// Reads the condition that stands beside the settings. `consumer` is whether authenticators have run before it is asked.
    pub fn condition(&mut self, text: &Spanned<String>, consumer: bool) -> Option<Expression> {
        let scope = Scope { params: self.param_names, consumer, ..Scope::default() };
        self.read("when", text, Expression::parse(&text.value, &scope))
    }

    /// Reads a condition of the settings, at a key below them, that is asked behind authenticators.
    pub fn condition_at(&mut self, key: &str, text: &Spanned<String>) -> Option<Expression> {
        let scope = Scope { params: self.param_names, consumer: true, ..Scope::default() };
        self.read(key, text, Expression::parse(&text.value, &scope))
    }

    fn read<T>(&mut self, key: &str, text: &Spanned<String>, read: Result<T, ExpressionError>) -> Option<T> {
        match read {
            Ok(text) => Some(text),
            Err(error) => {
                let found = Diagnostic::error(BAD_VALUE, text.at.within(&text.value, error.offset), error.message);
                let found = found.path(format!("{}.{key}", self.path));
                self.diagnostics.push(match error.help {
                    Some(help) => found.help(help),
                    None => found,
                });
                None
            }
        }
    }

    /// Reports an error at the settings.
    pub fn error(&mut self, code: &'static str, message: impl Into<String>, help: Option<String>) {
        self.report(Diagnostic::error(code, self.at, message), help);
    }

    /// Reports a warning at the settings.
    pub fn warning(&mut self, code: &'static str, message: impl Into<String>, help: Option<String>) {
        self.report(Diagnostic::warning(code, self.at, message), help);
    }

    fn report(&mut self, finding: Diagnostic, help: Option<String>) {
        let finding = finding.path(self.path.clone());
        self.diagnostics.push(match help {
            Some(help) => finding.help(help),
            None => finding,
        });
    }
}
