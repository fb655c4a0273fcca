//! HTTP Basic on the wire: who comes in, what the upstream learns, and what nobody learns.

use daemun_e2e::{Client, Gateway, Lane, Response};

/// `shop:correct horse`, `shop:wrong horse!`, `nobody:correct horse`, `partner:pässwörd` and `shop`.
const SHOP: &str = "Basic c2hvcDpjb3JyZWN0IGhvcnNl";
const WRONG: &str = "Basic c2hvcDp3cm9uZyBob3JzZSE=";
const NOBODY: &str = "Basic bm9ib2R5OmNvcnJlY3QgaG9yc2U=";
const PARTNER: &str = "Basic cGFydG5lcjpww6Rzc3fDtnJk";
const NO_COLON: &str = "Basic c2hvcA==";
const KEY: &str = "shop-app-key-0123456789";

fn yaml(policies: &str, route: &str) -> String {
    format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ targets: [\"{{origin}}\"] }} }}\n\
         policies: {policies}\nroutes: [{{ name: all, upstream: origin{route} }}]\nconsumers:\n  \
         - {{ name: shop-app, roles: [buyer], keys: [{KEY}], basic: {{ username: shop, password: correct horse }} }}\n  \
         - {{ name: partner, basic: [{{ username: partner, password: pässwörd }}] }}\n"
    )
}

fn get(client: &mut Client, fields: &str) -> Response {
    client.call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"))
}

#[test]
fn a_password_tells_who_calls_and_stays_here() {
    let lane = Lane::start(&yaml("{ basic_auth: { realm: Shop }, rate_limit: { limit: 5/h, by: consumer } }", ""));
    let mut client = lane.connect();
    assert_eq!(get(&mut client, &format!("Authorization: {SHOP}\r\nX-Consumer-Name: root\r\n")).status, 200);
    let request = lane.origin.only_request();
    assert_eq!(
        (request.field("x-consumer-name"), request.field("x-consumer-roles")),
        (Some("shop-app"), Some("buyer"))
    );
    assert!(!request.has("authorization"), "the password reached the upstream: {}", request.shown());
    assert_eq!(get(&mut client, &format!("authorization: {PARTNER}\r\n")).status, 200);
    let asked = "Basic realm=\"Shop\", charset=\"UTF-8\"";
    for bad in [
        String::new(),
        format!("Authorization: {WRONG}\r\n"),
        format!("Authorization: {NOBODY}\r\n"),
        format!("Authorization: {NO_COLON}\r\n"),
        format!("Authorization: {SHOP}=\r\n"),
        format!("Authorization: {SHOP}\r\nAuthorization: {PARTNER}\r\n"),
        format!("Authorization: {SHOP}, {PARTNER}\r\n"),
        format!("Proxy-Authorization: {SHOP}\r\n"),
    ] {
        let answer = get(&mut client, &bad);
        assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some(asked)), "{bad}");
        let mut told = answer.json();
        told["instance"] = "".into();
        assert_eq!(told["detail"], "the request has no username and password that are known here", "{bad}");
    }
    assert_eq!(lane.origin.look(|log| log.requests.len()), 2);
}

#[test]
fn one_of_two_ways_will_do_and_a_refusal_names_both() {
    let any = ", authenticate: { any: [key_auth, basic_auth] }";
    let lane = Lane::start(&yaml("{ key_auth: { header: X-Api-Key }, basic_auth: {} }", any));
    let mut client = lane.connect();
    for good in [format!("X-Api-Key: {KEY}\r\n"), format!("Authorization: {PARTNER}\r\n")] {
        assert_eq!(get(&mut client, &good).status, 200, "{good}");
    }
    let names: Vec<_> =
        lane.origin.look(|log| log.requests.iter().map(|r| r.field("x-consumer-name").map(str::to_owned)).collect());
    assert_eq!(names, [Some("shop-app".to_owned()), Some("partner".to_owned())]);
    let refused = get(&mut client, &format!("Authorization: {WRONG}\r\n"));
    let asked: Vec<_> = refused.head.all("www-authenticate").collect();
    assert_eq!(
        (refused.status, asked),
        (401, vec!["ApiKey realm=\"daemun\"", "Basic realm=\"daemun\", charset=\"UTF-8\""])
    );
}

#[test]
fn where_both_are_asked_for_they_must_be_one_consumers() {
    let lane = Lane::start(&yaml("{ key_auth: { header: X-Api-Key }, basic_auth: { forward: true } }", ""));
    let mut client = lane.connect();
    let both = |login: &str| format!("X-Api-Key: {KEY}\r\nAuthorization: {login}\r\n");
    assert_eq!(get(&mut client, &both(PARTNER)).status, 401);
    assert_eq!(get(&mut client, &format!("Authorization: {SHOP}\r\n")).status, 401);
    assert_eq!(get(&mut client, &both(SHOP)).status, 200);
    let request = lane.origin.only_request();
    assert_eq!((request.field("x-consumer-name"), request.field("authorization")), (Some("shop-app"), Some(SHOP)));
}

/// A gateway that answers consumers by itself, and has an admin listener.
fn alone() -> Gateway {
    Gateway::start(
        "workers: 2\naccess_log: off\nlisteners: [{ bind: 127.0.0.1:0 }]\nadmin: { bind: 127.0.0.1:0 }\nstore: memory\n\
         tokens: { shop: { grants: [client_credentials], refresh: off } }\nroutes:\n  \
         - { name: login, match: { path: /auth }, tokens: shop }\n  \
         - { name: all, answer: { body: in }, policies: { basic_auth: {} } }\nconsumers:\n  \
         - { name: shop-app, basic: { username: shop, password: correct horse } }\n  \
         - { name: partner, basic: { username: partner, password: pässwörd } }\n",
    )
}

#[test]
fn a_password_that_was_revoked_opens_nothing_on_any_worker() {
    let gateway = alone();
    // as many connections as it takes to have some at each worker
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    let mut all = |login: &str| -> Vec<u16> {
        let mut all: Vec<u16> =
            clients.iter_mut().map(|client| get(client, &format!("Authorization: {login}\r\n")).status).collect();
        all.dedup();
        all
    };
    assert_eq!((all(SHOP), all(PARTNER)), (vec![200], vec![200]));
    let (status, told) = gateway.admin("POST /revocations", r#"{"credential": "client:shop"}"#);
    assert_eq!(status, 200, "{told}");
    // whoever goes on with it is slowed down as one who guesses
    let shop = all(SHOP);
    assert!(shop.iter().all(|status| matches!(status, 401 | 429)), "{shop:?}");
    assert_eq!(all(PARTNER), [200]);
}

#[test]
fn who_guesses_is_not_told_which_guess_is_right_by_any_door() {
    let gateway = alone();
    let mut client = gateway.connect();
    let mut number = 0;
    let mut held = || {
        // guessed by one door until it is shut; the wait is some seconds
        loop {
            number += 1;
            assert!(number < 1000, "nobody is slowed down");
            let form = format!("grant_type=client_credentials&client_id=shop&client_secret=guess-{number}");
            let answer = match number % 2 {
                0 => get(&mut client, &format!("Authorization: {WRONG}\r\n")),
                _ => client.call(format!(
                    "POST /auth HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
                    form.len()
                )),
            };
            match answer.status {
                401 => {}
                429 => break assert!(answer.field("retry-after").is_some()),
                other => panic!("{other}: {}", answer.text()),
            }
        }
        get(&mut client, &format!("Authorization: {SHOP}\r\n")).status == 429
    };
    assert!((0..20).any(|_| held()));
}

#[test]
fn who_was_let_in_before_is_not_held_up_by_those_who_guess() {
    let lane =
        Lane::start(&yaml("{ basic_auth: {} }", "").replace("upstreams:", "trusted_proxies: [127.0.0.1]\nupstreams:"));
    let mut client = lane.connect();
    let mut from = |address: &str, login: &str| {
        get(&mut client, &format!("X-Forwarded-For: {address}\r\nAuthorization: {login}\r\n")).status
    };
    assert_eq!((from("192.0.2.1", SHOP), from("2001:db8:0:1::1", SHOP)), (200, 200));
    let mut number = 0;
    let mut held = || {
        // guessed from everywhere, and there with other names, until a newcomer is held up; the wait is some seconds
        loop {
            number += 1;
            assert!(number < 1000, "nobody is slowed down");
            from(&format!("198.51.100.{}", number % 250), WRONG);
            from("192.0.2.1", NOBODY);
            if from("203.0.113.1", WRONG) == 429 && from("192.0.2.1", NOBODY) == 429 {
                break;
            }
        }
        // another host of a network that it was let in from, and one of another
        assert_eq!((from("192.0.2.1", SHOP), from("2001:db8:0:1::2", SHOP)), (200, 200));
        from("2001:db8:0:2::1", SHOP) == 429 && from("192.0.2.1", PARTNER) == 429
    };
    assert!((0..20).any(|_| held()));
}
