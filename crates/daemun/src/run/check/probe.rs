//! One check: connects as calls do, asks, and judges the answer. Knows neither when nor how often.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use daemun_config::model::{BodyTest, GrpcProbe, HealthCheck, HttpProbe, Probe};
use daemun_dataplane::{Reach, proxy_protocol};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use regex::bytes::Regex;
use tokio::io::AsyncWriteExt as _;

use super::super::ask::{Held, MOST_INTERIM, Question, Stream, secure, tcp, too_many_interim, unix};
use super::grpc;

/// Bytes of an answer's body that are looked at.
const MOST_BODY: usize = 64 * 1024;
/// Bytes of an answer's head over HTTP/2.
const MOST_HEAD: u32 = 64 * 1024;

/// Checks targets by one upstream's settings.
pub(super) struct Prober {
    probe: Probe,
    port: Option<u16>,
    body: Option<Holds>,
}

/// What a body must hold.
enum Holds {
    Text(Box<memchr::memmem::Finder<'static>>),
    Match(Regex),
}

impl Prober {
    pub(super) fn new(settings: &HealthCheck) -> Self {
        let body = match &settings.probe {
            Probe::Http(http) => http.body.as_ref(),
            Probe::Tcp | Probe::Grpc(_) => None,
        };
        let body = body.and_then(|test| match test {
            BodyTest::Contains(text) => {
                Some(Holds::Text(Box::new(memchr::memmem::Finder::new(text.as_bytes()).into_owned())))
            }
            // it was compiled when the configuration was read
            BodyTest::Regex(regex) => Regex::new(&regex.value).ok().map(Holds::Match),
        });
        Self { probe: settings.probe.clone(), port: settings.port, body }
    }

    /// Checks one target.
    ///
    /// # Errors
    /// Why it is not well, in words.
    pub(super) async fn probe(&self, reach: Reach) -> Result<(), String> {
        let h2 = reach.h2 || matches!(self.probe, Probe::Grpc(_));
        let protocols: &[&[u8]] = match (&self.probe, h2) {
            (Probe::Tcp, false) => &[b"http/1.1", b"h2"],
            (_, true) => &[b"h2"],
            (Probe::Http(_) | Probe::Grpc(_), false) => &[b"http/1.1"],
        };
        let authority = reach.authority.clone();
        let stream = connect(reach, self.port, protocols).await?;
        match &self.probe {
            Probe::Tcp => Ok(()),
            Probe::Http(http) if h2 => self.over_h2(http, &authority, stream).await,
            Probe::Http(http) => self.over_h1(http, &authority, stream).await,
            Probe::Grpc(grpc) => serving(grpc, &authority, stream).await,
        }
    }

    async fn over_h1(&self, http: &HttpProbe, authority: &str, stream: Stream) -> Result<(), String> {
        let method = method(http)?;
        let host = http.host.as_deref().unwrap_or(authority);
        let mut question = Question::get(http.path.clone(), host);
        question.method = method;
        for (name, value) in &http.headers {
            question = question.with(name, &value.0);
        }
        let answer = question.ask(stream).await?;
        self.judge_status(http, answer.status)?;
        match &self.body {
            None => Ok(()),
            Some(_) => self.judge_body(&answer.first(MOST_BODY).await?),
        }
    }

    async fn over_h2(&self, http: &HttpProbe, authority: &str, stream: Stream) -> Result<(), String> {
        let host = http.host.as_deref().unwrap_or(authority);
        let mut request = request(method(http)?, host, &http.path)?;
        for (name, value) in &http.headers {
            put(request.headers_mut(), name, &value.0);
        }
        let most = if self.body.is_some() { MOST_BODY } else { 0 };
        let answer = call(stream, request, None, most).await?;
        self.judge_status(http, answer.status)?;
        self.judge_body(&answer.body)
    }

    fn judge_status(&self, http: &HttpProbe, status: u16) -> Result<(), String> {
        let passes = http.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status));
        if passes { Ok(()) } else { Err(format!("status {status}")) }
    }

    fn judge_body(&self, body: &[u8]) -> Result<(), String> {
        let holds = match &self.body {
            None => true,
            Some(Holds::Text(text)) => text.find(body).is_some(),
            Some(Holds::Match(regex)) => regex.is_match(body),
        };
        if holds { Ok(()) } else { Err("the body does not hold what it should".to_owned()) }
    }
}

async fn connect(reach: Reach, port: Option<u16>, protocols: &[&[u8]]) -> Result<Stream, String> {
    let refused = |error: io::Error| format!("no connection: {}", daemun_config::why(&error));
    let mut stream = match &reach.unix {
        Some(path) => unix(path).await.map_err(refused)?,
        None => {
            let mut addresses = reach.addresses;
            if addresses.is_empty() {
                return Err("its name has no address".to_owned());
            }
            for address in &mut addresses {
                address.set_port(port.unwrap_or(address.port()));
            }
            tcp(&addresses).await.map_err(refused)?
        }
    };
    // another port is another server, of which nobody said that it expects the header
    if let Some(version) = reach.proxy_protocol.filter(|_| port.is_none() || reach.unix.is_some()) {
        let mut header = Vec::with_capacity(proxy_protocol::LONGEST_V1);
        proxy_protocol::push_own(version, &mut header);
        stream.write_all(&header).await.map_err(|error| format!("PROXY header: {}", daemun_config::why(&error)))?;
    }
    match reach.tls {
        None => Ok(stream),
        Some((mut config, name)) => {
            Arc::make_mut(&mut config).alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            secure(stream, config, name).await
        }
    }
}

fn method(http: &HttpProbe) -> Result<Method, String> {
    Method::from_bytes(http.method.as_bytes()).map_err(|error| error.to_string())
}

fn request(method: Method, authority: &str, path: &str) -> Result<Request<()>, String> {
    let uri = format!("http://{authority}{path}");
    let mut request = Request::builder().method(method).uri(uri).body(()).map_err(|error| error.to_string())?;
    let agent = concat!("daemun/", env!("CARGO_PKG_VERSION"));
    request.headers_mut().insert(http::header::USER_AGENT, HeaderValue::from_static(agent));
    Ok(request)
}

fn put(fields: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        fields.insert(name, value);
    }
}

/// Whether the health service of gRPC says that the target serves.
async fn serving(probe: &GrpcProbe, authority: &str, stream: Stream) -> Result<(), String> {
    let host = probe.host.as_deref().unwrap_or(authority);
    let mut request = request(Method::POST, host, grpc::PATH)?;
    let fields = request.headers_mut();
    put(fields, "content-type", "application/grpc");
    put(fields, "te", "trailers");
    for (name, value) in &probe.headers {
        put(fields, name, &value.0);
    }
    let answer = call(stream, request, Some(grpc::question(&probe.service)), MOST_BODY).await?;
    let text =
        |fields: &HeaderMap| fields.get("grpc-status").and_then(|status| status.to_str().ok()).map(str::to_owned);
    let status = text(&answer.trailers).or_else(|| text(&answer.fields));
    grpc::judge(answer.status, status.as_deref(), &answer.body)
}

/// An answer over HTTP/2, as far as it is of interest.
struct Whole {
    status: u16,
    fields: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// Makes one call over HTTP/2 on a connection of its own, and reads at most so much of the answer's body.
async fn call(stream: Stream, request: Request<()>, body: Option<Bytes>, most: usize) -> Result<Whole, String> {
    let said = |error: h2::Error| format!("HTTP/2: {error}");
    let (client, connection) =
        h2::client::Builder::new().max_header_list_size(MOST_HEAD).handshake(stream).await.map_err(said)?;
    let _connection = Held::new(tokio::spawn(async move { drop(connection.await) }));
    let mut client = client.ready().await.map_err(said)?;
    let (mut answer, mut sending) = client.send_request(request, body.is_none()).map_err(said)?;
    if let Some(body) = body {
        sending.send_data(body, true).map_err(said)?;
    }
    let mut interim = 0;
    let answered = poll_fn(|cx| {
        while let Poll::Ready(Some(passed)) = answer.poll_informational(cx) {
            interim += 1;
            if let Err(error) = passed {
                return Poll::Ready(Err(said(error)));
            }
            if interim > MOST_INTERIM {
                return Poll::Ready(Err(too_many_interim()));
            }
        }
        Pin::new(&mut answer).poll(cx).map_err(said)
    });
    let (head, mut receiving) = answered.await?.into_parts();
    let mut whole =
        Whole { status: head.status.as_u16(), fields: head.headers, body: Vec::new(), trailers: HeaderMap::new() };
    if most == 0 {
        return Ok(whole);
    }
    while let Some(piece) = receiving.data().await {
        let piece = piece.map_err(said)?;
        // room that is not given back is no matter: the connection ends with this
        let _ = receiving.flow_control().release_capacity(piece.len());
        whole.body.extend(piece.iter().take(most - whole.body.len()));
        if whole.body.len() >= most {
            return Ok(whole);
        }
    }
    whole.trailers = receiving.trailers().await.map_err(said)?.unwrap_or_default();
    Ok(whole)
}
