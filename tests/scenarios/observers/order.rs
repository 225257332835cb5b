//! The order of hooks and events in what happens to a whole server: reloads, an upgrade that fails,
//! refusals, a saturation, stops, and a drop of the server.

use std::fs;
use std::path::PathBuf;

use prefork_server::servers::Access;
use prefork_server::{Operation, Start, States, UpgradeFailure};

use super::*;
use crate::support::{Address, connect_as_another, gate};

pub const PROGRAMS: Programs = programs![recounted];

pub const SCENARIOS: Scenarios = scenarios![
    reloads_are_told_in_order,
    an_upgrade_that_fails_is_told_of_after_its_hook,
    refusals_are_told_with_their_reasons,
    a_saturation_is_told_with_who_waits_and_its_end,
    a_stop_is_told_when_it_is_announced_and_when_it_begins,
    a_server_that_is_dropped_tells_its_end_without_a_hook,
    a_server_that_is_dropped_before_its_first_child_tells_its_end,
];

/// For how long a client may be queued.
const QUEUE_AGE: Duration = Duration::from_millis(200);

// The program.

/// A pool of one child. Its hooks and an observer say what they are called for.
///
/// Clients from 127.1.0.0/16 may not connect. It cannot be upgraded. With `--drop` it drops the server:
/// `now`, or once a child is `ready`.
fn recounted(args: Args) -> ExitCode {
    ended(recount(&args))
}

fn recount(args: &Args) -> Result<(), Error> {
    let denied = "127.1.0.0/16".parse().expect("addresses");
    let server = TcpServer::new(converse)
        .max_requests(0)
        .access(Access::new().deny(denied))
        .max_queue_age(QUEUE_AGE);
    let mut prefork = PreFork::builder(server)
        .hooks(Recounted {
            settings: args.parsed("--settings").unwrap_or_default(),
        })
        .start_servers(1)
        .min_spare_servers(1)
        .max_spare_servers(2)
        .max_clients(count(args, "--max-clients", 2))
        .pre_stop_delay(millis(args, "--pre-stop-delay", 0))
        .observe(Written)
        .start()?;
    announce(&prefork);
    if let Some(when) = args.value("--drop") {
        while when == "ready" && !prefork.monitor().children().any(Child::has_waited) {
            let _ = prefork.turn(None)?;
        }
        gate::pass("drop");
        return Ok(());
    }
    println!("{}", prefork.run()?);
    Ok(())
}

/// Says its name, and that of the child it is about, in each hook of the parent, and goes on to the
/// default.
///
/// Left out are the hooks for words and lines, for `forkoff` and for the check of times, which the loop
/// calls as often as it likes.
struct Recounted {
    /// The file that is read in a reload: `refused`, `broken`, or anything else.
    settings: PathBuf,
}

impl Recounted {
    fn settings(&self) -> String {
        fs::read_to_string(&self.settings).unwrap_or_default()
    }
}

/// Overrides that say their name and go on to the default: of the server, and of a child.
macro_rules! recounting {
    (
        $(fn $name:ident($($arg:ident: $type:ty),*);)*
        of a child: $(fn $of_child:ident($($more:ident: $what:ty),*);)*
    ) => {
        $(fn $name(&mut self, $($arg: $type),*) {
            println!("hook {}", stringify!($name));
            defaults::$name(self, $($arg),*);
        })*
        $(fn $of_child(&mut self, monitor: &mut Monitor, child: ChildId, $($more: $what),*) {
            println!("hook {} {}", stringify!($of_child), pid(monitor, child));
            defaults::$of_child(self, monitor, child, $($more),*);
        })*
    };
}

impl PreForkHooks for Recounted {
    recounting! {
        fn create_states(states: &mut States);
        fn handler_child(monitor: &mut Monitor, error: &io::Error);
        fn handler_stop(monitor: &mut Monitor, server: &mut dyn ChildServer);
        fn handler_run_error(
            monitor: &mut Monitor,
            operation: Operation,
            error: &io::Error,
            child: Option<ChildId>
        );
        fn handler_shutdown(monitor: &mut Monitor);
        fn handler_server_fork(monitor: &mut Monitor);
        fn handler_state(monitor: &mut Monitor, state: &str);
        fn reopen_logs(monitor: &mut Monitor);
        fn before_fork(monitor: &mut Monitor);
        fn reload_failed(monitor: &mut Monitor, error: &Error);
        fn fork_failed(monitor: &mut Monitor, error: &io::Error, retry_in: Duration);
        fn saturated(monitor: &mut Monitor, episode: &Saturation);
        of a child:
        fn server_busy();
        fn server_not_busy();
        fn server_timeout();
        fn server_timeout_busy();
        fn server_timeout_free();
        fn server_overtime();
        fn server_forked();
        fn handler_server_closed();
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        println!("hook handler_start");
        defaults::handler_start(self, monitor, server)
    }

    fn handler_reload(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        println!("hook handler_reload");
        match self.settings().as_str() {
            "refused" => Err(io::Error::other("a key is unknown")),
            _ => defaults::handler_reload(self, monitor, server),
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        match self.settings().as_str() {
            "broken" => Err(io::Error::other("these settings cannot be used")),
            _ => defaults::server_start(self, start),
        }
    }

    fn server_replaced(&mut self, monitor: &mut Monitor, old: ChildId, new: ChildId) {
        let pids = (pid(monitor, old), pid(monitor, new));
        println!("hook server_replaced {} by {}", pids.0, pids.1);
        defaults::server_replaced(self, monitor, old, new);
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        println!("hook server_exited {}", child.pid());
        defaults::server_exited(self, monitor, child, death);
    }

    fn upgrade_failed(&mut self, monitor: &mut Monitor, error: &Error) {
        let reason = error.io_error().get_ref();
        let reason = reason.and_then(|reason| reason.downcast_ref::<UpgradeFailure>());
        println!("hook upgrade_failed {reason:?}");
        defaults::upgrade_failed(self, monitor, error);
    }

    fn save(&mut self, _: &mut Monitor) -> Vec<u8> {
        println!("hook save");
        b"nothing".to_vec()
    }

    /// In the trial of the program that is to take over, which is this one.
    fn restore(&mut self, _: &[u8]) -> io::Result<()> {
        println!("hook restore");
        Err(io::Error::other("it was told to"))
    }
}

// What scenarios do.

/// A server, and how much of what it has told was compared.
struct Told {
    server: Server,
    compared: usize,
}

impl Told {
    /// A server whose first child is ready.
    fn ready(world: &mut World, flags: &[&str]) -> (Self, Address, u32) {
        let server = world.spawn("recounted", flags);
        let address = server.address();
        let child = expect_told(&server, "event ready");
        let mut told = Self {
            server,
            compared: 0,
        };
        told.expect(&started(&address, child));
        (told, address, child)
    }

    /// Waits until that much more was told, and compares all of it.
    #[track_caller]
    fn expect(&mut self, expected: &str) {
        let wanted: Vec<&str> = expected.lines().collect();
        let whole = self.compared + wanted.len();
        let last = wanted.last().copied().unwrap_or_default();
        let found = until(last, SOON, || {
            let lines = told(&self.server);
            // What is wrong is to be seen, and not waited for.
            let differs = lines.iter().skip(self.compared).zip(&wanted);
            let differs = differs.into_iter().any(|(line, wanted)| line != wanted);
            (lines.len() >= whole || differs).then_some(lines)
        });
        let found: Vec<_> = found
            .iter()
            .skip(self.compared)
            .map(String::as_str)
            .collect();
        let found = &found[..found.len().min(wanted.len())];
        assert_eq!(found, wanted, "after {} lines", self.compared);
        self.compared = whole;
    }

    /// Stops the server, and compares all that was told of that: there is nothing else.
    #[track_caller]
    fn stops(mut self, address: &Address, child: u32) {
        assert_eq!(self.server.stop(Signal::SIGTERM, SOON).code(), Some(0));
        self.expect(&shut_down(address, child));
        assert_eq!(told(&self.server).len(), self.compared, "nothing follows");
    }
}

/// From the start to the first child.
fn started(address: &Address, child: u32) -> String {
    format!(
        "event Starting\n\
         hook handler_start\n\
         hook create_states\n\
         event opened {address}\n\
         event Started\n\
         {}",
        forked(child)
    )
}

/// A child that becomes ready.
fn forked(child: u32) -> String {
    format!(
        "{}\n\
         hook server_not_busy {child}\n\
         event ready {child}",
        only_forked(child)
    )
}

fn only_forked(child: u32) -> String {
    format!(
        "hook handler_server_fork\n\
         hook before_fork\n\
         hook server_forked {child}\n\
         event forked {child}"
    )
}

/// A stop that begins, of a server with a child.
fn shut_down(address: &Address, child: u32) -> String {
    format!(
        "hook handler_shutdown\n\
         event ShuttingDown\n\
         event told {child} Shutdown\n\
         event signalled {child} Interrupt None\n\
         hook handler_server_closed {child}\n\
         hook server_exited {child}\n\
         event exited {child} Shutdown\n\
         hook handler_stop\n\
         event closed {address}\n\
         event Ended"
    )
}

// The scenarios.

/// One that succeeds; one whose hook fails; one whose children fail, after which the child stays.
fn reloads_are_told_in_order(world: &mut World) {
    let settings = world.tempdir().join("settings");
    let path = settings.to_str().expect("a path");
    let (mut told, address, first) = Told::ready(world, &["--settings", path]);
    told.server.signal(Signal::SIGHUP);
    let second = until("the successor", SOON, || {
        Some(expect_told(&told.server, "event ready")).filter(|&pid| pid != first)
    });
    told.expect(&format!(
        "hook handler_reload\n\
         event ReloadBegan {{ epoch: 1 }}\n\
         {}\n\
         event told {first} Reloaded\n\
         hook server_replaced {first} by {second}\n\
         event replaced {first} by {second}\n\
         event reloaded 1: 1 replaced\n\
         event signalled {first} Interrupt None\n\
         hook handler_server_closed {first}\n\
         hook server_exited {first}\n\
         event exited {first} Reloaded",
        forked(second)
    ));
    fs::write(&settings, "refused").expect("a file");
    told.server.signal(Signal::SIGHUP);
    told.expect(
        "hook handler_reload\n\
         hook reload_failed\n\
         event reload failed: reload the settings: a key is unknown",
    );
    fs::write(&settings, "broken").expect("a file");
    told.server.signal(Signal::SIGHUP);
    told.expect(
        "hook handler_reload\n\
         event ReloadBegan { epoch: 2 }",
    );
    let broken = until("three children", SOON, || {
        let lines = super::told(&told.server);
        let forks = lines.iter().skip(told.compared);
        let forks = forks.filter_map(|line| line.strip_prefix("event forked ")?.parse().ok());
        let forks: Vec<u32> = forks.collect();
        <[u32; 3]>::try_from(forks).ok()
    });
    for child in broken {
        told.expect(&format!(
            "{}\n\
             hook handler_server_closed {child}\n\
             hook server_exited {child}\n\
             event exited {child} FailedStart",
            only_forked(child)
        ));
    }
    told.expect(&format!(
        "hook reload_failed\n\
         event reload failed: reload the children: 3 children in a row have not become ready; the \
         last, {}: exit status: 102, last lines \"server_start failed: these settings cannot be \
         used\"",
        broken[2]
    ));
    told.stops(&address, second);
}

/// The new program is run for a trial, in which it can say what it cannot use.
fn an_upgrade_that_fails_is_told_of_after_its_hook(world: &mut World) {
    let (mut told, address, child) = Told::ready(world, &[]);
    told.server.signal(Signal::SIGUSR2);
    told.expect(
        "event UpgradeBegan\n\
         hook save\n\
         hook restore\n\
         hook upgrade_failed Some(Refused(\"it was told to\"))\n\
         event upgrade failed: upgrade the new program: it cannot use the state of this server: \
         it was told to",
    );
    told.stops(&address, child);
}

/// Each reason that can be had without a busy child. No hook is called, and no word said.
fn refusals_are_told_with_their_reasons(world: &mut World) {
    let (mut told, address, child) = Told::ready(world, &[]);
    connect_as_another(&address).gone();
    told.expect("event refused 1: Denied");
    stop(child);
    let mut late = connect(&address);
    let since = Instant::now();
    until("it to be too old", SOON, || {
        (since.elapsed() > 2 * QUEUE_AGE).then_some(())
    });
    send(child, Signal::SIGCONT);
    late.gone();
    told.expect("event refused 1: TooOld");
    told.stops(&address, child);
}

/// It ends when the shutdown begins, while the child still has its client.
fn a_saturation_is_told_with_who_waits_and_its_end(world: &mut World) {
    let (mut told, address, child) = Told::ready(world, &["--max-clients", "1"]);
    let held = Held::new(&address);
    told.expect(&format!(
        "hook server_busy {child}\n\
         event busy {child}\n\
         hook saturated\n\
         event saturated Some(0)"
    ));
    // Both are there when it looks again.
    stop(told.server.pid());
    let waiting = [connect(&address), connect(&address)];
    told.server.signal(Signal::SIGCONT);
    told.expect("event waiting 2");
    told.server.signal(Signal::SIGTERM);
    told.expect(&format!(
        "hook handler_shutdown\n\
         event ShuttingDown\n\
         event told {child} Shutdown\n\
         event signalled {child} Interrupt None\n\
         event relieved true"
    ));
    drop((held, waiting));
    assert_eq!(told.server.wait(SOON).code(), Some(0));
}

/// The second signal begins it.
fn a_stop_is_told_when_it_is_announced_and_when_it_begins(world: &mut World) {
    let (mut told, address, child) = Told::ready(world, &["--pre-stop-delay", "60000"]);
    told.server.signal(Signal::SIGTERM);
    told.expect("event StopAnnounced { begins_in: 60s }");
    told.stops(&address, child);
}

/// The loop ends its child, and no hook is asked.
fn a_server_that_is_dropped_tells_its_end_without_a_hook(world: &mut World) {
    let mut gate = world.gate("drop");
    let (mut told, address, child) = Told::ready(world, &["--drop", "ready"]);
    gate.reached(SOON);
    gate.open();
    assert_eq!(told.server.wait(SOON).code(), Some(0));
    told.expect(&format!(
        "event ShuttingDown\n\
         event told {child} Shutdown\n\
         event signalled {child} Interrupt None\n\
         event exited {child} Shutdown\n\
         event closed {address}\n\
         event Ended"
    ));
    assert_eq!(super::told(&told.server).len(), told.compared);
}

/// There is nobody to stop, so only the end is told.
fn a_server_that_is_dropped_before_its_first_child_tells_its_end(world: &mut World) {
    let mut gate = world.gate("drop");
    let server = world.spawn("recounted", &["--drop", "now"]);
    let address = server.address();
    gate.reached(SOON);
    gate.open();
    assert_eq!(server.wait(SOON).code(), Some(0));
    let expected = format!(
        "event Starting\n\
         hook handler_start\n\
         hook create_states\n\
         event opened {address}\n\
         event Started\n\
         event closed {address}\n\
         event Ended"
    );
    assert_eq!(told(&server).join("\n"), expected);
}
