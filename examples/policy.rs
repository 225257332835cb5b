//! A custom policy: spare children in proportion to the load, by default a quarter of the busy
//! ones; it can be changed while the server runs. A timer samples the load; a socket in the loop
//! takes orders.
//!
//! cargo run --release --example policy -- --path /tmp/policy.sock --max-clients 100
//! echo -n 50   | nc -uUN /tmp/policy.sock     half as many spare children as busy ones
//! echo -n hold | nc -uUN /tmp/policy.sock     leave the pool as it is
//!
//! The default of `handler_forkoff` does the rest: it handles forks under way, `max_clients`,
//! failed forks, and which child to cull.

mod common;

use common::{Flags, Result, Usage};
use prefork_server::{
    ChildServer, Error, Monitor, Operation, PreForkHooks, States, TcpServer, defaults,
    servers::conn::{ConnClass, Session},
};
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{fs::FileTypeExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

const ABOUT: &str = "A line echo server with spare children in proportion to the busy ones.";
const OWN_FLAGS: &str = "  --path PATH              take orders at a datagram socket there: a \
percentage, or hold\n";
/// How often the load is sampled.
const SAMPLE: Duration = Duration::from_millis(250);

/// The last order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    /// This many spare children for a hundred busy ones.
    Percent(usize),
    /// No change.
    Hold,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    free: usize,
    busy: usize,
    /// The recent number of busy children, which decays.
    peak: usize,
}

/// The decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Decision {
    /// Call the default with these limits of spare children.
    Default { min: usize, max: usize },
    /// Do nothing.
    Nothing,
}

/// The policy: counts in, decision out. `least` spare children are kept whatever the load.
fn decide(counts: Counts, order: Order, least: usize) -> Decision {
    let percent = match order {
        Order::Percent(percent) => percent,
        // Without a child no client would be served.
        Order::Hold if counts.free + counts.busy > 0 => return Decision::Nothing,
        Order::Hold => 0,
    };
    let load = counts.busy.max(counts.peak);
    let min = load.saturating_mul(percent).div_ceil(100).max(least);
    // A little slack, so that one child more or less is not forked and culled in turn.
    let max = min + 1 + min / 4;
    Decision::Default { min, max }
}

/// The load fades by an eighth, at least by one, with each sample.
fn fade(peak: usize, busy: usize) -> usize {
    busy.max(peak - peak.div_ceil(8))
}

fn parse(order: &[u8]) -> Option<Order> {
    match std::str::from_utf8(order).ok()?.trim() {
        "hold" => Some(Order::Hold),
        percent => percent.parse().ok().map(Order::Percent),
    }
}

/// Opens the socket for orders. Replaces a socket without a reader, which a killed server has left
/// behind. Any other file, and the socket of a running server, stay.
fn bind(path: &Path) -> io::Result<UnixDatagram> {
    let busy = match UnixDatagram::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => error,
        other => return other,
    };
    let is_socket = fs::symlink_metadata(path)?.file_type().is_socket();
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if is_socket && error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            UnixDatagram::bind(path)
        }
        _ => Err(busy),
    }
}

/// The subclass.
struct Proportional {
    order: Order,
    peak: usize,
    least: usize,
    control: Option<(UnixDatagram, PathBuf)>,
}

impl Proportional {
    fn new(path: Option<PathBuf>) -> io::Result<Self> {
        let control = path.map(|path| {
            let socket = bind(&path)
                .map_err(|error| Error::new(Operation::Bind, path.display().to_string(), error))?;
            socket.set_nonblocking(true)?;
            io::Result::Ok((socket, path))
        });
        Ok(Self {
            order: Order::Percent(25),
            peak: 0,
            least: 0,
            control: control.transpose()?,
        })
    }

    /// On the timer.
    fn sample(&mut self, monitor: &mut Monitor) {
        let peak = fade(self.peak, monitor.busy_servers().count());
        if peak != self.peak {
            self.peak = peak;
            monitor.post("forkoff");
        }
        monitor.delay_set("sample", SAMPLE);
    }

    /// Orders have arrived: reads all of them.
    fn take_orders(&mut self, monitor: &mut Monitor) {
        let Some((socket, _)) = &self.control else {
            return;
        };
        let mut message = [0; 64];
        while let Ok(length) = socket.recv(&mut message) {
            match parse(&message[..length]) {
                Some(order) => {
                    self.order = order;
                    monitor.print_stdout(format!("policy: {order:?}"));
                    monitor.post("forkoff");
                }
                None => log::warn!(
                    "no order: {:?}",
                    message[..length].escape_ascii().to_string()
                ),
            }
        }
    }
}

impl PreForkHooks for Proportional {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        states.add("sample");
        if let Some((socket, path)) = &self.control
            && let Err(error) = states.select_read(socket, "control")
        {
            log::error!("no orders will be taken at {}: {error}", path.display());
        }
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        defaults::handler_start(self, monitor, server)?;
        self.least = monitor.min_spare_servers();
        monitor.delay_set("sample", SAMPLE);
        Ok(())
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        match state {
            // A shutdown removes the alarms, and no new one is needed.
            "sample" if !monitor.is_shutdown() => self.sample(monitor),
            "control" => self.take_orders(monitor),
            other => defaults::handler_state(self, monitor, other),
        }
    }

    fn handler_forkoff(&mut self, monitor: &mut Monitor) {
        let counts = Counts {
            free: monitor.free_servers().count(),
            busy: monitor.busy_servers().count(),
            peak: self.peak,
        };
        if let Decision::Default { min, max } = decide(counts, self.order, self.least) {
            // The limit that grows is set first, so that the limits are consistent in between.
            if max > monitor.max_spare_servers() {
                monitor.set_max_spare_servers(max);
                monitor.set_min_spare_servers(min);
            } else {
                monitor.set_min_spare_servers(min);
                monitor.set_max_spare_servers(max);
            }
            defaults::handler_forkoff(self, monitor);
        }
    }

    fn handler_stop(&mut self, monitor: &mut Monitor, server: &mut dyn ChildServer) {
        if let Some((_, path)) = self.control.take()
            && let Err(error) = fs::remove_file(&path)
        {
            log::warn!("removing {}: {error}", path.display());
        }
        defaults::handler_stop(self, monitor, server);
    }
}

/// Work for the handler.
struct Echo;

impl ConnClass for Echo {
    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        session.put(input);
    }
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let flags = Flags::parse(&Usage {
        takes_path: true,
        own_flags: OWN_FLAGS,
        ..Usage::new(ABOUT, 7779)
    })?;
    let server = TcpServer::conn_class(|| Echo)
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let hooks = Proportional::new(flags.path.clone())?;
    let prefork = flags.builder(server).hooks(hooks).start()?;
    let addresses = prefork.server().local_addrs();
    let orders = flags.path.as_ref().map_or(String::new(), |path| {
        format!("; for orders: echo -n 50 | nc -uUN {}", path.display())
    });
    let hint = addresses.first().map(|address| {
        let (ip, port) = (address.ip(), address.port());
        format!("try: nc {ip} {port}, many times{orders}")
    });
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    common::run(prefork, &addresses, &hint.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(free: usize, busy: usize, peak: usize) -> Counts {
        Counts { free, busy, peak }
    }

    #[test]
    fn spares_are_in_proportion_to_the_load_and_never_below_the_least() {
        for (busy, peak, percent, min, max) in [
            (0, 0, 25, 2, 3),
            (4, 0, 25, 2, 3),
            (9, 0, 25, 3, 4),
            (40, 0, 25, 10, 13),
            (1, 40, 25, 10, 13),
            (40, 0, 100, 40, 51),
            (40, 0, 0, 2, 3),
        ] {
            let decision = decide(counts(1, busy, peak), Order::Percent(percent), 2);
            assert_eq!(
                decision,
                Decision::Default { min, max },
                "{busy} busy, {peak} before"
            );
        }
    }

    #[test]
    fn every_decision_can_be_kept() {
        for busy in 0..60 {
            for percent in [0, 1, 25, 99, 100, 250, usize::MAX] {
                for least in 1..4 {
                    let Decision::Default { min, max } =
                        decide(counts(0, busy, 0), Order::Percent(percent), least)
                    else {
                        panic!("a percentage is no reason to do nothing");
                    };
                    assert!(min >= least && max > min, "{min} to {max}");
                }
            }
        }
    }

    #[test]
    fn holding_does_nothing_while_there_is_anybody() {
        assert_eq!(decide(counts(9, 0, 0), Order::Hold, 1), Decision::Nothing);
        assert_eq!(decide(counts(0, 1, 9), Order::Hold, 1), Decision::Nothing);
        let nobody = decide(counts(0, 0, 9), Order::Hold, 1);
        assert_eq!(nobody, Decision::Default { min: 1, max: 2 });
    }

    #[test]
    fn the_peak_fades_to_what_there_is() {
        assert_eq!(
            (fade(0, 5), fade(5, 7), fade(80, 0), fade(1, 0)),
            (5, 7, 70, 0)
        );
        let samples = (0..).scan(100, |peak, _| {
            *peak = fade(*peak, 3);
            (*peak > 3).then_some(())
        });
        assert!(samples.count() < 40);
    }

    #[test]
    fn orders_are_numbers_or_hold() {
        assert_eq!(parse(b"50\n"), Some(Order::Percent(50)));
        assert_eq!(parse(b"hold"), Some(Order::Hold));
        for nonsense in [&b""[..], b"-1", b"many", b"\xff", b"5 0"] {
            assert_eq!(parse(nonsense), None);
        }
    }
}
