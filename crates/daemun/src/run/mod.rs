//! `daemun run`: everything that runs around the data plane, from the first file read to the last connection drained.
//!
//! ```text
//! source.rs    where the configuration comes from      sockets.rs   the listening sockets, by name
//! watch/       when its files have changed             targets.rs   what happens to targets
//! signals.rs   what the operator asks for              handover.rs  a new binary takes over
//! endpoints.rs the status and admin listeners           notify.rs    the service manager is told
//! process.rs   what is running: start, reload, publish, stop
//!
//! names.rs     targets' names stay resolved            lookup.rs    name servers are asked
//! discover/    targets are found                       check/       targets are checked
//! ask.rs       servers are asked over HTTP             retry.rs     when to try again
//! outside.rs   what policies may ask of the world
//! ```

mod ask;
mod check;
pub(crate) mod discover;
mod endpoints;
pub(crate) mod handover;
mod lookup;
mod names;
mod notify;
mod outside;
pub(crate) mod process;
mod retry;
mod signals;
mod sockets;
pub(crate) mod source;
mod targets;
mod watch;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemun_dataplane::record::Events;
use daemun_dataplane::{Clock, Gateway};

use crate::cli::ConfigFile;
use crate::code::{Code, Failure};
use crate::output::Output;
use crate::panics;
use handover::Invocation;
use process::{Process, Reading, Start};
use signals::{Request, Signals};
pub(crate) use sockets::Role;
use source::{Files, Source};
use watch::Watcher;

/// Threads for what blocks: reading and compiling a configuration, asking the system for names.
const BLOCKING_THREADS: usize = 16;
/// How long the last lines of the log may take.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long the process waits at its end for what blocks.
const LAST_WORK: Duration = Duration::from_secs(1);
/// How often what nothing uses any more is forgotten.
const SWEEP: Duration = Duration::from_secs(30);

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
    panics::tell_as_events(events.clone(), LAST_LINES);
    let result = block_on(serve(source, start, output, &mut |_, _| Ok(())));
    let _ = events.flush(LAST_LINES);
    result?
}

/// Runs what is around the data plane to its end; the workers have runtimes of their own.
///
/// # Errors
/// When there is no runtime to be had.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS);
    let runtime = builder.build().map_err(|error| Failure::unavailable(format!("no runtime: {error}")))?;
    let result = runtime.block_on(work);
    // what still waits for a pipe, a file system or a name server must not keep the process
    runtime.shutdown_timeout(LAST_WORK);
    Ok(result)
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
    // beside everything else, so that it goes on while the process drains
    let follows = clock.clone();
    drop(tokio::spawn(async move { follows.follow_wall().await }));
    let mut signals = Signals::new().map_err(|error| Failure::unavailable(format!("no signals: {error}")))?;
    let reading = tokio::select! {
        reading = Reading::of(&source) => reading,
        () = signals.stop() => {
            start.events.info("stop", format_args!("ended before {} was read", source.name()));
            return Ok(Code::Done);
        }
    };
    let mut process = Process::start(source, reading, start, output).await?;
    let watcher = process.watch(None);
    process.announce_ready();
    if let Err(error) = output.line(process.ready_line()) {
        process.not_told(&error);
    }
    ready(&process, output)?;
    let gateway = process.gateway();
    Ok(Control { process, gateway, signals, watcher, clock }.run().await)
}

/// The loop that everything from outside goes through, one thing at a time.
struct Control {
    process: Process,
    gateway: Arc<Gateway>,
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
    Slow,
    Sweep,
    Successor(Result<(), String>),
    Lost(usize),
}

impl Control {
    async fn run(mut self) -> Code {
        let mut sweep = self.next_sweep();
        loop {
            let event = tokio::select! {
                request = self.signals.next() => Event::Asked(request),
                changed = changed(&mut self.watcher) => changed.map_or_else(Event::NotWatched, |()| Event::Changed),
                result = self.process.work() => result,
                () = self.clock.wait(sweep) => Event::Sweep,
                worker = self.gateway.lost() => Event::Lost(worker),
            };
            match event {
                Event::Asked(Request::Reload) => self.process.reload("SIGHUP"),
                Event::Changed => self.process.reload("a change of its files"),
                Event::NotWatched(error) => {
                    self.watcher = None;
                    self.process.not_watched(&error);
                }
                Event::Broken(why) => self.process.broken(&why),
                Event::Slow => self.process.slow(),
                Event::Asked(Request::Reopen) => self.process.reopen_logs(),
                Event::Asked(Request::HandOver) => self.process.hand_over(),
                Event::Asked(Request::Stop) => {
                    self.stop(true).await;
                    return Code::Done;
                }
                Event::Lost(worker) => {
                    self.process.lost(worker);
                    self.stop(true).await;
                    return Code::Internal;
                }
                Event::Prepared(prepared) => {
                    self.process.apply(*prepared).await;
                    self.watcher = self.process.watch(self.watcher.take());
                }
                Event::Sweep if self.clock.now() >= sweep => {
                    self.process.sweep();
                    sweep = self.next_sweep();
                }
                Event::Sweep => {}
                Event::Successor(Err(why)) => self.process.stays(&why),
                Event::Successor(Ok(())) => {
                    self.process.handed_over();
                    self.stop(false).await;
                    return Code::Done;
                }
            }
        }
    }

    fn next_sweep(&self) -> u64 {
        self.clock.now().saturating_add(u64::try_from(SWEEP.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Drains, unless told to stop once more. `last`: nobody else serves the sockets.
    async fn stop(self, last: bool) {
        let Self { mut process, mut signals, gateway, .. } = self;
        drop(gateway);
        tokio::select! {
            () = process.drain(last) => {}
            () = stopped_again(&mut signals) => process.cut_short(),
        }
        process.flush().await;
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use daemun_config::Environment;
    use daemun_sys::Inherited;

    use super::*;
    use crate::run::source::Embedded;

    /// A gateway that answers by itself.
    struct Small;

    impl Environment for Small {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }

        fn read(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
            let text = "workers: 2\naccess_log: off\nreload: signal\nlisteners: [{ bind: 127.0.0.1:0 }]\n\
                        routes: [{ name: a, match: { prefix: / }, answer: { body: hi } }]\n";
            Ok(text.as_bytes().to_vec())
        }

        fn list(&self, _: &Path) -> io::Result<Option<Vec<PathBuf>>> {
            Ok(None)
        }
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_worker_that_ends_unasked_ends_the_process_with_70() {
        let clock = Clock::system();
        let kept = Kept::default();
        let events = Events::to(clock.clone(), kept.clone()).unwrap();
        let start = Start { clock, events: events.clone(), inherited: Inherited::default(), invocation: None };
        let source = Arc::new(Embedded::new(PathBuf::from("daemun.yaml"), Small));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, color: false };
        let mut break_one = |process: &Process, _: &mut Output<'_>| {
            let gateway = process.gateway();
            drop(tokio::spawn(async move { gateway.break_worker(1).await }));
            Ok(())
        };
        let code = block_on(serve(source, start, &mut output, &mut break_one)).unwrap();
        assert_eq!(code.unwrap(), Code::Internal);
        assert!(events.flush(LAST_LINES));
        let told = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(told.contains("error stop: worker 1 ended unexpectedly"), "{told}");
    }

    #[cfg(debug_assertions)]
    #[test]
    fn the_wall_clock_is_followed_by_a_gateway_that_has_no_upstream() {
        let clock = Clock::system();
        let began = clock.wall(clock.now());
        let events = Events::to(clock.clone(), Kept::default()).unwrap();
        let start = Start { clock: clock.clone(), events, inherited: Inherited::default(), invocation: None };
        let source = Arc::new(Embedded::new(PathBuf::from("daemun.yaml"), Small));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, color: false };
        let wrong = clock.clone();
        let mut step = move |process: &Process, _: &mut Output<'_>| {
            let (gateway, clock) = (process.gateway(), wrong.clone());
            clock.set_wall(0);
            drop(tokio::spawn(async move {
                let right = async {
                    while clock.wall(clock.now()) < began {
                        tokio::task::yield_now().await;
                    }
                };
                let _ = within(&clock, Duration::from_secs(20), right).await;
                gateway.break_worker(1).await;
            }));
            Ok(())
        };
        let code = block_on(serve(source, start, &mut output, &mut step)).unwrap();
        assert_eq!(code.unwrap(), Code::Internal);
        assert!(clock.wall(clock.now()) >= began, "it was not looked at again");
    }

    /// A configuration that is read once, and after that not to its end.
    #[cfg(debug_assertions)]
    struct Stuck {
        reads: std::sync::atomic::AtomicUsize,
        begun: Arc<tokio::sync::Notify>,
        end: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    }

    #[cfg(debug_assertions)]
    impl Environment for Stuck {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }

        fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
            if self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
                self.begun.notify_one();
                let _ = self.end.lock().unwrap().recv();
            }
            Small.read(path, limit)
        }

        fn list(&self, _: &Path) -> io::Result<Option<Vec<PathBuf>>> {
            Ok(None)
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_reload_that_takes_long_is_told_and_does_not_keep_the_process() {
        let clock = Clock::manual();
        let kept = Kept::default();
        let events = Events::to(clock.clone(), kept.clone()).unwrap();
        let start = Start { clock: clock.clone(), events, inherited: Inherited::default(), invocation: None };
        let (hold, end) = std::sync::mpsc::sync_channel(1);
        let begun = Arc::new(tokio::sync::Notify::new());
        let stuck = Stuck { reads: 0.into(), begun: Arc::clone(&begun), end: end.into() };
        let source = Arc::new(Embedded::new(PathBuf::from("daemun.yaml"), stuck));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, color: false };
        let told = kept.clone();
        let mut reload = move |process: &Process, _: &mut Output<'_>| {
            let (gateway, clock, begun, told) = (process.gateway(), clock.clone(), Arc::clone(&begun), told.clone());
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
            drop(tokio::spawn(async move {
                begun.notified().await;
                clock.advance(Duration::from_secs(10));
                while !String::from_utf8_lossy(&told.0.lock().unwrap()).contains("without an end") {
                    tokio::task::yield_now().await;
                }
                gateway.break_worker(1).await;
            }));
            Ok(())
        };
        let code = block_on(serve(source, start, &mut output, &mut reload)).unwrap();
        assert_eq!(code.unwrap(), Code::Internal);
        let told = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(told.matches("`daemun.yaml` has been read for 10s without an end").count(), 1, "{told}");
        drop(hold);
    }
}
