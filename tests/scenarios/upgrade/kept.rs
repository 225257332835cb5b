//! What an upgrade keeps: numbers, attributes, connections, sockets, programs.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    counters_attributes_and_what_hooks_know_are_kept,
    metrics_are_exact_through_upgrades,
    a_connection_outlives_the_program_that_has_accepted_it,
    a_unix_socket_keeps_its_file_and_its_clients,
    the_socket_file_of_another_server_is_left_alone,
    a_socket_file_at_a_relative_path_is_removed_after_an_upgrade,
    sockets_of_a_service_manager_are_taken_over_again,
    programs_that_children_run_are_adopted,
];

fn counters_attributes_and_what_hooks_know_are_kept(world: &mut World) {
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path");
    let upgraded = Upgraded::new(world, &["--control", control]);
    upgraded.server.expect_children(4);
    writeln!(
        UnixStream::connect(control).expect("a connection"),
        "max_clients 33"
    )
    .expect("room");
    // One that has served: the end of another could be a start that failed.
    let (served, _) = ask(&upgraded.server.address());
    processes_killed(&[served]);
    upgraded.expect(&format!("exited {served} Killed"), 1);
    upgraded.server.expect_children(4);
    for number in 2..=4 {
        upgraded.upgrade_to(number, Mode::Good);
        upgraded.expect(&format!("upgraded to {number}"), 1);
        upgraded.expect(&format!("{} upgrades so far", number - 1), 1);
    }
    let report = upgraded.stop();
    let stdout = upgraded.server.stdout();
    assert!(stdout.contains("max_clients 33"), "{stdout}");
    assert!(report.contains(" 1 Killed"), "{report}");
    let adopted = stdout
        .lines()
        .filter(|line| line.starts_with("adopted "))
        .count();
    assert!(adopted >= 12, "{stdout}");
}

/// Each answer is counted once, whichever program's child has given it.
fn metrics_are_exact_through_upgrades(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    let address = upgraded.server.address();
    // A client that every program's children outlive.
    let mut held = connect(&address);
    held.ask("who");
    let mut served = 1;
    for number in 2..=4 {
        served += beside_clients(&address, 2, || {
            upgraded.upgrade_to(number, Mode::Good);
            upgraded.expect(&format!("upgraded to {number}"), 1);
        });
        held.ask("who");
        served += 1;
    }
    drop(held);
    upgraded.stop();
    let stdout = upgraded.server.stdout();
    let counted = format!("Counter({served})");
    assert!(stdout.contains(&counted), "{counted}: {stdout}");
}

fn a_connection_outlives_the_program_that_has_accepted_it(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    server.expect_children(4);
    let mut held = connect(&server.address());
    let (pid, version) = parsed(&held.ask("who"));
    assert_eq!(version, 1);
    for number in 2..=3 {
        upgraded.upgrade_to(number, Mode::Good);
        upgraded.expect(&format!("upgraded to {number}"), 1);
        assert_eq!(parsed(&held.ask("who")), (pid, 1));
    }
    upgraded.expect_version(3);
    assert_eq!(
        connect(&server.address()).ask("launch"),
        "Fresh",
        "it is asked for once"
    );
    drop(held);
    upgraded.expect(&format!("exited {pid} Reloaded"), 1);
    upgraded.stop();
}

fn a_unix_socket_keeps_its_file_and_its_clients(world: &mut World) {
    world.expect_panics();
    let path = world.tempdir().join("socket");
    let upgraded = Upgraded::new(world, &["--unix", path.to_str().expect("a path")]);
    upgraded.server.expect_children(4);
    let before = inode(&path);
    let served = beside_clients(&upgraded.server.address(), 4, || {
        upgraded.upgrade_to(2, Mode::Good);
        upgraded.expect("upgraded to 2", 1);
        upgraded.upgrade_to(3, Mode::Panics);
        upgraded.expect("version 2 serves on: ", 1);
    });
    assert!(served > 0);
    upgraded.expect_version(2);
    assert_eq!(inode(&path), before);
    upgraded.stop();
    assert!(!path.exists(), "its file is left");
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|file| file.ino()).ok()
}

/// The file of a server is removed, and another server binds at the path: neither an upgrade of the
/// first one nor its stop touches the second one's file.
fn the_socket_file_of_another_server_is_left_alone(world: &mut World) {
    let path = world.tempdir().join("socket");
    let name = path.to_str().expect("a path").to_owned();
    let first = Upgraded::new(world, &["--unix", &name]);
    first.server.expect_children(4);
    fs::remove_file(&path).expect("removed");
    let second = world.spawn("listeners_unix", &["--path", &name]);
    second.expect_children(2);
    let seconds = inode(&path);
    assert!(seconds.is_some());
    for number in 2..=3 {
        first.upgrade_to(number, Mode::Good);
        first.expect(&format!("upgraded to {number}"), 1);
    }
    first.stop();
    assert_eq!(inode(&path), seconds, "the file is the second server's");
    assert_eq!(connect(&second.address()).ask("a line"), "a line");
    assert_eq!(second.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert!(!path.exists(), "its own file is left");
}

/// The next program is told where the file is, not only how the socket was bound: both programs are in
/// another directory by then.
fn a_socket_file_at_a_relative_path_is_removed_after_an_upgrade(world: &mut World) {
    let directory = world.tempdir();
    let program = directory.join("server");
    write_program(&program, 1, Mode::Good);
    let script = r#"cd "$1" && exec ./server --program upgrading --unix socket --chdir"#;
    let shell = world.command("/bin/sh").args(&["-c", script, "sh"]);
    let server = shell.arg(&directory).spawn();
    let upgraded = Upgraded {
        server,
        path: program,
    };
    upgraded.server.expect_children(4);
    let path = directory.join("socket");
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("upgraded to 2", 1);
    assert!(path.exists());
    upgraded.stop();
    assert!(!path.exists(), "its file is left");
}

/// LISTEN_FDS and the sockets are there for each program.
fn sockets_of_a_service_manager_are_taken_over_again(world: &mut World) {
    let path = world.tempdir().join("server");
    write_program(&path, 1, Mode::Good);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let launch = world
        .command("/bin/sh")
        .args(&["-c", script, "sh"])
        .arg(&path);
    let launch = launch.args(&["--program", "upgrading", "--listen-fds"]);
    let server = launch.stdin(std::os::fd::OwnedFd::from(listener)).spawn();
    let upgraded = Upgraded { server, path };
    upgraded.server.expect_children(4);
    let served = beside_clients(&upgraded.server.address(), 4, || {
        for number in 2..=3 {
            upgraded.upgrade_to(number, Mode::Good);
            upgraded.expect(&format!("upgraded to {number}"), 1);
        }
    });
    assert!(served > 0);
    upgraded.expect_version(3);
    upgraded.stop();
}

/// Children that have become other programs.
fn programs_that_children_run_are_adopted(world: &mut World) {
    let upgraded = Upgraded::with(world, "upgrading_programs", &[]);
    let server = &upgraded.server;
    let before = server.expect_children(4);
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("upgraded to 2", 1);
    until("the old programs to end", SOON, || {
        let living = server.children();
        before.iter().all(|old| !living.contains(old)).then_some(())
    });
    for old in before {
        upgraded.expect(&format!("exited {old} Reloaded"), 1);
    }
    upgraded.stop();
}
