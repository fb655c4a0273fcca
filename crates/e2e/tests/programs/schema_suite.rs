//! The JSON-Schema-Test-Suite through the policy `validate`: each case as the body of a request. What the policy says must be what the
//! library says that it stands on, and what the suite expects; every exception is listed with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemun_config::tree::{At, Entry, Node, Value as Tree};
use daemun_config::{Diagnostics, Format, parse};
use daemun_pipeline::{BuildContext, Carry, Directory, Exchange, Flow, Method, Policy, Reason, Stop};
use daemun_policies::REGISTRY;
use serde_json::{Map, Value};

use crate::peers::is_there;

/// Drafts of the suite, and what a schema says to be of one.
const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// What is said of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Valid,
    Invalid,
    /// The schema is refused at load.
    Refused,
}

#[test]
fn the_suite_of_json_schema_passes_through_the_policy() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/json-schema-test-suite");
    if !is_there(if suite.join(".installed").is_file() { &[] } else { &["the JSON-Schema-Test-Suite"] }) {
        return;
    }
    let remotes = remotes(&suite.join("remotes"));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut count = 0;
    for (draft, dialect) in DRAFTS {
        for file in files(&suite.join("tests").join(draft)) {
            let name = file.strip_prefix(suite.join("tests")).unwrap().display().to_string();
            let optional = name.contains("/optional/");
            let formats = optional && name.contains("/format/");
            for group in read(&file).as_array().unwrap() {
                let schema = of_dialect(&group["schema"], dialect);
                let policy = policy(&schema, formats, &remotes);
                let library = library(&schema, formats, &remotes);
                for test in group["tests"].as_array().unwrap() {
                    count += 1;
                    let said = policy.as_deref().map_or(Said::Refused, |policy| through(policy, &test["data"]));
                    let by_library = library.as_ref().map_or(Said::Refused, |validator| {
                        if validator.is_valid(&test["data"]) { Said::Valid } else { Said::Invalid }
                    });
                    let expected = if test["valid"] == true { Said::Valid } else { Said::Invalid };
                    if said != by_library || !optional && said != expected {
                        let description = group["description"].as_str().unwrap();
                        let case = format!("{name}: {description}");
                        found
                            .entry(case)
                            .or_default()
                            .insert(format!("{said:?} instead of {by_library:?}, {expected:?}"));
                    }
                }
            }
        }
    }
    assert!(count > 7_000, "{count} cases ran");
    let listed: BTreeSet<&str> = include_str!("schema_exceptions.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let unlisted: Vec<_> = found.iter().filter(|(case, _)| !listed.contains(case.as_str())).collect();
    assert!(unlisted.is_empty(), "{count} cases, {} exceptions: {unlisted:#?}", unlisted.len());
    let gone: Vec<_> = listed.iter().filter(|case| !found.contains_key(**case)).collect();
    assert!(gone.is_empty(), "no exception any more: {gone:#?}");
}

/// The JSON files of a folder and those below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// A schema that says which draft it is of, as those of the suite often do not.
fn of_dialect(schema: &Value, dialect: &str) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.entry("$schema").or_insert_with(|| dialect.into());
    }
    schema
}

/// The policy with a schema for bodies; `None` when it refuses the schema.
fn policy(schema: &Value, formats: bool, remotes: &Map<String, Value>) -> Option<Box<dyn Policy>> {
    let row = REGISTRY.iter().find(|row| row.name == "validate").unwrap();
    let mut diagnostics = Diagnostics::new();
    let body = parse(&schema.to_string(), Format::Json, 0, &mut diagnostics)?;
    let entry = |key: &str, value| Entry { key: key.to_owned(), key_at: At::default(), value };
    let mut entries = vec![entry("body", body)];
    if formats {
        entries.push(entry("formats", Node { at: At::default(), value: Tree::Bool(true) }));
    }
    if schema.to_string().contains("localhost:1234") {
        let mut node = |value: &Value| parse(&value.to_string(), Format::Json, 0, &mut diagnostics).unwrap();
        let named = remotes.iter().map(|(address, remote)| entry(address, node(remote))).collect();
        entries.push(entry("documents", Node { at: At::default(), value: Tree::Map(named) }));
    }
    let settings = Node { at: At::default(), value: Tree::Map(entries) };
    let mut context = BuildContext {
        diagnostics: &mut diagnostics,
        directory: &Arc::new(Directory::new(Vec::new())),
        carry: &Carry::detached(),
        world: &daemun_pipeline::Nowhere::shared(),
        token_services: &[],
        has_store: false,
        folders: &[],
        upstreams: &(Arc::new(()) as _),
        route: Some("suite"),
        authenticated: false,
        always: &[],
        body: 10 << 20,
        path: String::new(),
        at: At::default(),
        param_names: &[],
    };
    let mut runtimes = (row.build)(&settings, &mut context)?;
    Some(runtimes.remove(0).1)
}

/// What the policy does with a request that has this body.
fn through(policy: &dyn Policy, body: &Value) -> Said {
    let mut exchange = Exchange::default();
    exchange.request.method = Method::Post;
    exchange.request.head.append("Content-Type", b"application/json");
    exchange.request.body = Some(body.to_string().into_bytes());
    match policy.on_request(&mut exchange) {
        Flow::Now(Ok(())) => Said::Valid,
        Flow::Now(Err(Stop::Fault(fault))) if fault.reason == Reason::InvalidRequest => Said::Invalid,
        Flow::Now(Err(stop)) => panic!("{stop:?}"),
        Flow::Later(_) => panic!("it decides at once"),
    }
}

fn library(schema: &Value, formats: bool, remotes: &Map<String, Value>) -> Option<jsonschema::Validator> {
    let options = jsonschema::options().with_retriever(Remotes(remotes.clone()));
    let options = if formats { options.should_validate_formats(true) } else { options };
    options.build(schema).ok()
}

/// The documents that the suite has over a network, by their addresses.
fn remotes(folder: &Path) -> Map<String, Value> {
    let address = |file: &PathBuf| format!("http://localhost:1234/{}", file.strip_prefix(folder).unwrap().display());
    files(folder).iter().map(|file| (address(file), read(file))).collect()
}

struct Remotes(Map<String, Value>);

impl jsonschema::Retrieve for Remotes {
    fn retrieve(&self, uri: &jsonschema::Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.get(uri.as_str()).cloned().ok_or_else(|| "not there".into())
    }
}
