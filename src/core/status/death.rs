//! The text of one death in JSON, which the parent makes once, and which fits into its place of the
//! record. Leaves out what does not fit, the least telling first.

use super::{figures::nanoseconds, names};
use crate::core::{
    child::{Child, Death, Usage},
    json::JsonWriter,
    time::Time,
};
use std::time::Duration;

/// How long the text of one death may be.
pub(super) const DEATH_BYTES: usize = 8 * 1024;

/// The text of a death at `now`, whose time of day is `unix`, since 1970.
pub(crate) fn text(child: &Child, death: &Death, now: Time, unix: Duration) -> String {
    let lines: Vec<_> = death.last_lines().map(String::from_utf8_lossy).collect();
    let frames: Vec<_> = death.stack().unwrap_or_default().iter().collect();
    let (mut lines, mut frames) = (&lines[..], &frames[..]);
    loop {
        let text = JsonWriter::of(|json| {
            describe(json, child, death);
            json.field("at", unix);
            json.field("at_nanoseconds", nanoseconds(now.since_start()));
            json.values("last_lines", lines.iter().map(|line| &**line));
            json.values("stack", frames.iter().map(|frame| frame.to_string()));
        });
        if text.len() <= DEATH_BYTES {
            return text;
        }
        // The outer calls and the older lines tell least.
        match (frames.split_last(), lines.split_first()) {
            (Some((_, rest)), _) if frames.len() > 8 || lines.is_empty() => frames = rest,
            (_, Some((_, rest))) => lines = rest,
            _ => return String::new(),
        }
    }
}

fn describe(json: &mut JsonWriter, child: &Child, death: &Death) {
    json.field("id", child.id().to_string());
    json.field("pid", child.pid());
    json.field("epoch", child.epoch());
    json.field("cause", names::snake_case(&death.cause()));
    json.field("status", death.status.map(|status| status.to_string()));
    json.field("code", death.code());
    json.field("signal", death.signal());
    json.field("age_seconds", death.age());
    json.field("connections", death.connections());
    json.field("in_hand_seconds", death.in_hand_for());
    json.field("stuck", death.stuck().map(|stuck| stuck.to_string()));
    json.field("stuck_in", death.stuck_in().map(|frame| frame.to_string()));
    match death.usage() {
        Some(usage) => json.object("usage", |json| describe_usage(json, usage)),
        None => json.field("usage", None::<u64>),
    }
}

fn describe_usage(json: &mut JsonWriter, usage: &Usage) {
    json.field("user_seconds", usage.user_time);
    json.field("system_seconds", usage.system_time);
    json.field("max_resident_bytes", usage.max_resident);
    json.field("minor_faults", usage.minor_faults);
    json.field("major_faults", usage.major_faults);
    json.field("voluntary_switches", usage.voluntary_switches);
    json.field("involuntary_switches", usage.involuntary_switches);
}

/// Whether a text may be one of these: what stands in its place before one was written is none.
pub(crate) fn is_text(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::child::{ChildId, Collected, WaitStatus};

    fn dead(lines: usize) -> String {
        let mut child = Child::new(ChildId::new(1, 2), 77, Time::START, Duration::ZERO);
        for line in 0..lines {
            child.note_stderr(&[vec![1; 255], vec![b'0' + line as u8]].concat());
        }
        let now = Time::at(Duration::from_millis(2500));
        let end = Collected::from(Some(WaitStatus::from_raw(9)));
        let death = Death::of(&child, &end, now);
        text(&child, &death, now, Duration::from_secs(5))
    }

    #[test]
    fn a_death_is_told_with_its_cause_and_its_age() {
        let text = dead(0);
        assert!(is_text(&text));
        for part in [
            r##""id":"#1.2","pid":77,"##,
            r#""cause":"killed","status":"signal: 9 (SIGKILL)","code":null,"signal":9"#,
            r#""age_seconds":2.5,"#,
            r#""at":5,"at_nanoseconds":2500000000,"last_lines":[],"stack":[]"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    /// Each of these bytes takes six in JSON.
    #[test]
    fn what_does_not_fit_is_left_out_from_the_oldest_line_on() {
        let text = dead(8);
        assert!(text.len() <= DEATH_BYTES);
        assert!(text.contains("7\"]") && !text.contains("0\",\""), "{text}");
    }
}
