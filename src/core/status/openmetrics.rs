//! The state of a server as Prometheus scrapes it, in the text format of Prometheus or in OpenMetrics.
//! No child has samples of its own: names of processes as labels would never end.

use super::{
    document::saturated_seconds,
    names,
    picture::{Picture, StatusContext},
};
use crate::core::{
    accept::refusal::Refusal,
    metrics::{Distribution, Metric, Value},
};
use std::fmt::{Display, Write};

/// The label of all listeners that have no histogram of their own.
const OTHERS: &str = "others";

const QUEUE_TIMES: &str = "prefork_connection_queue_seconds";

/// Which of the two formats is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// Version 0.0.4 of Prometheus's text format.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format for a client whose `Accept` header is this.
    pub(crate) fn for_accept(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The kinds of families.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

/// What is written in one answer.
struct Exposition {
    format: Format,
    text: String,
    names: Vec<String>,
}

/// The text.
pub(crate) fn render(context: &StatusContext<'_>, format: Format) -> String {
    let mut text = Exposition {
        format,
        text: String::new(),
        names: Vec::new(),
    };
    server(&mut text, context);
    children(&mut text, context.picture);
    counters(&mut text, context.picture);
    listeners(&mut text, context.picture);
    for metric in &context.picture.record.texts.metrics {
        text.users(metric.show(&context.picture.numbers));
    }
    if format == Format::OpenMetrics {
        text.text.push_str("# EOF\n");
    }
    text.text
}

fn server(text: &mut Exposition, context: &StatusContext<'_>) {
    let picture = context.picture;
    let head = &picture.record.head;
    text.family(
        "prefork_build_info",
        FamilyKind::Gauge,
        "The version of prefork-server.",
    );
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.sample("prefork_build_info", &version, 1);
    text.gauge(
        "process_start_time_seconds",
        "When the server was started, since 1970.",
        head.started_at as f64 / 1e9,
    );
    let ready = u8::from(context.is_ready);
    text.gauge(
        "prefork_ready",
        "Whether clients should be sent here.",
        ready,
    );
    text.gauge(
        "prefork_epoch",
        "The number of the last reload.",
        head.epoch,
    );
}

fn children(text: &mut Exposition, picture: &Picture) {
    let head = &picture.record.head;
    text.family(
        "prefork_children",
        FamilyKind::Gauge,
        "Children by their state.",
    );
    for (state, count) in picture.counts.named() {
        text.sample("prefork_children", &[("state", state)], count);
    }
    text.gauge(
        "prefork_children_max",
        "The most children there may be.",
        head.max_clients,
    );
    text.gauge(
        "prefork_spare_min",
        "The fewest spare children.",
        head.min_spare,
    );
    text.gauge(
        "prefork_spare_max",
        "The most spare children.",
        head.max_spare,
    );
    if let Some(ack) = picture.oldest_ack() {
        text.gauge(
            "prefork_oldest_ack_seconds",
            "How long the most silent child has been silent.",
            ack.as_secs_f64(),
        );
    }
}

fn counters(text: &mut Exposition, picture: &Picture) {
    work(text, picture);
    saturations(text, picture);
    hooks(text, picture);
    exits(text, picture);
    refusals(text, picture);
    replacements(text, picture);
}

fn work(text: &mut Exposition, picture: &Picture) {
    let head = &picture.record.head;
    text.counter(
        "prefork_connections",
        "Connections taken.",
        picture.connections,
    );
    text.counter("prefork_forks", "Children forked.", head.forks);
    text.counter(
        "prefork_fork_errors",
        "Forks that failed.",
        head.failed_forks,
    );
    text.counter(
        "prefork_lost_connections",
        "Connections lost by children that died, and in the queue by a stop.",
        head.lost_connections,
    );
}

fn saturations(text: &mut Exposition, picture: &Picture) {
    text.counter(
        "prefork_saturated_seconds",
        "Time with as many children as there may be, and none free.",
        saturated_seconds(picture).as_secs_f64(),
    );
    text.counter(
        "prefork_saturations",
        "How often nobody was free and nobody could be forked for a second.",
        picture.record.head.saturations,
    );
}

/// What the parent could not do in time, or at all.
fn hooks(text: &mut Exposition, picture: &Picture) {
    let head = &picture.record.head;
    text.counter(
        "prefork_output_dropped_bytes",
        "Bytes of children's output that the parent could not pass on.",
        head.output_dropped,
    );
    text.counter(
        "prefork_hook_panics",
        "Hooks that panicked.",
        head.hook_panics,
    );
    text.counter(
        "prefork_slow_hooks",
        "Hooks that took 250 ms or more.",
        head.slow_hooks,
    );
}

fn exits(text: &mut Exposition, picture: &Picture) {
    let name = "prefork_child_exits";
    let help = "Children that ended, by the cause.";
    text.family(name, FamilyKind::Counter, help);
    let deaths = picture.record.tallies.deaths;
    for (cause, count) in names::CAUSES.iter().zip(deaths) {
        text.count(name, "reason", &names::snake_case(cause), count);
    }
}

fn refusals(text: &mut Exposition, picture: &Picture) {
    let name = "prefork_refused_connections";
    let help = "Connections that were accepted and not served, by the reason.";
    text.family(name, FamilyKind::Counter, help);
    let refusals = picture.record.tallies.refusals;
    for (reason, count) in Refusal::ALL.iter().zip(refusals) {
        text.count(name, "reason", &names::snake_case(reason), count);
    }
}

/// Children, programs and parents that have come in the place of others.
fn replacements(text: &mut Exposition, picture: &Picture) {
    let head = &picture.record.head;
    let name = "prefork_reloads";
    text.family(name, FamilyKind::Counter, "Reloads, by their result.");
    text.count(name, "result", "done", head.reloads);
    text.count(name, "result", "failed", head.failed_reloads);
    text.counter(
        "prefork_upgrades",
        "Upgrades to another program that are complete.",
        head.upgrades,
    );
    text.counter(
        "prefork_takeovers",
        "Parents that have taken over the children of one that was gone.",
        head.takeovers,
    );
}

fn listeners(text: &mut Exposition, picture: &Picture) {
    let names = picture.record.texts.listeners.iter();
    let queued = names.clone().map(|it| (&*it.name, it.queued));
    let help = "Connections that wait to be accepted.";
    text.known("prefork_listen_queue", help, queued);
    let limits = names.clone().map(|it| (&*it.name, it.limit));
    let help = "Connections that can wait to be accepted.";
    text.known("prefork_listen_queue_limit", help, limits);
    let own = names.enumerate();
    let own = own.filter_map(|(at, it)| Some((&*it.name, picture.queue_times_of(at)?)));
    let others = picture.queue_times_of_others().map(|times| (OTHERS, times));
    let times: Vec<_> = own.chain(others).collect();
    if !times.is_empty() {
        let help = "How long connections were queued.";
        text.family(QUEUE_TIMES, FamilyKind::Histogram, help);
    }
    for (listener, times) in times {
        text.distribution(QUEUE_TIMES, &[("listener", listener)], times);
    }
}

impl Exposition {
    /// Begins a family. In Prometheus's format a counter is named with its suffix here too.
    fn family(&mut self, name: &str, kind: FamilyKind, help: &str) {
        let suffix = match (kind, self.format) {
            (FamilyKind::Counter, Format::Prometheus) => "_total",
            _ => "",
        };
        let word = match kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
            FamilyKind::Histogram => "histogram",
        };
        self.names.push(name.to_owned());
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {word}");
        if self.format == Format::OpenMetrics && name.ends_with("_seconds") {
            let _ = writeln!(self.text, "# UNIT {name} seconds");
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, FamilyKind::Gauge, help);
        self.sample(name, &[], value);
    }

    /// What is known of listeners; nothing, if it is known of none.
    fn known<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (&'a str, Option<u32>)>,
    ) {
        let mut known = values.filter_map(|(of, value)| Some((of, value?)));
        if let Some(first) = known.next() {
            self.family(name, FamilyKind::Gauge, help);
            for (listener, value) in [first].into_iter().chain(known) {
                self.sample(name, &[("listener", listener)], value);
            }
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, FamilyKind::Counter, help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    /// A sample of a counter with a label.
    fn count(&mut self, name: &str, label: &str, value: &str, count: u64) {
        self.sample(&format!("{name}_total"), &[(label, value)], count);
    }

    /// A metric of the program, unless a family has its name already, which would spoil all.
    fn users(&mut self, metric: Metric) {
        let name = metric.name.strip_suffix("_total").unwrap_or(&metric.name);
        if self.names.iter().any(|known| known == name) {
            return;
        }
        match metric.value {
            Value::Counter(count) => self.counter(name, "A counter of the program.", count),
            Value::Histogram(distribution) => {
                self.family(name, FamilyKind::Histogram, "A histogram of the program.");
                self.distribution(name, &[], &distribution);
            }
        }
    }

    fn distribution(&mut self, name: &str, labels: &[(&str, &str)], found: &Distribution) {
        let bounds = found.bounds.iter().map(|bound| format_bound(*bound));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut below = 0_u64;
        for (bound, count) in bounds.zip(&found.counts) {
            below = below.saturating_add(*count);
            let labels = [labels, &[("le", &*bound)]].concat();
            self.sample(&format!("{name}_bucket"), &labels, below);
        }
        self.sample(&format!("{name}_count"), labels, below);
        self.sample(&format!("{name}_sum"), labels, found.sum);
    }
}

/// A bound as OpenMetrics wants it: with a point.
fn format_bound(bound: f64) -> String {
    format!("{bound:?}")
}

fn escaped(value: &str) -> String {
    let escape = |char| match char {
        '\\' => "\\\\".to_owned(),
        '"' => "\\\"".to_owned(),
        '\n' => "\\n".to_owned(),
        other => String::from(other),
    };
    value.chars().map(escape).collect()
}
