//! A parent of `prefork run` that is killed, with the key `holder`: the programs outlive it.

use super::{
    prefork,
    reload::{File, expect_answer, expect_said, kill},
    run::has,
    stop, tell,
};
use crate::support::{
    SOON, Scenarios, Server, Signal, World, connect, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    a_held_parent_that_is_killed_leaves_its_programs,
    a_failed_reload_puts_back_what_was_in_force_before_a_kill,
];

const PERL: &str = r#"
open my $listener, '+<&=', 3 or die "no socket: $!";
$| = 1;
print "\x06\n\x11\n";
while (accept my $client, $listener) {
    print "\x13\n";
    $client->autoflush(1);
    print $client "$$ $_" while <$client>;
    close $client;
    print "\x11\n";
}
"#;

fn a_held_parent_that_is_killed_leaves_its_programs(world: &mut World) {
    if !has("perl") {
        return;
    }
    let command = ["run", "--listen", "127.0.0.1:0", "--holder"];
    let program = ["--", "perl", "-MIO::Handle", "-e", PERL];
    let server = prefork(world, &[&command[..], &program].concat()).spawn();
    let mut client = connect(&server.address());
    let answer = client.ask("one");
    for _ in 0..3 {
        kill_parent(&server);
        assert_eq!(client.ask("one"), answer, "the same program");
    }
    drop(client);
    stop(&server);
}

/// The parent, while no child has its name, as each has until its exec.
fn parent(server: &Server) -> Option<u32> {
    match named(server, "prefork")[..] {
        [parent] => Some(parent),
        _ => None,
    }
}

/// The processes below the holder that have this name.
fn named(server: &Server, name: &str) -> Vec<u32> {
    let below = processes::children(server.pid()).into_iter();
    let named = below.filter(|it| it.is_alive() && it.name == name);
    named.map(|it| it.pid).collect()
}

/// Kills the parent, and waits for the word of the next one that it has taken over.
#[track_caller]
fn kill_parent(server: &Server) {
    let killed = until("a parent", SOON, || parent(server));
    let pid = nix::unistd::Pid::from_raw(killed.cast_signed());
    let taken_over = |text: &str| text.matches("another took over ").count();
    let before = taken_over(&server.stderr());
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("a signal");
    server.expect_stderr("another parent", |text| taken_over(text) == before + 1);
}

/// Those of the start are `one` and `4`, those of a reload `two` and `5`; then a reload fails, or another
/// parent takes over in the middle of it.
fn a_failed_reload_puts_back_what_was_in_force_before_a_kill(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = File::new(world);
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path in UTF-8");
    let size = "start_servers = 2\nmin_spare_servers = 1\nmax_spare_servers = 2\nholder = true";
    file.write("one", &format!("{size}\nmax_clients = 4"));
    let server = file.run(world, &["--control", control]);
    expect_answer(&server, "one who");
    file.write("two", &format!("{size}\nmax_clients = 5"));
    server.signal(Signal::SIGHUP);
    expect_answer(&server, "two who");
    expect_said(&server, "children replaced in");
    let text = format!("{size}\nmax_clients = 4\nlisten = ['127.0.0.1:0']\nprogram = ['false']\n");
    std::fs::write(file.path(), text).expect("a file of settings");
    server.signal(Signal::SIGHUP);
    expect_said(&server, "prefork: reload: max_clients is 4");
    kill_parent(&server);
    expect_said(&server, "the settings from before are in force again");
    let told = tell(world, &["get", "max_clients", "--control", control], 0);
    assert!(told.starts_with("max_clients is 5 "), "{told}");
    // The children that replace them run the program of before.
    let before = named(&server, "perl");
    kill(&before);
    until("others", SOON, || {
        let now = named(&server, "perl");
        let is_new = |pid: &u32| !before.contains(pid);
        (!now.is_empty() && now.iter().all(is_new)).then_some(())
    });
    expect_answer(&server, "two who");
    stop(&server);
}
