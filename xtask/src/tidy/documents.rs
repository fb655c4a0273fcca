//! Checks of the documents: what they name exists, and what must be documented is.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Finding;
use crate::tree::{self, File};

/// What a path of this tree starts with when a document names one.
const TOPS: [&str; 7] = ["crates/", "xtask/", "docs/", "examples/", "fuzz/", ".ci/", ".cargo/"];

pub(super) fn policy_pages(files: &[File]) -> Result<Vec<Finding>> {
    let folder = "crates/policies/src/";
    let policies: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix(folder)?.split_once('/'))
        .map(|(policy, _)| policy)
        .collect();
    Ok(policies
        .into_iter()
        .map(|policy| format!("{folder}{policy}/README.md"))
        .filter(|page| !files.iter().any(|file| file.path == *page))
        .map(|page| format!("{page}: is missing"))
        .collect())
}

pub(super) fn paths(files: &[File]) -> Result<Vec<Finding>> {
    let root = tree::root();
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, named) in named_paths(&file.text) {
            let path = match &named {
                Named::FromRoot(path) => root.join(path),
                Named::FromHere(path) => root.join(folder).join(path),
            };
            if !path.exists() {
                let (Named::FromRoot(text) | Named::FromHere(text)) = named;
                findings.push(format!("{}:{number}: there is no `{text}`", file.path));
            }
        }
    }
    Ok(findings)
}

/// A path as a document names it.
#[derive(Debug, PartialEq)]
enum Named {
    /// In a code span or a shell block.
    FromRoot(String),
    /// In a link.
    FromHere(String),
}

/// The paths that the Markdown `text` names, with line numbers from 1.
fn named_paths(text: &str) -> Vec<(usize, Named)> {
    let mut named = Vec::new();
    let mut fence: Option<bool> = None; // inside a block; true in one of shell
    for (index, line) in text.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            fence = match fence {
                None => Some(["sh", "bash", "console", "shell"].contains(&info.trim())),
                Some(_) => None,
            };
            continue;
        }
        let spans: Vec<&str> = match fence {
            Some(true) => vec![line],
            Some(false) => Vec::new(),
            None => line.split('`').skip(1).step_by(2).collect(),
        };
        for word in spans.iter().flat_map(|span| span.split_whitespace()) {
            if let Some(path) = path_of(word) {
                named.push((index + 1, Named::FromRoot(path)));
            }
        }
        if fence.is_none() {
            named.extend(links(line).map(|link| (index + 1, Named::FromHere(link))));
        }
    }
    named
}

/// `word` as a path from the root, cut before the first folder that is a pattern or a place holder.
fn path_of(word: &str) -> Option<String> {
    let word = word.trim_start_matches("./").trim_matches(|c: char| "\"'(),;:".contains(c));
    TOPS.iter().find(|top| word.starts_with(**top))?;
    let certain = word
        .split('/')
        .take_while(|part| !part.contains(['*', '{', '<', '$', '…', '[']) && !is_placeholder(part))
        .collect::<Vec<_>>()
        .join("/");
    Some(certain)
}

/// Whether `part` is all capitals with no extension, as in `crates/NAME/src`.
fn is_placeholder(part: &str) -> bool {
    part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// The targets of links in `line` that are files.
fn links(line: &str) -> impl Iterator<Item = String> {
    let outside_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
    let mut found = Vec::new();
    for (at, _) in outside_code.match_indices("](") {
        let target = outside_code.get(at + 2..).and_then(|rest| rest.split(')').next()).unwrap_or_default();
        let target = target.split(['#', ' ']).next().unwrap_or_default();
        if !target.is_empty() && !target.contains(':') && !target.contains('<') {
            found.push(target.to_owned());
        }
    }
    found.into_iter()
}

pub(super) fn summary(files: &[File]) -> Result<Vec<Finding>> {
    let Some(summary) = files.iter().find(|file| file.path == "docs/SUMMARY.md") else {
        return Ok(vec!["docs/SUMMARY.md: is missing".into()]);
    };
    Ok(files
        .iter()
        .filter(|file| file.has_extension("md") && file.path != summary.path)
        .filter_map(|file| file.path.strip_prefix("docs/"))
        .filter(|page| !summary.text.contains(&format!("]({page})")))
        .map(|page| format!("docs/SUMMARY.md: does not link `{page}`"))
        .collect())
}

pub(super) fn readmes(files: &[File]) -> Result<Vec<Finding>> {
    let blocks = |name: &str| files.iter().find(|file| file.path == name).map(|file| code_blocks(&file.text));
    let (english, korean) = (blocks("README.md"), blocks("README.ko.md"));
    let mut findings = Vec::new();
    for (name, missing) in [("README.md", english.is_none()), ("README.ko.md", korean.is_none())] {
        if missing {
            findings.push(format!("{name}: is missing"));
        }
    }
    if let (Some(english), Some(korean)) = (english, korean) {
        if english.len() != korean.len() {
            findings.push(format!("README.md has {} code blocks, README.ko.md {}", english.len(), korean.len()));
        }
        for ((line, one), (other_line, other)) in english.iter().zip(&korean) {
            if one != other {
                findings
                    .push(format!("README.md:{line}: this block differs from the one at README.ko.md:{other_line}"));
            }
        }
    }
    Ok(findings)
}

/// The fenced blocks of `text`, fence lines included, with the line each starts at.
fn code_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        match open.take() {
            None if is_fence => open = Some((index + 1, format!("{line}\n"))),
            None => {}
            Some((start, mut block)) => {
                block.push_str(line);
                block.push('\n');
                if is_fence {
                    blocks.push((start, block));
                } else {
                    open = Some((start, block));
                }
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_spans_links_and_shell_blocks() {
        let text = "see `crates/config/src` and [it](../a.md#part), not [that](https://example.com)\n\
            ```sh\ndaemun check -c examples/x.yaml\n```\n```yaml\ncert: docs/x\n```\n`crates/policies/src/NAME/README.md`";
        let named: Vec<Named> = named_paths(text).into_iter().map(|(_, named)| named).collect();
        assert_eq!(
            named,
            [
                Named::FromRoot("crates/config/src".into()),
                Named::FromHere("../a.md".into()),
                Named::FromRoot("examples/x.yaml".into()),
                Named::FromRoot("crates/policies/src".into()),
            ]
        );
    }

    #[test]
    fn a_differing_block_is_found() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let one = file("README.md", "Hello\n```sh\ncurl a\n```\n");
        let same = file("README.ko.md", "안녕\n\n```sh\ncurl a\n```\n");
        assert!(readmes(&[one, same]).unwrap().is_empty());
        let one = file("README.md", "Hello\n```sh\ncurl a\n```\n");
        let other = file("README.ko.md", "안녕\n```sh\ncurl b\n```\n");
        assert_eq!(readmes(&[one, other]).unwrap().len(), 1);
    }
}
