//! The access log: each worker formats lines into a buffer of its own and hands it, full or after a moment, to the one writer thread.
//! Nothing here waits: what the writer cannot take in time is lost, and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use daemun_config::model;

use super::events::Events;
use super::fields::{Kept, LogFields, LogTemplate, TemplateError, write_json};
use super::line::Line;
use super::metrics::LogCounters;
use super::writer::{Chunk, LogWriter};

/// Bytes after which a buffer is handed over.
const FULL: usize = 32 * 1024;
/// Bytes a buffer may hold while the writer takes nothing.
const MOST: usize = 64 * 1024;

/// Form of a line, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    Json(LogFields),
    Template(LogTemplate),
}

impl Layout {
    fn of(config: &model::AccessLog) -> Result<Layout, TemplateError> {
        Ok(match &config.format {
            model::LogFormat::Json => Layout::Json(LogFields::parse(&config.fields).map_err(|(_, error)| error)?),
            model::LogFormat::Template(template) => Layout::Template(LogTemplate::parse(&template.value)?),
        })
    }
}

/// An access log that is open. Cheap to clone; the last one dropped lets the writer end when it has written what it holds.
#[derive(Clone, Debug)]
pub struct AccessLog {
    layout: Arc<Layout>,
    writer: Arc<LogWriter>,
    to: model::LogTarget,
}

impl AccessLog {
    /// Opens the log of a configuration. The writer of `previous` goes on when it writes to the same target.
    ///
    /// # Errors
    /// When the file cannot be opened or the writer's thread not be started; `InvalidInput` when the template is wrong, which
    /// [`LogTemplate::parse`] tells better.
    pub fn open(
        config: &model::AccessLog,
        previous: Option<&AccessLog>,
        counters: Arc<LogCounters>,
        events: &Events,
    ) -> io::Result<AccessLog> {
        let layout = Layout::of(config).map_err(|wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong.message))?;
        let writer = match previous {
            Some(previous) if previous.to == config.to => Arc::clone(&previous.writer),
            Some(_) | None => Arc::new(LogWriter::open(&config.to, counters, events.clone())?),
        };
        Ok(AccessLog { layout: Arc::new(layout), writer, to: config.to.clone() })
    }

    /// Has the file opened again, after it was renamed; nothing on stdout. Returns at once. No line is lost or torn.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Has everything written that the workers handed over, and ends the writer; says whether that was done within `bound`. To be
    /// called after every worker's [`super::Recorder::close`].
    #[must_use]
    pub fn close(&self, bound: Duration) -> bool {
        self.writer.close(bound)
    }
}

/// The lines of one worker that the writer does not have yet.
pub(super) struct LogBuffer {
    log: AccessLog,
    bytes: Vec<u8>,
    lines: u32,
    kept: Kept,
}

impl LogBuffer {
    pub(super) fn new(log: AccessLog) -> LogBuffer {
        LogBuffer { log, bytes: Vec::new(), lines: 0, kept: Kept::default() }
    }

    /// Formats a line; says whether it is the first of a buffer, which is then to be handed over within a moment.
    pub(super) fn write(&mut self, line: &Line<'_>) -> bool {
        if self.bytes.capacity() == 0 {
            self.bytes = self.log.writer.spare().unwrap_or_else(|| Vec::with_capacity(MOST));
        }
        let start = self.bytes.len();
        match &*self.log.layout {
            Layout::Json(fields) => write_json(&mut self.bytes, line, &mut self.kept, fields),
            Layout::Template(template) => template.write(&mut self.bytes, line, &mut self.kept),
        }
        self.lines += 1;
        if self.bytes.len() >= FULL && !self.hand_over() && self.bytes.len() > MOST {
            self.bytes.truncate(start);
            self.lines -= 1;
            self.log.writer.counters().lost_lines.fetch_add(1, Relaxed);
        }
        start == 0
    }

    /// Hands the buffer to the writer; keeps it, and says so, when the writer has too much already.
    pub(super) fn hand_over(&mut self) -> bool {
        if self.lines == 0 {
            return true;
        }
        let chunk = self.take();
        match self.log.writer.push(chunk) {
            Ok(()) => true,
            Err(Chunk { bytes, lines }) => {
                self.bytes = bytes;
                self.lines = lines;
                false
            }
        }
    }

    /// Hands over the last lines, which the writer takes whatever it has.
    pub(super) fn close(mut self) {
        if !self.hand_over() {
            let last = self.take();
            self.log.writer.push_last(last);
        }
    }

    fn take(&mut self) -> Chunk {
        Chunk { bytes: std::mem::take(&mut self.bytes), lines: std::mem::take(&mut self.lines) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
