//! Sessions that are resumed: over reloads too, but never under another rule of who may come, nor past the end of a certificate or list.

use std::time::{Duration, SystemTime};

use daemun_e2e::{Certificates, Client, Gateway, TlsClient, wait_until};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::{HOST, outcome, reload, yaml};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn certificates() -> Certificates {
    let certificates = Certificates::new();
    certificates.authority("other");
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue("known", "ca", "DNS:known.test");
    certificates
}

/// One exchange on a connection of its own, in which a ticket comes; whether it resumed a session, `None` when it is refused.
fn visit(client: &TlsClient, gateway: &Gateway, listener: usize) -> Option<bool> {
    let stream = client.try_connect(&gateway.addresses()[listener], HOST).ok()?;
    let resumed = stream.tls().is_resumed();
    let mut client = Client::over(stream);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    (client.response().ok()?.status == 200).then_some(resumed)
}

#[test]
fn a_session_is_resumed_and_over_a_reload_too() {
    let certificates = certificates();
    let own = format!("certificates: [{{ {} }}]", certificates.pair("a"));
    let demanding = format!("{own}, client_ca: \"{}\"", certificates.path("ca.crt"));
    for (tls, identity) in [(own, None), (demanding, Some("known"))] {
        let gateway = Gateway::start(&format!("reload: signal\n{}", yaml(&[&tls])));
        let clients = VERSIONS.map(|version| certificates.client(identity, &["http/1.1"], &[version]));
        for client in &clients {
            assert_eq!(visit(client, &gateway, 0), Some(false), "{tls}");
            assert_eq!(visit(client, &gateway, 0), Some(true), "{tls}");
        }
        certificates.issue("a", "ca", "DNS:a.test");
        reload(&gateway, "ok");
        for client in &clients {
            assert_eq!(visit(client, &gateway, 0), Some(true), "{tls}");
            assert_eq!(visit(client, &gateway, 0), Some(true), "{tls}");
        }
    }
}

/// Each change of the rule: the settings before, those after, who comes, and whether that is still welcome.
#[test]
fn a_session_of_one_rule_is_not_resumed_under_another() {
    let certificates = certificates();
    let own = format!("certificates: [{{ {} }}]", certificates.pair("a"));
    let ca = format!("{own}, client_ca: \"{}\"", certificates.path("ca.crt"));
    let other = format!("{own}, client_ca: \"{}\"", certificates.path("other.crt"));
    let optional = format!("{ca}, client_auth: optional");
    for (before, after, identity, welcome) in [
        (&own, &ca, None, false),
        (&own, &ca, Some("known"), true),
        (&optional, &ca, None, false),
        (&ca, &other, Some("known"), false),
        (&ca, &optional, Some("known"), true),
        (&ca, &own, Some("known"), true),
    ] {
        let gateway = Gateway::start(&format!("reload: signal\n{}", yaml(&[before])));
        let clients = VERSIONS.map(|version| certificates.client(identity, &["http/1.1"], &[version]));
        for client in &clients {
            assert_eq!(visit(client, &gateway, 0), Some(false));
            assert_eq!(visit(client, &gateway, 0), Some(true));
        }
        gateway.rewrite(&format!("reload: signal\n{}", yaml(&[after])));
        reload(&gateway, "ok");
        for client in &clients {
            assert_eq!(visit(client, &gateway, 0), welcome.then_some(false), "{before}\n{after}\n{identity:?}");
        }
    }
}

#[test]
fn authorities_exchanged_in_their_file_are_another_rule() {
    let certificates = certificates();
    certificates.copy("ca.crt", "clients.crt");
    let tls = format!(
        "certificates: [{{ {} }}], client_ca: \"{}\"",
        certificates.pair("a"),
        certificates.path("clients.crt")
    );
    let gateway = Gateway::start(&format!("reload: signal\n{}", yaml(&[&tls])));
    let clients = VERSIONS.map(|version| certificates.client(Some("known"), &["http/1.1"], &[version]));
    for client in &clients {
        assert_eq!(visit(client, &gateway, 0), Some(false));
        assert_eq!(visit(client, &gateway, 0), Some(true));
    }
    certificates.copy("other.crt", "clients.crt");
    reload(&gateway, "ok");
    for client in &clients {
        assert_eq!(visit(client, &gateway, 0), None);
        assert_eq!(outcome(client, &gateway), None);
    }
}

#[test]
fn a_session_of_one_listener_opens_no_other_with_a_stricter_rule() {
    let certificates = certificates();
    let own = format!("certificates: [{{ {} }}]", certificates.pair("a"));
    let ca = format!("{own}, client_ca: \"{}\"", certificates.path("ca.crt"));
    let gateway = Gateway::start(&yaml(&[&own, &ca]));
    for version in VERSIONS {
        let client = certificates.client(None, &["http/1.1"], &[version]);
        assert_eq!(visit(&client, &gateway, 0), Some(false));
        assert_eq!(visit(&client, &gateway, 0), Some(true));
        assert_eq!(visit(&client, &gateway, 1), None);
        assert_eq!(visit(&client, &gateway, 0).map(|_| ()), Some(()));
    }
}

/// The wall clock, in seconds.
#[allow(clippy::disallowed_methods, reason = "black-box tests measure the real clock")]
fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn pass(end: u64) {
    let limit = Duration::from_secs(end.saturating_sub(seconds()) + 60);
    wait_until("it is over", limit, || (seconds() > end).then_some(()));
}

/// Twice as long each time, until there was time enough to come and to come again.
const LIFETIMES: [u64; 6] = [4, 8, 16, 32, 64, 128];

#[test]
fn a_session_ends_with_the_certificate_of_the_client_and_so_does_who_is_known_by_it() {
    let known = "policies: { mtls_auth: { subject: cn } }\n";
    for (optional, policies, later) in [("", known, 401), (", client_auth: optional", known, 401), ("", "", 200)] {
        let certificates = certificates();
        let tls = format!(
            "certificates: [{{ {} }}], client_ca: \"{}\"{optional}",
            certificates.pair("a"),
            certificates.path("ca.crt")
        );
        let gateway = Gateway::start(&format!("{policies}{}", yaml(&[&tls])));
        let mut came = None;
        for lifetime in LIFETIMES {
            let end = seconds() + lifetime;
            certificates.issue_until(end, "brief", "ca", "DNS:brief.test");
            let clients = VERSIONS.map(|version| certificates.client(Some("brief"), &["http/1.1"], &[version]));
            let visits = clients.each_ref().map(|client| (visit(client, &gateway, 0), visit(client, &gateway, 0)));
            let open = clients[1].try_connect(gateway.address(), HOST);
            if seconds() < end {
                assert_eq!(visits, [(Some(false), Some(true)); 2]);
                came = Some((end, clients, Client::over(open.unwrap())));
                break;
            }
        }
        let (end, clients, mut open) = came.expect("a client that is quick enough");
        pass(end);
        for client in &clients {
            assert_eq!(visit(client, &gateway, 0), None, "{optional}");
        }
        assert_eq!(open.call("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status, later, "{optional} {policies}");
        let known = certificates.client(Some("known"), &["http/1.1"], &[&TLS13]);
        assert_eq!((visit(&known, &gateway, 0), visit(&known, &gateway, 0)), (Some(false), Some(true)));
    }
}

#[test]
fn no_session_is_resumed_once_a_list_of_revoked_certificates_is_over() {
    let certificates = certificates();
    let tls = format!(
        "certificates: [{{ {} }}], client_ca: \"{}\", client_crl: [\"{}\"]",
        certificates.pair("a"),
        certificates.path("ca.crt"),
        certificates.path("brief.crl")
    );
    let mut came = None;
    for lifetime in LIFETIMES {
        let end = seconds() + lifetime;
        certificates.revocations_until(end, "brief", "ca");
        let gateway = Gateway::start(&yaml(&[&tls]));
        let clients = VERSIONS.map(|version| certificates.client(Some("known"), &["http/1.1"], &[version]));
        let visits = clients.each_ref().map(|client| (visit(client, &gateway, 0), visit(client, &gateway, 0)));
        if seconds() < end {
            assert_eq!(visits, [(Some(false), Some(true)); 2]);
            came = Some((end, gateway, clients));
            break;
        }
    }
    let (end, gateway, clients) = came.expect("a client that is quick enough");
    pass(end);
    for client in &clients {
        assert_eq!(visit(client, &gateway, 0), None);
    }
}
