//! Four hooks, each overridden and each calling its default, as a subclass of the original does
//! with `SUPER::`. The server prints on stdout what happens.
//!
//! cargo run --release --example hooks
//! Send it lines with `nc 127.0.0.1 7778`; the line `spin` makes its child hang.

mod common;

use common::{Flags, Result, Usage};
use prefork_server::{ChildId, Line, Monitor, PreForkHooks, TcpServer, defaults, servers::TcpConn};
use std::{
    io::{self, BufRead, BufReader, Write},
    process::ExitCode,
    time::Duration,
};

/// A subclass with a little state of its own.
#[derive(Default)]
struct Talkative {
    turned_busy: u64,
    last_pool: (usize, usize, usize),
}

impl Talkative {
    fn pid(monitor: &Monitor, child: ChildId) -> u32 {
        monitor.child(child).map_or(0, |child| child.pid())
    }
}

impl PreForkHooks for Talkative {
    /// Counts how often a child has turned from waiting to working.
    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        let before = monitor.busy_servers().count();
        defaults::server_busy(self, monitor, child);
        if monitor.busy_servers().count() > before {
            self.turned_busy += 1;
            let pid = Self::pid(monitor, child);
            monitor.print_stdout(format!("busy: child {pid} (number {})", self.turned_busy));
        }
    }

    /// Marks the children's output, then prints it as usual.
    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        let mut louder = line.bytes().to_ascii_uppercase();
        louder.extend_from_slice(b"!");
        defaults::server_stdout(self, monitor, child, &Line::whole(louder));
    }

    /// Prints which child hangs, before the default ends it.
    fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        let silent = monitor
            .child(child)
            .map(|record| monitor.now().since(record.last_ack()));
        let pid = Self::pid(monitor, child);
        let silent = silent.unwrap_or_default().as_secs_f64();
        monitor.print_stdout(format!("timeout: child {pid} was silent for {silent:.1} s"));
        defaults::server_timeout_busy(self, monitor, child);
    }

    /// Prints the counts of the pool before each decision, when they have changed.
    fn handler_forkoff(&mut self, monitor: &mut Monitor) {
        let pool = (
            monitor.free_servers().count(),
            monitor.busy_servers().count(),
            monitor.retiring_servers().count(),
        );
        if pool != self.last_pool {
            self.last_pool = pool;
            let (free, busy, retiring) = pool;
            monitor.print_stdout(format!(
                "forkoff: {free} free, {busy} busy, {retiring} retiring"
            ));
        }
        defaults::handler_forkoff(self, monitor);
    }
}

/// Repeats each line on stdout, where the parent reads it.
fn listen(conn: TcpConn) -> io::Result<()> {
    writeln!(&conn, "you talk to child {}", std::process::id())?;
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        if line == "spin" {
            loop {
                std::hint::spin_loop();
            }
        }
        println!("heard {line}");
        writeln!(&conn, "ok")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let about = "Hooks that call their defaults. Say `spin` to hang a child.";
    let flags = Flags::parse(&Usage {
        timeout: Duration::from_secs(2),
        ..Usage::new(about, 7778)
    })?;
    let server = TcpServer::new(listen)
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let builder = flags.builder(server).hooks(Talkative::default());
    let prefork = builder.kill_timeout(Duration::from_secs(1)).start()?;
    let addresses = prefork.server().local_addrs();
    let hint = addresses
        .first()
        .map(|address| format!("try: nc {} {}, and say spin", address.ip(), address.port()));
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    common::run(prefork, &addresses, &hint.unwrap_or_default())
}
