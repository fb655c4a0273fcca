//! Tokens for SAML assertions (RFC 7522): who the subject of one is here, and that it is used once. Gives nothing out.

use daemun_config::model::SamlConfig;
use daemun_pipeline::{BuildContext, Identity};

use crate::saml_auth::verifier::{Verifier, certificates};

/// Judges the assertions that a service takes.
pub(super) struct Assertions(Verifier);

/// An assertion that holds.
pub(super) struct Shown {
    pub(super) identity: Identity,
    /// What its issuer is known by here, as a credential.
    pub(super) credential: String,
    /// What tells it from all others.
    pub(super) name: String,
    /// When it ends, and when the login at its issuer does; milliseconds since the Unix epoch.
    pub(super) until: u64,
    pub(super) session_ends: Option<u64>,
}

impl Assertions {
    /// `None` after an error was reported.
    pub(super) fn build(settings: &SamlConfig, ctx: &mut BuildContext<'_>) -> Option<Assertions> {
        let pem = certificates(settings, ctx)?;
        Verifier::build(settings, &pem, ctx).map(Assertions)
    }

    /// Bytes of the longest assertion in a form.
    pub(super) fn longest(&self) -> u64 {
        self.0.longest() as u64
    }

    /// Judges one; `wall` in nanoseconds.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(super) fn judge(&self, text: &str, wall: u64) -> Result<Shown, String> {
        let proven = self.0.verify(text.as_bytes(), wall);
        let proven = proven.map_err(|why| format!("the assertion is not taken: {why}"))?;
        Ok(Shown {
            credential: format!("saml:{}", proven.issuer),
            // neither holds a line feed
            name: format!("{}\n{}", proven.issuer, proven.id),
            until: proven.span.until.div_ceil(1_000_000),
            session_ends: proven.session_ends.map(|ends| ends / 1_000_000),
            identity: proven.identity,
        })
    }
}
