//! Seeded simulations: random numbers that a seed replays, and the seeds of a test run. `SEED=7` runs that one alone.

/// How many seeds a test runs.
const SEEDS: u64 = 256;

/// The seeds of this run.
pub(crate) fn seeds() -> impl Iterator<Item = u64> {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("`SEED` is a number"));
    only.map_or(0..SEEDS, |seed: u64| seed..seed + 1)
}

/// Random numbers (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
