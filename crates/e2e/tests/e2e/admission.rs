//! Policies of the first phase on the wire: what is settled before anybody knows who calls.

use std::time::Duration;

use daemun_e2e::gateway::{Folder, Signal};
use daemun_e2e::{Certificates, Client, Gateway, Lane, Response, wait_until};
use rustls::version::TLS13;

/// A gateway that trusts its clients to say for whom they call.
fn yaml(policies: &str) -> String {
    format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\ntrusted_proxies: [127.0.0.1]\n\
         upstreams: {{ origin: {{ targets: [\"{{origin}}\"] }} }}\npolicies: {policies}\n\
         routes: [{{ name: all, match: {{ prefix: /t }}, upstream: origin }}, {{ name: own, match: {{ path: /own }}, answer: {{ body: own }} }}]\n"
    )
}

fn get(client: &mut Client, target: &str, fields: &str) -> Response {
    client.call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"))
}

#[test]
fn an_address_is_let_in_or_refused_wherever_it_goes() {
    let lane = Lane::start(&yaml("{ ip_filter: { allow: [10.0.0.0/8, \"2001:db8::/32\"], deny: [10.66.0.0/16] } }"));
    let mut client = lane.connect();
    for (from, status) in [
        ("10.1.2.3", 200),
        ("10.66.0.1", 403),
        ("192.0.2.1", 403),
        ("2001:db8::1", 200),
        ("2001:db9::1", 403),
        ("::ffff:10.1.2.3", 200),
        ("::ffff:10.66.1.2", 403),
        ("10.1.2.3, 192.0.2.1", 403),
        ("192.0.2.1, 10.1.2.3", 200),
        ("nonsense", 403),
        ("10.1.2.3:4711", 200),
        ("10.66.0.1:99", 403),
    ] {
        let answer = get(&mut client, "/t", &format!("X-Forwarded-For: {from}\r\n"));
        assert_eq!(answer.status, status, "{from}");
    }
    let passed = lane.origin.look(|log| log.requests.len());
    assert_eq!(passed, 5);
    for (from, target, status) in [("10.1.2.3", "/none", 404), ("192.0.2.1", "/none", 403), ("192.0.2.1", "/own", 403)]
    {
        assert_eq!(get(&mut client, target, &format!("X-Forwarded-For: {from}\r\n")).status, status, "{from} {target}");
    }
    assert_eq!(get(&mut client, "/t", "").status, 403, "the client itself is not among them");
}

#[test]
fn a_caller_whose_address_cannot_be_read_is_in_no_range_though_its_proxy_is() {
    let text = "workers: 1\naccess_log: off\nlisteners: [{ bind: 127.0.0.1:0 }]\ntrusted_proxies: [127.0.0.1, 10.0.0.0/8]\nroutes:\n\
                \x20 - { name: filtered, match: { path: /filtered }, policies: { ip_filter: { allow: [127.0.0.0/8, 10.0.0.0/8] } }, answer: {} }\n\
                \x20 - { name: matched, match: { path: /matched, client_ip: [0.0.0.0/0] }, answer: {} }\n\
                \x20 - { name: asked, match: { path: /asked, when: 'in_network(client.ip, \"0.0.0.0/0\")' }, answer: {} }\n\
                \x20 - { name: denied, match: { path: /denied, when: 'client.ip != \"192.0.2.7\"' }, answer: {} }\n\
                \x20 - { name: guarded, match: { path: /guarded }, answer: {}, policies: { ip_filter: { deny: [0.0.0.0/0], when: '!in_network(client.ip, \"0.0.0.0/0\")' } } }\n";
    let gateway = Gateway::start(text);
    let mut client = gateway.connect();
    for (from, known) in [
        ("10.1.2.3", true),
        ("unknown", false),
        ("unknown, 10.1.2.3", false),
        ("192.0.2.1, \u{e9}", false),
        ("_hidden, 10.1.2.3, 127.0.0.1", false),
        ("", false),
        // a caller that is known, whatever it has sent itself
        ("unknown, 10.9.9.9, 192.0.2.1", true),
    ] {
        let field = format!("X-Forwarded-For: {from}\r\n");
        let (filtered, matched) = (get(&mut client, "/filtered", &field), get(&mut client, "/matched", &field));
        let allowed = known && !from.ends_with("192.0.2.1");
        assert_eq!(filtered.status, if allowed { 200 } else { 403 }, "{from}");
        assert_eq!(matched.status, if known { 200 } else { 404 }, "{from}");
        for path in ["/asked", "/denied"] {
            assert_eq!(get(&mut client, path, &field).status, if known { 200 } else { 404 }, "{path} {from}");
        }
        // a policy that protects runs where its condition cannot be answered
        assert_eq!(get(&mut client, "/guarded", &field).status, if known { 200 } else { 403 }, "{from}");
    }
    assert_eq!(get(&mut client, "/filtered", "").status, 200, "the proxy speaks for nobody but itself");
}

#[test]
fn a_list_of_addresses_may_stand_in_a_file_and_one_that_is_wrong_is_not_used() {
    let folder = Folder::new();
    folder.write("blocked.txt", "# seen on monday\n192.0.2.0/24\n127.0.0.1 # myself\n");
    let text = yaml("{ ip_filter: { deny_file: blocked.txt } }").replace("{origin}", "http://127.0.0.1:9");
    let gateway = Gateway::start_in(folder, &text);
    assert_eq!(gateway.get("/own").status, 403);
    std::fs::write(gateway.folder().join("blocked.txt"), "192.0.2.0/24\n").expect("a list");
    gateway.signal(Signal::HUP);
    wait_until("the list is read again", Duration::from_secs(10), || (gateway.get("/own").status == 200).then_some(()));
    let folder = Folder::new();
    folder.write("blocked.txt", "192.0.2.0/24\nall of them\n");
    let refused = Gateway::launch(folder, &text, &[]).err().expect("it does not start");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("blocked.txt` line 2: `all of them` is not an address"), "{}", refused.stderr);
}

#[test]
fn a_caller_over_a_unix_socket_has_no_address_and_is_let_in_only_by_name() {
    for (allow, status) in [("0.0.0.0/0", 403), ("unix", 200)] {
        let folder = Folder::new();
        let socket = folder.path().join("listener.sock");
        let text = yaml(&format!("{{ ip_filter: {{ allow: {allow} }} }}")).replace("{origin}", "http://127.0.0.1:9");
        let gateway = Gateway::start_in(
            folder,
            &text.replace("bind: 127.0.0.1:0", &format!("bind: \"unix:{}\"", socket.display())),
        );
        assert_eq!(get(&mut gateway.connect(), "/own", "X-Forwarded-For: 10.0.0.1\r\n").status, status, "{allow}");
    }
}

#[test]
fn every_answer_has_the_headers_for_browsers_and_the_upstreams_own_stay() {
    let origin = daemun_e2e::Origin::serve(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Frame-Options: DENY\r\n\r\nhi");
        daemun_e2e::Next::Keep
    });
    let policies =
        "{ security_headers: { content_security_policy: \"default-src 'none'\" }, key_auth: { header: X-Api-Key } }";
    let text = yaml(policies).replace("upstream: origin }", "upstream: origin, policies: { key_auth: off } }");
    let lane = Lane::with(&text, origin);
    let mut client = lane.connect();
    for (target, status, frames) in
        [("/t", 200, "DENY"), ("/own", 401, "SAMEORIGIN"), ("/none", 404, "SAMEORIGIN"), ("/t%00", 400, "SAMEORIGIN")]
    {
        let answer = get(&mut client, target, "");
        assert_eq!((answer.status, answer.field("x-frame-options")), (status, Some(frames)), "{target}");
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{target}");
        assert_eq!(answer.field("content-security-policy"), Some("default-src 'none'"), "{target}");
        assert!(!answer.head.has("strict-transport-security"), "{target}: promised without TLS");
        assert!(answer.head.has("x-request-id"), "{target}");
    }
    assert!(get(&mut client, "/t", "X-Forwarded-Proto: https\r\n").head.has("strict-transport-security"));
}

#[test]
fn over_tls_the_redirect_lets_through_and_the_promise_of_tls_is_made() {
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    let policies = "{ security_headers: {}, https_redirect: { port: 8443, except: /.well-known/acme-challenge } }";
    let text =
        yaml(policies).replace("{origin}", "http://127.0.0.1:9").replace("trusted_proxies: [127.0.0.1]\n", "").replace(
            "listeners: [{ bind: 127.0.0.1:0 }]",
            &format!(
                "listeners: [{{ bind: 127.0.0.1:0 }}, {{ bind: 127.0.0.1:0, tls: {{ certificates: [{{ {} }}] }} }}]",
                certificates.pair("a")
            ),
        );
    let gateway = Gateway::start(&text);
    let clear = get(&mut gateway.connect(), "/own?a=b", "X-Forwarded-Proto: https\r\n");
    assert_eq!((clear.status, clear.field("location")), (308, Some("https://e2e.test:8443/own?a=b")));
    assert!(!clear.head.has("strict-transport-security"));
    let unmatched = get(&mut gateway.connect(), "//evil.example/x", "");
    assert_eq!((unmatched.status, unmatched.field("location")), (308, Some("https://e2e.test:8443/evil.example/x")));
    assert_eq!(get(&mut gateway.connect(), "/.well-known/acme-challenge/x", "").status, 404);
    assert_eq!(gateway.connect().call("GET /own HTTP/1.0\r\n\r\n").status, 400);
    let tls = certificates.client(None, &["http/1.1"], &[&TLS13]).connect(&gateway.addresses()[1], "a.test");
    let secure = get(&mut Client::over(tls), "/own", "X-Forwarded-Proto: http\r\n");
    assert_eq!((secure.status, secure.field("strict-transport-security")), (200, Some("max-age=31536000")));
}

#[test]
fn other_names_lead_to_the_one_host_and_nowhere_else() {
    let gateway = Gateway::start(
        &yaml("{ canonical_host: { host: www.e2e.test, except: /own } }").replace("{origin}", "http://127.0.0.1:9"),
    );
    let mut client = gateway.connect();
    let mut call = |target: &str, host: &str, fields: &str| {
        let answer = client.call(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        (answer.status, answer.field("location").map(str::to_owned))
    };
    let to = |location: &str| (308, Some(location.to_owned()));
    assert_eq!(call("/t?u=//evil.example", "e2e.test", ""), to("http://www.e2e.test/t?u=//evil.example"));
    assert_eq!(call("/t", "WWW.e2e.test.evil.example:8080", ""), to("http://www.e2e.test:8080/t"));
    assert_eq!(
        call("//evil.example", "e2e.test", "X-Forwarded-Proto: https\r\n"),
        to("https://www.e2e.test/evil.example")
    );
    assert_eq!(call("http://evil.example/t", "evil.example", ""), to("http://www.e2e.test/t"));
    assert_eq!(call("/none", "WWW.E2E.test:80", ""), (404, None));
    assert_eq!(call("/own", "10.0.0.1", ""), (200, None));
}

#[test]
fn a_body_larger_than_the_policy_allows_is_refused_told_or_not() {
    let lane = Lane::start(&yaml("{ body_limit: { max: 1KiB } }"));
    let post = |fields: &str, body: &str| {
        lane.connect().call(format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n\r\n{body}"))
    };
    assert_eq!(post("Content-Length: 1024", &"x".repeat(1024)).status, 200);
    let refused = lane.connect().call("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 1025\r\n\r\n");
    assert_eq!(
        (refused.status, refused.json()["type"].as_str()),
        (413, Some("https://daemun.dev/problems/body_too_large"))
    );
    assert_eq!(post("Transfer-Encoding: chunked", &format!("400\r\n{}\r\n0\r\n\r\n", "x".repeat(1024))).status, 200);
    let more = post("Transfer-Encoding: chunked", &format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025)));
    assert_eq!(more.status, 413);
    assert_eq!(lane.origin.take().requests.iter().filter(|request| request.body.len() > 1024).count(), 0);
}

#[test]
fn programs_that_say_what_they_are_are_refused_by_it() {
    let lane = Lane::start(&yaml("{ bot_filter: { deny: [bot], allow: [Googlebot], empty: deny } }"));
    let mut client = lane.connect();
    for (fields, status) in [
        ("User-Agent: SomeBot/1\r\n", 403),
        ("User-Agent: Googlebot/2\r\n", 200),
        ("User-Agent: curl/8\r\n", 200),
        ("", 403),
        ("User-Agent: curl/8\r\nUser-Agent: SomeBot\r\n", 403),
    ] {
        assert_eq!(get(&mut client, "/t", fields).status, status, "{fields}");
    }
}

#[test]
fn a_request_is_known_by_the_id_and_in_the_header_that_are_configured() {
    let lane = Lane::start(&yaml("{ request_id: { header: X-Correlation-Id, format: uuid } }"));
    let mut client = lane.connect();
    let answer = get(&mut client, "/t", "");
    let id = answer.field("x-correlation-id").expect("an id").to_owned();
    assert_eq!((id.len(), answer.head.has("x-request-id")), (36, false));
    let request = lane.origin.take().requests.remove(0);
    assert_eq!((request.field("x-correlation-id"), request.field("x-request-id")), (Some(&*id), Some(&*id)));
    let refused = get(&mut client, "/none", "X-Correlation-Id: order-17\r\n");
    assert_eq!(
        (refused.field("x-correlation-id"), refused.json()["instance"].as_str()),
        (Some("order-17"), Some("order-17"))
    );
    let lane = Lane::start(&yaml("{ request_id: { response: false, accept: never } }"));
    let answer = get(&mut lane.connect(), "/t", "X-Request-Id: mine\r\n");
    assert!(!answer.head.has("x-request-id"), "{}", answer.head.shown());
    let request = lane.origin.only_request();
    assert!(request.field("x-request-id").is_some_and(|id| id != "mine" && id.len() == 20), "{}", request.shown());
}

#[test]
fn failures_are_injected_where_the_request_asks_for_them() {
    let lane = Lane::start(&yaml("{ fault_injection: { abort: 503, when_header: X-Chaos } }"));
    let mut client = lane.connect();
    assert_eq!(get(&mut client, "/t", "X-Chaos: 1\r\n").status, 503);
    assert_eq!(get(&mut client, "/t", "").status, 200);
    let lane = Lane::start(&yaml("{ fault_injection: { delay: 150ms, when_header: X-Chaos } }"));
    let mut client = lane.connect();
    let began = daemun_e2e::wait::now();
    assert_eq!(get(&mut client, "/t", "X-Chaos: 1\r\n").status, 200);
    assert!(began.elapsed().as_millis() >= 150);
}
