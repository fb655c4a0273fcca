//! The three answers of a login: to the provider, back with a code, and out again. Knows not how the provider is asked.

use daemun_pipeline::{Answer, Exchange, Fault, Method, Reason, Stop};
use form_urlencoded::Serializer;
use serde_json::{Map, Value};

use super::cookies::{Held, Which};
use super::provider::{Asked, Failed, parameter, with_query};
use super::session::{self, AHEAD, LOGIN_LASTS, Login, Session};
use super::{Oidc, failed, network, seconds};
use crate::csrf::site;
use crate::replay::Seen;

/// What ID tokens say of themselves and not of who logs in.
const OF_TOKENS: [&str; 9] = ["iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash"];
/// Nothing of a login is kept by anyone on the way, and no page is told where the browser came from.
const PRIVATE: [(&str, &str); 2] = [("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")];

/// Why a browser cannot log out so, and in words.
type NoLogout = (Stop, &'static str);

impl Oidc {
    /// Sends a browser to the provider.
    pub(super) async fn begin(&self, exchange: &Exchange) -> Stop {
        match self.begun(exchange).await {
            Ok(stop) => stop,
            Err(why) => failed(&why).into(),
        }
    }

    async fn begun(&self, exchange: &Exchange) -> Result<Stop, Failed> {
        let secure = self.is_secure(exchange);
        let redirect = self.redirect(exchange)?;
        let endpoints = self.provider.known_endpoints().await?;
        let now = seconds(exchange);
        let target = exchange.request.text(exchange.request.target);
        let login = Login::begin(target, now).ok_or_else(no_randomness)?;
        let to = self.provider.login_at(&endpoints, &login, &self.scopes, &redirect);
        let logins = session::with(self.logins(exchange), login);
        let held = self.seals.seal_logins(&logins, self.cookies.room(Which::Login)).ok_or_else(no_randomness)?;
        let cookie = self.cookies.set(Which::Login, &held, LOGIN_LASTS, secure);
        Ok(to_address(302, to, [cookie]))
    }

    /// The logins of this browser that are under way.
    fn logins(&self, exchange: &Exchange) -> Vec<Login> {
        match self.cookies.find(exchange, Which::Login, self.is_secure(exchange)) {
            Held::One(text) if text.len() <= self.cookies.room(Which::Login) => {
                self.seals.open_logins(text, seconds(exchange))
            }
            Held::One(_) | Held::None | Held::Several => Vec::new(),
        }
    }

    /// Where the provider sends the browser back to.
    fn redirect(&self, exchange: &Exchange) -> Result<String, Failed> {
        match &self.callback.url {
            Some(url) => Ok(url.written().to_owned()),
            None => Ok(format!("{}{}", self.site(exchange)?, self.callback.path())),
        }
    }

    /// Scheme, host and port of this site, as the browser knows it.
    fn site(&self, exchange: &Exchange) -> Result<String, Failed> {
        if let Some(origin) = self.callback.origin() {
            return Ok(origin.to_owned());
        }
        let authority = exchange.request.text(exchange.request.authority);
        if authority.is_empty() {
            return Err(Failed::Refused("the request names no host that the browser could come back to".to_owned()));
        }
        Ok(format!("{}://{authority}", if self.is_secure(exchange) { "https" } else { "http" }))
    }

    /// Takes a browser that comes back.
    pub(super) async fn callback(&self, exchange: &mut Exchange) -> Stop {
        let secure = self.is_secure(exchange);
        let mut logins = self.logins(exchange);
        let login = match self.login_of(exchange, &mut logins) {
            Ok(login) => login,
            Err(why) => return failed(&why).into(),
        };
        // the others may still end
        let rest = self.seals.seal_logins(&logins, self.cookies.room(Which::Login));
        let lasts = if rest.is_some() { LOGIN_LASTS } else { 0 };
        let rest = self.cookies.set(Which::Login, rest.as_deref().unwrap_or_default(), lasts, secure);
        match self.called_back(exchange, &login).await {
            Ok(session) => to_address(302, login.back, [session, rest]),
            Err(why) => failed(&why).field("Set-Cookie", rest).into(),
        }
    }

    /// The login that an answer is to; from now on it is used, whatever comes of it.
    fn login_of(&self, exchange: &Exchange, logins: &mut Vec<Login>) -> Result<Login, Failed> {
        if exchange.request.method != Method::Get {
            return Err(Failed::Refused("a provider sends browsers back with GET".to_owned()));
        }
        let state = parameter(exchange.request.query_text().unwrap_or_default(), "state")?;
        let state = state.ok_or_else(|| Failed::Refused("there is no `state`".to_owned()))?;
        let unknown = || Failed::Refused("the `state` is of no login that this browser has under way".to_owned());
        let at = logins.iter().position(|login| login.is_of(state.as_bytes())).ok_or_else(unknown)?;
        let login = logins.remove(at);
        let mark = login.mark().ok_or_else(unknown)?;
        let now = seconds(exchange);
        match self.spent.logins.note(mark, network(exchange), login.ends(), now) {
            Seen::First => Ok(login),
            Seen::Again => Err(Failed::Refused("the `state` was used before".to_owned())),
            Seen::Full => Err(Failed::Away("too many logins end at once".to_owned())),
        }
    }

    /// The cookie of the session that a login begins.
    async fn called_back(&self, exchange: &mut Exchange, login: &Login) -> Result<String, Failed> {
        let redirect = self.redirect(exchange)?;
        let query = exchange.request.query_text().unwrap_or_default().to_owned();
        let asked = Asked { scopes: &self.scopes, redirect: &redirect };
        let claims = self.provider.answer(&query, login, asked, exchange.wall).await?;
        let claims = self.kept_of(claims);
        let identity = self.telling.identity(claims.clone());
        let identity = identity.map_err(|why| Failed::Refused(format!("the login is not taken: {why}")))?;
        let new = Session::begin(claims, seconds(exchange)).ok_or_else(no_randomness)?;
        let Some(cookie) = self.session_cookie(&new, self.is_secure(exchange)) else {
            let why = "what the provider says is too much for a cookie; name what is needed in `session.claims`";
            return Err(Failed::Away(why.to_owned()));
        };
        exchange.remark = Some(format!("`{}` logged in", identity.subject.escape_debug()).into());
        Ok(cookie)
    }

    /// What of the claims a session holds.
    fn kept_of(&self, claims: Map<String, Value>) -> Map<String, Value> {
        let is_kept = |name: &String| {
            let is_listed = match &self.kept.listed {
                Some(listed) => listed.contains(name),
                None => !OF_TOKENS.contains(&name.as_str()),
            };
            is_listed || self.kept.named.contains(name)
        };
        claims.into_iter().filter(|(name, _)| is_kept(name)).collect()
    }

    /// Whether a page of this site asks to log out, or the user.
    pub(super) fn may_log_out(&self, exchange: &Exchange) -> Result<(), NoLogout> {
        if !matches!(exchange.request.method, Method::Get | Method::Post) {
            let fault = Fault::new(Reason::MethodNotAllowed, "a session is ended with GET or POST");
            return Err((fault.field("Allow", "GET, POST").into(), "the method is neither GET nor POST"));
        }
        site::judge(exchange, self.origin.as_slice()).map_err(|why| {
            let fault = Fault::new(Reason::Forbidden, "a session is ended by a page of this site");
            (Stop::Fault(fault.cause(why)), why)
        })
    }

    /// Ends the session, here and at the provider (OpenID Connect RP-Initiated Logout 1.0).
    pub(super) async fn logout(&self, exchange: &mut Exchange) -> Stop {
        if let Err((stop, _)) = self.may_log_out(exchange) {
            return stop;
        }
        let secure = self.is_secure(exchange);
        let cookie = self.cookies.set(Which::Session, "", 0, secure);
        let session = match self.cookies.find(exchange, Which::Session, secure) {
            Held::One(text) => self.lasting(text, exchange).ok(),
            Held::None | Held::Several => None,
        };
        let home = self.after_logout.written.clone();
        let Some((session, _)) = session else { return to_address(303, home, [cookie]) };
        match self.end(&session, exchange).await {
            Ok(true) => {}
            Ok(false) => return to_address(303, home, [cookie]),
            // the browser keeps its cookie, and can ask again
            Err(fault) => return fault.field("Cache-Control", "no-store").into(),
        }
        let name = self.telling.identity(session.claims).map(|identity| identity.subject).unwrap_or_default();
        exchange.remark = Some(format!("`{}` logged out", name.escape_debug()).into());
        let there = self.provider.endpoints().ok().and_then(|endpoints| endpoints.end_session);
        let to = match (there, &self.after_logout.url) {
            (None, _) => home,
            (Some(there), url) => {
                let mut query = Serializer::new(String::new());
                query.append_pair("client_id", &self.provider.client);
                match (url, self.site(exchange)) {
                    (Some(url), _) => query.append_pair("post_logout_redirect_uri", url.written()),
                    (None, Ok(site)) => query.append_pair("post_logout_redirect_uri", &format!("{site}{home}")),
                    (None, Err(_)) => &mut query,
                };
                with_query(&there, &query.finish())
            }
        };
        to_address(303, to, [cookie])
    }
}

impl Oidc {
    /// Ends a session: in force on every worker before this returns, and it lasts as far as there is a store. Whether it had not ended.
    async fn end(&self, session: &Session, exchange: &Exchange) -> Result<bool, Fault> {
        if self.accounts.has_ended(&session.id) {
            return Ok(false);
        }
        // a route with another `lifetime` may take it for longer than this one
        let until = self.spent.sessions.until(session.begun);
        match self.spent.sessions.note(session.id, network(exchange), until, seconds(exchange)) {
            Seen::First => {
                self.spent.ended.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
            }
            // the store may not have taken it
            Seen::Again if self.accounts.is_kept() => {}
            Seen::Again => return Ok(false),
            Seen::Full => {
                let fault = Fault::new(Reason::AuthUnavailable, "the session cannot be ended at the moment; try again");
                return Err(fault.cause("too many sessions were ended to remember another").field("Retry-After", "60"));
            }
        }
        if self.accounts.is_kept() {
            // by the clock of any gateway
            let until = until.saturating_add(AHEAD).saturating_mul(1000);
            let kept = self.accounts.end(&session.id, until, exchange.wall / 1_000_000).await;
            kept.map_err(|trouble| {
                let detail = "the session has ended here and may be good again elsewhere; try again";
                let why = format!("the end of a session is not kept and holds in this process alone: {trouble}");
                Fault::new(Reason::StoreUnavailable, detail).cause(&why).field("Retry-After", "1")
            })?;
        }
        Ok(true)
    }
}

/// Sends a browser elsewhere, with cookies.
pub(crate) fn to_address<const N: usize>(status: u16, to: String, cookies: [String; N]) -> Stop {
    let mut fields = vec![("Location".to_owned(), to)];
    fields.extend(cookies.map(|cookie| ("Set-Cookie".to_owned(), cookie)));
    fields.extend(PRIVATE.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Stop::Answer(Box::new(Answer { status, fields, ..Answer::default() }))
}

pub(crate) fn no_randomness() -> Failed {
    Failed::Away("there are no random numbers".to_owned())
}
