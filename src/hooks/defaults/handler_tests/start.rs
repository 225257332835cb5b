//! The default of `handler_start`.

use super::*;

/// Runs the default of `handler_start` on a fresh monitor.
fn start(timeout: u64, server: &mut RecordingServer) -> (Monitor, io::Result<()>) {
    let mut monitor = Monitor::default();
    monitor.set_timeout(ms(timeout));
    let mut hooks = NotingHooks(server.calls.clone());
    let started = handler_start(&mut hooks, &mut monitor, server);
    (monitor, started)
}

#[test]
fn handler_start_does_everything_in_its_order() {
    let mut server = RecordingServer::default();
    let (mut monitor, started) = start(10_000, &mut server);
    started.unwrap();
    assert_eq!(
        server.calls.take(),
        ["create_states", "set_send_ack Some(5s)", "start"]
    );
    assert_eq!(asked(&mut monitor), [PlainTask::Forkoff], "exactly one");
    assert_eq!(monitor.server_check_ack(), Some(ms(15_000)));
    assert_eq!(due_at(&mut monitor, 14_999), []);
    assert_eq!(due_at(&mut monitor, 15_000), [PlainTask::TimeoutCheck]);
    monitor.post("server_fork");
    assert_eq!(asked(&mut monitor), [PlainTask::ServerFork]);
}

#[test]
fn handler_start_without_a_timeout_sets_no_interval_and_no_alarm() {
    let mut server = RecordingServer::default();
    let (mut monitor, started) = start(0, &mut server);
    started.unwrap();
    assert_eq!(server.calls.take(), ["create_states", "start"]);
    assert_eq!(asked(&mut monitor), [PlainTask::Forkoff]);
    assert_eq!(monitor.deadline(), None);
    assert_eq!(monitor.server_check_ack(), None);
}

#[test]
fn handler_start_leaves_intervals_that_were_set() {
    let mut server = RecordingServer {
        send_ack: Some(ms(77)),
        ..RecordingServer::default()
    };
    let mut monitor = Monitor::default();
    monitor.set_timeout(ms(10_000));
    monitor.set_server_check_ack(Some(ms(600)));
    handler_start(&mut DefaultHooks, &mut monitor, &mut server).unwrap();
    assert_eq!(server.calls.take(), ["start"]);
    assert_eq!(server.send_ack, Some(ms(77)));
    assert_eq!(monitor.server_check_ack(), Some(ms(600)));
    assert_eq!(monitor.deadline(), Some(at(600)));
}

/// The start normalises the attributes and warns of each changed value.
#[test]
fn m01_handler_start_normalises_and_warns_of_each_value() {
    let mut monitor = Monitor::default();
    monitor.attributes.set(|asked| {
        asked.min_spare_servers = 0;
        asked.max_spare_servers = 0;
        asked.start_servers = 9;
        asked.max_clients = 3;
    });
    let mut server = RecordingServer::default();
    let text = warnings(|| {
        handler_start(&mut DefaultHooks, &mut monitor, &mut server).unwrap();
    });
    assert_eq!(
        text,
        [
            "min_spare_servers 0 makes no sense, using 1",
            "max_spare_servers 0 makes no sense, using 2",
            "start_servers 9 makes no sense, using 3",
        ]
    );
    assert_eq!(monitor.start_servers(), 3);
}

#[test]
fn handler_start_fails_with_the_server_and_forks_nothing() {
    let mut server = RecordingServer {
        broken: true,
        ..RecordingServer::default()
    };
    let (mut monitor, started) = start(10_000, &mut server);
    assert_eq!(started.unwrap_err().to_string(), "broken");
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(monitor.deadline(), None);
}

/// Watches a descriptor before the default of `handler_start` runs, and another while it does.
struct Watching(Vec<crate::core::states::WatchId>);

impl PreForkHooks for Watching {
    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        self.0.push(monitor.select_read(io::stdin(), "early")?);
        handler_start(self, monitor, server)
    }
    fn create_states(&mut self, states: &mut States) {
        create_states(self, states);
        self.0
            .push(states.select_write(io::stdin(), "late").unwrap());
    }
}

#[test]
fn handler_start_keeps_what_was_registered_before() {
    let mut monitor = Monitor::default();
    let mut hooks = Watching(Vec::new());
    let mut server = RecordingServer::default();
    hooks.handler_start(&mut monitor, &mut server).unwrap();
    monitor.post("early");
    assert_eq!(
        asked(&mut monitor),
        [
            PlainTask::Watch("early".to_owned()),
            PlainTask::Watch("late".to_owned()),
            PlainTask::Forkoff,
            PlainTask::State("early".to_owned()),
        ]
    );
    assert_ne!(hooks.0[0], hooks.0[1], "a name of a watch is used once");
}
