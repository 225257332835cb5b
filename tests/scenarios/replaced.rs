//! Each of the eleven handlers is replaced, without its default, in a running server, and the
//! server's behaviour changes: so the loop does the work of each only through its hook.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::{
    ChildId, ChildServer, Comm, Error, Line, Monitor, Operation, Output, PreForkHooks, Start,
    TcpServer, defaults,
};

use crate::subject;
use crate::subject::{Held, Journal, converse, ended, expect_up, log_warnings, spawn_thread, stop};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, holds, processes, programs, scenarios,
    until,
};

pub const PROGRAMS: Programs = programs![replacing];

pub const SCENARIOS: Scenarios = scenarios![
    handler_start_replaced_opens_and_forks_nothing,
    o03_handler_child_replaced_is_called_once,
    handler_stop_replaced_leaves_the_server_object_alone,
    handler_run_error_replaced_swallows_the_error,
    handler_shutdown_replaced_serves_on,
    handler_server_closed_replaced_has_nobody_forked,
    handler_server_stderr_replaced_is_silent,
    handler_server_ack_replaced_hears_nothing,
    handler_server_timeout_check_replaced_times_nobody_out,
    handler_forkoff_replaced_forks_nobody,
    handler_server_fork_replaced_forks_nobody,
];

/// The hooks: one handler does nothing, the others what they do by default.
struct Replacing {
    journal: Journal,
    replaced: String,
    first_is_stuck: bool,
    forks: usize,
}

macro_rules! replaceable {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty = $value:expr)?;)*) => {
        $(
            fn $name(&mut self, $($arg: $type),*) $(-> $result)? {
                if self.replaced == stringify!($name) {
                    println!("{} does nothing", stringify!($name));
                    return $($value)?;
                }
                defaults::$name(self, $($arg),*)
            }
        )*
    };
}

impl PreForkHooks for Replacing {
    replaceable! {
        fn handler_start(monitor: &mut Monitor, server: &mut dyn ChildServer)
            -> io::Result<()> = Ok(());
        fn handler_child(monitor: &mut Monitor, error: &io::Error);
        fn handler_stop(monitor: &mut Monitor, server: &mut dyn ChildServer);
        fn handler_run_error(
            monitor: &mut Monitor,
            operation: Operation,
            error: &io::Error,
            child: Option<ChildId>
        );
        fn handler_shutdown(monitor: &mut Monitor);
        fn handler_server_closed(monitor: &mut Monitor, child: ChildId);
        fn handler_server_stderr(monitor: &mut Monitor, child: ChildId, line: &Line);
        fn handler_server_ack(monitor: &mut Monitor, child: ChildId, output: Output<'_>);
        fn handler_server_timeout_check(monitor: &mut Monitor);
        fn handler_forkoff(monitor: &mut Monitor);
        fn handler_server_fork(monitor: &mut Monitor);
    }

    fn before_fork(&mut self, _: &mut Monitor) {
        self.forks += 1;
    }

    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        self.journal.server_ack(monitor, child);
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if self.first_is_stuck && self.forks == 1 {
            // It closes its outputs, and comes back no more.
            return self.journal.server_start(start);
        }
        println!("a word on stdout");
        eprintln!("a word on stderr");
        defaults::server_start(self, start)
    }
}

/// A TCP server that says when it is stopped, and that can be one whose socket is lost.
struct Losing {
    tcp: TcpServer,
    lost: bool,
}

impl ChildServer for Losing {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        Some(&mut self.tcp)
    }

    fn start(&mut self) -> io::Result<()> {
        self.tcp.start()?;
        for address in self.tcp.local_addrs() {
            println!("listening on {address}");
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.tcp.stop();
        println!("the socket is closed");
    }

    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        if self.lost {
            return Err(io::Error::other("the socket is lost"));
        }
        self.tcp.resume_accept(comm)
    }

    fn lost(&mut self) -> Option<io::Error> {
        self.lost.then(|| io::Error::other("the socket is lost"))
    }
}

fn replacing(args: Args) -> ExitCode {
    log_warnings();
    ended(run(&args))
}

fn run(args: &Args) -> Result<(), Error> {
    let hooks = Replacing {
        journal: Journal::new(args),
        replaced: args.value("--replaced").unwrap_or("").to_owned(),
        first_is_stuck: args.has("--stuck"),
        forks: 0,
    };
    let server = Losing {
        tcp: TcpServer::new(converse).max_requests(0),
        lost: args.has("--lost"),
    };
    let mut prefork = subject::builder_of(args, server).hooks(hooks).start()?;
    if args.has("--thread") {
        spawn_thread();
    }
    println!("started");
    println!("{}", prefork.run()?);
    Ok(())
}

/// The server with the default of that handler, or with nothing in its place.
#[track_caller]
fn spawn(world: &mut World, replaced: &str, flags: &[&str]) -> Server {
    let server = world.program("replacing").args(&["--replaced", replaced]);
    let server = server.args(flags).spawn();
    server.expect_stdout("its start", |text| text.contains("started\n"));
    server
}

const DEFAULT: &str = "none";

/// Nothing that the default would have done happens for a while.
#[track_caller]
fn stays(what: &str, fact: impl FnMut() -> bool) {
    holds(what, Duration::from_millis(700), fact);
}

#[track_caller]
fn end(server: &Server) {
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

fn handler_start_replaced_opens_and_forks_nothing(world: &mut World) {
    let server = spawn(world, DEFAULT, &[]);
    Held::new(&server.address()).is_served();
    end(&server);
    let server = spawn(world, "handler_start", &[]);
    stays("there is no child", || server.children().is_empty());
    assert!(!server.stdout().contains("listening on"));
    end(&server);
}

/// Each child leaves with 103, and the hook is called for the first of them only.
fn o03_handler_child_replaced_is_called_once(world: &mut World) {
    let server = spawn(world, DEFAULT, &["--lost"]);
    assert_eq!(server.wait(SOON).code(), Some(1), "run has failed");
    let server = spawn(world, "handler_child", &["--lost"]);
    let failed = |text: &str| text.matches("failed to start").count() >= 3;
    server.expect_stderr("children to end", failed);
    stays("it runs", || server.try_wait().is_none());
    end(&server);
    let calls = server
        .stdout()
        .matches("handler_child does nothing")
        .count();
    assert_eq!(calls, 1);
}

fn handler_stop_replaced_leaves_the_server_object_alone(world: &mut World) {
    let closes = |replaced: &str, world: &mut World| {
        let server = spawn(world, replaced, &[]);
        expect_up(&server, 2);
        end(&server);
        server.stdout().contains("the socket is closed\n")
    };
    assert!(closes(DEFAULT, world));
    assert!(!closes("handler_stop", world));
}

fn handler_run_error_replaced_swallows_the_error(world: &mut World) {
    // No fork is possible with a second thread, and retrying does not help.
    let server = spawn(world, DEFAULT, &["--thread"]);
    assert_eq!(server.wait(SOON).code(), Some(1), "run has failed");
    assert!(server.stderr().contains("got threads error 0 ("));
    let server = spawn(world, "handler_run_error", &["--thread"]);
    stays("it runs", || server.try_wait().is_none());
    end(&server);
    assert!(!server.stderr().contains("error 0 ("));
}

fn handler_shutdown_replaced_serves_on(world: &mut World) {
    let server = spawn(world, DEFAULT, &[]);
    expect_up(&server, 2);
    end(&server);
    let server = spawn(world, "handler_shutdown", &[]);
    expect_up(&server, 2);
    server.signal(Signal::SIGTERM);
    stays("it serves", || {
        Held::new(&server.address()).is_served();
        server.try_wait().is_none()
    });
    // It cannot be ended in any other way.
    world.expect_orphans();
    server.kill9();
    until("its children to go", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

/// A child that closes its outputs in its start and lives on: it counted as free, so there is one too few.
fn handler_server_closed_replaced_has_nobody_forked(world: &mut World) {
    let directory = world.tempdir();
    let file = directory.join("while");
    std::fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap();
    let misdeed = ["--misdeed", "close-outputs", "--misdeed-while", path];
    let flags = ["--start", "1", "--stuck", "--kill-timeout", "5000"];
    let flags = [&flags[..], &["--shutdown-timeout", "200"], &misdeed].concat();
    let server = spawn(world, DEFAULT, &flags);
    server.expect_children(2);
    end(&server);
    let server = spawn(world, "handler_server_closed", &flags);
    let child = server.expect_children(1)[0];
    until("it to be stuck", SOON, || {
        let pipes = processes::descriptors(child);
        let mut outputs = pipes.iter().filter(|(fd, _)| [1, 2].contains(fd));
        outputs
            .all(|(_, target)| !target.starts_with("pipe:"))
            .then_some(())
    });
    stays("nobody takes its place", || server.children() == [child]);
    end(&server);
}

fn handler_server_stderr_replaced_is_silent(world: &mut World) {
    let prints = |replaced: &str, world: &mut World| {
        let server = spawn(world, replaced, &[]);
        expect_up(&server, 2);
        end(&server);
        server
            .stderr()
            .matches("STDERR: a word on stderr\n")
            .count()
    };
    assert_eq!(prints(DEFAULT, world), 2);
    assert_eq!(prints("handler_server_stderr", world), 0);
}

fn handler_server_ack_replaced_hears_nothing(world: &mut World) {
    let server = spawn(world, DEFAULT, &["--start", "1"]);
    let held = Held::new(&server.address());
    until("another to be forked", SOON, || {
        (server.children().len() > 1).then_some(())
    });
    drop(held);
    end(&server);
    let line = "STDOUT: a word on stdout\n";
    assert!(server.stdout().contains(line));
    let server = spawn(world, "handler_server_ack", &["--start", "1"]);
    let held = Held::new(&server.address());
    stays("nobody hears that it is busy", || {
        server.children() == [held.pid]
    });
    drop(held);
    end(&server);
    assert!(!server.stdout().contains(line));
}

fn handler_server_timeout_check_replaced_times_nobody_out(world: &mut World) {
    let flags = ["--timeout", "1000", "--check", "100"];
    let flags = [&flags[..], &["--kill-timeout", "100", "--start", "1"]].concat();
    let server = spawn(world, DEFAULT, &flags);
    let child = expect_up(&server, 1)[0];
    stop(child);
    until("it to be killed", SOON, || {
        (!processes::is_alive(child)).then_some(())
    });
    end(&server);
    let server = spawn(world, "handler_server_timeout_check", &flags);
    let child = expect_up(&server, 1)[0];
    stop(child);
    holds("it is left alone", Duration::from_millis(2500), || {
        server.children() == [child]
    });
    subject::send(child, Signal::SIGCONT);
    end(&server);
}

fn handler_forkoff_replaced_forks_nobody(world: &mut World) {
    forks_nobody(world, "handler_forkoff");
}

fn handler_server_fork_replaced_forks_nobody(world: &mut World) {
    forks_nobody(world, "handler_server_fork");
}

#[track_caller]
fn forks_nobody(world: &mut World, replaced: &str) {
    let server = spawn(world, DEFAULT, &[]);
    server.expect_children(2);
    end(&server);
    let server = spawn(world, replaced, &[]);
    server.address();
    stays("there is no child", || server.children().is_empty());
    end(&server);
}
