//! Whose certificate one is: the consumers' rules by what they ask of it, looked up without going through them. Knows no request.

use std::collections::HashMap;

use daemun_accounts::Accounts;
use daemun_config::model::{CertificateName, CertificateRule, CredentialName};
use daemun_pipeline::{ConsumerId, Directory, TlsIdentity, read_name};

use crate::caller;
use crate::lasting::Lasting;

/// Rules that ask for the same text, each with the authority it also asks for.
type Rules = HashMap<String, Vec<Rule>>;

/// What else is asked of a certificate, and whose it then is.
#[derive(Debug)]
struct Rule {
    issuer: Option<String>,
    consumer: ConsumerId,
    lasting: Lasting,
}

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
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// A consumer's, and how long that holds.
    One(ConsumerId, &'a Lasting),
    /// Nobody's.
    None,
    /// Of several consumers: nobody can say whose call it is.
    Several,
}

/// A rule whose name cannot be read: consumer, and what is wrong.
pub(super) type Unreadable = (String, &'static str);

impl Known {
    /// The rules of all consumers, and what is wrong with some.
    pub(super) fn new(directory: &Directory, accounts: &Accounts) -> (Known, Vec<Unreadable>) {
        let mut known = Known { roles: caller::sent_roles(directory), ..Known::default() };
        let mut wrong = Vec::new();
        for (id, consumer) in directory.iter() {
            // those that are disabled as well: whose certificate it is, is not told by `subject` then
            let disabled = consumer.terms.iter().filter(|(_, terms)| terms.disabled).map(|(name, _)| name.clone());
            for name in consumer.certificates.iter().map(CertificateRule::credential).chain(disabled) {
                let lasting = Lasting::new(consumer, &name, accounts);
                if let CredentialName::Certificate(name, issuer) = &name
                    && let Err(why) = known.put(id, (name, issuer.as_deref()), lasting)
                {
                    wrong.push((consumer.name.clone(), why));
                }
            }
        }
        (known, wrong)
    }

    fn put(
        &mut self,
        consumer: ConsumerId,
        (name, issuer): (&CertificateName, Option<&str>),
        lasting: Lasting,
    ) -> Result<(), &'static str> {
        let issuer = issuer.map(read_name).transpose()?;
        let (rules, text) = match name {
            CertificateName::Fingerprint(text) => (&mut self.fingerprints, text.clone()),
            CertificateName::Subject(text) => (&mut self.subjects, read_name(text)?),
            CertificateName::CommonName(text) => (&mut self.common_names, text.clone()),
            CertificateName::Dns(text) => (&mut self.dns_names, text.clone()),
            CertificateName::Uri(text) => (&mut self.uris, text.clone()),
            CertificateName::Email(text) => (&mut self.emails, text.clone()),
        };
        rules.entry(text).or_default().push(Rule { issuer, consumer, lasting });
        Ok(())
    }

    /// Whether there is no rule at all.
    pub(super) fn is_empty(&self) -> bool {
        let all = [&self.fingerprints, &self.subjects, &self.common_names, &self.dns_names, &self.uris, &self.emails];
        all.iter().all(|rules| rules.is_empty())
    }

    /// Whose a certificate is. Allocates nothing; what it names is read once per connection.
    pub(super) fn find(&self, certificate: &TlsIdentity) -> Found<'_> {
        let names = certificate.names();
        let of = |rules, text: &str| one(rules, text, &names.issuer);
        let all = |rules, texts: &[String]| texts.iter().map(|text| of(rules, text)).fold(Found::None, Found::and);
        of(&self.fingerprints, &certificate.fingerprint)
            .and(of(&self.subjects, &names.subject))
            .and(of(&self.common_names, &names.subject_cn))
            .and(all(&self.dns_names, &names.dns_names))
            .and(all(&self.uris, &names.uris))
            .and(all(&self.emails, &names.emails))
    }
}

/// Whose a certificate is that says this, of an authority.
fn one<'a>(rules: &'a Rules, text: &str, issuer: &str) -> Found<'a> {
    // a name that cannot be read is empty, and is nobody's
    let rules = if text.is_empty() { None } else { rules.get(text) };
    let fits = |rule: &&Rule| rule.issuer.as_ref().is_none_or(|wanted| wanted == issuer);
    let found = rules.into_iter().flatten().filter(fits).map(|rule| Found::One(rule.consumer, &rule.lasting));
    found.fold(Found::None, Found::and)
}

impl<'a> Found<'a> {
    /// Of several rules of one consumer that is told which lasts longest.
    fn and(self, other: Found<'a>) -> Found<'a> {
        match (self, other) {
            (Found::None, found) | (found, Found::None) => found,
            (Found::One(first, lasting), Found::One(second, longer)) if first == second => {
                Found::One(first, lasting.longer(longer))
            }
            (Found::One(..) | Found::Several, _) => Found::Several,
        }
    }
}
