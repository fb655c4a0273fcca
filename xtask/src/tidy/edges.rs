//! Which crate of the workspace may depend on which, held against `cargo metadata`.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::shell;
use crate::tree::File;

/// A crate, and the crates of ours it may use. What no row names may be used by nothing but tests.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("daemun-sys", &[]),
    ("daemun-seeded", &[]),
    ("daemun-config", &[]),
    ("daemun-pipeline", &["daemun-config", "daemun-sys"]),
    ("daemun-accounts", &["daemun-config", "daemun-pipeline", "daemun-sys"]),
    ("daemun-policies", &["daemun-accounts", "daemun-config", "daemun-pipeline", "daemun-sys"]),
    ("daemun-dataplane", &["daemun-config", "daemun-pipeline", "daemun-sys"]),
    ("daemun-import", &["daemun-config", "daemun-pipeline", "daemun-policies", "daemun-dataplane", "daemun-sys"]),
    (
        "daemun-control",
        &["daemun-accounts", "daemun-config", "daemun-pipeline", "daemun-policies", "daemun-dataplane", "daemun-sys"],
    ),
    (
        "daemun",
        &[
            "daemun-accounts",
            "daemun-config",
            "daemun-pipeline",
            "daemun-policies",
            "daemun-dataplane",
            "daemun-import",
            "daemun-control",
            "daemun-sys",
        ],
    ),
    (
        "daemun-e2e",
        &[
            "daemun-accounts",
            "daemun-config",
            "daemun-pipeline",
            "daemun-policies",
            "daemun-dataplane",
            "daemun-import",
            "daemun-control",
            "daemun-sys",
            "daemun",
        ],
    ),
    ("xtask", &["daemun-accounts", "daemun-config", "daemun-pipeline", "daemun-policies"]),
];

pub(super) fn edges(_: &[File]) -> Result<Vec<Finding>> {
    let text = shell::output(shell::cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("`cargo metadata` listed no packages")?;
    Ok(judge(packages))
}

/// What is wrong with the edges of `packages`. Tests of a crate may use any other; only `config` may not even there.
fn judge(packages: &[Value]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let name = text(package, "name");
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(format!("{name}: a crate that the layout does not know"));
            continue;
        };
        let dependencies = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        for dependency in dependencies.filter(|dependency| dependency.get("path").is_some_and(Value::is_string)) {
            let other = text(dependency, "name");
            let in_tests_only = text(dependency, "kind") == "dev" && name != "daemun-config" && other != "xtask";
            if !in_tests_only && !allowed.contains(&other) {
                findings.push(format!("{name}: depends on {other}, which the layout does not allow"));
            }
        }
    }
    findings
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edge_against_the_layout_is_found() {
        let edge = |name: &str, other: &str, kind: Value| {
            judge(&[json!({"name": name, "dependencies": [{"name": other, "path": "p", "kind": kind}]})]).len()
        };
        assert_eq!(edge("daemun-policies", "daemun-pipeline", Value::Null), 0);
        assert_eq!(edge("daemun-policies", "daemun-dataplane", Value::Null), 1);
        assert_eq!(edge("daemun-dataplane", "daemun-policies", json!("dev")), 0);
        assert_eq!(edge("daemun-config", "daemun-pipeline", json!("dev")), 1);
        assert_eq!(edge("daemun", "daemun-e2e", Value::Null), 1);
        assert_eq!(edge("daemun-new", "daemun-sys", Value::Null), 1);
    }
}
