//! What tells one call from another, where an answer to one may be given to the other: its route, its caller, what is asked for, and every
//! field that may change the answer without the answer's saying so. Knows nothing of answers.

use aws_lc_rs::digest::{Context, SHA256};
use daemun_pipeline::{Exchange, FieldId};

use crate::destination::upstream::balance::mix;
use crate::destination::upstream::head::push_resource;
use crate::snapshot::Route;

/// A call among all: two that differ in anything that counts have different ones.
pub(crate) type Digest = [u8; 32];

/// What a call is known by.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) exchange: &'a Exchange,
    pub(crate) route: &'a Route,
    /// Names of fields, in lower case, that do not count.
    pub(crate) ignore: &'a [Box<str>],
}

impl Asked<'_> {
    /// The call, without what `Vary` names.
    pub(crate) fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        let mut put = |part: &[u8]| {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        };
        self.put(&mut put);
        finish(context)
    }

    /// The call, and the fields that an answer names in `Vary`.
    pub(crate) fn varied(&self, of: &Digest, names: &[String]) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(of);
        let mut put = |part: &[u8]| {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        };
        for name in names {
            let values = || self.exchange.request.head.values(name);
            put(&values().count().to_le_bytes());
            values().for_each(&mut put);
        }
        finish(context)
    }

    /// A number that calls share which differ in their fields alone; some tens of instructions.
    pub(crate) fn coarse(&self, seed: u64) -> u64 {
        let request = &self.exchange.request;
        let caller = self.exchange.consumer.map_or(0, |id| u64::from(id.0) + 1);
        let mut quick = Quick(seed ^ self.route.key ^ caller.rotate_left(32));
        quick.put(request.head.bytes(request.authority));
        quick.put(request.head.bytes(request.path));
        if let Some(query) = request.query {
            quick.put(request.head.bytes(query));
        }
        mix(quick.0)
    }

    /// A number that two calls seldom share, for what may be wrong now and then.
    pub(crate) fn quick<'n>(&self, seed: u64, vary: impl Iterator<Item = &'n [u8]>) -> u64 {
        let mut quick = Quick(seed);
        self.put(&mut |part| quick.put(part));
        for name in vary {
            let head = &self.exchange.request.head;
            let values = head.iter().filter(|(_, known, _)| known.eq_ignore_ascii_case(name));
            values.for_each(|(_, _, value)| quick.put(value));
        }
        mix(quick.0)
    }

    /// The same of what is asked about, whoever asks.
    pub(crate) fn resource(&self, seed: u64) -> u64 {
        let mut quick = Quick(seed);
        self.put_resource(&mut |part| quick.put(part));
        mix(quick.0)
    }

    fn put(&self, put: &mut impl FnMut(&[u8])) {
        let exchange = self.exchange;
        put(self.route.name.as_bytes());
        put(if exchange.is_known() { b"c" } else { b"" });
        put(exchange.consumer_bytes().unwrap_or_default());
        put(exchange.client.identity.as_ref().map_or("", |identity| &identity.fingerprint).as_bytes());
        put(if exchange.client.tls { b"s" } else { b"" });
        self.put_resource(put);
        for (id, name, value) in exchange.request.head.iter() {
            if self.counts(id, name) || id == FieldId::Forwarded && self.exchange.client.trusted && tells_more(value) {
                put_lower(name, put);
                put(value);
            }
        }
    }

    /// Host and path as the upstream is asked for them.
    fn put_resource(&self, put: &mut impl FnMut(&[u8])) {
        let request = &self.exchange.request;
        put(request.head.bytes(request.authority));
        if let Some(elsewhere) = &self.exchange.elsewhere {
            put(b"elsewhere");
            put(elsewhere.name.as_bytes());
            put(if elsewhere.resource.is_some() { b"r" } else { b"" });
            put(elsewhere.resource.as_deref().unwrap_or_default().as_bytes());
        }
        let Some(rewrite) = &self.route.own.rewrite else {
            put(request.head.bytes(request.path));
            put(if request.query.is_some() { b"?" } else { b"" });
            put(request.query.map_or(&[], |query| request.head.bytes(query)));
            return;
        };
        let mut path = Vec::new();
        push_resource(self.exchange, Some(rewrite), &mut path);
        put(&path);
    }

    /// Whether a field may change the answer: every one but HTTP's own, for which answers have `Vary`, and those that are of one call alone.
    #[allow(clippy::wildcard_enum_match_arm, reason = "what is not named here may change the answer")]
    fn counts(&self, id: FieldId, name: &[u8]) -> bool {
        match id {
            // those of others are not passed on
            FieldId::XForwardedHost | FieldId::XForwardedProto | FieldId::XForwardedPort | FieldId::ForwardedOther => {
                self.exchange.client.trusted
            }
            FieldId::Host
            | FieldId::ContentLength
            | FieldId::Expect
            | FieldId::Via
            | FieldId::Forwarded
            | FieldId::XForwardedFor
            | FieldId::XRealIp
            | FieldId::XRequestId
            | FieldId::Traceparent
            | FieldId::Tracestate
            // judged by what the answer says of them
            | FieldId::Cookie
            | FieldId::Authorization => false,
            id if id.is_hop_by_hop() => false,
            _ => !is_plain(name) && !self.ignore.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())),
        }
    }
}

/// Whether a `Forwarded` tells what a back end may build its answer from, beside addresses (RFC 7239, section 4).
fn tells_more(value: &[u8]) -> bool {
    let is_address = |pair: &[u8]| {
        let is = |name: &[u8]| pair.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        pair.is_empty() || is(b"for=") || is(b"by=")
    };
    !value.split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii).all(is_address)
}

/// A name, whatever its case.
fn put_lower(name: &[u8], put: &mut impl FnMut(&[u8])) {
    let mut lower = [0; 32];
    match lower.get_mut(..name.len()) {
        Some(lower) => {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            put(lower);
        }
        None => put(&name.to_ascii_lowercase()),
    }
}

fn finish(context: Context) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// Fields that HTTP itself, or a tracing system, gives to any request.
fn is_plain(name: &[u8]) -> bool {
    let known: &[&[u8]] = match name.len() {
        2 => &[b"b3"],
        3 => &[b"dnt"],
        4 => &[b"from"],
        5 => &[b"range"],
        6 => &[b"accept", b"pragma", b"cf-ray"],
        7 => &[b"referer", b"baggage"],
        8 => &[b"if-match", b"if-range", b"priority", b"newrelic", b"cdn-loop"],
        10 => &[b"user-agent", b"save-data", b"early-data"],
        12 => &[b"max-forwards", b"sentry-trace"],
        13 => &[b"if-none-match", b"cache-control", b"uber-trace-id"],
        14 => &[b"accept-charset", b"correlation-id"],
        15 => &[b"accept-encoding", b"accept-language", b"x-amzn-trace-id"],
        16 => &[b"x-correlation-id"],
        17 => &[b"if-modified-since"],
        19 => &[b"if-unmodified-since"],
        21 => &[b"x-cloud-trace-context"],
        25 => &[b"upgrade-insecure-requests"],
        _ => &[],
    };
    let begins = |with: &[u8]| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
        || begins(b"sec-")
        || begins(b"x-b3-")
        || begins(b"x-datadog-")
}

/// A hash of some instructions for eight bytes.
struct Quick(u64);

impl Quick {
    fn put(&mut self, part: &[u8]) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let (words, rest) = part.as_chunks::<8>();
        let mut hash = self.0 ^ part.len() as u64;
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(ODD).rotate_left(29);
        }
        // the last eight bytes once more, where there are as many, are quicker than the last few by themselves
        let last = part.last_chunk::<8>().map_or_else(
            || rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
            |word| u64::from_le_bytes(*word),
        );
        self.0 = (hash ^ last).wrapping_mul(ODD).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daemun_config::policy::Vocabulary;
    use daemun_config::{Diagnostics, System, load_text};
    use daemun_pipeline::{Carry, Consumer, ConsumerId, Directory, Span};

    use super::*;
    use crate::record::{Metrics, Setup};
    use crate::snapshot::Snapshot;

    /// A request: its path, its fields, and what else is done to it.
    fn exchange(path: &str, fields: &[(&str, &str)]) -> Exchange {
        let mut exchange = Exchange::default();
        exchange.request.head.buf.extend_from_slice(format!("a.test{path}").as_bytes());
        exchange.request.authority = Span::new(0, 6);
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        exchange.request.path = Span::new(6, 6 + path.len());
        exchange.request.query = query.map(|query| Span::new(7 + path.len(), 7 + path.len() + query.len()));
        for (name, value) in fields {
            assert!(exchange.request.head.append(name, value.as_bytes()));
        }
        exchange
    }

    fn snapshot(route: &str) -> Snapshot {
        let text = format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ targets: [\"http://127.0.0.1:1\"] }} }}\nroutes: [{{ {route}, upstream: u }}]"
        );
        let loaded = load_text("test.yaml".as_ref(), &text, &System, &Vocabulary { policies: &[] });
        let setup = Setup { workers: 1, policies: Vec::new(), version: "test", commit: "test", started: 0 };
        let (metrics, _) = Metrics::new(setup);
        let config = loaded.config.unwrap();
        Snapshot::compile(
            &config,
            &[],
            &Carry::detached(),
            &daemun_pipeline::Nowhere::shared(),
            &metrics,
            &mut Diagnostics::new(),
        )
        .unwrap()
    }

    fn digest(snapshot: &Snapshot, exchange: &Exchange) -> (Digest, u64) {
        let asked = Asked { exchange, route: &snapshot.routes[0], ignore: &["x-device".into()] };
        (asked.digest(), asked.quick(7, std::iter::empty()))
    }

    #[test]
    fn calls_that_may_get_different_answers_are_told_from_one_another() {
        let (one, other) = (snapshot("name: a"), snapshot("name: b"));
        let (mut digests, mut numbers) = (Vec::new(), Vec::new());
        let mut add = |(digest, number): (Digest, u64)| {
            assert!(!digests.contains(&digest) && !numbers.contains(&number));
            digests.push(digest);
            numbers.push(number);
        };
        add(digest(&one, &exchange("/a", &[])));
        add(digest(&other, &exchange("/a", &[])));
        add(digest(&one, &exchange("/b", &[])));
        add(digest(&one, &exchange("/a?", &[])));
        add(digest(&one, &exchange("/a?b", &[])));
        add(digest(&one, &exchange("/a", &[("X-Tenant", "a")])));
        add(digest(&one, &exchange("/a", &[("X-Tenant", "b")])));
        add(digest(&one, &exchange("/a", &[("X-Tenant", "a"), ("X-Tenant", "b")])));
        add(digest(&one, &exchange("/a", &[("X-HTTP-Method-Override", "DELETE")])));
        add(digest(&one, &exchange("/a", &[("Origin", "https://a.test")])));
        add(digest(&one, &exchange("/a", &[(&"x".repeat(40), "a")])));
        for (name, resource) in [("u", None), ("v", None), ("u", Some("/a")), ("u", Some("/b"))] {
            let mut elsewhere = exchange("/a", &[]);
            let resource = resource.map(Into::into);
            elsewhere.elsewhere =
                Some(Box::new(daemun_pipeline::Elsewhere { upstream: 0, name: name.into(), resource }));
            add(digest(&one, &elsewhere));
        }
        let mut tls = exchange("/a", &[]);
        tls.client.tls = true;
        add(digest(&one, &tls));
        let names = ["a", "b"].map(|name| Consumer { name: name.into(), ..Consumer::default() });
        let directory = Arc::new(Directory::new(names.into()));
        for id in 0..2 {
            let mut known = exchange("/a", &[]);
            known.consumer = Some(ConsumerId(id));
            known.directory = Some(Arc::clone(&directory));
            add(digest(&one, &known));
        }
        let mut trusted = exchange("/a", &[("X-Forwarded-Host", "b.test")]);
        trusted.client.trusted = true;
        add(digest(&one, &trusted));
        let mut forwarded = exchange("/a", &[("Forwarded", "for=1.2.3.4;Host=evil.test;proto=https")]);
        forwarded.client.trusted = true;
        add(digest(&one, &forwarded));
        let mut other = exchange("/a", &[("Forwarded", "for=1.2.3.4, for=5.6.7.8;proto=https")]);
        other.client.trusted = true;
        add(digest(&one, &other));
    }

    #[test]
    fn what_is_of_one_call_alone_or_of_http_does_not_tell_calls_apart() {
        let snapshot = snapshot("name: a");
        let plain = digest(&snapshot, &exchange("/a", &[]));
        for name in [
            "Accept",
            "USER-AGENT",
            "traceparent",
            "X-Request-Id",
            "x-b3-traceid",
            "Sec-Fetch-Mode",
            "If-None-Match",
            "X-Forwarded-Host",
            "X-Forwarded-For",
            "X-Device",
        ] {
            assert_eq!(digest(&snapshot, &exchange("/a", &[(name, "b")])), plain, "{name}");
        }
        let case = |name: &str| digest(&snapshot, &exchange("/a", &[(name, "b")]));
        assert_eq!(case("X-Tenant"), case("x-tenant"));
    }

    #[test]
    fn a_call_is_known_by_what_is_asked_of_the_upstream() {
        let rewritten =
            snapshot("name: a, match: { prefix: /v1 }, rewrite: { strip_prefix: /v1, query: { set: { k: v } } }");
        let plain = snapshot("name: a");
        let asked = |snapshot: &Snapshot, path: &str| {
            let exchange = exchange(path, &[]);
            Asked { exchange: &exchange, route: &snapshot.routes[0], ignore: &[] }.digest()
        };
        assert_ne!(asked(&rewritten, "/v1/a"), asked(&plain, "/v1/a"));
        assert_eq!(asked(&rewritten, "/v1/a?k=1"), asked(&rewritten, "/v1/a?k=2"));
        assert_ne!(asked(&rewritten, "/v1/a"), asked(&rewritten, "/v1/b"));
    }

    #[test]
    fn what_an_answer_varies_by_tells_calls_apart() {
        let snapshot = snapshot("name: a");
        let names = ["accept".to_owned(), "b".to_owned()];
        let varied = |fields: &[(&str, &str)]| {
            let exchange = exchange("/a", fields);
            let asked = Asked { exchange: &exchange, route: &snapshot.routes[0], ignore: &[] };
            asked.varied(&Digest::default(), &names)
        };
        let all = [varied(&[]), varied(&[("Accept", "b")]), varied(&[("accept", "a")]), varied(&[("b", "b")])];
        assert!(all.iter().enumerate().all(|(at, one)| !all[..at].contains(one)));
        assert_eq!(varied(&[("Accept", "a"), ("x", "y")]), varied(&[("accept", "a")]));
    }
}
