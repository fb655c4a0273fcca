//! Keys that an issuer publishes: fetched beside the workers and ahead of need, kept while the issuer is away, fetched again at once when a
//! token names a key that is not known. Knows no token.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use daemun_config::decode::WebUrl;
use daemun_pipeline::{OutAnswer, OutCall, World};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::algorithm::Algorithm;
use super::keys::KeySet;
use daemun_pipeline::strict_json::read_object;

/// Time for one call to an issuer.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a set of keys, or of what is discovered.
const MOST_BYTES: usize = 1 << 20;
/// How long keys are fresh when the issuer does not say.
const FRESH: Duration = Duration::from_secs(600);
/// How long they are fresh at least and at most, whatever it says.
const FRESH_LEAST: Duration = Duration::from_secs(60);
const FRESH_MOST: Duration = Duration::from_secs(24 * 3600);
/// Time between two calls at least, when tokens name keys that are not known.
const PAUSE: Duration = Duration::from_secs(5);
/// Time until a call that failed is made again: at first, and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_secs(60);
/// Requests that wait for keys at once.
pub(super) const MOST_WAITING: usize = 512;
/// How long a task that waits holds out before it looks whether it is still needed.
const STEP: Duration = Duration::from_secs(30);

/// Where keys are published.
#[derive(Clone, Debug)]
pub(crate) enum Published {
    /// A JWK Set.
    At(WebUrl),
    /// What an issuer says of itself (OpenID Connect Discovery 1.0, section 4).
    Discovered {
        /// Its name, which it must confirm.
        issuer: Box<str>,
        /// Where it says it.
        at: WebUrl,
    },
}

impl Published {
    /// Where an issuer says of itself what it has.
    ///
    /// # Errors
    /// Why its name is none that can be asked.
    pub(crate) fn by(issuer: &str) -> Result<Published, String> {
        if issuer.contains(['?', '#']) {
            return Err("it has a query or a fragment".to_owned());
        }
        let at = WebUrl::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
        Ok(Published::Discovered { issuer: issuer.into(), at })
    }

    /// The address that is asked first.
    pub(crate) fn address(&self) -> &WebUrl {
        match self {
            Published::At(at) | Published::Discovered { at, .. } => at,
        }
    }

    /// In words, for the operator; what may be secret of the address is left out.
    pub(crate) fn words(&self) -> String {
        match self {
            Published::At(at) => format!("the keys at `{}`", at.host()),
            Published::Discovered { issuer, .. } => format!("the keys of `{issuer}`"),
        }
    }
}

/// The keys of an issuer, as far as they are known.
pub(crate) struct Remote {
    published: Published,
    ca: Option<PathBuf>,
    allowed: Vec<Algorithm>,
    world: Arc<dyn World>,
    keys: ArcSwapOption<KeySet>,
    /// What the issuer says of itself.
    said: ArcSwapOption<Map<String, Value>>,
    state: Mutex<State>,
    /// Which fetch ended last.
    ended: watch::Sender<u64>,
    started: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// A fetch is under way.
    fetching: bool,
    /// One will begin for the requests that wait.
    wanted: bool,
    /// How many have begun.
    begun: u64,
    /// When the last one began, nanoseconds of the wall clock.
    began: u64,
    failures: u32,
    waiting: usize,
    /// What the operator was told last.
    told: Option<String>,
}

impl State {
    fn begin(&mut self) {
        self.fetching = true;
        self.begun = self.begun.wrapping_add(1);
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("published", &self.published).finish_non_exhaustive()
    }
}

impl Remote {
    pub(crate) fn new(
        published: Published,
        ca: Option<PathBuf>,
        allowed: Vec<Algorithm>,
        world: Arc<dyn World>,
    ) -> Remote {
        Remote {
            published,
            ca,
            allowed,
            world,
            keys: ArcSwapOption::empty(),
            said: ArcSwapOption::empty(),
            state: Mutex::default(),
            ended: watch::Sender::new(0),
            started: AtomicBool::new(false),
        }
    }

    /// Begins to fetch, once.
    pub(crate) fn start(self: &Arc<Remote>) {
        if !self.started.swap(true, Ordering::Relaxed) {
            self.lock().begin();
            self.world.spawn(Box::pin(keep(Arc::downgrade(self), Arc::clone(&self.world))));
        }
    }

    /// The keys; none before they were fetched once. No lock.
    #[inline]
    pub(crate) fn keys(&self) -> Guard<Option<Arc<KeySet>>> {
        self.keys.load()
    }

    /// What the issuer said of itself when its keys were fetched last; none before that, and of keys that are not discovered.
    pub(crate) fn said(&self) -> Option<Arc<Map<String, Value>>> {
        self.said.load_full()
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        self.published.words()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request comes to wait for keys: from now on it sees every fetch that ends. `None` when too many wait.
    pub(crate) fn wait(self: &Arc<Remote>) -> Option<Waiting> {
        let mut state = self.lock();
        if state.waiting >= MOST_WAITING {
            return None;
        }
        state.waiting += 1;
        // what is under way may have been answered before the key was there
        let (ended, enough) = (self.ended.subscribe(), state.begun.wrapping_add(1));
        Some(Waiting { remote: Arc::clone(self), ended, enough })
    }

    /// Lets a fetch begin, after a pause at the earliest; many who ask together ask for one.
    fn ask(self: &Arc<Remote>) {
        let mut state = self.lock();
        if state.fetching || state.wanted {
            return;
        }
        state.wanted = true;
        let since = Duration::from_nanos(self.world.now().saturating_sub(state.began));
        let (pause, remote) = (PAUSE.saturating_sub(since), Arc::clone(self));
        self.world.spawn(Box::pin(async move {
            if !pause.is_zero() {
                remote.world.wait(pause).await;
            }
            remote.lock().wanted = false;
            remote.refresh().await;
        }));
    }

    /// Fetches, unless somebody does. Says how long until it should be done again.
    async fn refresh(&self) -> Duration {
        {
            let mut state = self.lock();
            if state.fetching {
                return AGAIN;
            }
            state.begin();
        }
        self.fetch().await
    }

    /// Fetches and notes what came of it; [`State::begin`] was called.
    async fn fetch(&self) -> Duration {
        let now = self.world.now();
        self.lock().began = now;
        let fetched = self.fetch_set().await;
        let next = match fetched {
            Ok((set, left_out, fresh)) => {
                self.lock().failures = 0;
                self.take(set);
                self.tell(left_out.map(|why| format!("{}: a key is not used: {why}", self.published.words())));
                fresh
            }
            Err(why) => {
                let held = if self.keys.load().is_some() { "; those known before stay" } else { "" };
                self.tell(Some(format!("{} cannot be had: {why}{held}", self.published.words())));
                let mut state = self.lock();
                state.failures = state.failures.saturating_add(1);
                AGAIN.saturating_mul(1 << (state.failures - 1).min(6)).min(AGAIN_MOST)
            }
        };
        let mut state = self.lock();
        state.fetching = false;
        self.ended.send_replace(state.begun);
        next
    }

    fn take(&self, mut set: KeySet) {
        if let Some(earlier) = &*self.keys.load() {
            set.renew(earlier);
        }
        self.keys.store(Some(Arc::new(set)));
    }

    /// Tells the operator what is wrong, once.
    fn tell(&self, wrong: Option<String>) {
        let mut state = self.lock();
        if state.told != wrong {
            state.told.clone_from(&wrong);
            drop(state);
            if let Some(wrong) = wrong {
                self.world.tell("keys", wrong);
            }
        }
    }

    async fn fetch_set(&self) -> Result<(KeySet, Option<String>, Duration), String> {
        let at = match &self.published {
            Published::At(at) => at.clone(),
            Published::Discovered { issuer, at } => self.discover(issuer, at).await?,
        };
        let answer = self.get(&at).await?;
        let read = KeySet::of_json(&answer.body, &self.allowed, true).map_err(|why| format!("the set: {why}"))?;
        Ok((read.set, read.left_out.into_iter().next(), freshness(&answer)))
    }

    /// Where an issuer publishes its keys.
    async fn discover(&self, issuer: &str, at: &WebUrl) -> Result<WebUrl, String> {
        let answer = self.get(at).await?;
        let said =
            read_object(&answer.body).ok_or("what it says of itself is no JSON object that can be read in one way")?;
        // another issuer's keys must not be taken for this one's (RFC 8414, section 3.3)
        if said.get("issuer").and_then(|said| said.as_str()) != Some(issuer) {
            return Err("it says that its `issuer` is another".to_owned());
        }
        let keys = said.get("jwks_uri").and_then(|said| said.as_str()).ok_or("it names no `jwks_uri`")?;
        let keys = WebUrl::parse(keys).map_err(|why| format!("its `jwks_uri` is no address: {why}"))?;
        if at.is_https() && !keys.is_https() {
            return Err("its `jwks_uri` is not `https`".to_owned());
        }
        self.said.store(Some(Arc::new(said)));
        Ok(keys)
    }

    async fn get(&self, at: &WebUrl) -> Result<OutAnswer, String> {
        let call = OutCall {
            server: Arc::new(at.server(self.ca.clone())),
            method: "GET",
            target: at.target().to_owned(),
            fields: vec![("accept".to_owned(), b"application/json".to_vec())],
            body: Bytes::new(),
            within: WITHIN,
            most: MOST_BYTES,
        };
        let answer = self.world.call(call).await.map_err(|error| error.why)?;
        // a redirect as well: where it leads was not configured
        if answer.status == 200 { Ok(answer) } else { Err(format!("the answer is {}", answer.status)) }
    }
}

/// How long until keys are fetched again: a part of the time that the answer is fresh (RFC 9111, section 5.2.2).
fn freshness(answer: &OutAnswer) -> Duration {
    let mut fresh = FRESH;
    for (_, value) in answer.fields.iter().filter(|(name, _)| name == "cache-control") {
        for directive in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            let directive = std::str::from_utf8(directive).unwrap_or_default().to_ascii_lowercase();
            if directive == "no-cache" || directive == "no-store" {
                fresh = FRESH_LEAST;
            } else if let Some(seconds) = directive.strip_prefix("max-age=") {
                fresh = seconds.trim_matches('"').parse().map_or(fresh, Duration::from_secs);
            }
        }
    }
    fresh.clamp(FRESH_LEAST, FRESH_MOST) * 3 / 4
}

/// Fetches again and again, as long as somebody has use of the keys.
async fn keep(remote: Weak<Remote>, world: Arc<dyn World>) {
    let mut first = true;
    loop {
        let mut left = match remote.upgrade() {
            None => return,
            Some(remote) if first => remote.fetch().await,
            Some(remote) => remote.refresh().await,
        };
        first = false;
        // by steps and by the clock, whichever is further: one is wrong when the machine slept, the other when the clock is set
        let mut now = world.now();
        while !left.is_zero() {
            if remote.strong_count() == 0 {
                return;
            }
            let step = left.min(STEP);
            world.wait(step).await;
            let before = std::mem::replace(&mut now, world.now());
            left = left.saturating_sub(step.max(Duration::from_nanos(now.saturating_sub(before))));
        }
    }
}

/// A request that waits for keys.
pub(crate) struct Waiting {
    remote: Arc<Remote>,
    ended: watch::Receiver<u64>,
    /// The first fetch that began after the request came.
    enough: u64,
}

impl Waiting {
    /// Waits for a fetch that may bring what is missing, which is one that is `under_way` already, or any. Says whether one ended; false
    /// when no other will bring more.
    pub(crate) async fn next(&mut self, under_way: bool) -> bool {
        if *self.ended.borrow() >= self.enough {
            return false;
        }
        if !under_way {
            self.remote.ask();
        } else if !self.remote.lock().fetching && !self.ended.has_changed().unwrap_or(false) {
            return false;
        }
        // the sender lives as long as this does
        self.ended.changed().await.is_ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.remote.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }
}
