//! The published JSON Schema as an independent validator reads it: it takes every example and refuses every planted mistake.

use std::path::{Path, PathBuf};

use daemun_config::tree::{Node, Value as Tree};
use daemun_config::{
    Diagnostics, Environment, Format, PolicyDescription, System, Vocabulary, load, load_text, parse, parse_text,
};
use daemun_e2e::gateway::{Folder, run_command};
use daemun_pipeline::PolicyRow;
use daemun_policies::REGISTRY;
use serde_json::{Value, json};

use crate::peers::{Script, all_there};

/// Findings about what stands elsewhere in the file, in other files or in the environment, which no schema can see.
const OF_THE_LOADER: [&str; 8] = [
    "port_twice",
    "admin_not_loopback",
    "unused_upstream",
    "unknown_upstream",
    "no_effect",
    "unknown_parameter",
    "duplicate_name",
    "bad_reference",
];

/// Places whose mistakes need arithmetic, a parser of regular expressions, or a key beside them.
const BEYOND_A_SCHEMA: [&str; 3] =
    ["trusted_proxies[0]", "routes.find-stock.match.path_regex", "listeners[1].tls.client_auth"];

/// A document, its name, and whether the schema must take it.
struct Case {
    name: String,
    document: Value,
    valid: bool,
}

#[test]
fn a_validator_takes_every_example_and_refuses_every_listed_mistake() {
    if !all_there(&["node"], &["ajv"]) {
        return;
    }
    let cases: Vec<Case> = examples().into_iter().chain(listed()).collect();
    let said = validated(&cases);
    let wrong: Vec<String> = cases
        .iter()
        .zip(&said)
        .filter(|(case, said)| said["valid"] != case.valid)
        .map(|(case, said)| format!("{}: expected valid {}, {said}", case.name, case.valid))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_validator_sees_every_planted_mistake_that_stands_in_one_place() {
    if !all_there(&["node"], &["ajv"]) {
        return;
    }
    let text = std::fs::read_to_string(root().join("crates/config/tests/forty/daemun.yaml")).unwrap();
    let policies = policies();
    let loaded = load_text(Path::new("daemun.yaml"), &text, &Keys, &Vocabulary { policies: &policies });
    let document = value(&read(&text));
    let said = validated(&[Case { name: "forty".into(), document: document.clone(), valid: false }]);
    let errors = said[0]["errors"].as_array().unwrap();

    let visible: Vec<_> = loaded
        .diagnostics
        .iter()
        .filter(|found| !OF_THE_LOADER.contains(&found.code) && !BEYOND_A_SCHEMA.contains(&&*found.path))
        .collect();
    assert_eq!(visible.len(), 29);
    let unseen: Vec<String> = visible
        .iter()
        .filter(|found| !errors.iter().any(|error| tells_of(error, &pointer(&document, &found.path))))
        .map(|found| format!("{} {}: {}", found.code, found.path, found.message))
        .collect();
    assert!(unseen.is_empty(), "{}\n{errors:#?}", unseen.join("\n"));
}

/// Whether an error of the validator is about this place: at it, below it, in its mapping and naming its key, or of keys of that
/// mapping that exclude each other.
fn tells_of(error: &Value, place: &str) -> bool {
    let at = error["at"].as_str().unwrap();
    let (mapping, key) = place.rsplit_once('/').unwrap();
    at.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        || at == mapping && (error["key"] == key || error["message"] == "must NOT be valid")
        || error["key"].as_str().is_some_and(|missing| format!("{at}/{missing}") == place)
}

/// A finding's path, `routes.hello.answer.status`, as a JSON pointer; there an item of a list has its index.
/// Of two items of one name the last is meant: mistakes that a schema sees stand there.
fn pointer(document: &Value, path: &str) -> String {
    let mut place = String::new();
    for step in path.replace('[', ".").replace(']', "").split('.') {
        let step = match document.pointer(&place) {
            Some(Value::Array(items)) if step.parse::<usize>().is_err() => {
                items.iter().rposition(|item| item["name"] == step).unwrap().to_string()
            }
            _ => step.to_owned(),
        };
        place = format!("{place}/{step}");
    }
    place
}

/// What the validator says of each, in order.
fn validated(cases: &[Case]) -> Vec<Value> {
    let folder = Folder::new();
    let documents: Vec<Value> =
        cases.iter().map(|case| json!({ "name": case.name, "document": case.document })).collect();
    let (code, schema, _) = run_command(folder.path(), &["schema"]);
    assert_eq!(code, Some(0));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let file = folder.write("cases.json", json!({ "schema": schema, "documents": documents }).to_string());
    let said = Script::run("schema.mjs", &[&file.display().to_string()]);
    let names: Vec<&Value> = said.iter().map(|line| &line["case"]).collect();
    assert_eq!(names, cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>());
    said
}

/// The examples: files, a folder that is one configuration, and the configurations in folders that hold other files as well.
fn paths() -> Vec<PathBuf> {
    let within = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| -> Vec<PathBuf> {
        if !path.is_dir() || path.join("10-gateway.yaml").exists() {
            return vec![path];
        }
        within(&path).filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect()
    };
    within(&root().join("examples")).flat_map(of).collect()
}

/// Every example as it is written; a folder as the one configuration that its files make.
fn examples() -> Vec<Case> {
    let policies = policies();
    let mut cases = Vec::new();
    for path in paths() {
        let document = if path.is_dir() {
            load(Some(&path), &Keys, &Vocabulary { policies: &policies }).tree.unwrap()
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            parse(&text, Format::of(&path), 0, &mut Diagnostics::new()).unwrap()
        };
        let name = format!("examples/{}", path.file_name().unwrap().display());
        cases.push(Case { name, document: value(&document), valid: true });
    }
    assert!(cases.len() >= 9, "{}", cases.len());
    cases
}

/// The list of configurations that the loader is held to as well.
fn listed() -> Vec<Case> {
    let text = std::fs::read_to_string(root().join("crates/config/tests/schema_cases.yaml")).unwrap();
    let list = read(&text);
    let text_of = |case: &Node, key: &str| case.get(key).and_then(Node::as_str).unwrap().to_owned();
    let cases: Vec<Case> = list
        .as_seq()
        .unwrap()
        .iter()
        .map(|case| Case {
            name: text_of(case, "name"),
            document: value(&read(&text_of(case, "yaml"))),
            valid: matches!(case.get("valid").unwrap().value, Tree::Bool(true)),
        })
        .collect();
    assert!(cases.len() > 150, "{}", cases.len());
    cases
}

fn read(text: &str) -> Node {
    let mut diagnostics = Diagnostics::new();
    let tree = parse_text(text, &mut diagnostics).unwrap();
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    tree
}

/// A tree as an editor's YAML reader would give it.
fn value(node: &Node) -> Value {
    match &node.value {
        Tree::Null => Value::Null,
        Tree::Bool(value) => (*value).into(),
        Tree::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_ref().into()),
        Tree::String(text) => text.text.as_str().into(),
        Tree::Seq(items) => items.iter().map(value).collect(),
        Tree::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), value(&entry.value))).collect(),
    }
}

fn policies() -> Vec<PolicyDescription> {
    REGISTRY.iter().map(PolicyRow::describe).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The real files, and no variable: a reference is left to its default.
struct Keys;

impl Environment for Keys {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        System.read(path, limit)
    }

    fn list(&self, path: &Path) -> std::io::Result<Option<Vec<PathBuf>>> {
        System.list(path)
    }
}
