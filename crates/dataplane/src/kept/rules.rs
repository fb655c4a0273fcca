//! Which answers may be kept, and on what terms they may be used again: what RFC 9111 says to a cache that many share. Where it leaves a
//! choice, nothing is kept. Knows neither bodies nor keys.

use daemun_pipeline::{FieldId, Head};

use super::SECOND;

/// Names in `Vary` at most; an answer with more is not kept.
const VARY_MOST: usize = 16;

/// On what terms an answer may be used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Nanoseconds from its request for which it may be used at all; `None` where the answer sets no limit.
    pub(crate) usable: Option<u64>,
    /// Its age when it came, in seconds.
    pub(crate) age: u64,
    /// Whether it is for everyone, so that requests with cookies may be given it.
    pub(crate) public: bool,
    /// Whether requests with `Authorization` may be given it (RFC 9111, section 3.5).
    pub(crate) authorized: bool,
    /// Request fields that it depends on, in lower case, sorted.
    pub(crate) vary: Vec<String>,
}

/// Whether a status is one of a good answer, which is complete in itself and may be kept without its saying so (RFC 9110, section 15.1).
pub(crate) fn is_good(status: u16) -> bool {
    matches!(status, 200 | 203 | 300 | 301 | 308)
}

/// The terms of an answer with these fields to a request with those; `None` where it may not be kept (RFC 9111, sections 3 and 4.2.4).
pub(crate) fn judge(request: &Head, answer: &Head) -> Option<Terms> {
    let never = ["set-cookie", "set-cookie2", "content-range", "authentication-info"];
    if never.iter().any(|name| answer.get(name).is_some()) || Directives::of(request).no_store {
        return None;
    }
    let said = Directives::of(answer);
    if said.no_store || said.no_cache || said.private {
        return None;
    }
    if answer.get("cache-control").is_none() && answer.get("pragma").is_some_and(|value| has(value, b"no-cache")) {
        return None;
    }
    let vary = vary(answer)?;
    // one that was coded for its caller alone would be given to callers who cannot read it
    if answer.get("content-encoding").is_some() && !vary.iter().any(|name| name == "accept-encoding") {
        return None;
    }
    let age = age(answer)?;
    let terms = Terms {
        usable: said.usable(age)?,
        age,
        public: said.public,
        authorized: said.public || said.must_revalidate || said.s_maxage.is_some(),
        vary,
    };
    let fits = (terms.public || request.get_id(FieldId::Cookie).is_none())
        && (terms.authorized || request.get_id(FieldId::Authorization).is_none());
    fits.then_some(terms)
}

/// What `Cache-Control` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Directives {
    no_store: bool,
    no_cache: bool,
    private: bool,
    public: bool,
    /// For caches that many share.
    must_revalidate: bool,
    s_maxage: Option<u64>,
    max_age: Option<u64>,
    stale_if_error: Option<u64>,
}

impl Directives {
    fn of(head: &Head) -> Directives {
        let mut said = Directives::default();
        for value in head.values("cache-control") {
            if !said.read(value) {
                // what follows a quote without an end cannot be told
                said.no_store = true;
            }
        }
        said
    }

    /// Reads a value; whether every quote of it ends.
    fn read(&mut self, value: &[u8]) -> bool {
        let (mut quoted, mut escaped, mut start) = (false, false, 0);
        for (at, &byte) in value.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    self.note(value.get(start..at).unwrap_or_default());
                    start = at + 1;
                }
                _ => {}
            }
        }
        self.note(value.get(start..).unwrap_or_default());
        !quoted
    }

    fn note(&mut self, item: &[u8]) {
        let mut parts = item.splitn(2, |&byte| byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // of two limits the narrower holds, and one that cannot be read is none left
        let least = |limit: &mut Option<u64>| {
            let seconds = value.and_then(seconds).unwrap_or(0);
            *limit = Some(limit.map_or(seconds, |limit| limit.min(seconds)));
        };
        match () {
            () if is("no-store") => self.no_store = true,
            () if is("no-cache") => self.no_cache = true,
            () if is("private") => self.private = true,
            () if is("public") => self.public = true,
            () if is("must-revalidate") || is("proxy-revalidate") => self.must_revalidate = true,
            () if is("s-maxage") => least(&mut self.s_maxage),
            () if is("max-age") => least(&mut self.max_age),
            () if is("stale-if-error") => least(&mut self.stale_if_error),
            () => {}
        }
    }

    /// For how many nanoseconds an answer of this age may be used: where it must not be used when it is stale, until then (RFC 9111, section
    /// 4.2.4); where it says for how long it may stand in for an error, until then (RFC 5861, section 4). `None` if that is over.
    #[allow(clippy::option_option, reason = "outer: at all; inner: whether there is a limit")]
    fn usable(&self, age: u64) -> Option<Option<u64>> {
        let fresh = self.s_maxage.or(self.max_age).unwrap_or(0);
        let limit = if self.must_revalidate || self.s_maxage.is_some() {
            Some(fresh)
        } else {
            self.stale_if_error.map(|more| fresh.saturating_add(more))
        };
        match limit.map(|limit| limit.saturating_sub(age)) {
            Some(0) => None,
            left => Some(left.map(|left| left.saturating_mul(SECOND))),
        }
    }
}

/// A number of seconds, quoted or not (RFC 9111, section 1.2.2).
fn seconds(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok().or(Some(u64::from(u32::MAX)))).flatten()
}

/// The age that an answer comes with; `None` where that cannot be told.
fn age(answer: &Head) -> Option<u64> {
    let mut values = answer.values("age");
    match (values.next(), values.next()) {
        (None, _) => Some(0),
        (Some(age), None) => seconds(age),
        (Some(_), Some(_)) => None,
    }
}

/// The names in `Vary`; `None` where what an answer depends on cannot be told from the fields of a request (RFC 9111, section 4.1).
fn vary(answer: &Head) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for name in vary_names(answer) {
        if name == b"*" || is_of_one_call(name) || names.len() == VARY_MOST {
            return None;
        }
        names.push(std::str::from_utf8(name).ok()?.to_ascii_lowercase());
    }
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// The names in `Vary` as they stand there.
pub(super) fn vary_names(answer: &Head) -> impl Iterator<Item = &[u8]> {
    let values = answer.values("vary").flat_map(|value| value.split(|&byte| byte == b','));
    values.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

/// Fields that the gateway writes anew for every call: none is like another.
#[allow(clippy::wildcard_enum_match_arm, reason = "every other field is the caller's")]
fn is_of_one_call(name: &[u8]) -> bool {
    match FieldId::of(name) {
        FieldId::XForwardedFor
        | FieldId::Forwarded
        | FieldId::XRealIp
        | FieldId::ForwardedOther
        | FieldId::XRequestId
        | FieldId::Traceparent
        | FieldId::Tracestate
        | FieldId::Via => true,
        id => id.is_hop_by_hop(),
    }
}

fn has(value: &[u8], name: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            assert!(head.append(name, value.as_bytes()));
        }
        head
    }

    fn answer(fields: &[(&str, &str)]) -> Option<Terms> {
        judge(&head(&[]), &head(fields))
    }

    #[test]
    fn what_is_not_for_a_shared_cache_is_not_kept() {
        for (name, value) in [
            ("Cache-Control", "no-store"),
            ("cache-control", "max-age=60, PRIVATE"),
            ("cache-control", "private=\"set-cookie, x\""),
            ("cache-control", "no-cache"),
            ("cache-control", "no-cache=\"x\""),
            ("cache-control", "x=\"a, public"),
            ("cache-control", "must-revalidate"),
            ("cache-control", "must-revalidate, max-age=0"),
            ("cache-control", "s-maxage=x, max-age=60"),
            ("cache-control", "max-age=60, max-age=0, proxy-revalidate"),
            ("cache-control", "stale-if-error=0"),
            ("pragma", "no-cache"),
            ("set-cookie", "a=b"),
            ("content-range", "bytes 0-1/2"),
            ("vary", "*"),
            ("vary", "accept, *"),
            ("vary", "X-Forwarded-For"),
            ("vary", "x-request-id"),
            ("content-encoding", "gzip"),
            ("age", "old"),
        ] {
            assert_eq!(answer(&[(name, value)]), None, "{name}: {value}");
        }
        assert_eq!(judge(&head(&[("Cache-Control", "no-store")]), &head(&[])), None);
        assert_eq!(answer(&[]), Some(Terms::default()));
        assert_eq!(answer(&[("cache-control", "x=\"no-store, private\"")]), Some(Terms::default()));
        assert_eq!(answer(&[("cache-control", "max-age=1"), ("pragma", "no-cache")]), Some(Terms::default()));
    }

    #[test]
    fn credentials_need_an_answer_that_is_for_everyone() {
        let kept =
            |request: (&str, &str), said: &str| judge(&head(&[request]), &head(&[("cache-control", said)])).is_some();
        for (said, cookie, authorization) in [
            ("max-age=60", false, false),
            ("public", true, true),
            ("s-maxage=60", false, true),
            ("must-revalidate, max-age=60", false, true),
        ] {
            assert_eq!(kept(("Cookie", "a=b"), said), cookie, "{said}");
            assert_eq!(kept(("Authorization", "Bearer a"), said), authorization, "{said}");
        }
    }

    #[test]
    fn an_answer_that_must_not_be_stale_is_used_while_it_is_fresh() {
        let usable = |said: &str, age: &str| {
            answer(&[("cache-control", said), ("age", age)]).map(|terms| terms.usable.map(|nanos| nanos / SECOND))
        };
        assert_eq!(usable("max-age=60", "100"), Some(None));
        assert_eq!(usable("must-revalidate, max-age=60", "0"), Some(Some(60)));
        assert_eq!(usable("proxy-revalidate, max-age=\"60\"", "20"), Some(Some(40)));
        assert_eq!(usable("s-maxage=30, max-age=60", "0"), Some(Some(30)));
        assert_eq!(usable("s-maxage=30, max-age=60", "30"), None);
        assert_eq!(usable("max-age=60, stale-if-error=40", "10"), Some(Some(90)));
        assert_eq!(usable("s-maxage=99999999999999999999999", "0"), Some(Some(u64::from(u32::MAX))));
    }

    #[test]
    fn names_in_vary_are_read_from_all_its_lines() {
        let terms = answer(&[("vary", "Accept-Encoding, X-B ,"), ("Vary", "x-a,x-b"), ("content-encoding", "gzip")]);
        assert_eq!(terms.unwrap().vary, ["accept-encoding", "x-a", "x-b"]);
        let many = (0..17).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(answer(&[("vary", &many)]), None);
    }
}
