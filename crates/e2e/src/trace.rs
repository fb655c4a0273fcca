//! Counts the system calls of a running process, by `strace`.

use std::io::Read;
use std::process::{Command, Stdio};

/// The system calls of all threads of a process while `run` runs, and strace's table of them.
///
/// # Panics
/// When there is no strace, or it may not attach.
pub fn system_calls(pid: i32, run: impl FnOnce()) -> (u64, String) {
    let mut strace = Command::new("strace")
        .args(["-c", "-f", "-p", &pid.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("strace is needed: {error}"));
    let mut report = strace.stderr.take().unwrap();
    // it says so on its error stream once it is attached
    let mut attached = Vec::new();
    let mut byte = [0u8; 1];
    while !String::from_utf8_lossy(&attached).contains("attached") {
        assert_eq!(report.read(&mut byte).unwrap(), 1, "strace did not attach");
        attached.push(byte[0]);
    }
    run();
    Command::new("kill").args(["-INT", &strace.id().to_string()]).status().unwrap();
    let mut text = String::new();
    report.read_to_string(&mut text).unwrap();
    strace.wait().unwrap();
    let total = text.lines().filter(|line| line.trim_end().ends_with("total"));
    let count = total.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum();
    (count, text)
}
