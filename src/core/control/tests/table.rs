//! What is a command, and who may give one.

use super::*;

#[test]
fn the_table_of_commands_is_in_order() {
    let names: Vec<_> = COMMANDS.iter().map(ControlCommand::name).collect();
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
        "stack x",
    ] {
        assert_eq!(code(&talk.ask(line)), "usage", "{line}");
    }
    let answer = talk.ask("reload now");
    assert_eq!(
        answer,
        r#"{"ok":false,"error":"usage: reload","code":"usage"}"#
    );
    let unknown = talk.ask("x");
    assert!(unknown.contains(
        "is none of reload, upgrade, stop, drain, ready, retire, set, get, show, stack, help"
    ));
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
    assert_eq!(talk.monitor.take_stop_effect(), StopEffect::Nothing);
    assert_eq!(*talk.monitor.config(), Config::default());
}

/// A program after an upgrade, and the next parent under a holder, go on with it.
#[test]
fn a_drain_lasts_until_it_is_taken_back() {
    let mut talk = Talk::new(monitor());
    talk.monitor.tells_status = true;
    assert!(talk.ask("drain").contains("\"drained\":true"));
    assert!(talk.ask("show").contains("\"drained\":true"));
    let mut next = Monitor::default();
    next.adopt(&talk.monitor.save_pool(), Vec::new());
    assert!(next.is_drained);
    assert!(talk.ask("ready").contains("\"drained\":false"));
    // A parent has the memory of its holder, which an upgrade may have begun with a drain.
    next.adopt(&talk.monitor.save_pool(), Vec::new());
    assert!(!next.is_drained);
}

/// A script that stops a server after that relies on it.
#[test]
fn nobody_is_told_that_a_server_without_a_status_is_drained() {
    let mut talk = Talk::new(Monitor::default());
    assert_eq!(code(&talk.ask("drain")), "failed");
    assert!(!talk.monitor.is_drained);
    assert!(talk.ask("ready").contains("\"drained\":false"));
}

#[test]
fn only_root_and_the_own_user_may_control() {
    let caller = |user, own_user| NewClient {
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
