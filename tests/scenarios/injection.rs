//! Faults put into a running process by strace(1), which lets chosen system calls fail or wait.
//!
//! It never starts a process under strace: it attaches to one, injects, and detaches.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Server, Signal, World, until};

const SOON: Duration = Duration::from_secs(10);

/// A strace that is attached to one process.
#[derive(Debug)]
#[must_use = "it is to be taken off again"]
pub struct Strace {
    tool: Server,
    log: PathBuf,
}

impl Strace {
    /// Attaches to `pid`, with the arguments that say what to inject. `None`, with a message, where
    /// there is no strace or a process may not be traced.
    pub fn attach(world: &mut World, pid: u32, inject: &[&str]) -> Option<Self> {
        let path = ["/usr/bin/strace", "/bin/strace", "/usr/local/bin/strace"];
        let Some(path) = path.into_iter().find(|path| Path::new(path).exists()) else {
            eprintln!("skipped: this machine has no strace");
            return None;
        };
        let log = world.tempdir().join(format!("strace-{pid}"));
        let tool = world
            .command(path)
            .args(&["-p", &pid.to_string(), "-o", log.to_str().unwrap()])
            .args(inject)
            .spawn();
        let attached = until("strace to attach", SOON, || {
            let told = tool.stderr().contains("attached");
            told.then_some(true)
                .or_else(|| tool.try_wait().map(|_| false))
        });
        if !attached {
            eprintln!("skipped: no process can be traced: {}", tool.stderr());
            return None;
        }
        Some(Self { tool, log })
    }

    /// Waits until it has injected something `count` times.
    #[track_caller]
    pub fn expect_injected(&self, count: usize) {
        until("a fault to be injected", SOON, || {
            (self.injected() >= count).then_some(())
        });
    }

    /// How often it has injected something.
    pub fn injected(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.matches("(INJECTED)").count() + log.matches("(DELAYED)").count()
    }

    /// Detaches; the process continues normally.
    #[track_caller]
    pub fn detach(self) {
        if self.tool.try_wait().is_none() {
            self.tool.signal(Signal::SIGINT);
        }
        self.tool.wait(SOON);
    }
}
