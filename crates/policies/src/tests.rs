//! What holds for every policy.

use std::collections::BTreeSet;
use std::path::Path;

use daemun_config::decode::SchemaBuilder;

use crate::REGISTRY;
use crate::testing::run_page;

#[test]
fn every_folder_is_a_row_and_every_row_a_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = BTreeSet::new();
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for file in ["mod.rs", "config.rs", "tests.rs", "README.md"] {
                assert!(path.join(file).is_file(), "{} has a {file}", path.display());
            }
            folders.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    let rows: BTreeSet<String> = REGISTRY.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(folders, rows);
    assert_eq!(rows.len(), REGISTRY.len(), "no name stands twice");
}

#[test]
fn rows_stand_in_running_order() {
    let names: Vec<&str> = REGISTRY.iter().map(|row| row.name).collect();
    assert_eq!(names, ["cors", "key_auth", "rate_limit", "headers"]);
}

#[test]
fn every_manual_page_is_true() {
    for row in REGISTRY {
        assert!(
            row.manual.starts_with(&format!("# `{}`\n", row.name)),
            "the page of {} begins with its name",
            row.name
        );
        assert!(run_page(row.manual) >= 2, "the page of {} shows exchanges", row.name);
    }
}

#[test]
fn every_setting_is_on_its_page() {
    for row in REGISTRY {
        let mut builder = SchemaBuilder::new(&[]);
        (row.schema)(&mut builder);
        for definition in builder.definitions().values() {
            let properties = definition.get("properties").and_then(|properties| properties.as_object());
            for key in properties.into_iter().flat_map(|properties| properties.keys()) {
                assert!(row.manual.contains(&format!("`{key}`")), "the page of {} names `{key}`", row.name);
            }
        }
    }
}
