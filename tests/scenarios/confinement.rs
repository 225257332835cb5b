//! Children with fewer rights than their parent: what they are, what they cannot do, and what becomes
//! of a confinement that cannot be had.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Pid, Uid, setuid};
use prefork_server::servers::TcpConn;
use prefork_server::{Confinement, PreFork, Resource, TcpServer};

use crate::example::stop as stop_example;
use crate::subject::{Held, announce, builder, ended, ends_well, expect_exit, log_warnings, send};
use crate::support::{
    Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, processes, programs,
    scenarios, until,
};

pub mod namespaces;
mod seen;

use self::namespaces::has_user_namespaces;
use self::seen::{
    NICE, PROCESS_GROUP, SESSION, oom_score_adj, open_files, root_directory, stat, status,
};

pub const PROGRAMS: Programs = programs![confined, confined_that_tries];

pub const SCENARIOS: Scenarios = scenarios![
    l01_children_are_confined_and_the_parent_is_not,
    l02_root_cannot_be_had_again,
    l05_hello_serves_as_nobody_inside_of_a_directory,
    what_cannot_be_is_an_error_of_the_start,
    l03_a_child_that_cannot_be_confined_serves_nothing,
    a_confined_child_leaves_with_its_parent,
    l04_what_needs_no_privilege_is_for_every_parent,
    l04_each_number_is_seen_from_outside,
    l04_a_limit_on_files_is_a_limit_on_files,
    l04_a_limit_above_that_of_the_parent_is_an_error_of_the_start,
];

/// The user, and the group, of the children.
const NOBODY: &str = "65534";

/// What the flags ask for.
fn asked_for(args: &Args) -> Confinement {
    let mut confinement = Confinement::new();
    if let Some(user) = args.value("--user") {
        confinement = confinement.user(user);
    }
    if let Some(group) = args.value("--group") {
        confinement = confinement.group(group);
    }
    if let Some(path) = args.value("--chroot") {
        confinement = confinement.chroot(path);
    }
    if let Some(path) = args.value("--directory") {
        confinement = confinement.directory(path);
    }
    if let Some(soft) = args.parsed("--files") {
        let hard = args.parsed("--hard-files").unwrap_or(64);
        confinement = confinement.limit(Resource::OpenFiles, soft, hard);
    }
    if let Some(score) = args.parsed("--oom-score") {
        confinement = confinement.oom_score_adj(score);
    }
    if let Some(nice) = args.parsed("--nice") {
        confinement = confinement.nice(nice);
    }
    if let Some(groups) = args.value("--groups") {
        confinement = confinement.supplementary_groups(groups.split(','));
    }
    if args.has("--process-group") {
        confinement = confinement.process_group();
    }
    if let Some(kept) = args.value("--capabilities") {
        confinement = confinement.capabilities([kept]);
    }
    match args.has("--all") {
        true => confinement
            .session()
            .nice(lower_priority())
            .umask(0o27)
            .no_new_privs(),
        false => confinement,
    }
}

/// A nice value for the children. The tests themselves may run with a higher one than 3, below which
/// a parent without privileges may not go.
fn lower_priority() -> i32 {
    own_nice().max(3)
}

fn own_nice() -> i32 {
    stat(std::process::id(), NICE)
        .parse()
        .expect("a nice value")
}

/// Serves as `serve` does. A start that fails says what it has left behind.
fn confined(args: Args) -> ExitCode {
    log_warnings();
    let builder = builder(&args).confinement(asked_for(&args));
    let descriptors = || processes::descriptors(std::process::id());
    let before = descriptors();
    match builder.start() {
        Ok(mut prefork) => {
            announce(&prefork);
            ended(prefork.run().map(drop))
        }
        Err(error) => {
            assert_eq!(descriptors(), before, "descriptors");
            let children = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
            assert_eq!(children, Err(Errno::ECHILD), "children");
            ended(Err(error))
        }
    }
}

/// Serves whether a child can become root.
fn confined_that_tries(args: Args) -> ExitCode {
    log_warnings();
    let tried = |conn: TcpConn| -> io::Result<()> {
        let tried = setuid(Uid::from_raw(0));
        writeln!(&conn, "{} {tried:?}", std::process::id())
    };
    let server = TcpServer::new(tried)
        .address(args.value("--address").unwrap())
        .port(81);
    let builder = PreFork::builder(server).start_servers(1);
    let started = builder.confinement(asked_for(&args)).start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    }))
}

/// Whether this process is root; says why a scenario is skipped where it is not.
fn is_root() -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        eprintln!("skipped: only root can change the user and the root directory");
    }
    is_root
}

/// A directory that can be a root.
fn jail(world: &World) -> String {
    let path = world.tempdir().join("jail");
    fs::create_dir(&path).unwrap();
    fs::canonicalize(path).unwrap().to_str().unwrap().to_owned()
}

/// An address of the loopback network that no other run has, for a port of which there is one.
fn own_address() -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.81.{high}.{low}")
}

fn expect_nobody(pid: u32) {
    expect_user(pid, NOBODY, "");
}

/// All four user and group ids, and the supplementary groups.
#[track_caller]
fn expect_user(pid: u32, id: &str, groups: &str) {
    let four = [id; 4].join(" ");
    assert_eq!(status(pid, "Uid"), four);
    assert_eq!(status(pid, "Gid"), four);
    assert_eq!(status(pid, "Groups"), groups);
    assert_eq!(status(pid, "CapEff"), "0000000000000000");
}

/// `Confinement` has one order, whatever the order of its setters: limits before the user, chroot
/// before the user, groups before the group before the user. It is taken in the child before any code
/// of the user's; the parent keeps its rights.
///
/// Without `perform` in `ChildSide::confine` the child is root.
fn l01_children_are_confined_and_the_parent_is_not(world: &mut World) {
    if !is_root() {
        return;
    }
    let jail = jail(world);
    let flags = everything(&jail);
    let server = world.spawn("confined", &flags);
    expect_everything(&server, &jail, NOBODY, "12 34");
    assert_eq!(status(server.pid(), "Uid"), "0 0 0 0");
    ends_well(&server);
}

/// All steps at once.
fn everything(jail: &str) -> Vec<&str> {
    let user = ["--user", NOBODY, "--group", NOBODY, "--groups", "12,34"];
    let rest = ["--chroot", jail, "--files", "48", "--capabilities", "kill"];
    [&user[..], &rest, &["--max-clients", "5", "--all"]].concat()
}

/// The children have `everything`, with these ids as they are seen from here, and the parent has
/// nothing of it.
#[track_caller]
fn expect_everything(server: &Server, jail: &str, id: &str, groups: &str) {
    let held = Held::new(&server.address());
    let parent = server.pid();
    let pid = held.pid;
    expect_user(pid, id, groups);
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "CapBnd"), "0000000000000020");
    assert_eq!(status(pid, "Umask"), "0027");
    assert_eq!(stat(pid, SESSION), pid.to_string());
    assert_eq!(stat(pid, NICE), lower_priority().to_string());
    assert_eq!(root_directory(pid), jail);
    assert_eq!(open_files(pid), "48 64");
    assert_eq!(status(parent, "NoNewPrivs"), "0");
    assert_eq!(root_directory(parent), "/");
    assert_ne!(open_files(parent), "48 64");
    assert_eq!(stat(parent, NICE), own_nice().to_string());
    drop(held);
}

/// Real, effective and saved user and group are changed, and supplementary groups are dropped. Then
/// the child tries to become root and to raise its limits, and ends if it can.
fn l02_root_cannot_be_had_again(world: &mut World) {
    if !is_root() {
        return;
    }
    let address = own_address();
    let flags = ["--user", NOBODY, "--group", NOBODY, "--address", &address];
    let server = world.spawn("confined_that_tries", &flags);
    let mut client: Client = connect(&server.address());
    let line = client.read_line();
    let (pid, tried) = line.trim_end().split_once(' ').unwrap();
    assert_eq!(tried, "Err(EPERM)");
    expect_nobody(pid.parse().unwrap());
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// The directory of a chroot is the current one, and what was asked for and `..` of it are compared
/// with it. The parent's directories are closed in children; one that the program has opened itself
/// stays open.
fn l05_hello_serves_as_nobody_inside_of_a_directory(world: &mut World) {
    if !is_root() {
        return;
    }
    let jail = jail(world);
    let flags = ["--port", "0", "--max-clients", "5", "--chroot", &jail];
    let flags = [&flags[..], &["--user", NOBODY, "--group", NOBODY]].concat();
    let server = world.run_example("hello", &flags);
    let mut client = connect(&server.address());
    client.send_line("GET / HTTP/1.0\r\n\r");
    assert_eq!(client.read_line(), "HTTP/1.1 200 OK\r");
    for pid in server.expect_children(5) {
        until("a confined child", SOON, || {
            (root_directory(pid) == jail && status(pid, "NoNewPrivs") == "1").then_some(())
        });
        expect_nobody(pid);
    }
    stop_example(&server);
}

/// The error has the step; no address is bound, no descriptor open, no child left. The program that is
/// run checks the last two.
///
/// Without the rehearsal the server starts, and its children fail.
fn what_cannot_be_is_an_error_of_the_start(world: &mut World) {
    if !is_root() {
        return;
    }
    let nowhere = "/nowhere/at/all";
    let not_found = "no such file or directory (os error 2)";
    let cases = [
        (
            ["--user", "no-such-user"],
            "user no-such-user",
            "no such user",
        ),
        (
            ["--group", "no-such-group"],
            "group no-such-group",
            "no such group",
        ),
        (["--chroot", nowhere], "chroot /nowhere/at/all", not_found),
        (
            ["--directory", nowhere],
            "directory /nowhere/at/all",
            not_found,
        ),
        (
            ["--chroot", "srv"],
            "chroot srv",
            "the path is not absolute",
        ),
        (
            ["--files", "65"],
            "limit of open files 65:64",
            "invalid argument (os error 22)",
        ),
        (
            ["--capabilities", "fly"],
            "capability bounding set fly",
            "no capability fly",
        ),
    ];
    for (flags, step, reason) in cases {
        let server = world.spawn("confined", &flags);
        assert_eq!(server.wait(SOON).code(), Some(1), "{step}");
        let expected = format!("error: confine {step}: {reason}\n");
        // The error of an unknown user is that of its group, which is looked up first.
        let text = server.stderr().replace("confine group of", "confine user");
        assert_eq!(text, expected);
        assert_eq!(server.stdout(), "");
    }
}

/// Each step is read back. An error ends the child before any hook is called in it, with the exit
/// code of a failed start; at the start of the server a process made for that tries all steps.
///
/// Where the error was ignored the child served as root.
fn l03_a_child_that_cannot_be_confined_serves_nothing(world: &mut World) {
    if !is_root() {
        return;
    }
    let jail = jail(world);
    let server = world.spawn("confined", &["--max-clients", "1", "--chroot", &jail]);
    let held = Held::new(&server.address());
    fs::remove_dir(&jail).unwrap();
    send(held.pid, Signal::SIGKILL);
    let text = server.expect_stderr("a failed start", |text| text.contains("exit status: 102, "));
    let words = format!(
        "exit status: 102, last lines \"cannot become a child: confine chroot {jail}: no such file"
    );
    assert!(text.contains(&words), "{text}");
    drop(held);
    // It recovers with its directory.
    fs::create_dir(Path::new(&jail)).unwrap();
    let mut held = Held::new(&server.address());
    held.is_served();
    assert_eq!(root_directory(held.pid), jail);
    drop(held);
    ends_well(&server);
}

/// A change of user unties a child from its parent's life, also in the time before `server_start`, so
/// it is tied again. The child is stuck, and hears of the death by that signal only.
fn a_confined_child_leaves_with_its_parent(world: &mut World) {
    if !is_root() {
        return;
    }
    let flags = ["--user", NOBODY, "--group", NOBODY, "--kill-timeout", "200"];
    let server = world.spawn("confined", &flags);
    let mut stuck = Held::new(&server.address());
    expect_nobody(stuck.pid);
    stuck.client.send_line("spin");
    server.kill9();
    stuck.client.gone();
    until("no orphans", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

/// `Confinement` sets the bounding set of capabilities and no_new_privs. The kernel clears the dumpable
/// flag at a change of user, and it stays so; the tie to the parent is made again.
///
/// Not skipped without root: limits are lowered, a session begun, privileges given up.
fn l04_what_needs_no_privilege_is_for_every_parent(world: &mut World) {
    let flags = ["--start", "1", "--all", "--files", "48", "--directory", "/"];
    let server = world.spawn("confined", &flags);
    let held = Held::new(&server.address());
    assert_eq!(open_files(held.pid), "48 64");
    assert_eq!(status(held.pid, "NoNewPrivs"), "1");
    let held_pid = held.pid;
    drop(held);
    ends_well(&server);
    expect_exit(&server, held_pid, "Shutdown exit status: 0");
}

/// The numbers are those of the child alone, and the parent has what it had.
fn l04_each_number_is_seen_from_outside(world: &mut World) {
    let flags = ["--process-group", "--oom-score", "700", "--nice", "5"];
    let server = world.spawn("confined", &flags);
    let held = Held::new(&server.address());
    let (pid, parent) = (held.pid, server.pid());
    assert_eq!(stat(pid, PROCESS_GROUP), pid.to_string());
    assert_eq!(stat(pid, SESSION), stat(parent, SESSION));
    assert_eq!(oom_score_adj(pid), "700");
    assert_eq!(stat(pid, NICE), "5");
    assert_ne!(stat(parent, PROCESS_GROUP), pid.to_string());
    assert_ne!(oom_score_adj(parent), "700");
    assert_ne!(stat(parent, NICE), "5");
    drop(held);
    ends_well(&server);
}

/// A handler that opens more gets EMFILE, and its child serves on.
fn l04_a_limit_on_files_is_a_limit_on_files(world: &mut World) {
    let server = world.spawn("confined", &["--files", "48"]);
    let mut held = Held::new(&server.address());
    assert_eq!(held.client.ask("exceed-files"), "done");
    held.is_served();
    drop(held);
    ends_well(&server);
}

/// Only root may raise a hard limit; root of a user namespace may not.
fn l04_a_limit_above_that_of_the_parent_is_an_error_of_the_start(world: &mut World) {
    let own = std::env::current_exe().unwrap();
    let script = r#"ulimit -n 256 && exec "$@""#;
    let mut launch = world.command("sh").args(&["-c", script, "sh"]);
    if Uid::effective().is_root() {
        if !has_user_namespaces() {
            return;
        }
        launch = launch.args(&["unshare", "-Ur"]);
    }
    let launch = launch.arg(own).args(&["--program", "confined"]);
    let limits = ["--max-clients", "5", "--files", "48", "--hard-files", "512"];
    let server = launch.args(&limits).spawn();
    assert_eq!(server.wait(SOON).code(), Some(1));
    let reason = "operation not permitted (os error 1)";
    let expected = format!("error: confine limit of open files 48:512: {reason}\n");
    assert_eq!(server.stderr(), expected);
    assert_eq!(server.stdout(), "");
}
