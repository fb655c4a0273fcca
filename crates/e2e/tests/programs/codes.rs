//! One-time codes of logins at an OpenID provider, a program of others: whose they are, how often they are good, and what is left of them when
//! a gateway ends.

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::{Gateway, Response, poll};
use data_encoding::BASE64;
use serde_json::Value;

use crate::login::{Surfer, absolute, parameter};
use crate::oauth::with_logins;
use crate::oidc::Provider;
use crate::peers::{PATIENCE, all_there};

const SITE: &str = "http://shop.example";
const BACK: &str = "https://spa.example/cb";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn begins() -> String {
    begins_for("shop-spa")
}

fn begins_for(client: &str) -> String {
    format!(
        "{SITE}/authorize?response_type=code&client_id={client}&redirect_uri={BACK}&state=s1&code_challenge={CHALLENGE}&\
         code_challenge_method=S256"
    )
}

/// Goes on until it is sent to an address that begins so, which it does not ask, or sees a page: where that is, and the page.
fn until(surfer: &mut Surfer, method: &str, url: &str, form: &str, stop: &str) -> (String, Option<Response>) {
    let (mut url, mut answer) = (url.to_owned(), surfer.ask(method, url, form));
    for _ in 0..20 {
        let Some(location) = answer.field("location") else { return (url, Some(answer)) };
        url = absolute(&url, location);
        if url.starts_with(stop) {
            return (url, None);
        }
        answer = surfer.ask("GET", &url, "");
    }
    panic!("sent round and round, at last to {url}");
}

/// Logs in at the provider, up to an address that begins so.
fn login(surfer: &mut Surfer, stop: &str) -> String {
    login_from(surfer, &begins(), stop)
}

fn login_from(surfer: &mut Surfer, begins: &str, stop: &str) -> String {
    let mut at = until(surfer, "GET", begins, "", stop);
    for form in ["prompt=login&login=ann&password=any", "prompt=consent"] {
        let text = at.1.as_ref().unwrap().text();
        let action = text.split("action=\"").nth(1).and_then(|rest| rest.split('"').next());
        let action = absolute(&at.0, action.unwrap_or_else(|| panic!("no form at {}: {text}", at.0)));
        at = until(surfer, "POST", &action, form, stop);
    }
    assert!(at.1.is_none(), "no way to {stop}, at last {}", at.0);
    at.0
}

fn redeem(gateway: &Gateway, code: &str) -> Response {
    let form = format!(
        "grant_type=authorization_code&client_id=shop-spa&redirect_uri={BACK}&code_verifier={VERIFIER}&code={code}"
    );
    ask(gateway, "", &form)
}

/// Asks for tokens, with more fields.
fn ask(gateway: &Gateway, fields: &str, form: &str) -> Response {
    gateway.connect().call(format!(
        "POST /auth HTTP/1.1\r\nHost: shop.example\r\n{fields}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ))
}

fn items(gateway: &Gateway, told: &Value) -> u16 {
    let token = told["access_token"].as_str().unwrap();
    let request = format!("GET /items HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\r\n");
    gateway.connect().call(request).status
}

#[test]
fn a_code_is_good_once_for_all_processes_with_its_store_and_after_they_ended() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let (provider, folder) = (Provider::start(), Folder::new());
    let path = folder.path().join("daemun.db").display().to_string();
    let yaml = with_logins(&provider, SITE, &format!("{{ path: {path}, key: 0123456789abcdef0123456789abcdef }}"));
    let (first, second) = (Gateway::start(&yaml), Gateway::start(&yaml));
    let mut surfer = Surfer::at(&first);
    let code = |url: &str| parameter(url, "code").to_owned();
    let one = code(&login(&mut surfer, BACK));
    // the user is known at the provider, and only goes there and back
    let other = code(&until(&mut surfer, "GET", &begins(), "", BACK).0);
    // given out by one, taken by the other, and at once
    let told = redeem(&second, &one);
    assert_eq!(told.status, 200, "{}", told.text());
    let told = told.json();
    assert_eq!(items(&second, &told), 200);
    let seen = poll(PATIENCE, || (items(&first, &told) == 200).then_some(()));
    assert!(seen.is_some(), "the other process sees it");
    drop(second);
    let third = Gateway::start(&yaml);
    assert_eq!(items(&third, &told), 200);
    let again = redeem(&third, &one);
    assert_eq!((again.status, again.json()["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(items(&third, &told), 401);
    let seen = poll(PATIENCE, || (items(&first, &told) == 401).then_some(()));
    assert!(seen.is_some(), "the other process sees that as well");
    // one that was not used outlives the process that gave it out
    drop(first);
    assert_eq!(redeem(&third, &other).status, 200);
}

#[test]
fn a_client_made_over_the_admin_listener_has_users_log_in_until_its_consumer_is_disabled() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let provider = Provider::start();
    let store = "{ path: daemun.db, key: 0123456789abcdef0123456789abcdef }";
    let yaml = format!("{}admin: {{ bind: 127.0.0.1:0 }}\n", with_logins(&provider, SITE, store));
    let gateway = Gateway::start(&yaml);
    let mut surfer = Surfer::at(&gateway);
    assert_eq!(surfer.ask("GET", &begins_for("portal-web"), "").status, 400, "it is not made yet");
    let says = format!(r#"{{"redirect_uris": ["{BACK}"], "scopes": ["read"]}}"#);
    let (status, told) = gateway.admin("PUT /consumers/portal", &says);
    assert_eq!((status, told["redirect_uris"][0].as_str()), (201, Some(BACK)), "{told}");
    let client = r#"{"kind": "client", "client_id": "portal-web"}"#;
    let (status, told) = gateway.admin("POST /consumers/portal/credentials", client);
    assert_eq!(status, 201, "{told}");
    let secret = told["client_secret"].as_str().unwrap().to_owned();
    let code = |url: &str| parameter(url, "code").to_owned();
    let first = code(&login_from(&mut surfer, &begins_for("portal-web"), BACK));
    let form =
        |code: &str| format!("grant_type=authorization_code&redirect_uri={BACK}&code_verifier={VERIFIER}&code={code}");
    let login = BASE64.encode(format!("portal-web:{secret}").as_bytes());
    let shown = format!("Authorization: Basic {login}\r\n");
    let nameless = ask(&gateway, "", &format!("{}&client_id=portal-web", form(&first)));
    assert_eq!((nameless.status, nameless.json()["error"].as_str()), (401, Some("invalid_client")));
    let told = ask(&gateway, &shown, &form(&first));
    assert_eq!((told.status, told.json()["scope"].as_str()), (200, Some("read")), "{}", told.text());
    let refresh =
        |told: &Value| format!("grant_type=refresh_token&refresh_token={}", told["refresh_token"].as_str().unwrap());
    let next = ask(&gateway, &shown, &refresh(&told.json()));
    assert_eq!(next.status, 200, "{}", next.text());
    assert_eq!(items(&gateway, &next.json()), 200);
    let late = code(&until(&mut surfer, "GET", &begins_for("portal-web"), "", BACK).0);
    assert_eq!(gateway.admin("PUT /consumers/portal", r#"{"disabled": true}"#).0, 200);
    assert_eq!(surfer.ask("GET", &begins_for("portal-web"), "").status, 400);
    assert_eq!(ask(&gateway, &shown, &form(&late)).status, 401);
    assert!(matches!(ask(&gateway, &shown, &refresh(&next.json())).status, 400 | 401));
    assert_eq!(items(&gateway, &next.json()), 401);
}

#[test]
fn a_login_for_a_client_is_of_its_browser_and_its_provider_alone() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let (provider, evil) = (Provider::start(), Provider::start());
    let gateway =
        Gateway::start(&with_logins(&provider, SITE, "{ path: daemun.db, key: 0123456789abcdef0123456789abcdef }"));
    let mut surfer = Surfer::at(&gateway);
    let back = login(&mut surfer, &format!("{SITE}/callback"));
    let mut stranger = Surfer::at(&gateway);
    assert!(stranger.ask("GET", &begins(), "").field("location").is_some());
    for mut other in [Surfer::at(&gateway), stranger] {
        let refused = other.ask("GET", &back, "");
        assert_eq!((refused.status, refused.field("location")), (400, None), "{}", refused.text());
    }
    let mixed = back.replace(&provider.port.to_string(), &evil.port.to_string());
    let told = surfer.clone().ask("GET", &mixed, "");
    let location = told.field("location").unwrap();
    assert!(location.starts_with(&format!("{BACK}?error=access_denied&")), "{location}");
    assert_eq!(evil.asked("/token"), 0, "no code goes to another issuer");
    assert_eq!(surfer.ask("GET", &back, "").status, 400, "its login was used when the other issuer was tried");
    provider.control("away");
    let late =
        Gateway::start(&with_logins(&provider, SITE, "{ path: daemun.db, key: 0123456789abcdef0123456789abcdef }"));
    let mut new = Surfer::at(&late);
    let told = new.ask("GET", &begins(), "");
    let location = told.field("location").unwrap();
    assert!(location.starts_with(&format!("{BACK}?error=temporarily_unavailable&")), "{location}");
    assert_eq!((parameter(location, "state"), told.head.all("set-cookie").count()), ("s1", 0));
    provider.control("back");
    let back = poll(PATIENCE, || {
        let location = new.ask("GET", &begins(), "").field("location").unwrap().to_owned();
        location.starts_with(&format!("http://127.0.0.1:{}/", provider.port)).then_some(())
    });
    assert!(back.is_some(), "{}", late.stderr());
}

#[test]
fn a_login_that_no_route_ends_is_warned_of_and_explain_says_where_a_browser_would_go() {
    let folder = Folder::new();
    let service = "shop: { grants: [authorization_code, refresh_token], issuer: \"https://api.example\", provider: { issuer: \
                   \"https://accounts.example\", client_id: a, client_secret: the-client-secret, secret: correct horse battery staple 4711 } }";
    let check = |routes: &str| {
        folder.write(
            "daemun.yaml",
            format!(
                "listeners: [{{ bind: 127.0.0.1:0 }}]\nstore: memory\ntokens: {{ {service} }}\nroutes: [{routes}]\n\
                 consumers: [{{ name: spa, redirect_uris: \"{BACK}\" }}]\n"
            ),
        );
        let (code, stdout, stderr) = run_command(folder.path(), &["check", "-c", "daemun.yaml"]);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        format!("{stdout}{stderr}")
    };
    let begins = "{ name: begins, match: { path: /authorize }, tokens: { service: shop, endpoint: authorize } }";
    let ends = "{ name: ends, match: { path: /callback }, tokens: { service: shop, endpoint: callback } }";
    let said = check(begins);
    assert!(said.contains("`tokens` answers at `/callback`, and no route that has it takes that path"), "{said}");
    let said = check(&format!("{begins}, {ends}"));
    assert!(!said.contains("warning"), "{said}");
    let explain = |url: &str| {
        let (code, stdout, stderr) = run_command(folder.path(), &["explain", "-c", "daemun.yaml", "GET", url]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(!stdout.contains("the-client-secret") && !stdout.contains("correct horse"), "{stdout}");
        stdout
    };
    let asked = format!(
        "https://api.example/authorize?response_type=code&client_id=spa&redirect_uri={BACK}&code_challenge={CHALLENGE}&code_challenge_method=S256"
    );
    let said = explain(&asked);
    assert!(
        said.contains("would send the browser to `https://accounts.example` to log in, for the client `spa`"),
        "{said}"
    );
    let said = explain(&asked.replace(BACK, "https://evil.example/cb"));
    assert!(said.contains("the `redirect_uri` is none of the client's") && said.contains("400"), "{said}");
    let said = explain("https://api.example/callback?code=a&state=b");
    assert!(said.contains("the `state` is of no login that this browser has under way"), "{said}");
}
