//! Logins: to the provider and back.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_pipeline::{Directory, Outcome};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

use super::bed::{Bed, Browser, ISSUER, NOW};
use crate::testing::{consumer, upstream_lines};

#[test]
fn a_browser_is_sent_to_the_provider_and_comes_back_to_its_page() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser { cookies: vec![("theme".into(), "dark".into())], ..Browser::default() };
    let sent = browser.page(&chain, "/orders?page=2");
    assert_eq!(sent.status, 302);
    assert!(sent.field("location").starts_with(&format!("{ISSUER}/auth?tenant=a&response_type=code&")));
    for (name, value) in [
        ("client_id", "shop-web"),
        ("redirect_uri", "http://shop.example.com/oidc/callback"),
        ("scope", "openid profile"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(sent.parameter(name), value);
    }
    assert_eq!(sent.field("cache-control"), "no-store");
    let [cookie] = sent.set_cookies().try_into().unwrap();
    assert!(cookie.starts_with("daemun-session_login=") && cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(cookie.contains("; Path=/; Max-Age=600; ") && !cookie.contains(&sent.parameter("state")), "{cookie}");
    bed.with(|said| said.nonce = sent.parameter("nonce"));
    let back = browser.back(&chain, &sent.parameter("state"));
    assert_eq!((back.status, back.field("location").as_str()), (302, "/orders?page=2"), "{}", back.cause);
    let (fields, body) = bed.said.lock().unwrap().asked.clone();
    assert!(fields.contains(&format!("authorization: Basic {}", BASE64.encode(b"shop-web:its+secret"))), "{fields:?}");
    let asked: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let value = |name: &str| asked.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap();
    assert_eq!((value("grant_type").as_str(), value("code").as_str()), ("authorization_code", "abc"));
    assert_eq!(value("redirect_uri"), "http://shop.example.com/oidc/callback");
    let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, value("code_verifier").as_bytes()).as_ref());
    assert_eq!(challenge, sent.parameter("code_challenge"));
    let page = browser.page(&chain, "/orders?page=2");
    assert_eq!(page.status, 200, "{}", page.cause);
    assert_eq!(
        upstream_lines(&page.exchange.request),
        [
            "GET /orders?page=2 HTTP/1.1",
            "Accept: text/html,*/*;q=0.8",
            "Host: shop.example.com",
            "X-Consumer-Name: ann",
            "Cookie: theme=dark"
        ]
    );
    assert_eq!(page.set_cookies(), [""; 0]);
    let names: Vec<&str> = browser.cookies.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["theme", "daemun-session"], "nothing is left of the login");
}

#[test]
fn over_https_cookies_are_of_this_host_alone() {
    let bed = Bed::new();
    for (chain, tls) in
        [(bed.chain(""), true), (bed.chain(", callback: 'https://shop.example.com/oidc/callback'"), false)]
    {
        let mut browser = Browser { tls, ..Browser::default() };
        let sent = browser.page(&chain, "/");
        assert_eq!(sent.parameter("redirect_uri"), "https://shop.example.com/oidc/callback");
        bed.with(|said| said.nonce = sent.parameter("nonce"));
        let back = browser.back(&chain, &sent.parameter("state"));
        for cookie in sent.set_cookies().iter().chain(&back.set_cookies()) {
            assert!(cookie.starts_with("__Host-daemun-session") && cookie.ends_with("; Secure"), "{cookie}");
        }
        assert_eq!(browser.page(&chain, "/").status, 200);
        // one that a neighbour could have set is none
        browser.cookies.iter_mut().for_each(|(name, _)| *name = name.replace("__Host-", ""));
        let planted = browser.page(&chain, "/");
        assert_eq!(planted.status, 302);
    }
}

#[test]
fn nothing_but_a_page_that_is_shown_is_sent_to_log_in() {
    let bed = Bed::new();
    let chain = bed.chain("");
    for (text, status) in [
        ("GET / HTTP/1.1\nAccept: text/html", 302),
        ("GET / HTTP/1.1\nAccept: application/json, Text/HTML;q=0.5", 302),
        ("GET / HTTP/1.1\nAccept: text/html\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document", 302),
        ("GET / HTTP/1.1", 401),
        ("GET / HTTP/1.1\nAccept: */*", 401),
        ("GET / HTTP/1.1\nAccept: application/json", 401),
        ("POST / HTTP/1.1\nAccept: text/html", 401),
        ("HEAD / HTTP/1.1\nAccept: text/html", 401),
        ("GET / HTTP/1.1\nAccept: text/html\nSec-Fetch-Mode: cors", 401),
        ("GET / HTTP/1.1\nAccept: text/html\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe", 401),
        ("GET / HTTP/1.1\nAccept: text/html\nUpgrade: websocket", 401),
    ] {
        let explained = Browser::default().explain(&chain, text).0;
        let got = Browser::default().send(&chain, text);
        assert_eq!(got.status, status, "{text}");
        if status == 401 {
            assert_eq!(explained, Outcome::Refuse(401, "unauthenticated"));
            assert_eq!(got.field("www-authenticate"), "Cookie realm=\"daemun\"");
            assert_eq!(got.set_cookies(), [""; 0]);
        } else {
            assert_eq!(explained, Outcome::Answer(302));
        }
    }
}

#[test]
fn a_login_is_good_once_in_its_browser_and_for_ten_minutes() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser::default();
    let state = browser.begin(&bed, &chain, "/");
    let mut other = Browser::default();
    let foreign = other.back(&chain, &state);
    assert_eq!((foreign.status, foreign.set_cookies()), (401, Vec::new()), "another browser");
    other.begin(&bed, &chain, "/");
    assert_eq!(other.back(&chain, &state).status, 401, "another browser with a login of its own");
    assert_eq!(browser.back(&chain, "AAAAAAAAAAAAAAAAAAAAAA").status, 401, "a state that nobody was given");
    for query in ["", "?code=a", &format!("?code=a&state={state}&state={state}")] {
        assert_eq!(browser.page(&chain, &format!("/oidc/callback{query}")).status, 401, "{query}");
    }
    let mut late = browser.clone();
    late.later = 600;
    assert_eq!(late.back(&chain, &state).status, 401, "ten minutes later");
    let calls = bed.world.seen().calls.len();
    let newest = browser.begin(&bed, &chain, "/");
    let kept = browser.clone();
    assert_eq!(browser.back(&chain, &newest).status, 302);
    let mut again = kept.clone();
    let replayed = again.back(&chain, &newest);
    assert_eq!((replayed.status, replayed.cause.as_str()), (401, "the `state` was used before"));
    assert_eq!(bed.world.seen().calls.len(), calls + 1, "the provider was asked for one code");
}

#[test]
fn one_network_that_begins_logins_without_end_keeps_no_other_out() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let spent = bed.spent();
    bed.fill(&chain, &spent.logins, super::super::MOST_USED);
    let calls = bed.world.seen().calls.len();
    let mut browser = Browser::default();
    let state = browser.begin(&bed, &chain, "/");
    let kept = browser.clone();
    assert_eq!(browser.back(&chain, &state).status, 503);
    assert_eq!(bed.world.seen().calls.len(), calls, "the provider is not asked");
    let mut other = Browser { from: Some([192, 0, 2, 9].into()), ..kept.clone() };
    assert_eq!(other.back(&chain, &state).status, 302);
    // the login of the full network is over before its marks are
    let mut late = Browser { later: 661, ..Browser::default() };
    let state = late.begin(&bed, &chain, "/");
    bed.with(|said| said.claims = json!({ "iat": NOW + 661, "exp": NOW + 900 }));
    assert_eq!(late.back(&chain, &state).status, 302);
}

#[test]
fn a_network_is_an_address_or_the_half_of_one_that_its_end_does_not_choose() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let of = |address: &str| {
        let mut exchange = chain.exchange("GET / HTTP/1.1");
        exchange.client.ip = address.parse().unwrap();
        super::super::network(&exchange)
    };
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::2"));
    for (one, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8:1:2::1", "2001:db8:1:3::1"), ("192.0.2.1", "::1")] {
        assert_ne!(of(one), of(other), "{one} {other}");
    }
}

#[test]
fn two_pages_that_wait_for_a_login_both_come_back() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser::default();
    let begun: Vec<_> = (0..6)
        .map(|n| {
            let sent = browser.page(&chain, &format!("/{n}?{}", "x".repeat(900)));
            (sent.parameter("state"), sent.parameter("nonce"))
        })
        .collect();
    assert!(browser.cookie("daemun-session_login").len() < 4096);
    let came: Vec<u16> = begun
        .iter()
        .map(|(state, nonce)| {
            bed.with(|said| said.nonce.clone_from(nonce));
            browser.back(&chain, state).status
        })
        .collect();
    assert_eq!(came[0], 401, "the oldest is left out");
    assert_eq!(came[4..], [302, 302], "the newest are not");
}

#[test]
fn a_login_never_returns_to_another_site() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let long = format!("/a?{}", "x".repeat(2000));
    for (target, back) in [
        ("//evil.example", "/"),
        ("//evil.example/?a", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("/a//b", "/a//b"),
        ("/%2F/evil.example", "/%2F/evil.example"),
        ("/?to=https://evil.example", "/?to=https://evil.example"),
        (long.as_str(), "/a"),
    ] {
        let mut browser = Browser::default();
        let state = browser.begin(&bed, &chain, target);
        assert_eq!(browser.back(&chain, &state).field("location"), back, "{target}");
    }
}

#[test]
fn an_answer_that_is_not_the_providers_is_refused() {
    for (discovered, query, status) in [
        (json!({}), "&code=abc", 302),
        (json!({}), "&code=abc&iss=https://accounts.example.com", 302),
        (json!({}), "&code=abc&iss=https://evil.example", 401),
        (json!({}), "&code=abc&iss=", 401),
        (json!({ "authorization_response_iss_parameter_supported": true }), "&code=abc", 401),
        (
            json!({ "authorization_response_iss_parameter_supported": true }),
            "&code=abc&iss=https%3A%2F%2Faccounts.example.com",
            302,
        ),
        (json!({}), "&error=access_denied", 401),
        (json!({}), "&error=access_denied&code=abc", 401),
        (json!({}), "&code=a&code=b", 401),
        (json!({}), "&code=", 401),
        (json!({}), "", 401),
    ] {
        let bed = Bed::saying(discovered);
        let chain = bed.chain("");
        let mut browser = Browser::default();
        let state = browser.begin(&bed, &chain, "/");
        let got = browser.page(&chain, &format!("/oidc/callback?state={state}{query}"));
        assert_eq!(got.status, status, "{query}: {}", got.cause);
        let tokens = bed.world.seen().calls.iter().filter(|call| call.ends_with("/token")).count();
        assert_eq!(tokens, usize::from(status == 302), "{query}");
        assert_eq!(browser.cookies.len(), usize::from(status == 302), "the login is over: {query}");
    }
}

#[test]
fn an_id_token_is_taken_only_when_all_of_it_is_right() {
    let bed = Bed::new();
    let chain = bed.chain("");
    for (claims, words) in [
        (json!({ "nonce": "another" }), "`nonce`"),
        (json!({ "nonce": null }), "`nonce`"),
        (json!({ "nonce": 1 }), "`nonce`"),
        (json!({ "iss": "https://evil.example" }), "`iss`"),
        (json!({ "iss": null }), "`iss`"),
        (json!({ "aud": "another" }), "`aud`"),
        (json!({ "aud": null }), "`aud`"),
        (json!({ "aud": ["shop-web", "another"] }), "`azp`"),
        (json!({ "azp": "another" }), "`azp`"),
        (json!({ "exp": NOW - 31 }), "expired"),
        (json!({ "exp": null }), "`exp`"),
        (json!({ "iat": NOW + 31 }), "`iat`"),
        (json!({ "iat": null }), "`iat`"),
        (json!({ "sub": null }), "`sub`"),
        (json!({ "sub": "" }), "`sub`"),
        (json!({ "sub": 7 }), "`sub`"),
        (json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" }), "`at_hash`"),
    ] {
        bed.with(|said| said.claims = claims.clone());
        let mut browser = Browser::default();
        let state = browser.begin(&bed, &chain, "/");
        let got = browser.back(&chain, &state);
        assert_eq!(got.status, 401, "{claims}");
        assert!(got.cause.contains(words), "{claims}: {}", got.cause);
        assert!(!String::from_utf8_lossy(got.exchange.response.body.as_deref().unwrap()).contains(words), "{claims}");
        assert_eq!(browser.cookies, [], "{claims}");
    }
    for claims in [json!({ "aud": ["shop-web", "another"], "azp": "shop-web" }), json!({ "at_hash": null })] {
        bed.with(|said| said.claims = claims.clone());
        Browser::login(&bed, &chain);
    }
}

#[test]
fn an_id_token_of_other_keys_or_none_is_refused() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let (header, payload) = (BASE64URL_NOPAD.encode(b"{\"alg\":\"none\"}"), BASE64URL_NOPAD.encode(b"{}"));
    for (token, words) in [
        (json!(null), "gave no ID token"),
        (json!(7), "gave no ID token"),
        (json!("nonsense"), "three parts"),
        (json!(format!("{header}.{payload}.")), "`alg`"),
    ] {
        bed.with(|said| said.answer = json!({ "id_token": token }));
        let mut browser = Browser::default();
        let state = browser.begin(&bed, &chain, "/");
        let got = browser.back(&chain, &state);
        assert_eq!(got.status, 401);
        assert!(got.cause.contains(words), "{}", got.cause);
    }
}

#[test]
fn a_code_that_the_provider_does_not_take_lets_nobody_in() {
    for (status, answer, expected, told) in [
        (400, json!({ "error": "invalid_grant" }), 401, 0),
        (401, json!({ "error": "invalid_client" }), 503, 1),
        (500, json!({}), 503, 0),
        (302, json!({}), 503, 0),
        (400, json!({ "error": 7 }), 503, 0),
    ] {
        let bed = Bed::new();
        let chain = bed.chain("");
        bed.with(|said| (said.status, said.answer) = (status, answer.clone()));
        for _ in 0..2 {
            let mut browser = Browser::default();
            let state = browser.begin(&bed, &chain, "/");
            let got = browser.back(&chain, &state);
            assert_eq!(got.status, expected, "{answer}");
            assert_eq!(browser.cookies, []);
        }
        assert_eq!(bed.world.seen().told.len(), told, "said once: {:?}", bed.world.seen().told);
    }
}

#[test]
fn a_provider_that_is_away_keeps_new_logins_out_and_sessions_going() {
    let bed = Bed::new();
    let chain = bed.chain("");
    let mut browser = Browser::login(&bed, &chain);
    let mut late = Browser::default();
    let state = late.begin(&bed, &chain, "/");
    bed.with(|said| said.away = true);
    assert_eq!(browser.page(&chain, "/").status, 200);
    let got = late.back(&chain, &state);
    assert_eq!((got.status, got.field("retry-after").as_str()), (503, "5"));
    assert_eq!(Browser::default().page(&chain, "/").status, 302, "where it is is known");
    let unknown = Bed::new();
    unknown.with(|said| said.away = true);
    let chain = unknown.bench.build(&super::bed::settings("", "0123456789abcdef0123456789abcdef")).unwrap();
    let got = Browser::default().page(&chain, "/");
    assert_eq!((got.status, got.field("retry-after").as_str(), got.set_cookies()), (503, "5", Vec::new()));
    assert_eq!(Browser::default().send(&chain, "GET / HTTP/1.1").status, 401);
    browser.later = 1;
    assert_eq!(browser.page(&chain, "/").status, 200, "whoever has a session does not need it");
}

#[test]
fn what_is_said_elsewhere_counts_where_it_is_of_the_same_user() {
    let bed = Bed::new();
    let chain = bed.chain(", userinfo: true, subject: email, roles: realm.roles, claims: { hd: shop }");
    let login = |userinfo: Value| {
        bed.with(|said| said.userinfo = userinfo);
        let mut browser = Browser::default();
        let state = browser.begin(&bed, &chain, "/");
        let got = browser.back(&chain, &state);
        (got.status, got.cause.clone(), browser)
    };
    let good = json!({ "sub": "ann", "email": "ann@shop.example", "hd": "shop", "realm": { "roles": ["buyer"] } });
    let (status, cause, mut browser) = login(good.clone());
    assert_eq!(status, 302, "{cause}");
    let page = browser.page(&chain, "/");
    assert_eq!(page.exchange.consumer_name(), Some("ann@shop.example"));
    assert!(page.exchange.has_role("buyer"));
    for (name, value) in [("sub", json!("bob")), ("sub", json!(null)), ("hd", json!("other")), ("email", json!(7))] {
        let mut changed = good.clone();
        changed[name] = value;
        assert_eq!(login(changed.clone()).0, 401, "{changed}");
    }
}

#[test]
fn a_login_that_names_no_consumer_is_refused_and_not_sent_round_and_round() {
    let mut bed = Bed::new();
    bed.bench.directory = Arc::new(Directory::new(vec![consumer("shop-app", &["buyer"], &[])]));
    let chain = bed.chain(", consumer: shop");
    bed.with(|said| said.claims = json!({ "shop": "shop-app" }));
    let page = Browser::login(&bed, &chain).page(&chain, "/");
    assert_eq!((page.status, page.exchange.consumer_name()), (200, Some("shop-app")));
    assert!(page.exchange.has_role("buyer"));
    bed.with(|said| said.claims = json!({ "shop": "nobody" }));
    assert_eq!(Browser::login(&bed, &chain).page(&chain, "/").status, 401);
    // who is not said to be a consumer does not become one by its name
    let plain = bed.chain("");
    bed.with(|said| said.claims = json!({ "sub": "shop-app" }));
    assert_eq!(Browser::login(&bed, &plain).page(&plain, "/").status, 401);
}
