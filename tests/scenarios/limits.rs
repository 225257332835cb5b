//! Forks that fail, and resources that run out: processes, descriptors, memory, files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::subject::{
    Held, InjectedErrors, deaths, ends_well, expect_up, hold, journal, pids, report,
};
use crate::support::{Address, Launch, SOON, Scenarios, Server, Signal, World, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    e01_a_fork_that_fails_is_retried_while_the_others_serve,
    e01_while_no_fork_succeeds_the_children_serve_and_the_parent_is_idle,
    e02_forks_without_memory_are_tried_again,
    e03_without_descriptors_nothing_is_half_made,
    e09_nothing_writes_a_file,
    e10_too_few_descriptors_are_refused_before_the_address_is_bound,
    e10_the_parent_raises_its_limit_and_children_have_the_old_one,
    e10_a_small_stack_and_little_memory_suffice,
    e11_hundreds_of_children_leave_no_trace_in_the_parent,
];

/// The delays that the hook `fork_failed` was told.
fn delays(server: &Server) -> Vec<String> {
    let mut entries = journal(server);
    entries.retain(|entry| entry.event == "failed");
    entries.into_iter().map(|entry| entry.rest).collect()
}

fn expect_delays(server: &Server, count: usize) -> Vec<String> {
    until(&format!("{count} failed forks"), SOON, || {
        Some(delays(server)).filter(|delays| delays.len() >= count)
    })
}

/// A user without any other process, whose number of processes can be limited: root is exempt.
struct Somebody(Vec<String>);

impl Somebody {
    /// Every run its own, and one that no process has.
    fn new() -> Self {
        let id = 1_000_000 + std::process::id();
        let ids = [format!("--reuid={id}"), format!("--regid={id}")];
        Self([&ids[..], &["--clear-groups".to_owned()]].concat())
    }

    /// Whether a command succeeds as that user.
    fn can(&self, command: &[&str]) -> bool {
        let run = Command::new("setpriv").args(&self.0).args(command).output();
        run.is_ok_and(|output| output.status.success())
    }

    fn spawn(&self, world: &mut World, command: &[&str]) -> Server {
        let ids: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let launch = world.command("setpriv").args(&ids);
        launch.args(command).spawn()
    }

    /// Sets how many processes the user may have, in the eyes of the server.
    fn limit(&self, server: &Server, processes: &str) {
        let pid = format!("--pid={}", server.pid());
        // With the colon, the soft limit: the hard one could not be raised again.
        let limit = format!("--nproc={processes}:");
        assert!(self.can(&["prlimit", &pid, &limit]), "prlimit {limit}");
    }
}

/// The soft limit of processes.
fn process_limit(server: &Server) -> String {
    soft_limit(server.pid(), "Max processes")
}

/// A soft limit of a process.
fn soft_limit(pid: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().split_whitespace().next().unwrap().to_owned()
}

/// A copy of this executable where another user can run it.
fn readable_copy(world: &World) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let directory = world.tempdir();
    let copy = directory.join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for path in [directory.parent().unwrap(), &directory, &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

/// The hook `fork_failed` is called and the fork is tried again after 100 ms, doubling to 5 s;
/// meanwhile the loop runs and the children serve.
///
/// Without the retry in `Backoff::fork_failed`: there is no third attempt.
fn e01_a_fork_that_fails_is_retried_while_the_others_serve(world: &mut World) {
    let somebody = Somebody::new();
    let program = readable_copy(world);
    let program = program.to_str().unwrap();
    if !(somebody.can(&[program, "--list"]) && somebody.can(&["prlimit"])) {
        return eprintln!("skipped: to become another user takes root, setpriv and prlimit");
    }
    let server = somebody.spawn(world, &[program, "--program", "serve"]);
    let address = server.address();
    expect_up(&server, 2);
    let before = process_limit(&server);
    somebody.limit(&server, "3");
    let mut held = hold(&address, 2);
    assert_eq!(expect_delays(&server, 3)[..3], ["100", "200", "400"]);
    assert_eq!(pids(&server, "forked").len(), 2);
    held.iter_mut().for_each(Held::is_served);
    somebody.limit(&server, &before);
    let third = Held::new(&address);
    assert!(held.iter().all(|held| held.pid != third.pid));
    drop((held, third));
    ends_well(&server);
    assert!(server.stderr().contains("fork failed: "));
    let failed = delays(&server).len();
    assert!(report(&server).contains(&format!(", {failed} failed forks, ")));
}

/// Failed forks are tried again, ever less often, and nothing else is done between two attempts.
///
/// Without the retry in `Backoff::fork_failed`: one attempt is all there is.
fn e01_while_no_fork_succeeds_the_children_serve_and_the_parent_is_idle(world: &mut World) {
    let server = world.spawn("serve", &["--no-fork-after", "2"]);
    let address = server.address();
    expect_up(&server, 2);
    let mut held = hold(&address, 2);
    assert_eq!(expect_delays(&server, 4)[..4], ["100", "200", "400", "800"]);
    assert_eq!(pids(&server, "forked").len(), 2);
    held.iter_mut().for_each(Held::is_served);
    drop(held);
    Held::new(&address).is_served();
    ends_well(&server);
    assert!(server.stderr().contains("fork failed: "));
    let failed = delays(&server).len();
    assert!(report(&server).contains(&format!(", {failed} failed forks, ")));
}

/// ENOMEM is handled like EAGAIN: it may pass, so the fork is tried again.
fn e02_forks_without_memory_are_tried_again(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let address = server.address();
    expect_up(&server, 2);
    let inject = "clone,?clone3,?fork,?vfork:error=ENOMEM:when=1..3";
    let Some(strace) = InjectedErrors::attach(world, server.pid(), inject) else {
        return ends_well(&server);
    };
    let mut held = hold(&address, 2);
    assert_eq!(expect_delays(&server, 3), ["100", "200", "400"]);
    let third = Held::new(&address);
    assert!(held.iter().all(|held| held.pid != third.pid));
    held.iter_mut().for_each(Held::is_served);
    drop((held, third));
    strace.detach();
    ends_well(&server);
    assert!(server.stderr().contains("Cannot allocate memory"));
}

/// Sets how many descriptors a process may have; false, with a message, where that is not possible.
fn limit_descriptors(pid: u32, soft: &str) -> bool {
    let (pid, limit) = (format!("--pid={pid}"), format!("--nofile={soft}:"));
    let run = Command::new("prlimit").args([pid, limit]).status();
    let done = run.is_ok_and(|status| status.success());
    if !done {
        eprintln!("skipped: prlimit cannot set the limit of a process here");
    }
    done
}

/// The limit with which `room` more descriptors can be opened.
fn limit_with_room(server: &Server, room: usize) -> i32 {
    let open: Vec<i32> = server.descriptors().iter().map(|(fd, _)| *fd).collect();
    let free = (0..).filter(|fd| !open.contains(fd));
    free.skip(room).find(|_| true).unwrap()
}

/// If a pipe fails, the pipes that were made before it are closed, and the fork is tried again like
/// a failed one.
///
/// When the first pipe is forgotten rather than closed: the parent holds two descriptors more.
fn e03_without_descriptors_nothing_is_half_made(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    expect_up(&server, 1);
    let mut held = Vec::new();
    // A child takes two pipes.
    for room in 0..4 {
        let before = server.descriptors_settled();
        let limit = limit_with_room(&server, room);
        if !limit_descriptors(server.pid(), &limit.to_string()) {
            break;
        }
        let failed = delays(&server).len();
        held.push(Held::new(&address));
        expect_delays(&server, failed + 2);
        assert_eq!(server.descriptors_settled(), before);
        held.iter_mut().for_each(Held::is_served);
        assert!(limit_descriptors(server.pid(), "1024"));
        until("the child that was missing", SOON, || {
            (pids(&server, "up").len() == held.len() + 1).then_some(())
        });
    }
    drop(held);
    ends_well(&server);
}

/// A server that runs under limits of its own.
fn limited<'w>(world: &'w mut World, limits: &[&str], flags: &[&str]) -> Launch<'w> {
    let own = std::env::current_exe().unwrap();
    let launch = world.command("prlimit").args(limits).arg("--").arg(own);
    launch.args(&["--program", "serve"]).args(flags)
}

fn has_prlimit() -> bool {
    let run = Command::new("prlimit").arg("--version").output();
    let there = run.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: no prlimit");
    }
    there
}

/// Neither the parent nor a child writes to any file: the server runs with a file size limit of 0.
fn e09_nothing_writes_a_file(world: &mut World) {
    if !has_prlimit() {
        return;
    }
    let launch = limited(world, &["--fsize=0"], &["--max-requests", "2"]);
    let launch = launch.env("TMPDIR", "/nowhere").env("HOME", "/nowhere");
    let server = launch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut stdout = BufReader::new(server.take_stdout().unwrap()).lines();
    let first = stdout.next().unwrap().unwrap();
    let address = Address::parse(first.strip_prefix("listening on ").unwrap());
    for _ in 0..6 {
        Held::new(&address).is_served();
    }
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let report = stdout.find_map(|line| line.ok().filter(|line| line.contains(" failed forks, ")));
    let report = report.expect("a report");
    assert!(report.contains(" 0 failed forks, "), "{report}");
}

/// `max_clients` children must fit into the hard limit, or the start fails with an error that has the
/// numbers.
fn e10_too_few_descriptors_are_refused_before_the_address_is_bound(world: &mut World) {
    if !has_prlimit() {
        return;
    }
    // An address that cannot be bound: there is another error if it is tried.
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let server = limited(world, &["--nofile=16:16"], &["--port", &port]).spawn();
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    assert!(
        text.contains("open files: max_clients 100 needs "),
        "{text}"
    );
    assert!(text.contains("the hard limit is 16"), "{text}");
}

/// If they do not fit into the soft limit, the parent raises it to the hard one; its children get
/// the original limit back.
fn e10_the_parent_raises_its_limit_and_children_have_the_old_one(world: &mut World) {
    if !has_prlimit() {
        return;
    }
    let server = limited(world, &["--nofile=64:1000"], &[]).spawn();
    server.address();
    let limit = |pid| soft_limit(pid, "Max open files");
    assert_eq!(limit(server.pid()), "1000");
    for child in expect_up(&server, 2) {
        assert_eq!(limit(child), "64");
    }
    ends_well(&server);
}

/// The server needs little memory: the memory limits are inherited and left as they are.
fn e10_a_small_stack_and_little_memory_suffice(world: &mut World) {
    if !has_prlimit() {
        return;
    }
    let limits = ["--stack=262144", "--as=268435456", "--core=0"];
    let server = limited(world, &limits, &[]).spawn();
    let address = server.address();
    hold(&address, 4).iter_mut().for_each(Held::is_served);
    ends_well(&server);
}

/// In kilobytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().split_whitespace().next();
    number.unwrap().parse().unwrap()
}

/// The record of a child is removed with the child, and its slot is used again.
fn e11_hundreds_of_children_leave_no_trace_in_the_parent(world: &mut World) {
    world.deadline(Duration::from_secs(90));
    let flags = ["--max-requests", "1", "--start", "4", "--min-spare", "4"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let serve = |connections: usize| {
        for _ in 0..connections {
            Held::new(&address).is_served();
        }
    };
    serve(100);
    let before = resident(server.pid());
    serve(300);
    let grown = resident(server.pid()).saturating_sub(before);
    assert!(grown < 256, "the parent has grown by {grown} kB");
    ends_well(&server);
    assert!(deaths(&server, "Finished") >= 300);
}
