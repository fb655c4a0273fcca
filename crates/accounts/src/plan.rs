//! What consumers may use by their plans, and what they have used. A bucket and a count for each plan of each consumer, over all routes and
//! workers; the counts go to the store by and by. Knows no request and no clock.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use daemun_config::model::Plan;

use crate::change::Change;
use crate::gcra::{Gcra, Taken};

/// Days of use that are kept.
pub const DAYS: u32 = 400;
/// Milliseconds in a day.
pub const DAY: u64 = 86_400_000;
/// Plans that one consumer may be on.
const MOST: usize = daemun_config::MOST_PLANS;
/// Parts that counts are looked for in, so that few are looked at where few have changed.
const SHARDS: usize = 1024;
/// Bits of a count; the day it is of stands above.
const COUNT_BITS: u32 = 44;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// How much a consumer used by one of its plans on one day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// Days since the Unix epoch, in UTC.
    pub day: u32,
    /// Name of the plan.
    pub plan: String,
    /// Calls that were admitted.
    pub calls: u64,
}

/// The day of a moment, milliseconds since the Unix epoch.
#[must_use]
#[inline]
pub fn day_of(millis: u64) -> u32 {
    u32::try_from(millis / DAY).unwrap_or(u32::MAX) & ((1 << (64 - COUNT_BITS)) - 1)
}

/// What admits a consumer's calls: all its plans, or none where one of them is not there.
#[derive(Debug)]
pub enum Entitled {
    /// Its plans, of which there is at least one.
    Plans(Box<[Share]>),
    /// The plan that is nowhere.
    Missing(Box<str>),
}

/// What one consumer has of one plan.
#[derive(Debug)]
pub struct Share {
    gcra: Gcra,
    bucket: Arc<AtomicU64>,
    meter: Arc<Meter>,
    /// The plan.
    pub plan: Arc<Plan>,
}

impl Share {
    /// Calls that are left at a moment, in units; or how long there will be none.
    ///
    /// # Errors
    /// How long, in units.
    pub fn left(&self, now: u64) -> Result<u64, u64> {
        let full_at = self.bucket.load(Ordering::Acquire);
        self.gcra.admit(full_at, now).map(|_| self.gcra.left(full_at, now))
    }
}

/// Why a call is not admitted.
#[derive(Debug)]
pub enum Short<'a> {
    /// A plan is used up for so long, in units.
    UsedUp(&'a Plan, u64),
    /// The consumer is on a plan that is not there.
    Missing(&'a str),
}

impl Entitled {
    /// Admits a call by all plans and counts it, or refuses it and leaves no trace. No lock, no allocation.
    ///
    /// # Errors
    /// Which plan does not admit it, and why.
    #[inline]
    pub fn take(&self, now: u64, day: u32) -> Result<(), Short<'_>> {
        let shares = match self {
            Entitled::Plans(shares) => shares,
            Entitled::Missing(name) => return Err(Short::Missing(name)),
        };
        match &**shares {
            [only] => {
                only.gcra.take(&only.bucket, 0, now).map_err(|wait| Short::UsedUp(&only.plan, wait))?;
            }
            several => take_all(several, now)?,
        }
        shares.iter().for_each(|share| share.meter.count(day));
        Ok(())
    }
}

/// Takes one call of each or none. They are looked at first, so that a refused call costs nothing elsewhere; only when another thread takes
/// a last one in between must calls be given back, and then one may be lost.
fn take_all(shares: &[Share], now: u64) -> Result<(), Short<'_>> {
    for share in shares {
        share.left(now).map_err(|wait| Short::UsedUp(&share.plan, wait))?;
    }
    let mut taken: [Option<Taken<'_>>; MOST] = Default::default();
    for (share, slot) in shares.iter().zip(&mut taken) {
        match share.gcra.take(&share.bucket, 0, now) {
            Ok(call) => *slot = Some(call),
            Err(wait) => {
                taken.iter().flatten().for_each(Taken::give_back);
                return Err(Short::UsedUp(&share.plan, wait));
            }
        }
    }
    Ok(())
}

/// Counts what one consumer uses by one plan.
#[derive(Debug)]
struct Meter {
    plan: Box<str>,
    /// The day in the upper bits, and calls of that day that were not taken from here yet.
    today: AtomicU64,
    /// The same of days before, and of what was brought back.
    past: Mutex<Vec<(u32, u64)>>,
    /// Buckets in use, each of another limit.
    buckets: Mutex<Vec<(Gcra, Weak<AtomicU64>)>>,
    /// Whether something in the same shard is to be taken.
    has_more: Arc<AtomicBool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    fn new(plan: &str, has_more: &Arc<AtomicBool>) -> Meter {
        let has_more = Arc::clone(has_more);
        Meter {
            plan: plan.into(),
            today: AtomicU64::new(0),
            past: Mutex::default(),
            buckets: Mutex::default(),
            has_more,
        }
    }

    /// Counts a call.
    #[inline]
    fn count(&self, day: u32) {
        if self.today.load(Ordering::Acquire) >> COUNT_BITS != u64::from(day) {
            return self.turn(day);
        }
        if self.today.fetch_add(1, Ordering::AcqRel) & COUNT == 0 {
            self.has_more.store(true, Ordering::Release);
        }
    }

    /// Counts the first call of a day.
    #[cold]
    fn turn(&self, day: u32) {
        let mut past = locked(&self.past);
        let begun = u64::from(day) << COUNT_BITS;
        if self.today.load(Ordering::Acquire) >> COUNT_BITS == u64::from(day) {
            self.today.fetch_add(1, Ordering::AcqRel);
        } else {
            add(&mut past, self.today.swap(begun | 1, Ordering::AcqRel));
        }
        self.has_more.store(true, Ordering::Release);
    }

    /// What was counted, which is not to be had again.
    fn take(&self) -> Vec<(u32, u64)> {
        let mut past = locked(&self.past);
        add(&mut past, self.today.fetch_and(!COUNT, Ordering::AcqRel));
        std::mem::take(&mut past)
    }

    /// The same, left where it is.
    fn look(&self) -> Vec<(u32, u64)> {
        let past = locked(&self.past);
        let mut all = past.clone();
        add(&mut all, self.today.load(Ordering::Acquire));
        all
    }

    fn bring_back(&self, day: u32, calls: u64) {
        add(&mut locked(&self.past), u64::from(day) << COUNT_BITS | calls);
        self.has_more.store(true, Ordering::Release);
    }

    /// The bucket of a limit: the one in use, or else a full one.
    fn bucket(&self, gcra: Gcra) -> Arc<AtomicU64> {
        let mut buckets = locked(&self.buckets);
        buckets.retain(|(_, bucket)| bucket.strong_count() > 0);
        let known = buckets.iter().find(|(of, _)| *of == gcra).and_then(|(_, bucket)| bucket.upgrade());
        known.unwrap_or_else(|| {
            let bucket = Arc::default();
            buckets.push((gcra, Arc::downgrade(&bucket)));
            bucket
        })
    }
}

/// Adds a count to those of days; of the oldest no more are kept than days are.
fn add(days: &mut Vec<(u32, u64)>, counted: u64) {
    let (day, calls) = (u32::try_from(counted >> COUNT_BITS).unwrap_or(0), counted & COUNT);
    if calls == 0 {
        return;
    }
    match days.iter_mut().find(|(of, _)| *of == day) {
        Some((_, known)) => *known += calls,
        None => days.push((day, calls)),
    }
    if days.len() > DAYS as usize
        && let Some(oldest) = days.iter().enumerate().min_by_key(|(_, (day, _))| *day).map(|(index, _)| index)
    {
        days.swap_remove(oldest);
    }
}

/// Counts of some consumers, by name.
#[derive(Debug, Default)]
struct Shard {
    has_more: Arc<AtomicBool>,
    meters: Mutex<HashMap<Box<str>, Vec<Arc<Meter>>>>,
}

/// All counts.
#[derive(Debug)]
pub(crate) struct Meters {
    shards: Box<[Shard]>,
    place: RandomState,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters { shards: (0..SHARDS).map(|_| Shard::default()).collect(), place: RandomState::new() }
    }
}

impl Meters {
    fn shard(&self, consumer: &str) -> Option<&Shard> {
        self.shards.get(self.place.hash_one(consumer) as usize % SHARDS)
    }

    fn of(&self, consumer: &str, plan: &str) -> Arc<Meter> {
        let Some(shard) = self.shard(consumer) else { return Arc::new(Meter::new(plan, &Arc::default())) };
        let mut meters = locked(&shard.meters);
        let own = match meters.get_mut(consumer) {
            Some(own) => own,
            None => meters.entry(consumer.into()).or_default(),
        };
        if let Some(known) = own.iter().find(|meter| *meter.plan == *plan) {
            return Arc::clone(known);
        }
        let meter = Arc::new(Meter::new(plan, &shard.has_more));
        own.push(Arc::clone(&meter));
        meter
    }

    /// What a consumer has of a plan; none where there can be no such limit, which was seen to before.
    fn share(&self, consumer: &str, plan: &Arc<Plan>) -> Option<Share> {
        let gcra = Gcra::new(plan.limit.count, plan.limit.per.duration(), plan.burst())?;
        let meter = self.of(consumer, &plan.name);
        Some(Share { gcra, bucket: meter.bucket(gcra), meter, plan: Arc::clone(plan) })
    }

    /// What a consumer may use by plans; nothing where it is on none.
    pub(crate) fn entitle(
        &self,
        consumer: &str,
        plans: &[String],
        find: impl Fn(&str) -> Option<Arc<Plan>>,
    ) -> Option<Arc<Entitled>> {
        if plans.is_empty() {
            return None;
        }
        let shares = plans.iter().take(MOST).map(|name| {
            let share = find(name).and_then(|plan| self.share(consumer, &plan));
            share.ok_or_else(|| name.as_str().into())
        });
        Some(Arc::new(match shares.collect::<Result<_, Box<str>>>() {
            Ok(shares) => Entitled::Plans(shares),
            Err(missing) => Entitled::Missing(missing),
        }))
    }

    /// What was counted and not taken yet, of so many plans of consumers at least where there are as many; with it goes what nobody counts by
    /// any more.
    pub(crate) fn take(&self, most: usize) -> Vec<Change> {
        let mut all = Vec::new();
        for shard in &self.shards {
            if all.len() >= most {
                break;
            }
            if !shard.has_more.swap(false, Ordering::AcqRel) {
                continue;
            }
            let mut meters = locked(&shard.meters);
            for (consumer, own) in meters.iter_mut() {
                own.retain(|meter| {
                    // looked at before it is taken from: what counts meanwhile holds it
                    let is_used = Arc::strong_count(meter) > 1;
                    let counted = meter.take();
                    let is_empty = counted.is_empty();
                    all.extend(counted.into_iter().map(|(day, calls)| Change::Usage {
                        consumer: consumer.to_string(),
                        plan: meter.plan.to_string(),
                        day,
                        calls,
                    }));
                    is_used || !is_empty
                });
            }
            meters.retain(|_, own| !own.is_empty());
        }
        all
    }

    /// Whether something is to be taken.
    pub(crate) fn has_more(&self) -> bool {
        self.shards.iter().any(|shard| shard.has_more.load(Ordering::Acquire))
    }

    /// Counts again what was taken and could not be kept.
    pub(crate) fn bring_back(&self, changes: &[Change]) {
        for change in changes {
            if let Change::Usage { consumer, plan, day, calls } = change {
                self.of(consumer, plan).bring_back(*day, *calls);
            }
        }
    }

    /// What of a consumer was counted and not taken yet.
    pub(crate) fn look(&self, consumer: &str) -> Vec<Used> {
        let Some(shard) = self.shard(consumer) else { return Vec::new() };
        let meters = locked(&shard.meters);
        let own = meters.get(consumer).into_iter().flatten();
        own.flat_map(|meter| {
            meter.look().into_iter().map(|(day, calls)| Used { day, plan: meter.plan.to_string(), calls })
        })
        .collect()
    }

    /// Forgets what was counted of a consumer that is gone.
    pub(crate) fn forget(&self, consumer: &str) {
        if let Some(shard) = self.shard(consumer) {
            locked(&shard.meters).remove(consumer);
        }
    }
}

/// Joins what is told of the same plan and day, newest day first.
pub(crate) fn joined(mut all: Vec<Used>) -> Vec<Used> {
    all.sort_by(|a, b| (b.day, &a.plan).cmp(&(a.day, &b.plan)));
    all.dedup_by(|next, kept| {
        let is_same = next.day == kept.day && next.plan == kept.plan;
        if is_same {
            kept.calls += next.calls;
        }
        is_same
    });
    all
}
