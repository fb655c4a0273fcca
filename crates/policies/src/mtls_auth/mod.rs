//! `mtls_auth`: who calls, by the client certificate that the listener verified. Verifies none itself, and never says why a call was
//! refused.

mod config;
mod known;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_accounts::Accounts;
use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, ConsumerId, Exchange, Explanation, Fault, Flow, Identity, Phase, Policy, PolicyConfig, Reason, Stop,
    TlsIdentity, read_name,
};

pub use config::{MtlsAuthConfig, SubjectPart, TrustDomain};

use crate::base64_text;
use crate::caller::{self, Unsendable};
use crate::lasting::{Ended, Lasting};
use crate::per_directory::PerDirectory;
use known::{Found, Known, Unreadable};

/// What a proxy tells of the certificate (RFC 9440); a caller's own never passes.
const FIELDS: [&str; 2] = ["client-cert", "client-cert-chain"];
/// There is no registered scheme for what is proven below HTTP; a 401 must name one (RFC 9110, section 15.5.2).
const CHALLENGE: &str = "ClientCertificate realm=\"daemun\"";

impl PolicyConfig for MtlsAuthConfig {
    const NAME: &'static str = "mtls_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let mut findings = None;
        let accounts = Accounts::of(ctx.carry);
        let known = PerDirectory::of(ctx, Self::NAME, |directory| {
            let (known, unreadable) = Known::new(directory, &accounts);
            findings = Some(Findings { unreadable, unsendable: Unsendable::of(directory) });
            known
        });
        if known.value.is_empty() && self.subject.is_none() {
            let help = "give a consumer `certificates`, or say with `subject` what of a certificate names its caller";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a certificate", Some(help.to_owned()));
        }
        let mut usable = findings.is_none_or(|findings| findings.report(ctx));
        let mut issuers = Vec::with_capacity(self.issuers.len());
        for issuer in &self.issuers {
            match read_name(issuer) {
                Ok(name) => issuers.push(name.into()),
                Err(why) => {
                    usable = false;
                    let message = format!("`{}` is not a distinguished name: {why}", issuer.escape_debug());
                    ctx.error(diagnostic::BAD_VALUE, message, Some("write it like `CN=partners,O=Shop`".to_owned()));
                }
            }
        }
        let policy = MtlsAuth {
            known,
            accounts,
            subject: self.subject.map(|subject| subject.value),
            trust_domains: self.trust_domains.into_iter().map(|TrustDomain(name)| name.into()).collect(),
            issuers: issuers.into(),
            forward: self.forward,
            removed: FIELDS.map(Into::into),
        };
        usable.then(|| vec![(Phase::Authenticate, Box::new(policy) as Box<dyn Policy>)])
    }
}

/// What is wrong with a directory; reported by the first route that is built with it.
struct Findings {
    unreadable: Vec<Unreadable>,
    unsendable: Unsendable,
}

impl Findings {
    /// Says whether the directory can be used.
    fn report(&self, ctx: &mut BuildContext<'_>) -> bool {
        for (name, why) in &self.unreadable {
            let message =
                format!("a certificate of consumer `{}` has no distinguished name: {why}", name.escape_debug());
            let help =
                "write it like `CN=orders,O=Shop`; `openssl x509 -noout -subject -nameopt RFC2253 -in FILE` prints it";
            ctx.error(diagnostic::BAD_VALUE, message, Some(help.to_owned()));
        }
        self.unsendable.report(ctx) && self.unreadable.is_empty()
    }
}

struct MtlsAuth {
    known: Arc<PerDirectory<Known>>,
    /// Whose names nobody else may have, and whose certificates are void.
    accounts: Arc<Accounts>,
    subject: Option<SubjectPart>,
    trust_domains: Box<[Box<str>]>,
    issuers: Box<[Box<str>]>,
    forward: bool,
    removed: [Box<str>; 2],
}

/// Who the certificate says calls.
enum Caller<'k> {
    Consumer(ConsumerId, &'k Lasting),
    Other(Arc<Identity>),
}

/// Why a request was not let in; the caller is never told.
#[derive(Clone, Copy)]
enum Refused {
    /// There is no certificate.
    Absent,
    /// It has ended since it was shown.
    Ended,
    /// An authority that is not taken issued it.
    Issuer,
    /// It is nobody's.
    Unknown,
    /// It is a consumer's no more.
    Void(Ended),
    /// It is of several consumers.
    Several,
    /// It does not have the one name that would be the caller's.
    Nameless,
    /// Its SPIFFE ID is of another trust domain.
    Domain,
    /// Another authenticator found somebody else, or it names somebody who cannot be told of, or has a consumer's name.
    Another,
}

impl Refused {
    fn why(self) -> &'static str {
        match self {
            Refused::Absent => "the client has shown no certificate",
            Refused::Ended => "the certificate has expired since the connection was opened",
            Refused::Issuer => "an authority issued the certificate that is none of `issuers`",
            Refused::Unknown => "the certificate is no consumer's",
            Refused::Void(why) => why.as_str(),
            Refused::Several => "the certificate is of several consumers",
            Refused::Nameless => "the certificate does not have exactly one name of the kind that `subject` asks for",
            Refused::Domain => "the certificate has no SPIFFE ID of `trust_domains`",
            Refused::Another => {
                "the certificate is not the authenticated caller's, or its name is one of a consumer that it is not said to be of"
            }
        }
    }
}

impl Policy for MtlsAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(match self.authenticate(exchange, true) {
            Ok(()) => Ok(()),
            Err(refused) => Err(refusal(refused)),
        })
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        &self.removed
    }

    fn is_shown(&self, exchange: &Exchange) -> bool {
        exchange.client.identity.is_some()
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        match self.authenticate(exchange, false) {
            Ok(()) => Explanation::pass(format!(
                "the certificate is that of `{}`",
                exchange.consumer_name().unwrap_or_default().escape_debug()
            )),
            Err(refused) => Explanation::stop(&refusal(refused), refused.why()),
        }
    }
}

impl MtlsAuth {
    /// Who calls; with `counts` the use of its credential is noted.
    fn authenticate(&self, exchange: &mut Exchange, counts: bool) -> Result<(), Refused> {
        let certificate = exchange.client.identity.clone().ok_or(Refused::Absent)?;
        // what the handshake verified holds no longer than the certificate
        if certificate.has_ended(exchange.wall) {
            return Err(Refused::Ended);
        }
        let caller = self.identify(&certificate, exchange.wall / 1_000_000)?;
        for field in &self.removed {
            exchange.request.head.remove_alike(field, usize::MAX);
        }
        match caller {
            Caller::Consumer(id, lasting) if caller::agrees(exchange, id) => {
                if counts {
                    lasting.note_use(&self.accounts, exchange.wall / 1_000_000);
                }
                let name = self.known.directory.get(id).map_or("", |known| &known.name);
                let roles = self.known.value.roles.get(id.0 as usize).map_or("", |roles| roles);
                caller::note(exchange, id, name.as_bytes(), roles.as_bytes());
            }
            Caller::Other(identity) if caller::note_other(exchange, &identity, &self.accounts) => {}
            Caller::Consumer(..) | Caller::Other(_) => return Err(Refused::Another),
        }
        if self.forward {
            let mut value = b":".to_vec();
            base64_text::encode(&certificate.der, &mut value);
            value.push(b':');
            exchange.request.head.append("Client-Cert", &value);
        }
        Ok(())
    }

    fn identify(&self, certificate: &TlsIdentity, now: u64) -> Result<Caller<'_>, Refused> {
        let issuer = &certificate.names().issuer;
        if !self.issuers.is_empty() && !self.issuers.iter().any(|known| **known == **issuer) {
            return Err(Refused::Issuer);
        }
        match self.known.value.find(certificate) {
            Found::One(id, lasting) => {
                lasting.judge(&self.accounts, now).map_err(Refused::Void)?;
                return Ok(Caller::Consumer(id, lasting));
            }
            Found::Several => return Err(Refused::Several),
            Found::None => {}
        }
        let part = self.subject.ok_or(Refused::Unknown)?;
        let subject = subject(part, certificate).filter(|name| !name.is_empty()).ok_or(Refused::Nameless)?;
        if !self.trust_domains.is_empty() && !self.is_trusted(subject) {
            return Err(Refused::Domain);
        }
        Ok(Caller::Other(Arc::new(Identity {
            subject: subject.into(),
            credential: Some(certificate.fingerprint.as_str().into()),
            ..Identity::default()
        })))
    }

    /// Whether a SPIFFE ID is of one of the trust domains.
    fn is_trusted(&self, id: &str) -> bool {
        let domain = id.strip_prefix("spiffe://").map(|rest| rest.split_once('/').map_or(rest, |(domain, _)| domain));
        domain.is_some_and(|domain| self.trust_domains.iter().any(|known| **known == *domain))
    }
}

/// The one name of a kind that a certificate has.
fn subject(part: SubjectPart, certificate: &TlsIdentity) -> Option<&str> {
    let names = certificate.names();
    match part {
        SubjectPart::SanUri => only(&names.uris),
        SubjectPart::SanDns => only(&names.dns_names),
        SubjectPart::SanEmail => only(&names.emails),
        SubjectPart::Cn => Some(&names.subject_cn),
        SubjectPart::Dn => Some(&names.subject),
        SubjectPart::Fingerprint => Some(&certificate.fingerprint),
    }
}

fn only(all: &[String]) -> Option<&str> {
    if let [only] = all { Some(only) } else { None }
}

#[cold]
fn refusal(why: Refused) -> Stop {
    let detail = "the client has no certificate that is known here";
    Stop::Fault(Fault::new(Reason::Unauthenticated, detail).cause(why.why()).field("WWW-Authenticate", CHALLENGE))
}
