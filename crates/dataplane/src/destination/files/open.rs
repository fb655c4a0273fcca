//! Finds a file beneath its folder and opens it, so that no name, no link and no change made meanwhile leads outside. Blocks, unless it is
//! told to take only what the kernel has at hand. Knows nothing of requests.

use std::os::fd::OwnedFd;
use std::path::Path;

use daemun_config::model::FileCoding;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use super::names::{Name, of_coding};

/// Times that a lookup is begun again which a renaming on its way has disturbed.
const TRIES: usize = 8;

/// What is looked for.
pub(super) struct Search<'a> {
    pub(super) root: &'a Path,
    pub(super) name: &'a Name,
    /// Stands for a folder.
    pub(super) index: Option<&'a str>,
    /// Stands for what is not there.
    pub(super) fallback: Option<&'a str>,
    /// Codings that the caller takes, the preferred first.
    pub(super) codings: &'a [FileCoding],
    pub(super) follow_symlinks: bool,
    /// Takes only what the kernel has at hand.
    pub(super) at_hand: bool,
}

/// What was found.
pub(super) enum Found {
    File(Box<Opened>),
    /// A folder, by a path that does not end in a slash.
    Folder,
}

/// A file that is open.
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    /// Its name, without the end that stands for its coding.
    pub(super) name: Vec<u8>,
    pub(super) size: u64,
    /// Nanoseconds since the Unix epoch.
    pub(super) modified: u128,
    pub(super) coding: Option<FileCoding>,
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The kernel would have to wait.
    NotAtHand,
    /// It is not there, or is nothing that is served.
    Gone(Errno),
    /// The process or the system has no descriptor left.
    NoDescriptor(Errno),
}

impl From<Errno> for Miss {
    fn from(error: Errno) -> Miss {
        match error {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Miss::NoDescriptor(error),
            _ => Miss::Gone(error),
        }
    }
}

/// What a name leads to.
enum Entry {
    File(Box<Opened>),
    Folder,
}

/// Finds the file of a name: itself, the index of a folder, or the fallback; in the best coding there is.
pub(super) fn find(search: &Search<'_>) -> Result<Found, Miss> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at_hand = if search.at_hand { ResolveFlags::CACHED } else { ResolveFlags::empty() };
    let root = if search.at_hand {
        openat2(CWD, search.root, flags, Mode::empty(), at_hand).map_err(not_at_hand)?
    } else {
        openat(CWD, search.root, flags, Mode::empty())?
    };
    let miss = match named(search, &root) {
        Err(Miss::Gone(error)) => Miss::Gone(error),
        other => return other,
    };
    let Some(fallback) = search.fallback else { return Err(miss) };
    match entry(search, &root, fallback.as_bytes())? {
        Entry::File(file) => coded(search, &root, file),
        Entry::Folder => Err(miss),
    }
}

fn named(search: &Search<'_>, root: &OwnedFd) -> Result<Found, Miss> {
    if !search.name.folder {
        return match entry(search, root, &search.name.path)? {
            Entry::File(file) => coded(search, root, file),
            // where no file stands for a folder, there is nothing behind its name with a slash either
            Entry::Folder if search.index.is_none() => Err(Miss::Gone(Errno::ISDIR)),
            Entry::Folder => Ok(Found::Folder),
        };
    }
    let index = search.index.ok_or(Miss::Gone(Errno::ISDIR))?;
    let mut path = search.name.path.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(index.as_bytes());
    match entry(search, root, &path)? {
        Entry::File(file) => coded(search, root, file),
        Entry::Folder => Err(Miss::Gone(Errno::ISDIR)),
    }
}

/// The file in the first of the codings in which it stands beside the plain one, or the plain one.
fn coded(search: &Search<'_>, root: &OwnedFd, plain: Box<Opened>) -> Result<Found, Miss> {
    for coding in search.codings {
        let path = [&plain.name, of_coding(*coding).1.as_bytes()].concat();
        match entry(search, root, &path) {
            Ok(Entry::File(file)) => {
                return Ok(Found::File(Box::new(Opened { name: plain.name, coding: Some(*coding), ..*file })));
            }
            Ok(Entry::Folder) | Err(Miss::Gone(_)) => {}
            Err(miss) => return Err(miss),
        }
    }
    Ok(Found::File(plain))
}

/// Opens what a relative path leads to. A pipe or a device is not waited for, and is nothing that is served.
fn entry(search: &Search<'_>, root: &OwnedFd, path: &[u8]) -> Result<Entry, Miss> {
    let file = beneath(search, root, path)?;
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(Entry::Folder),
        FileType::RegularFile => Ok(Entry::File(Box::new(Opened {
            file,
            name: path.to_vec(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: u128::try_from(stat.st_mtime).unwrap_or(0) * 1_000_000_000 + u128::from(stat.st_mtime_nsec),
            coding: None,
        }))),
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Err(Miss::Gone(Errno::NXIO)),
    }
}

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

fn beneath(search: &Search<'_>, root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Miss> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if !search.follow_symlinks {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    if search.at_hand {
        return openat2(root, path, OPEN, Mode::empty(), resolve | ResolveFlags::CACHED).map_err(not_at_hand);
    }
    for _ in 0..TRIES {
        match openat2(root, path, OPEN, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            // a kernel before 5.6, or a sandbox that knows no such call
            Err(Errno::NOSYS | Errno::PERM) => return Ok(step_by_step(root, path)?),
            opened => return Ok(opened?),
        }
    }
    Err(Miss::Gone(Errno::AGAIN))
}

/// The same without the call that does it at once: each name by itself, and no link is followed.
fn step_by_step(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.split(|&b| b == b'/').peekable();
    let mut folder: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if name.is_empty() || matches!(name, b"." | b"..") {
            return Err(Errno::NOENT);
        }
        let from = folder.as_ref().unwrap_or(root);
        if names.peek().is_none() {
            return openat(from, name, OPEN | OFlags::NOFOLLOW, Mode::empty());
        }
        folder = Some(openat(from, name, through, Mode::empty())?);
    }
    Err(Errno::NOENT)
}

/// What a lookup without waiting comes to; a kernel that does not know how is asked in the usual way.
fn not_at_hand(error: Errno) -> Miss {
    match error {
        Errno::AGAIN | Errno::NOSYS | Errno::PERM | Errno::INVAL => Miss::NotAtHand,
        error => Miss::from(error),
    }
}

#[cfg(test)]
mod tests;
