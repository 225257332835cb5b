//! The list of what the original documents, against the code and against `docs/handlers.md`:
//! nothing of it may be missing from either. Starts no server.

use prefork_server::{
    Attribute, COMM_ACK, COMM_BUSY, COMM_NOT_BUSY, ChildId, ChildServer, Comm, Config,
    DOCUMENTED_STATES, DefaultHooks, Error, Line, Monitor, Output, PreFork, PreForkHooks, Start,
    States, TcpServer, UnixServer, Word, defaults,
};
use std::{fs, io, time::Duration};

/// State and handler.
const HANDLERS: [(&str, &str); 11] = [
    ("_start", "handler_start"),
    ("_child", "handler_child"),
    ("_stop", "handler_stop"),
    ("run_error", "handler_run_error"),
    ("shutdown", "handler_shutdown"),
    ("server_closed", "handler_server_closed"),
    ("server_stderr", "handler_server_stderr"),
    ("server_ack", "handler_server_ack"),
    ("server_timeout_check", "handler_server_timeout_check"),
    ("forkoff", "handler_forkoff"),
    ("server_fork", "handler_server_fork"),
];

const ATTRIBUTES: [&str; 7] = [
    "server",
    "shutdown_on_error",
    "min_spare_servers",
    "max_spare_servers",
    "start_servers",
    "max_clients",
    "timeout",
];

const METHODS: [&str; 9] = [
    "server_timeout",
    "server_timeout_busy",
    "server_timeout_free",
    "server_start",
    "server_ack",
    "server_not_busy",
    "server_busy",
    "server_stdout",
    "server_stderr",
];

const OTHERS: [&str; 6] = [
    "server_check_ack",
    "is_child",
    "busy_servers",
    "free_servers",
    "wheel_id_to_pid",
    "create_states",
];

const CONSTANTS: [&str; 3] = ["COMM_ACK", "COMM_BUSY", "COMM_NOT_BUSY"];

/// The child's hash.
const CHILD: [&str; 2] = ["last_ack", "start_time"];

#[derive(Debug)]
struct Server;

impl ChildServer for Server {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn stop(&mut self) {}
    fn send_ack(&mut self) -> Option<Duration> {
        None
    }
    fn set_send_ack(&mut self, _: Option<Duration>) {}
    fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_states_are_the_documents() {
    assert_eq!(DOCUMENTED_STATES, HANDLERS.map(|(state, _)| state));
    let mut states = States::default();
    defaults::create_states(&mut DefaultHooks, &mut states);
    for (state, _) in HANDLERS {
        assert!(states.contains(state), "{state}");
    }
}

/// Names of hooks: each is a method of the trait and a default of the same name.
macro_rules! hooks {
    ($($name:ident),* $(,)?) => {{
        $(
            let _ = <DefaultHooks as PreForkHooks>::$name;
            let _ = defaults::$name::<DefaultHooks>;
        )*
        [$(stringify!($name)),*]
    }};
}

#[test]
fn every_handler_is_a_hook_with_a_default() {
    let hooks = hooks![
        handler_start,
        handler_child,
        handler_stop,
        handler_run_error,
        handler_shutdown,
        handler_server_closed,
        handler_server_stderr,
        handler_server_ack,
        handler_server_timeout_check,
        handler_forkoff,
        handler_server_fork,
    ];
    assert_eq!(hooks, HANDLERS.map(|(_, handler)| handler));
}

#[test]
fn every_method_is_a_hook_with_a_default() {
    let hooks = hooks![
        server_timeout,
        server_timeout_busy,
        server_timeout_free,
        server_start,
        server_ack,
        server_not_busy,
        server_busy,
        server_stdout,
        server_stderr,
    ];
    assert_eq!(hooks, METHODS);
    assert_eq!(hooks![create_states], [OTHERS[5]]);
}

/// Sets and gets attributes in each of the original's ways: when the server is described, and later.
macro_rules! attributes {
    ($($name:ident, $set:ident: $value:expr;)*) => {{
        let mut monitor = Monitor::default();
        $(
            assert_ne!(monitor.$name(), $value, "{} begins as that", stringify!($name));
            monitor.$set($value);
            assert_eq!(monitor.$name(), $value);
            let described = format!("{:?}", PreFork::builder(Server).$name($value));
            let set = format!("{}: {:?}", stringify!($name), $value);
            assert!(described.contains(&set), "no {set} in {described}");
        )*
        vec![$(stringify!($name)),*]
    }};
}

#[test]
fn every_attribute_can_be_set_and_read() {
    let mut names = attributes! {
        shutdown_on_error, set_shutdown_on_error: false;
        min_spare_servers, set_min_spare_servers: 3_usize;
        max_spare_servers, set_max_spare_servers: 9_usize;
        start_servers, set_start_servers: 7_usize;
        max_clients, set_max_clients: 70_usize;
        timeout, set_timeout: Duration::from_millis(1234);
        server_check_ack, set_server_check_ack: Some(Duration::from_millis(77));
    };
    // `server` is the argument of the builder.
    let builder = format!("{:?}", PreFork::builder(Server));
    assert!(builder.contains("server: Server"), "{builder}");
    names.insert(0, "server");
    assert_eq!(names[..7], ATTRIBUTES);
    assert_eq!(names[7..], [OTHERS[0]]);
}

#[test]
fn the_defaults_are_the_documents() {
    let monitor = Monitor::default();
    assert!(monitor.shutdown_on_error());
    let numbers = [
        monitor.min_spare_servers(),
        monitor.max_spare_servers(),
        monitor.start_servers(),
        monitor.max_clients(),
    ];
    assert_eq!(numbers, [1, 2, 5, 50]);
    assert_eq!(monitor.timeout(), Duration::ZERO);
}

#[test]
fn the_tracking_accessors_are_there() {
    let monitor = Monitor::default();
    assert!(!monitor.is_child());
    assert_eq!(monitor.busy_servers().count(), 0);
    assert_eq!(monitor.free_servers().count(), 0);
    assert_eq!(monitor.wheel_id_to_pid().count(), 0);
    let _ = prefork_server::Child::last_ack;
    let _ = prefork_server::Child::start_time;
    let _ = prefork_server::Child::pid;
}

#[test]
fn the_constants_print_as_themselves() {
    let words: [(Word, &str); 3] = [
        (COMM_ACK, "\u{6}"),
        (COMM_BUSY, "\u{13}"),
        (COMM_NOT_BUSY, "\u{11}"),
    ];
    for (word, text) in words {
        assert_eq!(word.to_string(), text);
    }
}

/// The handlers that a program can call between two turns, and the rest of the interface.
#[test]
fn the_loop_has_a_method_for_each_handler_that_can_be_called() {
    type P = PreFork<DefaultHooks, Server>;
    let _: [fn(&mut P); 4] = [P::forkoff, P::server_fork, P::timeout_check, P::shutdown];
    let _: fn(&mut P) = P::stop;
    let _ = P::child;
    let _ = P::run_error;
    let _: fn(&mut P, ChildId) = P::server_closed;
    let _: fn(&mut P, ChildId, &Line) = P::server_stderr;
    let _: fn(&mut P, ChildId, Output<'_>) = P::server_ack;
    let _ = P::id;
    let _: fn(&mut P) -> Result<prefork_server::Report, Error> = P::run;
    // The two servers that come along.
    fn server<S: ChildServer>() {}
    server::<TcpServer>();
    server::<UnixServer>();
    server::<Box<dyn ChildServer>>();
    // What the child's hook reaches.
    let _ = <Start<'_>>::monitor;
    let _ = <Start<'_>>::comm;
    let _ = <Start<'_>>::server;
}

// The tables of docs/handlers.md.

/// The hooks that the trait has, read from the source: a new one is in the list by itself.
fn hooks_of_the_trait() -> Vec<String> {
    let methods = trait_source();
    let methods = methods
        .lines()
        .filter_map(|line| line.strip_prefix("    fn "));
    methods
        .filter_map(|rest| rest.split('(').next())
        .map(str::to_owned)
        .collect()
}

fn trait_source() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hooks/mod.rs");
    let text = fs::read_to_string(path).expect("the source is there");
    let (_, rest) = text
        .split_once("\npub trait PreForkHooks {\n")
        .expect("the trait is in that file");
    let (methods, _) = rest.split_once("\n}\n").expect("it ends");
    methods.to_owned()
}

/// The hooks that the original lacks.
fn own_hooks() -> Vec<String> {
    let mut hooks = hooks_of_the_trait();
    let handlers = HANDLERS.map(|(_, handler)| handler);
    let originals = [&handlers[..], &METHODS, &[OTHERS[5]]].concat();
    hooks.retain(|name| !originals.contains(&name.as_str()));
    hooks
}

/// The attributes that the original lacks.
fn own_attributes() -> Vec<&'static str> {
    let names = Config::attributes().iter().map(|row| row.name);
    names
        .filter(|name| !ATTRIBUTES.contains(name) && *name != OTHERS[0])
        .collect()
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/handlers.md");
    fs::read_to_string(path).expect("docs/handlers.md is there")
}

/// The rows of the table under a heading, without the heads of its columns: the lines.
fn rows<'a>(text: &'a str, part: &str, heading: &str) -> Vec<&'a str> {
    let mut parts = text.strip_prefix("# ").unwrap_or(text).split("\n# ");
    let of_part = parts.find(|candidate| candidate.starts_with(part));
    let section = of_part.unwrap_or("").split("\n## ");
    let mut section = section.filter(|section| section.lines().next() == Some(heading));
    let own = section
        .next()
        .and_then(|section| section.split("\n### ").next());
    own.unwrap_or("")
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .collect()
}

/// The names in a cell: what is set as code there.
fn names(row: &str, cell: usize) -> Vec<&str> {
    let cell = row.split('|').nth(cell + 1).unwrap_or("");
    cell.split('`').skip(1).step_by(2).collect()
}

/// A row: the names in its first cell, and those that it must hold in any other.
type Row = (Vec<String>, Vec<String>);

/// Each table that the document is about: the part of the file, the heading, and the rows.
fn tables() -> Vec<(&'static str, &'static str, Vec<Row>)> {
    let hook = |name: &str| vec![format!("PreForkHooks::{name}"), format!("defaults::{name}")];
    let plain = |names: &[&str]| -> Vec<_> {
        let row = |name: &&str| (vec![(*name).to_owned()], Vec::new());
        names.iter().map(row).collect()
    };
    let hooked = |names: &[&str]| -> Vec<_> {
        let row = |name: &&str| (vec![(*name).to_owned()], hook(name));
        names.iter().map(row).collect()
    };
    let states = HANDLERS.map(|(state, handler)| {
        let held = [vec![handler.to_owned()], hook(handler)].concat();
        (vec![state.to_owned()], held)
    });
    let methods = [&[OTHERS[5]], &METHODS[..]].concat();
    let attributes = [&ATTRIBUTES[..], &[OTHERS[0]]].concat();
    let attributes = attributes.iter().map(|name| {
        let held = match *name {
            "server" => "PreFork::builder",
            name => name,
        };
        (vec![(*name).to_owned()], vec![held.to_owned()])
    });
    let accessors = OTHERS[1..5].iter().map(|name| {
        let held = format!("Monitor::{name}");
        (vec![(*name).to_owned()], vec![held])
    });
    let child = [
        (vec![], vec!["Child".to_owned()]),
        (vec!["wheel".to_owned()], vec!["ChildId".to_owned()]),
        (
            vec![CHILD[0].to_owned()],
            vec!["Child::last_ack".to_owned()],
        ),
        (
            vec!["starttime".to_owned()],
            vec![format!("Child::{}", CHILD[1])],
        ),
        (vec!["ID".to_owned()], vec!["PreFork::id".to_owned()]),
    ];
    let server = [
        (&["server"][..], &["ChildServer"][..]),
        (&["start"], &["ChildServer::start"]),
        (&["resume_accept"], &["ChildServer::resume_accept"]),
        (
            &["send_ack", "set_send_ack"],
            &["ChildServer::send_ack", "ChildServer::set_send_ack"],
        ),
        (&[], &["ChildServer::stop"]),
        (&[], &["ChildServer::lost"]),
        (&[], &["ChildServer::execs"]),
        (&[], &["TcpServer"]),
        (&[], &["UnixServer"]),
        (&[], &["ExecServer"]),
        (&[], &["InetdServer"]),
        (&["conn_class"], &["conn_class"]),
    ];
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let server = server.map(|(first, held)| (owned(first), owned(held)));
    let own_hooks = own_hooks();
    let own_hooks = own_hooks.iter().map(|name| (hook(name), Vec::new()));
    let original = "Handlers, methods, attributes";
    vec![
        (original, "States and their handlers", states.to_vec()),
        (original, "Methods", hooked(&methods)),
        (original, "Attributes", attributes.collect()),
        (original, "Tracking", accessors.chain(child).collect()),
        (original, "Constants", plain(&CONSTANTS)),
        (original, "The server object", server.to_vec()),
        ("Ours alone", "Hooks", own_hooks.collect()),
        ("Ours alone", "Attributes", plain(&own_attributes())),
    ]
}

/// What is wrong with the tables: each name has a row of its own in the right one, in order, and the
/// row says what ours is.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (part, heading, expected) in tables() {
        let found = rows(text, part, heading);
        let first: Vec<_> = found.iter().map(|row| names(row, 0)).collect();
        let wanted: Vec<_> = expected.iter().map(|(first, _)| first).collect();
        let same = |(first, wanted): (&Vec<&str>, &&Vec<String>)| first == *wanted;
        if first.len() != wanted.len() || !first.iter().zip(&wanted).all(same) {
            faults.push(format!("{heading}: {first:?} instead of {wanted:?}"));
            continue;
        }
        for (row, (_, held)) in found.iter().zip(&expected) {
            let others: Vec<_> = (1..4).flat_map(|cell| names(row, cell)).collect();
            let lacking = held.iter().find(|name| !others.contains(&name.as_str()));
            faults.extend(lacking.map(|name| format!("{heading}: no {name} in {row}")));
        }
        faults.extend(
            found
                .iter()
                .filter_map(|row| untrue_attribute(heading, row)),
        );
    }
    faults
}

/// What is wrong with a row of an attribute: it says what the table in the source says.
fn untrue_attribute(heading: &str, row: &str) -> Option<String> {
    let name = *names(row, 0).first().filter(|_| heading == "Attributes")?;
    let attribute = Config::attributes().iter().find(|row| row.name == name)?;
    let facts = facts(attribute);
    (!row.ends_with(&facts)).then(|| format!("{heading}: {name} must end in {facts}"))
}

/// The cells of an attribute's row behind its name.
fn facts(attribute: &Attribute) -> String {
    let what = attribute.documentation.lines().next().unwrap_or("").trim();
    format!(
        "| {} | {} | {} | {} | {} | {what} |",
        attribute.default(),
        attribute.unit,
        attribute.normalised,
        attribute.read,
        attribute.takes_effect,
    )
}

#[test]
fn every_item_has_a_row_of_its_own_in_the_right_table() {
    assert_eq!(faults(&document()), Vec::<String>::new());
}

/// The check is worth something: it misses each row, and each table.
#[test]
fn a_row_that_is_missing_is_missed() {
    let text = document();
    for (part, heading, expected) in tables() {
        let rows = rows(&text, part, heading);
        assert_eq!(rows.len(), expected.len());
        for row in &rows {
            let without = text.replacen(&format!("{row}\n"), "", 1);
            assert_ne!(without, text);
            assert_eq!(faults(&without).len(), 1, "without {row}");
        }
        let table = format!("{}\n", rows.join("\n"));
        let without = text.replacen(&table, "", 1);
        assert_ne!(without, text);
        assert_eq!(faults(&without).len(), 1, "without {heading}");
    }
}

/// The check is worth something: a fact that has changed in the source is missed in the document.
#[test]
fn an_attribute_that_is_described_otherwise_is_found() {
    let text = document();
    for attribute in Config::attributes() {
        let facts = facts(attribute);
        let outdated = text.replacen(&facts, &facts.replacen("| ", "| not ", 1), 1);
        assert!(outdated != text, "no {facts}");
        assert_eq!(faults(&outdated).len(), 1, "{facts}");
    }
}

#[test]
fn every_hook_calls_the_default_of_its_name() {
    let source = trait_source();
    let hooks = hooks_of_the_trait();
    assert!(hooks.len() > HANDLERS.len() + METHODS.len(), "{hooks:?}");
    for name in hooks {
        let called = format!("        defaults::{name}(");
        assert!(source.contains(&called), "{name} has another default");
    }
}

#[test]
fn a_configuration_is_set_at_once_and_overridden_by_later_setters() {
    let config = Config::default().max_clients(70).start_servers(9);
    let builder = PreFork::builder(Server).max_clients(1).config(config);
    let described = format!("{:?}", builder.start_servers(8));
    for set in ["max_clients: 70", "start_servers: 8"] {
        assert!(described.contains(set), "no {set} in {described}");
    }
}
