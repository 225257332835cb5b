//! The state of a server as one JSON document, `/status.json`. `docs/status.md` describes it; a key
//! that is there stays, and [`VERSION`] changes when one goes or changes its meaning.

use super::{
    history::{SPANS, Sample, mean_queued, per_second},
    names,
    picture::{Picture, ShownChild, StatusContext},
    texts::ListenerText,
};
use crate::core::{
    accept::refusal::Refusal,
    config::{Attribute, Config},
    json::{JsonWriter, Raw},
    metrics::{Distribution, Metric, Value},
    time::Time,
};
use std::time::Duration;

/// The version of the document.
const VERSION: u64 = 1;

/// The document.
pub(crate) fn render(context: &StatusContext<'_>) -> String {
    let picture = context.picture;
    JsonWriter::of(|json| {
        json.field("version", VERSION);
        json.object("server", |json| server(json, context));
        json.object("children", |json| children(json, picture));
        json.object("rates", |json| rates(json, context));
        json.object("history", |json| history(json, context));
        json.object("counters", |json| counters(json, picture));
        let listeners = picture.record.texts.listeners.iter().enumerate();
        json.objects("listeners", listeners, |json, (at, found)| {
            listener(json, found, picture.queue_times_of(at));
        });
        queue_time(
            json,
            "queue_time_of_others",
            picture.queue_times_of_others(),
        );
        json.object("attributes", |json| attributes(json, picture));
        let declared = picture.record.texts.metrics.iter();
        let shown = declared.map(|metric| metric.show(&picture.numbers));
        json.objects("metrics", shown, metric);
        json.objects("slots", &picture.children, |json, child| {
            slot(json, child, picture.now);
        });
        let deaths = picture.record.deaths.iter();
        json.values("deaths", deaths.map(|death| Raw(death)));
    })
}

fn server(json: &mut JsonWriter, context: &StatusContext<'_>) {
    let (picture, head) = (context.picture, &context.picture.record.head);
    json.field("crate_version", env!("CARGO_PKG_VERSION"));
    json.field("pid", head.pid);
    json.field("stage", picture.record.stage().as_str());
    json.field("ready", context.is_ready);
    json.field("drained", picture.record.is_drained());
    json.field("now", picture.time_of_day(picture.now));
    json.field("started_at", picture.time_of_day(Time::START));
    json.field("uptime_seconds", picture.now.since_start());
    json.field("epoch", head.epoch);
    json.field("reloading", head.is_reloading != 0);
    json.field("saturated_for_seconds", picture.saturated_for());
    json.field("oldest_ack_seconds", picture.oldest_ack());
}

fn children(json: &mut JsonWriter, picture: &Picture) {
    for (state, count) in picture.counts.named() {
        json.field(state, count);
    }
    let head = &picture.record.head;
    json.field("total", picture.counts.total());
    json.field("max", head.max_clients);
    json.field("spare_min", head.min_spare);
    json.field("spare_max", head.max_spare);
}

fn rates(json: &mut JsonWriter, context: &StatusContext<'_>) {
    let now = context.picture.sample();
    json.object("connections_per_second", |json| {
        for seconds in SPANS {
            let rate = context.history.rate(&now, Duration::from_secs(seconds));
            json.field(&format!("{seconds}s"), rate.map(rounded));
        }
    });
}

/// A rate with two digits after the point, which is more precise than the rate itself.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

fn history(json: &mut JsonWriter, context: &StatusContext<'_>) {
    let history = context.history;
    let busy = |_: &Sample, now: &Sample| now.busy;
    let all = |_: &Sample, now: &Sample| now.children;
    json.field("interval_seconds", 1_u64);
    json.values("busy", history.seconds(busy));
    json.values("children", history.seconds(all));
    let rates = history.seconds(|then, now| per_second(then, now).map(rounded));
    json.values("connections_per_second", rates);
    json.values("queue_seconds", history.seconds(mean_queued));
}

fn counters(json: &mut JsonWriter, picture: &Picture) {
    let (head, tallies) = (&picture.record.head, &picture.record.tallies);
    json.field("connections", picture.connections);
    json.field("forks", head.forks);
    json.field("fork_errors", head.failed_forks);
    json.field("reloads", head.reloads);
    json.field("failed_reloads", head.failed_reloads);
    json.field("upgrades", head.upgrades);
    json.field("takeovers", head.takeovers);
    json.field("lost_connections", head.lost_connections);
    json.field("saturations", head.saturations);
    json.field("saturated_seconds", saturated_seconds(picture));
    json.object("words", |json| {
        json.field("ack", head.acks);
        json.field("busy", head.busy_words);
        json.field("not_busy", head.not_busy_words);
    });
    json.field("output_dropped_bytes", head.output_dropped);
    json.field("hook_panics", head.hook_panics);
    json.field("slow_hooks", head.slow_hooks);
    json.object("refused_connections", |json| {
        for (reason, count) in Refusal::ALL.iter().zip(tallies.refusals) {
            json.field(&names::snake_case(reason), count);
        }
    });
    json.object("deaths", |json| {
        for (cause, count) in names::CAUSES.iter().zip(tallies.deaths) {
            json.field(&names::snake_case(cause), count);
        }
    });
}

/// How long the server has been saturated in all, as far as the parent has counted: the end of an
/// episode is known a second late, and nothing may be taken back from a sum.
pub(crate) fn saturated_seconds(picture: &Picture) -> Duration {
    Duration::from_nanos(picture.record.head.saturated_for)
}

fn listener(json: &mut JsonWriter, listener: &ListenerText, times: Option<&Distribution>) {
    json.field("name", &*listener.name);
    json.field("queued", listener.queued);
    json.field("limit", listener.limit);
    queue_time(json, "queue_time", times);
}

fn queue_time(json: &mut JsonWriter, key: &str, times: Option<&Distribution>) {
    match times {
        Some(times) => json.object(key, |json| {
            json.field("count", times.count());
            json.field("sum_seconds", times.sum);
            json.values("bounds", times.bounds.iter().copied());
            json.values("counts", times.counts.iter().copied());
        }),
        None => json.field(key, None::<u64>),
    }
}

fn attributes(json: &mut JsonWriter, picture: &Picture) {
    let (rows, defaults) = (Config::attributes(), Config::default());
    for (row, value) in rows.iter().zip(&picture.record.texts.attributes) {
        json.object(row.name, |json| attribute(json, row, value, &defaults));
    }
}

fn attribute(json: &mut JsonWriter, row: &Attribute, value: &str, defaults: &Config) {
    json.field("value", value);
    json.field("default", row.text(defaults));
    json.field("unit", row.unit);
    json.field("takes_effect", row.takes_effect.to_string());
}

fn metric(json: &mut JsonWriter, metric: Metric) {
    json.field("name", metric.name);
    match metric.value {
        Value::Counter(count) => {
            json.field("type", "counter");
            json.field("value", count);
        }
        Value::Histogram(distribution) => {
            json.field("type", "histogram");
            json.field("count", distribution.count());
            json.field("sum", distribution.sum);
            json.values("bounds", distribution.bounds);
            json.values("counts", distribution.counts);
        }
    }
}

fn slot(json: &mut JsonWriter, child: &ShownChild, now: Time) {
    let row = &child.row;
    let ago = |at: u64| now.since(Time::at_nanoseconds(at));
    json.field("slot", child.slot);
    json.field("id", child.id().to_string());
    json.field("pid", row.pid());
    json.field("state", names::state(child.state));
    json.field("ready", row.is_ready());
    json.field("epoch", row.epoch());
    json.field("age_seconds", ago(row.start_time));
    json.field("ack_age_seconds", ago(row.last_ack));
    json.field("connections", child.requests);
    json.field("busy_seconds", child.since.map(|since| now.since(since)));
    json.field("queued_seconds", child.queued);
    let description = child.description.as_ref();
    json.field("peer", description.and_then(|description| description.peer));
    json.field(
        "text",
        description.map_or("", |description| &description.text),
    );
    json.field("due", child.is_due);
    json.field("reason", row.reason());
    json.field("stopping_seconds", row.told_at.checked_sub(1).map(ago));
    json.field("memory_bytes", row.memory.checked_sub(1));
}
