//! Finds the commit for `daemun version`: `DAEMUN_COMMIT` where it is set, else git's, else none.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=DAEMUN_COMMIT");
    let commit = std::env::var("DAEMUN_COMMIT").ok().filter(|given| !given.is_empty()).or_else(from_git);
    println!("cargo:rustc-env=DAEMUN_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn from_git() -> Option<String> {
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Built again when another commit is checked out; `git` itself says where that is written.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| std::path::Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    Some(head)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
