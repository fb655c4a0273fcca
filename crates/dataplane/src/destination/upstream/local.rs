//! One upstream as one worker sees it, and which of its targets a call goes to. Knows nothing of connections.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use daemun_pipeline::{Exchange, Fault};

use super::budget::Share;
use super::no_target;
use super::pool::{LocalTarget, Pools};
use crate::snapshot::upstream::{Target, Upstream};

/// One upstream as one worker sees it.
pub(crate) struct LocalUpstream {
    pub(crate) shared: Arc<Upstream>,
    view: RefCell<View>,
    pools: Rc<Pools>,
    /// The connections of all workers to it.
    pub(crate) share: Arc<Share>,
    /// Lets workers begin with different targets.
    offset: usize,
}

/// Its targets as they were at one moment.
struct View {
    version: u64,
    targets: Vec<Rc<LocalTarget>>,
    /// Smooth weighted round robin: what each target is owed.
    owed: Vec<i64>,
}

/// The target of one attempt. To be held as long as the attempt lasts.
pub(crate) struct Picked {
    pub(crate) target: Rc<LocalTarget>,
}

impl LocalUpstream {
    /// `offset` lets workers begin with different targets.
    pub(crate) fn new(shared: Arc<Upstream>, pools: Rc<Pools>, share: Arc<Share>, offset: usize) -> LocalUpstream {
        let view = View { version: 0, targets: Vec::new(), owed: Vec::new() };
        let upstream = LocalUpstream { shared, view: RefCell::new(view), pools, share, offset };
        upstream.look(&mut upstream.view.borrow_mut());
        upstream
    }

    /// Its targets, while nothing waits.
    pub(crate) fn targets(&self) -> Ref<'_, [Rc<LocalTarget>]> {
        Ref::map(self.view.borrow(), |view| view.targets.as_slice())
    }

    /// Makes the view anew; connections to targets that stay are kept.
    #[cold]
    fn look(&self, view: &mut View) {
        // what changes from here on is seen the next time
        view.version = self.shared.set.version();
        let name: Arc<str> =
            view.targets.first().map_or_else(|| Arc::from(self.shared.name.as_str()), |t| Arc::clone(&t.upstream));
        let known = std::mem::take(&mut view.targets);
        let local = |target: &Arc<Target>| {
            let same = known.iter().find(|local| Arc::ptr_eq(&local.shared, target));
            same.map_or_else(
                || {
                    let (upstream, pool) = (Arc::clone(&name), self.pools.of(target));
                    Rc::new(LocalTarget { upstream, shared: Arc::clone(target), pool })
                },
                Rc::clone,
            )
        };
        view.targets = self.shared.targets().iter().map(local).collect();
        drop(known);
        self.pools.forget_unused();
        let count = view.targets.len().max(1);
        view.owed = (0..view.targets.len()).map(|i| i64::from(i == self.offset % count)).collect();
    }

    /// The target of the next attempt, passing over those in `tried`.
    pub(crate) fn pick(&self, _exchange: &Exchange, tried: &[Rc<LocalTarget>], _now: u64) -> Result<Picked, Fault> {
        let mut view = self.view.borrow_mut();
        if view.version != self.shared.set.version() {
            self.look(&mut view);
        }
        view.next(tried).map(|target| Picked { target }).ok_or_else(no_target)
    }
}

impl View {
    /// The next target by weight.
    fn next(&mut self, tried: &[Rc<LocalTarget>]) -> Option<Rc<LocalTarget>> {
        let View { targets, owed, .. } = self;
        if let [only] = targets.as_slice()
            && tried.is_empty()
        {
            return (only.shared.weight > 0).then(|| Rc::clone(only));
        }
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, (target, owed)) in targets.iter().zip(owed.iter_mut()).enumerate() {
            if target.shared.weight == 0 || tried.iter().any(|tried| Arc::ptr_eq(&tried.shared, &target.shared)) {
                continue;
            }
            total += i64::from(target.shared.weight);
            *owed += i64::from(target.shared.weight);
            if best.is_none_or(|(_, most)| *owed > most) {
                best = Some((index, *owed));
            }
        }
        let (index, _) = best?;
        if let Some(owed) = owed.get_mut(index) {
            *owed -= total;
        }
        targets.get(index).map(Rc::clone)
    }
}
