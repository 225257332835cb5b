//! Time as a process gets it: on a machine where a crowd wants to run, a second of the clock is less
//! than a second, and every deadline lasts longer.
//!
//! It never makes a deadline shorter, and none endless.

use std::fs;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// So many that want to run for each processor are no crowd yet.
const EASY: f64 = 4.0;

/// What hangs is found in the end, whatever else runs.
pub const MOST: f64 = 20.0;

/// The deadline as this machine needs it now: `SCENARIO_PATIENCE` multiplies all of them.
pub fn patient(deadline: Duration) -> Duration {
    deadline.mul_f64(asked_for() * crowding())
}

fn asked_for() -> f64 {
    let factor = std::env::var("SCENARIO_PATIENCE").ok();
    let factor: u32 = factor.and_then(|text| text.parse().ok()).unwrap_or(1);
    f64::from(factor)
}

/// How many times longer everything takes than without the crowd.
fn crowding() -> f64 {
    // OK to take none: where there is no such file, time is that of the clock.
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    crowding_of(&load, processors())
}

/// How many there are for this process: asked for once, since that reads files of the control groups.
fn processors() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, |count| count.get()))
}

/// The fourth word is how many want to run, of how many there are.
pub fn crowding_of(load: &str, processors: usize) -> f64 {
    let running = load.split(' ').nth(3).and_then(|word| word.split_once('/'));
    let running: u32 = running.and_then(|(text, _)| text.parse().ok()).unwrap_or(0);
    let processors = u32::try_from(processors).unwrap_or(1);
    (f64::from(running) / (EASY * f64::from(processors))).clamp(1.0, MOST)
}

/// How long something has had, without what the crowd has taken. It is right if it is looked at often.
#[derive(Debug)]
pub struct FairClock {
    had: Duration,
    looked: Instant,
}

impl FairClock {
    pub fn start() -> Self {
        Self {
            had: Duration::ZERO,
            looked: Instant::now(),
        }
    }

    pub fn elapsed(&mut self) -> Duration {
        let now = Instant::now();
        let passed = now - self.looked;
        self.looked = now;
        self.had += passed.div_f64(asked_for() * crowding());
        self.had
    }
}
