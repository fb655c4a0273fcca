//! Regular expressions that look through what callers send: the larger one is when compiled, the shorter the text it looks through, so that
//! a search takes some milliseconds at most, whatever both are.

/// Bytes of a text times bytes of what is compiled: what a search costs at worst, some 10 ms.
const WORK: usize = 1 << 26;
/// Bytes of the largest expression.
pub const MOST_COMPILED: usize = 1 << 18;
/// Bytes of the smallest that is told apart.
const LEAST_COMPILED: usize = 1 << 8;

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
    fn several_cost_together_what_one_may() {
        let one = compile("[01]*1[01]{100}2").unwrap();
        let mut all = [one.clone(), one.clone()];
        Bounded::share(&mut all);
        assert_eq!(all[0].most(), one.most() / 2);
    }
}
