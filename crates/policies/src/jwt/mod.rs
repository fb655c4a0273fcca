//! `jwt`: who calls, by a signed token that another service issued. A token's own word counts for nothing before its signature was
//! verified, with a key and an algorithm that are not the token's to choose; the caller is never told what was wrong.

mod algorithm;
mod config;
pub(crate) mod der;
pub mod jws;
pub mod keys;
pub(crate) mod remote;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod verifier;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::Accounts;
use daemun_config::decode::Mapping;
use daemun_config::{diagnostic, read_file, why};
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Flow, Identity, Passed, Phase, Policy, PolicyConfig, Request, Runtimes, Stop,
    Verdict,
};
use data_encoding::HEXLOWER;

pub use algorithm::Algorithm;
pub use config::{JwtConfig, KeyFile, KeySource, Secret};

use crate::bearer::{ANOTHER, Absent, Places, audiences, refused, unavailable};
use crate::caller;
use crate::claims::{Rules, Telling, Wanted};
use crate::token_cache::TokenCache;
use keys::{Key, KeySet, MOST_TRIED, Unverified};
use remote::Remote;
use verifier::{Keys, Refused, Verifier};

/// Bytes of a file with keys.
const MOST_BYTES: u64 = 1 << 20;

impl PolicyConfig for JwtConfig {
    const NAME: &'static str = "jwt";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Runtimes> {
        let (keys, print) = self.keys(ctx)?;
        // whatever is verified by the same settings and keys is remembered together, over routes and reloads
        let shape = format!("{self:?} {print}");
        let verifier = ctx.carry.get_or(Self::NAME, &shape, || self.verifier(keys));
        if let Keys::Published(remote) = &verifier.keys {
            remote.start();
        }
        let (places, accounts) = (Places::new(self.from.0, self.forward), Accounts::of(ctx.carry));
        let policy = Jwt { verifier, places, accounts };
        Some(vec![(Phase::Authenticate, Box::new(policy) as Box<dyn Policy>)])
    }
}

impl JwtConfig {
    /// The keys, and what tells them from others.
    fn keys(&self, ctx: &mut BuildContext<'_>) -> Option<(Keys, String)> {
        let allowed = self.allowed();
        if let Some(published) = self.published() {
            // what is wrong was reported when the settings were read
            let published = published.ok()?;
            let shape = format!("{published:?} {:?} {allowed:?}", self.ca);
            let world = Arc::clone(ctx.world);
            let make = || Remote::new(published, self.ca.clone(), allowed, world);
            return Some((Keys::Published(ctx.carry.get_or("published keys", &shape, make)), String::new()));
        }
        let (found, bytes) = match self.keys.as_ref()? {
            KeySource::Secret(Secret(secret)) => {
                let key = Key::of_secret(None, secret.as_bytes(), &allowed);
                (key.map(KeySet::of), secret.as_bytes().to_vec())
            }
            KeySource::File(KeyFile(path)) => {
                let bytes = match read_file(path, MOST_BYTES) {
                    Ok(bytes) if bytes.len() as u64 <= MOST_BYTES => bytes,
                    Ok(_) => {
                        ctx.error(diagnostic::FILE, format!("`{}` is larger than 1 MiB", path.display()), None);
                        return None;
                    }
                    Err(error) => {
                        let message = format!("`{}` cannot be read: {}", path.display(), why(&error));
                        ctx.error(diagnostic::FILE, message, None);
                        return None;
                    }
                };
                (of_file(&bytes, &allowed, ctx), bytes)
            }
            KeySource::Url(_) => return None,
        };
        match found {
            Ok(set) => Some((Keys::Given(Box::new(set)), HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()))),
            Err(why) => {
                let of = match &self.keys {
                    Some(KeySource::File(KeyFile(path))) => format!("the keys in `{}` cannot be used", path.display()),
                    _ => "the secret cannot be used".to_owned(),
                };
                ctx.error(diagnostic::BAD_VALUE, format!("{of}: {why}"), None);
                None
            }
        }
    }

    fn verifier(&self, keys: Keys) -> Verifier {
        let wanted = self.claims.iter().flat_map(|Mapping(pairs)| pairs);
        Verifier {
            keys,
            rules: Rules {
                issuer: self.issuer.as_deref().map(Into::into),
                audience: audiences(&self.audience),
                required: self.required.0.clone(),
                wanted: wanted
                    .map(|(path, values)| Wanted { path: path.value.clone(), values: values.0.clone() })
                    .collect(),
                leeway: self.leeway,
                max_lifetime: self.max_lifetime.map(|limit| limit.0),
            },
            telling: Telling {
                subject: self.subject.0.clone(),
                consumer: self.consumer.clone(),
                roles: self.roles.clone(),
                groups: self.groups.clone(),
                scopes: self.scopes.0.clone(),
            },
            types: self.types.0.iter().map(|name| name.to_ascii_lowercase()).collect(),
            max_size: usize::try_from(self.max_size.0).unwrap_or(usize::MAX),
            known: TokenCache::new(usize::try_from(self.cache.get()).unwrap_or_default()),
        }
    }
}

/// The keys of a file: PEM, or JSON.
fn of_file(bytes: &[u8], allowed: &[Algorithm], ctx: &mut BuildContext<'_>) -> Result<KeySet, keys::Unusable> {
    let set = if bytes.trim_ascii_start().first() == Some(&b'{') {
        let read = KeySet::of_json(bytes, allowed, false)?;
        for left_out in read.left_out {
            ctx.warning(diagnostic::NO_EFFECT, format!("a key of the file is not used: {left_out}"), None);
        }
        read.set
    } else {
        KeySet::of_pem(bytes, allowed)?
    };
    let never_tried = set.never_tried();
    if never_tried > 0 {
        let message = format!(
            "{never_tried} keys of the file are never used: of those without a name, {MOST_TRIED} are tried for an algorithm"
        );
        let help = "give the keys names (`kid`) in a JWK Set, or leave out those that nobody signs with any more";
        ctx.warning(diagnostic::NO_EFFECT, message, Some(help.to_owned()));
    }
    Ok(set)
}

struct Jwt {
    verifier: Arc<Verifier>,
    places: Places,
    /// Whose names nobody else may have.
    accounts: Arc<Accounts>,
}

/// Why a request is not let in; the caller is never told.
enum Denied {
    Absent(Absent),
    Refused(Refused),
    /// Another authenticator found somebody else, or the caller cannot be one that is told of here.
    Another,
}

impl Policy for Jwt {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        match self.identify(exchange, true) {
            Ok(identity) => Flow::Now(self.admit(exchange, identity).map_err(|denied| self.refusal(&denied))),
            Err(denied) => self.otherwise(exchange, denied),
        }
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        self.places.removed()
    }

    fn is_shown(&self, exchange: &Exchange) -> bool {
        !matches!(self.places.find(&exchange.request), Err(Absent::None))
    }

    fn forwarded_in_requests(&self) -> &[Box<str>] {
        self.places.forwarded()
    }

    fn pass_by(&self, request: &mut Request, passed: &Passed<'_>) {
        self.places.pass_by(request, passed);
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let found = self.identify(exchange, false);
        let denied = match found.and_then(|identity| self.admit(exchange, Arc::clone(&identity)).map(|()| identity)) {
            Ok(identity) => {
                return Explanation::pass(format!("the token is of `{}`", identity.subject.escape_debug()));
            }
            Err(denied) => denied,
        };
        let why = match (&denied, &self.verifier.keys) {
            (Denied::Refused(Refused::NoKeys), Keys::Published(remote)) => {
                format!("the token would be verified with {}, which are not asked for here", remote.words())
            }
            (Denied::Refused(Refused::Unverified(Unverified::UnknownKey)), Keys::Published(remote)) => {
                format!(
                    "the token is signed with none of {} that are known; they would be asked for again",
                    remote.words()
                )
            }
            _ => denied.words(),
        };
        Explanation::stop(&self.refusal(&denied), why)
    }
}

impl Jwt {
    #[inline]
    fn identify(&self, exchange: &Exchange, remember: bool) -> Result<Arc<Identity>, Denied> {
        let token = self.places.find(&exchange.request).map_err(Denied::Absent)?;
        if let Some(known) = self.verifier.remembered(&token, exchange.wall) {
            return Ok(known);
        }
        self.verifier.verify(&token, exchange.wall, remember).map_err(Denied::Refused)
    }

    /// Notes the caller and tells the upstream, instead of the token.
    fn admit(&self, exchange: &mut Exchange, identity: Arc<Identity>) -> Result<(), Denied> {
        if !caller::note_other(exchange, identity, &self.accounts) {
            return Err(Denied::Another);
        }
        self.places.remove(&mut exchange.request);
        Ok(())
    }

    /// Waits for keys where that may help, and refuses elsewhere.
    #[cold]
    fn otherwise<'a>(&'a self, exchange: &'a mut Exchange, denied: Denied) -> Flow<'a> {
        match (&self.verifier.keys, &denied) {
            (
                Keys::Published(remote),
                Denied::Refused(Refused::NoKeys | Refused::Unverified(Unverified::UnknownKey)),
            ) => Flow::Later(Box::pin(self.wait(remote, exchange, denied))),
            _ => Flow::Now(Err(self.refusal(&denied))),
        }
    }

    async fn wait(&self, remote: &Arc<Remote>, exchange: &mut Exchange, denied: Denied) -> Verdict {
        let mut denied = denied;
        // whether the key is there cannot be told where so many wait, which may all be made up
        let Some(mut waiting) = remote.wait() else { return Err(unavailable(denied.words())) };
        loop {
            // looked at once more, now that no fetch can end unseen
            let found = self.identify(exchange, true);
            match found.and_then(|identity| self.admit(exchange, identity)) {
                Ok(()) => return Ok(()),
                Err(still) => denied = still,
            }
            let under_way = match &denied {
                // an issuer that was just found to be away is not waited for
                Denied::Refused(Refused::NoKeys) => true,
                Denied::Refused(Refused::Unverified(Unverified::UnknownKey)) => false,
                Denied::Absent(_) | Denied::Refused(_) | Denied::Another => break,
            };
            if !waiting.next(under_way).await {
                break;
            }
        }
        Err(self.refusal(&denied))
    }

    #[cold]
    fn refusal(&self, denied: &Denied) -> Stop {
        match denied {
            Denied::Refused(Refused::NoKeys) => unavailable(denied.words()),
            Denied::Absent(Absent::None) => refused(false, denied.words()),
            Denied::Absent(Absent::Several) | Denied::Refused(_) | Denied::Another => refused(true, denied.words()),
        }
    }
}

impl Denied {
    fn words(&self) -> String {
        match self {
            Denied::Absent(absent) => absent.words().to_owned(),
            Denied::Refused(why) => format!("the token is not taken: {}", why.words()),
            Denied::Another => ANOTHER.to_owned(),
        }
    }
}
