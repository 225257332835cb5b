//! Every hook through every type that forwards, and every default from an override.

use super::*;
use crate::hooks::testing::{Calls, ChildWorld, RecordingServer};
use crate::{
    core::{
        child::State,
        testing::{child, exit_code, monitor, ms},
        wire::{CommWords, Word},
    },
    hooks::comm::Comm,
};

/// Makes `HookRecorder`, all of whose hooks note their name and go on to the default, and `call_all`,
/// which calls each of them once; from one list, so that none is in the one and not the other.
macro_rules! record {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        struct HookRecorder(Calls);

        impl PreForkHooks for HookRecorder {
            $(
                fn $name(&mut self, $($arg: $type),*) $(-> $result)? {
                    self.0.note(concat!("own ", stringify!($name)));
                    defaults::$name(self, $($arg),*)
                }
            )*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

record! {
    fn server_ack(monitor: &mut Monitor, child: ChildId);
    fn server_busy(monitor: &mut Monitor, child: ChildId);
    fn server_not_busy(monitor: &mut Monitor, child: ChildId);
    fn server_timeout(monitor: &mut Monitor, child: ChildId);
    fn server_timeout_busy(monitor: &mut Monitor, child: ChildId);
    fn server_timeout_free(monitor: &mut Monitor, child: ChildId);
    fn server_stdout(monitor: &mut Monitor, child: ChildId, line: &Line);
    fn server_stderr(monitor: &mut Monitor, child: ChildId, line: &Line);
    fn server_start(start: &mut Start<'_>) -> io::Result<()>;
    fn create_states(states: &mut States);
    fn handler_start(monitor: &mut Monitor, server: &mut dyn ChildServer) -> io::Result<()>;
    fn handler_child(monitor: &mut Monitor, error: &io::Error);
    fn handler_stop(monitor: &mut Monitor, server: &mut dyn ChildServer);
    fn handler_run_error(
        monitor: &mut Monitor,
        operation: Operation,
        error: &io::Error,
        child: Option<ChildId>
    );
    fn handler_shutdown(monitor: &mut Monitor);
    fn handler_server_closed(monitor: &mut Monitor, child: ChildId);
    fn handler_server_stderr(monitor: &mut Monitor, child: ChildId, line: &Line);
    fn handler_server_ack(monitor: &mut Monitor, child: ChildId, output: Output<'_>);
    fn handler_server_timeout_check(monitor: &mut Monitor);
    fn handler_forkoff(monitor: &mut Monitor);
    fn handler_server_fork(monitor: &mut Monitor);
    fn handler_state(monitor: &mut Monitor, state: &str);
    fn reopen_logs(monitor: &mut Monitor);
    fn server_overtime(monitor: &mut Monitor, child: ChildId);
    fn before_fork(monitor: &mut Monitor);
    fn server_forked(monitor: &mut Monitor, child: ChildId);
    fn server_exiting(start: &mut Start<'_>);
    fn server_exited(monitor: &mut Monitor, child: &Child, death: &Death);
    fn handler_reload(monitor: &mut Monitor, server: &mut dyn ChildServer) -> io::Result<()>;
    fn reload_failed(monitor: &mut Monitor, error: &Error);
    fn save(monitor: &mut Monitor) -> Vec<u8>;
    fn restore(saved: &[u8]) -> io::Result<()>;
    fn upgrade_failed(monitor: &mut Monitor, error: &Error);
    fn server_replaced(monitor: &mut Monitor, old: ChildId, new: ChildId);
    fn fork_failed(monitor: &mut Monitor, error: &io::Error, retry_in: Duration);
    fn saturated(monitor: &mut Monitor, episode: &Saturation);
}

/// Calls every hook in the order of the list, each on a monitor of its own, and returns the
/// effects. The implementation below records its calls in `calls`.
fn call_all<H: PreForkHooks>(hooks: &mut H, calls: &Calls) -> Vec<(String, String)> {
    type Call<'a, H> = &'a dyn Fn(&mut H, &mut Scene);
    let line = Line::whole("text");
    let error = io::Error::from_raw_os_error(5);
    let word = Output::Word(Word::Busy);
    let failed = Error::new(Operation::Reload, "", io::Error::from_raw_os_error(5));
    let each: [Call<'_, H>; 36] = [
        &|hooks, s| hooks.server_ack(&mut s.monitor, s.free),
        &|hooks, s| hooks.server_busy(&mut s.monitor, s.free),
        &|hooks, s| hooks.server_not_busy(&mut s.monitor, s.busy),
        &|hooks, s| hooks.server_timeout(&mut s.monitor, s.free),
        &|hooks, s| hooks.server_timeout_busy(&mut s.monitor, s.busy),
        &|hooks, s| hooks.server_timeout_free(&mut s.monitor, s.free),
        &|hooks, s| hooks.server_stdout(&mut s.monitor, s.free, &line),
        &|hooks, s| hooks.server_stderr(&mut s.monitor, s.free, &line),
        &|hooks, s| {
            let mut start = Start::new(&mut s.monitor, &mut s.comm, &mut s.server);
            hooks.server_start(&mut start).unwrap();
            start.serve().unwrap();
        },
        &|hooks, s| {
            let mut states = States::default();
            hooks.create_states(&mut states);
            s.server
                .calls
                .note(format!("{} states", states.names().count()));
        },
        &|hooks, s| hooks.handler_start(&mut s.monitor, &mut s.server).unwrap(),
        &|hooks, s| hooks.handler_child(&mut s.monitor, &error),
        &|hooks, s| hooks.handler_stop(&mut s.monitor, &mut s.server),
        &|hooks, s| hooks.handler_run_error(&mut s.monitor, Operation::Read, &error, None),
        &|hooks, s| hooks.handler_shutdown(&mut s.monitor),
        &|hooks, s| hooks.handler_server_closed(&mut s.monitor, s.free),
        &|hooks, s| hooks.handler_server_stderr(&mut s.monitor, s.free, &line),
        &|hooks, s| hooks.handler_server_ack(&mut s.monitor, s.free, word),
        &|hooks, s| hooks.handler_server_timeout_check(&mut s.monitor),
        &|hooks, s| hooks.handler_forkoff(&mut s.monitor),
        &|hooks, s| hooks.handler_server_fork(&mut s.monitor),
        &|hooks, s| hooks.handler_state(&mut s.monitor, "own"),
        &|hooks, s| hooks.reopen_logs(&mut s.monitor),
        &|hooks, s| hooks.server_overtime(&mut s.monitor, s.busy),
        &|hooks, s| hooks.before_fork(&mut s.monitor),
        &|hooks, s| hooks.server_forked(&mut s.monitor, s.free),
        &|hooks, s| {
            let mut start = Start::new(&mut s.monitor, &mut s.comm, &mut s.server);
            hooks.server_exiting(&mut start);
        },
        &|hooks, s| {
            let (record, death) = s.monitor.exited(s.busy, exit_code(0)).unwrap();
            hooks.server_exited(&mut s.monitor, &record, &death);
        },
        &|hooks, s| hooks.handler_reload(&mut s.monitor, &mut s.server).unwrap(),
        &|hooks, s| hooks.reload_failed(&mut s.monitor, &failed),
        &|hooks, s| {
            hooks.save(&mut s.monitor);
        },
        &|hooks, _| hooks.restore(b"").unwrap(),
        &|hooks, s| hooks.upgrade_failed(&mut s.monitor, &failed),
        &|hooks, s| hooks.server_replaced(&mut s.monitor, s.busy, s.free),
        &|hooks, s| hooks.fork_failed(&mut s.monitor, &error, ms(10)),
        &|hooks, s| {
            let (since, waiting) = (s.monitor.now(), None);
            hooks.saturated(
                &mut s.monitor,
                &Saturation {
                    since,
                    waiting,
                    oldest: None,
                },
            );
        },
    ];
    let run = |(name, call): (&&str, Call<'_, H>)| {
        let mut scene = Scene::new();
        call(hooks, &mut scene);
        let own = calls.take();
        let first = own.first().cloned().unwrap_or_default();
        (
            format!("{name}: {first}"),
            format!("{own:?} {}", scene.effect()),
        )
    };
    NAMES.iter().zip(each).map(run).collect()
}

/// A monitor with a busy and a free child, both silent for long, and one child missing.
struct Scene {
    monitor: Monitor,
    busy: ChildId,
    free: ChildId,
    comm: Comm,
    server: RecordingServer,
}

impl Scene {
    fn new() -> Self {
        let mut monitor = monitor();
        monitor.set_timeout(ms(1000));
        monitor.set_min_spare_servers(2);
        let busy = child(&mut monitor, State::Busy);
        let free = child(&mut monitor, State::Free);
        crate::core::testing::go_to(&mut monitor, 5000);
        Self {
            monitor,
            busy,
            free,
            comm: ChildWorld::new().comm(CommWords::CONTROL),
            server: RecordingServer::default(),
        }
    }

    /// Everything that a hook can have changed.
    fn effect(mut self) -> String {
        let tasks = crate::core::testing::asked(&mut self.monitor);
        let children: Vec<_> = self
            .monitor
            .children()
            .map(|child| (child.id(), child.state(), child.last_ack()))
            .collect();
        let calls = self.server.calls.take();
        let (shutdown, deadline) = (self.monitor.is_shutdown(), self.monitor.deadline());
        format!("{tasks:?} {children:?} {calls:?} {shutdown} {deadline:?}")
    }
}

/// The methods of the trait, read from its text.
fn methods_of_the_trait() -> Vec<String> {
    let text = include_str!("mod.rs");
    let begin = text.find("pub trait PreForkHooks {").unwrap();
    let end = begin + text[begin..].find("\n}\n").unwrap();
    text[begin..end]
        .lines()
        .filter_map(|line| line.strip_prefix("    fn "))
        .map(|rest| rest.split('(').next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_list_of_hooks_is_complete() {
    assert_eq!(NAMES, methods_of_the_trait());
}

#[test]
fn every_hook_reaches_the_implementation_through_every_type_that_forwards() {
    let calls = Calls::default();
    let recorder = || HookRecorder(calls.clone());
    let expected: Vec<_> = NAMES
        .iter()
        .map(|name| format!("{name}: own {name}"))
        .collect();
    let reached = |outcome: Vec<(String, String)>| -> Vec<String> {
        outcome.into_iter().map(|(name, _)| name).collect()
    };
    let direct = call_all(&mut recorder(), &calls);
    assert_eq!(reached(direct), expected, "itself");
    let by_reference = call_all::<&mut HookRecorder>(&mut &mut recorder(), &calls);
    assert_eq!(reached(by_reference), expected, "&mut H");
    let boxed = call_all::<Box<HookRecorder>>(&mut Box::new(recorder()), &calls);
    assert_eq!(reached(boxed), expected, "Box<H>");
    let mut dynamic: Box<dyn PreForkHooks> = Box::new(recorder());
    let dynamic = call_all(&mut dynamic, &calls);
    assert_eq!(reached(dynamic), expected, "Box<dyn PreForkHooks>");
}

#[test]
fn an_override_that_calls_the_default_changes_nothing() {
    let calls = Calls::default();
    let by_override = call_all(&mut HookRecorder(calls.clone()), &calls);
    let by_default = call_all(&mut DefaultHooks, &calls);
    for ((name, own), (_, default)) in by_override.iter().zip(&by_default) {
        // The effect is the same; only the override's record is missing.
        let (_, own) = own.split_once(']').unwrap();
        let (_, default) = default.split_once(']').unwrap();
        assert_eq!(own, default, "{name}");
    }
}

#[test]
fn a_default_that_calls_another_method_calls_the_hook() {
    let calls = Calls::default();
    let outcome = call_all(&mut HookRecorder(calls.clone()), &calls);
    for (hook, called) in [
        ("server_timeout_busy", "server_timeout"),
        ("server_timeout_free", "server_timeout"),
        ("server_start", "handler_shutdown"),
        ("handler_start", "create_states"),
        ("handler_server_stderr", "server_stderr"),
        ("handler_server_ack", "server_busy"),
        ("handler_server_timeout_check", "server_timeout_free"),
        ("handler_server_timeout_check", "server_timeout_busy"),
    ] {
        let at = NAMES.iter().position(|name| *name == hook).unwrap();
        let calls = &outcome[at].1;
        assert!(calls.contains(&format!("\"own {called}\"")), "{calls}");
    }
}
