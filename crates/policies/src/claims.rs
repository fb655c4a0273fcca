//! What a token says of its bearer: which claims must be there, and which tell who calls. Shared by the policies that are given claims;
//! knows not how they were proven.

use std::fmt;
use std::time::Duration;

pub(crate) use daemun_config::decode::{ClaimPath, ClaimValue};
use daemun_pipeline::Identity;
use serde_json::{Map, Value};

use daemun_pipeline::strict_json::{Json, Members};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Bytes of the name of a caller.
const LONGEST_SUBJECT: usize = 512;

/// A claim that must be there with one of these values, or be a list that holds one of them.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) path: ClaimPath,
    pub(crate) values: Vec<ClaimValue>,
}

impl Wanted {
    /// A claim with one of these texts.
    #[cfg(feature = "saml")]
    pub(crate) fn of_texts(path: ClaimPath, texts: &[String]) -> Wanted {
        Wanted { path, values: texts.iter().map(|text| ClaimValue::of(Value::String(text.clone()))).collect() }
    }

    fn is_met(&self, claims: &Members<'_>) -> bool {
        let one_of = |found: &Json<'_>| self.values.iter().any(|wanted| found.is(wanted.value()));
        match find(&self.path, claims) {
            Some(Json::List(list)) => list.iter().any(one_of),
            Some(found) => one_of(found),
            None => false,
        }
    }
}

/// What is asked of claims.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Who must have issued the token.
    pub(crate) issuer: Option<Box<str>>,
    /// Whom it must be for; one of them. Empty: not looked at.
    pub(crate) audience: Vec<String>,
    /// Claims that must be there.
    pub(crate) required: Vec<ClaimPath>,
    /// Claims and their values.
    pub(crate) wanted: Vec<Wanted>,
    /// How much the clocks of issuer and gateway may differ.
    pub(crate) leeway: Duration,
    /// How long a token may be valid in all.
    pub(crate) max_lifetime: Option<Duration>,
}

/// Why claims are refused; for `explain` and the log, never for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A claim that is looked at is not of its type.
    Type(Box<str>),
    /// A claim is missing.
    Missing(Box<str>),
    Issuer,
    Audience,
    /// A claim has none of the values wanted.
    Value(Box<str>),
    Expired,
    NotYet,
    /// It says that it was issued later than now.
    Future,
    TooLong,
    /// Nothing says who calls, or not in a way that can be used.
    Subject(Box<str>),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Type(name) => write!(f, "its `{name}` is not of the type it must have"),
            Unfit::Missing(name) => write!(f, "it has no `{name}`"),
            Unfit::Issuer => f.write_str("its `iss` is not the issuer that is configured"),
            Unfit::Audience => f.write_str("its `aud` is not the audience that is configured"),
            Unfit::Value(name) => write!(f, "its `{name}` has none of the values that are configured"),
            Unfit::Expired => f.write_str("it has expired"),
            Unfit::NotYet => f.write_str("it is not valid yet"),
            Unfit::Future => f.write_str("its `iat` lies in the future"),
            Unfit::TooLong => f.write_str("it is valid for longer than `max_lifetime`"),
            Unfit::Subject(name) => write!(f, "its `{name}` does not name a caller"),
        }
    }
}

/// From when, and until when not any more, claims hold; nanoseconds of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Span {
    /// Whether they hold now.
    #[inline]
    pub(crate) fn holds(self, now: u64) -> bool {
        self.from <= now && now < self.until
    }
}

impl Rules {
    /// Says how long claims hold that hold now (RFC 7519, section 4.1).
    ///
    /// # Errors
    /// Why they do not.
    pub(crate) fn check(&self, claims: &Members<'_>, now: u64) -> Result<Span, Unfit> {
        let span = self.check_times(claims, now)?;
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        if let Some(missing) = self.required.iter().find(|path| matches!(find(path, claims), None | Some(Json::Null))) {
            return Err(Unfit::Missing(missing.as_str().into()));
        }
        self.check_wanted(claims).map(|()| span)
    }

    /// Whether claims have the values that are wanted, whatever else they say.
    pub(crate) fn check_wanted(&self, claims: &Members<'_>) -> Result<(), Unfit> {
        match self.wanted.iter().find(|wanted| !wanted.is_met(claims)) {
            Some(unmet) => Err(Unfit::Value(unmet.path.as_str().into())),
            None => Ok(()),
        }
    }

    /// Whether the issuer is the one that is configured; may be asked of claims that are not proven.
    pub(crate) fn check_issuer(&self, claims: &Members<'_>) -> Result<(), Unfit> {
        let Some(issuer) = &self.issuer else { return Ok(()) };
        match claims.get("iss") {
            Some(Json::Text(found)) if **found == **issuer => Ok(()),
            Some(Json::Text(_)) => Err(Unfit::Issuer),
            Some(_) => Err(Unfit::Type("iss".into())),
            None => Err(Unfit::Missing("iss".into())),
        }
    }

    /// Whether the times are right; may be asked of claims that are not proven.
    pub(crate) fn check_times(&self, claims: &Members<'_>, now: u64) -> Result<Span, Unfit> {
        let leeway = u64::try_from(self.leeway.as_nanos()).unwrap_or(u64::MAX);
        let (expires, begins, issued) = (time(claims, "exp")?, time(claims, "nbf")?, time(claims, "iat")?);
        let span = Span {
            from: begins.unwrap_or(0).max(issued.unwrap_or(0)).saturating_sub(leeway),
            until: expires.map_or(u64::MAX, |expires| expires.saturating_add(leeway)),
        };
        if now >= span.until {
            return Err(Unfit::Expired);
        }
        if begins.is_some_and(|begins| begins.saturating_sub(leeway) > now) {
            return Err(Unfit::NotYet);
        }
        if issued.is_some_and(|issued| issued.saturating_sub(leeway) > now) {
            return Err(Unfit::Future);
        }
        if let Some(most) = self.max_lifetime {
            let issued = issued.ok_or_else(|| Unfit::Missing("iat".into()))?;
            let expires = expires.ok_or_else(|| Unfit::Missing("exp".into()))?;
            if u128::from(expires.saturating_sub(issued)) > most.as_nanos() {
                return Err(Unfit::TooLong);
            }
        }
        Ok(span)
    }

    fn check_audience(&self, claims: &Members<'_>) -> Result<(), Unfit> {
        if self.audience.is_empty() {
            return Ok(());
        }
        let is_ours = |found: &str| self.audience.iter().any(|own| own == found);
        let found = match claims.get("aud") {
            Some(Json::Text(one)) => is_ours(one),
            Some(Json::List(list)) if list.iter().all(|one| one.as_str().is_some()) => {
                list.iter().filter_map(Json::as_str).any(is_ours)
            }
            Some(_) => return Err(Unfit::Type("aud".into())),
            None => return Err(Unfit::Missing("aud".into())),
        };
        if found { Ok(()) } else { Err(Unfit::Audience) }
    }
}

/// A NumericDate (RFC 7519, section 2) in nanoseconds; years beyond those that can be told are the last of them.
fn time(claims: &Members<'_>, name: &str) -> Result<Option<u64>, Unfit> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Json::Number(number) = value else { return Err(Unfit::Type(name.into())) };
    if let Some(whole) = number.as_u64() {
        return Ok(Some(whole.saturating_mul(SECOND)));
    }
    match number.as_f64() {
        Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Some((seconds * 1e9) as u64)),
        _ => Err(Unfit::Type(name.into())),
    }
}

/// Which claims tell who calls.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    /// What the caller is called by; the first that is there.
    pub(crate) subject: Vec<ClaimPath>,
    /// Names a consumer of the configuration.
    pub(crate) consumer: Option<ClaimPath>,
    pub(crate) roles: Option<ClaimPath>,
    pub(crate) groups: Option<ClaimPath>,
    /// The first that is there.
    pub(crate) scopes: Vec<ClaimPath>,
}

impl Telling {
    /// Who calls, with all that is said of it.
    ///
    /// # Errors
    /// When the claims do not tell.
    pub(crate) fn identity(&self, claims: Map<String, Value>) -> Result<Identity, Unfit> {
        let identity = self.bearer(&Members::of(&claims))?;
        Ok(Identity { claims: claims.into(), ..identity })
    }

    /// Who calls, without the claims.
    ///
    /// # Errors
    /// When the claims do not tell.
    pub(crate) fn bearer(&self, claims: &Members<'_>) -> Result<Identity, Unfit> {
        let name = |path: &ClaimPath| match find(path, claims) {
            Some(Json::Text(name)) if (1..=LONGEST_SUBJECT).contains(&name.len()) => Ok(Some((&**name).into())),
            Some(Json::Null) | None => Ok(None),
            Some(_) => Err(Unfit::Subject(path.as_str().into())),
        };
        let mut subject: Option<Box<str>> = None;
        for path in &self.subject {
            subject = name(path)?;
            if subject.is_some() {
                break;
            }
        }
        let consumer = match &self.consumer {
            Some(path) => Some(name(path)?.ok_or_else(|| Unfit::Missing(path.as_str().into()))?),
            None => None,
        };
        // a consumer of the configuration is called by its name, whatever else the token says
        let subject = match (subject, &consumer) {
            (Some(subject), _) => subject,
            (None, Some(consumer)) => consumer.clone(),
            (None, None) => {
                return Err(Unfit::Missing(
                    self.subject.first().map_or_else(Box::default, |path| path.as_str().into()),
                ));
            }
        };
        let listed = |path: &ClaimPath| find(path, claims).map(list).unwrap_or_default();
        let scopes = self.scopes.iter().find_map(|path| find(path, claims)).map(words).unwrap_or_default();
        let id = claims.get("jti").and_then(Json::as_str).filter(|id| id.len() <= LONGEST_SUBJECT).map(Into::into);
        Ok(Identity {
            subject,
            consumer,
            roles: self.roles.as_ref().map(listed).unwrap_or_default(),
            groups: self.groups.as_ref().map(listed).unwrap_or_default(),
            tags: Vec::new(),
            scopes,
            credential: id,
            ..Identity::default()
        })
    }
}

/// What stands at a path, as [`ClaimPath::find`] finds it.
fn find<'c, 't>(path: &ClaimPath, claims: &'c Members<'t>) -> Option<&'c Json<'t>> {
    if let Some(found) = claims.get(path.as_str()) {
        return Some(found);
    }
    let (first, rest) = path.as_str().split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, name| match value {
        Json::Members(members) => members.get(name),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => None,
    })
}

/// The texts of a list, or one text.
fn list(value: &Json<'_>) -> Vec<String> {
    match value {
        Json::Text(one) => vec![one.clone().into_owned()],
        Json::List(list) => list.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Members(_) => Vec::new(),
    }
}

/// The same, where one text holds words with spaces between them (RFC 6749, section 3.3).
fn words(value: &Json<'_>) -> Vec<String> {
    match value {
        Json::Text(words) => words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Members(_) => list(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000 * SECOND;

    fn claims(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    fn members(text: &str) -> Members<'_> {
        daemun_pipeline::strict_json::read_members(text.as_bytes()).unwrap()
    }

    fn rules() -> Rules {
        Rules { leeway: Duration::from_secs(30), ..Rules::default() }
    }

    #[test]
    fn times_count_with_the_leeway_and_to_the_second() {
        for (text, expected) in [
            (r#"{"exp":1800000001}"#, None),
            (r#"{"exp":1799999971}"#, None),
            (r#"{"exp":1799999970}"#, Some(Unfit::Expired)),
            (r#"{"exp":1799999970.5}"#, None),
            (r#"{"exp":0}"#, Some(Unfit::Expired)),
            (r#"{"exp":-1}"#, Some(Unfit::Type("exp".into()))),
            (r#"{"exp":"1900000000"}"#, Some(Unfit::Type("exp".into()))),
            (r#"{"exp":null}"#, Some(Unfit::Type("exp".into()))),
            (r#"{"exp":18446744073709551615}"#, None),
            (r#"{"exp":1e300}"#, None),
            (r#"{"nbf":1800000030}"#, None),
            (r#"{"nbf":1800000031}"#, Some(Unfit::NotYet)),
            (r#"{"iat":1800000030}"#, None),
            (r#"{"iat":1800000031}"#, Some(Unfit::Future)),
            (r#"{"iat":[]}"#, Some(Unfit::Type("iat".into()))),
        ] {
            assert_eq!(rules().check(&members(text), NOW).err(), expected, "{text}");
        }
    }

    #[test]
    fn claims_hold_until_they_expire_and_not_before_they_begin() {
        let text = r#"{"nbf":1800000010,"iat":1800000020,"exp":1800000100}"#;
        let span = rules().check(&members(text), NOW).unwrap();
        assert_eq!(span, Span { from: 1_799_999_990 * SECOND, until: 1_800_000_130 * SECOND });
        assert!(span.holds(NOW) && span.holds(1_800_000_129 * SECOND));
        assert!(!span.holds(1_800_000_130 * SECOND) && !span.holds(1_799_999_989 * SECOND));
    }

    #[test]
    fn a_token_that_lives_too_long_is_refused() {
        let rules = Rules { max_lifetime: Some(Duration::from_secs(60)), ..rules() };
        for (text, expected) in [
            (r#"{"iat":1800000000,"exp":1800000060}"#, None),
            (r#"{"iat":1800000000,"exp":1800000061}"#, Some(Unfit::TooLong)),
            (r#"{"exp":1800000061}"#, Some(Unfit::Missing("iat".into()))),
            (r#"{"iat":1800000000}"#, Some(Unfit::Missing("exp".into()))),
        ] {
            assert_eq!(rules.check(&members(text), NOW).err(), expected, "{text}");
        }
    }

    #[test]
    fn issuer_and_audience_are_compared_whole() {
        let rules = Rules { issuer: Some("https://a".into()), audience: vec!["x".into(), "y".into()], ..rules() };
        for (text, expected) in [
            (r#"{"iss":"https://a","aud":"x"}"#, None),
            (r#"{"iss":"https://a","aud":["z","y"]}"#, None),
            (r#"{"iss":"https://a/","aud":"x"}"#, Some(Unfit::Issuer)),
            (r#"{"aud":"x"}"#, Some(Unfit::Missing("iss".into()))),
            (r#"{"iss":["https://a"],"aud":"x"}"#, Some(Unfit::Type("iss".into()))),
            (r#"{"iss":"https://a","aud":"X"}"#, Some(Unfit::Audience)),
            (r#"{"iss":"https://a","aud":[]}"#, Some(Unfit::Audience)),
            (r#"{"iss":"https://a","aud":["x",1]}"#, Some(Unfit::Type("aud".into()))),
            (r#"{"iss":"https://a","aud":{"x":1}}"#, Some(Unfit::Type("aud".into()))),
            (r#"{"iss":"https://a"}"#, Some(Unfit::Missing("aud".into()))),
        ] {
            assert_eq!(rules.check(&members(text), NOW).err(), expected, "{text}");
        }
    }

    #[test]
    fn wanted_values_may_stand_alone_or_in_a_list() {
        let wanted = |path: &str, values: &[Value]| Wanted {
            path: ClaimPath::named(path),
            values: values.iter().cloned().map(ClaimValue::of).collect(),
        };
        let rules = Rules {
            required: vec![ClaimPath::named("jti")],
            wanted: vec![wanted("azp", &["web".into(), "app".into()]), wanted("a.b", &[true.into()])],
            ..rules()
        };
        for (text, expected) in [
            (r#"{"jti":"1","azp":"app","a":{"b":true}}"#, None),
            (r#"{"jti":"1","azp":["x","web"],"a.b":true}"#, None),
            (r#"{"jti":null,"azp":"app","a":{"b":true}}"#, Some(Unfit::Missing("jti".into()))),
            (r#"{"jti":"1","azp":"other","a":{"b":true}}"#, Some(Unfit::Value("azp".into()))),
            (r#"{"jti":"1","azp":"app","a":{"b":"true"}}"#, Some(Unfit::Value("a.b".into()))),
            (r#"{"jti":"1","azp":"app"}"#, Some(Unfit::Value("a.b".into()))),
            (r#"{"jti":"1","a":{"b":true}}"#, Some(Unfit::Value("azp".into()))),
        ] {
            assert_eq!(rules.check(&members(text), NOW).err(), expected, "{text}");
        }
    }

    #[test]
    fn claims_tell_who_calls() {
        let path = ClaimPath::named;
        let telling = Telling {
            subject: vec![path("sub"), path("client_id")],
            consumer: None,
            roles: Some(path("realm_access.roles")),
            groups: Some(path("https://example.com/groups")),
            scopes: vec![path("scope"), path("scp")],
        };
        let text = r#"{"sub":"ann","jti":"7","realm_access":{"roles":["a",1,"b c"]},
            "https://example.com/groups":"staff of all","scp":["r","w"]}"#;
        let identity = telling.identity(claims(text)).unwrap();
        assert_eq!((&*identity.subject, identity.credential.as_deref()), ("ann", Some("7")));
        assert_eq!(identity.roles, ["a", "b c"]);
        assert_eq!(identity.groups, ["staff of all"]);
        assert_eq!(identity.scopes, ["r", "w"]);
        assert_eq!(*identity.claims, claims(text));
        let of = |text: &str| telling.identity(claims(text)).map(|identity| identity.subject);
        assert_eq!(of(r#"{"client_id":"job","scope":"a  b"}"#).as_deref(), Ok("job"));
        assert_eq!(of("{}"), Err(Unfit::Missing("sub".into())));
        assert_eq!(of(r#"{"sub":""}"#), Err(Unfit::Subject("sub".into())));
        assert_eq!(of(r#"{"sub":7,"client_id":"x"}"#), Err(Unfit::Subject("sub".into())));
        let named = Telling { consumer: Some(path("azp")), ..telling };
        assert_eq!(named.identity(claims(r#"{"azp":"shop"}"#)).unwrap().consumer.as_deref(), Some("shop"));
        assert_eq!(named.identity(claims(r#"{"sub":"a"}"#)).err(), Some(Unfit::Missing("azp".into())));
    }
}
