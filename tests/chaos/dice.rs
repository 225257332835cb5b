//! Chance that can be repeated: everything random is drawn from one seed.
//!
//! It never draws from the system, but for a seed that was not given.

use std::time::Duration;

use super::clock;

/// A generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed that `CHAOS_SEED` gives, or a new one; printed, so that a failure can be repeated.
    pub fn seed() -> u64 {
        let given = std::env::var("CHAOS_SEED").ok();
        let fresh = || clock::now().as_nanos() as u64 ^ u64::from(std::process::id()) << 40;
        let seed = given.map_or_else(fresh, |text| text.parse().expect("a number in CHAOS_SEED"));
        println!("seed {seed}: CHAOS_SEED={seed} draws the same again");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A duration below `limit`.
    pub fn duration(&mut self, limit: Duration) -> Duration {
        Duration::from_nanos(self.below(limit.as_nanos().max(1) as u64))
    }

    /// The time to the next of many events that are independent of each other, `mean` apart.
    pub fn gap(&mut self, mean: Duration) -> Duration {
        // 53 bits, above 0 and at most 1.
        let share = ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        mean.mul_f64(-share.ln())
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
