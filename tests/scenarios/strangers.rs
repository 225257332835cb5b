//! Signals that are led to states, and faults from the field with signals, forks and outputs.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::subject::{
    Held, announce, ended, ends_well, expect_exit, has_signal, log_warnings, pids, send, signal_set,
};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, holds, port_is_free,
    processes, programs, scenarios, until,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, fork, pause};
use prefork_server::servers::TcpConn;
use prefork_server::{
    Monitor, PreFork, PreForkHooks, Signal as Named, States, TcpServer, UnixServer, defaults,
};

pub const PROGRAMS: Programs = programs![
    strangers_rereads,
    strangers_two_servers,
    strangers_helpers,
    strangers_daemon,
    strangers_odd,
    strangers_bare,
    strangers_ended_by_hand
];

pub const SCENARIOS: Scenarios = scenarios![
    a_signal_leads_to_a_state_of_a_subclass,
    a_signal_that_leads_to_a_state_is_put_back,
    a_signal_can_lead_to_shutdown_or_away_from_it,
    a_signal_that_cannot_be_caught_fails_the_start,
    each_of_two_servers_gets_the_signals_that_it_asked_for,
    o02_a_helper_of_a_handler_ends_at_sigterm_and_the_child_serves_on,
    o02_a_helper_of_a_handler_keeps_neither_connection_nor_port,
    o02_a_connection_of_a_helper_ends_before_the_child_waits,
    o02_a_helper_of_a_hook_ends_at_sigterm_and_keeps_no_port,
    o04_a_file_at_its_limit_ends_no_server,
    o10_an_orphan_in_a_chroot_prints_into_nothing,
    o10_a_start_does_without_dev_null,
    o11_what_c_code_prints_comes_once_and_all_of_it,
    o15_a_signal_on_a_small_stack_is_handled_on_the_alternate_one,
    o28_a_stop_during_system_is_seen_after_it,
    o30_a_child_that_prints_much_is_heard_out_when_the_server_is_dropped,
    o31_nothing_is_forked_after_the_end,
    o31_a_descriptor_that_is_watched_in_before_fork_is_not_inherited,
    o09_a_program_that_becomes_a_daemon_after_the_start_works,
];

/// Leads signals to states, as the flags say, and prints each call.
struct Leading {
    name: &'static str,
    leads: Vec<(Named, &'static str)>,
}

impl Leading {
    fn of(args: &Args) -> Self {
        let mut leads = Vec::new();
        for (flag, lead) in [
            ("--hup", (Named::Hangup, "reread")),
            ("--usr1-stops", (Named::User1, "shutdown")),
            ("--term", (Named::Terminate, "drain")),
            ("--stop", (Named::Stop, "halt")),
        ] {
            if args.has(flag) {
                leads.push(lead);
            }
        }
        Self { name: "", leads }
    }
}

impl PreForkHooks for Leading {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        for (signal, state) in &self.leads {
            states.signal(*signal, state);
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        let line = format!("state {}{state}", self.name);
        monitor.print_stdout(line);
        if state == "reread" {
            // Later ones can be led as well.
            monitor.signal(Named::User2, "late");
        }
    }
}

fn leading(hooks: Leading) -> prefork_server::Builder<Leading, TcpServer> {
    let server = TcpServer::new(crate::subject::converse).max_requests(0);
    PreFork::builder(server)
        .hooks(hooks)
        .start_servers(2)
        .max_spare_servers(10)
}

/// Runs a server whose hooks lead signals to states.
fn strangers_rereads(args: Args) -> ExitCode {
    log_warnings();
    let result = leading(Leading::of(&args)).start().and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    });
    println!("after: {}", own_signals());
    ended(result)
}

fn own_signals() -> String {
    let sets = ["SigBlk", "SigIgn", "SigCgt"].map(|set| signal_set(std::process::id(), set));
    format!("{sets:x?}")
}

/// Runs two servers in one loop: the first has HUP lead to a state, the second USR1.
fn strangers_two_servers(_: Args) -> ExitCode {
    log_warnings();
    ended(run_two())
}

fn run_two() -> Result<(), prefork_server::Error> {
    let start = |name, lead| {
        let hooks = Leading {
            name,
            leads: vec![lead],
        };
        leading(hooks).start()
    };
    let mut servers = [
        start("first ", (Named::Hangup, "reread"))?,
        start("second ", (Named::User1, "reopen"))?,
    ];
    servers.iter().for_each(announce);
    loop {
        let mut done = 0;
        for server in &mut servers {
            done += usize::from(server.turn(Some(Duration::from_millis(5)))?.is_done());
        }
        if done == servers.len() {
            return Ok(());
        }
    }
}

fn expect_line(server: &Server, line: &str) {
    server.expect_stdout(line, |text| text.lines().any(|it| it == line));
}

fn lines(server: &Server, line: &str) -> usize {
    server.stdout().lines().filter(|it| *it == line).count()
}

/// SIGHUP leads to a state, once for each separate signal; children have a handler that does nothing.
fn a_signal_leads_to_a_state_of_a_subclass(world: &mut World) {
    let server = world.spawn("strangers_rereads", &["--hup"]);
    let mut held = Held::new(&server.address());
    for times in 1..=3 {
        server.signal(Signal::SIGHUP);
        server.expect_stdout("the state", |text| {
            text.matches("state reread\n").count() == times
        });
    }
    held.is_served();
    assert!(has_signal(server.pid(), "SigCgt", Signal::SIGHUP));
    assert!(has_signal(held.pid, "SigCgt", Signal::SIGHUP));
    assert!(!has_signal(held.pid, "SigIgn", Signal::SIGHUP));
    // One that was led to a state while the server runs.
    server.signal(Signal::SIGUSR2);
    expect_line(&server, "state late");
    // It has no effect on a child that it is sent to.
    send(held.pid, Signal::SIGHUP);
    held.is_served();
    drop(held);
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

/// A signal that was led to a state has the program's disposition again at the end.
fn a_signal_that_leads_to_a_state_is_put_back(world: &mut World) {
    let sets = |flags: &[&str], world: &mut World| {
        let server = world.spawn("strangers_rereads", flags);
        Held::new(&server.address()).is_served();
        ends_well(&server);
        let text = server.stdout();
        let line = text.lines().find(|line| line.starts_with("after: "));
        line.expect("a line").to_owned()
    };
    let without = sets(&[], world);
    assert_eq!(sets(&["--hup", "--usr1-stops"], world), without);
}

/// A signal can lead to any state that can be posted, instead of the framework's own reaction.
fn a_signal_can_lead_to_shutdown_or_away_from_it(world: &mut World) {
    let server = world.spawn("strangers_rereads", &["--usr1-stops", "--term"]);
    let mut held = Held::new(&server.address());
    server.signal(Signal::SIGTERM);
    expect_line(&server, "state drain");
    holds("it serves on", Duration::from_millis(200), || {
        server.children().len() == 2
    });
    held.is_served();
    drop(held);
    server.signal(Signal::SIGUSR1);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// The error of a signal that cannot be led names the signal.
fn a_signal_that_cannot_be_caught_fails_the_start(world: &mut World) {
    let server = world.spawn("strangers_rereads", &["--stop"]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    let expected = "error: signal Stop: cannot lead to a state";
    assert!(text.contains(expected), "{text}");
}

/// Of two servers neither gets the other's signals; both get SIGTERM.
fn each_of_two_servers_gets_the_signals_that_it_asked_for(world: &mut World) {
    let server = world.spawn("strangers_two_servers", &[]);
    let addresses = server.addresses(2);
    let mut held: Vec<Held> = addresses.iter().map(Held::new).collect();
    server.signal(Signal::SIGHUP);
    expect_line(&server, "state first reread");
    server.signal(Signal::SIGUSR1);
    expect_line(&server, "state second reopen");
    for client in &mut held {
        for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
            send(client.pid, signal);
            client.is_served();
        }
    }
    drop(held);
    assert_eq!(lines(&server, "state second reread"), 0);
    assert_eq!(lines(&server, "state first reopen"), 0);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).code(), Some(0));
    until("no line more", SOON, || {
        (lines(&server, "state first reread") == 1).then_some(())
    });
}

// Processes that the program forks and that run on without an exec.

/// Forks a process that does nothing.
#[allow(unsafe_code)]
fn helper() -> Pid {
    // SAFETY: the process has one thread, and what is forked calls nothing but pause(2).
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => loop {
            pause();
        },
    }
}

/// Ends a helper as multiprocessing does, and says how it ended and when.
fn end_helper() -> String {
    let (helper, begun) = (helper(), Instant::now());
    nix::sys::signal::kill(helper, Signal::SIGTERM).unwrap();
    let status = waitpid(helper, None).unwrap();
    assert!(begun.elapsed() < SOON, "{status:?} comes late");
    match status {
        WaitStatus::Signaled(_, signal, _) => format!("ended by {signal}"),
        other => format!("{other:?}"),
    }
}

fn with_helpers(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        match line?.as_str() {
            "end" => writeln!(&conn, "{}", end_helper())?,
            "leave" => writeln!(&conn, "{}", helper())?,
            _ => writeln!(&conn, "{}", std::process::id())?,
        }
    }
    Ok(())
}

/// A hook forks a helper at each SIGHUP.
struct Helping;

impl PreForkHooks for Helping {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        states.signal(Named::Hangup, "help");
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _: &str) {
        monitor.print_stdout(format!("helper {}", helper()));
    }
}

fn strangers_helpers(_: Args) -> ExitCode {
    log_warnings();
    let server = TcpServer::new(with_helpers).max_requests(0);
    let builder = PreFork::builder(server).hooks(Helping);
    let started = builder
        .start_servers(1)
        .max_clients(1)
        .kill_timeout(SOON * 2)
        .start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    }))
}

/// Signal handlers compare the pid. In a process that is not the server's they let the default
/// action happen: SIGTERM ends it at once, and the child is not affected.
///
/// Without `foreign::is_foreign_process` in the child's handler the helper lives on until SIGALRM, and the child
/// leaves.
fn o02_a_helper_of_a_handler_ends_at_sigterm_and_the_child_serves_on(world: &mut World) {
    let server = world.spawn("strangers_helpers", &[]);
    let mut held = crate::support::connect(&server.address());
    let pid = held.ask("pid");
    assert_eq!(held.ask("end"), "ended by SIGTERM");
    assert_eq!(held.ask("pid"), pid);
    drop(held);
    assert_eq!(crate::support::connect(&server.address()).ask("pid"), pid);
    ends_well(&server);
}

/// A process that a handler forks closes the server's descriptors, including the listener; and the
/// connection is shut down when the handler returns, even if another process has a copy.
///
/// Without `atfork::watch` the client waits for the end of its connection, and the port stays open.
fn o02_a_helper_of_a_handler_keeps_neither_connection_nor_port(world: &mut World) {
    world.expect_orphans();
    let server = world.spawn("strangers_helpers", &[]);
    let address = server.address();
    let mut held = crate::support::connect(&address);
    let helper: u32 = held.ask("leave").parse().unwrap();
    let child: u32 = held.ask("pid").parse().unwrap();
    held.close_write();
    held.eof();
    assert!(processes::is_alive(helper));
    assert_eq!(
        crate::support::connect(&address).ask("pid"),
        child.to_string()
    );
    ends_well(&server);
    assert!(processes::is_alive(helper) && port_is_free(&address));
    send(helper, Signal::SIGKILL);
}

/// A child that had to wait for a client waits for the next without an attempt to accept.
///
/// Without the end of the connection when its handler returns, the second client waits in vain.
fn o02_a_connection_of_a_helper_ends_before_the_child_waits(world: &mut World) {
    world.expect_orphans();
    let server = world.spawn("strangers_helpers", &[]);
    let address = server.address();
    let child = server.expect_children(1)[0];
    let mut helpers: Vec<u32> = Vec::new();
    for _ in 0..4 {
        until("the child to wait", SOON, || {
            processes::waits_in_epoll(child).then_some(())
        });
        // Longer than what counts as a wait.
        crate::support::pause(Duration::from_millis(50));
        let mut client = crate::support::connect(&address);
        helpers.push(client.ask("leave").parse().unwrap());
        client.close_write();
        client.eof();
    }
    ends_well(&server);
    helpers
        .into_iter()
        .for_each(|helper| send(helper, Signal::SIGKILL));
}

/// The same for a process that a hook of the parent has forked.
fn o02_a_helper_of_a_hook_ends_at_sigterm_and_keeps_no_port(world: &mut World) {
    world.expect_orphans();
    let server = world.spawn("strangers_helpers", &[]);
    let address = server.address();
    server.expect_children(1);
    server.signal(Signal::SIGHUP);
    let text = server.expect_stdout("a helper", |text| text.contains("helper "));
    let helper = text.lines().find_map(|line| line.strip_prefix("helper "));
    let helper: u32 = helper.unwrap().parse().unwrap();
    // Told of right after the fork, it may not have run yet.
    until("the helper to close its sockets", SOON, || {
        let descriptors = processes::descriptors(helper);
        let is_socket = |(_, to): &(_, String)| to.starts_with("socket:");
        (!descriptors.iter().any(is_socket)).then_some(())
    });
    // It is stopped, and by nothing but its own end.
    send(helper, Signal::SIGTERM);
    until("the helper to end", SOON, || {
        (!processes::is_alive(helper)).then_some(())
    });
    crate::support::connect(&address).ask("pid");
    ends_well(&server);
    assert!(port_is_free(&address));
}

/// Starts a server on a socket file, becomes a daemon, and runs it.
fn strangers_daemon(args: Args) -> ExitCode {
    log_warnings();
    let path = args.value("--path").unwrap();
    let server = UnixServer::new(path, |conn| writeln!(&conn, "{}", std::process::id()));
    let started = PreFork::builder(server).start_servers(2).start();
    ended(started.and_then(|mut prefork| {
        nix::unistd::daemon(true, true).unwrap();
        println!("daemon {}", std::process::id());
        if args.has("--thread") {
            crate::subject::spawn_thread();
        }
        if args.has("--drop") {
            while prefork.monitor().children().count() < 2 {
                let _ = prefork.turn(None)?;
            }
            let children: Vec<u32> = prefork.monitor().children().map(|it| it.pid()).collect();
            drop(prefork);
            let left = children
                .iter()
                .filter(|pid| processes::state(**pid).is_some());
            println!("left {}", left.count());
            return Ok(());
        }
        prefork.run().map(drop)
    }))
}

/// The pid is recorded at the first turn, so a program may start the server and then become a
/// daemon: the thread check, the socket file and a drop are the daemon's.
///
/// Without `take_possession` the daemon forks with two threads, leaves the file, and leaves zombies.
fn o09_a_program_that_becomes_a_daemon_after_the_start_works(world: &mut World) {
    world.expect_orphans();
    let path = world.tempdir().join("socket");
    let path = path.to_str().unwrap();
    let spawn = |flags: &[&str], world: &mut World| {
        let server = world.spawn("strangers_daemon", &[&["--path", path], flags].concat());
        assert_eq!(server.wait(SOON).code(), Some(0));
        let text = server.expect_stdout("the daemon", |text| text.contains("daemon "));
        let pid = text.lines().find_map(|line| line.strip_prefix("daemon "));
        (server, pid.unwrap().parse::<u32>().unwrap())
    };
    let gone = |pid: u32| {
        until("the daemon to end", SOON, || {
            (!processes::is_alive(pid)).then_some(())
        });
        assert!(!Path::new(path).exists());
    };
    let (_, pid) = spawn(&[], world);
    let address = Address::Unix(path.into());
    let child: u32 = crate::support::connect(&address)
        .read_line()
        .parse()
        .unwrap();
    assert_eq!(processes::Process::read(child).unwrap().parent, pid);
    send(pid, Signal::SIGTERM);
    gone(pid);
    let (server, pid) = spawn(&["--thread"], world);
    gone(pid);
    assert!(server.stderr().contains("2 threads"), "{}", server.stderr());
    let (server, pid) = spawn(&["--drop"], world);
    gone(pid);
    assert!(server.stdout().contains("left 0\n"), "{}", server.stdout());
}

// What handlers do: print much, print from C, run on a small stack, wait in system(3).

/// A server whose handler does what the line says.
fn strangers_odd(args: Args) -> ExitCode {
    log_warnings();
    if args.has("--banner") {
        native::print(c"banner\n");
    }
    let server = TcpServer::new(do_odd_things).max_requests(0);
    let mut result = crate::subject::builder_of(&args, server).start();
    if let Ok(prefork) = &mut result {
        announce(prefork);
    }
    ended(result.and_then(|mut prefork| {
        let report = prefork.run()?;
        eprintln!("dropped {}", report.output_dropped);
        Ok(())
    }))
}

fn do_odd_things(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("much", _) => println!("{:0>1000}", ""),
            ("flood", path) => {
                std::fs::write(path, "")?;
                (0..1000).for_each(|_| println!("{:0>1000}", ""));
            }
            ("from-c", _) => native::print(c"from C\n"),
            ("small-stack", _) => native::interrupt_on_a_small_stack(),
            ("system", path) => native::system(&format!("cat {path}")),
            _ => {}
        }
        writeln!(&conn, "{}", std::process::id())?;
    }
    Ok(())
}

#[allow(unsafe_code)]
mod native {
    use nix::libc;
    use std::ffi::{CStr, CString};

    pub(super) fn print(text: &CStr) {
        // SAFETY: the format takes one string, which is given.
        unsafe { libc::printf(c"%s".as_ptr(), text.as_ptr()) };
    }

    pub(super) fn system(command: &str) {
        let command = CString::new(command).unwrap();
        // SAFETY: a string that lives across the call.
        assert_eq!(unsafe { libc::system(command.as_ptr()) }, 0);
    }

    extern "C" fn interrupt() {
        // SAFETY: it may be called at any time.
        unsafe { libc::raise(libc::SIGINT) };
    }

    /// Raises SIGINT on a stack that has no room for a handler.
    pub(super) fn interrupt_on_a_small_stack() {
        const PAGE: usize = 4096;
        const ROOM: usize = 768;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: two pages of a new mapping, of which the first cannot be touched; the contexts live
        // across the switches, and `interrupt` returns to the first.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let stack = libc::mmap(std::ptr::null_mut(), 2 * PAGE, access, flags, -1, 0);
            assert_ne!(stack, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(stack, PAGE, libc::PROT_NONE), 0);
            let mut here: libc::ucontext_t = std::mem::zeroed();
            let mut there: libc::ucontext_t = std::mem::zeroed();
            assert_eq!(libc::getcontext(&raw mut there), 0);
            there.uc_stack.ss_sp = stack.byte_add(PAGE);
            there.uc_stack.ss_size = ROOM;
            there.uc_link = &raw mut here;
            libc::makecontext(&raw mut there, interrupt, 0);
            assert_eq!(libc::swapcontext(&raw mut here, &raw const there), 0);
        }
    }
}

/// SIGXFSZ is ignored in the parent: output that a file at its limit does not take is dropped and
/// counted, as on a full device.
///
/// Without the row of the table the signal kills the server.
fn o04_a_file_at_its_limit_ends_no_server(world: &mut World) {
    let own = std::env::current_exe().unwrap();
    let limited = world
        .command("sh")
        .args(&["-c", "ulimit -f 16; exec \"$@\"", "sh"]);
    let server = limited
        .arg(own)
        .args(&["--program", "strangers_odd"])
        .spawn();
    let mut held = crate::support::connect(&server.address());
    for _ in 0..100 {
        held.ask("much");
    }
    let child = held.ask("pid").parse().unwrap();
    assert!(has_signal(server.pid(), "SigIgn", Signal::SIGXFSZ));
    assert!(!has_signal(child, "SigIgn", Signal::SIGXFSZ));
    drop(held);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let text = server.stderr();
    let dropped = text.lines().find_map(|line| line.strip_prefix("dropped "));
    let dropped: u64 = dropped.expect(&text).parse().unwrap();
    assert!(dropped > 50_000, "{dropped} of 100 kB");
}

/// Each child keeps a descriptor of /dev/null from the start, for the case that it loses its
/// parent: it need not open the device then.
///
/// Without `keep_null` the `println!` of the handler panics.
fn o10_an_orphan_in_a_chroot_prints_into_nothing(world: &mut World) {
    if !Uid::effective().is_root() {
        return eprintln!("skipped: only root can change the root");
    }
    world.expect_orphans();
    let root = world.tempdir();
    let root = root.to_str().unwrap();
    let server = world.spawn("strangers_bare", &["--child-root", root]);
    let mut held = crate::support::connect(&server.address());
    let pid = held.ask("pid");
    server.kill9();
    let child: u32 = pid.parse().unwrap();
    until("the child to be an orphan", SOON, || {
        (world.orphans() == [child]).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(held.ask("much"), pid);
    }
}

/// If the start finds no /dev/null, a file in memory takes its place.
///
/// Without `null::substitute` the start fails.
fn o10_a_start_does_without_dev_null(world: &mut World) {
    if !Uid::effective().is_root() {
        return eprintln!("skipped: only root can change the root");
    }
    let root = world.tempdir();
    let server = world.spawn("strangers_bare", &["--root", root.to_str().unwrap()]);
    let mut held = crate::support::connect(&server.address());
    held.ask("much");
    let pid: u32 = held.ask("pid").parse().unwrap();
    let streams = processes::descriptors(pid);
    assert!(streams[0].1.contains("memfd:null"), "{streams:?}");
    drop(held);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// In a child, changes the root before it serves.
struct Rooted(Option<String>);

impl PreForkHooks for Rooted {
    fn server_start(&mut self, start: &mut prefork_server::Start<'_>) -> io::Result<()> {
        if let Some(root) = &self.0 {
            nix::unistd::chroot(root.as_str())?;
        }
        defaults::server_start(self, start)
    }
}

/// Runs a server where there are no devices: as a whole, or its children.
fn strangers_bare(args: Args) -> ExitCode {
    if let Some(root) = args.value("--root") {
        nix::unistd::chroot(root).unwrap();
    }
    let root = args.value("--child-root").map(str::to_owned);
    let server = TcpServer::new(do_odd_things).max_requests(0);
    let builder = PreFork::builder(server).hooks(Rooted(root));
    let started = builder.start_servers(1).max_clients(1).start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    }))
}

/// A child discards its copy of output that C code has buffered in the parent, and flushes what C
/// code has buffered when it ends.
///
/// Without `stdio::flush_outputs` the banner comes once more from each child; without
/// `stdio::flush_all` no line comes.
fn o11_what_c_code_prints_comes_once_and_all_of_it(world: &mut World) {
    let server = world.spawn("strangers_odd", &["--start", "3", "--banner"]);
    let address = server.address();
    for _ in 0..7 {
        crate::support::connect(&address).ask("from-c");
    }
    ends_well(&server);
    let text = server.stdout();
    assert_eq!(text.matches("STDOUT: from C").count(), 7, "{text}");
    assert_eq!(text.matches("banner").count(), 1, "{text}");
}

/// Handlers of signals run on the alternate stack, if there is one: std gives one to each thread.
///
/// Without SA_ONSTACK the child dies of SIGSEGV.
fn o15_a_signal_on_a_small_stack_is_handled_on_the_alternate_one(world: &mut World) {
    let server = world.spawn("strangers_odd", &["--start", "1", "--max-clients", "1"]);
    let address = server.address();
    let mut held = crate::support::connect(&address);
    let pid: u32 = held.ask("small-stack").parse().unwrap();
    drop(held);
    // It was told to stop, and has done so.
    expect_exit(&server, pid, "Finished exit status: 0");
    ends_well(&server);
}

/// While system(3) runs, SIGINT is ignored and lost. So the parent also notes the stop on a board,
/// which a child reads before it accepts.
///
/// Without `Told` the child serves on until `shutdown_timeout`.
fn o28_a_stop_during_system_is_seen_after_it(world: &mut World) {
    let fifo = world.tempdir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let server = world.spawn("strangers_odd", &["--start", "1", "--max-clients", "1"]);
    let mut held = crate::support::connect(&server.address());
    let pid: u32 = held.ask("pid").parse().unwrap();
    held.send_line(&format!("system {}", fifo.display()));
    until("SIGINT to be ignored", SOON, || {
        has_signal(pid, "SigIgn", Signal::SIGINT).then_some(())
    });
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let boards: Vec<&str> = maps
        .lines()
        .filter(|it| it.contains("memfd:prefork-stops"))
        .collect();
    assert!(
        boards.len() == 1 && boards[0].contains(" r--s "),
        "{boards:?}"
    );
    server.signal(Signal::SIGTERM);
    until("the child to be told", SOON, || {
        pids(&server, "shutdown").first().copied()
    });
    std::fs::write(&fifo, "").unwrap();
    assert_eq!(held.read_line(), pid.to_string());
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, pid, "Shutdown exit status: 0");
}

// The end by hand.

/// A hook that watches a descriptor right before each fork.
struct Watching(io::PipeReader);

impl PreForkHooks for Watching {
    fn before_fork(&mut self, monitor: &mut Monitor) {
        monitor.select_read(&self.0, "ready").unwrap();
    }
}

/// Runs a server until the file is there, ends it by hand, and says what it has left.
fn strangers_ended_by_hand(args: Args) -> ExitCode {
    log_warnings();
    let file = Path::new(args.value("--until").unwrap());
    let server = TcpServer::new(do_odd_things).max_requests(0);
    let (read, _write) = io::pipe().unwrap();
    let builder = PreFork::builder(server).hooks(Watching(read));
    let started = builder.start_servers(1).max_clients(1).start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        while !file.exists() {
            let _ = prefork.turn(Some(Duration::from_millis(5)))?;
        }
        let begun = Instant::now();
        if args.has("--drop") {
            drop(prefork);
        } else {
            prefork.stop();
            prefork.forkoff();
            prefork.server_fork();
            println!("children {}", processes::children(std::process::id()).len());
        }
        println!("took {}", begun.elapsed().as_millis());
        Ok(())
    }))
}

/// Outputs are read while the end waits for children, so that a child that prints can finish.
///
/// Without the turns in `run_down` it is killed after `kill_timeout`, 10 s.
fn o30_a_child_that_prints_much_is_heard_out_when_the_server_is_dropped(world: &mut World) {
    let file = world.tempdir().join("file");
    let file = file.to_str().unwrap();
    let server = world.spawn("strangers_ended_by_hand", &["--until", file, "--drop"]);
    let mut held = crate::support::connect(&server.address());
    held.send_line(&format!("flood {file}"));
    let pid = held.read_line();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0), "{pid} has answered");
    let text = server.stdout();
    let took = text.lines().find_map(|line| line.strip_prefix("took "));
    let took: u64 = took.unwrap().parse().unwrap();
    assert!(took < 5000, "{took} ms");
}

/// A server that has ended does not fork: the children would not be reaped.
///
/// Without `done` in `PreFork::fork` there is a child.
fn o31_nothing_is_forked_after_the_end(world: &mut World) {
    let file = world.tempdir().join("file");
    let server = world.spawn(
        "strangers_ended_by_hand",
        &["--until", file.to_str().unwrap()],
    );
    crate::support::connect(&server.address()).ask("pid");
    std::fs::write(&file, "").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
    let text = server.stdout();
    assert!(text.contains("children 0\n"), "{text}");
}

/// A child closes duplicates that are queued to be watched; it inherits the hook's own descriptors.
///
/// Without `close_watches` it has two more of the pipe.
fn o31_a_descriptor_that_is_watched_in_before_fork_is_not_inherited(world: &mut World) {
    let file = world.tempdir().join("file");
    let server = world.spawn(
        "strangers_ended_by_hand",
        &["--until", file.to_str().unwrap()],
    );
    let pid: u32 = crate::support::connect(&server.address())
        .ask("pid")
        .parse()
        .unwrap();
    let descriptors = processes::descriptors(pid);
    let pipes = descriptors
        .iter()
        .filter(|(number, to)| *number > 2 && to.starts_with("pipe:"));
    let mut targets: Vec<&String> = pipes.map(|(_, to)| to).collect();
    targets.sort();
    // Both ends of the hook's pipe, the death watch, the words.
    let of_the_hook = targets.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(of_the_hook, 1, "{descriptors:?}");
    std::fs::write(&file, "").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
}
