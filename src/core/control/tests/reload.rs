//! When a reload is answered, and with what.

use super::*;

/// A server of two children whose client has asked for a reload, which has begun.
fn reloading() -> (Talk, [ChildId; 2]) {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let old = ready(&mut talk.monitor);
    talk.tell();
    assert_eq!(talk.ask("reload"), "");
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Reload]);
    talk.monitor.begin_reload();
    talk.tell();
    (talk, old)
}

#[test]
fn a_reload_is_answered_when_it_is_done() {
    let (mut talk, _) = reloading();
    talk.expect_nothing(1);
    talk.event(&Event::Reloaded {
        epoch: 7,
        replaced: 9,
        took: ms(1),
    });
    talk.expect_nothing(1);
    talk.event(&Event::Reloaded {
        epoch: 1,
        replaced: 2,
        took: ms(1234),
    });
    assert_eq!(
        talk.read(1),
        r#"{"ok":true,"epoch":1,"replaced":2,"took":1.234}"#
    );
}

fn failure(text: &str) -> Error {
    Error::new(Operation::Reload, "x", io::Error::other(text.to_owned()))
}

#[test]
fn a_reload_whose_settings_are_refused_has_failed() {
    let mut talk = Talk::new(monitor());
    assert_eq!(talk.ask("reload"), "");
    asked(&mut talk.monitor);
    talk.event(&Event::ReloadFailed {
        error: &failure("no key"),
    });
    let expected = r#"{"ok":false,"error":"reload x: no key","code":"failed"}"#;
    assert_eq!(talk.read(1), expected);
}

#[test]
fn a_reload_whose_children_fail_has_failed_with_their_last_lines() {
    let (mut talk, _) = reloading();
    for number in 0..3 {
        let newcomers = talk.replace();
        let newcomer = newcomers.first().copied();
        let newcomer = newcomer.unwrap_or_else(|| child(&mut talk.monitor, State::Starting));
        talk.expect_nothing(1);
        if let Some(child) = talk.monitor.pool.get_mut(newcomer) {
            child.note_stderr(b"no such file");
        }
        go_to(&mut talk.monitor, number * 40_000);
        talk.end(newcomer, 7);
    }
    let failed = asked(&mut talk.monitor)
        .into_iter()
        .find_map(|task| match task {
            PlainTask::ReloadFailed(text) => Some(text),
            _ => None,
        });
    let text = failed.expect("a failure");
    assert!(text.contains("no such file"), "{text}");
    talk.event(&Event::ReloadFailed {
        error: &failure(&text),
    });
    let answer = talk.read(1);
    assert_eq!(code(&answer), "failed");
    assert!(answer.contains("no such file"), "{answer}");
}

#[test]
fn the_earlier_of_two_reloads_is_superseded() {
    let (mut talk, _) = reloading();
    talk.client_table.add(2, Time::START);
    talk.send(2, "reload\n");
    talk.turn();
    assert_eq!((talk.read(1), talk.read(2)), (String::new(), String::new()));
    asked(&mut talk.monitor);
    talk.monitor.begin_reload();
    talk.tell();
    assert_eq!(code(&talk.read(1)), "superseded");
    talk.event(&Event::Reloaded {
        epoch: 2,
        replaced: 4,
        took: ms(5),
    });
    assert!(
        talk.read(2)
            .starts_with(r#"{"ok":true,"epoch":2,"replaced":4"#)
    );
}

/// Two clients that ask within a turn get one reload, and both its outcome.
#[test]
fn reloads_that_are_asked_for_together_are_one() {
    let mut talk = Talk::new(monitor());
    talk.client_table.add(2, Time::START);
    talk.send(1, "reload\n");
    talk.send(2, "reload\n");
    talk.turn();
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Reload]);
    talk.monitor.begin_reload();
    talk.tell();
    talk.event(&Event::Reloaded {
        epoch: 1,
        replaced: 0,
        took: ms(5),
    });
    assert_eq!(talk.read(1), talk.read(2));
}

/// The settings of a second reload are refused: the first, which is under way, goes on.
#[test]
fn a_failure_belongs_to_the_reload_that_failed() {
    let (mut talk, _) = reloading();
    talk.client_table.add(2, Time::START);
    talk.send(2, "reload\n");
    talk.turn();
    asked(&mut talk.monitor);
    talk.event(&Event::ReloadFailed {
        error: &failure("no"),
    });
    assert_eq!((talk.read(1).as_str(), code(&talk.read(2))), ("", "failed"));

    // The first fails while the second waits to begin.
    talk.send(2, "reload\n");
    talk.turn();
    while !talk.monitor.replacement.failed() {}
    talk.event(&Event::ReloadFailed {
        error: &failure("no"),
    });
    assert_eq!((code(&talk.read(1)), talk.read(2).as_str()), ("failed", ""));
}

/// The client that has asked for the reload is told that the stop has ended it.
#[test]
fn i03_a_stop_during_a_reload_wins() {
    let (mut talk, _) = reloading();
    talk.event(&Event::ShuttingDown);
    assert_eq!(code(&talk.read(1)), "stopping");
    talk.monitor.begin_shutdown();
    assert_eq!(code(&talk.ask("reload")), "stopping");
    assert_eq!(code(&talk.ask("retire 1001")), "stopping");
}
