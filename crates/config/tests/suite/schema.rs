//! The JSON Schema and the loader agree on a list of configurations that other tools can check as well.

use std::path::Path;

use crate::support::{VOCABULARY, World};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::tree::Value;
use daemun_config::{load_text, parse_text, schema};

#[test]
fn the_loader_agrees_with_every_schema_case() {
    let mut diagnostics = Diagnostics::new();
    let cases = parse_text(include_str!("../schema_cases.yaml"), &mut diagnostics).unwrap();
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let cases = cases.as_seq().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        let name = case.get("name").and_then(|node| node.as_str()).unwrap();
        let text = case.get("yaml").and_then(|node| node.as_str()).unwrap();
        let valid = matches!(case.get("valid").unwrap().value, Value::Bool(true));
        let world = World::default().variable("KEY", "a key of sufficient length").variable("WORKERS", "2");
        let loaded = load_text(Path::new("daemun.yaml"), text, &world, &VOCABULARY);
        assert_eq!(
            !loaded.diagnostics.has_errors(),
            valid,
            "{name}: {}",
            loaded.diagnostics.render(&loaded.sources, false)
        );
    }
}

#[test]
fn the_schema_describes_every_key_and_has_no_loose_reference() {
    let schema = schema(&VOCABULARY);
    let definitions = schema["$defs"].as_object().unwrap();
    check(&schema, definitions, "");

    fn check(schema: &serde_json::Value, definitions: &serde_json::Map<String, serde_json::Value>, path: &str) {
        match schema {
            serde_json::Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(serde_json::Value::as_str) {
                    let name = reference.strip_prefix("#/$defs/").unwrap();
                    assert!(definitions.contains_key(name), "{path}: {reference}");
                }
                if let Some(properties) = object.get("properties").and_then(serde_json::Value::as_object) {
                    assert_eq!(object.get("additionalProperties"), Some(&false.into()), "{path}");
                    let single = properties.len() == 1 && object.contains_key("required");
                    for (key, property) in properties {
                        let described = property.get("description").is_some_and(|text| text.as_str() != Some(""));
                        assert!(described || single, "{path}.{key} has no description");
                    }
                }
                // Rules on which keys exclude each other name keys without describing them again.
                for (key, inner) in object.iter().filter(|(key, _)| *key != "allOf") {
                    check(inner, definitions, &format!("{path}/{key}"));
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| check(item, definitions, path)),
            _ => {}
        }
    }
}

/// Writes the schema of this test's vocabulary where `SCHEMA_OUT` says, for a check by another tool.
#[test]
fn the_schema_is_json() {
    let text = serde_json::to_string_pretty(&schema(&VOCABULARY)).unwrap();
    if let Some(path) = std::env::var_os("SCHEMA_OUT") {
        std::fs::write(path, &text).unwrap();
    }
    assert!(text.contains("https://json-schema.org/draft/2020-12/schema"));
}
