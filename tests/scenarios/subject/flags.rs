//! From the command line of the program to a server that is described and not started.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use prefork_server::{
    Builder, ChildServer, CommChannel, Event, Monitor, Observer, PreFork, TcpServer,
};

use super::{Journal, converse, journal};
use crate::support::Args;

/// The server that the flags describe; durations are in milliseconds.
pub fn builder(args: &Args) -> Builder<Journal, TcpServer> {
    let broken = args.value("--factory-fails-while").map(PathBuf::from);
    let factory = move || match &broken {
        Some(broken) if broken.exists() => Err(io::Error::other("no database today")),
        _ => Ok(()),
    };
    let server = TcpServer::per_child(factory)
        .serve(|(), conn| converse(conn))
        .port(args.parsed("--port").unwrap_or(0))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    builder_of(args, server)
}

/// The same around a server of the test's own.
pub fn builder_of<S: ChildServer>(args: &Args, server: S) -> Builder<Journal, S> {
    let channel = if args.has("--private") {
        CommChannel::Private
    } else {
        CommChannel::Stdout
    };
    let builder = PreFork::builder(server)
        .comm_channel(channel)
        .coalesce_words(!args.has("--every-word"))
        .hooks(Journal::new(args))
        .start_servers(count(args, "--start", 2))
        .min_spare_servers(count(args, "--min-spare", 1))
        .max_spare_servers(count(args, "--max-spare", 100))
        .max_clients(count(args, "--max-clients", 100))
        .timeout(millis(args, "--timeout", 0))
        .start_timeout(millis(args, "--start-timeout", 0))
        .busy_timeout(millis(args, "--busy-timeout", 0))
        .server_check_ack(args.parsed("--check").map(Duration::from_millis))
        .kill_timeout(millis(args, "--kill-timeout", 10_000))
        .shutdown_timeout(millis(args, "--shutdown-timeout", 30_000))
        .drain_timeout(millis(args, "--drain-timeout", 1000))
        .cull_after(millis(args, "--cull-after", 1000))
        .handle_signals(!args.has("--no-signals"))
        .resize_signals(args.has("--resize-signals"))
        .reap_orphans(args.has("--reap-orphans"))
        .process_title(args.value("--title").map(str::to_owned))
        .pre_stop_delay(millis(args, "--pre-stop-delay", 0));
    match args.has("--pre-stop-delay") {
        true => builder.observe(Announced),
        false => builder,
    }
}

/// Writes down when a stop is announced.
struct Announced;

impl Observer for Announced {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        if let Event::StopAnnounced { begins_in, .. } = event {
            let at = monitor.now().since_start();
            let rest = begins_in.as_millis().to_string();
            println!("{}", journal::line(at, "announced", 0, &rest));
        }
    }
}

/// A number of servers.
pub fn count(args: &Args, flag: &str, default: usize) -> usize {
    args.parsed(flag).unwrap_or(default)
}

/// A duration.
pub fn millis(args: &Args, flag: &str, default: u64) -> Duration {
    Duration::from_millis(args.parsed(flag).unwrap_or(default))
}
