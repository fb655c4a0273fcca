//! What `key_auth` holds beyond its page.

use daemun_pipeline::{Carry, FieldId, Outcome};

use super::keys::Keys;
use crate::testing::{Bench, Chain, consumer, told, upstream_lines};

const KEY: &str = "shop-app-key-0001";
const OTHER: &str = "partner-key-00001";

fn bench() -> Bench {
    Bench::new(vec![consumer("shop-app", &["buyer"], &[KEY]), consumer("partner", &[], &[OTHER])])
}

fn chain(settings: &str) -> Chain {
    bench().build(&format!("key_auth: {settings}")).unwrap()
}

fn everywhere() -> Chain {
    chain("{ header: X-Api-Key, query: api_key, authorization: Bearer }")
}

#[test]
fn the_caller_is_noted_on_the_exchange() {
    let chain = everywhere();
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nx-api-key: {OTHER}"));
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.consumer().unwrap().name, "partner");
    assert_eq!(exchange.request.head.values_id(FieldId::Identity).count(), 1);
}

#[test]
fn a_request_with_keys_in_two_places_is_refused() {
    let chain = everywhere();
    for text in [
        format!("GET /?api_key={KEY} HTTP/1.1\nX-Api-Key: {KEY}"),
        format!("GET /?api_key={KEY} HTTP/1.1\nX-Api-Key: {OTHER}"),
        format!("GET / HTTP/1.1\nX-Api-Key: {KEY}\nAuthorization: Bearer {KEY}"),
        format!("GET /?a=b&api%5Fkey={KEY} HTTP/1.1\nAuthorization: Bearer {KEY}"),
    ] {
        assert_eq!(chain.status(&mut chain.exchange(&text)), 401, "{text}");
    }
}

#[test]
fn the_same_place_may_repeat_one_key_but_not_two() {
    let chain = everywhere();
    for (text, status) in [
        (format!("GET / HTTP/1.1\nX-Api-Key: {KEY}\nx-api-key: {KEY}"), 0),
        (format!("GET / HTTP/1.1\nX-Api-Key: {KEY}\nX-Api-Key: {OTHER}"), 401),
        (format!("GET / HTTP/1.1\nX-Api-Key: {KEY}\nX-Api-Key: nonsense"), 401),
        (format!("GET /?api_key={KEY}&api_key=%73{} HTTP/1.1", &KEY[1..]), 0),
        (format!("GET /?api_key={KEY}&api%5fkey={OTHER} HTTP/1.1"), 401),
        (format!("GET / HTTP/1.1\nAuthorization: Bearer {KEY}\nAuthorization: Bearer {OTHER}"), 401),
        (format!("GET / HTTP/1.1\nAuthorization: Bearer {KEY}\nAuthorization: BEARER   {KEY}"), 0),
    ] {
        let mut exchange = chain.exchange(&text);
        assert_eq!(chain.status(&mut exchange), status, "{text}");
        if status == 0 {
            let forwarded = upstream_lines(&exchange.request).join("\n");
            assert!(!forwarded.contains(KEY) && !forwarded.contains("api_key"), "no copy is forwarded: {forwarded}");
        }
    }
}

#[test]
fn an_empty_key_is_no_key() {
    let chain = everywhere();
    for text in
        ["GET /?api_key HTTP/1.1\nX-Api-Key:", "GET /?api_key= HTTP/1.1", "GET / HTTP/1.1\nAuthorization: Bearer"]
    {
        assert_eq!(chain.status(&mut chain.exchange(text)), 401, "{text}");
    }
    let mut exchange = chain.exchange(&format!("GET /?api_key= HTTP/1.1\nX-Api-Key: {KEY}"));
    assert_eq!(chain.status(&mut exchange), 0);
}

#[test]
fn a_query_keeps_everything_but_the_key() {
    let chain = everywhere();
    for (query, left) in [
        (format!("api_key={KEY}"), None),
        (format!("api_key={KEY}&a=1"), Some("a=1")),
        (format!("a=1&api_key={KEY}"), Some("a=1")),
        (format!("a=1&&b&api_key={KEY}&c=%20+x="), Some("a=1&&b&c=%20+x=")),
        (format!("my_api_key=x&api_key={KEY}&api_key2=y"), Some("my_api_key=x&api_key2=y")),
    ] {
        let mut exchange = chain.exchange(&format!("GET /p?{query} HTTP/1.1"));
        assert_eq!(chain.status(&mut exchange), 0, "{query}");
        assert_eq!(exchange.request.query_text(), left, "{query}");
        assert_eq!(exchange.request.path_text(), "/p");
    }
}

#[test]
fn another_scheme_is_left_alone() {
    let chain = everywhere();
    let mut exchange =
        chain.exchange(&format!("GET / HTTP/1.1\nAuthorization: Basic abc\nAuthorization: Bearer {KEY}"));
    assert_eq!(chain.status(&mut exchange), 0);
    let forwarded: Vec<_> = exchange.request.head.values_id(FieldId::Authorization).collect();
    assert_eq!(forwarded, [b"Basic abc"]);
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nAuthorization: Bearer{KEY}"));
    assert_eq!(chain.status(&mut exchange), 401);
}

#[test]
fn keys_longer_than_512_bytes_are_refused() {
    let longest = "k".repeat(512);
    let bench = Bench::new(vec![consumer("a", &[], &[&longest])]);
    let chain = bench.build("key_auth: { header: K, query: k }").unwrap();
    for (text, status) in [
        (format!("GET / HTTP/1.1\nK: {longest}"), 0),
        (format!("GET / HTTP/1.1\nK: {longest}k"), 401),
        (format!("GET /?k={longest} HTTP/1.1"), 0),
        (format!("GET /?k={longest}k HTTP/1.1"), 401),
        (format!("GET /?k={} HTTP/1.1", "%6B".repeat(512)), 0),
    ] {
        assert_eq!(chain.status(&mut chain.exchange(&text)), status);
    }
}

#[test]
fn missing_and_unknown_are_refused_in_the_same_words() {
    let chain = chain("{ header: X-Api-Key }");
    let refusal = |text: &str| told(chain.inward(&mut chain.exchange(text)).1.unwrap_err());
    let missing = refusal("GET / HTTP/1.1");
    assert_eq!(missing, refusal("GET / HTTP/1.1\nX-Api-Key: unknown-key-00001"));
    assert_eq!(missing, refusal(&format!("GET / HTTP/1.1\nX-Api-Key: {KEY}\nX-Api-Key: {OTHER}")));
    assert!(missing.contains("WWW-Authenticate"));
}

#[test]
fn explain_says_why_and_never_shows_a_key() {
    let chain = everywhere();
    for (text, outcome, words) in [
        (format!("GET / HTTP/1.1\nX-Api-Key: {KEY}"), Outcome::Pass, "one of `shop-app`"),
        ("GET / HTTP/1.1".to_owned(), Outcome::Refuse(401, "unauthenticated"), "no key"),
        (
            "GET / HTTP/1.1\nX-Api-Key: sesame-0123456789".to_owned(),
            Outcome::Refuse(401, "unauthenticated"),
            "none of the 2",
        ),
        (
            format!("GET /?api_key={KEY} HTTP/1.1\nX-Api-Key: {KEY}"),
            Outcome::Refuse(401, "unauthenticated"),
            "more than one",
        ),
    ] {
        let (found, detail) = chain.explain(&mut chain.exchange(&text));
        assert_eq!(found, outcome);
        assert!(detail.contains(words), "{detail}");
        assert!(!detail.contains(KEY) && !detail.contains("sesame"), "{detail}");
    }
}

#[test]
fn ten_thousand_keys_are_found_and_no_other() {
    let keys: Vec<String> = (0..10_000).map(|n| format!("consumer-key-{n:05}")).collect();
    let consumers = keys.iter().map(|key| consumer(&format!("of {key}"), &[], &[key])).collect();
    let bench = Bench::new(consumers);
    let table = Keys::new(&bench.directory, &[], &daemun_accounts::Accounts::in_memory());
    assert_eq!(table.len(), 10_000);
    for key in &keys {
        let found = table.find(&daemun_accounts::text::digest(key.as_bytes())).unwrap();
        assert_eq!(bench.directory.get(found.0.consumer).unwrap().name, format!("of {key}"));
    }
    for n in 10_000..20_000 {
        assert_eq!(table.find(&daemun_accounts::text::digest(format!("consumer-key-{n:05}").as_bytes())), None);
    }
}

#[test]
fn digests_that_begin_alike_are_told_apart() {
    let mut alike = consumer("a", &[], &[KEY, OTHER]);
    let (first, second) = (alike.keys[0], alike.keys[1]);
    alike.keys[1][..16].copy_from_slice(&first[..16]);
    let mut honest = consumer("b", &[], &[]);
    honest.keys.push(second);
    let bench = Bench::new(vec![alike, honest]);
    let table = Keys::new(&bench.directory, &[], &daemun_accounts::Accounts::in_memory());
    assert_eq!(table.find(&daemun_accounts::text::digest(KEY.as_bytes())).unwrap().0.consumer.0, 0);
    assert_eq!(table.find(&daemun_accounts::text::digest(OTHER.as_bytes())).unwrap().0.consumer.0, 1);
}

#[test]
fn names_and_roles_of_any_length_are_told() {
    for (name, roles) in [("a", 0), ("a", 22), ("a", 23), ("a", 300), ("b", 3), ("abcde", 0)] {
        for repeat in [1, 2, 5, 6, 25, 26, 300] {
            let (name, role) = (name.repeat(repeat), "r".repeat(roles));
            let roles: &[&str] = if roles == 0 { &[] } else { &["x", &role] };
            let bench = Bench::new(vec![consumer("other", &["y"], &[OTHER]), consumer(&name, roles, &[KEY])]);
            let chain = bench.build("key_auth: { header: X-Api-Key }").unwrap();
            let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nX-Api-Key: {KEY}"));
            assert_eq!(chain.status(&mut exchange), 0);
            let head = &exchange.request.head;
            assert_eq!(head.get("X-Consumer-Name"), Some(name.as_bytes()));
            assert_eq!(head.get("X-Consumer-Roles"), (!roles.is_empty()).then_some(roles.join(",").as_bytes()));
        }
    }
}

#[test]
fn all_routes_of_a_directory_share_one_table() {
    let mut bench = bench();
    let first = bench.build("key_auth: { header: a }").unwrap();
    bench.carry.sweep();
    let before = std::sync::Arc::strong_count(&bench.directory);
    let _second = bench.build("key_auth: { query: b }").unwrap();
    assert_eq!(
        std::sync::Arc::strong_count(&bench.directory),
        before + 1,
        "the chain holds it, a second table would as well"
    );
    bench.carry = Carry::detached();
    let _third = bench.build("key_auth: { query: b }").unwrap();
    assert_eq!(std::sync::Arc::strong_count(&bench.directory), before + 3);
    drop(first);
}

#[test]
fn no_key_at_all_is_a_warning() {
    let bench = Bench::new(vec![consumer("a", &[], &[])]);
    let chain = bench.build("key_auth: { header: X-Api-Key }").unwrap();
    assert_eq!(chain.findings.lines(), ["no_credentials routes.items.policies.key_auth: no consumer has a key"]);
    let again = bench.build("key_auth: { header: X-Api-Key }").unwrap();
    assert!(again.findings.lines().is_empty(), "it is said once");
    assert_eq!(chain.status(&mut chain.exchange("GET / HTTP/1.1\nX-Api-Key: anything-at-all-1")), 401);
}

#[test]
fn names_and_roles_that_no_header_can_carry_are_errors() {
    for bad in [consumer("a\nb", &[], &[KEY]), consumer("a", &["x,y"], &[KEY]), consumer(" a", &[], &[KEY])] {
        let errors = Bench::new(vec![bad]).errors("key_auth: { header: K }");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("bad_value"), "{errors:?}");
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = bench();
    for (settings, code) in [
        ("key_auth: {}", "missing_key"),
        ("key_auth: { forward: true }", "missing_key"),
        ("key_auth: { header: 'X Key' }", "bad_value"),
        ("key_auth: { header: Authorization }", "bad_value"),
        ("key_auth: { header: Host }", "bad_value"),
        ("key_auth: { header: X-Consumer-Name }", "bad_value"),
        ("key_auth: { query: 'a=b' }", "bad_value"),
        ("key_auth: { query: '' }", "bad_value"),
        ("key_auth: { authorization: 'Bearer x' }", "bad_value"),
        ("key_auth: { header: K, optional: true }", "unknown_key"),
        ("key_auth: [K]", "wrong_type"),
    ] {
        let errors = bench.errors(settings);
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
    }
}
