//! The thread that writes the access log: takes whole lines in chunks from a bounded queue and puts them into a file or onto stdout.
//! Knows nothing of requests.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemun_config::model::LogTarget;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::events::Events;
use super::metrics::LogCounters;

/// Chunks that may wait; with some 32 KiB each, 2 MiB.
const QUEUE: usize = 64;
/// Buffers kept for the workers' next lines.
const SPARE: usize = 16;
/// Largest buffer that is kept.
const SPARE_CAPACITY: usize = 128 * 1024;
/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The same while the gateway ends, and how often before what is left is given up.
const LAST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRIES: u32 = 20;
/// Pause while a pipe on stdout is full.
const FULL_PIPE: Duration = Duration::from_millis(10);

/// Whole lines.
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u32,
}

/// The writer's handle. Dropped, it lets the thread end after what it holds.
#[derive(Debug)]
pub(super) struct LogWriter {
    queue: SyncSender<Chunk>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    spare: Mutex<Vec<Vec<u8>>>,
    counters: Arc<LogCounters>,
}

#[derive(Default)]
struct State {
    reopen: bool,
    stopping: bool,
    done: bool,
    last: Vec<Chunk>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("stopping", &self.stopping).field("done", &self.done).finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogWriter {
    /// Opens the target and starts the thread.
    pub(super) fn open(to: &LogTarget, counters: Arc<LogCounters>, events: Events) -> io::Result<LogWriter> {
        let (out, path): (Box<dyn Write + Send>, _) = match to {
            // a descriptor of its own: not buffered by line, and no lock shared with whoever prints
            LogTarget::Stdout => (Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)), None),
            LogTarget::File(path) => (Box::new(append_to(path)?), Some(path.clone())),
        };
        LogWriter::start(out, path, counters, events)
    }

    pub(super) fn start(
        out: Box<dyn Write + Send>,
        path: Option<PathBuf>,
        counters: Arc<LogCounters>,
        events: Events,
    ) -> io::Result<LogWriter> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), spare: Mutex::default(), counters });
        let (queue, chunks) = sync_channel(QUEUE);
        let thread = Thread { out, path, shared: Arc::clone(&shared), events, failures: 0, last_retries: 0 };
        std::thread::Builder::new().name("daemun-log".into()).spawn(move || thread.run(&chunks))?;
        Ok(LogWriter { queue, shared })
    }

    pub(super) fn counters(&self) -> &LogCounters {
        &self.shared.counters
    }

    /// Hands over a chunk without waiting; gives it back when the queue is full. What comes after the end is lost.
    pub(super) fn push(&self, chunk: Chunk) -> Result<(), Chunk> {
        match self.queue.try_send(chunk) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(chunk)) => Err(chunk),
            Err(TrySendError::Disconnected(chunk)) => {
                self.shared.counters.lost_lines.fetch_add(chunk.lines.into(), Relaxed);
                Ok(())
            }
        }
    }

    /// Hands over a worker's last chunk, beyond the queue's bound; once per worker and log.
    pub(super) fn push_last(&self, chunk: Chunk) {
        let mut state = self.shared.state();
        if state.done {
            self.shared.counters.lost_lines.fetch_add(chunk.lines.into(), Relaxed);
        } else {
            state.last.push(chunk);
        }
    }

    /// A buffer written before, empty again; `None` when there is none or it cannot be had without waiting.
    pub(super) fn spare(&self) -> Option<Vec<u8>> {
        self.shared.spare.try_lock().ok()?.pop()
    }

    pub(super) fn reopen(&self) {
        self.shared.state().reopen = true;
        self.wake();
    }

    pub(super) fn close(&self, bound: Duration) -> bool {
        let mut state = self.shared.state();
        state.stopping = true;
        self.shared.changed.notify_all();
        drop(state);
        self.wake();
        let waited = self.shared.changed.wait_timeout_while(self.shared.state(), bound, |state| !state.done);
        waited.map_or_else(|poisoned| poisoned.into_inner().0.done, |(state, _)| state.done)
    }

    /// A thread that waits for a chunk gets an empty one; when the queue is full it does not wait.
    fn wake(&self) {
        self.shared.changed.notify_all();
        let _ = self.queue.try_send(Chunk { bytes: Vec::new(), lines: 0 });
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_all();
    }
}

/// Opens a log file for appending; one that is made is readable by its owner and group only, since a log tells who calls what.
///
/// Does not wait for who reads a FIFO: one without a reader is an error.
fn append_to(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path);
    let file = opened.map_err(|error| {
        let fifo = error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
            && std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        if fifo { io::Error::new(error.kind(), "it is a FIFO that nobody reads") } else { error }
    })?;
    // written on a thread of its own, which may wait for a reader
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// What the thread has.
struct Thread {
    out: Box<dyn Write + Send>,
    path: Option<PathBuf>,
    shared: Arc<Shared>,
    events: Events,
    /// Writes that failed since the last that did not.
    failures: u64,
    /// Writes tried again while the gateway ends, of all chunks.
    last_retries: u32,
}

impl Thread {
    fn run(mut self, chunks: &Receiver<Chunk>) {
        while let Ok(chunk) = chunks.recv() {
            self.write(chunk);
            self.reopen_if_asked();
            if self.shared.state().stopping {
                break;
            }
        }
        while let Ok(chunk) = chunks.try_recv() {
            self.write(chunk);
        }
        loop {
            let mut state = self.shared.state();
            let last = std::mem::take(&mut state.last);
            if last.is_empty() {
                state.done = true;
                break;
            }
            drop(state);
            last.into_iter().for_each(|chunk| self.write(chunk));
        }
        let _ = self.out.flush();
        self.shared.changed.notify_all();
    }

    /// Writes a chunk to its end, however often that takes; gives up only while the gateway ends.
    fn write(&mut self, chunk: Chunk) {
        let Chunk { bytes, lines } = chunk;
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let pause = match self.out.write(rest) {
                Ok(n) if n > 0 => {
                    at += n;
                    self.recovered();
                    continue;
                }
                Ok(_) => self.failed(&ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => FULL_PIPE,
                Err(error) => self.failed(&error),
            };
            if self.pause(pause) {
                self.last_retries += 1;
                if self.last_retries > LAST_RETRIES {
                    self.give_up(rest);
                    break;
                }
            }
            if self.reopen_if_asked() {
                // the line that was begun in the old file is written whole into the new one
                at = bytes
                    .get(..at)
                    .and_then(|written| written.iter().rposition(|byte| *byte == b'\n'))
                    .map_or(0, |end| end + 1);
            }
        }
        self.keep(bytes, lines);
    }

    fn keep(&self, mut bytes: Vec<u8>, lines: u32) {
        if lines == 0 || bytes.capacity() > SPARE_CAPACITY {
            return;
        }
        bytes.clear();
        let mut spare = self.shared.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(bytes);
        }
    }

    /// Waits, but not when asked to open the file again; says whether the gateway ends.
    fn pause(&self, pause: Duration) -> bool {
        let state = self.shared.state();
        let stopping = state.stopping;
        let pause = if stopping { pause.min(LAST_RETRY) } else { pause };
        let woken = |state: &mut State| !state.reopen && state.stopping == stopping;
        let _ = self.shared.changed.wait_timeout_while(state, pause, woken);
        stopping
    }

    fn failed(&mut self, error: &io::Error) -> Duration {
        self.shared.counters.write_errors.fetch_add(1, Relaxed);
        self.failures += 1;
        if self.failures == 1 {
            self.events.error("access_log", format_args!("the access log cannot be written: {error}; trying again"));
        }
        RETRY
    }

    fn recovered(&mut self) {
        if self.failures > 0 {
            self.events
                .info("access_log", format_args!("the access log is written again after {} attempts", self.failures));
            self.failures = 0;
        }
    }

    fn give_up(&self, rest: &[u8]) {
        let lines = rest.iter().filter(|byte| **byte == b'\n').count();
        self.shared.counters.lost_lines.fetch_add(lines as u64, Relaxed);
    }

    /// Says whether another file is written to from now on.
    fn reopen_if_asked(&mut self) -> bool {
        if !std::mem::take(&mut self.shared.state().reopen) {
            return false;
        }
        let Some(path) = &self.path else { return false };
        match append_to(path) {
            Ok(file) => {
                self.out = Box::new(file);
                true
            }
            Err(error) => {
                self.shared.counters.write_errors.fetch_add(1, Relaxed);
                let path = path.display();
                self.events
                    .error("access_log", format_args!("`{path}` cannot be opened again: {error}; the old file stays"));
                false
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
