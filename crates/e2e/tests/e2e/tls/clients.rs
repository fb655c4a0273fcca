//! Mutual TLS: which clients may come.

use std::time::Duration;

use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::{Certificates, Gateway, wait_until};
use rustls::version::{TLS12, TLS13};

use super::{HOST, outcome, yaml};

/// The gateway's own certificate, and clients: `right`, `stray` of another authority, `late` that has expired.
fn certificates() -> Certificates {
    let certificates = Certificates::new();
    certificates.authority("other");
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue("right", "ca", "DNS:right.test");
    certificates.issue("stray", "other", "DNS:stray.test");
    certificates.issue_expired("late", "ca", "DNS:late.test");
    certificates
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_may_come() {
    let certificates = certificates();
    for (rule, without) in [("", None), (", client_auth: required", None), (", client_auth: optional", Some(200))] {
        let tls = format!(
            "certificates: [{{ {} }}], client_ca: \"{}\"{rule}",
            certificates.pair("a"),
            certificates.path("ca.crt")
        );
        let gateway = Gateway::start(&yaml(&[&tls]));
        let mut refused = 0.0;
        for version in [&TLS12, &TLS13] {
            for (identity, expected) in
                [(Some("right"), Some(200)), (None, without), (Some("stray"), None), (Some("late"), None)]
            {
                let client = certificates.client(identity, &["http/1.1"], &[version]);
                let (seen, what) = (outcome(&client, &gateway), (rule, version.version, identity));
                assert_eq!(seen, expected, "{what:?}");
                refused += f64::from(u8::from(expected.is_none()));
            }
        }
        wait_until("every refused handshake is counted and its connection gone", Duration::from_secs(5), || {
            let metrics = gateway.metrics();
            let failed = metrics.sum("daemun_tls_handshakes_failed_total", &[]);
            let open = metrics.sum("daemun_connections_open", &[]);
            (failed >= refused && open < 0.5).then(|| assert!(failed - refused < 0.5, "{failed}, not {refused}"))
        });
    }
}

#[test]
fn the_rule_holds_for_http2_as_well() {
    let certificates = certificates();
    let tls =
        format!("certificates: [{{ {} }}], client_ca: \"{}\"", certificates.pair("a"), certificates.path("ca.crt"));
    let gateway = Gateway::start(&yaml(&[&tls]));
    for (identity, welcome) in [(Some("right"), true), (None, false), (Some("stray"), false), (Some("late"), false)] {
        let stream = certificates.client(identity, &["h2"], &[&TLS13]).try_connect(gateway.address(), HOST);
        let ending = stream.map(|stream| Http2::begin(stream, 1 << 20).get(1, "/"));
        let answered = matches!(&ending, Ok(Ok(Ending::Answer(answer))) if answer.status == 200);
        assert_eq!(answered, welcome, "{identity:?}: {ending:?}");
    }
}
