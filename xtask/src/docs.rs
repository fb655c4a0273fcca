//! `cargo xtask docs`: the pages of the book that are made from types and tables in the source, so that they cannot fall behind.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use daemun_config::{PolicyDescription, Vocabulary, reference_markdown};
use daemun_pipeline::PolicyRow;
use daemun_policies::REGISTRY;

use crate::tree::{self, File};

const CODES: &str = "crates/config/src/diagnostic/codes.rs";
const REASONS: &str = "crates/pipeline/src/fault.rs";

/// Writes every generated page.
pub(crate) fn run() -> Result<()> {
    for page in pages(&tree::files()?)? {
        std::fs::write(tree::root().join(&page.path), page.text)
            .with_context(|| format!("cannot write `{}`", page.path))?;
        println!("wrote {}", page.path);
    }
    Ok(())
}

/// What every generated page has to be.
pub(crate) fn pages(files: &[File]) -> Result<Vec<File>> {
    let source = |path: &str| {
        files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
            .with_context(|| format!("there is no `{path}`"))
    };
    Ok(vec![
        File { path: "docs/reference/configuration.md".into(), text: configuration() },
        File { path: "docs/reference/diagnostics.md".into(), text: diagnostics(source(CODES)?)? },
        File { path: "docs/reference/faults.md".into(), text: faults(source(REASONS)?)? },
    ])
}

/// The page of every key, from the settings types of the language and of every policy.
fn configuration() -> String {
    let policies: Vec<PolicyDescription> = REGISTRY.iter().map(PolicyRow::describe).collect();
    let page = reference_markdown(&Vocabulary { policies: &policies });
    format!(
        "<!-- Made by `cargo xtask docs` from the settings types in `crates/config` and `crates/policies`. -->\n{page}"
    )
}

/// The page of findings in a configuration, from rows `NAME = "code": "explanation";`.
fn diagnostics(source: &str) -> Result<String> {
    let mut page = format!(
        "<!-- Made by `cargo xtask docs` from `{CODES}`. -->\n# What `daemun check` finds\n\n\
         Every finding has a code that does not change, as in `error[unknown_upstream]`. All findings of a pass are told at\n\
         once, each with its file, line and column.\n"
    );
    let mut count = 0;
    let rows = source.split_once("\ncodes! {").map_or("", |(_, rows)| rows);
    for row in rows.split("\";\n").take_while(|row| row.contains(" = \"")) {
        let (name, explanation) =
            row.split_once("\":").with_context(|| format!("`{CODES}` has an unreadable row: {row}"))?;
        let name = name.rsplit('"').next().unwrap_or_default();
        write!(page, "\n## `{name}`\n\n{}\n", wrapped(&literal(explanation)))?;
        count += 1;
    }
    if count == 0 {
        bail!("`{CODES}` has no table of codes that can be read");
    }
    Ok(page)
}

/// The page of failed exchanges, from rows `Name = "code", Side, status, grpc, "title";` with their doc comments.
fn faults(source: &str) -> Result<String> {
    let mut page = format!(
        "<!-- Made by `cargo xtask docs` from `{REASONS}`. -->\n# Why a call fails\n\n\
         An exchange that fails has one reason. The access log, the metrics and the `type` of the problem document name it by\n\
         its code. The status is what the client gets, or what is recorded where it can no longer get anything (499); a gRPC\n\
         call gets the gRPC status in its trailers.\n\n\
         | code | side | status | gRPC | title | when |\n|---|---|---|---|---|---|\n"
    );
    let (mut when, mut count) = (String::new(), 0);
    let rows = source.split_once("\nreasons! {").map_or("", |(_, rows)| rows);
    for line in rows.lines().map(str::trim).take_while(|line| *line != "}") {
        if let Some(text) = line.strip_prefix("///") {
            when.push_str(text);
        } else if let Some((_, row)) = line.split_once(" = ") {
            let cells: Vec<&str> =
                row.trim_end_matches(';').splitn(5, ", ").map(|cell| cell.trim_matches('"')).collect();
            let [code, side, status, grpc, title] = cells.as_slice() else {
                bail!("`{REASONS}` has an unreadable row: {line}");
            };
            let (side, when) = (side.to_lowercase(), std::mem::take(&mut when));
            writeln!(page, "| `{code}` | {side} | {status} | {grpc} | {title} | {} |", when.trim())?;
            count += 1;
        }
    }
    if count == 0 {
        bail!("`{REASONS}` has no table of reasons that can be read");
    }
    Ok(page)
}

/// The text of a string literal that may be continued over lines, without its closing quote.
fn literal(source: &str) -> String {
    let source = source.trim().trim_matches('"');
    let joined = source.split("\\\n").map(str::trim_start).collect::<String>();
    joined.replace("\\\"", "\"")
}

/// `text` in lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 120 {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_table_gets_its_section() {
        let source = "macro\ncodes! {\n    BAD = \"bad\":\n        \"One `x`: \\\n         two.\";\n    WORSE = \"worse\": \"Three.\";\n}\n";
        let page = diagnostics(source).unwrap();
        assert!(page.contains("\n## `bad`\n\nOne `x`: two.\n\n## `worse`\n\nThree.\n"), "{page}");
        assert!(diagnostics("nothing").is_err());
    }

    #[test]
    fn every_reason_of_a_table_gets_its_row() {
        let source = "x\nreasons! {\n    /// The head came\n    /// late.\n    Late = \"late\", Client, 408, 4, \"Too late, alas\";\n}\n";
        let page = faults(source).unwrap();
        assert!(page.ends_with("| `late` | client | 408 | 4 | Too late, alas | The head came late. |\n"), "{page}");
    }
}
