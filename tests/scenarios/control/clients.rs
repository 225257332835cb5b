//! The clients of the control socket: several commands at once, none that is read, one that goes, too many.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    pipelined_commands_are_answered_in_order,
    a_client_that_goes_while_its_reload_runs_changes_nothing,
    a_client_that_ends_its_side_gets_its_answers,
    n01_clients_that_do_not_read_hold_up_nobody,
    n01_clients_beyond_the_limit_take_the_place_of_idle_ones,
];

fn pipelined_commands_are_answered_in_order(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let mut client = controlled.client();
    let mut lines = String::new();
    for number in 1..=100 {
        lines += &format!("set max_clients {number}\nget max_clients\n");
    }
    lines += "reload\nget max_clients\nrelod\n";
    client.write_all(lines.as_bytes()).expect("all of them");
    for number in 1..=100 {
        let value = format!("\"new\":\"{number}\"");
        let set = client.read_line();
        assert!(set.contains(&value), "{set}");
        let value = format!("\"value\":\"{number}\"");
        let get = client.read_line();
        assert!(get.contains(&value), "{get}");
    }
    let reload = client.read_line();
    assert_eq!(number(&reload, "epoch"), 1.0);
    assert!(client.read_line().contains("\"value\":\"100\""));
    expect_error(&client.read_line(), "usage");
    controlled.stop();
}

fn a_client_that_goes_while_its_reload_runs_changes_nothing(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let (client, gate) = controlled.reload_slowly(world);
    let descriptors = controlled.server.descriptors().len();
    drop(client);
    until("its descriptor to be closed", SOON, || {
        (controlled.server.descriptors().len() < descriptors).then_some(())
    });
    // One that sends and goes at once is heard as well.
    controlled.client().send_line("set max_clients 19");
    until("its value", SOON, || {
        let get = controlled.ask("get max_clients");
        get.contains("\"value\":\"19\"").then_some(())
    });
    gate.open();
    until("the reload", SOON, || {
        let show = controlled.ask("show");
        show.contains("\"state\":\"running\"").then_some(())
    });
    assert_eq!(number(&controlled.ask("show"), "epoch"), 1.0);
    controlled.stop();
}

fn a_client_that_ends_its_side_gets_its_answers(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.ready(3);
    let mut client = UnixStream::connect(&controlled.path).expect("a connection");
    client
        .set_read_timeout(Some(patient(SOON)))
        .expect("a socket");
    client
        .write_all(b"reload\r\nget max_clients")
        .expect("the commands");
    client.shutdown(Shutdown::Write).expect("the end");
    let mut answers = String::new();
    client.read_to_string(&mut answers).expect("the answers");
    let answers: Vec<_> = answers.lines().collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(number(answers[0], "replaced"), 3.0);
    assert!(answers[1].contains("\"value\":\"20\""), "{answers:?}");
    controlled.stop();
}

/// Connections that send all they can and read nothing: the parent goes on, in bounded memory.
fn n01_clients_that_do_not_read_hold_up_nobody(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let memory = || crate::reload::memory(controlled.server.pid());
    controlled.ask("show");
    let before = memory();
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let mut client = UnixStream::connect(&controlled.path).expect("a connection");
        client.set_nonblocking(true).expect("a socket");
        let shows = "show\n".repeat(1000);
        while client.write_all(shows.as_bytes()).is_ok() {}
        stuck.push(client);
    }
    // One sends a line without an end.
    let mut endless = UnixStream::connect(&controlled.path).expect("a connection");
    endless
        .set_write_timeout(Some(patient(SOON)))
        .expect("a socket");
    for _ in 0..1000 {
        endless.write_all(&[b'x'; 4096]).expect("it is read");
    }
    endless.write_all(b"\n").expect("it is read");
    let mut answer = String::new();
    BufReader::new(&endless)
        .read_line(&mut answer)
        .expect("an answer");
    expect_error(answer.trim_end(), "usage");
    let began = Instant::now();
    for _ in 0..20 {
        expect_ok(&controlled.ask("get max_clients"));
        connect(&controlled.server.address()).ask("who");
    }
    println!("20 commands and 20 connections in {:?}", began.elapsed());
    let grown = memory().saturating_sub(before);
    assert!(grown < 2 << 20, "the parent has grown by {grown} bytes");
    drop(stuck);
    controlled.stop();
}

/// One more client than there may be takes the place of one that waits for nothing.
fn n01_clients_beyond_the_limit_take_the_place_of_idle_ones(world: &mut World) {
    let controlled = Controlled::new(world, &[]);
    controlled.pids(3);
    let mut clients: Vec<_> = (0..16).map(|_| controlled.client()).collect();
    for client in &mut clients {
        expect_ok(&client.ask("get timeout"));
    }
    // The seventeenth takes the place of the one that was idle for the longest.
    expect_ok(&clients[0].ask("get timeout"));
    let mut newcomer = controlled.client();
    expect_ok(&newcomer.ask("get timeout"));
    clients.remove(1).eof();
    clients.push(newcomer);
    // All of them wait for a child that does not leave, and so there is no room for one more.
    let mut held = connect(&controlled.server.address());
    let pid = who(&mut held);
    for client in &mut clients {
        client.send_line(&format!("retire {pid}"));
    }
    expect_error(&controlled.client().read_line(), "busy");
    drop(held);
    for mut client in clients {
        expect_ok(&client.read_line());
    }
    controlled.stop();
}
