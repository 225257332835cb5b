//! A server whose program scenarios replace, and what they expect of it.

use super::*;

/// Writes a program of that version and mode.
pub(super) fn write_program(path: &Path, version: u32, mode: Mode) {
    let own = std::env::current_exe().expect("this program");
    write_build(&own, path, version, mode);
}

/// The same of a build of this test file.
pub(super) fn write_build(build: &Path, path: &Path, version: u32, mode: Mode) {
    let name = MODES.iter().find(|(_, known)| *known == mode);
    versions::write(build, path, version, name.expect("a name").0);
}

/// A server of version 1, in a file of its own that is the one of the next upgrade.
pub(super) struct Upgraded {
    pub(super) server: Server,
    pub(super) path: PathBuf,
}

impl Upgraded {
    pub(super) fn with(world: &mut World, program: &str, flags: &[&str]) -> Self {
        Self::of(world, Mode::Good, program, flags)
    }

    /// The same, of a version 1 that behaves in that way.
    pub(super) fn of(world: &mut World, mode: Mode, program: &str, flags: &[&str]) -> Self {
        let path = world.tempdir().join("server");
        write_program(&path, 1, mode);
        let launch = world.command(&path).args(&["--program", program]);
        let server = launch.args(flags).spawn();
        Self { server, path }
    }

    pub(super) fn new(world: &mut World, flags: &[&str]) -> Self {
        Self::with(world, "upgrading", flags)
    }

    pub(super) fn upgrade_to(&self, version: u32, mode: Mode) {
        write_program(&self.path, version, mode);
        self.server.signal(Signal::SIGUSR2);
    }

    pub(super) fn said(&self, text: &str) -> usize {
        self.server.stdout().matches(text).count()
    }

    #[track_caller]
    pub(super) fn expect(&self, text: &str, times: usize) {
        let what = format!("{times} times {text:?}");
        let said = || (self.said(text) >= times).then_some(());
        until(&what, SOON * 2, || match self.server.try_wait() {
            Some(status) => panic!("{status}: {}", self.server.stderr()),
            None => said(),
        });
    }

    /// It has said that so often, and may have ended.
    #[track_caller]
    pub(super) fn expect_said(&self, text: &str, times: usize) {
        until(text, SOON, || (self.said(text) >= times).then_some(()));
    }

    /// The first line with the text among what it has said after so many bytes.
    #[track_caller]
    pub(super) fn expect_after(&self, length: u64, text: &str) -> String {
        until(text, SOON * 2, || {
            if let Some(status) = self.server.try_wait() {
                panic!("{status}: {}", self.server.stderr());
            }
            let said = self.server.stdout_after(length);
            let (lines, _) = said.rsplit_once('\n')?;
            let line = lines.lines().find(|line| line.contains(text));
            line.map(str::to_owned)
        })
    }

    #[track_caller]
    pub(super) fn expect_version(&self, version: u32) {
        let address = self.server.address();
        let mut in_a_row = 0;
        until("the version in every child", SOON, || {
            let found = ask(&address).1 == version;
            in_a_row = if found { in_a_row + 1 } else { 0 };
            (in_a_row == 20).then_some(())
        });
    }

    /// Stops it, and returns its report.
    #[track_caller]
    pub(super) fn stop(&self) -> String {
        assert!(self.server.stop(Signal::SIGTERM, SOON).success());
        let stdout = self.server.stdout();
        stdout.lines().last().expect("a report").to_owned()
    }
}

/// The child that answers, and its version.
#[track_caller]
pub(super) fn ask(address: &Address) -> (u32, u32) {
    parsed(&connect(address).ask("who"))
}

pub(super) fn parsed(answer: &str) -> (u32, u32) {
    let (pid, version) = answer.split_once(' ').expect("two words");
    (
        pid.parse().expect("a pid"),
        version.parse().expect("a version"),
    )
}

/// The children that were there before have not been replaced.
#[track_caller]
pub(super) fn expect_alive(children: &[u32]) {
    let gone = children.iter().find(|pid| !processes::is_alive(**pid));
    assert_eq!(gone, None, "it has gone");
}

/// What a server holds but for boards: each program has two, for as long as its children live.
fn held(server: &Server) -> usize {
    let is_board = |target: &str| BOARDS.iter().any(|board| target.contains(board));
    let held = server.descriptors().into_iter();
    held.filter(|(_, target)| !is_board(target)).count()
}

pub(super) fn held_when_settled(server: &Server) -> usize {
    server.descriptors_settled();
    held(server)
}

/// A server that held so many descriptors with four children holds no more, but for those of children.
#[track_caller]
pub(super) fn expect_as_many(server: &Server, descriptors: usize) {
    until("the descriptors as before", SOON, || {
        let children = server.children().len() + server.zombies().len();
        (held(server) <= descriptors + 2 * children.saturating_sub(4)).then_some(())
    });
}

/// Trials that are over have been reaped.
#[track_caller]
pub(super) fn expect_no_zombie(server: &Server) {
    until("the end of all trials", SOON, || {
        server.zombies().is_empty().then_some(())
    });
}

// Scenarios.

pub(super) fn processes_killed(pids: &[u32]) {
    for pid in pids {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        // It may have left by now.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}
