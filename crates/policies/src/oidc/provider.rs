//! What a provider is asked: its endpoints, what a code stands for, whether an ID token is its own (OpenID Connect Core 1.0, section 3.1.3).
//! Knows no browser and no cookie.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, digest};
use bytes::Bytes;
use daemun_config::decode::WebUrl;
use daemun_pipeline::{BuildContext, OutAnswer, OutCall, World};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use form_urlencoded::{Serializer, byte_serialize};
use serde_json::{Map, Value};

use super::session::Login;
use crate::claims::{ClaimPath, Rules, Telling, Wanted};
use crate::jwt::Algorithm;
use crate::jwt::jws::Jws;
use crate::jwt::keys::Unverified;
use crate::jwt::remote::{Published, Remote};
use crate::jwt::verifier::{Keys, Refused, Verifier};
use crate::token_cache::TokenCache;
use daemun_pipeline::strict_json::{Members, read_object};

/// Bytes of an answer.
const MOST_BYTES: usize = 256 << 10;
/// Bytes of a text of the provider that the log holds.
const CLIP: usize = 128;
/// Bytes of an ID token.
const LONGEST_TOKEN: usize = 32 << 10;
/// Bytes of a code.
const LONGEST_CODE: usize = 4096;

/// What is known of a provider before it was ever asked.
pub(crate) struct Settings<'a> {
    pub(crate) issuer: &'a str,
    /// This gateway's name and secret there.
    pub(crate) client: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) ca: Option<&'a PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) leeway: Duration,
    pub(crate) userinfo: bool,
    /// What a login must say.
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) telling: Telling,
}

/// A provider, and this gateway as its client.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(super) client: String,
    pub(super) secret: String,
    pub(super) ca: Option<PathBuf>,
    pub(super) timeout: Duration,
    pub(super) userinfo: bool,
    pub(super) world: Arc<dyn World>,
    pub(super) remote: Arc<Remote>,
    pub(super) verifier: Verifier,
    /// What a login must say, whichever endpoint says it.
    pub(super) wanted: Rules,
    /// What the operator was told last.
    pub(super) told: Mutex<Option<String>>,
}

/// Where a provider is asked what.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// Where browsers are sent.
    pub(super) authorization: String,
    token: WebUrl,
    userinfo: Option<WebUrl>,
    /// Where browsers are sent that log out.
    pub(super) end_session: Option<String>,
    /// Whether it says in every answer that it is the one who answers (RFC 9207, section 3).
    pub(super) names_itself: bool,
    /// Whether it takes a client's secret in the body alone.
    secret_in_body: bool,
}

/// What the provider was asked for when the browser was sent there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Scopes, with blanks between them.
    pub(crate) scopes: &'a str,
    /// Where the browser comes back to.
    pub(crate) redirect: &'a str,
}

/// Why a login comes to nothing; for the log, never for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The provider cannot be asked, or does not answer as it must.
    Away(String),
    /// It is not taken.
    Refused(String),
}

fn refused<T>(why: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::Refused(why.into()))
}

impl Provider {
    /// One that is asked for what it says of itself from now on. `None` when its name is none that can be asked.
    pub(crate) fn begin(settings: Settings<'_>, ctx: &BuildContext<'_>) -> Option<Provider> {
        let published = Published::by(settings.issuer).ok()?;
        let allowed: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|known| !known.is_shared()).collect();
        let shape = format!("{published:?} {:?} {allowed:?}", settings.ca);
        let world = Arc::clone(ctx.world);
        let make = || Remote::new(published, settings.ca.cloned(), allowed, Arc::clone(&world));
        let remote = ctx.carry.get_or("published keys", &shape, make);
        remote.start();
        let rules = Rules {
            issuer: Some(settings.issuer.into()),
            audience: vec![settings.client.to_owned()],
            required: ["exp", "iat", "sub"].map(ClaimPath::named).into(),
            leeway: settings.leeway,
            ..Rules::default()
        };
        let verifier = Verifier {
            keys: Keys::Published(Arc::clone(&remote)),
            rules,
            telling: settings.telling,
            types: Box::new(["jwt".to_owned()]),
            max_size: LONGEST_TOKEN,
            known: TokenCache::new(0),
        };
        Some(Provider {
            issuer: settings.issuer.to_owned(),
            client: settings.client.to_owned(),
            secret: settings.secret.to_owned(),
            ca: settings.ca.cloned(),
            timeout: settings.timeout,
            userinfo: settings.userinfo,
            world,
            remote,
            verifier,
            wanted: Rules { wanted: settings.wanted, leeway: settings.leeway, ..Rules::default() },
            told: Mutex::default(),
        })
    }

    /// Where it is asked, as far as that is known.
    pub(super) fn endpoints(&self) -> Result<Endpoints, Failed> {
        let away = |why: String| Failed::Away(format!("the provider `{}`: {why}", self.issuer));
        let said = self.remote.said().ok_or_else(|| away("nothing is known of it yet".to_owned()))?;
        let is_https = self.issuer.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let address = |name: &str| match said.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => match WebUrl::parse(text) {
                Ok(url) if url.is_https() || !is_https => Ok(Some(url)),
                Ok(_) => Err(away(format!("its `{name}` is not `https`"))),
                Err(why) => Err(away(format!("its `{name}` is no address: {why}"))),
            },
            Some(_) => Err(away(format!("its `{name}` is no address"))),
        };
        let needed = |name: &str| address(name)?.ok_or_else(|| away(format!("it names no `{name}`")));
        let methods = said.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
        let takes = |method: &str| methods.is_some_and(|all| all.iter().any(|one| one == method));
        Ok(Endpoints {
            authorization: needed("authorization_endpoint")?.written().to_owned(),
            token: needed("token_endpoint")?,
            userinfo: address("userinfo_endpoint")?,
            end_session: address("end_session_endpoint")?.map(|url| url.written().to_owned()),
            names_itself: said.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
            // where it says nothing it takes HTTP Basic (OpenID Connect Discovery 1.0, section 3)
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }

    /// The same, once it was asked.
    pub(crate) async fn known_endpoints(&self) -> Result<Endpoints, Failed> {
        let found = self.endpoints();
        if self.remote.said().is_some() {
            return found;
        }
        let Some(mut waiting) = self.remote.wait() else { return found };
        loop {
            let found = self.endpoints();
            if self.remote.said().is_some() || !waiting.next(true).await {
                return found;
            }
        }
    }

    /// Where a browser is sent to log in (section 3.1.2.1; RFC 7636, section 4.3).
    pub(crate) fn login_at(&self, endpoints: &Endpoints, login: &Login, scopes: &str, redirect: &str) -> String {
        let challenge = BASE64URL_NOPAD.encode(digest(&digest::SHA256, login.verifier.as_bytes()).as_ref());
        let query = Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", scopes)
            .append_pair("state", &login.state)
            .append_pair("nonce", &login.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        with_query(&endpoints.authorization, &query)
    }

    /// What the provider says of who logged in, by the answer that a browser brings in a query.
    pub(crate) async fn answer(
        &self,
        query: &str,
        login: &Login,
        asked: Asked<'_>,
        now: u64,
    ) -> Result<Map<String, Value>, Failed> {
        let endpoints = self.known_endpoints().await?;
        match parameter(query, "iss")? {
            // a code of one issuer must not be taken to another (RFC 9207, section 2.4)
            Some(issuer) if issuer != self.issuer => return refused("the answer is of another issuer"),
            None if endpoints.names_itself => return refused("the answer does not say whose it is"),
            Some(_) | None => {}
        }
        if let Some(error) = parameter(query, "error")? {
            let why = format!("the provider answers `{}`", clip(&error));
            // it says that it cannot, and not that it will not (RFC 6749, section 4.1.2.1)
            let is_away = matches!(&*error, "server_error" | "temporarily_unavailable");
            return Err(if is_away { Failed::Away(why) } else { Failed::Refused(why) });
        }
        let code = parameter(query, "code")?.filter(|code| (1..=LONGEST_CODE).contains(&code.len()));
        let Some(code) = code else { return refused("there is no `code`, or one that is too long") };
        self.redeem(&endpoints, &code, login, asked, now).await
    }

    /// What the provider says of who logged in.
    async fn redeem(
        &self,
        endpoints: &Endpoints,
        code: &str,
        login: &Login,
        asked: Asked<'_>,
        now: u64,
    ) -> Result<Map<String, Value>, Failed> {
        let answer = self.tokens(endpoints, code, login, asked.redirect).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        let Some(id_token) = text("id_token") else { return refused("the provider gave no ID token") };
        let access = text("access_token").unwrap_or_default();
        let mut claims = self.verify(id_token.as_bytes(), login, access, now).await?;
        if self.userinfo {
            self.ask_userinfo(endpoints, access, &mut claims).await?;
        }
        self.wanted
            .check(&Members::of(&claims), now)
            .map_err(|why| Failed::Refused(format!("the login is not taken: {why}")))?;
        // where it says nothing, it has granted what was asked for (RFC 6749, section 5.1)
        let granted = match answer.get("scope") {
            None | Some(Value::Null) => Some(asked.scopes),
            Some(scope) => scope.as_str(),
        };
        if let (Some(scope), false) = (granted, claims.contains_key("scope")) {
            claims.insert("scope".to_owned(), scope.into());
        }
        Ok(claims)
    }

    /// The answer of the token endpoint (section 3.1.3.1).
    async fn tokens(
        &self,
        endpoints: &Endpoints,
        code: &str,
        login: &Login,
        redirect: &str,
    ) -> Result<Map<String, Value>, Failed> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", redirect)
            .append_pair("code_verifier", &login.verifier);
        let mut fields = vec![
            ("content-type".to_owned(), b"application/x-www-form-urlencoded".to_vec()),
            ("accept".to_owned(), b"application/json".to_vec()),
        ];
        if endpoints.secret_in_body {
            form.append_pair("client_id", &self.client).append_pair("client_secret", &self.secret);
        } else {
            // each part is encoded as in a form (RFC 6749, section 2.3.1)
            let coded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", coded(&self.client), coded(&self.secret));
            fields.push(("authorization".to_owned(), format!("Basic {}", BASE64.encode(pair.as_bytes())).into_bytes()));
        }
        let body = Bytes::from(form.finish());
        let answer = self.call("POST", &endpoints.token, fields, body).await?;
        let read = read_object(&answer.body);
        let error = read.as_ref().and_then(|read| read.get("error")).and_then(Value::as_str);
        match (answer.status, error) {
            (200, _) => {
                self.tell(None);
                read.ok_or_else(|| self.away("the answer to a code is no JSON object that can be read in one way"))
            }
            // what is wrong is the gateway's, and not the browser's
            (400 | 401, Some(error @ ("invalid_client" | "unauthorized_client" | "unsupported_grant_type"))) => {
                let why = format!("the provider `{}` does not take this client: `{error}`", self.issuer);
                self.tell(Some(why.clone()));
                Err(Failed::Away(why))
            }
            (400 | 401, Some(error)) => refused(format!("the provider does not take the code: `{}`", clip(error))),
            (status, _) => Err(self.away(&format!("the answer to a code is {status}"))),
        }
    }

    /// Adds what the userinfo endpoint says (section 5.3) to what the ID token does.
    async fn ask_userinfo(
        &self,
        endpoints: &Endpoints,
        access: &str,
        claims: &mut Map<String, Value>,
    ) -> Result<(), Failed> {
        let Some(url) = &endpoints.userinfo else { return Err(self.away("it names no `userinfo_endpoint`")) };
        if access.is_empty() || !access.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused("the provider gave no access token");
        }
        let fields = vec![
            ("authorization".to_owned(), format!("Bearer {access}").into_bytes()),
            ("accept".to_owned(), b"application/json".to_vec()),
        ];
        let answer = self.call("GET", url, fields, Bytes::new()).await?;
        let said = read_object(&answer.body).filter(|_| answer.status == 200);
        let Some(said) = said else { return Err(self.away("what it says of the user cannot be read")) };
        // of somebody else it would be taken for this one's (section 5.3.2)
        if said.get("sub").is_none() || said.get("sub") != claims.get("sub") {
            return refused("what the provider says of the user is of another");
        }
        for (name, value) in said {
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }

    async fn call(
        &self,
        method: &'static str,
        url: &WebUrl,
        fields: Vec<(String, Vec<u8>)>,
        body: Bytes,
    ) -> Result<OutAnswer, Failed> {
        let call = OutCall {
            server: Arc::new(url.server(self.ca.clone())),
            method,
            target: url.target().to_owned(),
            fields,
            body,
            within: self.timeout,
            most: MOST_BYTES,
        };
        self.world.call(call).await.map_err(|error| self.away(&error.why))
    }

    fn away(&self, why: &str) -> Failed {
        Failed::Away(format!("the provider `{}`: {why}", self.issuer))
    }

    /// Tells the operator what is wrong, once.
    fn tell(&self, wrong: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != wrong {
            told.clone_from(&wrong);
            drop(told);
            if let Some(wrong) = wrong {
                self.world.tell("login", wrong);
            }
        }
    }

    /// What an ID token says, once it is known to be the provider's, for this client and this login (section 3.1.3.7).
    async fn verify(&self, token: &[u8], login: &Login, access: &str, now: u64) -> Result<Map<String, Value>, Failed> {
        let not_taken = |why: &Refused| Failed::Refused(format!("the ID token is not taken: {}", why.words()));
        let mut found = self.verifier.claims(token, now);
        if is_of_keys(&found)
            && let Some(mut waiting) = self.remote.wait()
        {
            loop {
                found = self.verifier.claims(token, now);
                let under_way = matches!(found, Err(Refused::NoKeys));
                if !is_of_keys(&found) || !waiting.next(under_way).await {
                    break;
                }
            }
        }
        let no_keys = || self.away("there are no keys of it yet");
        let claims = found.map_err(|why| if why == Refused::NoKeys { no_keys() } else { not_taken(&why) })?;
        self.check(&claims, login)?;
        if let Some(hash) = claims.get("at_hash") {
            let jws = Jws::parse(token).map_err(|why| not_taken(&Refused::Malformed(why)))?;
            if hash.as_str() != Some(&*half_hash(jws.header.algorithm, access)) {
                return refused("the ID token's `at_hash` is of another access token");
            }
        }
        Ok(claims)
    }

    fn check(&self, claims: &Map<String, Value>, login: &Login) -> Result<(), Failed> {
        let nonce = claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
        if verify_slices_are_equal(nonce.as_bytes(), login.nonce.as_bytes()).is_err() {
            return refused("the ID token's `nonce` is not that of the login");
        }
        if claims.get("sub").and_then(Value::as_str).is_none_or(str::is_empty) {
            return refused("the ID token's `sub` is no text");
        }
        let is_for_several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        match claims.get("azp") {
            Some(azp) if azp.as_str() != Some(&*self.client) => refused("the ID token's `azp` is another client"),
            None if is_for_several => refused("the ID token is for several, and has no `azp`"),
            Some(_) | None => Ok(()),
        }
    }
}

/// A parameter of a query, which stands there once.
pub(crate) fn parameter(query: &str, name: &str) -> Result<Option<String>, Failed> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| known == name);
    match (values.next(), values.next()) {
        (_, Some(_)) => refused(format!("`{name}` stands twice")),
        (first, None) => Ok(first.map(|(_, value)| value.into_owned())),
    }
}

/// Whether keys that are not known yet may let a token be taken.
fn is_of_keys<T>(found: &Result<T, Refused>) -> bool {
    matches!(found, Err(Refused::NoKeys | Refused::Unverified(Unverified::UnknownKey)))
}

/// The left half of an access token's hash, with the hash of the signature (section 3.1.3.6).
fn half_hash(algorithm: Algorithm, access: &str) -> String {
    let name = algorithm.name();
    let hash = if name.ends_with("384") {
        &digest::SHA384
    } else if name.ends_with("512") || algorithm == Algorithm::EdDsa {
        &digest::SHA512
    } else {
        &digest::SHA256
    };
    let hashed = digest(hash, access.as_bytes());
    BASE64URL_NOPAD.encode(hashed.as_ref().get(..hash.output_len() / 2).unwrap_or_default())
}

/// An address with a query behind the one it may have.
pub(crate) fn with_query(address: &str, query: &str) -> String {
    let mark = if address.contains('?') { '&' } else { '?' };
    format!("{address}{mark}{query}")
}

/// The beginning of a text from outside, as the log may hold it.
fn clip(text: &str) -> String {
    text.chars().take(CLIP).collect::<String>().escape_debug().to_string()
}
