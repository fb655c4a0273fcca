//! `validate`: requests and answers as an OpenAPI document or JSON Schemas describe them. All is compiled once while the configuration is
//! loaded, and shared by all workers and by all routes that name the same document.

mod config;
mod document;
mod form;
mod json;
mod message;
mod openapi;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod violation;
mod weight;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemun_pipeline::{
    Bodies, BodyNeed, BuildContext, Exchange, Explanation, Fault, FieldId, Flow, Head, Method, Phase, Policy,
    PolicyConfig, Reason, Request, Runtimes, Verdict,
};
use serde_json::{Map, Value};

pub use self::config::{Responses, Source, Unknown, ValidateConfig};
use self::document::{Documents, Findings, Named};
use self::form::Pairs;
use self::message::{MediaType, has_body, is_coded};
use self::openapi::description::Description;
use self::openapi::{Known, Unsupported};
use self::schema::{Schema, Size};
use self::text::Shape;
use self::violation::{Part, Violations};

impl PolicyConfig for ValidateConfig {
    const NAME: &'static str = "validate";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Runtimes> {
        let default = if self.response.is_some() { Responses::Enforce } else { Responses::Off };
        let responses = self.responses.unwrap_or(default);
        let mut findings = Findings::default();
        let named: Named = self.documents.map_or_else(Vec::new, |named| {
            named.0.into_iter().map(|(address, source)| (address.value, source)).collect()
        });
        let mut schema = |source: &Option<Source>| {
            let source = source.as_ref()?;
            Plain::compile(source, &named, self.formats).map_err(|found| findings.append(found)).ok()
        };
        let (body, query, headers) = (schema(&self.body), schema(&self.query), schema(&self.headers));
        let (path, response) = (schema(&self.path), schema(&self.response));
        let description = match &self.openapi {
            None => None,
            Some(source) => match describe(source, &named, self.base_path.as_deref(), responses != Responses::Off, ctx)
            {
                Ok(description) => Some(description),
                Err(found) => {
                    findings.append(found);
                    None
                }
            },
        };
        if !findings.is_empty() {
            findings.report(ctx);
            return None;
        }
        let validate = Validate {
            description,
            unknown: self.unknown_operations,
            body,
            query,
            headers,
            path: path.map(|schema| (schema, ctx.param_names.to_vec())),
            response,
            responses,
            max_body: self.max_body.0,
        };
        Some(vec![(Phase::Transform, Box::new(validate))])
    }
}

/// Reads one parameter in a style of OpenAPI (`form`, `deepObject`, …) as its schema, which is no reference, asks for; `text` is a query, or a
/// path segment where `in_path`. `None` for a style that is not of that place; else the value, or that there is none, or why it cannot be
/// read.
#[must_use]
pub fn read_parameter(
    name: &str,
    style: &str,
    explode: bool,
    in_path: bool,
    schema: &daemun_config::tree::Node,
    text: &str,
) -> Option<Result<Option<Value>, String>> {
    use self::openapi::parameter::{Coding, Location, Style};
    let location = if in_path { Location::Path } else { Location::Query };
    let style = Style::of(style, location)?;
    let documents = Documents::load(&Source::Inline(schema.clone()), &Named::new()).ok()?;
    let shape = Shape::of(&documents, documents.root()?);
    let coding = Coding { name: name.to_owned(), location, style, explode, shape, json: false };
    if in_path {
        return Some(coding.of_segment(text));
    }
    Some(Pairs::parse(text).and_then(|pairs| coding.of_pairs(&pairs)))
}

/// Compiles a document, or finds it compiled: many routes may name the same.
fn describe(
    source: &Source,
    named: &Named,
    base: Option<&str>,
    answers: bool,
    ctx: &mut BuildContext<'_>,
) -> Result<Arc<Description>, Findings> {
    let compile =
        || Documents::load(source, named).and_then(|documents| Description::compile(&documents, base, answers));
    let Source::File(path) = source else { return compile().map(Arc::new) };
    if !named.is_empty() {
        return compile().map(Arc::new);
    }
    let base_shape = base.unwrap_or("-");
    let shape = format!("{}\n{base_shape}\n{answers}\n{:?}", path.display(), stamp(path));
    let kept = ctx.carry.get_or("validate", &shape, || {
        compile().map(|description| {
            let stamps = description.files.iter().map(|path| (path.clone(), stamp(path))).collect();
            (Arc::new(description), stamps)
        })
    });
    match kept.as_ref() {
        Ok((description, stamps)) => {
            let stamps: &Vec<(PathBuf, Stamp)> = stamps;
            if stamps.iter().all(|(path, then)| stamp(path) == *then) {
                return Ok(Arc::clone(description));
            }
            // a document beside the first has changed
            compile().map(Arc::new)
        }
        Err(found) => Err(found.clone()),
    }
}

/// What tells one content of a file from another: its length and time.
type Stamp = Option<(u64, std::time::SystemTime)>;

fn stamp(path: &Path) -> Stamp {
    let data = std::fs::metadata(path).ok()?;
    Some((data.len(), data.modified().ok()?))
}

/// A schema of its own, and what texts stand for in what it describes.
struct Plain {
    schema: Schema,
    shape: Shape,
}

impl Plain {
    fn compile(source: &Source, named: &Named, formats: Option<bool>) -> Result<Plain, Findings> {
        let documents = Documents::load(source, named)?;
        let mut findings = Findings::default();
        let schema = Schema::compile(&documents, formats, &mut findings);
        let shape = documents.root().map(|root| Shape::of(&documents, root)).unwrap_or_default();
        schema.map(|schema| Plain { schema, shape }).ok_or(findings)
    }

    /// Adds what is wrong with an object of texts.
    fn check_texts(&self, texts: Map<String, Value>, part: Part, found: &mut Violations) {
        // a target or head is small, and so is what is written in it
        self.schema.check(&Value::Object(texts), Size { values: 0, bytes: 0 }, part, found);
    }

    /// Adds what is wrong with a body of JSON.
    fn check_body(&self, body: Option<&[u8]>, media: &MediaType, found: &mut Violations) {
        let Some(body) = body else { return found.push(Part::Body, "", "is too large to be looked at") };
        if !media.is_utf8() {
            return found.push(Part::Body, "", "must be in UTF-8");
        }
        match json::read(body) {
            Ok(read) => {
                self.schema.check(&read.value, Size { values: read.values, bytes: body.len() }, Part::Body, found);
            }
            Err(refused) => found.push(Part::Body, refused.at, refused.message),
        }
    }
}

struct Validate {
    description: Option<Arc<Description>>,
    unknown: Unknown,
    body: Option<Plain>,
    query: Option<Plain>,
    headers: Option<Plain>,
    /// With the names of the route's parameters.
    path: Option<(Plain, Vec<String>)>,
    response: Option<Plain>,
    responses: Responses,
    max_body: u64,
}

impl Policy for Validate {
    fn bodies(&self) -> Bodies {
        let response = self.responses != Responses::Off && (self.description.is_some() || self.response.is_some());
        Bodies { request: self.description.is_some() || self.body.is_some(), response, coded: false }
    }

    fn request_body(&self, exchange: &Exchange) -> BodyNeed {
        let request = &exchange.request;
        let described = self.description.as_ref().is_some_and(|description| match description.find(request) {
            Known::Operation(operation, _) => description.needs_body(operation, request),
            Known::Path(_) | Known::Nothing => false,
        });
        let own = self.body.is_some() && MediaType::of(&request.head).is_none_or(|media| media.is_json());
        if described || own { BodyNeed::Whole { max: self.max_body } } else { BodyNeed::Untouched }
    }

    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let verdict = self.judge(exchange, true);
        if verdict.is_ok() {
            self.ask_for_whole(&mut exchange.request.head);
        }
        Flow::Now(verdict)
    }

    fn response_body(&self, exchange: &Exchange) -> BodyNeed {
        let response = &exchange.response;
        if self.responses == Responses::Off || response.own || is_coded(&response.head) {
            return BodyNeed::Untouched;
        }
        let own = self.response.is_some() && response.status / 100 == 2;
        let described = || {
            self.description.as_ref().is_some_and(|description| match description.find(&exchange.request) {
                Known::Operation(operation, _) => description.needs_answer(operation, response.status, &response.head),
                Known::Path(_) | Known::Nothing => false,
            })
        };
        if own || described() { BodyNeed::Whole { max: self.max_body } } else { BodyNeed::Untouched }
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        if self.responses == Responses::Off || exchange.response.own || exchange.response.status < 200 {
            return Ok(());
        }
        let mut found = Violations::default();
        self.judge_answer(exchange, &mut found);
        if found.is_empty() {
            return Ok(());
        }
        if self.responses == Responses::Report {
            exchange.remark = Some(found.line().into());
            return Ok(());
        }
        let detail = "the backend's answer is not as described";
        Err(Fault::new(Reason::InvalidResponse, detail).cause(found.line()).into())
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let unseen = exchange.request.body.is_none() && has_body(&exchange.request.head);
        match self.judge(exchange, !unseen) {
            Err(stop) => {
                let daemun_pipeline::Stop::Fault(fault) = &stop else { return Explanation::stop(&stop, "refused") };
                let detail = fault.cause.as_deref().unwrap_or(fault.detail.as_ref()).to_owned();
                Explanation::stop(&stop, detail)
            }
            Ok(()) => {
                self.ask_for_whole(&mut exchange.request.head);
                Explanation::pass(if unseen {
                    "the head is valid; the body was not looked at"
                } else {
                    "the request is valid"
                })
            }
        }
    }
}

impl Validate {
    /// Asks for an answer that can be looked at, where answers are: not coded, and no part of one.
    fn ask_for_whole(&self, head: &mut Head) {
        if self.responses != Responses::Off {
            for name in ["accept-encoding", "range", "if-range"] {
                head.remove(name);
            }
        }
    }

    fn judge(&self, exchange: &Exchange, with_body: bool) -> Verdict {
        let mut found = Violations::default();
        let request = &exchange.request;
        if let Some(description) = &self.description {
            match description.find(request) {
                Known::Operation(operation, values) => {
                    description.check_parameters(operation, &values, request, &mut found);
                    if with_body {
                        description.check_body(operation, request, &mut found).map_err(unsupported)?;
                    }
                }
                known @ (Known::Path(_) | Known::Nothing) => self.unknown(&known)?,
            }
        }
        self.judge_texts(exchange, &mut found);
        if with_body && let Some(plain) = &self.body {
            judge_body(plain, request, &mut found).map_err(unsupported)?;
        }
        if found.is_empty() { Ok(()) } else { Err(invalid(&found).into()) }
    }

    fn unknown(&self, known: &Known<'_>) -> Verdict {
        if self.unknown == Unknown::Pass {
            return Ok(());
        }
        let fault = Fault::new(openapi::reason(known), "the API's description has no such operation");
        Err(match known {
            Known::Path(methods) => fault.field("allow", methods.join(", ")),
            Known::Operation(..) | Known::Nothing => fault,
        }
        .into())
    }

    /// Query, headers and path by schemas of their own.
    fn judge_texts(&self, exchange: &Exchange, found: &mut Violations) {
        let request = &exchange.request;
        if let Some(plain) = &self.query {
            let object = Pairs::parse(request.query_text().unwrap_or_default())
                .map_err(|message| (String::new(), message))
                .and_then(|pairs| pairs.object(&plain.shape));
            match object {
                Ok(Value::Object(texts)) => plain.check_texts(texts, Part::Query, found),
                Ok(_) => {}
                Err((name, message)) => found.push(Part::Query, name, message),
            }
        }
        if let Some(plain) = &self.headers {
            let texts = fields(&request.head, &plain.shape, found);
            plain.check_texts(texts, Part::Header, found);
        }
        if let Some((plain, names)) = &self.path {
            let mut texts = Map::new();
            for (index, span) in &exchange.params {
                let Some(name) = names.get(usize::from(*index)) else { continue };
                match text::decode(request.text(*span), false) {
                    Ok(text) => drop(texts.insert(name.clone(), plain.shape.named(name).value(&text))),
                    Err(()) => found.push(Part::Path, name.as_str(), "is not UTF-8"),
                }
            }
            plain.check_texts(texts, Part::Path, found);
        }
    }

    fn judge_answer(&self, exchange: &Exchange, found: &mut Violations) {
        let (request, response) = (&exchange.request, &exchange.response);
        let bodiless = request.method == Method::Head || matches!(response.status, 204 | 304);
        let body = response.body.as_deref();
        if let Some(description) = &self.description
            && let Known::Operation(operation, _) = description.find(request)
        {
            description.check_answer(operation, response.status, &response.head, body, bodiless, found);
        }
        if let Some(plain) = &self.response
            && response.status / 100 == 2
            && !bodiless
        {
            match MediaType::of(&response.head).filter(MediaType::is_json) {
                Some(_) if is_coded(&response.head) => {
                    found.push(Part::Body, "", "is coded, so that it cannot be looked at")
                }
                Some(media) => plain.check_body(body, &media, found),
                None => found.push(Part::Header, "content-type", "is not JSON"),
            }
        }
    }
}

/// The body of a request by a schema of its own. Methods that seldom have one need none.
fn judge_body(plain: &Plain, request: &Request, found: &mut Violations) -> Result<(), Unsupported> {
    let empty = request.body.as_ref().map_or_else(|| !has_body(&request.head), Vec::is_empty);
    if empty {
        match request.method {
            Method::Post | Method::Put | Method::Patch => found.push(Part::Body, "", "is missing"),
            Method::Get
            | Method::Head
            | Method::Delete
            | Method::Connect
            | Method::Options
            | Method::Trace
            | Method::Other => {}
        }
        return Ok(());
    }
    let Some(media) = MediaType::of(&request.head).filter(MediaType::is_json) else {
        let detail = "the body is not JSON".to_owned();
        return Err(Unsupported { detail, accept: Some("application/json".to_owned()) });
    };
    if is_coded(&request.head) {
        return Err(Unsupported { detail: "the body is coded, which is not taken here".to_owned(), accept: None });
    }
    plain.check_body(request.body.as_deref(), &media, found);
    Ok(())
}

/// Headers as an object: names in lower case, those that stand more than once as one list. A value that is not UTF-8 is judged by a text that
/// is like it, unless the schema names the header: another text than the upstream's must not be what is valid.
fn fields(head: &Head, shape: &Shape, found: &mut Violations) -> Map<String, Value> {
    let mut texts: Map<String, Value> = Map::new();
    for (id, name, _) in head.iter() {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if id == FieldId::Authorization || texts.contains_key(&name) {
            continue;
        }
        let values: Vec<Cow<'_, str>> = head.values(&name).map(String::from_utf8_lossy).collect();
        if shape.names(&name) && head.values(&name).any(|value| std::str::from_utf8(value).is_err()) {
            found.push(Part::Header, name.as_str(), "is not UTF-8");
        }
        let own = shape.named(&name);
        let value = if own.array && !own.is_scalar() {
            let items = values.iter().flat_map(|value| value.split(',')).map(|item| own.item().value(item.trim()));
            items.collect()
        } else {
            own.value(&values.join(", "))
        };
        texts.insert(name, value);
    }
    texts
}

/// The answer to a request that is not as described.
fn invalid(found: &Violations) -> Fault {
    let detail = format!("the request has {}", found.count());
    Fault::new(Reason::InvalidRequest, detail).cause(found.line()).member("violations", found.to_json())
}

fn unsupported(found: Unsupported) -> Fault {
    let fault = Fault::new(Reason::UnsupportedMediaType, found.detail);
    match found.accept {
        Some(accept) => fault.field("accept", accept),
        None => fault,
    }
}
