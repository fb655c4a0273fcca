//! The writer thread against files that move and outputs that fail.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;

use super::super::log::tests::Folder;
use super::*;
use crate::clock::Clock;

const BOUND: Duration = Duration::from_secs(30);

/// Keeps what is written, once its gate is open; before that each write waits.
#[derive(Clone, Default)]
pub(crate) struct Gated(Arc<(Mutex<Kept>, Condvar)>);

#[derive(Default)]
struct Kept {
    open: bool,
    bytes: Vec<u8>,
    failures: VecDeque<ErrorKind>,
}

pub(crate) fn gated() -> (Gated, Gated) {
    let gated = Gated::default();
    (gated.clone(), gated)
}

impl Gated {
    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().bytes.clone()).unwrap()
    }

    /// The next writes fail like this.
    fn fail(&self, kinds: &[ErrorKind]) {
        self.0.0.lock().unwrap().failures.extend(kinds);
    }
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.1.wait_while(self.0.0.lock().unwrap(), |inner| !inner.open).unwrap();
        if let Some(kind) = inner.failures.pop_front() {
            return Err(kind.into());
        }
        // a few at a time, as a slow pipe takes them
        let n = bytes.len().min(7);
        inner.bytes.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn chunk(lines: &[String]) -> Chunk {
    Chunk { bytes: lines.concat().into_bytes(), lines: lines.len() as u32 }
}

fn events() -> Events {
    Events::to(Clock::manual(), io::sink()).unwrap()
}

fn push(writer: &LogWriter, lines: &[String]) {
    let mut waiting = chunk(lines);
    while let Err(back) = writer.push(waiting) {
        waiting = back;
        std::thread::yield_now();
    }
}

#[test]
fn a_log_that_is_rotated_under_writing_loses_and_tears_no_line() {
    const CHUNKS: usize = 3_000;
    let folder = Folder::new("rotate");
    let path = folder.0.join("access.log");
    let writer = LogWriter::open(&LogTarget::File(path.clone()), Arc::default(), events()).unwrap();
    for n in 0..CHUNKS {
        let lines: Vec<String> = (0..5).map(|line| format!("{n} {line} {}\n", "x".repeat(n % 90))).collect();
        push(&writer, &lines);
        if n % 100 == 99 {
            std::fs::rename(&path, folder.0.join(format!("access.log.{n}"))).unwrap();
            writer.reopen();
            // rotated again only after the new file is there
            while !path.exists() {
                std::thread::yield_now();
            }
        }
    }
    assert!(writer.close(BOUND));
    let mut lines = Vec::new();
    let mut files = 0;
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        lines.extend(text.lines().map(str::to_owned));
        files += 1;
    }
    lines.sort();
    let mut expected: Vec<String> =
        (0..CHUNKS).flat_map(|n| (0..5).map(move |line| format!("{n} {line} {}", "x".repeat(n % 90)))).collect();
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(files, CHUNKS / 100 + 1);
}

#[test]
fn a_new_log_is_not_for_everybody_to_read_and_an_old_one_is_appended_to() {
    let folder = Folder::new("mode");
    let path = folder.0.join("access.log");
    for n in 0..2 {
        let writer = LogWriter::open(&LogTarget::File(path.clone()), Arc::default(), events()).unwrap();
        push(&writer, &[format!("{n}\n")]);
        assert!(writer.close(BOUND));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    let missing = LogTarget::File(folder.0.join("no/such/folder"));
    assert!(LogWriter::open(&missing, Arc::default(), events()).is_err());
}

#[test]
fn what_fails_is_tried_again_from_where_it_stopped_and_counted() {
    let (gate, out) = gated();
    let counters = Arc::new(LogCounters::default());
    let told = Gated::default();
    told.open();
    let events = Events::to(Clock::manual(), told.clone()).unwrap();
    let writer = LogWriter::start(Box::new(out.clone()), None, Arc::clone(&counters), events.clone()).unwrap();
    gate.fail(&[ErrorKind::Interrupted, ErrorKind::WouldBlock, ErrorKind::StorageFull, ErrorKind::StorageFull]);
    push(&writer, &["a line longer than seven bytes\n".into(), "another\n".into()]);
    gate.open();
    assert!(writer.close(BOUND));
    assert_eq!(out.text(), "a line longer than seven bytes\nanother\n");
    assert_eq!(counters.write_errors.load(Relaxed), 2);
    assert_eq!(counters.lost_lines.load(Relaxed), 0);
    assert!(events.flush(BOUND));
    let told = told.text();
    assert_eq!(told.matches("cannot be written").count(), 1, "{told}");
    assert!(told.contains("written again after 2 attempts"), "{told}");
}

#[test]
fn the_end_comes_even_if_nothing_can_be_written_and_tells_how_much_was_lost() {
    let (gate, out) = gated();
    let counters = Arc::new(LogCounters::default());
    let writer = LogWriter::start(Box::new(out.clone()), None, Arc::clone(&counters), events()).unwrap();
    gate.fail(&[ErrorKind::BrokenPipe; 1_000]);
    gate.open();
    push(&writer, &["one\n".into(), "two\n".into()]);
    writer.push_last(chunk(&["three\n".into()]));
    assert!(writer.close(BOUND));
    assert_eq!(counters.lost_lines.load(Relaxed), 3);
    assert!(out.text().is_empty());
    // what comes later is lost, and counted
    push(&writer, &["four\n".into()]);
    writer.push_last(chunk(&["five\n".into()]));
    assert!(counters.lost_lines.load(Relaxed) >= 4);
}

#[test]
fn everything_handed_over_is_written_before_the_end() {
    let (gate, out) = gated();
    let writer = LogWriter::start(Box::new(out.clone()), None, Arc::default(), events()).unwrap();
    let mut taken = 0;
    while writer.push(chunk(&[format!("{taken}\n")])).is_ok() {
        taken += 1;
    }
    writer.push_last(chunk(&["last\n".into()]));
    assert!(!writer.close(Duration::from_millis(1)), "it is blocked");
    gate.open();
    assert!(writer.close(BOUND));
    let expected: String = (0..taken).map(|n| format!("{n}\n")).chain(["last\n".to_owned()]).collect();
    assert_eq!(out.text(), expected);
    assert!((QUEUE..=QUEUE + 1).contains(&taken), "{taken}");
}
