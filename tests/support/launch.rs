//! The start of a server process: a program of the test file, an example, or another command.
//!
//! It never lets the server wait for a reader: its outputs go into files unless the scenario gives
//! it something else.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::server::Server;
use super::world::World;

/// A server about to be started; made by [`World::program`] and its siblings.
#[derive(Debug)]
#[must_use = "nothing runs before spawn()"]
pub struct Launch<'w> {
    world: &'w mut World,
    name: String,
    command: Command,
    stdout_to_file: bool,
    stderr_to_file: bool,
}

impl<'w> Launch<'w> {
    pub(super) fn new(world: &'w mut World, name: &str, command: Command) -> Self {
        let mut launch = Self {
            world,
            name: name.to_owned(),
            command,
            stdout_to_file: true,
            stderr_to_file: true,
        };
        launch.command.stdin(Stdio::null());
        launch
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives the server a standard input; without it, it has /dev/null.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Gives the server a standard output of the scenario's own; [`Server::stdout`] and
    /// [`Server::address`] are then no use.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self.stdout_to_file = false;
        self
    }

    /// Gives the server a standard error of the scenario's own; the standing check then cannot
    /// look for panics in it.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self.stderr_to_file = false;
        self
    }

    /// Makes the server the leader of a process group, for signals to the group as a terminal
    /// sends them.
    pub fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// Starts it.
    #[track_caller]
    pub fn spawn(mut self) -> Server {
        let stem = self.world.output_stem(&self.name);
        let stdout = self.stdout_to_file.then(|| stem.with_extension("stdout"));
        let stderr = self.stderr_to_file.then(|| stem.with_extension("stderr"));
        if let Some(path) = &stdout {
            self.command.stdout(output(path));
        }
        if let Some(path) = &stderr {
            self.command.stderr(output(path));
        }
        let child = self.command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{} to start: {error}", self.name));
        let server = Server::new(self.name, child, stdout, stderr);
        self.world.adopt(server.clone());
        server
    }
}

/// The path of the example `name`, which is built beside the tests.
pub(super) fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this executable");
    let profile = own
        .parent()
        .and_then(Path::parent)
        .expect("a directory above deps");
    let path = profile.join("examples").join(name);
    let release = if profile.ends_with("release") {
        " --release"
    } else {
        ""
    };
    assert!(
        path.exists(),
        "the example {name:?} is not built: cargo build{release} --example {name} makes {}",
        path.display(),
    );
    path
}

fn output(path: &Path) -> File {
    // Appended to, as a log is: what two processes write to it does not overlap.
    let file = File::options().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("an output file at {}: {error}", path.display()))
}
