//! The keys that access tokens of a service are signed with: made at first need, kept sealed, changed in time. Whoever has the same store
//! open signs with the same ones. Knows not what is signed.

mod pair;
mod schedule;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use daemun_accounts::seal::Seal;
use daemun_accounts::{Accounts, SigningKeyRow, Trouble, text};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::model::{SigningAlgorithm, TokenFormat, TokenService};
use daemun_pipeline::BuildContext;
use daemun_pipeline::world::{World, compute};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

pub(super) use pair::Pair;
use schedule::{Schedule, Step, Times};

use super::millis;

/// How long it is waited after something failed.
const AGAIN: Duration = Duration::from_secs(2);
/// How long it is waited at most; what has ended by then ends.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long it is waited at least.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// A key, ready to sign with.
#[derive(Debug)]
pub(super) struct SigningKey {
    row: SigningKeyRow,
    algorithm: SigningAlgorithm,
    pub(super) pair: Arc<Pair>,
    /// The head of what it signs, encoded, with the point behind it (RFC 7515, section 3.1; RFC 9068, section 2.1).
    pub(super) head: Arc<str>,
    /// As it is published.
    jwk: Arc<str>,
}

/// All keys of a service, in the order in which they begin to sign.
#[derive(Debug, Default)]
struct Ring {
    /// State of the accounts that they are of.
    changes: u64,
    keys: Vec<Arc<SigningKey>>,
    /// Whether there are others that cannot be opened.
    is_locked: bool,
}

/// The keys of one service.
pub(super) struct Signing {
    /// What the keys are kept by.
    owner: String,
    /// Name of the service, for messages.
    service: String,
    schedule: Schedule,
    /// How long an access token lasts; the most that it did since the process began.
    lifetime: Arc<AtomicU64>,
    seal: Arc<Seal>,
    /// Whether the keys are of no use before a store keeps them.
    is_kept: bool,
    accounts: Arc<Accounts>,
    world: Arc<dyn World>,
    ring: ArcSwap<Ring>,
    /// One at a time makes and retires keys.
    turn: tokio::sync::Mutex<()>,
    runs: AtomicBool,
    /// Whether the operator knows of what does not work.
    told: AtomicBool,
}

impl Signing {
    /// Those of a service whose tokens are signed. `Err` after an error was reported: a key that was kept cannot be opened.
    pub(super) fn of(service: &TokenService, ctx: &mut BuildContext<'_>) -> Result<Option<Arc<Signing>>, ()> {
        let TokenFormat::Jwt(how) = &service.format else { return Ok(None) };
        let name = &service.name.value;
        let carried = format!("tokens.{name}");
        let lifetime = ctx.carry.get_or(&carried, "longest", || AtomicU64::new(0));
        lifetime.fetch_max(millis(service.access), Ordering::Relaxed);
        let accounts = Accounts::of(ctx.carry);
        let seal = match &how.seal {
            Some(key) => Seal::new(key.0.as_bytes()).map(Arc::new),
            None => accounts.own_seal(),
        };
        let Some(seal) = seal else {
            ctx.error(diagnostic::BAD_VALUE, "nothing can be sealed with this key of the store", None);
            return Err(());
        };
        // names of services have no spaces, so that what is sealed for this process alone is never taken for what is kept
        let owner = if how.seal.is_some() { name.clone() } else { format!("{name} in memory") };
        let print = how.seal.as_ref().map(|key| HEXLOWER.encode(&text::digest(key.0.as_bytes())));
        let schedule = Schedule { algorithm: how.algorithm, rotate: how.rotate };
        let shape = format!("signing {schedule:?} {print:?}");
        let signing = ctx.carry.get_or(&carried, &shape, || Signing {
            owner,
            service: name.clone(),
            schedule,
            lifetime,
            seal,
            is_kept: how.seal.is_some(),
            accounts,
            world: Arc::clone(ctx.world),
            ring: ArcSwap::default(),
            turn: tokio::sync::Mutex::default(),
            runs: AtomicBool::new(false),
            told: AtomicBool::new(false),
        });
        if signing.ring().is_locked {
            let message = format!("the keys that tokens of `{name}` are signed with cannot be opened with this key");
            let help = "start with the key of the store that they were sealed under";
            let found = Diagnostic::error(diagnostic::BAD_VALUE, service.name.at, message);
            ctx.diagnostics.push(found.path("store.key").help(help));
            return Err(());
        }
        signing.start();
        Ok(Some(signing))
    }

    /// Has keys made and changed in time from now on, as long as somebody uses them.
    fn start(self: &Arc<Self>) {
        if !self.runs.swap(true, Ordering::AcqRel) {
            let (weak, world) = (Arc::downgrade(self), Arc::clone(&self.world));
            self.world.spawn(Box::pin(keep(weak, world)));
        }
    }

    /// All keys as they are now. One load and one comparison where nothing has changed.
    fn ring(&self) -> Arc<Ring> {
        let ring = self.ring.load_full();
        let changes = self.accounts.signing_changes();
        if ring.changes == changes {
            return ring;
        }
        let mut next = Ring { changes, ..Ring::default() };
        for row in self.accounts.signing_keys(&self.owner) {
            match self.open(row, &ring) {
                Some(key) => next.keys.push(Arc::new(key)),
                None => next.is_locked = true,
            }
        }
        let next = Arc::new(next);
        self.ring.store(Arc::clone(&next));
        next
    }

    fn open(&self, row: SigningKeyRow, known: &Ring) -> Option<SigningKey> {
        if let Some(known) = known.keys.iter().find(|key| key.row.id == row.id && key.row.sealed == row.sealed) {
            let (pair, head, jwk) = (Arc::clone(&known.pair), Arc::clone(&known.head), Arc::clone(&known.jwk));
            return Some(SigningKey { row, algorithm: known.algorithm, pair, head, jwk });
        }
        let algorithm = SigningAlgorithm::of(&row.algorithm)?;
        let pair = Pair::read(algorithm, &self.seal.open(&row.id, &row.sealed).ok()?)?;
        let (name, jwk) = pair.published()?;
        if name != row.id {
            return None;
        }
        let head = format!(r#"{{"typ":"at+jwt","alg":"{}","kid":"{name}"}}"#, algorithm.as_str());
        let head = format!("{}.", BASE64URL_NOPAD.encode(head.as_bytes())).into();
        Some(SigningKey { row, algorithm, pair: Arc::new(pair), head, jwk: jwk.into() })
    }

    /// The key that signs at a moment, milliseconds since the Unix epoch; the first one is made now.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) async fn current(&self, now: u64) -> Result<Arc<SigningKey>, Trouble> {
        let current = || Schedule::signs(&self.ring().keys, |key| key.row.from, now).cloned();
        if let Some(key) = current() {
            return Ok(key);
        }
        self.advance(now).await?;
        current().ok_or(Trouble::Unsigned("there is no key to sign with"))
    }

    /// The keys that are published at a moment, as a JWK Set (RFC 7517, section 5), and how long it may be used.
    ///
    /// # Errors
    /// When there is none yet and none to be had.
    pub(super) async fn published(&self, now: u64) -> Result<(String, Duration), Trouble> {
        self.current(now).await?;
        let mut set = String::from("{\"keys\":[");
        for (count, key) in self.ring().keys.iter().enumerate() {
            let comma = if count > 0 { "," } else { "" };
            let _ = write!(set, "{comma}{}", key.jwk);
        }
        set.push_str("]}");
        Ok((set, self.schedule.max_age()))
    }

    /// Does what is to be done with keys at a moment; gives how long nothing is then.
    async fn advance(&self, now: u64) -> Result<Duration, Trouble> {
        if self.is_kept && !self.accounts.is_kept() {
            return Err(Trouble::Unsigned("the store is not open yet"));
        }
        let _turn = self.turn.lock().await;
        loop {
            let ring = self.ring();
            let keys: Vec<Times> = ring.keys.iter().map(|key| key.times()).collect();
            match self.schedule.next(&keys, self.lifetime.load(Ordering::Relaxed), now) {
                Step::Wait(time) => return Ok(Duration::from_millis(time)),
                Step::Make { .. } if ring.is_locked => {
                    return Err(Trouble::Unsigned("the keys in the store are sealed under another key"));
                }
                Step::Make { from } => self.make(from, now).await?,
                Step::Retire { id, until } => {
                    if let Some(key) = ring.keys.iter().find(|key| key.row.id == id) {
                        let row = SigningKeyRow { until: Some(until), ..key.row.clone() };
                        self.accounts.put_signing_key(row).await?;
                    }
                }
                Step::Forget { id } => self.accounts.remove_signing_key(&id).await?,
            }
        }
    }

    async fn make(&self, from: u64, now: u64) -> Result<(), Trouble> {
        let algorithm = self.schedule.algorithm;
        let made = match algorithm {
            SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa => Pair::generate(algorithm),
            SigningAlgorithm::Rs256 => {
                let made = compute(&*self.world, move || Pair::generate(algorithm)).await;
                made.map_err(|_| Trouble::Unsigned("there is too much to compute for making a key"))?
            }
        };
        let made = made.and_then(|(pair, kept)| Some((pair.published()?.0, kept)));
        let (id, kept) = made.ok_or(Trouble::Unsigned("a key cannot be made"))?;
        let sealed = self.seal.seal(&id, &kept).map_err(|_| Trouble::NoRandomness)?;
        let (service, algorithm) = (self.owner.clone(), algorithm.as_str().to_owned());
        self.accounts
            .put_signing_key(SigningKeyRow { id, service, algorithm, sealed, created: now, from, until: None })
            .await
    }

    /// Tells the operator once of what does not work.
    fn note(&self, done: &Result<Duration, Trouble>) {
        match done {
            Ok(_) => self.told.store(false, Ordering::Relaxed),
            Err(_) if self.told.swap(true, Ordering::Relaxed) => {}
            Err(why) => {
                let what = format!("the keys that tokens of `{}` are signed with: {why}", self.service);
                self.world.tell("signing_keys", what);
            }
        }
    }
}

impl SigningKey {
    fn times(&self) -> Times {
        let SigningKeyRow { id, from, until, .. } = &self.row;
        Times { id: id.clone(), algorithm: self.algorithm, from: *from, until: *until }
    }
}

/// Makes and retires keys in time.
async fn keep(signing: Weak<Signing>, world: Arc<dyn World>) {
    loop {
        let Some(signing) = signing.upgrade() else { return };
        // before a store is open there is nothing to tell
        let opens = signing.is_kept && !signing.accounts.is_kept();
        let done = signing.advance(world.now() / 1_000_000).await;
        if !opens {
            signing.note(&done);
        }
        drop(signing);
        world.wait(done.unwrap_or(AGAIN).clamp(SHORTEST_WAIT, LONGEST_WAIT)).await;
    }
}
