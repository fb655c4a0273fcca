//! When changes have settled: every writer has closed or renamed, and then nothing happened for a while. Pure: told what
//! happened and when, it says when to act; it knows no file system and no clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// How long nothing may happen before a change is taken up.
pub(crate) const QUIET: Duration = Duration::from_millis(500);

/// How long a file that is held open may go without a sign of writing before its holder is taken for a reader.
pub(crate) const HELD: Duration = Duration::from_secs(10);

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// It came into being: linked, or opened by whoever creates it.
    Created,
    /// Somebody opened it, to read or to write.
    Opened,
    /// Its content changed, by a writer who has it open.
    Written,
    /// A writer closed it.
    WriterClosed,
    /// A reader closed it.
    ReaderClosed,
    /// Its permissions or times changed.
    Touched,
    /// It was put in place or taken away as a whole: renamed, linked, removed.
    Replaced,
}

/// What is known of a file with something going on.
#[derive(Debug, Default)]
struct File {
    /// Handles opened since we look, less those closed. The system merges equal events, so this is a hint.
    handles: u32,
    /// Written since a writer last closed it: somebody certainly has it open to write.
    unclosed: bool,
    /// Changed since changes were last taken up.
    changed: bool,
    /// When something last happened, in nanoseconds.
    last: u64,
}

/// Files with something going on, by any name that tells them apart.
#[derive(Debug)]
pub(crate) struct Settle<K> {
    files: HashMap<K, File>,
    /// When the last change was, in nanoseconds; none since changes were last taken up.
    changed: Option<u64>,
}

impl<K: Eq + Hash> Settle<K> {
    pub(crate) fn new() -> Self {
        Self { files: HashMap::new(), changed: None }
    }

    /// Notes what happened to `file` at `now`, in nanoseconds.
    pub(crate) fn note(&mut self, file: K, happened: Happened, now: u64) {
        let state = self.files.entry(file).or_default();
        state.last = now;
        let change = match happened {
            Happened::Created | Happened::Touched => true,
            Happened::Opened => {
                state.handles = state.handles.saturating_add(1);
                false
            }
            Happened::Written => {
                state.unclosed = true;
                true
            }
            Happened::WriterClosed => {
                state.handles = state.handles.saturating_sub(1);
                state.unclosed = false;
                true
            }
            Happened::ReaderClosed => {
                state.handles = state.handles.saturating_sub(1);
                false
            }
            Happened::Replaced => {
                *state = File { last: now, ..File::default() };
                true
            }
        };
        if change {
            state.changed = true;
            self.changed = Some(now);
        }
        self.files.retain(|_, file| file.handles > 0 || file.unclosed || file.changed);
    }

    /// Notes that something changed of which no more is known, such as a folder that was moved.
    pub(crate) fn note_somewhere(&mut self, now: u64) {
        self.changed = Some(now);
    }

    /// When to ask [`Settle::take`] next, in nanoseconds; `None`: not before something else happens.
    pub(crate) fn due(&self) -> Option<u64> {
        let quiet = self.changed?.saturating_add(nanos(QUIET));
        let mut due = quiet;
        for file in self.files.values().filter(|file| file.changed) {
            if file.unclosed {
                return None;
            }
            if file.handles > 0 {
                due = due.max(file.last.saturating_add(nanos(HELD)));
            }
        }
        Some(due)
    }

    /// Whether changes have settled by `now`. Then they count as taken up.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        self.changed = None;
        for file in self.files.values_mut() {
            file.changed = false;
            if now.saturating_sub(file.last) >= nanos(HELD) {
                file.handles = 0;
            }
        }
        self.files.retain(|_, file| file.handles > 0 || file.unclosed);
        true
    }

    /// Forgets files that are no longer watched, of which nothing more will be heard.
    pub(crate) fn keep(&mut self, watched: impl Fn(&K) -> bool) {
        self.files.retain(|file, _| watched(file));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Notes events given as (milliseconds, file, what) and says in which milliseconds changes were taken up until `end`.
    fn taken(events: &[(u64, &str, Happened)], end: u64) -> Vec<u64> {
        let mut settle = Settle::new();
        let mut taken = Vec::new();
        let mut events = events.iter().peekable();
        for now in 0..=end {
            while let Some((_, file, happened)) = events.next_if(|(at, _, _)| *at == now) {
                settle.note((*file).to_owned(), *happened, now * MS);
            }
            if settle.take(now * MS) {
                taken.push(now);
            }
        }
        taken
    }

    #[test]
    fn a_rename_is_taken_up_after_half_a_second_of_quiet() {
        assert_eq!(taken(&[(100, "a", Happened::Replaced)], 3000), [600]);
        assert_eq!(taken(&[(100, "a", Happened::Replaced), (400, "b", Happened::Replaced)], 3000), [900]);
    }

    #[test]
    fn a_file_is_not_taken_up_while_its_writer_has_it_open() {
        let writing = [
            (0, "a", Happened::Opened),
            (1, "a", Happened::Written),
            (60_000, "a", Happened::Written),
            (60_001, "a", Happened::WriterClosed),
        ];
        assert_eq!(taken(&writing, 70_000), [60_501]);
    }

    #[test]
    fn the_last_of_two_writers_counts() {
        let writing = [
            (0, "a", Happened::Opened),
            (0, "a", Happened::Opened),
            (1, "a", Happened::Written),
            (2, "a", Happened::WriterClosed),
            (3000, "a", Happened::Written),
            (3001, "a", Happened::WriterClosed),
        ];
        assert_eq!(taken(&writing, 20_000), [3501]);
    }

    #[test]
    fn a_file_just_created_waits_for_its_writer_and_a_link_does_not() {
        let created = [
            (0, "a", Happened::Created),
            (0, "a", Happened::Opened),
            (2000, "a", Happened::Written),
            (2000, "a", Happened::WriterClosed),
        ];
        assert_eq!(taken(&created, 20_000), [2500]);
        assert_eq!(taken(&[(0, "a", Happened::Created)], 3000), [500]);
    }

    #[test]
    fn one_who_only_reads_delays_a_change_but_does_not_prevent_it() {
        let read = [
            (0, "a", Happened::Opened),
            (100, "a", Happened::Opened),
            (100, "a", Happened::Written),
            (100, "a", Happened::WriterClosed),
            (15_000, "a", Happened::Opened),
            (15_000, "a", Happened::Written),
            (15_000, "a", Happened::WriterClosed),
        ];
        assert_eq!(taken(&read, 30_000), [10_100, 15_500]);
    }

    #[test]
    fn reading_alone_changes_nothing() {
        assert_eq!(taken(&[(0, "a", Happened::Opened), (1, "a", Happened::ReaderClosed)], 20_000), [0_u64; 0]);
    }

    #[test]
    fn changes_that_arrive_together_are_taken_up_together() {
        let many: Vec<_> = (0..100).map(|n| (n * 10, if n % 2 == 0 { "a" } else { "b" }, Happened::Replaced)).collect();
        assert_eq!(taken(&many, 10_000), [1490]);
    }

    #[test]
    fn a_file_no_longer_watched_holds_nothing_up() {
        let mut settle = Settle::new();
        settle.note("a", Happened::Written, 0);
        settle.note("b", Happened::Replaced, 0);
        assert_eq!(settle.due(), None);
        settle.keep(|file| *file != "a");
        assert_eq!(settle.due(), Some(500 * MS));
    }
}
