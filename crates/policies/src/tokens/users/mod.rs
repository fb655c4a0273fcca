//! Users: whether a name and a password belong together, wherever the user is known. An unknown user, a wrong password and one who is not
//! let in are answered alike and take the same work. Knows no request.

mod cache;
#[cfg(any(feature = "ldap", feature = "sql"))]
mod elsewhere;
#[cfg(feature = "ldap")]
mod ldap;
mod second_factor;
#[cfg(feature = "sql")]
mod sql;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daemun_accounts::{Accounts, Trouble, text};
use daemun_config::model::{PasswordHash, User, UserSource, UserSources};
use daemun_pipeline::world::{Busy, compute};
use daemun_pipeline::{BuildContext, Directory, Identity, World};

use super::clients::of_client;
use super::throttle::{Throttle, Try};
use crate::per_directory::PerDirectory;
use cache::Cache;

/// Most bytes of a name, and of a password.
const NAME: usize = 255;
const PASSWORD: usize = 512;
/// Failures that a wrong one-time password counts for: whoever tries it knows the password.
const SECOND_FACTOR_COST: u64 = 10;
/// Checks for `basic_auth` that wait for another of the same place.
const MOST_WAITING: usize = 1024;
/// Places that checks for `basic_auth` of one name and password meet in.
const PLACES: usize = 64;

/// Why a password that is right is not enough.
const NEEDS_SECOND_FACTOR: &str = "the password is right, and the one-time password is missing";

/// What a caller shows.
pub(crate) struct Login<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a [u8],
    /// A one-time password or a recovery code.
    pub(crate) otp: Option<&'a str>,
    pub(crate) address: IpAddr,
    /// Nanoseconds of a clock that never goes back.
    pub(crate) now: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) wall: u64,
}

impl Login<'_> {
    fn tried(&self) -> Try<'_> {
        Try { address: self.address, name: self.name, now: self.now }
    }
}

/// Why a login is not good. The caller is told no more than the variant.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Name and password do not belong together, or the user is not let in; why, for the log.
    Wrong(&'static str),
    /// The password is right, and a one-time password is needed as well.
    SecondFactor,
    /// The password is right, and the one-time password is not: told as what is wrong is.
    WrongSecondFactor,
    /// So many seconds must pass before the next try.
    Slow(u64),
    /// Too much waits to be checked.
    Busy,
    /// Where the user is known cannot be asked; why, for the log.
    Unavailable(String),
}

impl Refused {
    /// For the log and `explain`.
    pub(crate) fn why(&self) -> &str {
        match self {
            Refused::Wrong(why) => why,
            Refused::SecondFactor => NEEDS_SECOND_FACTOR,
            Refused::WrongSecondFactor => "the password is right, and the one-time password is not, or was used before",
            Refused::Slow(_) => "guessing is slowed down",
            Refused::Busy => "too many passwords wait to be checked",
            Refused::Unavailable(why) => why,
        }
    }
}

impl From<Busy> for Refused {
    fn from(_: Busy) -> Refused {
        Refused::Busy
    }
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Refused {
        Refused::Unavailable(trouble.to_string())
    }
}

/// What one place knows of a login.
enum Found {
    /// There is no such user; whether finding that out took the work of checking a password.
    Nobody { worked: bool },
    /// There is, and this is not the password, or the user is not let in.
    Wrong(&'static str),
    /// There is, and this is the password.
    Right(Identity),
    /// There is, and these are the password and a one-time password.
    RightTwice(Identity),
}

/// A place where users are known.
enum Source {
    Embedded,
    #[cfg(feature = "ldap")]
    Ldap(ldap::Directory),
    #[cfg(feature = "sql")]
    Sql(sql::Database),
}

impl Source {
    /// # Errors
    /// What is wrong with it, by the code of a finding.
    #[cfg_attr(not(any(feature = "ldap", feature = "sql")), allow(unused_variables, reason = "of those alone"))]
    fn of(settings: &UserSource, accounts: &Arc<Accounts>) -> Result<Source, (&'static str, String)> {
        match settings {
            UserSource::Embedded => Ok(Source::Embedded),
            #[cfg(feature = "ldap")]
            UserSource::Ldap(settings) => Ok(Source::Ldap(ldap::Directory::new(settings, accounts))),
            #[cfg(feature = "sql")]
            UserSource::Sql(settings) => {
                let database = sql::Database::new(settings);
                database.map(Source::Sql).map_err(|why| (daemun_config::diagnostic::BAD_VALUE, why))
            }
            #[cfg(not(all(feature = "ldap", feature = "sql")))]
            _ => {
                let why = "this program was built without what asks this place for users".to_owned();
                Err((daemun_config::diagnostic::NOT_AVAILABLE, why))
            }
        }
    }
}

/// The places where users are known, for the directory of a snapshot.
pub(crate) struct Users {
    sources: Vec<Source>,
    directory: Arc<Directory>,
    accounts: Arc<Accounts>,
    world: Arc<dyn World>,
    /// Failures, whatever the place and whoever asks.
    throttle: Arc<Throttle>,
    /// What is checked for users that are not there.
    decoy: Arc<PasswordHash>,
    cache: Cache,
    places: Vec<tokio::sync::Mutex<()>>,
    waiting: AtomicUsize,
}

/// Waits for its place.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Users {
    /// Those that the settings name; shared by all routes that name the same. `None` where there are no random numbers, which is reported.
    pub(crate) fn of(sources: &UserSources, ctx: &mut BuildContext<'_>) -> Option<Arc<PerDirectory<Users>>> {
        let mut random = [0; 64];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            ctx.error(daemun_config::diagnostic::FILE, "the system gives no random numbers", None);
            return None;
        }
        let (secret, decoy) = random.split_at(32);
        let mut decoy_output = [0; 32];
        decoy_output.copy_from_slice(decoy);
        let decoy = usual(ctx.directory.users()).map(|hash| hash.decoy(&decoy_output));
        let decoy = decoy.or_else(|| PasswordHash::parse(USUAL).ok().map(|hash| hash.decoy(&decoy_output)))?;
        // asked for before, since what is made while state is asked for cannot ask itself
        let accounts = Accounts::of(ctx.carry);
        let made: Result<Vec<Source>, _> = sources.0.iter().map(|source| Source::of(source, &accounts)).collect();
        let made = match made {
            Ok(made) => made,
            Err((code, why)) => {
                ctx.error(code, why, None);
                return None;
            }
        };
        let throttle = Throttle::of(ctx.carry);
        let users = |_: &Directory| Users {
            sources: made,
            directory: Arc::clone(ctx.directory),
            accounts,
            world: Arc::clone(ctx.world),
            throttle,
            decoy: Arc::new(decoy),
            cache: Cache::new(secret),
            places: std::iter::repeat_with(tokio::sync::Mutex::default).take(PLACES).collect(),
            waiting: AtomicUsize::new(0),
        };
        let owner = format!("users {}", shape(&sources.0));
        Some(PerDirectory::of(ctx, &owner, users))
    }

    /// Whether only the configuration knows users, and has none.
    pub(crate) fn are_none(&self) -> bool {
        self.are_embedded() && self.directory.users().next().is_none()
    }

    /// Whether only the configuration knows users.
    fn are_embedded(&self) -> bool {
        self.sources.iter().all(|source| matches!(source, Source::Embedded))
    }

    /// Who this is. Hashing runs beside the workers.
    ///
    /// # Errors
    /// Why it is nobody, or cannot be told.
    pub(crate) async fn check(&self, login: &Login<'_>) -> Result<Arc<Identity>, Refused> {
        self.may_try(login)?;
        match self.judge(login).await {
            Err(Refused::Wrong(why)) => match self.throttle.failed(&login.tried()) {
                Some(seconds) => Err(Refused::Slow(seconds)),
                None => Err(Refused::Wrong(why)),
            },
            // whoever knows the password alone could have as much work done as they like
            Err(Refused::SecondFactor) => match self.throttle.charge_name(&login.tried(), 1) {
                Err(seconds) => Err(Refused::Slow(seconds)),
                Ok(_) => Err(Refused::SecondFactor),
            },
            // for the name it was counted before
            Err(Refused::WrongSecondFactor) => match self.throttle.failed_from(&login.tried()) {
                Some(seconds) => Err(Refused::Slow(seconds)),
                None => Err(Refused::WrongSecondFactor),
            },
            Ok(identity) => {
                self.throttle.succeeded(self.throttle.pair(&login.tried()));
                Ok(identity)
            }
            other => other,
        }
    }

    fn may_try(&self, login: &Login<'_>) -> Result<(), Refused> {
        self.throttle.wait(&login.tried()).map_or(Ok(()), |seconds| Err(Refused::Slow(seconds)))
    }

    async fn judge(&self, login: &Login<'_>) -> Result<Arc<Identity>, Refused> {
        let fits = (1..=NAME).contains(&login.name.len()) && (1..=PASSWORD).contains(&login.password.len());
        if !fits || login.name.contains(char::is_control) {
            return Err(Refused::Wrong("the name or the password is empty, or longer than any"));
        }
        let mut any_worked = false;
        for source in &self.sources {
            let found = match source {
                Source::Embedded => self.embedded(login).await?,
                #[cfg(feature = "ldap")]
                Source::Ldap(directory) => directory.ask(&*self.world, login.name, login.password).await?,
                #[cfg(feature = "sql")]
                Source::Sql(database) => self.in_database(database, login).await?,
            };
            match found {
                Found::Nobody { worked } => any_worked |= worked,
                Found::Wrong(why) => return Err(Refused::Wrong(why)),
                Found::Right(identity) => {
                    // others that were tried at the same time may have failed meanwhile
                    self.may_try(login)?;
                    return self.let_in(identity);
                }
                Found::RightTwice(identity) => return self.let_in(identity),
            }
        }
        if !any_worked {
            self.hash(&self.decoy, login.password).await?;
        }
        Err(Refused::Wrong("there is no user of this name"))
    }

    /// Whether a hash is of a password; runs beside the workers.
    async fn hash(&self, hash: &Arc<PasswordHash>, password: &[u8]) -> Result<bool, Busy> {
        let (hash, password) = (Arc::clone(hash), password.to_vec());
        let is_of = compute(&*self.world, move || hash.is_of(&password)).await?;
        self.accounts.checks().note_hash();
        Ok(is_of)
    }

    async fn embedded(&self, login: &Login<'_>) -> Result<Found, Refused> {
        let Some(user) = self.directory.user(login.name) else { return Ok(Found::Nobody { worked: false }) };
        let right = self.hash(&Arc::new(user.password.clone()), login.password).await?;
        if !right {
            return Ok(Found::Wrong("the password is another"));
        }
        if user.disabled {
            return Ok(Found::Wrong("the user is disabled"));
        }
        if user.has_second_factor() {
            let Some(otp) = login.otp else { return Err(Refused::SecondFactor) };
            // counted before it is known, so that tries that come at once are counted as well
            let charge = self.throttle.charge_name(&login.tried(), SECOND_FACTOR_COST).map_err(Refused::Slow)?;
            let right = second_factor::check(&self.accounts, user, otp, login.wall).await;
            if let Ok(false) = right {
                return Err(Refused::WrongSecondFactor);
            }
            charge.give_back();
            return right.map(|_| Found::RightTwice(identity_of(user))).map_err(Refused::from);
        }
        Ok(Found::Right(identity_of(user)))
    }

    #[cfg(feature = "sql")]
    async fn in_database(&self, database: &sql::Database, login: &Login<'_>) -> Result<Found, Refused> {
        let Some(known) = database.ask(&*self.world, login.name).await? else {
            let like = database.like().unwrap_or_else(|| Arc::clone(&self.decoy));
            self.hash(&like, login.password).await?;
            return Ok(Found::Nobody { worked: true });
        };
        if !self.hash(&known.hash, login.password).await? {
            return Ok(Found::Wrong("the password is another than that of the database"));
        }
        if known.disabled {
            return Ok(Found::Wrong("the user is disabled in the database"));
        }
        Ok(Found::Right(known.identity))
    }

    /// Refuses a user who would share the permissions of a consumer, or whose password was revoked.
    fn let_in(&self, identity: Identity) -> Result<Arc<Identity>, Refused> {
        let name = &*identity.subject;
        if self.directory.find(name).is_some() || self.accounts.consumer(name).is_some() {
            return Err(Refused::Wrong("a consumer has the user's name"));
        }
        if identity.credential.as_deref().is_some_and(|id| self.accounts.is_void(id)) {
            return Err(Refused::Wrong("the password was revoked"));
        }
        Ok(Arc::new(identity))
    }

    /// Who this was a short while ago; no hashing. Only for callers that show no one-time password, and for nobody who has to wait: it would
    /// tell which guess is right.
    pub(crate) fn cached(&self, login: &Login<'_>) -> Option<Arc<Identity>> {
        self.may_try(login).ok()?;
        let identity = self.cache.get(&self.cache.tag(login.name, login.password), login.now)?;
        let void = identity.credential.as_deref().is_some_and(|id| self.accounts.is_void(id));
        (!void && self.accounts.consumer(&identity.subject).is_none()).then_some(identity)
    }

    /// As [`Users::check`], once for calls with one password that come at once, and kept for a short while.
    pub(crate) async fn check_kept(&self, login: &Login<'_>) -> Result<Arc<Identity>, Refused> {
        let tag = self.cache.tag(login.name, login.password);
        let place = tag.first().and_then(|first| self.places.get(usize::from(*first) % PLACES)).ok_or(Refused::Busy)?;
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::Busy);
        }
        let _waiting = Waiting(&self.waiting);
        let _alone = place.lock().await;
        if let Some(identity) = self.cached(login) {
            return Ok(identity);
        }
        let identity = self.check(login).await?;
        self.cache.put(tag, &identity, login.now);
        Ok(identity)
    }

    /// What `explain` says of a login: it asks nobody, and hashes here for users of the configuration.
    pub(crate) fn explain(&self, login: &Login<'_>) -> Explained {
        match self.directory.user(login.name).filter(|_| matches!(self.sources.first(), Some(Source::Embedded))) {
            Some(user) if !user.password.is_of(login.password) => Explained::Refused("the password is another"),
            Some(user) if user.disabled => Explained::Refused("the user is disabled"),
            Some(user) if user.has_second_factor() => Explained::Refused(NEEDS_SECOND_FACTOR),
            Some(user) => Explained::User(Arc::new(identity_of(user))),
            None if self.are_embedded() => Explained::Refused("there is no user of this name"),
            None => Explained::Asked,
        }
    }
}

/// What is known of a login without asking anybody.
pub(crate) enum Explained {
    User(Arc<Identity>),
    Refused(&'static str),
    /// Somebody would be asked.
    Asked,
}

/// A hash as `daemun password hash` makes it, of no password that anybody has.
const USUAL: &str = "$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The hash whose cost most users have.
fn usual<'a>(users: impl Iterator<Item = &'a User>) -> Option<PasswordHash> {
    let mut costs: std::collections::BTreeMap<(u32, u32, u32), (usize, &PasswordHash)> =
        std::collections::BTreeMap::new();
    for user in users {
        costs.entry(user.password.cost()).or_insert((0, &user.password)).0 += 1;
    }
    costs.into_values().max_by_key(|(count, _)| *count).map(|(_, hash)| hash.clone())
}

/// What tells places from others; a digest, since some of it is secret.
fn shape(sources: &[UserSource]) -> String {
    let mut all = format!("{sources:?}");
    for source in sources {
        let secret = match source {
            UserSource::Embedded => None,
            UserSource::Ldap(ldap) => ldap.bind.as_ref().map(|(_, password)| password),
            UserSource::Sql(sql) => sql.password.as_ref(),
        };
        all.push('\0');
        all.push_str(secret.map_or("", |secret| &secret.0));
    }
    text::digest(all.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn identity_of(user: &User) -> Identity {
    Identity {
        subject: user.name.value.as_str().into(),
        consumer: None,
        roles: user.roles.clone(),
        groups: user.groups.clone(),
        tags: user.tags.clone(),
        scopes: user.scopes.clone(),
        credential: Some(user.credential.as_str().into()),
        ..Identity::default()
    }
}

/// What became of a user whom a token was given to.
pub(crate) enum Now {
    /// It is as the token says, or no user of the configuration.
    Same,
    /// It has other roles, groups or tags.
    Changed(Box<Identity>),
    /// It is not there any more, is disabled, or has another password.
    Gone,
}

/// Whether somebody who is no user has the name of a user of the configuration: a consumer of the store, or who logged in for a client.
/// Costs nothing where there are no users.
#[inline]
pub(crate) fn has_name_of_user(directory: Option<&Directory>, accounts: &Accounts, identity: &Identity) -> bool {
    let has_name =
        identity.consumer.is_none() && directory.is_some_and(|known| known.user(&identity.subject).is_some());
    has_name && (accounts.is_of_store(identity) || of_client(identity).is_some())
}

/// What became of whoever a token was given to: a user of the configuration is what the configuration says now.
pub(crate) fn as_of_now(directory: Option<&Directory>, identity: &Identity) -> Now {
    let credential = identity.credential.as_deref().filter(|id| identity.consumer.is_none() && id.starts_with("user:"));
    let Some(credential) = credential else { return Now::Same };
    let user = directory.and_then(|directory| directory.user(&identity.subject));
    let Some(user) = user.filter(|user| !user.disabled && user.credential == credential) else { return Now::Gone };
    if user.roles == identity.roles && user.groups == identity.groups && user.tags == identity.tags {
        return Now::Same;
    }
    let (scopes, claims) = (identity.scopes.clone(), identity.claims.clone());
    Now::Changed(Box::new(Identity { scopes, claims, ..identity_of(user) }))
}
