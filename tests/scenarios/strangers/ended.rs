//! The end by hand: a program that drops or stops its server itself.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    o30_a_child_that_prints_much_is_heard_out_when_the_server_is_dropped,
    o31_nothing_is_forked_after_the_end,
    o31_a_descriptor_that_is_watched_in_before_fork_is_not_inherited,
];

/// A hook that watches a descriptor right before each fork.
struct Watching(io::PipeReader);

impl PreForkHooks for Watching {
    fn before_fork(&mut self, monitor: &mut Monitor) {
        monitor.select_read(&self.0, "ready").unwrap();
    }
}

/// Runs a server until the file is there, ends it by hand, and says what it has left.
pub(super) fn strangers_ended_by_hand(args: Args) -> ExitCode {
    log_warnings();
    let file = Path::new(args.value("--until").unwrap());
    let server = TcpServer::new(do_odd_things).max_requests(0);
    let (read, _write) = io::pipe().unwrap();
    let builder = PreFork::builder(server).hooks(Watching(read));
    let started = builder.start_servers(1).max_clients(1).start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        while !file.exists() {
            let _ = prefork.turn(Some(Duration::from_millis(5)))?;
        }
        let begun = Instant::now();
        if args.has("--drop") {
            drop(prefork);
        } else {
            prefork.stop();
            prefork.forkoff();
            prefork.server_fork();
            println!("children {}", processes::children(std::process::id()).len());
        }
        println!("took {}", begun.elapsed().as_millis());
        Ok(())
    }))
}

/// Outputs are read while the end waits for children, so that a child that prints can finish.
///
/// Without the turns in `run_down` it is killed after `kill_timeout`, 10 s.
fn o30_a_child_that_prints_much_is_heard_out_when_the_server_is_dropped(world: &mut World) {
    let file = world.tempdir().join("file");
    let file = file.to_str().unwrap();
    let server = world.spawn("strangers_ended_by_hand", &["--until", file, "--drop"]);
    let mut held = crate::support::connect(&server.address());
    held.send_line(&format!("flood {file}"));
    let pid = held.read_line();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0), "{pid} has answered");
    let text = server.stdout();
    let took = text.lines().find_map(|line| line.strip_prefix("took "));
    let took: u64 = took.unwrap().parse().unwrap();
    assert!(took < 5000, "{took} ms");
}

/// A server that has ended does not fork: the children would not be reaped.
///
/// Without `done` in `PreFork::fork` there is a child.
fn o31_nothing_is_forked_after_the_end(world: &mut World) {
    let file = world.tempdir().join("file");
    let server = world.spawn(
        "strangers_ended_by_hand",
        &["--until", file.to_str().unwrap()],
    );
    crate::support::connect(&server.address()).ask("pid");
    std::fs::write(&file, "").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
    let text = server.stdout();
    assert!(text.contains("children 0\n"), "{text}");
}

/// A child closes duplicates that are queued to be watched; it inherits the hook's own descriptors.
///
/// Without `close_watches` it has two more of the pipe.
fn o31_a_descriptor_that_is_watched_in_before_fork_is_not_inherited(world: &mut World) {
    let file = world.tempdir().join("file");
    let server = world.spawn(
        "strangers_ended_by_hand",
        &["--until", file.to_str().unwrap()],
    );
    let pid: u32 = crate::support::connect(&server.address())
        .ask("pid")
        .parse()
        .unwrap();
    let descriptors = processes::descriptors(pid);
    let pipes = descriptors
        .iter()
        .filter(|(number, to)| *number > 2 && to.starts_with("pipe:"));
    let mut targets: Vec<&String> = pipes.map(|(_, to)| to).collect();
    targets.sort();
    // Both ends of the hook's pipe, the death watch, the words.
    let of_the_hook = targets.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(of_the_hook, 1, "{descriptors:?}");
    std::fs::write(&file, "").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
}
