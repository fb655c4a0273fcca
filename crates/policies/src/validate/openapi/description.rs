//! An OpenAPI document as it is compiled: paths, operations, parameters, bodies and answers. Knows no request.

use std::path::PathBuf;

use super::super::document::{Documents, Findings, Placed};
use super::super::message::MediaType;
use super::super::schema::Schemas;
use super::super::text::Shape;
use super::bundle::{Bundle, Side, Version};
use super::parameter::{Coding, Location, Style};
use super::paths::Paths;

/// A compiled document.
pub(crate) struct Description {
    pub(crate) paths: Paths,
    /// By index of `paths`.
    pub(crate) items: Vec<Item>,
    /// What a request's path may begin with before what the document calls a path; none ends in `/`.
    pub(crate) bases: Vec<String>,
    pub(crate) request: Schemas,
    pub(crate) response: Option<Schemas>,
    /// Files it was read from.
    pub(crate) files: Vec<PathBuf>,
}

/// The operations of a path.
#[derive(Default)]
pub(crate) struct Item {
    pub(crate) operations: Vec<(&'static str, Operation)>,
}

/// One operation.
pub(crate) struct Operation {
    pub(crate) parameters: Vec<Parameter>,
    /// Whether one of the parameters is in the query, or in cookies.
    pub(crate) reads_query: bool,
    pub(crate) reads_cookies: bool,
    pub(crate) body: Option<Body>,
    /// By status: `200`, `2XX`, `default`.
    pub(crate) responses: Vec<(StatusRange, Answer)>,
}

/// A parameter, or a header of an answer.
pub(crate) struct Parameter {
    pub(crate) coding: Coding,
    pub(crate) required: bool,
    pub(crate) allow_empty: bool,
    /// Name of its schema; `None` where any text will do.
    pub(crate) schema: Option<String>,
}

/// A body by media type.
pub(crate) struct Body {
    pub(crate) required: bool,
    pub(crate) media: Vec<Media>,
}

/// One media type or range, in lower case.
pub(crate) struct Media {
    pub(crate) range: String,
    /// Name of its schema.
    pub(crate) schema: Option<String>,
    /// Of a form: what its fields stand for.
    pub(crate) shape: Shape,
}

/// Statuses that an answer is described for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StatusRange {
    One(u16),
    /// The first digit.
    Hundred(u16),
    Default,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) headers: Vec<Parameter>,
    pub(crate) media: Vec<Media>,
}

const METHODS: [(&str, &str); 8] = [
    ("get", "GET"),
    ("put", "PUT"),
    ("post", "POST"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
    ("head", "HEAD"),
    ("patch", "PATCH"),
    ("trace", "TRACE"),
];
/// Headers that OpenAPI has other words for.
const NOT_PARAMETERS: [&str; 3] = ["accept", "content-type", "authorization"];

impl Body {
    /// What is described for a media type: the type itself, else the narrowest range.
    pub(crate) fn media(&self, found: &MediaType) -> Option<&Media> {
        media(&self.media, found)
    }
}

impl Answer {
    /// As [`Body::media`].
    pub(crate) fn media(&self, found: &MediaType) -> Option<&Media> {
        media(&self.media, found)
    }
}

fn media<'m>(list: &'m [Media], found: &MediaType) -> Option<&'m Media> {
    list.iter().filter(|media| found.is_of(&media.range)).max_by_key(|media| media.range.trim_end_matches('*').len())
}

impl Description {
    /// Compiles a document; answers only where they are looked at.
    pub(crate) fn compile(documents: &Documents, base: Option<&str>, answers: bool) -> Result<Description, Findings> {
        let mut findings = Findings::default();
        let compiled = documents.root().and_then(|root| {
            let version = version(documents, root, &mut findings)?;
            let mut reader = Reader {
                documents,
                findings: &mut findings,
                request: Bundle::new(documents, version, Side::Request),
                response: Bundle::new(documents, version, Side::Response),
                answers,
                bases: Vec::new(),
            };
            reader.bases(root);
            let (paths, items) = reader.paths(root);
            let Reader { request, response, bases, .. } = reader;
            let request = request.compile(&mut findings);
            let response = if answers { Some(response.compile(&mut findings)?) } else { None };
            let bases = base.map_or(bases, |base| vec![base.trim_end_matches('/').to_owned()]);
            let files = documents.paths().map(PathBuf::from).collect();
            Some(Description { paths, items, bases, request: request?, response, files })
        });
        match compiled {
            Some(description) if findings.is_empty() => Ok(description),
            _ => Err(findings),
        }
    }
}

fn version(documents: &Documents, root: Placed<'_>, findings: &mut Findings) -> Option<Version> {
    let named = root.str("openapi").unwrap_or_default();
    let version = match named.split('.').take(2).collect::<Vec<_>>().as_slice() {
        ["3", "0"] => Version::V30,
        ["3", "1"] => Version::V31,
        _ => {
            let what = if root.get("swagger").is_some() {
                "this is a Swagger 2 document"
            } else {
                "`openapi` names no version that is read"
            };
            findings.push_help(
                documents,
                root.get("openapi").unwrap_or(root),
                what,
                Some("versions 3.0 and 3.1 are read"),
            );
            return None;
        }
    };
    if let Some(dialect) = root.get("jsonSchemaDialect")
        && !dialect.node.as_str().is_some_and(|uri| {
            uri.starts_with("https://spec.openapis.org/oas/3.1/dialect/")
                || uri.trim_end_matches('#') == "https://json-schema.org/draft/2020-12/schema"
        })
    {
        findings.push(documents, dialect, "only the dialect of OpenAPI 3.1 itself and JSON Schema 2020-12 are read");
        return None;
    }
    Some(version)
}

struct Reader<'d, 'f> {
    documents: &'d Documents,
    findings: &'f mut Findings,
    request: Bundle<'d>,
    response: Bundle<'d>,
    answers: bool,
    bases: Vec<String>,
}

impl<'d> Reader<'d, '_> {
    fn wrong(&mut self, placed: Placed<'_>, message: impl Into<String>) {
        self.findings.push(self.documents, placed, message);
    }

    /// Takes in the paths of the servers of a document, path or operation.
    fn bases(&mut self, of: Placed<'d>) {
        let Some(servers) = of.get("servers") else {
            if self.bases.is_empty() {
                self.bases.push(String::new());
            }
            return;
        };
        if of.node.get("openapi").is_some() {
            self.bases.clear();
        }
        for server in servers.items() {
            let mut url = server.str("url").unwrap_or_default().to_owned();
            for (name, variable) in server.get("variables").into_iter().flat_map(Placed::entries) {
                url = url.replace(&format!("{{{name}}}"), variable.str("default").unwrap_or_default());
            }
            let path = match url.split_once("://") {
                Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default(),
                None => url.as_str(),
            };
            let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
            let base = if path.is_empty() { String::new() } else { format!("/{path}") };
            if !self.bases.contains(&base) {
                self.bases.push(base);
            }
        }
    }

    fn paths(&mut self, root: Placed<'d>) -> (Paths, Vec<Item>) {
        let (mut paths, mut items) = (Paths::default(), Vec::new());
        for (path, placed) in root.get("paths").into_iter().flat_map(Placed::entries) {
            match paths.add(path, items.len()) {
                Ok(()) => items.push(self.item(placed)),
                Err(message) => self.wrong(placed, format!("`{path}`: {message}")),
            }
        }
        (paths, items)
    }

    fn item(&mut self, placed: Placed<'d>) -> Item {
        let mut item = Item::default();
        let Some(placed) = self.documents.follow(placed, self.findings) else { return item };
        if placed.get("servers").is_some() {
            self.bases(placed);
        }
        for (key, method) in METHODS {
            if let Some(operation) = placed.get(key) {
                let operation = self.operation(placed, operation);
                item.operations.push((method, operation));
            }
        }
        item
    }

    fn operation(&mut self, item: Placed<'d>, operation: Placed<'d>) -> Operation {
        if operation.get("servers").is_some() {
            self.bases(operation);
        }
        let mut parameters: Vec<Parameter> = Vec::new();
        for list in [operation.get("parameters"), item.get("parameters")].into_iter().flatten() {
            for placed in list.items() {
                let Some(parameter) = self.parameter(placed) else { continue };
                let same = |known: &Parameter| {
                    known.coding.location == parameter.coding.location && known.coding.name == parameter.coding.name
                };
                // the operation's own come first and win over those of its path
                if !parameters.iter().any(same) {
                    parameters.push(parameter);
                }
            }
        }
        let body = operation.get("requestBody").and_then(|body| self.body(body));
        let responses = if self.answers { self.responses(operation) } else { Vec::new() };
        let reads = |location| parameters.iter().any(|parameter: &Parameter| parameter.coding.location == location);
        let (reads_query, reads_cookies) = (reads(Location::Query), reads(Location::Cookie));
        Operation { parameters, reads_query, reads_cookies, body, responses }
    }

    fn parameter(&mut self, placed: Placed<'d>) -> Option<Parameter> {
        let placed = self.documents.follow(placed, self.findings)?;
        let location = match placed.str("in") {
            Some("path") => Location::Path,
            Some("query") => Location::Query,
            Some("header") => Location::Header,
            Some("cookie") => Location::Cookie,
            _ => {
                self.wrong(placed.get("in").unwrap_or(placed), "`in` is one of `path`, `query`, `header` and `cookie`");
                return None;
            }
        };
        let Some(name) = placed.str("name") else {
            self.wrong(placed, "the parameter has no `name`");
            return None;
        };
        if location == Location::Header && NOT_PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        self.coded(placed, name, location, Side::Request)
    }

    /// A parameter or header.
    fn coded(&mut self, placed: Placed<'d>, name: &str, location: Location, side: Side) -> Option<Parameter> {
        let style = match placed.get("style") {
            None => Style::default_of(location),
            Some(named) => match Style::of(named.node.as_str().unwrap_or_default(), location) {
                Some(style) => style,
                None => {
                    self.wrong(named, format!("`{}` is not a style of parameters of this kind", named.node.shown()));
                    return None;
                }
            },
        };
        let content = placed.get("content").and_then(|content| content.all_entries().next());
        let (schema, json) = match content {
            Some((range, media)) => {
                let json = MediaType::parse(range).is_some_and(|media| media.is_json());
                (media.get("schema").filter(|_| json), json)
            }
            None => (placed.get("schema"), false),
        };
        let shape = schema.map(|schema| Shape::of(self.documents, schema)).unwrap_or_default();
        let trivial = !json && schema.is_none_or(|schema| is_any_text(schema));
        let bundle = if side == Side::Request { &mut self.request } else { &mut self.response };
        let schema = schema.filter(|_| !trivial).map(|schema| bundle.add(schema));
        let explode = match placed.get("explode") {
            Some(_) => placed.is("explode"),
            None => style == Style::Form,
        };
        let coding = Coding { name: name.to_owned(), location, style, explode, shape, json };
        let required = placed.is("required") || location == Location::Path;
        Some(Parameter { coding, required, allow_empty: placed.is("allowEmptyValue"), schema })
    }

    fn body(&mut self, placed: Placed<'d>) -> Option<Body> {
        let placed = self.documents.follow(placed, self.findings)?;
        let media = self.media(placed, Side::Request);
        Some(Body { required: placed.is("required"), media })
    }

    fn media(&mut self, placed: Placed<'d>, side: Side) -> Vec<Media> {
        let mut list = Vec::new();
        for (range, media) in placed.get("content").into_iter().flat_map(Placed::all_entries) {
            let Some(parsed) = MediaType::parse(range) else {
                self.wrong(media, format!("`{range}` is not a media type"));
                continue;
            };
            let schema = media.get("schema").filter(|_| parsed.is_json() || parsed.is_form() || range.ends_with('*'));
            let shape = schema.filter(|_| !parsed.is_json()).map(|schema| Shape::of(self.documents, schema));
            let bundle = if side == Side::Request { &mut self.request } else { &mut self.response };
            let schema = schema.map(|schema| bundle.add(schema));
            list.push(Media { range: parsed.name, schema, shape: shape.unwrap_or_default() });
        }
        list
    }

    fn responses(&mut self, operation: Placed<'d>) -> Vec<(StatusRange, Answer)> {
        let mut list = Vec::new();
        for (status, placed) in operation.get("responses").into_iter().flat_map(Placed::entries) {
            let Some(range) = StatusRange::parse(status) else {
                self.wrong(placed, format!("`{status}` is not a status, such as `200`, `2XX` or `default`"));
                continue;
            };
            let Some(placed) = self.documents.follow(placed, self.findings) else { continue };
            let mut headers = Vec::new();
            for (name, header) in placed.get("headers").into_iter().flat_map(Placed::all_entries) {
                if name.eq_ignore_ascii_case("content-type") {
                    continue;
                }
                let Some(header) = self.documents.follow(header, self.findings) else { continue };
                headers.extend(self.coded(header, name, Location::Header, Side::Response));
            }
            let media = self.media(placed, Side::Response);
            list.push((range, Answer { headers, media }));
        }
        // one status before its hundred, and that before the default
        list.sort_by_key(|(range, _)| *range);
        list
    }
}

/// Whether a schema takes any text, so that none needs to be judged.
fn is_any_text(schema: Placed<'_>) -> bool {
    const NOTES: [&str; 6] = ["type", "description", "example", "examples", "title", "default"];
    schema.str("type") == Some("string")
        && schema.node.as_map().unwrap_or_default().iter().all(|entry| {
            NOTES.contains(&entry.key.as_str()) || entry.key.starts_with("x-") || entry.key == "deprecated"
        })
}

impl StatusRange {
    fn parse(text: &str) -> Option<StatusRange> {
        if text == "default" {
            return Some(StatusRange::Default);
        }
        match text.as_bytes() {
            [first @ b'1'..=b'5', b'X' | b'x', b'X' | b'x'] => Some(StatusRange::Hundred(u16::from(first - b'0'))),
            _ => text.parse().ok().filter(|status| (100..600).contains(status)).map(StatusRange::One),
        }
    }

    pub(crate) fn matches(self, status: u16) -> bool {
        match self {
            StatusRange::One(one) => one == status,
            StatusRange::Hundred(hundred) => status / 100 == hundred,
            StatusRange::Default => true,
        }
    }
}
