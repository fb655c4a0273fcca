//! Requests and answers against an OpenAPI document. Knows no settings and no verdicts: it only says what is wrong.

mod bundle;
pub(super) mod description;
pub(super) mod parameter;
pub(super) mod paths;

use daemun_pipeline::{Head, Method, Reason, Request};

use self::description::{Answer, Body, Description, Media, Operation, Parameter};
use self::parameter::{Coding, Location};
use self::paths::Values;
use super::form::Pairs;
use super::json;
use super::message::{MediaType, has_body, is_coded};
use super::schema::{Schemas, Size};
use super::violation::{Part, Violations};

/// What a document says of a request.
pub(super) enum Known<'d> {
    /// It describes the operation; the parameters of its path as they stand in the request's.
    Operation(&'d Operation, Values<'d>),
    /// It describes the path, with other methods.
    Path(Vec<&'static str>),
    /// It does not know the path.
    Nothing,
}

/// Why a body is not looked at: a media type or coding that is not taken, which has an answer of its own.
pub(super) struct Unsupported {
    pub(super) detail: String,
    /// Media types that are taken.
    pub(super) accept: Option<String>,
}

impl Description {
    /// Finds the operation of a request.
    pub(super) fn find<'d>(&'d self, request: &'d Request) -> Known<'d> {
        let path = request.path_text();
        let below = |base: &'d String| path.strip_prefix(base.as_str()).filter(|rest| rest.starts_with('/'));
        let Some(found) = self.bases.iter().filter_map(below).find_map(|rest| self.paths.find(rest)) else {
            return Known::Nothing;
        };
        let Some(item) = self.items.get(found.index) else { return Known::Nothing };
        let method = request.method_text();
        let of =
            |wanted: &str| item.operations.iter().find(|(name, _)| *name == wanted).map(|(_, operation)| operation);
        // what answers GET answers HEAD (RFC 9110, section 9.3.2)
        let head = || (request.method == Method::Head).then(|| of("GET")).flatten();
        match of(method).or_else(head) {
            Some(operation) => Known::Operation(operation, found.values),
            None => Known::Path(item.operations.iter().map(|(name, _)| *name).collect()),
        }
    }

    /// Adds what is wrong with a request's parameters.
    pub(super) fn check_parameters(
        &self,
        operation: &Operation,
        values: &[(&str, &str)],
        request: &Request,
        found: &mut Violations,
    ) {
        let query = if operation.reads_query { request.query_text().unwrap_or_default() } else { "" };
        let query = Pairs::parse(query).unwrap_or_else(|message| {
            found.push(Part::Query, "", message);
            Pairs::default()
        });
        let cookies = if operation.reads_cookies { cookies(&request.head) } else { Ok(Pairs::default()) };
        let cookies = cookies.unwrap_or_else(|message| {
            found.push(Part::Cookie, "", message);
            Pairs::default()
        });
        for parameter in &operation.parameters {
            let coding = &parameter.coding;
            let decoded = match coding.location {
                Location::Path => match values.iter().find(|(name, _)| *name == coding.name) {
                    Some((_, segment)) => coding.of_segment(segment),
                    None => Ok(None),
                },
                Location::Query => {
                    if parameter.allow_empty && query.values(&coding.name).eq([""]) {
                        continue;
                    }
                    coding.of_pairs(&query)
                }
                Location::Header => coding.of_head(&request.head),
                Location::Cookie => coding.of_pairs(&cookies),
            };
            judge(&self.request, parameter, decoded, found);
        }
    }

    /// Whether the body of a request has to be read to know whether it is valid.
    pub(super) fn needs_body(&self, operation: &Operation, request: &Request) -> bool {
        let Some(body) = &operation.body else { return request.version >= 20 || has_body(&request.head) };
        MediaType::of(&request.head)
            .is_none_or(|media| body.media(&media).is_some_and(|described| described.is_read(&media)))
    }

    /// Adds what is wrong with a request's body.
    pub(super) fn check_body(
        &self,
        operation: &Operation,
        request: &Request,
        found: &mut Violations,
    ) -> Result<(), Unsupported> {
        let present = match &request.body {
            Some(body) => !body.is_empty(),
            None => has_body(&request.head),
        };
        let Some(described) = &operation.body else {
            if present {
                found.push(Part::Body, "", "must not be here: none is described");
            }
            return Ok(());
        };
        if !present && (request.body.is_some() || MediaType::of(&request.head).is_none()) {
            if described.required {
                found.push(Part::Body, "", "is missing");
            }
            return Ok(());
        }
        let (type_of_media, media) = described.supported(&request.head)?;
        if let Some(schema) = media.schema.as_deref().filter(|_| media.is_read(&type_of_media)) {
            if is_coded(&request.head) {
                let detail = "the body is coded, which is not taken here".to_owned();
                return Err(Unsupported { detail, accept: None });
            }
            read_body(&self.request, schema, media, &type_of_media, request.body.as_deref(), found);
        }
        Ok(())
    }

    /// What is described for an answer.
    pub(super) fn answer<'d>(&self, operation: &'d Operation, status: u16) -> Option<&'d Answer> {
        operation.responses.iter().find(|(range, _)| range.matches(status)).map(|(_, answer)| answer)
    }

    /// Whether an answer's body has to be read.
    pub(super) fn needs_answer(&self, operation: &Operation, status: u16, head: &Head) -> bool {
        let described = self.answer(operation, status);
        let media = MediaType::of(head).zip(described).and_then(|(found, answer)| Some((answer.media(&found)?, found)));
        media.is_some_and(|(media, found)| media.is_read(&found))
    }

    /// Adds what is wrong with an answer. `body`: `None` when there is none, or it was too large to be read.
    pub(super) fn check_answer(
        &self,
        operation: &Operation,
        status: u16,
        head: &Head,
        body: Option<&[u8]>,
        bodiless: bool,
        found: &mut Violations,
    ) {
        let Some(answer) = self.answer(operation, status) else {
            return found.push(Part::Status, "", format!("{status} is not described"));
        };
        let Some(schemas) = &self.response else { return };
        for header in &answer.headers {
            judge(schemas, header, header.coding.of_head(head), found);
        }
        if bodiless || answer.media.is_empty() && body.is_none_or(<[u8]>::is_empty) && !has_body(head) {
            return;
        }
        let Some(type_of_media) = MediaType::of(head) else {
            if body.is_some_and(|body| !body.is_empty()) || !answer.media.is_empty() {
                found.push(Part::Header, "content-type", "is missing");
            }
            return;
        };
        let Some(media) = answer.media(&type_of_media) else {
            return found.push(Part::Header, "content-type", "is of a media type that is not described");
        };
        if let Some(schema) = media.schema.as_deref().filter(|_| media.is_read(&type_of_media)) {
            if is_coded(head) {
                return found.push(Part::Body, "", "is coded, so that it cannot be looked at");
            }
            read_body(schemas, schema, media, &type_of_media, body, found);
        }
    }
}

impl Media {
    /// Whether a body of this media type is looked into.
    fn is_read(&self, found: &MediaType) -> bool {
        self.schema.is_some() && (found.is_json() || found.is_form())
    }
}

impl Body {
    /// The media type of a request's body, and what is described for it.
    fn supported(&self, head: &Head) -> Result<(MediaType, &Media), Unsupported> {
        let found = MediaType::of(head);
        if let Some(found) = found
            && let Some(media) = self.media(&found)
        {
            return Ok((found, media));
        }
        let accept: Vec<&str> = self.media.iter().map(|media| media.range.as_str()).collect();
        let detail = "the body is of a media type that is not described here".to_owned();
        Err(Unsupported { detail, accept: Some(accept.join(", ")).filter(|accept| accept.is_ascii()) })
    }
}

/// Reads a body of JSON or a form, and judges it.
fn read_body(
    schemas: &Schemas,
    schema: &str,
    media: &Media,
    found_type: &MediaType,
    body: Option<&[u8]>,
    found: &mut Violations,
) {
    let Some(body) = body else { return found.push(Part::Body, "", "is too large to be looked at") };
    if !found_type.is_utf8() {
        return found.push(Part::Body, "", "must be in UTF-8");
    }
    if found_type.is_json() {
        match json::read(body) {
            Ok(read) => {
                let size = Size { values: read.values, bytes: body.len() };
                schemas.check(schema, read.value, size, Part::Body, "", found);
            }
            Err(refused) => found.push(Part::Body, refused.at, refused.message),
        }
        return;
    }
    let pairs = std::str::from_utf8(body).map_err(|_| "is not UTF-8".to_owned()).and_then(Pairs::parse);
    match pairs.map(|pairs| (pairs.object(&media.shape), pairs.0.len())) {
        Ok((Ok(value), values)) => {
            schemas.check(schema, value, Size { values, bytes: body.len() }, Part::Body, "", found);
        }
        Ok((Err((name, message)), _)) => found.push(Part::Body, format!("/{name}"), message),
        Err(message) => found.push(Part::Body, "", message),
    }
}

/// Judges what a parameter came to.
fn judge(schemas: &Schemas, parameter: &Parameter, decoded: parameter::Decoded, found: &mut Violations) {
    let Coding { name, location, .. } = &parameter.coding;
    let part = match location {
        Location::Path => Part::Path,
        Location::Query => Part::Query,
        Location::Header => Part::Header,
        Location::Cookie => Part::Cookie,
    };
    match decoded {
        Ok(None) if parameter.required => found.push(part, name.as_str(), "is missing"),
        Ok(None) => {}
        Ok(Some(value)) => {
            if let Some(schema) = &parameter.schema {
                // a target or head is small, and so is what is written in it
                let size = Size { values: 0, bytes: 0 };
                schemas.check(schema, value, size, part, name, found);
            }
        }
        Err(message) => found.push(part, name.as_str(), message),
    }
}

/// The cookies of a request as pairs; a reason when they cannot be read, since what was left out might be what the upstream reads.
fn cookies(head: &Head) -> Result<Pairs<'_>, String> {
    const MAX_COOKIES: usize = 1000;
    let mut pairs = Vec::new();
    for value in head.values_id(daemun_pipeline::FieldId::Cookie) {
        let value = std::str::from_utf8(value).map_err(|_| "is not UTF-8")?;
        for (name, value) in value.split(';').filter_map(|pair| pair.trim().split_once('=')) {
            if pairs.len() == MAX_COOKIES {
                return Err(format!("has more than {MAX_COOKIES} cookies"));
            }
            pairs.push((name.into(), value));
        }
    }
    Ok(Pairs(pairs))
}

/// Reason of a request that is of no operation.
pub(super) fn reason(known: &Known<'_>) -> Reason {
    match known {
        Known::Path(_) => Reason::MethodNotAllowed,
        Known::Operation(..) | Known::Nothing => Reason::NoRoute,
    }
}
