//! A program with its own loop, which calls the documented handlers between two turns, also after a
//! long idle time. Letters on its stdin choose the handler.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, ExitCode, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prefork_server::{
    Child, ChildId, Error, Line, Monitor, Operation, Output, PreFork, PreForkHooks, Reason, Start,
    States, TcpServer, WatchId, Word, defaults,
};

use crate::subject;
use crate::subject::{
    Held, Journal, announce, ended, ends_well, expect_entry, expect_exit, expect_up, pids,
};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, World, holds, programs, scenarios, until,
};

pub const PROGRAMS: Programs = programs![by_hand];

pub const SCENARIOS: Scenarios = scenarios![
    what_is_asked_for_after_a_long_quiet_counts_from_then: long,
    a_shutdown_by_hand_after_a_long_quiet_gives_the_client_its_time,
    each_handler_that_can_be_called_by_hand_does_what_its_hook_does,
    forks_by_hand_are_done_when_the_call_returns,
    the_end_of_the_server_object_by_hand_shuts_down,
    an_error_by_hand_is_said_and_shuts_down,
    a_stop_by_hand_ends_the_server_in_the_call,
    a_descriptor_is_watched_for_room_until_it_is_removed,
    a_child_that_leaves_calls_server_exiting,
];

/// The journal, and a state of its own.
struct Hooks {
    journal: Journal,
    watch: Option<WatchId>,
}

macro_rules! to_the_journal {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            fn $name(&mut self, $($arg: $type),*) $(-> $result)? {
                self.journal.$name($($arg),*)
            }
        )*
    };
}

impl PreForkHooks for Hooks {
    to_the_journal! {
        fn server_start(start: &mut Start<'_>) -> io::Result<()>;
        fn server_forked(monitor: &mut Monitor, child: ChildId);
        fn server_ack(monitor: &mut Monitor, child: ChildId);
        fn server_busy(monitor: &mut Monitor, child: ChildId);
        fn server_not_busy(monitor: &mut Monitor, child: ChildId);
        fn server_exited(monitor: &mut Monitor, child: &Child, death: &prefork_server::Death);
        fn handler_server_closed(monitor: &mut Monitor, child: ChildId);
        fn handler_server_timeout_check(monitor: &mut Monitor);
        fn handler_shutdown(monitor: &mut Monitor);
        fn handler_run_error(
            monitor: &mut Monitor,
            operation: Operation,
            error: &io::Error,
            child: Option<ChildId>
        );
    }

    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        states.add("tick");
        states.add("room");
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        println!("state {state}");
        if let Some(watch) = self.watch.take() {
            monitor.select_remove(watch);
        }
    }

    fn server_exiting(&mut self, _: &mut Start<'_>) {
        println!("leaving");
    }
}

type Driven = PreFork<Hooks, TcpServer>;

/// Drives a server by poll(2), and between two turns does what the letters ask for.
fn by_hand(args: Args) -> ExitCode {
    subject::log_warnings();
    ended(drive(&args))
}

fn drive(args: &Args) -> Result<(), Error> {
    let hooks = Hooks {
        journal: Journal::new(args),
        watch: None,
    };
    let mut server = subject::builder(args).hooks(hooks).start()?;
    // For the watch; it has room and nothing to read.
    let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
    announce(&server);
    let mut patience = Some(Duration::ZERO);
    loop {
        if let Some(letter) = wait(&server, patience) {
            obey(&mut server, letter, &ours);
            println!("did {}", char::from(letter));
        }
        let turn = server.turn(Some(Duration::ZERO))?;
        if turn.is_done() {
            return Ok(());
        }
        patience = turn.wait();
    }
}

/// Waits until the server or stdin is ready; the letter, if there is one.
fn wait(server: &Driven, patience: Option<Duration>) -> Option<u8> {
    let stdin = io::stdin();
    let mut fds = [stdin.as_fd(), server.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let timeout = patience.map_or(PollTimeout::NONE, |patience| {
        // Rounded up: a millisecond too early would be a millisecond of spinning.
        PollTimeout::try_from(patience + Duration::from_millis(1)).unwrap()
    });
    // Interrupted by the signal that the server is to hear of, it is just another turn.
    let _ = poll(&mut fds, timeout);
    let ready = fds[0]
        .revents()
        .is_some_and(|ready| ready.contains(PollFlags::POLLIN));
    let mut letter = [0];
    let count = ready.then(|| nix::unistd::read(&stdin, &mut letter).expect("a letter"));
    (count == Some(1)).then_some(letter[0])
}

fn obey(server: &mut Driven, letter: u8, ours: &UnixStream) {
    let oldest = server.monitor().children().map(Child::id).min();
    let denied = io::Error::from_raw_os_error(13);
    match (letter, oldest) {
        (b'a', _) => drop(
            server
                .monitor_mut()
                .delay_set("tick", Duration::from_secs(4)),
        ),
        (b'r', Some(_)) => {
            let busy: Vec<_> = server.monitor().busy_servers().map(Child::id).collect();
            busy.into_iter()
                .for_each(|busy| server.monitor_mut().retire(busy, Reason::Asked));
        }
        (b's', _) => server.shutdown(),
        (b'c', _) => server.child(&denied),
        (b'e', _) => server.run_error(Operation::Read, &denied, None),
        (b'S', _) => server.stop(),
        (b'1', Some(oldest)) => server.server_closed(oldest),
        (b'2', Some(oldest)) => server.server_stderr(oldest, &Line::whole("by hand")),
        (b'3', Some(oldest)) => server.server_ack(oldest, Output::Word(Word::Busy)),
        (b't', _) => server.timeout_check(),
        (b'f', _) => {
            // What is missing, and no more.
            server.monitor_mut().set_min_spare_servers(5);
            server.forkoff();
        }
        (b'g', _) => server.server_fork(),
        (b'w', _) => {
            let watch = server.monitor_mut().select_write(ours, "room");
            server.hooks_mut().watch = Some(watch.expect("a watch"));
        }
        (other, _) => panic!("no such letter: {other}"),
    }
    println!("children {}", server.monitor().children().count());
}

fn spawn(world: &mut World, flags: &[&str]) -> (Server, ChildStdin) {
    let server = world.program("by_hand").args(flags).stdin(Stdio::piped());
    let server = server.spawn();
    let stdin = server.take_stdin().unwrap();
    (server, stdin)
}

/// Has the program do what the letter says, between two turns, and waits until it has.
#[track_caller]
fn have(server: &Server, stdin: &mut ChildStdin, letter: &str) {
    stdin.write_all(letter.as_bytes()).unwrap();
    let did = format!("did {letter}\n");
    server.expect_stdout(&did, |text| text.contains(&did));
}

/// A client is in hand, and then nothing happens for longer than any timeout that is set
/// afterwards: the loop has not turned.
#[track_caller]
fn in_hand_and_quiet(server: &Server) -> Held {
    let held = Held::new(&server.address());
    expect_entry(server, "busy", held.pid);
    expect_up(server, 2);
    holds("all is quiet", Duration::from_secs(6), || {
        server.children().len() == 2
    });
    held
}

/// If the time of the last turn were used, the alarm would go off at once and the child would be
/// killed at once.
fn what_is_asked_for_after_a_long_quiet_counts_from_then(world: &mut World) {
    let (server, mut stdin) = spawn(world, &["--kill-timeout", "5000"]);
    let mut held = in_hand_and_quiet(&server);
    have(&server, &mut stdin, "a");
    have(&server, &mut stdin, "r");
    holds("it is not time yet", Duration::from_millis(700), || {
        held.is_served();
        !server.stdout().contains("state tick")
    });
    server.expect_stdout("the alarm", |text| text.contains("state tick\n"));
    expect_exit(&server, held.pid, "Asked signal: 9 (SIGKILL)");
    drop(held);
    ends_well(&server);
}

/// If the time of the last turn were used, the client would lose its child within milliseconds.
fn a_shutdown_by_hand_after_a_long_quiet_gives_the_client_its_time(world: &mut World) {
    let (server, mut stdin) = spawn(world, &["--shutdown-timeout", "5000"]);
    let mut held = in_hand_and_quiet(&server);
    have(&server, &mut stdin, "s");
    holds("the client is served", Duration::from_millis(700), || {
        held.is_served();
        true
    });
    let pid = held.pid;
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, pid, "Shutdown exit status: 0");
}

fn each_handler_that_can_be_called_by_hand_does_what_its_hook_does(world: &mut World) {
    let (server, mut stdin) = spawn(world, &["--start", "1"]);
    server.address();
    let pid = expect_up(&server, 1)[0];
    have(&server, &mut stdin, "1");
    expect_entry(&server, "closed", pid);
    have(&server, &mut stdin, "2");
    let line = format!("{pid} STDERR: by hand\n");
    server.expect_stderr(&line, |text| text.contains(&line));
    have(&server, &mut stdin, "3");
    expect_entry(&server, "busy", pid);
    // The check has its own timer only with a timeout, and here there is none.
    assert_eq!(pids(&server, "check"), [0; 0]);
    have(&server, &mut stdin, "t");
    expect_entry(&server, "check", 0);
    ends_well(&server);
}

/// What the hook has queued is performed now, not in the next turn.
fn forks_by_hand_are_done_when_the_call_returns(world: &mut World) {
    let (server, mut stdin) = spawn(world, &["--start", "1"]);
    server.address();
    expect_up(&server, 1);
    have(&server, &mut stdin, "g");
    let text = server.stdout();
    assert!(text.contains("children 2\ndid g"), "{text}");
    have(&server, &mut stdin, "f");
    let text = server.stdout();
    assert!(text.contains("children 5\ndid f"), "{text}");
    server.expect_children(5);
    ends_well(&server);
}

fn the_end_of_the_server_object_by_hand_shuts_down(world: &mut World) {
    let (server, mut stdin) = spawn(world, &[]);
    server.address();
    expect_up(&server, 2);
    stdin.write_all(b"c").unwrap();
    assert_ne!(server.wait(SOON).code(), Some(0), "it ended for a reason");
    assert!(server.stderr().contains("the server has ended: "));
    assert_eq!(pids(&server, "shutdown").len(), 1);
}

fn an_error_by_hand_is_said_and_shuts_down(world: &mut World) {
    let (server, mut stdin) = spawn(world, &[]);
    server.address();
    expect_up(&server, 2);
    stdin.write_all(b"e").unwrap();
    assert_ne!(server.wait(SOON).code(), Some(0), "it ended for a reason");
    let warning = format!("{} got read error 13 (Permission denied)\n", server.pid());
    assert!(server.stderr().contains(&warning), "{}", server.stderr());
    assert_eq!(pids(&server, "shutdown").len(), 1);
}

fn a_stop_by_hand_ends_the_server_in_the_call(world: &mut World) {
    let (server, mut stdin) = spawn(world, &[]);
    server.address();
    expect_up(&server, 2);
    stdin.write_all(b"S").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
    let text = server.stdout();
    assert!(text.contains("children 0\ndid S"), "{text}");
    assert_eq!(pids(&server, "shutdown"), [0; 0], "it is no shutdown");
}

/// There is nothing to read, so only a watch for writing is ready; and it would be ready in every
/// turn.
fn a_descriptor_is_watched_for_room_until_it_is_removed(world: &mut World) {
    let (server, mut stdin) = spawn(world, &[]);
    server.address();
    expect_up(&server, 2);
    have(&server, &mut stdin, "w");
    let seen = |server: &Server| server.stdout().matches("state room\n").count();
    until("the room to be seen", SOON, || {
        (seen(&server) > 0).then_some(())
    });
    holds("it is removed", Duration::from_millis(500), || {
        seen(&server) == 1
    });
    ends_well(&server);
}

fn a_child_that_leaves_calls_server_exiting(world: &mut World) {
    let (server, stdin) = spawn(world, &[]);
    server.address();
    let children = expect_up(&server, 2);
    ends_well(&server);
    drop(stdin);
    let text = server.stdout();
    for pid in children {
        assert!(text.contains(&format!("{pid} STDOUT: leaving\n")), "{text}");
    }
}
