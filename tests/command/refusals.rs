//! What the command refuses: with which exit code of sysexits.h, and with which message.

use std::fs;
use std::net::TcpListener;

use super::prefork;
use crate::support::{SOON, Scenarios, World, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    an_incomplete_command_line_is_refused,
    a_wrong_flag_is_refused,
    a_wrong_file_is_refused_with_file_and_line,
    a_wrong_variable_is_refused,
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
        "prefork: no program: write it after --, as in: -- wc -l\n"
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
    let spare = refused(world, &["run", "--spare", "3", "--", "cat"], USAGE);
    assert!(spare.contains("write it as 2..10"), "{spare}");
    let spare = refused(world, &["run", "--spare", "a..b", "--", "cat"], USAGE);
    assert!(
        spare.starts_with("prefork: --min-spare-servers: \"a\" is not"),
        "{spare}"
    );
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
