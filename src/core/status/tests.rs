//! The texts of the status helper, from pictures made by hand.

use super::{
    document,
    figures::{Head, Known, Row, Slotless},
    history::History,
    openmetrics::{self, Format},
    picture::{BoardLook, Picture, ReportedSums, StatusContext},
    record::StatusRecord,
    texts::{ListenerText, RecordTexts},
};
use crate::core::{
    board::{Description, SlotNotes, Sums, View},
    child::{Child, ChildFlags, ChildId, State},
    config::Config,
    metrics::{Declared, Distribution, Metric, MetricNumbers},
    monitor::Monitor,
    queue_times::{self, QUEUE_WORDS, QueueTimes},
    time::Time,
    wire::BoardEntry,
};
use std::time::Duration;

/// A board on which every child has noted the same.
#[derive(Debug)]
struct UniformBoard(SlotNotes);

impl View for UniformBoard {
    fn notes(&self, _: usize, _: Time) -> SlotNotes {
        self.0
    }

    fn description(&self, _: usize) -> Option<Description> {
        Some(Description {
            peer: Some(([192, 0, 2, 1], 80).into()),
            text: "GET /\"".to_owned(),
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    fn used_slots(&self) -> usize {
        3
    }

    fn queue_times(&self) -> QueueTimes {
        let mut words = [0; QUEUE_WORDS];
        for queued in [4, 30] {
            let (bucket, sum) = queue_times::places(0, Duration::from_millis(queued));
            words[bucket] += 1;
            words[sum] += queued * 1_000_000;
        }
        QueueTimes::read(|at| words[at])
    }

    fn sums(&self, _: bool) -> Option<Sums> {
        let ones = |_| 1;
        Some(Sums {
            numbers: MetricNumbers::read(ones),
            queue_times: self.queue_times(),
        })
    }
}

fn at(seconds: u64) -> Time {
    Time::at(Duration::from_secs(seconds))
}

fn child(slot: u32, state: State) -> (usize, Row) {
    let mut child = Child::new(ChildId::new(slot, 7), 100 + slot, at(1), Duration::ZERO);
    child.state = state;
    child.flags |= ChildFlags::READY;
    child.said_requests = 3;
    (slot as usize, Row::of(&child))
}

fn picture(notes: SlotNotes) -> Picture {
    let declared = |name: &str, first, sum, bounds: &[f64]| Declared {
        name: name.to_owned(),
        first,
        sum,
        bounds: bounds.to_vec(),
    };
    let record = StatusRecord {
        head: Head {
            pid: 42,
            stage: super::Stage::Serving.word(),
            ended_connections: 10,
            max_clients: 50,
            ..Head::default()
        },
        texts: RecordTexts {
            attributes: RecordTexts::attributes_of(&Config::default()),
            listeners: vec![ListenerText {
                name: "/run/\"s".to_owned(),
                queued: Some(4),
                limit: Some(128),
            }],
            metrics: vec![
                declared("pages", 0, None, &[]),
                declared("render_seconds", 1, Some(0), &[0.5, 1.0]),
                declared("prefork_children", 5, None, &[]),
            ],
        },
        rows: vec![
            child(0, State::Free),
            child(1, State::Busy),
            child(2, State::Retiring),
        ],
        ..StatusRecord::default()
    };
    let board = UniformBoard(notes);
    let mut told = ReportedSums::default();
    told.note(board.sums(true));
    Picture::new(BoardLook::at(&board, at(11)), record, &mut told, at(11))
}

fn spoken(busy: bool) -> SlotNotes {
    SlotNotes {
        entry: BoardEntry::of(7).after(busy),
        requests: 5,
        since: busy.then(|| at(9)),
        queued: Some(Duration::from_millis(8)),
        ..SlotNotes::default()
    }
}

fn with<R>(picture: &Picture, render: impl FnOnce(&StatusContext<'_>) -> R) -> R {
    let history = &History::default();
    render(&StatusContext {
        picture,
        history,
        is_ready: true,
    })
}

#[test]
fn what_children_note_is_newer_than_what_the_parent_has_heard() {
    let busy = picture(spoken(true));
    assert_eq!((busy.counts.busy, busy.counts.stopping), (2, 1));
    assert_eq!(busy.connections, 10 + 3 * 5);
    let free = picture(spoken(false));
    assert_eq!((free.counts.free, free.counts.stopping), (2, 1));
    // The notes are of another child, or there are none.
    let silent = picture(SlotNotes::default());
    assert_eq!((silent.counts.free, silent.counts.busy), (1, 1));
    assert_eq!(silent.connections, 10 + 3 * 3);
}

/// A child in that slot, whose last word came a second after it was forked.
fn busy(slot: u32) -> Child {
    let mut child = Child::new(
        ChildId::new(slot, 1),
        100 + slot,
        at(slot.into()),
        Duration::ZERO,
    );
    (child.state, child.said_requests) = (State::Busy, 8);
    child.flags |= ChildFlags::READY;
    child.last_ack = at(1 + u64::from(slot));
    child
}

/// They have no rows and no slots: the parent's census has them.
#[test]
fn children_without_a_slot_are_counted() {
    let children: Vec<_> = (0..5).map(busy).collect();
    let known = Known {
        slotless: Slotless::among(children.iter(), 2),
        ..Known::default()
    };
    let record = StatusRecord {
        head: Head::of(&Monitor::default(), known),
        rows: vec![child(0, State::Retiring), child(1, State::Busy)],
        ..StatusRecord::default()
    };
    assert!(record.has_ready_child());
    let board = UniformBoard(SlotNotes::default());
    let look = BoardLook::at(&board, at(11));
    let picture = Picture::new(look, record, &mut ReportedSums::default(), at(11));
    assert_eq!((picture.counts.busy, picture.counts.total()), (4, 5));
    assert_eq!(picture.connections, 2 * 3 + 3 * 8);
    assert_eq!(picture.oldest_ack(), Some(Duration::from_secs(10)));
}

#[test]
fn the_document_tells_what_a_child_does() {
    let picture = picture(spoken(true));
    let text = with(&picture, document::render);
    for part in [
        r##""slot":1,"id":"#1.7","pid":101,"state":"busy""##,
        r#""connections":5,"busy_seconds":2,"queued_seconds":0.008"#,
        r#""peer":"192.0.2.1:80","text":"GET /\"""#,
        r#""children":{"starting":0,"free":0,"busy":2,"reserved":0,"stopping":1,"total":3,"max":50"#,
        r#""listeners":[{"name":"/run/\"s","queued":4,"limit":128,"queue_time":{"count":2,"sum_seconds":0.034,"#,
        r#""max_clients":{"value":"50","default":"50","unit":"children""#,
        r#"{"name":"pages","type":"counter","value":1}"#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for attribute in Config::attributes() {
        assert!(text.contains(&format!("\"{}\":{{", attribute.name)));
    }
}

#[test]
fn a_scraper_gets_the_format_that_it_asks_for() {
    let picture = picture(spoken(true));
    let prometheus = with(&picture, |context| {
        openmetrics::render(context, Format::for_accept("text/plain"))
    });
    let open = with(&picture, |context| {
        openmetrics::render(
            context,
            Format::for_accept("application/openmetrics-text;q=1"),
        )
    });
    for line in [
        "# TYPE prefork_connections_total counter\nprefork_connections_total 25\n",
        "prefork_children{state=\"busy\"} 2\n",
        "# TYPE prefork_saturations_total counter\nprefork_saturations_total 0\n",
        "prefork_output_dropped_bytes_total 0\n",
        "prefork_listen_queue{listener=\"/run/\\\"s\"} 4\n",
        "prefork_listen_queue_limit{listener=\"/run/\\\"s\"} 128\n",
        "prefork_connection_queue_seconds_bucket{listener=\"/run/\\\"s\",le=\"0.025\"} 1\n",
        "# TYPE pages_total counter\npages_total 1\n",
        "render_seconds_bucket{le=\"0.5\"} 1\nrender_seconds_bucket{le=\"1.0\"} 2\n\
         render_seconds_bucket{le=\"+Inf\"} 3\nrender_seconds_count 3\n",
    ] {
        assert!(prometheus.contains(line), "{line} in {prometheus}");
    }
    assert!(open.contains("# TYPE prefork_connections counter\nprefork_connections_total 25\n"));
    assert!(open.contains("# UNIT render_seconds seconds\n"));
    assert!(open.ends_with("# EOF\n") && !prometheus.contains("# EOF"));
    // A metric with the name of one of these families would spoil all of them.
    assert_eq!(open.matches("# TYPE prefork_children gauge").count(), 1);
    assert!(!open.contains("prefork_children_total"));
}

/// There are twelve histograms: with more listeners the last has those of all further ones.
#[test]
fn listeners_without_a_histogram_of_their_own_are_others() {
    let named = |count: usize| {
        let mut picture = picture(spoken(true));
        picture.queue_times = vec![Distribution::default(); 12];
        let listener = |number| ListenerText {
            name: format!("listener {number}"),
            queued: None,
            limit: None,
        };
        picture.record.texts.listeners = (0..count).map(listener).collect();
        let text = with(&picture, |context| {
            openmetrics::render(context, Format::Prometheus)
        });
        let label = |line: &str| {
            let rest = line.strip_prefix("prefork_connection_queue_seconds_count{listener=\"")?;
            Some(rest.split('"').next()?.to_owned())
        };
        let labels: Vec<_> = text.lines().filter_map(label).collect();
        (labels, with(&picture, document::render))
    };
    let (labels, text) = named(12);
    assert_eq!((labels.len(), &*labels[11]), (12, "listener 11"));
    assert!(text.contains("\"queue_time_of_others\":null"), "{text}");
    let (labels, text) = named(14);
    assert_eq!((labels.len(), &*labels[11]), (12, "others"));
    assert!(
        text.contains("\"queue_time_of_others\":{\"count\":0,"),
        "{text}"
    );
    for listener in 11..14 {
        let nothing = format!(
            "\"name\":\"listener {listener}\",\"queued\":null,\"limit\":null,\"queue_time\":null"
        );
        assert!(text.contains(&nothing), "{nothing} in {text}");
    }
}

/// The rules that promtool and OpenMetrics have for the text as a whole.
#[test]
fn each_family_is_told_once_and_each_sample_belongs_to_the_last_family() {
    let picture = picture(spoken(true));
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = with(&picture, |context| openmetrics::render(context, format));
        let (mut families, mut last) = (Vec::new(), String::new());
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                last = rest.split(' ').next().unwrap().to_owned();
                assert!(!families.contains(&last), "{last} twice");
                families.push(last.clone());
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&last), "{line} in {last}");
                let value = line.rsplit_once(' ').unwrap().1;
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(families.len() > 15);
    }
}
