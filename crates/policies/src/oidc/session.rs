//! What the cookies hold, sealed: a session, and logins that are under way. Whoever has one of them can neither read nor change it. Knows no
//! request and no provider.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use daemun_accounts::seal::Seal;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

use super::config::is_local;
use crate::replay::Mark;
use daemun_pipeline::strict_json::read_object;

/// Seconds that a login may take.
pub(crate) const LOGIN_LASTS: u64 = 600;
/// Logins that one browser may have under way.
pub(crate) const MOST_LOGINS: usize = 4;
/// Bytes of the target that a login returns to.
const LONGEST_RETURN: usize = 1024;
/// Seconds that another gateway's clock may be ahead.
pub(super) const AHEAD: u64 = 60;

/// Seals and opens what cookies hold.
pub(super) struct Seals {
    /// The first seals, and all open.
    seals: Vec<Seal>,
    /// Whose cookies they are: what is sealed for one provider and client opens for no other.
    of_sessions: String,
    of_logins: String,
}

impl Seals {
    /// `None` when a secret is too short.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>, issuer: &str, client: &str) -> Option<Seals> {
        let seals = secrets.map(|secret| Seal::derived(secret.as_bytes(), b"daemun oidc", b"cookies, AES-256-GCM"));
        Some(Seals {
            seals: seals.collect::<Option<_>>()?,
            of_sessions: format!("session\n{issuer}\n{client}"),
            of_logins: format!("login\n{issuer}\n{client}"),
        })
    }

    fn seal(&self, of: &str, value: &Value) -> Option<String> {
        let sealed = self.seals.first()?.seal(of, value.to_string().as_bytes()).ok()?;
        Some(BASE64URL_NOPAD.encode(&sealed))
    }

    /// What was sealed, and whether with the newest secret.
    fn open(&self, of: &str, text: &[u8]) -> Option<(Map<String, Value>, bool)> {
        let sealed = BASE64URL_NOPAD.decode(text).ok()?;
        let opened = |(at, seal): (usize, &Seal)| Some((seal.open(of, &sealed).ok()?, at == 0));
        let (opened, newest) = self.seals.iter().enumerate().find_map(opened)?;
        Some((read_object(&opened)?, newest))
    }

    /// A session as its cookie holds it; `None` when there are no random numbers.
    pub(super) fn seal_session(&self, session: &Session) -> Option<String> {
        let Session { id, begun, seen, claims } = session;
        self.seal(&self.of_sessions, &json!({ "i": BASE64URL_NOPAD.encode(id), "b": begun, "s": seen, "c": claims }))
    }

    /// The session that a cookie holds, and whether it is sealed with the newest secret; whether it still lasts is not looked at.
    pub(super) fn open_session(&self, text: &[u8]) -> Option<(Session, bool)> {
        let (mut read, newest) = self.open(&self.of_sessions, text)?;
        let id = BASE64URL_NOPAD.decode(read.get("i")?.as_str()?.as_bytes()).ok()?.try_into().ok()?;
        let (begun, seen) = (read.get("b")?.as_u64()?, read.get("s")?.as_u64()?);
        let Some(Value::Object(claims)) = read.remove("c") else { return None };
        Some((Session { id, begun, seen, claims }, newest))
    }

    /// Logins as their cookie holds them, the oldest left out where they do not fit; `None` when there are no random numbers.
    pub(super) fn seal_logins(&self, logins: &[Login], room: usize) -> Option<String> {
        for from in 0..logins.len() {
            let logins: Vec<Value> = logins.get(from..)?.iter().map(Login::value).collect();
            let text = self.seal(&self.of_logins, &json!({ "l": logins }))?;
            if text.len() <= room {
                return Some(text);
            }
        }
        None
    }

    /// The logins that a cookie holds and that may still end.
    pub(super) fn open_logins(&self, text: &[u8], now: u64) -> Vec<Login> {
        let read = self.open(&self.of_logins, text).and_then(|(read, _)| match read.get("l") {
            Some(Value::Array(list)) => Some(list.iter().filter_map(Login::read).collect()),
            _ => None,
        });
        let mut logins: Vec<Login> = read.unwrap_or_default();
        logins.retain(|login| login.lasts(now));
        logins
    }
}

/// Who logged in, and when.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Session {
    /// Which one it is.
    pub(super) id: Mark,
    /// When it began, seconds since the Unix epoch.
    pub(super) begun: u64,
    /// When it was last in use, about.
    pub(super) seen: u64,
    /// What the provider said.
    pub(super) claims: Map<String, Value>,
}

impl Session {
    /// A new one; `None` when there are no random numbers.
    pub(super) fn begin(claims: Map<String, Value>, now: u64) -> Option<Session> {
        Some(Session { id: random()?, begun: now, seen: now, claims })
    }

    /// When it ends unless it is used; seconds.
    pub(super) fn ends(&self, lifetime: u64, idle: u64) -> u64 {
        self.begun.saturating_add(lifetime).min(self.seen.saturating_add(idle))
    }

    /// Whether it still lasts.
    pub(super) fn lasts(&self, lifetime: u64, idle: u64, now: u64) -> bool {
        now < self.ends(lifetime, idle) && self.begun <= now + AHEAD && self.seen <= now + AHEAD
    }
}

/// A login that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    /// What the provider sends back with the browser.
    pub(super) state: String,
    /// What the ID token must hold.
    pub(super) nonce: String,
    /// What shows that the code is for whoever asked (RFC 7636).
    pub(super) verifier: String,
    /// Where the browser goes then, a path of this site.
    pub(super) back: String,
    /// Seconds since the Unix epoch.
    begun: u64,
}

impl Login {
    /// A new one, that returns to a target of this site; `None` when there are no random numbers.
    pub(crate) fn begin(target: &str, now: u64) -> Option<Login> {
        let path = target.split('?').next().unwrap_or_default();
        let back = [target, path].into_iter().find(|back| back.len() <= LONGEST_RETURN && is_local(back));
        Some(Login {
            state: BASE64URL_NOPAD.encode(&random::<16>()?),
            nonce: BASE64URL_NOPAD.encode(&random::<16>()?),
            verifier: BASE64URL_NOPAD.encode(&random::<32>()?),
            back: back.unwrap_or("/").to_owned(),
            begun: now,
        })
    }

    /// As it is sealed.
    pub(crate) fn value(&self) -> Value {
        json!({ "s": self.state, "n": self.nonce, "v": self.verifier, "r": self.back, "t": self.begun })
    }

    /// Whether it may still end; it may have begun by a clock that is ahead.
    pub(crate) fn lasts(&self, now: u64) -> bool {
        self.begun <= now + AHEAD && now.saturating_sub(self.begun) < LOGIN_LASTS
    }

    pub(crate) fn read(value: &Value) -> Option<Login> {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        let begun = value.get("t")?.as_u64()?;
        let back = text("r").filter(|back| is_local(back))?;
        Some(Login { state: text("s")?, nonce: text("n")?, verifier: text("v")?, back, begun })
    }

    /// From when on nothing can come of it, whichever gateway's clock it began by; seconds since the Unix epoch.
    pub(crate) fn ends(&self) -> u64 {
        self.begun.saturating_add(LOGIN_LASTS + AHEAD)
    }

    /// Whether the state is this one's.
    pub(crate) fn is_of(&self, state: &[u8]) -> bool {
        verify_slices_are_equal(self.state.as_bytes(), state).is_ok()
    }

    /// What tells it from others.
    pub(crate) fn mark(&self) -> Option<Mark> {
        BASE64URL_NOPAD.decode(self.state.as_bytes()).ok()?.try_into().ok()
    }
}

/// Logins with one more, the oldest left out where there are too many.
pub(super) fn with(mut logins: Vec<Login>, new: Login) -> Vec<Login> {
    logins.push(new);
    let over = logins.len().saturating_sub(MOST_LOGINS);
    logins.drain(..over);
    logins
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}
