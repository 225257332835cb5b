//! More clients than can be served: how long they were queued, and who is told at once that it was
//! for too long.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use prefork_server::servers::{Access, Conn, Refusal, Reply, Stream};
use prefork_server::{
    Builder, ChildServer, DefaultHooks, Error, Event, Monitor, Observer, PreFork, TcpServer,
    UnixServer,
};

use crate::subject::{Held, announce, ended, ends_well, log_warnings, millis, send, who};
use crate::support::{
    Address, Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, patient,
    pause, programs, scenarios, until,
};

mod program;

use self::program::queue;

pub const PROGRAMS: Programs = programs![queue];

pub const SCENARIOS: Scenarios = scenarios![
    a_connection_knows_how_long_it_was_queued,
    who_has_waited_for_too_long_goes_to_the_hook,
    who_has_waited_for_too_long_and_gone_goes_to_no_hook,
    where_accepting_is_deferred_a_client_is_queued_from_its_first_byte_on,
    a_canned_reply_reaches_a_client_that_has_sent_much,
    who_is_denied_is_closed_before_the_handler_and_counted,
    a_user_who_is_not_allowed_is_closed_and_counted,
    a_reload_changes_whom_the_server_admits,
    nobody_is_too_old_where_the_kernel_tells_no_age,
    hello_answers_503_to_who_has_waited_for_too_long,
    hello_answers_nearly_as_many_as_it_can_when_more_come,
];

// What the scenarios share.

/// How exact the kernel's time is.
const EXACT: Duration = Duration::from_millis(8);

/// A client that a child has in hand. A busy machine may take so long to accept one that it is too
/// old itself.
fn hold(address: &Address) -> Held {
    until("a client to be served", SOON, || served(address))
}

/// A client that waits in the queue, and what it knows of the time at which it has connected.
struct Waiting {
    client: Client,
    before: Instant,
    connected: Instant,
}

impl Waiting {
    fn new(address: &Address) -> Self {
        let before = Instant::now();
        Self {
            client: connect(address),
            before,
            connected: Instant::now(),
        }
    }

    /// Waits until it has been queued for `time`.
    fn until(&self, time: Duration) {
        until("the time to pass", SOON, || {
            (self.connected.elapsed() >= time).then_some(())
        });
    }

    /// Lets `held` go, whose child takes this client then; what `ask` returns must be the time in the
    /// queue.
    #[track_caller]
    fn is_told_its_time(&mut self, held: Held, ask: impl FnOnce(&mut Client) -> String) -> String {
        let at_least = self.connected.elapsed().saturating_sub(EXACT);
        drop(held);
        let told = ask(&mut self.client);
        let at_most = self.before.elapsed() + EXACT;
        let number: String = told.chars().skip_while(|c| !c.is_ascii_digit()).collect();
        let number = number.split(|c: char| !c.is_ascii_digit()).next();
        let number = number.and_then(|number| number.parse().ok());
        let age = Duration::from_millis(number.unwrap_or_else(|| panic!("no time in {told:?}")));
        assert!(at_least <= age, "{age:?} is less than {at_least:?}");
        assert!(age <= at_most, "{age:?} is more than {at_most:?}");
        told
    }
}

// The scenarios.

/// The kernel tells when a connection was queued, within its ticks: whatever the client does in the
/// meantime. Asked for neither by `queue_time` nor by a limit, nothing is told.
fn a_connection_knows_how_long_it_was_queued(world: &mut World) {
    let server = world.spawn("queue", &["--queue-time"]);
    let address = server.address();
    for time in [0, 50, 300, 2_000] {
        let held = hold(&address);
        let mut waiting = Waiting::new(&address);
        waiting.client.send_line("age");
        waiting.until(Duration::from_millis(time));
        waiting.is_told_its_time(held, Client::read_line);
    }
    ends_well(&server);
    let server = world.spawn("queue", &[]);
    assert_eq!(connect(&server.address()).ask("age"), "None");
    ends_well(&server);
}

/// A connection that is older than `max_queue_age` is handed to the hook `overloaded` with its age.
/// It is not counted as served. The next one is served by the same child.
fn who_has_waited_for_too_long_goes_to_the_hook(world: &mut World) {
    let server = world.spawn("queue", &["--max-age", "200", "--hook"]);
    let address = server.address();
    let held = hold(&address);
    let child = held.pid;
    let mut late = Waiting::new(&address);
    let mut reset = Some(connect(&address));
    late.until(Duration::from_millis(400));
    let mut fresh = connect(&address);
    fresh.send_line("who");
    reset.take().unwrap().reset();
    let told = late.is_told_its_time(held, Client::read_line);
    assert!(told.ends_with(" 1"), "{told}: one was counted before");
    late.client.eof();
    // Unless this machine was so slow that it was too old, too.
    match fresh.try_read_line().unwrap() {
        Some(line) if line == format!("{child} who") => {
            assert_eq!(fresh.ask("number"), "2");
        }
        line => eprintln!("the last one waited for too long, too: {line:?}"),
    }
    assert_eq!(server.children(), [child]);
    assert_eq!(server.complaints(), "", "no client is worth a line");
    drop(fresh);
    ends_well(&server);
}

/// Nobody reads the answer to a client that has reset its connection. A service of less than ten
/// milliseconds would be run for it, since it costs no more than a look at each client.
fn who_has_waited_for_too_long_and_gone_goes_to_no_hook(world: &mut World) {
    let server = world.spawn("queue", &["--max-age", "100", "--hook"]);
    let address = server.address();
    let held = hold(&address);
    let mut late = Waiting::new(&address);
    for _ in 0..3 {
        connect(&address).reset();
    }
    late.until(Duration::from_millis(300));
    late.is_told_its_time(held, Client::read_line);
    late.client.eof();
    server.expect_stdout("the clients that have gone", |text| {
        text.contains(": the client had gone, ")
    });
    ends_well(&server);
    let report = server.stdout();
    let gone = "; 3 connections refused: the client had gone";
    let old = "; 1 connections refused: it was queued for too long\n";
    assert!(report.ends_with(&[gone, old].concat()), "{report}");
}

/// A client may be silent for longer than it may be queued: no child is to blame for that time.
fn where_accepting_is_deferred_a_client_is_queued_from_its_first_byte_on(world: &mut World) {
    let server = world.spawn("queue", &["--defer", "--max-age", "1000"]);
    let mut client = connect(&server.address());
    assert!(client.is_silent(Duration::from_millis(1_500)));
    let told = client.ask("age");
    let age = told
        .strip_prefix("Some(")
        .and_then(|age| age.strip_suffix(')'));
    let age: u64 = age.expect("an age").parse().expect("milliseconds");
    assert!(age < 1_000, "{age}");
    drop(client);
    ends_well(&server);
}

/// A reply reaches a client whose request is unread in the socket, and the connection ends in order: a
/// close without a look would reset it, and many systems drop what their program has not read then.
fn a_canned_reply_reaches_a_client_that_has_sent_much(world: &mut World) {
    // Without `read_away_at_once` in `Reply::send` the client got a reset.
    let server = world.spawn("queue", &["--max-age", "50", "--canned", "10000"]);
    let address = server.address();
    let held = hold(&address);
    let start = Instant::now();
    let mut late = TcpStream::connect(("127.0.0.1", address.port())).unwrap();
    late.write_all(&[b'y'; 30_000]).unwrap();
    until("the client to be late", SOON, || {
        (start.elapsed() > Duration::from_millis(200)).then_some(())
    });
    drop(held);
    let mut answer = Vec::new();
    late.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, vec![b'x'; 10_000]);
    // By now the child has closed it.
    hold(&address);
    assert!(late.take_error().unwrap().is_none(), "a reset");
    ends_well(&server);
}

/// UNIX sockets have no age, so a limit changes nothing there.
fn nobody_is_too_old_where_the_kernel_tells_no_age(world: &mut World) {
    let path = world.tempdir().join("s");
    let server = world.spawn("queue", &["--path", path.to_str().unwrap()]);
    let address = server.address();
    let held = hold(&address);
    let mut waiting = Waiting::new(&address);
    waiting.until(Duration::from_millis(50));
    drop(held);
    who(&mut waiting.client);
    assert_eq!(waiting.client.ask("age"), "None");
    drop(waiting);
    ends_well(&server);
}

/// A client whose address is denied is closed without a byte, by a child that goes on; the parent counts
/// it by its reason, though the child is killed.
fn who_is_denied_is_closed_before_the_handler_and_counted(world: &mut World) {
    let server = world.spawn("queue", &["--deny", "127.0.0.0/8"]);
    let address = server.address();
    let child = server.expect_children(1);
    for _ in 0..2 {
        connect(&address).eof();
    }
    assert_eq!(server.children(), child);
    server.expect_stdout("two that were denied", |text| {
        text.contains("the client may not connect, 2 in all\n")
    });
    // One that the parent has not been told of when the child is gone.
    connect(&address).eof();
    send(child[0], Signal::SIGKILL);
    server.expect_stdout("three that were denied", |text| {
        text.contains("the client may not connect, 3 in all\n")
    });
    server.expect_children(1);
    connect(&address).eof();
    ends_well(&server);
    let report = "; 4 connections refused: the client may not connect\n";
    assert!(server.stdout().ends_with(report), "{}", server.stdout());
    let server = world.spawn("queue", &["--deny", "10.0.0.0/8"]);
    hold(&server.address());
    ends_well(&server);
    for (range, is_served) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let server = world.spawn("queue", &["--allow", range]);
        assert_eq!(served(&server.address()).is_some(), is_served, "{range}");
        ends_well(&server);
    }
}

/// At a UNIX socket the user of the other process counts, as the kernel has noted it.
fn a_user_who_is_not_allowed_is_closed_and_counted(world: &mut World) {
    let me = nix::unistd::getuid().as_raw();
    for (user, allowed) in [(me, true), (me + 1, false)] {
        let path = world.tempdir().join(user.to_string());
        let path = path.to_str().unwrap();
        let server = world.spawn(
            "queue",
            &["--path", path, "--allow-user", &user.to_string()],
        );
        let mut client = connect(&server.address());
        if allowed {
            who(&mut client);
        } else {
            client.gone();
        }
        drop(client);
        ends_well(&server);
        let refused = server.stdout().contains("1 connections refused");
        assert_eq!(refused, !allowed, "{}", server.stdout());
    }
}

/// A file is read again by the program's own code in a reload; who is connected notices nothing.
fn a_reload_changes_whom_the_server_admits(world: &mut World) {
    let rules = world.tempdir().join("rules");
    // With room for successors: in a full pool a reload waits for the client that is held.
    let sizes = ["--children", "4", "--min-spare", "1", "--max", "8"];
    let flags = ["--rules", rules.to_str().unwrap()];
    let server = world.spawn("queue", &[&sizes[..], &flags].concat());
    let address = server.address();
    let reload = |text: &str| {
        fs::write(&rules, text).unwrap();
        server.signal(Signal::SIGHUP);
    };
    let mut held = hold(&address);
    reload("deny 127.0.0.0/8\n");
    let mut in_a_row = 0;
    // While some have the old rules and some the new ones, it is a matter of who takes a client.
    until("nobody to be served", SOON, || {
        in_a_row = if served(&address).is_none() {
            in_a_row + 1
        } else {
            0
        };
        (in_a_row == 30).then_some(())
    });
    held.is_served();
    // What cannot be read changes nothing.
    reload("deny nonsense\n");
    server.expect_stderr("the failure", |text| text.contains("nonsense"));
    assert!(served(&address).is_none());
    held.is_served();
    let old = held.pid;
    drop(held);
    // A reload waits for those whom an earlier one has told to leave.
    until("the last child with the old rules to be gone", SOON, || {
        (!server.children().contains(&old)).then_some(())
    });
    reload("max_per_peer 2\n");
    let (mut held, mut second) = (hold(&address), hold(&address));
    until("a third to be too many", SOON, || {
        drop(served(&address));
        let text = server.stdout();
        text.contains(": the client has too many connections, ")
            .then_some(())
    });
    held.is_served();
    second.is_served();
    drop(held);
    let third = hold(&address);
    drop((second, third));
    ends_well(&server);
    let report = server.stdout();
    assert!(report.contains(" connections refused: the client may not connect"));
    assert!(report.contains(" connections refused: the client has too many connections"));
    assert!(report.contains("; 0 connections lost"), "{report}");
}

/// A client that was served, if it was.
fn served(address: &Address) -> Option<Held> {
    let mut client = connect(address);
    let line = client
        .try_send_line("who")
        .and_then(|()| client.try_read_line());
    let pid = line.ok().flatten()?.strip_suffix(" who")?.parse().ok()?;
    Some(Held { client, pid })
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn hello_answers_503_to_who_has_waited_for_too_long(world: &mut World) {
    let flags = ["--port", "0", "--max-clients", "1", "--max-requests", "0"];
    let rules = ["--work", "2", "--max-queue-age", "1"];
    let server = world.run_example("hello", &[&flags[..], &rules].concat());
    let address = server.address();
    until("a client to be served", SOON, || {
        let mut client = connect(&address);
        client.write_all(GET).unwrap();
        client
            .read_rest()
            .starts_with("HTTP/1.1 200 ")
            .then_some(())
    });
    let clients = [(); 3].map(|()| {
        let mut client = connect(&address);
        client.write_all(GET).unwrap();
        client
    });
    let mut answers = clients.map(|mut client| client.read_rest());
    // They have come at once, so that one was served first, and took longer than the others may
    // wait.
    answers.sort();
    assert!(answers[0].starts_with("HTTP/1.1 200 "), "{answers:?}");
    for refusal in &answers[1..] {
        assert!(refusal.starts_with("HTTP/1.1 503 "), "{answers:?}");
        assert!(refusal.contains("\r\nRetry-After: 1\r\n"), "{refusal}");
        assert!(refusal.contains("\r\nConnection: close\r\n"), "{refusal}");
    }
    let mut client = connect(&address);
    client.write_all(GET).unwrap();
    assert!(client.read_rest().starts_with("HTTP/1.1 200 "));
    crate::example::stop(&server);
}

/// Three times as many requests come as two children can answer, and each client gives up after ten times
/// the work of one. In order, all that are served are late; with a limit nearly as many as there can be
/// are answered in time.
fn hello_answers_nearly_as_many_as_it_can_when_more_come(world: &mut World) {
    world.deadline(Duration::from_secs(60));
    // What is no work of a child's takes much less than that, also where many others want to run.
    let work = patient(Duration::from_millis(150));
    let in_order = late_answers(world, work, None);
    assert!(in_order < 20, "{in_order} of 40 in time");
    let limited = late_answers(world, work, Some(3 * work));
    assert!(limited >= 28, "{limited} of 40 in time");
}

/// How many answers have come in time of those that could be given in the last twenty of forty times the
/// work of one.
fn late_answers(world: &mut World, work: Duration, max_queue_age: Option<Duration>) -> usize {
    let seconds = |time: Duration| time.as_secs_f64().to_string();
    let flags = ["--port", "0", "--max-clients", "2", "--max-requests", "0"];
    let flags = flags.map(str::to_owned).into_iter();
    let flags = flags.chain(["--work".to_owned(), seconds(work)]);
    let rule = max_queue_age.map(|age| ["--max-queue-age".to_owned(), seconds(age)]);
    let flags: Vec<String> = flags.chain(rule.into_iter().flatten()).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = world.run_example("hello", &flags);
    let address = server.address();
    let clients = (0..240).map(|number| {
        let (address, at) = (address.clone(), 40 * work * number / 240);
        thread::spawn(move || {
            pause(at);
            answered_within(&address, 10 * work).then_some(at)
        })
    });
    let clients: Vec<_> = clients.collect();
    let answered = clients.into_iter().filter_map(|it| it.join().unwrap());
    let count = answered.filter(|at| *at >= 20 * work).count();
    stop_at_once(&server);
    count
}

/// Whether a client gets what it has asked for before it gives up.
fn answered_within(address: &Address, time: Duration) -> bool {
    let start = Instant::now();
    let mut client = connect(address);
    client.write_all(GET).unwrap();
    client.timeout(time).unwrap();
    let mut answer = Vec::new();
    let read = client.read_to_end(&mut answer).is_ok();
    read && answer.starts_with(b"HTTP/1.1 200 ") && start.elapsed() <= time
}

/// Without a wait for the clients that are queued and have given up.
fn stop_at_once(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}
