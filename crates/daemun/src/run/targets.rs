//! What happens to the targets of the running configuration: their names are resolved, some are found, some are checked. Begins before
//! a configuration is published, so that its calls find targets, and lasts until another is. Knows neither names, sources nor checks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemun_config::model::{Config, HealthCheck};
use daemun_dataplane::record::Events;
use daemun_dataplane::{Clock, Snapshot, Upstream};

use super::ask::Held;
use super::check::Checker;
use super::discover::{Finder, World};
use super::lookup::Lookup;
use super::names::{Names, Prepared};
use super::within;

/// How long a start or a reload waits for targets it does not know yet; calls to an upstream without any get 503 until then.
const PATIENCE: Duration = Duration::from_secs(5);

/// Targets of the running configuration.
pub(crate) struct Targets {
    world: World,
    running: Mutex<Running>,
    _names: Held,
}

/// What runs, by upstream.
#[derive(Default)]
struct Running {
    finders: BTreeMap<String, Arc<Finder>>,
    checkers: BTreeMap<String, Checker>,
}

/// What was begun for a configuration that is about to be published; it ends when that is let go instead.
#[derive(Default)]
pub(crate) struct Coming {
    finders: BTreeMap<String, Arc<Finder>>,
    checks: BTreeMap<String, HealthCheck>,
    names: Option<Prepared>,
}

impl Targets {
    /// Nothing to do yet. To be called inside a tokio runtime.
    pub(crate) fn new(clock: Clock, events: Events) -> Self {
        let lookup = Arc::new(Lookup::system(clock.clone()));
        let names = Arc::new(Names::new(clock.clone(), events.clone(), Arc::clone(&lookup)));
        let task = tokio::spawn(Arc::clone(&names).run());
        let world = World { clock, events, lookup, names };
        Self { world, running: Mutex::default(), _names: Held::new(task) }
    }

    /// Gives a snapshot that is about to be published its targets: what is known already at once, the rest as far as it can be had in
    /// some seconds.
    pub(crate) async fn prepare(&self, config: &Config, snapshot: &Snapshot) -> Coming {
        let upstreams = by_name(snapshot);
        let mut coming = Coming::default();
        for settings in &config.upstreams {
            let name = settings.name.value.as_str();
            let Some(upstream) = upstreams.get(name) else { continue };
            if let Some(discover) = &settings.discover {
                let known = locked(&self.running).finders.get(name).filter(|finder| finder.is(discover)).cloned();
                let finder = match known {
                    Some(finder) => {
                        finder.prepare(upstream);
                        finder
                    }
                    None => Arc::new(Finder::start(discover, Arc::clone(upstream), &self.world)),
                };
                coming.finders.insert(name.to_owned(), finder);
            }
            if let Some(check) = &settings.health {
                coming.checks.insert(name.to_owned(), check.clone());
            }
        }
        coming.names = Some(self.world.names.prepare(upstreams.into_values().collect()));
        let finders: Vec<Arc<Finder>> = coming.finders.values().cloned().collect();
        let known = async {
            for finder in finders {
                finder.answered().await;
            }
            self.world.names.known().await;
        };
        if within(&self.world.clock, PATIENCE, known).await.is_none() {
            self.world.events.warning(
                "target_unresolved",
                format_args!("not all targets are known after {PATIENCE:?}; the others are called once they are"),
            );
        }
        coming
    }

    /// The snapshot is published: what it asks for goes on or begins, all else ends.
    pub(crate) fn publish(&self, coming: Coming, snapshot: &Snapshot) {
        let upstreams = by_name(snapshot);
        let clock = &self.world.clock;
        let mut running = locked(&self.running);
        for (name, finder) in &coming.finders {
            if let Some(upstream) = upstreams.get(name) {
                finder.follow(Arc::clone(upstream));
            }
        }
        running.finders = coming.finders;
        let mut before = std::mem::take(&mut running.checkers);
        for (name, settings) in coming.checks {
            let Some(upstream) = upstreams.get(&name) else { continue };
            let checker = match before.remove(&name) {
                Some(checker) if checker.is(&settings) => {
                    checker.follow(Arc::clone(upstream));
                    checker
                }
                // what the one before it knows of targets stays, since it is checked again
                Some(_) | None => Checker::start(&settings, Arc::clone(upstream), &self.world),
            };
            running.checkers.insert(name, checker);
        }
        drop(running);
        for (name, checker) in before {
            checker.stop(upstreams.get(&name).map(AsRef::as_ref), clock);
        }
        self.world.names.follow(upstreams.into_values().collect());
    }
}

fn by_name(snapshot: &Snapshot) -> BTreeMap<String, Arc<Upstream>> {
    snapshot.upstreams().map(|upstream| (upstream.name.clone(), Arc::clone(upstream))).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
