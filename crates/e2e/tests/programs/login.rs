//! Logins at an OpenID provider, a program of others: with a client that keeps cookies and fills in forms, and with a browser.

use std::net::SocketAddr;

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::wire::Address;
use daemun_e2e::{Client, Gateway, Lane, Response};
use serde_json::json;

use crate::oidc::Provider;
use crate::peers::{Script, all_there, find, of_case, port};

/// The site; it has a name, since the provider knows it by one.
const SITE: &str = "http://shop.example";

fn configuration(provider: &Provider) -> String {
    format!(
        "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ targets: [\"{{origin}}\"] }} }}\n\
         policies:\n  oidc:\n    issuer: http://127.0.0.1:{}\n    client_id: shop-web\n    client_secret: shop-web-secret-0123456789\n    \
         userinfo: true\n    roles: roles\n    after_logout: /bye\n    session: {{ secret: correct horse battery staple 4711 }}\n\
         routes:\n  - {{ name: all, upstream: origin }}\n  - {{ name: bye, match: {{ path: /bye }}, upstream: origin, policies: {{ oidc: off }} }}\n  \
         - name: both\n    match: {{ prefix: /api }}\n    upstream: origin\n    authenticate: {{ any: [key_auth, oidc] }}\n    \
         policies: {{ key_auth: {{ header: X-Api-Key }} }}\n\
         consumers: [{{ name: robot, keys: [0123456789abcdef] }}]\n",
        provider.port
    )
}

/// A cookie: of which host and below which path, name and value.
type Cookie = (String, String, String, String);

/// A client that does what a browser would.
#[derive(Clone)]
pub(crate) struct Surfer {
    gateway: Address,
    cookies: Vec<Cookie>,
}

impl Surfer {
    fn new(lane: &Lane) -> Surfer {
        Surfer::at(&lane.gateway)
    }

    pub(crate) fn at(gateway: &Gateway) -> Surfer {
        Surfer { gateway: gateway.address().clone(), cookies: Vec::new() }
    }

    /// One request; keeps the cookies of its answer.
    pub(crate) fn ask(&mut self, method: &str, url: &str, form: &str) -> Response {
        let rest = url.strip_prefix("http://").unwrap();
        let (host, target) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let address = match host {
            "shop.example" => self.gateway.clone(),
            host => Address::Tcp(host.parse::<SocketAddr>().unwrap()),
        };
        let path = target.split('?').next().unwrap();
        let own = self.cookies.iter().filter(|(of, below, ..)| of == host && path.starts_with(below.as_str()));
        let pairs: Vec<String> = own.map(|(_, _, name, value)| format!("{name}={value}")).collect();
        let cookies = if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) };
        let body = match method {
            "POST" => format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
                form.len()
            ),
            _ => "\r\n".to_owned(),
        };
        let answer = Client::connect(&address)
            .call(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n{cookies}{body}"));
        for cookie in answer.head.all("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            let attribute = |of: &str| {
                let found = cookie
                    .split(';')
                    .filter_map(|part| part.trim().split_once('='))
                    .find(|(known, _)| known.eq_ignore_ascii_case(of));
                found.map(|(_, value)| value.to_owned())
            };
            let below = attribute("path").unwrap_or_else(|| "/".to_owned());
            self.cookies.retain(|(of, at, known, _)| !(of == host && *at == below && known == name));
            let is_gone = attribute("max-age").as_deref() == Some("0")
                || attribute("expires").is_some_and(|at| at.contains("1970"));
            if !is_gone {
                self.cookies.push((host.to_owned(), below, name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    /// A request, and where it leads in the end.
    fn go(&mut self, method: &str, url: &str, form: &str) -> (String, Response) {
        let (mut url, mut answer) = (url.to_owned(), self.ask(method, url, form));
        for _ in 0..20 {
            let Some(location) = answer.field("location") else { return (url, answer) };
            url = absolute(&url, location);
            answer = self.ask("GET", &url, "");
        }
        panic!("sent round and round, at last to {url}");
    }

    /// Fills in the form of a page.
    fn submit(&mut self, (url, page): &(String, Response), fields: &str) -> (String, Response) {
        let text = page.text();
        let action = text
            .split("action=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_else(|| panic!("no form at {url}: {text}"));
        let action = absolute(url, action);
        self.go("POST", &action, fields)
    }

    /// Asks for a page and logs in on the way there.
    fn login(&mut self, target: &str) -> (String, Response) {
        let asked = self.go("GET", &format!("{SITE}{target}"), "");
        let consent = self.submit(&asked, "prompt=login&login=ann&password=any");
        self.submit(&consent, "prompt=consent")
    }

    /// Asks for a page and is sent to the provider: where to.
    fn begin(&mut self, target: &str) -> String {
        let answer = self.ask("GET", &format!("{SITE}{target}"), "");
        assert_eq!(answer.status, 302, "{}", answer.text());
        answer.field("location").unwrap().to_owned()
    }

    fn cookie(&mut self, name: &str) -> &mut String {
        &mut self.cookies.iter_mut().find(|(of, _, known, _)| of == "shop.example" && known == name).unwrap().3
    }
}

/// Where a link of a page leads.
pub(crate) fn absolute(page: &str, link: &str) -> String {
    if link.starts_with("http") {
        return link.to_owned();
    }
    let host = page.split('/').nth(2).unwrap();
    format!("http://{host}{link}")
}

pub(crate) fn parameter<'u>(url: &'u str, name: &str) -> &'u str {
    let pairs = url.split(['?', '&']).filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn a_user_logs_in_comes_back_to_the_page_and_logs_out() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let provider = Provider::start();
    let lane = Lane::start(&configuration(&provider));
    let mut surfer = Surfer::new(&lane);
    let (url, page) = surfer.login("/orders?page=2");
    assert_eq!((url.as_str(), page.status), ("http://shop.example/orders?page=2", 200), "{}", lane.gateway.stderr());
    let request = lane.origin.look(|log| log.requests.last().cloned()).unwrap();
    assert_eq!(request.field("x-consumer-name"), Some("ann"));
    assert_eq!(request.field("x-consumer-roles"), Some("buyer"));
    assert!(!request.shown().contains("daemun-session"), "{}", request.shown());
    let asked = provider.asked("/token");
    for _ in 0..20 {
        assert_eq!(surfer.ask("GET", &format!("{SITE}/orders"), "").status, 200);
    }
    assert_eq!((provider.asked("/token"), asked), (1, 1));
    let copy = surfer.clone();
    let logout = surfer.go("GET", &format!("{SITE}/oidc/logout"), "");
    assert!(logout.1.text().contains("sign-out"), "{}", logout.1.text());
    let xsrf = logout.1.text().split("name=\"xsrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (url, page) = surfer.submit(&logout, &format!("xsrf={xsrf}&logout=yes"));
    assert_eq!((url.as_str(), page.status), ("http://shop.example/bye", 200));
    for mut out in [surfer, copy] {
        assert_eq!(out.ask("GET", &format!("{SITE}/orders"), "").status, 302, "the session is over");
    }
    let shown = format!("{}{:?}", lane.gateway.stderr(), lane.gateway.access_log());
    for secret in ["shop-web-secret", "correct horse", &xsrf] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn who_logged_out_stays_out_of_other_processes_with_the_store_and_after_a_restart() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let (provider, folder) = (Provider::start(), Folder::new());
    let store = folder.path().join("daemun.db").display().to_string();
    let start = || Lane::start(&format!("store: {{ path: \"{store}\" }}\n{}", configuration(&provider)));
    let (one, other) = (start(), start());
    let mut surfer = Surfer::new(&one);
    surfer.login("/orders");
    let copy = surfer.clone();
    let status = |lane: &Lane| {
        let mut copy = Surfer { gateway: lane.gateway.address().clone(), ..copy.clone() };
        copy.ask("GET", &format!("{SITE}/orders"), "").status
    };
    assert_eq!([&one, &other].map(status), [200, 200]);
    assert_eq!(surfer.ask("GET", &format!("{SITE}/oidc/logout"), "").status, 303);
    assert_eq!(status(&one), 302);
    one.gateway.signal(daemun_e2e::gateway::Signal::KILL);
    let _ = one.gateway.wait_exit();
    assert_eq!(status(&start()), 302, "it was acknowledged");
    let heard = daemun_e2e::poll(crate::peers::PATIENCE, || (status(&other) == 302).then_some(()));
    assert!(heard.is_some(), "{}", other.gateway.stderr());
}

#[test]
fn programs_come_with_keys_where_browsers_log_in() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let provider = Provider::start();
    let lane = Lane::start(&configuration(&provider));
    let mut surfer = Surfer::new(&lane);
    surfer.begin("/api/a");
    assert_eq!(surfer.login("/api/a").1.status, 200);
    let session = surfer.cookie("daemun-session").clone();
    let with_key = format!(
        "GET /api/a HTTP/1.1\r\nHost: shop.example\r\nX-Api-Key: 0123456789abcdef\r\nCookie: a=b; daemun-session={session}\r\n\r\n"
    );
    assert_eq!(lane.connect().call(with_key).status, 200);
    let request = lane.origin.look(|log| log.requests.last().cloned()).unwrap();
    assert_eq!((request.field("x-consumer-name"), request.field("cookie")), (Some("robot"), Some("a=b")));
    let without = lane.connect().call("GET /api/a HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(without.status, 401);
    let challenges: Vec<&str> = without.head.all("www-authenticate").collect();
    assert!(challenges.contains(&"Cookie realm=\"daemun\""), "{challenges:?}");
}

#[test]
fn a_login_is_of_its_browser_and_its_provider_alone() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let (provider, other) = (Provider::start(), Provider::start());
    let lane = Lane::start(&configuration(&provider));
    let mut surfer = Surfer::new(&lane);
    let asked = surfer.go("GET", &format!("{SITE}/orders"), "");
    let consent = surfer.submit(&asked, "prompt=login&login=ann&password=any");
    // up to the answer that brings the code
    let text = consent.1.text();
    let mut url = absolute(&consent.0, text.split("action=\"").nth(1).unwrap().split('"').next().unwrap());
    let mut answer = surfer.ask("POST", &url, "prompt=consent");
    while !answer.field("location").unwrap().starts_with(SITE) {
        url = absolute(&url, answer.field("location").unwrap());
        answer = surfer.ask("GET", &url, "");
    }
    let back = answer.field("location").unwrap().to_owned();
    assert!(parameter(&back, "iss").contains(&provider.port.to_string()), "{back}");
    let mut stranger = Surfer::new(&lane);
    stranger.begin("/orders");
    assert_eq!(stranger.ask("GET", &back, "").status, 401, "another browser");
    let mixed = back.replace(&provider.port.to_string(), &other.port.to_string());
    assert_eq!(surfer.clone().ask("GET", &mixed, "").status, 401, "another issuer");
    let again = surfer.begin("/orders");
    let forged = format!(
        "{SITE}/oidc/callback?code=made-up&state={}&iss={}",
        parameter(&again, "state"),
        parameter(&back, "iss")
    );
    let refused = surfer.clone().ask("GET", &forged, "");
    assert_eq!((refused.status, refused.json()["detail"].as_str()), (401, Some("the login is not taken; begin again")));
    assert_eq!(surfer.ask("GET", &back, "").status, 401, "its login was used when the other issuer was tried");
    // the user is still known at the provider, and only goes there and back
    let (url, page) = surfer.go("GET", &format!("{SITE}//evil.example/"), "");
    assert!(url.starts_with(&format!("{SITE}/")) && page.status == 200, "{url}");
    let kept = surfer.clone();
    assert_eq!(surfer.ask("GET", &format!("{SITE}/orders"), "").status, 200);
    let cookie = surfer.cookie("daemun-session");
    let last = if cookie.pop() == Some('A') { 'E' } else { 'A' };
    cookie.push(last);
    assert_eq!(surfer.ask("GET", &format!("{SITE}/orders"), "").status, 302, "a changed session");
    assert_eq!(kept.clone().ask("GET", &format!("{SITE}/orders"), "").status, 200);
    lane.gateway.rewrite(&configuration(&provider).replace("{origin}", &lane.origin.url()).replace("4711", "4712"));
    let gone = daemun_e2e::poll(crate::peers::PATIENCE, || {
        (kept.clone().ask("GET", &format!("{SITE}/orders"), "").status == 302).then_some(())
    });
    assert!(gone.is_some(), "a session of a secret that is gone");
}

#[test]
fn a_provider_that_is_away_keeps_nobody_in_or_out_who_has_a_session() {
    if !all_there(&["node"], &["oidc-provider"]) {
        return;
    }
    let provider = Provider::start();
    let lane = Lane::start(&configuration(&provider));
    let mut surfer = Surfer::new(&lane);
    surfer.login("/orders");
    provider.control("away");
    assert_eq!(surfer.ask("GET", &format!("{SITE}/orders"), "").status, 200);
    let late = Lane::start(&configuration(&provider));
    let mut new = Surfer::new(&late);
    let refused = new.ask("GET", &format!("{SITE}/orders"), "");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("5")));
    assert!(late.origin.look(|log| log.requests.is_empty()));
    let mut known = Surfer { gateway: late.gateway.address().clone(), ..surfer };
    assert_eq!(known.ask("GET", &format!("{SITE}/orders"), "").status, 200, "another gateway with the same secret");
    provider.control("back");
    let back = daemun_e2e::poll(crate::peers::PATIENCE, || {
        (new.ask("GET", &format!("{SITE}/orders"), "").status == 302).then_some(())
    });
    assert!(back.is_some(), "{}", late.gateway.stderr());
}

#[test]
fn a_browser_logs_in_and_out() {
    if !all_there(&["node", "chromium"], &["oidc-provider", "playwright-core"]) {
        return;
    }
    let provider = Provider::start();
    let lane = Lane::start(&configuration(&provider));
    let executable = find("chromium").unwrap().display().to_string();
    let said = Script::run("browser-login.mjs", &[&executable, &port(&lane.gateway).to_string()]);
    let page = of_case(&said, "in");
    assert_eq!((&page["url"], &page["body"]), (&json!("http://shop.example/orders?page=2"), &json!("/orders?page=2")));
    assert_eq!(page["script"], "", "scripts see no cookie");
    assert_eq!(page["cookies"], json!([{ "name": "daemun-session", "httpOnly": true, "sameSite": "Lax" }]));
    let page = of_case(&said, "out");
    assert_eq!((&page["url"], &page["cookies"]), (&json!("http://shop.example/bye"), &json!([])));
}

#[test]
fn a_route_that_the_answer_does_not_reach_is_warned_of() {
    let folder = Folder::new();
    let policy = "oidc: { issuer: https://accounts.example.com, client_id: a, client_secret: b, session: { secret: correct horse battery staple 4711 } }";
    let check = |routes: &str| {
        folder.write(
            "daemun.yaml",
            format!("listeners: [{{ bind: 127.0.0.1:0 }}]\npolicies: {{ {policy} }}\nroutes: [{routes}]\n"),
        );
        let (code, stdout, stderr) = run_command(folder.path(), &["check", "-c", "daemun.yaml"]);
        (code, format!("{stdout}{stderr}"))
    };
    let (code, said) = check("{ name: shop, match: { prefix: /shop }, answer: {} }");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("`oidc` answers at `/oidc/callback`, and no route that has it takes that path"), "{said}");
    assert!(said.contains("`oidc` answers at `/oidc/logout`"), "{said}");
    for routes in [
        "{ name: shop, answer: {} }",
        "{ name: shop, match: { prefix: /shop }, answer: {} }, { name: login, match: { prefix: /oidc }, answer: {} }",
        "{ name: shop, match: { prefix: /shop }, answer: {}, policies: { oidc: off } }",
    ] {
        let (code, said) = check(routes);
        assert!(code == Some(0) && !said.contains("answers at"), "{routes}: {said}");
    }
    let (_, said) = check(
        "{ name: shop, match: { hosts: [a.example, b.example] }, answer: {} }, { name: other, match: { hosts: [c.example], prefix: /c }, answer: {} }",
    );
    assert!(said.contains("routes.other.match") || said.contains("other"), "{said}");
    let (_, said) = check("{ name: shop, match: { methods: [POST] }, answer: {} }");
    assert!(said.contains("answers at `/oidc/callback`"), "{said}");
}
