//! The cookies of a login: which name each has, how one is found, set and taken out of what is forwarded. Knows not what they hold.

use daemun_pipeline::{Exchange, FieldId, Head};

use crate::bearer::value_of;

/// Bytes of name and value that browsers keep (RFC 6265, section 6.1).
const MOST: usize = 4096;
/// What a browser takes only from the host itself, over HTTPS, for all of its paths (RFC 6265bis, section 4.1.3.2).
const PREFIX: &str = "__Host-";

/// Names of the cookies.
#[derive(Debug)]
pub(crate) struct Cookies {
    session: Box<str>,
    login: Box<str>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The session.
    Session,
    /// Logins that are under way.
    Login,
}

/// What of a cookie is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held<'a> {
    None,
    One(&'a [u8]),
    /// There are several, of which one could be planted.
    Several,
}

impl Cookies {
    pub(crate) fn new(session: &str) -> Cookies {
        Cookies { session: session.into(), login: format!("{session}_login").into() }
    }

    fn base(&self, which: Which) -> &str {
        match which {
            Which::Session => &self.session,
            Which::Login => &self.login,
        }
    }

    /// Whether a cookie's pair is of this one.
    fn value<'p>(&self, pair: &'p [u8], which: Which, secure: bool) -> Option<&'p [u8]> {
        let pair = pair.trim_ascii();
        let bare = if secure { pair.strip_prefix(PREFIX.as_bytes())? } else { pair };
        value_of(bare, self.base(which))
    }

    /// The cookie of a request; also of one whose cookies were taken out meanwhile.
    pub(crate) fn find<'e>(&self, exchange: &'e Exchange, which: Which, secure: bool) -> Held<'e> {
        let head = &exchange.request.head;
        let mut held = Held::None;
        for field in head.fields.iter().filter(|field| field.id == FieldId::Cookie) {
            for value in head.bytes(field.value).split(|&b| b == b';').filter_map(|p| self.value(p, which, secure)) {
                // another policy may have written the cookies anew
                match held {
                    Held::One(first) if first != value => return Held::Several,
                    Held::None | Held::One(_) | Held::Several => held = Held::One(value),
                }
            }
        }
        held
    }

    /// Bytes that the value of a cookie may have.
    pub(crate) fn room(&self, which: Which) -> usize {
        MOST.saturating_sub(PREFIX.len() + self.base(which).len() + 1)
    }

    /// The field that sets a cookie for so many seconds; 0 takes it away.
    pub(crate) fn set(&self, which: Which, value: &str, seconds: u64, secure: bool) -> String {
        let (prefix, secured) = if secure { (PREFIX, "; Secure") } else { ("", "") };
        let name = self.base(which);
        format!("{prefix}{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secured}")
    }

    /// Takes all of them out of what is forwarded, under either name.
    pub(crate) fn strip(&self, head: &mut Head) {
        let is_own = |pair: &&[u8]| {
            [Which::Session, Which::Login]
                .iter()
                .any(|which| self.value(pair, *which, true).is_some() || self.value(pair, *which, false).is_some())
        };
        if !pairs(head).any(|pair| is_own(&pair)) {
            return;
        }
        let mut left = Vec::new();
        for pair in pairs(head).filter(|pair| !is_own(pair)).map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
            if !left.is_empty() {
                left.extend_from_slice(b"; ");
            }
            left.extend_from_slice(pair);
        }
        head.remove("cookie");
        if !left.is_empty() {
            head.append("Cookie", &left);
        }
    }
}

fn pairs(head: &Head) -> impl Iterator<Item = &[u8]> {
    head.values_id(FieldId::Cookie).flat_map(|value| value.split(|&b| b == b';'))
}
