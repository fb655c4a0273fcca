//! Reads files whole, and never waits for whoever is at the other end of one. Knows nothing of what they hold.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// At most `limit` + 1 bytes of a file. Anything else than a file (a folder, a FIFO, a device) is refused, since opening or reading it
/// may never end.
///
/// # Errors
/// When it cannot be read, or is no file.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let accepted = |kind: FileType| match other_than_file(kind) {
        Some(other) => Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {other}, not a file"))),
        None => Ok(()),
    };
    let (file, _) = open(path, accepted)?;
    rest(file, limit)
}

/// The same of what an operator named: a pipe too, whose writer is waited for, so that a command's output can be named.
///
/// # Errors
/// When it cannot be read, or is neither file nor pipe.
pub fn read_file_or_pipe(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let accepted = |kind: FileType| match other_than_file(kind).filter(|_| !kind.is_fifo()) {
        Some(other) => {
            Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {other}, neither a file nor a pipe")))
        }
        None => Ok(()),
    };
    let (file, kind) = open(path, accepted)?;
    if kind.is_fifo() {
        // one that nobody has opened for writing reads as ended, unless it is waited for
        while poll(&mut [PollFd::new(&file, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    }
    rest(file, limit)
}

/// Why a file could not be used, in words that go behind a colon.
#[must_use]
pub fn why(error: &io::Error) -> String {
    if error.kind() == ErrorKind::NotFound {
        return "no such file".to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Opens what `accepted` takes, and gives what it is; looks before as well, since to open a device is to do something already.
fn open(path: &Path, accepted: impl Fn(FileType) -> io::Result<()>) -> io::Result<(File, FileType)> {
    accepted(std::fs::metadata(path)?.file_type())?;
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    accepted(kind)?;
    Ok((file, kind))
}

fn other_than_file(kind: FileType) -> Option<&'static str> {
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a folder"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

fn rest(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
