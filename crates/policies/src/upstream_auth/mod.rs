//! `upstream_auth`: what the upstream is shown of who calls it, in place of what the caller showed. Nothing is sent without it; no secret
//! becomes part of the request that other policies, logs and `explain` see.

mod config;
mod shown;
pub(crate) mod sigv4;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_pipeline::{
    Bodies, BodyNeed, BuildContext, Credentials, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig,
    Reason, Request, Span, Stop, Verdict,
};

pub use config::{
    AwsPayload, AwsSigV4, AwsWord, ClientAuthentication, ClientCredentials, Scope, SecretText, UpstreamAuthConfig,
    UpstreamBasic, UpstreamKey,
};

use crate::base64_text;
use shown::{Fixed, Parameter};
use sigv4::{Payload, Signer};
use tokens::{Tokens, Why};

/// What stands in the place of a secret where people look.
const HIDDEN: &str = "(hidden)";

impl PolicyConfig for UpstreamAuthConfig {
    const NAME: &'static str = "upstream_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let policy = UpstreamAuth::new(self, ctx)?;
        Some(vec![(Phase::Transform, Box::new(policy))])
    }
}

struct UpstreamAuth {
    source: Source,
    /// Fields of the caller's own that do not go on.
    removed: Box<[Box<str>]>,
    /// A parameter of the caller's own that does not go on.
    parameter: Option<Box<str>>,
    /// What people are told instead of the credentials.
    hidden: Arc<dyn Credentials>,
    /// Whose they are, for people.
    told: Box<str>,
}

/// Where the credentials are from.
enum Source {
    /// They are the same for every call.
    Same(Arc<dyn Credentials>),
    /// They are a token.
    Tokens(Arc<Tokens>),
    /// They are made of what is sent.
    Signed { signer: Arc<Signer>, max_body: u64 },
}

impl UpstreamAuth {
    fn new(settings: UpstreamAuthConfig, ctx: &mut BuildContext<'_>) -> Option<UpstreamAuth> {
        let field = |name: &str, value: Vec<u8>| Arc::new(Fixed { name: name.into(), value: value.into() });
        let authorization = |told: &str| field("authorization", format!("{told} {HIDDEN}").into_bytes());
        let removed = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect();
        if let Some(basic) = settings.basic {
            let mut value = b"Basic ".to_vec();
            base64_text::encode(format!("{}:{}", basic.username, basic.password.0).as_bytes(), &mut value);
            return Some(UpstreamAuth {
                source: Source::Same(field("authorization", value)),
                removed: removed(&["authorization"]),
                parameter: None,
                hidden: authorization("Basic"),
                told: format!("username and password of `{}`", basic.username.escape_debug()).into(),
            });
        }
        if let Some(key) = settings.api_key {
            return Some(match (key.header, key.query) {
                (Some(header), _) => UpstreamAuth {
                    source: Source::Same(field(&header.0, key.key.0.into_bytes())),
                    removed: removed(&[&header.0]),
                    parameter: None,
                    hidden: field(&header.0, HIDDEN.as_bytes().to_vec()),
                    told: format!("a key in `{}`", header.0).into(),
                },
                (None, query) => {
                    let name = query?;
                    UpstreamAuth {
                        source: Source::Same(Arc::new(Parameter::new(&name, &key.key.0))),
                        removed: Box::from([]),
                        hidden: Arc::new(Parameter::new(&name, "hidden")),
                        told: format!("a key in the query, as `{name}`").into(),
                        parameter: Some(name.into()),
                    }
                }
            });
        }
        if let Some(client) = settings.client_credentials {
            let told = format!(
                "a token of `{}` for the client `{}`",
                client.token_url.host(),
                client.client_id.escape_debug()
            );
            let world = Arc::clone(ctx.world);
            let tokens = ctx.carry.get_or("upstream_auth tokens", &shape(&client), || Tokens::new(&client, world));
            return Some(UpstreamAuth {
                source: Source::Tokens(tokens),
                removed: removed(&["authorization"]),
                parameter: None,
                hidden: authorization("Bearer"),
                told: told.into(),
            });
        }
        let aws = settings.aws_sigv4?;
        let told =
            format!("a signature for `{}` in `{}` with the key `{}`", aws.service.0, aws.region.0, aws.access_key_id.0);
        let max_body = aws.max_body.0.min(ctx.body);
        Some(UpstreamAuth {
            source: Source::Signed { signer: Arc::new(Signer::new(aws)), max_body },
            removed: removed(&sigv4::FIELDS),
            parameter: None,
            hidden: authorization("AWS4-HMAC-SHA256"),
            told: told.into(),
        })
    }

    /// Takes out what the caller showed, in every spelling that a back end may read as the same.
    fn clean(&self, exchange: &mut Exchange) {
        for name in &self.removed {
            exchange.request.head.remove_alike(name, usize::MAX);
        }
        if matches!(&self.source, Source::Signed { signer, .. } if signer.is_for_s3()) {
            sigv4::remove_all(&mut exchange.request.head);
        }
        if let Some(name) = &self.parameter {
            remove_parameter(&mut exchange.request, name);
        }
    }
}

/// What tells one client from others: all that is asked with, by its digest.
fn shape(client: &ClientCredentials) -> String {
    let text = format!("{client:?}\0{}", client.client_secret.0);
    digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Writes the query again without a parameter, behind everything else in the buffer.
fn remove_parameter(request: &mut Request, name: &str) {
    let Some(query) = request.query_text() else { return };
    let named =
        |pair: &str| daemun_pipeline::exchange::is_query_name(pair.split_once('=').map_or(pair, |(n, _)| n), name);
    if !query.split('&').any(named) {
        return;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !named(pair)).collect();
    let kept = kept.join("&");
    request.query = (!kept.is_empty()).then(|| -> Span { request.head.store(kept.as_bytes()) });
}

impl Policy for UpstreamAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        self.clean(exchange);
        match &self.source {
            Source::Same(credentials) => exchange.credentials = Some(Arc::clone(credentials)),
            Source::Signed { signer, .. } => match Payload::of(signer, exchange) {
                Some(payload) => exchange.credentials = Some(signer.with(payload)),
                None => return Flow::Now(Err(none("the body was not given to be signed"))),
            },
            Source::Tokens(tokens) => match tokens.current(exchange.wall) {
                Some(token) => exchange.credentials = Some(Arc::clone(&token.shown) as Arc<dyn Credentials>),
                None => {
                    return Flow::Later(Box::pin(async {
                        let token = tokens.wait(exchange.wall).await.map_err(|why: Why| none(&why))?;
                        exchange.credentials = Some(Arc::clone(&token.shown) as Arc<dyn Credentials>);
                        Ok(())
                    }));
                }
            },
        }
        Flow::Now(Ok(()))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        if let (Source::Tokens(tokens), Some(shown)) = (&self.source, &exchange.credentials)
            && exchange.response.status == 401
            && !exchange.response.own
        {
            tokens.refused(shown, exchange.wall);
        }
        Ok(())
    }

    fn sees_answers(&self) -> bool {
        matches!(self.source, Source::Tokens(_))
    }

    fn bodies(&self) -> Bodies {
        let signs = matches!(&self.source, Source::Signed { signer, .. } if signer.signs_body());
        Bodies { request: signs, ..Bodies::default() }
    }

    fn request_body(&self, _: &Exchange) -> BodyNeed {
        match &self.source {
            Source::Signed { signer, max_body } if signer.signs_body() => BodyNeed::Whole { max: *max_body },
            Source::Same(_) | Source::Tokens(_) | Source::Signed { .. } => BodyNeed::Untouched,
        }
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        &self.removed
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        self.clean(exchange);
        exchange.credentials = Some(Arc::clone(&self.hidden));
        let fetched = if matches!(self.source, Source::Tokens(_)) { ", fetched where there is none" } else { "" };
        Explanation::pass(format!("the upstream is shown {}{fetched}", self.told))
    }
}

/// There is nothing to show, so nothing is sent.
#[cold]
fn none(why: &str) -> Stop {
    let detail = "the gateway cannot prove to the backend who it is";
    Stop::Fault(Fault::new(Reason::NoCredentials, detail).cause(why))
}
