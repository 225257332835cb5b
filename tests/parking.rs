//! A large pool at its start, while the parent has put the outputs of its children out of the way of
//! those that it forks: nothing that they print is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod strace;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, ExitCode};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use prefork_server::servers::TcpConn;
use prefork_server::{
    Child, ChildId, CommChannel, Death, Line, Monitor, PreFork, PreForkHooks, Start, TcpServer,
    defaults,
};
use support::{Args, Server, Signal, World, connect, programs, scenarios};

const SOON: Duration = Duration::from_secs(30);
const CHILDREN: usize = 300;
/// What each child prints to each of its outputs before it serves.
const LINES: usize = 20;
/// When what a scenario is about happens: there are lots, and many forks are due.
const AMIDST: usize = 200;

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            newborns_inherit_few_outputs_and_every_line_is_heard,
            what_children_say_last_is_heard_though_it_was_parked,
            where_nothing_can_be_sent_the_newborns_close_more,
            what_is_not_received_again_costs_children_and_not_the_pool,
            a_hook_that_takes_every_descriptor_costs_children_and_not_the_pool,
            that_there_are_no_descriptors_left_comes_to_light_at_a_fork,
            in_a_small_table_of_descriptors_nothing_is_parked,
            a_server_that_is_ended_amidst_its_start_ends_well,
        ],
    )
}

// The program.

fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    if let Some(files) = args.parsed("--files") {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, files, hard)?;
    }
    let tally = Tally {
        stopping: args.parsed("--stopping").unwrap_or(0),
        hogs: args.has("--hog"),
        ends: args.has("--end"),
        ..Tally::default()
    };
    let at_first = args.parsed("--at-first").unwrap_or(CHILDREN);
    let mut builder = PreFork::builder(TcpServer::new(answer).max_requests(0));
    if args.has("--private") {
        builder = builder.comm_channel(CommChannel::Private);
    }
    let mut prefork = builder
        .start_servers(at_first)
        .min_spare_servers(at_first)
        .max_spare_servers(at_first)
        .max_clients(at_first)
        .timeout(Duration::from_secs(4))
        .hooks(tally)
        .start()?;
    // The limit of open files was enough for those at first, and is what it was.
    let monitor = prefork.monitor_mut();
    monitor.set_max_clients(CHILDREN);
    monitor.set_max_spare_servers(CHILDREN);
    monitor.set_min_spare_servers(CHILDREN);
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run()?;
    Ok(())
}

fn answer(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        line?;
        writeln!(&conn, "{}", process::id())?;
    }
    Ok(())
}

/// How many descriptors this process has whose kind begins so.
fn descriptors(kind: &str) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let kinds = links.filter_map(|link| fs::read_link(link.path()).ok());
    kinds
        .filter(|of| of.to_string_lossy().starts_with(kind))
        .count()
}

/// What has been heard of each child.
#[derive(Default)]
struct Tally {
    heard: BTreeMap<ChildId, [usize; 2]>,
    /// How many pipes and sockets a child had when it began.
    own: BTreeSet<String>,
    forks: usize,
    /// How many pipes the parent had at its forks, all together.
    pipes: usize,
    last_words: usize,
    complete: bool,
    /// How many children are told to stop amidst the start.
    stopping: usize,
    /// Whether all descriptors are taken then, until a child has died.
    hogs: bool,
    hogged: Vec<File>,
    /// Whether the server is told to end then.
    ends: bool,
}

impl Tally {
    fn hear(&mut self, monitor: &mut Monitor, child: ChildId, output: usize, line: &Line) {
        let text = String::from_utf8_lossy(line.bytes()).into_owned();
        let heard = self.heard.entry(child).or_default();
        if let Some(own) = text.strip_prefix("own ") {
            self.own.insert(own.to_owned());
        } else if text == "farewell" {
            self.last_words += 1;
            monitor.print_stdout(format!("farewells: {}", self.last_words));
        } else {
            assert_eq!(
                text,
                format!("line {}", heard[output]),
                "in order, and whole"
            );
            heard[output] += 1;
        }
        self.tell(monitor);
    }

    /// Once there are as many children as there should be, and of each everything was heard.
    fn tell(&mut self, monitor: &mut Monitor) {
        let whole = |heard: &&[usize; 2]| **heard == [LINES, LINES];
        let complete =
            self.heard.values().filter(whole).count() == CHILDREN && self.heard.len() == CHILDREN;
        if complete && !self.complete {
            let (mean, now) = (self.pipes / self.forks, descriptors("pipe:"));
            monitor.print_stdout(format!("complete: pipes {mean} while forking, {now} now"));
            monitor.print_stdout(format!("children had {:?}", self.own));
        }
        self.complete = complete;
    }
}

impl PreForkHooks for Tally {
    fn before_fork(&mut self, monitor: &mut Monitor) {
        self.forks += 1;
        if self.hogged.is_empty() && !self.complete {
            self.pipes += descriptors("pipe:");
        }
        if self.forks == AMIDST {
            for child in monitor.children().take(self.stopping) {
                let pid = Pid::from_raw(child.pid().try_into().unwrap());
                kill(pid, Signal::SIGTERM).unwrap();
            }
            if self.ends {
                kill(Pid::this(), Signal::SIGTERM).unwrap();
            }
            if self.hogs {
                self.hogged
                    .extend((0..).map_while(|_| File::open("/dev/null").ok()));
            }
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        println!(
            "own {} and {}",
            descriptors("pipe:"),
            descriptors("socket:")
        );
        for number in 0..LINES {
            println!("line {number}");
            eprintln!("line {number}");
        }
        defaults::server_start(self, start)
    }

    fn server_exiting(&mut self, _: &mut Start<'_>) {
        // OK to fail: its output may be what was lost.
        let _ = writeln!(io::stdout(), "farewell");
    }

    fn fork_failed(&mut self, monitor: &mut Monitor, error: &io::Error, retry_in: Duration) {
        defaults::fork_failed(self, monitor, error, retry_in);
        let mean = self.pipes / self.forks;
        monitor.print_stdout(format!("no fork: {error}, with {mean} pipes on average"));
    }

    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        self.hear(monitor, child, 0, line);
    }

    fn server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        self.hear(monitor, child, 1, line);
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        self.heard.remove(&child.id());
        self.hogged.clear();
        monitor.print_stdout(format!("death: {:?}", death.cause()));
    }
}

// The scenarios.

/// Of the line that tells so: the pipes of the parent at its forks, on average, and those that it has when
/// all children are there.
fn pipes(server: &Server) -> [usize; 2] {
    let stdout = server.expect_stdout("a complete pool", |text| text.contains("children had"));
    let (_, figures) = stdout.split_once("complete: pipes ").unwrap();
    let figures = figures
        .lines()
        .next()
        .unwrap()
        .strip_suffix(" now")
        .unwrap();
    let (mean, now) = figures.split_once(" while forking, ").unwrap();
    [mean, now].map(|figure| figure.parse().unwrap())
}

fn ends_well(server: &Server) {
    let address = server.address();
    connect(&address).ask("who?");
    server.expect_children(CHILDREN);
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}");
}

/// The parent has two pipes for each child, and hardly any of them while it forks; a child has none that
/// another does not have. (With nothing parked the parent has three hundred, on average.)
fn newborns_inherit_few_outputs_and_every_line_is_heard(world: &mut World) {
    for (outputs, flags) in [(2, &[][..]), (3, &["--private"])] {
        inherit_few_outputs(&world.spawn("serve", flags), outputs);
    }
}

fn inherit_few_outputs(server: &Server, outputs: usize) {
    let [mean, now] = pipes(server);
    assert!(mean < CHILDREN / 2, "{mean} pipes while forking");
    assert!(now >= outputs * CHILDREN, "{now} pipes afterwards");
    let stdout = server.stdout();
    let (_, own) = stdout.split_once("children had ").unwrap();
    assert_eq!(
        own.lines().next().unwrap().matches(" and ").count(),
        1,
        "{own}"
    );
    ends_well(server);
}

/// Children that leave while their outputs are parked are heard and buried, and replaced.
fn what_children_say_last_is_heard_though_it_was_parked(world: &mut World) {
    let server = world.spawn("serve", &["--stopping", "50"]);
    server.expect_stdout("their last words", |text| text.contains("farewells: 50"));
    pipes(&server);
    let deaths = server.stdout().matches("death: ").count();
    assert_eq!(deaths, 50, "nobody else has died");
    ends_well(&server);
}

/// A limit of what may be in flight, or a sandbox.
fn where_nothing_can_be_sent_the_newborns_close_more(world: &mut World) {
    for calls in ["sendmsg:error=ETOOMANYREFS", "socketpair:error=EPERM"] {
        let Some(strace) = spawn_injected(world, calls) else {
            return;
        };
        let [mean, now] = pipes(&strace);
        assert!(mean > CHILDREN / 2, "{mean} pipes while forking");
        assert!(now >= 2 * CHILDREN, "{now} pipes afterwards");
        assert!(!strace.stdout().contains("death: "), "nobody has died");
        stop_injected(&strace);
    }
}

/// Whoever has lost an output is told to leave and replaced; and nothing is parked again. (If it were, the pool
/// would never be complete; nor if children went on that cannot be heard.)
fn what_is_not_received_again_costs_children_and_not_the_pool(world: &mut World) {
    let Some(strace) = spawn_injected(world, "recvmsg:error=EACCES") else {
        return;
    };
    pipes(&strace);
    assert!(strace.stdout().contains("death: "), "some were lost");
    stop_injected(&strace);
}

fn spawn_injected(world: &mut World, calls: &str) -> Option<Server> {
    if strace::is_missing() {
        return None;
    }
    // Without following forks: in the parent alone.
    let launch = world.command("strace").args(&["-o", "/dev/null"]);
    let launch = launch.args(&["-e", &format!("inject={calls}")]);
    let own = std::env::current_exe().unwrap();
    Some(launch.arg(own).args(&["--program", "serve"]).spawn())
}

fn stop_injected(strace: &Server) {
    connect(&strace.address()).ask("who?");
    let server = strace.expect_children(1)[0];
    kill(Pid::from_raw(server.try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(strace.wait(SOON).code(), Some(0));
}

/// The numbers of what is parked are free, and somebody else takes them. (The limit is so low that this
/// does not take long, and so high that outputs are parked.)
fn a_hook_that_takes_every_descriptor_costs_children_and_not_the_pool(world: &mut World) {
    let server = world.spawn("serve", &["--hog", "--files", "2000"]);
    pipes(&server);
    assert!(server.stdout().contains("death: "), "some were lost");
    ends_well(&server);
}

/// What is parked is counted as well, so the fork that finds no descriptor fails, and nobody's output is lost.
/// (Without the count all children are forked, and many of them are heard no more.)
fn that_there_are_no_descriptors_left_comes_to_light_at_a_fork(world: &mut World) {
    let server = world.spawn("serve", &["--at-first", "50", "--files", "560"]);
    server.expect_stdout("a fork that fails", |text| text.contains("no fork: "));
    let address = server.address();
    for _ in 0..50 {
        connect(&address).ask("who?");
    }
    let children = server.children().len();
    assert!((200..CHILDREN).contains(&children), "{children} children");
    let stdout = server.stdout();
    assert!(!stdout.contains("death: "), "nobody has died: {stdout}");
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}");
}

/// There the newborns of one turn may take what the parked ones will need.
fn in_a_small_table_of_descriptors_nothing_is_parked(world: &mut World) {
    let server = world.spawn("serve", &["--at-first", "100", "--files", "500"]);
    let stdout = server.expect_stdout("a fork that fails", |text| text.contains("on average"));
    assert!(!stdout.contains("death: "), "nobody has died: {stdout}");
    let (_, mean) = stdout.split_once("with ").unwrap();
    let (mean, _) = mean.split_once(" pipes").unwrap();
    let mean: usize = mean.parse().unwrap();
    assert!(mean > 150, "{mean} pipes while forking");
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}");
}

/// With outputs in flight: the standing check finds whatever is left.
fn a_server_that_is_ended_amidst_its_start_ends_well(world: &mut World) {
    let server = world.spawn("serve", &["--end"]);
    let status = server.wait(SOON);
    assert!(status.success(), "{status}");
    let stdout = server.stdout();
    let (deaths, farewells) = (stdout.matches("death: ").count(), farewells(&stdout));
    assert!(deaths >= AMIDST - 1, "{deaths} deaths");
    assert!(farewells > 0, "what they said last was heard");
}

fn farewells(stdout: &str) -> usize {
    stdout.matches("farewells: ").count()
}
