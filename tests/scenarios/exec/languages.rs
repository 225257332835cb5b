//! Children in other languages, which say their own words. They run as children of `ExecServer`, and
//! of `prefork run`, whichever the module above is.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{ready_children, signal, spawn, stop, stop_ready, until_gone};
use crate::support::{SOON, Scenarios, Signal, World, connect, holds, scenarios, until};

// The languages, and the helper of each in `examples/languages`.

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    Perl,
    Python,
    Ruby,
    Node,
    Php,
    Shell,
}

impl Language {
    /// The helper, the interpreter, and how to ask that where it is itself, past whatever chooses one.
    /// It says nothing if it lacks what the helper needs.
    fn facts(self) -> (&'static str, &'static str, [&'static str; 2]) {
        match self {
            Self::Perl => ("Prefork.pm", "perl", ["-e", "print $^X"]),
            Self::Python => (
                "prefork.py",
                "python3",
                ["-c", "import sys; sys.stdout.write(sys.executable)"],
            ),
            Self::Ruby => ("prefork.rb", "ruby", ["-e", "print RbConfig.ruby"]),
            Self::Node => ("prefork.js", "node", ["-p", "process.execPath"]),
            Self::Php => (
                "prefork.php",
                "php",
                [
                    "-r",
                    "if (extension_loaded('ffi') && extension_loaded('pcntl')) echo PHP_BINARY;",
                ],
            ),
            // It needs Perl to accept.
            Self::Shell => (
                "prefork.sh",
                "sh",
                ["-c", "command -v perl && command -v sh"],
            ),
        }
    }

    /// The child in this language, with `options`. `None`, and a message, if it cannot be had.
    pub fn child(self, options: &[&str]) -> Option<Vec<String>> {
        let (script, name, question) = self.facts();
        let asked = Command::new(name)
            .args(question)
            .stdin(Stdio::null())
            .output();
        let answer = asked
            .ok()
            .and_then(|asked| String::from_utf8(asked.stdout).ok());
        let Some(interpreter) = answer.as_deref().and_then(|answer| answer.lines().last()) else {
            println!("skipped: there is no {name}, or not with all that {script} needs");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples/languages")
            .join(script);
        let mut command = vec![interpreter.to_owned(), script.display().to_string()];
        command.extend(options.iter().map(|option| (*option).to_owned()));
        Some(command)
    }

    /// Whether it never has two connections in hand.
    fn takes_one_at_a_time(self) -> bool {
        self != Self::Node
    }

    /// How long it may be silent, in milliseconds: the shell says ACK once a second.
    fn timeout(self) -> &'static str {
        match self {
            Self::Shell => "3000",
            // On a busy machine an interpreter takes seconds to start.
            _ => "4000",
        }
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
    if language.takes_one_at_a_time() {
        assert_eq!(report.count("BUSY"), 5, "{report:?}");
        assert!(report.count("NOT_BUSY") >= 5, "{report:?}");
    }
    assert!(report.count("BUSY") >= 1, "{report:?}");
    assert!(report.count("ACK") >= 1, "{report:?}");
    // One more than at first, if all were busy for a moment.
    assert!(report.count("Shutdown") >= 3, "{report:?}");
    assert_eq!(server.stderr(), "");
}

fn is_killed_when_it_blocks(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    if language == Language::Shell {
        // What serves the connection is a process of the child, killed together with it.
        world.expect_orphans();
    }
    let flags = ["--timeout", language.timeout(), "--kill-timeout", "300"];
    let server = spawn(world, &flags, &child);
    let address = server.address();
    let first = server.expect_children(1)[0];
    let mut stuck = connect(&address);
    assert_eq!(stuck.ask("hello"), "hello");
    stuck.send_line("spin");
    // Somebody else has taken its place long before it is found out.
    if language.takes_one_at_a_time() {
        assert_eq!(connect(&address).ask("other"), "other");
    }
    stuck.gone();
    until_gone(first);
    assert_eq!(connect(&address).ask("after"), "after");
    let report = stop_ready(&server);
    // On a busy machine an interpreter may take that long to start.
    assert!(report.count("TimedOut") >= 1, "{report:?}");
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

/// As slow as one that reads nothing of its answer for longer than a child may be silent.
fn says_ack_while_the_client_is_slow(world: &mut World, language: Language) {
    // The shell does not.
    let child = language.child(&[]).filter(|_| language != Language::Shell);
    let Some(child) = child else {
        return;
    };
    let flags = ["--timeout", "2000", "--kill-timeout", "300"];
    let server = spawn(world, &flags, &child);
    let only = server.expect_children(1)[0];
    let mut client = connect(&server.address());
    client.timeout(Duration::from_millis(300)).unwrap();
    let line = [&[b'x'; 99][..], b"\n"].concat();
    let mut sent = 0;
    // Until there is no room any more, neither for what is sent nor for what is answered.
    while let Ok(count) = client.write(&line[sent % line.len()..]) {
        sent += count;
    }
    // For longer than it takes to find a silent child out and to kill it.
    holds("the child lives", Duration::from_secs(6), || {
        server.children().contains(&only)
    });
    client.timeout(SOON).unwrap();
    let mut answer = vec![0; sent - sent % line.len()];
    client.read_exact(&mut answer).unwrap();
    assert!(answer.chunks(line.len()).all(|chunk| chunk == line));
    drop(client);
    stop_ready(&server);
}

/// Each of the scenarios above, in each language; the names begin with that of the language.
macro_rules! in_all_languages {
    ($($scenario:ident $(: $length:ident)?),* $(,)?) => {
        in_all_languages!(@each perl Perl: $($scenario $(: $length)?),*);
        in_all_languages!(@each python Python: $($scenario $(: $length)?),*);
        in_all_languages!(@each ruby Ruby: $($scenario $(: $length)?),*);
        in_all_languages!(@each node Node: $($scenario $(: $length)?),*);
        in_all_languages!(@each php Php: $($scenario $(: $length)?),*);
        in_all_languages!(@each shell Shell: $($scenario $(: $length)?),*);
    };
    (@each $module:ident $language:ident: $($scenario:ident $(: $length:ident)?),*) => {
        pub mod $module {
            use super::{Language, World};
            use crate::support::{Scenarios, scenarios};

            pub const SCENARIOS: Scenarios = scenarios![$($scenario $(: $length)?),*];

            $(fn $scenario(world: &mut World) {
                super::$scenario(world, Language::$language);
            })*
        }
    };
}
in_all_languages! {
    serves_and_reports,
    is_killed_when_it_blocks: long,
    leaves_after_max_requests,
    leaves_at_sigint_between_connections,
    finishes_what_is_in_hand,
    dies_with_the_parent,
    says_ack_while_the_client_is_slow: long,
}

pub const SCENARIOS: Scenarios = scenarios![
    helpers_speak_the_words_of_poe,
    stuck_orphan_ends_after_its_grace,
    the_shell_runs_a_command,
];

fn helpers_speak_the_words_of_poe(world: &mut World) {
    for language in [
        Language::Perl,
        Language::Python,
        Language::Ruby,
        Language::Node,
        Language::Php,
    ] {
        let Some(child) = language.child(&["--words", "poe"]) else {
            continue;
        };
        let server = spawn(world, &["--words", "poe"], &child);
        assert_eq!(connect(&server.address()).ask("hello"), "hello");
        let report = stop_ready(&server);
        assert_eq!(report.count("BUSY"), 1, "{language:?}: {report:?}");
        // Nothing but words was printed: no line has come through.
        assert!(!server.stdout().contains("STDOUT"), "{}", server.stdout());
    }
}

/// Where the language can see to that itself.
fn stuck_orphan_ends_after_its_grace(world: &mut World) {
    for language in [
        Language::Perl,
        Language::Python,
        Language::Ruby,
        Language::Php,
    ] {
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

/// Its input is the client, and what it prints is the answer.
fn the_shell_runs_a_command(world: &mut World) {
    let options = [
        "--max-requests",
        "0",
        "sh",
        "-c",
        "read -r name; echo \"hello, $name\"",
    ];
    let Some(child) = Language::Shell.child(&options) else {
        return;
    };
    let server = spawn(world, &[], &child);
    for name in ["you", "me"] {
        let mut client = connect(&server.address());
        assert_eq!(client.ask(name), format!("hello, {name}"));
        client.eof();
    }
    let report = stop_ready(&server);
    assert_eq!(report.count("BUSY"), 2, "{report:?}");
}
