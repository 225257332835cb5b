//! The program that is watched: observers that write what they are told, and hooks that say when they
//! run. Judges nothing.

use super::*;

/// Writes the calls of its hooks and the events to stdout.
pub(super) fn watched(args: Args) -> ExitCode {
    if let Some(filter) = args.value("--logger") {
        env_logger::Builder::new()
            .parse_filters(filter)
            .format_timestamp(None)
            .init();
    }
    ended(run(&args))
}

fn run(args: &Args) -> Result<(), Error> {
    let _thread = args.has("--thread").then(spawn_thread);
    let mut builder = PreFork::builder(TcpServer::new(converse).max_requests(0))
        .hooks(Spoken {
            few_descriptors: args.has("--few-descriptors"),
            limit: 0,
        })
        .start_servers(1)
        .min_spare_servers(1)
        .max_clients(count(args, "--max-clients", 1))
        .timeout(millis(args, "--timeout", 0))
        .pre_stop_delay(millis(args, "--pre-stop-delay", 0))
        .server_check_ack(args.parsed("--check").map(Duration::from_millis))
        .kill_timeout(millis(args, "--kill-timeout", 10_000));
    if args.has("--panicking") {
        builder = builder.observe(AtBusy(|| panic!("it was told to")));
    }
    if args.has("--slow") {
        builder = builder.observe(AtBusy(|| pause(Duration::from_millis(300))));
    }
    if !args.has("--unobserved") {
        builder = builder.observe(Written);
    }
    let mut prefork = builder.start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

/// Says which hook is called, after the default. In a child the lines go to the parent, which prints
/// them with the pid before them.
struct Spoken {
    few_descriptors: bool,
    limit: u64,
}

pub(super) fn pid(monitor: &Monitor, child: ChildId) -> u32 {
    monitor.child(child).map_or(0, Child::pid)
}

impl PreForkHooks for Spoken {
    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        println!("hook handler_start");
        defaults::handler_start(self, monitor, server)
    }
    fn before_fork(&mut self, _: &mut Monitor) {
        if std::mem::take(&mut self.few_descriptors) {
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            self.limit = soft;
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
        }
    }
    fn fork_failed(&mut self, _: &mut Monitor, _: &io::Error, _: Duration) {
        println!("hook fork_failed");
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, self.limit, hard).unwrap();
    }
    fn saturated(&mut self, _: &mut Monitor, episode: &Saturation) {
        println!("hook saturated {:?}", episode.waiting);
    }
    fn server_forked(&mut self, monitor: &mut Monitor, child: ChildId) {
        println!("hook server_forked {}", pid(monitor, child));
    }
    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        println!("hook server_busy {}", pid(monitor, child));
        defaults::server_busy(self, monitor, child);
    }
    fn server_exited(&mut self, _: &mut Monitor, child: &Child, _: &Death) {
        println!("hook server_exited {}", child.pid());
    }
    fn handler_shutdown(&mut self, monitor: &mut Monitor) {
        println!("hook handler_shutdown");
        defaults::handler_shutdown(self, monitor);
    }
    fn handler_stop(&mut self, monitor: &mut Monitor, server: &mut dyn ChildServer) {
        println!("hook handler_stop");
        defaults::handler_stop(self, monitor, server);
    }
}

/// Writes a line for each event but the turns, of which it writes the first.
pub(super) struct Written;

impl Observer for Written {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        let pid = |child| pid(monitor, child);
        match *event {
            Event::Forked { child, .. } => println!("event forked {}", pid(child)),
            Event::Ready { child, .. } => println!("event ready {}", pid(child)),
            Event::Busy { child, .. } => println!("event busy {}", pid(child)),
            Event::Free { child, .. } => println!("event free {}", pid(child)),
            Event::ToldToStop { child, reason, .. } => {
                println!("event told {} {reason:?}", pid(child));
            }
            Event::Signalled {
                child,
                signal,
                error,
                ..
            } => println!("event signalled {} {signal:?} {error:?}", pid(child)),
            Event::Exited { child, death, .. } => {
                println!("event exited {} {:?}", child.pid(), death.cause());
            }
            Event::ForkFailed {
                error, retry_in, ..
            } => println!("event fork failed: {error}; {retry_in:?}"),
            Event::Turn { next_in, .. } => println!("turn {next_in:?}"),
            Event::ListenerOpened { name, .. } => println!("event opened {name}"),
            Event::ListenerClosed { name, .. } => println!("event closed {name}"),
            Event::Saturated { waiting, .. } => println!("event saturated {waiting:?}"),
            Event::Waiting { clients, .. } => println!("event waiting {clients}"),
            Event::Refused {
                reason,
                connections,
                ..
            } => println!("event refused {connections}: {reason:?}"),
            Event::Replaced { old, new, .. } => {
                println!("event replaced {} by {}", pid(old), pid(new));
            }
            Event::Reloaded {
                epoch, replaced, ..
            } => println!("event reloaded {epoch}: {replaced} replaced"),
            Event::ReloadFailed { error, .. } => println!("event reload failed: {error}"),
            Event::UpgradeFailed { error, .. } => println!("event upgrade failed: {error}"),
            Event::Relieved { after, .. } => {
                println!("event relieved {}", after > Duration::from_secs(1));
            }
            event => println!("event {event:?}"),
        }
    }
}

/// Does something whenever a child turns busy.
struct AtBusy(fn());

impl Observer for AtBusy {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        if matches!(event, Event::Busy { .. }) {
            (self.0)();
        }
    }
}
