//! What an upstream is shown of who calls it: on the wire, in every place where it must not be, and where it cannot be had.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use daemun_e2e::{Client, Gateway, Next, Origin, Request, wait_until};

const SECRET: &str = "open-sesame-0123456789";

fn yaml(origin: &str, policy: &str, upstream: &str, route: &str) -> String {
    format!(
        "workers: 2\naccess_log: {{ format: json, to: stdout }}\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
         upstreams: {{ origin: {{ targets: [\"{origin}\"]{upstream} }} }}\npolicies: {{ upstream_auth: {policy} }}\n\
         routes: [{{ name: all, match: {{ path: \"/a/{{id}}\" }}, upstream: origin{route} }}]\n"
    )
}

fn client_credentials(endpoint: &Origin) -> String {
    format!(
        "{{ client_credentials: {{ token_url: \"{}/token\", client_id: gateway, client_secret: {SECRET}, scope: [orders] }} }}",
        endpoint.url()
    )
}

fn json(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn get(gateway: &Gateway, target: &str) -> daemun_e2e::Response {
    let own = "Authorization: Bearer the-callers-own";
    Client::connect(gateway.address()).call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n{own}\r\n\r\n"))
}

#[test]
fn one_token_is_fetched_for_all_who_wait_and_shown_in_place_of_the_callers_own() {
    // the endpoint answers once it is let, so that all are there by then
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opened = Arc::clone(&gate);
    let endpoint = Origin::serve(move |peer, _| {
        let mut open = opened.0.lock().unwrap();
        while !*open {
            open = opened.1.wait(open).unwrap();
        }
        let sent = peer.send(json(200, r#"{"access_token":"one","token_type":"Bearer","expires_in":600}"#));
        if sent { Next::Keep } else { Next::Close }
    });
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin.url(), &client_credentials(&endpoint), "", ""));
    let address = gateway.address().clone();
    let threads: Vec<_> = (0..12)
        .map(|n| {
            let address = address.clone();
            std::thread::spawn(move || Client::connect(&address).get(&format!("/a/{n}")).status)
        })
        .collect();
    let asked = endpoint.wait("the endpoint is asked", |log| log.requests.first().cloned());
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/token"));
    assert_eq!(asked.body, b"grant_type=client_credentials&scope=orders");
    assert_eq!(origin.look(|log| log.requests.len()), 0, "nothing is sent without a token");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(statuses, [200; 12]);
    assert_eq!(get(&gateway, "/a/own").status, 200);
    let log = origin.take();
    assert!(log.requests.iter().all(|request| request.field("authorization") == Some("Bearer one")));
    assert_eq!((log.requests.len(), endpoint.look(|log| log.requests.len())), (13, 1));
    let told = format!("{:?} {}", gateway.stdout(), gateway.stderr());
    assert!(!told.contains("one\"") && !told.contains(SECRET) && !told.contains("Bearer"), "{told}");
}

#[test]
fn without_a_token_callers_are_told_so_and_the_upstream_sees_nothing() {
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    let endpoint = Origin::serve(move |peer, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        peer.send(json(400, r#"{"error":"invalid_scope","error_description":"open-sesame"}"#));
        Next::Close
    });
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin.url(), &client_credentials(&endpoint), "", ""));
    let refused = get(&gateway, "/a/1");
    assert_eq!(refused.status, 503);
    let problem = refused.json();
    assert_eq!(problem["type"], "https://daemun.dev/problems/no_upstream_credentials");
    assert_eq!(problem["detail"], "the gateway cannot prove to the backend who it is");
    assert_eq!(origin.look(|log| log.requests.len()), 0);
    let told = wait_until("the operator is told", Duration::from_secs(10), || {
        let told = format!("{:?} {}", gateway.stdout(), gateway.stderr());
        told.contains("no token from 127.0.0.1").then_some(told)
    });
    assert!(told.contains("invalid_scope") && !told.contains("sesame"), "{told}");
    drop(endpoint);
}

#[test]
fn a_mirror_is_shown_nothing_and_no_log_either() {
    let (origin, mirror) = (Origin::echo(), Origin::echo());
    let text = yaml(
        &origin.url(),
        &format!("{{ api_key: {{ query: api_key, key: {SECRET} }} }}"),
        "",
        ", mirror: { upstream: copy }",
    );
    let text = text.replace("upstreams: {", &format!("upstreams: {{ copy: {{ targets: [\"{}\"] }},", mirror.url()));
    let gateway = Gateway::start(&text);
    assert_eq!(get(&gateway, "/a/1?api_key=own&x=1").status, 200);
    assert_eq!(origin.only_request().target, format!("/a/1?x=1&api_key={SECRET}"));
    let copy = mirror.wait_requests(1).remove(0);
    assert_eq!(copy.target, "/a/1?x=1");
    let told = format!("{:?} {}", gateway.stdout(), gateway.stderr());
    assert!(!told.contains(SECRET), "{told}");
}

/// The signature of what arrived, as the manual of AWS has it, by another program.
fn signature(request: &Request, path: &str, query: &str, host: &str) -> String {
    let field = |name: &str| request.field(name).unwrap().to_owned();
    let (payload, date) = (field("x-amz-content-sha256"), field("x-amz-date"));
    let canonical = format!(
        "{}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{date}\n\nhost;x-amz-content-sha256;x-amz-date\n{payload}",
        request.method
    );
    let script = "\
        mac() { openssl dgst -sha256 -mac HMAC -macopt \"hexkey:$1\" -hex | sed 's/.* //'; }\n\
        key=$(printf 'AWS4%s' \"$SECRET\" | od -An -tx1 | tr -d ' \\n')\n\
        for part in \"${DATE%T*}\" eu-central-1 execute-api aws4_request; do key=$(printf '%s' \"$part\" | mac \"$key\"); done\n\
        digest=$(printf '%s' \"$CANONICAL\" | openssl dgst -sha256 -hex | sed 's/.* //')\n\
        printf 'AWS4-HMAC-SHA256\\n%s\\n%s/eu-central-1/execute-api/aws4_request\\n%s' \"$DATE\" \"${DATE%T*}\" \"$digest\" | mac \"$key\"\n";
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .envs([("SECRET", SECRET), ("DATE", &date), ("CANONICAL", &canonical)])
        .output()
        .expect("`bash` and `openssl` must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_signature_of_aws_is_of_what_is_sent_after_all_changes() {
    let origin = Origin::echo();
    let policy = format!(
        "{{ aws_sigv4: {{ service: execute-api, region: eu-central-1, access_key_id: AKIDEXAMPLE, secret_access_key: {SECRET} }} }}"
    );
    let route = ", rewrite: { path: \"/v2/{id}/x\", query: { add: { b: \"2 3\" } } }";
    let gateway = Gateway::start(&yaml(&format!("{}/base", origin.url()), &policy, ", host: target", route));
    let mut client = Client::connect(gateway.address());
    let head = "X-Amz-Date: 20200101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 own\r\nContent-Length: 4\r\n";
    let answer = client.call(format!("POST /a/x%20y?z=%41&a= HTTP/1.1\r\nHost: e2e.test\r\n{head}\r\nbody"));
    assert_eq!(answer.status, 200);
    let request = origin.only_request();
    let host = origin.url().replace("http://", "");
    assert_eq!(
        (request.field("host"), request.target.as_str()),
        (Some(host.as_str()), "/base/v2/x%20y/x?z=%41&a=&b=2%203")
    );
    assert_eq!(request.body, b"body");
    let wanted = signature(&request, "/base/v2/x%2520y/x", "a=&b=2%203&z=A", &host);
    let shown = request.field("authorization").unwrap();
    assert!(shown.ends_with(&format!("Signature={wanted}")), "{shown}\n{wanted}");
    assert_eq!(request.head.all("authorization").count(), 1);
    assert_eq!(request.head.all("x-amz-date").count(), 1);
    // the digest of `body`
    let digest = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(request.field("x-amz-content-sha256"), Some(digest));
}

/// The time as AWS writes it, by another program.
fn time() -> String {
    let output = Command::new("date").args(["-u", "+%Y%m%dT%H%M%SZ"]).output().expect("`date` of the system");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_signature_of_aws_has_the_time_of_the_call_and_not_of_the_head() {
    let origin = Origin::echo();
    let policy = format!(
        "{{ aws_sigv4: {{ service: execute-api, region: eu-central-1, access_key_id: AKIDEXAMPLE, secret_access_key: {SECRET} }} }}"
    );
    let gateway = Gateway::start(&yaml(&origin.url(), &policy, "", ""));
    let mut client = Client::connect(gateway.address());
    client.send("POST /a/1 HTTP/1.1\r\nHost: e2e.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    // the head was read
    assert!(client.interim().unwrap().start.starts_with("HTTP/1.1 100"));
    let head = time();
    let later = wait_until("a second is over", Duration::from_secs(30), || Some(time()).filter(|now| *now > head));
    client.send("body");
    assert_eq!(client.response().unwrap().status, 200);
    let request = origin.only_request();
    assert!(request.field("x-amz-date").unwrap() >= later.as_str(), "{} {later}", request.shown());
    let wanted = signature(&request, "/a/1", "", "e2e.test");
    assert!(request.field("authorization").unwrap().ends_with(&wanted));
}

#[test]
fn a_call_that_is_tried_again_elsewhere_is_signed_for_there() {
    let broken = Origin::serve(|_, _| Next::Reset);
    let origin = Origin::echo();
    let policy = format!(
        "{{ aws_sigv4: {{ service: execute-api, region: eu-central-1, access_key_id: AKIDEXAMPLE, secret_access_key: {SECRET} }} }}"
    );
    let upstream = ", host: target, retry: { retries: 1 }";
    let text = yaml(&origin.url(), &policy, upstream, "");
    let both = format!("targets: [\"{}\", \"{}\"]", broken.url(), origin.url());
    let gateway = Gateway::start(&text.replace(&format!("targets: [\"{}\"]", origin.url()), &both));
    for _ in 0..2 {
        assert_eq!(get(&gateway, "/a/1").status, 200);
    }
    let host = origin.url().replace("http://", "");
    for request in origin.take().requests {
        let wanted = signature(&request, "/a/1", "", &host);
        assert!(request.field("authorization").unwrap().ends_with(&wanted));
    }
}
