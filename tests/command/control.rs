//! `prefork reload`, `upgrade`, `stop`, `drain`, `ready`, `retire`, `stack`, `set` and `get`: what they do to a running
//! server, what they print, and with which exit code of sysexits.h they fail.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::unistd::Uid;

use super::{PREFORK, prefork, tell, text};
use crate::support::{
    Address, SOON, Scenarios, Server, World, connect, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    a_server_is_reloaded_set_and_stopped,
    a_child_is_retired,
    a_child_shows_where_it_is,
    a_server_is_drained_and_put_back,
    a_server_that_no_balancer_asks_is_not_drained,
    the_socket_is_named_by_flag_file_or_variable,
    answers_are_json_for_programs,
    a_reload_that_fails_is_an_exit_code,
    a_server_becomes_another_program_and_back_again,
    an_upgrade_that_fails_is_an_exit_code,
    a_command_that_takes_too_long_goes_on,
    refusals_have_exit_codes,
    what_is_no_server_is_told,
];

const USAGE: i32 = 64;
const DATA: i32 = 65;
const UNAVAILABLE: i32 = 69;
const SOFTWARE: i32 = 70;
const TEMPORARY: i32 = 75;
const PROTOCOL: i32 = 76;
const PERMISSION: i32 = 77;

/// A server that `prefork inetd` runs, and the path of its control socket.
struct Controlled {
    server: Server,
    path: PathBuf,
}

impl Controlled {
    fn new(world: &mut World) -> Self {
        Self::running(
            world,
            &["inetd", "--start-servers", "3", "--spare", "1..5"],
            &["cat"],
        )
    }

    fn running(world: &mut World, command: &[&str], program: &[&str]) -> Self {
        let path = world.tempdir().join("control");
        let control = ["--listen", "127.0.0.1:0", "--control", text(&path), "--"];
        let server = prefork(world, &[command, &control, program].concat()).spawn();
        server.address();
        Self { server, path }
    }

    /// What the command prints, with the exit code that it must have.
    #[track_caller]
    fn tell(&self, world: &mut World, words: &[&str], code: i32) -> String {
        tell(
            world,
            &[words, &["--control", text(&self.path)]].concat(),
            code,
        )
    }

    #[track_caller]
    fn stop(&self, world: &mut World) {
        self.tell(world, &["stop"], 0);
        self.has_ended();
    }

    #[track_caller]
    fn has_ended(&self) {
        assert!(self.server.wait(SOON).success(), "{}", self.server.stderr());
        assert!(!self.path.exists());
    }
}

fn a_server_is_reloaded_set_and_stopped(world: &mut World) {
    let controlled = Controlled::new(world);
    let before = controlled.server.expect_children(3);
    until("children that are ready", SOON, || {
        let show = connect(&Address::from(&*controlled.path)).ask("show");
        show.contains("\"free\":3").then_some(())
    });
    let reloaded = controlled.tell(world, &["reload"], 0);
    assert!(
        reloaded.starts_with("reloaded: 3 children replaced in "),
        "{reloaded}"
    );
    until("no old child", SOON, || {
        let living = controlled.server.children();
        before.iter().all(|old| !living.contains(old)).then_some(())
    });
    assert_eq!(
        controlled.tell(world, &["set", "max-clients", "20"], 0),
        "max_clients is 20, was 50; takes effect at once\n"
    );
    assert_eq!(
        controlled.tell(world, &["set", "min_spare_servers", "6"], 0),
        "min_spare_servers is 6, was 1; takes effect at once\n\
         max_spare_servers is 7 because of that\n"
    );
    controlled.server.expect_children(6);
    assert_eq!(
        controlled.tell(world, &["set", "max_clients", "0"], 0),
        "max_clients is 50, was 20; takes effect at once\n0 makes no sense: 0 becomes 50\n"
    );
    assert_eq!(
        controlled.tell(world, &["get", "min_spare_servers"], 0),
        "min_spare_servers is 6 (default 1, children); takes effect at once\n"
    );
    let all = controlled.tell(world, &["get"], 0);
    let line = |name: &str| {
        let mut words = all.lines().map(str::split_whitespace);
        words.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()))
    };
    assert_eq!(line("min_spare_servers"), Some(Some("6")), "{all}");
    let stopped = controlled.tell(world, &["stop"], 0);
    assert!(stopped.starts_with("stopped in "), "{stopped}");
    assert!(stopped.ends_with(" 0 connections were lost\n"), "{stopped}");
    controlled.has_ended();
}

fn a_child_is_retired(world: &mut World) {
    let controlled = Controlled::new(world);
    let pid = controlled.server.expect_children(3)[0].to_string();
    let retired = controlled.tell(world, &["retire", &pid], 0);
    assert!(
        retired.starts_with(&format!("child {pid} has ended (Recycled); child ")),
        "{retired}"
    );
    let living = controlled.server.children();
    assert!(living.iter().all(|child| child.to_string() != pid));
    let unknown = controlled.tell(world, &["retire", &pid], UNAVAILABLE);
    assert_eq!(
        unknown,
        format!("prefork: no child has the process id {pid}\n")
    );
    let mut held = connect(&controlled.server.address());
    held.ask("hello");
    let stop = controlled.tell(world, &["stop", "now"], 0);
    assert!(stop.contains(" 1 connections were lost"), "{stop}");
    controlled.has_ended();
}

/// Its calls are for `tests/stacks`.
fn a_child_shows_where_it_is(world: &mut World) {
    let controlled = Controlled::new(world);
    let pid = controlled.server.expect_children(3)[0].to_string();
    let shown = controlled.tell(world, &["stack", &pid], 0);
    let first = format!("child {pid} is in ");
    assert!(
        shown.starts_with(&first) && shown.contains("state "),
        "{shown}"
    );
    let second = match cfg!(feature = "stacks") {
        true => "\n  at ",
        false => "\nno stack: the server is built without the feature `stacks`\n",
    };
    assert!(shown.contains(second), "{shown}");
    let json = controlled.tell(world, &["stack", &pid, "--json"], 0);
    assert!(
        json.starts_with(&format!("{{\"ok\":true,\"pid\":{pid},")),
        "{json}"
    );
    assert!(
        controlled
            .server
            .children()
            .contains(&pid.parse().expect("a pid"))
    );
    let unknown = controlled.tell(world, &["stack", "1"], UNAVAILABLE);
    assert_eq!(unknown, "prefork: no child has the process id 1\n");
    controlled.tell(world, &["stop", "now"], 0);
    controlled.has_ended();
}

/// What balancers are told then is for `tests/status/upgrade.rs`.
fn a_server_is_drained_and_put_back(world: &mut World) {
    let status = text(&world.tempdir().join("status")).to_owned();
    let controlled = Controlled::running(world, &["inetd", "--status", &status], &["cat"]);
    let drained = controlled.tell(world, &["drain"], 0);
    assert!(drained.starts_with("drained: /ready says 503"), "{drained}");
    let shown = controlled.tell(world, &["drain", "--json"], 0);
    assert!(shown.contains("\"drained\":true"), "{shown}");
    assert_eq!(connect(&controlled.server.address()).ask("hello"), "hello");
    until("the status has it", SOON, || {
        let shown = tell(world, &["status", "--status", &status], 0);
        shown.contains(", serving, drained, up ").then_some(())
    });
    let ready = controlled.tell(world, &["ready"], 0);
    assert_eq!(ready, "ready: no longer drained\n");
    controlled.tell(world, &["stop", "now"], 0);
    controlled.has_ended();
}

/// Without a balancer that asks, clients go on coming: a stop after the answer would lose them.
fn a_server_that_no_balancer_asks_is_not_drained(world: &mut World) {
    let controlled = Controlled::new(world);
    let refused = controlled.tell(world, &["drain"], SOFTWARE);
    assert!(
        refused.starts_with("prefork: no balancer can be told: "),
        "{refused}"
    );
    controlled.tell(world, &["stop", "now"], 0);
    controlled.has_ended();
}

fn the_socket_is_named_by_flag_file_or_variable(world: &mut World) {
    let controlled = Controlled::new(world);
    let path = text(&controlled.path).to_owned();
    let file = world.tempdir().join("x.toml");
    fs::write(&file, format!("control = {path:?}\nmax_clients = 3\n")).unwrap();
    let get = ["get", "max_clients"];
    let expected = "max_clients is 50 (default 50, children); takes effect at once\n";
    let by_file = [&get[..], &["--config", text(&file)]].concat();
    assert_eq!(tell(world, &by_file, 0), expected);
    let by_variable = prefork(world, &get).env("PREFORK_CONTROL", &path).spawn();
    assert!(by_variable.wait(SOON).success(), "{}", by_variable.stderr());
    assert_eq!(by_variable.stdout(), expected);
    let nowhere = tell(world, &get, USAGE);
    assert!(
        nowhere.contains("add --control PATH, or --config FILE"),
        "{nowhere}"
    );
    controlled.stop(world);
    // The key makes a server listen there, as the flag does.
    let listen = [
        "inetd",
        "--listen",
        "127.0.0.1:0",
        "--config",
        text(&file),
        "--",
        "cat",
    ];
    let server = prefork(world, &listen).spawn();
    server.address();
    tell(world, &["stop", "--config", text(&file)], 0);
    assert!(server.wait(SOON).success());
}

fn answers_are_json_for_programs(world: &mut World) {
    let controlled = Controlled::new(world);
    let answer = controlled.tell(world, &["set", "kill_timeout", "1m 30s", "--json"], 0);
    let expected =
        r#"{"ok":true,"name":"kill_timeout","old":"10s","new":"90s","takes_effect":"at once"}"#;
    assert_eq!(answer, format!("{expected}\n"));
    let refused = prefork(
        world,
        &["get", "x", "--json", "--control", text(&controlled.path)],
    );
    let refused = refused.spawn();
    assert_eq!(refused.wait(SOON).code(), Some(UNAVAILABLE));
    assert!(
        refused
            .stdout()
            .starts_with(r#"{"ok":false,"error":"there is no attribute"#)
    );
    controlled.stop(world);
}

/// The file of the program is replaced by one that cannot run.
fn a_reload_that_fails_is_an_exit_code(world: &mut World) {
    let worker = world.tempdir().join("worker");
    let write = |script: &str| {
        let new = worker.with_extension("new");
        fs::write(&new, script).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &worker).unwrap();
    };
    let good = "#!/bin/sh\nprintf '\\006\\n\\021\\n'\nexec sleep 1000\n";
    write(good);
    let controlled = Controlled::running(world, &["run", "--spare", "5..10"], &[text(&worker)]);
    let before = controlled.server.expect_children(5);
    // Each has read the script.
    let sleeps = |pid: &u32| processes::Process::read(*pid).is_some_and(|one| one.name == "sleep");
    until("five programs that sleep", SOON, || {
        before.iter().all(sleeps).then_some(())
    });
    write("#!/bin/sh\necho 'the module is missing' >&2\nexit 3\n");
    let failed = controlled.tell(world, &["reload"], SOFTWARE);
    assert!(
        failed.contains("3 children in a row have not become ready"),
        "{failed}"
    );
    assert!(failed.contains("the module is missing"), "{failed}");
    assert_eq!(controlled.server.expect_children(5), before);
    write(good);
    controlled.tell(world, &["reload"], 0);
    controlled.stop(world);
}

/// A server that runs a copy of the command, and the path of the copy.
fn from_copy(world: &mut World) -> (Controlled, PathBuf) {
    let copy = world.tempdir().join("server");
    fs::copy(PREFORK, &copy).unwrap();
    let path = world.tempdir().join("control");
    let arguments = ["inetd", "--start-servers", "2", "--listen", "127.0.0.1:0"];
    let launch = world.command(&copy).args(&arguments);
    let server = launch.arg("--control").arg(&path).args(&["--", "cat"]);
    let server = server.spawn();
    server.address();
    (Controlled { server, path }, copy)
}

/// The file that a process runs.
fn program_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn a_server_becomes_another_program_and_back_again(world: &mut World) {
    let (controlled, copy) = from_copy(world);
    let pid = controlled.server.pid();
    let before = controlled.server.expect_children(2);
    let mut held = connect(&controlled.server.address());
    held.ask("hello");
    let fresh = copy.with_file_name("fresh");
    fs::copy(PREFORK, &fresh).unwrap();
    fs::rename(&fresh, &copy).unwrap();
    let upgraded = controlled.tell(world, &["upgrade"], 0);
    assert!(upgraded.starts_with("upgraded in "), "{upgraded}");
    assert!(upgraded.contains("; nobody watched the children for "));
    assert_eq!(program_of(pid), copy, "and not the one that was removed");
    // To one that is named, from wherever the command runs.
    let directory = copy.parent().unwrap().to_owned();
    fs::copy(PREFORK, directory.join("another one")).unwrap();
    let script = "cd \"$1\" && exec \"$2\" upgrade 'another one' --control \"$3\" --json";
    let shell = world.command("/bin/sh").args(&["-c", script, "sh"]);
    let shell = shell.arg(&directory).arg(PREFORK).arg(&controlled.path);
    let shell = shell.spawn();
    assert!(shell.wait(SOON).success(), "{}", shell.stderr());
    assert!(shell.stdout().starts_with("{\"ok\":true,\"epoch\":2,"));
    assert_eq!(program_of(pid), directory.join("another one"));
    assert_eq!(held.ask("still here"), "still here");
    drop(held);
    until("no old child", SOON, || {
        let living = controlled.server.children();
        before.iter().all(|old| !living.contains(old)).then_some(())
    });
    controlled.stop(world);
}

fn an_upgrade_that_fails_is_an_exit_code(world: &mut World) {
    let (controlled, copy) = from_copy(world);
    let before = controlled.server.expect_children(2);
    let missing = controlled.tell(world, &["upgrade", "/no/such/server"], SOFTWARE);
    let expected = "prefork: upgrade /no/such/server: no such file or directory (os error 2)\n";
    assert_eq!(missing, expected);
    fs::remove_file(&copy).unwrap();
    fs::copy("/bin/false", &copy).unwrap();
    let refused = controlled.tell(world, &["upgrade"], SOFTWARE);
    assert!(
        refused.contains("in its trial it has ended: exit status: 1"),
        "{refused}"
    );
    assert_eq!(controlled.server.expect_children(2), before);
    assert_eq!(connect(&controlled.server.address()).ask("hello"), "hello");
    controlled.stop(world);
}

fn a_command_that_takes_too_long_goes_on(world: &mut World) {
    let controlled = Controlled::new(world);
    let mut held = connect(&controlled.server.address());
    held.ask("hello");
    let late = controlled.tell(world, &["stop", "graceful", "--wait", "200ms"], TEMPORARY);
    assert_eq!(
        late,
        "prefork: it is not done yet, and goes on; a longer --wait waits for it\n"
    );
    let stopping = controlled.tell(world, &["reload"], TEMPORARY);
    assert_eq!(stopping, "prefork: the server is shutting down\n");
    assert_eq!(held.ask("still here"), "still here");
    drop(held);
    controlled.has_ended();
}

fn refusals_have_exit_codes(world: &mut World) {
    let controlled = Controlled::new(world);
    let value = controlled.tell(world, &["set", "timeout", "30"], DATA);
    assert!(value.contains("it has no unit; write \"30s\""), "{value}");
    let value = controlled.tell(world, &["set", "max_clients", "-1"], DATA);
    assert!(value.contains("(write N; 0 becomes 50)"), "{value}");
    let fixed = controlled.tell(world, &["set", "handle_signals", "false"], USAGE);
    assert!(fixed.contains("is read when the server starts"), "{fixed}");
    let unknown = controlled.tell(world, &["set", "max_client", "3"], UNAVAILABLE);
    assert!(
        unknown.contains("there is no attribute \"max_client\""),
        "{unknown}"
    );
    for words in [
        &["stop", "soon"][..],
        &["retire", "x"],
        &["stack", "x"],
        &["set", "max_clients"],
        &["reload", "--wait", "0"],
        &["set", "max_clients", "1\nstop now"],
    ] {
        controlled.tell(world, words, USAGE);
    }
    if Uid::effective().is_root() {
        let mut command = Command::new(PREFORK);
        let command = command
            .args(["reload", "--control", text(&controlled.path)])
            .uid(65534);
        match command.output() {
            Ok(output) => assert_eq!(output.status.code(), Some(PERMISSION)),
            Err(error) => println!("skipped: nobody may not run the command: {error}"),
        }
    }
    controlled.stop(world);
}

fn what_is_no_server_is_told(world: &mut World) {
    let path = world.tempdir().join("nothing");
    let reload = ["reload", "--control", text(&path)];
    let missing = tell(world, &reload, UNAVAILABLE);
    assert!(
        missing.contains("is the server running, with this --control?"),
        "{missing}"
    );
    drop(UnixListener::bind(&path).unwrap());
    let ended = tell(world, &reload, UNAVAILABLE);
    assert!(ended.contains("the server has ended"), "{ended}");
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let serving = thread::spawn(move || {
        // The first says nothing, the second something else.
        for answer in ["", "220 smtp.example\n"] {
            let (mut client, _) = other.accept().unwrap();
            client.read_exact(&mut [0; 7]).unwrap();
            std::io::Write::write_all(&mut client, answer.as_bytes()).unwrap();
        }
    });
    let silent = tell(world, &reload, PROTOCOL);
    assert!(silent.contains("it has closed the connection"), "{silent}");
    let other = tell(world, &reload, PROTOCOL);
    assert!(other.contains("it is no JSON"), "{other}");
    serving.join().unwrap();
}
