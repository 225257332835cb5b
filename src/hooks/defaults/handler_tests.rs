//! The defaults of the handlers: what each asks for, which hooks it calls, what it changes in the
//! monitor.

mod start;

use super::*;
use crate::hooks::testing::{Calls, RecordingServer};
use crate::{
    core::{
        child::State,
        testing::{
            PlainTask, asked, at, child, children, due_at, go_to, int, kill, monitor, ms, sized,
            state, warnings,
        },
    },
    hooks::DefaultHooks,
};

/// Notes every method that a handler's default calls; `create_states` and the two timeouts go on to
/// their defaults, the words do not.
struct NotingHooks(Calls);

impl PreForkHooks for NotingHooks {
    fn create_states(&mut self, states: &mut States) {
        self.0.note("create_states");
        create_states(self, states);
    }
    fn server_ack(&mut self, _: &mut Monitor, child: ChildId) {
        self.0.note(format!("server_ack {child}"));
    }
    fn server_busy(&mut self, _: &mut Monitor, child: ChildId) {
        self.0.note(format!("server_busy {child}"));
    }
    fn server_not_busy(&mut self, _: &mut Monitor, child: ChildId) {
        self.0.note(format!("server_not_busy {child}"));
    }
    fn server_stdout(&mut self, _: &mut Monitor, child: ChildId, line: &Line) {
        self.0
            .note(format!("server_stdout {child} {:?}", line.bytes()));
    }
    fn server_stderr(&mut self, _: &mut Monitor, child: ChildId, line: &Line) {
        self.0
            .note(format!("server_stderr {child} {:?}", line.bytes()));
    }
    fn server_timeout_free(&mut self, monitor: &mut Monitor, child: ChildId) {
        self.0.note(format!("server_timeout_free {child}"));
        server_timeout_free(self, monitor, child);
    }
    fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        self.0.note(format!("server_timeout_busy {child}"));
        server_timeout_busy(self, monitor, child);
    }
}

fn noting() -> (Calls, NotingHooks) {
    let calls = Calls::default();
    (calls.clone(), NotingHooks(calls))
}

#[test]
fn handler_child_shuts_down_once() {
    let mut monitor = monitor();
    let lost = io::Error::other("lost");
    handler_child(&mut DefaultHooks, &mut monitor, &lost);
    assert_eq!(asked(&mut monitor), [PlainTask::Shutdown]);
    monitor.begin_shutdown();
    handler_child(&mut DefaultHooks, &mut monitor, &lost);
    assert_eq!(asked(&mut monitor), []);
}

#[test]
fn handler_stop_stops_the_server_and_empties_the_tables() {
    let mut monitor = monitor();
    let child = child(&mut monitor, State::Busy);
    monitor.post("own");
    monitor.delay_set("own", ms(10));
    let mut server = RecordingServer::default();
    handler_stop(&mut DefaultHooks, &mut monitor, &mut server);
    assert_eq!(server.calls.take(), ["stop"]);
    assert!(monitor.child(child).is_none());
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(monitor.deadline(), None);
}

#[test]
fn handler_run_error_warns_and_shuts_down_if_it_is_to() {
    let mut monitor = monitor();
    monitor.pid = 7;
    let child = child(&mut monitor, State::Free);
    let denied = io::Error::from_raw_os_error(13);
    let run_error = |monitor: &mut Monitor, error: &io::Error, child| {
        let text = warnings(|| {
            handler_run_error(&mut DefaultHooks, monitor, Operation::Read, error, child);
        });
        (text, asked(monitor))
    };
    let (text, tasks) = run_error(&mut monitor, &denied, Some(child));
    assert_eq!(text, ["1001 got read error 13 (Permission denied)"]);
    assert_eq!(tasks, [PlainTask::Shutdown]);
    monitor.set_shutdown_on_error(false);
    let (text, tasks) = run_error(&mut monitor, &io::Error::other("odd"), None);
    assert_eq!(text, ["7 got read error 0 (odd)"]);
    assert_eq!(tasks, []);
    assert_eq!(state(&monitor, child), State::Free);
}

#[test]
fn handler_shutdown_in_the_parent_tells_every_child_and_removes_every_alarm() {
    let mut monitor = monitor();
    let all = [State::Starting, State::Free, State::Busy, State::Retiring];
    let all = children(&mut monitor, all);
    monitor.delay_set("own", ms(10));
    monitor.delay_set("server_timeout_check", ms(10));
    handler_shutdown(&mut DefaultHooks, &mut monitor);
    assert!(monitor.is_shutdown() && !monitor.is_child());
    assert_eq!(asked(&mut monitor), all.map(int));
    assert_eq!(monitor.retiring_servers().count(), 4);
    assert_eq!(due_at(&mut monitor, 999), [], "no alarm went off");
    // The child that is still starting has `drain_timeout`.
    assert_eq!(due_at(&mut monitor, 1_000), [kill(all[0])]);
    assert_eq!(due_at(&mut monitor, 9_999), []);
    // The child that was told to stop before keeps its earlier limit.
    assert_eq!(due_at(&mut monitor, 10_000), [kill(all[3])]);
    assert_eq!(monitor.deadline(), Some(at(30_000)));
    let rest = [kill(all[1]), kill(all[2])];
    assert_eq!(due_at(&mut monitor, 30_000), rest);
    assert!(!monitor.fork(), "nothing is forked any more");
    handler_forkoff(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), []);
}

#[test]
fn a_timeout_check_that_waits_behind_the_shutdown_sets_no_timer() {
    let mut monitor = monitor();
    monitor.set_timeout(ms(1000));
    handler_shutdown(&mut DefaultHooks, &mut monitor);
    handler_server_timeout_check(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(monitor.deadline(), None);
}

#[test]
fn handler_shutdown_in_a_child_drops_the_parents_books() {
    let mut monitor = monitor();
    children(&mut monitor, [State::Free, State::Busy]);
    monitor.delay_set("own", ms(10));
    monitor.post("own");
    monitor.become_child();
    handler_shutdown(&mut DefaultHooks, &mut monitor);
    assert!(monitor.is_shutdown());
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(monitor.children().count(), 0);
    assert_eq!(monitor.deadline(), None);
}

#[test]
fn handler_server_closed_posts_forkoff_but_in_a_shutdown() {
    let mut monitor = monitor();
    let child = child(&mut monitor, State::Free);
    handler_server_closed(&mut DefaultHooks, &mut monitor, child);
    assert_eq!(asked(&mut monitor), [PlainTask::Forkoff]);
    monitor.begin_shutdown();
    handler_server_closed(&mut DefaultHooks, &mut monitor, child);
    assert_eq!(asked(&mut monitor), []);
}

#[test]
fn handler_server_stderr_calls_server_stderr() {
    let mut monitor = monitor();
    let child = child(&mut monitor, State::Free);
    let (calls, mut hooks) = noting();
    handler_server_stderr(&mut hooks, &mut monitor, child, &Line::whole("x"));
    assert_eq!(calls.take(), [format!("server_stderr {child} [120]")]);
    assert_eq!(asked(&mut monitor), []);
}

#[test]
fn handler_server_ack_calls_the_method_for_each_word_and_for_a_line() {
    let mut monitor = monitor();
    let child = child(&mut monitor, State::Free);
    let (calls, mut hooks) = noting();
    for (output, method) in [
        (Output::Word(Word::Ack), "server_ack"),
        (Output::Word(Word::Busy), "server_busy"),
        (Output::Word(Word::NotBusy), "server_not_busy"),
    ] {
        handler_server_ack(&mut hooks, &mut monitor, child, output);
        assert_eq!(calls.take(), [format!("{method} {child}")]);
    }
    let line = Line::whole([0x06]);
    handler_server_ack(&mut hooks, &mut monitor, child, Output::Line(&line));
    assert_eq!(calls.take(), [format!("server_stdout {child} [6]")]);
    assert_eq!(asked(&mut monitor), []);
}

#[test]
fn handler_server_timeout_check_offers_the_silent_free_ones_first() {
    let mut monitor = monitor();
    monitor.set_timeout(ms(1000));
    let states = [
        State::Busy,
        State::Free,
        State::Retiring,
        State::Starting,
        State::Busy,
        State::Free,
    ];
    let [busy, free, _, starting, unread, alive] = children(&mut monitor, states);
    monitor.set_unread(unread, true);
    go_to(&mut monitor, 500);
    server_ack(&mut DefaultHooks, &mut monitor, alive);
    go_to(&mut monitor, 1500);
    let (calls, mut hooks) = noting();
    handler_server_timeout_check(&mut hooks, &mut monitor);
    assert_eq!(
        calls.take(),
        [
            format!("server_timeout_free {free}"),
            format!("server_timeout_free {starting}"),
            format!("server_timeout_busy {busy}"),
        ]
    );
    let told = [int(free), int(starting), int(busy), PlainTask::Forkoff];
    assert_eq!(asked(&mut monitor), told);
    assert_eq!(state(&monitor, unread), State::Busy);
    assert_eq!(state(&monitor, alive), State::Free);
    // The timer is set again, with the current interval.
    assert_eq!(monitor.deadline(), Some(at(3000)));
    go_to(&mut monitor, 1501);
    monitor.set_unread(unread, false);
    monitor.set_server_check_ack(Some(ms(40)));
    handler_server_timeout_check(&mut hooks, &mut monitor);
    let next = [
        format!("server_timeout_free {alive}"),
        format!("server_timeout_busy {unread}"),
    ];
    assert_eq!(calls.take(), next, "what was spared is offered again");
    assert_eq!(monitor.deadline(), Some(at(1541)));
}

#[test]
fn handler_server_timeout_check_without_a_silent_child_only_arms_again() {
    let mut monitor = monitor();
    monitor.set_timeout(ms(1000));
    children(&mut monitor, [State::Free, State::Busy]);
    go_to(&mut monitor, 1000);
    handler_server_timeout_check(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(monitor.deadline(), Some(at(2500)));
    // Without a timeout it sets no timer and reports no child.
    monitor.alarm_remove_all();
    monitor.set_timeout(ms(0));
    go_to(&mut monitor, 9_000_000);
    handler_server_timeout_check(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(monitor.deadline(), None);
}

#[test]
fn handler_forkoff_starts_the_first_children() {
    let mut monitor = sized(1, 2, 5, 50);
    handler_forkoff(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), [const { PlainTask::ServerFork }; 5]);
    // Forks that are queued count.
    monitor.post("server_fork");
    handler_forkoff(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), [PlainTask::ServerFork]);
}

#[test]
fn handler_forkoff_posts_a_server_fork_for_each_child_that_is_missing() {
    let mut monitor = sized(3, 5, 5, 6);
    children(&mut monitor, [State::Busy, State::Starting]);
    handler_forkoff(&mut DefaultHooks, &mut monitor);
    assert_eq!(
        asked(&mut monitor),
        [PlainTask::ServerFork, PlainTask::ServerFork]
    );
    children(
        &mut monitor,
        [State::Retiring, State::Retiring, State::Busy],
    );
    handler_forkoff(&mut DefaultHooks, &mut monitor);
    assert_eq!(
        asked(&mut monitor),
        [PlainTask::ServerFork],
        "no more than six"
    );
}

#[test]
fn handler_server_fork_asks_for_one_fork_if_max_clients_allows_it() {
    let mut monitor = sized(1, 2, 3, 3);
    children(&mut monitor, [State::Busy, State::Retiring]);
    handler_server_fork(&mut DefaultHooks, &mut monitor);
    handler_server_fork(&mut DefaultHooks, &mut monitor);
    assert_eq!(
        asked(&mut monitor),
        [PlainTask::Fork],
        "the retiring one counts"
    );
    child(&mut monitor, State::Free);
    handler_server_fork(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), []);
}

/// The loop's part: performs what is queued, forks included, and counts them.
fn perform(monitor: &mut Monitor) -> usize {
    let mut forks = 0;
    loop {
        let tasks = asked_one(monitor);
        match tasks {
            None => return forks,
            Some(PlainTask::Forkoff) => handler_forkoff(&mut DefaultHooks, monitor),
            Some(PlainTask::ServerFork) => handler_server_fork(&mut DefaultHooks, monitor),
            Some(PlainTask::Fork) => {
                child(monitor, State::Starting);
                forks += 1;
            }
            Some(other) => panic!("{other:?}"),
        }
    }
}

fn asked_one(monitor: &mut Monitor) -> Option<PlainTask> {
    let task = monitor.queue.pop()?;
    let mut one = Monitor::default();
    one.queue.push(task);
    asked(&mut one).pop()
}

#[test]
fn however_often_server_fork_is_posted_max_clients_holds() {
    let mut monitor = sized(1, 2, 3, 7);
    for _ in 0..40 {
        monitor.post("server_fork");
    }
    assert_eq!(perform(&mut monitor), 7);
    monitor.post("forkoff");
    monitor.post("server_fork");
    assert_eq!(perform(&mut monitor), 0);
}
