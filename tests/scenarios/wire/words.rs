//! Words on the wire: among output, broken, as POE writes them, on a channel of their own, and
//! coalesced.

use super::{expect_lines, idle_address, order, stop};
use crate::support::{Scenarios, World, connect, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    broken_line_before_a_word_loses_neither,
    coalescing_saves_words_and_can_be_turned_off,
    poe_words_are_understood,
    printed_word_is_a_word,
    c07_private_channel_makes_all_print_output,
    b05_redirected_stdout_breaks_no_word,
];

// The scenarios.

fn printed_word_is_a_word(world: &mut World) {
    // A second child may be told to stop before it has said any.
    let server = world.spawn("printer", &["--ack-at-start", "--max-clients", "1"]);
    let pid = order(&server.address(), &["acks"]);
    // From `server_start`, from the framework before it accepts, from the handler.
    expect_lines(&server, &format!("{pid} says Ack"), 3);
    let report = stop(&server);
    assert!(!report.0.contains("STDOUT"), "{}", report.0);
    assert_eq!(report.number("ACK"), 2 * report.number("forked") + 1);
}

/// Without the newline that begins each message (`Channel::say`) the word is a part of the line.
fn broken_line_before_a_word_loses_neither(world: &mut World) {
    let server = world.spawn("printer", &["--begin", "begun", "--max-clients", "1"]);
    let pid = order(&idle_address(&server), &[]);
    expect_lines(&server, &format!("{pid} STDOUT: begun"), 1);
    expect_lines(&server, &format!("{pid} says Busy"), 1);
    // One before it waited for the connection, one after it.
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    let report = stop(&server);
    // The newline before a word is no line.
    assert_eq!(report.0.matches("STDOUT").count(), 1, "{}", report.0);
}

fn poe_words_are_understood(world: &mut World) {
    let server = world.spawn("printer", &["--poe", "--max-clients", "1"]);
    let pid = order(&idle_address(&server), &["print 1", "acks"]);
    expect_lines(&server, &format!("{pid} says Ack"), 2);
    expect_lines(&server, &format!("{pid} says Busy"), 1);
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    expect_lines(&server, &format!(r"{pid} STDOUT: \x06"), 1);
    stop(&server);
}

/// Handlers that print foreign text should use `CommChannel::Private`, a separate pipe for words:
/// printed text is never a word then, and nothing breaks if stdout is replaced.
fn c07_private_channel_makes_all_print_output(world: &mut World) {
    // With the words looked for in stdout all the same, the bytes that are words were not printed.
    let server = world.spawn("printer", &["--private", "--max-clients", "1"]);
    let address = idle_address(&server);
    let pid = order(&address, &["all-words", "redirect", "print lost"]);
    for printed in ["1", "2", "3", r"\x06", r"\x13", r"\x11"] {
        expect_lines(&server, &format!("{pid} STDOUT: {printed}"), 1);
    }
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    order(&address, &[]);
    expect_lines(&server, &format!("{pid} says NotBusy"), 3);
    let report = stop(&server);
    assert_eq!((report.number("ACK"), report.number("BUSY")), (1, 2));
    assert!(!report.0.contains(": lost"));
}

/// Words go through a descriptor of their own, not through number 1.
///
/// When words are written to descriptor 1: the NOT_BUSY after the redirection never comes.
fn b05_redirected_stdout_breaks_no_word(world: &mut World) {
    let server = world.spawn("printer", &["--max-clients", "1"]);
    let address = idle_address(&server);
    let pid = order(&address, &["redirect", "print lost"]);
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    order(&address, &[]);
    expect_lines(&server, &format!("{pid} says Busy"), 2);
    expect_lines(&server, &format!("{pid} says NotBusy"), 3);
    assert!(!stop(&server).0.contains(": lost"));
}

/// Ten connections that follow each other without a pause.
fn coalescing_saves_words_and_can_be_turned_off(world: &mut World) {
    for (arguments, words) in [(&[][..], 1), (&["--every-word"][..], 10)] {
        let arguments = [&["--max-clients", "1"], arguments].concat();
        let server = world.spawn("printer", &arguments);
        let address = idle_address(&server);
        let mut first = connect(&address);
        let pid = first.ask("pid");
        // They wait in the backlog, since the only child is busy.
        let mut others: Vec<_> = (1..10).map(|_| connect(&address)).collect();
        for other in &mut others {
            other.send_line("pid");
            other.close_write();
        }
        drop(first);
        for other in &mut others {
            assert_eq!(other.read_rest(), format!("{pid}\n"));
        }
        // One more came before the first wait.
        expect_lines(&server, &format!("{pid} says NotBusy"), words + 1);
        expect_lines(&server, &format!("{pid} says Busy"), words);
        let report = stop(&server);
        let counted = (report.number("BUSY"), report.number("NOT_BUSY"));
        assert_eq!(counted, (words as u64, words as u64 + 1));
    }
}
