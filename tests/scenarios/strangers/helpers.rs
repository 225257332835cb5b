//! Processes that the program forks and that run on without an exec: what they keep, and how they end.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    o02_a_helper_of_a_handler_ends_at_sigterm_and_the_child_serves_on,
    o02_a_helper_of_a_handler_keeps_neither_connection_nor_port,
    o02_a_connection_of_a_helper_ends_before_the_child_waits,
    o02_a_helper_of_a_hook_ends_at_sigterm_and_keeps_no_port,
];

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

pub(super) fn strangers_helpers(_: Args) -> ExitCode {
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
