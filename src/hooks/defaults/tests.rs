//! The defaults of the original's methods and of the new ones: what each asks for, and what it
//! changes in the monitor.

use super::*;
use crate::hooks::testing::{Calls, ChildWorld, RecordingServer};
use crate::{
    core::{
        child::{ChildFlags, State},
        testing::{
            PlainTask, asked, at, child, children, due_at, ended_by_signal, go_to, int, kill,
            monitor, ms, sized, state, warnings,
        },
        time::Time,
        wire::CommWords,
    },
    hooks::DefaultHooks,
};

/// A child that has been reaped and its name.
fn stale(monitor: &mut Monitor) -> ChildId {
    let gone = child(monitor, State::Free);
    assert!(monitor.exited(gone, None).is_some());
    gone
}

#[test]
fn server_ack_records_the_time_and_nothing_else_does() {
    let mut monitor = monitor();
    let [quiet, loud] = children(&mut monitor, [State::Free; 2]);
    go_to(&mut monitor, 700);
    server_busy(&mut DefaultHooks, &mut monitor, quiet);
    server_not_busy(&mut DefaultHooks, &mut monitor, quiet);
    server_stdout(&mut DefaultHooks, &mut monitor, quiet, &Line::whole("x"));
    asked(&mut monitor);
    server_ack(&mut DefaultHooks, &mut monitor, loud);
    assert_eq!(asked(&mut monitor), []);
    let record = |id| monitor.child(id).unwrap();
    assert_eq!(record(quiet).last_ack(), Time::START);
    assert_eq!(record(loud).last_ack(), at(700));
    assert_eq!(record(loud).start_time(), Time::START);
    assert!(record(loud).flags.contains(ChildFlags::ACKED));
    assert!(!record(quiet).flags.contains(ChildFlags::ACKED));
    assert_eq!(state(&monitor, loud), State::Free);
}

#[test]
fn server_busy_moves_the_child_and_posts_forkoff_if_it_moved() {
    let mut monitor = monitor();
    let [starting, free, retiring] = children(
        &mut monitor,
        [State::Starting, State::Free, State::Retiring],
    );
    for child in [starting, free] {
        server_busy(&mut DefaultHooks, &mut monitor, child);
        assert_eq!(state(&monitor, child), State::Busy);
        assert_eq!(asked(&mut monitor), [PlainTask::Forkoff]);
        server_busy(&mut DefaultHooks, &mut monitor, child);
        assert_eq!(state(&monitor, child), State::Busy);
        assert_eq!(asked(&mut monitor), []);
    }
    server_busy(&mut DefaultHooks, &mut monitor, retiring);
    assert_eq!(state(&monitor, retiring), State::Retiring);
    assert_eq!(asked(&mut monitor), []);
    let busy: Vec<_> = monitor.busy_servers().map(Child::id).collect();
    assert_eq!(busy, [starting, free]);
    assert_eq!(monitor.free_servers().count(), 0);
}

#[test]
fn server_not_busy_moves_the_child_and_posts_forkoff_if_it_moved() {
    let mut monitor = monitor();
    let [busy, retiring, free] =
        children(&mut monitor, [State::Busy, State::Retiring, State::Free]);
    server_not_busy(&mut DefaultHooks, &mut monitor, busy);
    assert_eq!(state(&monitor, busy), State::Free);
    assert_eq!(asked(&mut monitor), [PlainTask::Forkoff]);
    for (child, stays) in [
        (busy, State::Free),
        (retiring, State::Retiring),
        (free, State::Free),
    ] {
        server_not_busy(&mut DefaultHooks, &mut monitor, child);
        assert_eq!(state(&monitor, child), stays);
        assert_eq!(asked(&mut monitor), []);
    }
}

#[test]
fn of_forkoff_one_waits_in_the_queue() {
    let mut monitor = monitor();
    let [a, b] = children(&mut monitor, [State::Free; 2]);
    server_busy(&mut DefaultHooks, &mut monitor, a);
    monitor.post("forkoff");
    monitor.post("own");
    server_busy(&mut DefaultHooks, &mut monitor, b);
    monitor.post("own");
    let own = || PlainTask::State("own".to_owned());
    assert_eq!(asked(&mut monitor), [PlainTask::Forkoff, own(), own()]);
    monitor.post("forkoff");
    assert_eq!(
        asked(&mut monitor),
        [PlainTask::Forkoff],
        "the next is heard"
    );
}

#[test]
fn server_timeout_sends_sigint_and_no_more() {
    let mut monitor = monitor();
    let child = child(&mut monitor, State::Busy);
    server_timeout(&mut DefaultHooks, &mut monitor, child);
    assert_eq!(asked(&mut monitor), [int(child)]);
    assert_eq!(state(&monitor, child), State::Busy);
    assert!(
        monitor
            .child(child)
            .unwrap()
            .flags
            .contains(ChildFlags::INT_SENT)
    );
    assert_eq!(due_at(&mut monitor, 99_000), [], "nothing escalates");
}

/// Overrides `server_timeout` so that it does nothing.
struct Lenient;

impl PreForkHooks for Lenient {
    fn server_timeout(&mut self, _: &mut Monitor, _: ChildId) {}
}

#[test]
fn a_timed_out_child_gets_server_timeout_and_retires() {
    for was in [State::Busy, State::Free, State::Starting] {
        let timed_out = |hooks: &mut dyn PreForkHooks, monitor: &mut Monitor, child| match was {
            State::Busy => server_timeout_busy(hooks, monitor, child),
            _ => server_timeout_free(hooks, monitor, child),
        };
        let mut monitor = monitor();
        let [told, spared] = children(&mut monitor, [was; 2]);
        timed_out(&mut DefaultHooks, &mut monitor, told);
        assert_eq!(asked(&mut monitor), [int(told)]);
        timed_out(&mut Lenient, &mut monitor, spared);
        assert_eq!(asked(&mut monitor), [], "it is the hook that signals");
        for child in [told, spared] {
            assert_eq!(state(&monitor, child), State::Retiring);
            let reason = monitor.child(child).unwrap().reason();
            assert_eq!(reason, Some(Reason::TimedOut));
        }
        assert_eq!(monitor.hook, "", "no name is left behind");
        assert_eq!(due_at(&mut monitor, 9_999), []);
        let killed = due_at(&mut monitor, 10_000);
        assert_eq!(killed, [kill(told), kill(spared)]);
    }
}

#[test]
fn output_is_printed_with_the_pid_and_cannot_command_a_terminal() {
    let mut monitor = monitor();
    let child = child(&mut monitor, State::Free);
    let line = Line::whole("a\x1b[2Jé\r");
    server_stdout(&mut DefaultHooks, &mut monitor, child, &line);
    server_stderr(&mut DefaultHooks, &mut monitor, child, &line);
    server_stdout(&mut DefaultHooks, &mut monitor, child, &Line::whole(""));
    assert_eq!(
        asked(&mut monitor),
        [
            PlainTask::Stdout("1001 STDOUT: a\\x1b[2Jé\\r\n".to_owned()),
            PlainTask::Stderr("1001 STDERR: a\\x1b[2Jé\\r\n".to_owned()),
            PlainTask::Stdout("1001 STDOUT: \n".to_owned()),
        ]
    );
}

/// Every method accepts the name of a reaped child, and does nothing.
#[test]
fn c16_a_stale_name_does_nothing_in_any_method() {
    let mut monitor = monitor();
    let gone = stale(&mut monitor);
    let newcomer = child(&mut monitor, State::Starting);
    assert_eq!(newcomer.slot(), gone.slot());
    asked(&mut monitor);
    let (hooks, line) = (&mut DefaultHooks, &Line::whole("x"));
    go_to(&mut monitor, 500);
    server_ack(hooks, &mut monitor, gone);
    server_busy(hooks, &mut monitor, gone);
    server_not_busy(hooks, &mut monitor, gone);
    server_timeout(hooks, &mut monitor, gone);
    server_timeout_busy(hooks, &mut monitor, gone);
    server_timeout_free(hooks, &mut monitor, gone);
    server_stdout(hooks, &mut monitor, gone, line);
    server_stderr(hooks, &mut monitor, gone, line);
    assert_eq!(asked(&mut monitor), []);
    let record = monitor.child(newcomer).unwrap();
    assert_eq!(record.state(), State::Starting);
    assert_eq!(record.last_ack(), Time::START);
    assert_eq!(record.reason(), None);
}

/// Notes when `handler_shutdown` is called, and calls the default.
struct Leaving(Calls);

impl PreForkHooks for Leaving {
    fn handler_shutdown(&mut self, monitor: &mut Monitor) {
        let (child, count) = (monitor.is_child(), monitor.children().count());
        self.0.note(format!("handler_shutdown {child} {count}"));
        handler_shutdown(self, monitor);
    }
}

#[test]
fn server_start_makes_the_books_a_childs_and_asks_for_resume_accept() {
    let mut monitor = monitor();
    children(&mut monitor, [State::Free, State::Busy]);
    monitor.post("forkoff");
    monitor.delay_set("own", ms(10));
    let calls = Calls::default();
    let mut server = RecordingServer {
        calls: calls.clone(),
        ..RecordingServer::default()
    };
    let world = ChildWorld::new();
    let mut comm = world.comm(CommWords::CONTROL);
    let mut start = Start::new(&mut monitor, &mut comm, &mut server);
    server_start(&mut Leaving(calls.clone()), &mut start).unwrap();
    assert_eq!(calls.take(), ["handler_shutdown true 2"]);
    assert_eq!(
        world.said(),
        [[0; 0]; 0],
        "nothing is said before it serves"
    );
    start.serve().unwrap();
    assert_eq!(calls.take(), ["resume_accept"]);
    assert_eq!(world.said(), [b"\n\x06\n"], "it lives, and no more");
    assert!(monitor.is_child() && monitor.is_shutdown());
    assert_eq!(monitor.children().count(), 0);
    assert_eq!(asked(&mut monitor), [], "no signal for the siblings");
    assert_eq!(monitor.deadline(), None);
    assert!(!monitor.fork(), "a child forks no children");
}

#[test]
fn without_the_default_of_server_start_nothing_is_served() {
    let mut monitor = monitor();
    let calls = Calls::default();
    let mut server = RecordingServer {
        calls: calls.clone(),
        ..RecordingServer::default()
    };
    let world = ChildWorld::new();
    let mut comm = world.comm(CommWords::CONTROL);
    let mut start = Start::new(&mut monitor, &mut comm, &mut server);
    start.serve().unwrap();
    assert_eq!(calls.take(), [""; 0]);
    assert_eq!(world.said(), [[0; 0]; 0]);
}

#[test]
fn serving_sends_acks_at_the_servers_interval() {
    let mut monitor = monitor();
    let mut server = RecordingServer {
        send_ack: Some(ms(700)),
        ..RecordingServer::default()
    };
    let world = ChildWorld::new();
    let mut comm = world.comm(CommWords::CONTROL);
    let mut start = Start::new(&mut monitor, &mut comm, &mut server);
    start.resume_accept();
    start.serve().unwrap();
    comm.wait(&[]).unwrap();
    assert_eq!(world.waits(), [Some(ms(700))]);
}

#[test]
fn create_states_registers_the_documented_ones() {
    let mut states = States::default();
    create_states(&mut DefaultHooks, &mut states);
    let mut documented = DOCUMENTED_STATES.to_vec();
    documented.sort_unstable();
    assert_eq!(states.names().collect::<Vec<_>>(), documented);
}

#[test]
fn the_hooks_of_our_own_ask_for_nothing() {
    let mut monitor = sized(1, 2, 5, 50);
    let [child, dead] = children(&mut monitor, [State::Free; 2]);
    let (record, death) = monitor.exited(dead, ended_by_signal(9)).unwrap();
    asked(&mut monitor);
    let hooks = &mut DefaultHooks;
    before_fork(hooks, &mut monitor);
    server_forked(hooks, &mut monitor, child);
    server_exited(hooks, &mut monitor, &record, &death);
    handler_state(hooks, &mut monitor, "own");
    let (since, waiting) = (monitor.now(), Some(7));
    saturated(
        hooks,
        &mut monitor,
        &Saturation {
            since,
            waiting,
            oldest: None,
        },
    );
    let text = warnings(|| {
        let error = io::Error::from_raw_os_error(11);
        fork_failed(hooks, &mut monitor, &error, ms(100));
    });
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(text.len(), 1);
    assert!(text[0].starts_with("fork failed:"), "{text:?}");
    assert!(text[0].ends_with("next attempt in 100ms"), "{text:?}");
    let world = ChildWorld::new();
    let mut comm = world.comm(CommWords::CONTROL);
    let mut server = RecordingServer::default();
    let mut start = Start::new(&mut monitor, &mut comm, &mut server);
    server_exiting(hooks, &mut start);
    assert_eq!(world.said(), [[0; 0]; 0]);
}
