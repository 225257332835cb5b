//! Commands, clients and answers, without a socket and without a loop.

use super::{client, desk::CLIENTS, *};
use crate::core::{
    child::{Child, ChildId, Flags, Signal, State},
    config::{Config, TakesEffect},
    error::{Error, Operation},
    stop::Wish,
    testing::{Asked, asked, at, child, children, exit_code, go_to, infos, monitor, ms, sized},
    time::Time,
};
use std::{io, time::Duration};

/// A server as the control socket sees it, and its clients.
struct Talk {
    monitor: Monitor,
    desk: Desk,
}

impl Talk {
    fn new(monitor: Monitor) -> Self {
        let mut talk = Self {
            monitor,
            desk: Desk::default(),
        };
        talk.desk.add(1, Time::START);
        talk
    }

    fn send(&mut self, client: u64, text: &str) {
        self.desk.woke(Some(client));
        self.desk
            .received(client, text.as_bytes(), self.monitor.now());
        self.desk.read_all(client);
    }

    /// A turn of the loop, without what it performs.
    fn turn(&mut self) {
        self.desk.begin(&mut self.monitor);
        self.tell();
        self.desk.look(&self.monitor);
    }

    /// Tells the desk what has happened in the monitor.
    fn tell(&mut self) {
        while let Some(event) = self.monitor.events.pop() {
            self.desk.event(&self.monitor, &event);
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        self.tell();
        self.desk.event(&self.monitor, event);
    }

    /// What a client has been answered, which it reads now.
    fn read(&mut self, client: u64) -> String {
        let bytes = self.desk.outgoing(client).to_vec();
        if !bytes.is_empty() {
            self.desk.wrote(client, bytes.len(), self.monitor.now());
        }
        let text = String::from_utf8(bytes).unwrap();
        text.trim_end_matches('\n').to_owned()
    }

    /// The answer to one line of the first client; empty if it is not done.
    fn ask(&mut self, line: &str) -> String {
        self.send(1, &format!("{line}\n"));
        self.turn();
        self.read(1)
    }

    #[track_caller]
    fn expect_nothing(&mut self, client: u64) {
        self.turn();
        assert_eq!(self.read(client), "");
    }

    /// Ends a child that has this exit code.
    fn end(&mut self, id: ChildId, code: i32) {
        let ended = self.monitor.exited(id, exit_code(code));
        let (child, death) = ended.expect("a child");
        self.event(&Event::Exited {
            child: &child,
            death: &death,
        });
    }

    /// What the replacement does in a turn; the forks that it asks for come to life.
    fn replace(&mut self) -> Vec<ChildId> {
        let moves = self.monitor.replacement_step();
        for (old, new) in moves.replaced {
            self.event(&Event::Replaced { old, new });
        }
        let forks = asked(&mut self.monitor).into_iter();
        let forks = forks.filter(|task| *task == Asked::ServerFork).count();
        let newcomers = (0..forks).map(|_| child(&mut self.monitor, State::Starting));
        newcomers.collect()
    }
}

/// As many children, each ready to serve.
fn ready<const N: usize>(monitor: &mut Monitor) -> [ChildId; N] {
    let ids = children(monitor, [State::Free; N]);
    for id in ids {
        monitor.set_not_busy(id);
    }
    ids
}

fn code(answer: &str) -> &str {
    let (_, rest) = answer.split_once(",\"code\":\"").expect(answer);
    rest.trim_end_matches("\"}")
}

// The table.

#[test]
fn the_table_of_commands_is_in_order() {
    let names: Vec<_> = COMMANDS.iter().map(Command::name).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    for command in COMMANDS {
        assert!(command.words.0 <= command.words.1, "{}", command.usage);
        assert!(!command.help.ends_with('.'), "{}", command.help);
        let optional = command.usage.contains('[');
        let may_be_left_out = command.words.0 == 0 && command.words.1 > 0;
        assert_eq!(optional, may_be_left_out, "{}", command.usage);
    }
    let help = Talk::new(monitor()).ask("help");
    for command in COMMANDS {
        assert!(help.contains(command.usage) && help.contains(command.help));
    }
}

#[test]
fn what_is_no_command_is_refused_and_changes_nothing() {
    let mut talk = Talk::new(monitor());
    for line in [
        "relod",
        "RELOAD",
        "{}",
        "GET / HTTP/1.1",
        "stop soon",
        "retire x",
        "retire -1",
    ] {
        assert_eq!(code(&talk.ask(line)), "usage", "{line}");
    }
    let answer = talk.ask("reload now");
    assert_eq!(
        answer,
        r#"{"ok":false,"error":"usage: reload","code":"usage"}"#
    );
    let unknown = talk.ask("x");
    assert!(unknown.contains("is none of reload, upgrade, stop, retire, set, get, show, help"));
    // Every number of words that the table does not allow.
    for command in COMMANDS {
        for words in 0..4 {
            let (least, most) = command.words;
            if !(least..=most).contains(&words) {
                let line = format!("{} {}", command.name(), "1 ".repeat(words));
                assert_eq!(
                    talk.ask(&line),
                    format!(
                        "{{\"ok\":false,\"error\":\"usage: {}\",\"code\":\"usage\"}}",
                        command.usage
                    )
                );
            }
        }
    }
    assert_eq!(asked(&mut talk.monitor), []);
    assert_eq!(talk.monitor.take_wish(), Wish::Nothing);
    assert_eq!(*talk.monitor.config(), Config::default());
}

#[test]
fn only_root_and_the_own_user_may_control() {
    let caller = |user, own_user| Caller {
        client: 1,
        pid: 1,
        user,
        own_user,
    };
    for (user, own_user, may) in [
        (0, 0, true),
        (0, 5, true),
        (5, 5, true),
        (6, 5, false),
        (5, 0, false),
    ] {
        assert_eq!(
            may_control(&caller(user, own_user)),
            may,
            "{user} {own_user}"
        );
    }
}

// Attributes.

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
    assert_eq!(asked(&mut talk.monitor), [Asked::Forkoff]);
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
        r#""uptime":1.5,"state":"running","epoch":0,"starting":0,"free":1,"busy":0,"reserved":0,"retiring":1"#,
        r#"{"pid":1001,"state":"free","epoch":0,"age":1.5,"connections":0,"busy_for":null}"#,
        r#"{"pid":1002,"state":"retiring","epoch":0,"age":1.5,"connections":1,"busy_for":1.5}"#,
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
}

// Reload.

/// A server of two children whose client has asked for a reload, which has begun.
fn reloading() -> (Talk, [ChildId; 2]) {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let old = ready(&mut talk.monitor);
    talk.tell();
    assert_eq!(talk.ask("reload"), "");
    assert_eq!(asked(&mut talk.monitor), [Asked::Reload]);
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
            Asked::ReloadFailed(text) => Some(text),
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
    talk.desk.add(2, Time::START);
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
    talk.desk.add(2, Time::START);
    talk.send(1, "reload\n");
    talk.send(2, "reload\n");
    talk.turn();
    assert_eq!(asked(&mut talk.monitor), [Asked::Reload]);
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
    talk.desk.add(2, Time::START);
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

/// Whoever has asked for the reload is told that the stop has ended it.
#[test]
fn i03_a_stop_during_a_reload_wins() {
    let (mut talk, _) = reloading();
    talk.event(&Event::ShuttingDown);
    assert_eq!(code(&talk.read(1)), "stopping");
    talk.monitor.begin_shutdown();
    assert_eq!(code(&talk.ask("reload")), "stopping");
    assert_eq!(code(&talk.ask("retire 1001")), "stopping");
}

// Upgrade.

/// A talk whose upgrade to a program with a space in its path is under way.
fn upgrading() -> Talk {
    let mut talk = Talk::new(monitor());
    assert_eq!(talk.ask("upgrade /srv/the new one"), "");
    let program = talk.monitor.upgrade.take_asked();
    assert_eq!(program, Some("/srv/the new one".into()));
    assert_eq!(asked(&mut talk.monitor), [Asked::Upgrade]);
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
    let states = talk.desk.save(|number| u32::try_from(number + 6).ok());
    let mut next = Talk::new(monitor());
    next.desk = Desk::default();
    for state in &states {
        let number = u64::from(state.fd - 6);
        next.desk.adopt(number, state, listens, next.monitor.now());
    }
    next
}

#[test]
fn an_upgrade_that_fails_is_answered_with_the_reason() {
    let mut talk = upgrading();
    talk.desk.add(2, Time::START);
    talk.send(2, "upgrade\n");
    talk.turn();
    assert_eq!(code(&talk.read(2)), "busy");
    // One that a signal has asked for is refused.
    failed(&mut talk, "another upgrade is under way");
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
        talk.desk.add(number, Time::START);
    }
    talk.send(2, "get time");
    talk.send(3, "get timeout\n");
    talk.send(4, "reload\n");
    talk.turn();
    let unread = talk.desk.outgoing(3).to_vec();
    talk.desk.wrote(3, 5, talk.monitor.now());
    talk.desk.left(5);
    let mut next = handed_on(&talk, true);
    next.send(2, "out\n");
    next.turn();
    assert!(next.read(2).contains(r#""value":"0s""#));
    assert_eq!(next.desk.outgoing(3), &unread[5..]);
    assert_eq!(code(&next.read(4)), "superseded");
    assert_eq!(next.desk.save(|_| Some(7)).len(), 4);
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

// Retire.

/// Its pid may be another process's by now.
#[test]
fn a_child_that_was_reaped_is_no_child_any_more() {
    let mut talk = Talk::new(monitor());
    let id = child(&mut talk.monitor, State::Free);
    let reaped = talk.monitor.pool.get_mut(id).expect("a child");
    reaped.flags.insert(Flags::REAPED);
    assert_eq!(code(&talk.ask("retire 1001")), "unknown");
}

#[test]
fn a_child_is_retired_when_it_has_gone_and_its_successor_is_ready() {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let [old, _] = ready(&mut talk.monitor);
    assert_eq!(talk.ask("retire 1001"), "");
    let [new] = talk.replace()[..] else {
        panic!("no successor")
    };
    talk.expect_nothing(1);
    talk.monitor.set_not_busy(new);
    assert_eq!(talk.replace(), []);
    assert_eq!(
        talk.monitor.child(old).map(Child::state),
        Some(State::Retiring)
    );
    talk.expect_nothing(1);
    talk.end(old, 0);
    talk.turn();
    let expected = r#"{"ok":true,"pid":1001,"successor":1003,"cause":"Recycled"}"#;
    assert_eq!(talk.read(1), expected);
}

/// Where there is no room for a successor the child goes first, and the answer waits for the
/// successor.
#[test]
fn a_child_that_goes_first_is_retired_when_its_successor_is_ready() {
    let mut talk = Talk::new(sized(1, 10, 1, 1));
    let [old] = ready(&mut talk.monitor);
    assert_eq!(talk.ask("retire 1001"), "");
    assert_eq!(talk.replace(), []);
    assert_eq!(
        talk.monitor.child(old).map(Child::state),
        Some(State::Retiring)
    );
    talk.end(old, 0);
    talk.expect_nothing(1);
    let [new] = talk.replace()[..] else {
        panic!("no successor")
    };
    talk.expect_nothing(1);
    talk.monitor.set_not_busy(new);
    talk.expect_nothing(1);
    talk.replace();
    talk.turn();
    let expected = r#"{"ok":true,"pid":1001,"successor":1002,"cause":"Recycled"}"#;
    assert_eq!(talk.read(1), expected);
}

#[test]
fn a_child_that_ends_by_itself_is_retired_too() {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let [old, _] = children(&mut talk.monitor, [State::Busy, State::Free]);
    go_to(&mut talk.monitor, 5000);
    assert_eq!(talk.ask("retire 1001"), "");
    talk.end(old, 3);
    talk.turn();
    let expected = r#"{"ok":true,"pid":1001,"successor":null,"cause":"Failed"}"#;
    assert_eq!(talk.read(1), expected);
    let unknown = talk.ask("retire 1001");
    assert_eq!(code(&unknown), "unknown", "{unknown}");
}

#[test]
fn a_child_whose_successors_fail_serves_on() {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let [old, _] = ready(&mut talk.monitor);
    assert_eq!(talk.ask("retire 1001"), "");
    for number in 1..=3 {
        go_to(&mut talk.monitor, number * 100_000);
        talk.monitor.fire_due();
        let newcomers = talk.replace();
        let [new] = newcomers[..] else {
            panic!("no successor: {newcomers:?}")
        };
        talk.expect_nothing(1);
        talk.end(new, 7);
    }
    let answer = talk.read(1);
    assert_eq!(code(&answer), "failed");
    assert!(answer.contains("3 successors in a row"), "{answer}");
    assert!(answer.contains("child 1001 serves on"), "{answer}");
    assert_eq!(talk.monitor.child(old).map(Child::state), Some(State::Free));
}

#[test]
fn a_shutdown_answers_for_a_child_that_was_to_be_replaced() {
    let mut talk = Talk::new(sized(1, 10, 1, 50));
    child(&mut talk.monitor, State::Free);
    assert_eq!(talk.ask("retire 1001"), "");
    talk.event(&Event::ShuttingDown);
    assert_eq!(code(&talk.read(1)), "stopping");
}

// Stop.

#[test]
fn a_stop_is_answered_at_the_very_end() {
    for (line, wish) in [
        ("stop", Wish::Shutdown),
        ("stop graceful", Wish::Shutdown),
        ("stop now", Wish::Kill),
    ] {
        let mut talk = Talk::new(monitor());
        talk.send(1, &format!("{line}\nshow\n"));
        talk.desk.begin(&mut talk.monitor);
        assert_eq!(talk.monitor.take_wish(), wish, "{line}");
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
    talk.desk.add(2, Time::START);
    talk.desk.add(3, Time::START);
    talk.send(1, "stop graceful\n");
    talk.turn();
    assert_eq!(talk.monitor.take_wish(), Wish::Announce);
    assert!(talk.monitor.stop.is_patient());
    talk.send(2, "stop\n");
    talk.turn();
    assert_eq!(talk.monitor.take_wish(), Wish::Nothing);
    assert!(!talk.monitor.stop.is_patient());
    assert_eq!(talk.monitor.stop_begins_at(), Some(at(5000)));
    talk.monitor.begin_shutdown();
    talk.send(3, "stop\n");
    talk.turn();
    assert_eq!(talk.monitor.take_wish(), Wish::Nothing);
    talk.event(&Event::Ended);
    for client in 1..=3 {
        assert!(talk.read(client).starts_with(r#"{"ok":true"#));
    }
}

#[test]
fn a_stop_that_a_hook_refuses_is_answered() {
    let mut talk = Talk::new(monitor());
    // Nobody has begun the shutdown at the end of the turn.
    let answer = talk.ask("stop");
    assert_eq!(code(&answer), "failed");
    assert!(answer.contains("handler_shutdown"), "{answer}");
}

/// Nobody waits for ever: what no event has ended is answered with the last.
#[test]
fn the_end_of_the_server_answers_everything() {
    let mut talk = Talk::new(monitor());
    child(&mut talk.monitor, State::Free);
    talk.desk.add(2, Time::START);
    talk.send(1, "reload\n");
    talk.send(2, "retire 1001\n");
    talk.turn();
    talk.event(&Event::Ended);
    assert_eq!(
        (code(&talk.read(1)), code(&talk.read(2))),
        ("stopping", "stopping")
    );
}

// Clients.

#[test]
fn commands_of_a_client_are_done_in_order_and_those_of_others_meanwhile() {
    let mut talk = Talk::new(monitor());
    talk.desk.add(2, Time::START);
    talk.send(1, "\nreload\n \nset max_clients 7\nget max_clients\n");
    talk.send(2, "get max_clients\n");
    for _ in 0..5 {
        talk.turn();
    }
    assert!(talk.read(2).contains(r#""value":"50""#));
    asked(&mut talk.monitor);
    talk.monitor.begin_reload();
    talk.event(&Event::Reloaded {
        epoch: 1,
        replaced: 0,
        took: ms(1),
    });
    // An answer that was not read holds up what follows.
    for _ in 0..5 {
        talk.turn();
    }
    assert_eq!(talk.monitor.max_clients(), 50);
    assert!(talk.read(1).contains(r#""epoch":1"#));
    talk.turn();
    assert!(talk.read(1).contains(r#""new":"7""#));
    talk.turn();
    assert!(talk.read(1).contains(r#""value":"7""#));
    talk.expect_nothing(1);
}

#[test]
fn a_client_is_read_only_while_there_is_room() {
    let mut talk = Talk::new(monitor());
    talk.ask("reload");
    talk.desk.woke(Some(1));
    let mut total = 0;
    while let [(1, room)] = talk.desk.to_read()[..] {
        let bytes = vec![b'\n'; room.min(3000)];
        total += bytes.len();
        talk.desk.received(1, &bytes, Time::START);
    }
    assert_eq!(total, LONGEST + 1);
    // And so the loop does not turn for it again and again.
    assert_eq!(talk.desk.next(), None);
}

#[test]
fn a_client_that_has_gone_leaves_its_command_behind_and_nothing_else() {
    let mut talk = Talk::new(monitor());
    talk.send(1, "reload\nset max_clients 7\n");
    talk.turn();
    talk.desk.left(1);
    assert_eq!(talk.desk.take_over(Time::START), [1]);
    assert_eq!(asked(&mut talk.monitor), [Asked::Reload]);
    talk.event(&Event::Reloaded {
        epoch: 1,
        replaced: 0,
        took: ms(1),
    });
    assert_eq!(talk.monitor.max_clients(), 50);
    // What it had sent before it went is done, up to the first command that takes its time.
    talk.desk.add(2, Time::START);
    talk.send(
        2,
        "set max_clients 8\nset max_clients 9\nreload\nset max_clients 10",
    );
    talk.desk.left(2);
    let turns = (0..9).take_while(|_| {
        talk.turn();
        talk.desk.take_over(Time::START).is_empty()
    });
    assert_eq!(turns.count(), 2);
    assert_eq!(talk.monitor.max_clients(), 9);
}

#[test]
fn a_client_that_has_ended_is_closed_when_it_has_read_all() {
    let mut talk = Talk::new(monitor());
    // The last line has no newline.
    talk.send(1, "get timeout\nget max_clients");
    talk.desk.ended(1);
    for name in ["timeout", "max_clients"] {
        assert_eq!(talk.desk.next(), Some(Time::START));
        talk.turn();
        assert_eq!(talk.desk.take_over(Time::START), []);
        assert!(talk.read(1).contains(name));
    }
    assert_eq!(talk.desk.take_over(Time::START), [1]);
    assert_eq!(talk.desk.next(), None);
}

#[test]
fn an_answer_is_written_as_the_client_reads_it() {
    let mut talk = Talk::new(monitor());
    talk.send(1, "show\n");
    talk.turn();
    let whole = talk.desk.outgoing(1).to_vec();
    let mut read: Vec<u8> = Vec::new();
    while let [1] = talk.desk.to_write()[..] {
        read.extend(talk.desk.outgoing(1).iter().take(7));
        talk.desk
            .wrote(1, talk.desk.outgoing(1).len().min(7), at(5));
        // The kernel takes no more until it says so.
        talk.desk.wrote(1, 0, at(5));
        assert_eq!(talk.desk.to_write(), []);
        talk.desk.woke(Some(1));
    }
    assert_eq!(read, whole);
    assert!(whole.ends_with(b"}\n"));
}

#[test]
fn clients_have_deadlines_but_not_while_their_command_runs() {
    let mut talk = Talk::new(monitor());
    for client in 2..=3 {
        talk.desk.add(client, Time::START);
        talk.desk.read_all(client);
    }
    go_to(&mut talk.monitor, 1000);
    talk.send(1, "reload\n");
    talk.send(2, "show\n");
    talk.turn();
    let unread = at(1000) + client::UNREAD;
    assert_eq!(talk.desk.next(), Some(unread));
    assert_eq!(talk.desk.take_over(at(1000)), []);
    assert_eq!(talk.desk.take_over(unread), [2], "it does not read");
    let idle = Time::START + client::IDLE;
    assert_eq!(talk.desk.next(), Some(idle));
    assert_eq!(talk.desk.take_over(idle), [3], "it says nothing");
    assert_eq!(talk.desk.next(), None, "a reload takes as long as it takes");
    assert_eq!(talk.desk.take_over(idle + Duration::from_secs(9999)), []);
}

/// Time counts from the last byte that it has read: a slow reader of a long answer is no idle one.
#[test]
fn a_slow_reader_has_its_time_anew_with_each_byte() {
    let mut talk = Talk::new(monitor());
    talk.send(1, "show\n");
    talk.turn();
    talk.desk.wrote(1, 1, at(9000));
    assert_eq!(talk.desk.next(), Some(at(9000) + client::UNREAD));
}

#[test]
fn a_newcomer_takes_the_place_of_the_one_that_was_idle_for_the_longest() {
    let mut talk = Talk::new(monitor());
    for client in 2..=CLIENTS as u64 {
        assert_eq!(talk.desk.make_room().ok(), Some(None));
        talk.desk.add(client, at(client));
        talk.desk.read_all(client);
    }
    talk.send(1, "reload\n");
    talk.send(2, "show\n");
    talk.turn();
    assert_eq!(
        talk.desk.make_room().ok(),
        Some(Some(3)),
        "1 waits, 2 reads"
    );
    talk.desk.add(3, at(3));
    for client in 3..=CLIENTS as u64 {
        talk.send(client, "reload\n");
    }
    talk.turn();
    talk.desk.left(7);
    assert_eq!(talk.desk.make_room().ok(), Some(Some(7)), "it has gone");
    talk.desk.add(7, at(7));
    talk.send(7, "reload\n");
    talk.turn();
    let refusal = talk.desk.make_room().expect_err("a refusal").into_line();
    assert_eq!(code(String::from_utf8(refusal).unwrap().trim_end()), "busy");
}

#[test]
fn a_socket_that_cannot_be_accepted_on_is_tried_again() {
    let mut desk = Desk::default();
    assert!(!desk.accepts(at(9)) && desk.next().is_none());
    desk.woke(None);
    assert!(desk.accepts(Time::START));
    assert_eq!(desk.next(), Some(Time::START));
    desk.accept_failed(at(1000));
    assert!(!desk.accepts(at(1999)) && desk.accepts(at(2000)));
    assert_eq!(desk.next(), Some(at(2000)));
    desk.accepted_all();
    assert_eq!(desk.next(), None);
}

#[test]
fn a_retired_child_gets_no_signal_from_the_command_itself() {
    let mut talk = Talk::new(monitor());
    let id = child(&mut talk.monitor, State::Free);
    talk.ask("retire 1001");
    assert!(!asked(&mut talk.monitor).contains(&Asked::Signal(id, Signal::Interrupt)));
}

/// A script may ask each second, and would fill the log.
#[test]
fn a_command_is_told_each_time_and_a_question_is_not() {
    let mut talk = Talk::new(monitor());
    let lines = infos(|| {
        for line in [
            "show",
            "get timeout",
            "help",
            "set timeout 5s",
            "set timeout 5s",
        ] {
            talk.ask(line);
        }
    });
    let line = "control client 1: \"set timeout 5s\"";
    assert_eq!(lines, [line, line]);
}
