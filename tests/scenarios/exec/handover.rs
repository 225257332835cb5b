//! What `ExecServer` hands over: descriptors, environment, signals.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{show_command, signal, spawn, stop, until_gone};
use crate::support::{SOON, Scenarios, Server, Signal, World, processes, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    i09_descriptors_and_environment_are_as_documented,
    l07_environment_can_be_cleared,
    g03_signals_are_given_back,
    g05_stop_before_the_exec_is_not_lost,
];

fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let entries = text.split('\0').filter_map(|entry| entry.split_once('='));
    entries
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

// What is handed over.

const STALE: [(&str, &str); 9] = [
    ("LISTEN_FDS", "7"),
    ("LISTEN_PID", "1"),
    ("LISTEN_FDNAMES", "old"),
    ("LISTEN_PIDFDID", "3"),
    ("SERVER_STARTER_PORT", "80=9"),
    ("SERVER_STARTER_GENERATION", "4"),
    ("EINHORN_FD_COUNT", "1"),
    ("EINHORN_FD_0", "9"),
    ("EINHORN_SOCK_PATH", "/old"),
];

/// Variables that our own parent has set (LISTEN_FDS and the like) describe descriptors that a
/// program does not get: they are removed, and replaced by the server's own, with the pid of the
/// child.
fn i09_descriptors_and_environment_are_as_documented(world: &mut World) {
    let path = world.tempdir().join("socket").display().to_string();
    let mut launch = world.program("exec");
    for (name, value) in STALE {
        launch = launch.env(name, value);
    }
    let flags = [
        "--name",
        "http",
        "--path",
        &path,
        "--server-starter",
        "--einhorn",
        "--env",
        "OWN",
        "--env-remove",
        "DOOMED",
        "--timeout",
        "60000",
        "--",
    ];
    let show = show_command();
    let show: Vec<&str> = show.iter().map(String::as_str).collect();
    let launch = launch.env("DOOMED", "1").env("OWN", "overridden");
    let server = launch.args(&flags).args(&show).spawn();
    let addresses = server.addresses(2);
    let said = server.expect_stdout("the program", |text| text.contains("STDOUT: ready"));
    assert!(said.contains("pdeathsig Some(SIGINT)"), "{said}");
    let child = server.expect_children(1)[0];

    expect_pipes_and_sockets(child);
    let ports = format!("{}=3;{path}=4", addresses[0]);
    assert_eq!(environment(child), handed_over(&server, child, &ports));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stop(&server);
}

/// Standard streams and two listening sockets in blocking mode are all that a program has.
fn expect_pipes_and_sockets(child: u32) {
    let descriptors = processes::descriptors(child);
    let kinds: Vec<(i32, &str)> = descriptors
        .iter()
        .map(|(number, target)| (*number, target.split('[').next().unwrap()))
        .collect();
    let expected = [
        (0, "/dev/null"),
        (1, "pipe:"),
        (2, "pipe:"),
        (3, "socket:"),
        (4, "socket:"),
    ];
    assert_eq!(kinds, expected, "{descriptors:?}");

    for number in [3, 4] {
        let info = fs::read_to_string(format!("/proc/{child}/fdinfo/{number}")).unwrap();
        let (_, flags) = info.split_once("flags:").unwrap();
        let flags = flags.split_whitespace().next().unwrap();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        assert_eq!(flags & nix::libc::O_NONBLOCK, 0, "{info}");
    }
}

/// The environment of the program: the parent's, without what is stale, and with the server's own.
fn handed_over(server: &Server, child: u32, ports: &str) -> BTreeMap<String, String> {
    let mut expected = environment(server.pid());
    for (name, _) in STALE {
        expected.remove(name);
    }
    expected.remove("DOOMED");
    for (name, value) in [
        ("OWN", "set by the builder"),
        ("LISTEN_FDS", "2"),
        ("LISTEN_PID", &child.to_string()),
        ("LISTEN_FDNAMES", "http:control"),
        ("SERVER_STARTER_PORT", ports),
        ("EINHORN_FD_COUNT", "2"),
        ("EINHORN_FD_0", "3"),
        ("EINHORN_FD_1", "4"),
        ("PREFORK_SEND_ACK", "30"),
    ] {
        expected.insert(name.to_owned(), value.to_owned());
    }
    expected
}

/// A program gets the parent's environment, or with `env_clear` only what the builder sets. No data
/// from a client ever gets into an environment.
fn l07_environment_can_be_cleared(world: &mut World) {
    let flags = ["--env-clear", "--env", "ONLY", "--no-socket"];
    let server = spawn(world, &flags, &show_command());
    server.expect_stdout("the program", |text| text.contains("STDOUT: ready"));
    let child = server.expect_children(1)[0];
    let only = ("ONLY".to_owned(), "set by the builder".to_owned());
    assert_eq!(environment(child), BTreeMap::from([only]));
    assert_eq!(processes::descriptors(child).len(), 3);
    stop(&server);
}

/// A line of /proc/PID/status as a set of signals.
#[track_caller]
fn signals_in(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.split_once(field));
    let (_, set) = line.unwrap_or_else(|| panic!("{field} in {status}"));
    u64::from_str_radix(set.trim_start_matches("\\t").trim(), 16).unwrap()
}

/// A program gets the signal mask from before the fork, without SIGINT, SIGTERM and SIGALRM, the
/// default action for the signals that tell it to stop, and otherwise what the parent had before.
fn g03_signals_are_given_back(world: &mut World) {
    let bit = |signal: Signal| 1u64 << (signal as i32 - 1);
    // With SIGINT ignored, as a shell starts what is put in the background.
    let script = r#"trap "" INT HUP; exec "$0" --program exec --block -- cat /proc/self/status"#;
    let own_path = std::env::current_exe().unwrap();
    let launch = world.command("/bin/sh").args(&["-c", script]);
    let server = launch.arg(own_path).spawn();
    let status = server.expect_stdout("the status", |text| text.contains("SigCgt:"));
    let parents = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let ignored = signals_in(&parents, "SigIgn:");
    // The parent handles SIGHUP, and ignores these.
    let hangup = bit(Signal::SIGHUP);
    let ignores = [
        Signal::SIGPIPE,
        Signal::SIGXFSZ,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGWINCH,
    ];
    let parents_own = ignores.map(bit).iter().sum::<u64>();
    assert_eq!(ignored & (parents_own | hangup), parents_own);
    let given_back = ignored & !parents_own | hangup;
    assert_eq!(signals_in(&status, "SigIgn:"), given_back);
    assert_eq!(signals_in(&status, "SigBlk:"), bit(Signal::SIGUSR1));
    assert_eq!(signals_in(&status, "SigCgt:"), 0);
    stop(&server);
}

/// A child that is told to stop before it has become a program does not become one.
fn g05_stop_before_the_exec_is_not_lost(world: &mut World) {
    let mut gate = world.gate("before-exec");
    let server = spawn(world, &[], &show_command());
    let child = gate.reached(SOON);
    signal(child, Signal::SIGINT);
    gate.release(child);
    until_gone(child);
    gate.open();
    let said = server.expect_stdout("the program", |text| text.contains("STDOUT: ready"));
    assert!(!said.contains(&format!("{child} STDOUT")), "{said}");
    stop(&server);
}
