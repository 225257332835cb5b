//! Signals that a server gets: many at once, from terminals, ignored by a shell, and each one in
//! turn. Signals around a fork are in `races.rs`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use nix::pty::{OpenptyResult, openpty};

use crate::subject::{
    Held, deaths, ends_well, expect_entry, expect_exit, expect_up, has_signal, pids, send,
    signal_set,
};
use crate::support::{
    SOON, Scenarios, Signal, World, holds, port_is_free, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    g03_a_server_that_was_started_with_everything_blocked_can_be_stopped,
    g04_a_server_in_the_background_of_a_shell_can_be_interrupted,
    g04_a_server_under_nohup_can_be_interrupted,
    g07_a_child_waits_on_an_epoll_of_its_own,
    g09_a_storm_of_signals_disturbs_nobody,
    g09_a_storm_of_stops_ends_no_connection,
    g10_ctrl_c_lets_each_child_finish_its_connection,
    g11_a_child_that_is_interrupted_from_outside_leaves_and_is_replaced,
    g12_every_signal_to_the_parent,
    g12_every_signal_to_a_child: long,
];

/// This executable's program `serve`, for a command line.
fn own() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

// What is inherited.

/// The signals that the parent and its children wait for are unblocked in each, whatever mask the
/// server was started with; the rest of the mask is left alone.
fn g03_a_server_that_was_started_with_everything_blocked_can_be_stopped(world: &mut World) {
    let env = world.command("env").arg("--block-signal").arg(own());
    let server = env.args(&["--program", "serve"]).spawn();
    let mut held = Held::new(&server.address());
    let stops = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];
    for pid in [server.pid(), held.pid] {
        // The parent blocks all of them for the moment of a fork.
        until("the signals to be unblocked", SOON, || {
            let blocked = |stop: &Signal| has_signal(pid, "SigBlk", *stop);
            (!stops.iter().any(blocked)).then_some(())
        });
        assert!(has_signal(pid, "SigBlk", Signal::SIGIO));
    }
    assert!(!has_signal(held.pid, "SigBlk", Signal::SIGALRM));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.expect_children(1), [held.pid]);
    held.is_served();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// The parent always installs its handlers, and so does each child: neither relies on a default.
fn g04_a_server_in_the_background_of_a_shell_can_be_interrupted(world: &mut World) {
    // A shell without job control has what it starts in the background ignore SIGINT.
    let script = r#""$0" --program serve & wait $!"#;
    let shell = world.command("sh").args(&["-c", script]).arg(own()).spawn();
    let address = shell.address();
    let server = shell.expect_children(1)[0];
    let mut held = Held::new(&address);
    send(held.pid, Signal::SIGINT);
    held.is_served();
    let pid = held.pid;
    drop(held);
    expect_exit(&shell, pid, "Finished exit status: 0");
    send(server, Signal::SIGINT);
    assert_eq!(shell.wait(SOON).code(), Some(0));
}

/// SIGHUP, which nohup has ignored, stays ignored in children; in the parent it means a reload.
fn g04_a_server_under_nohup_can_be_interrupted(world: &mut World) {
    let nohup = world.command("nohup").arg(own());
    let server = nohup.args(&["--program", "serve"]).spawn();
    let mut held = Held::new(&server.address());
    for pid in [server.pid(), held.pid] {
        send(pid, Signal::SIGHUP);
    }
    held.is_served();
    drop(held);
    assert_eq!(server.stop(Signal::SIGINT, SOON).code(), Some(0));
}

/// A child has an epoll of its own, and closes the parent's by number without deregistering
/// anything. So neither changes what the other waits for. Neither reads signals from a descriptor.
fn g07_a_child_waits_on_an_epoll_of_its_own(world: &mut World) {
    let server = world.spawn("serve", &["--start", "3"]);
    let address = server.address();
    let children = expect_up(&server, 3);
    let parents = watched(server.pid());
    assert!(!parents.is_empty());
    for &child in &children {
        until("the child to wait", SOON, || {
            // The death watch and, since it has looked for a connection, the listener.
            (watched(child).len() >= 2).then_some(())
        });
        let common: Vec<_> = watched(child).intersection(&parents).cloned().collect();
        assert_eq!(common, [""; 0], "watched by {child} and its parent");
        let kinds = processes::descriptors(child);
        assert!(kinds.iter().all(|(_, kind)| !kind.contains("signalfd")));
    }
    // And the parent hears of all that happens to children.
    let held = Held::new(&address);
    send(held.pid, Signal::SIGKILL);
    expect_exit(&server, held.pid, "Killed signal: 9 (SIGKILL)");
    ends_well(&server);
}

/// The inodes of what the epolls of a process watch, but for those that all anonymous files share.
fn watched(pid: u32) -> BTreeSet<String> {
    let descriptors = processes::descriptors(pid);
    let epolls = descriptors
        .iter()
        .filter(|(_, target)| target == "anon_inode:[eventpoll]");
    let infos = epolls.map(|(fd, _)| fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")));
    let text: String = infos.map(Result::unwrap_or_default).collect();
    let anonymous = |fd: &str| {
        descriptors
            .iter()
            .any(|(number, target)| number.to_string() == fd && target.starts_with("anon_inode:"))
    };
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let fd = words.by_ref().skip_while(|word| *word != "tfd:").nth(1)?;
        let inode = words.find_map(|word| word.strip_prefix("ino:"))?;
        (!anonymous(fd)).then(|| inode.to_owned())
    });
    lines.collect()
}

// Storms.

/// A signal handler counts and writes a byte to a non-blocking pipe; a full pipe already contains a
/// wake-up. A storm of signals delays nothing and times no child out.
fn g09_a_storm_of_signals_disturbs_nobody(world: &mut World) {
    // With that many children SIGCHLD is handled, too.
    let size = [
        "--start",
        "132",
        "--max-clients",
        "140",
        "--max-spare",
        "140",
    ];
    let flags = ["--timeout", "3000", "--check", "100", "--quiet"];
    let server = world.spawn("serve", &[&size[..], &flags].concat());
    let mut held = Held::new(&server.address());
    server.expect_children(132);
    let storm = [
        Signal::SIGCHLD,
        Signal::SIGWINCH,
        Signal::SIGURG,
        Signal::SIGPIPE,
        Signal::SIGCONT,
    ];
    for _ in 0..20 {
        let checks = pids(&server, "check").len();
        for _ in 0..1000 {
            storm.iter().for_each(|signal| server.signal(*signal));
        }
        held.is_served();
        until("another check of the timeouts", SOON, || {
            (pids(&server, "check").len() > checks).then_some(())
        });
    }
    for event in ["silent-free", "silent-busy", "exited"] {
        assert_eq!(pids(&server, event), [], "{event}");
    }
    drop(held);
    ends_well(&server);
}

/// Ten thousand stop signals to a child, and as many SIGQUIT to the parent, do not cut a connection
/// short: only the first one counts.
fn g09_a_storm_of_stops_ends_no_connection(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    for _ in 0..10 {
        for _ in 0..1000 {
            server.signal(Signal::SIGQUIT);
            send(held.pid, Signal::SIGINT);
            send(held.pid, Signal::SIGTERM);
        }
        held.is_served();
    }
    // The other one may have been in its start.
    assert_eq!(server.expect_children(1), [held.pid]);
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(pids(&server, "shutdown").len(), 1);
}

// From outside.

/// A child that gets SIGINT finishes its connection and leaves, whatever process sends the signal and
/// however often: so it does no harm that a terminal sends it to all children and the parent sends
/// it again.
fn g10_ctrl_c_lets_each_child_finish_its_connection(world: &mut World) {
    let OpenptyResult { master, slave } = match openpty(None, None) {
        Ok(terminal) => terminal,
        Err(error) => return eprintln!("skipped: this machine has no terminals: {error}"),
    };
    let setsid = world.command("setsid").arg("--ctty").arg(own());
    let server = setsid.args(&["--program", "serve", "--start", "4"]);
    let server = server.stdin(slave).spawn();
    let address = server.address();
    let mut held = [Held::new(&address), Held::new(&address)];
    expect_up(&server, 4);
    File::from(master.try_clone().unwrap())
        .write_all(b"\x03")
        .unwrap();
    server.expect_children(2);
    holds("the clients are served", Duration::from_millis(300), || {
        held.iter_mut().for_each(Held::is_served);
        true
    });
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(deaths(&server, "Shutdown"), 4);
    assert_eq!(pids(&server, "shutdown").len(), 1);
    assert!(!server.stdout().contains("SIGKILL"));
}

/// A child that gets SIGINT or SIGTERM from outside finishes its connection and leaves, and another
/// takes its place. The parent continues.
fn g11_a_child_that_is_interrupted_from_outside_leaves_and_is_replaced(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1", "--max-clients", "1"]);
    let address = server.address();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut held = Held::new(&address);
        let pid = held.pid;
        send(pid, signal);
        held.is_served();
        drop(held);
        expect_exit(&server, pid, "Finished exit status: 0");
        assert_ne!(Held::new(&address).pid, pid);
    }
    assert_eq!(pids(&server, "shutdown"), []);
    ends_well(&server);
}

// Every signal.

/// All but the two that the C library has for its threads, and those that the process that started the tests has
/// ignored, which servers inherit.
fn all_signals() -> impl Iterator<Item = i32> {
    let ignored = signal_set(std::process::id(), "SigIgn");
    let inherited = move |number: i32| {
        let known = HARMLESS.contains(&number) || ORDERLY.contains(&number);
        let skipped = !known && ignored & (1 << (number - 1)) != 0;
        if skipped {
            eprintln!("skipped: signal {number} is ignored from outside");
        }
        skipped
    };
    (1..=64).filter(move |number| ![32, 33].contains(number) && !inherited(*number))
}

/// What disturbs neither the parent nor a child: the default is to do nothing, std has ignored it,
/// or the table of signals has it so.
const HARMLESS: [i32; 10] = [
    Signal::SIGCHLD as i32,
    Signal::SIGCONT as i32,
    Signal::SIGURG as i32,
    Signal::SIGWINCH as i32,
    Signal::SIGPIPE as i32,
    // What the parent acts on and a child does nothing about.
    Signal::SIGHUP as i32,
    Signal::SIGUSR1 as i32,
    // An upgrade, to the program that it is.
    Signal::SIGUSR2 as i32,
    Signal::SIGTTIN as i32,
    Signal::SIGTTOU as i32,
];
/// SIGXFSZ is ignored in the parent as well: its output may go to a file that reaches the size
/// limit.
const HARMLESS_TO_THE_PARENT: i32 = Signal::SIGXFSZ as i32;
const STOPPING: [i32; 2] = [Signal::SIGSTOP as i32, Signal::SIGTSTP as i32];
const ORDERLY: [i32; 3] = [
    Signal::SIGINT as i32,
    Signal::SIGTERM as i32,
    Signal::SIGQUIT as i32,
];

/// Sends a signal by its number: not all of them have a name.
fn send_number(pid: u32, number: i32) {
    let kill = format!("kill -{number} {pid}");
    let status = Command::new("sh").args(["-c", &kill]).status();
    assert!(status.unwrap().success(), "{kill}");
}

/// Sends a signal that ends the process. That of a crash is needed twice if it comes from outside:
/// std's handler, which tells a stack overflow from others, takes the first.
fn send_the_end(pid: u32, number: i32) {
    let crash = [Signal::SIGSEGV as i32, Signal::SIGBUS as i32].contains(&number);
    if crash && signal_set(pid, "SigCgt") & (1 << (number - 1)) != 0 {
        send_number(pid, number);
        until("std's handler to have run", SOON, || {
            (signal_set(pid, "SigCgt") & (1 << (number - 1)) == 0).then_some(())
        });
    }
    send_number(pid, number);
}

/// SIGINT, SIGTERM and SIGQUIT end the server in order. CHLD, CONT, URG, WINCH, PIPE, XFSZ, HUP,
/// USR1, USR2, TTIN and TTOU disturb no process, STOP and TSTP stop it until SIGCONT. Every other signal ends
/// it by its default action, and then its children leave.
fn g12_every_signal_to_the_parent(world: &mut World) {
    world.deadline(Duration::from_secs(60));
    let survivor = world.program("serve").own_group().spawn();
    let address = survivor.address();
    let harmless = HARMLESS.into_iter().chain([HARMLESS_TO_THE_PARENT]);
    for number in harmless.clone().chain(STOPPING) {
        let old = survivor.children();
        send_number(survivor.pid(), number);
        if number == Signal::SIGHUP as i32 {
            // A child that was told to go already has its successor.
            until("all children to be replaced", SOON, || {
                let living = survivor.children();
                (!old.iter().any(|old| living.contains(old))).then_some(())
            });
        }
        if STOPPING.contains(&number) {
            until(&format!("signal {number} to stop it"), SOON, || {
                (processes::state(survivor.pid()) == Some('T')).then_some(())
            });
            survivor.signal(Signal::SIGCONT);
        }
        // The parent must lift a hand for it.
        let before = pids(&survivor, "forked").len();
        let victim = Held::new(&address).pid;
        send(victim, Signal::SIGKILL);
        expect_entry(&survivor, "exited", victim);
        until("another child", SOON, || {
            (pids(&survivor, "forked").len() > before).then_some(())
        });
    }
    ends_well(&survivor);
    for number in all_signals() {
        if harmless
            .clone()
            .chain(STOPPING)
            .any(|other| other == number)
        {
            continue;
        }
        let server = world.spawn("serve", &["--start", "1"]);
        let address = server.address();
        expect_up(&server, 1);
        if ORDERLY.contains(&number) {
            send_number(server.pid(), number);
            assert_eq!(server.wait(SOON).code(), Some(0), "signal {number}");
        } else {
            send_the_end(server.pid(), number);
            assert_eq!(server.wait(SOON).signal(), Some(number));
        }
        until("the child to go", SOON, || {
            world.orphans().is_empty().then_some(())
        });
        world.reap_orphans();
        assert!(port_is_free(&address), "after signal {number}");
    }
}

/// After SIGINT, SIGTERM or SIGQUIT a child leaves when its connection ends. CHLD, CONT, URG, WINCH,
/// PIPE, HUP, USR1, USR2, TTIN and TTOU have no effect, STOP and TSTP stop it until SIGCONT. Every other
/// signal ends it by its default action, which is reported by its number, and the child is replaced.
fn g12_every_signal_to_a_child(world: &mut World) {
    world.deadline(Duration::from_secs(60));
    let server = world.program("serve").own_group();
    let server = server.args(&["--start", "1", "--max-clients", "2"]).spawn();
    let address = server.address();
    for number in all_signals() {
        let mut held = Held::new(&address);
        let pid = held.pid;
        if HARMLESS.contains(&number) {
            send_number(pid, number);
            held.is_served();
        } else if STOPPING.contains(&number) {
            send_number(pid, number);
            until(&format!("signal {number} to stop it"), SOON, || {
                (processes::state(pid) == Some('T')).then_some(())
            });
            send(pid, Signal::SIGCONT);
            held.is_served();
        } else if ORDERLY.contains(&number) {
            send_number(pid, number);
            held.is_served();
            drop(held);
            expect_exit(&server, pid, "Finished exit status: 0");
        } else {
            send_the_end(pid, number);
            held.client.gone();
            let exit = expect_entry(&server, "exited", pid).rest;
            let word = format!("Killed signal: {number}");
            assert!(exit.split(" (").next() == Some(&word), "{exit}");
        }
    }
    Held::new(&address).is_served();
    ends_well(&server);
}
