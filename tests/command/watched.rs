//! A server that tells its status and takes commands, for the tests of what shows and tells it.

use std::path::PathBuf;

use super::{prefork, tell, text};
use crate::support::{SOON, Server, World, until};

/// A server that `prefork inetd` runs, and where it tells its status and takes commands.
pub struct Watched {
    pub server: Server,
    pub status: PathBuf,
    pub control: PathBuf,
}

impl Watched {
    pub fn new(world: &mut World) -> Self {
        let [status, control] = ["status", "control"].map(|name| world.tempdir().join(name));
        let server = prefork(
            world,
            &["inetd", "--listen", "127.0.0.1:0", "--spare", "1..5"],
        )
        .args(&["--start-servers", "3", "--status", text(&status)])
        .args(&["--control", text(&control), "--", "cat"])
        .spawn();
        server.address();
        until("its status", SOON, || status.exists().then_some(()));
        Self {
            server,
            status,
            control,
        }
    }

    /// What tells `prefork top` of it.
    pub fn flags(&self) -> [&str; 4] {
        let (status, control) = (text(&self.status), text(&self.control));
        ["--status", status, "--control", control]
    }

    /// The children; the status helper is none of them.
    #[track_caller]
    pub fn pids(&self, world: &mut World) -> Vec<u32> {
        until("three children that are ready", SOON, || {
            let show = tell(
                world,
                &["status", "--json", "--status", text(&self.status)],
                0,
            );
            let slots = show
                .split_once("\"slots\":[")?
                .1
                .split_once("]")?
                .0
                .to_owned();
            let pids: Vec<_> = slots.split("\"pid\":").skip(1).collect();
            let pids = pids
                .iter()
                .filter_map(|rest| rest.split(',').next()?.parse().ok());
            let pids: Vec<u32> = pids.collect();
            let free = show.contains("\"free\":3,");
            (free && pids.len() == 3).then_some(pids)
        })
    }

    #[track_caller]
    pub fn stop(&self, world: &mut World) {
        tell(world, &["stop", "--control", text(&self.control)], 0);
        assert!(self.server.wait(SOON).success(), "{}", self.server.stderr());
        assert!(!self.status.exists());
    }
}
