//! Sessions: how long they last, what breaks them, how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daemun_accounts::store::{Durability, Sqlite, StoreError};
use daemun_accounts::{Accounts, Change, Store};
use daemun_pipeline::{Directory, Outcome};
use serde_json::json;

use super::bed::{Bed, Browser, ISSUER, NOW, settings};
use crate::testing::{consumer, wait};

const SESSION: &str = "daemun-session";

#[test]
fn a_changed_cookie_is_no_session() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let browser = Browser::login(&bed, &chain);
    let good = browser.cookie(SESSION).to_owned();
    let status = |value: &str| {
        let cookies = vec![(SESSION.to_owned(), value.to_owned())];
        Browser { cookies, ..Browser::default() }.send(&chain, "GET / HTTP/1.1").status
    };
    assert_eq!(status(&good), 200);
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(status(&String::from_utf8(changed).unwrap()), 401, "{at}");
    }
    for other in [String::new(), "x".to_owned(), good[1..].to_owned(), format!("{good}AAAA"), "A".repeat(5000)] {
        assert_eq!(status(&other), 401);
    }
    let twice = |second: &str| {
        let cookies = vec![(SESSION.to_owned(), good.clone()), (SESSION.to_owned(), second.to_owned())];
        Browser { cookies, ..Browser::default() }.page(&chain, "/").status
    };
    assert_eq!(twice("planted"), 401, "of several none counts, and nobody is sent round and round");
}

#[test]
fn a_session_with_the_name_of_a_consumer_of_the_store_is_not_taken_for_it() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser::login(&bed, &chain);
    assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, 200);
    let _accounts = bed.bench.with_stored("ann");
    assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, 401);
}

#[test]
fn what_is_sealed_for_another_end_is_no_session() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser::default();
    browser.begin(&bed, &chain, "/");
    let login = browser.cookie("daemun-session_login").to_owned();
    browser.cookies = vec![(SESSION.to_owned(), login)];
    assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, 401, "a login that is under way");
    let browser = Browser::login(&bed, &chain);
    let other = settings("", "0123456789abcdef0123456789abcdef");
    for changed in [
        other.replace(ISSUER, "https://other.example"),
        other.replace("shop-web", "other"),
        settings("", "another secret of 32 bytes or more"),
    ] {
        let other = bed.bench.build(&changed).unwrap();
        assert_eq!(browser.clone().send(&other, "GET / HTTP/1.1").status, 401, "{changed}");
    }
}

#[test]
fn a_session_ends_when_it_is_not_used_and_when_its_time_is_over() {
    let bed = Bed::new();
    let chain = bed.chain(", session: { secret: 0123456789abcdef0123456789abcdef, lifetime: 2h, idle: 1h }");
    let mut browser = Browser::login(&bed, &chain);
    let got = browser.send(&chain, "GET / HTTP/1.1");
    assert!(!got.field("set-cookie").contains(SESSION) && got.field("cache-control") == "public, max-age=60");
    let mut idle = browser.clone();
    idle.later = 3599;
    assert_eq!(idle.clone().send(&chain, "GET / HTTP/1.1").status, 200);
    idle.later = 3600;
    assert_eq!(idle.send(&chain, "GET / HTTP/1.1").status, 401);
    assert_eq!(idle.page(&chain, "/").status, 302, "it is begun anew");
    let first = browser.cookie(SESSION).to_owned();
    browser.later = 899;
    browser.send(&chain, "GET / HTTP/1.1");
    assert_eq!(browser.cookie(SESSION), first);
    for minutes in [15, 60, 110] {
        browser.later = minutes * 60;
        let got = browser.send(&chain, "GET / HTTP/1.1");
        assert_eq!(got.status, 200, "in use after {minutes} minutes");
        let lasts = [3600, 3600, 600][usize::from(minutes > 15) + usize::from(minutes > 60)];
        assert!(got.field("set-cookie").contains(&format!("; Max-Age={lasts}; ")), "{}", got.field("set-cookie"));
        assert_eq!(got.field("cache-control"), "private, max-age=60", "no cache gives it to others");
    }
    browser.later = 7199;
    assert_eq!(browser.clone().send(&chain, "GET / HTTP/1.1").status, 200);
    browser.later = 7200;
    assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, 401, "not longer than it may");
    let mut early = Browser::login(&bed, &chain);
    early.later = 0;
    let shorter = bed.chain(", session: { secret: 0123456789abcdef0123456789abcdef, lifetime: 2m, idle: 1h }");
    early.later = 120;
    assert_eq!(early.send(&shorter, "GET / HTTP/1.1").status, 401, "what the settings say counts at once");
}

#[test]
fn a_session_of_an_older_secret_goes_on_under_the_newer() {
    let bed = Bed::new();
    let (old, new) = ("the older secret, which has 32 bytes", "the newer secret, which has 32 bytes");
    let chain = |secrets: &str| bed.chain(&format!(", session: {{ secret: {secrets} }}"));
    let first = chain(&format!("'{old}'"));
    let mut browser = Browser::login(&bed, &first);
    let both = chain(&format!("['{new}', '{old}']"));
    let got = browser.send(&both, "GET / HTTP/1.1");
    assert_eq!((got.status, got.set_cookies().len()), (200, 1), "it is sealed anew");
    assert_eq!(browser.send(&chain(&format!("'{new}'")), "GET / HTTP/1.1").status, 200);
    assert_eq!(browser.send(&first, "GET / HTTP/1.1").status, 401);
}

#[test]
fn a_login_begins_a_session_of_its_own() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let (one, two) = (Browser::login(&bed, &chain), Browser::login(&bed, &chain));
    assert_ne!(one.cookie(SESSION), two.cookie(SESSION));
    let id = |browser: &Browser| {
        let got = browser.clone().send(&chain, "GET / HTTP/1.1");
        got.exchange.identity.unwrap().credential.clone()
    };
    assert!(id(&one).is_some() && id(&one) != id(&two));
    // whatever was there before a login is not what is there after it
    let mut browser = Browser { cookies: one.cookies.clone(), later: 3600, ..Browser::default() };
    let state = browser.begin(&bed, &chain, "/");
    bed.with(|said| said.claims = json!({ "iat": NOW + 3600, "exp": NOW + 3900 }));
    assert_eq!(browser.back(&chain, &state).status, 302);
    assert_ne!(id(&browser), id(&one));
}

#[test]
fn whoever_logs_out_is_out_everywhere() {
    let bed = Bed::new();
    let chain = bed.chain(", after_logout: /bye");
    let mut browser = Browser::login(&bed, &chain);
    let copy = browser.clone();
    let other = Browser::login(&bed, &chain);
    assert_eq!(copy.clone().send(&chain, "GET / HTTP/1.1").status, 200);
    let got = browser.send(&chain, "POST /oidc/logout HTTP/1.1\nOrigin: http://shop.example.com");
    assert_eq!(got.status, 303);
    let location = got.field("location");
    assert!(location.starts_with(&format!("{ISSUER}/end?client_id=shop-web&")), "{location}");
    assert_eq!(got.parameter("post_logout_redirect_uri"), "http://shop.example.com/bye");
    assert_eq!(browser.cookies, []);
    assert_eq!(copy.clone().send(&chain, "GET / HTTP/1.1").status, 401, "a copy of the session is worth nothing");
    assert_eq!(other.clone().send(&chain, "GET / HTTP/1.1").status, 200, "another one is");
    let got = browser.send(&chain, "GET /oidc/logout HTTP/1.1");
    assert_eq!(
        (got.status, got.field("location").as_str()),
        (303, "/bye"),
        "without a session the provider is not asked"
    );
}

#[test]
fn behind_another_end_of_tls_a_page_of_the_site_that_callback_names_logs_out() {
    let bed = Bed::new();
    let chain = bed.chain(", callback: 'https://Shop.example.com:443/oidc/callback'");
    for (fields, status) in [
        ("Origin: https://shop.example.com", 303),
        ("Referer: https://shop.example.com/orders", 303),
        ("Origin: https://shop.example.com:8443", 403),
        ("Origin: https://example.com", 403),
        ("Referer: https://evil.example/https://shop.example.com", 403),
    ] {
        let request = format!("POST /oidc/logout HTTP/1.1\n{fields}");
        assert_eq!(Browser::default().send(&chain, &request).status, status, "{fields}");
    }
}

#[test]
fn another_site_logs_nobody_out() {
    let bed = Bed::new();
    let chain = bed.chain("");
    for (text, status) in [
        ("GET /oidc/logout HTTP/1.1\nSec-Fetch-Site: cross-site", 403),
        ("GET /oidc/logout HTTP/1.1\nSec-Fetch-Site: same-site", 403),
        ("GET /oidc/logout HTTP/1.1\nReferer: https://evil.example/", 403),
        ("POST /oidc/logout HTTP/1.1\nOrigin: https://evil.example", 403),
        ("POST /oidc/logout HTTP/1.1\nOrigin: null", 403),
        ("PUT /oidc/logout HTTP/1.1", 405),
        ("GET /oidc/logout HTTP/1.1\nSec-Fetch-Site: same-origin", 303),
        ("GET /oidc/logout HTTP/1.1\nSec-Fetch-Site: none", 303),
    ] {
        let mut browser = Browser::login(&bed, &chain);
        let explained = browser.explain(&chain, text).0;
        let got = browser.send(&chain, text);
        assert_eq!(got.status, status, "{text}");
        let told = match explained {
            Outcome::Answer(status) | Outcome::Refuse(status, _) => status,
            Outcome::Pass | Outcome::Skip => 0,
        };
        assert_eq!(told, status, "{text}");
        let expected = if status == 303 { 401 } else { 200 };
        assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, expected, "{text}");
    }
    let without = Bed::saying(json!({ "end_session_endpoint": null }));
    let chain = without.chain("");
    let got = Browser::login(&without, &chain).send(&chain, "GET /oidc/logout HTTP/1.1");
    assert_eq!((got.status, got.field("location").as_str()), (303, "/"));
}

#[test]
fn a_session_holds_what_it_is_told_to_and_never_more_than_a_cookie() {
    let bed = Bed::new();
    let secret = "session: { secret: 0123456789abcdef0123456789abcdef";
    let all = bed.chain(&format!(", {secret} }}"));
    bed.with(|said| {
        said.claims = json!({ "email": "a@b", "team": "x", "realm": { "roles": ["r"] }, "big": "x".repeat(1000) })
    });
    bed.with(|said| said.answer = json!({ "scope": "openid profile" }));
    let claims = |chain: &crate::testing::Chain| {
        let got = Browser::login(&bed, chain).send(chain, "GET / HTTP/1.1");
        let identity = got.exchange.identity.unwrap();
        let mut names: Vec<String> = identity.claims.keys().cloned().collect();
        names.sort_unstable();
        (names.join(" "), identity.scopes.join(" "))
    };
    let names = "big email realm scope sub team".to_owned();
    assert_eq!(claims(&all), (names.clone(), "openid profile".to_owned()));
    for (answer, granted) in [
        (json!({}), "openid profile"),
        (json!({ "scope": null }), "openid profile"),
        (json!({ "scope": "openid" }), "openid"),
        (json!({ "scope": "" }), ""),
    ] {
        bed.with(|said| said.answer = answer);
        assert_eq!(claims(&all), (names.clone(), granted.to_owned()));
    }
    let some = bed.chain(&format!(", roles: realm.roles, {secret}, claims: [email] }}"));
    assert_eq!(claims(&some).0, "email realm scope sub");
    bed.with(|said| said.claims = json!({ "big": "x".repeat(4000) }));
    let mut browser = Browser::default();
    let state = browser.begin(&bed, &all, "/");
    let got = browser.back(&all, &state);
    assert_eq!(got.status, 503);
    assert!(got.cause.contains("session.claims"), "{}", got.cause);
    assert_eq!(browser.cookies, []);
}

#[test]
fn whose_session_has_the_name_of_a_consumer_is_not_taken_for_it() {
    let mut bed = Bed::new();
    let chain = bed.chain("");
    bed.with(|said| said.claims = json!({ "sub": "ann" }));
    let mut browser = Browser::login(&bed, &chain);
    for _ in 0..2 {
        let page = browser.page(&chain, "/");
        assert_eq!((page.status, page.exchange.consumer_name()), (200, Some("ann")));
    }
    // a consumer of that name is there from now on, and the session is known from before
    bed.bench.directory = Arc::new(Directory::new(vec![consumer("ann", &["admin"], &["key-of-ann-00000001"])]));
    let chain = bed.chain("");
    let (outcome, detail) = browser.explain(&chain, "GET / HTTP/1.1\nAccept: text/html");
    assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"), "{detail}");
    for browser in [&mut browser.clone(), &mut Browser::login(&bed, &chain)] {
        let page = browser.page(&chain, "/");
        assert_eq!((page.status, page.exchange.consumer_name(), page.exchange.has_role("admin")), (401, None, false));
        assert!(page.exchange.request.head.get("x-consumer-name").is_none());
    }
    // said to be that consumer, it is
    let named = bed.chain(", consumer: sub");
    let page = Browser::login(&bed, &named).page(&named, "/");
    assert!(page.status == 200 && page.exchange.has_role("admin"));
}

#[test]
fn a_session_of_another_route_has_what_this_one_wants_or_is_none() {
    let bed = Bed::new();
    let plain = bed.chain("");
    let strict = bed.chain(", claims: { hd: shop, azp: shop-web }");
    bed.with(|said| said.claims = json!({ "hd": "shop", "azp": "shop-web" }));
    assert_eq!(Browser::login(&bed, &strict).page(&strict, "/").status, 200);
    assert_eq!(Browser::login(&bed, &strict).page(&plain, "/").status, 200);
    bed.with(|said| said.claims = json!({ "hd": "other" }));
    let mut browser = Browser::login(&bed, &plain);
    assert_eq!(browser.page(&plain, "/").status, 200);
    assert_eq!(browser.page(&strict, "/").status, 401, "and nobody is sent round and round");
    let state = Browser::default().begin(&bed, &strict, "/");
    assert!(!state.is_empty());
}

#[test]
fn who_logged_out_stays_out_where_sessions_last_longer() {
    let bed = Bed::new();
    let session = |lifetime: &str| {
        bed.chain(&format!(", session: {{ secret: 0123456789abcdef0123456789abcdef, lifetime: {lifetime}, idle: 2h }}"))
    };
    let (brief, long) = (session("2m"), session("2h"));
    let mut browser = Browser::login(&bed, &brief);
    let mut copy = browser.clone();
    browser.send(&brief, "GET /oidc/logout HTTP/1.1");
    // others make it forget what is over
    for n in 0..=255 {
        bed.spent().sessions.note([n; 16], 1, NOW + 9_000, NOW + 200);
    }
    copy.later = 200;
    assert_eq!(copy.send(&long, "GET / HTTP/1.1").status, 401);
}

#[test]
fn a_session_whose_end_cannot_be_remembered_is_not_told_to_be_over() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser::login(&bed, &chain);
    let spent = bed.spent();
    bed.fill(&chain, &spent.sessions, super::super::MOST_ENDED);
    let got = browser.send(&chain, "GET /oidc/logout HTTP/1.1");
    assert_eq!((got.status, got.set_cookies()), (503, Vec::new()), "{}", got.cause);
    assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, 200);
    browser.from = Some([192, 0, 2, 9].into());
    assert_eq!(
        browser.send(&chain, "GET /oidc/logout HTTP/1.1").status,
        303,
        "one network does not keep others from it"
    );
    assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, 401);
}

#[test]
fn a_reload_keeps_who_logged_out_out() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser::login(&bed, &chain);
    let copy = browser.clone();
    browser.send(&chain, "GET /oidc/logout HTTP/1.1");
    let reloaded = bed.chain(", leeway: 10s");
    drop(chain);
    bed.bench.carry.sweep();
    assert_eq!(copy.clone().send(&reloaded, "GET / HTTP/1.1").status, 401);
}

/// A bed whose accounts are kept in a store, as a process has them that was started anew.
fn started(store: Box<dyn Store>) -> (Bed, Arc<Accounts>) {
    let bed = Bed::new();
    let accounts = Accounts::of(&bed.bench.carry);
    accounts.keep_in(store, || NOW * 1000, drop).unwrap();
    (bed, accounts)
}

#[test]
fn with_a_store_who_logged_out_stays_out_in_other_processes_and_after_a_restart() {
    let folder = std::env::temp_dir().join(format!("daemun-sessions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let open = || started(Box::new(Sqlite::open(&folder.join("daemun.db"), Durability::Process).unwrap()));
    let ((bed, _one), (beside, accounts)) = (open(), open());
    let (chain, other) = (bed.chain(""), beside.chain(""));
    let mut browser = Browser::login(&bed, &chain);
    let stays = Browser::login(&bed, &chain);
    let copy = browser.clone();
    // remembered by both
    assert_eq!([&chain, &other].map(|chain| copy.clone().send(chain, "GET / HTTP/1.1").status), [200, 200]);
    assert_eq!(browser.send(&chain, "GET /oidc/logout HTTP/1.1").status, 303);
    wait(accounts.look());
    assert_eq!([&chain, &other].map(|chain| copy.clone().send(chain, "GET / HTTP/1.1").status), [401, 401]);
    let got = copy.clone().send(&other, "POST /oidc/logout HTTP/1.1");
    assert_eq!((got.status, got.field("location").as_str()), (303, "/"), "it has ended");
    let (again, _accounts) = open();
    let chain = again.chain("");
    assert_eq!(copy.clone().send(&chain, "GET / HTTP/1.1").status, 401);
    assert_eq!(stays.clone().send(&chain, "GET / HTTP/1.1").status, 200);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A store that fails as often as it is told, and keeps nothing.
struct Failing(Arc<AtomicUsize>);

impl Store for Failing {
    fn apply(&mut self, asked: &[&[Change]]) -> Result<Vec<bool>, StoreError> {
        let fails = |left: usize| left.checked_sub(1);
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, fails) {
            Ok(_) => Err(StoreError("the disk is full".to_owned())),
            Err(_) => Ok(vec![true; asked.len()]),
        }
    }

    fn read(&mut self, _: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_news(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn forget(&mut self, _: u64, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

#[test]
fn a_logout_that_the_store_does_not_take_holds_here_and_can_be_asked_for_again() {
    let (bed, _accounts) = started(Box::new(Failing(Arc::new(AtomicUsize::new(1)))));
    let chain = bed.chain("");
    let mut browser = Browser::login(&bed, &chain);
    let got = browser.send(&chain, "GET /oidc/logout HTTP/1.1");
    assert_eq!((got.status, got.set_cookies()), (503, Vec::new()));
    assert!(got.cause.contains("the disk is full"), "{}", got.cause);
    assert_eq!(browser.send(&chain, "GET / HTTP/1.1").status, 401, "it is in force");
    let got = browser.send(&chain, "GET /oidc/logout HTTP/1.1");
    assert!(got.status == 303 && got.field("location").starts_with(ISSUER), "{} {}", got.status, got.cause);
}
