//! Attributes that are read and set, and children that are shown.

use super::*;

#[test]
fn every_attribute_is_set_by_its_own_text_or_refused_for_good() {
    for attribute in Config::attributes() {
        let mut talk = Talk::new(monitor());
        let text = attribute.text(&Config::default());
        let answer = talk.ask(&format!("set {} {text}", attribute.name.replace('_', "-")));
        if attribute.takes_effect == TakesEffect::AtStart {
            assert_eq!(code(&answer), "fixed");
            continue;
        }
        let start = format!(
            r#"{{"ok":true,"name":"{}","old":"{text}","new":"{text}","takes_effect":"{}""#,
            attribute.name, attribute.takes_effect
        );
        assert!(answer.starts_with(&start), "{answer}");
        // Any text is a name.
        if attribute.name == "process_title" {
            continue;
        }
        let refused = talk.ask(&format!("set {} \u{1b}", attribute.name));
        assert_eq!(code(&refused), "value", "{refused}");
        let says = format!("\"error\":\"{}: ", attribute.name);
        assert!(
            refused.contains(&says) && refused.contains("(write "),
            "{refused}"
        );
        assert!(!refused.contains('\u{1b}'));
    }
}

#[test]
fn a_value_is_in_force_at_once_and_told_as_normalised() {
    let mut talk = Talk::new(monitor());
    assert_eq!(
        talk.ask("set max_clients 20"),
        r#"{"ok":true,"name":"max_clients","old":"50","new":"20","takes_effect":"at once"}"#
    );
    assert_eq!(talk.monitor.max_clients(), 20);
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Forkoff]);
    let answer = talk.ask("set  timeout  1h 30m ");
    assert!(answer.contains(r#""old":"0s","new":"5400s""#), "{answer}");
    let answer = talk.ask("set max_clients 0");
    let expected = r#""new":"50","takes_effect":"at once","asked":"0","normalised":"0 becomes 50""#;
    assert!(answer.contains(expected), "{answer}");
    let answer = talk.ask("set min_spare_servers 8");
    assert!(answer.contains(r#""new":"8""#), "{answer}");
    assert!(
        answer.contains(r#""also":{"max_spare_servers":"9"}"#),
        "{answer}"
    );
    assert_eq!(
        talk.ask("get min-spare-servers"),
        concat!(
            r#"{"ok":true,"name":"min_spare_servers","value":"8","asked":"8","default":"1","#,
            r#""unit":"children","takes_effect":"at once"}"#
        )
    );
    assert!(talk.ask("get").contains(r#""max_spare_servers":"9""#));
}

#[test]
fn what_cannot_be_set_is_named() {
    let mut talk = Talk::new(monitor());
    let unknown = talk.ask("set max_client 3");
    assert!(
        unknown.contains("there is no attribute") && unknown.contains("max_client\\"),
        "{unknown}"
    );
    assert!(unknown.contains("did you mean max_clients? "), "{unknown}");
    assert_eq!(code(&talk.ask("get nothing")), "unknown");
    let fixed = talk.ask("set handle_signals false");
    assert!(
        fixed.contains("handle_signals is read when the server starts"),
        "{fixed}"
    );
    let value = talk.ask("set timeout 30");
    assert!(value.contains("it has no unit; write"), "{value}");
    let value = talk.ask("set max_clients -1");
    assert!(
        value.contains("a whole number from 0 on (write N; 0 becomes 50)"),
        "{value}"
    );
    assert_eq!(*talk.monitor.config(), Config::default());
}

#[test]
fn children_are_shown() {
    let mut talk = Talk::new(monitor());
    let [_, busy] = children(&mut talk.monitor, [State::Free, State::Busy]);
    go_to(&mut talk.monitor, 1500);
    talk.monitor.retire(busy, crate::core::child::Reason::Asked);
    let answer = talk.ask("show");
    for part in [
        r#""uptime":1.5,"state":"running","drained":false,"epoch":0,"starting":0,"free":1,"busy":0,"reserved":0,"retiring":1"#,
        r#"{"pid":1001,"state":"free","epoch":0,"age":1.5,"connections":0,"busy_for":null}"#,
        r#"{"pid":1002,"state":"retiring","epoch":0,"age":1.5,"connections":1,"busy_for":1.5}"#,
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
}
