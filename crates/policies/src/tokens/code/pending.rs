//! Logins that are under way, as the browser keeps them: sealed, so that whoever has the cookie can neither read nor change them, and good in
//! that browser alone. Knows no request and no provider.

use daemun_accounts::seal::Seal;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

use crate::oidc::session::{Login, MOST_LOGINS};
use daemun_pipeline::strict_json::read_object;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The client, by its id.
    pub(super) client: String,
    /// Where the browser goes then.
    pub(super) redirect: String,
    /// What the client's verifier must come to.
    pub(super) challenge: String,
    /// What the client is told again.
    pub(super) state: Option<String>,
    /// What tokens are to be for; all that the client may have where nothing is said.
    pub(super) scopes: Option<Vec<String>>,
}

/// What is asked for while the user logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) login: Login,
    pub(super) asked: Asked,
}

impl Asked {
    fn value(&self) -> Value {
        json!({ "c": self.client, "u": self.redirect, "p": self.challenge, "s": self.state, "w": self.scopes })
    }

    fn read(value: &Value) -> Option<Asked> {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        let scopes = match value.get("w")?.as_array() {
            Some(list) => Some(list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?),
            None => None,
        };
        Some(Asked { client: text("c")?, redirect: text("u")?, challenge: text("p")?, state: text("s"), scopes })
    }
}

/// Seals and opens them.
pub(super) struct Seals {
    /// The first seals, and all open.
    seals: Vec<Seal>,
    /// Whose they are: what is sealed for one service opens for no other.
    of: String,
}

impl Seals {
    /// `None` when a secret is too short.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>, issuer: &str, service: &str) -> Option<Seals> {
        let seals = secrets.map(|secret| Seal::derived(secret.as_bytes(), b"daemun tokens", b"logins, AES-256-GCM"));
        Some(Seals { seals: seals.collect::<Option<_>>()?, of: format!("{issuer}\n{service}") })
    }

    /// As the cookie holds them, the oldest left out where they do not fit; `None` when the newest alone does not.
    pub(super) fn seal(&self, pending: &[Pending], room: usize) -> Option<String> {
        for from in pending.len().saturating_sub(MOST_LOGINS)..pending.len() {
            let list: Vec<Value> =
                pending.get(from..)?.iter().map(|one| json!([one.login.value(), one.asked.value()])).collect();
            let sealed = self.seals.first()?.seal(&self.of, json!({ "l": list }).to_string().as_bytes()).ok()?;
            let text = BASE64URL_NOPAD.encode(&sealed);
            if text.len() <= room {
                return Some(text);
            }
        }
        None
    }

    /// Those that a cookie holds and that may still end; `now` in seconds since the Unix epoch.
    pub(super) fn open(&self, text: &[u8], now: u64) -> Vec<Pending> {
        let read = self.opened(text).unwrap_or_default();
        let list = read.get("l").and_then(Value::as_array).into_iter().flatten();
        let one =
            |value: &Value| Some(Pending { login: Login::read(value.get(0)?)?, asked: Asked::read(value.get(1)?)? });
        list.filter_map(one).filter(|pending| pending.login.lasts(now)).collect()
    }

    fn opened(&self, text: &[u8]) -> Option<Map<String, Value>> {
        let sealed = BASE64URL_NOPAD.decode(text).ok()?;
        let opened = self.seals.iter().find_map(|seal| seal.open(&self.of, &sealed).ok())?;
        read_object(&opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn pending(state: &str, now: u64) -> Pending {
        let asked = Asked {
            client: "web".to_owned(),
            redirect: "https://app.example/cb".to_owned(),
            challenge: "x".repeat(43),
            state: Some(state.to_owned()),
            scopes: Some(vec!["read".to_owned()]),
        };
        Pending { login: Login::begin("/", now).unwrap(), asked }
    }

    #[test]
    fn what_is_sealed_opens_for_its_service_until_it_ends() {
        let seals =
            |secret: &'static str, service: &str| Seals::new([secret].into_iter(), "https://a", service).unwrap();
        let own = seals(SECRET, "shop");
        let none = Pending { asked: Asked { state: None, scopes: None, ..pending("", NOW).asked }, ..pending("", NOW) };
        let all = [pending("a\"\\b", NOW), none];
        let text = own.seal(&all, 4000).unwrap();
        assert!(!text.contains("app.example"));
        assert_eq!(own.open(text.as_bytes(), NOW), all);
        assert_eq!(own.open(text.as_bytes(), NOW + 599), all);
        for (seals, text, now) in [
            (&own, text.clone(), NOW + 600),
            (&own, text[1..].to_owned(), NOW),
            (&own, format!("{text}A"), NOW),
            (&own, String::new(), NOW),
            (&seals("another secret of thirty-two bytes", "shop"), text.clone(), NOW),
            (&seals(SECRET, "other"), text.clone(), NOW),
        ] {
            assert_eq!(seals.open(text.as_bytes(), now), []);
        }
        let rotated = Seals::new(["another secret of thirty-two bytes", SECRET].into_iter(), "https://a", "shop");
        assert_eq!(rotated.unwrap().open(text.as_bytes(), NOW), all);
        assert!(Seals::new(["short"].into_iter(), "https://a", "shop").is_none());
    }

    #[test]
    fn the_newest_stay_where_not_all_fit() {
        let seals = Seals::new([SECRET].into_iter(), "https://a", "shop").unwrap();
        let all: Vec<Pending> = (0..6).map(|n| pending(&n.to_string(), NOW)).collect();
        let states = |text: &str| -> Vec<String> {
            seals.open(text.as_bytes(), NOW).into_iter().map(|pending| pending.asked.state.unwrap()).collect()
        };
        assert_eq!(states(&seals.seal(&all, 4000).unwrap()), ["2", "3", "4", "5"]);
        assert_eq!(states(&seals.seal(&all, 700).unwrap()), ["5"]);
        assert_eq!(seals.seal(&all, 100), None);
        assert_eq!(seals.seal(&[], 4000), None);
    }
}
