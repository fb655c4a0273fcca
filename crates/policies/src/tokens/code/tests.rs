//! Logins for clients, with a provider that a script plays and a browser that keeps cookies.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::store::{Durability, Sqlite};
use daemun_accounts::{Accounts, Consumer as Stored, Credential, CredentialKind, Revoked};
use daemun_config::decode::ClaimPath;
use daemun_config::model::{GrantType, LoginProvider, Secret, ServiceUrls, TokenService};
use daemun_pipeline::{Consumer, Directory, Outcome};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use form_urlencoded::Serializer;
use serde_json::{Value, json};

use crate::oidc::tests::bed::{Bed, Browser, Got, ISSUER};
use crate::testing::{Chain, basic, consumer, token_service, wait};
use crate::tokens::tests::{ask, text_of};

const NOW: u64 = 1_800_000_000_000;
/// The service.
const SELF: &str = "https://api.example.com";
const SPA: &str = "https://spa.example/cb?app=1";
const WEB: &str = "https://web.example/cb";
const VERIFIER: &str = "a-verifier-of-43-characters-and-some-more~._";

fn challenge(verifier: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref())
}

fn service() -> TokenService {
    let provider = LoginProvider {
        issuer: ISSUER.to_owned(),
        client_id: "shop-web".to_owned(),
        client_secret: Secret("its secret".to_owned()),
        scopes: vec!["openid".to_owned(), "profile".to_owned()],
        userinfo: false,
        ca: None,
        leeway: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        claims: Vec::new(),
        subject: vec![ClaimPath::named("sub")],
        roles: Some(ClaimPath::named("roles")),
        groups: Some(ClaimPath::named("groups")),
        secrets: vec![Secret("0123456789abcdef0123456789abcdef".to_owned())],
    };
    TokenService {
        grants: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        provider: Some(Box::new(provider)),
        issuer: Some(SELF.to_owned()),
        urls: ServiceUrls {
            token: format!("{SELF}/token"),
            authorize: format!("{SELF}/authorize"),
            callback: format!("{SELF}/callback"),
            ..ServiceUrls::default()
        },
        ..token_service("shop")
    }
}

fn clients() -> Vec<Consumer> {
    let client = |name: &str, redirect: &str| Consumer {
        redirect_uris: vec![redirect.to_owned()],
        scopes: vec!["read".to_owned(), "write".to_owned()],
        ..consumer(name, &[], &[])
    };
    let web = Consumer { basic: vec![basic("web", "web secret: 1")], ..client("web-shop", WEB) };
    let other = Consumer { basic: vec![basic("other", "other secret")], ..client("other-shop", SPA) };
    vec![client("spa", SPA), web, other, client("app", "http://127.0.0.1/cb"), consumer("plain", &[], &[])]
}

/// A service that knows a provider, with the endpoints of it.
struct Shop {
    bed: Bed,
    accounts: Arc<Accounts>,
    authorize: Chain,
    callback: Chain,
    token: Chain,
}

impl Shop {
    fn new() -> Shop {
        Shop::with(Bed::new(), service(), clients(), true)
    }

    fn with(mut bed: Bed, service: TokenService, clients: Vec<Consumer>, is_there: bool) -> Shop {
        bed.bench.directory = Arc::new(Directory::new(clients));
        bed.bench.token_services = vec![service];
        let chain =
            |endpoint: &str| bed.bench.build(&format!("tokens: {{ service: shop, endpoint: {endpoint} }}")).unwrap();
        let (authorize, callback, token) = (chain("authorize"), chain("callback"), chain("token"));
        if is_there {
            bed.world.until(|seen| seen.answered == 2 && seen.waiting == 1);
        }
        let accounts = Accounts::of(&bed.bench.carry);
        Shop { bed, accounts, authorize, callback, token }
    }

    fn authorize(&self, browser: &mut Browser, query: &str) -> Got {
        browser.page(&self.authorize, &format!("/authorize?{query}"))
    }

    /// Sends a browser to the provider; gives the state that it comes back with.
    fn begin(&self, browser: &mut Browser, query: &str) -> String {
        let got = self.authorize(browser, query);
        assert!(got.field("location").starts_with(ISSUER), "{} {} {}", got.status, got.cause, got.field("location"));
        self.bed.said.lock().unwrap().nonce = got.parameter("nonce");
        got.parameter("state")
    }

    fn back(&self, browser: &mut Browser, more: &str) -> Got {
        browser.page(&self.callback, &format!("/callback?{more}"))
    }

    /// Logs in for a client; gives the code.
    fn login(&self, client: &str, redirect: &str) -> String {
        let mut browser = Browser::default();
        let state = self.begin(&mut browser, &request(client, redirect));
        let got = self.back(&mut browser, &format!("code=abc&state={state}"));
        assert!(got.field("location").starts_with(redirect), "{} {}", got.cause, got.field("location"));
        got.parameter("code")
    }

    fn redeem(&self, fields: &str, form: &[(&str, &str)], at: u64) -> (u16, Value) {
        ask(&self.token, fields, &pairs(form), at)
    }
}

fn pairs(form: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(form).finish()
}

fn request(client: &str, redirect: &str) -> String {
    let challenge = challenge(VERIFIER);
    pairs(&[
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", redirect),
        ("state", "a state & more"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ])
}

fn form<'a>(code: &'a str, redirect: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", redirect), ("code_verifier", VERIFIER)]
}

fn public<'a>(code: &'a str, redirect: &'a str, client: &'a str) -> Vec<(&'a str, &'a str)> {
    [form(code, redirect), vec![("client_id", client)]].concat()
}

#[test]
fn a_public_client_is_given_tokens_for_a_login_of_a_user() {
    let shop = Shop::new();
    shop.bed.with(|said| said.claims = json!({ "roles": ["buyer"], "groups": ["staff"], "scope": "admin" }));
    let mut browser = Browser { tls: true, ..Browser::default() };
    let sent =
        shop.authorize(&mut browser, &(request("spa", SPA) + "&scope=read&nonce=n&prompt=x&resource=a&resource=b"));
    assert_eq!((sent.status, sent.field("cache-control").as_str()), (302, "no-store"));
    for (name, value) in [
        ("client_id", "shop-web"),
        ("redirect_uri", "https://api.example.com/callback"),
        ("scope", "openid profile"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(sent.parameter(name), value);
    }
    assert_ne!(
        sent.parameter("code_challenge"),
        challenge(VERIFIER),
        "the provider is shown a challenge of the service's own"
    );
    let [cookie] = sent.set_cookies().try_into().unwrap();
    assert!(
        cookie.starts_with("__Host-daemun-tokens-")
            && cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure")
    );
    assert!(!cookie.contains(&sent.parameter("state")) && !cookie.contains("spa"));
    shop.bed.said.lock().unwrap().nonce = sent.parameter("nonce");
    let back = shop.back(&mut browser, &format!("code=abc&state={}", sent.parameter("state")));
    assert_eq!((back.status, back.field("referrer-policy").as_str()), (302, "no-referrer"), "{}", back.cause);
    assert!(back.field("location").starts_with("https://spa.example/cb?app=1&code=dmc_"), "{}", back.field("location"));
    assert_eq!((back.parameter("state").as_str(), back.parameter("iss").as_str()), ("a state & more", SELF));
    assert!(browser.cookies.is_empty(), "nothing is left of the login");
    let code = back.parameter("code");
    let (status, told) = shop.redeem("", &public(&code, SPA, "spa"), 1);
    assert_eq!(status, 200, "{told}");
    let check = |told: &Value| shop.accounts.check(text_of(told, "access_token").as_bytes(), "shop", NOW).unwrap();
    let identity = check(&told);
    assert_eq!((&*identity.subject, identity.consumer.as_deref()), ("ann", None));
    assert_eq!((&*identity.roles, &*identity.groups), (&["buyer".to_owned()][..], &["staff".to_owned()][..]));
    assert_eq!((&*identity.scopes, &told["scope"]), (&["read".to_owned()][..], &json!("read")));
    let next =
        [("grant_type", "refresh_token"), ("refresh_token", text_of(&told, "refresh_token")), ("client_id", "spa")];
    let (status, next) = shop.redeem("", &next, 2);
    assert_eq!((status, &*check(&next).subject), (200, "ann"));
}

#[test]
fn a_confidential_client_shows_its_secret_as_well() {
    let shop = Shop::new();
    let header = |id: &str, secret: &str| {
        format!("Authorization: Basic {}\r\n", BASE64.encode(format!("{id}:{secret}").as_bytes()))
    };
    let good = header("web", "web+secret%3A+1");
    let code = shop.login("web", WEB);
    for (fields, more, status, error) in [
        ("", vec![("client_id", "web")], 401, "invalid_client"),
        ("", vec![("client_id", "web-shop")], 401, "invalid_client"),
        ("", vec![], 400, "invalid_request"),
        ("", vec![("client_id", "web"), ("client_secret", "web secret: 2")], 401, "invalid_client"),
        (&*header("web", "wrong"), vec![], 401, "invalid_client"),
        (&*good, vec![("client_id", "spa")], 400, "invalid_request"),
        (&*good, vec![("client_id", "web"), ("client_secret", "web secret: 1")], 400, "invalid_request"),
        (&*header("other", "other+secret"), vec![], 400, "invalid_grant"),
        ("", vec![("client_id", "spa")], 400, "invalid_grant"),
    ] {
        let asked = [form(&code, WEB), more].concat();
        assert_eq!(shop.redeem(fields, &asked, 0), (status, json!(error)), "{fields} {asked:?}");
    }
    assert_eq!(shop.redeem(&good, &form(&code, WEB), 60_000).1, json!("invalid_grant"), "its time is over");
    let shop = Shop::new();
    let (status, told) = shop.redeem(&good, &form(&shop.login("web", WEB), WEB), 0);
    assert_eq!(status, 200, "{told}");
    let in_form = [form("x", WEB), vec![("client_id", "web"), ("client_secret", "web secret: 1")]].concat();
    let code = shop.login("web", WEB);
    let in_form: Vec<_> =
        in_form.into_iter().map(|(name, value)| (name, if name == "code" { &*code } else { value })).collect();
    assert_eq!(shop.redeem("", &in_form, 0).0, 200);
    // a refresh token of one client is no other's
    let refresh = |fields: &str, more: &[(&str, &str)]| {
        let asked =
            [&[("grant_type", "refresh_token"), ("refresh_token", text_of(&told, "refresh_token"))], more].concat();
        shop.redeem(fields, &asked, 0)
    };
    assert_eq!(refresh("", &[]), (400, json!("invalid_request")));
    assert_eq!(refresh("", &[("client_id", "web")]), (401, json!("invalid_client")));
    assert_eq!(refresh("", &[("client_id", "spa")]), (400, json!("invalid_grant")));
    assert_eq!(refresh(&header("other", "other+secret"), &[]), (400, json!("invalid_grant")));
    assert_eq!(refresh(&good, &[]).0, 200);
}

#[test]
fn a_code_is_good_once_and_with_the_verifier_of_its_challenge() {
    let shop = Shop::new();
    let code = shop.login("spa", SPA);
    let with = |name: &'static str, value: Option<&'static str>| -> Vec<(&str, &str)> {
        let kept = public(&code, SPA, "spa").into_iter().filter(move |(known, _)| *known != name);
        kept.chain(value.map(|value| (name, value))).collect()
    };
    let plain = Box::leak(challenge(VERIFIER).into_boxed_str());
    let longest: &'static str = Box::leak("v".repeat(129).into_boxed_str());
    for (name, value, error) in [
        ("code", None, "invalid_request"),
        ("code", Some("dmc_made-up"), "invalid_grant"),
        ("code_verifier", None, "invalid_request"),
        ("code_verifier", Some("short"), "invalid_request"),
        ("code_verifier", Some(longest), "invalid_request"),
        ("code_verifier", Some("a-verifier-of-43-characters-and-some-more!!!"), "invalid_request"),
        ("code_verifier", Some("another-verifier-of-43-characters-and-more~"), "invalid_grant"),
        ("code_verifier", Some(plain), "invalid_grant"),
        ("redirect_uri", None, "invalid_request"),
        ("redirect_uri", Some(WEB), "invalid_grant"),
        ("redirect_uri", Some("https://spa.example/cb"), "invalid_grant"),
        ("client_id", Some("app"), "invalid_grant"),
    ] {
        assert_eq!(shop.redeem("", &with(name, value), 0), (400, json!(error)), "{name} {value:?}");
    }
    let twice = pairs(&public(&code, SPA, "spa")) + "&code_verifier=" + VERIFIER;
    assert_eq!(ask(&shop.token, "", &twice, 0), (400, json!("invalid_request")));
    assert_eq!(shop.redeem("", &public(&code, SPA, "spa"), 30_000).1, "invalid_grant", "half a minute later");
    let (status, told) = shop.redeem("", &public(&code, SPA, "spa"), 29_999);
    assert_eq!(status, 200, "{told}");
    let access = text_of(&told, "access_token");
    assert!(shop.accounts.check(access.as_bytes(), "shop", NOW).is_ok());
    assert_eq!(shop.redeem("", &public(&code, SPA, "spa"), 40_000), (400, json!("invalid_grant")));
    assert!(shop.accounts.check(access.as_bytes(), "shop", NOW).is_err(), "what came out of it is revoked");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", text_of(&told, "refresh_token"))];
    assert_eq!(shop.redeem("", &refresh, 40_000), (400, json!("invalid_grant")));
    let told = shop.bed.world.seen().told.join("\n");
    assert!(told.contains("token_reused: a code was used twice") && !told.contains(&code), "{told}");
}

#[test]
fn codes_cannot_be_guessed_so_that_wrong_ones_shut_nobody_out() {
    let shop = Shop::new();
    let good = shop.login("spa", SPA);
    for _ in 0..11 {
        assert_eq!(shop.redeem("", &public("dmc_made-up", SPA, "spa"), 0), (400, json!("invalid_grant")));
    }
    assert_eq!(shop.redeem("", &public(&good, SPA, "spa"), 0).0, 200);
}

#[test]
fn who_is_not_known_or_not_to_be_sent_back_there_sees_an_error_and_goes_nowhere() {
    let shop = Shop::new();
    let many: String = (0..65).map(|n| format!("&n{n}=x")).collect();
    let asked = |client: &str, redirect: &str| request(client, redirect);
    for query in [
        String::new(),
        asked("", SPA),
        asked("nobody", SPA),
        asked("plain", SPA),
        asked("web-shop", WEB),
        asked("spa", ""),
        asked("spa", WEB),
        asked("spa", "https://spa.example/cb"),
        asked("spa", "https://spa.example/cb?app=1&x=2"),
        asked("spa", "https://spa.example/cb?app=1#x"),
        asked("spa", "https://spa.example.evil.example/cb?app=1"),
        asked("spa", "https://spa.example@evil.example/cb?app=1"),
        asked("spa", "//evil.example"),
        asked("spa", "javascript:alert(1)"),
        asked("spa", "https://spa.example/cb?app=1\r\nSet-Cookie: a=b"),
        asked("app", "http://127.0.0.1:80@evil.example/cb"),
        asked("app", "http://127.0.0.1.evil.example/cb"),
        asked("app", "http://localhost/cb"),
        asked("spa", SPA) + "&client_id=spa",
        asked("spa", SPA) + "&redirect_uri=https%3A%2F%2Fevil.example",
        asked("spa", &format!("https://spa.example/{}", "x".repeat(8000))),
        asked("spa", SPA) + &many,
    ] {
        let mut browser = Browser::default();
        let got = shop.authorize(&mut browser, &query);
        assert_eq!((got.status, got.field("location").as_str(), got.set_cookies()), (400, "", Vec::new()), "{query}");
        assert_eq!(got.field("cache-control"), "no-store");
        let (explained, why) = browser.explain(&shop.authorize, &format!("GET /authorize?{query} HTTP/1.1"));
        assert_eq!(explained, Outcome::Refuse(400, "invalid_request"), "{query}");
        assert!(why.ends_with(&got.cause) && !got.cause.is_empty(), "{why}");
        let shown = String::from_utf8_lossy(got.exchange.response.body.as_deref().unwrap()).into_owned();
        assert!(!shown.contains("evil.example") && !shown.contains("redirect_uris"), "{shown}");
    }
    assert_eq!(shop.bed.world.seen().calls.len(), 2, "the provider was asked what it is, and nothing else");
    // a program on the user's own machine listens where it can
    shop.begin(&mut Browser::default(), &asked("app", "http://127.0.0.1:51004/cb"));
}

#[test]
fn what_else_is_wrong_the_client_is_told() {
    let shop = Shop::new();
    let good = request("spa", SPA);
    let without = |name: &str| -> String {
        good.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect::<Vec<_>>().join("&")
    };
    let with = |name: &str, value: &str| without(name) + "&" + &pairs(&[(name, value)]);
    for (query, error) in [
        (without("response_type"), "invalid_request"),
        (with("response_type", "token"), "unsupported_response_type"),
        (with("response_type", "code id_token"), "unsupported_response_type"),
        (without("code_challenge"), "invalid_request"),
        (with("code_challenge", "short"), "invalid_request"),
        (with("code_challenge", &"=".repeat(43)), "invalid_request"),
        (with("code_challenge", &"x".repeat(5000)), "invalid_request"),
        (without("code_challenge_method"), "invalid_request"),
        (with("code_challenge_method", "plain"), "invalid_request"),
        (good.clone() + "&response_mode=fragment", "invalid_request"),
        (good.clone() + "&request=x", "request_not_supported"),
        (good.clone() + "&request_uri=https%3A%2F%2Fa", "request_uri_not_supported"),
        (good.clone() + "&scope=read+admin", "invalid_scope"),
        (good.clone() + "&scope=read&scope=read", "invalid_request"),
        (good.clone() + "&code_challenge_method=S256", "invalid_request"),
        (good.clone() + "&response_type=", "invalid_request"),
    ] {
        let mut browser = Browser::default();
        let got = shop.authorize(&mut browser, &query);
        assert_eq!((got.status, got.set_cookies()), (302, Vec::new()), "{query}");
        assert!(got.field("location").starts_with(&format!("{SPA}&error=")), "{}", got.field("location"));
        assert_eq!((got.parameter("error").as_str(), got.parameter("iss").as_str()), (error, SELF), "{query}");
        assert_eq!(got.parameter("state"), "a state & more");
        let (explained, why) = browser.explain(&shop.authorize, &format!("GET /authorize?{query} HTTP/1.1"));
        assert!(explained == Outcome::Answer(302) && why.contains(error), "{why}");
    }
    // a state that is not taken is not told again
    for query in [with("state", &"x".repeat(1025)), with("state", "a\nb"), good.clone() + "&state=b"] {
        let got = shop.authorize(&mut Browser::default(), &query);
        assert_eq!((got.status, got.parameter("error").as_str()), (302, "invalid_request"));
        assert!(!got.field("location").contains("&state="), "{}", got.field("location"));
    }
    let head = Browser::default().send(&shop.authorize, &format!("HEAD /authorize?{good} HTTP/1.1"));
    assert_eq!((head.status, head.field("allow").as_str()), (405, "GET"));
    assert_eq!(Browser::default().send(&shop.callback, "POST /callback HTTP/1.1").status, 405);
}

#[test]
fn what_does_not_fit_into_a_cookie_is_refused_and_older_logins_make_room() {
    let mut clients = clients();
    let long = format!("https://spa.example/{}", "r".repeat(1000));
    clients[0].redirect_uris.push(long.clone());
    clients[0].scopes = (0..40).map(|n| format!("{}{n}", "s".repeat(40))).collect();
    let all = clients[0].scopes.join(" ");
    let shop = Shop::with(Bed::new(), service(), clients, true);
    let mut browser = Browser::default();
    let big = request("spa", &long).replace("a+state+%26+more", &"x".repeat(1000)) + "&" + &pairs(&[("scope", &all)]);
    let got = shop.authorize(&mut browser, &big);
    assert_eq!((got.status, got.parameter("error").as_str()), (302, "invalid_request"));
    let first = shop.begin(&mut browser, &request("spa", &long));
    for _ in 0..3 {
        shop.begin(&mut browser, &request("spa", &long));
        assert!(browser.cookies[0].0.len() + browser.cookies[0].1.len() < 4096);
    }
    assert_eq!(shop.back(&mut browser, &format!("code=abc&state={first}")).status, 400, "it made room for the others");
}

#[test]
fn a_login_is_of_its_browser_once_and_cannot_be_changed() {
    let shop = Shop::new();
    let mut browser = Browser::default();
    let state = shop.begin(&mut browser, &request("spa", SPA));
    let answer = format!("code=abc&state={state}");
    let asked = shop.bed.world.seen().calls.len();
    let nothing = |browser: &mut Browser, query: &str, what: &str| {
        let got = shop.back(browser, query);
        assert_eq!((got.status, got.field("location").as_str()), (400, ""), "{what}");
        let (explained, _) = browser.explain(&shop.callback, &format!("GET /callback?{query} HTTP/1.1"));
        assert_eq!(explained, Outcome::Refuse(400, "invalid_request"), "{what}");
    };
    nothing(&mut Browser::default(), &answer, "no cookie");
    let mut other = Browser::default();
    shop.begin(&mut other, &request("spa", SPA));
    nothing(&mut other.clone(), &answer, "the state of another browser");
    let mut both = browser.clone();
    both.cookies.extend(other.cookies.clone());
    nothing(&mut both, &answer, "two cookies, of which one could be planted");
    for at in [0, 30, 60] {
        let mut tampered = browser.clone();
        let byte = tampered.cookies[0].1.remove(at);
        tampered.cookies[0].1.insert(at, if byte == 'A' { 'B' } else { 'A' });
        nothing(&mut tampered, &answer, "a cookie that was changed");
    }
    nothing(&mut browser.clone(), "code=abc", "no state");
    nothing(&mut browser.clone(), &format!("{answer}&state={state}"), "two states");
    nothing(&mut browser.clone(), &format!("code=abc&state={state}A"), "another state");
    nothing(&mut browser.clone(), "code=abc&state=AAAAAAAAAAAAAAAAAAAAAA", "a state that nobody was given");
    let mut late = Browser { later: 600, ..browser.clone() };
    nothing(&mut late, &answer, "ten minutes later");
    assert_eq!(shop.bed.world.seen().calls.len(), asked, "the provider is asked for no code");
    // the login that was begun last is the one that the provider answers
    let state = shop.begin(&mut browser, &request("spa", SPA));
    let answer = format!("code=abc&state={state}");
    let (explained, why) = browser.explain(&shop.callback, &format!("GET /callback?{answer} HTTP/1.1"));
    assert!(explained == Outcome::Answer(302) && why.contains(ISSUER), "{why}");
    let kept = browser.clone();
    assert_eq!(shop.back(&mut browser, &answer).status, 302);
    let again = shop.back(&mut kept.clone(), &answer);
    assert_eq!((again.status, again.cause.as_str()), (400, "the `state` was used before"));
}

#[test]
fn what_the_provider_does_not_say_clearly_opens_nothing() {
    let cases: &[(&str, &str, &str)] = &[
        ("error=access_denied", "access_denied", "`access_denied`"),
        ("error=login_required&error_description=x", "access_denied", "`login_required`"),
        ("error=server_error", "temporarily_unavailable", "`server_error`"),
        ("error=a&error=b", "access_denied", "stands twice"),
        ("code=abc&iss=https%3A%2F%2Fevil.example", "access_denied", "another issuer"),
        ("error=server_error&iss=https%3A%2F%2Fevil.example", "access_denied", "another issuer"),
        ("code=abc&iss=", "access_denied", "another issuer"),
        ("", "access_denied", "no `code`"),
        ("code=abc&code=abc", "access_denied", "stands twice"),
    ];
    let shop = Shop::new();
    for (query, error, why) in cases {
        let mut browser = Browser::default();
        let state = shop.begin(&mut browser, &request("spa", SPA));
        let got = shop.back(&mut browser, &format!("{query}&state={state}"));
        assert_eq!((got.status, got.parameter("error").as_str()), (302, *error), "{query}");
        assert_eq!((got.parameter("state").as_str(), got.parameter("iss").as_str()), ("a state & more", SELF));
        assert!(!got.field("location").contains("evil") && !got.field("location").contains("&code="), "{query}");
        assert!(got.exchange.remark.as_deref().unwrap().contains(why), "{:?}", got.exchange.remark);
        assert!(browser.cookies.is_empty(), "the login is over");
    }
    assert_eq!(shop.bed.world.seen().calls.len(), 2, "the provider is asked for no code");
    for (change, why) in [
        (json!({ "nonce": "another" }), "`nonce`"),
        (json!({ "aud": "another" }), "`aud`"),
        (json!({ "iss": "https://evil.example" }), "`iss`"),
        (json!({ "exp": 1_700_000_000 }), "expired"),
        (json!({ "sub": null }), "`sub`"),
        (json!({ "sub": "plain" }), "a consumer has the user's name"),
        (json!({ "sub": "spa" }), "a consumer has the user's name"),
        (json!({ "sub": "of-the-store" }), "a consumer has the user's name"),
        (json!({ "sub": "a\nb" }), "cannot be sent"),
        (json!({ "sub": "a".repeat(257) }), "longer than 256 bytes"),
        (json!({ "sub": "a\u{85}b" }), "has a control character"),
    ] {
        wait(shop.accounts.put_consumer(Stored { name: "of-the-store".to_owned(), ..Stored::default() }, NOW)).unwrap();
        shop.bed.with(|said| said.claims = change.clone());
        let mut browser = Browser::default();
        let state = shop.begin(&mut browser, &request("spa", SPA));
        let got = shop.back(&mut browser, &format!("code=abc&state={state}"));
        assert_eq!((got.status, got.parameter("error").as_str()), (302, "access_denied"), "{change}");
        assert!(got.exchange.remark.as_deref().unwrap().contains(why), "{:?}", got.exchange.remark);
    }
    assert_eq!(shop.accounts.tokens(), 0);
}

#[test]
fn a_user_with_the_longest_name_has_tokens_that_are_taken_back_by_it() {
    let (shop, name) = (Shop::new(), "a".repeat(256));
    shop.bed.with(|said| said.claims = json!({ "sub": name }));
    let (status, told) = shop.redeem("", &public(&shop.login("spa", SPA), SPA, "spa"), 0);
    assert_eq!(status, 200, "{told}");
    wait(shop.accounts.revoke(&Revoked::Subject(name), None, NOW)).unwrap();
    assert!(shop.accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).is_err());
}

#[test]
fn a_provider_that_names_itself_must_do_so_and_one_that_is_away_lets_nobody_in() {
    let bed = Bed::saying(json!({ "authorization_response_iss_parameter_supported": true }));
    let shop = Shop::with(bed, service(), clients(), true);
    let answered = |more: &str| {
        let mut browser = Browser::default();
        let state = shop.begin(&mut browser, &request("spa", SPA));
        shop.back(&mut browser, &format!("code=abc&state={state}{more}"))
    };
    let silent = answered("");
    assert_eq!(silent.parameter("error"), "access_denied");
    assert_eq!(silent.exchange.remark.as_deref(), Some("the answer does not say whose it is"));
    let own = format!("&{}", pairs(&[("iss", ISSUER)]));
    assert!(answered(&own).field("location").contains("code=dmc_"));
    let tokens = shop.accounts.tokens();
    let mut browser = Browser::default();
    let state = shop.begin(&mut browser, &request("spa", SPA));
    shop.bed.with(|said| said.away = true);
    let got = shop.back(&mut browser, &format!("code=abc&state={state}{own}"));
    assert_eq!((got.status, got.parameter("error").as_str()), (302, "temporarily_unavailable"));
    assert_eq!((got.parameter("state").as_str(), shop.accounts.tokens()), ("a state & more", tokens));
    let bed = Bed::new();
    bed.with(|said| said.away = true);
    let unknown = Shop::with(bed, service(), clients(), false);
    let got = unknown.authorize(&mut Browser::default(), &request("spa", SPA));
    assert_eq!(
        (got.status, got.parameter("error").as_str(), got.set_cookies()),
        (302, "temporarily_unavailable", vec![])
    );
    assert_eq!((got.parameter("state").as_str(), got.parameter("iss").as_str()), ("a state & more", SELF));
    assert_eq!(unknown.authorize(&mut Browser::default(), &request("nobody", SPA)).status, 400);
}

#[test]
fn a_client_that_is_revoked_or_gone_has_nothing_any_more() {
    let shop = Shop::new();
    let (code, mut browser) = (shop.login("spa", SPA), Browser::default());
    let state = shop.begin(&mut browser, &request("spa", SPA));
    let (_, told) = shop.redeem("", &public(&shop.login("spa", SPA), SPA, "spa"), 0);
    let gone = Shop::with(Bed::new(), service(), clients().split_off(1), true);
    let got = gone.back(&mut browser.clone(), &format!("code=abc&state={state}"));
    assert_eq!((got.status, got.field("location").as_str()), (400, ""), "{}", got.cause);
    wait(shop.accounts.revoke(&Revoked::Credential("client:spa".to_owned()), None, NOW)).unwrap();
    let access = text_of(&told, "access_token");
    assert!(shop.accounts.check(access.as_bytes(), "shop", NOW).is_err());
    assert_eq!(shop.redeem("", &public(&code, SPA, "spa"), 0), (401, json!("invalid_client")));
    let got = shop.back(&mut browser, &format!("code=abc&state={state}"));
    assert_eq!((got.status, got.cause.as_str()), (400, "the client was revoked"));
    assert_eq!(shop.authorize(&mut Browser::default(), &request("spa", SPA)).status, 400);
}

#[test]
fn a_refresh_token_of_a_login_ends_with_its_client_and_with_its_users_name() {
    let mut shop = Shop::new();
    let (_, told) = shop.redeem("", &public(&shop.login("spa", SPA), SPA, "spa"), 0);
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", text_of(&told, "refresh_token"))];
    let mut with = |clients: Vec<Consumer>| {
        shop.bed.bench.directory = Arc::new(Directory::new(clients));
        ask(&shop.bed.bench.build("tokens: shop").unwrap(), "", &pairs(&refresh), 0)
    };
    assert_eq!(with(clients().split_off(1)), (400, json!("invalid_grant")));
    assert_eq!(with([clients(), vec![consumer("ann", &["admin"], &[])]].concat()), (400, json!("invalid_grant")));
    assert_eq!(with(clients()).0, 200);
}

#[test]
fn whoever_revokes_is_the_holder_or_the_client() {
    let shop = Shop::new();
    let (_, told) = shop.redeem("", &public(&shop.login("other", SPA), SPA, "spa"), 0);
    assert_eq!(told, "invalid_grant");
    let header = |login: &str| format!("Authorization: Basic {}\r\n", BASE64.encode(login.as_bytes()));
    let web = "Authorization: Basic d2ViOndlYitzZWNyZXQlM0ErMQ==\r\n";
    let (status, told) = shop.redeem(web, &form(&shop.login("web", WEB), WEB), 0);
    assert_eq!(status, 200, "{told}");
    let chain = shop.bed.bench.build("{ basic_auth: {}, tokens: { service: shop, endpoint: revoke } }").unwrap();
    let body = pairs(&[("token", text_of(&told, "access_token"))]);
    let is_good = || shop.accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).is_ok();
    assert_eq!(ask(&chain, &header("other:other secret"), &body, 0), (200, json!({})));
    assert!(is_good());
    assert_eq!(ask(&chain, &header("web:web secret: 1"), &body, 0), (200, json!({})));
    assert!(!is_good());
}

#[test]
fn it_tells_what_it_would_do_and_what_it_does() {
    let shop = Shop::new();
    let browser = Browser::default();
    let (outcome, why) = browser.explain(&shop.authorize, &format!("GET /authorize?{} HTTP/1.1", request("spa", SPA)));
    assert_eq!(outcome, Outcome::Answer(302));
    assert_eq!(
        why,
        format!(
            "the service `shop` would send the browser to `{ISSUER}` to log in, for the client `spa`; it would come back at \
             `https://api.example.com/callback`, and go on to `{SPA}` with a code"
        )
    );
    let (outcome, why) = browser.explain(&shop.token, "POST /token HTTP/1.1");
    assert_eq!(
        (outcome, why.as_str()),
        (Outcome::Answer(200), "the service `shop` would check the client and the code in the body")
    );
    assert_eq!(shop.bed.world.seen().calls.len(), 2);
    let metadata = shop.bed.bench.build("tokens: { service: shop, endpoint: metadata }").unwrap();
    let got = Browser::default().page(&metadata, "/.well-known/oauth-authorization-server");
    let told: Value = serde_json::from_slice(got.exchange.response.body.as_deref().unwrap()).unwrap();
    assert_eq!(
        told,
        json!({
            "issuer": SELF,
            "token_endpoint": "https://api.example.com/token",
            "authorization_endpoint": "https://api.example.com/authorize",
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "scopes_supported": ["read", "write"],
        })
    );
    let mut other = Bed::new();
    other.bench.token_services = vec![token_service("shop")];
    for endpoint in ["authorize", "callback"] {
        assert_eq!(
            other.bench.errors(&format!("tokens: {{ service: shop, endpoint: {endpoint} }}")),
            ["bad_value routes.items.policies.tokens: `shop` gives no tokens for logins in a browser"]
        );
    }
}

#[test]
fn a_client_of_the_store_is_none_of_the_configuration_whatever_its_id() {
    let shop = Shop::new();
    wait(shop.accounts.put_consumer(Stored { name: "partner".to_owned(), ..Stored::default() }, NOW)).unwrap();
    let secret = Credential {
        id: "web".to_owned(),
        consumer: "partner".to_owned(),
        kind: CredentialKind::Client,
        digest: daemun_accounts::text::digest(b"a secret of the store"),
        label: String::new(),
        created: NOW,
        expires: None,
        disabled: false,
    };
    wait(shop.accounts.put_credential(secret, NOW)).unwrap();
    let header =
        |secret: &str| format!("Authorization: Basic {}\r\n", BASE64.encode(format!("web:{secret}").as_bytes()));
    let (other, own) = (header("a+secret+of+the+store"), header("web+secret%3A+1"));
    assert_eq!(shop.redeem(&other, &form(&shop.login("web", WEB), WEB), 0), (401, json!("invalid_client")));
    let (status, told) = shop.redeem(&own, &form(&shop.login("web", WEB), WEB), 0);
    assert_eq!(status, 200, "{told}");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", text_of(&told, "refresh_token"))];
    assert_eq!(shop.redeem(&other, &refresh, 0), (401, json!("invalid_client")));
    assert_eq!(shop.redeem(&own, &refresh, 0).0, 200);
}

#[test]
fn a_refresh_token_that_another_process_gave_out_is_still_its_clients_alone() {
    let folder = std::env::temp_dir().join(format!("daemun-codes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let opened = || {
        let shop = Shop::new();
        let store = Sqlite::open(&folder.join("daemun.db"), Durability::Process).unwrap();
        shop.accounts.keep_in(Box::new(store), || NOW, |what| panic!("{what}")).unwrap();
        shop
    };
    let (one, other) = (opened(), opened());
    let own = "Authorization: Basic d2ViOndlYitzZWNyZXQlM0ErMQ==\r\n";
    for _ in 0..10 {
        let (status, told) = one.redeem(own, &form(&one.login("web", WEB), WEB), 0);
        assert_eq!(status, 200, "{told}");
        let refresh = [("grant_type", "refresh_token"), ("refresh_token", text_of(&told, "refresh_token"))];
        assert_eq!(other.redeem("", &[&refresh[..], &[("client_id", "spa")]].concat(), 0).1, json!("invalid_grant"));
        assert_eq!(other.redeem(own, &refresh, 0).0, 200);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_scope_that_was_taken_from_a_client_is_gone_from_what_it_is_given_next() {
    let mut shop = Shop::new();
    let code = {
        let (mut browser, asked) = (Browser::default(), request("spa", SPA) + "&scope=read+write+read");
        let state = shop.begin(&mut browser, &asked);
        shop.back(&mut browser, &format!("code=abc&state={state}")).parameter("code")
    };
    let (_, told) = shop.redeem("", &public(&code, SPA, "spa"), 0);
    assert_eq!(told["scope"], "read write");
    let mut clients = clients();
    clients[0].scopes = vec!["read".to_owned()];
    shop.bed.bench.directory = Arc::new(Directory::new(clients));
    let token = shop.bed.bench.build("tokens: shop").unwrap();
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", text_of(&told, "refresh_token"))];
    let (status, told) = ask(&token, "", &pairs(&refresh), 0);
    assert_eq!((status, &told["scope"]), (200, &json!("read")), "{told}");
}

mod stored;
