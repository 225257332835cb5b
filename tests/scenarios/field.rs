//! Faults of the parent's core and loop that were found in the field: a server that reads commands
//! on its stdin, and how each fault looks from outside.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, signal};
use nix::sys::wait::waitpid;
use nix::time::{ClockId, clock_gettime};
use prefork_server::servers::TcpConn;
use prefork_server::{
    Builder, Child, ChildId, Death, Line, Monitor, PreFork, PreForkHooks, Start, States, TcpServer,
    defaults,
};

use crate::subject::{log_warnings, send, stop};
use crate::support::{
    Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, holds, patient,
    processes, programs, scenarios, until,
};

pub const PROGRAMS: Programs = programs![field, restarter, two_kinds];

pub const SCENARIOS: Scenarios = scenarios![
    o16_children_that_are_killed_from_outside_a_hook_were_asked_to,
    o19_a_shorter_timeout_reaches_children_that_run,
    o19_a_longer_timeout_reaches_children_that_run,
    o19_a_timeout_can_be_switched_on_and_off,
    o21_children_that_a_hook_has_reaped_are_replaced,
    o21_children_that_nobody_can_reap_are_replaced,
    o26_dying_children_with_full_pipes_cost_little,
    o30_a_child_that_is_blocked_in_a_print_does_not_hold_up_a_stop,
    o30_nor_does_it_hold_up_a_drop,
    o31_nothing_is_forked_after_a_stop,
    o31_a_descriptor_that_is_watched_before_a_fork_is_closed_in_the_child,
    o31_another_server_is_of_no_use_in_a_child,
    o32_children_that_fail_at_their_first_connection_are_slowed_down,
    o32_nothing_is_left_of_servers_that_were_dropped,
    o33_without_coalescing_a_forged_board_moves_nothing,
    o41_children_know_how_full_the_pool_is,
    o41_the_parent_knows_how_many_connections_each_child_has_taken,
];

// The programs.

struct Hooks {
    args: Args,
    acks: usize,
    watched: Option<UnixStream>,
}

const COMMAND: &str = "command";

impl Hooks {
    fn obey(&self, monitor: &mut Monitor, command: &str) {
        let (verb, number) = command.split_at(1);
        let ms = || Duration::from_millis(number.parse().unwrap());
        match verb {
            "t" => monitor.set_timeout(ms()),
            "b" => {
                let busy = monitor.busy_servers().count();
                monitor.print_stdout(format!("busy {busy}"));
            }
            "a" => monitor.print_stdout(format!("acks {}", self.acks)),
            "s" => steal(monitor),
            "i" => native::ignore_sigchld().unwrap(),
            _ => panic!("no such command: {command}"),
        }
        monitor.print_stdout(format!("did {command}"));
    }
}

impl PreForkHooks for Hooks {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        if self.args.has("--commanded") {
            states.select_read(io::stdin(), COMMAND).unwrap();
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _: &str) {
        let mut commands = [0; 256];
        let count = io::stdin().read(&mut commands).unwrap();
        for command in std::str::from_utf8(&commands[..count]).unwrap().lines() {
            self.obey(monitor, command);
        }
    }

    fn before_fork(&mut self, monitor: &mut Monitor) {
        if self.args.has("--watch") && self.watched.is_none() {
            let (ours, theirs) = UnixStream::pair().unwrap();
            monitor.select_read(&ours, "unheard").unwrap();
            monitor.select_read_owned(theirs, "unheard").unwrap();
            self.watched = Some(ours);
        }
    }

    fn server_forked(&mut self, monitor: &mut Monitor, _: ChildId) {
        let start = self.args.parsed::<u64>("--start").unwrap_or(2);
        if let Some(go) = self
            .args
            .value("--fill-at")
            .filter(|_| monitor.report().forks == start)
        {
            let all = usize::try_from(start).unwrap();
            // The parent does not run: it finds all of them dead, with full pipes, at once.
            File::create(go).unwrap();
            let dead = |process: &&processes::Process| processes::state(process.pid) == Some('Z');
            let own = std::process::id();
            until("all children to be dead", SOON * 6, || {
                let dead = processes::children(own).iter().filter(dead).count();
                (dead >= all).then_some(())
            });
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if let Some(go) = self.args.value("--fill-at") {
            until("the parent to say go", SOON * 6, || {
                fs::exists(go).ok()?.then_some(())
            });
            fill(io::stdout())?;
            fill(io::stderr())?;
            std::process::exit(7);
        }
        if self.args.has("--fail-busy") {
            start.comm().busy()?;
            return Err(io::Error::other("no database today"));
        }
        defaults::server_start(self, start)
    }

    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        self.acks += 1;
        defaults::server_ack(self, monitor, child);
    }

    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        if !self.args.has("--quiet") {
            defaults::server_stdout(self, monitor, child, line);
        }
    }

    fn server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        if !self.args.has("--quiet") {
            defaults::server_stderr(self, monitor, child, line);
        }
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        let (pid, cause, requests) = (child.pid(), death.cause(), child.requests());
        let since = child.busy_since().is_some();
        monitor.print_stdout(format!(
            "exited {pid} {cause:?} after {requests}, busy {since}"
        ));
        defaults::server_exited(self, monitor, child, death);
    }
}

/// Kills every tenth child, and calls wait(2) for any child.
fn steal(monitor: &mut Monitor) {
    let victims: Vec<_> = monitor.children().map(Child::pid).step_by(10).collect();
    for &victim in &victims {
        send(victim, Signal::SIGKILL);
    }
    for _ in victims {
        let found = waitpid(None, None).unwrap();
        monitor.print_stdout(format!("stolen {}", found.pid().unwrap()));
    }
}

/// Fills a pipe with newlines.
fn fill(pipe: impl AsFd) -> io::Result<()> {
    native::set_nonblocking(&pipe)?;
    loop {
        match nix::unistd::write(&pipe, &[b'\n'; 4096]) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

mod native {
    //! System calls that have no safe form.
    #![allow(unsafe_code)]

    use super::{SigHandler, signal};
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::{io, os::fd::AsFd};

    pub fn ignore_sigchld() -> nix::Result<()> {
        // SAFETY: to ignore a signal runs no code.
        unsafe { signal(nix::sys::signal::Signal::SIGCHLD, SigHandler::SigIgn) }.map(drop)
    }

    pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(())
    }
}

fn answer(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        match line?.as_str() {
            "flood" => (0..4096).for_each(|_| println!("{}", "x".repeat(100))),
            "hang" => loop {
                thread::park();
            },
            "work" => thread::sleep(Duration::from_millis(1200)),
            "forge" => forge()?,
            "full" => writeln!(&conn, "{} of {}", conn.busy_servers(), conn.max_clients())?,
            _ => {}
        }
        writeln!(&conn, "{}", std::process::id())?;
    }
    Ok(())
}

/// Writes into the child's own entry of the board that it has said many words, the last of which was
/// NOT_BUSY.
fn forge() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let slot = maps
        .lines()
        .find(|line| line.contains("rw-s") && line.contains("prefork-board"));
    let start = slot
        .and_then(|line| line.split_once('-'))
        .expect("a slot")
        .0;
    let start = u64::from_str_radix(start, 16).unwrap();
    let memory = File::options()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let mut entry = [0; 8];
    memory.read_exact_at(&mut entry, start)?;
    let forged = (u64::from_ne_bytes(entry) + 1_000_000) & !1;
    memory.write_all_at(&forged.to_ne_bytes(), start)
}

fn builder(args: &Args) -> Builder<Hooks, TcpServer> {
    let number = |flag, default| args.parsed(flag).unwrap_or(default);
    let hooks = Hooks {
        args: args.clone(),
        acks: 0,
        watched: None,
    };
    let server = TcpServer::new(answer).max_requests(0);
    PreFork::builder(server)
        .hooks(hooks)
        .start_servers(number("--start", 2))
        .min_spare_servers(number("--min-spare", 1))
        .max_spare_servers(300)
        .max_clients(300)
        .kill_timeout(Duration::from_millis(
            args.parsed("--kill-timeout").unwrap_or(10_000),
        ))
        .server_check_ack(args.parsed("--check").map(Duration::from_millis))
        .coalesce_words(!args.has("--every-word"))
        .timeout(Duration::from_millis(args.parsed("--timeout").unwrap_or(0)))
}

fn field(args: Args) -> Result<(), Box<dyn Error>> {
    log_warnings();
    let mut prefork = builder(&args).start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    match args.value("--drive") {
        Some("kill") => kill_ninety(&mut prefork)?,
        Some("measure") => measure(&mut prefork)?,
        Some("stop") => stop_at_a_line(prefork, |mut prefork| {
            prefork.stop();
            prefork.forkoff();
            prefork.server_fork();
            println!("children {}", prefork.monitor().children().count());
        })?,
        Some("drop") => stop_at_a_line(prefork, drop)?,
        _ => drop(prefork.run()?),
    }
    Ok(())
}

/// Kills all of thirty children, three times, between two turns.
fn kill_ninety(prefork: &mut PreFork<Hooks, TcpServer>) -> Result<(), Box<dyn Error>> {
    for round in 1..=3 {
        while prefork
            .monitor()
            .free_servers()
            .filter(|child| child.has_waited())
            .count()
            < 30
        {
            let _ = prefork.turn(None)?;
        }
        let monitor = prefork.monitor_mut();
        let children: Vec<_> = monitor.children().map(Child::id).collect();
        for id in children {
            let how = [
                prefork_server::Signal::Kill,
                prefork_server::Signal::Terminate,
            ];
            monitor.kill(id, how[round % 2]);
        }
        while prefork.monitor().report().all_deaths() < 30 * round as u64 {
            let _ = prefork.turn(None)?;
        }
    }
    println!("{}", prefork.monitor().report());
    prefork.shutdown();
    prefork.run()?;
    Ok(())
}

/// What this thread has computed: other work on the machine adds nothing.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// Turns until all the first children are dead: returns the longest turn, in CPU time, and the growth
/// of the memory.
fn measure(prefork: &mut PreFork<Hooks, TcpServer>) -> Result<(), Box<dyn Error>> {
    let mut longest = Duration::ZERO;
    let mut before = None;
    let all = prefork.monitor().start_servers() as u64;
    while prefork.monitor().report().all_deaths() < all {
        let forking = prefork.monitor().report().forks < all;
        let start = cpu_time();
        let turn = prefork.turn(Some(Duration::ZERO))?;
        // The one in which the last was forked waits for all of them to die.
        if !forking {
            before.get_or_insert_with(|| memory("VmRSS"));
            longest = longest.max(cpu_time() - start);
        }
        assert!(!turn.is_done());
    }
    let grown = memory("VmHWM").saturating_sub(before.expect("some turns"));
    println!("measured {} ms, {grown} kB", longest.as_millis());
    prefork.shutdown();
    prefork.run()?;
    Ok(())
}

/// A figure of this process from /proc/self/status, in kB.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Turns until there is a line on stdin, does nothing until there is another, and ends.
fn stop_at_a_line(
    mut prefork: PreFork<Hooks, TcpServer>,
    end: impl FnOnce(PreFork<Hooks, TcpServer>),
) -> Result<(), Box<dyn Error>> {
    while prefork
        .monitor()
        .free_servers()
        .filter(|child| child.has_waited())
        .count()
        < 2
    {
        let _ = prefork.turn(None)?;
    }
    println!("pausing");
    io::stdin().lines().next().expect("a line")?;
    let start = Instant::now();
    end(prefork);
    println!("ended in {} ms", start.elapsed().as_millis());
    Ok(())
}

/// Starts and drops many servers; returns the growth of the memory.
fn restarter(_: Args) -> Result<(), Box<dyn Error>> {
    let restart = |times: usize| -> Result<(), prefork_server::Error> {
        (0..times).try_for_each(|_| {
            let server = TcpServer::new(|_| Ok(()));
            PreFork::builder(server).start().map(drop)
        })
    };
    restart(1000)?;
    let before = memory("VmRSS");
    restart(10_000)?;
    println!("grown by {} kB", memory("VmRSS").saturating_sub(before));
    Ok(())
}

/// A server whose children also have the parent's other server.
fn two_kinds(_: Args) -> Result<(), Box<dyn Error>> {
    let mut other = PreFork::builder(TcpServer::new(|_| Ok(()))).start()?;
    let number = other.as_fd().as_raw_fd();
    let answer = move |conn: TcpConn| {
        // Strangers, if the number that the other server had was free.
        let _files: Vec<_> = (0..64)
            .map_while(|_| File::open("/dev/null").ok())
            .collect();
        let taken = fs::exists(format!("/proc/self/fd/{number}"))?;
        let found = other.as_fd().as_raw_fd();
        let turn = other.turn(Some(Duration::ZERO)).map(drop);
        let turn = turn.map_err(|error| error.to_string());
        writeln!(&conn, "taken {taken}, found {found}, turned {turn:?}")
    };
    let mut prefork = PreFork::builder(TcpServer::new(answer)).start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run()?;
    Ok(())
}

// What the scenarios share.

/// A server that obeys lines on its stdin.
fn commanded(world: &mut World, arguments: &[&str]) -> (Server, ChildStdin) {
    let program = world.program("field").args(arguments).arg("--commanded");
    let server = program.stdin(Stdio::piped()).spawn();
    let stdin = server.take_stdin().expect("a stdin");
    (server, stdin)
}

fn command(server: &Server, stdin: &mut ChildStdin, command: &str) {
    let line = format!("{command}\n");
    stdin.write_all(line.as_bytes()).unwrap();
    let done = format!("did {command}\n");
    server.expect_stdout("it to be done", |text| text.contains(&done));
}

/// How many ACKs the parent has heard.
fn acks(server: &Server, stdin: &mut ChildStdin) -> usize {
    let count = |text: &str| text.matches("did a\n").count();
    let before = count(&server.stdout());
    stdin.write_all(b"a\n").unwrap();
    let text = server.expect_stdout("an answer", |text| count(text) > before);
    let (_, last) = text.rsplit_once("acks ").unwrap();
    last.lines().next().unwrap().parse().unwrap()
}

fn exits(server: &Server) -> usize {
    server.stdout().matches("exited ").count()
}

fn ends(server: &Server) {
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// A client whose child has answered.
fn served(server: &Server) -> (Client, u32) {
    let mut client = connect(&server.address());
    let pid = client.ask("who?").parse().unwrap();
    (client, pid)
}

// The scenarios.

/// Signals that the program sends between two turns count as asked for, as those of a hook do.
///
/// Without `Flags::ASKED`: no death is `Asked`.
fn o16_children_that_are_killed_from_outside_a_hook_were_asked_to(world: &mut World) {
    let server = world.spawn("field", &["--start", "30", "--drive", "kill"]);
    let text = server.expect_stdout("the report", |text| text.contains(" 90 Asked"));
    assert_eq!(text.matches(" Asked after").count(), 90, "{text}");
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// Children take the new interval from the board, and are judged by the new timeout from then on; a
/// child that hangs is found after the new timeout.
///
/// Without `Comm::follow` and `Child::known_timeout`: the idle children are ended, again and again.
fn o19_a_shorter_timeout_reaches_children_that_run(world: &mut World) {
    let (server, mut stdin) = commanded(
        world,
        &[
            "--timeout",
            "2000",
            "--check",
            "100",
            "--kill-timeout",
            "500",
        ],
    );
    let (mut client, pid) = served(&server);
    let mut children = server.expect_children(2);
    command(&server, &mut stdin, "t800");
    holds("nobody is ended", Duration::from_secs(5), || {
        exits(&server) == 0
    });
    assert_eq!(client.ask("who?"), pid.to_string());
    children.retain(|&child| child != pid);
    stop(children[0]);
    let how = format!("exited {} TimedOut", children[0]);
    server.expect_stdout("its end", |text| text.contains(&how));
    drop(client);
    ends(&server);
}

/// A handler may take longer from the moment at which the timeout is raised, and ACKs come less
/// often.
///
/// Without `Comm::follow`: 12 ACKs of two children in 3 s.
fn o19_a_longer_timeout_reaches_children_that_run(world: &mut World) {
    let (server, mut stdin) = commanded(world, &["--timeout", "1000"]);
    let (mut client, pid) = served(&server);
    command(&server, &mut stdin, "t4000");
    for _ in 0..3 {
        assert_eq!(client.ask("work"), pid.to_string());
    }
    assert_eq!(exits(&server), 0);
    let before = acks(&server, &mut stdin);
    holds("nobody is ended", Duration::from_secs(3), || {
        exits(&server) == 0
    });
    let heard = acks(&server, &mut stdin) - before;
    assert!(heard <= 6, "{heard} ACKs");
    drop(client);
    ends(&server);
}

/// If the timeout is raised from zero, idle children that cannot know of it are not judged, and a
/// child that hangs with a connection is ended. If it is set to zero, no child is ended.
fn o19_a_timeout_can_be_switched_on_and_off(world: &mut World) {
    let (server, mut stdin) = commanded(world, &["--kill-timeout", "500"]);
    server.address();
    server.expect_children(2);
    command(&server, &mut stdin, "t1000");
    holds("nobody is ended", Duration::from_secs(3), || {
        exits(&server) == 0
    });
    let (mut client, pid) = served(&server);
    // It knows by now, and is checked once more before it is judged.
    holds("it is not ended", Duration::from_secs(3), || {
        exits(&server) == 0
    });
    client.send_line("hang");
    let how = format!("exited {pid} TimedOut");
    server.expect_stdout("its end", |text| text.contains(&how));
    drop(client);
    command(&server, &mut stdin, "t0");
    let (mut client, pid) = served(&server);
    assert_eq!(client.ask("work"), pid.to_string());
    assert_eq!(exits(&server), 1);
    drop(client);
    ends(&server);
}

/// A child whose status the program has taken is found at the next look for dead children, counted
/// with an unknown cause, replaced, and logged once, wherever in the tables it is.
///
/// Without the look at everybody (`look_at`): they stay in the tables until the shutdown.
fn o21_children_that_a_hook_has_reaped_are_replaced(world: &mut World) {
    let (server, mut stdin) = forty(world);
    command(&server, &mut stdin, "s");
    let text = server.stdout();
    let stolen: Vec<u32> = text
        .lines()
        .filter_map(|line| line.strip_prefix("stolen ")?.parse().ok())
        .collect();
    assert_eq!(stolen.len(), 4);
    expect_replaced(&server, &stolen);
}

/// With SIGCHLD ignored the kernel keeps no status and reports no death: the same look finds the
/// dead children.
fn o21_children_that_nobody_can_reap_are_replaced(world: &mut World) {
    let (server, mut stdin) = forty(world);
    command(&server, &mut stdin, "i");
    let victims: Vec<u32> = server.children().into_iter().step_by(10).collect();
    for &pid in &victims {
        send(pid, Signal::SIGKILL);
    }
    expect_replaced(&server, &victims);
}

/// A pool of that many, all of which have lived for long enough to be no failed starts.
fn forty(world: &mut World) -> (Server, ChildStdin) {
    let (server, stdin) = commanded(world, &["--start", "40", "--min-spare", "40"]);
    server.address();
    server.expect_children(40);
    holds("nobody dies", Duration::from_millis(1100), || {
        exits(&server) == 0
    });
    (server, stdin)
}

fn expect_replaced(server: &Server, victims: &[u32]) {
    for pid in victims {
        let how = format!("exited {pid} Lost");
        server.expect_stdout("its death", |text| text.contains(&how));
    }
    server.expect_children(40);
    served(server);
    ends(server);
    let told = server.stderr();
    assert_eq!(
        told.matches("was reaped by somebody else").count(),
        1,
        "{told}"
    );
}

/// The output of a dying child is read within the budget of a turn, like that of a living child.
///
/// If the pipes of 200 dead children are read in the turn of their death, with a task for each
/// line: 1.8 GB and 22 s. Without `Reading::delivered` a single turn of 14 s.
fn o26_dying_children_with_full_pipes_cost_little(world: &mut World) {
    let go = world.tempdir().join("go");
    let server = world.spawn(
        "field",
        &[
            "--start",
            "60",
            "--quiet",
            "--drive",
            "measure",
            "--fill-at",
            go.to_str().unwrap(),
        ],
    );
    let measured = |text: &str| text.contains("measured ");
    until("the measure", SOON * 6, || {
        measured(&server.stdout()).then_some(())
    });
    let text = server.stdout();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("measured "))
        .unwrap();
    let (turn, memory) = line.split_once(" ms, ").unwrap();
    let [turn, memory] =
        [turn, memory.trim_end_matches(" kB")].map(|number| number.parse::<u64>().unwrap());
    assert!(memory <= 32 * 1024, "{line}");
    // Without optimisation.
    assert!(turn <= 500, "{line}");
    server.wait(SOON * 3);
}

/// What children write while `stop` ends them is read and dropped.
fn o30_a_child_that_is_blocked_in_a_print_does_not_hold_up_a_stop(world: &mut World) {
    let text = end_while_one_prints(world, "stop");
    assert!(text.contains("children 0\n"), "{text}");
}

/// The same when the server is dropped.
fn o30_nor_does_it_hold_up_a_drop(world: &mut World) {
    end_while_one_prints(world, "drop");
}

fn end_while_one_prints(world: &mut World, way: &str) -> String {
    const WRITE: i64 = nix::libc::SYS_write;
    let (server, mut stdin) = commanded_by(world, way);
    server.expect_stdout("the pause", |text| text.contains("pausing"));
    let mut client = connect(&server.address());
    client.send_line("flood");
    let blocked = |pid: &u32| processes::system_call(*pid) == Some(WRITE);
    until("a child that is blocked", SOON, || {
        server.children().into_iter().find(blocked)
    });
    writeln!(stdin, "now").unwrap();
    client.read_line();
    drop(client);
    let text = server.expect_stdout("the end", |text| text.contains("ended in "));
    let took = text
        .lines()
        .find_map(|line| line.strip_prefix("ended in "))
        .unwrap();
    let took: u64 = took.trim_end_matches(" ms").parse().unwrap();
    assert!(
        u128::from(took) < patient(Duration::from_secs(5)).as_millis(),
        "{text}"
    );
    assert_eq!(server.wait(SOON).code(), Some(0));
    text
}

fn commanded_by(world: &mut World, way: &str) -> (Server, ChildStdin) {
    let program = world.program("field").args(&["--drive", way]);
    let server = program.stdin(Stdio::piped()).spawn();
    let stdin = server.take_stdin().expect("a stdin");
    (server, stdin)
}

/// After `PreFork::stop` no child is forked.
fn o31_nothing_is_forked_after_a_stop(world: &mut World) {
    let (server, mut stdin) = commanded_by(world, "stop");
    server.expect_stdout("the pause", |text| text.contains("pausing"));
    writeln!(stdin, "now").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert!(server.stdout().contains("children 0\n"));
}

/// The duplicate of a watched descriptor belongs to the parent from the call on, and so does one
/// that was handed over.
///
/// If the duplicate is registered only when it is watched, after the fork: the child has two
/// sockets of the pair.
fn o31_a_descriptor_that_is_watched_before_a_fork_is_closed_in_the_child(world: &mut World) {
    let server = world.spawn("field", &["--watch", "--start", "1"]);
    // The descriptors of the hook `before_fork` are among those that the server may hold.
    server.expect_children(1);
    let (client, pid) = served(&server);
    let sockets = |pid| {
        let all = processes::descriptors(pid).into_iter();
        all.filter(|(_, target)| target.starts_with("socket:"))
            .count()
    };
    // The listener, the connection, and the end that the program has kept for itself.
    assert_eq!(sockets(pid), 3);
    drop(client);
    ends(&server);
}

/// In a child the object of another server gives no descriptor: they were closed by number, and the
/// numbers may belong to other files by now.
fn o31_another_server_is_of_no_use_in_a_child(world: &mut World) {
    let server = world.spawn("two_kinds", &[]);
    let answer = connect(&server.address()).read_rest();
    assert!(
        answer.starts_with("taken true, found 0, turned Err("),
        "{answer}"
    );
    assert!(answer.contains("in a child"), "{answer}");
    ends(&server);
}

/// A start has succeeded when the child has finished its first connection; until then its failure
/// delays the next fork.
///
/// With a BUSY as the proof: 7,856 forks in 3 s.
fn o32_children_that_fail_at_their_first_connection_are_slowed_down(world: &mut World) {
    let server = world.spawn("field", &["--fail-busy", "--quiet"]);
    server.address();
    server.expect_stderr("a delay", |text| text.contains("next fork in 800ms"));
    assert!(exits(&server) <= 40, "{}", server.stdout());
    holds("few are forked", Duration::from_secs(2), || {
        exits(&server) <= 40
    });
    ends(&server);
}

/// A server that was dropped leaves nothing in memory.
///
/// 10,000 starts of 170 bytes each would be 1,660 kB.
fn o32_nothing_is_left_of_servers_that_were_dropped(world: &mut World) {
    // Eleven thousand starts, on a machine that may have other things to do.
    const A_WHILE: Duration = Duration::from_secs(100);
    world.deadline(A_WHILE + SOON);
    let server = world.spawn("restarter", &[]);
    let text = until("the measure", A_WHILE, || {
        let text = server.stdout();
        text.contains("grown by ").then_some(text)
    });
    let grown = text
        .trim()
        .trim_start_matches("grown by ")
        .trim_end_matches(" kB");
    assert!(grown.parse::<u64>().unwrap() <= 512, "{text}");
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// Where words are not coalesced, the parent does not read the board: only words in the pipe count.
fn o33_without_coalescing_a_forged_board_moves_nothing(world: &mut World) {
    let arguments = ["--every-word", "--start", "4"];
    let (server, mut stdin) = commanded(world, &arguments);
    let (mut client, pid) = served(&server);
    let children = server.expect_children(4);
    assert_eq!(client.ask("forge"), pid.to_string());
    for _ in 0..3 {
        let (other, _) = served(&server);
        drop(other);
    }
    // Those that have just lost their clients may not have been heard yet.
    until("one child to be busy by the books", SOON, || {
        stdin.write_all(b"b\n").unwrap();
        let last = |text: &str| {
            text.rsplit_once("busy ")
                .map(|(_, count)| count.starts_with("1\n"))
        };
        last(&server.stdout())?.then_some(())
    });
    holds("it stays so", Duration::from_millis(500), || {
        stdin.write_all(b"b\n").unwrap();
        !server
            .stdout()
            .rsplit_once("busy ")
            .is_some_and(|(_, count)| count.starts_with('0'))
            && server.stdout().contains("busy 1\n")
    });
    assert_eq!(server.expect_children(4), children);
    drop(client);
    ends(&server);
}

/// Children can ask how many children are busy. The count is right again as soon as the parent has
/// reaped a child that was killed with a client in hand.
fn o41_children_know_how_full_the_pool_is(world: &mut World) {
    for arguments in [&["--start", "4"][..], &["--start", "4", "--every-word"]] {
        let server = world.spawn("field", arguments);
        let held: Vec<_> = (0..3).map(|_| served(&server)).collect();
        let full = |count: usize| {
            let answer = format!("{count} of 300");
            until(&answer.clone(), SOON, || {
                (connect(&server.address()).ask("full") == answer).then_some(())
            });
        };
        full(4);
        send(held[0].1, Signal::SIGKILL);
        full(3);
        drop(held);
        full(1);
        ends(&server);
    }
}

/// The parent counts the connections of a child from the first to the last, however the child ends, and knows
/// whether one was in hand.
fn o41_the_parent_knows_how_many_connections_each_child_has_taken(world: &mut World) {
    let server = world.spawn("field", &["--start", "1"]);
    let (keeper, _) = served(&server);
    let (client, pid) = served(&server);
    drop(client);
    let mut taken = 1;
    for _ in 0..50 {
        let (_client, by) = served(&server);
        taken += usize::from(by == pid);
    }
    let (last, by) = served(&server);
    let mine = taken + usize::from(by == pid);
    if by != pid {
        // It may not have heard yet that its last client has gone.
        until("the child to wait for clients", SOON, || {
            processes::waits_in_epoll(pid).then_some(())
        });
    }
    send(pid, Signal::SIGKILL);
    let how = format!("exited {pid} Killed after {mine}, busy {}", by == pid);
    server.expect_stdout("its death", |text| text.contains(&how));
    drop((keeper, last));
    ends(&server);
}
