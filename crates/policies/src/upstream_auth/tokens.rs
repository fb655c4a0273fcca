//! A token of an authorization server, fetched for all who wait for it at once, and renewed while it is still of use. Knows no exchange.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use daemun_pipeline::{Credentials, OutAnswer, OutCall, World};

use super::config::{ClientAuthentication, ClientCredentials};
use super::shown::Fixed;
use crate::base64_text;

const SECOND: u64 = 1_000_000_000;
/// How long a token is of use whose lifetime the server does not say.
const UNSAID: u64 = 300;
/// Longest lifetime that is believed, in seconds.
const LONGEST: u64 = 24 * 3600;
/// Bytes of the server's answer.
const MOST: usize = 64 * 1024;
/// Bytes of a token.
const MOST_TOKEN: usize = 16 * 1024;
/// Requests that wait for one token.
const MOST_WAITING: usize = 10_000;
/// Time between a failure and the next try: the first, and the most; each time twice as long.
const PAUSE: (u64, u64) = (SECOND, 30 * SECOND);
/// A token younger than this is not renewed because an upstream refuses it: another would be refused as well.
const YOUNG: u64 = 10 * SECOND;

/// A token, and until when it is of use; nanoseconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) shown: Arc<Fixed>,
    fetched: u64,
    /// From when on another is fetched; sooner once an upstream has refused it.
    renew: AtomicU64,
    /// From when on it is not shown any more.
    end: u64,
}

/// Why there is no token.
pub(super) type Why = Arc<str>;

/// The tokens of one client. Outlives reloads.
pub(super) struct Tokens {
    current: ArcSwapOption<Token>,
    state: Mutex<State>,
    world: Arc<dyn World>,
    call: OutCall,
    /// Host of the token endpoint, for people.
    pub(super) host: Box<str>,
}

#[derive(Debug, Default)]
struct State {
    /// One is being fetched.
    fetching: bool,
    /// How many fetches have ended.
    ended: u64,
    waiting: Vec<Waker>,
    /// Why the last fetch failed, and when the next may be made.
    failed: Option<(Why, u64)>,
    pause: u64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(settings: &ClientCredentials, world: Arc<dyn World>) -> Tokens {
        Tokens {
            current: ArcSwapOption::empty(),
            state: Mutex::default(),
            world,
            call: call(settings),
            host: settings.token_url.host().into(),
        }
    }

    /// The token, if there is one that is of use; has another fetched in its time. Takes no lock but then.
    pub(super) fn current(self: &Arc<Self>, now: u64) -> Option<Arc<Token>> {
        let current = self.of_use(now)?;
        if now >= current.renew.load(Ordering::Relaxed) {
            let begins = self.lock().begins(now);
            if begins {
                self.fetch();
            }
        }
        Some(current)
    }

    fn of_use(&self, now: u64) -> Option<Arc<Token>> {
        self.current.load_full().filter(|token| now < token.end)
    }

    /// The token, once it is there.
    ///
    /// # Errors
    /// Why there is none, without anything secret.
    pub(super) async fn wait(self: &Arc<Self>, now: u64) -> Result<Arc<Token>, Why> {
        let (until, begins) = {
            let mut state = self.lock();
            // another may have been there first
            if let Some(current) = self.of_use(now) {
                return Ok(current);
            }
            if let Some((why, _)) = state.failed.as_ref().filter(|(_, next)| now < *next) {
                return Err(Arc::clone(why));
            }
            if state.waiting.len() >= MOST_WAITING {
                return Err("too many requests wait for a token".into());
            }
            (state.ended + 1, state.begins(now))
        };
        if begins {
            self.fetch();
        }
        poll_fn(|context| {
            let mut state = self.lock();
            if state.ended >= until {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|known| known.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
        self.of_use(now).ok_or_else(|| {
            let failed = self.lock().failed.as_ref().map(|(why, _)| Arc::clone(why));
            failed.unwrap_or_else(|| "the token was of no use any more when it came".into())
        })
    }

    /// Has the next request fetch another for a token that an upstream has refused, unless it is young. It is shown until another is
    /// there: one 401 of one upstream does not say that it is of no use, and none at all is of no use to anyone.
    pub(super) fn refused(&self, token: &Arc<dyn Credentials>, now: u64) {
        let Some(current) = self.current.load_full() else { return };
        if std::ptr::addr_eq(Arc::as_ptr(&current.shown), Arc::as_ptr(token)) && now > current.fetched + YOUNG {
            current.renew.fetch_min(now, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a token beside the workers. To be called without the lock: where nothing is run, the work ends here.
    fn fetch(self: &Arc<Self>) {
        let mut under_way = UnderWay(Some(Arc::downgrade(self)));
        let call = self.world.call(self.call.clone());
        self.world.spawn(Box::pin(async move {
            let answer = call.await;
            let Some(tokens) = under_way.0.take().and_then(|tokens| tokens.upgrade()) else { return };
            let now = tokens.world.now();
            let read = match answer {
                Ok(answer) => read(&answer, now),
                Err(error) => Err(format!("the token endpoint cannot be asked: {error}")),
            };
            tokens.end(read, now);
        }));
    }

    /// A fetch has come to this.
    fn end(&self, read: Result<Token, String>, now: u64) {
        let waiting = {
            let mut state = self.lock();
            state.fetching = false;
            state.ended += 1;
            match read {
                Ok(token) => {
                    self.current.store(Some(Arc::new(token)));
                    (state.failed, state.pause) = (None, 0);
                }
                Err(why) => {
                    if state.pause == 0 {
                        self.world.tell("upstream_auth", format!("no token from {}: {why}", self.host));
                    }
                    state.pause = (state.pause * 2).clamp(PAUSE.0, PAUSE.1);
                    state.failed = Some((why.into(), now.saturating_add(state.pause)));
                }
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Whether a fetch begins now, which it is then noted to: none is under way, and the last failure is long enough ago.
    fn begins(&mut self, now: u64) -> bool {
        let begins = !self.fetching && self.failed.as_ref().is_none_or(|(_, next)| now >= *next);
        self.fetching |= begins;
        begins
    }
}

/// A fetch under way; one that is dropped before its end has failed.
struct UnderWay(Option<Weak<Tokens>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(tokens) = self.0.take().and_then(|tokens| tokens.upgrade()) {
            let now = tokens.world.now();
            tokens.end(Err("the token endpoint was not asked".to_owned()), now);
        }
    }
}

/// The call that asks for a token (RFC 6749, section 4.4.2).
fn call(settings: &ClientCredentials) -> OutCall {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.append_pair("grant_type", "client_credentials");
    if !settings.scope.is_empty() {
        let scopes: Vec<&str> = settings.scope.iter().map(|scope| scope.0.as_str()).collect();
        body.append_pair("scope", &scopes.join(" "));
    }
    if let Some(audience) = &settings.audience {
        body.append_pair("audience", audience);
    }
    let mut fields = vec![
        ("content-type".to_owned(), b"application/x-www-form-urlencoded".to_vec()),
        ("accept".to_owned(), b"application/json".to_vec()),
    ];
    let (id, secret) = (settings.client_id.as_str(), settings.client_secret.0.as_str());
    match settings.authentication {
        ClientAuthentication::Body => {
            body.append_pair("client_id", id).append_pair("client_secret", secret);
        }
        ClientAuthentication::Basic => {
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let mut value = b"Basic ".to_vec();
            base64_text::encode(format!("{}:{}", encoded(id), encoded(secret)).as_bytes(), &mut value);
            fields.push(("authorization".to_owned(), value));
        }
    }
    OutCall {
        server: Arc::new(settings.token_url.server(settings.ca.clone())),
        method: "POST",
        target: settings.token_url.target().to_owned(),
        fields,
        body: Bytes::from(body.finish()),
        within: settings.timeout.0,
        most: MOST,
    }
}

/// What a token endpoint answered (RFC 6749, sections 5.1 and 5.2); errors hold nothing of it but its status and code.
fn read(answer: &OutAnswer, now: u64) -> Result<Token, String> {
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |key: &str| said.get(key).and_then(serde_json::Value::as_str);
    if answer.status != 200 {
        let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let code = text("error").filter(plain).map(|code| format!(" (`{code}`)")).unwrap_or_default();
        return Err(format!("the token endpoint answered {}{code}", answer.status));
    }
    let token = text("access_token").ok_or("the token endpoint's answer holds no `access_token`")?;
    if token.is_empty() || token.len() > MOST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the `access_token` of the token endpoint cannot be sent".to_owned());
    }
    if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err("the `token_type` of the token endpoint is not `Bearer`".to_owned());
    }
    let seconds = match said.get("expires_in") {
        None | Some(serde_json::Value::Null) => UNSAID,
        Some(serde_json::Value::String(text)) => text.parse().map_err(|_| no_lifetime())?,
        Some(number) => number.as_u64().ok_or_else(no_lifetime)?,
    };
    let lifetime = seconds.min(LONGEST) * SECOND;
    // an eighth before its end another is fetched, and it is shown until shortly before: the call must still arrive, and clocks differ
    Ok(Token {
        shown: Arc::new(Fixed { name: "authorization".into(), value: format!("Bearer {token}").into_bytes().into() }),
        fetched: now,
        renew: (now + (lifetime - lifetime / 8).min(lifetime.saturating_sub(30 * SECOND)).max(lifetime / 2)).into(),
        end: now + lifetime - (lifetime / 20).min(5 * SECOND),
    })
}

fn no_lifetime() -> String {
    "the `expires_in` of the token endpoint is no number of seconds".to_owned()
}
