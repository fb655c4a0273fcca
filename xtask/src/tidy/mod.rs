//! The shape of the tree as checks: each returns what it found, with the file and what to do about it.
//!
//! Every check is a test of its own as well, so that `cargo test` alone holds the house to its rules.

mod documents;
mod edges;
mod names;
mod text;

use anyhow::{Result, bail};

use crate::tree::{self, File};

/// One finding: where, and what is wrong there.
pub(super) type Finding = String;

/// A check over all files of the tree.
struct Check {
    name: &'static str,
    check: fn(&[File]) -> Result<Vec<Finding>>,
}

const CHECKS: [Check; 14] = [
    Check { name: "no source file is too long", check: text::lengths },
    Check { name: "every module opens with a sentence", check: text::opening_sentences },
    Check { name: "nothing is left unfinished", check: text::unfinished },
    Check { name: "no test is ignored", check: text::ignored_tests },
    Check { name: "no test sleeps", check: text::sleeping_tests },
    Check { name: "no path or host of a machine is in the tree", check: text::machine_traces },
    Check { name: "lock files name the public registry only", check: text::lock_files },
    Check { name: "every policy has a page", check: documents::policy_pages },
    Check { name: "every path in a document exists", check: documents::paths },
    Check { name: "every page of the book is in its summary", check: documents::summary },
    Check { name: "both READMEs show the same code", check: documents::readmes },
    Check { name: "crates depend on each other as the layout says", check: edges::edges },
    Check { name: "metric names are unique and documented", check: names::metrics },
    Check { name: "generated pages are what the source says", check: names::generated_pages },
];

/// Runs every check, prints all findings, and fails where there is one.
pub(crate) fn run() -> Result<()> {
    let files = tree::files()?;
    let mut count = 0;
    for check in &CHECKS {
        let findings = (check.check)(&files)?;
        println!("{} {}", if findings.is_empty() { "ok  " } else { "FAIL" }, check.name);
        for finding in &findings {
            println!("     {finding}");
        }
        count += findings.len();
    }
    if count > 0 {
        bail!("{count} findings");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(name: &str) {
        let files = tree::files().expect("the tree can be read");
        let check = CHECKS.iter().find(|check| check.name == name).expect("a check of this name");
        let findings = (check.check)(&files).expect("the check can be made");
        assert!(findings.is_empty(), "{name}:\n  {}", findings.join("\n  "));
    }

    macro_rules! check {
        ($test:ident, $name:literal) => {
            #[test]
            fn $test() {
                holds($name);
            }
        };
    }

    check!(no_source_file_is_too_long, "no source file is too long");
    check!(every_module_opens_with_a_sentence, "every module opens with a sentence");
    check!(nothing_is_left_unfinished, "nothing is left unfinished");
    check!(no_test_is_ignored, "no test is ignored");
    check!(no_test_sleeps, "no test sleeps");
    check!(no_trace_of_a_machine_is_in_the_tree, "no path or host of a machine is in the tree");
    check!(lock_files_name_the_public_registry_only, "lock files name the public registry only");
    check!(every_policy_has_a_page, "every policy has a page");
    check!(every_path_in_a_document_exists, "every path in a document exists");
    check!(every_page_is_in_the_summary, "every page of the book is in its summary");
    check!(both_readmes_show_the_same_code, "both READMEs show the same code");
    check!(crates_depend_as_the_layout_says, "crates depend on each other as the layout says");
    check!(metric_names_are_unique_and_documented, "metric names are unique and documented");
    check!(generated_pages_are_what_the_source_says, "generated pages are what the source says");
}
