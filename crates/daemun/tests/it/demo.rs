//! The demo: every call it shows, pasted into a shell, gets the status that stands behind it.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Folder, Running};

#[test]
fn every_call_of_the_demo_gets_the_status_behind_it() {
    let folder = Folder::new();
    let mut running = Running::start(Path::new(env!("CARGO_BIN_EXE_daemun")), &folder.path(""), &["demo"]);
    running.out.until("daemun ready http://127.0.0.1:");
    let mut lines = Vec::new();
    loop {
        let line = running.out.until("# ");
        if line == "# Ctrl-C ends it" {
            break;
        }
        lines.extend(line.contains("# → ").then_some(line));
    }
    assert!(lines.len() >= 18, "{lines:#?}");
    for line in &lines {
        let expected = line.rsplit_once("# → ").unwrap().1;
        let output = Command::new("sh").arg("-c").arg(line).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("HTTP/")).collect();
        assert_eq!(heads.len(), 1, "{line}\n{text}");
        assert_eq!(heads[0].split(' ').nth(1), Some(expected), "{line}\n{text}");
    }
    running.signal(Signal::INT);
    assert!(running.wait().success());
}
