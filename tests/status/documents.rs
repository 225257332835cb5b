//! What the documents say, against what the server does.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::json::Json;
use crate::support::{
    Address, SOON, Scenarios, Server, World, connect, processes, scenarios, try_connect, until,
};
use crate::web::{document, get, get_accepting, hold, status_of, told, until_code, until_told};

pub const SCENARIOS: Scenarios = scenarios![
    each_document_has_its_type,
    n05_the_document_shows_who_is_busy_with_whom,
    a_death_is_told_with_what_is_known_of_it,
    n05_the_sum_of_connections_never_goes_down,
    the_programs_metrics_are_told,
    promtool_finds_nothing_wrong,
    a_scribbled_board_does_not_harm,
    a_reload_is_counted,
    the_time_in_the_queue_is_told,
    a_saturation_and_who_was_not_served_are_told,
    children_beyond_the_slots_are_counted,
];

fn each_document_has_its_type(world: &mut World) {
    let (server, status) = told(world, &[]);
    let kind = |path| {
        let answer = get(&status, path);
        let mut lines = answer.head.lines();
        let field = lines.find_map(|line| line.strip_prefix("Content-Type: "));
        (answer.code, field.unwrap().to_owned())
    };
    let text = "text/plain; charset=utf-8";
    for (path, code, right) in [
        ("/status.json", 200, "application/json"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
        ("/health", 200, text),
        ("/nowhere", 404, text),
    ] {
        assert_eq!(kind(path), (code, right.to_owned()), "{path}");
    }
    let open = get_accepting(&status, "/metrics", "application/openmetrics-text");
    assert!(
        open.head
            .contains("application/openmetrics-text; version=1.0.0")
    );
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn states(document: &Json) -> [f64; 4] {
    ["starting", "free", "busy", "stopping"].map(|state| document["children"][state].number())
}

/// The parent stands still, and all children are busy.
fn n05_the_document_shows_who_is_busy_with_whom(world: &mut World) {
    let (server, status) = told(world, &["--children", "3"]);
    let clients = [hold(&server), hold(&server), hold(&server)];
    let mut clients = clients.into_iter();
    let (mut first, pid) = clients.next().unwrap();
    assert_eq!(first.ask("thinking \"hard\""), "thinking \"hard\"");
    until_told(&status, "all to be busy", |document| {
        (states(document) == [0.0, 0.0, 3.0, 0.0]).then_some(())
    });
    server.signal(Signal::SIGSTOP);
    let document = document(&status);
    let slot = document["slots"].with("pid", pid).expect("its slot");
    assert_eq!(slot["state"].text(), "busy");
    assert_eq!(slot["text"].text(), "thinking \"hard\"");
    assert_eq!(slot["peer"].text(), first.local_address().to_string());
    assert_eq!(slot["connections"], Json::Number(1.0));
    assert!(slot["busy_seconds"].number() < 30.0 && slot["age_seconds"].number() < 30.0);
    assert_eq!(document["counters"]["connections"], Json::Number(3.0));
    let listener = &document["listeners"].list()[0];
    assert_eq!(listener["name"].text(), server.address().to_string());
    assert_eq!(document["attributes"]["max_clients"]["value"].text(), "3");
    // The parent does not run, and another client changes what the helper sees all the same.
    drop((first, clients));
    until_told(&status, "all to be free", |document| {
        (states(document) == [0.0, 3.0, 0.0, 0.0]).then_some(())
    });
    server.signal(Signal::SIGCONT);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn a_death_is_told_with_what_is_known_of_it(world: &mut World) {
    let (server, status) = told(world, &[]);
    let (mut client, pid) = hold(&server);
    client.send_line("die");
    client.gone();
    let death = until_told(&status, "the death", |document| {
        document["deaths"].with("pid", pid).cloned()
    });
    assert_eq!(death["cause"].text(), "killed");
    assert_eq!(death["signal"], Json::Number(6.0));
    assert_eq!(death["connections"], Json::Number(1.0));
    assert!(death["in_hand_seconds"].number() >= 0.0);
    assert_eq!(
        death["last_lines"].list(),
        [Json::Text("out of cheese".into())]
    );
    assert!(death["usage"]["max_resident_bytes"].number() > 0.0);
    let document = document(&status);
    assert_eq!(document["counters"]["deaths"]["killed"], Json::Number(1.0));
    assert!(document["slots"].with("pid", pid).is_none());
    let ago = document["server"]["now"].number() - death["at"].number();
    assert!((0.0..30.0).contains(&ago), "{ago}");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn connections(status: &Address) -> f64 {
    document(status)["counters"]["connections"].number()
}

/// While children end and are replaced, the sum never goes down, which a scraper would take for a
/// restart; and in the end it is right.
fn n05_the_sum_of_connections_never_goes_down(world: &mut World) {
    const CLIENTS: usize = 300;
    let (server, status) = told(world, &["--children", "4", "--max-requests", "3"]);
    let address = server.address();
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            for _ in 0..CLIENTS {
                connect(&address).ask("hello");
            }
        });
        let mut last = 0.0;
        while !clients.is_finished() {
            let now = connections(&status);
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    });
    // A child that has just been forked is shown a moment later.
    until("all connections to be counted", SOON, || {
        (connections(&status) == CLIENTS as f64).then_some(())
    });
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn the_programs_metrics_are_told(world: &mut World) {
    let (server, status) = told(world, &[]);
    let (mut client, pid) = hold(&server);
    client.ask("hello");
    // What a child has counted that was killed counts on.
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    client.gone();
    until_told(&status, "the death", |document| {
        document["deaths"].with("pid", pid).map(drop)
    });
    connect(&server.address()).ask("hello");
    let metrics = until_told(&status, "three lines", |document| {
        let metrics = document["metrics"].list().to_vec();
        (metrics[0]["value"] == Json::Number(3.0)).then_some(metrics)
    });
    assert_eq!(metrics[0]["name"].text(), "lines");
    assert_eq!(metrics[1]["counts"].list()[0], Json::Number(3.0));
    let killed = "prefork_child_exits_total{reason=\"killed\"} 1\n";
    // The parent writes its record after it has added up what the child had counted.
    let text = until("the death to be told", SOON, || {
        let text = get(&status, "/metrics").body;
        text.contains(killed).then_some(text)
    });
    for line in [
        "lines_total 3\n",
        "line_seconds_bucket{le=\"0.5\"} 3\n",
        "line_seconds_sum 0.75\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Skipped where promtool is not installed.
fn promtool_finds_nothing_wrong(world: &mut World) {
    let (server, status) = told(world, &[]);
    connect(&server.address()).ask("hello");
    let text = get(&status, "/metrics").body;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    match promtool {
        Err(error) => println!("skipped: promtool: {error}"),
        Ok(mut promtool) => {
            promtool
                .stdin
                .take()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            let found = promtool.wait_with_output().unwrap();
            assert!(found.status.success(), "{found:?} in {text}");
            assert!(found.stderr.is_empty(), "{found:?}");
        }
    }
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Every child writes nonsense over its slot; the helper answers, and the sums are right once they have
/// gone.
fn a_scribbled_board_does_not_harm(world: &mut World) {
    let (server, status) = told(world, &["--children", "3"]);
    let helper = helper(&server);
    let mut clients: Vec<_> = (0..3).map(|_| hold(&server)).collect();
    for (client, _) in &mut clients {
        assert_eq!(client.ask("scribble"), "scribbled");
    }
    for _ in 0..200 {
        let found = document(&status);
        assert!(found["slots"].list().len() <= 3);
        assert_eq!(get(&status, "/metrics").code, 200);
        assert_eq!(get(&status, "/ready").code, 200);
    }
    let pids: Vec<_> = clients.iter().map(|(_, pid)| *pid).collect();
    for pid in &pids {
        // OK if the parent has replaced it: a random number may ask for that.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
    drop(clients);
    until_told(&status, "new children", |document| {
        let slots = document["slots"].list();
        let gone = pids
            .iter()
            .all(|pid| document["slots"].with("pid", *pid).is_none());
        let free = |slot: &Json| slot["state"].text() == "free";
        (gone && !slots.is_empty() && slots.iter().all(free)).then_some(())
    });
    let before = connections(&status);
    assert!(before <= 3.0, "{before}");
    until("a client to be served", SOON, || {
        let mut client = try_connect(&server.address()).ok()?;
        client.try_send_line("hello").ok()?;
        client.try_read_line().ok().flatten()
    });
    until("it to be counted", SOON, || {
        (connections(&status) > before).then_some(())
    });
    expect_counted(&server, &status);
    assert!(processes::is_alive(helper), "it has ended");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// The program's own numbers go on counting, from no more than what honest children can have counted.
fn expect_counted(server: &Server, status: &Address) {
    const LINES: usize = 40;
    let mut client = connect(&server.address());
    for _ in 0..LINES {
        client.ask("hello");
    }
    let text = until("the lines to be counted", SOON, || {
        let text = get(status, "/metrics").body;
        (value(&text, "lines_total ") >= LINES as f64).then_some(text)
    });
    let lines = value(&text, "lines_total ");
    assert!(lines < 2.0 * LINES as f64, "{lines}");
    assert_eq!(value(&text, "line_seconds_count "), lines);
    assert_eq!(value(&text, "line_seconds_bucket{le=\"0.5\"} "), lines);
    assert_eq!(value(&text, "line_seconds_sum "), 0.25 * lines);
}

/// The process that answers.
pub fn helper(server: &crate::support::Server) -> u32 {
    until("the helper", SOON, || {
        let children = processes::children(server.pid()).into_iter();
        let mut helpers = children.filter(|process| {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", process.pid));
            comm.is_ok_and(|comm| comm.trim() == "prefork-status")
        });
        helpers.next().map(|process| process.pid)
    })
}

fn a_reload_is_counted(world: &mut World) {
    let (server, status) = told(world, &[]);
    server.signal(Signal::SIGHUP);
    let document = until_told(&status, "the reload", |document| {
        let done = document["counters"]["reloads"] == Json::Number(1.0);
        done.then(|| document.clone())
    });
    assert_eq!(document["server"]["epoch"], Json::Number(1.0));
    let text = get(&status, "/metrics").body;
    assert!(
        text.contains("prefork_reloads_total{result=\"done\"} 1\n"),
        "{text}"
    );
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// One client waits for the only child, the other did not.
fn the_time_in_the_queue_is_told(world: &mut World) {
    let (server, status) = told(world, &["--children", "1"]);
    // Of a connection that is there before its child begins the time is not known.
    until_code(&status, "/ready", 200, SOON);
    let (mut first, _) = hold(&server);
    let mut second = connect(&server.address());
    second.send_line("hello");
    assert!(second.is_silent(Duration::from_millis(400)));
    until_told(&status, "a client that waits", |document| {
        (document["listeners"].list()[0]["queued"] == Json::Number(1.0)).then_some(())
    });
    first.close_write();
    first.eof();
    assert_eq!(second.read_line(), "hello");
    let found = until_told(&status, "both to be counted", |document| {
        let times = &document["listeners"].list()[0]["queue_time"];
        (times["count"] == Json::Number(2.0)).then(|| document.clone())
    });
    let times = &found["listeners"].list()[0]["queue_time"];
    let sum = times["sum_seconds"].number();
    assert!((0.39..30.0).contains(&sum), "{sum}");
    let long = times["bounds"].list().iter().zip(times["counts"].list());
    let short: f64 = long
        .filter(|(bound, _)| bound.number() < 0.3)
        .map(|(_, count)| count.number())
        .sum();
    assert_eq!(short, 1.0, "{times:?}");
    let slot = &found["slots"].list()[0];
    assert!(slot["queued_seconds"].number() > 0.39, "{slot:?}");
    let text = get(&status, "/metrics").body;
    let listener = server.address();
    for line in [
        format!("prefork_connection_queue_seconds_count{{listener=\"{listener}\"}} 2\n"),
        format!(
            "prefork_connection_queue_seconds_bucket{{listener=\"{listener}\",le=\"+Inf\"}} 2\n"
        ),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
    drop(second);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// The value of a metric without labels, or with these.
fn metric(status: &Address, name: &str) -> f64 {
    value(&get(status, "/metrics").body, name)
}

fn value(text: &str, name: &str) -> f64 {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
    let value = values
        .next()
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    value.trim().parse().expect("a number")
}

/// The only child is busy for long: the server is saturated, and who waits meanwhile is too old then.
fn a_saturation_and_who_was_not_served_are_told(world: &mut World) {
    let flags = ["--children", "1", "--max-age", "300"];
    let (server, status) = told(world, &flags);
    until_code(&status, "/ready", 200, SOON);
    let (first, _) = hold(&server);
    let mut late = connect(&server.address());
    let counters = |document: &Json| {
        let counters = &document["counters"];
        let refused = &counters["refused_connections"];
        [
            &counters["saturations"],
            &refused["too_old"],
            &refused["too_many"],
        ]
        .map(Json::number)
    };
    until_told(&status, "the saturation", |document| {
        let lasts = document["server"]["saturated_for_seconds"] != Json::Null;
        (lasts && counters(document) == [1.0, 0.0, 0.0]).then_some(())
    });
    let early = metric(&status, "prefork_saturated_seconds_total ");
    assert!(early >= 1.0, "{early}: it counts from when all were busy");
    drop(first);
    late.gone();
    until_told(&status, "its end", |document| {
        let is_over = document["server"]["saturated_for_seconds"] == Json::Null;
        (is_over && counters(document) == [1.0, 1.0, 0.0]).then_some(())
    });
    let refused = r#"prefork_refused_connections_total{reason="too_old"} "#;
    until("it to be told", SOON, || {
        (metric(&status, refused) == 1.0).then_some(())
    });
    let seconds = document(&status)["counters"]["saturated_seconds"].number();
    assert!(seconds >= early, "{seconds} after {early}");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// The most children were raised above what there are slots for: who has none is in no list, and counts.
fn children_beyond_the_slots_are_counted(world: &mut World) {
    let control = world.tempdir().join("control");
    let flags = ["--children", "2", "--agent", "0", "--control"];
    let (server, status) = told(world, &[&flags[..], &[control.to_str().unwrap()]].concat());
    for order in [
        "set max_clients 6",
        "set max_spare_servers 6",
        "set min_spare_servers 4",
    ] {
        let answer = connect(&Address::Unix(control.clone())).ask(order);
        assert!(answer.contains("\"ok\":true"), "{answer}");
    }
    let clients = [(); 6].map(|()| hold(&server));
    let found = until_told(&status, "six to be busy", |document| {
        (states(document) == [0.0, 0.0, 6.0, 0.0]).then(|| document.clone())
    });
    assert_eq!(found["children"]["total"].number(), 6.0);
    assert_eq!(found["slots"].list().len(), 2);
    assert_eq!(found["counters"]["connections"].number(), 6.0);
    until("them to be told", SOON, || {
        (metric(&status, "prefork_children{state=\"busy\"} ") == 6.0).then_some(())
    });
    // It is an average over some seconds. With two of six taken it would not come below 67.
    let agent = status_of(&server, "agent at ");
    until("a small weight", SOON, || {
        let line = connect(&agent).read_rest();
        let weight = line.strip_prefix("up ready ")?.trim().strip_suffix('%')?;
        (weight.parse::<u32>().unwrap() < 60).then_some(())
    });
    let all = clients.map(|(client, _)| drop(client));
    assert_eq!(all.len(), 6);
    until_told(&status, "none to be busy", |document| {
        let is_right = document["counters"]["connections"].number() == 6.0;
        (is_right && document["children"]["busy"].number() == 0.0).then_some(())
    });
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}
