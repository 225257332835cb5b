//! What a client sends and what it gets: whole records, ends of input, resets, and outputs that fill up.

use std::io::Write;

use super::{pid, stop, stop_with, told, warned};
use crate::support::{Scenarios, World, connect, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    client_that_never_reads_is_disconnected,
    end_of_input_lets_the_answers_out,
    filter_is_exchanged_in_mid_stream,
    half_a_line_is_no_record,
    line_ends_of_the_client,
    line_that_is_too_long,
    output_larger_than_the_socket_takes,
    reset_is_no_news,
];

/// The most memory that a process ever had, in bytes.
fn peak(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living child");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes
        .expect("a size")
        .parse::<usize>()
        .expect("a number")
        * 1024
}

fn client_that_never_reads_is_disconnected(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    let before = peak(child);
    client.send_line("flood");
    let stderr = told(&server, "stopped 1");
    let line =
        "told of write None: what waits for the client exceeds the output limit of 1048576 bytes";
    assert!(stderr.contains(line), "{stderr}");
    assert!(stderr.contains("connection got write error 0"), "{stderr}");
    let grown = peak(child).saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more");
    client.gone();
    let mut next = connect(&server.address());
    assert_eq!(pid(&mut next), child, "the child serves on");
    stop_with(&server, next);
}

fn output_larger_than_the_socket_takes(world: &mut World) {
    let server = world.spawn("obedient", &[]);
    let mut client = connect(&server.address());
    for size in [1_000_000, 1_000_001, 999_999] {
        let answer = client.ask(&format!("big {size}"));
        assert_eq!(answer.len(), size);
    }
    stop_with(&server, client);
}

fn end_of_input_lets_the_answers_out(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    client.send_line("echo a\nbig 900000\necho b");
    client.close_write();
    told(&server, "told of read Some(0)");
    let answers = client.read_rest();
    assert_eq!(answers.len(), 900_005);
    assert!(answers.starts_with("a\nxx") && answers.ends_with("x\nb\n"));
    told(&server, "stopped 1");
    stop(&server);
    assert!(!warned(&server));
}

fn half_a_line_is_no_record(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    client.write_all(b"echo whole\necho ha").unwrap();
    assert_eq!(client.read_line(), "whole");
    drop(client);
    let stderr = told(&server, "stopped 1");
    assert!(stderr.contains("told of read Some(0)"), "{stderr}");
    assert!(stderr.contains("left \"echo ha\""), "{stderr}");
    assert!(!warned(&server));
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop(&server);
}

fn reset_is_no_news(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("echo a"), "a");
    client.reset();
    told(&server, "told of read Some(104)");
    told(&server, "stopped 1");
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop(&server);
    assert!(!warned(&server));
}

fn filter_is_exchanged_in_mid_stream(world: &mut World) {
    let server = world.spawn("obedient", &[]);
    let mut client = connect(&server.address());
    // At once, and byte by byte.
    client.write_all(b"block 7\n[12\n45]echo line\n").unwrap();
    assert_eq!(client.read_line(), "block [12");
    assert_eq!(client.read_line(), "45]");
    assert_eq!(client.read_line(), "line");
    for byte in b"block 4\n[\n\n]echo again\n" {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.read_line(), "block [");
    assert_eq!(client.read_line(), "");
    assert_eq!(client.read_line(), "]");
    assert_eq!(client.read_line(), "again");
    stop_with(&server, client);
    let server = world.spawn("obedient", &["--filter", "stream"]);
    let mut client = connect(&server.address());
    client.write_all(b"no\nlines\r\n").unwrap();
    client.close_write();
    assert_eq!(client.read_rest(), "no\nlines\r\n");
    stop(&server);
}

fn line_ends_of_the_client(world: &mut World) {
    for (filter, end) in [("crlf", "\r\n"), ("auto", "\r\n"), ("auto", "\n")] {
        let server = world.spawn("obedient", &["--filter", filter]);
        let mut client = connect(&server.address());
        for (at, order) in ["echo a", "echo b", "quit"].iter().enumerate() {
            let line = format!("{order}{end}");
            if at == 0 {
                // The two bytes of the line end arrive one by one.
                line.bytes()
                    .for_each(|byte| client.write_all(&[byte]).unwrap());
            } else {
                client.write_all(line.as_bytes()).unwrap();
            }
        }
        let expected = format!("a{end}b{end}bye{end}");
        assert_eq!(client.read_rest(), expected, "{filter}");
        stop(&server);
    }
}

fn line_that_is_too_long(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    // The server may be gone before all of it is sent.
    let _ = client.write_all(&vec![b'z'; 200_000]);
    let stderr = told(&server, "stopped 1");
    let line = "told of read None: a record exceeds the input limit of 65536 bytes; left \"zzz";
    assert!(stderr.contains(line), "{stderr}");
    assert!(warned(&server));
    client.gone();
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop(&server);
}
