//! Clients of described APIs, with `validate` between them and their backends: GitHub's own library by GitHub's own description, and a
//! client that is made from the petstore's.

use daemun_e2e::Gateway;
use daemun_e2e::gateway::Folder;
use serde_json::{Value, json};

use crate::peers::{Script, all_there, logged, of_case, package_folder, port};

/// A gateway that holds calls of all paths to a document.
fn gateway(document: &str, origin: u64, responses: &str) -> Gateway {
    let yaml = format!(
        "workers: 1\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  api: {{ targets: [\"http://127.0.0.1:{origin}\"] }}\n\
         policies:\n  validate: {{ openapi: \"{document}\", responses: {responses} }}\n\
         routes:\n  - {{ name: api, match: {{ prefix: / }}, upstream: api }}\n"
    );
    Gateway::start_in(Folder::new(), &yaml)
}

fn violations(line: &Value) -> Vec<String> {
    let text = |found: &Value, key: &str| found[key].as_str().unwrap().to_owned();
    let found = line["violations"].as_array().unwrap().iter();
    let mut lines: Vec<String> =
        found.map(|v| format!("{} {}: {}", text(v, "in"), text(v, "at"), text(v, "message"))).collect();
    lines.sort();
    lines
}

#[test]
fn calls_of_githubs_own_client_are_held_to_githubs_own_description() {
    if !all_there(&["node"], &["@octokit/openapi", "@octokit/request"]) {
        return;
    }
    let document = package_folder("@octokit/openapi").join("generated/api.github.com.json").display().to_string();
    let (server, origin) = Script::serve_with("api-server.mjs", &[&document]);
    let gateway = gateway(&document, origin, "enforce");
    let said = Script::run("github-client.mjs", &[&format!("http://127.0.0.1:{}", port(&gateway))]);

    for (case, status) in [
        ("repository", 200),
        ("issues", 200),
        ("open", 201),
        ("change", 200),
        ("topics", 200),
        ("delete", 204),
        ("markdown", 200),
        ("emails", 200),
        ("search", 200),
    ] {
        let line = of_case(&said, case);
        assert_eq!(line["status"], status, "{line} {:#?}", gateway.access_log());
    }
    assert_eq!(violations(of_case(&said, "no title")), ["body /labels: must be an array", "body /title: is missing"]);
    let bad_page = violations(of_case(&said, "bad page"));
    assert_eq!(
        bad_page,
        ["query per_page: must be an integer", "query state: must be one of `\"open\"`, `\"closed\"`, `\"all\"`"]
    );
    assert_eq!(violations(of_case(&said, "bad number")), ["path issue_number: must be an integer"]);
    assert_eq!(of_case(&said, "no such path")["status"], 404);
    assert_eq!(of_case(&said, "no such method")["status"], 405);
    let asked: Vec<Value> = server.said().into_iter().filter(|line| line.get("asked").is_some()).collect();
    assert_eq!(asked.len(), 9, "what is refused does not reach the backend: {asked:#?}");
    assert!(asked.iter().all(|line| line["coding"].is_null()), "coded answers are not asked for: {asked:#?}");
}

#[test]
fn calls_of_a_client_made_from_the_petstore_are_held_to_it() {
    if !all_there(&["node"], &["@readme/oas-examples", "openapi-client-axios", "axios"]) {
        return;
    }
    for version in ["3.0", "3.1"] {
        let file = package_folder("@readme/oas-examples").join(version).join("json/petstore.json");
        let document = file.display().to_string();
        let (server, origin) = Script::serve_with("api-server.mjs", &[&document]);
        let gateway = gateway(&document, origin, "report");
        let said = Script::run("petstore-client.mjs", &[&document, &format!("http://127.0.0.1:{}/v2", port(&gateway))]);

        // the image is described as `multipart/form-data` in one, and as bare bytes in the other
        let upload = if version == "3.0" { 200 } else { 415 };
        let cases = [("get", 200), ("find", 200), ("add", 405), ("order", 200), ("form", 405), ("inventory", 200)];
        for (case, status) in cases.into_iter().chain([("upload", upload)]) {
            assert_eq!(of_case(&said, case)["status"], status, "{version} {}", of_case(&said, case));
        }
        assert_eq!(of_case(&said, "get")["data"]["name"], "Rex");
        assert_eq!(violations(of_case(&said, "bad id")), ["path petId: must be an integer"]);
        assert_eq!(
            violations(of_case(&said, "bad status")),
            ["query status/1: must be one of `\"available\"`, `\"pending\"`, `\"sold\"`"]
        );
        assert_eq!(
            violations(of_case(&said, "bad pet")),
            [
                "body /name: is missing",
                "body /photoUrls: must be an array",
                "body /status: must be one of `\"available\"`, `\"pending\"`, `\"sold\"`",
                "body /tags/0/name: must be a string",
            ]
        );
        assert_eq!(
            violations(of_case(&said, "bad order")),
            ["body /petId: must be an integer", "body /shipDate: must be of the format `date-time`"]
        );
        let asked = server.said().iter().filter(|line| line.get("asked").is_some()).count();
        assert_eq!(asked, if version == "3.0" { 7 } else { 6 }, "what is refused does not reach the backend");
        let remarks = logged(&gateway, 1, |line| line.get("cause").is_some() && line["status"] == 200);
        assert_eq!(remarks[0]["cause"], json!("1 violation: body /sold must be an integer"));
    }
}
