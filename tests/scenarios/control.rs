//! The control socket of real servers: each command is answered when it is done, whatever other
//! clients do, and no client holds the parent up.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid};
use prefork_server::{
    ChildServer, Error, Monitor, PreFork, PreForkHooks, Start, TcpServer, defaults,
};

use crate::subject::{announce, converse, count, ended, log_warnings, millis, who};
use crate::support::{
    Address, Args, Client, Gate, Programs, SOON, Scenarios, Server, Signal, World, connect, gate,
    patient, programs, scenarios, until,
};

pub mod clients;
mod controlled;

use self::controlled::{Controlled, controlled, expect_error, expect_ok, number};

pub const PROGRAMS: Programs = programs![controlled];

pub const SCENARIOS: Scenarios = scenarios![
    a_reload_is_answered_when_every_child_is_replaced,
    a_reload_that_fails_is_answered_with_the_reason,
    the_first_of_two_reloads_is_superseded,
    a_stop_during_a_reload_answers_both,
    a_stop_is_answered_when_the_last_child_has_gone,
    a_stop_now_kills_what_is_left,
    a_stop_waits_for_the_delay_that_is_set,
    a_child_is_retired_and_its_client_served,
    a_child_is_retired_where_there_is_no_room_for_another,
    a_child_shows_where_it_is_and_serves_on,
    attributes_are_set_and_act_at_once,
    children_do_not_have_the_socket,
    n02_another_user_is_refused_and_counted,
    a_stale_socket_is_replaced_and_a_live_one_refused,
    socat_speaks_it,
];

// Reload.

fn a_reload_is_answered_when_every_child_is_replaced(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    let before = controlled.ready(3);
    controlled.settings("second");
    let answer = controlled.ask("reload");
    expect_ok(&answer);
    assert_eq!(number(&answer, "epoch"), 1.0);
    assert_eq!(number(&answer, "replaced"), 3.0);
    // No old child takes connections any more, so none is left soon.
    until("no old child", SOON, || {
        let living = controlled.server.children();
        before.iter().all(|old| !living.contains(old)).then_some(())
    });
    let (mut client, gate) = controlled.reload_slowly(world);
    client
        .timeout(patient(Duration::from_millis(300)))
        .expect("a socket");
    client
        .read(&mut [0; 1])
        .expect_err("no answer before the successors are ready");
    gate.open();
    client.timeout(patient(SOON)).expect("a socket");
    expect_ok(&client.read_line());
    controlled.stop();
}

fn a_reload_that_fails_is_answered_with_the_reason(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    controlled.settings("invalid");
    let answer = controlled.ask("reload");
    expect_error(&answer, "failed");
    assert!(
        answer.contains("reload the settings: a key is unknown"),
        "{answer}"
    );
    controlled.settings("broken");
    let answer = controlled.ask("reload");
    expect_error(&answer, "failed");
    assert!(answer.contains("these settings cannot be used"), "{answer}");
    controlled.settings("fine");
    expect_ok(&controlled.ask("reload"));
    controlled.stop();
}

fn the_first_of_two_reloads_is_superseded(world: &mut World) {
    // The child at the gate does not leave by itself.
    let controlled = Controlled::new(world, &["--kill-timeout", "300"]);
    controlled.pids(3);
    let (mut first, gate) = controlled.reload_slowly(world);
    controlled.settings("fine");
    let second = controlled.ask("reload");
    expect_ok(&second);
    assert_eq!(number(&second, "epoch"), 2.0);
    expect_error(&first.read_line(), "superseded");
    gate.open();
    controlled.stop();
}

fn a_stop_during_a_reload_answers_both(world: &mut World) {
    let controlled = Controlled::new(world, &["--shutdown-timeout", "300"]);
    controlled.pids(3);
    let (mut reload, gate) = controlled.reload_slowly(world);
    // The child at the gate does not leave by itself.
    let mut stop = controlled.client();
    stop.send_line("stop");
    expect_error(&reload.read_line(), "stopping");
    expect_ok(&stop.read_line());
    controlled.has_ended();
    drop(gate);
}

// Stop.

fn a_stop_is_answered_when_the_last_child_has_gone(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let mut held = connect(&controlled.server.address());
    let pid = who(&mut held);
    let (mut stop, mut later) = (controlled.client(), controlled.client());
    stop.send_line("stop graceful");
    until("one child", SOON, || {
        (controlled.server.children() == [pid]).then_some(())
    });
    // The socket serves on, and a second stop does not kill.
    let show = controlled.ask("show");
    assert!(show.contains("\"state\":\"stopping\""), "{show}");
    expect_error(&controlled.ask("reload"), "stopping");
    later.send_line("stop graceful");
    assert_eq!(who(&mut held), pid);
    drop(held);
    for client in [&mut stop, &mut later] {
        let answer = client.read_line();
        expect_ok(&answer);
        assert_eq!(number(&answer, "deaths"), 3.0);
        assert_eq!(number(&answer, "lost_connections"), 0.0);
        client.eof();
    }
    controlled.has_ended();
}

fn a_stop_now_kills_what_is_left(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let mut held = connect(&controlled.server.address());
    who(&mut held);
    let mut patient = controlled.client();
    patient.send_line("stop graceful");
    until("one child", SOON, || {
        (controlled.server.children().len() == 1).then_some(())
    });
    let answer = controlled.ask("stop now");
    assert_eq!(number(&answer, "lost_connections"), 1.0);
    assert_eq!(
        patient.read_line().split("deaths").nth(1),
        answer.split("deaths").nth(1)
    );
    controlled.has_ended();
}

fn a_stop_waits_for_the_delay_that_is_set(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    expect_ok(&controlled.ask("set pre_stop_delay 60s"));
    let mut stop = controlled.client();
    stop.send_line("stop");
    until("the announcement", SOON, || {
        let show = controlled.ask("show");
        show.contains("\"state\":\"stop announced\"").then_some(())
    });
    // All goes on until the delay is over, which a signal ends.
    connect(&controlled.server.address()).ask("who");
    expect_ok(&controlled.ask("reload"));
    controlled.server.signal(Signal::SIGTERM);
    expect_ok(&stop.read_line());
    controlled.has_ended();
}

// Retire.

fn a_child_is_retired_and_its_client_served(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let mut held = connect(&controlled.server.address());
    let pid = who(&mut held);
    let mut retire = controlled.client();
    retire.send_line(&format!("retire {pid}"));
    until("a retiring child", SOON, || {
        (number(&controlled.ask("show"), "retiring") == 1.0).then_some(())
    });
    assert_eq!(who(&mut held), pid, "it finishes what it has");
    assert!(retire.is_silent(Duration::from_millis(50)), "an answer");
    drop(held);
    let answer = retire.read_line();
    expect_ok(&answer);
    assert!(answer.contains("\"cause\":\"Recycled\""), "{answer}");
    let living = controlled.server.children();
    assert!(!living.contains(&pid));
    assert!(living.contains(&(number(&answer, "successor") as u32)));
    expect_error(&controlled.ask(&format!("retire {pid}")), "unknown");
    expect_error(
        &controlled.ask(&format!("retire {}", std::process::id())),
        "unknown",
    );
    controlled.stop();
}

fn a_child_is_retired_where_there_is_no_room_for_another(world: &mut World) {
    let flags = ["--max-clients", "2", "--start", "2"];
    let controlled = Controlled::new(world, &flags);
    let before = controlled.ready(2);
    for pid in before {
        let answer = controlled.ask(&format!("retire {pid}"));
        expect_ok(&answer);
        let successor = number(&answer, "successor") as u32;
        assert!(
            controlled.server.children().contains(&successor),
            "{answer}"
        );
    }
    controlled.stop();
}

// Attributes.

/// What the kernel tells of it, which needs no feature. A stopped child holds up no other.
fn a_child_shows_where_it_is_and_serves_on(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let mut held = connect(&controlled.server.address());
    let pid = who(&mut held);
    let answer = controlled.ask(&format!("stack {pid}"));
    expect_ok(&answer);
    assert!(
        answer.starts_with(&format!("{{\"ok\":true,\"pid\":{pid},")),
        "{answer}"
    );
    assert!(answer.contains("\"kernel\":\"in "), "{answer}");
    if !cfg!(feature = "stacks") {
        let missing =
            "\"stack\":[],\"no_stack\":\"the server is built without the feature `stacks`\"}";
        assert!(answer.ends_with(missing), "{answer}");
    }
    assert_eq!(who(&mut held), pid, "it serves on");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).expect("a signal");
    until("a stopped child", SOON, || {
        let answer = controlled.ask(&format!("stack {pid}"));
        answer.contains(", state T\"").then_some(())
    });
    let mut look = controlled.client();
    look.send_line(&format!("stack {pid}"));
    expect_ok(&controlled.ask("show"));
    look.read_line();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGCONT).expect("a signal");
    assert_eq!(who(&mut held), pid, "it serves on");
    expect_error(&controlled.ask("stack 1"), "unknown");
    drop(held);
    controlled.stop();
}

fn attributes_are_set_and_act_at_once(world: &mut World) {
    let controlled = Controlled::new(world, &["--start", "2"]);
    controlled.pids(2);
    let answer = controlled.ask("set min_spare_servers 5");
    assert!(answer.contains("\"old\":\"1\",\"new\":\"5\""), "{answer}");
    controlled.pids(5);
    expect_ok(&controlled.ask("set min_spare_servers 1"));
    expect_ok(&controlled.ask("set max_spare_servers 2"));
    controlled.pids(2);
    let answer = controlled.ask("set max_clients 0");
    assert!(answer.contains("\"new\":\"50\""), "{answer}");
    expect_error(&controlled.ask("set max_clients many"), "value");
    expect_error(&controlled.ask("set reap_orphans true"), "fixed");
    expect_error(&controlled.ask("set no_such 1"), "unknown");
    assert!(
        controlled
            .ask("get max_spare_servers")
            .contains("\"value\":\"2\"")
    );
    controlled.stop();
}

fn children_do_not_have_the_socket(world: &mut World) {
    let controlled = Controlled::new(world, &["--start", "2"]);
    let first = controlled.pids(2);
    let _client = controlled.client();
    // A child that is forked while a client is connected.
    expect_ok(&controlled.ask("set min_spare_servers 4"));
    let all = controlled.pids(4);
    let sockets = |pid: u32| {
        let open = crate::support::processes::descriptors(pid).into_iter();
        let sockets = open.filter(|(_, target)| target.starts_with("socket:"));
        sockets.map(|(_, target)| target).collect::<Vec<_>>()
    };
    // The parent has what children have, and the control socket and its client besides.
    for pid in all.into_iter().chain(first) {
        until("a child with one socket", SOON, || {
            (sockets(pid).len() == 1).then_some(())
        });
    }
    assert!(sockets(controlled.server.pid()).len() > 2);
    controlled.stop();
}

/// Another user than root and the parent's own is closed at once, whatever the mode of the file, and
/// counted.
fn n02_another_user_is_refused_and_counted(world: &mut World) {
    if !Uid::effective().is_root() {
        return eprintln!("skipped: only root can change its user");
    }
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let mode = fs::metadata(&controlled.path)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let directory = controlled.path.parent().expect("a directory");
    // As if an administrator had opened it to everybody.
    for path in directory
        .ancestors()
        .take_while(|path| path.starts_with("/tmp/"))
    {
        let mode = fs::metadata(path)
            .expect("a directory")
            .permissions()
            .mode();
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o055)).expect("its mode");
    }
    fs::set_permissions(&controlled.path, fs::Permissions::from_mode(0o666)).expect("its mode");
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        try: s.sendall(b'stop now\\n')\n\
        except BrokenPipeError: pass\n\
        print(s.recv(1000).decode(), end='')";
    let ask = |uid: u32| {
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(&controlled.path).uid(uid);
        let output = python.output().expect("python3");
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    };
    let refused = ask(65534);
    expect_error(&refused, "denied");
    assert!(
        refused.contains("user 65534 may not control this server"),
        "{refused}"
    );
    controlled.server.expect_stderr("a warning", |stderr| {
        stderr.contains("control client refused: user 65534 may not control")
    });
    connect(&controlled.server.address()).ask("who");
    controlled.stop();
    let report = controlled.server.stdout();
    assert!(report.contains("; 1 control clients refused"), "{report}");
}

fn a_stale_socket_is_replaced_and_a_live_one_refused(world: &mut World) {
    let path = world.tempdir().join("control");
    drop(UnixListener::bind(&path).expect("a socket"));
    let controlled = Controlled::new(world, &[]);
    expect_ok(&controlled.ask("help"));
    let second = world
        .program("controlled")
        .arg("--control")
        .arg(&path)
        .spawn();
    assert_eq!(second.wait(SOON).code(), Some(1));
    let expected = format!(
        "error: bind control socket {}: another server is listening there",
        path.display()
    );
    assert!(second.stderr().contains(&expected), "{}", second.stderr());
    expect_ok(&controlled.ask("help"));
    controlled.stop();
    // A file that is no socket is left alone.
    fs::write(&path, "precious").expect("a file");
    let third = world
        .program("controlled")
        .arg("--control")
        .arg(&path)
        .spawn();
    assert_eq!(third.wait(SOON).code(), Some(1));
    assert!(
        third.stderr().contains("not a socket"),
        "{}",
        third.stderr()
    );
    let kind = fs::symlink_metadata(&path).expect("the file").file_type();
    assert!(kind.is_file() && !kind.is_socket());
    // A server that is killed leaves its socket, which the next one replaces.
    fs::remove_file(&path).expect("removed");
    let killed = Controlled::new(world, &[]);
    killed.pids(3);
    killed.server.kill9();
    assert!(path.exists());
    world.expect_orphans();
    until("its children to leave", SOON, || {
        world.orphans().is_empty().then_some(())
    });
    world.reap_orphans();
    let next = Controlled::new(world, &[]);
    expect_ok(&next.ask("help"));
    next.stop();
}

fn socat_speaks_it(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.ready(3);
    let command = format!(
        "printf 'reload\\nget max_clients\\n' | socat -t 10 - UNIX-CONNECT:{}",
        controlled.path.display()
    );
    match Command::new("socat").arg("-V").output() {
        Err(_) => println!("skipped: there is no socat here"),
        Ok(_) => {
            let output = Command::new("sh")
                .args(["-c", &command])
                .output()
                .expect("a shell");
            let answers = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(answers.lines().count(), 2, "{answers}");
            assert!(answers.contains("\"replaced\":3"), "{answers}");
        }
    }
    controlled.stop();
}
