//! For how long processes have run and have waited for a processor, as Linux counts it. Reads /proc;
//! changes nothing.

use crate::core::brake::RunTime;
use nix::libc::pid_t;
use std::{fs, time::Duration};

/// The times of the main thread of a process; `None` where the kernel does not tell.
pub(super) fn of(pid: pid_t) -> Option<RunTime> {
    run_time(&fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?)
}

/// For how long, since the system was started, some process has had to wait for a processor; `None`
/// where the kernel does not tell.
pub(super) fn pressure() -> Option<Duration> {
    total(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

/// The first two numbers, of nanoseconds.
fn run_time(text: &str) -> Option<RunTime> {
    let numbers = text.split_whitespace().map(str::parse);
    let mut times = numbers.map_while(Result::ok).map(Duration::from_nanos);
    let (ran, waited) = (times.next()?, times.next()?);
    Some(RunTime { ran, waited })
}

/// The total of the line that begins with `some`, of microseconds.
fn total(text: &str) -> Option<Duration> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let (_, total) = line.split_once("total=")?;
    total.trim().parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let (ran, waited) = (Duration::from_nanos(7), Duration::from_millis(9));
        assert_eq!(run_time("7 9000000 3\n"), Some(RunTime { ran, waited }));
        let text = "some avg10=1.00 avg60=0.50 avg300=0.10 total=1234\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        assert_eq!(total(text), Some(Duration::from_micros(1_234)));
    }

    #[test]
    fn nothing_is_made_up_for_another_text() {
        for text in ["", "7", "x 9", "7 y"] {
            assert_eq!(run_time(text), None, "{text:?}");
        }
        for text in ["", "full total=9", "some avg10=1", "some total=x"] {
            assert_eq!(total(text), None, "{text:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_runs_has_run_longer() {
        // The main thread, in which no test runs: its time does not fall.
        let pid = std::process::id().cast_signed();
        let Some(before) = of(pid) else {
            return println!("skipped: the kernel does not tell");
        };
        let after = of(pid).expect("it was told before");
        assert!(after.ran >= before.ran && before.ran > Duration::ZERO);
    }
}
