//! A server with a holder whose program scenarios replace, and what they expect of it.

use super::*;

/// A server of version 1, in a file of its own that is the one of the next upgrade.
pub struct Upgraded {
    pub(super) watched: Watched,
    pub(super) path: PathBuf,
}

impl std::ops::Deref for Upgraded {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.watched
    }
}

impl Upgraded {
    pub fn new(world: &mut World, flags: &[&str]) -> Self {
        Self::with(world, "held", flags)
    }

    pub(super) fn with(world: &mut World, program: &str, flags: &[&str]) -> Self {
        let path = world.tempdir().join("server");
        write_program(&path, 1, Mode::Good);
        let launch = world
            .command(&path)
            .args(&["--program", program, "--saves"]);
        let watched = Watched::of(launch.args(flags).spawn());
        watched.expect_ready(4);
        Self { watched, path }
    }

    pub fn ask(&self, version: u32, mode: Mode) {
        write_program(&self.path, version, mode);
        self.server.signal(Signal::SIGUSR2);
    }

    /// Does something while the program is tried.
    #[track_caller]
    pub(super) fn ask_and_await_trial(
        &self,
        version: u32,
        mut gate: Gate,
        then: impl FnOnce(&Path),
    ) {
        self.ask(version, Mode::Good);
        gate.reached(SOON);
        then(&self.path);
        gate.open();
    }

    #[track_caller]
    pub(super) fn upgrade_to(&self, version: u32, mode: Mode) {
        let text = format!("upgraded to {version},");
        let times = self.said(&text);
        self.ask(version, mode);
        self.expect(&text, times + 1);
    }

    /// It fails, and this text is in the reason.
    #[track_caller]
    pub(super) fn fail_to_upgrade(&self, mode: Mode, reason: &str) {
        let times = self.said("upgrade failed: ");
        self.ask(9, mode);
        self.expect("upgrade failed: ", times + 1);
        let stdout = self.server.stdout();
        assert!(stdout.contains(reason), "{reason}: {stdout}");
    }

    #[track_caller]
    pub fn expect_version(&self, version: u32) {
        expect_version(&self.address(), version);
    }

    /// Whether the upgrade to this version goes on after a parent was killed: in the new program, or in
    /// the next parent, if the one that has begun it did not live to the end of that turn.
    pub fn goes_on_with(&self, version: u32, began: usize) -> bool {
        let is_new = self.said(&format!("version {version} in")) > 0;
        is_new || self.said("upgrade began") > began
    }

    /// The server has a holder that works: a parent that is killed is followed by another one.
    #[track_caller]
    pub fn expect_holder(&self) {
        // The one that has told of itself last may have left since, and this one may not have told yet.
        until("a parent", SOON, || {
            processes::is_alive(self.parent()).then_some(())
        });
        assert_ne!(self.parent(), self.server.pid(), "it has no holder");
        let mut client = connect(&self.address());
        let pid = client.ask("who");
        self.kill_parent();
        assert_eq!(client.ask("who"), pid);
        // An end that a parent did not live to tell is not told.
        until("the parent to know its children", SOON, || {
            self.children().is_subset(&self.known()).then_some(())
        });
    }
}

#[track_caller]
pub(super) fn expect_version(address: &Address, version: u32) {
    let mut in_a_row = 0;
    until("the version in every child", SOON, || {
        let found = connect(address).ask("version") == version.to_string();
        in_a_row = if found { in_a_row + 1 } else { 0 };
        (in_a_row == 20).then_some(())
    });
}

/// It may have left in this moment.
pub(super) fn kill_if_there(pid: u32) {
    if processes::is_alive(pid) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.cast_signed()),
            Signal::SIGKILL,
        );
    }
}
