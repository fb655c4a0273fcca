//! Chance in tests: random numbers that a seed replays, and the seeds of a run. `SEED=7` runs that one alone. Knows nothing of what is
//! tested.

/// How many seeds a test runs.
const SEEDS: u64 = 256;

/// The seeds of this run: 256 of them, or the one that `SEED` names.
///
/// # Panics
/// When `SEED` is no number: a run that tests something else than it was asked for must not pass.
#[allow(clippy::panic, reason = "only tests use it, and a test fails by panicking")]
pub fn seeds() -> impl Iterator<Item = u64> {
    let named = std::env::var_os("SEED");
    chosen(named.as_deref().map(|seed| seed.to_string_lossy()).as_deref()).unwrap_or_else(|error| panic!("{error}"))
}

fn chosen(named: Option<&str>) -> Result<std::ops::RangeInclusive<u64>, String> {
    let Some(named) = named else { return Ok(0..=SEEDS - 1) };
    let seed = named.parse().map_err(|_| format!("`SEED` is a whole number, not `{named}`"))?;
    Ok(seed..=seed)
}

/// Random numbers (SplitMix64). Neighbouring seeds have nothing in common: a seed is a place on the one circle of states, far from its
/// neighbour's.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends, so that a number and not an option comes out")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, evenly or nearly so.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Between 0 and 1, neither of them.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let numbers = [(); 5].map(|()| random.next());
        // as Vigna's own program writes them for this seed
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut random = Random::new(7);
        for bound in 1..1_000 {
            assert!(random.below(bound) < bound);
            let unit = random.unit();
            assert!(unit > 0.0 && unit < 1.0, "{unit}");
        }
    }

    #[test]
    fn a_named_seed_runs_alone() {
        assert_eq!(chosen(None), Ok(0..=255));
        assert_eq!(chosen(Some("7")), Ok(7..=7));
        assert_eq!(chosen(Some("18446744073709551615")), Ok(u64::MAX..=u64::MAX));
        assert!(chosen(Some("seven")).unwrap_err().contains("`seven`"));
    }
}
