//! Signals in any order and number, to a server that serves: the outcome is one that is written
//! down, and no client is lost, unless two signals have asked for that.
//!
//! `SIGNALS_FUZZ_SECONDS=600` makes it long, `CHAOS_SEED` draws the same again.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use prefork_server::{
    Child, Death, Error, Event, Monitor, Observer, PreFork, PreForkHooks, TcpServer, defaults,
};

use crate::chaos::rig::Dice;
use crate::subject::{Crowd, converse, count, ended, log_warnings, millis};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, pause, port_is_free, programs,
    scenarios,
};

pub const PROGRAMS: Programs = programs![under_signals];

pub const SCENARIOS: Scenarios = scenarios![g09_signals_in_any_order_and_number_lose_no_client];

/// A server that writes down how its children have ended, and no more.
fn under_signals(args: Args) -> ExitCode {
    log_warnings();
    let run = || -> Result<(), Error> {
        let server = TcpServer::new(converse).port(0).max_requests(0);
        let server = server.address(args.value("--address").unwrap_or("127.0.0.1"));
        let prefork = PreFork::builder(server)
            .hooks(Deaths)
            .observe(End)
            .start_servers(count(&args, "--start", 6))
            .max_spare_servers(8)
            .max_clients(count(&args, "--max-clients", 20))
            .shutdown_timeout(millis(&args, "--shutdown-timeout", 20_000))
            // On a machine that is busy with other work a queue takes long.
            .drain_timeout(millis(&args, "--drain-timeout", 10_000))
            .pre_stop_delay(millis(&args, "--pre-stop-delay", 0))
            .resize_signals(args.has("--resize-signals"));
        let mut prefork = prefork.start()?;
        println!("listening on {}", prefork.server().local_addrs()[0]);
        prefork.run().map(drop)
    };
    ended(run())
}

struct Deaths;

impl PreForkHooks for Deaths {
    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        let phase = if child.has_acked() { "up" } else { "starting" };
        println!("exited {:?} {phase} {death}", death.cause());
        defaults::server_exited(self, monitor, child, death);
    }
}

/// Writes down that the server has ended: from then on signals are the program's.
struct End;

impl Observer for End {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        if matches!(event, Event::Ended) {
            println!("ended");
        }
    }
}

/// What a server goes on after.
const HARMLESS: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGPIPE,
    Signal::SIGXFSZ,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
    Signal::SIGCONT,
];

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum Finish {
    /// At most one SIGTERM or SIGINT, and any number of SIGQUIT and of the harmless ones.
    Gentle,
    /// More than one of them: what is in hand may be lost.
    Deadly,
}

#[derive(Debug, Default)]
struct Tally {
    lives: u64,
    signals: u64,
    served: usize,
    deadly: u64,
}

/// Random signals to the parent and to children, while clients come: the server ends with success,
/// no client is lost before a second SIGTERM or SIGINT, and each child ends for a reason.
fn g09_signals_in_any_order_and_number_lose_no_client(world: &mut World) {
    let seconds = std::env::var("SIGNALS_FUZZ_SECONDS");
    let seconds = seconds.map_or(4, |text| text.parse().expect("seconds"));
    let time = Duration::from_secs(seconds);
    world.deadline(2 * time + Duration::from_secs(60));
    let mut dice = Dice::new(Dice::seed());
    let mut tally = Tally::default();
    let began = Instant::now();
    while began.elapsed() < time {
        live(world, &mut dice, &mut tally);
    }
    println!("{tally:?} in {:?}", began.elapsed());
}

/// One server from its start to its end.
fn live(world: &mut World, dice: &mut Dice, tally: &mut Tally) {
    let flags = flags(dice);
    let flags: Vec<&str> = flags.iter().map(|flag| &**flag).collect();
    let server = world.spawn("under_signals", &flags);
    let address = server.address();
    let crowd = Crowd::come(&address, 1 + dice.below(8) as usize);
    for _ in 0..dice.below(40) {
        disturb(&server, dice, tally);
    }
    let finish = match dice.below(5) {
        0 => Finish::Deadly,
        _ => Finish::Gentle,
    };
    stop(&server, finish, dice, tally);
    // A machine with a load of two hundred takes long to end a process.
    let status = server.wait(SOON * 6);
    // A signal may meet the program when its server has ended and what was before is back.
    let after = status.signal().is_some() && server.stdout().ends_with("ended\n");
    assert!(status.success() || after, "{flags:?}: {status}");
    tally.served += match finish {
        Finish::Gentle => crowd.leave_refused(),
        Finish::Deadly => crowd.leave_somehow(),
    };
    tally.lives += 1;
    if tally.lives.is_multiple_of(50) {
        println!("{tally:?}");
    }
    tally.deadly += u64::from(matches!(finish, Finish::Deadly));
    assert!(port_is_free(&address));
    check_deaths(&server, finish);
}

/// An address of loopback that no other test uses, whose ports stay free after many servers.
pub fn own_address() -> String {
    let pid = std::process::id();
    format!("127.{}.{}.1", 1 + pid / 250 % 250, 1 + pid % 250)
}

fn flags(dice: &mut Dice) -> Vec<String> {
    let mut flags = vec!["--start".to_owned(), (1 + dice.below(8)).to_string()];
    flags.extend(["--address".to_owned(), own_address()]);
    if dice.below(3) == 0 {
        flags.push("--resize-signals".to_owned());
    }
    if dice.below(3) == 0 {
        flags.push("--pre-stop-delay".to_owned());
        flags.push((1 + dice.below(300)).to_string());
    }
    if dice.below(3) == 0 {
        flags.push("--max-clients".to_owned());
        flags.push((1 + dice.below(8)).to_string());
    }
    flags
}

/// A burst of a signal, or of several, or a short stand-still; sometimes to a child.
fn disturb(server: &Server, dice: &mut Dice, tally: &mut Tally) {
    match dice.below(10) {
        0 => {
            let stop = [Signal::SIGSTOP, Signal::SIGTSTP][dice.below(2) as usize];
            send(server, stop, tally);
            pause(dice.duration(Duration::from_millis(30)));
            some(server, dice, tally);
            send(server, Signal::SIGCONT, tally);
        }
        1 => {
            let children = server.children();
            if !children.is_empty() {
                let child = children[dice.below(children.len() as u64) as usize];
                send_child(child, dice, tally);
            }
        }
        _ => some(server, dice, tally),
    }
    pause(dice.duration(Duration::from_millis(20)));
}

fn some(server: &Server, dice: &mut Dice, tally: &mut Tally) {
    for _ in 0..1 + dice.below(30) {
        let signal = HARMLESS[dice.below(HARMLESS.len() as u64) as usize];
        send(server, signal, tally);
    }
}

fn send(server: &Server, signal: Signal, tally: &mut Tally) {
    tally.signals += 1;
    server.signal(signal);
}

/// A child takes these for what they are; SIGXFSZ ends a child, as before the start.
fn send_child(child: u32, dice: &mut Dice, tally: &mut Tally) {
    const TO_CHILD: [Signal; 7] = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTTIN,
    ];
    tally.signals += 1;
    let signal = TO_CHILD[dice.below(TO_CHILD.len() as u64) as usize];
    // It may have left by now.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.cast_signed()), signal);
}

/// Signals until the server has ended.
fn stop(server: &Server, finish: Finish, dice: &mut Dice, tally: &mut Tally) {
    let deadly = [Signal::SIGTERM, Signal::SIGINT];
    let first = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT][dice.below(3) as usize];
    send(server, first, tally);
    for _ in 0..dice.below(12) {
        let signal = match (finish, dice.below(3)) {
            (Finish::Deadly, 0) => deadly[dice.below(2) as usize],
            (_, 1) => Signal::SIGQUIT,
            _ => HARMLESS[dice.below(HARMLESS.len() as u64) as usize],
        };
        if server.try_wait().is_some() {
            return;
        }
        tally.signals += 1;
        // It may end in the very moment.
        let pid = nix::unistd::Pid::from_raw(server.pid().cast_signed());
        let _ = nix::sys::signal::kill(pid, signal);
        pause(dice.duration(Duration::from_millis(10)));
    }
}

/// Every child has ended for a reason, and none by a signal but in a deadly finish.
fn check_deaths(server: &Server, finish: Finish) {
    let text = server.stdout();
    for death in text.lines().filter(|line| line.starts_with("exited ")) {
        let killed = matches!(finish, Finish::Deadly) && death.contains("SIGKILL");
        // A child that has not said a word has nothing in hand, and is not waited for in a stop.
        let starting = death.contains("Shutdown starting");
        let orderly = death.ends_with("exit status: 0");
        assert!(orderly || killed || starting, "{finish:?}: {death}");
    }
}
