//! Scenarios with a fault each, and some that are good: run by the others, never by `cargo test`.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::support::{SOON, Scenarios, Signal, World, connect, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    inner_abort,
    inner_abort_bare,
    inner_bare_daemon,
    inner_busy_port,
    inner_daemon,
    inner_early_exit,
    inner_expected,
    inner_fork_bomb,
    inner_good,
    inner_hang,
    inner_held_pipe,
    inner_killed_parent,
    inner_leak,
    inner_never_listens,
    inner_not_waited_for,
    inner_panic,
    inner_still_running,
    inner_thread_panic,
    inner_tidy_parent,
    inner_unix_path_left,
    inner_unreaped,
    inner_vain_wait,
];

// Scenarios that fail, and a few that pass.

fn inner_abort(world: &mut World) {
    world.spawn("sleeper", &[]);
    std::process::abort();
}

fn inner_abort_bare(world: &mut World) {
    let server = world.spawn("parent", &["--bare", "--own-session"]);
    server.expect_stdout("the start of the child", |text| text.contains("started"));
    server.wait(SOON);
    std::process::abort();
}

fn inner_bare_daemon(world: &mut World) {
    let server = world.spawn("parent", &["--bare", "--own-session"]);
    server.wait(SOON);
}

fn inner_busy_port(world: &mut World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = world.spawn("announcer", &["--address", &address]);
    server.address();
    server.wait(SOON);
    std::mem::forget(listener);
}

fn inner_daemon(world: &mut World) {
    let server = world.spawn("parent", &["--own-session", "--stay"]);
    server.expect_stdout("the start of the child", |text| text.contains("started"));
    server.kill9();
}

fn inner_early_exit(_: &mut World) {
    std::process::exit(0);
}

fn inner_expected(world: &mut World) {
    world.expect_panics();
    world.expect_orphans();
    world.spawn("panicker", &[]).wait(SOON);
    world.spawn("parent", &["--brief"]).wait(SOON);
}

fn inner_fork_bomb(world: &mut World) {
    world.process_limit(10);
    world
        .spawn("parent", &["--count", "30", "--stay"])
        .wait(SOON * 2);
}

fn inner_good(world: &mut World) {
    let server = world.spawn("echo", &[]);
    connect(&server.address()).send_line("quit");
    assert!(server.wait(SOON).success());
}

fn inner_hang(world: &mut World) {
    world.deadline(Duration::from_millis(1500));
    world.spawn("sleeper", &[]).wait(SOON * 10);
}

fn inner_killed_parent(world: &mut World) {
    let path = world.tempdir().join("left");
    let server = world.spawn("echo", &["--unix", path.to_str().unwrap()]);
    server.address();
    assert_eq!(server.kill9().signal(), Some(Signal::SIGKILL as i32));
}

fn hoard(world: &mut World, flags: &[&str]) {
    let mut go = world.gate("go");
    let server = world.spawn("hoarder", flags);
    // Looked at when it has nothing yet, as the scenario of a server does.
    server.address();
    go.reached(SOON);
    go.open();
    server.expect_stdout("both children", |text| text.contains("done"));
    let child = server.expect_children(1)[0];
    server.stop(Signal::SIGTERM, SOON);
    let child = nix::unistd::Pid::from_raw(child as i32);
    nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
}

fn inner_held_pipe(world: &mut World) {
    hoard(world, &[]);
}

/// It holds two descriptors more, and they are those of a child.
fn inner_tidy_parent(world: &mut World) {
    hoard(world, &["--tidy"]);
}

fn inner_leak(world: &mut World) {
    assert!(world.spawn("parent", &[]).wait(SOON).success());
}

fn inner_never_listens(world: &mut World) {
    world.spawn("grumbler", &[]).address();
}

fn inner_not_waited_for(world: &mut World) {
    let server = world.spawn("parent", &["--count", "0"]);
    until("its end", SOON, || {
        (!processes::is_alive(server.pid())).then_some(())
    });
}

fn inner_panic(world: &mut World) {
    assert!(world.spawn("panicker", &[]).wait(SOON).success());
}

fn inner_still_running(world: &mut World) {
    world.spawn("sleeper", &[]);
}

fn inner_thread_panic(_: &mut World) {
    let _ = std::thread::spawn(|| panic!("unseen")).join();
}

fn inner_unix_path_left(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = world.spawn("echo", &["--unix", path.to_str().unwrap(), "--leave-path"]);
    connect(&server.address()).send_line("quit");
    server.wait(SOON);
}

fn inner_unreaped(world: &mut World) {
    let exit = world.gate("exit");
    let server = world.spawn("parent", &["--brief"]);
    until("a zombie", SOON, || {
        (server.zombies().len() == 1).then_some(())
    });
    exit.open();
    assert!(server.wait(SOON).success());
}

fn inner_vain_wait(world: &mut World) {
    let server = world.spawn("echo", &[]);
    server.address();
    until(
        "the moon to be made of cheese",
        Duration::ZERO,
        || None::<()>,
    );
}
