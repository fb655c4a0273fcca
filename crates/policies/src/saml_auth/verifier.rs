//! From the text of an assertion to who its subject is: signature, issuer, audience, recipient, times (RFC 7522, section 3). Shared by the
//! token services and the policy `saml_auth`; knows no request, and not what was shown before.

use daemun_config::decode::Mapping;
use daemun_config::model::{SamlConfig, SamlPem};
use daemun_config::{diagnostic, read_file, why};
use daemun_pipeline::{BuildContext, Identity};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};

use super::said::{self, Said};
use super::signed::{self, ALGORITHMS};
use super::{Denied, Refused};
use crate::claims::{ClaimPath, Rules, Span, Telling, Wanted};
use crate::jwt::keys::{KeySet, MOST_SIGNERS};
use daemun_pipeline::strict_json::Members;

/// Bytes of a file with certificates.
const MOST_BYTES: u64 = 1 << 20;

/// Verifies assertions.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: KeySet,
    issuers: Vec<String>,
    audiences: Vec<String>,
    recipients: Vec<String>,
    /// Nanoseconds.
    leeway: u64,
    max_lifetime: u64,
    max_size: usize,
    rules: Rules,
    telling: Telling,
}

/// An assertion that holds.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) identity: Identity,
    pub(crate) issuer: String,
    /// Its name, which its issuer gives to no other one.
    pub(crate) id: String,
    pub(crate) span: Span,
    /// Whether it may be used once only.
    pub(crate) once: bool,
    /// When the login at the issuer ends; nanoseconds since the Unix epoch.
    pub(crate) session_ends: Option<u64>,
    /// The key that it was signed with.
    pub(crate) key: u64,
}

/// The certificates of settings, one behind the other. `None` after an error was reported.
pub(crate) fn certificates(settings: &SamlConfig, ctx: &mut BuildContext<'_>) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for one in &settings.certificates.0 {
        match one {
            SamlPem::Text(text) => all.extend_from_slice(text.as_bytes()),
            SamlPem::File(path) => match read_file(path, MOST_BYTES) {
                Ok(bytes) if bytes.len() as u64 <= MOST_BYTES => all.extend_from_slice(&bytes),
                Ok(_) => {
                    ctx.error(diagnostic::FILE, format!("`{}` is larger than 1 MiB", path.display()), None);
                    return None;
                }
                Err(error) => {
                    let message = format!("`{}` cannot be read: {}", path.display(), why(&error));
                    ctx.error(diagnostic::FILE, message, None);
                    return None;
                }
            },
        }
        all.push(b'\n');
    }
    Some(all)
}

impl Verifier {
    /// Of settings, and what [`certificates`] read. `None` after an error was reported.
    pub(crate) fn build(settings: &SamlConfig, pem: &[u8], ctx: &mut BuildContext<'_>) -> Option<Verifier> {
        let keys = match KeySet::of_pem(pem, &ALGORITHMS) {
            Ok(keys) => keys,
            Err(why) => {
                let message = format!("the certificates of the issuer cannot be used: {why}");
                ctx.error(diagnostic::BAD_VALUE, message, None);
                return None;
            }
        };
        if keys.len() > MOST_SIGNERS {
            let message = format!("the issuer has {} certificates, and {MOST_SIGNERS} can be tried", keys.len());
            ctx.error(diagnostic::BAD_VALUE, message, None);
            return None;
        }
        let path = |name: &daemun_config::model::ClaimName| ClaimPath::named(&name.0);
        let texts = |list: &[daemun_config::model::SamlName]| list.iter().map(|name| name.0.clone()).collect();
        let nanos = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let wanted = settings.claims.iter().flat_map(|Mapping(pairs)| pairs);
        Some(Verifier {
            keys,
            issuers: texts(&settings.issuer.0),
            audiences: texts(&settings.audience.0),
            recipients: texts(&settings.recipient.0),
            leeway: nanos(settings.leeway),
            max_lifetime: nanos(settings.max_lifetime.0),
            max_size: usize::try_from(settings.max_size.0).unwrap_or(usize::MAX),
            rules: Rules {
                wanted: wanted.map(|(name, values)| Wanted::of_texts(path(&name.value), &values.0)).collect(),
                ..Rules::default()
            },
            telling: Telling {
                subject: settings.subject.0.iter().map(path).collect(),
                consumer: settings.consumer.as_ref().map(path),
                roles: settings.roles.as_ref().map(path),
                groups: settings.groups.as_ref().map(path),
                scopes: settings.scopes.0.iter().map(path).collect(),
            },
        })
    }

    /// Judges an assertion in base64url or base64, with or without padding; `now` in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) fn verify(&self, encoded: &[u8], now: u64) -> Result<Proven, Denied> {
        if encoded.len() > self.longest() {
            return Err(Refused("it is longer than `max_size`").into());
        }
        let text = decoded(encoded).and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or(Refused("it is not base64url of a text in UTF-8"))?;
        if text.len() > self.max_size {
            return Err(Refused("it is longer than `max_size`").into());
        }
        let signed = signed::verify(&text, &self.keys)?;
        let said = said::read(&signed.text)?;
        let span = self.judge(&said, now)?;
        self.rules.check_wanted(&Members::of(&said.claims)).map_err(Denied::Unfit)?;
        Ok(Proven {
            identity: self.telling.identity(said.claims).map_err(Denied::Unfit)?,
            issuer: said.issuer,
            id: said.id,
            span,
            once: said.once,
            session_ends: said.session_ends,
            key: signed.key,
        })
    }

    /// Bytes of the longest assertion, encoded.
    pub(crate) fn longest(&self) -> usize {
        self.max_size.div_ceil(3).saturating_mul(4)
    }

    /// How long an assertion holds that holds now, and is for here.
    fn judge(&self, said: &Said, now: u64) -> Result<Span, Refused> {
        if !self.issuers.contains(&said.issuer) {
            return Err(Refused("its `Issuer` is none that is configured"));
        }
        if said.session_ends.is_some_and(|ends| ends <= now) {
            return Err(Refused("the login at its issuer has ended"));
        }
        if said.audiences.is_empty() {
            return Err(Refused("it says not whom it is for"));
        }
        if !said.audiences.iter().all(|named| named.iter().any(|audience| self.audiences.contains(audience))) {
            return Err(Refused("it is for another audience"));
        }
        let begins = said.issued.max(said.from.unwrap_or(0));
        let ends = said.until.unwrap_or(u64::MAX);
        let mut why = Refused("who holds it may not use it: it is confirmed in no way that is taken");
        for bearer in &said.bearers {
            match self.judge_bearer(bearer.recipient.as_deref(), bearer.until) {
                Ok(until) => {
                    let from = begins.max(bearer.from.unwrap_or(0));
                    match self.span(said.issued, from, ends.min(until), now) {
                        Ok(span) => {
                            return Ok(Span { until: span.until.min(said.session_ends.unwrap_or(u64::MAX)), ..span });
                        }
                        Err(refused) => why = refused,
                    }
                }
                Err(refused) => why = refused,
            }
        }
        Err(why)
    }

    /// When a way of using it ends (SAML profiles, section 4.1.4.2).
    fn judge_bearer(&self, recipient: Option<&str>, until: Option<u64>) -> Result<u64, Refused> {
        if !recipient.is_some_and(|recipient| self.recipients.iter().any(|own| own == recipient)) {
            return Err(Refused("it has no `Recipient`, or another one than those that are configured"));
        }
        until.ok_or(Refused("it says not until when who holds it may use it"))
    }

    fn span(&self, issued: u64, from: u64, until: u64, now: u64) -> Result<Span, Refused> {
        if until.saturating_sub(issued) > self.max_lifetime {
            return Err(Refused("it is valid for longer than `max_lifetime`"));
        }
        let span = Span { from: from.saturating_sub(self.leeway), until: until.saturating_add(self.leeway) };
        if now >= span.until {
            return Err(Refused("it has expired"));
        }
        if now < span.from {
            return Err(Refused("it is not valid yet, or was issued in the future"));
        }
        Ok(span)
    }
}

/// The bytes of a text in either base64; padding, which is not needed (RFC 7522, section 2.1), stands at the end alone.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = text.get(..text.len() - padding).filter(|_| padding <= 2)?;
    if padding > 0 && !text.len().is_multiple_of(4) {
        return None;
    }
    let plain = digits.iter().any(|byte| matches!(byte, b'+' | b'/'));
    if plain { BASE64_NOPAD.decode(digits) } else { BASE64URL_NOPAD.decode(digits) }.ok()
}
