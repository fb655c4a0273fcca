//! An outside decision service, asked over HTTP as Open Policy Agent is: `{"input": …}` in, `{"result": …}` out. Decisions may be kept for a
//! while, by each worker for itself. Knows no rule of the configuration.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{Context as DigestContext, Digest, SHA256, digest};
use bytes::Bytes;
use daemun_config::decode::{JsonValue, Mapping};
use daemun_config::model::{Server, Spanned};
use daemun_pipeline::exchange::{decode, taken};
use daemun_pipeline::expression::Text;
use daemun_pipeline::{BuildContext, Exchange, Fault, OutAnswer, OutCall, Reason, World};
use hashlink::LruCache;
use serde_json::{Map, json};

use super::config::ServiceConfig;

/// Bytes of an answer.
const MOST_ANSWER: usize = 64 << 10;

/// The service, and how it is asked.
pub(super) struct Service {
    world: Arc<dyn World>,
    server: Arc<Server>,
    target: Box<str>,
    fields: Vec<(String, Vec<u8>)>,
    headers: Box<[Box<str>]>,
    params: Box<[String]>,
    route: Option<Box<str>>,
    within: Duration,
    kept: Option<Kept>,
}

/// How decisions are kept.
struct Kept {
    /// Names them among those of other policies, and tells when all are gone that use them.
    owner: Arc<()>,
    /// What they depend on; all that is asked when absent.
    by: Option<Text>,
    /// Whether they do not depend on which call it is beside that.
    any_request: bool,
    /// Nanoseconds.
    lasts: u64,
    most: usize,
}

/// What the service decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Allowed,
    Denied,
    /// It has no decision on such a request.
    Undefined,
}

/// A question that is yet to be put, and where its answer is to be kept.
pub(super) struct Question {
    body: Bytes,
    key: Option<[u8; 32]>,
}

impl Service {
    /// `None` after what is wrong was reported.
    pub(super) fn build(settings: ServiceConfig, ctx: &mut BuildContext<'_>) -> Option<Service> {
        let kept = match settings.cache {
            None => None,
            Some(cache) => {
                let by = match cache.by {
                    Some(text) => {
                        let text = Spanned { value: text.value.0, at: text.at };
                        Some(ctx.text("service.cache.by", &text, false)?)
                    }
                    None => None,
                };
                let lasts = u64::try_from(cache.lasts.0.as_nanos()).unwrap_or(u64::MAX);
                let most = usize::try_from(cache.max.get()).unwrap_or(usize::MAX);
                let any_request = cache.any_request;
                // decisions outlast a reload that changes nothing of how they are asked for
                let written = by.as_ref().map(Text::text);
                let (url, ca_file, headers) = (&settings.url, &settings.ca_file, &settings.headers);
                let sent = digest(&SHA256, format!("{:?}", settings.send).as_bytes());
                let shape = format!(
                    "{:?} {url:?} {ca_file:?} {headers:?} {sent:?} {written:?} {any_request} {lasts} {most}",
                    ctx.route
                );
                let owner = ctx.carry.get_or("permission.service", &shape, || ());
                Some(Kept { owner, by, any_request, lasts, most })
            }
        };
        let Mapping(send) = settings.send;
        Some(Service {
            world: Arc::clone(ctx.world),
            server: Arc::new(settings.url.server(settings.ca_file.map(|file| file.0))),
            target: settings.url.target().into(),
            fields: std::iter::once(("content-type".to_owned(), b"application/json".to_vec()))
                .chain(send.into_iter().map(|(name, value)| (name.value.0, value.0.into_bytes())))
                .collect(),
            headers: settings.headers.0.into_iter().map(|name| name.0.into()).collect(),
            params: ctx.param_names.into(),
            route: ctx.route.map(Into::into),
            within: settings.timeout.0,
            kept,
        })
    }

    /// Host and port, without what may be secret.
    pub(super) fn name(&self) -> &str {
        &self.server.authority
    }

    /// A decision that was kept, or the question.
    ///
    /// # Errors
    /// When an expression would cost more than it may.
    pub(super) fn look(&self, exchange: &Exchange) -> Result<Result<Decision, Question>, Fault> {
        let mut body = None;
        let mut key = None;
        if let Some(kept) = &self.kept {
            let digest = match &kept.by {
                Some(text) => kept.digest_by(&text.value(exchange)?, exchange),
                None => Some(digest(&SHA256, body.get_or_insert_with(|| self.question(exchange)))),
            };
            key = digest.and_then(|digest| <[u8; 32]>::try_from(digest.as_ref()).ok());
            if let Some(found) = key.and_then(|key| kept.get(&key, exchange.now())) {
                return Ok(Ok(if found { Decision::Allowed } else { Decision::Denied }));
            }
        }
        let body = body.unwrap_or_else(|| self.question(exchange));
        Ok(Err(Question { body: body.into(), key }))
    }

    /// Puts a question.
    ///
    /// # Errors
    /// When the service does not answer, or not so that it can be understood.
    pub(super) async fn ask(&self, question: Question, now: u64) -> Result<Decision, Fault> {
        let call = OutCall {
            server: Arc::clone(&self.server),
            method: "POST",
            target: self.target.to_string(),
            fields: self.fields.clone(),
            body: question.body,
            within: self.within,
            most: MOST_ANSWER,
        };
        let answer = self.world.call(call).await.map_err(|error| self.undecided(&error.why))?;
        let decision = read(&answer).map_err(|why| self.undecided(&why))?;
        if let (Some(kept), Some(key)) = (&self.kept, question.key)
            && decision != Decision::Undefined
        {
            kept.put(key, decision == Decision::Allowed, now);
        }
        Ok(decision)
    }

    #[cold]
    fn undecided(&self, why: &str) -> Fault {
        let fault = Fault::new(Reason::Undecided, "whether this is allowed cannot be decided now");
        fault.cause(format!("the decision service at `{}`: {why}", self.name()))
    }

    /// What is asked, as JSON.
    fn question(&self, exchange: &Exchange) -> Vec<u8> {
        let request = &exchange.request;
        let path = request.matched_path();
        let segments = path.split('/').skip(1).map(|segment| text(&decode(segment.as_bytes(), false)));
        let mut query: Map<String, JsonValue> = Map::new();
        for (name, value) in request.query_pairs() {
            let value = text(&decode(value.as_bytes(), true));
            let name = String::from_utf8_lossy(&decode(name.as_bytes(), true)).into_owned();
            if let JsonValue::Array(values) = query.entry(name).or_insert_with(|| JsonValue::Array(Vec::new())) {
                values.push(value);
            }
        }
        let headers = self.headers.iter().filter_map(|name| {
            let values: Vec<&[u8]> = request.head.values(name).collect();
            (!values.is_empty()).then(|| (name.to_string(), text(&values.join(&b", "[..]))))
        });
        let params = exchange.params.iter().filter_map(|(index, span)| {
            let name = self.params.get(usize::from(*index))?;
            Some((name.clone(), text(&taken(request.head.bytes(*span)))))
        });
        let client = &exchange.client;
        let input = json!({
            "method": request.method_text(),
            "scheme": if exchange.is_https() { "https" } else { "http" },
            "host": request.host_text(),
            "path": segments.collect::<Vec<_>>(),
            "full_path": request.path_text(),
            "query": query,
            "headers": headers.collect::<Map<_, _>>(),
            "params": params.collect::<Map<_, _>>(),
            "route": self.route,
            "client_ip": (!client.unreadable).then(|| client.ip.to_canonical().to_string()),
            "consumer": consumer(exchange),
        });
        json!({ "input": input }).to_string().into_bytes()
    }
}

/// Who calls; null for nobody.
fn consumer(exchange: &Exchange) -> JsonValue {
    let Some(name) = exchange.consumer_name() else { return JsonValue::Null };
    json!({
        "name": name,
        "configured": exchange.consumer.is_some(),
        "roles": exchange.roles().collect::<Vec<_>>(),
        "groups": exchange.groups().collect::<Vec<_>>(),
        "tags": exchange.tags().collect::<Vec<_>>(),
        "scopes": exchange.scopes().collect::<Vec<_>>(),
        "claims": exchange.claims(),
    })
}

fn text(bytes: &[u8]) -> JsonValue {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// What an answer decides: `result`, or `result.allow`. None of it is undefined, as where no rule of the service is about such a request.
fn read(answer: &OutAnswer) -> Result<Decision, String> {
    if answer.status != 200 {
        return Err(format!("it answered with {}", answer.status));
    }
    let read: JsonValue = serde_json::from_slice(&answer.body).map_err(|_| "its answer is not JSON".to_owned())?;
    let Some(answer) = read.as_object() else { return Err("its answer is no object".to_owned()) };
    let decided = match answer.get("result") {
        Some(JsonValue::Object(result)) => result.get("allow"),
        result => result,
    };
    match decided {
        None => Ok(Decision::Undefined),
        Some(JsonValue::Bool(true)) => Ok(Decision::Allowed),
        Some(JsonValue::Bool(false)) => Ok(Decision::Denied),
        Some(_) => Err("`result` of its answer is neither true nor false".to_owned()),
    }
}

/// Decisions of one policy: when each ends, and what it is.
type Decisions = LruCache<[u8; 32], (u64, bool)>;

thread_local! {
    /// Decisions of all policies that this worker keeps, by owner.
    static DECISIONS: RefCell<HashMap<usize, (Weak<()>, Decisions)>> = RefCell::new(HashMap::new());
}

impl Kept {
    /// The digest of what a decision depends on, each part with its length; `None` where nothing tells who asks: such calls must not share
    /// one.
    fn digest_by(&self, by: &[u8], exchange: &Exchange) -> Option<Digest> {
        if by.is_empty() {
            return None;
        }
        let request = &exchange.request;
        let scheme: &[u8] = if exchange.is_https() { b"s" } else { b"" };
        let query: &[u8] = request.query.map_or(b"", |query| request.head.bytes(query));
        let of_call = [
            request.method_text().as_bytes(),
            scheme,
            request.head.bytes(request.host),
            request.head.bytes(request.path),
            if request.query.is_some() { b"?" } else { b"" },
            query,
        ];
        let mut context = DigestContext::new(&SHA256);
        for part in [by].iter().chain(of_call.iter().filter(|_| !self.any_request)) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        Some(context.finish())
    }

    fn name(&self) -> usize {
        Arc::as_ptr(&self.owner).addr()
    }

    fn get(&self, key: &[u8; 32], now: u64) -> Option<bool> {
        DECISIONS.with_borrow_mut(|all| {
            // the weak reference keeps the address from being another's while it stands here
            let (_, decisions) = all.get_mut(&self.name())?;
            let (until, allowed) = *decisions.get(key)?;
            (now < until).then_some(allowed)
        })
    }

    fn put(&self, key: [u8; 32], allowed: bool, now: u64) {
        DECISIONS.with_borrow_mut(|all| {
            if !all.contains_key(&self.name()) {
                // those of policies that are gone
                all.retain(|_, (owner, _)| owner.strong_count() > 0);
            }
            let own = || (Arc::downgrade(&self.owner), LruCache::new(self.most));
            let (_, decisions) = all.entry(self.name()).or_insert_with(own);
            decisions.insert(key, (now.saturating_add(self.lasts), allowed));
        });
    }
}
