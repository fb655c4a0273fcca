//! Asks a service about tokens, once for all who wait for the same, and keeps its answers for a while by the digests of the tokens. Holds no
//! token; knows no request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use daemun_config::model::Server;
use daemun_pipeline::{Identity, OutCall, World};
use form_urlencoded::Serializer;
use tokio::sync::watch;

use crate::claims::{Rules, Span, Telling, Unfit};
use crate::token_cache::TokenCache;
use daemun_pipeline::strict_json::{Members, read_object};

/// Bytes of an answer.
const MOST_BYTES: usize = 256 << 10;
/// Tokens that are asked about at once.
const MOST_ASKED: usize = 1024;
/// Tokens that are known not to be valid.
const REFUSED: usize = 4096;

/// SHA-256 of a token.
pub(super) type Digest = [u8; 32];

/// Asks, and keeps what is answered.
pub(super) struct Asker {
    pub(super) server: Arc<Server>,
    pub(super) target: String,
    /// Field with name and secret of the client, where they are sent so.
    pub(super) authorization: Option<Vec<u8>>,
    /// The same in the body.
    pub(super) in_body: Option<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) cache: Duration,
    pub(super) rules: Rules,
    pub(super) telling: Telling,
    pub(super) world: Arc<dyn World>,
    taken: TokenCache,
    refused: TokenCache,
    nobody: Arc<Identity>,
    asking: Mutex<HashMap<Digest, watch::Receiver<Option<Said>>>>,
    /// What the operator was told last, and whether there is anything.
    told: Mutex<String>,
    failing: AtomicBool,
}

/// What came of asking; for the log, never for the caller.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Active(Arc<Identity>),
    /// Not active, or known from before not to be taken.
    Inactive,
    /// Active, but not to be taken here.
    Unfit(Unfit),
    /// It cannot be told.
    Unavailable(Arc<str>),
}

/// What an asker is made of.
pub(super) struct Parts {
    pub(super) server: Server,
    pub(super) target: String,
    pub(super) authorization: Option<Vec<u8>>,
    pub(super) in_body: Option<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) cache: Duration,
    pub(super) tokens: usize,
    pub(super) rules: Rules,
    pub(super) telling: Telling,
}

impl Asker {
    pub(super) fn new(parts: Parts, world: Arc<dyn World>) -> Asker {
        let tokens = if parts.cache.is_zero() { 0 } else { parts.tokens };
        Asker {
            server: Arc::new(parts.server),
            target: parts.target,
            authorization: parts.authorization,
            in_body: parts.in_body,
            timeout: parts.timeout,
            cache: parts.cache,
            rules: parts.rules,
            telling: parts.telling,
            world,
            taken: TokenCache::new(tokens),
            refused: TokenCache::new(tokens.min(REFUSED)),
            nobody: Arc::default(),
            asking: Mutex::default(),
            told: Mutex::default(),
            failing: AtomicBool::new(false),
        }
    }

    /// What is known of a token without asking.
    #[inline]
    pub(super) fn known(&self, digest: &Digest, now: u64) -> Option<Said> {
        if let Some(identity) = self.taken.find(digest, now, |_| true) {
            return Some(Said::Active(identity));
        }
        self.refused.find(digest, now, |_| true).map(|_| Said::Inactive)
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Option<Said>>>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks about a token, or waits for whoever does.
    pub(super) async fn ask(&self, token: &[u8], digest: Digest, now: u64) -> Said {
        loop {
            let turn = {
                let mut asking = self.asking();
                // what was answered meanwhile; it is noted before it is no longer asked for
                if let Some(known) = self.known(&digest, now) {
                    return known;
                }
                match asking.get(&digest) {
                    Some(answer) => Err(answer.clone()),
                    None if asking.len() >= MOST_ASKED => {
                        return Said::Unavailable("too many tokens are asked about at once".into());
                    }
                    None => {
                        let (tell, answer) = watch::channel(None);
                        asking.insert(digest, answer);
                        Ok(Turn { asker: self, digest, tell })
                    }
                }
            };
            match turn {
                Ok(turn) => {
                    let said = self.call(token, &digest, now).await;
                    turn.tell.send_replace(Some(said.clone()));
                    return said;
                }
                Err(mut answer) => {
                    // whoever asked may have gone; then it is the turn of another
                    if let Ok(said) = answer.wait_for(Option::is_some).await
                        && let Some(said) = said.clone()
                    {
                        return said;
                    }
                }
            }
        }
    }

    async fn call(&self, token: &[u8], digest: &Digest, now: u64) -> Said {
        let Ok(token) = std::str::from_utf8(token) else { return Said::Inactive };
        let mut body = Serializer::new(String::new());
        body.append_pair("token", token).append_pair("token_type_hint", "access_token");
        if let Some((id, secret)) = &self.in_body {
            body.append_pair("client_id", id).append_pair("client_secret", secret);
        }
        let form = ("content-type".to_owned(), b"application/x-www-form-urlencoded".to_vec());
        let accept = ("accept".to_owned(), b"application/json".to_vec());
        let own = self.authorization.clone().map(|value| ("authorization".to_owned(), value));
        let call = OutCall {
            server: Arc::clone(&self.server),
            method: "POST",
            target: self.target.clone(),
            fields: [form, accept].into_iter().chain(own).collect(),
            body: Bytes::from(body.finish()),
            within: self.timeout,
            most: MOST_BYTES,
        };
        let said = match self.world.call(call).await {
            Err(error) => Err(error.why),
            Ok(answer) if answer.status == 200 => self.read(&answer.body, digest, now),
            Ok(answer) => Err(format!("the answer is {}", answer.status)),
        };
        match said {
            Ok(said) => {
                self.failing.store(false, Ordering::Relaxed);
                said
            }
            Err(why) => {
                self.tell(&why);
                Said::Unavailable(why.into())
            }
        }
    }

    /// Reads an answer (RFC 7662, section 2.2) and keeps it.
    fn read(&self, answer: &[u8], digest: &Digest, now: u64) -> Result<Said, String> {
        let answer = read_object(answer).ok_or("the answer is no JSON object that can be read in one way")?;
        let kept = now.saturating_add(u64::try_from(self.cache.as_nanos()).unwrap_or(u64::MAX));
        let is_active = answer.get("active").and_then(serde_json::Value::as_bool);
        if !is_active.ok_or("the answer has no `active`")? {
            self.refused.keep(digest.as_slice(), Span { from: 0, until: kept }, 0, &self.nobody, now);
            return Ok(Said::Inactive);
        }
        let span = self.rules.check(&Members::of(&answer), now);
        let judged = span.and_then(|span| Ok((span, self.telling.identity(answer)?)));
        Ok(match judged {
            Ok((span, identity)) => {
                let identity = Arc::new(identity);
                let span = Span { from: span.from, until: span.until.min(kept) };
                self.taken.keep(digest.as_slice(), span, 0, &identity, now);
                Said::Active(identity)
            }
            // what time alone mends is asked about anew: a token may become valid at any moment
            Err(why @ (Unfit::NotYet | Unfit::Future)) => Said::Unfit(why),
            Err(why) => {
                self.refused.keep(digest.as_slice(), Span { from: 0, until: kept }, 0, &self.nobody, now);
                Said::Unfit(why)
            }
        })
    }

    /// Tells the operator what is wrong, once.
    fn tell(&self, why: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.failing.swap(true, Ordering::Relaxed) || *told != why {
            why.clone_into(&mut told);
            let text = format!("`{}` cannot be asked about tokens: {why}", self.server.authority);
            self.world.tell("introspection", text);
        }
    }
}

/// Whose turn it is to ask; whatever happens, nobody waits for it afterwards.
struct Turn<'a> {
    asker: &'a Asker,
    digest: Digest,
    tell: watch::Sender<Option<Said>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.asker.asking().remove(&self.digest);
    }
}
