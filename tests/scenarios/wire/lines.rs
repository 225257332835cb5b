//! Lines on the wire: pieces, unfinished lines, control characters, floods, and a child's last
//! output.

use std::fs;
use std::time::{Duration, Instant};

use prefork_server::Line;

use super::{expect_lines, lines, order, stop};
use crate::support::{SOON, Scenarios, Signal, World, connect, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    buffered_output_of_the_parent_appears_once,
    c11_control_characters_are_escaped,
    c06_flood_keeps_nobody_waiting,
    last_words_before_an_exit_arrive,
    c03_line_without_an_end_comes_in_pieces,
    outputs_come_out_where_they_belong,
    output_is_passed_on_in_a_shutdown,
    c01_tail_without_a_newline_is_output,
];

/// A field of /proc/PID/status, in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let value = value
        .unwrap()
        .trim_start_matches(':')
        .trim_end_matches("kB");
    value.trim().parse().unwrap()
}

/// The parent keeps at most 64 KiB of a line and passes it on in marked pieces of that size: a long
/// line costs no more memory, and no output is lost.
fn c03_line_without_an_end_comes_in_pieces(world: &mut World) {
    // Without the cut in `Framer::line` (no limit in place of `Line::MAX`) the parent grew by 96
    // MiB for 32.
    const MIB: usize = 32;
    world.deadline(Duration::from_secs(60));
    let server = world.spawn("printer", &["--max-clients", "1"]);
    let address = server.address();
    order(&address, &[]);
    let before = memory(server.pid(), "VmHWM");
    let pid = order(
        &address,
        &[&format!("endless {MIB}"), "print ", "print short"],
    );
    expect_lines(&server, &format!("{pid} STDOUT: short"), 1);
    let grown = memory(server.pid(), "VmHWM") - before;
    assert!(grown < 4096, "the parent has grown by {grown} KiB");
    let prefix = format!("{pid} STDOUT: x");
    let stdout = server.stdout();
    let pieces = stdout.lines().filter(|line| line.starts_with(&prefix));
    let sizes: Vec<usize> = pieces.map(|line| line.len() - prefix.len() + 1).collect();
    assert_eq!(sizes, vec![Line::MAX; MIB * 16]);
    order(&address, &[]);
    let report = stop(&server);
    assert_eq!(report.number("bytes"), 0);
}

/// Control characters are escaped in lines that are passed on, so that a child can neither control
/// a terminal nor forge another child's line.
fn c11_control_characters_are_escaped(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let pid = order(&server.address(), &["controls"]);
    expect_lines(
        &server,
        &format!(r"{pid} STDOUT: \x1b[31mred\x07 \x06\r"),
        1,
    );
    expect_lines(
        &server,
        &format!(r"{pid} STDOUT: \x00\t\x7f\u{{85}}café"),
        1,
    );
    stop(&server);
}

/// An unfinished line is passed on when the output ends, and never counts as a word, even if it is
/// the byte of one.
fn c01_tail_without_a_newline_is_output(world: &mut World) {
    let server = world.spawn("printer", &["--max-requests", "1"]);
    let address = server.address();
    let pid = order(&address, &["begin not finished"]);
    expect_lines(&server, &format!("{pid} STDOUT: not finished"), 1);
    let pid = order(&address, &["begin \u{6}"]);
    expect_lines(&server, &format!(r"{pid} STDOUT: \x06"), 1);
    // It is no second ACK.
    assert_eq!(lines(&server.stdout(), &format!("{pid} says Ack")), 1);
    stop(&server);
}

/// A turn of the loop reads at most 64 KiB of each output, so that a parent that is slower than a
/// flooding child still handles all others.
fn c06_flood_keeps_nobody_waiting(world: &mut World) {
    // Without the budget of a turn (`BUDGET` in `run/read.rs`) the parent never came to the others:
    // the line of the first was waited for in vain.
    let server = world.spawn("printer", &["--children", "4", "--timeout", "1000"]);
    let address = server.address();
    server.expect_children(4);
    let mut flooder = connect(&address);
    let flooding: u32 = flooder.ask("pid").parse().unwrap();
    assert_eq!(flooder.ask("flood"), "done");
    let healthy = || {
        let mut children = server.children();
        children.retain(|&child| child != flooding);
        children
    };
    let before = healthy();
    let start = Instant::now();
    let mut printed = 0;
    while start.elapsed() < Duration::from_secs(3) {
        printed += 1;
        let pid = order(&address, &[&format!("print line {printed}")]);
        expect_lines(&server, &format!("{pid} STDOUT: line {printed}"), 1);
    }
    for child in &before {
        let says = format!("{child} says Ack");
        // One at the start, and one every 500 ms.
        server.expect_stdout("their ACKs", |text| lines(text, &says) >= 4);
    }
    let after = healthy();
    assert!(before.iter().all(|child| after.contains(child)));
    drop(flooder);
    let report = stop(&server);
    assert!(report.number("TimedOut") <= 1, "but for the flooder nobody");
}

fn outputs_come_out_where_they_belong(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let pid = order(&server.address(), &["print hello", "complain ouch"]);
    expect_lines(&server, &format!("{pid} STDOUT: hello"), 1);
    let complaint = format!("{pid} STDERR: ouch\n");
    server.expect_stderr("the complaint", |text| text == complaint);
    assert!(!stop(&server).0.contains("ouch"));
}

fn last_words_before_an_exit_arrive(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let address = server.address();
    let mut client = connect(&address);
    let pid = client.ask("pid");
    client.send_line("last-words");
    client.gone();
    expect_lines(&server, &format!("{pid} STDOUT: the end"), 1);
    // A loaded machine may add a warning of the parent's own.
    let said = |text: &str, stream: &str| {
        let lines = text.lines().filter(|line| line.contains(stream));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let expected = |stream, which| {
        let lines = (0..1000).map(|number| format!("{pid} {stream}: {which} {number}\n"));
        lines.collect::<String>()
    };
    let stderr = expected("STDERR", "err");
    server.expect_stderr("the last words", |text| {
        said(text, "STDERR: err ") == stderr
    });
    let stdout = said(&server.stdout(), "STDOUT: out ");
    assert_eq!(stdout, expected("STDOUT", "out"));
    stop(&server);
}

fn output_is_passed_on_in_a_shutdown(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let mut client = connect(&server.address());
    let pid = client.ask("pid");
    server.signal(Signal::SIGTERM);
    server.expect_stdout("the shutdown", |text| text.contains("shutting down"));
    assert_eq!(client.ask("print late"), "done");
    assert_eq!(client.ask("complain later"), "done");
    expect_lines(&server, &format!("{pid} STDOUT: late"), 1);
    server.expect_stderr("the complaint", |text| text.contains("STDERR: later"));
    client.send_line("begin latest");
    drop(client);
    assert!(server.wait(SOON).success());
    expect_lines(&server, &format!("{pid} STDOUT: latest"), 1);
}

/// Children end in every way that flushes what they inherited.
fn buffered_output_of_the_parent_appears_once(world: &mut World) {
    let server = world.spawn(
        "printer",
        &[
            "--unflushed",
            "<once>",
            "--max-requests",
            "1",
            "--children",
            "3",
        ],
    );
    let address = server.address();
    let mut last = 0;
    for orders in [&["print x"][..], &[]] {
        last = order(&address, orders);
    }
    until("the child to leave", SOON, || {
        (!server.children().contains(&last)).then_some(())
    });
    let mut client = connect(&address);
    client.send_line("last-words");
    client.gone();
    server.expect_stdout("the end", |text| text.contains("the end"));
    let report = stop(&server);
    assert_eq!(report.0.matches("<once>").count(), 1);
}
