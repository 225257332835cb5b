//! A sample of the points, drawn from a seed: each kind of fault once, then whatever comes. Another
//! seed walks other points, so that the days cover what a day does not.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::points::Point;

/// The seed of `WALK_SEED`, or that of today.
pub fn seed() -> u64 {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let given = std::env::var("WALK_SEED").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_secs() / DAY.as_secs()
    })
}

/// `size` of the points, in an order of the seed's: first one of each kind of fault.
pub fn sample(points: &[Point], size: usize, seed: u64) -> Vec<Point> {
    let mut order: Vec<_> = points.iter().collect();
    order.sort_by_cached_key(|point| (hash(&point.to_string(), seed), point.to_string()));
    let mut seen = BTreeSet::new();
    let (mut chosen, others): (Vec<&Point>, Vec<&Point>) = order
        .into_iter()
        .partition(|point| seen.insert(point.fault));
    chosen.extend(others);
    chosen.into_iter().take(size).cloned().collect()
}

/// FNV-1a, and the bits of the seed mixed in: the same on every machine.
fn hash(text: &str, seed: u64) -> u64 {
    let mixed = text.bytes().fold(
        0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3),
    );
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
