//! The demo's backends: tiny HTTP/1.1 servers that answer with what they received, as JSON. Not meant for anything else.

use std::io;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The largest head that is read.
const MAX_HEAD: usize = 64 * 1024;
/// The largest body that is read.
const MAX_BODY: usize = 1024 * 1024;

/// Serves on `listener` under a name until the runtime ends.
pub(crate) async fn serve(name: &'static str, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(name, stream))),
            // Out of descriptors, for instance: others get their turn first.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Opens the usual port on loopback, or a free one when it is taken.
pub(crate) async fn bind(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = match TcpListener::bind(("127.0.0.1", port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind(("127.0.0.1", 0)).await?,
        other => other?,
    };
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn connection(name: &'static str, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    // Whatever is wrong with a connection ends it; the gateway sees that and says so.
    while let Ok(Some(request)) = read(&mut stream, &mut buffer).await {
        if stream.write_all(&request.answer(name)).await.is_err() {
            return;
        }
    }
}

/// What a backend received.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// The answer: 201 to a POST, 200 to all else.
    fn answer(&self, name: &str) -> Vec<u8> {
        let mut fields = Map::new();
        for (field, value) in &self.fields {
            let values = fields.entry(field.to_ascii_lowercase()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = values {
                values.push(Value::from(value.as_str()));
            }
        }
        for value in fields.values_mut() {
            if let Value::Array(values) = value
                && values.len() == 1
            {
                *value = values.swap_remove(0);
            }
        }
        let body = String::from_utf8_lossy(&self.body);
        let received =
            json!({ "backend": name, "method": self.method, "target": self.target, "fields": fields, "body": body });
        let text = format!("{received:#}\n");
        let status = if self.method == "POST" { "201 Created" } else { "200 OK" };
        let mut answer =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        if self.method != "HEAD" {
            answer.push_str(&text);
        }
        answer.into_bytes()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The next request of a connection; `None` at its end.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let (mut request, head) = loop {
        if let Some(parsed) = parse_head(buffer)? {
            break parsed;
        }
        if buffer.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    buffer.drain(..head);
    if request.field("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let chunked = request.field("transfer-encoding").is_some();
    let length = request.field("content-length").map_or(Ok(0), str::parse::<usize>);
    let length = length.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    loop {
        let whole = if chunked { parse_chunks(buffer)? } else { parse_length(buffer, length) };
        if let Some((body, used)) = whole {
            request.body = body;
            buffer.drain(..used);
            return Ok(Some(request));
        }
        if buffer.len() > 2 * MAX_BODY {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A request without its body, and the length of its head; `None` while the head is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let mut head = httparse::Request::new(&mut fields);
    let status = head.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        fields: head.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect(),
        body: Vec::new(),
    };
    Ok(Some((request, length)))
}

fn parse_length(bytes: &[u8], length: usize) -> Option<(Vec<u8>, usize)> {
    bytes.get(..length).map(|body| (body.to_vec(), length))
}

/// A chunked body and how many bytes it took; `None` while it is incomplete.
fn parse_chunks(bytes: &[u8]) -> io::Result<Option<(Vec<u8>, usize)>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut body = Vec::new();
    let mut used = 0;
    loop {
        let rest = bytes.get(used..).unwrap_or_default();
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(rest).map_err(|_| invalid())? else {
            return Ok(None);
        };
        used += line;
        let size = usize::try_from(size).ok().filter(|size| body.len() + size <= MAX_BODY).ok_or_else(invalid)?;
        if size == 0 {
            // Trailer fields, up to an empty line.
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.starts_with(b"\r\n") {
                return Ok(Some((body, used + 2)));
            }
            return Ok(rest.windows(4).position(|four| four == b"\r\n\r\n").map(|at| (body, used + at + 4)));
        }
        let Some(chunk) = bytes.get(used..used + size + 2) else { return Ok(None) };
        body.extend_from_slice(chunk.get(..size).unwrap_or_default());
        used += size + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_read_to_its_end_and_no_further() {
        let bytes = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nA: b\r\n\r\nGET";
        let (body, used) = parse_chunks(bytes).unwrap().unwrap();
        assert_eq!((body.as_slice(), &bytes[used..]), (&b"abcdefg"[..], &b"GET"[..]));
        for cut in 0..used {
            assert!(parse_chunks(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        assert!(parse_chunks(b"ffffffff\r\n").is_err());
    }

    #[tokio::test]
    async fn a_backend_answers_with_what_it_received() {
        let (listener, address) = bind(0).await.unwrap();
        tokio::spawn(serve("catalog", listener));
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2\r\nContent-Length: 2\r\n\r\nhiHEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 201 "));
        let (body, second) = rest.split_once("HTTP/1.1 200 OK").unwrap();
        let received: Value = serde_json::from_str(body).unwrap();
        let fields = json!({ "host": "x", "a": ["1", "2"], "content-length": "2" });
        assert_eq!(
            received,
            json!({ "backend": "catalog", "method": "POST", "target": "/a?b=c", "fields": fields, "body": "hi" })
        );
        assert!(second.ends_with("\r\n\r\n"));
    }
}
