//! When a stop is answered, and what else is at the end.

use super::*;

#[test]
fn a_stop_is_answered_at_the_very_end() {
    for (line, effect) in [
        ("stop", StopEffect::Shutdown),
        ("stop graceful", StopEffect::Shutdown),
        ("stop now", StopEffect::Kill),
    ] {
        let mut talk = Talk::new(monitor());
        talk.send(1, &format!("{line}\nshow\n"));
        talk.client_table.begin(&mut talk.monitor);
        assert_eq!(talk.monitor.take_stop_effect(), effect, "{line}");
        talk.monitor.begin_shutdown();
        talk.event(&Event::ShuttingDown);
        talk.expect_nothing(1);
        go_to(&mut talk.monitor, 2500);
        talk.event(&Event::Ended);
        let expected = r#"{"ok":true,"took":2.5,"deaths":0,"lost_connections":0}"#;
        assert_eq!(talk.read(1), expected);
    }
}

#[test]
fn a_stop_that_is_asked_for_again_kills_nobody() {
    let mut talk = Talk::new(monitor());
    talk.monitor.set_pre_stop_delay(ms(5000));
    talk.client_table.add(2, Time::START);
    talk.client_table.add(3, Time::START);
    talk.send(1, "stop graceful\n");
    talk.turn();
    assert_eq!(talk.monitor.take_stop_effect(), StopEffect::Announce);
    assert!(talk.monitor.stop.is_unbounded());
    talk.send(2, "stop\n");
    talk.turn();
    assert_eq!(talk.monitor.take_stop_effect(), StopEffect::Nothing);
    assert!(!talk.monitor.stop.is_unbounded());
    assert_eq!(talk.monitor.stop_begins_at(), Some(at(5000)));
    talk.monitor.begin_shutdown();
    talk.send(3, "stop\n");
    talk.turn();
    assert_eq!(talk.monitor.take_stop_effect(), StopEffect::Nothing);
    talk.event(&Event::Ended);
    for client in 1..=3 {
        assert!(talk.read(client).starts_with(r#"{"ok":true"#));
    }
}

#[test]
fn a_stop_that_a_hook_refuses_is_answered() {
    let mut talk = Talk::new(monitor());
    // The shutdown has not begun at the end of the turn.
    let answer = talk.ask("stop");
    assert_eq!(code(&answer), "failed");
    assert!(answer.contains("handler_shutdown"), "{answer}");
}

/// No client waits forever: what no event has ended is answered with the last.
#[test]
fn the_end_of_the_server_answers_everything() {
    let mut talk = Talk::new(monitor());
    child(&mut talk.monitor, State::Free);
    talk.client_table.add(2, Time::START);
    talk.send(1, "reload\n");
    talk.send(2, "retire 1001\n");
    talk.turn();
    talk.event(&Event::Ended);
    assert_eq!(
        (code(&talk.read(1)), code(&talk.read(2))),
        ("stopping", "stopping")
    );
}
