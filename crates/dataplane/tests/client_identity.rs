//! What a policy knows of a client that proved who it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;
#[path = "support/h2.rs"]
mod peers;
#[path = "support/tls.rs"]
mod tls;

use daemun_dataplane::Clock;
use daemun_pipeline::{Answer, Exchange, Explanation, Flow, Phase, Policy, PolicyRow, Stop};
use peers::{Client, run};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tls::Certificates;
use tokio::net::TcpStream;

/// Answers with what it knows of the client.
struct Names;

impl Policy for Names {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let body = match &exchange.client.identity {
            None => format!("tls {}, nobody", exchange.client.tls),
            Some(identity) => {
                let known = exchange.request.head.get("x-der").map(|der| der == hex(&identity.der).as_bytes());
                format!("tls {}, {}, same certificate {known:?}", exchange.client.tls, identity.fingerprint)
            }
        };
        Flow::Now(Err(Stop::Answer(Box::new(Answer { status: 200, fields: Vec::new(), body: body.into() }))))
    }

    fn explain(&self, _: &mut Exchange) -> Explanation {
        Explanation::pass("")
    }
}

const ROWS: &[PolicyRow] = &[PolicyRow {
    ends: false,
    implied: false,
    name: "names",
    phase: Phase::Admit,
    manual: "",
    unconditional: None,
    check: |_, _| {},
    schema: |_| true.into(),
    build: |_, _| Some(vec![(Phase::Admit, Box::new(Names) as Box<dyn Policy>)]),
}];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_policy_knows_the_certificate_of_the_client_and_a_resumed_session_says_the_same() {
    run(async {
        let certificates = Certificates::new("identity");
        let ca = certificates.path("ca.crt");
        let rule = format!("      client_ca: \"{ca}\"\n      client_auth: optional\n");
        let yaml = "routes:\n  - name: all\n    match: { prefix: / }\n    answer: {}\n    policies: { names: {} }\n"
            .to_owned();
        let running = support::start_with_all(ROWS, &certificates.listener(&rule), &yaml, Clock::system());
        let der = certificates.der();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        let somebody = format!("tls true, {}, same certificate Some(true)", hex(digest.as_ref()));
        for (known, expected) in [(true, somebody.as_str()), (false, "tls true, nobody")] {
            let connector = certificates.connector_as(&["h2"], known);
            for visit in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let stream = TcpStream::connect(running.address).await.unwrap();
                let stream = connector.connect(ServerName::try_from("a.test").unwrap(), stream).await.unwrap();
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(visit));
                let client = Client::over(stream, running.address).await;
                for _ in 0..2 {
                    let request = client.request(http::Method::GET, "/").header("x-der", hex(&der)).body(()).unwrap();
                    let answer = client.send(request, None, None).await.unwrap();
                    assert_eq!(String::from_utf8_lossy(&answer.body), expected, "{visit:?}");
                }
            }
        }
    });
}

#[test]
fn without_tls_nobody_is_known() {
    run(async {
        let yaml = "routes:\n  - name: all\n    match: { prefix: / }\n    answer: {}\n    policies: { names: {} }\n";
        let running = support::start_with_policies(ROWS, yaml, Clock::system());
        let answer = Client::connect(running.address).await.get("/").await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.body), "tls false, nobody");
    });
}
