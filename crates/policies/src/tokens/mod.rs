//! `tokens`: where a route ends in a token service of the gateway's own. Gives out tokens, revokes them, tells what they stand for.

mod access;
#[cfg(feature = "saml")]
mod assertion;
#[cfg(not(feature = "saml"))]
#[path = "without_saml.rs"]
mod assertion;
mod clients;
mod code;
mod config;
mod form;
mod login;
mod published;
mod signing;
mod told;
pub(crate) mod throttle;
pub(crate) mod users;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use daemun_accounts::{Accounts, Issued, Kind, Mint, Refusal, Revoked, Token, Trouble};
use daemun_config::diagnostic::{self, nearest};
use daemun_config::model::{GrantType, Spanned, TokenFormat, TokenService};
use daemun_pipeline::{
    Answer, Bodies, BodyNeed, BuildContext, Exchange, Explanation, Fault, Flow, Identity, Method, Phase, Policy,
    PolicyConfig, Reason, Stop, World,
};
use serde_json::{Map, Value, json};

pub use config::{Endpoint, TokensConfig};

use crate::per_directory::PerDirectory;
use crate::token_auth::TokenAuthConfig;
use crate::{basic_auth, caller, key_auth};
use access::Minting;
use assertion::Assertions;
use clients::{Asking, Clients};
use code::Browsers;
use form::Form;
use login::{Login, Purpose};
use signing::Signing;
use throttle::Throttle;
use users::{Now, Users};

/// The service that a policy means: by its name, or the only one there is. `None` after an error was reported.
pub(crate) fn service<'a>(named: Option<&Spanned<String>>, ctx: &mut BuildContext<'a>) -> Option<&'a TokenService> {
    let services = ctx.token_services;
    let found = match named {
        Some(name) => services.iter().find(|service| service.name.value == name.value),
        None if services.len() == 1 => services.first(),
        None => None,
    };
    if found.is_none() {
        let known = || services.iter().map(|service| service.name.value.as_str());
        let (message, help) = match named {
            Some(name) => {
                let near = nearest(&name.value, known()).map(|near| format!("did you mean `{near}`?"));
                let help = near.unwrap_or_else(|| "`tokens` at the top defines token services by name".to_owned());
                (format!("there is no token service `{}`", name.value.escape_debug()), help)
            }
            None if services.is_empty() => {
                let message = "there is no token service".to_owned();
                (message, "define one at the top: `tokens: { shop: {} }`".to_owned())
            }
            None => {
                let names: Vec<String> = known().map(|name| format!("`{name}`")).collect();
                let help = format!("say which with `service: …`; there are {}", names.join(", "));
                ("there are several token services".to_owned(), help)
            }
        };
        ctx.error(diagnostic::UNKNOWN_TOKEN_SERVICE, message, Some(help));
    }
    found
}

impl PolicyConfig for TokensConfig {
    const NAME: &'static str = "tokens";
    const UNCONDITIONAL: Option<&'static str> = Some("a route ends in it");
    const ENDS: bool = true;

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let service = service(Some(&self.service), ctx)?;
        if self.endpoint == Endpoint::Introspect && !ctx.authenticated {
            let help = "give the route an authenticator, such as `key_auth`, for those who may ask";
            let message = "anybody could ask what tokens stand for";
            ctx.error(diagnostic::UNPROTECTED_ENDPOINT, message, Some(help.to_owned()));
            return None;
        }
        let signing = Signing::of(service, ctx).ok()?;
        let told = match self.endpoint {
            Endpoint::Jwks if signing.is_none() => {
                let message = format!("tokens of `{}` are opaque, so that there are no keys", service.name.value);
                let help = "sign them with `access: { format: jwt }` at the service, or drop the route";
                ctx.error(diagnostic::BAD_VALUE, message, Some(help.to_owned()));
                return None;
            }
            Endpoint::Metadata => {
                let Some(issuer) = &service.issuer else {
                    let message = format!("`{}` has no `issuer`, which clients would know it by", service.name.value);
                    let help = "write `issuer: https://api.example.com` at the service";
                    ctx.error(diagnostic::MISSING_KEY, message, Some(help.to_owned()));
                    return None;
                };
                published::describe(service, issuer, signing.is_some(), ctx.directory)
            }
            Endpoint::Token
            | Endpoint::Revoke
            | Endpoint::Introspect
            | Endpoint::Jwks
            | Endpoint::Authorize
            | Endpoint::Callback => String::new(),
        };
        let browsers = match self.endpoint.is_for_browsers() {
            true => Some(Box::new(Browsers::of(service, ctx)?)),
            false => None,
        };
        if !self.has_grants_of(service, ctx) {
            return None;
        }
        self.report_no_first_token(service, ctx);
        let (keys, _) = key_auth::Known::of(ctx);
        let (clients, _) = basic_auth::Known::of(ctx);
        let users = match service.grants.contains(&GrantType::Password) {
            true => Some(Users::of(&service.users, ctx)?),
            false => None,
        };
        let assertions = match &service.saml {
            Some(settings) if self.endpoint == Endpoint::Token && service.grants.contains(&GrantType::Saml2Bearer) => {
                Some(Assertions::build(settings, ctx)?)
            }
            Some(_) | None => None,
        };
        let policy = Tokens {
            name: service.name.value.as_str().into(),
            service: service.clone(),
            endpoint: self.endpoint,
            grants: self.grants,
            signing,
            metadata: told,
            keys,
            clients,
            known_clients: PerDirectory::of(ctx, "tokens.clients", Clients::new),
            browsers,
            users,
            assertions,
            accounts: Accounts::of(ctx.carry),
            throttle: Throttle::of(ctx.carry),
            world: Arc::clone(ctx.world),
        };
        Some(vec![(Phase::Transform, Box::new(policy) as Box<dyn Policy>)])
    }
}

impl TokensConfig {
    /// Whether the service gives for what a route gives for.
    fn has_grants_of(&self, service: &TokenService, ctx: &mut BuildContext<'_>) -> bool {
        let unknown = self.grants.iter().flatten().find(|grant| !service.grants.contains(grant));
        if let Some(grant) = unknown {
            let (grant, name) = (grant.as_str(), &service.name.value);
            let help = format!("add `{grant}` to `grants` of `tokens.{name}`, or take it out here");
            ctx.error(diagnostic::BAD_VALUE, format!("`{name}` gives no tokens for `{grant}`"), Some(help));
        }
        unknown.is_none()
    }

    /// Warns where whoever comes for a first token must show one. With several services it may be one of another.
    fn report_no_first_token(&self, service: &TokenService, ctx: &mut BuildContext<'_>) {
        let grants = self.grants.as_ref().unwrap_or(&service.grants);
        let is_first = match self.endpoint {
            Endpoint::Token => grants.iter().any(|grant| *grant != GrantType::RefreshToken),
            Endpoint::Authorize | Endpoint::Callback => true,
            Endpoint::Revoke | Endpoint::Introspect | Endpoint::Jwks | Endpoint::Metadata => false,
        };
        if is_first && ctx.token_services.len() == 1 && ctx.always.contains(&TokenAuthConfig::NAME) {
            let help = "switch it off for this route: `policies: { token_auth: off }`";
            let message = "nobody comes to a first token here, since `token_auth` asks for one";
            ctx.warning(diagnostic::CONTRADICTION, message, Some(help.to_owned()));
        }
    }
}

struct Tokens {
    name: Arc<str>,
    service: TokenService,
    endpoint: Endpoint,
    /// What tokens are given for here, where that is said.
    grants: Option<Vec<GrantType>>,
    /// Where access tokens are signed.
    signing: Option<Arc<Signing>>,
    /// What is told of the service, where that is asked.
    metadata: String,
    keys: Arc<PerDirectory<key_auth::Known>>,
    clients: Arc<PerDirectory<basic_auth::Known>>,
    /// Those that ask for logins of users.
    known_clients: Arc<PerDirectory<Clients>>,
    /// Where browsers come.
    browsers: Option<Box<Browsers>>,
    /// Where tokens are given for passwords.
    users: Option<Arc<PerDirectory<Users>>>,
    /// Where tokens are given for assertions.
    assertions: Option<Assertions>,
    accounts: Arc<Accounts>,
    throttle: Arc<Throttle>,
    world: Arc<dyn World>,
}

/// Fields of every answer: what it holds is for whoever asked alone (RFC 6749, section 5.1).
const PRIVATE: [(&str, &str); 3] =
    [("content-type", "application/json"), ("cache-control", "no-store"), ("pragma", "no-cache")];

impl Policy for Tokens {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Later(Box::pin(async move { Err(self.answer(exchange).await) }))
    }

    fn bodies(&self) -> Bodies {
        Bodies { request: !self.endpoint.is_read(), ..Bodies::default() }
    }

    fn request_body(&self, _: &Exchange) -> BodyNeed {
        if self.endpoint.is_read() {
            return BodyNeed::Untouched;
        }
        BodyNeed::Whole { max: form::MOST + self.assertions.as_ref().map_or(0, Assertions::longest) }
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn answers_at(&self) -> &[Box<str>] {
        self.browsers.as_ref().map_or(&[], |browsers| browsers.paths())
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        if !self.endpoint.takes(exchange.request.method) {
            return Explanation::stop(&self.method_not_allowed(), self.endpoint.asked_with());
        }
        let (does, name) = (self.endpoint, &self.name);
        let detail = match does {
            Endpoint::Token => match self.explain_token(exchange) {
                Ok(detail) => detail,
                Err(refused) => return self.explain_refusal(&refused),
            },
            Endpoint::Authorize | Endpoint::Callback => match &self.browsers {
                Some(browsers) => return self.explain_browser(browsers, exchange, does == Endpoint::Authorize),
                None => String::new(),
            },
            // a form is not at hand
            Endpoint::Revoke => match self.revoker(exchange, &Form::default(), Purpose::Words) {
                Ok(_) => format!("the service `{name}` would revoke the token in the body"),
                Err(refused) => return self.explain_refusal(&refused),
            },
            Endpoint::Introspect => format!("the service `{name}` would tell what the token in the body stands for"),
            Endpoint::Jwks => format!("the service `{name}` would tell the keys of its tokens"),
            Endpoint::Metadata => format!("the service `{name}` would tell where it is found"),
        };
        Explanation::stop(&Stop::Answer(Box::new(Answer { status: 200, ..Answer::default() })), detail)
    }
}

/// Why tokens are not given: what the client reads (RFC 6749, section 5.2), and what the log says.
pub(super) struct Refused {
    reason: Reason,
    error: &'static str,
    detail: &'static str,
    why: Cow<'static, str>,
    retry: Option<u64>,
    /// Whether a one-time password is missing and nothing else.
    otp_required: bool,
}

impl Refused {
    fn new(reason: Reason, error: &'static str, detail: &'static str, why: &'static str) -> Refused {
        Refused { reason, error, detail, why: why.into(), retry: None, otp_required: false }
    }

    fn malformed(why: &'static str) -> Refused {
        Refused::new(Reason::InvalidRequest, "invalid_request", why, why)
    }

    fn client(why: &'static str) -> Refused {
        Refused::new(Reason::Unauthenticated, "invalid_client", "the credentials are not good here", why)
    }

    fn grant(why: &'static str) -> Refused {
        Refused::new(Reason::InvalidGrant, "invalid_grant", "what the tokens are asked for is not good here", why)
    }

    /// The same of what stood in a header: RFC 6749, section 5.2, has 400 for forms, and clients with a header of their own know 401.
    fn of_header(self, in_head: bool) -> Refused {
        if in_head { Refused { reason: Reason::Unauthenticated, ..self } } else { self }
    }

    #[cold]
    fn stop(&self) -> Stop {
        let mut fault = Fault::new(self.reason, self.detail).cause(&self.why);
        for (name, value) in PRIVATE {
            fault = fault.field(name, value);
        }
        if let Some(seconds) = self.retry {
            fault = fault.field("Retry-After", seconds.to_string());
        }
        if self.otp_required {
            fault = fault.member("otp_required", true.into());
        }
        fault.member("error", self.error.into()).member("error_description", self.detail.into()).into()
    }
}

impl Endpoint {
    /// Whether it is read, by anybody.
    fn is_read(self) -> bool {
        match self {
            Endpoint::Token | Endpoint::Revoke | Endpoint::Introspect => false,
            Endpoint::Jwks | Endpoint::Metadata | Endpoint::Authorize | Endpoint::Callback => true,
        }
    }

    fn is_for_browsers(self) -> bool {
        matches!(self, Endpoint::Authorize | Endpoint::Callback)
    }

    fn takes(self, method: Method) -> bool {
        match (self.is_read(), method) {
            (false, method) => method == Method::Post,
            (true, Method::Get) => true,
            // whoever asks for the head alone must not use up a login
            (true, method) => method == Method::Head && !self.is_for_browsers(),
        }
    }

    fn allowed(self) -> &'static str {
        match (self.is_read(), self.is_for_browsers()) {
            (false, _) => "POST",
            (true, false) => "GET, HEAD",
            (true, true) => "GET",
        }
    }

    fn asked_with(self) -> &'static str {
        if self.is_read() { "this is asked for with GET" } else { "a token service is asked with POST" }
    }
}

fn trouble(trouble: &Trouble) -> Stop {
    let busy = |reason, error, detail: &'static str| Refused {
        retry: Some(1),
        ..Refused::new(reason, error, detail, "there is trouble with the store")
    };
    match trouble {
        Trouble::Refused(Refusal::Scope) => {
            let detail = "more is asked for than was given";
            Refused::new(Reason::InvalidRequest, "invalid_scope", detail, detail).stop()
        }
        Trouble::Refused(refusal) => Refused::grant(refusal.as_str()).stop(),
        Trouble::TooMany => {
            let refused = busy(Reason::RateLimited, "slow_down", "there are too many tokens; let some end first");
            Refused { retry: Some(60), why: "the caller has as many tokens as it may".into(), ..refused }.stop()
        }
        Trouble::Busy
        | Trouble::Store(_)
        | Trouble::NoRandomness
        | Trouble::Unsigned(_)
        | Trouble::None
        | Trouble::There
        | Trouble::Changed => {
            let refused = busy(Reason::StoreUnavailable, "temporarily_unavailable", "tokens cannot be kept just now");
            match refused.stop() {
                Stop::Fault(fault) => Stop::Fault(fault.cause(trouble)),
                answer @ Stop::Answer(_) => answer,
            }
        }
    }
}

fn answer(value: &Value) -> Stop {
    answer_text(value.to_string())
}

fn answer_text(text: String) -> Stop {
    Stop::Answer(Box::new(Answer {
        status: 200,
        fields: PRIVATE.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: text.into(),
    }))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Tokens {
    async fn answer(&self, exchange: &mut Exchange) -> Stop {
        if !self.endpoint.takes(exchange.request.method) {
            return self.method_not_allowed();
        }
        if let Some(browsers) = &self.browsers {
            return match self.endpoint == Endpoint::Callback {
                true => self.callback(browsers, exchange).await,
                false => self.authorize(browsers, exchange).await,
            };
        }
        match self.endpoint {
            Endpoint::Jwks => self.jwks(exchange.wall / 1_000_000).await,
            Endpoint::Metadata => published::metadata(self.metadata.clone()),
            Endpoint::Token | Endpoint::Revoke | Endpoint::Introspect => self.asked(exchange).await,
            // these have what they need where they were built
            Endpoint::Authorize | Endpoint::Callback => self.method_not_allowed(),
        }
    }

    #[cold]
    fn method_not_allowed(&self) -> Stop {
        let fault = Fault::new(Reason::MethodNotAllowed, self.endpoint.asked_with());
        fault.field("Allow", self.endpoint.allowed()).into()
    }

    async fn jwks(&self, now: u64) -> Stop {
        let Some(signing) = &self.signing else { return trouble(&Trouble::None) };
        match signing.published(now).await {
            Ok((set, age)) => published::keys(set, age),
            Err(failed) => trouble(&failed),
        }
    }

    /// What makes access tokens where they are signed; without it they are opaque.
    fn minting(&self) -> Option<Minting<'_>> {
        let (Some(signing), TokenFormat::Jwt(how)) = (&self.signing, &self.service.format) else { return None };
        Some(Minting { signing, how, directory: &self.keys.directory, world: &*self.world })
    }

    async fn asked(&self, exchange: &mut Exchange) -> Stop {
        let form = match Form::of(exchange) {
            Ok(form) => form,
            Err(why) => return Refused::malformed(why).stop(),
        };
        match self.endpoint {
            Endpoint::Token => self.token(exchange, &form).await,
            Endpoint::Revoke => self.revoke(exchange, &form).await,
            Endpoint::Introspect => self.introspect(exchange, &form).await,
            Endpoint::Jwks | Endpoint::Metadata | Endpoint::Authorize | Endpoint::Callback => self.method_not_allowed(),
        }
    }

    /// What would be given; a form is not at hand.
    fn explain_token(&self, exchange: &Exchange) -> Result<String, Refused> {
        let name = &self.name;
        Ok(match self.login(exchange, &Form::default(), Purpose::Words) {
            Ok(Login::Caller(caller)) => format!("the service `{name}` would give tokens to `{}`", caller.subject),
            Ok(Login::Refresh(_)) => format!("the service `{name}` would give tokens for a refresh token"),
            Ok(Login::Code(_)) => format!("the service `{name}` would give tokens for a code"),
            Ok(Login::Password) => self.in_the_body("the username and the password"),
            Ok(Login::Assertion) => self.in_the_body("the assertion"),
            Err(refused) if refused.error != "invalid_request" => return Err(refused),
            Err(refused) => {
                let what = [
                    (GrantType::AuthorizationCode, "the client and the code"),
                    (GrantType::Password, "the username and the password"),
                    (GrantType::Saml2Bearer, "the assertion"),
                ];
                let what: Vec<&str> =
                    what.into_iter().filter(|(grant, _)| self.gives_for(*grant)).map(|(_, what)| what).collect();
                if what.is_empty() {
                    return Err(refused);
                }
                self.in_the_body(&what.join(", or "))
            }
        })
    }

    fn explain_refusal(&self, refused: &Refused) -> Explanation {
        Explanation::stop(&self.refuse(refused), format!("the service `{}`: {}", self.name, refused.why))
    }

    fn in_the_body(&self, what: &str) -> String {
        format!("the service `{}` would check {what} in the body", self.name)
    }

    /// What is told of a request whose credentials are not good.
    #[cold]
    fn refuse(&self, refused: &Refused) -> Stop {
        match refused.stop() {
            Stop::Fault(fault) if refused.reason == Reason::Unauthenticated => {
                fault.field("WWW-Authenticate", self.service.challenge.as_str()).into()
            }
            stop @ (Stop::Fault(_) | Stop::Answer(_)) => stop,
        }
    }

    async fn token(&self, exchange: &mut Exchange, form: &Form) -> Stop {
        let login = match self.login(exchange, form, Purpose::Tokens) {
            Ok(login) => login,
            Err(refused) => return self.refuse(&refused),
        };
        let now = exchange.wall / 1_000_000;
        let lifetimes = (millis(self.service.access), self.service.refresh.map(millis));
        let login = match login {
            Login::Password => match self.by_password(exchange, form).await {
                Ok(caller) => Login::Caller(caller),
                Err(refused) => return self.refuse(&refused),
            },
            Login::Refresh(shown) => {
                let known = match self.accounts.find_anywhere(shown.token.as_bytes()).await {
                    Ok(known) => known,
                    Err(failed) => return trouble(&failed),
                };
                match self.may_refresh(exchange, form, &shown, known.as_deref()) {
                    Ok(()) => Login::Refresh(shown),
                    Err(refused) => return self.refuse(&refused),
                }
            }
            Login::Assertion => match self.by_assertion(exchange, form).await {
                Ok(caller) => Login::Caller(caller),
                Err(refused) => return self.refuse(&refused),
            },
            other @ (Login::Caller(_) | Login::Code(_)) => other,
        };
        let in_head = matches!(&login, Login::Refresh(shown) if shown.in_head);
        let given = match login {
            // there is none any more
            Login::Password | Login::Assertion => Err(Refusal::Unknown.into()),
            Login::Caller(caller) => {
                let scopes = match login::scopes(form, &caller.scopes) {
                    Ok(scopes) => scopes,
                    Err(refused) => return refused.stop(),
                };
                exchange.remark = Some(format!("tokens for `{}`, by {}", caller.subject, caller.credential).into());
                let asked = caller.ask(&self.name, &self.service, scopes);
                let minting = self.minting();
                let mint = minting.as_ref().map(|minting| minting as &dyn Mint);
                self.accounts.issue(mint, asked, now).await
            }
            Login::Refresh(shown) => self.refresh(exchange, form, &shown.token, lifetimes, now).await,
            Login::Code(shown) => self.redeem(exchange, &shown, lifetimes, now).await,
        };
        match given {
            Ok(issued) => told::answer(&issued, &self.service.answer, now),
            Err(Trouble::Refused(refusal)) if in_head && refusal != Refusal::Scope => {
                exchange.remark = None;
                self.refuse(&Refused::grant(refusal.as_str()).of_header(true))
            }
            Err(failed) => {
                exchange.remark = None;
                trouble(&failed)
            }
        }
    }

    async fn refresh(
        &self,
        exchange: &mut Exchange,
        form: &Form,
        token: &str,
        (access, refresh): (u64, Option<u64>),
        now: u64,
    ) -> Result<Issued, Trouble> {
        let Some(refresh) = refresh else { return Err(Refusal::Unknown.into()) };
        let most = self.service.most;
        let held = self.accounts.find(token.as_bytes()).ok_or(Refusal::Unknown)?.grant.identity();
        if !self.may_go_on(&held, now) {
            return Err(Refusal::Revoked.into());
        }
        let asked = form.get("scope").map(login::words);
        let left = self.scopes_left(&held, now);
        let now_is = match users::as_of_now(Some(&self.keys.directory), &held) {
            Now::Same => left.is_some().then(|| Identity::clone(&held)),
            Now::Changed(identity) => Some(*identity),
            Now::Gone => return Err(Refusal::Revoked.into()),
        };
        // what is given out next says who the holder is now
        if let Some(mut identity) = now_is {
            identity.scopes = left.clone().unwrap_or(identity.scopes);
            drop(self.accounts.set_identity(token.as_bytes(), identity));
        }
        // of the token itself as well, so that it is kept
        let scopes = asked.or(left);
        let minting = self.minting();
        let mint = minting.as_ref().map(|minting| minting as &dyn Mint);
        let (token, lifetimes) = ((token.as_bytes(), &*self.name), (access, refresh));
        let given = self.accounts.refresh(mint, token, lifetimes, scopes, most, now).await;
        match given {
            Ok((issued, identity)) => {
                exchange.remark = Some(format!("tokens for `{}`, by a refresh token", identity.subject).into());
                Ok(issued)
            }
            Err(Trouble::Refused(Refusal::Reused)) => {
                let address = exchange.client.ip;
                let what = format!("a refresh token was used twice, from {address}: all of its login is revoked");
                self.world.tell("token_reused", what);
                Err(Refusal::Reused.into())
            }
            Err(failed) => Err(failed),
        }
    }

    /// Whether the name of a login's holder has come to be another's: of a consumer, or of a user of the configuration where the holder is a
    /// consumer of the store.
    fn has_lost_name(&self, held: &Identity) -> bool {
        let (directory, name) = (&self.keys.directory, &*held.subject);
        if held.consumer.is_some() {
            false
        } else if self.accounts.is_of_store(held) {
            directory.has_name(name)
        } else {
            directory.find(name).is_some() || self.accounts.has_consumer(name)
        }
    }

    /// What is left of the scopes of a login, where some have been taken away since from whoever may have them.
    fn scopes_left(&self, held: &Identity, now: u64) -> Option<Vec<String>> {
        let may = self.may_have(held, now)?;
        let left: Vec<String> = held.scopes.iter().filter(|scope| may.contains(scope)).cloned().collect();
        (left.len() < held.scopes.len()).then_some(left)
    }

    /// The scopes that the holder of a login may have now: a consumer or a user of the configuration, or the client that it was for. None where
    /// that is not to be known.
    fn may_have(&self, held: &Identity, now: u64) -> Option<Cow<'_, [String]>> {
        let directory = &self.keys.directory;
        if clients::of_client(held).is_some() {
            return self.client_of_login(held, now).map(|client| client.scopes.into());
        }
        let consumer = held.consumer.as_deref().and_then(|name| directory.find(name));
        if let Some(consumer) = consumer.and_then(|id| directory.get(id)) {
            return Some(consumer.scopes.as_slice().into());
        }
        let of_user = held.credential.as_deref().is_some_and(|id| id.starts_with("user:"));
        directory.user(&held.subject).filter(|_| of_user).map(|user| user.scopes.as_slice().into())
    }

    /// Answers alike whether there was such a token (RFC 7009, section 2.2). Whoever is known may revoke only what is theirs.
    async fn revoke(&self, exchange: &mut Exchange, form: &Form) -> Stop {
        let client = match self.revoker(exchange, form, Purpose::Tokens) {
            Ok(client) => client,
            Err(refused) => return self.refuse(&refused),
        };
        let Some(text) = form.get("token") else { return Refused::malformed("`token` is missing").stop() };
        let now = exchange.wall / 1_000_000;
        let token = match self.accounts.find_anywhere(text.as_bytes()).await {
            Ok(token) => token,
            Err(failed) => return trouble(&failed),
        };
        let Some(token) = token.filter(|token| *token.grant.service == *self.name) else {
            return answer(&json!({}));
        };
        let identity = token.grant.identity();
        // an anonymous caller has shown no more than nobody has
        let is_theirs = match &client {
            Some(client) => self.is_of(client, &identity, now),
            None => !exchange.is_proven() || self.is_own(exchange, &identity),
        };
        if !is_theirs {
            return answer(&json!({}));
        }
        match self.accounts.revoke(&Revoked::Token(text.to_owned()), None, now).await {
            Ok(_) => {
                exchange.remark = Some(format!("a token of `{}` was revoked", identity.subject).into());
                answer(&json!({}))
            }
            Err(failed) => trouble(&failed),
        }
    }

    /// Whether a token is the caller's: its holder, or the client that it was given to.
    fn is_own(&self, exchange: &Exchange, identity: &Identity) -> bool {
        let of_store = || exchange.identity.as_ref().is_some_and(|caller| self.accounts.is_of_store(caller));
        exchange.consumer_name() == Some(&*identity.subject)
            || self.client_of_login(identity, exchange.wall / 1_000_000).is_some_and(|client| match client.consumer {
                Asking::Declared(consumer) => exchange.consumer == Some(consumer),
                Asking::Stored(name) => exchange.consumer_name() == Some(&name) && of_store(),
            })
    }

    async fn introspect(&self, exchange: &Exchange, form: &Form) -> Stop {
        let Some(text) = form.get("token") else { return Refused::malformed("`token` is missing").stop() };
        let now = exchange.wall / 1_000_000;
        let token = match self.accounts.find_anywhere(text.as_bytes()).await {
            Ok(token) => token,
            Err(failed) => return trouble(&failed),
        };
        let good = token.filter(|token| self.is_active(token, now));
        let Some(token) = good else { return answer(&json!({ "active": false })) };
        let identity = token.identity();
        let mut told = Map::clone(&identity.claims);
        told.extend([
            ("active".to_owned(), true.into()),
            ("sub".to_owned(), (*identity.subject).into()),
            ("iat".to_owned(), (token.issued / 1000).into()),
            ("exp".to_owned(), (token.expires / 1000).into()),
        ]);
        if token.kind == Kind::Access {
            told.insert("token_type".to_owned(), "Bearer".into());
        }
        // what a refresh token would be given now
        let left = if token.kind == Kind::Refresh { self.scopes_left(&identity, now) } else { None };
        let scopes = left.as_ref().unwrap_or(&identity.scopes);
        if !scopes.is_empty() {
            told.insert("scope".to_owned(), scopes.join(" ").into());
        }
        if let Some(issuer) = &self.service.issuer {
            told.insert("iss".to_owned(), issuer.as_str().into());
        }
        if token.kind == Kind::Access
            && let TokenFormat::Jwt(how) = &self.service.format
        {
            told.insert("aud".to_owned(), how.audience.as_slice().into());
            told.insert("jti".to_owned(), token.name().into());
            told.insert("client_id".to_owned(), access::client_of(&identity).into());
        }
        answer(&Value::Object(told))
    }

    /// Whether a token does what it is for at a moment: lets its holder in where [`token_auth`](crate::token_auth) asks for it, or is
    /// given another pair for. What is asked there is asked here.
    fn is_active(&self, token: &Token, now: u64) -> bool {
        let identity = token.identity();
        match token.kind {
            Kind::Access => {
                let (accounts, directory) = (&self.accounts, &self.keys.directory);
                let is_gone = || {
                    matches!(users::as_of_now(Some(directory), &identity), Now::Gone)
                        || users::has_name_of_user(Some(directory), accounts, &identity)
                };
                let is_good = accounts.judge(token, Kind::Access, &self.name, now).is_ok();
                is_good && !is_gone() && caller::may_call(directory, &identity)
            }
            Kind::Refresh => {
                let gives = self.service.refresh.is_some() && self.service.grants.contains(&GrantType::RefreshToken);
                let is_good = gives && !token.is_spent();
                is_good && self.accounts.may_refresh(token, &self.name, now).is_ok() && self.may_go_on(&identity, now)
            }
            Kind::Code => false,
        }
    }

    /// Whether the holder of a login may still be given more for it: as a consumer or a user of the configuration, or through the client that
    /// it was for.
    fn may_go_on(&self, held: &Identity, now: u64) -> bool {
        let directory = &self.keys.directory;
        let is_gone = !login::is_still_declared(directory, held, now)
            || self.has_lost_name(held)
            || matches!(users::as_of_now(Some(directory), held), Now::Gone);
        !is_gone && (clients::of_client(held).is_none() || self.may_for_client(held, now).is_ok())
    }

    /// Whether tokens are given for this here.
    fn gives_for(&self, grant: GrantType) -> bool {
        self.grants.as_ref().unwrap_or(&self.service.grants).contains(&grant)
    }
}
