//! The example that runs children in other languages.

use super::Report;
use super::languages::Language;
use crate::support::{SOON, Scenarios, Signal, World, connect, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    example_runs_without_arguments,
    example_takes_a_path_and_a_program,
];

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
    // Both children: an interpreter that is still starting may swallow the signal.
    let mut clients = [connect(&server.address()), connect(&server.address())];
    for client in &mut clients {
        assert_eq!(client.ask("hello"), "hello");
    }
    drop(clients);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    let report = Report::of(&server);
    assert_eq!(report.count("BUSY"), 2, "{report:?}");
}
