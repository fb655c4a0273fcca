//! A stop becomes a response: the only place where the gateway's own answers are made. Also the text of status lines and fields, the
//! same for every answer.

use std::sync::Arc;

use bytes::Bytes;
use daemun_config::model::ErrorBody;
use daemun_pipeline::head::Field;
use daemun_pipeline::{Answer, Exchange, Fault, FieldId, Head, Stop};

use crate::destination::upstream::grpc;

/// Appends `HTTP/1.1 200 OK` and the line's end. A status without a known phrase gets none.
pub(crate) fn push_status_line(status: u16, out: &mut Vec<u8>) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the fields that are not of one connection only, nor framing.
pub(crate) fn push_fields(head: &Head, out: &mut Vec<u8>) {
    let bytes = |range: std::ops::Range<usize>| head.buf.get(range).unwrap_or_default();
    let mut run = 0..0; // lines that stand one behind the other are one copy
    for field in &head.fields {
        if field.removed || field.id.is_hop_by_hop() || field.id == FieldId::ContentLength {
            continue;
        }
        match canonical(head, field) {
            Some(line) if line.start == run.end => run.end = line.end,
            Some(line) => out.extend_from_slice(bytes(std::mem::replace(&mut run, line))),
            None => {
                out.extend_from_slice(bytes(std::mem::take(&mut run)));
                push_field(head.bytes(field.name), head.bytes(field.value), out);
            }
        }
    }
    out.extend_from_slice(bytes(run));
}

/// The line of a field that stands in its buffer as it is to be written.
#[inline]
fn canonical(head: &Head, field: &Field) -> Option<std::ops::Range<usize>> {
    let (name, value) = (field.name.range(), field.value.range());
    let separated = value.start == name.end + 2 && head.buf.get(name.end..value.start) == Some(b": ");
    let ended = head.buf.get(value.end..value.end + 2) == Some(b"\r\n");
    (separated && ended).then_some(name.start..value.end + 2)
}

/// Appends a field of a head. One that stands there with canonical separators, as most do, is one copy.
#[inline]
pub(crate) fn push_copied(head: &Head, field: &Field, out: &mut Vec<u8>) {
    match canonical(head, field) {
        Some(line) => out.extend_from_slice(head.buf.get(line).unwrap_or_default()),
        None => push_field(head.bytes(field.name), head.bytes(field.value), out),
    }
}

/// Appends one field with canonical separators.
pub(crate) fn push_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub(crate) fn push_number(n: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut left = n;
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        used += 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Replacement bodies per status, as configured.
#[derive(Debug, Default)]
pub(crate) struct ErrorBodies(pub(crate) Vec<(u16, Arc<ErrorBody>)>);

impl ErrorBodies {
    /// Those of the configuration, with `behind` for the statuses that have none.
    pub(crate) fn of(own: &[(u16, ErrorBody)], behind: &[(u16, Arc<ErrorBody>)]) -> ErrorBodies {
        let own = own.iter().map(|(status, body)| (*status, Arc::new(body.clone())));
        // the first of a status is the one that is found
        ErrorBodies(own.chain(behind.iter().cloned()).collect())
    }
}

/// Makes the exchange's response out of a stop and gives its body. A fault becomes a problem document (RFC 9457).
pub(crate) fn from_stop(stop: &Stop, exchange: &mut Exchange, bodies: &ErrorBodies) -> Bytes {
    exchange.response.head.clear();
    exchange.response.own = true;
    match stop {
        Stop::Answer(answer) => from_answer(answer, exchange),
        Stop::Fault(fault) => from_fault(fault, exchange, bodies),
    }
}

/// Makes the exchange's response out of an answer and gives its body.
pub(crate) fn from_answer(answer: &Answer, exchange: &mut Exchange) -> Bytes {
    exchange.response.status = answer.status;
    for (name, value) in &answer.fields {
        exchange.response.head.append(name, value.as_bytes());
    }
    answer.body.clone()
}

fn from_fault(fault: &Fault, exchange: &mut Exchange, bodies: &ErrorBodies) -> Bytes {
    if exchange.request.grpc {
        return grpc::from_fault(fault, exchange);
    }
    let status = fault.status();
    exchange.response.status = status;
    let replaced = bodies.0.iter().find(|(s, _)| *s == status);
    let is_type = |name: &str| name.eq_ignore_ascii_case("content-type");
    // a body in place of the fault's own has its own type
    for (name, value) in fault.fields.iter().filter(|(name, _)| replaced.is_none() || !is_type(name)) {
        exchange.response.head.append(name, value.as_bytes());
    }
    let instance = String::from_utf8_lossy(&exchange.id).into_owned();
    if let Some((_, replaced)) = replaced {
        exchange.response.head.append("content-type", replaced.content_type.as_bytes());
        return fill(&replaced.body, fault, &instance).into();
    }
    // OAuth has its errors as plain JSON (RFC 6749, section 5.2)
    if !fault.fields.iter().any(|(name, _)| is_type(name)) {
        exchange.response.head.append("content-type", b"application/problem+json");
    }
    let mut problem = serde_json::json!({
        "type": format!("https://daemun.dev/problems/{}", fault.reason.code()),
        "title": fault.reason.title(),
        "status": status,
        "detail": fault.detail,
        "instance": instance,
    });
    for (name, value) in fault.members.iter().flat_map(|members| &members.0) {
        if let Some(object) = problem.as_object_mut() {
            object.insert((*name).to_owned(), value.clone());
        }
    }
    problem.to_string().into()
}

/// Puts the fault's values into a configured body, escaped for JSON strings.
fn fill(template: &str, fault: &Fault, instance: &str) -> String {
    let status = fault.status().to_string();
    let values = [
        ("${status}", status.as_str()),
        ("${title}", fault.reason.title()),
        ("${detail}", fault.detail.as_ref()),
        ("${reason}", fault.reason.code()),
        ("${instance}", instance),
    ];
    let mut text = template.to_owned();
    for (name, value) in values {
        if text.contains(name) {
            let quoted = serde_json::Value::from(value).to_string();
            let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
            text = text.replace(name, inner);
        }
    }
    text
}

/// Reason phrase of a status (IANA's registry).
fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0u64, 7, 10, 65_535, u64::MAX] {
            let mut out = Vec::new();
            push_number(n, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }

    #[test]
    fn a_configured_body_gets_the_faults_values_escaped() {
        let fault = Fault::new(daemun_pipeline::Reason::NoRoute, "no \"such\" route");
        assert_eq!(fill("{\"m\":\"${detail}\",\"s\":${status}}", &fault, "id"), r#"{"m":"no \"such\" route","s":404}"#);
    }
}
