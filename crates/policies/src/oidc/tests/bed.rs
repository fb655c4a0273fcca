//! A provider, a chain before it, and a browser.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use daemun_pipeline::{Exchange, OutAnswer, OutCall, OutError, Outcome, Stop};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::super::session::{AHEAD, LOGIN_LASTS};
use super::super::{Spent, network};
use crate::jwt::Algorithm;
use crate::jwt::tests::signer::Signer;
use crate::replay::{Replay, Seen};
use crate::scripted_world::{Given, Scripted, away, ok};
use crate::testing::{Bench, Chain, SECOND, WALL, respond};

pub(crate) const ISSUER: &str = "https://accounts.example.com";
pub(crate) const NOW: u64 = WALL / SECOND;

/// What the provider says, which a test may change.
pub(crate) struct Said {
    /// More of what it says of itself.
    pub(crate) discovered: Value,
    /// Members of the next ID token beside those it must have; `null` takes one out.
    pub(crate) claims: Value,
    /// Members of the next answer of the token endpoint.
    pub(crate) answer: Value,
    pub(crate) userinfo: Value,
    pub(crate) status: u16,
    pub(crate) away: bool,
    /// Nonce of the login that was begun last.
    pub(crate) nonce: String,
    /// What the token endpoint was asked last: fields and body.
    pub(crate) asked: (Vec<String>, String),
}

/// All of it.
pub(crate) struct Bed {
    pub(crate) world: Arc<Scripted>,
    pub(crate) bench: Bench,
    pub(crate) said: Arc<Mutex<Said>>,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        Bed::saying(json!({}))
    }

    /// With a provider that says this of itself as well.
    pub(crate) fn saying(discovered: Value) -> Bed {
        let signer = Signer::new(Algorithm::Es256);
        let said = Arc::new(Mutex::new(Said {
            discovered,
            claims: json!({}),
            answer: json!({}),
            userinfo: json!({}),
            status: 200,
            away: false,
            nonce: String::new(),
            asked: Default::default(),
        }));
        let script = {
            let said = Arc::clone(&said);
            move |call: &OutCall| provide(&signer, &mut said.lock().unwrap(), call)
        };
        let world = Scripted::new(script);
        let bench = Bench { world: Arc::new(Given(Arc::clone(&world))), ..Bench::new(Vec::new()) };
        Bed { world, bench, said }
    }

    /// A chain whose provider was asked for its keys; `more` are settings beside those it must have.
    pub(crate) fn chain(&self, more: &str) -> Chain {
        let before = self.world.seen().calls.len();
        let chain = self.bench.build(&settings(more, "0123456789abcdef0123456789abcdef")).unwrap();
        if before == 0 {
            self.world.until(|seen| seen.answered == 2 && seen.waiting == 1);
        }
        chain
    }

    /// What may not be used again.
    pub(super) fn spent(&self) -> Arc<Spent> {
        self.bench.carry.get_or("oidc spent", &format!("{ISSUER}\nshop-web"), Spent::default)
    }

    /// Uses up what the network of the browsers may have remembered, until a login that begins now is over.
    pub(super) fn fill(&self, chain: &Chain, replay: &Replay, share: usize) {
        let network = network(&chain.exchange("GET / HTTP/1.1"));
        for n in 0..u64::try_from(share).unwrap() {
            // each part is that of a first byte
            let mark = [&n.to_le_bytes()[..], &[0xff; 8]].concat().try_into().unwrap();
            assert_eq!(replay.note(mark, network, NOW + LOGIN_LASTS + AHEAD, NOW), Seen::First, "{n}");
        }
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Said)) -> &Self {
        change(&mut self.said.lock().unwrap());
        self
    }
}

pub(crate) fn settings(more: &str, secret: &str) -> String {
    let session = if more.contains("session:") { String::new() } else { format!(", session: {{ secret: {secret} }}") };
    format!("oidc: {{ issuer: '{ISSUER}', client_id: shop-web, client_secret: its secret{session}{more} }}")
}

fn provide(signer: &Signer, said: &mut Said, call: &OutCall) -> Result<OutAnswer, OutError> {
    if said.away {
        return away();
    }
    let merged = |mut own: Value, more: &Value| {
        for (name, value) in more.as_object().unwrap() {
            own.as_object_mut().unwrap().insert(name.clone(), value.clone());
        }
        own.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        own
    };
    match call.target.as_str() {
        "/.well-known/openid-configuration" => {
            let own = json!({
                "issuer": ISSUER,
                "jwks_uri": format!("{ISSUER}/keys"),
                "authorization_endpoint": format!("{ISSUER}/auth?tenant=a"),
                "token_endpoint": format!("{ISSUER}/token"),
                "userinfo_endpoint": format!("{ISSUER}/me"),
                "end_session_endpoint": format!("{ISSUER}/end"),
            });
            ok(merged(own, &said.discovered).to_string())
        }
        "/keys" => ok(json!({ "keys": [signer.jwk_with(&json!({ "kid": "1" }))] }).to_string()),
        "/token" => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let fields = call.fields.iter().map(|(name, value)| format!("{name}: {}", text(value)));
            said.asked = (fields.collect(), text(&call.body));
            let own = json!({
                "iss": ISSUER, "aud": "shop-web", "sub": "ann", "iat": NOW, "exp": NOW + 300, "nonce": said.nonce,
                "at_hash": BASE64URL_NOPAD.encode(&digest(&SHA256, b"the-access-token").as_ref()[..16]),
            });
            let token = signer.sign(Algorithm::Es256, &json!({ "kid": "1" }), &merged(own, &said.claims));
            let own = json!({ "access_token": "the-access-token", "token_type": "Bearer", "id_token": token });
            let body = merged(own, &said.answer).to_string();
            Ok(OutAnswer { status: said.status, fields: Vec::new(), body: body.into() })
        }
        "/me" => ok(said.userinfo.to_string()),
        other => panic!("nobody asks for {other}"),
    }
}

/// What came of a request.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) exchange: Exchange,
    /// What the log says.
    pub(crate) cause: String,
}

impl Got {
    pub(crate) fn field(&self, name: &str) -> String {
        String::from_utf8_lossy(self.exchange.response.head.get(name).unwrap_or_default()).into_owned()
    }

    pub(crate) fn set_cookies(&self) -> Vec<String> {
        let all = self.exchange.response.head.values("set-cookie");
        all.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// A parameter of where it leads.
    pub(crate) fn parameter(&self, name: &str) -> String {
        let location = self.field("location");
        let query = location.split_once('?').unwrap().1.to_owned();
        let found = form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{name} in {location}")).1.into_owned()
    }
}

/// A browser that keeps cookies.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: Vec<(String, String)>,
    pub(crate) tls: bool,
    /// Seconds that passed.
    pub(crate) later: u64,
    /// Its address, where it is not that of the others.
    pub(crate) from: Option<IpAddr>,
}

impl Browser {
    /// Sends a request with its cookies, and keeps what it is given.
    pub(crate) fn send(&mut self, chain: &Chain, text: &str) -> Got {
        let mut exchange = self.exchange(chain, text);
        let (passed, verdict) = chain.inward(&mut exchange);
        let mut cause = String::new();
        match &verdict {
            Ok(()) => {
                exchange.response.status = 200;
                exchange.response.head.append("Cache-Control", b"public, max-age=60");
            }
            Err(stop) => {
                if let Stop::Fault(fault) = stop {
                    cause = fault.cause.clone().unwrap_or_default().into();
                }
                respond(stop, &mut exchange);
            }
        }
        // the one that stopped it sees its answer as well
        let seen = if verdict.is_err() { passed + 1 } else { passed };
        chain.outward(seen.min(chain.steps.len()), &mut exchange).unwrap();
        let got = Got { status: exchange.response.status, exchange, cause };
        for cookie in got.set_cookies() {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !cookie.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        got
    }

    fn exchange(&self, chain: &Chain, text: &str) -> Exchange {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = if pairs.is_empty() { String::new() } else { format!("\nCookie: {}", pairs.join("; ")) };
        let mut exchange = chain.exchange(&format!("{text}\nHost: shop.example.com{cookies}"));
        exchange.client.tls = self.tls;
        exchange.client.ip = self.from.unwrap_or(exchange.client.ip);
        exchange.wall = WALL + self.later * SECOND;
        exchange
    }

    pub(crate) fn explain(&self, chain: &Chain, text: &str) -> (Outcome, String) {
        chain.explain(&mut self.exchange(chain, text))
    }

    pub(crate) fn page(&mut self, chain: &Chain, target: &str) -> Got {
        self.send(chain, &format!("GET {target} HTTP/1.1\nAccept: text/html,*/*;q=0.8"))
    }

    /// Asks for a page and is sent to log in; gives the state.
    pub(crate) fn begin(&mut self, bed: &Bed, chain: &Chain, target: &str) -> String {
        let got = self.page(chain, target);
        assert_eq!(got.status, 302, "{}", got.cause);
        bed.said.lock().unwrap().nonce = got.parameter("nonce");
        got.parameter("state")
    }

    /// Comes back from the provider.
    pub(crate) fn back(&mut self, chain: &Chain, state: &str) -> Got {
        self.page(chain, &format!("/oidc/callback?code=abc&state={state}"))
    }

    /// Logs in.
    pub(crate) fn login(bed: &Bed, chain: &Chain) -> Browser {
        let mut browser = Browser::default();
        let state = browser.begin(bed, chain, "/orders");
        let got = browser.back(chain, &state);
        assert_eq!((got.status, got.field("location").as_str()), (302, "/orders"), "{}", got.cause);
        browser
    }

    pub(crate) fn cookie(&self, name: &str) -> &str {
        &self.cookies.iter().find(|(known, _)| known == name).unwrap().1
    }
}
