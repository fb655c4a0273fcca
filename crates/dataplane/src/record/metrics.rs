//! Every counter of the process: cells that each worker writes alone, summed when somebody reads. Knows neither sockets nor the form
//! in which counters are shown.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use daemun_pipeline::Reason;

use super::cells::{Cell, RouteCells, RouteSum, TargetMetrics, TargetSum};
use super::events::Events;
use super::ring::RING_SLOTS;
use super::upstream::{UpstreamCells, UpstreamNames, UpstreamSum};
use super::{PolicyVerdict, Recorder, render};
use crate::destination::upstream::choice::UpstreamStatus;

/// Routes, and targets, that have counters of their own; the others of each share one.
pub const MOST_NAMES: usize = 2_000;

/// Policies that are counted.
pub const MOST_POLICIES: usize = 64;

/// What the process knows of itself when it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Names of all policies, in the order of the registry; those beyond [`MOST_POLICIES`] are not
    /// counted. [`super::Finished::verdicts`] points into it.
    pub policies: Vec<&'static str>,
    /// Version of the binary.
    pub version: &'static str,
    /// Commit it was built from.
    pub commit: &'static str,
    /// Wall-clock time of the start, nanoseconds since the Unix epoch.
    pub started: u64,
}

/// Counters of one worker that belong to no route and no target.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct WorkerCells {
    pub(super) faults: [Cell; Reason::ALL.len()],
    pub(super) bad_heads: [Cell; Reason::ALL.len()],
    pub(super) verdicts: [[Cell; PolicyVerdict::ALL.len()]; MOST_POLICIES],
    pub(super) accepted: Cell,
    pub(super) closed: Cell,
    pub(super) refused: Cell,
    pub(super) failed_handshakes: Cell,
    pub(super) unnamed: Cell,
}

impl WorkerCells {
    fn new() -> WorkerCells {
        WorkerCells {
            faults: std::array::from_fn(|_| Cell::default()),
            bad_heads: std::array::from_fn(|_| Cell::default()),
            verdicts: std::array::from_fn(|_| std::array::from_fn(|_| Cell::default())),
            accepted: Cell::default(),
            closed: Cell::default(),
            refused: Cell::default(),
            failed_handshakes: Cell::default(),
            unnamed: Cell::default(),
        }
    }
}

/// Lines an access log could not write; written by any thread, rarely.
#[derive(Debug, Default)]
pub struct LogCounters {
    pub(super) lost_lines: AtomicU64,
    pub(super) write_errors: AtomicU64,
}

/// What reloads came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reloads {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) last_succeeded: bool,
    pub(super) generation: u64,
    pub(super) last_success: u64,
}

/// What accounts count, which are not the data plane's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfAccounts {
    /// Tokens that there are.
    pub tokens: usize,
    /// Passwords of users that were hashed.
    pub hashes: u64,
    /// Passwords of users that directories were asked about.
    pub binds: u64,
}

/// All counters of the process.
#[derive(Debug)]
pub struct Metrics {
    pub(super) setup: Setup,
    pub(super) workers: Box<[WorkerCells]>,
    /// Requests without a route, and answers to what never became a request.
    pub(super) unrouted: RouteCells,
    routes: Mutex<Names<Box<str>, RouteCells>>,
    targets: Mutex<Names<TargetName, TargetMetrics>>,
    upstreams: Mutex<UpstreamNames>,
    pub(super) log: Arc<LogCounters>,
    events: OnceLock<Events>,
    reloads: Mutex<Reloads>,
}

impl Metrics {
    /// The counters of a process, and the one recorder of each of its workers.
    #[must_use]
    pub fn new(mut setup: Setup) -> (Arc<Metrics>, Vec<Recorder>) {
        setup.workers = setup.workers.max(1);
        let workers = setup.workers;
        let metrics = Arc::new(Metrics {
            workers: (0..workers).map(|_| WorkerCells::new()).collect(),
            unrouted: RouteCells::new(workers),
            routes: Mutex::new(Names::new(|| RouteCells::new(workers))),
            targets: Mutex::new(Names::new(|| TargetMetrics::new(workers))),
            upstreams: Mutex::default(),
            log: Arc::default(),
            events: OnceLock::new(),
            reloads: Mutex::default(),
            setup,
        });
        let recorders = (0..workers).map(|worker| Recorder::new(Arc::clone(&metrics), worker)).collect();
        (metrics, recorders)
    }

    /// Lets what changes about upstreams and listeners be told here as well, which is said once. Without it nothing is told.
    pub fn tell_to(&self, events: Events) {
        let _ = self.events.set(events);
    }

    /// Where such changes are told.
    pub(crate) fn events(&self) -> Option<&Events> {
        self.events.get()
    }

    /// The counters of a route: those it had before, if it is still known; fresh ones while fewer than [`MOST_NAMES`] are known; else
    /// those that all further routes share. One lookup in a table.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteCells> {
        let workers = self.setup.workers;
        lock(&self.routes).get(name, || (name.into(), RouteCells::new(workers)))
    }

    /// The counters of a target, kept and bounded like those of a route. `url` is the target as written.
    #[must_use]
    pub fn target(&self, upstream: &str, url: &str) -> Arc<TargetMetrics> {
        let workers = self.setup.workers;
        let name = TargetName { upstream: upstream.into(), url: url.into() };
        let mut targets = lock(&self.targets);
        targets.get(&name, || (name.clone(), TargetMetrics::new(workers)))
    }

    /// The counts of an upstream as a whole, kept like those of a route.
    pub(crate) fn upstream(&self, name: &str) -> Arc<UpstreamCells> {
        lock(&self.upstreams).get(name)
    }

    /// Forgets routes and targets that no snapshot uses any more and makes room for others; what they counted stays in the sums. To be
    /// called after an old snapshot was dropped; [`Metrics::render`] does it as well.
    pub fn sweep(&self) {
        lock(&self.routes).sweep(|gone, cells| gone.absorb(&cells.sum()));
        lock(&self.targets).sweep(|gone, cells| gone.absorb(&cells.sum()));
        lock(&self.upstreams).sweep();
    }

    /// A configuration was published: its number, counted from 1, and the wall-clock time in nanoseconds since the Unix epoch.
    /// The first one, at the start, is no reload.
    pub fn published(&self, generation: u64, wall: u64) {
        let mut reloads = lock(&self.reloads);
        if generation > 1 {
            reloads.succeeded += 1;
        }
        reloads.last_succeeded = true;
        reloads.generation = generation;
        reloads.last_success = wall;
    }

    /// A configuration was refused, and the running one stays.
    pub fn reload_failed(&self) {
        let mut reloads = lock(&self.reloads);
        reloads.failed += 1;
        reloads.last_succeeded = false;
    }

    /// The counters an access log's writer needs.
    #[must_use]
    pub fn log_counters(&self) -> Arc<LogCounters> {
        Arc::clone(&self.log)
    }

    /// Everything as Prometheus text, version 0.0.4. Locks nothing a worker needs.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(&[], &OfAccounts::default())
    }

    /// The same, and how these upstreams stand, and what accounts count.
    #[must_use]
    pub fn render_with(&self, upstreams: &[UpstreamStatus], accounts: &OfAccounts) -> String {
        let text = render::render(self, upstreams, accounts);
        self.sweep();
        text
    }

    /// Requests each worker keeps for [`Recorder::find`] and [`Recorder::latest`].
    #[must_use]
    pub fn ring_size(&self) -> usize {
        RING_SLOTS
    }

    /// Sums per route, by name, then those of no name of their own.
    pub(super) fn route_sums(&self) -> Vec<(Box<str>, RouteSum)> {
        let mut sums = lock(&self.routes).all().map(|(name, cells)| (name, cells.sum()));
        sums.push(("(none)".into(), self.unrouted.sum()));
        sums
    }

    /// Sums per target, by upstream and URL, then those of no name of their own.
    pub(super) fn target_sums(&self) -> Vec<(TargetName, TargetSum)> {
        lock(&self.targets).all().map(|(name, cells)| (name, cells.sum()))
    }

    /// What there is of admissions, by upstream.
    pub(super) fn upstream_sums(&self) -> Vec<(Box<str>, UpstreamSum)> {
        lock(&self.upstreams).sums()
    }

    pub(super) fn reloads(&self) -> Reloads {
        *lock(&self.reloads)
    }
}

/// Which target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TargetName {
    pub(super) upstream: Box<str>,
    pub(super) url: Box<str>,
}

/// What stands for all names beyond [`MOST_NAMES`], and for those forgotten.
trait Shared {
    fn other() -> Self;
    fn removed() -> Self;
}

impl Shared for Box<str> {
    fn other() -> Self {
        "(other)".into()
    }

    fn removed() -> Self {
        "(removed)".into()
    }
}

impl Shared for TargetName {
    fn other() -> Self {
        TargetName { upstream: "(other)".into(), url: "(other)".into() }
    }

    fn removed() -> Self {
        TargetName { upstream: "(removed)".into(), url: "(removed)".into() }
    }
}

/// Counters by name, at most [`MOST_NAMES`] of them.
#[derive(Debug)]
struct Names<K, C> {
    known: HashMap<K, Arc<C>>,
    other: Arc<C>,
    /// What forgotten names had counted: sums never shrink.
    removed: Arc<C>,
}

impl<K: Eq + Hash + Ord + Clone + Shared, C> Names<K, C> {
    fn new(make: impl Fn() -> C) -> Names<K, C> {
        Names { known: HashMap::new(), other: Arc::new(make()), removed: Arc::new(make()) }
    }

    fn get<Q>(&mut self, name: &Q, make: impl FnOnce() -> (K, C)) -> Arc<C>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= MOST_NAMES {
            return Arc::clone(&self.other);
        }
        let (name, cells) = make();
        let cells = Arc::new(cells);
        self.known.insert(name, Arc::clone(&cells));
        cells
    }

    /// Under the lock no other reference can appear, and `get_mut` waits for what the last user wrote.
    fn sweep(&mut self, absorb: impl Fn(&C, &C)) {
        let Names { known, removed, .. } = self;
        known.retain(|_, cells| match Arc::get_mut(cells) {
            Some(unused) => {
                absorb(removed, unused);
                false
            }
            None => true,
        });
    }

    fn all(&self) -> Listed<K, C> {
        let mut listed: Vec<(K, Arc<C>)> =
            self.known.iter().map(|(name, cells)| (name.clone(), Arc::clone(cells))).collect();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        listed.push((K::other(), Arc::clone(&self.other)));
        listed.push((K::removed(), Arc::clone(&self.removed)));
        Listed(listed)
    }
}

/// Names and their counters, held without the lock.
struct Listed<K, C>(Vec<(K, Arc<C>)>);

impl<K, C> Listed<K, C> {
    fn map<T>(self, of: impl Fn((K, &C)) -> T) -> Vec<T> {
        self.0.into_iter().map(|(name, cells)| of((name, &*cells))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
