//! What the command prints about itself, and what the documents say about it.

use std::fs;
use std::path::Path;

use super::{output, prefork, stop};
use crate::support::{Scenarios, World, connect, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    a_help_fits_a_screen_and_begins_with_an_example,
    a_document_names_every_flag,
    shells_complete_every_command_and_flag,
    man_pages_have_every_flag,
    a_check_says_where_each_value_comes_from,
    the_newcomers_command_answers,
    the_report_of_the_readme_looks_like_a_real_one,
    help_is_a_command_too,
    a_short_help_tells_of_config_and_control,
];

/// The commands that take settings as flags.
const COMMANDS: [&str; 3] = ["run", "inetd", "check"];

/// The lines of a screen that is not large, and their width.
const SCREEN: (usize, usize) = (40, 100);

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a document")
}

/// The commands, as the help lists them.
fn commands(world: &mut World) -> Vec<String> {
    let help = output(world, &["--help"]);
    let (_, list) = help.split_once("Commands:\n").expect("the commands");
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let commands: Vec<_> = names.map(str::to_owned).collect();
    assert!(commands.len() > 10, "{help}");
    commands
}

fn a_help_fits_a_screen_and_begins_with_an_example(world: &mut World) {
    fits_and_begins_with_an_example(world, &["--help"], "prefork ");
    fits_and_begins_with_an_example(world, &["-h"], "prefork ");
    for command in commands(world) {
        let example = format!("prefork {command} ");
        fits_and_begins_with_an_example(world, &[&command, "--help"], &example);
        fits_and_begins_with_an_example(world, &[&command, "-h"], &example);
    }
}

fn fits_and_begins_with_an_example(world: &mut World, arguments: &[&str], example: &str) {
    let help = output(world, arguments);
    assert!(help.lines().count() <= SCREEN.0, "{arguments:?}: {help}");
    let widest = help.lines().map(|line| line.chars().count()).max();
    assert!(widest.unwrap() <= SCREEN.1, "{arguments:?}: {help}");
    let example = help
        .lines()
        .position(|line| line.starts_with(&format!("  {example}")));
    let usage = help.lines().position(|line| line.starts_with("Usage: "));
    assert!(
        example.is_some() && example < usage,
        "{arguments:?}: {help}"
    );
}

/// The long flags of a command.
fn flags(world: &mut World, command: &str) -> Vec<String> {
    let help = output(world, &[command, "--help-all"]);
    let words = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"));
    let name = |line: &str| line.split([' ', '=']).next().unwrap().to_owned();
    let flags: Vec<_> = words.map(name).collect();
    assert!(flags.len() > 20, "{help}");
    flags
}

fn a_document_names_every_flag(world: &mut World) {
    let text = document("docs/command.md");
    for command in COMMANDS {
        for flag in flags(world, command) {
            assert!(text.contains(&format!("`--{flag}")), "{command} --{flag}");
        }
    }
}

fn shells_complete_every_command_and_flag(world: &mut World) {
    let flags = [flags(world, "run"), commands(world)].concat();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(world, &["completions", shell]);
        for flag in &flags {
            assert!(script.contains(flag.as_str()), "{shell}: {flag}");
        }
    }
}

fn man_pages_have_every_flag(world: &mut World) {
    let page = output(world, &["man"]);
    assert!(page.contains(".TH prefork 1"), "{page}");
    for command in commands(world) {
        let (page, synopsis) = (
            output(world, &["man", &command]),
            format!("prefork {command}"),
        );
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains(&synopsis),
            "{page}"
        );
    }
    for command in COMMANDS {
        let page = output(world, &["man", command]);
        assert!(page.contains(".SH OPTIONS"), "{page}");
        for flag in flags(world, command) {
            let flag = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(page.contains(&flag), "{command}: {flag}");
        }
    }
}

/// The value of a key in the output of `check`, and where it comes from.
fn row<'a>(check: &'a str, key: &str) -> (&'a str, &'a str) {
    let mut rows = check.lines().filter_map(|line| line.split_once(' '));
    let (_, row) = rows.find(|(name, _)| *name == key).expect("a row");
    let (value, source) = row.trim().rsplit_once("  ").expect("two columns");
    (value.trim(), source)
}

fn a_check_says_where_each_value_comes_from(world: &mut World) {
    let file = world.tempdir().join("x.toml");
    let text = "max_clients = 20\nstart_servers = 30\n\n[confinement]\nuser = 'nobody'\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let check = prefork(world, &["check", file, "--timeout", "1m"]);
    let check = check.env("PREFORK_LISTEN", ":8080 /run/x.sock").spawn();
    assert!(check.wait(crate::support::SOON).success());
    let check = check.stdout();
    let from = |line: usize| format!("{file}:{line}");
    for (key, value, source) in [
        ("max_clients", "20", from(1)),
        ("start_servers", "30 (in force: 20)", from(2)),
        ("confinement.user", "nobody", from(5)),
        ("timeout", "1m", "--timeout".to_owned()),
        (
            "server_check_ack",
            "none (in force: 90s)",
            "default".to_owned(),
        ),
        ("listen", ":8080 /run/x.sock", "PREFORK_LISTEN".to_owned()),
        ("kill_timeout", "10s", "default".to_owned()),
    ] {
        assert_eq!(row(&check, key), (value, source.as_str()), "{check}");
    }
}

/// The command of README.md for people who have just cloned it.
fn the_newcomers_command_answers(world: &mut World) {
    const COMMAND: &str = "cargo run --release --features cli --bin prefork -- ";
    let text = document("README.md");
    let arguments = text.lines().find_map(|line| line.strip_prefix(COMMAND));
    let arguments = arguments.expect("the command in README.md");
    assert_eq!(arguments, "inetd --listen 127.0.0.1:7777 -- cat");
    // The scenario may not have that port.
    let arguments = arguments.replace("7777", "0");
    let arguments: Vec<_> = arguments.split(' ').collect();
    let server = prefork(world, &arguments).spawn();
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    stop(&server);
}

/// A report without its numbers and the list of deaths.
fn shape(report: &str) -> String {
    let (head, rest) = report.split_once("deaths:").expect("deaths");
    let (_, rest) = rest.split_once(';').expect("words");
    let text = format!("{head}deaths:;{rest}");
    let words: Vec<_> = text.split_whitespace().collect();
    let number = |word: &&str| word.parse::<u64>().is_err();
    words
        .into_iter()
        .filter(number)
        .collect::<Vec<_>>()
        .join(" ")
}

fn the_report_of_the_readme_looks_like_a_real_one(world: &mut World) {
    let text = document("README.md");
    let (before, after) = text.split_once(" forked, ").expect("a report in README.md");
    let first = before.lines().last().expect("a number");
    let (rest, _) = after.split_once("```").expect("its end");
    let arguments = ["inetd", "--listen", "127.0.0.1:0", "--", "cat"];
    let server = prefork(world, &arguments).spawn();
    connect(&server.address()).ask("hello");
    let real = stop(&server);
    assert_eq!(shape(&format!("{first} forked, {rest}")), shape(&real));
}

fn help_is_a_command_too(world: &mut World) {
    assert_eq!(output(world, &["help"]), output(world, &["--help"]));
    assert_eq!(
        output(world, &["help", "run"]),
        output(world, &["run", "--help"])
    );
}

fn a_short_help_tells_of_config_and_control(world: &mut World) {
    for command in ["run", "inetd"] {
        let help = output(world, &[command, "-h"]);
        assert!(
            help.contains("--config <FILE>") && help.contains("--control <"),
            "{help}"
        );
    }
}
