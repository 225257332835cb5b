//! The rows of the table of signals, each under load: what the parent and its children do, and that
//! no client pays for it. Stops are in `stops.rs`, signals without a row in `signals.rs`.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use prefork_server::servers::TcpConn;
use prefork_server::{
    ChildServer, Comm, Error, ExecServer, Monitor, PreFork, PreForkHooks, Start, TcpServer,
    defaults,
};

use crate::subject::{
    Crowd, Held, ended, ends_well, expect_up, has_signal, hold, journal, log_warnings, pids, send,
};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, connect, holds, processes, programs,
    scenarios, until,
};

mod programs;

use self::programs::{logging, worker};

pub const PROGRAMS: Programs = programs![logging, worker];

pub const SCENARIOS: Scenarios = scenarios![
    g12_signals_that_stop_nothing_cost_no_client,
    g12_a_burst_of_all_of_them_costs_no_client,
    sighup_replaces_every_child_and_costs_no_client,
    sigquit_to_the_whole_group_costs_no_client,
    sigusr1_has_parent_and_children_reopen_their_logs,
    sigusr1_reaches_children_that_wait_at_once,
    sigusr1_to_a_program_is_sent_if_it_is_asked_for,
    a_program_has_the_default_for_what_its_child_ignores,
    sigttin_and_sigttou_change_max_clients_if_asked_for,
    sigttin_and_sigttou_under_load_cost_no_client,
    a_server_in_the_background_of_a_terminal_is_not_stopped_by_its_output,
];

// Scenarios.

/// What the parent acts on without stopping anything, and what it ignores.
const DISTURBING: [Signal; 6] = [
    Signal::SIGUSR1,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGPIPE,
    Signal::SIGXFSZ,
    Signal::SIGWINCH,
];

/// No process dies, none is stopped, and no client is lost or refused.
fn g12_signals_that_stop_nothing_cost_no_client(world: &mut World) {
    let server = world.program("serve").own_group();
    let server = server.args(&["--start", "6"]).spawn();
    let address = server.address();
    let children = expect_up(&server, 6);
    let mut held = hold(&address, 2);
    let crowd = Crowd::come(&address, 4);
    for signal in DISTURBING {
        for _ in 0..5 {
            server.signal(signal);
            crowd.is_served(5);
            held.iter_mut().for_each(Held::is_served);
        }
        assert_ne!(processes::state(server.pid()), Some('T'), "{signal}");
    }
    crowd.leave();
    let ours: Vec<u32> = server.children();
    assert!(children.iter().all(|child| ours.contains(child)));
    assert_eq!(pids(&server, "exited"), []);
    // Several signals of one turn are one state.
    let reopened = pids(&server, "reopen").len();
    assert!((1..=5).contains(&reopened), "{reopened}");
    drop(held);
    ends_well(&server);
}

/// The same when they come faster than the loop turns, and to the whole group, as a terminal or a
/// careless `kill` sends them. No handler runs within another one, which would overflow the
/// alternate stack.
///
/// With `SigSet::empty()` as the mask of the handlers the parent ends by SIGSEGV.
fn g12_a_burst_of_all_of_them_costs_no_client(world: &mut World) {
    let server = world.program("serve").own_group();
    let server = server.args(&["--start", "6"]).spawn();
    let address = server.address();
    expect_up(&server, 6);
    let mut held = hold(&address, 2);
    let crowd = Crowd::come(&address, 4);
    // SIGXFSZ ends a child, as before the start.
    let harmless = |signal: &&Signal| **signal != Signal::SIGXFSZ;
    for _ in 0..200 {
        for signal in DISTURBING.iter().filter(harmless) {
            to_group(&server, *signal);
        }
    }
    crowd.is_served(20);
    held.iter_mut().for_each(Held::is_served);
    crowd.leave();
    assert_eq!(pids(&server, "exited"), []);
    drop(held);
    ends_well(&server);
}

fn to_group(server: &Server, signal: Signal) {
    let group = nix::unistd::Pid::from_raw(server.pid().cast_signed());
    nix::sys::signal::killpg(group, signal).expect("a signal to the group");
}

/// Each child is replaced, and a client that one of them has in hand is served to its end.
fn sighup_replaces_every_child_and_costs_no_client(world: &mut World) {
    let server = world.program("serve").own_group();
    let server = server.args(&["--start", "6"]).spawn();
    let address = server.address();
    expect_up(&server, 6);
    let mut held = hold(&address, 2);
    let crowd = Crowd::come(&address, 4);
    for _ in 0..5 {
        let before = server.children();
        to_group(&server, Signal::SIGHUP);
        until("new children, but for the two with a client", SOON, || {
            let now = server.children();
            let old = before.iter().filter(|child| now.contains(child));
            (old.count() <= 2).then_some(())
        });
        held.iter_mut().for_each(Held::is_served);
        crowd.is_served(5);
    }
    crowd.leave();
    let ends: Vec<String> = journal(&server)
        .into_iter()
        .filter_map(|entry| (entry.event == "exited").then_some(entry.rest))
        .collect();
    assert!(
        ends.iter().all(|end| end == "Reloaded exit status: 0"),
        "{ends:?}"
    );
    drop(held);
    ends_well(&server);
}

/// Ctrl-\ of a terminal: children finish what they have in hand instead of dumping core.
fn sigquit_to_the_whole_group_costs_no_client(world: &mut World) {
    let server = world.program("serve").own_group();
    let server = server.args(&["--start", "4"]).spawn();
    let address = server.address();
    expect_up(&server, 4);
    let mut held = hold(&address, 2);
    to_group(&server, Signal::SIGQUIT);
    server.expect_children(2);
    holds("the clients are served", Duration::from_millis(300), || {
        held.iter_mut().for_each(Held::is_served);
        true
    });
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// A log that is rotated under load: every line that a client was answered for is in the old file or
/// in the new one, once, and no process goes on writing to the old one.
///
/// Without the call in `notice_reopen` the children keep the old file.
fn sigusr1_has_parent_and_children_reopen_their_logs(world: &mut World) {
    let log = world.tempdir().join("log");
    let server = world.program("logging").arg("--log").arg(&log).spawn();
    let address = server.address();
    let crowd = Crowd::come(&address, 4);
    let mut rotated = Vec::new();
    for number in 1..=5 {
        crowd.is_served(20);
        let old = log.with_extension(number.to_string());
        fs::rename(&log, &old).expect("to rename the log");
        server.signal(Signal::SIGUSR1);
        nobody_has(&server, &old);
        rotated.push(old);
    }
    crowd.is_served(20);
    let served = crowd.leave();
    let texts = rotated.iter().chain([&log]).map(fs::read_to_string);
    let text: String = texts.map(|text| text.expect("a log")).collect();
    let count = |line: &str| text.lines().filter(|found| *found == line).count();
    assert_eq!((count("who"), count("again")), (served, served));
    assert_eq!(count("the parent has reopened its log"), 5);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// Waits until no process of the server has `path` open.
#[track_caller]
fn nobody_has(server: &Server, path: &Path) {
    let path = path.display().to_string();
    until(&format!("nobody to have {path}"), SOON, || {
        let all = server.children().into_iter().chain([server.pid()]);
        let has = |pid: u32| {
            let open = processes::descriptors(pid);
            open.iter().any(|(_, target)| *target == path)
        };
        (!all.into_iter().any(has)).then_some(())
    });
}

/// Children that have no client for a long time do not keep the old file meanwhile.
fn sigusr1_reaches_children_that_wait_at_once(world: &mut World) {
    // More children wait on their epolls, fewer take turns in accept(2).
    for start in ["2", "20"] {
        let log = world.tempdir().join(format!("log-{start}"));
        let server = world.program("logging").args(&["--start", start]);
        let server = server.arg("--log").arg(&log).spawn();
        let address = server.address();
        server.expect_children(start.parse().unwrap());
        let mut held = connect(&address);
        held.ask("first");
        for number in 1..=10 {
            let old = log.with_extension(number.to_string());
            fs::rename(&log, &old).expect("to rename the log");
            server.signal(Signal::SIGUSR1);
            // But that one has its client in hand, and looks when the client says something.
            until("the others to reopen", SOON, || {
                let has = |pid: &u32| {
                    let open = processes::descriptors(*pid);
                    open.iter()
                        .any(|(_, target)| *target == old.display().to_string())
                };
                (server.children().iter().filter(|pid| has(pid)).count() <= 1).then_some(())
            });
            held.ask("more");
            nobody_has(&server, &old);
        }
        drop(held);
        assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    }
}

/// A program that does not handle SIGUSR1 would be ended by it, so it gets it only if it is said to
/// know it.
fn sigusr1_to_a_program_is_sent_if_it_is_asked_for(world: &mut World) {
    let deaf = world.spawn("worker", &["--script", "exec sleep 1000"]);
    let pid = until("a program", SOON, || named(&deaf, "sleep"));
    deaf.signal(Signal::SIGUSR1);
    deaf.signal(Signal::SIGUSR1);
    holds("the program lives", Duration::from_millis(300), || {
        named(&deaf, "sleep") == Some(pid)
    });
    assert_eq!(deaf.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let script = "trap 'echo reopened' USR1; trap 'exit 0' TERM; echo up; \
                  while :; do sleep 1000 & wait $!; done";
    let knows = world.spawn("worker", &["--usr1", "--script", script]);
    knows.expect_stdout("the program", |text| text.contains("STDOUT: up"));
    knows.signal(Signal::SIGUSR1);
    knows.expect_stdout("the signal", |text| text.contains("STDOUT: reopened"));
    assert_eq!(knows.stop(Signal::SIGTERM, SOON).code(), Some(0));
    // The shell has left its last `sleep`, which the signals to its group have ended.
    until("the rest of the group to be reaped", SOON, || {
        let ended = world.processes().is_empty();
        world.reap_orphans();
        ended.then_some(())
    });
}

fn named(server: &Server, name: &str) -> Option<u32> {
    let children = processes::children(server.pid());
    let child = children.iter().find(|child| child.name == name);
    child.map(|child| child.pid)
}

/// SIGTTIN and the like are ignored in children and not in the programs that children become: a
/// shell with job control would not work.
fn a_program_has_the_default_for_what_its_child_ignores(world: &mut World) {
    let server = world.spawn("worker", &["--script", "exec sleep 1000"]);
    let pid = until("a program", SOON, || named(&server, "sleep"));
    let own = std::process::id();
    for signal in DISTURBING
        .into_iter()
        .chain([Signal::SIGQUIT, Signal::SIGINT])
    {
        // By these a program is told to stop, also where a shell has started the server in the
        // background and ignores them.
        let is_wanted = matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGPIPE);
        let inherited = !is_wanted && has_signal(own, "SigIgn", signal);
        let ignored = has_signal(pid, "SigIgn", signal);
        assert_eq!(ignored, inherited, "{signal}");
    }
    assert!(has_signal(server.pid(), "SigIgn", Signal::SIGTTIN));
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// With `resize_signals` each SIGTTIN lets one more client in, each SIGTTOU one less. The client in
/// the hands of a child that is one too many is served to its end.
fn sigttin_and_sigttou_change_max_clients_if_asked_for(world: &mut World) {
    let size = ["--start", "2", "--max-clients", "2", "--max-spare", "2"];
    let flags = [&size[..], &["--resize-signals", "--cull-after", "0"]].concat();
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut held = hold(&address, 2);
    let mut third = connect(&address);
    third.send_line("who");
    assert!(third.is_silent(Duration::from_millis(200)));
    server.signal(Signal::SIGTTIN);
    third.read_line();
    server.signal(Signal::SIGTTOU);
    third.ask("who");
    held.iter_mut().for_each(Held::is_served);
    drop(third);
    server.expect_children(2);
    held.iter_mut().for_each(Held::is_served);
    server.signal(Signal::SIGTTOU);
    held.iter_mut().for_each(Held::is_served);
    drop(held);
    server.expect_children(1);
    Held::new(&address).is_served();
    ends_well(&server);
}

/// With more clients than children each SIGTTIN has another child forked. SIGTTOU takes effect as
/// children become free: those that are one too many serve on as long as there is no pause.
fn sigttin_and_sigttou_under_load_cost_no_client(world: &mut World) {
    let size = ["--start", "4", "--max-clients", "4", "--max-spare", "4"];
    let flags = [&size[..], &["--resize-signals", "--cull-after", "0"]].concat();
    let server = world.spawn("serve", &flags);
    let address = server.address();
    expect_up(&server, 4);
    let crowd = Crowd::come(&address, 12);
    for count in 5..=8 {
        server.signal(Signal::SIGTTIN);
        server.expect_children(count);
        crowd.is_served(20);
    }
    for _ in 0..6 {
        server.signal(Signal::SIGTTOU);
        crowd.is_served(20);
        // The kernel keeps one that has not come, and not a second.
        until("the signal to come", SOON, || {
            (!has_signal(server.pid(), "ShdPnd", Signal::SIGTTOU)).then_some(())
        });
    }
    crowd.leave();
    server.expect_children(2);
    Held::new(&address).is_served();
    ends_well(&server);
}

/// With `tostop` a terminal stops background processes that write to it. A daemon must not stand
/// still for its log.
fn a_server_in_the_background_of_a_terminal_is_not_stopped_by_its_output(world: &mut World) {
    let OpenptyResult { master, slave } = match openpty(None, None) {
        Ok(terminal) => terminal,
        Err(error) => return eprintln!("skipped: this machine has no terminals: {error}"),
    };
    let file = world.tempdir().join("address");
    // An interactive shell would put it into a group of its own; `set -m` does so in a script.
    let script =
        r#"stty tostop; set -m; "$0" --program serve --start 1 --address-file "$1" & wait $!"#;
    let own = std::env::current_exe().unwrap();
    let setsid = world
        .command("setsid")
        .args(&["--ctty", "sh", "-c", script]);
    let shell = setsid.arg(own).arg(&file).stdin(slave.try_clone().unwrap());
    let shell = shell
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn();
    let terminal = File::from(master);
    let text = until("the address", SOON, || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    let address = crate::support::Address::Tcp(text.trim().parse().expect("an address"));
    let server = shell.expect_children(1)[0];
    // The journal goes to the terminal.
    for _ in 0..5 {
        Held::new(&address).is_served();
        assert_ne!(processes::state(server), Some('T'));
    }
    // At the end the program has the default again, and prints its report.
    let mut settings = tcgetattr(&terminal).expect("the settings of the terminal");
    settings.local_flags.remove(LocalFlags::TOSTOP);
    tcsetattr(&terminal, SetArg::TCSANOW, &settings).expect("the settings to be taken");
    send(server, Signal::SIGTERM);
    assert_eq!(shell.wait(SOON).code(), Some(0));
}
