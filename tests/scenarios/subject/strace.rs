//! A process whose system calls are made to fail by strace, from the outside and for a while.
//!
//! It traces that process alone, not what it forks, and never ends it.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::{SOON, send};
use crate::support::{World, until};

/// An strace that is attached.
#[derive(Debug)]
pub struct InjectedErrors(Child);

impl InjectedErrors {
    /// Attaches to `pid`; `inject` is what strace takes after `-e inject=`. `None`, with a message,
    /// where there is no strace or processes may not be traced.
    #[track_caller]
    pub fn attach(world: &World, pid: u32, inject: &str) -> Option<Self> {
        let path = world.tempdir().join("strace");
        let log = File::create(&path).unwrap();
        let calls = inject.split(':').next().unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={inject}"), "-p", &pid.to_string()]);
        strace
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut strace = match strace.spawn() {
            Ok(strace) => strace,
            Err(error) => {
                eprintln!("skipped: no strace: {error}");
                return None;
            }
        };
        let attached = until("strace to attach", SOON, || {
            let text = fs::read_to_string(&path).unwrap();
            let refused = strace.try_wait().unwrap().map(|_| false);
            refused.or(text.contains(" attached").then_some(true))
        });
        if !attached {
            let text = fs::read_to_string(&path).unwrap();
            eprintln!("skipped: strace cannot do it here: {text}");
            return None;
        }
        Some(Self(strace))
    }

    /// Lets go of the process.
    #[track_caller]
    pub fn detach(mut self) {
        send(self.0.id(), Signal::SIGINT);
        until("strace to let go", SOON, || self.0.try_wait().unwrap());
    }
}
