//! `oidc`: who calls, by a login at an OpenID provider. A browser without a session is sent there, comes back with a code, and is given a
//! session in a sealed cookie; nothing of it is kept here. The caller is never told what was wrong.

mod config;
pub(crate) mod cookies;
pub(crate) mod login;
pub(crate) mod provider;
pub(crate) mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::Accounts;
use daemun_config::decode::Mapping;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, FieldId, Flow, Identity, Method, Phase, Policy, PolicyConfig, Reason,
    Runtimes, Stop, Verdict,
};
use data_encoding::HEXLOWER;

pub use config::{OidcConfig, OwnPath, SessionConfig};

use crate::bearer::ANOTHER;
use crate::caller;
use crate::claims::{ClaimPath, Span, Telling, Wanted};
use crate::cors::Origin;
use crate::replay::Replay;
use crate::set_cookie::set_cookie;
use crate::token_cache::TokenCache;
use cookies::{Cookies, Held, Which};
use daemun_pipeline::strict_json::Members;
use provider::{Failed, Provider, Settings};
use session::{Seals, Session};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Sessions that are remembered once they were opened.
const REMEMBERED: usize = 4096;
/// Logins of one network that ended within the time they may take, and of how many networks at least.
pub(crate) const MOST_USED: usize = 1 << 14;
pub(crate) const USED_SHARES: usize = 16;
/// Sessions that were ended from one network, and from how many at least.
const MOST_ENDED: usize = 1 << 18;
const ENDED_SHARES: usize = 2;

impl PolicyConfig for OidcConfig {
    const NAME: &'static str = "oidc";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Runtimes> {
        // what is wrong was reported when the settings were read
        let provider = self.provider(ctx)?;
        let secrets = || self.session.secret.0.iter().map(|secret| secret.0.as_str());
        let seals = Seals::new(secrets(), &self.issuer, &self.client_id)?;
        // what the settings do not show of themselves matters as well
        let hidden: Vec<&str> = secrets().chain([self.client_secret.0.as_str()]).collect();
        let print = HEXLOWER.encode(digest(&SHA256, hidden.join("\n").as_bytes()).as_ref());
        let known = ctx.carry.get_or(Self::NAME, &format!("{self:?} {print}"), || TokenCache::new(REMEMBERED));
        let spent = format!("{}\n{}", self.issuer, self.client_id);
        let spent = ctx.carry.get_or("oidc spent", &spent, Spent::default);
        spent.sessions.widen(MOST_ENDED, self.session.lifetime.0.as_secs());
        let strip = Strip(Cookies::new(&self.session.cookie.0));
        let policy = Oidc {
            telling: self.telling(),
            cookies: Cookies::new(&self.session.cookie.0),
            seals,
            known,
            spent,
            accounts: Accounts::of(ctx.carry),
            lifetime: self.session.lifetime.0.as_secs(),
            idle: self.session.idle.0.as_secs(),
            kept: self.kept(),
            scopes: self.scopes.0.join(" "),
            provider,
            paths: [self.callback.path().into(), self.logout.path().into()],
            origin: self.callback.origin().and_then(Origin::parse),
            callback: self.callback,
            after_logout: self.after_logout,
        };
        // behind all authenticators: of several, one that was not asked must not pass them on either
        Some(vec![(Phase::Authenticate, Box::new(policy)), (Phase::Authorize, Box::new(strip))])
    }
}

impl OidcConfig {
    fn telling(&self) -> Telling {
        Telling {
            subject: self.subject.0.clone(),
            consumer: self.consumer.clone(),
            roles: self.roles.clone(),
            groups: self.groups.clone(),
            scopes: vec![ClaimPath::named("scope")],
        }
    }

    /// The claims that a session holds.
    fn kept(&self) -> Kept {
        let told = self.subject.0.iter().chain(&self.consumer).chain(&self.roles).chain(&self.groups);
        let wanted = self.claims.iter().flat_map(|Mapping(pairs)| pairs).map(|(path, _)| &path.value);
        let named = told.chain(wanted).flat_map(ClaimPath::members).chain(["sub", "scope"]);
        Kept {
            listed: self.session.claims.as_ref().map(|list| list.0.clone()),
            named: named.map(str::to_owned).collect(),
        }
    }

    fn provider(&self, ctx: &BuildContext<'_>) -> Option<Provider> {
        let pairs = self.claims.iter().flat_map(|Mapping(pairs)| pairs);
        let wanted = pairs.map(|(path, values)| Wanted { path: path.value.clone(), values: values.0.clone() });
        let settings = Settings {
            issuer: &self.issuer,
            client: &self.client_id,
            secret: &self.client_secret.0,
            ca: self.ca.as_ref(),
            timeout: self.timeout.0,
            leeway: self.leeway,
            userinfo: self.userinfo,
            wanted: wanted.collect(),
            telling: self.telling(),
        };
        Provider::begin(settings, ctx)
    }
}

/// What may not be used again.
struct Spent {
    logins: Replay,
    sessions: Replay,
    /// How many sessions were ended by their users in this process.
    ended: AtomicU64,
}

impl Default for Spent {
    fn default() -> Spent {
        Spent {
            logins: Replay::new(MOST_USED, USED_SHARES),
            sessions: Replay::new(MOST_ENDED, ENDED_SHARES),
            ended: AtomicU64::new(0),
        }
    }
}

struct Oidc {
    provider: Provider,
    telling: Telling,
    cookies: Cookies,
    seals: Seals,
    known: Arc<TokenCache>,
    spent: Arc<Spent>,
    /// Whose names nobody else may have, and that know which sessions were ended where there is a store.
    accounts: Arc<Accounts>,
    /// Seconds.
    lifetime: u64,
    idle: u64,
    kept: Kept,
    scopes: String,
    /// Of callback and logout.
    paths: [Box<str>; 2],
    callback: OwnPath,
    /// That of `callback`, where its whole address is written: what browsers call this site, whoever ends their TLS.
    origin: Option<Origin>,
    after_logout: OwnPath,
}

/// Names of the claims that a session holds.
struct Kept {
    /// Those that the settings list; `None` for all but what tokens say of themselves.
    listed: Option<Vec<String>>,
    /// Those that the settings ask of.
    named: Vec<String>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Callback,
    Logout,
    Else,
}

/// Why a request has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// There is no cookie.
    Nothing,
    /// There are several.
    Several,
    /// What it holds cannot be opened.
    Sealed,
    /// It has ended.
    Ended,
    /// Its claims do not say who calls, or not all that is wanted: it may be of another route, or of other settings.
    Nobody,
}

impl Without {
    fn words(self) -> &'static str {
        match self {
            Without::Nothing => "there is no session",
            Without::Several => "there are several cookies for a session",
            Without::Sealed => "the session's cookie cannot be opened",
            Without::Ended => "the session has ended",
            Without::Nobody => "the session does not say who calls, or has not the `claims` that are wanted here",
        }
    }
}

impl Policy for Oidc {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        match self.asked(exchange) {
            Asked::Else => {}
            Asked::Callback => return Flow::Later(Box::pin(async move { Err(self.callback(exchange).await) })),
            Asked::Logout => return Flow::Later(Box::pin(async move { Err(self.logout(exchange).await) })),
        }
        match self.identify(exchange) {
            Ok(identity) => Flow::Now(self.admit(exchange, &identity)),
            Err(without) if may_log_in(exchange, without) => {
                Flow::Later(Box::pin(async move { Err(self.begin(exchange).await) }))
            }
            Err(without) => Flow::Now(Err(refused(without.words()))),
        }
    }

    /// Goes on with a session that is in use.
    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        if self.asked(exchange) == Asked::Else
            && let Some(cookie) = self.renewed(exchange)
        {
            set_cookie(&mut exchange.response.head, &cookie);
        }
        Ok(())
    }

    fn answers_at(&self) -> &[Box<str>] {
        &self.paths
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let answers = |status: u16| Stop::Answer(Box::new(daemun_pipeline::Answer { status, ..Default::default() }));
        let issuer = &self.provider.issuer;
        match self.asked(exchange) {
            Asked::Callback => {
                let why = format!(
                    "`{issuer}` would be asked for what the code of the login stands for, and is not from here"
                );
                return Explanation::stop(&refused(""), why);
            }
            Asked::Logout => {
                return match self.may_log_out(exchange) {
                    Ok(()) => Explanation::stop(&answers(303), "the session would be ended"),
                    Err((stop, why)) => Explanation::stop(&stop, why),
                };
            }
            Asked::Else => {}
        }
        match self.identify(exchange) {
            Ok(identity) => match self.admit(exchange, &identity) {
                Ok(()) => Explanation::pass(format!("the session is of `{}`", identity.subject.escape_debug())),
                Err(stop) => Explanation::stop(&stop, ANOTHER),
            },
            Err(without) if may_log_in(exchange, without) => {
                let why = format!("{}; the browser would be sent to `{issuer}` to log in", without.words());
                Explanation::stop(&answers(302), why)
            }
            Err(without) => Explanation::stop(&refused(""), without.words()),
        }
    }
}

impl Oidc {
    fn asked(&self, exchange: &Exchange) -> Asked {
        let path = exchange.request.path_text();
        let [callback, logout] = &self.paths;
        match path {
            path if path == &**callback => Asked::Callback,
            path if path == &**logout => Asked::Logout,
            _ => Asked::Else,
        }
    }

    /// Whether the browser's own connection is HTTPS.
    fn is_secure(&self, exchange: &Exchange) -> bool {
        exchange.is_https() || self.callback.url.as_ref().is_some_and(daemun_config::decode::WebUrl::is_https)
    }

    fn admit(&self, exchange: &mut Exchange, identity: &Arc<Identity>) -> Verdict {
        if caller::note_other(exchange, identity, &self.accounts) { Ok(()) } else { Err(refused(ANOTHER)) }
    }

    /// Whose session the request is of.
    fn identify(&self, exchange: &Exchange) -> Result<Arc<Identity>, Without> {
        let text = match self.cookies.find(exchange, Which::Session, self.is_secure(exchange)) {
            Held::One(text) => text,
            Held::None => return Err(Without::Nothing),
            Held::Several => return Err(Without::Several),
        };
        let ended = self.endings();
        if let Some(known) = self.known.find(text, exchange.wall, |key| key == ended) {
            return Ok(known);
        }
        let (session, newest) = self.open(text, exchange)?;
        self.provider.wanted.check_wanted(&Members::of(&session.claims)).map_err(|_| Without::Nobody)?;
        let mut identity = self.telling.identity(session.claims.clone()).map_err(|_| Without::Nobody)?;
        identity.credential = Some(HEXLOWER.encode(&session.id).into());
        let identity = Arc::new(identity);
        if newest && !self.is_old(&session, exchange) {
            let until = session.ends(self.lifetime, self.idle).min(session.seen + self.idle / 4) * SECOND;
            self.known.keep(text, Span { from: 0, until }, ended, &identity, exchange.wall);
        }
        Ok(identity)
    }

    /// Another number once a session was ended by its user, here or in another process with the same store: what is remembered from before is
    /// looked at again.
    fn endings(&self) -> u64 {
        self.spent.ended.load(Ordering::Acquire).wrapping_add(self.accounts.endings())
    }

    /// The session that a cookie holds, if it lasts and was not ended, and whether it is sealed with the newest secret.
    fn open(&self, text: &[u8], exchange: &Exchange) -> Result<(Session, bool), Without> {
        let (session, newest) = self.lasting(text, exchange)?;
        let was_ended = self.spent.sessions.has(&session.id) || self.accounts.has_ended(&session.id);
        if was_ended { Err(Without::Ended) } else { Ok((session, newest)) }
    }

    /// The same, whether it was ended or not.
    fn lasting(&self, text: &[u8], exchange: &Exchange) -> Result<(Session, bool), Without> {
        if text.len() > self.cookies.room(Which::Session) {
            return Err(Without::Sealed);
        }
        let (session, newest) = self.seals.open_session(text).ok_or(Without::Sealed)?;
        let lasts = session.lasts(self.lifetime, self.idle, seconds(exchange));
        if lasts { Ok((session, newest)) } else { Err(Without::Ended) }
    }

    /// Whether a session should be told that it is in use.
    fn is_old(&self, session: &Session, exchange: &Exchange) -> bool {
        seconds(exchange).saturating_sub(session.seen) >= self.idle / 4
    }

    /// The cookie of a session that is in use, where the one that the browser has is old.
    fn renewed(&self, exchange: &Exchange) -> Option<String> {
        let secure = self.is_secure(exchange);
        let Held::One(text) = self.cookies.find(exchange, Which::Session, secure) else { return None };
        let ended = self.endings();
        if self.known.find(text, exchange.wall, |key| key == ended).is_some() {
            return None;
        }
        let (session, newest) = self.open(text, exchange).ok()?;
        if newest && !self.is_old(&session, exchange) {
            return None;
        }
        self.session_cookie(&Session { seen: seconds(exchange), ..session }, secure)
    }

    /// The field that gives a browser its session; `None` when it does not fit into a cookie.
    fn session_cookie(&self, session: &Session, secure: bool) -> Option<String> {
        let text = self.seals.seal_session(session)?;
        let lasts = session.ends(self.lifetime, self.idle).saturating_sub(session.seen);
        let fits = text.len() <= self.cookies.room(Which::Session);
        fits.then(|| self.cookies.set(Which::Session, &text, lasts, secure))
    }
}

/// Takes the cookies out of what is forwarded.
struct Strip(Cookies);

impl Policy for Strip {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        self.0.strip(&mut exchange.request.head);
        Flow::Now(Ok(()))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        self.0.strip(&mut exchange.request.head);
        Explanation::pass("cookies of sessions are not passed on")
    }
}

/// Whether a browser that shows a page can be sent to log in: nothing else could follow. Of several sessions there would be as many after it.
fn may_log_in(exchange: &Exchange, without: Without) -> bool {
    let head = &exchange.request.head;
    let is = |name: &str, wanted: &[u8]| head.values(name).all(|value| value == wanted);
    let takes = |range: &[u8]| {
        let media = range.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        media.eq_ignore_ascii_case(b"text/html")
    };
    exchange.request.method == Method::Get
        && matches!(without, Without::Nothing | Without::Sealed | Without::Ended)
        && head.get_id(FieldId::Upgrade).is_none()
        && head.values("accept").flat_map(|value| value.split(|&byte| byte == b',')).any(takes)
        && is("sec-fetch-mode", b"navigate")
        && is("sec-fetch-dest", b"document")
}

/// The network that a request is from: an address, of version 6 the half that its end does not choose.
pub(crate) fn network(exchange: &Exchange) -> u64 {
    match exchange.client.ip.to_canonical() {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => u64::try_from(u128::from(address) >> 64).unwrap_or_default(),
    }
}

/// Wall clock in seconds.
fn seconds(exchange: &Exchange) -> u64 {
    exchange.wall / SECOND
}

#[cold]
fn refused(cause: &str) -> Stop {
    let fault = Fault::new(Reason::Unauthenticated, "the request has no session that is valid here");
    let fault = fault.field("WWW-Authenticate", "Cookie realm=\"daemun\"").field("Cache-Control", "no-store");
    Stop::Fault(fault.cause(cause))
}

#[cold]
fn failed(failed: &Failed) -> Fault {
    let (reason, detail, why) = match failed {
        Failed::Away(why) => (Reason::AuthUnavailable, "nobody can be logged in at the moment", why),
        Failed::Refused(why) => (Reason::Unauthenticated, "the login is not taken; begin again", why),
    };
    let fault = Fault::new(reason, detail).cause(why).field("Cache-Control", "no-store");
    match failed {
        Failed::Away(_) => fault.field("Retry-After", "5"),
        Failed::Refused(_) => fault.field("WWW-Authenticate", "Cookie realm=\"daemun\""),
    }
}
