//! `show`: the server and its children at this moment. Changes nothing.

use crate::core::{
    child::{Child, State},
    control::{Answer, BegunCommand},
    json::JsonWriter,
    monitor::Monitor,
};

pub(in super::super) fn begin(monitor: &mut Monitor, _: &str) -> BegunCommand {
    BegunCommand::Done(Answer::ok(|json| {
        write_server(json, monitor);
        json.objects("children", monitor.children(), |json, child| {
            write_child(json, monitor, child);
        });
    }))
}

fn write_server(json: &mut JsonWriter, monitor: &Monitor) {
    let (census, report) = (monitor.pool.census(), monitor.report());
    json.field("pid", monitor.pid);
    json.field("version", env!("CARGO_PKG_VERSION"));
    json.field("uptime", monitor.now().since_start());
    json.field("state", state(monitor));
    json.field("drained", monitor.is_drained);
    json.field("epoch", monitor.replacement.epoch());
    json.field("starting", census.starting);
    json.field("free", census.free);
    json.field("busy", census.busy);
    json.field("reserved", census.reserved);
    json.field("retiring", census.retiring);
    json.field("max_clients", monitor.max_clients());
    json.field("forks", report.forks);
    json.field("deaths", report.all_deaths());
    json.field("lost_connections", report.lost_connections);
}

fn state(monitor: &Monitor) -> &'static str {
    match (monitor.is_shutdown(), monitor.stop_begins_at()) {
        (true, _) => "stopping",
        (false, Some(_)) => "stop announced",
        (false, None) if monitor.is_reloading() => "reloading",
        (false, None) => "running",
    }
}

fn write_child(json: &mut JsonWriter, monitor: &Monitor, child: &Child) {
    let now = monitor.now();
    json.field("pid", child.pid());
    json.field(
        "state",
        match child.state() {
            State::Starting => "starting",
            State::Free => "free",
            State::Busy => "busy",
            State::Reserved => "reserved",
            State::Retiring => "retiring",
        },
    );
    json.field("epoch", child.epoch());
    json.field("age", now.since(child.start_time()));
    json.field("connections", child.believed_requests(now));
    json.field("busy_for", child.busy_since().map(|since| now.since(since)));
}
