//! Watches the files of a configuration with inotify and says when changes have settled. What is read then is for others.

mod places;
mod settle;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use daemun_config::read_file;
use daemun_config::tree::Sources;
use daemun_dataplane::Clock;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use places::{Kind, Place, Places, places};
use settle::{Happened, Settle};

/// What inotify is to tell of the entries of a folder.
const ENTRIES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::OPEN)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE);
/// What it is to tell of a folder itself.
const ITSELF: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);
/// How a folder is to be watched: the folder, not what a link of its name leads to.
const FOLDER: WatchFlags =
    WatchFlags::ONLYDIR.union(WatchFlags::DONT_FOLLOW).union(WatchFlags::EXCL_UNLINK).union(WatchFlags::MASK_ADD);

/// Watches files, wherever links lead, until it is dropped.
pub(crate) struct Watcher {
    /// An inotify instance; what tokio calls a pipe is anything that becomes readable.
    inotify: Receiver,
    clock: Clock,
    settle: Settle<(i32, OsString)>,
    watches: HashMap<i32, (PathBuf, Place)>,
}

impl Watcher {
    /// Watches nothing yet. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the system gives no inotify instance (`fs.inotify.max_user_instances`).
    pub(crate) fn new(clock: Clock) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let inotify = Receiver::from_owned_fd_unchecked(inotify)?;
        Ok(Self { inotify, clock, settle: Settle::new(), watches: HashMap::new() })
    }

    /// Watches exactly these files and folders from now on. Those watched already are not let out of sight meanwhile.
    ///
    /// # Errors
    /// When a folder cannot be watched (`fs.inotify.max_user_watches`); the others are.
    pub(crate) fn watch(&mut self, files: &[PathBuf]) -> io::Result<()> {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let wanted: Places = places(files, &here, &kind);
        let mut watches: HashMap<i32, (PathBuf, Place)> = HashMap::new();
        let mut result = Ok(());
        for (folder, place) in wanted {
            let mut flags = FOLDER;
            if place.itself {
                flags |= ITSELF;
            }
            if place.any || !place.names.is_empty() {
                flags |= ENTRIES;
            }
            match inotify::add_watch(&self.inotify, &folder, flags) {
                // One folder under two names, as bind mounts make them, is one watch.
                Ok(number) => watches.entry(number).or_insert_with(|| (folder, Place::default())).1.add(place),
                // Gone since we looked: its parent tells when it is back.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                // A folder on the way that may be passed but not listed: only its own removal goes unnoticed.
                Err(Errno::ACCESS) if place.names.is_empty() && !place.any => {}
                Err(error) => {
                    let text = format!("cannot watch `{}`: {error}", folder.display());
                    result = Err(io::Error::new(io::Error::from(error).kind(), text));
                }
            }
        }
        for number in self.watches.keys().filter(|number| !watches.contains_key(number)) {
            // It fails for a folder that is gone, whose watch is gone with it.
            let _ = inotify::remove_watch(&self.inotify, *number);
        }
        self.watches = watches;
        let watches = &self.watches;
        self.settle.keep(|(number, name)| watches.get(number).is_some_and(|(_, place)| place.wants(name)));
        result
    }

    /// Has the files read again soon, as after a change: for what may have changed while nobody looked.
    pub(crate) fn suspect(&mut self) {
        self.settle.note_somewhere(self.clock.now());
    }

    /// Waits until changes have settled: the last writer has closed or renamed, and then [`settle::QUIET`] has passed.
    /// May be dropped and called again.
    ///
    /// # Errors
    /// When inotify fails, for which there is no ordinary reason.
    pub(crate) async fn settled(&mut self) -> io::Result<()> {
        loop {
            self.read()?;
            let now = self.clock.now();
            if self.settle.take(now) {
                return Ok(());
            }
            let due = self.settle.due().unwrap_or(u64::MAX);
            let clock = self.clock.clone();
            tokio::select! {
                ready = self.inotify.readable() => {
                    ready?;
                    // Everything is read at the top of the loop; this clears the readiness that was waited for.
                    let _ = self.inotify.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                }
                () = wait(&clock, due) => {}
            }
        }
    }

    /// Takes up all events that are there.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let now = self.clock.now();
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
            take_up(&mut self.settle, &self.watches, (event.wd(), event.events(), name), now);
        }
    }
}

/// Sorts one event: which watch, what, and the entry if it is about one.
fn take_up(
    settle: &mut Settle<(i32, OsString)>,
    watches: &HashMap<i32, (PathBuf, Place)>,
    (number, flags, name): (i32, ReadFlags, Option<OsString>),
    now: u64,
) {
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        settle.note_somewhere(now);
        return;
    }
    let Some((_, place)) = watches.get(&number) else { return };
    let Some(name) = name else {
        if flags.intersects(ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::UNMOUNT)) {
            settle.note_somewhere(now);
        }
        return;
    };
    if !place.wants(&name) {
        return;
    }
    if let Some(happened) = happened(flags) {
        settle.note((number, name), happened, now);
    }
}

/// What an event about an entry says; nothing where it is a folder that somebody looks into.
fn happened(flags: ReadFlags) -> Option<Happened> {
    const KINDS: [(ReadFlags, Happened); 9] = [
        (ReadFlags::MOVED_TO, Happened::Replaced),
        (ReadFlags::MOVED_FROM, Happened::Replaced),
        (ReadFlags::DELETE, Happened::Replaced),
        (ReadFlags::CREATE, Happened::Created),
        (ReadFlags::ATTRIB, Happened::Touched),
        (ReadFlags::MODIFY, Happened::Written),
        (ReadFlags::CLOSE_WRITE, Happened::WriterClosed),
        (ReadFlags::OPEN, Happened::Opened),
        (ReadFlags::CLOSE_NOWRITE, Happened::ReaderClosed),
    ];
    let (_, happened) = KINDS.iter().find(|(flag, _)| flags.contains(*flag))?;
    let looked = matches!(happened, Happened::Opened | Happened::ReaderClosed);
    (!looked || !flags.contains(ReadFlags::ISDIR)).then_some(*happened)
}

/// Waits for a moment of the clock, which may be never.
async fn wait(clock: &Clock, until: u64) {
    if until == u64::MAX {
        std::future::pending::<()>().await;
    }
    clock.wait(until).await;
}

/// A moment as files are stamped with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    seconds: i64,
    nanos: i64,
}

impl Moment {
    /// Now, on the clock that stamps files, which runs some milliseconds behind the others.
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Self { seconds: now.tv_sec, nanos: now.tv_nsec }
    }
}

/// Whether a file may have changed after it was read: read into `sources`, or at `began` at the earliest.
pub(crate) fn changed_since(file: &Path, began: &Moment, sources: &Sources) -> bool {
    let Ok(found) = std::fs::metadata(file) else { return false };
    if (Moment { seconds: found.ctime(), nanos: found.ctime_nsec() }) < *began {
        return false;
    }
    let read = (0..=u16::MAX).map_while(|index| sources.path(index).zip(sources.text(index)));
    let text = read.into_iter().find(|(path, _)| *path == file).map(|(_, text)| text);
    // what is no file is not read, since that may never end
    let now = |text: &str| read_file(file, found.len().max(text.len() as u64));
    let differs = |now: Vec<u8>, text: &str| now.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&now) != text.as_bytes();
    text.is_none_or(|text| now(text).is_ok_and(|now| differs(now, text)))
}

fn kind(path: &Path) -> Kind {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => std::fs::read_link(path).map_or(Kind::Missing, Kind::Link),
        Ok(found) if found.is_dir() => Kind::Folder,
        Ok(_) => Kind::File,
        Err(_) => Kind::Missing,
    }
}

#[cfg(test)]
mod tests;
