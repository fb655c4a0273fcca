//! Who asks a token service, and with what. Gives nothing out.

use std::sync::Arc;

use daemun_accounts::{Asked, text};
use daemun_config::model::{GrantType, TokenService};
use daemun_pipeline::{Exchange, Reason};

use super::form::Form;
use super::throttle::Try;
use super::users;
use super::{Refused, Tokens, millis};
use crate::basic_auth::presented;
use crate::presented::{Absent, Sources};

/// Who asks.
pub(super) enum Login {
    /// Somebody with a credential.
    Caller(Caller),
    /// Whoever holds this refresh token.
    Refresh(String),
    /// A user, who is still to be asked for.
    Password,
}

/// Somebody with a credential.
pub(super) struct Caller {
    pub(super) subject: Box<str>,
    /// Whether that is a consumer of the configuration.
    pub(super) consumer: bool,
    /// Which credential it was, by its id.
    pub(super) credential: Box<str>,
    /// What it may ask for.
    pub(super) scopes: Vec<String>,
    /// Roles and groups, where they are not looked up with each call.
    roles: Vec<String>,
    groups: Vec<String>,
    /// Whether refresh tokens are given for it: not where the credential is always at hand (RFC 6749, section 4.4.3).
    refreshes: bool,
}

impl Caller {
    pub(super) fn ask(self, name: &Arc<str>, service: &TokenService, scopes: Vec<String>) -> Asked {
        Asked {
            service: Arc::clone(name),
            subject: self.subject,
            consumer: self.consumer,
            credential: self.credential,
            roles: self.roles,
            groups: self.groups,
            scopes,
            claims: serde_json::Map::new(),
            access: millis(service.access),
            refresh: service.refresh.filter(|_| self.refreshes).map(millis),
            longest: millis(service.longest),
            most: service.most,
        }
    }
}

/// What is asked for of what may be: all of it where nothing is named.
pub(super) fn scopes(form: &Form, known: &[String]) -> Result<Vec<String>, Refused> {
    let Some(wanted) = form.get("scope") else { return Ok(known.to_vec()) };
    let wanted: Vec<String> = wanted.split_ascii_whitespace().map(str::to_owned).collect();
    if wanted.iter().all(|scope| known.contains(scope)) {
        return Ok(wanted);
    }
    let detail = "a scope that is asked for is none that the caller may have";
    Err(Refused::new(Reason::InvalidRequest, "invalid_scope", detail, detail))
}

impl Tokens {
    /// Who asks, by what stands in the request. Guessing passwords is slowed down.
    pub(super) fn login(&self, exchange: &Exchange, form: &Form) -> Result<Login, Refused> {
        let asked = match form.get("grant_type") {
            Some(named) => [GrantType::Key, GrantType::ClientCredentials, GrantType::RefreshToken, GrantType::Password]
                .into_iter()
                .find(|grant| grant.as_str() == named),
            None => Some(self.grant_by_fields(exchange, form)?),
        };
        let Some(grant) = asked.filter(|grant| self.gives_for(*grant)) else {
            let detail = "tokens are not given for this type of grant";
            return Err(Refused::new(Reason::InvalidRequest, "unsupported_grant_type", detail, detail));
        };
        match grant {
            GrantType::Key => self.by_key(exchange).map(Login::Caller),
            GrantType::ClientCredentials => self.by_client(exchange, form).map(Login::Caller),
            GrantType::RefreshToken => self.by_refresh_token(exchange, form).map(Login::Refresh),
            GrantType::Password => Ok(Login::Password),
        }
    }

    /// What clients ask for that send no `grant_type`: by which header there is.
    fn grant_by_fields(&self, exchange: &Exchange, form: &Form) -> Result<GrantType, Refused> {
        let has = |name: &str| exchange.request.head.get(name).is_some();
        let refreshes = self.service.refresh_header.as_deref().is_some_and(has) || form.get("refresh_token").is_some();
        if refreshes {
            return Ok(GrantType::RefreshToken);
        }
        if has(&self.service.key_header) {
            return Ok(GrantType::Key);
        }
        Err(Refused::malformed("there is neither a `grant_type` nor a key"))
    }

    fn by_key(&self, exchange: &Exchange) -> Result<Caller, Refused> {
        let header = Some(self.service.key_header.as_str().into());
        let sources = Sources { header, query: None, scheme: None };
        let found = sources.find(&exchange.request, |_, key| text::digest(key));
        let digest = found.map_err(|absent| match absent {
            Absent::None => Refused::client("there is no key in the request"),
            Absent::Several => Refused::client("there is more than one key in the request"),
            Absent::TooLong => Refused::client("the key is longer than 512 bytes"),
        })?;
        let now = exchange.wall / 1_000_000;
        if let Some(caller) = self.keys.value.keys.find(&digest) {
            let consumer = self.keys.directory.get(caller.consumer);
            if let Some(consumer) = consumer.filter(|_| !self.accounts.is_void_key(&digest)) {
                let credential = text::id_of("key", &digest).into();
                return Ok(declared(&consumer.name, &consumer.scopes, credential, true));
            }
        }
        if let Some(held) = self.accounts.key(&digest).filter(|held| held.is_good(now)) {
            held.note_use(now);
            return Ok(self.held(&held, true));
        }
        // not counted: a key cannot be guessed, and whoever shows wrong ones would shut out all who share the address
        Err(Refused::client("the key is none of those known, or not good any more"))
    }

    /// By username and password of the form (RFC 6749, section 4.3.2), with a one-time password as `otp`.
    pub(super) async fn by_password(&self, exchange: &Exchange, form: &Form) -> Result<Caller, Refused> {
        let Some(users) = &self.users else { return Err(Refused::grant("the service knows no users")) };
        let (Some(name), Some(password)) = (form.get("username"), form.get("password")) else {
            return Err(Refused::malformed("`username` or `password` is missing"));
        };
        let login = users::Login {
            name,
            password: password.as_bytes(),
            otp: form.get("otp"),
            address: exchange.client.ip,
            now: exchange.now(),
            wall: exchange.wall / 1_000_000,
        };
        match users.value.check(&login).await {
            Ok(identity) => Ok(Caller {
                subject: identity.subject.clone(),
                consumer: false,
                credential: identity.credential.clone().unwrap_or_default(),
                scopes: identity.scopes.clone(),
                roles: identity.roles.clone(),
                groups: identity.groups.clone(),
                refreshes: true,
            }),
            Err(refused) => Err(of_user(&refused)),
        }
    }

    fn held(&self, held: &daemun_accounts::consumer::Held, refreshes: bool) -> Caller {
        let name = &held.credential.consumer;
        Caller {
            subject: name.as_str().into(),
            consumer: false,
            credential: held.credential.id.as_str().into(),
            scopes: held.identity.scopes.clone(),
            roles: Vec::new(),
            groups: Vec::new(),
            refreshes,
        }
    }

    /// By HTTP Basic, or by `client_id` and `client_secret` of the form, but not by both (RFC 6749, section 2.3).
    fn by_client(&self, exchange: &Exchange, form: &Form) -> Result<Caller, Refused> {
        let in_form = form.get("client_id").zip(form.get("client_secret"));
        let in_head = presented::find(&exchange.request.head, |id, secret| {
            Some((String::from_utf8(id.to_vec()).ok()?, secret.to_vec()))
        });
        let (id, secret) = match (in_head, in_form) {
            (Ok(_), Some(_)) => return Err(Refused::malformed("the client's credentials stand in two places")),
            (Ok(Some((id, secret))), None) => (decoded(&id)?, decoded_bytes(&secret)),
            (Err(presented::Absent::None), Some((id, secret))) => (id.to_owned(), secret.as_bytes().to_vec()),
            (Err(presented::Absent::None), None) => {
                return Err(Refused::client("there are no client's credentials in the request"));
            }
            (Ok(None) | Err(_), _) => return Err(Refused::client("the client's credentials are malformed")),
        };
        let tried = Try { address: exchange.client.ip, name: &id, now: exchange.now() };
        if let Some(seconds) = self.throttle.wait(&tried) {
            return Err(slow(seconds));
        }
        let now = exchange.wall / 1_000_000;
        let declared_one = self.clients.value.passwords.find(id.as_bytes(), &secret);
        let declared_one = declared_one.filter(|(_, credential)| !self.accounts.is_void(credential));
        if let Some((consumer, credential)) = declared_one
            && let Some(consumer) = self.clients.directory.get(consumer)
        {
            self.throttle.succeeded(self.throttle.pair(&tried));
            return Ok(declared(&consumer.name, &consumer.scopes, credential.into(), false));
        }
        let digest = text::digest(&secret);
        let held = self.accounts.client(&id).filter(|held| held.is_good(now));
        let same = held
            .filter(|held| aws_lc_rs::constant_time::verify_slices_are_equal(&held.credential.digest, &digest).is_ok());
        if let Some(held) = same {
            held.note_use(now);
            self.throttle.succeeded(self.throttle.pair(&tried));
            return Ok(self.held(&held, false));
        }
        if let Some(seconds) = self.throttle.failed(&tried) {
            return Err(slow(seconds));
        }
        Err(Refused::client("the client is not known, its secret is another, or it is not good any more"))
    }

    fn by_refresh_token(&self, exchange: &Exchange, form: &Form) -> Result<String, Refused> {
        let in_head = self.service.refresh_header.as_deref().and_then(|name| {
            let mut values = exchange.request.head.values(name);
            let first = values.next()?;
            Some((first, values.next().is_some()))
        });
        match (in_head, form.get("refresh_token")) {
            (Some((_, true)), _) | (Some(_), Some(_)) => {
                Err(Refused::malformed("the refresh token stands in two places"))
            }
            (Some((token, false)), None) => {
                let token = std::str::from_utf8(token).map_err(|_| Refused::grant("the refresh token is malformed"))?;
                Ok(token.to_owned())
            }
            (None, Some(token)) => Ok(token.to_owned()),
            (None, None) => Err(Refused::malformed("`refresh_token` is missing")),
        }
    }
}

/// Refuses who has failed too often, whatever is tried now.
fn slow(seconds: u64) -> Refused {
    let detail = "too many credentials were not good; try again later";
    let refused = Refused::new(Reason::RateLimited, "slow_down", detail, "guessing is slowed down");
    Refused { retry: Some(seconds), ..refused }
}

fn declared(name: &str, scopes: &[String], credential: Box<str>, refreshes: bool) -> Caller {
    let (roles, groups) = (Vec::new(), Vec::new());
    Caller { subject: name.into(), consumer: true, credential, scopes: scopes.to_vec(), roles, groups, refreshes }
}

/// What is told of a user who gets no tokens (RFC 6749, section 5.2).
fn of_user(refused: &users::Refused) -> Refused {
    let why = refused.why().to_owned().into();
    let unavailable = "users cannot be checked just now; try again later";
    let told = |reason, error, detail| Refused::new(reason, error, detail, detail);
    let told = match refused {
        users::Refused::Wrong(_) | users::Refused::WrongSecondFactor => {
            told(Reason::InvalidGrant, "invalid_grant", "the username or the password is not good here")
        }
        users::Refused::SecondFactor => Refused {
            otp_required: true,
            ..told(Reason::InvalidGrant, "invalid_grant", "a one-time password is needed as well, as `otp`")
        },
        users::Refused::Slow(seconds) => slow(*seconds),
        users::Refused::Busy | users::Refused::Unavailable(_) => {
            Refused { retry: Some(1), ..told(Reason::AuthUnavailable, "temporarily_unavailable", unavailable) }
        }
    };
    Refused { why, ..told }
}

/// Ids and secrets in HTTP Basic are encoded as in a form (RFC 6749, section 2.3.1).
fn decoded(id: &str) -> Result<String, Refused> {
    String::from_utf8(decoded_bytes(id.as_bytes())).map_err(|_| Refused::client("the client's id is malformed"))
}

fn decoded_bytes(text: &[u8]) -> Vec<u8> {
    daemun_pipeline::exchange::decode(text, true).into_owned()
}
