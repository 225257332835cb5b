//! When an upgrade is answered, and what is handed on.

use super::*;

/// A talk whose upgrade to a program with a space in its path is under way.
fn upgrading() -> Talk {
    let mut talk = Talk::new(monitor());
    assert_eq!(talk.ask("upgrade /srv/the new one"), "");
    let program = talk.monitor.upgrade.take_asked().program;
    assert_eq!(program, Some("/srv/the new one".into()));
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Upgrade]);
    talk.monitor.begin_upgrade();
    talk.expect_nothing(1);
    talk
}

fn failed(talk: &mut Talk, reason: &str) {
    let error = Error::new(Operation::Upgrade, "the program", io::Error::other(reason));
    talk.event(&Event::UpgradeFailed { error: &error });
}

/// The clients of a talk, with another program.
fn handed_on(talk: &Talk, listens: bool) -> Talk {
    let states = talk
        .client_table
        .save(|number| u32::try_from(number + 6).ok());
    let mut next = Talk::new(monitor());
    next.client_table = ClientTable::default();
    for state in &states {
        let number = u64::from(state.fd - 6);
        next.client_table
            .adopt(number, state, listens, next.monitor.now());
    }
    next
}

#[test]
fn an_upgrade_that_fails_is_answered_with_the_reason() {
    let mut talk = upgrading();
    talk.client_table.add(2, Time::START);
    talk.send(2, "upgrade\n");
    talk.turn();
    assert_eq!(code(&talk.read(2)), "busy");
    // An event of another one.
    failed(&mut talk, "the server stops");
    talk.expect_nothing(1);
    talk.monitor.upgrade.end();
    failed(&mut talk, "it is broken");
    let answer = talk.read(1);
    assert!(answer.contains("it is broken"), "{answer}");
    assert_eq!(code(&answer), "failed");
}

#[test]
fn an_upgrade_is_answered_by_the_program_that_serves_on() {
    for listens in [true, false] {
        let mut next = handed_on(&upgrading(), listens);
        next.expect_nothing(1);
        let (took, blind) = (ms(900), ms(2));
        next.event(&Event::Upgraded { took, blind });
        let answer = r#"{"ok":true,"epoch":0,"took":0.9,"blind":0.002}"#;
        assert_eq!(next.read(1), answer);
        next.send(1, "get timeout\n");
        next.turn();
        let goes_on = next.read(1).contains(r#""value":"0s""#);
        assert_eq!(goes_on, listens, "a client of a control socket");
    }
    let mut back = handed_on(&upgrading(), true);
    failed(&mut back, "it is broken");
    assert_eq!(code(&back.read(1)), "failed");
}

/// Half a command, half an answer, a command that does not go on, and a client that has gone.
#[test]
fn clients_are_handed_on_with_what_they_have_sent_and_not_read() {
    let mut talk = upgrading();
    for number in 2..=5 {
        talk.client_table.add(number, Time::START);
    }
    talk.send(2, "get time");
    talk.send(3, "get timeout\n");
    talk.send(4, "reload\n");
    talk.turn();
    let unread = talk.client_table.outgoing(3).to_vec();
    talk.client_table.wrote(3, 5, talk.monitor.now());
    talk.client_table.left(5);
    let mut next = handed_on(&talk, true);
    next.send(2, "out\n");
    next.turn();
    assert!(next.read(2).contains(r#""value":"0s""#));
    assert_eq!(next.client_table.outgoing(3), &unread[5..]);
    assert_eq!(code(&next.read(4)), "superseded");
    assert_eq!(next.client_table.save(|_| Some(7)).len(), 4);
}

#[test]
fn a_stop_wins_over_an_upgrade() {
    let mut talk = upgrading();
    talk.event(&Event::ShuttingDown);
    assert_eq!(code(&talk.read(1)), "stopping");
    talk.monitor.upgrade.end();
    talk.monitor.begin_shutdown();
    assert_eq!(code(&talk.ask("upgrade")), "stopping");
}
