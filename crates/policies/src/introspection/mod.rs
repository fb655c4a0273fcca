//! `introspection`: who calls, by a token that the service which issued it is asked about. Nobody is let in by a service that does not
//! answer; the caller is never told what was wrong.

mod asker;
mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::Accounts;
use daemun_config::decode::Mapping;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Flow, Identity, Passed, Phase, Policy, PolicyConfig, Request, Runtimes, Stop,
    Verdict,
};
use data_encoding::{BASE64, HEXLOWER};

pub use config::{ClientConfig, ClientSecret, IntrospectionConfig, SendAs};

use crate::bearer::{ANOTHER, Absent, Places, audiences, refused, unavailable};
use crate::caller;
use crate::claims::{Rules, Telling, Wanted};
use asker::{Asker, Digest, Parts, Said};

impl PolicyConfig for IntrospectionConfig {
    const NAME: &'static str = "introspection";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Runtimes> {
        // what the settings do not show of themselves matters as well
        let print = HEXLOWER.encode(digest(&SHA256, self.client.secret.0.as_bytes()).as_ref());
        let world = Arc::clone(ctx.world);
        let asker = ctx.carry.get_or(Self::NAME, &format!("{self:?} {print}"), || Asker::new(self.parts(), world));
        let policy = Introspection {
            asker,
            places: Places::new(self.from.0, self.forward),
            accounts: Accounts::of(ctx.carry),
            max_size: usize::try_from(self.max_size.0).unwrap_or(usize::MAX),
        };
        Some(vec![(Phase::Authenticate, Box::new(policy) as Box<dyn Policy>)])
    }
}

impl IntrospectionConfig {
    fn parts(&self) -> Parts {
        let (id, secret) = (&self.client.id, &self.client.secret.0);
        let authorization = || {
            let coded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            format!("Basic {}", BASE64.encode(format!("{}:{}", coded(id), coded(secret)).as_bytes())).into_bytes()
        };
        let wanted = self.claims.iter().flat_map(|Mapping(pairs)| pairs);
        Parts {
            server: self.url.server(self.ca.clone()),
            target: self.url.target().to_owned(),
            authorization: (self.client.send == SendAs::Basic).then(authorization),
            in_body: (self.client.send == SendAs::Body).then(|| (id.clone(), secret.clone())),
            timeout: self.timeout.0,
            cache: self.cache,
            tokens: usize::try_from(self.max_tokens.get()).unwrap_or_default(),
            rules: Rules {
                issuer: self.issuer.as_deref().map(Into::into),
                audience: audiences(&self.audience),
                wanted: wanted
                    .map(|(path, values)| Wanted { path: path.value.clone(), values: values.0.clone() })
                    .collect(),
                leeway: self.leeway,
                ..Rules::default()
            },
            telling: Telling {
                subject: self.subject.0.clone(),
                consumer: self.consumer.clone(),
                roles: self.roles.clone(),
                groups: self.groups.clone(),
                scopes: self.scopes.0.clone(),
            },
        }
    }
}

struct Introspection {
    asker: Arc<Asker>,
    places: Places,
    /// Whose names nobody else may have.
    accounts: Arc<Accounts>,
    max_size: usize,
}

/// Why a request is not let in; the caller is never told.
enum Denied {
    Absent(Absent),
    /// It is longer than any token, or has characters that none has.
    Malformed,
    Said(Said),
    /// Another authenticator found somebody else, or the caller cannot be one that is told of here.
    Another,
}

impl Policy for Introspection {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        match self.find(exchange) {
            Err(denied) => Flow::Now(Err(refusal(&denied))),
            Ok((_, Some(said))) => Flow::Now(self.admit(exchange, said).map(drop).map_err(|denied| refusal(&denied))),
            Ok((digest, None)) => Flow::Later(Box::pin(self.ask(exchange, digest))),
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
        let denied = match self.find(exchange) {
            Ok((_, Some(said))) => match self.admit(exchange, said) {
                Ok(identity) => {
                    return Explanation::pass(format!("the token is of `{}`", identity.subject.escape_debug()));
                }
                Err(denied) => denied,
            },
            Ok((_, None)) => {
                let why =
                    format!("`{}` would be asked about the token, and is not from here", self.asker.server.authority);
                Denied::Said(Said::Unavailable(why.into()))
            }
            Err(denied) => denied,
        };
        Explanation::stop(&refusal(&denied), denied.words())
    }
}

impl Introspection {
    /// The digest of the request's token, and what is known of it.
    fn find(&self, exchange: &Exchange) -> Result<(Digest, Option<Said>), Denied> {
        let token = self.places.find(&exchange.request).map_err(Denied::Absent)?;
        if token.len() > self.max_size || !token.iter().all(u8::is_ascii_graphic) {
            return Err(Denied::Malformed);
        }
        let digest: Digest = digest(&SHA256, &token).as_ref().try_into().map_err(|_| Denied::Malformed)?;
        Ok((digest, self.asker.known(&digest, exchange.wall)))
    }

    async fn ask(&self, exchange: &mut Exchange, digest: Digest) -> Verdict {
        let said = match self.places.find(&exchange.request) {
            Ok(token) => self.asker.ask(&token, digest, exchange.wall).await,
            Err(absent) => return Err(refusal(&Denied::Absent(absent))),
        };
        self.admit(exchange, said).map(drop).map_err(|denied| refusal(&denied))
    }

    /// Notes the caller and tells the upstream, instead of the token.
    fn admit(&self, exchange: &mut Exchange, said: Said) -> Result<Arc<Identity>, Denied> {
        let identity = match said {
            Said::Active(identity) => identity,
            other @ (Said::Inactive | Said::Unfit(_) | Said::Unavailable(_)) => return Err(Denied::Said(other)),
        };
        if !caller::note_other(exchange, &identity, &self.accounts) {
            return Err(Denied::Another);
        }
        self.places.remove(&mut exchange.request);
        Ok(identity)
    }
}

#[cold]
fn refusal(denied: &Denied) -> Stop {
    match denied {
        Denied::Said(Said::Unavailable(_)) => unavailable(denied.words()),
        Denied::Absent(Absent::None) => refused(false, denied.words()),
        Denied::Absent(Absent::Several) | Denied::Malformed | Denied::Said(_) | Denied::Another => {
            refused(true, denied.words())
        }
    }
}

impl Denied {
    fn words(&self) -> String {
        match self {
            Denied::Absent(absent) => absent.words().to_owned(),
            Denied::Malformed => "the token is longer than `max_size`, or has characters that no token has".to_owned(),
            Denied::Said(Said::Unfit(why)) => format!("the token is not taken: {why}"),
            Denied::Said(Said::Unavailable(why)) => format!("the token cannot be asked about: {why}"),
            Denied::Said(Said::Inactive | Said::Active(_)) => {
                "the token is not active, or was not taken a moment ago".to_owned()
            }
            Denied::Another => ANOTHER.to_owned(),
        }
    }
}
