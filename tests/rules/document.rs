//! The list of what the original documents, against the code: nothing of it may be missing there.
//! `tables` has it against `docs/handlers.md`. Starts no server.

mod tables;

use prefork_server::{
    COMM_ACK, COMM_BUSY, COMM_NOT_BUSY, ChildId, ChildServer, Comm, Config, DOCUMENTED_STATES,
    DefaultHooks, Error, Line, Monitor, Output, PreFork, PreForkHooks, Start, States, TcpServer,
    UnixServer, Word, defaults,
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

/// The attribute of the timeout check.
const CHECK_INTERVAL: &str = "server_check_ack";

const ACCESSORS: [&str; 4] = [
    "is_child",
    "busy_servers",
    "free_servers",
    "wheel_id_to_pid",
];

const CREATE_STATES: &str = "create_states";

const CONSTANTS: [&str; 3] = ["COMM_ACK", "COMM_BUSY", "COMM_NOT_BUSY"];

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
    assert_eq!(hooks![create_states], [CREATE_STATES]);
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
    assert_eq!(names[7..], [CHECK_INTERVAL]);
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

/// The hooks that the original lacks.
fn own_hooks() -> Vec<String> {
    let mut hooks = hooks_of_the_trait();
    let handlers = HANDLERS.map(|(_, handler)| handler);
    let originals = [&handlers[..], &METHODS, &[CREATE_STATES]].concat();
    hooks.retain(|name| !originals.contains(&name.as_str()));
    hooks
}

/// The attributes that the original lacks.
fn own_attributes() -> Vec<&'static str> {
    let names = Config::attributes().iter().map(|row| row.name);
    names
        .filter(|name| !ATTRIBUTES.contains(name) && *name != CHECK_INTERVAL)
        .collect()
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
