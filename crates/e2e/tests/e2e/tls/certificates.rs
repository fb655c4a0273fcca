//! Which certificate is shown, and how it is exchanged while the gateway runs; what ALPN agrees on.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use daemun_e2e::gateway::Signal;
use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::load::{Connections, Load};
use daemun_e2e::{Certificates, Client, Gateway, TlsClient, wait_until};
use rustls::version::{TLS12, TLS13};

use super::{HOST, outcome, reload, reloads, yaml};

fn any(certificates: &Certificates) -> TlsClient {
    certificates.client(None, &["http/1.1"], &[&TLS13])
}

#[test]
fn the_certificate_is_that_of_the_name_asked_for() {
    let certificates = Certificates::new();
    certificates.issue("first", "ca", "DNS:first.test");
    certificates.issue("wild", "ca", "DNS:*.b.test,DNS:second.test");
    certificates.issue("exact", "ca", "DNS:own.b.test");
    let pairs: Vec<String> =
        ["first", "wild", "exact"].iter().map(|name| format!("{{ {} }}", certificates.pair(name))).collect();
    let gateway = Gateway::start(&yaml(&[&format!("certificates: [{}]", pairs.join(", "))]));
    for version in [&TLS12, &TLS13] {
        for (asked, shown) in [
            ("first.test", "first"),
            ("second.test", "wild"),
            ("x.b.test", "wild"),
            ("OWN.b.test", "exact"),
            // a wildcard stands for one label
            ("b.test", "first"),
            ("x.y.b.test", "first"),
            ("unknown.test", "first"),
            ("localhost", "first"),
            // no name is asked for at an address
            ("127.0.0.1", "first"),
        ] {
            let client = certificates.client(None, &[], &[version]);
            let stream = client.connect(gateway.address(), asked);
            assert_eq!(stream.tls().shown(), Some(certificates.der(shown)), "{asked}");
        }
    }
}

#[test]
fn an_exchanged_certificate_is_shown_to_new_connections_and_fails_no_request() {
    let certificates = Certificates::new();
    certificates.issue("live", "ca", "DNS:a.test");
    let old = certificates.der("live");
    let gateway = Gateway::start(&yaml(&[&format!("certificates: [{{ {} }}]", certificates.pair("live"))]));
    let load = |connections| {
        let (client, address) = (any(&certificates), gateway.address().clone());
        let connect = move || client.try_connect(&address, HOST).map(Client::over);
        Load::start_over(connect, 1, connections, "/", "ok")
    };
    let loads = [load(Connections::Kept), load(Connections::Fresh)];
    let mut before = Client::over(any(&certificates).connect(gateway.address(), HOST));
    assert_eq!(before.get("/").status, 200);
    let streams = certificates.client(None, &["h2"], &[&TLS13]).connect(gateway.address(), HOST);
    let mut streams = Http2::begin(streams, 1 << 20);
    let answered = |ending| matches!(ending, Ok(Ending::Answer(answer)) if answer.status == 200);
    assert!(answered(streams.get(1, "/")));
    loads.iter().for_each(|load| load.wait_for(20));
    // the files are watched
    certificates.issue("live", "ca", "DNS:a.test");
    let new = certificates.der("live");
    assert_ne!(old, new);
    wait_until("the new certificate is shown", Duration::from_secs(10), || {
        let shown = any(&certificates).connect(gateway.address(), HOST).tls().shown();
        assert!(shown == Some(old.clone()) || shown == Some(new.clone()), "neither of the two");
        (shown == Some(new.clone())).then_some(())
    });
    assert_eq!(before.get("/").status, 200);
    assert!(answered(streams.get(3, "/")));
    loads.iter().for_each(|load| load.wait_for(20));
    for load in loads {
        let tally = load.stop();
        assert_eq!((tally.failures, tally.stale), (Vec::new(), 0));
    }
}

#[test]
fn hand_overs_fail_no_request_over_tls_and_serve_clients_with_sessions_of_the_process_before() {
    let certificates = Certificates::new();
    certificates.issue("live", "ca", "DNS:a.test");
    let gateway = Gateway::start(&yaml(&[&format!("certificates: [{{ {} }}]", certificates.pair("live"))]));
    // each load keeps the sessions it is given, and offers them to whichever process it meets
    let load = |connections, version| {
        let (client, address) = (certificates.client(None, &["http/1.1"], &[version]), gateway.address().clone());
        let connect = move || client.try_connect(&address, HOST).map(Client::over);
        Load::start_over(connect, 1, connections, "/", "ok")
    };
    let loads = [load(Connections::Kept, &TLS13), load(Connections::Fresh, &TLS13), load(Connections::Fresh, &TLS12)];
    loads.iter().for_each(|load| load.wait_for(50));
    gateway.signal(Signal::USR2);
    assert_eq!(gateway.wait_exit().code(), Some(0));
    loads.iter().for_each(|load| load.wait_for(50));
    for load in loads {
        let tally = load.stop();
        assert_eq!(tally.failures, Vec::<String>::new(), "of {} requests", tally.good);
    }
}

#[test]
fn a_certificate_without_its_key_is_not_taken_over() {
    let certificates = Certificates::new();
    certificates.issue("live", "ca", "DNS:a.test");
    certificates.issue("next", "ca", "DNS:a.test");
    let old = certificates.der("live");
    let text = format!("reload: signal\n{}", yaml(&[&format!("certificates: [{{ {} }}]", certificates.pair("live"))]));
    let gateway = Gateway::start(&text);
    certificates.copy("next.crt", "live.crt");
    reload(&gateway, "failed");
    assert_eq!(any(&certificates).connect(gateway.address(), HOST).tls().shown(), Some(old));
    assert_eq!(outcome(&any(&certificates), &gateway), Some(200));
    wait_until("the log says why", Duration::from_secs(10), || {
        gateway.stderr().contains("do not go together").then_some(())
    });
    certificates.copy("next.key", "live.key");
    reload(&gateway, "ok");
    assert_eq!(any(&certificates).connect(gateway.address(), HOST).tls().shown(), Some(certificates.der("next")));
    assert!(reloads(&gateway, "failed") < 1.5);
}

#[test]
fn the_protocol_is_the_best_that_both_sides_speak() {
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    let gateway = Gateway::start(&yaml(&[&format!("certificates: [{{ {} }}]", certificates.pair("a"))]));
    for version in [&TLS12, &TLS13] {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
            (&["http/1.0", "http/1.1"], Some("http/1.1")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let stream = certificates.client(None, offered, &[version]).connect(gateway.address(), HOST);
            assert_eq!(stream.tls().agreed(), agreed.map(str::as_bytes), "{offered:?}");
            if agreed == Some("h2") {
                continue;
            }
            assert_eq!(Client::over(stream).get("/").status, 200, "{offered:?}");
            // what was agreed on binds; who agreed on nothing may begin as it likes
            let mut stream = certificates.client(None, offered, &[version]).connect(gateway.address(), HOST);
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
            let mut first = [0; 9];
            stream.read_exact(&mut first).unwrap();
            let is_settings = first[3..5] == [4, 0];
            assert_eq!(
                (is_settings, first.starts_with(b"HTTP/1.1 ")),
                (agreed.is_none(), agreed.is_some()),
                "{offered:?}"
            );
        }
        // a client that offers only others is told so (RFC 7301, section 3.2)
        let refused = certificates.client(None, &["spdy/3", "h2c"], &[version]).try_connect(gateway.address(), HOST);
        let error = refused.expect_err("nothing in common").to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
    }
}
