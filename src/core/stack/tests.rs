//! When a child is asked, which function is named, and the text between the processes.

use super::{
    lines::{ChildStack, MOST_FRAMES, StackParser},
    *,
};
use proptest::prelude::*;

fn named(function: &str, file: &str) -> Frame {
    Frame {
        address: 0x1000,
        function: Some(function.to_owned()),
        file: (!file.is_empty()).then(|| file.to_owned()),
        line: Some(7),
    }
}

fn at(milliseconds: u64) -> Time {
    Time::at(Duration::from_millis(milliseconds))
}

#[test]
fn the_innermost_function_is_the_programs() {
    let innermost_of = |names: &[&str]| {
        let stack: Vec<_> = names.iter().map(|name| named(name, "")).collect();
        innermost(&stack).and_then(|frame| frame.function.clone())
    };
    let stuck = |names: &[&str]| innermost_of(names).unwrap_or_default();
    let libraries = [
        "clock_nanosleep",
        "std::thread::sleep",
        "<std::io::Stdin as std::io::Read>::read",
        "<&mut std::net::TcpStream as std::io::Read>::read",
        "<dyn core::fmt::Debug>::fmt",
        "<[alloc::string::String]>::join",
        "<prefork_server::servers::TcpConn as std::io::Read>::read",
        "core::ops::function::FnOnce::call_once",
        "nix::poll::poll",
        "<mio::poll::Poll>::poll",
        "__rust_begin_short_backtrace",
    ];
    for library in libraries {
        assert_eq!(stuck(&[library, "app::wait", "app::main"]), "app::wait");
    }
    assert_eq!(
        stuck(&["<app::Slow as std::io::Read>::read"]),
        "<app::Slow as std::io::Read>::read"
    );
    assert_eq!(stuck(&["regex::find", "app::main"]), "regex::find");
    // Nothing of the program: better than no name.
    assert_eq!(stuck(&["read", "std::io::read"]), "read");
    assert_eq!(innermost_of(&[]), None);
    assert_eq!(innermost(&[Frame::default()]), None);
}

/// Where it is known, the file decides: an inlined function has a name without a path, and a method
/// for a type of a library may be the program's.
#[test]
fn the_file_tells_whose_a_function_is() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/src/servers/accept.rs");
    for library in [
        named(
            "app_like::call",
            "/rustc/0123/library/core/src/ops/function.rs",
        ),
        named(
            "call",
            "/home/me/.rustup/lib/rustlib/src/rust/library/std/src/rt.rs",
        ),
        named("{closure#0}", own),
        named("inflate", "/usr/src/zlib/inflate.c"),
        named(
            "recv",
            "/home/me/.cargo/registry/src/index-1f/nix-0.31.3/src/sys/socket/mod.rs",
        ),
        named("poll", "vendor/mio/src/poll.rs"),
    ] {
        let stack = [library, named("wait", "/app/src/main.rs")];
        assert_eq!(innermost(&stack), Some(&stack[1]));
    }
    for packages in [
        "/home/me/.cargo/registry/src/index-1f/nixie-0.3/src/nix.rs",
        "/home/me/src/nix.rs",
        "/src/mio/main.rs",
    ] {
        let stack = [named("find", packages), named("wait", "/app/src/main.rs")];
        assert_eq!(innermost(&stack), Some(&stack[0]), "{packages}");
    }
    let method = named(
        "<std::net::TcpStream as app::Slow>::wait",
        "/app/src/slow.rs",
    );
    assert_eq!(innermost(std::slice::from_ref(&method)), Some(&method));
}

#[test]
fn a_frame_says_what_is_known_of_it() {
    let mut frame = named("app::wait", "src/main.rs");
    assert_eq!(frame.to_string(), "app::wait (src/main.rs:7)");
    frame.line = None;
    assert_eq!(frame.to_string(), "app::wait (src/main.rs)");
    frame.file = None;
    assert_eq!(frame.to_string(), "app::wait");
    frame.function = None;
    assert_eq!(frame.to_string(), "0x1000");
}

/// Once when it is judged, once more before SIGKILL, and never again.
#[test]
fn a_child_is_asked_twice_if_it_does_not_answer() {
    let mut request = StackRequest::default();
    assert!(request.ask(at(0)));
    assert!(!request.ask(at(1)), "an answer is expected");
    assert_eq!(request.last_at(at(0), at(5000)), Some(at(4750)));
    request.answered(Vec::new());
    assert_eq!(request.awaited_until(), None);
    assert!(request.ask_last(at(4750)));
    assert_eq!(request.awaited_until(), Some(at(4750) + READ_WITHIN));
    assert_eq!(request.last_at(at(0), at(5000)), None);
}

#[test]
fn a_child_that_has_answered_is_not_asked_again() {
    let mut request = StackRequest::default();
    assert!(request.ask(at(0)));
    request.answered(vec![named("app::wait", "")]);
    assert_eq!(request.last_at(at(0), at(5000)), None);
    assert!(!request.ask(at(1)) && !request.ask_last(at(2)));
    request.answered(Vec::new());
    assert_eq!(request.into_frames(), [named("app::wait", "")]);
}

/// An answer that is still expected does not keep the last question from being asked.
#[test]
fn the_last_question_is_asked_although_an_answer_is_expected() {
    let mut request = StackRequest::default();
    assert!(request.ask(at(0)));
    assert!(request.ask_last(at(100)));
}

#[test]
fn the_last_question_is_never_asked_before_the_child_is_told() {
    let request = StackRequest::default();
    assert_eq!(request.last_at(at(1000), at(1100)), Some(at(1000)));
    assert_eq!(request.last_at(at(1000), at(1000)), Some(at(1000)));
}

fn frames() -> impl Strategy<Value = Frame> {
    let name = || proptest::option::of("[a-z:<> \t\nä]{1,40}");
    (
        any::<u64>(),
        name(),
        name(),
        proptest::option::of(1..u32::MAX),
    )
        .prop_map(|(address, function, file, line)| Frame {
            address,
            function,
            file,
            line,
        })
}

fn read(text: &[u8], piece: usize) -> Vec<ChildStack> {
    let (mut lines, mut found) = (StackParser::default(), Vec::new());
    for piece in text.chunks(piece.max(1)) {
        lines.feed(piece, |told| found.push(told));
    }
    found
}

fn without_controls(text: &Option<String>) -> Option<String> {
    let text = text.as_ref()?;
    Some(text.replace(['\t', '\n'], "\u{fffd}"))
}

proptest! {
    #[test]
    fn what_is_told_is_read_however_it_is_cut(
        slot: u32,
        serial: u32,
        frames in proptest::collection::vec(frames(), 0..20),
        piece in 1_usize..100,
    ) {
        let told = ChildStack { slot, serial, frames };
        let mut expected = told.clone();
        for frame in &mut expected.frames {
            frame.function = without_controls(&frame.function);
            frame.file = without_controls(&frame.file);
        }
        let text = told.lines();
        let twice = [text.as_bytes(), text.as_bytes()].concat();
        prop_assert_eq!(read(&twice, piece), vec![expected.clone(), expected]);
    }

    #[test]
    fn any_bytes_are_taken(bytes: Vec<u8>, piece in 1_usize..100) {
        let mut text = b"child\t1\t2\n".to_vec();
        text.extend(&bytes);
        text.extend(b"\nend\n");
        prop_assert!(read(&bytes, piece).len() <= bytes.len());
        read(&text, piece);
    }
}

#[test]
fn what_is_told_is_bounded() {
    let endless = ChildStack {
        slot: 1,
        serial: 2,
        frames: vec![named(&"ä".repeat(5000), &"f".repeat(5000)); 5000],
    };
    let told = read(endless.lines().as_bytes(), 4096);
    assert_eq!(told[0].frames.len(), MOST_FRAMES);
    assert!(
        told[0].frames[0]
            .function()
            .is_some_and(|name| name.len() <= 1024)
    );
    // A line without an end is not kept, and what comes after it is read.
    let mut lines = StackParser::default();
    for _ in 0..1000 {
        lines.feed(&[b'x'; 4096], |_| panic!("nothing was told"));
    }
    assert!(lines.kept() <= 8192);
    let mut found = 0;
    lines.feed(format!("\n{}", endless.lines()).as_bytes(), |_| found += 1);
    assert_eq!(found, 1);
}
