//! Clients of the control socket: their order, room, deadlines and ends.

use super::*;

#[test]
fn commands_of_a_client_are_done_in_order_and_those_of_others_meanwhile() {
    let mut talk = Talk::new(monitor());
    talk.client_table.add(2, Time::START);
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
    talk.client_table.woke(Some(1));
    let mut total = 0;
    while let [(1, room)] = talk.client_table.to_read()[..] {
        let bytes = vec![b'\n'; room.min(3000)];
        total += bytes.len();
        talk.client_table.received(1, &bytes, Time::START);
    }
    assert_eq!(total, LONGEST + 1);
    // And so the loop does not turn for it again and again.
    assert_eq!(talk.client_table.next(), None);
}

#[test]
fn a_client_that_has_gone_leaves_its_command_behind_and_nothing_else() {
    let mut talk = Talk::new(monitor());
    talk.send(1, "reload\nset max_clients 7\n");
    talk.turn();
    talk.client_table.left(1);
    assert_eq!(talk.client_table.take_over(Time::START), [1]);
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Reload]);
    talk.event(&Event::Reloaded {
        epoch: 1,
        replaced: 0,
        took: ms(1),
    });
    assert_eq!(talk.monitor.max_clients(), 50);
    // What it had sent before it went is done, up to the first command that takes its time.
    talk.client_table.add(2, Time::START);
    talk.send(
        2,
        "set max_clients 8\nset max_clients 9\nreload\nset max_clients 10",
    );
    talk.client_table.left(2);
    let turns = (0..9).take_while(|_| {
        talk.turn();
        talk.client_table.take_over(Time::START).is_empty()
    });
    assert_eq!(turns.count(), 2);
    assert_eq!(talk.monitor.max_clients(), 9);
}

#[test]
fn a_client_that_has_ended_is_closed_when_it_has_read_all() {
    let mut talk = Talk::new(monitor());
    // The last line has no newline.
    talk.send(1, "get timeout\nget max_clients");
    talk.client_table.ended(1);
    for name in ["timeout", "max_clients"] {
        assert_eq!(talk.client_table.next(), Some(Time::START));
        talk.turn();
        assert_eq!(talk.client_table.take_over(Time::START), []);
        assert!(talk.read(1).contains(name));
    }
    assert_eq!(talk.client_table.take_over(Time::START), [1]);
    assert_eq!(talk.client_table.next(), None);
}

#[test]
fn an_answer_is_written_as_the_client_reads_it() {
    let mut talk = Talk::new(monitor());
    talk.send(1, "show\n");
    talk.turn();
    let whole = talk.client_table.outgoing(1).to_vec();
    let mut read: Vec<u8> = Vec::new();
    while let [1] = talk.client_table.to_write()[..] {
        read.extend(talk.client_table.outgoing(1).iter().take(7));
        talk.client_table
            .wrote(1, talk.client_table.outgoing(1).len().min(7), at(5));
        // The kernel takes no more until it says so.
        talk.client_table.wrote(1, 0, at(5));
        assert_eq!(talk.client_table.to_write(), []);
        talk.client_table.woke(Some(1));
    }
    assert_eq!(read, whole);
    assert!(whole.ends_with(b"}\n"));
}

#[test]
fn clients_have_deadlines_but_not_while_their_command_runs() {
    let mut talk = Talk::new(monitor());
    for client in 2..=3 {
        talk.client_table.add(client, Time::START);
        talk.client_table.read_all(client);
    }
    go_to(&mut talk.monitor, 1000);
    talk.send(1, "reload\n");
    talk.send(2, "show\n");
    talk.turn();
    let unread = at(1000) + client::UNREAD;
    assert_eq!(talk.client_table.next(), Some(unread));
    assert_eq!(talk.client_table.take_over(at(1000)), []);
    assert_eq!(talk.client_table.take_over(unread), [2], "it does not read");
    let idle = Time::START + client::IDLE;
    assert_eq!(talk.client_table.next(), Some(idle));
    assert_eq!(talk.client_table.take_over(idle), [3], "it says nothing");
    assert_eq!(
        talk.client_table.next(),
        None,
        "a reload takes as long as it takes"
    );
    assert_eq!(
        talk.client_table
            .take_over(idle + Duration::from_secs(9999)),
        []
    );
}

/// Time counts from the last byte that it has read: a slow reader of a long answer is no idle one.
#[test]
fn a_slow_reader_gets_its_time_again_with_each_byte() {
    let mut talk = Talk::new(monitor());
    talk.send(1, "show\n");
    talk.turn();
    talk.client_table.wrote(1, 1, at(9000));
    assert_eq!(talk.client_table.next(), Some(at(9000) + client::UNREAD));
}

#[test]
fn a_newcomer_takes_the_place_of_the_one_that_was_idle_for_the_longest() {
    let mut talk = Talk::new(monitor());
    for client in 2..=CLIENTS as u64 {
        assert_eq!(talk.client_table.make_room().ok(), Some(None));
        talk.client_table.add(client, at(client));
        talk.client_table.read_all(client);
    }
    talk.send(1, "reload\n");
    talk.send(2, "show\n");
    talk.turn();
    assert_eq!(
        talk.client_table.make_room().ok(),
        Some(Some(3)),
        "1 waits, 2 reads"
    );
    talk.client_table.add(3, at(3));
    for client in 3..=CLIENTS as u64 {
        talk.send(client, "reload\n");
    }
    talk.turn();
    talk.client_table.left(7);
    assert_eq!(
        talk.client_table.make_room().ok(),
        Some(Some(7)),
        "it has gone"
    );
    talk.client_table.add(7, at(7));
    talk.send(7, "reload\n");
    talk.turn();
    let refusal = talk
        .client_table
        .make_room()
        .expect_err("a refusal")
        .into_line();
    assert_eq!(code(String::from_utf8(refusal).unwrap().trim_end()), "busy");
}

#[test]
fn a_socket_that_cannot_be_accepted_on_is_tried_again() {
    let mut client_table = ClientTable::default();
    assert!(!client_table.accepts(at(9)) && client_table.next().is_none());
    client_table.woke(None);
    assert!(client_table.accepts(Time::START));
    assert_eq!(client_table.next(), Some(Time::START));
    client_table.accept_failed(at(1000));
    assert!(!client_table.accepts(at(1999)) && client_table.accepts(at(2000)));
    assert_eq!(client_table.next(), Some(at(2000)));
    client_table.accepted_all();
    assert_eq!(client_table.next(), None);
}

#[test]
fn a_retired_child_gets_no_signal_from_the_command_itself() {
    let mut talk = Talk::new(monitor());
    let id = child(&mut talk.monitor, State::Free);
    talk.ask("retire 1001");
    assert!(!asked(&mut talk.monitor).contains(&PlainTask::Signal(id, Signal::Interrupt)));
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
