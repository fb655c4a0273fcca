//! Whose certificate one is: the consumers' rules by what they ask of it, looked up without going through them. Knows no request.

use std::collections::HashMap;

use daemun_config::model::CertificateName;
use daemun_pipeline::{ConsumerId, Directory, TlsIdentity, read_name};

use crate::caller;

/// Rules that ask for the same text, each with the authority it also asks for.
type Rules = HashMap<String, Vec<(Option<String>, ConsumerId)>>;

/// What is worked out once for all routes.
#[derive(Debug, Default)]
pub(super) struct Known {
    fingerprints: Rules,
    subjects: Rules,
    common_names: Rules,
    dns_names: Rules,
    uris: Rules,
    emails: Rules,
    /// Each consumer's roles as they are sent, by position; empty for none.
    pub(super) roles: Box<[Box<str>]>,
}

/// Whose a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A consumer's.
    One(ConsumerId),
    /// Nobody's.
    None,
    /// Of several consumers: nobody can say whose call it is.
    Several,
}

/// A rule whose name cannot be read: consumer, and what is wrong.
pub(super) type Unreadable = (String, &'static str);

impl Known {
    /// The rules of all consumers, and what is wrong with some.
    pub(super) fn new(directory: &Directory) -> (Known, Vec<Unreadable>) {
        let mut known = Known { roles: caller::sent_roles(directory), ..Known::default() };
        let mut wrong = Vec::new();
        for (id, consumer) in directory.iter() {
            for rule in &consumer.certificates {
                if let Err(why) = known.put(id, &rule.name, rule.issuer.as_deref()) {
                    wrong.push((consumer.name.clone(), why));
                }
            }
        }
        (known, wrong)
    }

    fn put(&mut self, id: ConsumerId, name: &CertificateName, issuer: Option<&str>) -> Result<(), &'static str> {
        let issuer = issuer.map(read_name).transpose()?;
        let (rules, text) = match name {
            CertificateName::Fingerprint(text) => (&mut self.fingerprints, text.clone()),
            CertificateName::Subject(text) => (&mut self.subjects, read_name(text)?),
            CertificateName::CommonName(text) => (&mut self.common_names, text.clone()),
            CertificateName::Dns(text) => (&mut self.dns_names, text.clone()),
            CertificateName::Uri(text) => (&mut self.uris, text.clone()),
            CertificateName::Email(text) => (&mut self.emails, text.clone()),
        };
        rules.entry(text).or_default().push((issuer, id));
        Ok(())
    }

    /// Whether there is no rule at all.
    pub(super) fn is_empty(&self) -> bool {
        let all = [&self.fingerprints, &self.subjects, &self.common_names, &self.dns_names, &self.uris, &self.emails];
        all.iter().all(|rules| rules.is_empty())
    }

    /// Whose a certificate is. Allocates nothing; what it names is read once per connection.
    pub(super) fn find(&self, certificate: &TlsIdentity) -> Found {
        let names = certificate.names();
        let one = |rules: &'_ Rules, text: &str| -> Found {
            let mut found = Found::None;
            // a name that cannot be read is empty, and is nobody's
            let rules = if text.is_empty() { None } else { rules.get(text) };
            for (issuer, id) in rules.into_iter().flatten() {
                if issuer.as_ref().is_none_or(|issuer| *issuer == names.issuer) {
                    found = found.and(Found::One(*id));
                }
            }
            found
        };
        let all =
            |rules: &Rules, texts: &[String]| texts.iter().map(|text| one(rules, text)).fold(Found::None, Found::and);
        one(&self.fingerprints, &certificate.fingerprint)
            .and(one(&self.subjects, &names.subject))
            .and(one(&self.common_names, &names.subject_cn))
            .and(all(&self.dns_names, &names.dns_names))
            .and(all(&self.uris, &names.uris))
            .and(all(&self.emails, &names.emails))
    }
}

impl Found {
    fn and(self, other: Found) -> Found {
        match (self, other) {
            (Found::None, found) | (found, Found::None) => found,
            (Found::One(first), Found::One(second)) if first == second => self,
            (Found::One(_) | Found::Several, _) => Found::Several,
        }
    }
}
