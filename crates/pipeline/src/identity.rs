//! Who calls, as a credential tells it. Knows no credential and no configuration.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::exchange::{CONSUMER_NAME, CONSUMER_ROLES, Span};
use crate::head::{Head, is_all_value};

/// A caller beyond what the configuration says of its consumers: what a token, a certificate, a store or another service knows of it.
// in this order, so that what each call looks at stands together
#[derive(Clone, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Identity {
    /// Its name where it is no consumer of the configuration; what it is logged, limited and told upstream by.
    pub subject: Box<str>,
    /// The consumer of the configuration that it is.
    pub consumer: Option<Box<str>>,
    /// What was found out of it before.
    pub found: Found,
    /// Roles, beside those of the consumer.
    pub roles: Vec<String>,
    /// Groups, beside those of the consumer.
    pub groups: Vec<String>,
    /// Tags, beside those of the consumer.
    pub tags: Vec<String>,
    /// What the credential may be used for (RFC 6749, section 3.3).
    pub scopes: Vec<String>,
    /// What else the credential says.
    pub claims: Claims,
    /// Which credential it was, by an id that is no secret.
    pub credential: Option<Box<str>>,
}

/// What a credential says, as JSON. Read when it is looked at for the first time: of most callers nobody asks for more than what stands
/// beside it.
#[derive(Clone, Default)]
pub struct Claims {
    credential: Option<(Arc<[u8]>, ReadClaims)>,
    read: OnceLock<Box<Map<String, Value>>>,
}

/// Reads what a credential says.
type ReadClaims = fn(&[u8]) -> Map<String, Value>;

impl Claims {
    /// Those of a credential that was proven, which `read` finds in it.
    #[must_use]
    pub fn of_credential(credential: Arc<[u8]>, read: ReadClaims) -> Claims {
        Claims { credential: Some((credential, read)), read: OnceLock::new() }
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(claims: Map<String, Value>) -> Claims {
        if claims.is_empty() {
            return Claims::default();
        }
        Claims { credential: None, read: OnceLock::from(Box::new(claims)) }
    }
}

impl FromIterator<(String, Value)> for Claims {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(claims: I) -> Claims {
        Map::from_iter(claims).into()
    }
}

impl Deref for Claims {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Map<String, Value> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        match (self.read.get(), &self.credential) {
            (Some(read), _) => read,
            (None, Some((credential, read))) => self.read.get_or_init(|| Box::new(read(credential))),
            (None, None) => &NONE,
        }
    }
}

impl PartialEq for Claims {
    fn eq(&self, other: &Claims) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

/// What does not change while an identity does not, found out at its first call; what is changed in a copy is found out anew.
#[derive(Default)]
pub struct Found {
    /// In the upper half which directory was asked for its name, in the lower what it answered.
    place: AtomicU64,
    told: OnceLock<Told>,
}

/// How long the lines are that stand beside what else a call looks at: a name, and a role or two.
const INLINE: usize = 96;

/// What an upstream is told.
// in this order, so that what is looked at of a caller with a short name and few roles stands together
#[repr(C)]
struct Told {
    /// Where the subject stands in the lines; empty where it cannot be sent.
    subject: Span,
    /// Where the roles stand, with commas between them; empty where none can be sent.
    roles: Span,
    /// The lines of the subject and the roles, as far as they can be sent.
    lines: SmallVec<[u8; INLINE]>,
}

impl Identity {
    /// Whether its subject can be sent in a header. Looked at once.
    #[inline]
    #[must_use]
    pub fn is_sendable(&self) -> bool {
        !self.told().subject.is_empty()
    }

    /// Its roles as they are sent, with commas between them; those that cannot be are left out. Put together once.
    #[inline]
    #[must_use]
    pub fn sent_roles(&self) -> &str {
        let told = self.told();
        told.lines.get(told.roles.range()).and_then(|roles| std::str::from_utf8(roles).ok()).unwrap_or_default()
    }

    /// Tells the upstream who calls, by its own name, which can be sent; says where that stands.
    #[inline]
    pub fn tell(&self, head: &mut Head) -> Span {
        let told = self.told();
        let stored = head.store(&told.lines);
        let mut name = Span::default();
        if !told.subject.is_empty() {
            name = told.subject.behind(stored);
            head.tell_stored(CONSUMER_NAME, name);
        }
        if !told.roles.is_empty() {
            head.tell_stored(CONSUMER_ROLES, told.roles.behind(stored));
        }
        name
    }

    fn told(&self) -> &Told {
        self.found.told.get_or_init(|| {
            let roles = || self.roles.iter().map(String::as_str).filter(|role| is_sent_role(role));
            let subject = || std::iter::once(&*self.subject).filter(|subject| is_sendable(subject));
            let mut lines = SmallVec::new();
            let (subject, roles) =
                (line(&mut lines, CONSUMER_NAME, subject()), line(&mut lines, CONSUMER_ROLES, roles()));
            Told { subject, roles, lines }
        })
    }
}

/// Adds a line of values with commas between them, where there are any; says where they stand.
fn line<'v>(lines: &mut SmallVec<[u8; INLINE]>, lead: &str, values: impl Iterator<Item = &'v str>) -> Span {
    let before = lines.len();
    lines.extend_from_slice(lead.as_bytes());
    let start = lines.len();
    for value in values {
        if lines.len() > start {
            lines.push(b',');
        }
        lines.extend_from_slice(value.as_bytes());
    }
    let end = lines.len();
    if end == start {
        lines.truncate(before);
        return Span::default();
    }
    lines.extend_from_slice(b"\r\n");
    Span::new(start, end)
}

impl Found {
    /// What the directory with this number answers: asked, unless it was the last one that was.
    #[inline]
    pub(crate) fn place(&self, directory: u32, ask: impl FnOnce() -> u32) -> u32 {
        let known = self.place.load(Ordering::Relaxed);
        if known >> 32 == u64::from(directory) {
            return known as u32;
        }
        let answer = ask();
        self.place.store(u64::from(directory) << 32 | u64::from(answer), Ordering::Relaxed);
        answer
    }
}

impl Clone for Found {
    fn clone(&self) -> Found {
        Found::default()
    }
}

impl PartialEq for Found {
    fn eq(&self, _: &Found) -> bool {
        true
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").finish_non_exhaustive()
    }
}

/// Whether text can be sent in a header.
#[must_use]
pub fn is_sendable(text: &str) -> bool {
    !text.is_empty() && is_all_value(text.as_bytes()) && text.trim() == text
}

/// Whether a role can be sent in a header, among others.
#[must_use]
pub fn is_sent_role(role: &str) -> bool {
    is_sendable(role) && !role.contains(',')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Consumer, Directory};

    fn directory(names: &[&str]) -> Directory {
        let consumer = |name: &&str| Consumer { name: (*name).to_owned(), ..Consumer::default() };
        Directory::new(names.iter().map(consumer).collect())
    }

    #[test]
    fn claims_are_the_same_read_now_and_read_later() {
        let text = r#"{"a":[1,{"b":null}],"c":"d"}"#;
        let map: Map<String, Value> = serde_json::from_str(text).unwrap();
        let later = Claims::of_credential(text.as_bytes().into(), |text| serde_json::from_slice(text).unwrap());
        assert_eq!(later.get("c"), Some(&"d".into()));
        assert_eq!(later, Claims::from(map.clone()));
        assert_eq!(later.clone(), map.into_iter().collect());
        assert!(Claims::default().is_empty() && Claims::from(Map::new()).is_empty());
    }

    #[test]
    fn what_is_sent_of_an_identity_is_what_a_header_can_hold() {
        let of = |subject: &str, roles: &[&str]| Identity {
            subject: subject.into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Identity::default()
        };
        assert!(of("ann", &[]).is_sendable());
        for subject in ["", " ann", "a\nb"] {
            assert!(!of(subject, &[]).is_sendable(), "{subject:?}");
        }
        let ann = of("ann", &["a", "b,c", "", "d\r", "e"]);
        assert_eq!(ann.sent_roles(), "a,e");
        let changed = Identity { roles: vec!["f".to_owned()], ..ann.clone() };
        assert_eq!(changed.sent_roles(), "f", "nothing is remembered of what it was made from");
    }

    #[test]
    fn a_name_is_looked_for_anew_in_another_directory() {
        let ann = Identity { subject: "ann".into(), ..Identity::default() };
        let (without, with) = (directory(&["bob"]), directory(&["bob", "ann"]));
        for _ in 0..2 {
            assert_eq!(Directory::default().named(&ann), None);
            assert_eq!(with.named(&ann).map(|id| id.0), Some(1));
            assert_eq!(without.named(&ann), None);
            assert_eq!(with.named(&ann).map(|id| id.0), Some(1), "asked twice in a row as well");
            assert_eq!(with.named(&ann).map(|id| id.0), Some(1));
        }
        let bob = Identity { consumer: Some("bob".into()), ..ann.clone() };
        assert_eq!(with.named(&bob).map(|id| id.0), Some(0), "of whom it is said to be, whatever its own name");
    }
}
