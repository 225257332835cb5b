//! The parts of `/status.json` that the command shows. What a newer server tells besides is left out,
//! what an older one does not tell is empty.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The version of the document that is understood.
const VERSION: u64 = 1;

/// The state of a server at one moment. Times are seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatusDocument {
    pub(crate) version: u64,
    pub(crate) server: ServerSection,
    pub(crate) children: ChildrenSection,
    pub(crate) rates: RatesSection,
    pub(crate) history: HistorySection,
    pub(crate) counters: CountersSection,
    pub(crate) listeners: Vec<ListenerEntry>,
    pub(crate) slots: Vec<ChildEntry>,
    pub(crate) deaths: Vec<DeathEntry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServerSection {
    pub(crate) crate_version: String,
    pub(crate) pid: u32,
    pub(crate) stage: String,
    pub(crate) ready: bool,
    pub(crate) drained: bool,
    pub(crate) now: f64,
    pub(crate) uptime_seconds: f64,
    pub(crate) epoch: u64,
    pub(crate) reloading: bool,
    pub(crate) saturated_for_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChildrenSection {
    pub(crate) starting: u64,
    pub(crate) free: u64,
    pub(crate) busy: u64,
    pub(crate) reserved: u64,
    pub(crate) stopping: u64,
    pub(crate) total: u64,
    pub(crate) max: u64,
    pub(crate) spare_min: u64,
    pub(crate) spare_max: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RatesSection {
    pub(crate) connections_per_second: BTreeMap<String, Option<f64>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HistorySection {
    pub(crate) busy: Vec<Option<u64>>,
    pub(crate) connections_per_second: Vec<Option<f64>>,
    pub(crate) queue_seconds: Vec<Option<f64>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CountersSection {
    pub(crate) connections: u64,
    pub(crate) forks: u64,
    pub(crate) fork_errors: u64,
    pub(crate) reloads: u64,
    pub(crate) failed_reloads: u64,
    pub(crate) lost_connections: u64,
    pub(crate) saturations: u64,
    pub(crate) saturated_seconds: f64,
    pub(crate) deaths: BTreeMap<String, u64>,
    pub(crate) refused_connections: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListenerEntry {
    pub(crate) name: String,
    pub(crate) queued: Option<u64>,
}

/// A child.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChildEntry {
    pub(crate) slot: u64,
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) state: String,
    pub(crate) ready: bool,
    pub(crate) epoch: u64,
    pub(crate) age_seconds: f64,
    pub(crate) ack_age_seconds: Option<f64>,
    pub(crate) connections: u64,
    pub(crate) busy_seconds: Option<f64>,
    pub(crate) queued_seconds: Option<f64>,
    pub(crate) peer: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) due: bool,
    pub(crate) reason: Option<String>,
    pub(crate) stopping_seconds: Option<f64>,
    pub(crate) memory_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeathEntry {
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) cause: String,
    /// `None` if other code has collected it.
    pub(crate) status: Option<String>,
    pub(crate) age_seconds: f64,
    pub(crate) connections: u64,
    pub(crate) in_hand_seconds: Option<f64>,
    pub(crate) stuck_in: Option<String>,
    pub(crate) at: f64,
    pub(crate) last_lines: Vec<String>,
    pub(crate) stack: Vec<String>,
}

impl DeathEntry {
    /// How it ended, in words.
    pub(crate) fn how(&self) -> String {
        plain(self.status.as_deref().unwrap_or("status unknown"))
    }
}

impl StatusDocument {
    /// Reads the document.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let snapshot: Self =
            serde_json::from_str(text).map_err(|error| format!("it is no status: {error}"))?;
        match snapshot.version {
            VERSION => Ok(snapshot),
            other => Err(format!(
                "its status has version {other}, and this command knows {VERSION}"
            )),
        }
    }

    /// The last death in the slot of a child.
    pub(crate) fn last_death_in(&self, slot: u64) -> Option<&DeathEntry> {
        let name = format!("#{slot}.");
        self.deaths.iter().find(|death| death.id.starts_with(&name))
    }
}

/// A time as people read it: `450 ms`, `3.2 s`, `7 m`, `3 h`, `12 d`.
pub(crate) fn time(seconds: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "m"), (1.0, "s")];
    match UNITS.iter().find(|(unit, _)| seconds >= 2.0 * unit) {
        Some((unit, name)) if *unit > 1.0 => format!("{:.0} {name}", (seconds / unit).floor()),
        Some(_) => format!("{seconds:.1} s"),
        None if seconds >= 1.0 => format!("{seconds:.2} s"),
        None => format!("{:.0} ms", seconds * 1000.0),
    }
}

/// A text of a child or a client on one line, which moves no cursor and turns no other text around.
pub(crate) fn plain(text: &str) -> String {
    let plain = |char: char| match char.is_control() || is_format(char) {
        true => '\u{fffd}',
        false => char,
    };
    text.chars().map(plain).collect()
}

/// Whether it has no width and changes what is around it: the direction of writing, joins, marks.
fn is_format(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(char, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A status of three children, as a server tells it, shortened.
    pub(crate) const TEXT: &str = r#"{
        "version": 1, "a key of a later version": {"x": [1]},
        "server": {"crate_version": "0.1.0", "pid": 4711, "stage": "serving", "ready": true,
                   "now": 1000, "uptime_seconds": 7300.5, "epoch": 2, "reloading": false,
                   "saturated_for_seconds": null},
        "children": {"starting": 0, "free": 1, "busy": 1, "stopping": 1, "total": 3,
                     "max": 50, "spare_min": 1, "spare_max": 2},
        "rates": {"connections_per_second": {"1s": 12.0, "10s": 11.25, "60s": null}},
        "history": {"busy": [0, 1, 2], "connections_per_second": [0, 12, 9.5],
                    "queue_seconds": [null, 0.004, null]},
        "counters": {"connections": 120, "forks": 5, "lost_connections": 1, "saturated_seconds": 0,
                     "deaths": {"killed": 1, "culled": 1},
                     "refused_connections": {"gone": 0, "too_old": 3}},
        "listeners": [{"name": "127.0.0.1:8080", "queued": 4}, {"name": "/run/x", "queued": null}],
        "slots": [
            {"slot": 0, "id": "\#0.1", "pid": 4712, "state": "busy", "ready": true, "epoch": 2,
             "age_seconds": 61.2, "ack_age_seconds": 0.5, "connections": 40, "busy_seconds": 0.25,
             "queued_seconds": 0.004, "peer": "192.0.2.1:50000", "text": "GET /reports/42",
             "due": false, "reason": null, "stopping_seconds": null, "memory_bytes": 1048576},
            {"slot": 1, "id": "\#1.9", "pid": 4799, "state": "free", "age_seconds": 3,
             "connections": 2},
            {"slot": 2, "id": "\#2.3", "pid": 4713, "state": "stopping", "age_seconds": 9000,
             "connections": 77, "busy_seconds": 30, "reason": "reloaded", "stopping_seconds": 2}
        ],
        "deaths": [
            {"id": "\#1.2", "pid": 4713, "cause": "overtime", "status": "signal: 9 (SIGKILL)",
             "age_seconds": 2.5, "connections": 3, "stuck_in": "render at src/page.rs:7",
             "at": 990.5, "last_lines": ["out of cheese", "\u001b[31mred"],
             "stack": ["render at src/page.rs:7", "main at src/main.rs:3"]},
            {"id": "\#3.4", "pid": 4714, "cause": "lost", "status": null, "code": null,
             "signal": null, "age_seconds": 1, "connections": 0, "in_hand_seconds": null,
             "stuck": null, "stuck_in": null, "usage": null, "at": 980, "last_lines": [],
             "stack": []}
        ]
    }"#;

    pub(crate) fn snapshot() -> StatusDocument {
        StatusDocument::read(&TEXT.replace("\\#", "#")).expect("a status")
    }

    #[test]
    fn a_status_is_read_whatever_it_has_besides() {
        let snapshot = snapshot();
        assert_eq!(snapshot.slots.len(), 3);
        assert_eq!(snapshot.slots[0].text.as_deref(), Some("GET /reports/42"));
        let death = snapshot.last_death_in(1).expect("a death");
        assert_eq!(
            (&*death.cause, &*death.how()),
            ("overtime", "signal: 9 (SIGKILL)")
        );
        assert_eq!(snapshot.deaths[1].how(), "status unknown");
        assert!(snapshot.last_death_in(0).is_none());
        assert!(StatusDocument::read("220 smtp").is_err());
        let error = StatusDocument::read("{\"version\":2}").expect_err("another version");
        assert!(error.contains("version 2"), "{error}");
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (0.0, "0 ms"),
            (0.0042, "4 ms"),
            (1.5, "1.50 s"),
            (61.2, "61.2 s"),
            (150.0, "2 m"),
            (7300.0, "2 h"),
            (200_000.0, "2 d"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn a_text_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
        assert_eq!(
            plain("\u{9b}31m \u{202e}evil\u{200d}"),
            "\u{fffd}31m \u{fffd}evil\u{fffd}"
        );
        assert_eq!(plain("Größe \u{65e5}"), "Größe \u{65e5}");
    }
}
