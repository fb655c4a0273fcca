//! The hand-over: a new binary is started with this process's sockets, and this one ends when the new one serves. What the
//! sockets are for it does not know.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemun_dataplane::Clock;
use daemun_sys::{Readiness, Successor};
use tokio::net::unix::pipe::Receiver;

use super::within;

/// How long a new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// How this process was started, so that a new one can be started the same way.
pub(crate) struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Invocation {
    /// To be called at the start: a binary that was replaced on disk no longer knows its own path.
    ///
    /// # Errors
    /// When the path of this binary is not to be found.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let own = env::current_exe()?;
        let named = as_invoked(&name).filter(|path| same_file(path, &own));
        Ok(Self { program: named.unwrap_or(own), arguments: arguments.collect() })
    }

    /// The program that a hand-over starts.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts the new process with these sockets.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, sockets: &[(String, BorrowedFd<'_>)], clock: &Clock) -> io::Result<Starting> {
        let successor = daemun_sys::spawn_successor(&self.program, &self.arguments, sockets)?;
        let ready = Receiver::from_owned_fd(successor.ready_fd().try_clone_to_owned()?)?;
        let until = clock.now().saturating_add(u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX));
        Ok(Starting { successor, ready, until })
    }
}

/// A new process that does not serve yet.
pub(crate) struct Starting {
    successor: Successor,
    ready: Receiver,
    /// When patience ends, in nanoseconds of the clock.
    until: u64,
}

impl Starting {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.successor.id()
    }

    /// Waits until it serves, for a minute at most. May be dropped and called again.
    ///
    /// # Errors
    /// Why it does not serve; then it has ended, or was ended.
    pub(crate) async fn serves(&mut self, clock: &Clock) -> Result<(), String> {
        let left = Duration::from_nanos(self.until.saturating_sub(clock.now()));
        let readable = within(clock, left, self.ready.readable()).await;
        let readiness = match readable {
            None => {
                self.end();
                return Err(format!("it was not ready within {PATIENCE:?}, and was ended"));
            }
            Some(Ok(())) => self.successor.readiness(),
            Some(Err(error)) => Err(error),
        };
        match readiness {
            Ok(Readiness::Ready) => Ok(()),
            Ok(Readiness::Failed | Readiness::Starting) => {
                self.end();
                Err("it ended before it was ready; its own messages say why".to_owned())
            }
            Err(error) => {
                self.end();
                Err(format!("it cannot be heard: {error}"))
            }
        }
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        // It may have ended by itself, which is what is wanted.
        let _ = self.successor.kill();
    }
}

/// The path by which this program was called, with its links: an upgrade may turn one of them.
fn as_invoked(name: &OsString) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.components().count() > 1 || path.is_absolute() {
        return std::path::absolute(path).ok();
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(path)).find(|path| path.is_file())
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(one).is_some() && identity(one) == identity(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_remembered_by_the_name_it_was_called_by() {
        let own = env::current_exe().unwrap();
        assert_eq!(as_invoked(&own.clone().into_os_string()), Some(own.clone()));
        assert!(same_file(&own, &own));
        assert!(!same_file(&own, Path::new("/nowhere")));
        assert_eq!(as_invoked(&OsString::from("no-such-program-anywhere")), None);
    }
}
