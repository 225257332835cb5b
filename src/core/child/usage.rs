//! What a child has used of the machine, as the kernel counted it. Plain data.

use std::{fmt, time::Duration};

/// What a child has used in its life.
///
/// The processes that it has waited for itself are included.
///
/// [`Death::usage`](crate::Death::usage) returns it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// The processor time in its own code.
    pub user_time: Duration,
    /// The processor time in the kernel, for it.
    pub system_time: Duration,
    /// The most memory that it had at a time, in bytes.
    ///
    /// Pages that it shared with others are included.
    pub max_resident: u64,
    /// How many pages it was given without reading from a disk.
    pub minor_faults: u64,
    /// How many pages had to be read from a disk.
    pub major_faults: u64,
    /// How often it has waited for something.
    pub voluntary_switches: u64,
    /// How often another process has taken its turn.
    pub involuntary_switches: u64,
}

impl Usage {
    /// The processor time, its own and the kernel's.
    pub fn cpu_time(&self) -> Duration {
        self.user_time.saturating_add(self.system_time)
    }
}

/// The processor time and the memory: `0.012 s of CPU, 5.3 MiB`.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.max_resident as f64 / f64::from(1 << 20);
        let seconds = self.cpu_time().as_secs_f64();
        write!(f, "{seconds:.3} s of CPU, {mebibytes:.1} MiB")
    }
}
