//! Raw bytes in, judged by what the upstream really received.

mod lengths;
mod codings;
mod chunks;
mod fields;
mod identity;
mod request_line;
mod targets;
mod hosts;
mod connection;
mod sizes;
mod pipelines;

/// What an attacker would like to reach the upstream as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: e2e.test\r\n\r\n";

/// A POST with these further field lines, each with its end, and this body.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n{body}").into_bytes()
}

/// A GET with these further field lines, each with its end.
fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = b"GET /t HTTP/1.1\r\nHost: e2e.test\r\n".to_vec();
    bytes.extend_from_slice(fields.as_ref());
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Bytes put together.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
