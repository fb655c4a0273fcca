//! Tokens of an OpenID provider, a program of others: discovery, keys that change, a provider that goes away and comes back.

use std::net::SocketAddr;
use std::time::Duration;

use daemun_e2e::wire::Address;
use daemun_e2e::{Client, Lane, Response, poll};
use serde_json::Value;

use crate::peers::{PATIENCE, Script, all_there};

/// A provider that runs.
pub(crate) struct Provider {
    _script: Script,
    pub(crate) port: u64,
}

impl Provider {
    pub(crate) fn start() -> Provider {
        let (script, port) = Script::serve("oidc-provider.mjs");
        Provider { _script: script, port }
    }

    fn connect(&self) -> Client {
        Client::connect(&Address::Tcp(SocketAddr::from(([127, 0, 0, 1], u16::try_from(self.port).unwrap()))))
    }

    fn post(&self, path: &str, body: &str) -> Value {
        let length = body.len();
        let answer = self.connect().call(format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Basic c2hvcC1hcHA6c2hvcC1hcHAtc2VjcmV0LTAxMjM0NTY3ODk=\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}",
            self.port
        ));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Changes it; gives the name of its key and how often it was asked for what.
    pub(crate) fn control(&self, what: &str) -> Value {
        self.post(&format!("/control/{what}"), "")
    }

    pub(crate) fn asked(&self, path: &str) -> u64 {
        self.control("asked")["asked"][path].as_u64().unwrap_or_default()
    }

    /// A token that is signed.
    fn token(&self) -> String {
        let form = "grant_type=client_credentials&resource=urn%3Ashop-api&scope=orders%3Aread";
        self.post("/token", form)["access_token"].as_str().unwrap().to_owned()
    }

    /// A token that says nothing by itself.
    fn opaque(&self) -> String {
        let form = "grant_type=client_credentials&scope=orders%3Aread";
        self.post("/token", form)["access_token"].as_str().unwrap().to_owned()
    }

    fn lane(&self, policy: &str) -> Lane {
        let policy = policy.replace("{issuer}", &format!("http://127.0.0.1:{}", self.port));
        Lane::start(&format!(
            "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ targets: [\"{{origin}}\"] }} }}\n\
             policies: {{ {policy} }}\nroutes: [{{ name: all, upstream: origin }}]\n"
        ))
    }
}

fn is_here() -> bool {
    all_there(&["node"], &["oidc-provider"])
}

fn get(client: &mut Client, token: &str) -> Response {
    client.call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Bearer {token}\r\n\r\n"))
}

const JWT: &str = "jwt: { issuer: \"{issuer}\", audience: \"urn:shop-api\" }";
const INTROSPECTION: &str = "introspection: { url: \"{issuer}/token/introspection\", \
                             client: { id: gateway, secret: gateway-secret-0123456789 } }";

#[test]
fn tokens_of_a_provider_are_verified_with_keys_that_it_is_asked_for() {
    if !is_here() {
        return;
    }
    let provider = Provider::start();
    let lane = provider.lane(JWT);
    let token = provider.token();
    let mut client = lane.connect();
    for _ in 0..20 {
        assert_eq!(get(&mut client, &token).status, 200);
    }
    let request = lane.origin.look(|log| log.requests.first().cloned()).unwrap();
    assert_eq!(request.field("x-consumer-name"), Some("shop-app"));
    assert!(!request.has("authorization"), "{}", request.shown());
    let forged = format!("{}x.{}", &token[..token.len() - 2], "x");
    for bad in [forged.as_str(), &token[..token.len() - 4], &provider.opaque(), ""] {
        let answer = get(&mut client, bad);
        assert_eq!(answer.status, 401, "{bad}");
        assert_eq!(answer.json()["detail"], "the request has no token that is valid here");
        assert!(answer.field("www-authenticate").unwrap().starts_with("Bearer realm=\"daemun\""));
    }
    assert_eq!((provider.asked("/jwks"), provider.asked("/.well-known/openid-configuration")), (1, 1));
    let other = provider.lane("jwt: { issuer: \"{issuer}\", audience: other-api }");
    assert_eq!(get(&mut other.connect(), &token).status, 401);
    assert!(
        !lane.gateway.stderr().contains(&token)
            && lane.gateway.access_log().iter().all(|line| !line.to_string().contains(&token))
    );
}

#[test]
fn a_provider_that_changes_its_keys_loses_no_call() {
    if !is_here() {
        return;
    }
    let provider = Provider::start();
    let lane = provider.lane(JWT);
    let mut old = provider.token();
    assert_eq!(get(&mut lane.connect(), &old).status, 200);
    for _ in 0..2 {
        provider.control("rotate");
        let new = provider.token();
        assert_ne!(old.split('.').next(), new.split('.').next(), "another key signs");
        // many at once, on all workers, and none is refused
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..16).map(|_| scope.spawn(|| get(&mut lane.connect(), &new).status)).collect();
            for one in all {
                assert_eq!(one.join().unwrap(), 200);
            }
        });
        assert_eq!(get(&mut lane.connect(), &old).status, 401, "its key is gone");
        old = new;
    }
    let asked = provider.asked("/jwks");
    assert!((3..=5).contains(&asked), "asked {asked} times");
}

#[test]
fn a_provider_that_is_away_opens_nothing_and_closes_nothing() {
    if !is_here() {
        return;
    }
    let provider = Provider::start();
    let token = provider.token();
    provider.control("away");
    let lane = provider.lane(JWT);
    let mut client = lane.connect();
    let refused = get(&mut client, &token);
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("5")));
    assert_eq!(refused.json()["type"], "https://daemun.dev/problems/auth_unavailable");
    assert!(lane.origin.look(|log| log.requests.is_empty()));
    poll(PATIENCE, || lane.gateway.stderr().contains("cannot be had").then_some(())).expect("the operator is told");
    provider.control("back");
    let back = poll(PATIENCE, || (get(&mut client, &token).status == 200).then_some(()));
    assert!(back.is_some(), "{}", lane.gateway.stderr());
    let another = provider.token();
    provider.control("away");
    assert_eq!(get(&mut client, &token).status, 200, "the keys stay");
    assert_eq!(get(&mut client, &another).status, 200, "for tokens not seen before as well");
}

#[test]
fn a_provider_is_asked_about_tokens_that_say_nothing() {
    if !is_here() {
        return;
    }
    let provider = Provider::start();
    let lane = provider.lane(INTROSPECTION);
    let token = provider.opaque();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| get(&mut lane.connect(), &token).status)).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    let path = "/token/introspection";
    assert_eq!(provider.asked(path), 1, "once for all of them");
    let request = lane.origin.look(|log| log.requests.first().cloned()).unwrap();
    assert_eq!(request.field("x-consumer-name"), Some("shop-app"));
    assert!(!request.has("authorization"), "{}", request.shown());
    let mut client = lane.connect();
    assert_eq!(get(&mut client, "made-up-token").status, 401);
    assert_eq!(get(&mut client, "made-up-token").status, 401);
    assert_eq!(provider.asked(path), 2);
    let unseen = provider.opaque();
    provider.control("away");
    assert_eq!(get(&mut client, &token).status, 200, "what is known stays known for a while");
    assert_eq!(get(&mut client, &unseen).status, 503);
    provider.control("back");
    let answer =
        poll(Duration::from_secs(20), || Some(get(&mut client, &unseen)).filter(|answer| answer.status == 200));
    assert!(answer.is_some());
    assert!(!lane.gateway.stderr().contains(&unseen) && !lane.gateway.stderr().contains("gateway-secret"));
}
