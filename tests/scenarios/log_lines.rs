//! How often the parent says the same, on real processes: a program that does wrong at each
//! connection, children that are replaced, and what an operator does. The rule itself is tested with
//! a clock of the tests' own, in `src/core`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Instant;

use prefork_server::servers::TcpConn;
use prefork_server::{
    Child, ChildId, Death, Event, Monitor, Observer, PreFork, PreForkHooks, TcpServer, defaults,
};

use crate::subject::{Held, announce, ended, ends_well};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, programs, scenarios, until,
};

pub const PROGRAMS: Programs = programs![noisy];

pub const SCENARIOS: Scenarios = scenarios![
    no_message_is_repeated_within_ten_seconds,
    a_replacement_is_one_line_and_a_reload_has_lines_each_time,
];

// The program.

/// With `--wrong`, its hooks and its observer do wrong whenever a child is busy.
struct Wrong(bool);

impl PreForkHooks for Wrong {
    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_busy(self, monitor, child);
        if self.0 {
            monitor.post("nobody");
            panic!("the hook was told to");
        }
    }

    fn server_exited(&mut self, _: &mut Monitor, child: &Child, death: &Death) {
        println!("exited {} {:?}", child.pid(), death.cause());
    }
}

impl Observer for Wrong {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        assert!(
            !matches!(event, Event::Busy { .. }) || !self.0,
            "the observer was told to"
        );
    }
}

fn noisy(args: Args) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .format_timestamp(None)
        .init();
    let wrong = args.has("--wrong");
    let prefork = PreFork::builder(TcpServer::new(converse).max_requests(0))
        .hooks(Wrong(wrong))
        .observe(Wrong(wrong))
        .start_servers(1)
        .min_spare_servers(1)
        .max_clients(3)
        .start();
    ended(prefork.and_then(|mut prefork| {
        announce(&prefork);
        println!("{}", prefork.run()?);
        Ok(())
    }))
}

fn converse(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        match line?.as_str() {
            "panic" => panic!("the client asked for it"),
            "replace me" => conn.ask_for_replacement()?,
            _ => {}
        }
        writeln!(&conn, "{} ", std::process::id())?;
    }
    Ok(())
}

// The scenarios.

/// The lines of the log, without level and target.
fn logged(server: &Server) -> Vec<String> {
    let text = server.stderr();
    let lines = text.lines().filter_map(|line| line.split_once("] "));
    lines.map(|(_, line)| line.to_owned()).collect()
}

/// A line with `#` for each number, and without what stands in parentheses.
fn kind(line: &str) -> String {
    let line = line.split(" (").next().unwrap_or(line);
    let parts = line.split(|c: char| c.is_ascii_digit());
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("#")
}

/// How many messages a line stands for: it ends with the number of those that were left out.
fn messages(line: &str) -> u32 {
    let more = line.rsplit_once(" (").map(|(_, more)| more);
    let more = more.and_then(|more| more.strip_suffix(" times more)"));
    more.map_or(1, |more| more.parse().expect("a number"))
}

fn exited(server: &Server, pid: u32) -> bool {
    server.stdout().contains(&format!("exited {pid} "))
}

/// Twelve children die with their first client, while a hook, an observer and a state go wrong.
fn no_message_is_repeated_within_ten_seconds(world: &mut World) {
    const TIMES: u32 = 12;
    world.expect_panics();
    let began = Instant::now();
    let server = world.spawn("noisy", &["--wrong"]);
    let address = server.address();
    for _ in 0..TIMES {
        let mut held = Held::new(&address);
        held.client.send_line("panic");
        until("it to die", SOON, || {
            exited(&server, held.pid).then_some(())
        });
    }
    ends_well(&server);
    let lines = logged(&server);
    let mut kinds = BTreeMap::new();
    for line in &lines {
        let (count, sum) = kinds.entry(kind(line)).or_insert((0, 0));
        *count += 1;
        *sum += messages(line);
    }
    // One at once, one after each ten seconds, one at the end.
    let most = 2 + began.elapsed().as_secs() / 10;
    for (kind, (count, _)) in &kinds {
        assert!(*count <= most, "{count} times {kind:?}: {lines:#?}");
    }
    for text in [
        "hook server_busy panicked: the hook was told to",
        "observer # panicked: the observer was told to",
        "state nobody was posted and is not registered",
    ] {
        let (_, sum) = kinds.get(text).copied().unwrap_or_default();
        // A BUSY can be heard twice, on the pipe and from the board.
        let expected = TIMES..=2 * TIMES;
        assert!(expected.contains(&sum), "{sum} of {text}: {lines:#?}");
    }
}

/// Without a reload each replacement of a child is worth a line, but one in ten seconds; a reload has
/// its own two lines, however often it comes.
fn a_replacement_is_one_line_and_a_reload_has_lines_each_time(world: &mut World) {
    let server = world.spawn("noisy", &[]);
    let address = server.address();
    let mut replaced = Vec::new();
    for _ in 0..3 {
        let mut held = Held::new(&address);
        held.client.ask("replace me");
        let pid = held.pid;
        drop(held);
        until("it to be replaced", SOON, || {
            exited(&server, pid).then_some(())
        });
        replaced.push(pid);
    }
    for epoch in 1..=3 {
        server.signal(Signal::SIGHUP);
        server.expect_stderr("the reload", |text| {
            text.matches("] reloaded: ").count() == epoch
        });
    }
    ends_well(&server);
    let lines = logged(&server);
    let of = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    let first = format!("child {} is replaced by child ", replaced[0]);
    assert!(
        lines.iter().any(|line| line.starts_with(&first)),
        "{lines:#?}"
    );
    let last = format!("child {} is replaced by child ", replaced[2]);
    let sum = lines.iter().find(|line| line.starts_with(&last));
    assert!(
        sum.is_some_and(|line| line.ends_with(" (2 times more)")),
        "{lines:#?}"
    );
    assert_eq!(of(" is replaced by "), 2, "{lines:#?}");
    assert_eq!(
        (of("reload: epoch "), of("reloaded: ")),
        (3, 3),
        "{lines:#?}"
    );
}
