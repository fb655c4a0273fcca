//! `cors`: which pages of other origins may call. Answers preflights itself and marks answers; enforcing is the browser's part.

mod config;
mod origin;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use daemun_pipeline::{
    Answer, BuildContext, Exchange, Explanation, FieldId, Flow, Head, Line, Method, Name, Phase, Policy, PolicyConfig,
    Request, Stop, Verdict, same_in_any_case,
};

pub use config::CorsConfig;
pub use origin::{Origin, Port};

const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
const ALLOW_CREDENTIALS: &str = "Access-Control-Allow-Credentials";
const EXPOSE_HEADERS: &str = "Access-Control-Expose-Headers";
const REQUEST_METHOD: &str = "Access-Control-Request-Method";
const REQUEST_HEADERS: &str = "Access-Control-Request-Headers";
/// What the answer to a preflight depends on.
const PREFLIGHT_VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
/// Asked-for header names that are repeated to the browser, in bytes.
const MAX_REQUEST_HEADERS: usize = 4096;

impl PolicyConfig for CorsConfig {
    const NAME: &'static str = "cors";

    // one that is found without the conditions of its route is answered before anything else, or it would pass them by
    const UNCONDITIONAL: Option<&'static str> = Some("a preflight does not come with what the call itself holds");

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let names = |list: Vec<daemun_config::decode::FieldName>| {
            list.into_iter().map(|name| name.0).collect::<Vec<_>>().join(", ")
        };
        let exposed = names(self.expose_headers.0);
        let cors = Cors {
            allow_origin: Name::new(ALLOW_ORIGIN)?,
            allow_any: Line::new(ALLOW_ORIGIN, "*")?,
            allow_credentials: Line::new(ALLOW_CREDENTIALS, "true")?,
            vary: Line::new("Vary", "Origin")?,
            any: self.origins.0.contains(&Origin::Any) && !self.credentials,
            origins: self.origins.0.into(),
            methods: self.methods.0.into_iter().map(|method| method.0).collect::<Vec<_>>().join(", "),
            headers: self.headers.map(|list| names(list.0)),
            exposed: if exposed.is_empty() { None } else { Line::new(EXPOSE_HEADERS, &exposed) },
            credentials: self.credentials,
            max_age: self.max_age.as_secs().to_string(),
        };
        Some(vec![(Phase::Admit, Box::new(cors))])
    }
}

struct Cors {
    allow_origin: Name,
    allow_any: Line,
    allow_credentials: Line,
    vary: Line,
    /// Every origin may call, and the answer is the same for all.
    any: bool,
    origins: Box<[Origin]>,
    methods: String,
    /// `None`: those asked for.
    headers: Option<String>,
    exposed: Option<Line>,
    credentials: bool,
    max_age: String,
}

impl Policy for Cors {
    fn answers_preflights(&self) -> bool {
        true
    }

    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        if !is_preflight(&exchange.request) {
            return Flow::Now(Ok(()));
        }
        Flow::Now(Err(Stop::Answer(Box::new(self.preflight(&exchange.request)))))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        if is_preflight(&exchange.request) {
            return Ok(());
        }
        let head = &mut exchange.response.head;
        remove_own(head);
        if self.any {
            self.allow_any.append(head);
        } else {
            if !varies_by_origin(head) {
                self.vary.append(head);
            }
            let Some(origin) = self.allowed(&exchange.request) else { return Ok(()) };
            self.allow_origin.append(head, origin);
            if self.credentials {
                self.allow_credentials.append(head);
            }
        }
        if let Some(exposed) = &self.exposed {
            exposed.append(head);
        }
        Ok(())
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let request = &exchange.request;
        let detail = match (request.head.get_id(FieldId::Origin), self.allowed(request)) {
            (None, _) => "the request has no `Origin`",
            (Some(_), Some(_)) => "the origin is allowed",
            (Some(_), None) => "the origin is not allowed: a browser keeps the answer from the page",
        };
        if is_preflight(request) {
            let stop = Stop::Answer(Box::new(self.preflight(request)));
            return Explanation::stop(&stop, format!("a preflight; {detail}"));
        }
        Explanation::pass(detail)
    }
}

impl Cors {
    /// The origin of the page that calls, if it may.
    fn allowed<'a>(&self, request: &'a Request) -> Option<&'a [u8]> {
        let mut origins = request.head.values_id(FieldId::Origin);
        let origin = origins.next().filter(|origin| !origin.is_empty() && origins.next().is_none())?;
        self.origins.iter().any(|allowed| allowed.matches(origin)).then_some(origin)
    }

    /// The answer to a preflight (Fetch, section 4.8): an origin that may not call gets one that allows nothing.
    fn preflight(&self, request: &Request) -> Answer {
        let mut fields = Vec::with_capacity(6);
        let mut field = |name: &str, value: &str| fields.push((name.to_owned(), value.to_owned()));
        if let Some(origin) = self.allowed(request).and_then(|origin| std::str::from_utf8(origin).ok()) {
            field(ALLOW_ORIGIN, if self.any { "*" } else { origin });
            if self.credentials {
                field(ALLOW_CREDENTIALS, "true");
            }
            field("Access-Control-Allow-Methods", &self.methods);
            match &self.headers {
                Some(headers) if headers.is_empty() => {}
                Some(headers) => field("Access-Control-Allow-Headers", headers),
                None => {
                    if let Some(asked) = asked_for(request) {
                        field("Access-Control-Allow-Headers", asked);
                    }
                }
            }
            field("Access-Control-Max-Age", &self.max_age);
        }
        field("Vary", PREFLIGHT_VARY);
        Answer { status: 204, fields, body: Bytes::new() }
    }
}

/// A preflight (Fetch, section 3.3.6): `OPTIONS` with `Origin` and `Access-Control-Request-Method`.
fn is_preflight(request: &Request) -> bool {
    request.method == Method::Options
        && request.head.get_id(FieldId::Origin).is_some()
        && request.head.get(REQUEST_METHOD).is_some()
}

/// The header names that a browser asks for, when they are nothing but names.
fn asked_for(request: &Request) -> Option<&str> {
    let mut lists = request.head.values(REQUEST_HEADERS);
    let list = lists.next().filter(|list| lists.next().is_none() && list.len() <= MAX_REQUEST_HEADERS)?;
    let names = |b: &u8| daemun_pipeline::head::is_token(*b) || b", ".contains(b);
    list.iter().all(names).then(|| std::str::from_utf8(list).ok()).flatten().filter(|list| !list.is_empty())
}

/// Removes what the upstream itself says about origins: the policy alone decides.
fn remove_own(head: &mut Head) {
    const PREFIX: &[u8] = b"access-control-";
    let (buf, fields) = (&head.buf, &mut head.fields);
    for field in fields.iter_mut().filter(|field| field.id == FieldId::Other) {
        let name = buf.get(field.name.range()).unwrap_or_default();
        field.removed |= name.get(..PREFIX.len()).is_some_and(|start| same_in_any_case(start, PREFIX));
    }
}

/// Whether caches are told that another origin gets another answer.
fn varies_by_origin(head: &Head) -> bool {
    let names = |value: &[u8], wanted: &[u8]| {
        value.split(|&b| b == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    head.values("Vary").any(|value| names(value, b"Origin") || names(value, b"*"))
}
