//! Checks that read one file at a time, line by line.

use anyhow::Result;

use super::Finding;
use crate::tree::File;

/// The longest a source file may be, in lines. A file that says why on a line starting with [`LONG`] may be longer.
const MAX_LINES: usize = 800;
const LONG: &str = "// long because ";

/// Whether all of `file` is test code.
fn is_test_file(file: &File) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    file.path.contains("/tests/")
        || file.path.starts_with("crates/e2e/")
        || name == "tests.rs"
        || name.starts_with("tests_")
        || name.ends_with("_tests.rs")
}

/// The lines of `file` that are not tests, with their numbers from 1.
pub(super) fn product_lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let all_tests = is_test_file(file);
    numbered(file).take_while(move |(_, line)| !all_tests && line.trim() != "#[cfg(test)]")
}

/// The lines of `file` that are tests, with their numbers from 1.
fn test_lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let all_tests = is_test_file(file);
    numbered(file).skip_while(move |(_, line)| !all_tests && line.trim() != "#[cfg(test)]")
}

fn numbered(file: &File) -> impl Iterator<Item = (usize, &str)> {
    file.text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn rust(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.has_extension("rs"))
}

pub(super) fn lengths(files: &[File]) -> Result<Vec<Finding>> {
    Ok(rust(files)
        .filter(|file| !is_test_file(file) && !file.text.lines().any(|line| line.starts_with(LONG)))
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(file, lines)| format!("{}: {lines} lines, more than {MAX_LINES}; split it, or say `{LONG}…`", file.path))
        .collect())
}

pub(super) fn opening_sentences(files: &[File]) -> Result<Vec<Finding>> {
    Ok(rust(files)
        .filter(|file| file.path.contains("/src/") && !is_test_file(file) && !file.text.starts_with("//! "))
        .map(|file| format!("{}: does not open with `//! ` and what the module is for", file.path))
        .collect())
}

pub(super) fn unfinished(files: &[File]) -> Result<Vec<Finding>> {
    const MARKS: [&str; 6] = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX:"),
        concat!("to", "do!("),
        concat!("unimplemen", "ted!("),
        concat!("db", "g!("),
    ];
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| is_source(file)) {
        for (number, line) in numbered(file) {
            for mark in MARKS.iter().filter(|mark| has_word(line, mark)) {
                findings.push(format!("{}:{number}: `{mark}`", file.path));
            }
        }
    }
    Ok(findings)
}

pub(super) fn ignored_tests(files: &[File]) -> Result<Vec<Finding>> {
    let mark = concat!("#[ig", "nore");
    Ok(rust(files)
        .flat_map(|file| numbered(file).map(move |line| (file, line)))
        .filter(|(_, (_, line))| line.trim_start().starts_with(mark))
        .map(|(file, (number, _))| format!("{}:{number}: a test that does not run", file.path))
        .collect())
}

/// A function that says so may sleep between two looks at what it waits for; there is one such loop.
const POLLING: &str = "the one bounded polling loop of the tests";

pub(super) fn sleeping_tests(files: &[File]) -> Result<Vec<Finding>> {
    Ok(rust(files)
        .filter(|file| !file.text.contains(&format!("reason = \"{POLLING}\"")))
        .flat_map(|file| test_lines(file).map(move |line| (file, line)))
        .filter(|(_, (_, line))| has_word(line, "sleep("))
        .map(|(file, (number, _))| {
            format!("{}:{number}: waits by sleeping; wait for what should happen, or inject the clock", file.path)
        })
        .collect())
}

/// Paths of the machines that developers and CI work on, and hosts of package registries and their mirrors.
const TRACES: [&str; 16] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/tmp/tar", "get"),
    concat!("registry.", "npmjs"),
    concat!("registry.", "yarnpkg"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
    concat!("https://", "crates.io"),
    concat!("pypi", ".org"),
    concat!("files.", "pythonhosted"),
    concat!("deb.", "debian.org"),
    concat!("proxy.", "golang.org"),
    concat!("deb.", "nodesource"),
    concat!("art", "ifactory"),
];

pub(super) fn machine_traces(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        for (number, line) in numbered(file) {
            for trace in TRACES.iter().filter(|trace| has_word(line, trace)) {
                findings.push(format!("{}:{number}: `{trace}`", file.path));
            }
        }
    }
    Ok(findings)
}

pub(super) fn lock_files(files: &[File]) -> Result<Vec<Finding>> {
    const SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let mut findings = Vec::new();
    for file in files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        for (number, line) in numbered(file) {
            let wrong = match name {
                "Cargo.lock" => line.starts_with("source = ") && line != SOURCE,
                "package-lock.json" => line.trim_start().starts_with("\"resolved\""),
                _ => false,
            };
            if wrong {
                findings.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    Ok(findings)
}

/// Whether people wrote `file`: sources, documents, settings, scripts.
fn is_source(file: &File) -> bool {
    !file.path.ends_with(".lock") && !file.path.ends_with("package-lock.json")
}

/// Whether `word` occurs in `line` with no letter, digit, `_`, `.` or `-` before it, so that it begins there.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let inside_path = word.starts_with('/');
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || (inside_path && (c == '.' || c == '-' || c == '}')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_sleep_is_found_in_test_code_only() {
        let wait = concat!("fn f() { sle", "ep(1) }");
        let text = format!("//! A module.\n{wait}\n#[cfg(test)]\nmod tests {{\n    {wait}\n}}\n");
        let findings = sleeping_tests(&[file("crates/a/src/lib.rs", &text)]).unwrap();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("crates/a/src/lib.rs:5:"), "{findings:?}");
    }

    #[test]
    fn a_long_file_passes_only_with_a_reason() {
        let long = "//! A module.\n".repeat(MAX_LINES + 1);
        assert_eq!(lengths(&[file("crates/a/src/lib.rs", &long)]).unwrap().len(), 1);
        let reasoned = format!("{LONG}it is a table\n{long}");
        assert!(lengths(&[file("crates/a/src/lib.rs", &reasoned)]).unwrap().is_empty());
        assert!(lengths(&[file("crates/a/src/tests.rs", &long)]).unwrap().is_empty());
    }

    #[test]
    fn a_word_begins_where_no_letter_is_before_it() {
        assert!(has_word("at /abc/x", "/abc/"));
        assert!(!has_word("frame/abc/x", "/abc/"));
        assert!(!has_word("unfinished", "finished"));
    }

    #[test]
    fn a_lock_file_with_another_registry_is_found() {
        let text = "source = \"registry+https://mirror.example/index\"\n";
        assert_eq!(lock_files(&[file("Cargo.lock", text)]).unwrap().len(), 1);
    }
}
