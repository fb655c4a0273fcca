//! `validate` on the wire: what is refused does not reach the upstream, what passes arrives as it was sent, and answers are held to what
//! is described.

use std::time::Duration;

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::{Gateway, Lane, Next, Origin, Peer, origin, wait_until};
use serde_json::{Value, json};

const API: &str = r##"
openapi: 3.1.0
servers: [{ url: /v1 }]
paths:
  /items/{id}:
    parameters: [{ $ref: "common.yaml#/parameters/id" }]
    get:
      responses:
        "200":
          headers: { X-Left: { required: true, schema: { type: integer } } }
          content: { application/json: { schema: { $ref: "#/components/schemas/Item" } } }
    put:
      requestBody: { required: true, content: { application/json: { schema: { $ref: "#/components/schemas/Item" } } } }
      responses: { "204": {} }
  /files:
    post:
      requestBody: { content: { multipart/form-data: {} } }
      responses: { default: {} }
components:
  schemas:
    Item: { type: object, required: [name], properties: { name: { type: string, maxLength: 9 }, count: { type: integer } } }
"##;
const COMMON: &str = "parameters: { id: { name: id, in: path, required: true, schema: { type: integer } } }\n";

fn lane(settings: &str, origin: Origin) -> Lane {
    let folder = Folder::new();
    folder.write("api.yaml", API);
    folder.write("common.yaml", COMMON);
    let yaml = format!(
        "workers: 1\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  api: {{ targets: [\"{}\"] }}\n\
         policies:\n  validate: {{ openapi: api.yaml, {settings} }}\n\
         routes:\n  - {{ name: api, match: {{ prefix: / }}, upstream: api }}\n",
        origin.url()
    );
    Lane { gateway: Gateway::start_in(folder, &yaml), origin }
}

fn violations(problem: &Value) -> Vec<String> {
    let text = |found: &Value, key: &str| found[key].as_str().unwrap().to_owned();
    let found = problem["violations"].as_array().unwrap().iter();
    let mut lines: Vec<String> =
        found.map(|v| format!("{} {}: {}", text(v, "in"), text(v, "at"), text(v, "message"))).collect();
    lines.sort();
    lines
}

const PUT: &str = "PUT /v1/items/7 HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: application/json\r\n";

#[test]
fn only_what_is_described_reaches_the_upstream_and_arrives_as_it_was_sent() {
    let lane = lane("max_body: 100B", Origin::echo());
    let mut client = lane.connect();
    let good = "{ \"name\": \"lamp\",\t\"count\": 1.0 }";
    assert_eq!(client.call(format!("{PUT}Content-Length: {}\r\n\r\n{good}", good.len())).text(), good);
    let chunked =
        client.call(format!("{PUT}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"nam\r\n7\r\ne\":\"x\"}}\r\n0\r\n\r\n"));
    assert_eq!((chunked.status, chunked.text()), (200, "{\"name\":\"x\"}".to_owned()));
    let bad = r#"{"name":"much too long","count":"x","name2":1}"#;
    let answer = client.call(format!("{PUT}Content-Length: {}\r\n\r\n{bad}", bad.len()));
    assert_eq!((answer.status, answer.field("content-type")), (400, Some("application/problem+json")));
    assert_eq!(answer.json()["type"], "https://daemun.dev/problems/invalid_request");
    assert_eq!(
        violations(&answer.json()),
        ["body /count: must be an integer", "body /name: must have at most 9 characters"]
    );
    for (request, status) in [
        (format!("{PUT}Content-Length: 0\r\n\r\n"), 400),
        (format!("{PUT}Content-Length: 1\r\n\r\n{{"), 400),
        (format!("{PUT}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}"), 415),
        (PUT.replace("application/json", "text/plain") + "Content-Length: 2\r\n\r\n{}", 415),
        (format!("{PUT}Content-Length: 101\r\n\r\n{}", " ".repeat(101)), 413),
        ("GET /v1/items/seven HTTP/1.1\r\nHost: e2e.test\r\n\r\n".to_owned(), 400),
        ("GET /v1/orders HTTP/1.1\r\nHost: e2e.test\r\n\r\n".to_owned(), 404),
        ("GET /items/7 HTTP/1.1\r\nHost: e2e.test\r\n\r\n".to_owned(), 404),
        ("DELETE /v1/items/7 HTTP/1.1\r\nHost: e2e.test\r\n\r\n".to_owned(), 405),
    ] {
        let answer = lane.connect().call(request.clone());
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.json()["status"], status);
    }
    assert_eq!(lane.origin.look(|log| log.requests.len()), 2, "what is refused does not reach the upstream");
    // another media type passes as a stream, however large
    let form = "POST /v1/files HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: multipart/form-data; boundary=x\r\n";
    let large = "x".repeat(100_000);
    assert_eq!(client.call(format!("{form}Content-Length: {}\r\n\r\n{large}", large.len())).text(), large);
}

#[test]
fn http2_is_held_to_the_same() {
    let lane = lane("", Origin::echo());
    let mut client = Http2::connect(lane.gateway.address());
    let fields = |path: &'static str| {
        [
            (":method", "PUT"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "e2e.test"),
            ("content-type", "application/json"),
        ]
    };
    let path = "/v1/items/7";
    let good = client.headers(1, &fields(path), false).data(1, br#"{"name":"x"}"#, true).ending(1).unwrap();
    assert!(matches!(&good, Ending::Answer(answer) if answer.status == 200), "{good:?}");
    let bad = client.headers(3, &fields(path), false).data(3, br#"{"name":5}"#, true).ending(3).unwrap();
    assert!(matches!(&bad, Ending::Answer(answer) if answer.status == 400), "{bad:?}");
    let none = client.headers(5, &fields(path), true).ending(5).unwrap();
    assert!(matches!(&none, Ending::Answer(answer) if answer.status == 400), "{none:?}");
    assert_eq!(lane.origin.look(|log| log.requests.len()), 1);
}

/// An upstream whose answer its target's last letters choose.
fn answering() -> Origin {
    Origin::serve(|peer: &mut Peer, request: &origin::Request| {
        let (head, body) = match request.target.as_str() {
            "/v1/items/1" => ("200 OK\r\nX-Left: 5\r\nContent-Type: application/json", r#"{"name":"lamp"}"#),
            "/v1/items/2" => ("200 OK\r\nX-Left: x\r\nContent-Type: application/json", r#"{"name":7,"key":"hidden"}"#),
            "/v1/items/3" => {
                ("200 OK\r\nX-Left: 5\r\nContent-Type: application/json\r\nContent-Encoding: gzip", "hidden")
            }
            "/v1/items/4" => ("200 OK\r\nX-Left: 5\r\nContent-Type: text/html", "<hidden>"),
            "/v1/items/5" => ("500 Oops\r\nContent-Type: text/plain", "hidden"),
            _ => (
                "200 OK\r\nX-Left: 5\r\nContent-Type: application/json",
                &*Box::leak(format!("[{}1]", "1,".repeat(1 << 20)).into_boxed_str()),
            ),
        };
        assert!(!request.has("accept-encoding"), "a coded answer is not asked for");
        let sent = peer.send(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        if sent { Next::Keep } else { Next::Close }
    })
}

#[test]
fn an_answer_that_is_not_as_described_is_kept_from_the_caller() {
    let lane = lane("responses: enforce", answering());
    let get = |id: u32| {
        lane.connect().call(format!("GET /v1/items/{id} HTTP/1.1\r\nHost: e2e.test\r\nAccept-Encoding: gzip\r\n\r\n"))
    };
    assert_eq!(get(1).text(), r#"{"name":"lamp"}"#);
    for id in 2..=6 {
        let answer = get(id);
        assert_eq!(
            (answer.status, answer.json()["type"].clone()),
            (502, json!("https://daemun.dev/problems/invalid_response")),
            "{id}"
        );
        assert!(!answer.text().contains("hidden") && answer.json().get("violations").is_none(), "{}", answer.text());
    }
    let causes = wait_until("six lines were written", Duration::from_secs(10), || {
        let lines: Vec<String> = lane.gateway.access_log().iter().map(|line| line["cause"].to_string()).collect();
        (lines.len() == 6).then_some(lines)
    });
    for (id, expected) in [
        (2, "header X-Left must be an integer; body /name must be a string"),
        (3, "body is coded"),
        (4, "content-type is of a media type that is not described"),
        (5, "500 is not described"),
        (6, "body is too large"),
    ] {
        assert!(causes[id - 1].contains(expected) && !causes[id - 1].contains("hidden"), "{id}: {causes:#?}");
    }
}

#[test]
fn an_answer_that_is_only_reported_passes_and_is_logged() {
    let lane = lane("responses: report", answering());
    let get = |id: u32| lane.connect().call(format!("GET /v1/items/{id} HTTP/1.1\r\nHost: e2e.test\r\n\r\n"));
    assert_eq!(get(1).status, 200);
    assert_eq!(get(2).text(), r#"{"name":7,"key":"hidden"}"#);
    assert_eq!(get(5).status, 500);
    assert!(get(6).text().len() > 1 << 20);
    let lines = wait_until("four lines were written", Duration::from_secs(10), || {
        Some(lane.gateway.access_log()).filter(|lines| lines.len() == 4)
    });
    assert!(lines[0].get("cause").is_none() && lines.iter().all(|line| line.get("reason").is_none()), "{lines:#?}");
    assert!(lines[1]["cause"].as_str().unwrap().starts_with("2 violations: header X-Left must be an integer"));
    assert!(lines[2]["cause"].as_str().unwrap().contains("500 is not described"));
    assert!(lines[3]["cause"].as_str().unwrap().contains("body is too large"));
    // the gateway's own answers are not judged
    assert_eq!(lane.connect().get("/v1/items/x").status, 400);
}

#[test]
fn a_changed_document_is_read_anew_and_a_bad_one_leaves_the_old() {
    let lane = lane("", Origin::echo());
    let status = |target: &str| lane.connect().get(target).status;
    assert_eq!((status("/v1/items/7"), status("/v1/orders")), (200, 404));
    let write = |text: &str| std::fs::write(lane.gateway.folder().join("api.yaml"), text).unwrap();
    write(&API.replace("/files:", "/orders:").replace("    post:", "    get:"));
    wait_until("the new document is used", Duration::from_secs(20), || (status("/v1/orders") == 200).then_some(()));
    write(&API.replace("type: string, maxLength: 9", "type: text"));
    wait_until("the bad document is told of", Duration::from_secs(20), || {
        lane.gateway.stderr().contains("error[schema]").then_some(())
    });
    assert!(lane.gateway.stderr().contains("api.yaml`, line "), "{}", lane.gateway.stderr());
    assert_eq!((status("/v1/items/7"), status("/v1/orders")), (200, 200));
}

#[test]
fn check_tells_what_is_wrong_with_a_document_and_explain_what_with_a_request() {
    let folder = Folder::new();
    folder.write(
        "api.yaml",
        API.replace("requestBody: { required: true,", "requestBody: { required: true, $ref: '#/nowhere',"),
    );
    folder.write("common.yaml", COMMON);
    let yaml = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes:\n  - name: a\n    answer: {}\n    policies:\n      validate: { openapi: api.yaml }\n";
    folder.write("daemun.yaml", yaml);
    let (code, out, err) = run_command(folder.path(), &["check"]);
    assert_eq!(code, Some(1), "{out}{err}");
    let all = format!("{out}{err}");
    assert!(
        all.contains("error[schema] routes.a.policies.validate") && all.contains("nothing is at `/nowhere`"),
        "{all}"
    );
    folder.write("api.yaml", API);
    let (code, out, err) = run_command(folder.path(), &["explain", "GET", "http://e2e.test/v1/items/seven"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("path id must be an integer"), "{out}");
}
