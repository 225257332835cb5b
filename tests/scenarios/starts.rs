//! The start of a parent, and what prevents or ends it: closed streams, threads.

use std::fs::{self, File};
use std::io::Write;
use std::process::ExitCode;

use crate::subject::{Held, builder, deaths, ended, ends_well, expect_entry, pids, report};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, World, processes, programs, scenarios, until,
};

pub const PROGRAMS: Programs = programs![serve_without_streams];

pub const SCENARIOS: Scenarios = scenarios![
    f03_a_second_thread_refuses_the_start,
    b09_standard_streams_may_be_closed,
    o03_a_thread_that_comes_later_shuts_down,
    b08_a_thread_that_comes_between_two_forks_shuts_down,
];

/// Runs a server without standard streams.
fn serve_without_streams(args: Args) -> ExitCode {
    let file = File::create(args.value("--address-to").unwrap()).unwrap();
    for stream in 0..3 {
        nix::unistd::close(stream).unwrap();
    }
    let Ok(mut prefork) = builder(&args).start() else {
        return ExitCode::FAILURE;
    };
    let address = prefork.server().local_addrs()[0];
    writeln!(&file, "{address}").unwrap();
    ended(prefork.run().map(drop))
}

/// Closed standard streams are filled with /dev/null before anything else is opened, so that
/// neither the socket nor a pipe gets one of their numbers.
fn b09_standard_streams_may_be_closed(world: &mut World) {
    let path = world.tempdir().join("address");
    let arguments = ["--address-to", path.to_str().unwrap()];
    let server = world.spawn("serve_without_streams", &arguments);
    let address = until("its address", SOON, || {
        let text = fs::read_to_string(&path).ok()?;
        text.strip_suffix('\n').map(Address::parse)
    });
    let mut held = Held::new(&address);
    let streams = |pid| -> Vec<String> {
        let descriptors = processes::descriptors(pid).into_iter();
        let streams = descriptors.filter(|(fd, _)| *fd < 3);
        streams.map(|(_, target)| target).collect()
    };
    assert_eq!(streams(server.pid()), ["/dev/null"; 3]);
    let [stdin, stdout, stderr] = &streams(held.pid)[..] else {
        panic!("{:?}", streams(held.pid));
    };
    assert_eq!(stdin, "/dev/null");
    assert!(stdout.starts_with("pipe:") && stderr.starts_with("pipe:"));
    held.is_served();
    drop(held);
    ends_well(&server);
}

// Scenarios: the start.

/// PDEATHSIG is sent when the thread that forked ends. So the parent forks only while it has one
/// thread, which lives as long as the parent.
///
/// Without the count of threads in `Builder::start` the server starts.
fn f03_a_second_thread_refuses_the_start(world: &mut World) {
    let server = world.spawn("serve", &["--thread-before-start"]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    assert!(
        text.starts_with("error: threads of the parent: 2 threads ("),
        "{text}"
    );
    assert!(text.contains("pesky"), "{text}");
    assert_eq!(server.stdout(), "");
}

/// Threads in the parent, a listener that was shut down (D7), an output that cannot be read (C14): `run`
/// ends with an error that has the operation and its object, so that the program exits non-zero. Beside
/// a second thread no child is forked.
fn o03_a_thread_that_comes_later_shuts_down(world: &mut World) {
    let server = world.spawn("serve", &["--thread-after-start"]);
    assert_eq!(server.wait(SOON).code(), Some(1), "run has failed");
    expect_entry(&server, "error", 0);
    assert_eq!(pids(&server, "forked"), []);
    assert!(server.stderr().contains("pesky"));
}

/// One fork at a time, from the only thread: the threads are counted before each fork, and a second
/// one is an error. What is opened closes on exec.
fn b08_a_thread_that_comes_between_two_forks_shuts_down(world: &mut World) {
    let server = world.spawn("serve", &["--start", "5", "--thread-at-fork", "3"]);
    assert_eq!(server.wait(SOON).code(), Some(1), "run has failed");
    let error = expect_entry(&server, "error", 0);
    assert_eq!(error.rest, "threads");
    assert_eq!(pids(&server, "forked").len(), 2);
    assert_eq!(deaths(&server, "Shutdown"), 2);
    assert!(report(&server).starts_with("2 forked, "));
    assert!(server.stderr().contains("pesky"));
}
