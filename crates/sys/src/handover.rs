//! Listening sockets passed to a new binary: the old process starts it with them open, the new one takes them up.
//!
//! The new process finds in `DAEMUN_SOCKETS` which descriptor is which socket (`3=tcp:127.0.0.1:8080;4=unix:/run/d.sock`)
//! and in `DAEMUN_READY_FD` the pipe on which it says that it serves. Both processes accept from the same queues meanwhile,
//! so that no connection is lost whoever ends. What the names mean, and when to stop accepting, is for the callers to know.
#![allow(
    unsafe_code,
    reason = "descriptors arrive as numbers, are passed on after fork, and the environment is edited"
)]

use std::collections::HashSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, OFlags, fcntl_setfl, fstat};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt::socket_acceptconn;
use rustix::pipe::{PipeFlags, pipe_with};

/// The variable that tells a new process its sockets: `NUMBER=NAME` pairs with `;` between, `;` and `%` in names as `%3B`
/// and `%25`.
pub const SOCKETS_VARIABLE: &str = "DAEMUN_SOCKETS";

/// The variable that tells a new process the descriptor on which its predecessor waits for it.
pub const READY_FD_VARIABLE: &str = "DAEMUN_READY_FD";

/// The longest description of sockets, in bytes; the system takes no variable of 128 KiB or more.
const MAX_DESCRIPTION: usize = 120 * 1024;

/// The first descriptor that is not standard input, output or error.
const FIRST: RawFd = 3;

/// A new process that was given the sockets, until it is ready or has failed.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    ready: OwnedFd,
}

/// What the pipe of a [`Successor`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing yet.
    Starting,
    /// It serves; the old process may stop accepting.
    Ready,
    /// It ended, or closed the pipe, without ever being ready; the old process serves on.
    Failed,
}

/// What a predecessor left to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Name and socket, in the order they were given; every one listens, does not block and is closed on exec.
    pub sockets: Vec<(String, OwnedFd)>,
    /// Where to say that this process serves, with [`announce_ready`]; none if nobody waits.
    pub ready: Option<OwnedFd>,
}

/// Starts `exe` with `args` (after its name), this process's environment, and exactly `sockets` beside the standard streams.
///
/// The sockets stay open here as well. Their copies in the new process share one queue with them, whichever accepts.
/// A binary that was replaced on disk no longer answers to `std::env::current_exe`: remember the path from the start.
///
/// # Errors
/// When the program cannot be started (`NotFound`, `PermissionDenied`), or the names are too many (120 KiB) or hold a zero
/// byte (`InvalidInput`).
pub fn spawn_successor(exe: &Path, args: &[OsString], sockets: &[(String, BorrowedFd<'_>)]) -> io::Result<Successor> {
    let (ready, announce) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&ready, OFlags::NONBLOCK)?;
    // Copies, so that none lies where the child's standard streams go, or is one number under two names. They live until
    // the child has started, which is when `spawn` returns, and are closed on exec in every other child of this process.
    let mut copies = Vec::with_capacity(sockets.len());
    for (name, socket) in sockets {
        copies.push((fcntl_dupfd_cloexec(socket, FIRST)?, name.as_str()));
    }
    let announce = fcntl_dupfd_cloexec(announce, FIRST)?;
    let mut inherit: Vec<RawFd> = copies.iter().map(|(copy, _)| copy.as_raw_fd()).collect();
    inherit.push(announce.as_raw_fd());

    let mut command = Command::new(exe);
    command.args(args);
    command.env(SOCKETS_VARIABLE, describe(&copies)?);
    command.env(READY_FD_VARIABLE, announce.as_raw_fd().to_string());
    let keep_open = move || inherit.iter().try_for_each(|number| keep_on_exec(*number));
    // SAFETY: the closure runs in the child between fork and exec, where only what is async-signal-safe may happen. It
    // walks a vector made before the fork and makes one system call per entry; it neither allocates, locks nor panics.
    unsafe { command.pre_exec(keep_open) };
    let child = command.spawn()?;
    Ok(Successor { child, ready })
}

impl Successor {
    /// The end of the pipe to wait on: readable, or at its end, when [`Successor::readiness`] has news. Does not block.
    pub fn ready_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// What is known of the new process now, without waiting. Each answer but [`Readiness::Starting`] is final, to be asked
    /// for once.
    ///
    /// # Errors
    /// When the pipe cannot be read, for which there is no ordinary reason.
    pub fn readiness(&self) -> io::Result<Readiness> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.ready, &mut [0_u8; 16])) {
            Ok(0) => Ok(Readiness::Failed),
            Ok(_) => Ok(Readiness::Ready),
            Err(Errno::AGAIN) => Ok(Readiness::Starting),
            Err(error) => Err(error.into()),
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has, without waiting. To be called after a failure, or the ended process stays a zombie.
    ///
    /// # Errors
    /// When the system cannot tell, for which there is no ordinary reason.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends a new process that takes too long to become ready, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be signalled, for which there is no ordinary reason.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

/// Takes up what a predecessor left: once, at the very start, before the process has a second thread.
///
/// Without a predecessor there is nothing to take, and no error. The two variables are removed from the environment, so
/// that no child is misled by them; where a second thread already runs they stay, since removing them could harm it.
///
/// # Errors
/// `InvalidData` when a variable is not as [`spawn_successor`] writes it, or a number in it is not an inherited listening
/// socket (for the other variable: pipe); nothing is taken then. `AlreadyExists` when called a second time.
pub fn inherited() -> io::Result<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the inherited sockets were taken before"));
    }
    let sockets = env::var_os(SOCKETS_VARIABLE);
    let ready = env::var_os(READY_FD_VARIABLE);
    if sockets.is_none() && ready.is_none() {
        return Ok(Inherited::default());
    }
    let sockets = sockets.map_or(Ok(Vec::new()), |text| parse_sockets(&text))?;
    let ready = ready.map(|text| parse_number(READY_FD_VARIABLE, text.to_str().unwrap_or_default())).transpose()?;
    check(&sockets, ready)?;
    let inherited = Inherited {
        sockets: sockets.into_iter().map(|(number, name)| Ok((name, adopt(number)?))).collect::<io::Result<_>>()?,
        ready: ready.map(adopt).transpose()?,
    };
    forget_variables();
    Ok(inherited)
}

/// Tells the predecessor that this process serves, and closes the pipe. A predecessor that is gone is no error.
///
/// # Errors
/// When the pipe cannot be written, for which there is no other ordinary reason.
pub fn announce_ready(ready: OwnedFd) -> io::Result<()> {
    match File::from(ready).write_all(b"ready\n") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn keep_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: runs in the child, whose numbers are those of the parent at the fork; the parent holds the copies, and with
    // them these numbers, until `spawn` has returned.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
}

fn describe(sockets: &[(OwnedFd, &str)]) -> io::Result<String> {
    let mut text = String::new();
    for (copy, name) in sockets {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(&copy.as_raw_fd().to_string());
        text.push('=');
        text.push_str(&name.replace('%', "%25").replace(';', "%3B"));
    }
    if text.len() > MAX_DESCRIPTION {
        let message = format!("the names of {} sockets are too long to hand over: {} bytes", sockets.len(), text.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(text)
}

fn parse_sockets(text: &OsStr) -> io::Result<Vec<(RawFd, String)>> {
    let Some(text) = text.to_str() else {
        return Err(invalid(format!("{SOCKETS_VARIABLE} is not text")));
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let pair = |pair: &str| {
        let Some((number, name)) = pair.split_once('=') else {
            return Err(invalid(format!("{SOCKETS_VARIABLE}: `{pair}` is not a descriptor, `=` and a name")));
        };
        Ok((parse_number(SOCKETS_VARIABLE, number)?, name.replace("%3B", ";").replace("%25", "%")))
    };
    text.split(';').map(pair).collect()
}

fn parse_number(variable: &str, text: &str) -> io::Result<RawFd> {
    match text.parse() {
        Ok(number) if number >= FIRST => Ok(number),
        Ok(_) | Err(_) => Err(invalid(format!("{variable}: `{text}` is not a descriptor from {FIRST} upwards"))),
    }
}

/// Looks at every number before one is taken, so that an error leaves all as it was.
fn check(sockets: &[(RawFd, String)], ready: Option<RawFd>) -> io::Result<()> {
    let mut seen = HashSet::new();
    for number in sockets.iter().map(|(number, _)| *number).chain(ready) {
        if !seen.insert(number) {
            return Err(invalid(format!(
                "descriptor {number} is named twice in {SOCKETS_VARIABLE}, {READY_FD_VARIABLE}"
            )));
        }
    }
    for (number, name) in sockets {
        let listens = open_since_exec(*number).is_some_and(|socket| socket_acceptconn(socket).unwrap_or(false));
        if !listens {
            let message =
                format!("{SOCKETS_VARIABLE}: descriptor {number}, `{name}`, is no inherited listening socket");
            return Err(invalid(message));
        }
    }
    let is_pipe = |pipe| fstat(pipe).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Fifo);
    match ready {
        Some(number) if !open_since_exec(number).is_some_and(is_pipe) => {
            Err(invalid(format!("{READY_FD_VARIABLE}: descriptor {number} is no inherited pipe")))
        }
        Some(_) | None => Ok(()),
    }
}

/// The descriptor `number`, if it was open when this program was started, and is not one that the program opened since:
/// those are closed on exec, all that `std` and this crate open, so they cannot have come through one.
fn open_since_exec<'a>(number: RawFd) -> Option<BorrowedFd<'a>> {
    // SAFETY: the number is not negative. Should nothing be open under it, the one call made says so, and the borrow ends
    // here; should it be, then nobody in this process owns it (see above) and could close it during the borrow.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(descriptor).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)).then_some(descriptor)
}

/// Makes the inherited descriptor `number`, which has been through [`check`], this process's own.
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `check` saw it open and inherited, so no value of this process owns it; it is named once, and `inherited`
    // goes this way once in the life of a process.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

fn forget_variables() {
    let threads = std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count);
    if threads == 1 {
        // SAFETY: no other thread runs, so none reads the environment meanwhile.
        unsafe {
            env::remove_var(SOCKETS_VARIABLE);
            env::remove_var(READY_FD_VARIABLE);
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests;
