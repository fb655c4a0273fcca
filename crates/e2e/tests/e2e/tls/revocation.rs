//! Certificates that were taken back: whom a list refuses, and what becomes of those that no list can tell of.

use daemun_e2e::gateway::run_command;
use daemun_e2e::{Certificates, Gateway};
use rustls::version::{TLS12, TLS13};

use super::{outcome, reload, yaml};

/// The gateway's own certificate, and clients: `right`, `gone` that is taken back, `stray` of another authority; `both.crt` holds the two.
fn certificates() -> Certificates {
    let certificates = Certificates::new();
    certificates.authority("other");
    certificates.issue("a", "ca", "DNS:a.test");
    certificates.issue("right", "ca", "DNS:right.test");
    certificates.issue("gone", "ca", "DNS:gone.test");
    certificates.issue("stray", "other", "DNS:stray.test");
    certificates.join(&["ca.crt", "other.crt"], "both.crt");
    certificates
}

fn tls(certificates: &Certificates, lists: &[&str], rest: &str) -> String {
    let lists: Vec<String> = lists.iter().map(|list| format!("\"{}\"", certificates.path(list))).collect();
    format!(
        "certificates: [{{ {} }}], client_ca: \"{}\", client_crl: [{}]{rest}",
        certificates.pair("a"),
        certificates.path("both.crt"),
        lists.join(", "),
    )
}

#[test]
fn who_is_on_a_list_stays_out_and_so_does_whom_no_list_can_tell_of() {
    let certificates = certificates();
    certificates.revocations("ca", "ca", &["gone"], false);
    certificates.revocations("other", "other", &[], false);
    for (lists, rest, stray) in [
        (&["ca.crl"][..], "", None),
        (&["ca.crl"], ", client_crl_unknown: refuse", None),
        (&["ca.crl"], ", client_crl_unknown: allow", Some(200)),
        (&["ca.crl", "other.crl"], "", Some(200)),
    ] {
        let gateway = Gateway::start(&yaml(&[&tls(&certificates, lists, rest)]));
        for version in [&TLS12, &TLS13] {
            for (identity, wanted) in [("right", Some(200)), ("gone", None), ("stray", stray)] {
                let client = certificates.client(Some(identity), &["http/1.1"], &[version]);
                assert_eq!(outcome(&client, &gateway), wanted, "{lists:?} {rest} {identity} {version:?}");
            }
        }
    }
}

#[test]
fn a_list_that_is_exchanged_counts_from_then_on_for_sessions_as_well() {
    let certificates = certificates();
    certificates.revocations("ca", "ca", &[], false);
    let gateway = Gateway::start(&format!("reload: signal\n{}", yaml(&[&tls(&certificates, &["ca.crl"], "")])));
    let clients = [&TLS12, &TLS13].map(|version| certificates.client(Some("gone"), &["http/1.1"], &[version]));
    for client in &clients {
        // the second time with a session of the first
        assert_eq!((outcome(client, &gateway), outcome(client, &gateway)), (Some(200), Some(200)));
    }
    certificates.revocations("ca", "ca", &["gone"], false);
    reload(&gateway, "ok");
    for client in &clients {
        assert_eq!(outcome(client, &gateway), None);
    }
    let right = certificates.client(Some("right"), &["http/1.1"], &[&TLS13]);
    assert_eq!(outcome(&right, &gateway), Some(200));
}

#[test]
fn a_list_that_has_expired_lets_nobody_of_its_authority_in_and_is_warned_of() {
    let certificates = certificates();
    certificates.revocations("ca", "ca", &["gone"], true);
    certificates.revocations("other", "other", &[], false);
    let text = yaml(&[&tls(&certificates, &["ca.crl", "other.crl"], "")]);
    let gateway = Gateway::start(&text);
    for (identity, wanted) in [("right", None), ("gone", None), ("stray", Some(200))] {
        let client = certificates.client(Some(identity), &["http/1.1"], &[&TLS13]);
        assert_eq!(outcome(&client, &gateway), wanted, "{identity}");
    }
    let path = gateway.folder().join("checked.yaml");
    std::fs::write(&path, &text).unwrap();
    let (status, out, err) = run_command(gateway.folder(), &["check", "-c", &path.display().to_string()]);
    assert_eq!(status, Some(0), "{out}{err}");
    assert!(format!("{out}{err}").contains("warning[tls_expired]"), "{out}{err}");
}

#[test]
fn a_file_without_a_list_is_an_error() {
    let certificates = certificates();
    let folder = daemun_e2e::gateway::Folder::new();
    for (list, words) in [("ca.crt", "no list of certificates"), ("none.crl", "cannot be used")] {
        folder.write("daemun.yaml", yaml(&[&tls(&certificates, &[list], "")]));
        let (status, out, err) = run_command(folder.path(), &["check", "-c", "daemun.yaml"]);
        let told = format!("{out}{err}");
        assert!(status == Some(1) && told.contains("error[tls_file]") && told.contains(words), "{told}");
        assert!(told.contains("listeners[0].tls.client_crl[0]"), "{told}");
    }
}
