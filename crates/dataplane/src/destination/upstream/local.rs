//! One upstream as one worker sees it, and which of its targets a call goes to. Knows nothing of connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::budget::Share;
use super::gate::LocalGate;
use super::pool::LocalTarget;
use crate::snapshot::upstream::Upstream;

/// One upstream as one worker sees it.
pub(crate) struct LocalUpstream {
    pub(crate) shared: Arc<Upstream>,
    pub(crate) targets: Vec<Rc<LocalTarget>>,
    /// Smooth weighted round robin: what each target is owed.
    owed: RefCell<Vec<i64>>,
    /// The connections of all workers to it.
    pub(crate) share: Arc<Share>,
    /// How many calls it gets at once; `None` where nothing bounds them.
    pub(crate) gate: Option<Rc<LocalGate>>,
}

impl LocalUpstream {
    /// `offset` lets workers begin with different targets.
    pub(crate) fn new(
        shared: Arc<Upstream>,
        targets: Vec<Rc<LocalTarget>>,
        share: Arc<Share>,
        gate: Option<Rc<LocalGate>>,
        offset: usize,
    ) -> LocalUpstream {
        let count = targets.len().max(1);
        let owed = (0..targets.len()).map(|i| i64::from(i == offset % count)).collect();
        LocalUpstream { shared, targets, owed: RefCell::new(owed), share, gate }
    }

    /// The next target by weight, passing over those in `tried`.
    pub(crate) fn pick(&self, tried: &[usize]) -> Option<usize> {
        if self.targets.len() == 1 && tried.is_empty() {
            return self.shared.targets.first().filter(|t| t.weight > 0).map(|_| 0);
        }
        let mut owed = self.owed.borrow_mut();
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, (target, owed)) in self.shared.targets.iter().zip(owed.iter_mut()).enumerate() {
            if target.weight == 0 || tried.contains(&index) {
                continue;
            }
            total += i64::from(target.weight);
            *owed += i64::from(target.weight);
            if best.is_none_or(|(_, most)| *owed > most) {
                best = Some((index, *owed));
            }
        }
        let (index, _) = best?;
        if let Some(owed) = owed.get_mut(index) {
            *owed -= total;
        }
        Some(index)
    }
}
