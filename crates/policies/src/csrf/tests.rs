//! What `csrf` holds beyond its page.

use std::sync::Arc;

use daemun_pipeline::{ConsumerId, Exchange, Identity, Outcome, Stop};

use crate::testing::{Bench, Chain, SECOND, consumer};

const SECRET: &str = "a-secret-of-the-shop-gateway-0001";
const HOUR: u64 = 3600;

fn chain(more: &str) -> Chain {
    let bench = Bench::new(vec![consumer("app", &[], &[]), consumer("other", &[], &[])]);
    bench.build(&format!("csrf: {{ secret: {SECRET}{more} }}")).unwrap()
}

fn at(chain: &Chain, seconds: u64, text: &str) -> Exchange {
    let mut exchange = chain.exchange(&text.replace("HTTP/1.1", "HTTP/1.1\nHost: shop.test"));
    exchange.wall = seconds * SECOND;
    exchange
}

/// What a page is given: the token the upstream is told, and the cookie that is set, if one is.
fn page(chain: &Chain, exchange: &mut Exchange) -> (String, Option<String>) {
    let (passed, verdict) = chain.inward(exchange);
    verdict.unwrap();
    exchange.response.status = 200;
    chain.outward(passed, exchange).unwrap();
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let told: Vec<_> = exchange.request.head.values("x-csrf-token").map(text).collect();
    let [told] = told.as_slice() else { panic!("{told:?}") };
    (told.clone(), exchange.response.head.get("set-cookie").map(text))
}

#[test]
fn a_page_with_a_new_cookie_is_kept_by_no_cache_that_many_share() {
    let chain = chain("");
    let answered = |exchange: &mut Exchange| {
        let (passed, verdict) = chain.inward(exchange);
        verdict.unwrap();
        exchange.response.status = 200;
        exchange.response.head.append("Cache-Control", b"public, s-maxage=600, max-age=60");
        chain.outward(passed, exchange).unwrap();
        String::from_utf8(exchange.response.head.get("cache-control").unwrap().to_vec()).unwrap()
    };
    assert_eq!(answered(&mut at(&chain, 0, "GET / HTTP/1.1")), "private, max-age=60");
    let known = format!("GET / HTTP/1.1\nCookie: csrf={}", token(&chain));
    assert_eq!(answered(&mut at(&chain, 0, &known)), "public, s-maxage=600, max-age=60", "no cookie, no change");
}

fn token(chain: &Chain) -> String {
    page(chain, &mut at(chain, 0, "GET / HTTP/1.1")).0
}

#[test]
fn the_first_page_is_given_a_token_and_the_next_request_can_show_it() {
    for (tls, name, secure) in [(false, "csrf", ""), (true, "__Host-csrf", "; Secure")] {
        let chain = chain("");
        let with = |mut exchange: Exchange| {
            exchange.client.tls = tls;
            exchange
        };
        let (told, set) = page(&chain, &mut with(at(&chain, 100, "GET / HTTP/1.1\nX-Csrf-Token: planted")));
        assert_eq!(set, Some(format!("{name}={told}; Path=/; Max-Age=43200; SameSite=Lax{secure}")));
        let again = format!("GET / HTTP/1.1\nCookie: a=b; {name}={told}");
        assert_eq!(page(&chain, &mut with(at(&chain, 200, &again))), (told.clone(), None));
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            let shown = format!("{method} / HTTP/1.1\nCookie: {name}={told}\nX-Csrf-Token: {told}");
            assert_eq!(chain.status(&mut with(at(&chain, 300, &shown))), 0, "{method}");
            // of the two cookies only the one of this connection's kind counts
            let other = shown.replace(&format!("{name}="), if tls { "csrf=" } else { "__Host-csrf=" });
            assert_eq!(chain.status(&mut with(at(&chain, 300, &other))), 403, "{method}");
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert_eq!(
                chain.status(&mut with(at(&chain, 300, &format!("{method} / HTTP/1.1\nOrigin: https://bad.test")))),
                0
            );
        }
    }
}

#[test]
fn without_the_token_in_both_places_nothing_is_changed() {
    let chain = chain("");
    let (good, other) = (token(&chain), token(&chain));
    let mut forged = good.clone();
    forged.replace_range(0..1, if good.starts_with('0') { "1" } else { "0" });
    for fields in [
        String::new(),
        format!("Cookie: csrf={good}"),
        format!("X-Csrf-Token: {good}"),
        format!("Cookie: csrf={good}\nX-Csrf-Token: {other}"),
        format!("Cookie: csrf={forged}\nX-Csrf-Token: {forged}"),
        format!("Cookie: csrf={good}; csrf={other}\nX-Csrf-Token: {good}"),
        format!("Cookie: csrf={good}\nCookie: csrf={good}\nX-Csrf-Token: {good}"),
        format!("Cookie: csrf={good}\nX-Csrf-Token: {good}\nX-Csrf-Token: {good}"),
        format!("Cookie: xcsrf={good}\nX-Csrf-Token: {good}"),
        "Cookie: csrf=\nX-Csrf-Token: ".to_owned(),
        format!("Cookie: csrf=\"{good}\"\nX-Csrf-Token: {good}"),
    ] {
        assert_eq!(chain.status(&mut at(&chain, 1, &format!("POST / HTTP/1.1\n{fields}"))), 403, "{fields}");
    }
}

#[test]
fn a_page_of_another_site_is_refused_whatever_it_shows() {
    let chain = chain(", origins: ['https://app.test', 'https://*.partner.test']");
    let good = token(&chain);
    for (fields, status) in [
        ("", 0),
        ("Origin: http://shop.test", 0),
        ("Origin: http://SHOP.test:80", 0),
        ("Origin: https://shop.test", 403),
        ("Origin: http://shop.test:8080", 403),
        ("Origin: http://shop.test.bad.test", 403),
        ("Origin: http://sub.shop.test", 403),
        ("Origin: null", 403),
        ("Origin: ", 403),
        ("Origin: https://app.test", 0),
        ("Origin: https://a.partner.test\nSec-Fetch-Site: cross-site", 0),
        ("Origin: https://partner.test", 403),
        ("Origin: http://shop.test\nOrigin: http://shop.test", 403),
        ("Sec-Fetch-Site: same-origin", 0),
        ("Sec-Fetch-Site: none", 0),
        ("Sec-Fetch-Site: same-site", 403),
        ("Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: something-new", 403),
        ("Sec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site", 403),
        ("Referer: http://shop.test/a?b=http://bad.test", 0),
        ("Referer: https://app.test/", 0),
        ("Referer: http://bad.test/?http://shop.test", 403),
        ("Referer: shop.test", 403),
        ("Referer: http://shop.test@bad.test/", 403),
    ] {
        let text = format!("POST / HTTP/1.1\nCookie: csrf={good}\nX-Csrf-Token: {good}\n{fields}");
        assert_eq!(chain.status(&mut at(&chain, 1, text.trim_end())), status, "{fields}");
    }
}

#[test]
fn what_opens_a_connection_is_asked_for_its_site_alone() {
    let chain = chain("");
    for (fields, status) in [("", 0), ("\nOrigin: http://shop.test", 0), ("\nOrigin: http://bad.test", 403)] {
        let text = format!("GET / HTTP/1.1\nConnection: upgrade\nUpgrade: websocket\nX-Csrf-Token: planted{fields}");
        let mut exchange = at(&chain, 1, &text);
        let (passed, verdict) = chain.inward(&mut exchange);
        assert_eq!(verdict.as_ref().map_or_else(crate::testing::status, |()| 0), status, "{fields}");
        chain.outward(passed + 1, &mut exchange).unwrap();
        assert_eq!(exchange.response.head.get("set-cookie"), None);
    }
}

#[test]
fn a_token_is_of_one_caller_and_one_session() {
    let chain = chain(", session: sid");
    let page_of = |who: Option<u32>, subject: Option<&str>, sid: &str, shown: Option<&str>| {
        let method = if shown.is_some() { "POST" } else { "GET" };
        let cookie = shown.map(|token| format!("; csrf={token}\nX-Csrf-Token: {token}")).unwrap_or_default();
        let mut exchange = at(&chain, 1, &format!("{method} / HTTP/1.1\nCookie: sid={sid}{cookie}"));
        exchange.consumer = who.map(ConsumerId);
        exchange.identity =
            subject.map(|subject| Arc::new(Identity { subject: subject.into(), ..Identity::default() }));
        match shown {
            None => (page(&chain, &mut exchange).0, 0),
            Some(_) => (String::new(), chain.status(&mut exchange)),
        }
    };
    let (token, _) = page_of(Some(0), None, "1", None);
    for (who, subject, sid, status) in [
        (Some(0), None, "1", 0),
        (Some(1), None, "1", 403),
        (None, None, "1", 403),
        (Some(0), None, "2", 403),
        // a subject may have a consumer's name and is another caller
        (None, Some("app"), "1", 403),
    ] {
        assert_eq!(page_of(who, subject, sid, Some(&token)).1, status, "{who:?} {subject:?} {sid}");
    }
    // nobody's is good where a second session is planted beside the first, and none is given
    let (of_none, _) = {
        let mut exchange = at(&chain, 1, "GET / HTTP/1.1");
        page(&chain, &mut exchange)
    };
    for token in [&token, &of_none] {
        let text = format!("POST / HTTP/1.1\nCookie: sid=1; sid=2; csrf={token}\nX-Csrf-Token: {token}");
        assert_eq!(chain.status(&mut at(&chain, 1, &text)), 403);
    }
    let mut exchange = at(&chain, 1, "GET / HTTP/1.1\nCookie: sid=1; sid=2\nX-Csrf-Token: planted");
    let (passed, _) = chain.inward(&mut exchange);
    chain.outward(passed, &mut exchange).unwrap();
    assert_eq!((exchange.request.head.get("x-csrf-token"), exchange.response.head.get("set-cookie")), (None, None));
    // who logs in is given another
    let mut exchange = at(&chain, 1, &format!("GET / HTTP/1.1\nCookie: sid=1; csrf={token}"));
    let (other, set) = page(&chain, &mut exchange);
    assert!(other[..32] != token[..32] && set.is_some());
}

#[test]
fn a_token_in_use_is_renewed_and_what_holds_the_older_one_stays_good() {
    let chain = chain(", lasts: 2h, same_site: strict, http_only: true");
    let first = token(&chain);
    let get = |token: &str, seconds: u64| {
        page(&chain, &mut at(&chain, seconds, &format!("GET / HTTP/1.1\nCookie: csrf={token}")))
    };
    let post = |cookie: &str, shown: &str, seconds: u64| {
        chain.status(&mut at(
            &chain,
            seconds,
            &format!("POST / HTTP/1.1\nCookie: csrf={cookie}\nX-Csrf-Token: {shown}"),
        ))
    };
    assert_eq!(get(&first, HOUR - 1), (first.clone(), None));
    let (second, set) = get(&first, HOUR);
    assert_eq!(set, Some(format!("csrf={second}; Path=/; Max-Age=7200; SameSite=Strict; HttpOnly")));
    assert_eq!(
        (post(&second, &second, HOUR), post(&second, &first, HOUR), post(&first, &first, 2 * HOUR - 1)),
        (0, 0, 0)
    );
    assert_eq!((post(&second, &first, 2 * HOUR), post(&first, &first, 2 * HOUR)), (403, 403));
    assert_eq!(post(&second, &second, 2 * HOUR), 0);
    // one that is over is followed by another
    let (third, set) = get(&first, 2 * HOUR);
    assert!(third[..32] != first[..32] && set.is_some());
}

#[test]
fn a_form_may_hold_the_token_in_place_of_the_header() {
    let chain = chain(", field: t");
    let good = token(&chain);
    let other = token(&chain);
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8";
    for (fields, body, status) in [
        (form, format!("a=b&t={good}"), 0),
        (form, format!("a=b&%74={good}"), 0),
        (form, format!("t={other}"), 403),
        (form, format!("t={good}&t={good}"), 403),
        (form, "a=b".to_owned(), 403),
        (form, String::new(), 403),
        ("Content-Type: text/plain", format!("t={good}"), 403),
        ("Content-Type: multipart/form-data; boundary=x", format!("t={good}"), 403),
        ("X-A: b", format!("t={good}"), 403),
    ] {
        let mut exchange = at(&chain, 1, &format!("POST / HTTP/1.1\nCookie: csrf={good}\n{fields}"));
        let verdict = chain.inward_with(&mut exchange, body.as_bytes()).1;
        assert_eq!(verdict.as_ref().map_or_else(crate::testing::status, |()| 0), status, "{fields} {body}");
    }
    // with the header, the form is not held
    let mut exchange = at(&chain, 1, &format!("POST / HTTP/1.1\nCookie: csrf={good}\n{form}\nX-Csrf-Token: {good}"));
    assert_eq!(chain.inward_with(&mut exchange, b"t=x").0, 1);
    assert_eq!(exchange.request.body, None);
}

#[test]
fn a_refusal_says_little_and_neither_it_nor_explain_shows_a_token() {
    let chain = chain("");
    let good = token(&chain);
    for (fields, words) in [
        (String::new(), "the cookie holds no token"),
        (format!("\nCookie: csrf={good}"), "no token is shown"),
        (format!("\nCookie: csrf={good}\nX-Csrf-Token: x"), "is not good for this caller"),
        (format!("\nCookie: csrf={good}\nX-Csrf-Token: {}", token(&chain)), "is not that of the cookie"),
        ("\nOrigin: http://bad.test".to_owned(), "`Origin` is another site's"),
    ] {
        let text = format!("POST / HTTP/1.1{fields}");
        let Err(Stop::Fault(fault)) = chain.inward(&mut at(&chain, 1, &text)).1 else { panic!("{text}") };
        assert_eq!(fault.detail, "the request does not show that it comes from a page of this site");
        assert!(fault.cause.as_deref().unwrap().contains(words), "{fault:?}");
        let (outcome, detail) = chain.explain(&mut at(&chain, 1, &text));
        assert_eq!(outcome, Outcome::Refuse(403, "forbidden"));
        assert!(detail.contains(words) && !detail.contains(&good), "{detail}");
    }
    let (outcome, detail) = chain.explain(&mut at(&chain, 1, "GET / HTTP/1.1"));
    assert!(outcome == Outcome::Pass && detail.contains("would be given a token"), "{detail}");
}

#[test]
fn wrong_settings_are_found_and_no_secret_is_shown() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}".to_owned(), "missing_key"),
        ("{ secret: short }".to_owned(), "bad_value"),
        ("{ secret: [] }".to_owned(), "bad_value"),
        (format!("{{ secret: {SECRET}, cookie: 'a b' }}"), "bad_value"),
        (format!("{{ secret: {SECRET}, cookie: __Host-csrf }}"), "bad_value"),
        (format!("{{ secret: {SECRET}, header: cookie }}"), "bad_value"),
        (format!("{{ secret: {SECRET}, origins: ['*'] }}"), "bad_value"),
        (format!("{{ secret: {SECRET}, max_form: 1KiB }}"), "conflicting_keys"),
        (format!("{{ secret: {SECRET}, lasts: 59s }}"), "bad_value"),
        (format!("{{ secret: {SECRET}, same_site: other }}"), "bad_value"),
    ] {
        let errors = bench.errors(&format!("csrf: {settings}"));
        assert!(errors.len() == 1 && errors[0].starts_with(code), "{settings}: {errors:?}");
        assert!(!errors[0].contains("short") && !errors[0].contains(SECRET), "{errors:?}");
    }
}
