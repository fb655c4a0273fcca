//! `cargo xtask licences`: every dependency's licence and source against `deny.toml`, with no network.
//!
//! It reads the part of cargo-deny's file format that it needs, so that cargo-deny itself can be run on the same file.
//! Advisories are not checked: their database has to be fetched.

mod spdx;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{shell, tree};

/// The only source of packages that are not in the tree.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `deny.toml` allows.
#[derive(Default)]
struct Policy {
    licences: Vec<String>,
    /// Crates that may be there in several versions, each with its reason.
    several_versions: BTreeMap<String, String>,
    /// Crates that may not be there at all.
    banned: Vec<String>,
}

/// Checks the whole dependency graph, all targets and features, as locked. Fails with every finding printed.
pub(crate) fn run() -> Result<()> {
    let policy =
        Policy::read(&std::fs::read_to_string(tree::root().join("deny.toml")).context("cannot read `deny.toml`")?)?;
    let text = shell::output(shell::cargo().args(["metadata", "--format-version", "1", "--locked", "--all-features"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("`cargo metadata` listed no packages")?;
    let built = built()?;
    let packages: Vec<&Value> = packages.iter().filter(|package| built.contains(&name_and_version(package))).collect();
    let findings = policy.judge(&packages);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings about licences and sources", findings.len());
    }
    println!("{} packages: licences and sources are as `deny.toml` allows", packages.len());
    Ok(())
}

/// Every package that some target and feature builds, as `name version`. The metadata lists more: what optional
/// features of a dependency would need, if anyone turned them on.
fn built() -> Result<BTreeSet<String>> {
    let tree =
        ["tree", "--locked", "--workspace", "--all-features", "--target", "all", "--prefix", "none", "--no-dedupe"];
    let text = shell::output(shell::cargo().args(tree).args(["--edges", "normal,build,dev"]))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
        })
        .collect())
}

fn name_and_version(package: &Value) -> String {
    let text = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("name"), text("version"))
}

impl Policy {
    /// Reads the lists of `[licenses]` and `[bans]`.
    fn read(text: &str) -> Result<Policy> {
        let mut policy = Policy::default();
        let (mut section, mut list) = (String::new(), String::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) =
                line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|_| list.is_empty())
            {
                section = name.to_owned();
            } else if let Some((key, "[")) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                list = format!("{section}.{key}");
            } else if line == "]" {
                list.clear();
            } else if !list.is_empty() {
                policy.entry(&list, line.trim_end_matches(',')).with_context(|| format!("deny.toml:{}", index + 1))?;
            }
        }
        if policy.licences.is_empty() {
            bail!("`deny.toml` allows no licence; write one entry a line");
        }
        Ok(policy)
    }

    fn entry(&mut self, list: &str, entry: &str) -> Result<()> {
        match list {
            "licenses.allow" => self.licences.push(entry.trim_matches('"').to_owned()),
            "bans.deny" => self.banned.push(field(entry, "crate").context("an entry without `crate`")?),
            "bans.skip" => {
                let name = field(entry, "crate").context("an entry without `crate`")?;
                let reason = field(entry, "reason").context("an exception without `reason`")?;
                self.several_versions.insert(name, reason);
            }
            _ => {}
        }
        Ok(())
    }

    fn judge(&self, packages: &[&Value]) -> Vec<String> {
        let mut findings = Vec::new();
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in packages {
            let text = |key: &str| package.get(key).and_then(Value::as_str);
            let (name, version) = (text("name").unwrap_or_default(), text("version").unwrap_or_default());
            versions.entry(name).or_default().push(version);
            match text("license").map(|expression| (expression, spdx::allowed(expression, &self.licences))) {
                Some((_, Ok(true))) => {}
                Some((expression, Ok(false))) => findings.push(format!("{name} {version}: licence `{expression}`")),
                Some((_, Err(error))) => findings.push(format!("{name} {version}: {error:#}")),
                None => findings.push(format!("{name} {version}: states no licence")),
            }
            match text("source") {
                None | Some(REGISTRY) => {}
                Some(other) => findings.push(format!("{name} {version}: comes from `{other}`")),
            }
            if self.banned.iter().any(|banned| banned == name) {
                findings.push(format!("{name} {version}: is banned"));
            }
        }
        for (name, versions) in &versions {
            if versions.len() > 1 && !self.several_versions.contains_key(*name) {
                findings
                    .push(format!("{name}: in versions {}; unify them, or skip it with a reason", versions.join(", ")));
            }
        }
        for name in
            self.several_versions.keys().filter(|name| versions.get(name.as_str()).is_none_or(|all| all.len() < 2))
        {
            findings.push(format!("{name}: is skipped in `deny.toml`, but there is one version of it at most"));
        }
        findings
    }
}

/// The text of `key` in an inline table such as `{ crate = "a", reason = "b" }`.
fn field(entry: &str, key: &str) -> Option<String> {
    let (_, rest) = entry.split_once(&format!("{key} = \""))?;
    Some(rest.split('"').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DENY: &str = "[licenses]\nallow = [\n  \"MIT\", # free\n]\n[bans]\nskip = [\n  { crate = \"old\", reason = \"h2 needs it\" },\n]\n";

    #[test]
    fn licences_sources_and_versions_are_judged() {
        let policy = Policy::read(DENY).unwrap();
        let package = |name: &str, licence: &str, source: Value| json!({"name": name, "version": "1.0.0", "license": licence, "source": source});
        let judged = |packages: &[Value]| policy.judge(&packages.iter().collect::<Vec<_>>()).len();
        let old = [package("old", "MIT", json!(REGISTRY)), package("old", "MIT", json!(REGISTRY))];
        assert_eq!(judged(&old), 0);
        assert_eq!(judged(&[&old[..], &[package("a", "GPL-3.0", json!(REGISTRY))]].concat()), 1);
        assert_eq!(judged(&[&old[..], &[package("a", "MIT", json!("git+https://example.com"))]].concat()), 1);
        let twice = [package("b", "MIT", Value::Null), package("b", "MIT", Value::Null)];
        assert_eq!(judged(&[&old[..], &twice[..]].concat()), 1);
        assert_eq!(judged(&[]), 1, "an exception that is not needed");
    }
}
