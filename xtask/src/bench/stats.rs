//! The little statistics that the table needs.

/// A median with the smallest and the largest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) low: f64,
    pub(super) median: f64,
    pub(super) high: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Spread { low: *sorted.first()?, median: median_of_sorted(&sorted)?, high: *sorted.last()? })
    }
}

pub(super) fn median(values: &[f64]) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((*sorted.get(middle - 1)? + upper) / 2.0) }
}

/// The value below which the true median lies with a confidence of 95 %, whatever the distribution: the smallest order
/// statistic whose rank more than `n` fair coins reach that rarely. `None` where there are too few values (under 5).
pub(super) fn upper_bound_of_median(values: &[f64]) -> Option<f64> {
    let n = values.len();
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // P(Bin(n, ½) ≤ k − 1) ≥ 0.95 for the rank k.
    let mut probability = 0.5_f64.powi(i32::try_from(n).ok()?);
    let mut sum = 0.0;
    for k in 0..n {
        sum += probability;
        if sum >= 0.95 {
            return sorted.get(k).copied();
        }
        probability *= (n - k) as f64 / (k + 1) as f64;
    }
    None
}

/// A generator of well-spread numbers that is the same in every run (SplitMix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Puts `items` into an order of chance.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_holds_the_median_and_both_ends() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { low: 1.0, median: 2.0, high: 3.0 }));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_bound_of_the_median_of_twenty_is_the_fifteenth() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(upper_bound_of_median(&values), Some(15.0));
        let values: Vec<f64> = (1..=5).map(f64::from).collect();
        assert_eq!(upper_bound_of_median(&values), Some(5.0));
        assert_eq!(upper_bound_of_median(&[1.0, 2.0, 3.0, 4.0]), None);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Numbers(1).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
