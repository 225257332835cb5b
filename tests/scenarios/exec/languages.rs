//! Children in Perl and in Python, which say their own words, and the example that runs them.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Report, ready_children, signal, spawn, stop, stop_ready, until_gone};
use crate::support::{SOON, Scenarios, Signal, World, connect, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    perl_serves_and_reports,
    perl_is_killed_when_it_blocks,
    perl_leaves_after_max_requests,
    perl_leaves_at_sigint_between_connections,
    perl_finishes_what_is_in_hand,
    perl_dies_with_the_parent,
    python_serves_and_reports,
    python_is_killed_when_it_blocks,
    python_leaves_after_max_requests,
    python_leaves_at_sigint_between_connections,
    python_finishes_what_is_in_hand,
    python_dies_with_the_parent,
    example_runs_without_arguments,
    example_takes_a_path_and_a_program,
    perl_speaks_the_words_of_poe,
    stuck_orphan_ends_after_its_grace,
];

// Perl and Python.

#[derive(Clone, Copy, Debug)]
enum Language {
    Perl,
    Python,
}

impl Language {
    /// The child in this language, with `options`. `None`, and a message, if it is not there.
    fn child(self, options: &[&str]) -> Option<Vec<String>> {
        // The interpreter itself, past whatever chooses one.
        let (name, question, script) = match self {
            Self::Perl => ("perl", ["-e", "print $^X"], "perl/echo.pl"),
            Self::Python => (
                "python3",
                ["-c", "import sys; sys.stdout.write(sys.executable)"],
                "python/echo.py",
            ),
        };
        let answer = Command::new(name)
            .args(question)
            .stdin(Stdio::null())
            .output();
        let Ok(answer) = answer else {
            println!("skipped: there is no {name}");
            return None;
        };
        let interpreter = String::from_utf8(answer.stdout).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(script);
        let mut command = vec![interpreter, script.display().to_string()];
        command.extend(options.iter().map(|option| (*option).to_owned()));
        Some(command)
    }
}

fn serves_and_reports(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(
        world,
        &["--start-servers", "3", "--timeout", "4000"],
        &child,
    );
    let address = server.address();
    for round in 0..5 {
        let mut client = connect(&address);
        assert_eq!(client.ask("hello"), "hello");
        assert_eq!(client.ask(&round.to_string()), round.to_string());
        client.close_write();
        client.eof();
    }
    ready_children(&server, 3);
    let report = stop(&server);
    assert_eq!(report.count("BUSY"), 5, "{report:?}");
    assert!(report.count("NOT_BUSY") >= 5, "{report:?}");
    assert!(report.count("ACK") >= 1, "{report:?}");
    assert_eq!(report.count("Shutdown"), 3, "{report:?}");
    assert_eq!(server.stderr(), "");
}

fn is_killed_when_it_blocks(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let flags = ["--timeout", "1500", "--kill-timeout", "300"];
    let server = spawn(world, &flags, &child);
    let address = server.address();
    let first = server.expect_children(1)[0];
    let mut stuck = connect(&address);
    assert_eq!(stuck.ask("hello"), "hello");
    stuck.send_line("spin");
    // Somebody else has taken its place long before it is found out.
    assert_eq!(connect(&address).ask("other"), "other");
    stuck.gone();
    until_gone(first);
    assert_eq!(connect(&address).ask("after"), "after");
    let report = stop_ready(&server);
    assert_eq!(report.count("TimedOut"), 1, "{report:?}");
}

fn leaves_after_max_requests(world: &mut World, language: Language) {
    let Some(child) = language.child(&["--max-requests", "2"]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "2"], &child);
    let address = server.address();
    let first = server.expect_children(2);
    // Newcomers take their share, so how many connections it takes is the kernel's choice.
    until("both of the first to be gone", SOON, || {
        let mut client = connect(&address);
        assert_eq!(client.ask("hello"), "hello");
        client.close_write();
        client.eof();
        let children = server.children();
        first
            .iter()
            .all(|old| !children.contains(old))
            .then_some(())
    });
    assert_eq!(connect(&address).ask("after"), "after");
    let report = stop_ready(&server);
    assert!(report.count("Finished") >= 1, "{report:?}");
    assert_eq!(report.count("FailedStart"), 0, "{report:?}");
    // Nobody served more than two.
    assert!(
        report.count("BUSY") <= 2 * report.count("forked"),
        "{report:?}"
    );
}

fn leaves_at_sigint_between_connections(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "2"], &child);
    let address = server.address();
    assert_eq!(connect(&address).ask("hello"), "hello");
    let first = ready_children(&server, 2);
    for child in first {
        signal(child, Signal::SIGINT);
        until_gone(child);
    }
    assert_eq!(connect(&address).ask("again"), "again");
    let report = stop_ready(&server);
    assert!(report.count("Finished") >= 1, "{report:?}");
    // Nobody was ended by the signal itself.
    assert_eq!(report.count("Killed"), 0, "{report:?}");
    assert!(!server.stderr().contains("SIGINT"), "{}", server.stderr());
}

fn finishes_what_is_in_hand(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "3"], &child);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("hello"), "hello");
    ready_children(&server, 3);
    server.signal(Signal::SIGTERM);
    // The others are gone, so this one was told as well.
    server.expect_children(1);
    assert_eq!(client.ask("still there"), "still there");
    client.close_write();
    client.eof();
    assert!(server.wait(SOON).success());
}

fn dies_with_the_parent(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "4"], &child);
    let address = server.address();
    let mut client = connect(&address);
    assert_eq!(client.ask("hello"), "hello");
    server.kill9();
    until("all children but the busy one to be gone", SOON, || {
        (world.orphans().len() == 1).then_some(())
    });
    assert_eq!(client.ask("still there"), "still there");
    client.close_write();
    client.eof();
    until("the last child to be gone", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

macro_rules! in_both_languages {
    ($($test:ident: $perl:ident, $python:ident;)*) => {$(
        fn $perl(world: &mut World) {
            $test(world, Language::Perl);
        }

        fn $python(world: &mut World) {
            $test(world, Language::Python);
        }
    )*};
}
in_both_languages! {
    dies_with_the_parent: perl_dies_with_the_parent, python_dies_with_the_parent;
    finishes_what_is_in_hand: perl_finishes_what_is_in_hand, python_finishes_what_is_in_hand;
    is_killed_when_it_blocks: perl_is_killed_when_it_blocks, python_is_killed_when_it_blocks;
    leaves_after_max_requests: perl_leaves_after_max_requests, python_leaves_after_max_requests;
    leaves_at_sigint_between_connections:
        perl_leaves_at_sigint_between_connections, python_leaves_at_sigint_between_connections;
    serves_and_reports: perl_serves_and_reports, python_serves_and_reports;
}

fn perl_speaks_the_words_of_poe(world: &mut World) {
    let Some(child) = Language::Perl.child(&["--words", "poe"]) else {
        return;
    };
    let server = spawn(world, &["--words", "poe"], &child);
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    let report = stop(&server);
    assert_eq!(report.count("BUSY"), 1, "{report:?}");
    // Nothing but words was printed: no line has come through.
    assert!(!server.stdout().contains("STDOUT"), "{}", server.stdout());
}

fn stuck_orphan_ends_after_its_grace(world: &mut World) {
    for language in [Language::Perl, Language::Python] {
        let Some(child) = language.child(&["--grace", "0.3"]) else {
            continue;
        };
        let server = spawn(world, &[], &child);
        let mut client = connect(&server.address());
        assert_eq!(client.ask("hello"), "hello");
        client.send_line("spin");
        server.kill9();
        client.gone();
        until("the stuck child to be gone", SOON, || {
            world.orphans().is_empty().then_some(())
        });
    }
}

// The example.

fn example_runs_without_arguments(world: &mut World) {
    if Language::Perl.child(&[]).is_none() {
        return;
    }
    let server = world.run_example("exec", &["--port", "0"]);
    let said = server.expect_stdout("the hint", |text| text.contains("try: nc 127.0.0.1 "));
    assert!(said.contains("say spin"), "{said}");
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn example_takes_a_path_and_a_program(world: &mut World) {
    let Some(child) = Language::Python.child(&["--words", "poe"]) else {
        return;
    };
    let path = world.tempdir().join("socket").display().to_string();
    let mut arguments = vec![
        "--words",
        "poe",
        "--path",
        &path,
        "--start-servers",
        "2",
        "--",
    ];
    arguments.extend(child.iter().map(String::as_str));
    let server = world.run_example("exec", &arguments);
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    let report = Report::of(&server);
    assert_eq!(report.count("BUSY"), 1, "{report:?}");
}
