//! The screens of `prefork top` as lines of text.

use super::{super::keys::KeyPress, *};
use crate::snapshot::{StatusDocument, tests::snapshot};
use ratatui::{Terminal, backend::TestBackend};

/// The screen as lines of text.
fn screen(view: &TopView, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, view)).expect("a screen");
    let buffer = terminal.backend().buffer();
    let cells: Vec<_> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    cells
        .chunks(usize::from(width))
        .map(|line| line.concat())
        .collect()
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn a_screen_has_the_server_its_children_and_the_keys() {
    let view = TopView::new(snapshot(), true);
    let lines = screen(&view, 100, 24);
    for text in [
        "process 4711  serving, ready  up 2 h  epoch 2",
        " 1 busy 1 free of at most 50",
        "12.0 (1s)",
        "queued 4 and unknown",
        "PID      STATE     AGE      CONNS     BUSY v",
        "4712     busy      61.2 s   40        250 ms   4 ms     192.0.2.1:50000",
        "GET /reports/42",
        "q quit",
    ] {
        assert!(has(&lines, text), "{text}\n{}", lines.join("\n"));
    }
}

#[test]
fn details_have_the_child_and_the_death_before_it() {
    let mut view = TopView::new(snapshot(), true);
    view.press(KeyPress::Enter);
    assert!(has(&screen(&view, 100, 24), "no death in its slot"));
    assert!(has(
        &screen(&view, 100, 24),
        "told to stop: reloaded  for 2.0 s"
    ));
    view.press(KeyPress::End);
    let lines = screen(&view, 100, 24);
    for text in [
        "child 4799 #1.9  free",
        "last death child 4713 #1.2: overtime (signal: 9 (SIGKILL))",
        "at render at src/page.rs:7",
        "| out of cheese",
        "| \u{fffd}[31mred",
    ] {
        assert!(has(&lines, text), "{text}\n{}", lines.join("\n"));
    }
    view.press(KeyPress::Tab);
    let lines = screen(&view, 100, 24);
    assert!(
        has(&lines, "9.5 s    4713     overtime"),
        "{}",
        lines.join("\n")
    );
}

#[test]
fn details_have_the_stack_of_a_living_child() {
    let mut view = TopView::new(snapshot(), true);
    view.press(KeyPress::Char('t'));
    let calls = (0..40).map(|call| format!("  at app::f{call} \u{1b}[31m"));
    let lines = ["child 4713 is in app::f7".to_owned()];
    view.show_stack(4713, lines.into_iter().chain(calls).collect());
    let lines = screen(&view, 100, 24);
    for text in [
        "ago:",
        "child 4713 is in app::f7",
        "  at app::f0 \u{fffd}[31m",
    ] {
        assert!(has(&lines, text), "{text}\n{}", lines.join("\n"));
    }
    assert!(!has(&lines, "app::f39"));
    for _ in 0..100 {
        view.press(KeyPress::Char('J'));
    }
    let lines = screen(&view, 100, 24);
    for text in ["app::f39", "no death in its slot"] {
        assert!(has(&lines, text), "{text}\n{}", lines.join("\n"));
    }
    // There is no room for a frame without text.
    screen(&view, 20, 3);
}

#[test]
fn the_last_line_says_what_keys_do_now() {
    let mut view = TopView::new(snapshot(), true);
    let last = |view: &TopView| screen(view, 100, 24).pop().unwrap_or_default();
    view.press(KeyPress::Char('x'));
    assert!(last(&view).starts_with("retire child 4713? y for yes"));
    view.press(KeyPress::Char('n'));
    view.press(KeyPress::Char('/'));
    view.press(KeyPress::Char('a'));
    assert!(last(&view).starts_with("/a_"));
    view.press(KeyPress::Enter);
    assert!(last(&view).starts_with("only \"a\"; Esc shows all"));
    view.press(KeyPress::Char('?'));
    assert!(has(&screen(&view, 100, 24), "Any key goes back."));
    view.press(KeyPress::Char('?'));
    view.update(Err("connection refused".to_owned()));
    assert!(has(
        &screen(&view, 100, 24),
        "no answer: connection refused"
    ));
}

/// Whatever the size of the terminal, down to none.
#[test]
fn every_size_is_drawn() {
    for has_details in [false, true] {
        for snapshot in [snapshot(), StatusDocument::default()] {
            let mut view = TopView::new(snapshot, true);
            view.has_details = has_details;
            for width in [1, 2, 7, 20, 80, 300] {
                for height in 1..30 {
                    screen(&view, width, height);
                }
            }
        }
    }
}

#[test]
fn a_queue_that_is_not_known_is_no_empty_one() {
    let of = |queued| ListenerEntry {
        queued,
        ..ListenerEntry::default()
    };
    assert_eq!(queued(&[of(None)]), "unknown");
    assert_eq!(queued(&[of(Some(0)), of(Some(3))]), "3");
    assert_eq!(queued(&[of(Some(0)), of(None)]), "0 and unknown");
}

#[test]
fn columns_of_a_spark_are_as_high_as_their_numbers() {
    assert_eq!(
        spark(&[Some(0), Some(1), Some(4), Some(8), None, Some(99)], 8),
        " ▁▄█·█"
    );
    assert_eq!(spark(&[Some(5)], 0), " ");
}
