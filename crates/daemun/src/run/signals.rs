//! The signals the process acts on. What each means is for the caller.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: finish and end; at once when asked twice.
    Stop,
    /// SIGUSR1: open log files again.
    Reopen,
    /// SIGUSR2: hand the sockets to a new binary.
    HandOver,
}

/// Signals as they arrive. From the moment this exists none of them ends the process by itself.
pub(crate) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Takes the signals over. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses, for which there is no ordinary reason.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits to be told to stop, and leaves other requests for later.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The next request. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.user1.recv() => Request::Reopen,
            _ = self.user2.recv() => Request::HandOver,
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}
