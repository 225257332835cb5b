//! Programs that misbehave: cannot be run, exit at once, close their outputs, never read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Report, show_command, signal, spawn, stop, until_gone, until_replaced};
use crate::support::{SOON, Scenarios, Server, Signal, World, connect, holds, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    bad_builder_is_refused_at_the_start,
    closed_outputs_slow_the_start_down,
    exit_at_once_slows_the_start_down,
    program_that_cannot_be_run_is_named,
    program_that_never_reads_is_stopped,
    program_without_words_is_a_fixed_pool,
    program_without_words_falls_to_the_timeout,
];

// Programs that do everything wrong.

/// The failing starts are no fork bomb, and the server still stops when told to.
#[track_caller]
fn slowed_down(server: &Server) -> Report {
    server.expect_stderr("three warnings", |text| {
        text.matches("failed to start").count() >= 4
    });
    let report = stop(server);
    // 0 + 0.1 + 0.2 s, and whatever the machine adds: far from one a millisecond.
    assert!(report.count("forked") <= 30, "{report:?}");
    report
}

fn program_that_cannot_be_run_is_named(world: &mut World) {
    let directory = world.tempdir();
    let write = |name: &str, text: &str, mode: u32| -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let cases = [
        (
            directory.join("missing"),
            "no such file or directory (os error 2)",
        ),
        (directory.clone(), "permission denied (os error 13)"),
        (
            write("plain", "#!/bin/sh\n", 0o644),
            "permission denied (os error 13)",
        ),
        (
            write("orphan", "#!/no/such/interpreter\n", 0o755),
            "its interpreter is missing: No such file or directory (os error 2)",
        ),
        (
            write("junk", "junk\n", 0o755),
            "it is no program; begin a script with #!/bin/sh: Exec format error (os error 8)",
        ),
        (
            PathBuf::from("no-such-program"),
            "no such file or directory (os error 2)",
        ),
    ];
    for (program, reason) in cases {
        let server = spawn(world, &[], &[program.to_str().unwrap()]);
        let line = format!("exec {}: {reason}", program.display());
        let address = server.address();
        server.expect_stderr(&line, |text| {
            let warned = text
                .lines()
                .any(|warning| warning.contains("failed to start") && warning.contains(&line));
            text.contains(&format!("STDERR: resume_accept failed: {line}")) && warned
        });
        // The socket is there all the time.
        connect(&address);
        let report = stop(&server);
        assert!(report.count("forked") <= 30, "{report:?}");
    }
}

fn exit_at_once_slows_the_start_down(world: &mut World) {
    let server = spawn(world, &[], &["sh", "-c", "echo why >&2; exit 7"]);
    let report = slowed_down(&server);
    assert!(report.count("FailedStart") >= 4, "{report:?}");
    let stderr = server.stderr();
    assert!(
        stderr.contains("exit status: 7") && stderr.contains("\"why\""),
        "{stderr}"
    );
}

fn closed_outputs_slow_the_start_down(world: &mut World) {
    let [own, program, _] = show_command();
    let mute = [own, program, "mute".to_owned()];
    let server = spawn(world, &["--kill-timeout", "200"], &mute);
    let report = slowed_down(&server);
    assert!(report.count("Closed") >= 4, "{report:?}");
}

fn program_that_never_reads_is_stopped(world: &mut World) {
    let server = spawn(world, &["--start-servers", "2"], &["sleep", "1000"]);
    let mut client = connect(&server.address());
    client.send_line("is anybody there");
    assert!(client.is_silent(Duration::from_millis(300)));
    let report = stop(&server);
    assert_eq!((report.count("forked"), report.count("Shutdown")), (2, 2));
}

fn program_without_words_is_a_fixed_pool(world: &mut World) {
    let flags = ["--start-servers", "4", "--max-spare-servers", "2"];
    let server = spawn(world, &flags, &["sleep", "1000"]);
    let children = server.expect_children(4);
    // Ten times as long as a surplus must last to be culled.
    holds(
        "the children are those of the start",
        Duration::from_secs(1),
        || server.children() == children,
    );
    // An old one that dies is replaced at once, and only it.
    signal(children[0], Signal::SIGKILL);
    until_gone(children[0]);
    let after = server.expect_children(4);
    assert_eq!(after[..3], children[1..]);
    let report = stop(&server);
    assert_eq!(report.count("forked"), 5, "{report:?}");
    assert_eq!(report.count("Killed"), 1, "{report:?}");
}

fn program_without_words_falls_to_the_timeout(world: &mut World) {
    let server = spawn(world, &["--timeout", "200"], &["sleep", "1000"]);
    let first = server.expect_children(1)[0];
    until_replaced(&server, first);
    let report = stop(&server);
    assert!(report.count("TimedOut") >= 1, "{report:?}");
}

fn bad_builder_is_refused_at_the_start(world: &mut World) {
    let odd = world.tempdir().join("a;b").display().to_string();
    let cases: [(&[&str], &str); 5] = [
        (&["--private"], "comm_channel Private"),
        (&["--name", "a:b"], "cannot stand in LISTEN_FDNAMES"),
        (
            &["--path", &odd, "--server-starter"],
            "cannot stand in SERVER_STARTER_PORT",
        ),
        (&["--env", "A=B"], "cannot be the name of a variable"),
        (&["--stop-signal", "STOP"], "cannot tell a program to stop"),
    ];
    for (flags, reason) in cases {
        let server = spawn(world, flags, &["sleep", "1000"]);
        let status = server.wait(SOON);
        assert_eq!(status.code(), Some(1));
        let stderr = server.stderr();
        assert!(stderr.contains(reason), "{flags:?}: {stderr}");
    }
    assert!(!Path::new(&odd).exists());
}
