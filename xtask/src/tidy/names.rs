//! Checks of names that users see: metrics, and the keys, codes and reasons whose pages are generated.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::Finding;
use super::text::product_lines;
use crate::docs;
use crate::tree::File;

const METRICS_PAGE: &str = "docs/reference/metrics.md";

/// The prefix of every metric, which the names of crates and of a cookie share.
const PREFIX: &str = "daemun_";
const CRATES: [&str; 7] = ["config", "control", "dataplane", "e2e", "import", "pipeline", "policies"];
const COOKIES: [&str; 1] = ["session"];

/// What the text format adds to the name of a histogram.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

pub(super) fn metrics(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut declared: BTreeMap<String, String> = BTreeMap::new();
    for file in files.iter().filter(|file| file.has_extension("rs") && file.path.starts_with("crates/")) {
        for (number, line) in product_lines(file) {
            for name in quoted_metrics(line) {
                let place = format!("{}:{number}", file.path);
                if let Some(first) = declared.get(&name) {
                    findings.push(format!("{place}: `{name}` stands at {first} already; name it in one place"));
                } else {
                    declared.insert(name, place);
                }
            }
        }
    }
    let page = files.iter().find(|file| file.path == METRICS_PAGE).map_or("", |file| file.text.as_str());
    let documented: BTreeSet<String> = page.lines().flat_map(words_with_prefix).collect();
    for (name, place) in &declared {
        if !documented.contains(name) {
            findings.push(format!("{METRICS_PAGE}: does not describe `{name}` of {place}"));
        }
    }
    for name in &documented {
        let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        if !declared.contains_key(name) && !declared.contains_key(base) {
            findings.push(format!("{METRICS_PAGE}: describes `{name}`, which no source names"));
        }
    }
    Ok(findings)
}

/// The metric names that open a string literal in `line`.
fn quoted_metrics(line: &str) -> Vec<String> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    line.match_indices(&format!("\"{PREFIX}"))
        .filter_map(|(at, _)| line.get(at + 1..))
        .map(leading_name)
        .filter(|name| !is_no_metric(name))
        .collect()
}

fn words_with_prefix(line: &str) -> Vec<String> {
    line.match_indices(PREFIX)
        .filter_map(|(at, _)| line.get(at..))
        .map(leading_name)
        .filter(|name| !is_no_metric(name))
        .collect()
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect()
}

fn is_no_metric(name: &str) -> bool {
    let is_known = |rest: &str| rest.is_empty() || CRATES.contains(&rest) || COOKIES.contains(&rest);
    name.strip_prefix(PREFIX).is_none_or(is_known)
}

/// The generated pages are what the generator makes of the types and tables in the source.
pub(super) fn generated_pages(files: &[File]) -> Result<Vec<Finding>> {
    Ok(docs::pages(files)?
        .into_iter()
        .filter(|page| !files.iter().any(|file| file.path == page.path && file.text == page.text))
        .map(|page| format!("{}: is not what the source says; run `cargo xtask docs`", page.path))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_metric_needs_one_place_and_a_line_in_the_page() {
        let source = file("crates/a/src/lib.rs", "const A: &str = \"daemun_calls_total\";\nuse daemun_config::X;\n");
        let page = file(METRICS_PAGE, "| `daemun_calls_total` | calls |\n");
        assert!(metrics(&[source, page]).unwrap().is_empty());
        let source = file("crates/a/src/lib.rs", "f(\"daemun_calls_total\");\nf(\"daemun_calls_total\");\n");
        assert_eq!(metrics(&[source]).unwrap().len(), 2, "named twice, and not documented");
        let stale = file(METRICS_PAGE, "`daemun_gone_total`");
        assert_eq!(metrics(&[stale]).unwrap().len(), 1);
    }
}
