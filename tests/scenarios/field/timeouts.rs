//! A timeout that is set while children run reaches them.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    o19_a_shorter_timeout_reaches_children_that_run,
    o19_a_longer_timeout_reaches_children_that_run: long,
    o19_a_timeout_can_be_switched_on_and_off: long,
];

/// Children take the new interval from the board, and are judged by the new timeout from then on; a
/// child that hangs is found after the new timeout.
///
/// Without `Comm::follow` and `Child::known_timeout`: the idle children are ended, again and again.
fn o19_a_shorter_timeout_reaches_children_that_run(world: &mut World) {
    let (server, mut stdin) = commanded(
        world,
        &[
            "--timeout",
            "2000",
            "--check",
            "100",
            "--kill-timeout",
            "500",
        ],
    );
    let (mut client, pid) = served(&server);
    let mut children = server.expect_children(2);
    command(&server, &mut stdin, "t800");
    holds("nobody is ended", Duration::from_secs(5), || {
        exits(&server) == 0
    });
    assert_eq!(client.ask("who?"), pid.to_string());
    children.retain(|&child| child != pid);
    stop(children[0]);
    let how = format!("exited {} TimedOut", children[0]);
    server.expect_stdout("its end", |text| text.contains(&how));
    drop(client);
    ends(&server);
}

/// A handler may take longer from the moment at which the timeout is raised, and ACKs come less
/// often.
///
/// Without `Comm::follow`: 12 ACKs of two children in 3 s.
fn o19_a_longer_timeout_reaches_children_that_run(world: &mut World) {
    let (server, mut stdin) = commanded(world, &["--timeout", "1000"]);
    let (mut client, pid) = served(&server);
    command(&server, &mut stdin, "t4000");
    for _ in 0..3 {
        assert_eq!(client.ask("work"), pid.to_string());
    }
    assert_eq!(exits(&server), 0);
    let before = acks(&server, &mut stdin);
    holds("nobody is ended", Duration::from_secs(3), || {
        exits(&server) == 0
    });
    let heard = acks(&server, &mut stdin) - before;
    assert!(heard <= 6, "{heard} ACKs");
    drop(client);
    ends(&server);
}

/// If the timeout is raised from zero, idle children that cannot know of it are not judged, and a
/// child that hangs with a connection is ended. If it is set to zero, no child is ended.
fn o19_a_timeout_can_be_switched_on_and_off(world: &mut World) {
    let (server, mut stdin) = commanded(world, &["--kill-timeout", "500"]);
    server.address();
    server.expect_children(2);
    command(&server, &mut stdin, "t1000");
    holds("nobody is ended", Duration::from_secs(3), || {
        exits(&server) == 0
    });
    let (mut client, pid) = served(&server);
    // It knows by now, and is checked once more before it is judged.
    holds("it is not ended", Duration::from_secs(3), || {
        exits(&server) == 0
    });
    client.send_line("hang");
    let how = format!("exited {pid} TimedOut");
    server.expect_stdout("its end", |text| text.contains(&how));
    drop(client);
    command(&server, &mut stdin, "t0");
    let (mut client, pid) = served(&server);
    assert_eq!(client.ask("work"), pid.to_string());
    assert_eq!(exits(&server), 1);
    drop(client);
    ends(&server);
}
