//! One upstream as one worker sees it, and which of its targets a call goes to. Knows nothing of connections.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use daemun_pipeline::{Exchange, Fault, Reason};

use super::balance::{Dice, Ring, by_weight, mix, of_key, of_two};
use super::breaker::{Pass, Position};
use super::budget::Share;
use super::choice::{Balance, Choice};
use super::gate::bound::TargetBound;
use super::gate::{Gates, LocalGate};
use super::no_target;
use super::picked::Picked;
use super::plan::{ALL, Member, Plan};
use super::pool::{LocalTarget, Pools};
use super::sticky::Sticky;
use crate::record::UpstreamCells;
use crate::snapshot::Route;
use crate::snapshot::upstream::{Target, Upstream};

/// One upstream as one worker sees it.
pub(crate) struct LocalUpstream {
    pub(crate) shared: Arc<Upstream>,
    view: RefCell<View>,
    pools: Rc<Pools>,
    /// The connections of all workers to it.
    pub(crate) share: Arc<Share>,
    /// How many calls it gets at once; `None` where nothing bounds them.
    pub(crate) gate: Option<Rc<LocalGate>>,
    gates: Arc<Gates>,
    pub(crate) cells: Arc<UpstreamCells>,
    /// Lets workers begin with different targets.
    offset: usize,
}

/// Its targets as they were at one moment.
struct View {
    version: u64,
    list: Arc<Vec<Arc<Target>>>,
    targets: Vec<Rc<LocalTarget>>,
    /// What bounds the calls to targets that are gone, whose calls may go on.
    left: Vec<Weak<TargetBound>>,
    plan: Plan,
    /// There is one target, of which nothing need be counted.
    alone: bool,
    /// Smooth weighted round robin: what each member of each group is owed.
    owed: Vec<Vec<i64>>,
    /// Where keys go, for `hash`.
    ring: Ring,
    /// Which target a cookie tells, for `sticky`.
    digests: HashMap<Box<str>, usize>,
    dice: Dice,
}

impl LocalUpstream {
    /// `offset` lets workers begin with different targets.
    #[allow(clippy::too_many_arguments, reason = "what it shares, passed on once")]
    pub(crate) fn new(
        shared: Arc<Upstream>,
        pools: Rc<Pools>,
        share: Arc<Share>,
        gate: Option<Rc<LocalGate>>,
        gates: Arc<Gates>,
        cells: Arc<UpstreamCells>,
        offset: usize,
        now: u64,
    ) -> LocalUpstream {
        let view = View {
            version: 0,
            list: Arc::default(),
            targets: Vec::new(),
            left: Vec::new(),
            plan: Plan::default(),
            alone: false,
            owed: Vec::new(),
            ring: Ring::default(),
            digests: HashMap::new(),
            dice: Dice::new(RandomState::new().hash_one(offset)),
        };
        let upstream = LocalUpstream { shared, view: RefCell::new(view), pools, share, gate, gates, cells, offset };
        upstream.look(&mut upstream.view.borrow_mut(), now);
        upstream
    }

    /// Its targets, while nothing waits.
    pub(crate) fn targets(&self) -> Ref<'_, [Rc<LocalTarget>]> {
        Ref::map(self.view.borrow(), |view| view.targets.as_slice())
    }

    /// Makes the view anew; connections to targets that stay are kept.
    #[cold]
    fn look(&self, view: &mut View, now: u64) {
        // what changes from here on is seen the next time
        view.version = self.shared.set.version();
        let list = self.shared.targets();
        if !Arc::ptr_eq(&list, &view.list) || view.targets.is_empty() {
            self.follow(view, list);
        }
        view.plan = self.shared.choice.plan(&view.list, now);
        // one that is called though it is ejected is let back by what its calls tell
        let only = view.plan.only().and_then(|only| view.list.get(only)).filter(|_| view.list.len() == 1);
        view.alone = only.is_some_and(|only| only.state().told.ejected() == 0) && self.shared.choice.is_idle_alone();
        let owed = |count: usize| (0..count).map(|i| i64::from(i == self.offset % count.max(1))).collect();
        view.owed = view.plan.groups.iter().map(|group| owed(group.members.len())).collect();
        self.tell_gate(view);
        self.shared.tell_panic(now);
    }

    /// Looks again at its targets if something may have changed; whether it did.
    pub(crate) fn renew(&self, now: u64) -> bool {
        let mut view = self.view.borrow_mut();
        let is_old = view.version != self.shared.set.version() || now >= view.plan.until;
        if is_old {
            self.look(&mut view, now);
        }
        is_old
    }

    /// Counts again how many calls its targets have room for.
    pub(crate) fn recount(&self) {
        self.tell_gate(&self.view.borrow());
    }

    /// Tells the gate how many targets are called, and how many calls are still at others, those that are gone too: their places are of no
    /// use to the former. They count all the same among the calls of the upstream, which still works on them.
    fn tell_gate(&self, view: &View) {
        let Some(gate) = &self.gate else { return };
        let called = view.plan.groups.iter().map(|group| group.members.len()).sum();
        let others = view.targets.iter().zip(&view.plan.group_of).filter(|(_, group)| group.is_none());
        let others: usize = others.filter_map(|(target, _)| target.bound.as_ref()).map(|bound| bound.calls()).sum();
        let left: usize = view.left.iter().filter_map(Weak::upgrade).map(|bound| bound.calls()).sum();
        gate.follow(called, others.saturating_add(left), (self.shared.made, view.version));
    }

    /// Takes other targets.
    fn follow(&self, view: &mut View, list: Arc<Vec<Arc<Target>>>) {
        let choice = &self.shared.choice;
        let name: Arc<str> =
            view.targets.first().map_or_else(|| Arc::from(self.shared.name.as_str()), |t| Arc::clone(&t.upstream));
        let known: HashMap<*const Target, Rc<LocalTarget>> =
            std::mem::take(&mut view.targets).into_iter().map(|local| (Arc::as_ptr(&local.shared), local)).collect();
        let local = |target: &Arc<Target>| {
            known.get(&Arc::as_ptr(target)).map_or_else(
                || {
                    let digest = choice.sticky().map(|sticky| sticky.digest(&self.shared.name, &target.key).into());
                    Rc::new(LocalTarget {
                        upstream: Arc::clone(&name),
                        shared: Arc::clone(target),
                        home: Arc::clone(&self.shared),
                        digest: digest.unwrap_or_default(),
                        pool: self.pools.of(target),
                        bound: self
                            .shared
                            .target_bounds
                            .map(|bounds| self.gates.target(&name, &target.key, bounds, self.shared.made)),
                    })
                },
                Rc::clone,
            )
        };
        view.targets = list.iter().map(local).collect();
        if self.shared.target_bounds.is_some() {
            view.left = self.gates.left(&name, &view.targets);
        }
        if !known.is_empty() {
            drop(known);
            self.pools.forget_unused();
        }
        if matches!(choice.balance, Balance::Hash(_)) {
            view.ring = Ring::new(list.iter().map(|target| (target.url.as_str(), target.weight)));
        }
        if matches!(choice.balance, Balance::Sticky(_)) {
            let digests = view.targets.iter().enumerate();
            view.digests = digests.map(|(index, target)| (target.digest.clone(), index)).collect();
        }
        view.list = list;
    }

    /// The target of the next attempt, passing over those in `tried`. What is counted of it is counted until the [`Picked`] is dropped.
    pub(crate) fn pick(
        &self,
        exchange: &Exchange,
        route: &Route,
        tried: &[Rc<LocalTarget>],
        now: u64,
    ) -> Result<Picked, Fault> {
        let mut view = self.view.borrow_mut();
        let view = &mut *view;
        if view.version != self.shared.set.version() || now >= view.plan.until {
            self.look(view, now);
        }
        if !(self.shared.choice.plain || view.alone && tried.is_empty()) {
            return self.choose(view, exchange, route, tried, now);
        }
        let index = view.in_turn(tried).ok_or_else(no_target)?;
        view.targets.get(index).map(|target| Picked::plain(Rc::clone(target))).ok_or_else(no_target)
    }

    /// Why no call could be made now even with a place: nothing is gained by waiting for one then.
    pub(crate) fn closed(&self, now: u64) -> Option<Fault> {
        if let Some(Position::Open(left)) = self.shared.choice.breaker.as_ref().map(|breaker| breaker.position(now)) {
            return Some(circuit_open(left));
        }
        let mut view = self.view.borrow_mut();
        if view.version != self.shared.set.version() || now >= view.plan.until {
            self.look(&mut view, now);
        }
        (view.plan.groups.is_empty() && view.plan.trials.is_empty()).then(no_target)
    }

    /// The same where something is configured beside round robin.
    fn choose(
        &self,
        view: &mut View,
        exchange: &Exchange,
        route: &Route,
        tried: &[Rc<LocalTarget>],
        now: u64,
    ) -> Result<Picked, Fault> {
        let choice = &self.shared.choice;
        let pass = match &choice.breaker {
            Some(breaker) => breaker.admit(now).map_err(circuit_open)?,
            None => Pass::Closed,
        };
        if let (Pass::Try(_), Some(breaker)) = (pass, &choice.breaker) {
            self.shared.tell_half_open(breaker, pass);
        }
        self.shared.watch(now);
        if view.version != self.shared.set.version() {
            self.look(view, now);
        }
        let trial = if view.plan.trials.is_empty() { None } else { view.trial(choice, exchange, route, tried, now) };
        let found = trial.or_else(|| view.choose(choice, exchange, route, tried, now));
        let Some(target) = found.and_then(|index| view.targets.get(index)) else {
            if let Some(breaker) = &choice.breaker {
                breaker.end(pass, super::breaker::End::Unknown, now);
            }
            return Err(no_target());
        };
        let sent = |sticky: &Sticky| exchange.request.cookie(&sticky.cookie);
        let unmarked = choice.sticky().is_some_and(|sticky| sent(sticky) != Some(target.digest.as_bytes()));
        Ok(Picked::counted(Rc::clone(target), pass, trial.is_some(), unmarked))
    }
}

/// Whether a target was tried before, or is no longer there.
fn is_tried(targets: &[Rc<LocalTarget>], index: usize, tried: &[Rc<LocalTarget>]) -> bool {
    targets.get(index).is_none_or(|own| tried.iter().any(|tried| Arc::ptr_eq(&tried.shared, &own.shared)))
}

impl View {
    /// An ejected target whose time is over, where this call is the one that tries it. A call that belongs elsewhere is not.
    #[cold]
    fn trial(
        &self,
        choice: &Choice,
        exchange: &Exchange,
        route: &Route,
        tried: &[Rc<LocalTarget>],
        now: u64,
    ) -> Option<usize> {
        let may = |index: &usize| {
            !is_tried(&self.targets, *index, tried)
                && self.list.get(*index).is_some_and(|target| target.state().told.may_try(now))
        };
        let any = || self.plan.trials.iter().copied().find(may);
        match &choice.balance {
            Balance::RoundRobin | Balance::LeastRequests | Balance::Latency => any(),
            Balance::Sticky(sticky) => {
                if self.own(sticky, exchange, tried).is_some() {
                    None
                } else {
                    any()
                }
            }
            Balance::Hash(by) => {
                let Some(key) = Choice::key(by, exchange, route) else { return any() };
                let group = u32::try_from(self.plan.group(mix(key))).ok();
                let is_member = |index: usize| self.plan.group_of.get(index).is_some_and(|own| *own == group);
                let is_trial = |index: usize| self.plan.trials.contains(&index);
                let own = self.ring.find(key, |index| is_member(index) || is_trial(index));
                own.filter(|index| is_trial(*index)).filter(may)
            }
        }
    }

    /// The target that the client's cookie tells, if it gets calls.
    fn own(&self, sticky: &Sticky, exchange: &Exchange, tried: &[Rc<LocalTarget>]) -> Option<usize> {
        let told = exchange.request.cookie(&sticky.cookie).and_then(|value| std::str::from_utf8(value).ok());
        let own = told.and_then(|digest| self.digests.get(digest)).copied();
        own.filter(|index| self.plan.is_drawn(*index) && !is_tried(&self.targets, *index, tried))
    }

    fn choose(
        &mut self,
        choice: &Choice,
        exchange: &Exchange,
        route: &Route,
        tried: &[Rc<LocalTarget>],
        now: u64,
    ) -> Option<usize> {
        if let Some(only) = self.plan.only().filter(|_| tried.is_empty()) {
            return Some(only);
        }
        match &choice.balance {
            Balance::RoundRobin => self.in_turn(tried),
            Balance::LeastRequests => self.of_two(tried, Self::load),
            Balance::Latency => self.of_two(tried, |view, member| view.time(member, now)),
            Balance::Hash(by) => match Choice::key(by, exchange, route) {
                Some(key) => {
                    let skip = |index: usize| !tried.is_empty() && is_tried(&self.targets, index, tried);
                    of_key(&self.ring, &self.plan, key, skip)
                }
                None => self.of_group(tried, |view, group, dice| {
                    let group = view.plan.groups.get(group)?;
                    let position = by_weight(group, |index| is_tried(&view.targets, index, tried), dice)?;
                    group.members.get(position).map(|member| member.index)
                }),
            },
            Balance::Sticky(sticky) => self.own(sticky, exchange, tried).or_else(|| self.in_turn(tried)),
        }
    }

    /// The next target by weight, of the group whose turn it is or else of another.
    fn in_turn(&mut self, tried: &[Rc<LocalTarget>]) -> Option<usize> {
        let first = self.group();
        self.next(first, tried).or_else(|| {
            (0..self.plan.groups.len()).filter(|group| *group != first).find_map(|group| self.next(group, tried))
        })
    }

    /// Which group a call goes to.
    fn group(&mut self) -> usize {
        if self.plan.groups.first().is_none_or(|first| first.share >= ALL) {
            return 0;
        }
        self.plan.group(self.dice.roll())
    }

    /// The next member of a group by weight.
    fn next(&mut self, group: usize, tried: &[Rc<LocalTarget>]) -> Option<usize> {
        let View { plan, owed, targets, .. } = self;
        let members = &plan.groups.get(group)?.members;
        if let [only] = members.as_slice()
            && tried.is_empty()
        {
            return Some(only.index);
        }
        let owed = owed.get_mut(group)?;
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (position, (member, owed)) in members.iter().zip(owed.iter_mut()).enumerate() {
            if !tried.is_empty() && is_tried(targets, member.index, tried) {
                continue;
            }
            let weight = i64::try_from(member.weight).unwrap_or(i64::MAX);
            total += weight;
            *owed += weight;
            if best.is_none_or(|(_, most)| *owed > most) {
                best = Some((position, *owed));
            }
        }
        let (position, _) = best?;
        if let Some(owed) = owed.get_mut(position) {
            *owed -= total;
        }
        members.get(position).map(|member| member.index)
    }

    /// What `choose` finds in the group whose turn it is, or else in another.
    fn of_group(
        &mut self,
        tried: &[Rc<LocalTarget>],
        choose: impl Fn(&View, usize, &mut Dice) -> Option<usize>,
    ) -> Option<usize> {
        let first = self.group();
        let mut dice = Dice::new(self.dice.roll());
        let found = choose(self, first, &mut dice);
        // only what was tried makes a group give none
        if found.is_some() || tried.is_empty() {
            return found;
        }
        (0..self.plan.groups.len()).filter(|group| *group != first).find_map(|group| choose(self, group, &mut dice))
    }

    /// Of two targets drawn by weight the one that costs less.
    fn of_two(&mut self, tried: &[Rc<LocalTarget>], cost: impl Fn(&View, &Member) -> f64) -> Option<usize> {
        self.of_group(tried, |view, group, dice| {
            let group = view.plan.groups.get(group)?;
            let skip = |index: usize| !tried.is_empty() && is_tried(&view.targets, index, tried);
            let position = of_two(group, skip, |member| cost(view, member), dice)?;
            group.members.get(position).map(|member| member.index)
        })
    }

    /// Calls under way for each unit of weight.
    #[allow(clippy::cast_precision_loss, reason = "calls and weights are far below 2^52")]
    fn load(&self, member: &Member) -> f64 {
        let calls = self.list.get(member.index).map_or(0, |target| target.state().told.in_flight());
        calls as f64 / member.weight.max(1) as f64
    }

    /// How long a call would take, judged by the last answers, by the calls under way, and by how long these have been silent.
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of a call are far below 2^52")]
    fn time(&self, member: &Member, now: u64) -> f64 {
        let Some(target) = self.list.get(member.index) else { return f64::MAX };
        let told = &target.state().told;
        let time = told.latency.peak(now).max(told.silence(now)) as f64;
        time * (told.in_flight() as f64 + 1.0)
    }
}

/// The upstream is left alone for so long.
fn circuit_open(left: u64) -> Fault {
    let seconds = left.div_ceil(1_000_000_000).max(1);
    Fault::new(Reason::CircuitOpen, "the backend is left alone for a while").field("retry-after", seconds.to_string())
}
