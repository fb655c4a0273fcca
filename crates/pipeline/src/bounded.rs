//! Regular expressions that look through what callers send: the larger one is when compiled, the shorter the text it looks through, so that
//! a search takes some milliseconds at most, whatever both are.

use std::cell::Cell;

/// Bytes of a text times bytes of what is compiled: what a search costs at worst, some 10 ms.
const WORK: usize = 1 << 26;
/// Bytes of the largest expression.
pub const MOST_COMPILED: usize = 1 << 18;
/// Bytes of the smallest that is told apart.
const LEAST_COMPILED: usize = 1 << 8;

/// What looking for the route of one request may cost in all, in the same measure: four of the longest searches.
const MOST_FOR_A_ROUTE: u64 = 4 * WORK as u64;

/// What all that is asked of one request while its route is looked for may still cost together.
#[derive(Debug)]
pub struct Budget(Cell<u64>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(MOST_FOR_A_ROUTE))
    }
}

impl Budget {
    /// Takes so much of it, bytes of a text times bytes of what is compiled; whether there was so much left.
    #[inline]
    pub fn spend(&self, work: u64) -> bool {
        let left = self.0.get().checked_sub(work);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// The same for a share of the most that one evaluation may take.
    pub(crate) fn spend_share(&self, part: u64, of: u64) -> bool {
        self.spend(part.saturating_mul(WORK as u64) / of.max(1))
    }
}

/// Compiled expressions, and how long a text they look through.
#[derive(Clone, Debug)]
pub struct Bounded<T> {
    compiled: T,
    size: usize,
    most: usize,
}

impl<T> Bounded<T> {
    /// Compiles with `build`, which is given the most bytes that may come out.
    ///
    /// # Errors
    /// Those of `build`; when more than [`MOST_COMPILED`] come out, the one that says so.
    pub fn build(build: impl Fn(usize) -> Result<T, regex::Error>) -> Result<Bounded<T>, regex::Error> {
        let mut size = LEAST_COMPILED;
        loop {
            match build(size) {
                Ok(compiled) => return Ok(Bounded { compiled, size, most: WORK / size }),
                Err(regex::Error::CompiledTooBig(_)) if size < MOST_COMPILED => size *= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets texts be as long as this at least.
    #[must_use]
    pub fn at_least(mut self, bytes: usize) -> Bounded<T> {
        self.most = self.most.max(bytes);
        self
    }

    /// Makes what all of these cost together as little as what one may.
    pub(crate) fn share(all: &mut [Bounded<T>]) {
        let size: usize = all.iter().map(|one| one.size).sum();
        all.iter_mut().for_each(|one| one.most = one.most.min(WORK / size.max(1)));
    }

    /// Bytes of the longest text.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// What looks through a text of so many bytes; `None` when that is too long.
    #[inline]
    #[must_use]
    pub fn over(&self, bytes: usize) -> Option<&T> {
        (bytes <= self.most).then_some(&self.compiled)
    }

    /// What a search through a text of so many bytes costs at worst, in the measure of [`Budget`].
    #[inline]
    #[must_use]
    pub fn work(&self, bytes: usize) -> u64 {
        (self.size as u64).saturating_mul(bytes as u64)
    }

    /// What is compiled, for texts of the configuration.
    #[must_use]
    pub fn compiled(&self) -> &T {
        &self.compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Bounded<regex::Regex>, regex::Error> {
        Bounded::build(|size| regex::RegexBuilder::new(text).size_limit(size).build())
    }

    #[test]
    fn the_larger_an_expression_the_shorter_its_texts() {
        for (text, least, most) in [
            ("^[0-9]+$", 65_536, usize::MAX),
            ("(?i)bot|crawler", 16_384, usize::MAX),
            ("[01]*1[01]{100}2", 1_024, 8_192),
            ("[01]*1[01]{600}2", 256, 1_024),
        ] {
            let bounded = compile(text).unwrap();
            assert!((least..=most).contains(&bounded.most()), "{text}: {}", bounded.most());
            assert!(bounded.over(bounded.most()).is_some() && bounded.over(bounded.most() + 1).is_none());
        }
        assert!(matches!(compile("[01]{9}{900}"), Err(regex::Error::CompiledTooBig(_))));
        assert_eq!(compile("[01]*1[01]{600}2").unwrap().at_least(2_000).most(), 2_000);
    }

    #[test]
    fn a_budget_is_spent_and_does_not_come_back() {
        let budget = Budget::default();
        assert!(budget.spend(3 * WORK as u64) && budget.spend_share(50, 100) && !budget.spend(WORK as u64));
        assert!(!budget.spend(1) && budget.spend(0));
    }

    #[test]
    fn several_cost_together_what_one_may() {
        let one = compile("[01]*1[01]{100}2").unwrap();
        let mut all = [one.clone(), one.clone()];
        Bounded::share(&mut all);
        assert_eq!(all[0].most(), one.most() / 2);
    }
}
