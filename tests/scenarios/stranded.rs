//! The rules that keep a connection from being stranded: one connection wakes one child, and that
//! child may not accept it.
//!
//! Where the order matters ptrace holds a child at the point where its wait for a connection has
//! returned and it has not tried to accept yet: the wake-up is spent, and the other idle child was
//! not woken. (SIGSTOP would not work: it ends the wait.)

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use prefork_server::servers::{AcceptOrder, TcpConn};
use prefork_server::{Monitor, PreFork, PreForkHooks, Reason, Start, States, TcpServer, defaults};

use crate::support::processes::{self, is_in_epoll_wait, waits_in_accept, waits_in_epoll};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, connect, gate, programs, scenarios,
    until,
};

pub const PROGRAMS: Programs = programs![pool];

pub const SCENARIOS: Scenarios = scenarios![
    busy_child_takes_no_wake_up,
    d05_child_that_was_woken_for_nothing_waits_on,
    idle_child_tries_when_its_timer_fires,
    killed_child_is_followed_by_one_that_tries_first,
    d09_stopped_child_tries_once_more,
    d09_thousand_connections_survive_as_many_stops,
    d09_as_many_survive_where_children_take_turns: long,
];

// The program.

/// A pool that grows and shrinks on command only, unless fewer than one child is free.
fn pool(args: Args) -> Result<(), Box<dyn Error>> {
    let order = match args.has("--in-turn") {
        true => AcceptOrder::InTurn,
        false => AcceptOrder::OldestFirst,
    };
    let server = TcpServer::new(answer).max_requests(0).accept_order(order);
    let hooks = Hooks {
        ack_every: args.parsed("--ack-every").map(Duration::from_millis),
        commanded: args.has("--commanded"),
    };
    let mut prefork = PreFork::builder(server)
        .hooks(hooks)
        .start_servers(args.parsed("--children").unwrap_or(2))
        .min_spare_servers(1)
        .max_spare_servers(100)
        .max_clients(100)
        .start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    let report = prefork.run()?;
    println!("{report}");
    Ok(())
}

/// Answers each line with the pid of the child.
fn answer(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        line?;
        writeln!(&conn, "{}", std::process::id())?;
    }
    Ok(())
}

struct Hooks {
    /// How often every child but the first says ACK.
    ack_every: Option<Duration>,
    /// Whether stdin has commands: `r` retires the oldest free child, `f` forks one.
    commanded: bool,
}

impl PreForkHooks for Hooks {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        if self.commanded {
            states.add("command");
            states.select_read(io::stdin(), "command").unwrap();
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _: &str) {
        let mut commands = [0; 256];
        let count = io::stdin().read(&mut commands).unwrap();
        for command in &commands[..count] {
            if *command == b'f' {
                monitor.fork();
            } else if let Some(oldest) = monitor.free_servers().map(|child| child.id()).min() {
                monitor.kill(oldest, prefork_server::Signal::Interrupt);
                monitor.retire(oldest, Reason::Asked);
            }
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        gate::pass("start");
        if start.monitor().report().forks > 0 {
            start.server().set_send_ack(self.ack_every);
        }
        defaults::server_start(self, start)
    }
}

// A child in the midst of its wait.

/// The two children of a pool, both idle; the first has registered first, so that a connection
/// wakes it.
fn two_idle(world: &mut World, arguments: &[&str]) -> (Server, [u32; 2]) {
    let mut start = world.gate("start");
    let program = world.program("pool").args(arguments);
    let server = program.stdin(Stdio::piped()).spawn();
    let mut children = [start.reached(SOON), start.reached(SOON)];
    // The one that was forked first is the first to be retired on command, too.
    children.sort_unstable();
    for child in children {
        start.release(child);
        until("the child to wait for a connection", SOON, || {
            waits_in_epoll(child).then_some(())
        });
    }
    (server, children)
}

/// A child that is held as soon as its wait for a connection returns.
struct Woken(Pid);

impl Woken {
    /// `None`, with a message, where processes may not be traced.
    fn prepare(pid: u32) -> Option<Self> {
        let woken = Self(Pid::from_raw(pid.cast_signed()));
        match ptrace::seize(woken.0, ptrace::Options::empty()) {
            Ok(()) => {}
            Err(Errno::EPERM | Errno::ENOSYS) => {
                eprintln!("skipped: this machine does not let a process be traced");
                return None;
            }
            Err(error) => panic!("tracing {pid}: {error}"),
        }
        ptrace::interrupt(woken.0).unwrap();
        // The interruption has ended its wait: it goes on from system call to system call, until it
        // waits again.
        woken.held();
        loop {
            ptrace::syscall(woken.0, None).unwrap();
            let waits = until("the child to stop or to wait", SOON, || {
                woken
                    .is_held()
                    .then_some(false)
                    .or(waits_in_epoll(pid).then_some(true))
            });
            if waits {
                return Some(woken);
            }
        }
    }

    fn is_held(&self) -> bool {
        match waitpid(self.0, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => false,
            WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => true,
            other => panic!("the child to be held, but: {other:?}"),
        }
    }

    fn held(&self) {
        until("the child to be held", SOON, || {
            self.is_held().then_some(())
        });
    }

    /// Waits until it has been woken.
    fn woken(&self) {
        self.held();
        assert!(is_in_epoll_wait(self.pid()), "held where its wait returns");
    }

    fn pid(&self) -> u32 {
        self.0.as_raw().cast_unsigned()
    }

    /// Whether a SIGINT is on its way to it.
    fn is_interrupted(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        let pending = u64::from_str_radix(pending.unwrap().trim(), 16).unwrap();
        pending & 1 << (Signal::SIGINT as u32 - 1) != 0
    }

    /// Ends it where it stands.
    fn kill(self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        // The parent cannot collect the status before the tracer has.
        until("the child to be dead", SOON, || {
            let status = waitpid(self.0, Some(WaitPidFlag::WNOHANG)).unwrap();
            matches!(status, WaitStatus::Signaled(..)).then_some(())
        });
    }

    fn go_on(self) {
        ptrace::detach(self.0, None).unwrap();
    }
}

fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

// The scenarios.

/// A child that is told to stop accepts until nothing is queued, since a wake-up may have been spent on it.
fn d09_stopped_child_tries_once_more(world: &mut World) {
    // Without `Action::Drain` in the accept loop the client was never answered.
    let (server, [first, second]) = two_idle(world, &["--commanded"]);
    let mut commands = server.take_stdin().unwrap();
    let address = server.address();
    let Some(woken) = Woken::prepare(first) else {
        return stop(&server);
    };
    let mut client = connect(&address);
    woken.woken();
    assert!(waits_in_epoll(second), "one connection wakes one child");
    commands.write_all(b"r").unwrap();
    until("the parent to tell the child to stop", SOON, || {
        woken.is_interrupted().then_some(())
    });
    woken.go_on();
    assert_eq!(client.ask("who?"), first.to_string());
    drop(client);
    until("the child to leave", SOON, || {
        (!processes::is_alive(first)).then_some(())
    });
    stop(&server);
}

/// A child that dies unasked is replaced even if enough are spare: without that fork (`owed` in the
/// monitor) the client is never answered. (The new child's attempt before its first wait makes no
/// difference here: on Linux a queued connection ends the first wait of an epoll at once.)
fn killed_child_is_followed_by_one_that_tries_first(world: &mut World) {
    let (server, [first, second]) = two_idle(world, &[]);
    let address = server.address();
    let Some(woken) = Woken::prepare(first) else {
        return stop(&server);
    };
    let mut client = connect(&address);
    woken.woken();
    woken.kill();
    let by: u32 = client.ask("who?").parse().unwrap();
    assert!(by != first && by != second, "a newcomer has answered");
    drop(client);
    stop(&server);
}

/// A child also tries to accept after each wake-up by a timer. If it waited until a listener is
/// reported as ready, the client would wait for as long as the first child is held.
fn idle_child_tries_when_its_timer_fires(world: &mut World) {
    let (server, [first, second]) = two_idle(world, &["--ack-every", "200"]);
    let address = server.address();
    let Some(woken) = Woken::prepare(first) else {
        return stop(&server);
    };
    let mut client = connect(&address);
    woken.woken();
    assert_eq!(client.ask("who?"), second.to_string());
    drop(client);
    woken.go_on();
    stop(&server);
}

/// Listeners are non-blocking, and a wake-up for a connection that another child has taken is
/// normal: the child waits for the next.
fn d05_child_that_was_woken_for_nothing_waits_on(world: &mut World) {
    // With listeners in blocking mode (no SOCK_NONBLOCK in `stream_socket`, no `keep_nonblocking`) the
    // first child hung in accept.
    let (server, [first, second]) = two_idle(world, &["--ack-every", "200"]);
    let address = server.address();
    let Some(woken) = Woken::prepare(first) else {
        return stop(&server);
    };
    let mut client = connect(&address);
    woken.woken();
    assert_eq!(client.ask("who?"), second.to_string());
    woken.go_on();
    until("the child to wait again", SOON, || {
        waits_in_epoll(first).then_some(())
    });
    // The other one is busy.
    assert_eq!(connect(&address).ask("who?"), first.to_string());
    drop(client);
    assert!(processes::is_alive(first) && processes::is_alive(second));
    stop(&server);
}

/// A `Conn` does not wait on the epoll that has the listeners. If it did (`wait_stream` of the
/// child's link), the second client would wake the child that already has a client, and no child
/// would serve it.
fn busy_child_takes_no_wake_up(world: &mut World) {
    let (server, [first, _]) = two_idle(world, &[]);
    let address = server.address();
    let mut slow = connect(&address);
    assert_eq!(slow.ask("who?"), first.to_string());
    until("the child to wait for its client", SOON, || {
        (processes::state(first) == Some('S')).then_some(())
    });
    for _ in 0..20 {
        let mut client = connect(&address);
        assert_ne!(client.ask("who?"), first.to_string());
    }
    assert_eq!(slow.ask("who?"), first.to_string());
    drop(slow);
    stop(&server);
}

/// A thousand times a child is told to stop just as a client connects: every client is served.
fn d09_thousand_connections_survive_as_many_stops(world: &mut World) {
    // Without `Action::Drain` in the accept loop one of the clients soon waits in vain. (The program
    // reads its commands in blocking mode: a state that is called once more than there is something
    // to read hangs it.)
    const CHILDREN: usize = 26;
    world.deadline(Duration::from_secs(120));
    let server = world
        .program("pool")
        .args(&["--commanded", "--children", &CHILDREN.to_string()])
        .stdin(Stdio::piped())
        .spawn();
    let mut commands = server.take_stdin().unwrap();
    let command = |commands: &mut ChildStdin, text: &[u8]| commands.write_all(text).unwrap();
    let address = server.address();
    let mut served = 0;
    while served < 1000 {
        // All of them idle: a newcomer would try to accept, whichever was woken.
        let idle = until("an idle pool", SOON, || {
            let children = server.children();
            let idle = children.len() > CHILDREN / 2
                && children.iter().all(|&child| waits_in_epoll(child));
            idle.then_some(children.len())
        });
        for _ in 1..idle {
            command(&mut commands, b"r");
            connect(&address).ask("who?");
        }
        served += idle - 1;
        // As many as may have left, however late the parent does what it was told.
        command(&mut commands, &vec![b'f'; idle - 1]);
    }
    stop(&server);
}

/// Children that take turns are told to stop while they wait in accept, or are about to: every
/// client is served.
fn d09_as_many_survive_where_children_take_turns(world: &mut World) {
    const CHILDREN: usize = 26;
    world.deadline(Duration::from_secs(120));
    let children = CHILDREN.to_string();
    let arguments = ["--commanded", "--in-turn", "--children", &children];
    let program = world.program("pool").args(&arguments);
    let server = program.stdin(Stdio::piped()).spawn();
    let mut commands = server.take_stdin().unwrap();
    let address = server.address();
    let mut in_line = 0;
    for _ in 0..40 {
        until("a pool to work with", SOON, || {
            (server.children().len() > CHILDREN / 2).then_some(())
        });
        // They get in line when connections come fast.
        for _ in 0..20 * CHILDREN {
            connect(&address).ask("who?");
        }
        in_line += server
            .children()
            .into_iter()
            .filter(|&child| waits_in_accept(child))
            .count();
        for _ in 1..CHILDREN {
            commands.write_all(b"r").unwrap();
            connect(&address).ask("who?");
        }
        commands.write_all(&[b'f'; CHILDREN - 1]).unwrap();
    }
    assert!(in_line > 0, "somebody has waited in accept");
    stop(&server);
}
