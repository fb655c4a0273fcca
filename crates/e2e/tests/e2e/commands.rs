//! The command line: what each command writes, and its exit code.

use daemun_e2e::gateway::{Folder, run_command};
use serde_json::Value;

const GOOD: &str = "\
listeners: [{ bind: 127.0.0.1:0 }]
upstreams:
  catalog: { targets: [http://127.0.0.1:9] }
routes:
  - name: get-item
    match: { path: \"/items/{id}\", methods: [GET] }
    upstream: catalog
    rewrite: { path: \"/v2/items/{id}\" }
  - name: hello
    match: { path: /hello }
    answer: { status: 200, body: hello }
";

fn run(yaml: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    folder.write("daemun.yaml", yaml);
    run_command(folder.path(), arguments)
}

#[test]
fn check_says_all_that_is_wrong_at_once() {
    assert_eq!(run(GOOD, &["check"]).0, Some(0));
    let bad = GOOD
        .replace("upstream: catalog", "upstream: catlog")
        .replace("answer:", "anser:")
        .replace("methods: [GET]", "methods: [get]");
    let (code, stdout, stderr) = run(&bad, &["check", "-c", "daemun.yaml"]);
    let said = format!("{stdout}{stderr}");
    assert_eq!(code, Some(1), "{said}");
    for what in ["catlog", "did you mean `catalog`", "anser", "did you mean `answer`", "`GET`", "daemun.yaml:"] {
        assert!(said.contains(what), "`{what}` is missing in\n{said}");
    }
    let (code, stdout, _) = run(&bad, &["check", "--format", "json"]);
    assert_eq!(code, Some(1));
    serde_json::from_str::<Value>(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
}

#[test]
fn files_that_policies_read_are_looked_for_beside_the_file_that_names_them() {
    let folder = Folder::new();
    let elsewhere = Folder::new();
    let configuration = folder.path().join("daemun.yaml").to_str().unwrap().to_owned();
    folder.write("partners.txt", "192.0.2.0/24\n");
    folder.write("keys.json", r#"{"keys":[{"kty":"oct","k":"Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZSA0NzEx"}]}"#);
    folder.write("only.cedar", "permit(principal, action, resource);");
    folder.write(
        "daemun.yaml",
        "listeners: [{ bind: 127.0.0.1:0 }]\nroutes:\n  - name: hello\n    match: { path: /hello }\n    answer: { body: hello }\n    \
         policies:\n      ip_filter: { allow_file: partners.txt }\n      \
         jwt: { audience: off, keys: { file: keys.json } }\n      permission: { cedar: { policies: [only.cedar] } }\n",
    );
    let (code, stdout, stderr) = run_command(elsewhere.path(), &["check", "-c", &configuration]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    std::fs::remove_file(folder.path().join("partners.txt")).unwrap();
    let (code, stdout, stderr) = run_command(elsewhere.path(), &["check", "-c", &configuration]);
    assert_eq!(code, Some(1));
    assert!(format!("{stdout}{stderr}").contains("partners.txt` cannot be read"), "{stdout}{stderr}");
}

#[test]
fn check_warns_of_a_body_limit_that_no_route_lets_act() {
    let warned = |yaml: &str| {
        let (code, stdout, stderr) = run(yaml, &["check"]);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        format!("{stdout}{stderr}").matches("warning[contradiction]").count()
    };
    let all = format!("policies: {{ body_limit: {{ max: 20MiB }} }}\n{GOOD}");
    assert_eq!(warned(&all), 1);
    assert_eq!(warned(&format!("limits: {{ body: 30MiB }}\n{all}")), 0);
    // one route that lets it act is enough
    assert_eq!(warned(&all.replace("upstream: catalog\n", "upstream: catalog\n    limits: { body: 30MiB }\n")), 0);
    let own = |limits: &str| {
        GOOD.replace(
            "upstream: catalog\n",
            &format!("upstream: catalog\n{limits}    policies: {{ body_limit: {{ max: 20MiB }} }}\n"),
        )
    };
    assert_eq!(warned(&own("")), 1);
    assert_eq!(warned(&own("    limits: { body: 30MiB }\n")), 0);
    assert_eq!(warned(&own("    limits: { body: 1MiB }\n")), 1);
}

#[test]
fn explain_tells_the_route_and_what_would_be_sent() {
    let (code, stdout, stderr) =
        run(GOOD, &["explain", "-c", "daemun.yaml", "GET", "http://api.example.com/items/7?x=1"]);
    assert_eq!(code, Some(0), "{stderr}");
    for what in ["get-item", "/v2/items/7?x=1", "catalog"] {
        assert!(stdout.contains(what), "`{what}` is missing in\n{stdout}");
    }
    let (code, stdout, _) = run(GOOD, &["explain", "-c", "daemun.yaml", "DELETE", "http://api.example.com/items/7"]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("405"), "{stdout}");
}

#[test]
fn routes_are_listed_in_the_order_they_match() {
    let (code, stdout, _) = run(GOOD, &["routes"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("get-item") && stdout.contains("hello"), "{stdout}");
}

#[test]
fn keys_are_made_and_digested() {
    let (code, key, _) = run(GOOD, &["key", "new"]);
    assert_eq!(code, Some(0));
    let words: Vec<&str> = key.split_whitespace().collect();
    let key =
        words.iter().find(|word| word.len() >= 24).copied().unwrap_or_else(|| panic!("no key in `{key}`")).to_owned();
    let (code, other, _) = run(GOOD, &["key", "new"]);
    assert_eq!(code, Some(0));
    assert!(!other.contains(&key), "two keys are the same");
}

#[test]
fn the_schema_is_json_and_the_version_is_told() {
    let (code, stdout, _) = run(GOOD, &["schema"]);
    assert_eq!(code, Some(0));
    let schema: Value = serde_json::from_str(&stdout).expect("JSON");
    assert!(schema["properties"]["routes"].is_object(), "no `routes` in the schema");
    let (code, stdout, _) = run(GOOD, &["version"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("daemun") || stdout.contains("0.1"), "{stdout}");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    assert_eq!(run(GOOD, &["nonsense"]).0, Some(2));
    assert_eq!(run(GOOD, &["check", "--nonsense"]).0, Some(2));
    let (code, stdout, stderr) = run(GOOD, &["check", "-c", "missing.yaml"]);
    assert!(matches!(code, Some(1 | 69)), "{code:?}");
    assert!(stdout.is_empty() && stderr.contains("missing.yaml"), "{stdout}{stderr}");
}

#[test]
fn secrets_are_never_printed() {
    let key = "very-secret-key-0123456789";
    let yaml = format!(
        "{GOOD}policies: {{ key_auth: {{ header: X-Api-Key }} }}\nconsumers:\n  - name: a\n    keys: [\"{key}\"]\n"
    );
    for arguments in [
        &["check"][..],
        &["routes"],
        &["explain", "GET", "http://x/hello", "-H", "X-Api-Key: very-secret-key-0123456789"],
    ] {
        let (_, stdout, stderr) = run(&yaml, arguments);
        assert!(!stdout.contains(key) && !stderr.contains(key), "{arguments:?} prints the key:\n{stdout}{stderr}");
    }
    let twice = yaml.replace(&format!("[\"{key}\"]"), &format!("[\"{key}\", \"{key}\"]")).replace("anser", "x");
    let (_, stdout, stderr) = run(&format!("{twice}  - name: b\n    keys: [\"{key}\"]\n"), &["check"]);
    assert!(!stdout.contains(key) && !stderr.contains(key), "{stdout}{stderr}");
}

#[test]
fn explain_prints_no_text_that_a_reference_stands_for() {
    let folder = Folder::new();
    folder.write("token", "s3cret-of-the-back-end\n");
    folder.write("stage", "prod\n");
    folder.write(
        "daemun.yaml",
        "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams: { u: { targets: [\"http://127.0.0.1:9\"] } }\nroutes:\n  - name: all\n    \
         match: { prefix: / }\n    upstream: u\n    rewrite: { query: { set: { token: \"${file:token}\", stage: \"${file:stage}\" } } }\n    \
         policies: { headers: { request: { set: { X-Back: \"Token ${file:token}\", X-Products: products } } } }\n",
    );
    for format in ["text", "json"] {
        let arguments = ["explain", "-c", "daemun.yaml", "GET", "http://a.example.com/products", "--format", format];
        let (code, out, error) = run_command(folder.path(), &arguments);
        assert_eq!(code, Some(0), "{error}");
        assert!(!out.contains("s3cret") && !error.contains("s3cret"), "{out}{error}");
        for shown in ["Token ${file:token}", "token=${file:token}", "stage=${file:stage}", "/products"] {
            assert!(out.contains(shown), "{shown}: {out}");
        }
    }
}
