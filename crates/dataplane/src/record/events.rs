//! The gateway's own log: one line per event on stderr, such as the result of a reload. A thread writes it, so that nobody waits for a
//! slow reader; a flood of one event is cut short. Callers never put a secret into a message.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::text::{Stamp, Style, push_text};
use crate::clock::{Clock, nanos};

/// Lines that may wait to be written.
const QUEUE: usize = 256;
/// Lines of one event that are written in a [`WINDOW`].
const MOST_LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// Bytes of a message; longer ones are cut.
const MOST_MESSAGE: usize = 2_048;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something happened as it should.
    Info,
    /// Something may need attention.
    Warning,
    /// Something does not work.
    Error,
}

impl Level {
    /// As it stands in a line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// Where events go; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

struct Inner {
    clock: Clock,
    queue: SyncSender<Message>,
    windows: Mutex<HashMap<&'static str, Window>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Lines of one event since a moment.
#[derive(Default)]
struct Window {
    start: u64,
    written: u32,
    held_back: u64,
}

impl Events {
    /// Events on stderr.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn stderr(clock: Clock) -> std::io::Result<Events> {
        Events::to(clock, std::io::stderr())
    }

    /// Events to anything that can be written to. What it fails to write is lost.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(clock: Clock, out: impl Write + Send + 'static) -> std::io::Result<Events> {
        let (queue, messages) = sync_channel(QUEUE);
        std::thread::Builder::new().name("daemun-events".into()).spawn(move || write_all(&messages, out))?;
        Ok(Events(Arc::new(Inner { clock, queue, windows: Mutex::default() })))
    }

    /// Tells that something happened as it should. `event` is its stable name.
    pub fn info(&self, event: &'static str, message: fmt::Arguments<'_>) {
        self.tell(Level::Info, event, message);
    }

    /// Tells of something that may need attention.
    pub fn warning(&self, event: &'static str, message: fmt::Arguments<'_>) {
        self.tell(Level::Warning, event, message);
    }

    /// Tells of something that does not work.
    pub fn error(&self, event: &'static str, message: fmt::Arguments<'_>) {
        self.tell(Level::Error, event, message);
    }

    /// Writes `TIME LEVEL EVENT: MESSAGE`. Beyond 20 lines of one event in ten seconds only their number is told, with the next one.
    /// Never waits for the reader; control characters of the message are escaped.
    pub fn tell(&self, level: Level, event: &'static str, message: fmt::Arguments<'_>) {
        let now = self.0.clock.now();
        let Some(held_back) = self.admit(event, now) else { return };
        let wall = self.0.clock.wall(now);
        if held_back > 0 {
            self.push(line(wall, level, event, format_args!("{held_back} more of this event were held back")));
        }
        self.push(line(wall, level, event, message));
    }

    /// Waits until everything told before is written; says whether that was done within `bound`.
    #[must_use]
    pub fn flush(&self, bound: Duration) -> bool {
        let (done, written) = sync_channel(1);
        self.0.queue.try_send(Message::Flush(done)).is_ok() && written.recv_timeout(bound).is_ok()
    }

    /// How many lines of this event were held back before this one; `None` when this one is as well.
    fn admit(&self, event: &'static str, now: u64) -> Option<u64> {
        let mut windows = self.0.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(event).or_default();
        if now.saturating_sub(window.start) >= nanos(WINDOW) {
            window.start = now;
            window.written = 0;
        }
        if window.written >= MOST_LINES {
            window.held_back += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.held_back))
    }

    fn push(&self, line: Vec<u8>) {
        let _ = self.0.queue.try_send(Message::Line(line));
    }
}

/// Lets one line a second through and counts those between. Shared by workers, without a lock. Time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Sparing {
    next: AtomicU64,
    left_out: AtomicU64,
}

impl Sparing {
    /// How many were left out since the last one that was let through; `None` when this one is as well.
    pub(crate) fn admit(&self, now: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let after = now.saturating_add(nanos(Duration::from_secs(1)));
        if now < next || self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

fn line(wall: u64, level: Level, event: &str, message: fmt::Arguments<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    Stamp::default().push(&mut out, wall);
    for piece in [" ", level.as_str(), " ", event, ": "] {
        out.extend_from_slice(piece.as_bytes());
    }
    // quotes stay as they are: only what could forge a line is escaped
    let message = message.to_string();
    let message = match message.char_indices().find(|(at, c)| at + c.len_utf8() > MOST_MESSAGE) {
        Some((end, _)) => message.get(..end).unwrap_or_default(),
        None => &message,
    };
    for (position, piece) in message.split('"').enumerate() {
        if position > 0 {
            out.push(b'"');
        }
        push_text(&mut out, piece.as_bytes(), Style::Plain);
    }
    out.push(b'\n');
    out
}

fn write_all(messages: &Receiver<Message>, mut out: impl Write) {
    while let Ok(message) = messages.recv() {
        match message {
            Message::Line(line) => {
                let _ = out.write_all(&line).and_then(|()| out.flush());
            }
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn kept(clock: &Clock) -> (Events, impl Fn() -> String + use<>) {
        let kept = Kept::default();
        let events = Events::to(clock.clone(), kept.clone()).unwrap();
        let flushed = events.clone();
        (events, move || {
            assert!(flushed.flush(Duration::from_secs(10)));
            String::from_utf8(std::mem::take(&mut *kept.0.lock().unwrap())).unwrap()
        })
    }

    #[test]
    fn an_event_is_one_line_whatever_its_message() {
        let (events, text) = kept(&Clock::manual());
        events.error("config_refused", format_args!("`a.yaml`: \"x\"\n2026 info forged: \u{1b}[0m"));
        let shown = "2026-01-01T00:00:01.000Z error config_refused: `a.yaml`: \"x\"\\x0a2026 info forged: \\x1b[0m\n";
        assert_eq!(text(), shown);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let (events, text) = kept(&Clock::manual());
        events.info("long", format_args!("x{}", "é".repeat(MOST_MESSAGE)));
        let shown = text();
        assert!(shown.ends_with("éé\n"));
        assert_eq!(shown.len(), "2026-01-01T00:00:01.000Z info long: \n".len() + MOST_MESSAGE - 1);
    }

    #[test]
    fn one_line_a_second_is_let_through_and_the_others_are_counted() {
        let (sparing, second) = (Sparing::default(), nanos(Duration::from_secs(1)));
        let told: Vec<Option<u64>> = [0, 1, 2, second, second + 1, 3 * second].map(|now| sparing.admit(now)).into();
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn a_flood_of_one_event_is_cut_short_and_its_number_is_told() {
        let clock = Clock::manual();
        let (events, text) = kept(&clock);
        for n in 0..50 {
            events.warning("target_unresolved", format_args!("{n}"));
        }
        events.info("other", format_args!("is not held back"));
        assert_eq!(text().lines().count(), 21);
        clock.advance(Duration::from_secs(10));
        events.warning("target_unresolved", format_args!("50"));
        let later = text();
        assert!(later.contains("30 more of this event were held back"), "{later}");
        assert_eq!(later.lines().count(), 2);
    }
}
