//! What is running: the data plane, its sockets and its configuration, and the steps that change them. One step at a time; which
//! is next is for [`super`] to say.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemun_accounts::Accounts;
use daemun_accounts::store::{Durability, Sqlite, StoreError};
use daemun_config::Loaded;
use daemun_config::model::{Config, LogTarget, Reload, StoreConfig};
use daemun_config::tree::Sources;
use daemun_dataplane::record::{AccessLog, Events, Metrics};
use daemun_dataplane::{Clock, Gateway, IdSource, Options, Snapshot};
use daemun_pipeline::{Carry, World};
use daemun_sys::Inherited;
use tokio::task::JoinHandle;

use super::Event;
use super::endpoints::Endpoints;
use super::handover::{Invocation, Starting};
use super::notify;
use super::outside::Outside;
use super::sockets::{Key, Refused, Role, Table};
use super::source::Source;
use super::targets::{Coming, Targets};
use super::watch::{self, Watcher};
use crate::code::Failure;
use crate::configuration::{Compiled, setup};
use crate::output::{Output, count};

/// How long the access log may take to write its last lines.
const LAST_LINES: Duration = Duration::from_secs(5);
/// How long a configuration may be read before that is told.
const SLOW: Duration = Duration::from_secs(10);

/// What a process is started with.
pub(crate) struct Start {
    /// Time.
    pub(crate) clock: Clock,
    /// The gateway's own log.
    pub(crate) events: Events,
    /// What a predecessor left.
    pub(crate) inherited: Inherited,
    /// How to start a successor; `None` where there can be none.
    pub(crate) invocation: Option<Invocation>,
}

/// What a configuration holds, and when that began to be read.
pub(crate) struct Reading {
    began: watch::Moment,
    loaded: Loaded,
}

impl Reading {
    /// Reads it. Waits elsewhere for a pipe, so that signals are heard.
    pub(crate) async fn of(source: &Arc<dyn Source>) -> Self {
        let began = watch::Moment::now();
        let loaded = if source.is_pipe() {
            let source = Arc::clone(source);
            blocking(move || source.load()).await
        } else {
            source.load()
        };
        Self { began, loaded }
    }
}

/// A running gateway.
pub(crate) struct Process {
    source: Arc<dyn Source>,
    clock: Clock,
    events: Events,
    metrics: Arc<Metrics>,
    carry: Arc<Carry>,
    world: Arc<dyn World>,
    accounts: Arc<Accounts>,
    gateway: Arc<Gateway>,
    sockets: Table,
    endpoints: Endpoints,
    targets: Arc<Targets>,
    log: Option<AccessLog>,
    running: Running,
    generation: u64,
    /// What the configuration was last read from, sound or not.
    read: Read,
    /// What the running one was read from.
    files: Vec<PathBuf>,
    preparing: Option<JoinHandle<Prepared>>,
    /// When that takes long.
    slow_at: Option<u64>,
    /// Why to read the configuration once more when that is done.
    again: Option<&'static str>,
    /// Whether to hand over when that is done.
    hand_over_next: bool,
    starting: Option<Starting>,
    invocation: Option<Invocation>,
    predecessor: Option<OwnedFd>,
}

/// What of the running configuration is needed later.
struct Running {
    schemes: Vec<&'static str>,
    drain: Duration,
    reload: Reload,
    workers: Option<usize>,
    store: Option<StoreConfig>,
}

impl Running {
    fn of(config: &Config) -> Self {
        let scheme = |tls: bool| if tls { "https" } else { "http" };
        Self {
            schemes: config.listeners.iter().map(|listener| scheme(listener.tls.is_some())).collect(),
            drain: config.timeouts.drain,
            reload: config.reload,
            workers: config.workers,
            store: config.store.clone(),
        }
    }
}

/// What a configuration was read from, and when that began.
struct Read {
    began: watch::Moment,
    files: Vec<PathBuf>,
    sources: Sources,
}

/// A configuration that was read anew, and compiled if it is sound.
pub(crate) struct Prepared {
    compiled: Compiled,
    targets: Coming,
    began: watch::Moment,
    started: u64,
    reason: &'static str,
}

impl Process {
    /// Compiles what was read, opens sockets, starts the workers. Findings go to `output`.
    ///
    /// # Errors
    /// What prevents it.
    pub(crate) async fn start(
        source: Arc<dyn Source>,
        reading: Reading,
        start: Start,
        output: &mut Output<'_>,
    ) -> Result<Self, Failure> {
        let Start { clock, events, inherited, invocation } = start;
        let Reading { began, loaded } = reading;
        let workers = workers(loaded.config.as_ref());
        let (metrics, recorders) = Metrics::new(setup(workers, clock.wall(clock.now())));
        metrics.tell_to(events.clone());
        let carry = Arc::new(Carry::default());
        let world = Outside::start(clock.clone(), events.clone())
            .map_err(|error| Failure::unavailable(format!("no threads for computing: {error}")))?;
        let accounts = kept_accounts(&carry, loaded.config.as_ref(), &clock, &events)?;
        let mut compiled = Compiled::new(loaded, &carry, &world, &metrics);
        let (config, snapshot) = compiled.sound(output)?;
        let read = Read { began, files: compiled.files, sources: compiled.sources };

        let (mut table, unknown) = Table::inherit(inherited.sockets);
        for name in unknown {
            events.warning(
                "hand_over",
                format_args!("the socket `{name}` that was handed over is of no use, and was closed"),
            );
        }
        table.widen(workers);
        let sockets = table.open(keys(&config), workers).map_err(|refused| unavailable(&refused))?;
        let log = open_log(&config, None, &metrics, &events).map_err(Failure::unavailable)?;
        for recorder in &recorders {
            recorder.use_log(log.clone());
        }
        let targets = Targets::new(clock.clone(), events.clone());
        let coming = targets.prepare(&config, &snapshot).await;
        let per_worker = sockets.per_worker(workers, None).map_err(|error| Failure::unavailable(error.to_string()))?;
        let options = Options { clock: clock.clone(), ids: IdSource::random(), recorders };
        declare(&accounts, &snapshot, &events);
        let gateway = Gateway::start(Arc::new(snapshot), per_worker, options)
            .map_err(|error| Failure::unavailable(format!("the workers cannot be started: {error}")))?;
        let gateway = Arc::new(gateway);
        targets.publish(coming, &gateway.snapshot());
        let mut endpoints = Endpoints::new(
            Arc::clone(&gateway),
            Arc::clone(&metrics),
            Arc::clone(&accounts),
            clock.clone(),
            events.clone(),
        );
        endpoints.serve(&sockets).map_err(|error| Failure::unavailable(error.to_string()))?;
        metrics.published(1, clock.wall(clock.now()));
        Ok(Self {
            source,
            clock: clock.clone(),
            events: events.clone(),
            metrics,
            carry,
            world,
            accounts,
            gateway,
            sockets,
            endpoints,
            targets: Arc::new(targets),
            log,
            running: Running::of(&config),
            generation: 1,
            files: read.files.clone(),
            read,
            preparing: None,
            slow_at: None,
            again: None,
            hand_over_next: false,
            starting: None,
            invocation,
            predecessor: inherited.ready,
        })
    }

    /// The line that says it is ready, with every address: listeners, then status, then admin.
    pub(crate) fn ready_line(&self) -> String {
        let mut line = "daemun ready".to_owned();
        let mut schemes = self.running.schemes.iter();
        for bound in self.sockets.iter() {
            line.push(' ');
            line.push_str(&match bound.key.role {
                Role::Listener => bound.url(schemes.next().copied().unwrap_or("http")),
                Role::Status => format!("status={}", bound.url("http")),
                Role::Admin => format!("admin={}", bound.url("http")),
            });
        }
        line
    }

    /// The data plane.
    pub(crate) fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.gateway)
    }

    /// A worker has ended though nobody asked it to: with fewer of them nothing would be as configured, so the process ends.
    pub(crate) fn lost(&self, worker: usize) {
        self.events.error(
            "stop",
            format_args!(
                "worker {worker} ended unexpectedly: the others end what they have begun, then the process ends"
            ),
        );
    }

    /// The URL of the first address of a kind.
    pub(crate) fn url(&self, role: Role) -> Option<String> {
        self.sockets.iter().find(|bound| bound.key.role == role).map(|bound| bound.url("http"))
    }

    /// Lets `/readyz` succeed, and a predecessor know that it may go.
    pub(crate) fn announce_ready(&mut self) {
        self.endpoints.set_ready(true);
        self.notified(notify::ready());
        if let Some(predecessor) = self.predecessor.take()
            && let Err(error) = daemun_sys::announce_ready(predecessor)
        {
            self.events
                .warning("hand_over", format_args!("the old process cannot be told that this one serves: {error}"));
        }
    }

    fn notified(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.events.warning("notify", format_args!("the service manager cannot be told: {error}"));
        }
    }

    /// Nobody reads the ready line; that is no reason not to serve.
    pub(crate) fn not_told(&self, error: &io::Error) {
        self.events
            .warning("ready", format_args!("`{}` could not be written to standard output: {error}", self.ready_line()));
    }

    /// What is under way and comes to something first. May be dropped and called again.
    pub(super) async fn work(&mut self) -> Event {
        let clock = self.clock.clone();
        tokio::select! {
            prepared = under_way(&mut self.preparing) => {
                self.preparing = None;
                self.slow_at = None;
                match prepared {
                    Ok(prepared) => Event::Prepared(Box::new(prepared)),
                    Err(error) => Event::Broken(error.to_string()),
                }
            }
            result = successor(&mut self.starting, &clock) => Event::Successor(result),
            () = due(&clock, self.slow_at) => Event::Slow,
        }
    }

    /// Begins to read the configuration again, because of `reason`; once more when that is under way already.
    pub(crate) fn reload(&mut self, reason: &'static str) {
        if self.preparing.is_some() || self.starting.is_some() {
            self.again = Some(reason);
            return;
        }
        let (source, carry, metrics) = (Arc::clone(&self.source), Arc::clone(&self.carry), Arc::clone(&self.metrics));
        let (targets, world, clock) = (Arc::clone(&self.targets), Arc::clone(&self.world), self.clock.clone());
        self.slow_at = Some(clock.now().saturating_add(u64::try_from(SLOW.as_nanos()).unwrap_or(u64::MAX)));
        self.preparing = Some(tokio::spawn(async move {
            let (began, started) = (watch::Moment::now(), clock.now());
            let compiled = blocking(move || Compiled::new(source.load(), &carry, &world, &metrics)).await;
            let targets = match &compiled.sound {
                Some((config, snapshot)) => targets.prepare(config, snapshot).await,
                None => Coming::default(),
            };
            Prepared { compiled, targets, began, started, reason }
        }));
    }

    /// Publishes what was prepared, if it is sound and its sockets are to be had; else everything stays as it is.
    pub(crate) async fn apply(&mut self, prepared: Prepared) {
        let Prepared { mut compiled, targets, began, started, reason } = prepared;
        let report = compiled.report(false);
        self.read =
            Read { began, files: std::mem::take(&mut compiled.files), sources: std::mem::take(&mut compiled.sources) };
        let (errors, warnings) = counts(&compiled);
        let outcome = match compiled.sound {
            Some((config, snapshot)) => self.publish(&config, snapshot, targets).await,
            None => Err(format!("it has {}", count(errors, "error"))),
        };
        let name = self.source.name();
        match outcome {
            Ok(routes) => {
                let routes = count(routes, "route");
                let ms = self.clock.now().saturating_sub(started) / 1_000_000;
                let generation = self.generation;
                let noted = if warnings > 0 { format!(", with {}", count(warnings, "warning")) } else { String::new() };
                self.events.info(
                    "reload",
                    format_args!("{name} was read again after {reason}: {routes}, number {generation}, {ms} ms{noted}"),
                );
            }
            Err(why) => {
                self.metrics.reload_failed();
                self.events.error(
                    "reload",
                    format_args!(
                        "{name} was read again after {reason} and is refused: {why}; the running configuration stays"
                    ),
                );
            }
        }
        self.show(report);
        self.next();
    }

    /// Says so, once, when reading takes long.
    pub(super) fn slow(&mut self) {
        if self.slow_at.take_if(|moment| *moment <= self.clock.now()).is_some() {
            let name = self.source.name();
            self.events.warning(
                "reload",
                format_args!(
                    "{name} has been read for {SLOW:?} without an end; the running configuration stays meanwhile"
                ),
            );
        }
    }

    /// Reading or compiling has failed in a way it should not.
    pub(crate) fn broken(&mut self, why: &str) {
        self.metrics.reload_failed();
        self.events.error(
            "reload",
            format_args!("reading the configuration has failed: {why}; the running configuration stays"),
        );
        self.next();
    }

    /// Does what had to wait.
    fn next(&mut self) {
        if let Some(reason) = self.again.take() {
            self.reload(reason);
        } else if std::mem::take(&mut self.hand_over_next) {
            self.hand_over();
        }
    }

    async fn publish(&mut self, config: &Config, snapshot: Snapshot, targets: Coming) -> Result<usize, String> {
        let workers = self.gateway.workers();
        if config.workers != self.running.workers {
            self.events.warning("workers", format_args!("the number of workers stays {workers} until a restart"));
        }
        if self.accounts.is_kept() && config.store != self.running.store {
            self.events.warning("store", format_args!("the store stays what it was until a restart"));
        }
        keep(&self.accounts, config, &self.clock, &self.events)?;
        let sockets = self.sockets.open(keys(config), workers).map_err(|refused| messages(&refused).join("; "))?;
        let log = open_log(config, self.log.as_ref(), &self.metrics, &self.events)?;
        let per_worker = sockets.per_worker(workers, Some(&self.sockets)).map_err(|error| error.to_string())?;
        self.endpoints.serve(&sockets).map_err(|error| error.to_string())?;
        // From here on nothing fails. What is no longer listened on is closed here before the workers close theirs, so that theirs,
        // which are emptied first, are the last.
        let before = std::mem::replace(&mut self.sockets, sockets);
        for gone in before.iter().filter(|bound| !self.sockets.has(bound)) {
            gone.remove_file();
            self.events.info("listen", format_args!("no longer on {} ({})", gone.url("tcp"), gone.key.role.as_str()));
        }
        for fresh in self.sockets.iter().filter(|bound| !before.has(bound)) {
            self.events
                .info("listen", format_args!("from now on at {} ({})", fresh.url("tcp"), fresh.key.role.as_str()));
        }
        drop(before);
        let snapshot = Arc::new(snapshot);
        self.accounts.declare(snapshot.logins(), true);
        self.gateway.publish(Arc::clone(&snapshot), per_worker).await;
        declare(&self.accounts, &snapshot, &self.events);
        self.targets.publish(targets, &snapshot);
        drop(snapshot);
        self.gateway.use_log(log.clone()).await;
        self.log = log;
        self.running = Running::of(config);
        self.files.clone_from(&self.read.files);
        self.generation += 1;
        self.metrics.published(self.generation, self.clock.wall(self.clock.now()));
        Ok(config.routes.len())
    }

    /// Writes findings to standard error, whole, without waiting for who reads it.
    fn show(&self, report: String) {
        if report.is_empty() {
            return;
        }
        let events = self.events.clone();
        drop(tokio::task::spawn_blocking(move || {
            let _ = events.flush(LAST_LINES);
            let _ = io::stderr().lock().write_all(report.as_bytes());
        }));
    }

    /// A watcher of everything that was read, if the configuration wants one.
    pub(crate) fn watch(&mut self, watcher: Option<Watcher>) -> Option<Watcher> {
        let sources = std::mem::take(&mut self.read.sources);
        if self.running.reload == Reload::Signal {
            return None;
        }
        let watcher = watcher.map_or_else(|| Watcher::new(self.clock.clone()), Ok);
        let mut watcher = watcher.inspect_err(|error| self.not_watched(error)).ok()?;
        let files: Vec<PathBuf> = self.read.files.iter().chain(&self.files).cloned().collect();
        if let Err(error) = watcher.watch(&files) {
            self.not_watched(&error);
        }
        // Nobody looked at new files between reading them and watching them.
        let read = &self.read;
        if read.files.iter().any(|file| watch::changed_since(file, &read.began, &sources)) {
            watcher.suspect();
        }
        Some(watcher)
    }

    /// Says that changes are not noticed, or not all.
    pub(crate) fn not_watched(&self, error: &io::Error) {
        self.events.warning("watch", format_args!("{error}; SIGHUP still reloads"));
    }

    /// Forgets what no snapshot uses any more.
    pub(crate) fn sweep(&self) {
        self.carry.sweep();
        self.metrics.sweep();
    }

    /// Has log files opened again.
    pub(crate) fn reopen_logs(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
        self.events.info("logs", format_args!("log files are being opened again"));
    }

    /// Starts a new binary with this process's sockets.
    pub(crate) fn hand_over(&mut self) {
        let Some(invocation) = &self.invocation else {
            self.events.warning("hand_over", format_args!("this process cannot be handed over"));
            return;
        };
        if let Some(starting) = &self.starting {
            self.events.warning("hand_over", format_args!("process {} is about to take over already", starting.id()));
            return;
        }
        if self.preparing.is_some() {
            // The sockets may change under it.
            self.events.info("hand_over", format_args!("the hand-over waits for the reload that is under way"));
            self.hand_over_next = true;
            return;
        }
        let program = invocation.program().display();
        match invocation.start(&self.sockets.named(), &self.clock) {
            Ok(starting) => {
                self.events.info(
                    "hand_over",
                    format_args!("`{program}` was started as process {} to take over", starting.id()),
                );
                self.starting = Some(starting);
                Accounts::of(&self.carry).expect_others();
            }
            Err(error) => self
                .events
                .error("hand_over", format_args!("`{program}` cannot be started: {error}; this process serves on")),
        }
    }

    /// The new process does not serve; this one goes on.
    pub(crate) fn stays(&mut self, why: &str) {
        if let Some(starting) = self.starting.take() {
            self.events.error(
                "hand_over",
                format_args!("process {} does not take over: {why}; this process serves on", starting.id()),
            );
        }
        self.next();
    }

    /// The new process serves; this one may go.
    pub(crate) fn handed_over(&mut self) {
        if let Some(starting) = self.starting.take() {
            self.events.info("hand_over", format_args!("process {} has taken over; this one drains", starting.id()));
        }
    }

    /// Fails `/readyz`, stops accepting and lets every exchange end, for as long as `timeouts.drain` says. `last`: nobody else
    /// serves the sockets, so that what is queued on them is accepted first.
    pub(crate) async fn drain(&mut self, last: bool) {
        self.endpoints.set_ready(false);
        if let Some(mut starting) = self.starting.take() {
            starting.end();
        }
        if last {
            self.notified(notify::stopping());
            self.events.info("stop", format_args!("draining for {:?} at most", self.running.drain));
            self.sockets.iter().filter(|bound| bound.key.role == Role::Listener).for_each(|bound| bound.remove_file());
        } else {
            self.endpoints.stop();
        }
        // The workers' copies are the last, and are emptied before they are closed.
        self.sockets.close(Role::Listener);
        self.gateway.stop_accepting(last).await;
        let cut = self.gateway.drain(self.running.drain).await;
        if cut > 0 {
            self.events.warning("stop", format_args!("{cut} connections were cut after {:?}", self.running.drain));
        }
        self.endpoints.stop();
        self.endpoints.ended().await;
    }

    /// Writes what was counted and is not written yet: nobody is served any more, or has to be cut.
    pub(crate) async fn flush(&self) {
        self.accounts.flush().await;
    }

    /// Says that connections are cut, because somebody could not wait.
    pub(crate) fn cut_short(&self) {
        self.events.warning("stop", format_args!("told to stop again: connections are cut"));
    }

    /// Writes the last lines of the access log. The process ends after this.
    pub(crate) fn end(mut self, last: bool) {
        self.endpoints.stop();
        if last {
            self.sockets.iter().for_each(|bound| bound.remove_file());
        }
        if let Some(log) = self.log.take()
            && !log.close(LAST_LINES)
        {
            self.events.warning("access_log", format_args!("the last lines could not be written in {LAST_LINES:?}"));
        }
        self.events.info("stop", format_args!("ended"));
    }
}

/// The accounts, kept where the configuration says.
fn kept_accounts(
    carry: &Carry,
    config: Option<&Config>,
    clock: &Clock,
    events: &Events,
) -> Result<Arc<Accounts>, Failure> {
    let accounts = Accounts::of(carry);
    if let Some(config) = config {
        keep(&accounts, config, clock, events).map_err(Failure::unavailable)?;
    }
    Ok(accounts)
}

/// Says what the configuration has of credentials and plans; tells of consumers of the store that are on plans which are nowhere, or have
/// names of the configuration.
fn declare(accounts: &Accounts, snapshot: &Snapshot, events: &Events) {
    accounts.declare(snapshot.logins(), false);
    for (consumer, plan) in accounts.declare_plans(snapshot.plans()) {
        events.warning(
            "plan",
            format_args!(
                "consumer `{consumer}` of the store is on plan `{plan}`, which neither the configuration nor the store has: its calls \
                 are refused until `{plan}` is there, or it is put on another one"
            ),
        );
    }
    let taken = accounts.names_taken(snapshot.consumer_names(), snapshot.user_names());
    if taken.is_empty() {
        return;
    }
    let mut told = taken.iter().take(NAMES).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if taken.len() > NAMES {
        told = format!("{told} and {} more", taken.len() - NAMES);
    }
    events.warning(
        "names",
        format_args!(
            "the configuration and the store both have {told}: what the store has of them is good for nothing, and a user with the name of \
             a consumer of the store cannot log in; `GET /consumers/NAME` of the admin listener shows it and says how to remove it, or take \
             another name in the configuration"
        ),
    );
}

/// Names that are told at once.
const NAMES: usize = 5;

/// Bytes of a store whose callers are found as fast in small pages; those of larger ones lie too far apart.
const SMALL_STORE: u64 = 32 << 20;

/// Opens the store, where there is one and it is not open yet, and has the accounts kept there. Without one they are kept in memory, where
/// what has ended is forgotten.
fn keep(accounts: &Arc<Accounts>, config: &Config, clock: &Clock, events: &Events) -> Result<(), String> {
    if accounts.is_kept() {
        return Ok(());
    }
    let (clock, events) = (clock.clone(), events.clone());
    let now = move || clock.wall(clock.now()) / 1_000_000;
    let store = config.store.as_ref().and_then(|store| Some((store.path.as_ref()?, store.power)));
    let Some((path, power)) = store else {
        return match config.tokens.is_empty() {
            true => Ok(()),
            false => accounts.forget_alone(now).map_err(|error| format!("no thread: {error}")),
        };
    };
    let durability = if power { Durability::Power } else { Durability::Process };
    let failed = |error: StoreError| format!("the store cannot be opened: {error}");
    // before anything of it is in memory
    if path.metadata().is_ok_and(|found| found.len() > SMALL_STORE) {
        daemun_sys::allow_huge_pages(true);
    }
    let store = Sqlite::open(path, durability).map_err(failed)?;
    accounts.keep_in(Box::new(store), now, move |what| events.error("store", format_args!("{what}"))).map_err(failed)
}

/// Does what blocks on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits for a moment; for ever when there is none.
async fn due(clock: &Clock, moment: Option<u64>) {
    match moment {
        Some(moment) => clock.wait(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for what is under way; for ever when nothing is.
async fn under_way<T>(work: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn successor(starting: &mut Option<Starting>, clock: &Clock) -> Result<(), String> {
    match starting {
        Some(starting) => starting.serves(clock).await,
        None => std::future::pending().await,
    }
}

/// Worker threads: as configured, or one per core, as far as this process may use them.
fn workers(config: Option<&Config>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config.and_then(|config| config.workers).unwrap_or_else(cores)
}

/// The addresses of a configuration: listeners, then status, then admin.
fn keys(config: &Config) -> Vec<Key> {
    let listeners = config.listeners.iter().map(|listener| (Role::Listener, listener.bind.value.clone()));
    let status = config.status.iter().map(|bind| (Role::Status, bind.value.clone()));
    let admin = config.admin.iter().map(|bind| (Role::Admin, bind.value.clone()));
    Key::number(listeners.chain(status).chain(admin))
}

fn open_log(
    config: &Config,
    previous: Option<&AccessLog>,
    metrics: &Metrics,
    events: &Events,
) -> Result<Option<AccessLog>, String> {
    let Some(wanted) = &config.access_log else { return Ok(None) };
    let opened = AccessLog::open(wanted, previous, metrics.log_counters(), events);
    let target = match &wanted.to {
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::File(path) => format!("`{}`", path.display()),
    };
    opened.map(Some).map_err(|error| format!("the access log cannot be written to {target}: {error}"))
}

fn messages(refused: &[Refused]) -> Vec<String> {
    refused.iter().map(Refused::message).collect()
}

fn unavailable(refused: &[Refused]) -> Failure {
    Failure::unavailable(messages(refused).join("\nerror: "))
}

fn counts(compiled: &Compiled) -> (usize, usize) {
    let errors = compiled.diagnostics.error_count();
    (errors, compiled.diagnostics.len() - errors)
}
