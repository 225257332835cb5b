//! The program's own metrics: counted in children, read in the parent, whatever becomes of the
//! children.

use std::cell::Cell;
use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal as Nix, kill};
use nix::unistd::{ForkResult, Pid, fork};
use prefork_server::metrics::{self, Counter, Histogram, Value};
use prefork_server::servers::TcpConn;
use prefork_server::{Child, Death, Monitor, PreFork, PreForkHooks, TcpServer};

use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, connect, programs, scenarios,
    try_connect,
};

pub const PROGRAMS: Programs = programs![counting];

pub const SCENARIOS: Scenarios = scenarios![
    the_sum_over_all_children_is_what_the_clients_have_counted,
    no_count_is_lost_with_a_child_that_is_killed,
    living_children_are_part_of_the_sum,
    a_process_that_a_handler_forks_counts_for_nobody,
    children_without_a_slot_serve_and_their_counts_are_lost,
];

// The program.

fn counting(args: Args) -> Result<(), Box<dyn Error>> {
    let pages = metrics::counter("pages");
    let seconds = metrics::histogram("render_seconds", &[0.1, 1.0]);
    let server = TcpServer::new(move |conn| answer(&conn, pages, seconds))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    let most = args.parsed("--children").unwrap_or(4);
    let mut prefork = PreFork::builder(server)
        .start_servers(most)
        .min_spare_servers(1)
        .max_spare_servers(most)
        .max_clients(args.parsed("--slots").unwrap_or(most))
        .hooks(Deaths(metrics::counter("deaths")))
        .start()?;
    prefork.monitor_mut().set_max_clients(most);
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run()?;
    tell(prefork.monitor());
    Ok(())
}

fn answer(mut conn: &TcpConn, pages: Counter, seconds: Histogram) -> io::Result<()> {
    for line in BufReader::new(conn).lines() {
        let line = line?;
        match line.split_once(' ') {
            // The child is killed at some moment from now on, whatever it does then.
            Some(("die-within", microseconds)) => {
                let lifetime = Duration::from_micros(microseconds.parse().unwrap());
                thread::spawn(move || {
                    thread::sleep(lifetime);
                    kill(Pid::this(), Nix::SIGKILL)
                });
            }
            Some(("in-threads", count)) => {
                let count: u64 = count.parse().unwrap();
                thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(|| (0..count).for_each(|_| pages.increment()));
                    }
                    (0..count).for_each(|_| pages.increment());
                });
            }
            Some(("in-a-fork", _)) => count_in_a_fork(pages)?,
            _ => {
                pages.increment();
                seconds.observe(0.25);
            }
        }
        writeln!(conn, "{}", std::process::id())?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn count_in_a_fork(pages: Counter) -> io::Result<()> {
    // SAFETY: the process has one thread, and the new one allocates nothing.
    match unsafe { fork() }? {
        ForkResult::Child => {
            pages.add(1000);
            // SAFETY: it has no preconditions.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None)?;
            Ok(())
        }
    }
}

/// Counts in the parent, too, and tells the metrics at each death.
struct Deaths(Counter);

impl PreForkHooks for Deaths {
    fn server_exited(&mut self, monitor: &mut Monitor, _: &Child, _: &Death) {
        self.0.increment();
        tell(monitor);
    }
}

fn tell(monitor: &Monitor) {
    let texts = monitor.metrics().into_iter().map(|metric| {
        let value = match metric.value {
            Value::Counter(value) => value.to_string(),
            Value::Histogram(seconds) => format!("{:?}/{}", seconds.counts, seconds.sum),
            _ => panic!("another kind"),
        };
        format!("{}={value}", metric.name)
    });
    println!("metrics {}", texts.collect::<Vec<_>>().join(" "));
}

// The scenarios.

/// The lines with which the program tells its metrics, the last one at its end.
fn told(server: &Server) -> Vec<String> {
    let lines = server.stdout();
    let told = lines
        .lines()
        .filter_map(|line| line.strip_prefix("metrics "));
    told.map(str::to_owned).collect()
}

fn value(told: &str, name: &str) -> u64 {
    let mut values = told.split(' ').filter_map(|value| value.split_once('='));
    let (_, value) = values.find(|(known, _)| *known == name).unwrap();
    value.parse().unwrap()
}

/// Children come and go: each leaves after three connections.
fn the_sum_over_all_children_is_what_the_clients_have_counted(world: &mut World) {
    let server = world.spawn("counting", &["--max-requests", "3"]);
    let address = server.address();
    for _ in 0..100 {
        connect(&address).ask("count");
    }
    connect(&address).ask("in-threads 1000");
    server.stop(Signal::SIGTERM, SOON);
    let told = told(&server);
    let last = told.last().unwrap();
    assert!(
        last.starts_with("pages=5100 render_seconds=[0, 100, 0]/25 "),
        "{last}"
    );
    assert!(value(last, "deaths") > 33, "{last}");
    let pages: Vec<u64> = told.iter().map(|told| value(told, "pages")).collect();
    assert!(pages.is_sorted(), "a counter went back: {pages:?}");
}

/// What clients know: how many counts were answered, and how many may or may not have been done
/// when the child died.
#[derive(Default)]
struct Ledger {
    answered: AtomicU64,
    unanswered: AtomicU64,
}

impl Ledger {
    /// Has one child killed within two milliseconds, and has it count until then.
    fn kill_one(&self, address: &Address, microseconds: u64) {
        let Ok(mut client) = try_connect(address) else {
            return;
        };
        client
            .try_send_line(&format!("die-within {microseconds}"))
            .unwrap();
        if !matches!(client.try_read_line(), Ok(Some(_))) {
            return;
        }
        while client.try_send_line("count").is_ok() {
            match client.try_read_line() {
                Ok(Some(_)) => self.answered.fetch_add(1, Ordering::Relaxed),
                _ => {
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            };
        }
    }
}

/// The children are killed at random moments while they count. `METRICS_KILLS` says how many, if
/// not a few hundred.
fn no_count_is_lost_with_a_child_that_is_killed(world: &mut World) {
    const CLIENTS: u64 = 4;
    let kills = env::var("METRICS_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kills: u64 = kills.unwrap_or(300);
    world.deadline(Duration::from_secs(30 + kills / 50));
    let server = world.spawn("counting", &["--children", "6"]);
    let address = server.address();
    let ledger = Ledger::default();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (ledger, address) = (&ledger, &address);
            scope.spawn(move || {
                let seed = Cell::new(client + 1);
                for _ in 0..kills / CLIENTS {
                    let next = seed.get().wrapping_mul(6_364_136_223_846_793_005) + 1;
                    seed.set(next);
                    ledger.kill_one(address, (next >> 33) % 2000);
                }
            });
        }
    });
    server.stop(Signal::SIGTERM, SOON);
    let told = told(&server);
    let last = told.last().unwrap();
    let pages = value(last, "pages");
    let [answered, unanswered] =
        [&ledger.answered, &ledger.unanswered].map(|count| count.load(Ordering::Relaxed));
    println!("{answered} answered, {unanswered} unanswered, {pages} counted: {last}");
    // On a machine that is busy most lives are over before they count.
    assert!(
        answered > kills / 10,
        "hardly anything was counted: {answered}"
    );
    assert!(
        answered <= pages && pages <= answered + unanswered,
        "{last}"
    );
    assert!(value(last, "deaths") >= kills / CLIENTS * CLIENTS, "{last}");
}

/// A child that lives is seen in the sum at once, and once only after its death.
fn living_children_are_part_of_the_sum(world: &mut World) {
    let server = world.spawn("counting", &[]);
    let address = server.address();
    let mut living = connect(&address);
    for _ in 0..10 {
        living.ask("count");
    }
    let mut dying = connect(&address);
    dying.ask("count");
    dying.send_line("die-within 0");
    dying.gone();
    let stdout = server.expect_stdout("metrics", |text| text.contains("metrics "));
    assert!(stdout.contains("pages=11 "), "{stdout}");
    drop(living);
    server.stop(Signal::SIGTERM, SOON);
    assert_eq!(value(told(&server).last().unwrap(), "pages"), 11);
}

/// The fork of a child may outlive it, and must not count for the next child of the slot.
fn a_process_that_a_handler_forks_counts_for_nobody(world: &mut World) {
    let server = world.spawn("counting", &[]);
    let mut client = connect(&server.address());
    client.ask("count");
    client.ask("in-a-fork now");
    client.ask("count");
    drop(client);
    server.stop(Signal::SIGTERM, SOON);
    assert_eq!(value(told(&server).last().unwrap(), "pages"), 2);
}

fn children_without_a_slot_serve_and_their_counts_are_lost(world: &mut World) {
    let server = world.spawn("counting", &["--children", "4", "--slots", "1"]);
    let address = server.address();
    let mut clients: Vec<_> = (0..4).map(|_| connect(&address)).collect();
    for client in &mut clients {
        client.ask("count");
    }
    drop(clients);
    server.stop(Signal::SIGTERM, SOON);
    assert_eq!(value(told(&server).last().unwrap(), "pages"), 1);
}
