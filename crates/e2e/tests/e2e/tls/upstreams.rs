//! TLS towards upstreams: which are trusted, and how they are told who calls.

use daemun_e2e::http2_origin::echo_streams;
use daemun_e2e::origin::{echo, serving};
use daemun_e2e::wait::PATIENCE;
use daemun_e2e::{Certificates, Gateway, Origin, wait_until};

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is answered.
    Taken,
    /// The gateway does not trust the upstream; the log says why in these words.
    Distrusted(&'static str),
    /// The upstream does not take the gateway, which with TLS 1.3 learns so only once the handshake is done on its side.
    Unwelcome,
}

/// One upstream and what becomes of a call to it.
struct Case {
    /// Certificate that the upstream shows.
    shows: &'static str,
    /// Authority whose clients alone it takes.
    demands: Option<&'static str>,
    /// Settings of TLS towards it; `{ca}`, `{other}`, `{known}` and `{stray}` stand for files.
    settings: &'static str,
    fate: Fate,
}

const fn case(shows: &'static str, settings: &'static str, fate: Fate) -> Case {
    Case { shows, demands: None, settings, fate }
}

const fn demanding(settings: &'static str, fate: Fate) -> Case {
    Case { shows: "good", demands: Some("ca"), settings, fate }
}

const UNKNOWN: Fate = Fate::Distrusted("UnknownIssuer");
const MISNAMED: Fate = Fate::Distrusted("not valid for name");

const CASES: [Case; 15] = [
    case("good", "ca: \"{ca}\"", Fate::Taken),
    // the system's authorities do not know it
    case("good", "", UNKNOWN),
    case("good", "ca: \"{other}\"", UNKNOWN),
    case("expired", "ca: \"{ca}\"", Fate::Distrusted("expired")),
    case("named", "ca: \"{ca}\"", MISNAMED),
    case("named", "ca: \"{ca}\", server_name: a.test", Fate::Taken),
    case("good", "ca: \"{ca}\", server_name: b.test", MISNAMED),
    case("good", "insecure_skip_verify: true", Fate::Taken),
    case("good", "ca: \"{other}\", insecure_skip_verify: true", Fate::Taken),
    case("expired", "insecure_skip_verify: true", Fate::Taken),
    case("named", "insecure_skip_verify: true", Fate::Taken),
    demanding("ca: \"{ca}\", {known}", Fate::Taken),
    demanding("insecure_skip_verify: true, {known}", Fate::Taken),
    demanding("ca: \"{ca}\"", Fate::Unwelcome),
    demanding("ca: \"{ca}\", {stray}", Fate::Unwelcome),
];

#[test]
fn an_upstream_is_called_only_when_its_certificate_can_be_verified() {
    let certificates = Certificates::new();
    certificates.authority("other");
    certificates.issue("good", "ca", "DNS:a.test,IP:127.0.0.1");
    certificates.issue("named", "ca", "DNS:a.test");
    certificates.issue_expired("expired", "ca", "DNS:a.test,IP:127.0.0.1");
    certificates.issue("known", "ca", "DNS:known.test");
    certificates.issue("stray", "other", "DNS:stray.test");
    let mut origins = Vec::new();
    let (mut upstreams, mut routes) = (String::new(), String::new());
    for (at, case) in CASES.iter().enumerate() {
        for protocol in ["http1", "h2"] {
            let (name, alpn) = (format!("u{at}-{protocol}"), if protocol == "h2" { "h2" } else { "http/1.1" });
            let server = certificates.server(case.shows, case.demands, &[alpn]);
            let origin = match protocol {
                "h2" => Origin::start_tls(server, echo_streams),
                _ => Origin::start_tls(server, serving(echo)),
            };
            let settings = case
                .settings
                .replace("{ca}", &certificates.path("ca.crt"))
                .replace("{other}", &certificates.path("other.crt"))
                .replace("{known}", &certificates.pair("known"))
                .replace("{stray}", &certificates.pair("stray"));
            let target = format!("https://127.0.0.1:{}", origin.port());
            upstreams +=
                &format!("  {name}: {{ targets: [\"{target}\"], protocol: {protocol}, tls: {{ {settings} }} }}\n");
            routes += &format!("  - {{ name: {name}, match: {{ path: /{name} }}, upstream: {name} }}\n");
            origins.push((name, case, origin));
        }
    }
    let yaml =
        format!("workers: 1\nlisteners: [{{ bind: \"127.0.0.1:0\" }}]\nupstreams:\n{upstreams}routes:\n{routes}");
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.connect();
    for (name, case, origin) in &origins {
        let answer = client.get(&format!("/{name}"));
        let what = format!("{name} {} {:?} {}: {}", case.shows, case.demands, case.settings, answer.text());
        let taken = case.fate == Fate::Taken;
        if taken {
            assert_eq!((answer.status, answer.text()), (200, format!("/{name}")), "{what}");
        } else {
            assert_eq!(answer.status, 502, "{what}");
            assert!(!answer.text().contains("127.0.0.1"), "the client learns an address: {what}");
        }
        origin.wait("the upstream has answered or refused", |log| {
            let settled = log.requests.len() + log.refused.len() > 0;
            settled.then(|| assert_eq!(log.requests.len(), usize::from(taken), "{what}: {log:?}"))
        });
    }
    for (name, case, _) in &origins {
        let line = wait_until("the call is in the log", PATIENCE, || {
            gateway.access_log().into_iter().find(|line| line["route"] == name.as_str())
        });
        let said = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let (reason, cause) = (said("reason"), said("cause"));
        match case.fate {
            Fate::Taken => assert_eq!((reason, cause), (String::new(), String::new()), "{line}"),
            Fate::Distrusted(why) => assert!(reason == "upstream_tls" && cause.contains(why), "{line}"),
            Fate::Unwelcome => {
                let known = ["upstream_tls", "upstream_reset"].contains(&reason.as_str());
                assert!(known && !cause.is_empty(), "{line}");
            }
        }
    }
}

/// How the trust between gateway and upstream changes at a reload, and what becomes of calls that could go over a connection made before.
struct Change {
    /// Settings of TLS before and after it; `{ca}`, `{other}`, `{live}` and `{pair}` stand for files.
    settings: [&'static str; 2],
    /// What takes whose place on the way: files by their names.
    copies: &'static [(&'static str, &'static str)],
    /// Whether calls are still answered.
    answered: bool,
    /// Whether the connection from before carries them.
    kept: bool,
}

const CHANGES: [Change; 6] = [
    Change { settings: ["ca: \"{ca}\", {pair}"; 2], copies: &[], answered: true, kept: true },
    Change {
        settings: ["insecure_skip_verify: true, {pair}", "ca: \"{other}\", {pair}"],
        copies: &[],
        answered: false,
        kept: false,
    },
    Change {
        settings: ["ca: \"{ca}\", {pair}", "ca: \"{ca}\", {pair}, server_name: b.test"],
        copies: &[],
        answered: false,
        kept: false,
    },
    // the same settings, but what the files hold is another
    Change {
        settings: ["ca: \"{live}\", {pair}"; 2],
        copies: &[("other.crt", "live.crt")],
        answered: false,
        kept: false,
    },
    Change {
        settings: ["ca: \"{ca}\", {pair}"; 2],
        copies: &[("stray.crt", "pair.crt"), ("stray.key", "pair.key")],
        answered: false,
        kept: false,
    },
    Change {
        settings: ["ca: \"{ca}\", {pair}"; 2],
        copies: &[("next.crt", "pair.crt"), ("next.key", "pair.key")],
        answered: true,
        kept: false,
    },
];

#[test]
fn a_connection_made_under_another_trust_carries_no_further_call() {
    let certificates = Certificates::new();
    certificates.authority("other");
    certificates.issue("good", "ca", "DNS:a.test,IP:127.0.0.1");
    certificates.issue("known", "ca", "DNS:known.test");
    certificates.issue("next", "ca", "DNS:known.test");
    certificates.issue("stray", "other", "DNS:stray.test");
    for (at, change) in CHANGES.iter().enumerate() {
        for (from, to) in [("ca.crt", "live.crt"), ("known.crt", "pair.crt"), ("known.key", "pair.key")] {
            certificates.copy(from, to);
        }
        let protocols = ["http1", "h2"];
        let origins = [
            Origin::start_tls(certificates.server("good", Some("ca"), &["http/1.1"]), serving(echo)),
            Origin::start_tls(certificates.server("good", Some("ca"), &["h2"]), echo_streams),
        ];
        let yaml = |settings: &str| {
            let settings = settings
                .replace("{ca}", &certificates.path("ca.crt"))
                .replace("{other}", &certificates.path("other.crt"))
                .replace("{live}", &certificates.path("live.crt"))
                .replace("{pair}", &certificates.pair("pair"));
            let mut text = String::new();
            for (protocol, origin) in protocols.iter().zip(&origins) {
                let port = origin.port();
                text += &format!(
                    "  {protocol}: {{ targets: [\"https://127.0.0.1:{port}\"], protocol: {protocol}, tls: {{ {settings} }} }}\n"
                );
            }
            format!(
                "workers: 1\naccess_log: off\nreload: signal\nlisteners: [{{ bind: \"127.0.0.1:0\" }}]\nstatus: {{ bind: \"127.0.0.1:0\" }}\n\
                 upstreams:\n{text}routes:\n  - {{ name: http1, match: {{ path: /http1 }}, upstream: http1 }}\n  \
                 - {{ name: h2, match: {{ path: /h2 }}, upstream: h2 }}\n"
            )
        };
        let gateway = Gateway::start(&yaml(change.settings[0]));
        let mut client = gateway.connect();
        for protocol in protocols {
            for _ in 0..2 {
                assert_eq!(client.get(&format!("/{protocol}")).status, 200, "change {at}, before");
            }
        }
        change.copies.iter().for_each(|(from, to)| certificates.copy(from, to));
        gateway.rewrite(&yaml(change.settings[1]));
        super::reload(&gateway, "ok");
        for (protocol, origin) in protocols.iter().zip(&origins) {
            let status = client.get(&format!("/{protocol}")).status;
            assert_eq!(status, if change.answered { 200 } else { 502 }, "change {at} {protocol}");
            let accepted = origin.look(|log| log.accepted);
            assert_eq!(accepted == 1, change.kept, "change {at} {protocol}: {accepted} connections");
        }
    }
}
