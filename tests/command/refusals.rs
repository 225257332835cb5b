//! What the command refuses: with which exit code of sysexits.h, and with which message.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use super::{prefork, stop};
use crate::support::{SOON, Scenarios, World, connect, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    an_incomplete_command_line_is_refused,
    a_wrong_flag_is_refused,
    a_wrong_file_is_refused_with_file_and_line,
    a_wrong_variable_is_refused,
    a_key_without_a_use_is_refused,
    a_program_without_dashes_is_told_how_to_write_it,
    a_key_that_is_there_twice_is_named,
    a_check_finds_what_keeps_a_server_from_its_start,
    a_path_in_use_is_told_once,
    a_program_that_cannot_be_executed_is_explained,
    a_missing_program_is_named,
    an_address_in_use_is_named,
    an_unknown_host_is_named,
    an_unknown_user_is_named,
    a_holder_is_refused_where_there_is_none,
];

const USAGE: i32 = 64;
const NO_HOST: i32 = 68;
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

/// Expects that the command ends with this code, and returns what it says.
#[track_caller]
fn refused(world: &mut World, arguments: &[&str], code: i32) -> String {
    refused_with(world, arguments, ("PREFORK_NOTHING", ""), code)
}

#[track_caller]
fn refused_with(
    world: &mut World,
    arguments: &[&str],
    (name, value): (&str, &str),
    code: i32,
) -> String {
    let command = prefork(world, arguments).env(name, value).spawn();
    let status = command.wait(SOON);
    let stderr = command.stderr();
    assert_eq!(status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

fn an_incomplete_command_line_is_refused(world: &mut World) {
    refused(world, &[], USAGE);
    let unknown = refused(world, &["inted"], USAGE);
    assert!(
        unknown.contains("a similar subcommand exists: 'inetd'"),
        "{unknown}"
    );
    assert_eq!(
        refused(world, &["inetd", "--listen", "127.0.0.1:0"], USAGE),
        "prefork: no program: write it after --, as in: -- cat\n"
    );
    let nowhere = refused(world, &["inetd", "--", "cat"], USAGE);
    assert!(nowhere.contains("add --listen 127.0.0.1:7777"), "{nowhere}");
}

fn a_wrong_flag_is_refused(world: &mut World) {
    let unknown = refused(world, &["run", "--max-client", "3", "--", "cat"], USAGE);
    assert!(
        unknown.contains("a similar argument exists: '--max-clients'"),
        "{unknown}"
    );
    assert_eq!(
        refused(world, &["run", "--timeout", "30", "--", "cat"], USAGE),
        "prefork: --timeout: \"30\" is not a time: it has no unit; write \"30s\"\n"
    );
    let listen = refused(world, &["run", "--listen", "8080", "--", "cat"], USAGE);
    assert!(
        listen.starts_with("prefork: --listen: \"8080\" is no address; write"),
        "{listen}"
    );
    let twice = ["run", "--listen", "systemd", "--listen", "systemd:web"];
    let twice = refused(world, &[&twice[..], &["--", "cat"]].concat(), USAGE);
    assert!(
        twice.starts_with("prefork: --listen: \"systemd\" stands for all sockets")
            && twice.contains("\"systemd:web\""),
        "{twice}"
    );
    let cut = ["run", "--listen", "/run/a,b.sock", "--", "cat"];
    let cut = refused(world, &cut, USAGE);
    assert!(cut.contains("A comma of a path is written \\,"), "{cut}");
    let spare = refused(world, &["run", "--spare", "3", "--", "cat"], USAGE);
    assert!(spare.contains("write it as 2..10"), "{spare}");
    let spare = refused(world, &["run", "--spare", "a..b", "--", "cat"], USAGE);
    assert!(
        spare.contains("'--spare <MIN..MAX>': \"a\" is not a whole number; write it as 2..10"),
        "{spare}"
    );
}

/// The program's words would be flags of ours.
fn a_program_without_dashes_is_told_how_to_write_it(world: &mut World) {
    let inetd = ["inetd", "--listen", "127.0.0.1:0", "sh", "-c", "echo hello"];
    assert_eq!(
        refused(world, &inetd, USAGE),
        "prefork: write the program after --: prefork inetd --listen 127.0.0.1:0 -- sh -c 'echo \
         hello'\n"
    );
    // A program of the same name as the command.
    assert_eq!(
        refused(world, &["run", "run"], USAGE),
        "prefork: write the program after --: prefork run -- run\n"
    );
    let run = ["run", "--deny", "10.0.0.0/8", "--", "cat"];
    assert_eq!(
        refused(world, &run, USAGE),
        "prefork: prefork run has no use for --deny; it is for prefork inetd\n"
    );
}

fn a_key_that_is_there_twice_is_named(world: &mut World) {
    let file = world.tempdir().join("x.toml");
    fs::write(&file, "max_clients = 3\n\nmax_clients = 4\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        refused(world, &["check", file], CONFIG),
        format!("prefork: {file}:3: max_clients is there twice\n")
    );
}

/// `check` says it before a start does.
fn a_check_finds_what_keeps_a_server_from_its_start(world: &mut World) {
    let file = world.tempdir().join("x.toml");
    let text = "listen = ['127.0.0.1:7', '/nowhere/x', '127.0.0.1:7']\n\
                program = ['no-such-program']\ncontrol = '/nowhere/control'\n\
                [confinement]\nuser = 'no-such-user'\ndirectory = '/nowhere'\n";
    fs::write(&file, text).unwrap();
    let name = file.to_str().unwrap();
    let found = refused(world, &["check", name], CONFIG);
    for line in [
        format!("prefork: {name}:5: user: there is no user no-such-user\n"),
        format!("prefork: {name}:6: directory: there is no directory /nowhere\n"),
        format!("prefork: {name}:3: control: there is no directory /nowhere\n"),
        format!("prefork: {name}:1: listen: there is no directory /nowhere\n"),
        format!("prefork: {name}:1: listen: 127.0.0.1:7 is there twice\n"),
        "prefork: no-such-program: there is no such program".to_owned(),
    ] {
        assert!(found.contains(&line), "{line}: {found}");
    }
    assert_eq!(
        refused(world, &["check", "--user", "no-such-user"], CONFIG),
        "prefork: --user: there is no user no-such-user\n"
    );
    fs::write(&file, "program = ['no-such-program']\n").unwrap();
    refused(world, &["check", name], UNAVAILABLE);
    let spaced = world.tempdir().join("a folder");
    fs::create_dir(&spaced).unwrap();
    let socket = spaced.join("x.sock");
    let text = format!(
        "program = ['cat']\nlisten = ['127.0.0.1:0', {socket:?}, '127.0.0.1:0', '{}']\n",
        spaced.join("y.sock").display()
    );
    fs::write(&file, text).unwrap();
    let checked = super::output(world, &["check", name, "--spare", "3..7"]);
    assert!(checked.contains("--max-spare-servers"), "{checked}");
}

fn a_wrong_file_is_refused_with_file_and_line(world: &mut World) {
    let file = world.tempdir().join("x.toml");
    let text = "max_client = 3\n\ntimeout = '5 parsecs'\n[confinement]\nuser = 'nobody'\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for command in [
        vec!["check", file],
        vec!["run", "--config", file, "--", "cat"],
        vec![
            "inetd",
            "--listen",
            "127.0.0.1:0",
            "--config",
            file,
            "--",
            "cat",
        ],
    ] {
        assert_eq!(
            refused(world, &command, CONFIG),
            format!(
                "prefork: {file}:1: there is no key max_client; the nearest is max_clients\n\
                 prefork: {file}:3: timeout: \"5 parsecs\" is not a time: the unit \"parsecs\" is \
                 none of ms, s, m, h, d\n"
            )
        );
    }
    let missing = refused(world, &["check", "/no/such.toml"], CONFIG);
    assert!(
        missing.starts_with("prefork: /no/such.toml: cannot read it: "),
        "{missing}"
    );
}

fn a_wrong_variable_is_refused(world: &mut World) {
    let run = ["run", "--", "cat"];
    assert_eq!(
        refused_with(world, &run, ("PREFORK_MAX_CLIENT", "3"), CONFIG),
        "prefork: PREFORK_MAX_CLIENT: no such variable; did you mean PREFORK_MAX_CLIENTS?\n"
    );
    assert_eq!(
        refused_with(world, &run, ("PREFORK_NICE", "99"), CONFIG),
        "prefork: PREFORK_NICE: 99 is not between -20 and 19\n"
    );
    let file = refused_with(world, &run, ("PREFORK_CONFIG", "/no/such.toml"), CONFIG);
    assert!(file.starts_with("prefork: /no/such.toml: "), "{file}");
}

/// Who writes `deny` relies on it.
fn a_key_without_a_use_is_refused(world: &mut World) {
    let file = world.tempdir().join("x.toml");
    let text = "deny = ['10.0.0.0/8']\nallow = []\ndeadline = '3s'\nmax_per_peer = 2\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        refused(world, &["run", "--config", file, "--", "cat"], CONFIG),
        format!(
            "prefork: {file}:4: prefork run has no use for max_per_peer; it is for prefork inetd\n\
             prefork: {file}:1: prefork run has no use for deny; it is for prefork inetd\n\
             prefork: {file}:3: prefork run has no use for deadline; it is for prefork inetd\n"
        )
    );
    let run = ["run", "--", "cat"];
    assert_eq!(
        refused_with(world, &run, ("PREFORK_DENY", "10.0.0.0/8"), CONFIG),
        "prefork: PREFORK_DENY: prefork run has no use for deny; it is for prefork inetd\n"
    );
    let inetd = ["inetd", "--listen", "127.0.0.1:0", "--", "cat"];
    assert_eq!(
        refused_with(world, &inetd, ("PREFORK_PROTOCOL", "starter"), CONFIG),
        "prefork: PREFORK_PROTOCOL: prefork inetd has no use for protocol; it is for prefork run\n"
    );
}

fn a_missing_program_is_named(world: &mut World) {
    for command in [
        ["run", "--listen", "127.0.0.1:0", "--", "./no-such-worker"],
        ["inetd", "--listen", "127.0.0.1:0", "--", "no-such-program"],
        ["inetd", "--listen", "127.0.0.1:0", "--", "/etc/passwd"],
    ] {
        let message = refused(world, &command, UNAVAILABLE);
        let expected = format!("prefork: {}: there is no such program, or", command[4]);
        assert!(message.starts_with(&expected), "{message}");
    }
}

fn an_address_in_use_is_named(world: &mut World) {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for command in ["run", "inetd"] {
        let arguments = [command, "--listen", &address, "--", "cat"];
        let message = refused(world, &arguments, UNAVAILABLE);
        assert!(message.contains(&address), "{message}");
        assert!(
            message.contains("another process listens there: end it, or"),
            "{message}"
        );
    }
}

fn a_path_in_use_is_told_once(world: &mut World) {
    let path = world.tempdir().join("x.sock");
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let path = path.to_str().unwrap();
    let message = refused(world, &["run", "--listen", path, "--", "cat"], UNAVAILABLE);
    let expected = "another server is listening there; end it, or choose another address\n";
    assert!(message.ends_with(expected), "{message}");
    assert_eq!(message.matches("listen").count(), 1, "{message}");
}

/// It is found by each child, or for each connection. A script without its first line is run by a
/// shell for a connection, as a shell itself does.
fn a_program_that_cannot_be_executed_is_explained(world: &mut World) {
    let no_interpreter = ("#!/no/such/interpreter\n", "its interpreter is missing");
    let no_program = ("echo hello\n", "begin a script with #!/bin/sh");
    for (command, (text, explained)) in [
        ("run", no_interpreter),
        ("inetd", no_interpreter),
        ("run", no_program),
    ] {
        let script = world.tempdir().join("script");
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let words = [command, "--listen", "127.0.0.1:0", "--"];
        let script = script.to_str().unwrap();
        let server = prefork(world, &[&words[..], &[script]].concat()).spawn();
        drop(connect(&server.address()));
        server.expect_stderr("the reason", |text| text.contains(explained));
        stop(&server);
    }
}

fn an_unknown_host_is_named(world: &mut World) {
    let arguments = ["run", "--listen", "no-such-host.invalid:80", "--", "cat"];
    let message = refused(world, &arguments, NO_HOST);
    assert!(
        message.starts_with("prefork: lookup no-such-host.invalid:80: "),
        "{message}"
    );
}

fn an_unknown_user_is_named(world: &mut World) {
    let arguments = ["run", "--user", "no-such-user", "--", "cat"];
    let message = refused(world, &arguments, CONFIG);
    assert!(message.contains("no-such-user"), "{message}");
}

/// With the feature, `held.rs` has what it does.
fn a_holder_is_refused_where_there_is_none(world: &mut World) {
    if cfg!(feature = "holder") {
        return;
    }
    let command = ["run", "--listen", "127.0.0.1:0", "--holder", "--", "cat"];
    let said = refused(world, &command, USAGE);
    let reason = "this program was built without the feature `holder`";
    assert!(said.contains("--holder") && said.contains(reason), "{said}");
}
