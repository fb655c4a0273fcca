//! What an answer of the service means: let in with what it says of the caller, refused, or nothing that can be gone by. Knows no exchange.

use std::sync::Arc;

use daemun_config::decode::OneOrMany;
use daemun_pipeline::head::{is_token, is_value};
use daemun_pipeline::{Answer, FieldId, Head, Identity, Name, OutAnswer, OutError, OutFailure};

use super::config::{ForwardAuthConfig, Style};

/// Bytes of a decision that is kept.
const MOST_KEPT: usize = 16 << 10;
/// Bytes of what the service says of where a call goes.
const MOST_WAY: usize = 8 << 10;
/// Roles, groups or scopes of a caller.
const MOST_LISTED: usize = 256;

/// What the service decided.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// The call is let in.
    Grant(Arc<Grant>),
    /// It is not.
    Refusal(Arc<Refusal>),
}

/// A call that is let in, and what the service says of it.
#[derive(Debug)]
pub(super) struct Grant {
    /// For the upstream: which of the names, and the value.
    pub(super) passed: Box<[(usize, Box<[u8]>)]>,
    pub(super) for_caller: Option<Arc<Head>>,
    pub(super) identity: Option<Arc<Identity>>,
    /// Where it goes.
    pub(super) way: Option<Box<str>>,
}

/// A call that is not let in.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Who calls is not known; with the challenges, where the service has some, and other fields for the caller.
    Unauthenticated(Box<[Box<str>]>, Fields),
    /// It may not be made.
    Forbidden(Fields),
    /// The service's own answer.
    Answer(Box<Answer>),
}

type Fields = Box<[(Box<str>, Box<str>)]>;

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// For the log; nothing secret.
    pub(super) why: Box<str>,
    /// The service is down, and did not say anything that was not understood.
    pub(super) is_down: bool,
}

impl Trouble {
    fn down(why: impl Into<Box<str>>) -> Trouble {
        Trouble { why: why.into(), is_down: true }
    }

    pub(super) fn unusable(why: impl Into<Box<str>>) -> Trouble {
        Trouble { why: why.into(), is_down: false }
    }
}

/// A decision, and whether it may be kept.
pub(super) type Decided = (Decision, bool);

/// How answers are read.
pub(super) struct Reading {
    style: Style,
    /// Names of what goes on to the upstream.
    pub(super) pass: Box<[Name]>,
    to_client: Box<[Name]>,
    consumer: Option<Box<str>>,
    subject: Option<Box<str>>,
    roles: Option<Box<str>>,
    groups: Option<Box<str>>,
    scopes: Option<Box<str>>,
    way: Option<Box<str>>,
}

impl Reading {
    pub(super) fn new(settings: &ForwardAuthConfig) -> Reading {
        let one = |name: &Option<daemun_config::decode::FieldName>| name.as_ref().map(|name| name.0.as_str().into());
        let names = |names: &Option<OneOrMany<daemun_config::decode::FieldName>>| -> Box<[Name]> {
            names.iter().flat_map(|names| &names.0).filter_map(|name| Name::new(&name.0)).collect()
        };
        Reading {
            style: settings.style,
            pass: names(&settings.pass),
            to_client: names(&settings.to_client),
            consumer: one(&settings.consumer),
            subject: one(&settings.subject),
            roles: one(&settings.roles),
            groups: one(&settings.groups),
            scopes: one(&settings.scopes),
            way: settings.upstream.as_ref().map(|choice| choice.header.0.as_str().into()),
        }
    }

    /// Names of fields that say what only the service may say of a call.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let of_caller = [&self.consumer, &self.subject, &self.roles, &self.groups, &self.scopes, &self.way];
        let others = of_caller.into_iter().flatten().map(|name| &**name);
        others.chain(self.pass.iter().map(Name::as_str))
    }

    /// Names of fields for the caller that stand in place of the upstream's; cookies stand beside each other.
    pub(super) fn replaced(&self) -> impl Iterator<Item = &str> {
        self.to_client.iter().map(Name::as_str).filter(|name| *name != "set-cookie")
    }

    /// Whether answers may have something for the caller of a call that is let in.
    pub(super) fn tells_callers(&self) -> bool {
        !self.to_client.is_empty()
    }

    /// What an answer means.
    pub(super) fn read(&self, answer: Result<OutAnswer, OutError>) -> Result<Decided, Trouble> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => match error.failure {
                // what it says with its head, it has said
                OutFailure::Unusable(Some(head)) if self.is_told_by_head(head.status) => *head,
                OutFailure::Unusable(_) | OutFailure::NotMade => return Err(Trouble::unusable(error.why)),
                OutFailure::Away => return Err(Trouble::down(error.why)),
            },
        };
        let decision = match (self.style, answer.status) {
            (Style::AuthRequest, 200..=299) | (Style::ExtAuthz, 200) => Decision::Grant(Arc::new(self.grant(&answer)?)),
            (Style::AuthRequest, 401) => {
                let challenges = answer.fields.iter().filter(|(name, _)| name == "www-authenticate");
                let challenges = challenges.filter_map(|(_, value)| text(value).map(Into::into)).collect();
                Decision::Refusal(Arc::new(Refusal::Unauthenticated(challenges, self.fields_for_caller(&answer))))
            }
            (Style::AuthRequest, 403) => {
                Decision::Refusal(Arc::new(Refusal::Forbidden(self.fields_for_caller(&answer))))
            }
            (_, 500..=599) => return Err(Trouble::down(format!("it answers {}", answer.status))),
            (Style::AuthRequest, status) => {
                return Err(Trouble::unusable(format!("it answers {status}, which is neither 2xx, 401 nor 403")));
            }
            (Style::ExtAuthz, status @ 200..=499) => {
                Decision::Refusal(Arc::new(Refusal::Answer(Box::new(own_answer(status, &answer)))))
            }
            (Style::ExtAuthz, status) => return Err(Trouble::unusable(format!("it answers {status}"))),
        };
        let keeps = may_keep(&answer) && !self.hands_out_cookies(&answer);
        Ok((decision, keeps))
    }

    /// Whether the status of an answer says all, whatever its body is: one that refuses the call, or tells of a failure.
    fn is_told_by_head(&self, status: u16) -> bool {
        matches!((self.style, status), (Style::AuthRequest, 401 | 403) | (_, 500..=599))
    }

    fn grant(&self, answer: &OutAnswer) -> Result<Grant, Trouble> {
        let mut passed = Vec::new();
        for (place, name) in self.pass.iter().enumerate() {
            for value in values(answer, name.as_str()) {
                if !value.iter().all(|&byte| is_value(byte)) {
                    let why = format!("its `{}` holds control characters", name.as_str());
                    return Err(Trouble::unusable(why));
                }
                passed.push((place, value.into()));
            }
        }
        Ok(Grant {
            passed: passed.into(),
            for_caller: self.head_for_caller(answer)?,
            identity: self.identity(answer)?,
            way: match &self.way {
                Some(name) => only(answer, name)?.map(|way| bounded(way, name)).transpose()?,
                None => None,
            },
        })
    }

    fn head_for_caller(&self, answer: &OutAnswer) -> Result<Option<Arc<Head>>, Trouble> {
        let mut head = Head::default();
        for name in &self.to_client {
            for value in values(answer, name.as_str()) {
                if !name.append(&mut head, value) {
                    return Err(Trouble::unusable(format!("its `{}` holds control characters", name.as_str())));
                }
            }
        }
        Ok((!head.fields.is_empty()).then(|| Arc::new(head)))
    }

    fn fields_for_caller(&self, answer: &OutAnswer) -> Fields {
        let pairs = self.to_client.iter().flat_map(|name| {
            let values = values(answer, name.as_str()).filter_map(text);
            values.map(|value| (name.as_str().into(), value.into()))
        });
        // the challenge stands there already, and what describes a body describes another
        pairs
            .filter(|(name, _): &(Box<str>, Box<str>)| **name != *"www-authenticate" && !name.starts_with("content-"))
            .collect()
    }

    /// Who calls. Where it is to be said, it must be: later policies would take the caller for nobody.
    fn identity(&self, answer: &OutAnswer) -> Result<Option<Arc<Identity>>, Trouble> {
        let Some(name) = self.consumer.as_ref().or(self.subject.as_ref()) else { return Ok(None) };
        let said = only(answer, name)?.filter(|said| !said.is_empty() && said.len() <= 512);
        let said = said.ok_or_else(|| Trouble::unusable(format!("its `{name}` does not name who calls")))?;
        let list = |name: &Option<Box<str>>, spaces: bool| -> Result<Vec<String>, Trouble> {
            let Some(name) = name else { return Ok(Vec::new()) };
            let mut listed = Vec::new();
            for value in values(answer, name) {
                let value = text(value).ok_or_else(|| Trouble::unusable(format!("its `{name}` is not text")))?;
                let words = value.split(|char: char| char == ',' || spaces && char == ' ').map(str::trim);
                listed.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
            }
            let fits = listed.len() <= MOST_LISTED;
            if fits {
                Ok(listed)
            } else {
                Err(Trouble::unusable(format!("its `{name}` lists more than {MOST_LISTED}")))
            }
        };
        Ok(Some(Arc::new(Identity {
            subject: said.into(),
            consumer: self.consumer.is_some().then(|| said.into()),
            roles: list(&self.roles, false)?,
            groups: list(&self.groups, false)?,
            scopes: list(&self.scopes, true)?,
            ..Identity::default()
        })))
    }

    /// Whether it hands out a cookie, which is of one call.
    fn hands_out_cookies(&self, answer: &OutAnswer) -> bool {
        let goes_out = self.style == Style::ExtAuthz && answer.status != 200
            || self.to_client.iter().any(|name| name.as_str() == "set-cookie");
        goes_out && answer.field("set-cookie").is_some()
    }
}

/// The service's answer as it goes to the caller: all of it but what is of the connection between the two.
fn own_answer(status: u16, answer: &OutAnswer) -> Answer {
    let goes = |name: &str| {
        let id = FieldId::of(name.as_bytes());
        let stays = id.is_hop_by_hop()
            || matches!(id, FieldId::ContentLength | FieldId::Date | FieldId::Server | FieldId::Via)
            || matches!(id, FieldId::XRequestId);
        !stays || id == FieldId::ProxyAuthenticate && status == 407
    };
    let fields = answer.fields.iter().filter(|(name, _)| name.bytes().all(is_token) && goes(name));
    let fields = fields.filter_map(|(name, value)| Some((name.clone(), text(value)?.to_owned())));
    Answer { status, fields: fields.collect(), body: answer.body.clone() }
}

/// Whether a decision may be kept as far as its answer goes (RFC 9111, section 5.2.2), and is small enough.
fn may_keep(answer: &OutAnswer) -> bool {
    let forbids = |value: &[u8]| {
        value
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|directive| directive.eq_ignore_ascii_case(b"no-store") || directive.eq_ignore_ascii_case(b"no-cache"))
    };
    let size: usize = answer.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    size + answer.body.len() <= MOST_KEPT && !values(answer, "cache-control").any(forbids)
}

fn values<'a>(answer: &'a OutAnswer, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    answer.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_slice())
}

/// A value as text that may stand in a field.
fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.bytes().all(is_value))
}

/// The value of a field that may be there once.
fn only<'a>(answer: &'a OutAnswer, name: &'a str) -> Result<Option<&'a str>, Trouble> {
    let mut all = values(answer, name);
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Trouble::unusable(format!("it has several `{name}`")));
    }
    let value = text(first).ok_or_else(|| Trouble::unusable(format!("its `{name}` is not text")))?;
    Ok(Some(value.trim_matches([' ', '\t'])).filter(|value| !value.is_empty()))
}

fn bounded(way: &str, name: &str) -> Result<Box<str>, Trouble> {
    let fits = way.len() <= MOST_WAY;
    if fits { Ok(way.into()) } else { Err(Trouble::unusable(format!("its `{name}` is longer than {MOST_WAY} bytes"))) }
}
