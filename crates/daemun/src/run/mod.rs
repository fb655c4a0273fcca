//! `daemun run`: everything that runs around the data plane, from the first file read to the last connection drained.
//!
//! ```text
//! source.rs    where the configuration comes from      sockets.rs   the listening sockets, by name
//! watch/       when its files have changed             resolve.rs   the targets' names
//! signals.rs   what the operator asks for              handover.rs  a new binary takes over
//! endpoints.rs the status and admin listeners           notify.rs    the service manager is told
//! process.rs   what is running: start, reload, publish, stop
//! ```

mod endpoints;
pub(crate) mod handover;
mod notify;
pub(crate) mod process;
mod resolve;
mod signals;
mod sockets;
pub(crate) mod source;
mod watch;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemun_dataplane::Clock;
use daemun_dataplane::record::Events;

use crate::cli::ConfigFile;
use crate::code::{Code, Failure};
use crate::output::Output;
use handover::Invocation;
use process::{Process, Start};
use signals::{Request, Signals};
pub(crate) use sockets::Role;
use source::{Files, Source};
use watch::Watcher;

/// Threads for what blocks: reading and compiling a configuration, looking names up.
const BLOCKING_THREADS: usize = 16;
/// How long the last lines of the log may take.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Serves until told to stop.
pub(crate) fn run(file: &ConfigFile, output: &mut Output<'_>) -> Result<Code, Failure> {
    // Before there is a second thread: see `daemun_sys::inherited`.
    let inherited = daemun_sys::inherited()
        .map_err(|error| Failure::unavailable(format!("the sockets handed over cannot be taken: {error}")))?;
    let invocation = Invocation::of_this_process()
        .map_err(|error| Failure::unavailable(format!("the path of this program is not to be found: {error}")))?;
    let clock = Clock::system();
    let events = Events::stderr(clock.clone())
        .map_err(|error| Failure::unavailable(format!("no thread for the log: {error}")))?;
    if let Err(error) = daemun_sys::raise_nofile() {
        events.warning("limits", format_args!("the limit of open files stays: {error}"));
    }
    let source = Arc::new(Files::new(file.config.clone()));
    let start = Start { clock, events: events.clone(), inherited, invocation: Some(invocation) };
    let result = runtime()?.block_on(async { serve(source, start, output, &mut |_, _| Ok(())).await });
    let _ = events.flush(LAST_LINES);
    result
}

/// The runtime around the data plane; the workers have their own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS);
    builder.build().map_err(|error| Failure::unavailable(format!("no runtime: {error}")))
}

/// Starts a gateway, says on `output` that it is ready, calls `ready`, and serves until told to stop.
///
/// # Errors
/// When it cannot start; everything there is to know has been said or is in the failure.
pub(crate) async fn serve(
    source: Arc<dyn Source>,
    start: Start,
    output: &mut Output<'_>,
    ready: &mut dyn FnMut(&Process, &mut Output<'_>) -> Result<(), Failure>,
) -> Result<Code, Failure> {
    let clock = start.clock.clone();
    let signals = Signals::new().map_err(|error| Failure::unavailable(format!("no signals: {error}")))?;
    let mut process = Process::start(source, start, output).await?;
    let watcher = process.watch(None);
    process.announce_ready();
    if let Err(error) = output.line(process.ready_line()) {
        process.not_told(&error);
    }
    ready(&process, output)?;
    Control { process, signals, watcher, clock }.run().await;
    Ok(Code::Done)
}

/// The loop that everything from outside goes through, one thing at a time.
struct Control {
    process: Process,
    signals: Signals,
    watcher: Option<Watcher>,
    clock: Clock,
}

/// What happened.
enum Event {
    Asked(Request),
    Changed,
    NotWatched(io::Error),
    Prepared(Box<process::Prepared>),
    Broken(String),
    Refresh,
    Successor(Result<(), String>),
}

impl Control {
    async fn run(mut self) {
        let mut refresh = self.next_refresh();
        loop {
            let event = tokio::select! {
                request = self.signals.next() => Event::Asked(request),
                changed = changed(&mut self.watcher) => changed.map_or_else(Event::NotWatched, |()| Event::Changed),
                result = self.process.work() => result,
                () = self.clock.wait(refresh) => Event::Refresh,
            };
            match event {
                Event::Asked(Request::Reload) => self.process.reload("SIGHUP"),
                Event::Changed => self.process.reload("a change of its files"),
                Event::NotWatched(error) => {
                    self.watcher = None;
                    self.process.not_watched(&error);
                }
                Event::Broken(why) => self.process.broken(&why),
                Event::Asked(Request::Reopen) => self.process.reopen_logs(),
                Event::Asked(Request::HandOver) => self.process.hand_over(),
                Event::Asked(Request::Stop) => return self.stop(true).await,
                Event::Prepared(prepared) => {
                    self.process.apply(*prepared).await;
                    self.watcher = self.process.watch(self.watcher.take());
                }
                Event::Refresh if self.clock.now() >= refresh => {
                    self.process.refresh();
                    refresh = self.next_refresh();
                }
                Event::Refresh => {}
                Event::Successor(Err(why)) => self.process.stays(&why),
                Event::Successor(Ok(())) => {
                    self.process.handed_over();
                    return self.stop(false).await;
                }
            }
        }
    }

    fn next_refresh(&self) -> u64 {
        self.clock.now().saturating_add(u64::try_from(resolve::REFRESH.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Drains, unless told to stop once more. `last`: nobody else serves the sockets.
    async fn stop(self, last: bool) {
        let Self { mut process, mut signals, .. } = self;
        tokio::select! {
            () = process.drain(last) => {}
            () = stopped_again(&mut signals) => process.cut_short(),
        }
        process.end(last);
    }
}

async fn stopped_again(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}

/// Waits for settled changes; without a watcher for ever.
async fn changed(watcher: &mut Option<Watcher>) -> io::Result<()> {
    match watcher {
        Some(watcher) => watcher.settled().await,
        None => std::future::pending().await,
    }
}

/// What `work` comes to, if that takes no longer than `limit`.
pub(crate) async fn within<T>(clock: &Clock, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let until = clock.now().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = clock.wait(until) => {
                if clock.now() >= until {
                    return None;
                }
            }
        }
    }
}
