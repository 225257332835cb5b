//! The server under test as the first process of a pid namespace, as in a container.

use std::process::Command;

use super::{SOON, send};
use crate::support::{Server, Signal, World, processes, until};

const UNSHARE: [&str; 2] = ["-Urpf", "--mount-proc"];

/// A server that is process 1 where it lives. Pids that it speaks of are those of its namespace.
#[derive(Debug)]
pub struct Contained {
    /// What made the namespace, and waits for the server; its outputs are the server's.
    pub outer: Server,
    /// The server, by the pid that it has for everybody else.
    pub pid: u32,
}

impl Contained {
    /// `None`, with a message, where there are no namespaces for everybody.
    pub fn spawn(world: &mut World, program: &str, flags: &[&str]) -> Option<Self> {
        let attempt = Command::new("unshare").args(UNSHARE).arg("true").output();
        if !attempt.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: this machine lets nobody have a pid namespace");
            return None;
        }
        let own = std::env::current_exe().unwrap();
        let launch = world.command("unshare").args(&UNSHARE).arg(own);
        let outer = launch.args(&["--program", program]).args(flags).spawn();
        let pid = outer.expect_children(1)[0];
        Some(Self { outer, pid })
    }

    /// Its living children, by the pids that they have for everybody else.
    pub fn children(&self) -> Vec<u32> {
        let mut children = processes::children(self.pid);
        children.retain(processes::Process::is_alive);
        children.iter().map(|child| child.pid).collect()
    }

    /// Waits until it has exactly `count` living children, and returns them.
    #[track_caller]
    pub fn expect_children(&self, count: usize) -> Vec<u32> {
        until(&format!("{count} children in the namespace"), SOON, || {
            Some(self.children()).filter(|children| children.len() == count)
        })
    }

    /// Stops it in an orderly way.
    #[track_caller]
    pub fn ends_well(&self) {
        send(self.pid, Signal::SIGTERM);
        assert_eq!(self.outer.wait(SOON).code(), Some(0));
    }
}
