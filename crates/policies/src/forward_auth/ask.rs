//! The question about a call: which request the service gets. Knows nothing of answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemun_config::model::{Server, Spanned};
use daemun_pipeline::expression::Text;
use daemun_pipeline::{BuildContext, Exchange, Fault, FieldId, Method, OutCall, Reason};

use super::config::{AskMethod, ForwardAuthConfig, Style};

/// Methods that are asked with although HTTP itself does not define them.
const OTHERS: [&str; 14] = [
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "MKCALENDAR",
    "ACL",
    "QUERY",
    "LINK",
    "UNLINK",
];

/// How the service is asked.
pub(super) struct Question {
    server: Arc<Server>,
    style: Style,
    method: &'static str,
    /// What is asked for, or what stands before the path of the call.
    target: Box<str>,
    /// Names of request headers that are sent; nearly all where there are none given.
    send: Option<Box<[Box<str>]>>,
    headers: Box<[(Box<str>, Text)]>,
    within: Duration,
    most: usize,
}

impl Question {
    /// From settings; `None` only after an error was reported.
    pub(super) fn new(settings: &ForwardAuthConfig, ctx: &mut BuildContext<'_>) -> Option<Question> {
        let mut headers = Some(Vec::new());
        for (name, value) in settings.headers.iter().flat_map(|headers| &headers.0) {
            let name = name.value.0.as_str();
            let text = Spanned { value: value.value.0.clone(), at: value.at };
            let text = ctx.text(&format!("headers.{name}"), &text, false);
            headers = headers.zip(text).map(|(mut headers, text)| {
                headers.push((name.into(), text));
                headers
            });
        }
        let target = match settings.style {
            Style::AuthRequest => settings.url.target(),
            Style::ExtAuthz => settings.path_prefix.as_deref().unwrap_or_default(),
        };
        let send = settings.send.as_ref().map(|names| names.0.iter().map(|name| name.0.as_str().into()).collect());
        Some(Question {
            server: Arc::new(settings.url.server(settings.ca_file.clone())),
            style: settings.style,
            method: match settings.method {
                None | Some(AskMethod::Get) => "GET",
                Some(AskMethod::Head) => "HEAD",
                Some(AskMethod::Post) => "POST",
            },
            target: target.into(),
            send,
            headers: headers?.into(),
            within: settings.timeout.0,
            most: usize::try_from(settings.max_answer.0).unwrap_or(usize::MAX),
        })
    }

    /// The question about a call. A call that cannot be asked about as it is, is refused.
    pub(super) fn about(&self, exchange: &Exchange) -> Result<OutCall, Fault> {
        let (method, target) = match self.style {
            Style::AuthRequest => (self.method, self.target.to_string()),
            Style::ExtAuthz => (method_of(exchange)?, self.target_about(exchange)),
        };
        let mut fields = Vec::with_capacity(exchange.request.head.fields.len() + 16);
        self.push_sent(exchange, &mut fields);
        push_usual(exchange, &mut fields);
        self.push_set(exchange, &mut fields)?;
        let server = Arc::clone(&self.server);
        Ok(OutCall { server, method, target, fields, body: Bytes::new(), within: self.within, most: self.most })
    }

    /// Where the question goes, for people; nothing secret.
    pub(super) fn describe(&self) -> String {
        let scheme = if self.server.tls { "https" } else { "http" };
        let target = self.target.split('?').next().unwrap_or_default();
        match self.style {
            Style::AuthRequest => format!("{} {scheme}://{}{target}", self.method, self.server.authority),
            Style::ExtAuthz => {
                format!("{scheme}://{}{target} with the method and path of the call", self.server.authority)
            }
        }
    }

    /// Path and query of the call in their one reading, behind the prefix; what may not stand in a target as it is, encoded.
    fn target_about(&self, exchange: &Exchange) -> String {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut target = self.target.to_string();
        for &byte in &resource(exchange) {
            if byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte) {
                target.push(char::from(byte));
            } else {
                let digit = |n: u8| char::from(HEX.get(usize::from(n)).copied().unwrap_or(b'0'));
                target.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        target
    }

    fn push_sent(&self, exchange: &Exchange, fields: &mut Vec<(String, Vec<u8>)>) {
        let head = &exchange.request.head;
        match &self.send {
            Some(names) => {
                for name in names {
                    fields.extend(head.values(name).map(|value| (name.to_string(), value.to_vec())));
                }
            }
            None => {
                let sent = head.iter().filter(|(id, name, _)| is_sent(*id, name));
                fields.extend(
                    sent.map(|(_, name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec())),
                );
            }
        }
    }

    /// What the operator sets, in place of anything of the same name. A value that comes out empty leaves its field out.
    fn push_set(&self, exchange: &Exchange, fields: &mut Vec<(String, Vec<u8>)>) -> Result<(), Fault> {
        self.each_set(exchange, |name, value| {
            if !value.iter().all(|&byte| daemun_pipeline::head::is_value(byte)) {
                // left out, it could be decided about as if it had never been there
                let detail = "the request holds control characters where another service is told of it";
                return Err(Fault::new(Reason::BadRequest, detail));
            }
            fields.retain(|(known, _)| known != name);
            if !value.trim_ascii().is_empty() {
                fields.push((name.to_owned(), value.trim_ascii().to_vec()));
            }
            Ok(())
        })
    }

    /// Names and values of what the operator sets.
    pub(super) fn each_set(
        &self,
        exchange: &Exchange,
        mut each: impl FnMut(&str, Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.headers.iter().try_for_each(|(name, text)| {
            let mut value = Vec::new();
            text.push(exchange, &mut value)?;
            each(name, value)
        })
    }
}

/// Path and query as they are forwarded: what is decided about is what is done.
fn resource(exchange: &Exchange) -> Vec<u8> {
    let request = &exchange.request;
    let mut resource = request.head.bytes(request.path).to_vec();
    if let Some(query) = request.query {
        resource.push(b'?');
        resource.extend_from_slice(request.head.bytes(query));
    }
    resource
}

/// The host of the call, as the service is told: what a trusted proxy says, where there is one.
pub(super) fn host_told(exchange: &Exchange) -> &[u8] {
    let head = &exchange.request.head;
    let told = exchange.client.trusted.then(|| head.values_id(FieldId::XForwardedHost).last()).flatten();
    told.unwrap_or_else(|| head.bytes(exchange.request.authority))
}

/// Whether a header of the request goes along where nothing says which do: not those of the connection and the body, which the service does
/// not get, nor those that make a cache or a coder of it, nor those that the gateway writes.
#[allow(clippy::wildcard_enum_match_arm, reason = "what is not named here goes along")]
fn is_sent(id: FieldId, name: &[u8]) -> bool {
    let begins = |with: &[u8]| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    match id {
        FieldId::Host
        | FieldId::ContentLength
        | FieldId::ContentType
        | FieldId::Expect
        | FieldId::Forwarded
        | FieldId::XForwardedFor
        | FieldId::XForwardedHost
        | FieldId::XForwardedProto
        | FieldId::XForwardedPort
        | FieldId::XRealIp
        | FieldId::ForwardedOther
        | FieldId::XRequestId
        | FieldId::Traceparent => false,
        id if id.is_hop_by_hop() => false,
        FieldId::Other => {
            let of_message = begins(b"content-") || begins(b"if-") || begins(b"range") || begins(b"accept-encoding");
            !of_message && !begins(b"x-original-")
        }
        _ => true,
    }
}

/// What every question says of its call.
fn push_usual(exchange: &Exchange, fields: &mut Vec<(String, Vec<u8>)>) {
    let (request, client) = (&exchange.request, &exchange.client);
    let resource = resource(exchange);
    let method = request.method_text().as_bytes();
    let scheme: &[u8] = if exchange.is_https() { b"https" } else { b"http" };
    let mut forwarded_for = Vec::new();
    if client.trusted {
        forwarded_for = request.head.values_id(FieldId::XForwardedFor).collect::<Vec<_>>().join(&b", "[..]);
    }
    if !client.peer_text.is_empty() {
        if !forwarded_for.is_empty() {
            forwarded_for.extend_from_slice(b", ");
        }
        forwarded_for.extend_from_slice(client.peer_text.as_bytes());
    }
    let pairs: [(&str, &[u8]); 9] = [
        ("x-forwarded-method", method),
        ("x-forwarded-proto", scheme),
        ("x-forwarded-host", host_told(exchange)),
        ("x-forwarded-uri", &resource),
        ("x-forwarded-for", &forwarded_for),
        ("x-original-method", method),
        ("x-original-uri", &resource),
        ("x-request-id", &exchange.id),
        ("traceparent", &exchange.trace),
    ];
    for (name, value) in pairs {
        fields.retain(|(known, _)| known != name);
        if !value.is_empty() {
            fields.push((name.to_owned(), value.to_vec()));
        }
    }
}

/// The method of the call, to ask with.
fn method_of(exchange: &Exchange) -> Result<&'static str, Fault> {
    let request = &exchange.request;
    let other = || OTHERS.into_iter().find(|known| *known == request.method_text());
    let method = match request.method {
        Method::Get => Some("GET"),
        Method::Head => Some("HEAD"),
        Method::Post => Some("POST"),
        Method::Put => Some("PUT"),
        Method::Delete => Some("DELETE"),
        Method::Options => Some("OPTIONS"),
        Method::Trace => Some("TRACE"),
        Method::Patch => Some("PATCH"),
        Method::Connect => None,
        Method::Other => other(),
    };
    method.ok_or_else(|| Fault::new(Reason::BadMethod, "the method is not one that can be asked about"))
}
