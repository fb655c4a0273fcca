//! Who asks a token service, and with what. Gives nothing out.

use std::sync::Arc;

use daemun_accounts::Asked;
use daemun_accounts::text::{self, Digest};
use daemun_config::model::{CredentialName, GrantType, TokenService};
use daemun_pipeline::{Directory, Exchange, Identity, Reason};

use super::assertion::Shown as ShownAssertion;
use super::code::Shown;
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
    Refresh(ShownRefresh),
    /// A user, who is still to be asked for.
    Password,
    /// A client, with the code of a login.
    Code(Shown),
    /// The subject of an assertion, which is still to be judged.
    Assertion,
}

/// What a login is looked at for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// So that tokens are given: a guess is counted, and a use is noted.
    Tokens,
    /// To say what would be given.
    Words,
}

/// A refresh token as it was shown.
pub(super) struct ShownRefresh {
    pub(super) token: String,
    /// Whether it stood in a header: no request of OAuth, so that it is refused like any other credential in a header.
    pub(super) in_head: bool,
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
    /// How long its tokens last at most, milliseconds, where the credential says so.
    most: Option<u64>,
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
            longest: millis(service.longest).min(self.most.unwrap_or(u64::MAX)),
            most: service.most,
        }
    }
}

/// Bytes of a subject at most: as many as a name has at the admin listener, where all that it holds is revoked by that.
const LONGEST_SUBJECT: usize = 256;

/// Whether what is given to a subject could be taken back by its name.
pub(super) fn is_revocable(subject: &str) -> bool {
    (1..=LONGEST_SUBJECT).contains(&subject.len()) && !subject.contains(char::is_control)
}

/// What is asked for of what may be: all of it where nothing is named.
pub(super) fn scopes(form: &Form, known: &[String]) -> Result<Vec<String>, Refused> {
    let Some(wanted) = form.get("scope") else { return Ok(each_once(known.iter().map(String::as_str))) };
    let wanted = words(wanted);
    if wanted.iter().all(|scope| known.contains(scope)) {
        return Ok(wanted);
    }
    let detail = "a scope that is asked for is none that the caller may have";
    Err(Refused::new(Reason::InvalidRequest, "invalid_scope", detail, detail))
}

/// The scopes of a text, in its order (RFC 6749, section 3.3).
pub(super) fn words(text: &str) -> Vec<String> {
    each_once(text.split_ascii_whitespace())
}

/// Scopes as they are given: once each, however often they were named.
pub(super) fn each_once<'a>(scopes: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for scope in scopes {
        if !once.iter().any(|known| known == scope) {
            once.push(scope.to_owned());
        }
    }
    once
}

impl Tokens {
    /// Who asks, by what stands in the request. Guessing passwords is slowed down.
    pub(super) fn login(&self, exchange: &Exchange, form: &Form, purpose: Purpose) -> Result<Login, Refused> {
        let asked = match form.get("grant_type") {
            Some(named) => GrantType::ALL.into_iter().find(|grant| grant.as_str() == named),
            None => Some(self.grant_by_fields(exchange, form)?),
        };
        let Some(grant) = asked.filter(|grant| self.gives_for(*grant)) else {
            let detail = "tokens are not given for this type of grant";
            return Err(Refused::new(Reason::InvalidRequest, "unsupported_grant_type", detail, detail));
        };
        match grant {
            GrantType::Key => self.by_key(exchange, purpose).map(Login::Caller),
            GrantType::ClientCredentials => self.by_client(exchange, form, purpose).map(Login::Caller),
            GrantType::RefreshToken => self.by_refresh_token(exchange, form).map(Login::Refresh),
            GrantType::Password => Ok(Login::Password),
            GrantType::AuthorizationCode => self.by_code(exchange, form, purpose).map(Login::Code),
            GrantType::Saml2Bearer => Ok(Login::Assertion),
        }
    }

    /// What clients ask for that send no `grant_type`: by which header there is.
    fn grant_by_fields(&self, exchange: &Exchange, form: &Form) -> Result<GrantType, Refused> {
        let has = |name: &str| exchange.request.head.get(name).is_some();
        let refreshes = self.service.refresh_header.as_deref().is_some_and(has) || form.get("refresh_token").is_some();
        if let Some([only]) = self.grants.as_deref() {
            return Ok(*only);
        }
        if refreshes {
            return Ok(GrantType::RefreshToken);
        }
        if has(&self.service.key_header) {
            return Ok(GrantType::Key);
        }
        Err(Refused::malformed("there is neither a `grant_type` nor a key"))
    }

    fn by_key(&self, exchange: &Exchange, purpose: Purpose) -> Result<Caller, Refused> {
        let header = Some(self.service.key_header.as_str().into());
        let sources = Sources { header, query: None, scheme: None };
        let found = sources.find(&exchange.request, |_, key| text::digest(key));
        let digest = found.map_err(|absent| match absent {
            Absent::None => Refused::client("there is no key in the request"),
            Absent::Several => Refused::client("there is more than one key in the request"),
            Absent::TooLong => Refused::client("the key is longer than 512 bytes"),
        })?;
        let now = exchange.wall / 1_000_000;
        let keys = &self.keys.value.keys;
        if let Some((caller, place)) = keys.find(&digest).filter(|found| !keys.has_expired(*found, now)) {
            let consumer = self.keys.directory.get(caller.consumer);
            let is_cut_off = self.keys.directory.is_cut_off(caller.consumer);
            if let Some(consumer) = consumer.filter(|_| !is_cut_off && !self.accounts.is_void_key(&digest)) {
                if let Some(lasting) = keys.lasting(place).filter(|_| purpose == Purpose::Tokens) {
                    lasting.note_use(&self.accounts, now);
                }
                let credential = text::id_of("key", &digest).into();
                return Ok(declared(&consumer.name, &consumer.scopes, credential, true));
            }
        }
        if let Some(held) = self.accounts.key(&digest).filter(|held| held.is_good(now)) {
            // who reads the tokens elsewhere could not tell the two apart
            if self.keys.directory.has_name(&held.credential.consumer) {
                return Err(Refused::client("the configuration has the name of the key's consumer"));
            }
            if purpose == Purpose::Tokens {
                held.note_use(now);
            }
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
                most: None,
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
            most: None,
        }
    }

    /// By an assertion of the form, which is used up by that (RFC 7522, sections 2.1 and 3).
    pub(super) async fn by_assertion(&self, exchange: &Exchange, form: &Form) -> Result<Caller, Refused> {
        let Some(assertions) = &self.assertions else { return Err(Refused::grant("the service takes no assertions")) };
        let text = form.get("assertion").ok_or_else(|| Refused::malformed("`assertion` is missing"))?;
        let now = exchange.wall / 1_000_000;
        let judged = assertions.judge(text, exchange.wall);
        let judged = judged.and_then(|shown| self.subject_of(&shown, now).map(|caller| (shown, caller)));
        // not counted: a signature cannot be guessed
        let (shown, caller) = judged.map_err(|why| Refused { why: why.into(), ..Refused::grant("") })?;
        // what cannot be had does not use it up
        scopes(form, &caller.scopes)?;
        match self.accounts.use_once("saml", &shown.name, shown.until, now).await {
            Ok(true) => Ok(caller),
            Ok(false) => Err(Refused::grant("the assertion was used before")),
            Err(trouble) => {
                let detail = "tokens cannot be kept just now";
                let refused = Refused::new(Reason::StoreUnavailable, "temporarily_unavailable", detail, detail);
                Err(Refused { why: trouble.to_string().into(), retry: Some(1), ..refused })
            }
        }
    }

    /// Who the subject of an assertion is here: a consumer of the configuration where the settings say so, and no consumer elsewhere.
    fn subject_of(&self, shown: &ShownAssertion, now: u64) -> Result<Caller, String> {
        let identity = &shown.identity;
        if self.accounts.is_void_credential(&shown.credential) {
            return Err("what the issuer says was revoked".to_owned());
        }
        let credential: Box<str> = shown.credential.as_str().into();
        // no refresh tokens: whoever may go on has another assertion (RFC 7521, section 4.1)
        let most = shown.session_ends.map(|ends| ends.saturating_sub(now));
        let found = |name: &str| self.keys.directory.find(name).and_then(|id| self.keys.directory.get(id));
        let is_cut_off = |name: &str| {
            let directory = &self.keys.directory;
            directory.find(name).is_some_and(|id| directory.is_cut_off(id))
        };
        if identity.consumer.as_deref().is_some_and(is_cut_off) {
            return Err("the consumer was disabled".to_owned());
        }
        match identity.consumer.as_deref().map(found) {
            Some(Some(consumer)) => {
                Ok(Caller { most, ..declared(&consumer.name, &consumer.scopes, credential, false) })
            }
            Some(None) => Err("the assertion names no consumer of the configuration".to_owned()),
            None if found(&identity.subject).is_some() || self.accounts.consumer(&identity.subject).is_some() => {
                Err("a consumer has the name of the assertion's subject".to_owned())
            }
            None if self.keys.directory.user(&identity.subject).is_some() => {
                Err("a user of the configuration has the name of the assertion's subject".to_owned())
            }
            None if !is_revocable(&identity.subject) => {
                Err("the assertion's subject is longer than 256 bytes, or has a control character".to_owned())
            }
            None => Ok(Caller {
                subject: identity.subject.clone(),
                consumer: false,
                credential,
                scopes: identity.scopes.clone(),
                roles: identity.roles.clone(),
                groups: identity.groups.clone(),
                refreshes: false,
                most,
            }),
        }
    }

    /// By HTTP Basic, or by `client_id` and `client_secret` of the form, but not by both (RFC 6749, section 2.3).
    pub(super) fn by_client(&self, exchange: &Exchange, form: &Form, purpose: Purpose) -> Result<Caller, Refused> {
        let in_form = form.get("client_id").zip(form.get("client_secret"));
        let in_head = presented::find(&exchange.request.head, |id, secret| {
            Some((String::from_utf8(id.to_vec()).ok()?, secret.to_vec()))
        });
        let (id, secret) = match (in_head, in_form) {
            (Ok(_), Some(_)) => return Err(Refused::malformed("the client's credentials stand in two places")),
            (Ok(Some((id, secret))), None) => {
                let id = decoded(&id)?;
                if form.get("client_id").is_some_and(|named| named != id) {
                    return Err(Refused::malformed("`client_id` is not that of the client's credentials"));
                }
                (id, decoded_bytes(&secret))
            }
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
        let (now, counts) = (exchange.wall / 1_000_000, purpose == Purpose::Tokens);
        let declared_one = self.clients.value.passwords.find(id.as_bytes(), &secret);
        let declared_one = declared_one.filter(|(consumer, lasting)| {
            !self.clients.directory.is_cut_off(*consumer) && lasting.judge(&self.accounts, now).is_ok()
        });
        if let Some((consumer, lasting)) = declared_one
            && let Some(consumer) = self.clients.directory.get(consumer)
        {
            if counts {
                self.throttle.succeeded(self.throttle.pair(&tried));
                lasting.note_use(&self.accounts, now);
            }
            return Ok(declared(&consumer.name, &consumer.scopes, lasting.id().into(), false));
        }
        let digest = text::digest(&secret);
        let held = self.accounts.client(&id).filter(|held| held.is_good(now));
        let same = held
            .filter(|held| aws_lc_rs::constant_time::verify_slices_are_equal(&held.credential.digest, &digest).is_ok());
        if let Some(held) = same {
            // not counted: who knows the secret does not guess it
            if self.is_of_file(&id, &held) {
                return Err(Refused::client("the configuration has the client's id, or the name of its consumer"));
            }
            if counts {
                held.note_use(now);
                self.throttle.succeeded(self.throttle.pair(&tried));
            }
            return Ok(self.held(&held, false));
        }
        if counts && let Some(seconds) = self.throttle.failed(&tried) {
            return Err(slow(seconds));
        }
        Err(Refused::client("the client is not known, its secret is another, or it is not good any more"))
    }

    /// The client that asks for a revocation, where nobody else is known to and an id and a secret are shown (RFC 7009, section 2.1).
    pub(super) fn revoker(
        &self,
        exchange: &Exchange,
        form: &Form,
        purpose: Purpose,
    ) -> Result<Option<Caller>, Refused> {
        let in_head = !matches!(presented::find(&exchange.request.head, |_, _| ()), Err(presented::Absent::None));
        if exchange.is_proven() || !in_head && form.get("client_secret").is_none() {
            return Ok(None);
        }
        self.by_client(exchange, form, purpose).map(Some)
    }

    fn by_refresh_token(&self, exchange: &Exchange, form: &Form) -> Result<ShownRefresh, Refused> {
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
                let token = std::str::from_utf8(token)
                    .map_err(|_| Refused::grant("the refresh token is malformed").of_header(true))?;
                Ok(ShownRefresh { token: token.to_owned(), in_head: true })
            }
            (None, Some(token)) => Ok(ShownRefresh { token: token.to_owned(), in_head: false }),
            // whoever would show it in a header sends no form
            (None, None) if form.is_empty() && self.service.refresh_header.is_some() => {
                Err(Refused::grant("there is no refresh token in the request").of_header(true))
            }
            (None, None) => Err(Refused::malformed("`refresh_token` is missing")),
        }
    }
}

/// Whether a consumer of the configuration, where it is one, still has the credential that a login came from, and that is still good at a
/// moment.
pub(super) fn is_still_declared(directory: &Directory, identity: &Identity, now: u64) -> bool {
    let Some(name) = identity.consumer.as_deref() else { return true };
    let found = directory.find(name).filter(|id| !directory.is_cut_off(*id));
    let Some(consumer) = found.and_then(|id| directory.get(id)) else { return false };
    let is_current = |name: &CredentialName| now < consumer.end_of(name);
    match identity.credential.as_deref().and_then(|id| id.split_once(':')) {
        Some(("key", _)) => {
            let of_login = |digest: &&Digest| Some(&*text::id_of("key", digest)) == identity.credential.as_deref();
            consumer.keys.iter().find(of_login).is_some_and(|digest| is_current(&CredentialName::Key(*digest)))
        }
        Some(("client", username)) => {
            consumer.basic.iter().any(|known| known.username == username)
                && is_current(&CredentialName::Basic(username.to_owned()))
        }
        Some(_) | None => true,
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
    Caller {
        subject: name.into(),
        consumer: true,
        credential,
        scopes: scopes.to_vec(),
        roles,
        groups,
        refreshes,
        most: None,
    }
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
