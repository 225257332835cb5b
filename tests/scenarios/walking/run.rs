//! One run of a walk: a server whose clients are served, that is stopped, and what is left of it.
//! Injects nothing, and does not judge what came of it.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::strace::{Fault, Log, Point, Role, Trace};
use crate::support::{Address, Server, Signal, World, pause, port_is_free, processes};
use crate::walked::pair;

/// A run takes a tenth of a second, or a few seconds where a timeout is involved: a longer run
/// hangs.
pub const HANG: Duration = Duration::from_secs(40);

/// The connections of a run, two at a time.
const PAIRS: usize = 2;

/// What came of a run.
pub struct Run {
    pub role: Role,
    pub server: Server,
    pub address: Option<Address>,
    pub status: Option<ExitStatus>,
    /// Whether every client got its answer.
    pub served: bool,
    pub log: Log,
    /// What went wrong whatever was injected.
    pub fault: Option<String>,
    /// What is wrong unless the server ends because of an error.
    pub loss: Option<String>,
    /// Whose calls are traced.
    pub traced: u32,
    start: Instant,
}

impl Run {
    pub fn new(role: Role, server: Server, address: Option<Address>) -> Self {
        Self {
            role,
            server,
            address,
            status: None,
            served: false,
            log: Log::default(),
            fault: None,
            loss: None,
            traced: 0,
            start: Instant::now(),
        }
    }

    /// Serves clients, stops the server, and looks at what is left.
    pub fn complete(mut self, world: &World, point: Option<&Point>, trace: Trace) -> Self {
        if self.fault.is_none() {
            self.serve();
            self.stop();
        }
        self.end(world, point, trace)
    }

    /// Looks at what is left of a server that has ended.
    pub fn end(mut self, world: &World, point: Option<&Point>, trace: Trace) -> Self {
        if self.fault.is_none() {
            // It says that another process has reaped the child, and none has.
            let is_lie = point.is_some_and(|point| point.fault == Fault::Errno("ECHILD"));
            self.look_for_orphans(world, &trace, is_lie);
        }
        if self.fault.is_some() {
            // Not before: a process that hangs is to be seen as it is.
            clear(world);
        }
        self.traced = trace.pid();
        self.log = trace.finish();
        self
    }

    /// Serves all clients, unless the server ends first.
    pub fn serve(&mut self) {
        self.await_that("before it listens", |run| {
            run.find_address();
            run.address.is_some()
        });
        let Some(address) = self.address.clone() else {
            return;
        };
        let mut left = PAIRS;
        while left > 0 && !self.has_ended() {
            match pair(&address, self.role.serves_two()) {
                Ok(()) => left -= 1,
                Err(_) if self.start.elapsed() < HANG => pause(Duration::from_millis(2)),
                Err(error) => return self.hangs(&format!("while clients wait: {error}")),
            }
        }
        self.served = left == 0;
        self.settle();
    }

    /// Looks where the server says that it listens.
    pub fn find_address(&mut self) {
        self.address = self.address.take().or_else(|| listening(&self.server));
    }

    /// Waits until something is so, or the server has ended; it hangs if neither comes. Whether it is so.
    pub fn await_that(&mut self, when: &str, is_so: impl Fn(&mut Self) -> bool) -> bool {
        while self.fault.is_none() {
            // Asked first: what the server has said before it has ended is then there to be read.
            let has_ended = self.has_ended();
            if is_so(self) {
                return true;
            }
            if has_ended {
                return false;
            }
            if self.start.elapsed() > HANG {
                self.hangs(when);
            }
            pause(Duration::from_millis(2));
        }
        false
    }

    /// Gives the parent the time to cull, so that this is walked too. Nothing depends on it.
    fn settle(&self) {
        let start = Instant::now();
        while self.role.is_parent()
            && start.elapsed() < Duration::from_millis(500)
            && processes::children(self.server.pid()).len() > 2
        {
            pause(Duration::from_millis(2));
        }
    }

    /// Stops the server, and waits until it has ended.
    pub fn stop(&mut self) {
        if !self.has_ended() && self.fault.is_none() {
            send(self.server.pid(), Signal::SIGTERM);
        }
        self.start = Instant::now();
        self.await_that("in the shutdown", |_| false);
    }

    /// A server that ended well has reaped its children; after any other end they leave by themselves.
    fn look_for_orphans(&mut self, world: &World, trace: &Trace, zombies_allowed: bool) {
        let reaped = world.reap_orphans();
        let well = self.status.is_some_and(|status| status.success());
        let well = well && !zombies_allowed;
        let start = Instant::now();
        loop {
            let left = world.processes();
            if well && !(reaped.is_empty() && world.orphans().is_empty()) {
                self.fault = Some("a server exited without reaping".to_owned());
                return;
            }
            if left.is_empty() && trace.has_ended() {
                break;
            }
            if start.elapsed() > HANG {
                let left: Vec<String> = left.iter().map(processes::Process::describe).collect();
                self.fault = Some(format!("orphans: {}", left.join("; ")));
                return;
            }
            world.reap_orphans();
            pause(Duration::from_millis(2));
        }
        world.reap_orphans();
        if let Some(address @ Address::Tcp(_)) = &self.address
            && !port_is_free(address)
        {
            self.fault = Some(format!("{address} is not free"));
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.status = self.status.or_else(|| self.server.try_wait());
        self.status.is_some()
    }

    pub fn hangs(&mut self, when: &str) {
        let mut all = processes::descendants(self.server.pid());
        all.extend(processes::Process::read(self.server.pid()));
        let all: Vec<String> = all.iter().map(processes::Process::describe).collect();
        self.fault = Some(format!("it hangs {when}: {}", all.join("; ")));
    }

    pub fn fault_or(&self, outcome: &'static str) -> Result<&'static str, String> {
        self.fault
            .as_ref()
            .map_or(Ok(outcome), |fault| Err(self.report(fault)))
    }

    pub fn stderr_tells(&self, text: &str) -> bool {
        self.server.stderr().contains(text)
    }

    /// How often it has written a line that begins so.
    pub fn said(&self, text: &str) -> usize {
        let stdout = self.server.stdout();
        stdout.lines().filter(|line| line.starts_with(text)).count()
    }

    pub fn report(&self, fault: &str) -> String {
        format!(
            "{fault} (served: {}, status: {:?})\n---- stdout\n{}---- stderr\n{}----",
            self.served,
            self.status,
            self.server.stdout(),
            self.server.stderr()
        )
    }
}

/// Where a server says that it listens, if it has said it.
fn listening(server: &Server) -> Option<Address> {
    let said = server.stdout();
    let mut lines = said.lines();
    let address = lines.find_map(|line| line.strip_prefix("listening on "));
    address.map(Address::parse)
}

pub fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// Ends what a failed run has left, so that the next begins with nothing.
pub fn clear(world: &World) {
    loop {
        world.reap_orphans();
        let left = world.processes();
        if left.is_empty() {
            return;
        }
        for process in left {
            send(process.pid, Signal::SIGKILL);
        }
        pause(Duration::from_millis(2));
    }
}
