//! What is seen from outside: the access log, metrics, health, recent requests.

use std::time::Duration;

use daemun_e2e::gateway::{Folder, Metrics, Signal};
use daemun_e2e::lane::FORWARD_ALL;
use daemun_e2e::{Client, Gateway, Next, Origin, wait_until};
use serde_json::Value;

fn yaml(origin: &Origin, log: &str) -> String {
    let text = FORWARD_ALL.replace("access_log: off\n", log).replace("{origin}", &origin.url());
    format!("status: {{ bind: 127.0.0.1:0 }}\n{text}")
}

/// Waits until a metric reaches a value, since a record is written after its answer.
fn metric(gateway: &Gateway, name: &str, labels: &[&str], value: f64) -> Metrics {
    let mut last = None;
    let found = daemun_e2e::poll(Duration::from_secs(5), || {
        let metrics = gateway.metrics();
        let reached = metrics.sum(name, labels) >= value;
        last = Some(metrics.clone());
        reached.then_some(metrics)
    });
    found.unwrap_or_else(|| {
        panic!("{name} {labels:?} never reached {value}: {:#?}", last.map(|metrics| metrics.samples().clone()))
    })
}

fn lines(gateway: &Gateway, count: usize) -> Vec<Value> {
    wait_until(&format!("{count} access-log lines were written"), Duration::from_secs(5), || {
        let log = gateway.access_log();
        (log.len() >= count).then_some(log)
    })
}

/// Whether any value of a JSON object holds this text or number.
fn says(line: &Value, what: &str) -> bool {
    line.as_object().is_some_and(|fields| {
        fields.values().any(|value| {
            value.as_str().is_some_and(|text| text.contains(what))
                || value.as_u64().is_some_and(|number| what.parse() == Ok(number))
        })
    })
}

#[test]
fn every_exchange_is_logged_once() {
    let origin =
        Origin::serve(
            |peer, request| {
                if request.target == "/dies" { Next::Close } else { daemun_e2e::origin::echo(peer, request) }
            },
        );
    let gateway = Gateway::start(&yaml(&origin, ""));
    let mut client = gateway.connect();
    for at in 0..10 {
        assert_eq!(client.get(&format!("/t/{at}?secret=x")).status, 200);
    }
    client.get("/dies");
    let id = client.get("/last").field("x-request-id").unwrap().to_owned();
    let log = lines(&gateway, 12);
    assert_eq!(log.len(), 12);
    for at in 0..10 {
        let count = log.iter().filter(|line| says(line, &format!("/t/{at}"))).count();
        assert_eq!(count, 1, "{log:#?}");
    }
    let died = log.iter().find(|line| says(line, "/dies")).unwrap();
    assert!(says(died, "502") && says(died, "upstream_reset"), "{died}");
    let last = log.iter().find(|line| says(line, "/last")).unwrap();
    for what in [id.as_str(), "200", "GET", "127.0.0.1", "all"] {
        assert!(says(last, what), "`{what}` is missing in {last}");
    }
}

#[test]
fn a_client_that_leaves_is_logged_and_counted() {
    let origin = Origin::serve(|peer, request| {
        if request.target == "/slow" {
            peer.stall();
            return Next::Close;
        }
        daemun_e2e::origin::echo(peer, request)
    });
    let gateway = Gateway::start(&yaml(&origin, ""));
    let mut client = gateway.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    origin.wait_requests(1);
    client.reset();
    let log = lines(&gateway, 1);
    assert!(says(&log[0], "/slow") && says(&log[0], "client_gone"), "{}", log[0]);
    metric(&gateway, "daemun_faults_total", &["reason=\"client_gone\""], 1.0);
}

#[test]
fn what_a_caller_sends_cannot_forge_a_log_line() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, ""));
    let nasty = "/a%0a%7b%22forged%22:1%7d?x=%0d%0a\"'\\";
    let answer = gateway.connect().call(format!(
        "GET {} HTTP/1.1\r\nHost: e2e.test\r\nUser-Agent: a\"b\\c\u{1b}[31m\t{{\"forged\":true}}\r\nReferer: \u{e4}\"\r\n\r\n",
        nasty.replace(['"', '\\'], "")
    ));
    assert!(matches!(answer.status, 200 | 400), "{answer:?}");
    gateway.get("/end");
    let log = wait_until("the last line was written", Duration::from_secs(5), || {
        let lines: Vec<String> = gateway.stdout().into_iter().skip(1).collect();
        lines.iter().any(|line| line.contains("/end")).then_some(lines)
    });
    assert!(log.len() <= 2, "{log:#?}");
    for line in &log {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed.get("forged").is_none(), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn a_log_file_is_reopened_and_loses_nothing() {
    let origin = Origin::echo();
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    let rotated = folder.path().join("access.log.1");
    let log = format!("access_log: {{ format: json, to: \"{}\" }}\n", path.display());
    let gateway = Gateway::start(&yaml(&origin, &log));
    let count = |path: &std::path::Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    let mut client = gateway.connect();
    for at in 0..50 {
        client.get(&format!("/a/{at}"));
    }
    wait_until("the first lines were written", Duration::from_secs(5), || (count(&path) == 50).then_some(()));
    std::fs::rename(&path, &rotated).unwrap();
    client.get("/b");
    wait_until("a line went into the renamed file", Duration::from_secs(5), || (count(&rotated) == 51).then_some(()));
    gateway.signal(Signal::USR1);
    wait_until("the log was opened again", Duration::from_secs(5), || {
        client.get("/c");
        path.exists().then_some(())
    });
    client.get("/d");
    wait_until("lines go into the new file", Duration::from_secs(5), || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("/d")).then_some(())
    });
    let sent = origin.look(|log| log.requests.len());
    assert_eq!(count(&path) + count(&rotated), sent);
    assert!(gateway.exited().is_none());
}

#[test]
fn a_template_makes_plain_lines() {
    let origin = Origin::echo();
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    let log = format!("access_log: {{ format: \"${{method}} ${{path}} ${{status}}\", to: \"{}\" }}\n", path.display());
    let gateway = Gateway::start(&yaml(&origin, &log));
    gateway.get("/t");
    let text = wait_until("a line was written", Duration::from_secs(5), || {
        std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    });
    assert_eq!(text, "GET /t 200\n");
}

#[test]
fn metrics_count_every_exchange() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, "access_log: off\n").replace("prefix: /", "prefix: /t"));
    let mut client = gateway.connect();
    for at in 0..30 {
        client.get(&format!("/t/{at}"));
    }
    client.call("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 5\r\n\r\nhello");
    client.get("/unknown");
    gateway.connect().call("GET /t HTTP/1.1\r\nHost: e2e.test\r\nX A: b\r\n\r\n");
    metric(&gateway, "daemun_bad_heads_total", &[], 1.0);
    let metrics = metric(&gateway, "daemun_requests_total", &["code=\"404\""], 1.0);
    assert!(
        (metrics.sum("daemun_requests_total", &["route=\"all\"", "code=\"200\""]) - 31.0).abs() < 0.1,
        "{metrics:?}"
    );
    assert!((metrics.sum("daemun_upstream_requests_total", &["class=\"2xx\""]) - 31.0).abs() < 0.1);
    assert!((metrics.sum("daemun_request_duration_seconds_count", &["route=\"all\""]) - 31.0).abs() < 0.1);
    assert!(metrics.sum("daemun_request_body_bytes_total", &["route=\"all\""]) >= 5.0);
    assert!(metrics.sum("daemun_connections_accepted_total", &[]) >= 2.0);
}

#[test]
fn labels_stay_bounded_whatever_callers_ask_for() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, "access_log: off\n"));
    let mut client = gateway.connect();
    client.get("/warm");
    let before = metric(&gateway, "daemun_requests_total", &[], 1.0).samples().len();
    for at in 0..200 {
        client.call(format!("M{at} /{at} HTTP/1.1\r\nHost: h{at}.test\r\nUser-Agent: {at}\r\n\r\n"));
    }
    let after = metric(&gateway, "daemun_requests_total", &[], 201.0).samples().len();
    assert!(after <= before + 20, "{before} samples became {after}");
}

#[test]
fn health_and_readiness_are_told() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin, "access_log: off\n"));
    assert_eq!(gateway.status("/healthz").status, 200);
    assert_eq!(gateway.status("/readyz").status, 200);
    assert_eq!(gateway.status("/other").status, 404);
    let post = Client::connect(gateway.status_address())
        .call("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(post.status, 404 | 405), "{post:?}");
    assert_eq!(gateway.get("/metrics").text(), "/metrics", "the status paths are not on the listeners");
}

#[test]
fn recent_requests_are_told_on_the_admin_address_only() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&format!("admin: {{ bind: 127.0.0.1:0 }}\n{}", yaml(&origin, "access_log: off\n")));
    let key = "secret-key-0123456789";
    let answer = gateway.connect().call(format!(
        "GET /t?x=1 HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Bearer {key}\r\nX-Api-Key: {key}\r\n\r\n"
    ));
    let id = answer.field("x-request-id").unwrap().to_owned();
    let admin = gateway.admin_address().clone();
    let ask = |host: &str, target: &str| {
        Client::connect(&admin).call(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    let own = admin.to_string();
    let found = wait_until("the request was recorded", Duration::from_secs(5), || {
        let answer = ask(&own, &format!("/requests/{id}"));
        (answer.status == 200).then_some(answer)
    });
    assert!(found.text().contains(&id) && found.text().contains("/t"), "{}", found.text());
    assert!(!found.text().contains(key), "a secret is told: {}", found.text());
    assert_eq!(ask(&own, "/requests/unknown").status, 404);
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254"] {
        let answer = ask(host, &format!("/requests/{id}"));
        assert!((400..500).contains(&answer.status), "the host {host} was let in: {answer:?}");
        assert!(!answer.text().contains("/t"), "{answer:?}");
    }
}
