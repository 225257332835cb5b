//! SIGHUP to `prefork run` and `prefork inetd`: the file of settings is read again.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{prefork, run::has, stop, tell};
use crate::support::{
    SOON, Scenarios, Server, Signal, World, connect, holds, processes, scenarios, try_connect,
    until,
};

pub const SCENARIOS: Scenarios = scenarios![
    a_reload_applies_what_can_change_and_names_what_cannot,
    a_reload_runs_the_program_that_the_file_names_now,
    an_error_in_the_file_changes_nothing,
    a_program_that_is_gone_changes_nothing,
    a_failed_reload_puts_back_what_was_in_force,
    a_program_that_says_nothing_is_replaced_by_what_has_lived_for_a_second,
    flags_stay_stronger_than_the_file,
    inetd_reloads_too,
    inetd_reads_its_rules_of_access_again,
];

/// A worker that answers each line with a word of its own, and says the words.
const WORKER: &str = r#"
use strict; use warnings; use IO::Handle;
STDOUT->autoflush(1);
open my $listener, "+<&=", 3 or die "descriptor 3: $!";
print "\x06\n\x11\n";
while (accept my $client, $listener) {
    print "\x13\n";
    $client->autoflush(1);
    print $client "$ARGV[0] $_" while <$client>;
    close $client;
    print "\x11\n";
}
"#;

/// A file of settings for that worker.
pub struct File {
    path: PathBuf,
}

impl File {
    pub fn new(world: &World) -> Self {
        let path = world.tempdir().join("app.toml");
        Self { path }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// Writes it with a worker that answers with this word, and more lines.
    pub fn write(&self, word: &str, more: &str) {
        let text = format!(
            "{more}\nlisten = [\"127.0.0.1:0\"]\nprogram = [\"perl\", \"-e\", '''{WORKER}''', \
             \"{word}\"]\n"
        );
        fs::write(&self.path, text).expect("a file of settings");
    }

    pub fn run(&self, world: &mut World, flags: &[&str]) -> Server {
        let command = ["run", "--config", self.path()];
        prefork(world, &[&command, flags].concat()).spawn()
    }
}

#[track_caller]
fn answer(server: &Server) -> String {
    connect(&server.address()).ask("who")
}

#[track_caller]
pub fn expect_answer(server: &Server, expected: &str) {
    until(&format!("the answer {expected:?}"), SOON, || {
        // A worker that is told to stop does not finish.
        let mut client = try_connect(&server.address()).ok()?;
        client.try_send_line("who").ok()?;
        (client.try_read_line().ok()?? == expected).then_some(())
    });
}

#[track_caller]
pub fn expect_said(server: &Server, expected: &str) {
    server.expect_stderr(expected, |text| text.contains(expected));
}

fn a_reload_applies_what_can_change_and_names_what_cannot(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = File::new(world);
    file.write(
        "one",
        "start_servers = 1\nmax_clients = 4\nmin_spare_servers = 1",
    );
    let server = file.run(world, &[]);
    server.address();
    server.expect_children(1);
    let more = "backlog = 7\nmax_clients = 5\nmin_spare_servers = 3\nstart_servers = 1\nhandle_signals = false";
    file.write("one", more);
    server.signal(Signal::SIGHUP);
    let path = file.path();
    expect_said(
        &server,
        &format!("prefork: reload: max_clients is 5 ({path}:2), was 4\n"),
    );
    expect_said(
        &server,
        &format!("prefork: reload: min_spare_servers is 3 ({path}:3), was 1\n"),
    );
    let fixed = format!("prefork: reload: backlog stays 1024: 7 ({path}:1) needs a restart\n");
    expect_said(&server, &fixed);
    let fixed = format!("handle_signals stays true: false ({path}:5) needs a restart\n");
    expect_said(&server, &fixed);
    server.expect_children(3);
    // What needs a restart is named each time, what was applied is not.
    server.signal(Signal::SIGHUP);
    server.expect_stderr("the backlog again", |text| {
        text.matches("backlog stays").count() == 2
    });
    assert_eq!(server.stderr().matches("max_clients is 5").count(), 1);
    file.write("one", "max_clients = 4");
    server.signal(Signal::SIGHUP);
    expect_said(
        &server,
        "prefork: reload: min_spare_servers is 1 (default), was 3\n",
    );
    stop(&server);
}

fn a_reload_runs_the_program_that_the_file_names_now(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = File::new(world);
    file.write(
        "one",
        "start_servers = 2\nmin_spare_servers = 2\nmax_spare_servers = 3",
    );
    let server = file.run(world, &[]);
    expect_answer(&server, "one who");
    file.write(
        "two",
        "start_servers = 2\nmin_spare_servers = 2\nmax_spare_servers = 3",
    );
    server.signal(Signal::SIGHUP);
    // A worker that was told to stop may take one more client with it.
    let is_new = |pid: &u32| {
        processes::Process::read(*pid).is_some_and(|one| one.describe().ends_with(" two"))
    };
    until("all children to be new", SOON, || {
        let now = server.children();
        (now.len() >= 2 && now.iter().all(is_new)).then_some(())
    });
    expect_said(&server, " children replaced in ");
    for _ in 0..5 {
        assert_eq!(answer(&server), "two who");
    }
    stop(&server);
}

fn an_error_in_the_file_changes_nothing(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = File::new(world);
    file.write("one", "start_servers = 1");
    let server = file.run(world, &[]);
    expect_answer(&server, "one who");
    let before = server.children();
    file.write(
        "two",
        "start_servers = 1\nmax_clients = \"many\"\nmax_client = 3",
    );
    server.signal(Signal::SIGHUP);
    let path = file.path();
    expect_said(
        &server,
        &format!("{path}:2: max_clients: \"many\" is not a whole number"),
    );
    expect_said(
        &server,
        &format!("{path}:3: there is no key max_client; the nearest is max_clients"),
    );
    expect_said(&server, "; the old children stay");
    assert_eq!(answer(&server), "one who");
    let now = server.children();
    assert!(
        before.iter().all(|pid| now.contains(pid)),
        "{before:?}, {now:?}"
    );
    // The next one is as if that had not been.
    file.write("three", "start_servers = 1\nmax_clients = 7");
    server.signal(Signal::SIGHUP);
    expect_answer(&server, "three who");
    expect_said(&server, "max_clients is 7");
    stop(&server);
}

fn a_program_that_is_gone_changes_nothing(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = File::new(world);
    file.write("one", "");
    let server = file.run(world, &[]);
    expect_answer(&server, "one who");
    let text = "listen = [\"127.0.0.1:0\"]\nprogram = [\"/nowhere/worker\"]\n";
    fs::write(&file.path, text).expect("a file of settings");
    server.signal(Signal::SIGHUP);
    expect_said(&server, "/nowhere/worker: there is no such program");
    assert_eq!(answer(&server), "one who");
    fs::remove_file(&file.path).expect("a file of settings");
    server.signal(Signal::SIGHUP);
    expect_said(&server, &format!("{}: cannot read it: ", file.path()));
    assert_eq!(answer(&server), "one who");
    stop(&server);
}

#[track_caller]
pub fn kill(pids: &[u32]) {
    for pid in pids {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        // OK to ignore: it may have been replaced.
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
}

fn a_failed_reload_puts_back_what_was_in_force(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = File::new(world);
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path in UTF-8");
    file.write("one", "start_servers = 2\nmax_clients = 4");
    let server = file.run(world, &["--control", control]);
    expect_answer(&server, "one who");
    let text = "listen = ['127.0.0.1:0']\nprogram = ['false']\nmax_clients = 7\n";
    fs::write(&file.path, format!("start_servers = 2\n{text}")).expect("a file of settings");
    server.signal(Signal::SIGHUP);
    expect_said(&server, "prefork: reload: max_clients is 7");
    expect_said(&server, "; the old children stay");
    expect_said(&server, "the settings from before are in force again");
    let told = tell(world, &["get", "max_clients", "--control", control], 0);
    assert!(told.starts_with("max_clients is 4 "), "{told}");
    // The children that replace them run the program of before.
    let before = server.children();
    kill(&before);
    until("others", SOON, || {
        let now = server.children();
        before.iter().all(|pid| !now.contains(pid)).then_some(())
    });
    expect_answer(&server, "one who");
    // The next one is as if that had not been.
    file.write("two", "start_servers = 2\nmax_clients = 6");
    server.signal(Signal::SIGHUP);
    expect_said(&server, "max_clients is 6");
    expect_answer(&server, "two who");
    stop(&server);
}

/// Of such a program only its life is seen. One that fails later has replaced the old one.
fn a_program_that_says_nothing_is_replaced_by_what_has_lived_for_a_second(world: &mut World) {
    let file = File::new(world);
    let write = |script: &str| {
        let text = format!("start_servers = 2\nprogram = ['sh', '-c', '{script}']\n");
        fs::write(&file.path, text).expect("a file of settings");
    };
    write("exec sleep 1000");
    let server = file.run(world, &[]);
    let before = server.expect_children(2);
    // Younger than that they are not ready themselves, and no client waits for a successor.
    holds("both live", Duration::from_millis(1_200), || {
        server.children() == before
    });
    write("exit 3");
    server.signal(Signal::SIGHUP);
    expect_said(&server, "; the old children stay");
    let now = server.children();
    assert!(before.iter().all(|pid| now.contains(pid)), "{now:?}");
    write("exec sleep 2000");
    let asked = Instant::now();
    server.signal(Signal::SIGHUP);
    until("all children to be new", SOON, || {
        let now = server.children();
        before.iter().all(|pid| !now.contains(pid)).then_some(())
    });
    assert!(asked.elapsed() >= Duration::from_secs(1));
    server.expect_children(2);
    server.signal(Signal::SIGTERM);
    assert!(server.wait(SOON).success());
}

fn flags_stay_stronger_than_the_file(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = File::new(world);
    file.write("one", "timeout = \"60s\"\nmax_clients = 4");
    let command = ["run", "--config", file.path(), "--max-clients", "6"];
    let launch = prefork(world, &command).env("PREFORK_TIMEOUT", "50s");
    let server = launch.spawn();
    expect_answer(&server, "one who");
    file.write(
        "two",
        "timeout = \"70s\"\nmax_clients = 5\nkill_timeout = \"3s\"",
    );
    server.signal(Signal::SIGHUP);
    expect_said(&server, "kill_timeout is 3s");
    expect_answer(&server, "two who");
    let stderr = server.stderr();
    assert!(
        !stderr.contains("max_clients") && !stderr.contains("reload: timeout"),
        "{stderr}"
    );
    stop(&server);
}

fn inetd_reloads_too(world: &mut World) {
    let file = File::new(world);
    let write = |program: &str, more: &str| {
        let text = format!("listen = [\"127.0.0.1:0\"]\nprogram = {program}\n{more}\n");
        fs::write(&file.path, text).expect("a file of settings");
    };
    write("[\"echo\", \"one\"]", "");
    let server = prefork(world, &["inetd", "--config", file.path()]).spawn();
    let address = server.address();
    assert_eq!(connect(&address).read_line(), "one");
    write(
        "[\"echo\", \"two\"]",
        "max_requests = 3\naccess_log = \"-\"",
    );
    server.signal(Signal::SIGHUP);
    expect_said(&server, "prefork: reload: max_requests is 3");
    expect_said(&server, "prefork: reload: access_log stays none: - (");
    until("the new program", SOON, || {
        (connect(&address).read_line() == "two").then_some(())
    });
    stop(&server);
}

fn inetd_reads_its_rules_of_access_again(world: &mut World) {
    let file = File::new(world);
    let write = |rules: &str| {
        let text = "listen = ['127.0.0.1:0']\nprogram = ['echo', 'hello']\n";
        fs::write(&file.path, format!("{text}{rules}\n")).expect("a file of settings");
    };
    write("");
    let server = prefork(world, &["inetd", "--config", file.path()]).spawn();
    let address = server.address();
    let expect_answer = |expected| {
        until(&format!("the answer {expected:?}"), SOON, || {
            (connect(&address).read_rest() == expected).then_some(())
        });
    };
    expect_answer("hello\n");
    write("deny = ['10.0.0.0/8', '127.0.0.0/8']\nmax_queue_age = '10s'");
    server.signal(Signal::SIGHUP);
    expect_said(&server, "prefork: reload: max_queue_age is 10");
    expect_answer("");
    write("deny = ['10.0.0.0/8']");
    server.signal(Signal::SIGHUP);
    expect_answer("hello\n");
    write("deny = ['10.0.0.0/33']");
    server.signal(Signal::SIGHUP);
    expect_said(&server, "10.0.0.0/33");
    expect_answer("hello\n");
    let report = stop(&server);
    assert!(report.contains(" connections refused: the client may not connect"));
}
