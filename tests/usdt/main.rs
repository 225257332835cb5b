//! The static probes, as tracers find them: in the notes of the program file, and, where bpftrace is
//! installed and may trace, by the programs of `docs/tracing.md`. Built with the feature `usdt` only:
//! `cargo test --features usdt --test usdt`.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use prefork_server::servers::Access;
use prefork_server::{Error, PreFork, TcpServer};
use support::{
    Address, Args, Programs, SOON, Scenarios, Signal, World, connect, pause, programs, scenarios,
    try_connect, until,
};

const PROGRAMS: Programs = programs![served];

const SCENARIOS: Scenarios = scenarios![
    each_probe_has_a_note_with_its_arguments,
    the_document_has_a_program_for_each_probe,
    each_program_of_the_document_sees_its_probe,
    a_life_is_told_in_order_and_truly,
];

/// The probes, and how many arguments each has.
const PROBES: [(&str, usize); 6] = [
    ("fork", 2),
    ("ready", 3),
    ("busy", 4),
    ("free", 2),
    ("exit", 4),
    ("shed", 4),
];

fn main() -> ExitCode {
    support::main(PROGRAMS, SCENARIOS)
}

/// A child leaves after each connection.
fn served(args: Args) -> Result<(), Error> {
    let mut access = Access::new();
    if args.has("--deny") {
        access = access.deny("127.0.0.0/8".parse().expect("a range"));
    }
    let server = TcpServer::new(|_| Ok(()))
        .port(0)
        .max_requests(1)
        .access(access);
    let mut prefork = PreFork::builder(server).start_servers(1).start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run().map(drop)
}

fn own_path() -> String {
    let path = env::current_exe().expect("a path");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// How many arguments the probes of this executable have, as readelf reads its notes.
fn notes() -> Option<BTreeMap<String, Vec<usize>>> {
    let shown = Command::new("readelf")
        .args(["-n", &own_path()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut name = None;
    for line in text.lines().map(str::trim) {
        if let Some(provider) = line.strip_prefix("Provider: ") {
            assert_eq!(provider, "prefork");
        } else if let Some(probe) = line.strip_prefix("Name: ") {
            name = Some(probe.to_owned());
        } else if let Some(arguments) = line.strip_prefix("Arguments: ") {
            let arguments = arguments.split(' ').filter(|one| one.contains('@'));
            let name = name.take().expect("a name before its arguments");
            found.entry(name).or_default().push(arguments.count());
        }
    }
    Some(found)
}

fn each_probe_has_a_note_with_its_arguments(_: &mut World) {
    let Some(notes) = notes() else {
        println!("skipped: there is no readelf");
        return;
    };
    let names: Vec<_> = notes.keys().map(String::as_str).collect();
    let mut expected = PROBES.map(|(name, _)| name);
    expected.sort_unstable();
    assert_eq!(names, expected);
    for (name, count) in PROBES {
        let places = &notes[name];
        assert!(
            places.iter().all(|found| *found == count),
            "{name}: {places:?}"
        );
    }
}

/// The programs of the document, by the probe in whose section each stands.
fn programs_of_the_document() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tracing.md");
    let text = fs::read_to_string(path).expect("the document");
    let sections = text.split("\n### `").skip(1);
    let program = |section: &str| {
        let (name, rest) = section.split_once('`').expect("the name of a probe");
        let (_, rest) = rest.split_once("bpftrace -e '").expect("a program");
        let (program, _) = rest.split_once('\'').expect("its end");
        (name.to_owned(), program.to_owned())
    };
    sections.map(program).collect()
}

fn the_document_has_a_program_for_each_probe(_: &mut World) {
    let programs = programs_of_the_document();
    let names: Vec<_> = programs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, PROBES.map(|(name, _)| name));
    for (name, program) in &programs {
        assert!(
            program.contains(&format!("usdt:./server:prefork:{name} ")),
            "{program}"
        );
    }
}

/// A tracer that runs a program, and says when all of the program is attached: it attaches one probe after
/// the other, the last one first or the first one first, and says of both that they were hit.
struct Tracer {
    process: Child,
    output: std::path::PathBuf,
}

impl Tracer {
    fn start(world: &World, name: &str, program: &str) -> Self {
        let program = program.replace("./server", &own_path());
        let mark = |end: &str| {
            let path = own_path();
            format!("usdt:{path}:prefork:{name} {{ printf(\"hit {end}\\n\"); }}")
        };
        let program = [mark("first"), program, mark("last")].join(" ");
        let output = world.tempdir().join(name);
        let file = fs::File::create(&output).expect("a file");
        let process = Command::new("bpftrace")
            .args(["-e", &program])
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("a file"))
            .stdout(file)
            .spawn()
            .expect("bpftrace");
        Self { process, output }
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Whether all of it has been attached.
    fn is_attached(&self) -> bool {
        let output = self.output();
        output.contains("hit first\n") && output.contains("hit last\n")
    }

    /// The same once `has_all` finds in it what it should have.
    #[track_caller]
    fn end_after(self, has_all: impl Fn(&str) -> bool) -> String {
        until("all hits", SOON, || has_all(&self.output()).then_some(()));
        self.end()
    }

    /// What it has written at its end. It goes on forever when the signal comes while it reads events
    /// and not while it waits for them, so it is told again; by SIGTERM, since a second SIGINT would end it
    /// before it has printed its maps.
    #[track_caller]
    fn end(mut self) -> String {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        until("the end of bpftrace", SOON, || {
            kill(pid, Signal::SIGTERM).expect("to end bpftrace");
            pause(Duration::from_millis(100));
            self.process.try_wait().expect("a status")
        });
        self.output()
    }
}

fn can_trace() -> bool {
    let tried = Command::new("bpftrace")
        .args(["-e", "BEGIN { exit(); }"])
        .output();
    tried.is_ok_and(|tried| tried.status.success())
}

fn each_program_of_the_document_sees_its_probe(world: &mut World) {
    if !can_trace() {
        println!("skipped: there is no bpftrace, or it may not trace here");
        return;
    }
    world.deadline(Duration::from_secs(120));
    let serving = world.spawn("served", &[]);
    let denying = world.spawn("served", &["--deny"]);
    let addresses = [serving.address(), denying.address()];
    for (name, program) in programs_of_the_document() {
        let mut tracer = Tracer::start(world, &name, &program);
        until(&format!("a hit of {name}"), SOON * 3, || {
            let ended = tracer.process.try_wait().expect("a status");
            assert!(ended.is_none(), "{name}: {}", tracer.output());
            addresses.iter().for_each(visit);
            tracer.is_attached().then_some(())
        });
        // Once more, now that all of the program is attached. What the probe tells of may come later than
        // the answer to the client.
        let hits = |output: &str| output.matches("hit last\n").count();
        let before = hits(&tracer.output());
        for _ in 0..5 {
            addresses.iter().for_each(visit);
        }
        let output = tracer.end_after(|output| hits(output) > before);
        let is_shown = match name.as_str() {
            "fork" => output.contains(&format!("{} has forked ", serving.pid())),
            "busy" => output.contains("@clients[127.0.0.1]: "),
            "exit" => output.contains("@status[0]: "),
            "shed" => output.contains("@reason[2]: "),
            _ => output.contains('@'),
        };
        assert!(is_shown, "{name}: {output}");
    }
    for server in [serving, denying] {
        assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    }
}

/// One connection, as long as a child takes it.
fn visit(address: &Address) {
    if let Ok(mut client) = try_connect(address) {
        client.gone();
    }
}

/// A program that prints each hit of every probe: the time, the name, the arguments.
fn all_hits() -> String {
    let action = |(name, count): (&str, usize)| {
        let arguments: String = (0..count).map(|at| format!(", arg{at}")).collect();
        let places = " %d".repeat(count);
        format!(
            "usdt:./server:prefork:{name} {{ printf(\"%llu {name}{places}\\n\", nsecs{arguments}); }} "
        )
    };
    PROBES.map(action).concat()
}

/// One hit of a probe.
#[derive(Debug)]
struct Hit {
    at: u64,
    name: String,
    arguments: Vec<i64>,
}

impl Hit {
    fn all(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::parse).collect()
    }

    fn has_served(&self, port: i64) -> bool {
        self.name == "busy" && self.arguments[3] == port
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            at: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
            arguments: words.map(|word| word.parse().ok()).collect::<Option<_>>()?,
        })
    }
}

/// Each child takes one connection, and so its probes are hit once each, with what the clients know. The
/// parent's are in order, and so are the child's; the parent hears of a child a moment later.
fn a_life_is_told_in_order_and_truly(world: &mut World) {
    if !can_trace() {
        println!("skipped: there is no bpftrace, or it may not trace here");
        return;
    }
    world.deadline(Duration::from_secs(120));
    let server = world.spawn("served", &[]);
    let address = server.address();
    let tracer = Tracer::start(world, "fork", &all_hits());
    until("a hit", SOON * 3, || {
        visit(&address);
        tracer.is_attached().then_some(())
    });
    let mut ports = Vec::new();
    for _ in 0..10 {
        let mut client = connect(&address);
        ports.push(i64::from(client.local_address().port()));
        client.gone();
    }
    let text = tracer.end_after(|text| {
        let hits = Hit::all(text);
        ports.iter().all(|port| has_ended(&hits, *port))
    });
    let mut hits = Hit::all(&text);
    hits.sort_by_key(|hit| hit.at);
    for port in &ports {
        is_one_life(&hits, *port);
    }
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// Whether the child that has served the client at this port has ended, as far as is known.
fn has_ended(hits: &[Hit], port: i64) -> bool {
    let busy = hits.iter().find(|hit| hit.has_served(port));
    busy.is_some_and(|busy| {
        let mut exits = hits.iter().filter(|hit| hit.name == "exit");
        exits.any(|exit| exit.arguments[..2] == busy.arguments[..2])
    })
}

/// The hits of the child that has served the client at this port.
fn is_one_life(hits: &[Hit], port: i64) {
    let busy = hits.iter().find(|hit| hit.has_served(port));
    let busy = busy.expect("the connection");
    let loopback = i64::from(u32::from_ne_bytes([127, 0, 0, 1]));
    assert_eq!(busy.arguments[2], loopback, "{busy:?}");
    let of_child = |hit: &&Hit| hit.arguments[..2] == busy.arguments[..2];
    let life: Vec<_> = hits.iter().filter(of_child).collect();
    let names: Vec<_> = life.iter().map(|hit| hit.name.as_str()).collect();
    let of = |wanted: &[&str]| -> Vec<&str> {
        let names = names.iter().copied();
        names.filter(|name| wanted.contains(name)).collect()
    };
    assert_eq!(of(&["busy", "free"]), ["busy", "free"], "{life:?}");
    // It may have been there before the tracer.
    let parents = of(&["fork", "ready", "exit"]);
    assert!(["fork", "ready", "exit"].ends_with(&parents), "{life:?}");
    assert!(["busy", "exit"] == of(&["busy", "exit"])[..], "{life:?}");
    let [.., exit] = life[..] else { unreachable!() };
    assert_eq!(exit.arguments[2..], [0, 1], "{life:?}");
    // The parent says that it has forked when the child may have begun already.
    if let Some(ready) = life.iter().find(|hit| hit.name == "ready") {
        let passed = ready.arguments[2];
        assert!(passed > 0 && passed < 60_000_000_000, "{life:?}");
    }
}
