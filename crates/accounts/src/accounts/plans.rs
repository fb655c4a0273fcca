//! Plans of the configuration and of the store, and who is on which. What changes is in force on every worker when it returns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::held::MOST_USES;
use super::{Accounts, Trouble, answer};
use crate::change::Change;
use crate::consumer::Consumer;
use crate::plan::{Entitled, Meters, Plan, Used, joined};

/// Plans that the store may have.
pub const MOST_PLANS: usize = 10_000;
/// Counts that are written at once.
const MOST_COUNTS: usize = 4_000;
/// Pieces of uses that are written before the process ends.
const USES_AT_END: usize = 10;
/// Consumers on plans that are nowhere, of which is told at once.
const MOST_TOLD: usize = 10;

/// Plans, and what consumers of the store may use by them.
#[derive(Debug, Default)]
pub(super) struct Plans {
    declared: ArcSwap<HashMap<String, Arc<Plan>>>,
    stored: papaya::HashMap<String, Arc<Plan>>,
    /// Of consumers of the store that are on plans, by name.
    entitled: papaya::HashMap<Box<str>, Arc<Entitled>>,
    /// Whether there was ever one.
    any: AtomicBool,
    meters: Meters,
    /// Held while it is worked out who is entitled to what.
    entitling: Mutex<()>,
}

impl Plans {
    fn find(&self, name: &str) -> Option<Arc<Plan>> {
        self.declared.load().get(name).cloned().or_else(|| self.stored.pin().get(name).cloned())
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.entitling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works out what a consumer of the store may use. The one before stays in use until then, and with it its buckets.
    fn entitle(&self, name: &str, consumer: Option<&Consumer>) {
        let plans = consumer.map(|consumer| consumer.plans.as_slice()).unwrap_or_default();
        match self.meters.entitle(name, plans, |plan| self.find(plan)) {
            Some(entitled) => {
                self.entitled.pin().insert(name.into(), entitled);
                self.any.store(true, Ordering::Release);
            }
            None if self.any.load(Ordering::Acquire) => {
                self.entitled.pin().remove(name);
            }
            None => {}
        }
    }
}

impl Accounts {
    /// What a consumer of the store may use by its plans, where it is on any. One load where none ever was.
    #[inline]
    pub fn with_entitled<T>(&self, consumer: &str, with: impl FnOnce(&Entitled) -> T) -> Option<T> {
        if !self.plans.any.load(Ordering::Acquire) {
            return None;
        }
        self.plans.entitled.pin().get(consumer).map(|entitled| with(entitled))
    }

    /// What a consumer of the configuration may use by plans of it; nothing where it is on none.
    #[must_use]
    pub fn entitle(
        &self,
        consumer: &str,
        plans: &[String],
        find: impl Fn(&str) -> Option<Arc<Plan>>,
    ) -> Option<Arc<Entitled>> {
        self.plans.meters.entitle(consumer, plans, find)
    }

    /// Says which plans the configuration has now. Gives consumers of the store that are on plans which are nowhere, with one of those, and not all
    /// of them where there are many: their calls are refused.
    pub fn declare_plans(&self, plans: impl IntoIterator<Item = Plan>) -> Vec<(String, String)> {
        let _entitling = self.plans.lock();
        let now: HashMap<String, Arc<Plan>> =
            plans.into_iter().map(|plan| (plan.name.clone(), Arc::new(plan))).collect();
        let before = self.plans.declared.swap(Arc::new(now));
        let now = self.plans.declared.load();
        self.entitle_all(|plan| before.get(plan) != now.get(plan));
        if !self.plans.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let entitled = self.plans.entitled.pin();
        let missing = entitled.iter().filter_map(|(consumer, entitled)| match &**entitled {
            Entitled::Missing(plan) => Some((consumer.to_string(), plan.to_string())),
            Entitled::Plans(_) => None,
        });
        let mut missing: Vec<_> = missing.take(MOST_TOLD).collect();
        missing.sort();
        missing
    }

    /// Works out anew what those may use who are on plans that have changed.
    fn entitle_all(&self, has_changed: impl Fn(&str) -> bool) {
        if !self.plans.any.load(Ordering::Acquire) {
            return;
        }
        for (name, consumer) in &self.consumers.pin() {
            if consumer.plans.iter().any(|plan| has_changed(plan)) {
                self.plans.entitle(name, Some(consumer));
            }
        }
    }

    /// Works out what a consumer of the store may use, as it is now.
    pub(super) fn follow_plans(&self, name: &str) {
        let _entitling = self.plans.lock();
        self.plans.entitle(name, self.consumers.pin().get(name));
    }

    /// Forgets what was counted of a consumer that is gone.
    pub(super) fn forget_use(&self, name: &str) {
        self.follow_plans(name);
        self.plans.meters.forget(name);
    }

    /// Whether the configuration has a plan of this name.
    #[must_use]
    pub fn declares_plan(&self, name: &str) -> bool {
        self.plans.declared.load().contains_key(name)
    }

    /// A plan of the configuration, or else of the store.
    #[must_use]
    pub fn plan(&self, name: &str) -> Option<Arc<Plan>> {
        self.plans.find(name)
    }

    /// All plans by name, with whether each is the configuration's, which goes before one of the store of the same name.
    #[must_use]
    pub fn plans(&self) -> Vec<(Arc<Plan>, bool)> {
        let declared = self.plans.declared.load();
        let stored = self.plans.stored.pin();
        let others =
            stored.iter().filter(|(name, _)| !declared.contains_key(*name)).map(|(_, plan)| (Arc::clone(plan), false));
        let mut all: Vec<_> = declared.values().map(|plan| (Arc::clone(plan), true)).chain(others).collect();
        all.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        all
    }

    /// Whether the store has a plan of this name.
    #[must_use]
    pub fn has_stored_plan(&self, name: &str) -> bool {
        self.plans.stored.pin().contains_key(name)
    }

    /// One of the consumers of the store that are on a plan, where there is one.
    #[must_use]
    pub fn first_on(&self, plan: &str) -> Option<String> {
        let consumers = self.consumers.pin();
        consumers
            .values()
            .find(|consumer| consumer.plans.iter().any(|on| on == plan))
            .map(|consumer| consumer.name.clone())
    }

    /// Makes a plan of the store, or changes one: with the next call of whoever is on it that is in force.
    ///
    /// # Errors
    /// When there are too many, or it cannot be made to last.
    pub async fn put_plan(&self, plan: Plan) -> Result<(), Trouble> {
        if !self.has_stored_plan(&plan.name) && self.plans.stored.len() >= MOST_PLANS {
            return Err(Trouble::TooMany);
        }
        self.write(vec![Change::Plan(plan.clone())]).await?;
        self.set_plan(plan);
        Ok(())
    }

    pub(super) fn set_plan(&self, plan: Plan) {
        let _entitling = self.plans.lock();
        let (name, plan) = (plan.name.clone(), Arc::new(plan));
        let before = self.plans.stored.pin().insert(name.clone(), Arc::clone(&plan)).cloned();
        if before.as_ref() != Some(&plan) {
            self.entitle_all(|changed| changed == name);
        }
    }

    /// Takes a plan of the store away; says whether there was one. Whoever is still on it is refused.
    ///
    /// # Errors
    /// When that cannot be made to last.
    pub async fn remove_plan(&self, name: &str) -> Result<bool, Trouble> {
        if !self.has_stored_plan(name) {
            return Ok(false);
        }
        self.write(vec![Change::NoPlan(name.to_owned())]).await?;
        self.drop_plan(name);
        Ok(true)
    }

    pub(super) fn drop_plan(&self, name: &str) {
        let _entitling = self.plans.lock();
        if self.plans.stored.pin().remove(name).is_some() {
            self.entitle_all(|changed| changed == name);
        }
    }

    /// What a consumer used by its plans, newest day first: what the store has, and what was counted here since.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn usage(&self, consumer: &str) -> Result<Vec<Used>, Trouble> {
        match self.journal.get() {
            Some(journal) => answer(journal.usage(consumer.to_owned())).await.map(joined),
            None => Ok(joined(self.plans.meters.look(consumer))),
        }
    }

    /// What was counted and is not written yet, or some of it; and whether there is more.
    pub(super) fn counted(&self) -> (Vec<Change>, bool) {
        let counted = self.plans.meters.take(MOST_COUNTS);
        let more = counted.len() >= MOST_COUNTS && self.plans.meters.has_more();
        (counted, more)
    }

    /// What was counted of a consumer and is not written yet.
    pub(super) fn counted_of(&self, consumer: &str) -> Vec<Used> {
        self.plans.meters.look(consumer)
    }

    /// Has what could not be written due again.
    pub(super) fn count_again(&self, changes: &[Change]) {
        self.plans.meters.bring_back(changes);
        self.unwrite_uses(changes);
    }

    /// Writes what was counted and when credentials were used, where that is kept: nobody calls any more. Of very many credentials some
    /// uses are left, so that it does not take long.
    pub async fn flush(&self) {
        if !self.is_kept() {
            return;
        }
        for piece in 0.. {
            let (counted, more_counted) = self.counted();
            let uses = if piece < USES_AT_END { self.unwritten_uses(0) } else { Vec::new() };
            let more = more_counted || uses.len() >= MOST_USES;
            let changes: Vec<Change> = uses.into_iter().chain(counted).collect();
            if !changes.is_empty() && self.write(changes.clone()).await.is_err() {
                self.count_again(&changes);
                return;
            }
            if !more {
                return;
            }
        }
    }
}
