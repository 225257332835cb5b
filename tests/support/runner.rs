//! The runner: takes the place of the standard test harness, for test tools and for people.
//!
//! It starts each scenario in a process of its own, a few at a time, and reports as the standard
//! harness does. It never runs anything of a test in its own process.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::Scenario;
use super::arguments::Request;
use super::processes::{self, Process};
use super::wait::pause;
use super::watch::{Cost, Watch};

/// How many scenarios run at once unless the command line says otherwise. Each is a crowd itself, and
/// most of the time it waits.
const AT_ONCE: usize = 10;

/// The variable that says how often each scenario runs.
pub(super) const REPEAT: &str = "SCENARIO_REPEAT";

/// Does what the command line asks for.
pub fn run(arguments: &[String], scenarios: &[(&str, Scenario)]) -> ExitCode {
    let request = match Request::parse(arguments) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(101);
        }
    };
    let chosen = scenarios.iter().filter(|(name, _)| request.selects(name));
    let chosen: Vec<(&str, Scenario)> = chosen.copied().collect();
    if request.list {
        list(&chosen, request.terse);
        return ExitCode::SUCCESS;
    }
    // What outlives a scenario comes to the runner, which can so clear it away.
    set_child_subreaper(true).expect("to adopt what outlives a scenario");
    Run::new(&chosen, &request).drive(scenarios.len())
}

fn list(scenarios: &[(&str, Scenario)], terse: bool) {
    for (name, _) in scenarios {
        println!("{name}: test");
    }
    if !terse {
        println!("\n{} tests, 0 benchmarks", scenarios.len());
    }
}

/// One run of the chosen scenarios.
struct Run<'a> {
    names: Vec<&'a str>,
    is_long: Vec<bool>,
    at_once: usize,
    capture: bool,
    times: bool,
    repeat: usize,
    /// Which scenarios are to be started, one entry a repetition: the long ones, and the others.
    long: VecDeque<usize>,
    short: VecDeque<usize>,
    running: Vec<(usize, Watch)>,
    /// How many repetitions of each scenario have yet to pass.
    remaining: Vec<usize>,
    /// The children that this process had before it started any: an exec keeps them.
    had: Vec<u32>,
    /// The failed scenarios and their outputs.
    failures: Vec<(usize, String)>,
}

impl<'a> Run<'a> {
    fn new(scenarios: &[(&'a str, Scenario)], request: &Request) -> Self {
        let repeat = std::env::var(REPEAT)
            .ok()
            .and_then(|text| text.parse().ok());
        let repeat = repeat.filter(|&times| times > 0).unwrap_or(1);
        let count = scenarios.len();
        let is_long = |index: &usize| scenarios[*index].1.is_long;
        let queue = (0..count).flat_map(|index| vec![index; repeat]);
        let (long, short) = queue.partition(is_long);
        Self {
            names: scenarios.iter().map(|(name, _)| *name).collect(),
            is_long: (0..count).map(|index| is_long(&index)).collect(),
            at_once: request.threads.unwrap_or(AT_ONCE),
            capture: request.capture,
            times: request.times,
            repeat,
            long,
            short,
            running: Vec::new(),
            remaining: vec![repeat; count],
            had: processes::children(std::process::id())
                .iter()
                .map(|child| child.pid)
                .collect(),
            failures: Vec::new(),
        }
    }

    fn drive(mut self, known: usize) -> ExitCode {
        let started = Instant::now();
        let count = self.names.len();
        println!(
            "\nrunning {count} test{}",
            if count == 1 { "" } else { "s" }
        );
        while !(self.long.is_empty() && self.short.is_empty() && self.running.is_empty()) {
            self.start_what_fits();
            self.collect();
            pause(Duration::from_millis(5));
        }
        self.report(known - count, started.elapsed())
    }

    fn start_what_fits(&mut self) {
        while self.running.len() < self.at_once {
            let Some(index) = self.next() else {
                return;
            };
            let watch = Watch::start(self.names[index], self.capture);
            self.running.push((index, watch));
        }
    }

    /// The next to start. The long ones take half the places until they have all begun: each of them
    /// beside others that soon end, and none when the others are over.
    fn next(&mut self) -> Option<usize> {
        let running = self.running.iter();
        let long = running.filter(|(index, _)| self.is_long[*index]).count();
        if long * 2 < self.at_once {
            self.long.pop_front().or_else(|| self.short.pop_front())
        } else {
            self.short.pop_front().or_else(|| self.long.pop_front())
        }
    }

    fn collect(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            let (index, watch) = &mut self.running[at];
            let index = *index;
            let Some(outcome) = watch.finished() else {
                at += 1;
                continue;
            };
            let cost = watch.cost();
            drop(self.running.remove(at));
            match outcome {
                Ok(()) => self.passed(index, cost),
                Err(output) => self.failed(index, output),
            }
            self.clear_strays();
        }
    }

    fn passed(&mut self, index: usize, cost: Cost) {
        self.remaining[index] -= 1;
        if self.remaining[index] == 0 {
            println!("test {} ... ok{}", self.names[index], self.times(cost));
        }
    }

    /// What `--report-time` adds to a line: the time of the clock, and that of the processors.
    fn times(&self, cost: Cost) -> String {
        if !self.times {
            return String::new();
        }
        let [time, busy] = [cost.time, cost.busy].map(|time| time.as_secs_f64());
        format!(" <{time:.3}s, busy {busy:.2}s>")
    }

    /// Notes a failure; the scenario is not repeated any further.
    fn failed(&mut self, index: usize, output: String) {
        let passed = self.repeat - self.remaining[index];
        let name = self.names[index];
        if self.repeat == 1 {
            println!("test {name} ... FAILED");
        } else {
            println!(
                "test {name} ... FAILED (after {passed} of {} had passed)",
                self.repeat
            );
        }
        self.failures.push((index, output));
        self.long.retain(|&queued| queued != index);
        self.short.retain(|&queued| queued != index);
        let (same, others) = self
            .running
            .drain(..)
            .partition(|(running, _)| *running == index);
        self.running = others;
        let same: Vec<(usize, Watch)> = same;
        same.into_iter().for_each(|(_, watch)| watch.cancel());
    }

    /// Clears away what came to the runner because its scenario was gone, the unmarked too.
    fn clear_strays(&self) {
        for _ in 0..200 {
            let strays = self.strays();
            if strays.is_empty() {
                return;
            }
            for stray in strays {
                let pid = Pid::from_raw(stray.pid.cast_signed());
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
            pause(Duration::from_millis(5));
        }
    }

    /// The children of the runner that are no scenarios and that it did not have from the start.
    fn strays(&self) -> Vec<Process> {
        let mut strays = processes::children(std::process::id());
        strays.retain(|child| {
            let is_scenario = |(_, watch): &(usize, Watch)| watch.pid() == child.pid;
            !self.had.contains(&child.pid) && !self.running.iter().any(is_scenario)
        });
        strays
    }

    fn report(&self, filtered: usize, elapsed: Duration) -> ExitCode {
        let failed = self.failures.len();
        if failed > 0 {
            self.report_failures();
        }
        println!(
            "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; \
             {filtered} filtered out; finished in {:.2}s\n",
            if failed == 0 { "ok" } else { "FAILED" },
            self.names.len() - failed,
            elapsed.as_secs_f64(),
        );
        if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(101)
        }
    }

    fn report_failures(&self) {
        println!("\nfailures:\n");
        for (index, output) in &self.failures {
            println!("---- {} output ----\n{output}", self.names[*index]);
        }
        println!("\nfailures:");
        for (index, _) in &self.failures {
            println!("    {}", self.names[*index]);
        }
    }
}
