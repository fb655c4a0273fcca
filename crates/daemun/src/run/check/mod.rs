//! Checks targets now and then, and tells their state what that came to. From the publishing of a configuration that asks for it until
//! one without it is published; a reload that leaves the settings as they are leaves the checks running.
//!
//! A target that is new gets calls at once, unless and until so many checks of it failed as make one unhealthy.

mod grpc;
mod probe;
mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemun_config::model::{HealthCheck, TargetAddress};
use daemun_dataplane::record::Events;
use daemun_dataplane::{Clock, Target, Upstream, Verdict};
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinSet};

use super::ask::Held;
use super::discover::World;
use super::names::until;
use super::retry::chance;
use super::within;
use crate::output::count;
use probe::Prober;
use schedule::{Changed, Schedule, Settings};

/// Checks of one upstream that are under way at once.
const AT_ONCE: usize = 64;

/// What tells a target from others: where it is, and whether that is over TLS.
type Key = (TargetKey, bool);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TargetKey {
    Tcp(String, u16),
    Unix(std::path::PathBuf),
}

/// Checks the targets of one upstream until it is let go.
pub(super) struct Checker {
    settings: HealthCheck,
    shared: Arc<Shared>,
    events: Events,
    _task: Held,
}

struct Shared {
    upstream: Mutex<Arc<Upstream>>,
    changed: Notify,
}

impl Checker {
    /// Begins to check.
    pub(super) fn start(settings: &HealthCheck, upstream: Arc<Upstream>, world: &World) -> Self {
        let shared = Arc::new(Shared { upstream: Mutex::new(upstream), changed: Notify::new() });
        let run = Run {
            shared: Arc::clone(&shared),
            clock: world.clock.clone(),
            events: world.events.clone(),
            targets: world.names.changes(),
            prober: Arc::new(Prober::new(settings)),
            settings: settings.clone(),
        };
        let task = tokio::spawn(async move { run.run().await });
        Self { settings: settings.clone(), shared, events: world.events.clone(), _task: Held::new(task) }
    }

    /// Whether it checks what these settings ask for.
    pub(super) fn is(&self, settings: &HealthCheck) -> bool {
        self.settings == *settings
    }

    /// Checks the targets of this upstream from now on.
    pub(super) fn follow(&self, upstream: Arc<Upstream>) {
        *locked(&self.shared.upstream) = upstream;
        self.shared.changed.notify_one();
    }

    /// Checks no more: every target is called again that checks took out, in the upstream that takes the place of the one that was
    /// checked as well.
    pub(super) fn stop(self, next: Option<&Upstream>, clock: &Clock) {
        let before = Arc::clone(&locked(&self.shared.upstream));
        for upstream in next.into_iter().chain([before.as_ref()]) {
            for target in upstream.targets().iter() {
                let was_out = target.state().verdict() == Verdict::Unhealthy;
                target.state().report_active(true, "it is not checked any more", clock.now());
                if was_out {
                    let (url, name) = (&target.url, &upstream.name);
                    self.events.info(
                        "health",
                        format_args!("target `{url}` of `{name}` is called again: it is not checked any more"),
                    );
                }
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Run {
    shared: Arc<Shared>,
    clock: Clock,
    events: Events,
    /// Moves when targets came or went.
    targets: watch::Receiver<u64>,
    prober: Arc<Prober>,
    settings: HealthCheck,
}

impl Run {
    async fn run(mut self) {
        let mut schedule: Schedule<Key> = Schedule::new(Settings::of(&self.settings, AT_ONCE));
        let mut under_way: JoinSet<Result<(), String>> = JoinSet::new();
        let mut keys: HashMap<Id, Key> = HashMap::new();
        let mut view = View::default();
        loop {
            let upstream = Arc::clone(&locked(&self.shared.upstream));
            // before they are looked at, so that none is missed
            self.targets.mark_unchanged();
            let now = self.clock.now();
            if view.look(&upstream) {
                schedule.follow(view.targets.iter().map(|(key, target)| (key.clone(), known(target))), now);
            }
            while let Some(key) = schedule.take(now) {
                if let Some(target) = view.targets.get(&key) {
                    let task = under_way.spawn(self.probe(Arc::clone(&upstream), Arc::clone(target)));
                    keys.insert(task.id(), key);
                }
            }
            let due = schedule.due();
            drop(upstream);
            tokio::select! {
                Some(done) = under_way.join_next_with_id() => {
                    let (id, result) = match done {
                        Ok((id, result)) => (id, result),
                        Err(error) => (error.id(), Err("the check broke off".to_owned())),
                    };
                    if let Some(key) = keys.remove(&id) {
                        self.take_up(&mut schedule, &view, &key, result);
                    }
                }
                () = self.shared.changed.notified() => {}
                Ok(()) = self.targets.changed() => {}
                () = until(&self.clock, due) => {}
            }
        }
    }

    fn probe(&self, upstream: Arc<Upstream>, target: Arc<Target>) -> impl Future<Output = Result<(), String>> + use<> {
        let (prober, clock, limit) = (Arc::clone(&self.prober), self.clock.clone(), self.settings.timeout);
        async move {
            let reach = upstream.reach(&target)?;
            drop((upstream, target));
            let probed = within(&clock, limit, prober.probe(reach)).await;
            probed.unwrap_or_else(|| Err(format!("no answer in {limit:?}")))
        }
    }

    fn take_up(&self, schedule: &mut Schedule<Key>, view: &View, key: &Key, result: Result<(), String>) {
        let now = self.clock.now();
        let Some(changed) = schedule.ended(key, result.is_ok(), now, chance()) else { return };
        let Some(target) = view.targets.get(key) else { return };
        let upstream = Arc::clone(&locked(&self.shared.upstream));
        let (name, url) = (&upstream.name, &target.url);
        let why = result.err().unwrap_or_default();
        let state = target.state();
        match changed {
            Changed::Healthy { after } => {
                let reason = format!("{} succeeded", checks(after));
                state.report_active(true, &reason, now);
                self.events.info("health", format_args!("target `{url}` of `{name}` is healthy: {reason}"));
            }
            Changed::FirstHealthy => state.report_active(true, "its first check succeeded", now),
            Changed::Unhealthy { after } => {
                let reason = format!("{} failed: {why}", checks(after));
                state.report_active(false, &reason, now);
                self.events.warning("health", format_args!("target `{url}` of `{name}` is unhealthy: {reason}"));
            }
            Changed::StillUnhealthy { passed: false, times } => {
                state.explain_active(&format!("{} failed: {why}", checks(times)));
            }
            Changed::StillUnhealthy { passed: true, times } => {
                let needed = self.settings.healthy_after;
                state.explain_active(&format!("{} of {needed} succeeded", checks(times)));
            }
            Changed::Failing { times } => {
                let allowed = self.settings.unhealthy_after;
                state.explain_active(&format!("{} of {allowed} failed: {why}", checks(times)));
            }
            Changed::WellAgain => state.explain_active("its last check succeeded"),
        }
        // not only with the next call
        upstream.tell_panic(now);
    }
}

fn checks(number: u32) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "check")
}

/// What earlier checks came to.
fn known(target: &Target) -> Option<bool> {
    match target.state().verdict() {
        Verdict::Unknown => None,
        Verdict::Healthy => Some(true),
        Verdict::Unhealthy => Some(false),
    }
}

/// The targets that are checked; of several at one address, one.
#[derive(Default)]
struct View {
    of: Option<Arc<Vec<Arc<Target>>>>,
    targets: BTreeMap<Key, Arc<Target>>,
}

impl View {
    /// Looks at an upstream's targets; whether they are others than before.
    fn look(&mut self, upstream: &Upstream) -> bool {
        let now = upstream.targets();
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &now)) {
            return false;
        }
        self.targets = now.iter().map(|target| (key(target), Arc::clone(target))).collect();
        self.of = Some(now);
        true
    }
}

fn key(target: &Target) -> Key {
    let place = match target.address() {
        TargetAddress::Tcp { host, port } => TargetKey::Tcp(host.clone(), *port),
        TargetAddress::Unix(path) => TargetKey::Unix(path.clone()),
    };
    (place, target.is_tls())
}
