//! `show`: the server and its children at this moment. Changes nothing.

use crate::core::{
    child::{Child, State},
    control::{Answer, Begun},
    json::Object,
    monitor::Monitor,
};

pub(in super::super) fn begin(monitor: &mut Monitor, _: &str) -> Begun {
    let census = monitor.pool.census();
    let report = monitor.report();
    let children = monitor.children().map(|child| row(monitor, child));
    let answer = Answer::ok()
        .with("pid", monitor.pid)
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("uptime", monitor.now().since_start())
        .with("state", state(monitor))
        .with("epoch", monitor.replacement.epoch())
        .with("starting", census.starting)
        .with("free", census.free)
        .with("busy", census.busy)
        .with("reserved", census.reserved)
        .with("retiring", census.retiring)
        .with("max_clients", monitor.max_clients())
        .with("forks", report.forks)
        .with("deaths", report.all_deaths())
        .with("lost_connections", report.lost_connections)
        .with("children", children.collect::<Vec<_>>());
    Begun::Done(answer)
}

fn state(monitor: &Monitor) -> &'static str {
    match (monitor.is_shutdown(), monitor.stop_begins_at()) {
        (true, _) => "stopping",
        (false, Some(_)) => "stop announced",
        (false, None) if monitor.is_reloading() => "reloading",
        (false, None) => "running",
    }
}

fn row(monitor: &Monitor, child: &Child) -> Object {
    let now = monitor.now();
    let state = match child.state() {
        State::Starting => "starting",
        State::Free => "free",
        State::Busy => "busy",
        State::Reserved => "reserved",
        State::Retiring => "retiring",
    };
    Object::new()
        .with("pid", child.pid())
        .with("state", state)
        .with("epoch", child.epoch())
        .with("age", now.since(child.start_time()))
        .with("connections", child.requests())
        .with("busy_for", child.busy_since().map(|since| now.since(since)))
}
