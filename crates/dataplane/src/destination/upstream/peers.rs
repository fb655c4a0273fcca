//! What the targets of an upstream tell together, so that each can be compared with the others: what holds for all is not the fault of
//! one. Knows no rule.

use smallvec::SmallVec;

use super::outliers::Told;

/// What the others of a target tell. Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    /// The median of their means: how long they take for an answer. `None` while none has answered often enough.
    pub(crate) mean: Option<u64>,
    /// When one of them answered last.
    pub(crate) heard: u64,
    /// The median of the shares of their calls that are given up, hundredths of a per cent.
    pub(crate) forsaken: u64,
    /// The median of how long a call waits there whose answer may begin late.
    pub(crate) lasting: u64,
}

/// All targets, with what each tells in order.
pub(crate) struct Crowd {
    means: Sorted,
    heard: Sorted,
    forsaken: Sorted,
    lasting: Sorted,
}

/// Of more targets than this, a look allocates, ten times a second at most.
type Sorted = SmallVec<[u64; 16]>;

/// What one tells by whom others are judged; `None` while it is ejected or has not answered often enough.
fn mean(told: &Told) -> Option<u64> {
    (told.ejected() == 0).then(|| told.latency.mean()).flatten()
}

impl Crowd {
    /// Of these.
    pub(crate) fn of<'a>(all: impl Iterator<Item = &'a Told> + Clone, now: u64) -> Crowd {
        let sorted = |values: &mut dyn Iterator<Item = u64>| {
            let mut values: Sorted = values.collect();
            values.sort_unstable();
            values
        };
        let known = || all.clone().filter(|told| mean(told).is_some());
        Crowd {
            means: sorted(&mut all.clone().filter_map(mean)),
            heard: sorted(&mut all.clone().map(|told| told.latency.last())),
            forsaken: sorted(&mut known().map(Told::forsaken)),
            lasting: sorted(&mut known().map(|told| told.age_of_lasting(now))),
        }
    }

    /// Of all but this one.
    pub(crate) fn others(&self, own: &Told, now: u64) -> Peers {
        let mean = mean(own);
        let (last, known) = (own.latency.last(), mean.is_some());
        let median = |sorted: &[u64], own: u64| median_of_others(sorted, known.then_some(own)).unwrap_or(0);
        Peers {
            mean: median_of_others(&self.means, mean),
            heard: self.heard.iter().rev().copied().find(|other| *other != last).unwrap_or(0),
            forsaken: median(&self.forsaken, own.forsaken()),
            lasting: median(&self.lasting, own.age_of_lasting(now)),
        }
    }
}

/// The median of what the others have, of all sorted, without `own`.
fn median_of_others(sorted: &[u64], own: Option<u64>) -> Option<u64> {
    let Some(at) = own.and_then(|own| sorted.binary_search(&own).ok()) else {
        return sorted.get(sorted.len().checked_sub(1)? / 2).copied();
    };
    let middle = sorted.len().checked_sub(2)? / 2;
    sorted.get(if middle >= at { middle + 1 } else { middle }).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_the_others() {
        assert_eq!(median_of_others(&[1, 2, 100], Some(100)), Some(1));
        assert_eq!(median_of_others(&[1, 2, 100], Some(1)), Some(2));
        assert_eq!(median_of_others(&[1, 2, 3], None), Some(2));
        assert_eq!(median_of_others(&[5], Some(5)), None);
        assert_eq!(median_of_others(&[], None), None);
    }
}
