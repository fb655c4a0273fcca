//! Consumers, credentials and plans of the store, and revocations, over HTTP. A secret is shown once, in the answer that made it. Whoever asks was
//! let in before; see `origin`.

mod plans;

use std::sync::Arc;
use std::time::Duration;

use daemun_accounts::consumer::Held;
use daemun_accounts::text::{self, Digest, Prefix};
use daemun_accounts::{Accounts, Consumer, Credential, CredentialKind, Revoked, Trouble, Whose};
use daemun_config::model::{CredentialName, Terms};
use daemun_config::{MOST_REDIRECTS, redirect_advice, why_no_redirect};
use daemun_pipeline::strict_json::read_object;
use data_encoding::HEXLOWER_PERMISSIVE;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use serde_json::{Map, Value, json};

use crate::Source;
use crate::admin::decoded;
use crate::answer::{self, Answer};

/// Bytes of a body at most.
const MOST: usize = 64 * 1024;
/// Bytes of a name at most.
const MOST_NAME: usize = 256;
/// What a text may have, and what is told where it has more.
const NAME: (usize, &str) = (MOST_NAME, "a member that is a text has 1 to 256 bytes and no control characters");
/// As long as a key of the configuration may be.
const KEY: (usize, &str) = (512, "`key` has 1 to 512 bytes and no control characters");
/// As long as a name in the configuration may be, which may be one of other letters.
const SUBJECT: (usize, &str) = (512, "`subject` has 1 to 512 bytes and no control characters");
/// As long as an id of any kind may be: of a client its username, with what stands before it.
const CREDENTIAL: (usize, &str) = (512, "`credential` has 1 to 512 bytes and no control characters");
/// As long as a signed token may be.
const TOKEN: (usize, &str) = (8 * 1024, "`token` has 1 to 8,192 bytes and no control characters");
/// Items of a list at most.
const MOST_ITEMS: usize = 256;

/// Whether a path is one of those below.
pub(crate) fn is_here(path: &str) -> bool {
    let is_below =
        |path: &str, first: &str| path.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_below(path, "/consumers") || is_below(path, "/plans") || path == "/revocations"
}

/// Why a request is not done.
type Refused = (StatusCode, &'static str);

const fn bad(detail: &'static str) -> Refused {
    (StatusCode::BAD_REQUEST, detail)
}

/// How long it may take to find out what other processes did; what takes something away is not held up for longer.
const LOOK: Duration = Duration::from_secs(1);
/// How often what another process did at the same time is looked at anew.
const TRIES: usize = 3;

/// The answer to a request for accounts.
pub(crate) async fn answer<B>(request: Request<B>, source: &Arc<dyn Source>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    if request.uri().query().is_some() {
        return answer::problem(StatusCode::BAD_REQUEST, "there is nothing to be said in a query here");
    }
    let body = match body(request, &method).await {
        Ok(body) => body,
        Err((status, detail)) => return answer::problem(status, detail),
    };
    let mut parts = path
        .trim_start_matches('/')
        .split('/')
        .map(|part| decoded(part).and_then(|part| String::from_utf8(part).ok()).filter(|part| !part.is_empty()));
    let first = parts.next().flatten();
    let rest: Vec<Option<String>> = parts.collect();
    let (Some(first), Some(rest)) = (first, rest.into_iter().collect::<Option<Vec<String>>>()) else {
        return answer::not_found();
    };
    let source = Arc::clone(source);
    // what has begun ends, whether or not whoever asked waits for it: what lasts must be known here as well
    let done = tokio::spawn(async move {
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let asked = Asked { method: &method, body: &body, source: &*source, accounts: source.accounts() };
        asked.answer(&first, &rest).await
    });
    match done.await {
        Ok(answer) => answer,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The members of a body; none for methods that have none.
async fn body<B>(request: Request<B>, method: &Method) -> Result<Map<String, Value>, Refused>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let has = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if !has {
        return if request.body().is_end_stream() { Ok(Map::new()) } else { Err(bad("this method takes no body")) };
    }
    // a page of another site cannot send this without asking first
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is JSON: send content-type: application/json"));
    }
    let body = Box::pin(Limited::new(request.into_body(), MOST).collect()).await;
    let body = body.map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "the body has 64 KiB at most"))?.to_bytes();
    read_object(&body)
        .ok_or_else(|| bad("the body is not a JSON object of which each member stands once, 16 levels deep at most"))
}

enum Stop {
    Refused(Refused),
    /// The accounts do not do it.
    Trouble(Trouble),
    /// What was sent is wrong: how.
    Wrong(String),
    Method(&'static str, &'static str),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Stop {
        Stop::Refused(refused)
    }
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

/// What is told of it.
fn of_trouble(trouble: &Trouble) -> Refused {
    match trouble {
        Trouble::None => (StatusCode::NOT_FOUND, "there is no consumer of this name in the store"),
        Trouble::There => (StatusCode::CONFLICT, "there is such a credential already"),
        Trouble::Changed => (StatusCode::CONFLICT, "another process changed it at the same time; ask again"),
        Trouble::Busy
        | Trouble::Store(_)
        | Trouble::NoRandomness
        | Trouble::Unsigned(_)
        | Trouble::TooMany
        | Trouble::Refused(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the store does not take it just now; nothing was changed")
        }
    }
}

/// What is told of what was taken away and could not be written.
const NOT_KEPT: Refused = (
    StatusCode::SERVICE_UNAVAILABLE,
    "the store does not take it just now: it is in force in this process alone, and what was taken away comes back when that ends; ask for it again",
);

/// One request.
struct Asked<'a> {
    method: &'a Method,
    body: &'a Map<String, Value>,
    source: &'a dyn Source,
    accounts: &'a Arc<Accounts>,
}

fn created(value: &Value) -> Answer {
    let mut answer = answer::json(format!("{value:#}\n").into_bytes());
    *answer.status_mut() = StatusCode::CREATED;
    answer
}

fn shown(value: &Value) -> Answer {
    answer::json(format!("{value:#}\n").into_bytes())
}

impl Asked<'_> {
    async fn answer(&self, first: &str, rest: &[&str]) -> Answer {
        let mut tries = 1;
        let done = loop {
            // what is read to be changed is not changed by another meanwhile
            let _changing = match *self.method {
                Method::GET => None,
                _ => Some(self.accounts.changing().await),
            };
            // by another process neither; what is revoked needs no look, and is in force whether or not the store does anything
            if *self.method != Method::GET && first != "revocations" {
                let _ = tokio::time::timeout(LOOK, self.accounts.look()).await;
            }
            let done = match (first, rest) {
                ("revocations", []) => self.revocations().await,
                ("consumers", []) => self.consumers(),
                ("consumers", [name]) => self.consumer(name).await,
                ("consumers", [name, "usage"]) => self.usage(name).await,
                ("plans", []) => self.plans(),
                ("plans", [name]) => self.plan(name).await,
                ("consumers", [name, "credentials"]) => self.credentials(name).await,
                ("consumers", [name, "credentials", id]) => self.credential(name, id).await,
                _ => return answer::not_found(),
            };
            match done {
                Err(Stop::Trouble(Trouble::Changed)) if tries < TRIES => tries += 1,
                done => break done,
            }
        };
        done.unwrap_or_else(|refused| match refused {
            Stop::Refused((status, detail)) => answer::problem(status, detail),
            Stop::Trouble(trouble) => {
                let (status, detail) = of_trouble(&trouble);
                answer::problem(status, detail)
            }
            Stop::Wrong(why) => answer::problem(StatusCode::BAD_REQUEST, &why),
            Stop::Method(detail, methods) => answer::only(detail, methods),
        })
    }

    /// Refuses members that mean nothing here: whoever sends them expects them to matter.
    fn only(&self, known: &[&str]) -> Result<(), Refused> {
        if self.body.keys().any(|key| !known.contains(&key.as_str())) {
            return Err(bad("the body has a member that means nothing here"));
        }
        Ok(())
    }

    fn text(&self, key: &str) -> Result<Option<&str>, Refused> {
        self.text_of(key, NAME)
    }

    fn text_of(&self, key: &str, (most, allowed): (usize, &'static str)) -> Result<Option<&str>, Refused> {
        match self.body.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if (1..=most).contains(&text.len()) && !text.contains(char::is_control) => {
                Ok(Some(text))
            }
            Some(_) => Err(bad(allowed)),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Refused> {
        match self.body.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(bad("a member that is true or false is neither")),
        }
    }

    fn seconds(&self, key: &str) -> Result<Option<u64>, Refused> {
        match self.body.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|seconds| (1..=100 * 366 * 86_400).contains(seconds)) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(bad("a time is a whole number of seconds")),
            },
        }
    }

    /// The digest of a credential that its holder has already.
    fn digest(&self) -> Result<Option<Digest>, Refused> {
        let Some(written) = self.body.get("sha256") else { return Ok(None) };
        let wrong = bad("`sha256` is the SHA-256 digest of the credential, 64 hexadecimal digits");
        let written = written.as_str().filter(|text| text.len() == 64).ok_or(wrong)?;
        let bytes = HEXLOWER_PERMISSIVE.decode(written.as_bytes()).map_err(|_| wrong)?;
        let digest = Digest::try_from(bytes).map_err(|_| wrong)?;
        if digest == text::digest(b"") {
            return Err(bad("this is the digest of an empty text, which is no credential"));
        }
        Ok(Some(digest))
    }

    /// A list of words that can be told in a header.
    fn list(&self, key: &str) -> Result<Option<Vec<String>>, Refused> {
        let Some(value) = self.body.get(key) else { return Ok(None) };
        let wrong = bad("a list holds up to 256 words of printable ASCII without spaces and commas");
        let items = value.as_array().filter(|items| items.len() <= MOST_ITEMS).ok_or(wrong)?;
        let word = |text: &&str| {
            (1..=MOST_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
        };
        let words = items.iter().map(|item| item.as_str().filter(word).map(str::to_owned).ok_or(wrong));
        words.collect::<Result<Vec<String>, Refused>>().map(Some)
    }

    /// Has the log told of what was taken away, which is in force also where it could not be written.
    fn taken<T>(&self, done: Result<T, Trouble>, what: &str) -> Result<T, Stop> {
        match done {
            Ok(done) => {
                self.source.audit(what);
                Ok(done)
            }
            Err(trouble @ (Trouble::None | Trouble::There | Trouble::Changed)) => Err(trouble.into()),
            Err(trouble) => {
                self.source.audit(&format!("{what}, which is not kept: {trouble}"));
                Err(NOT_KEPT.into())
            }
        }
    }

    /// Addresses that browsers are sent back to, each as the configuration takes it.
    fn redirects(&self) -> Result<Option<Vec<String>>, Stop> {
        let Some(value) = self.body.get("redirect_uris") else { return Ok(None) };
        let wrong = || Stop::Wrong(format!("`redirect_uris` is a list of {MOST_REDIRECTS} addresses at most"));
        let items = value.as_array().filter(|items| items.len() <= MOST_REDIRECTS).ok_or_else(wrong)?;
        let mut redirects = Vec::with_capacity(items.len());
        for (item, number) in items.iter().zip(1..) {
            let uri = item.as_str().ok_or_else(wrong)?;
            if let Some(why) = why_no_redirect(uri) {
                return Err(Stop::Wrong(format!(
                    "no browser is sent back to address {number} of `redirect_uris`: {why}"
                )));
            }
            redirects.push(uri.to_owned());
        }
        Ok(Some(redirects))
    }

    fn consumers(&self) -> Result<Answer, Stop> {
        if *self.method != Method::GET {
            return Err(Stop::Method("GET lists consumers; PUT /consumers/NAME makes one", "GET"));
        }
        let all: Vec<Value> = self.accounts.consumers().iter().map(|consumer| self.told(consumer)).collect();
        Ok(shown(&json!({ "consumers": all })))
    }

    fn told(&self, consumer: &Consumer) -> Value {
        json!({
            "name": consumer.name, "roles": consumer.roles, "groups": consumer.groups, "tags": consumer.tags,
            "scopes": consumer.scopes, "redirect_uris": consumer.redirect_uris, "plans": consumer.plans, "disabled": consumer.disabled, "created": consumer.created / 1000,
            "tokens": self.accounts.tokens_of(&consumer.name),
        })
    }

    async fn consumer(&self, name: &str) -> Result<Answer, Stop> {
        let known = self.accounts.consumer(name);
        let now = self.source.now();
        match *self.method {
            Method::GET if self.source.declares(name) => {
                let mut told = self.told_declared(name);
                self.tell_use(name, &mut told).await?;
                Ok(shown(&told))
            }
            Method::GET => {
                let known = known.ok_or(Trouble::None)?;
                let mut told = self.told(&known);
                let credentials: Vec<Value> =
                    self.accounts.credentials(name).iter().map(|held| credential(held)).collect();
                if let Some(told) = told.as_object_mut() {
                    told.insert("credentials".to_owned(), credentials.into());
                    if self.source.declares_user(name) {
                        told.insert("advice".to_owned(), OF_USER.into());
                    }
                }
                self.tell_use(name, &mut told).await?;
                Ok(shown(&told))
            }
            Method::PUT => self.put(name, known, now).await,
            Method::DELETE if self.source.declares(name) => {
                Err((StatusCode::CONFLICT, "the consumer is the configuration's: PUT `disabled` cuts it off").into())
            }
            Method::DELETE => {
                let done = self.accounts.remove_consumer(name, now).await;
                if done == Ok(false) {
                    return Err(Trouble::None.into());
                }
                self.taken(done, &format!("consumer `{name}` was removed, with its credentials and tokens"))?;
                Ok(shown(&json!({ "removed": name })))
            }
            _ => Err(Stop::Method("only GET, PUT and DELETE are allowed here", "GET, PUT, DELETE")),
        }
    }

    /// Makes a consumer, or changes what is named of it.
    async fn put(&self, name: &str, known: Option<Consumer>, now: u64) -> Result<Answer, Stop> {
        self.only(&["roles", "groups", "tags", "scopes", "redirect_uris", "plans", "disabled"])?;
        let fits = name.len() <= MOST_NAME && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if !fits {
            return Err(bad("a name has printable ASCII without spaces and commas").into());
        }
        if self.source.declares(name) {
            return self.switch(name, known, now).await;
        }
        let is_new = known.is_none();
        if is_new && self.source.declares_user(name) {
            return Err((StatusCode::CONFLICT, "a user of the configuration has this name").into());
        }
        let redirects = self.redirects()?;
        if redirects.as_ref().is_some_and(|redirects| !redirects.is_empty()) {
            self.may_be_client(name)?;
        }
        let known = known.unwrap_or_else(|| Consumer { created: now, ..Consumer::default() });
        let consumer = Consumer {
            name: name.to_owned(),
            roles: self.list("roles")?.unwrap_or(known.roles),
            groups: self.list("groups")?.unwrap_or(known.groups),
            tags: self.list("tags")?.unwrap_or(known.tags),
            scopes: self.list("scopes")?.unwrap_or(known.scopes),
            redirect_uris: redirects.unwrap_or(known.redirect_uris),
            plans: self.plans_of_body()?.unwrap_or(known.plans),
            had_secret: known.had_secret,
            disabled: self.flag("disabled")?.unwrap_or(known.disabled),
            created: known.created,
        };
        let done = self.accounts.put_consumer(consumer.clone(), now).await;
        let what = format!("consumer `{name}` was {}", if is_new { "made" } else { "changed" });
        match consumer.disabled {
            true => self.taken(done, &format!("{what}, and is disabled"))?,
            false => done.map(|()| self.source.audit(&what))?,
        }
        let mut told = self.told(&consumer);
        let advice = consumer.redirect_uris.iter().find_map(|uri| redirect_advice(uri));
        if let (Some(told), Some(advice)) = (told.as_object_mut(), advice) {
            told.insert("advice".to_owned(), advice.into());
        }
        Ok(if is_new { created(&told) } else { shown(&told) })
    }

    /// Refuses a client that asks for logins by a name that another client has as its id.
    fn may_be_client(&self, name: &str) -> Result<(), Refused> {
        if self.source.declares_credential(&CredentialName::Basic(name.to_owned())) {
            return Err((
                StatusCode::CONFLICT,
                "a client of the configuration has this name as its `client_id`: name it otherwise",
            ));
        }
        if self.accounts.client(name).is_some_and(|held| held.credential.consumer != name) {
            return Err((StatusCode::CONFLICT, "another client has this name as its `client_id`: name it otherwise"));
        }
        Ok(())
    }

    /// Disables a consumer of the configuration, or lets it in again: all else of it stands there.
    async fn switch(&self, name: &str, known: Option<Consumer>, now: u64) -> Result<Answer, Stop> {
        let wrong = "the consumer is the configuration's: only `disabled` is to be set here";
        let disabled = self.flag("disabled")?.filter(|_| self.body.len() == 1);
        let Some(disabled) = disabled else { return Err((StatusCode::CONFLICT, wrong).into()) };
        let known = known.unwrap_or_else(|| Consumer { name: name.to_owned(), created: now, ..Consumer::default() });
        let done = self.accounts.put_consumer(Consumer { disabled, ..known }, now).await;
        if disabled {
            self.taken(done, &format!("consumer `{name}` of the configuration was disabled, and its tokens are void"))?;
        } else {
            done?;
            self.source.audit(&format!("consumer `{name}` of the configuration is let in again"));
        }
        Ok(shown(&self.told_declared(name)))
    }

    /// What there is to tell of a consumer of the configuration: how its credentials stand.
    fn told_declared(&self, name: &str) -> Value {
        let own = self.source.declared(name);
        // of the time before the configuration had a consumer of this name: good for nothing, and to be removed
        let held = self.accounts.credentials(name);
        let credentials =
            own.iter().map(|(of, terms)| self.own(of, terms)).chain(held.iter().map(|held| credential(held)));
        let credentials: Vec<Value> = credentials.collect();
        let mut told = json!({
            "name": name, "declared": true, "disabled": self.accounts.consumer(name).is_some_and(|known| known.disabled),
            "plans": self.source.plans_of(name), "tokens": self.accounts.tokens_of(name), "credentials": credentials,
        });
        if let (Some(told), Some(first)) = (told.as_object_mut(), held.first()) {
            let id = &first.credential.id;
            let advice = format!(
                "the store has credentials of the time before this consumer stood in the configuration, `{id}` first: they are good for \
                 nothing; DELETE each at /consumers/NAME/credentials/ID"
            );
            told.insert("advice".to_owned(), advice.into());
        }
        told
    }

    /// What is told of a credential of the configuration: never the credential.
    fn own(&self, of: &CredentialName, terms: &Terms) -> Value {
        let id = of.id();
        json!({
            "kind": of.kind(), "label": terms.label.as_deref().unwrap_or_default(),
            "expires": terms.expires.map(|moment| moment / 1000), "disabled": terms.disabled,
            "revoked": self.accounts.is_void_credential(&id),
            "last_used": self.accounts.last_use(&id).map(|moment| moment / 1000), "id": id,
        })
    }

    /// Makes a credential, which is shown in this answer and never again, or takes in by its digest one that its holder has already.
    async fn credentials(&self, consumer: &str) -> Result<Answer, Stop> {
        if *self.method != Method::POST {
            return Err(Stop::Method("POST makes a credential; GET /consumers/NAME lists them", "POST"));
        }
        self.only(&["kind", "label", "expires_in", "client_id", "sha256"])?;
        if self.source.declares(consumer) {
            return Err(
                (StatusCode::CONFLICT, "the consumer is the configuration's: its credentials stand there").into()
            );
        }
        if self.source.declares_user(consumer) {
            return Err((StatusCode::CONFLICT, OF_USER).into());
        }
        let kind = match self.text("kind")?.unwrap_or("key") {
            "key" => CredentialKind::Key,
            "client" => CredentialKind::Client,
            _ => return Err(bad("`kind` is `key` or `client`").into()),
        };
        let now = self.source.now();
        let prefix = match kind {
            CredentialKind::Key => Prefix::Key,
            CredentialKind::Client => Prefix::Secret,
        };
        let (secret, digest) = match self.digest()? {
            Some(digest) => (None, digest),
            None => {
                let secret = prefix.make().map_err(|_| Trouble::NoRandomness)?;
                let digest = text::digest(secret.as_bytes());
                (Some(secret), digest)
            }
        };
        let id = self.id(kind, &digest)?;
        if self.accounts.client(&id).is_some() || kind == CredentialKind::Key && self.accounts.key(&digest).is_some() {
            return Err(Trouble::There.into());
        }
        if secret.is_none() {
            self.may_come(kind, &id, &digest)?;
        }
        if kind == CredentialKind::Client {
            self.may_be_id(&id, consumer)?;
        }
        let made = Credential {
            id: id.clone(),
            consumer: consumer.to_owned(),
            kind,
            digest,
            label: self.text("label")?.unwrap_or_default().to_owned(),
            created: now,
            expires: self.seconds("expires_in")?.map(|seconds| now.saturating_add(seconds * 1000)),
            disabled: false,
        };
        self.accounts.put_credential(made.clone(), now).await?;
        let what = if secret.is_some() { "was made" } else { "was taken in by its digest" };
        self.source.audit(&format!("credential `{id}` of consumer `{consumer}` {what}"));
        let mut told = json!({
            "id": id, "consumer": consumer, "kind": kind.as_str(), "label": made.label, "created": now / 1000,
            "expires": made.expires.map(|moment| moment / 1000),
        });
        if let Some(told) = told.as_object_mut() {
            match (secret, kind) {
                (Some(secret), CredentialKind::Key) => told.insert("key".to_owned(), secret.into()),
                (Some(secret), CredentialKind::Client) => told.insert("client_secret".to_owned(), secret.into()),
                (None, _) => told.insert("advice".to_owned(), UNSEEN.into()),
            };
        }
        Ok(created(&told))
    }

    /// The id of a credential that is made: the one that a client wants, or one by its digest.
    fn id(&self, kind: CredentialKind, digest: &Digest) -> Result<String, Refused> {
        Ok(match (kind, self.text("client_id")?) {
            (CredentialKind::Key, None) => text::id_of("key", digest),
            (CredentialKind::Key, Some(_)) => return Err(bad("`client_id` is for `kind: client`")),
            // no colon: Basic takes what stands before the first one for the id (RFC 7617, section 2)
            (CredentialKind::Client, None) => text::id_of("client", digest).replace(':', "-"),
            (CredentialKind::Client, Some(id)) if id.contains(':') => {
                return Err(bad("a `client_id` has no colon"));
            }
            (CredentialKind::Client, Some(id)) => id.to_owned(),
        })
    }

    /// Refuses a `client_id` by which another client is known.
    fn may_be_id(&self, id: &str, consumer: &str) -> Result<(), Refused> {
        if self.source.declares_credential(&CredentialName::Basic(id.to_owned())) || self.source.declares(id) {
            return Err((StatusCode::CONFLICT, "a consumer of the configuration has this `client_id`"));
        }
        if id != consumer && self.accounts.consumer(id).is_some_and(|known| known.is_public_client()) {
            return Err((StatusCode::CONFLICT, "another client is known by this name: take another `client_id`"));
        }
        Ok(())
    }

    /// Refuses a credential of others that would not be good, or would be good for two.
    fn may_come(&self, kind: CredentialKind, id: &str, digest: &Digest) -> Result<(), Refused> {
        if kind == CredentialKind::Key && self.source.declares_credential(&CredentialName::Key(*digest)) {
            return Err((StatusCode::CONFLICT, "a consumer of the configuration has this key"));
        }
        if self.accounts.is_void_credential(id) {
            return Err((StatusCode::CONFLICT, "this credential was revoked for ever"));
        }
        Ok(())
    }

    async fn credential(&self, consumer: &str, id: &str) -> Result<Answer, Stop> {
        let known = self.accounts.credentials(consumer).into_iter().find(|held| held.credential.id == id);
        let none = (StatusCode::NOT_FOUND, "the consumer has no such credential in the store");
        let known = known.ok_or(none)?;
        let now = self.source.now();
        match *self.method {
            Method::GET => Ok(shown(&credential(&known))),
            Method::PATCH => {
                self.only(&["label", "expires_in", "disabled"])?;
                let mut changed = known.credential.clone();
                if let Some(label) = self.text("label")? {
                    label.clone_into(&mut changed.label);
                }
                if let Some(seconds) = self.seconds("expires_in")? {
                    changed.expires = Some(now.saturating_add(seconds * 1000));
                }
                changed.disabled = self.flag("disabled")?.unwrap_or(changed.disabled);
                let disabled = changed.disabled;
                let done = self.accounts.put_credential(changed, now).await;
                let what = format!("credential `{id}` of consumer `{consumer}` was changed");
                match disabled {
                    true => self.taken(done, &format!("{what}, and is disabled"))?,
                    false => done.map(|()| self.source.audit(&what))?,
                }
                let held = self.accounts.credentials(consumer).into_iter().find(|held| held.credential.id == id);
                let held = held.ok_or(none)?;
                Ok(shown(&credential(&held)))
            }
            Method::DELETE => {
                let done = self.accounts.revoke(&Revoked::Credential(id.to_owned()), None, now).await;
                self.taken(done, &format!("credential `{id}` of consumer `{consumer}` was removed, with its tokens"))?;
                Ok(shown(&json!({ "removed": id })))
            }
            _ => Err(Stop::Method("only GET, PATCH and DELETE are allowed here", "GET, PATCH, DELETE")),
        }
    }

    /// Revokes a token, what came of a key or credential, what a subject has, or everything.
    async fn revocations(&self) -> Result<Answer, Stop> {
        if *self.method != Method::POST {
            return Err(Stop::Method("POST revokes", "POST"));
        }
        self.only(&["token", "key", "credential", "subject", "all", "before", "tokens"])?;
        let now = self.source.now();
        let before = self.seconds("before")?.map(|seconds| seconds * 1000);
        // what is given out from now on would be void as well, and that cannot be undone
        if before.is_some_and(|before| before > now) {
            return Err(bad("`before` is to come: it is a moment that has passed, in seconds since 1970").into());
        }
        let named = ["token", "key", "credential", "subject", "all"];
        if named.iter().filter(|name| self.body.contains_key(**name)).count() != 1 {
            return Err(bad("name one of `token`, `key`, `credential`, `subject` and `all`").into());
        }
        let (what, told) = if let Some(token) = self.text_of("token", TOKEN)? {
            (Revoked::Token(token.to_owned()), "a token".to_owned())
        } else if let Some(key) = self.text_of("key", KEY)? {
            let id = text::id_of("key", &text::digest(key.as_bytes()));
            let told = format!("key `{id}`");
            (Revoked::Credential(id), told)
        } else if let Some(id) = self.text_of("credential", CREDENTIAL)? {
            (Revoked::Credential(id.to_owned()), format!("credential `{id}`"))
        } else if let Some(name) = self.text_of("subject", SUBJECT)? {
            (Revoked::Subject(name.to_owned()), format!("every token of `{name}`"))
        } else if self.flag("all")? == Some(true) {
            (Revoked::All, "every token".to_owned())
        } else {
            return Err(bad("`all` is true where it is given").into());
        };
        if before.is_some() && matches!(what, Revoked::Token(_) | Revoked::Credential(_)) {
            return Err(bad("`before` is for `subject` and `all`").into());
        }
        let (what, told) = match self.text("tokens")? {
            None | Some("all") => (what, told),
            Some("access") => (Revoked::Access(whose(what)?), format!("access tokens alone: {told}")),
            Some(_) => return Err(bad("`tokens` is `all` or `access`").into()),
        };
        let done = self.accounts.revoke(&what, before, now).await;
        let known = self.taken(done, &format!("{told} was revoked"))?;
        Ok(shown(&json!({ "revoked": true, "known": known })))
    }
}

/// What is told of a consumer that nobody can call as, and why it gets no credential.
const OF_USER: &str = "a user of the configuration has this name: what the store has of it is good for nothing, and keeps the user from \
                       logging in; DELETE it, and make it anew under another name";

/// What is told of a credential that nobody here has seen.
const UNSEEN: &str = "how good it is cannot be told by its digest: replace one that is short or that a person made up";

/// Whose access tokens are meant.
fn whose(what: Revoked) -> Result<Whose, Refused> {
    match what {
        Revoked::Subject(name) => Ok(Whose::Subject(name)),
        Revoked::Credential(id) => Ok(Whose::Credential(id)),
        Revoked::All => Ok(Whose::All),
        Revoked::Token(_) | Revoked::Access(_) => Err(bad("`tokens` says which of several; a `token` is one")),
    }
}

/// What is told of a credential: never the credential.
fn credential(held: &Held) -> Value {
    let of = &held.credential;
    json!({
        "id": of.id, "kind": of.kind.as_str(), "label": of.label, "created": of.created / 1000,
        "expires": of.expires.map(|moment| moment / 1000), "disabled": of.disabled,
        "last_used": held.last_use().map(|moment| moment / 1000),
    })
}
