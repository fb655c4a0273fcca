//! Logins of users for clients, with a browser (RFC 6749, section 4.1): sends the browser to an OpenID provider, takes it back, and sends it on
//! to the client with a one-time code. What is under way is kept by the browser; nothing of it is kept here.

mod pending;
mod redeem;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_accounts::{Bound, Trouble, text};
use daemun_config::decode::WebUrl;
use daemun_config::diagnostic;
use daemun_config::model::{GrantType, TokenService};
use daemun_pipeline::identity::is_sendable;
use daemun_pipeline::{Answer, BuildContext, Exchange, Explanation, Fault, Reason, Stop};
use form_urlencoded::Serializer;

pub(super) use redeem::Shown;

use super::clients::Known;
use super::login::{each_once, is_revocable};
use super::{Tokens, millis};
use crate::claims::{Telling, Wanted};
use crate::oidc::cookies::{Cookies, Held, Which};
use crate::oidc::login::to_address;
use crate::oidc::provider::{Asked as ToProvider, Failed, Provider, Settings, parameter, with_query};
use crate::oidc::session::{LOGIN_LASTS, Login};
use crate::oidc::{MOST_USED, USED_SHARES, network};
use crate::replay::{Replay, Seen};
use pending::{Asked, Pending, Seals};
use request::{Back, Bad, NO_CLIENT};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// What a browser is shown that comes back from no login of its own.
const NO_LOGIN: &str = "no such login is under way in this browser; begin again in the application";

/// What sends browsers to the provider and takes them back, for one service.
pub(super) struct Browsers {
    provider: Provider,
    telling: Telling,
    /// What the provider is asked for.
    scopes: String,
    cookies: Cookies,
    seals: Seals,
    /// Logins that have ended.
    used: Arc<Replay>,
    /// Where the provider sends browsers back to.
    callback: String,
    /// Whether that is HTTPS.
    secure: bool,
    /// Paths where browsers come.
    paths: [Box<str>; 2],
    /// Who the service says it is.
    issuer: String,
}

/// Why a login comes to nothing: what the client is told, and what the log says.
struct Ended {
    error: &'static str,
    description: &'static str,
    why: String,
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Ended {
        match failed {
            Failed::Away(why) => Ended::away(why),
            Failed::Refused(why) => Ended::denied(why),
        }
    }
}

impl Ended {
    fn away(why: impl Into<String>) -> Ended {
        let description = "nobody can be logged in at the moment";
        Ended { error: "temporarily_unavailable", description, why: why.into() }
    }

    fn denied(why: impl Into<String>) -> Ended {
        Ended { error: "access_denied", description: "the login is not taken", why: why.into() }
    }
}

impl Browsers {
    /// For a service that gives tokens for codes. `None` after an error was reported.
    pub(super) fn of(service: &TokenService, ctx: &mut BuildContext<'_>) -> Option<Browsers> {
        let gives = service.grants.contains(&GrantType::AuthorizationCode);
        let (Some(settings), Some(issuer), true) = (&service.provider, &service.issuer, gives) else {
            let message = format!("`{}` gives no tokens for logins in a browser", service.name.value);
            let help = "add `authorization_code` to its `grants`, and a `provider`, or drop the route";
            ctx.error(diagnostic::BAD_VALUE, message, Some(help.to_owned()));
            return None;
        };
        let telling = Telling {
            subject: settings.subject.clone(),
            consumer: None,
            roles: settings.roles.clone(),
            groups: settings.groups.clone(),
            scopes: Vec::new(),
        };
        let wanted = settings.claims.iter().map(|(path, values)| Wanted { path: path.clone(), values: values.clone() });
        let provider = Settings {
            issuer: &settings.issuer,
            client: &settings.client_id,
            secret: &settings.client_secret.0,
            ca: settings.ca.as_ref(),
            timeout: settings.timeout,
            leeway: settings.leeway,
            userinfo: settings.userinfo,
            wanted: wanted.collect(),
            telling: telling.clone(),
        };
        let name = &service.name.value;
        let (authorize, callback) =
            (WebUrl::parse(&service.urls.authorize).ok()?, WebUrl::parse(&service.urls.callback).ok()?);
        let secrets = settings.secrets.iter().map(|secret| secret.0.as_str());
        Some(Browsers {
            // what is wrong with these was reported when the settings were read
            provider: Provider::begin(provider, ctx)?,
            seals: Seals::new(secrets, issuer, name)?,
            secure: callback.is_https(),
            paths: [authorize, callback].map(|url| url.target().split('?').next().unwrap_or_default().into()),
            telling,
            scopes: settings.scopes.join(" "),
            // services of one site have a cookie each, and not every name can be that of one
            cookies: Cookies::new(&text::id_of("daemun-tokens", &text::digest(name.as_bytes())).replace(':', "-")),
            used: ctx.carry.get_or(&format!("tokens.{name}"), "logins", || Replay::new(MOST_USED, USED_SHARES)),
            callback: service.urls.callback.clone(),
            issuer: issuer.clone(),
        })
    }

    /// Paths where browsers come.
    pub(super) fn paths(&self) -> &[Box<str>] {
        &self.paths
    }

    fn is_secure(&self, exchange: &Exchange) -> bool {
        self.secure || exchange.is_https()
    }

    /// The logins of this browser that are under way.
    fn pending(&self, exchange: &Exchange) -> Vec<Pending> {
        match self.cookies.find(exchange, Which::Login, self.is_secure(exchange)) {
            Held::One(text) if text.len() <= self.cookies.room(Which::Login) => {
                self.seals.open(text, exchange.wall / SECOND)
            }
            Held::One(_) | Held::None | Held::Several => Vec::new(),
        }
    }

    /// The field that has the browser keep these.
    fn keep(&self, pending: &[Pending], exchange: &Exchange) -> Option<String> {
        let held = self.seals.seal(pending, self.cookies.room(Which::Login))?;
        Some(self.cookies.set(Which::Login, &held, LOGIN_LASTS, self.is_secure(exchange)))
    }

    /// Where a browser goes that is sent back to a client (RFC 6749, section 4.1.2; RFC 9207, section 2).
    fn back(&self, redirect: &str, state: Option<&str>, told: &[(&str, &str)]) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(told).extend_pairs(state.map(|state| ("state", state)));
        with_query(redirect, &query.append_pair("iss", &self.issuer).finish())
    }

    fn error(&self, back: &Back) -> String {
        self.back(&back.redirect, back.state.as_deref(), &[("error", back.error), ("error_description", back.why)])
    }
}

/// An error that the browser is shown here.
#[cold]
fn page(detail: &'static str, cause: &str) -> Fault {
    Fault::new(Reason::InvalidRequest, detail).cause(cause).field("Cache-Control", "no-store")
}

/// What tokens are for, of what the client may have now.
fn scopes_of(asked: &Asked, client: &Known) -> Result<Vec<String>, &'static str> {
    match &asked.scopes {
        None => Ok(each_once(client.scopes.iter().map(String::as_str))),
        Some(wanted) if wanted.iter().all(|scope| client.scopes.contains(scope)) => Ok(wanted.clone()),
        Some(_) => Err("the client may not have a scope any more that it asked for"),
    }
}

impl Tokens {
    /// Sends a browser to the provider.
    pub(super) async fn authorize(&self, browsers: &Browsers, exchange: &mut Exchange) -> Stop {
        let asked = match self.asked_for(exchange) {
            Ok(asked) => asked,
            Err(Bad::Page { detail, why }) => return page(detail, why).into(),
            Err(Bad::Back(back)) => {
                exchange.remark = Some(format!("{}: {}", back.error, back.why).into());
                return to_address(302, browsers.error(&back), []);
            }
        };
        let (redirect, state) = (asked.redirect.clone(), asked.state.clone());
        match self.begin(browsers, exchange, asked).await {
            Ok((to, cookie)) => to_address(302, to, [cookie]),
            Err(ended) => {
                exchange.remark = Some(ended.why.into());
                let told = [("error", ended.error), ("error_description", ended.description)];
                to_address(302, browsers.back(&redirect, state.as_deref(), &told), [])
            }
        }
    }

    /// Where the browser goes, and what it keeps meanwhile.
    async fn begin(&self, browsers: &Browsers, exchange: &Exchange, asked: Asked) -> Result<(String, String), Ended> {
        let endpoints = browsers.provider.known_endpoints().await?;
        let login = Login::begin("/", exchange.wall / SECOND);
        let login = login.ok_or_else(|| Ended::away("there are no random numbers"))?;
        let to = browsers.provider.login_at(&endpoints, &login, &browsers.scopes, &browsers.callback);
        let mut pending = browsers.pending(exchange);
        pending.push(Pending { login, asked });
        let cookie = browsers.keep(&pending, exchange).ok_or_else(|| Ended {
            error: "invalid_request",
            description: "`redirect_uri`, `state` and `scope` are too long together",
            why: "what is asked for is too much for a cookie".to_owned(),
        })?;
        Ok((to, cookie))
    }

    /// Takes a browser that comes back from the provider, and sends it on to the client.
    pub(super) async fn callback(&self, browsers: &Browsers, exchange: &mut Exchange) -> Stop {
        let mut pending = browsers.pending(exchange);
        let Pending { login, asked } = match self.login_of(browsers, exchange, &mut pending) {
            Ok(found) => found,
            Err(fault) => return fault.into(),
        };
        // the others may still end
        let gone = || browsers.cookies.set(Which::Login, "", 0, browsers.is_secure(exchange));
        let rest = browsers.keep(&pending, exchange).unwrap_or_else(gone);
        if let Err(why) = self.may_ask(&asked.client, &asked.redirect, exchange.wall / 1_000_000) {
            return page(NO_CLIENT, why).field("Set-Cookie", rest).into();
        }
        let state = asked.state.as_deref();
        let to = match self.called_back(browsers, exchange, &login, &asked).await {
            Ok(code) => browsers.back(&asked.redirect, state, &[("code", &code)]),
            Err(ended) => {
                exchange.remark = Some(ended.why.into());
                let told = [("error", ended.error), ("error_description", ended.description)];
                browsers.back(&asked.redirect, state, &told)
            }
        };
        to_address(302, to, [rest])
    }

    /// The login that an answer of the provider is to; from now on it is used, whatever comes of it.
    fn login_of(&self, browsers: &Browsers, exchange: &Exchange, all: &mut Vec<Pending>) -> Result<Pending, Fault> {
        let query = exchange.request.query_text().unwrap_or_default();
        let state = match parameter(query, "state") {
            Ok(state) => state.unwrap_or_default(),
            Err(_) => return Err(page(NO_LOGIN, "`state` stands twice")),
        };
        let unknown = || page(NO_LOGIN, "the `state` is of no login that this browser has under way");
        let at = all.iter().position(|one| one.login.is_of(state.as_bytes())).ok_or_else(unknown)?;
        let found = all.remove(at);
        let mark = found.login.mark().ok_or_else(unknown)?;
        let now = exchange.wall / SECOND;
        match browsers.used.note(mark, network(exchange), found.login.ends(), now) {
            Seen::First => Ok(found),
            Seen::Again => Err(page(NO_LOGIN, "the `state` was used before")),
            Seen::Full => {
                let fault = Fault::new(Reason::AuthUnavailable, "nobody can be logged in at the moment");
                Err(fault.cause("too many logins end at once").field("Retry-After", "5"))
            }
        }
    }

    /// The one-time code of whoever logged in.
    async fn called_back(
        &self,
        browsers: &Browsers,
        exchange: &mut Exchange,
        login: &Login,
        asked: &Asked,
    ) -> Result<String, Ended> {
        let query = exchange.request.query_text().unwrap_or_default().to_owned();
        let at = ToProvider { scopes: &browsers.scopes, redirect: &browsers.callback };
        let claims = browsers.provider.answer(&query, login, at, exchange.wall).await?;
        let identity = browsers.telling.identity(claims);
        let identity = identity.map_err(|why| Ended::denied(format!("the login is not taken: {why}")))?;
        self.let_in(&identity.subject).map_err(Ended::denied)?;
        let now = exchange.wall / 1_000_000;
        // what was asked for lies a while back
        let client = self.may_ask(&asked.client, &asked.redirect, now).map_err(Ended::denied)?;
        let scopes = scopes_of(asked, &client).map_err(Ended::denied)?;
        let wanted = daemun_accounts::Asked {
            service: Arc::clone(&self.name),
            subject: identity.subject.clone(),
            consumer: false,
            // revoking the client revokes what was given out through it
            credential: client.credential.as_str().into(),
            roles: identity.roles,
            groups: identity.groups,
            scopes,
            claims: serde_json::Map::new(),
            access: millis(self.service.access),
            refresh: self.service.refresh.map(millis),
            longest: millis(self.service.longest),
            most: self.service.most,
        };
        let bound = Bound { client: &client.bound, redirect: &asked.redirect, challenge: &asked.challenge };
        let code = self.accounts.issue_code(wanted, &bound, now).await;
        let code = code.map_err(|trouble: Trouble| Ended::away(trouble.to_string()))?;
        let subject = identity.subject.escape_debug();
        exchange.remark =
            Some(format!("`{subject}` logged in for the client `{}`", asked.client.escape_debug()).into());
        Ok(code)
    }

    /// Refuses a user of the provider who would share the permissions of a consumer or of a user who is known here, whom no upstream could
    /// be told of, or whose tokens could not be taken back by name.
    fn let_in(&self, name: &str) -> Result<(), &'static str> {
        let directory = &self.known_clients.directory;
        if directory.find(name).is_some() || self.accounts.consumer(name).is_some() {
            return Err("a consumer has the user's name");
        }
        if directory.user(name).is_some() {
            return Err("a user of the configuration has the name");
        }
        if !is_sendable(name) {
            return Err("the user's name cannot be sent in a header");
        }
        if !is_revocable(name) {
            return Err("the user's name is longer than 256 bytes, or has a control character");
        }
        Ok(())
    }

    /// What would become of a browser.
    pub(super) fn explain_browser(&self, browsers: &Browsers, exchange: &Exchange, begins: bool) -> Explanation {
        let (name, issuer) = (&self.name, &browsers.provider.issuer);
        let redirect = Stop::Answer(Box::new(Answer { status: 302, ..Answer::default() }));
        if begins {
            return match self.asked_for(exchange) {
                Ok(asked) => {
                    let why = format!(
                        "the service `{name}` would send the browser to `{issuer}` to log in, for the client `{}`; it would come back at `{}`, \
                         and go on to `{}` with a code",
                        asked.client.escape_debug(),
                        browsers.callback,
                        asked.redirect.escape_debug()
                    );
                    Explanation::stop(&redirect, why)
                }
                Err(Bad::Back(back)) => {
                    let to = back.redirect.escape_debug();
                    let why = format!("the browser would be sent back to `{to}` with `{}`: {}", back.error, back.why);
                    Explanation::stop(&redirect, why)
                }
                Err(Bad::Page { detail, why }) => {
                    Explanation::stop(&page(detail, why).into(), format!("the browser would be shown an error: {why}"))
                }
            };
        }
        let state = parameter(exchange.request.query_text().unwrap_or_default(), "state").ok().flatten();
        let state = state.unwrap_or_default();
        let pending = browsers.pending(exchange);
        match pending.iter().find(|one| one.login.is_of(state.as_bytes())) {
            Some(one) => {
                let why = format!(
                    "`{issuer}` would be asked for what its answer stands for, and is not from here; the browser would go on to `{}`, with a code \
                     or an error",
                    one.asked.redirect.escape_debug()
                );
                Explanation::stop(&redirect, why)
            }
            None => {
                let why = "the `state` is of no login that this browser has under way";
                Explanation::stop(&page(NO_LOGIN, why).into(), format!("the browser would be shown an error: {why}"))
            }
        }
    }
}
