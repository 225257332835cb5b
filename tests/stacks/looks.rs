//! Where living children are, as the control socket shows it: they go on serving, and none waits for
//! one that does not answer.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal;
use nix::unistd::Pid;

use super::{Exit, ends_well, expect_exit, stuck_in};
use crate::support::{
    Address, Client, SOON, Scenarios, Server, Signal, World, connect, patient, processes,
    scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    a_living_child_is_named_and_serves_on,
    children_of_all_ways_are_named_at_once,
    nobody_waits_for_a_child_that_does_not_answer,
    a_stopped_child_is_shown_as_it_is_when_it_goes_on,
    a_late_answer_to_a_look_is_not_told_of_a_death,
    a_child_that_ends_meanwhile_is_told,
    a_program_is_shown_as_the_kernel_sees_it,
    a_child_with_a_handler_of_its_own_is_shown_as_the_kernel_sees_it,
];

/// A server, and the path of its control socket.
struct Shown {
    server: Server,
    path: PathBuf,
}

impl Shown {
    fn new(world: &mut World, flags: &[&str]) -> Self {
        let path = world.tempdir().join("control");
        let program = world.program("stuck").args(flags);
        let server = program.arg("--control").arg(&path).spawn();
        until("the control socket", SOON, || path.exists().then_some(()));
        Self { server, path }
    }

    fn client(&self) -> Client {
        let client = connect(&Address::Unix(self.path.clone()));
        client.timeout(patient(2 * SOON)).unwrap();
        client
    }

    fn begin(&self, pid: u32) -> Client {
        let mut client = self.client();
        client.send_line(&format!("stack {pid}"));
        client
    }

    fn look(&self, pid: u32) -> String {
        self.begin(pid).read_line()
    }
}

#[track_caller]
fn names(answer: &str, function: &str) {
    let expected = format!("\"in\":\"stacks::stuck::{function} (");
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    assert!(answer.contains(&expected), "{function}: {answer}");
    assert!(answer.ends_with("],\"no_stack\":null}"), "{answer}");
}

/// It has not answered, and what the kernel knows is told in place of its stack.
#[track_caller]
fn has_no_stack(answer: &str, state: char, why: &str) {
    let end = format!("\"stack\":[],\"no_stack\":\"{why}\"}}");
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    assert!(answer.contains(&format!(", state {state}\"")), "{answer}");
    assert!(answer.ends_with(&end), "{answer}");
}

const NO_ANSWER: &str =
    "the child has not answered: it is stopped, hangs in the kernel, or blocks SIGURG";

fn send(pid: u32, signal: Signal) {
    signal::kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// Stops a process, and waits until it stands still.
#[track_caller]
fn stop(pid: u32) {
    send(pid, Signal::SIGSTOP);
    until("it to stand still", SOON, || {
        (processes::state(pid) == Some('T')).then_some(())
    });
}

/// While it waits for its client, and while it is idle; the calls that the question interrupts go on.
fn a_living_child_is_named_and_serves_on(world: &mut World) {
    let shown = Shown::new(world, &["--timeout", "0"]);
    let mut client = connect(&shown.server.address());
    let pid = client.read_line().trim().parse().unwrap();
    for _ in 0..5 {
        names(&shown.look(pid), "answer");
    }
    client.send_line("no");
    assert_eq!(client.read_line().trim(), "free again");
    let idle = shown.look(pid);
    assert!(
        idle.contains("\"stack\":[\"") && idle.contains("\"in\":\""),
        "{idle}"
    );
    let (again, mut client) = stuck_in(&shown.server, "no");
    assert_eq!((again, client.read_line().trim()), (pid, "free again"));
    ends_well(&shown.server);
}

fn children_of_all_ways_are_named_at_once(world: &mut World) {
    const WAYS: [(&str, &str); 6] = [
        ("loop", "in_a_loop"),
        ("clock", "in_a_loop_with_a_clock"),
        ("sleep", "in_sleep"),
        ("c", "in_a_call_of_c"),
        ("callback", "compares_for_ever"),
        ("deep", "in_a_loop"),
    ];
    world.deadline(Duration::from_secs(90));
    let shown = Shown::new(world, &["--timeout", "0", "--clients", "6"]);
    let stuck = WAYS.map(|(how, _)| stuck_in(&shown.server, how));
    // They may not have come that far yet, and then the next look shows it.
    until("every child where it is stuck", 3 * SOON, || {
        let looks = stuck.each_ref().map(|(pid, _)| shown.begin(*pid));
        let answers = looks.map(|mut look| look.read_line());
        let is_there = |answer: &String, function: &str| {
            answer.contains(&format!("\"in\":\"stacks::stuck::{function} ("))
        };
        let mut all = answers.iter().zip(WAYS);
        all.all(|(answer, (_, function))| is_there(answer, function))
            .then_some(())
    });
    let living = shown.server.children();
    assert!(stuck.iter().all(|(pid, _)| living.contains(pid)));
    ends_well(&shown.server);
}

/// The parent answers others meanwhile.
fn nobody_waits_for_a_child_that_does_not_answer(world: &mut World) {
    let shown = Shown::new(world, &["--timeout", "0"]);
    let (pid, _client) = stuck_in(&shown.server, "blocked");
    // Until the signals are blocked it answers.
    until("a child that does not answer", SOON, || {
        shown.look(pid).contains(NO_ANSWER).then_some(())
    });
    let mut look = shown.begin(pid);
    look.timeout(Duration::from_millis(10)).unwrap();
    let mut others = 0;
    let mut first = [0; 1];
    until("the answer", 2 * SOON, || match look.read(&mut first) {
        Ok(_) => Some(()),
        Err(_) => {
            assert!(shown.client().ask("show").starts_with("{\"ok\":true"));
            others += 1;
            None
        }
    });
    assert!(others > 1, "{others} were answered meanwhile");
    look.timeout(patient(SOON)).unwrap();
    let rest = look.read_line();
    drop(look);
    has_no_stack(&format!("{}{rest}", char::from(first[0])), 'R', NO_ANSWER);
    ends_well(&shown.server);
}

/// What it was asked before it was stopped it answers when it goes on: that is not where it is now.
fn a_stopped_child_is_shown_as_it_is_when_it_goes_on(world: &mut World) {
    let shown = Shown::new(world, &["--timeout", "0"]);
    let mut client = connect(&shown.server.address());
    let pid = client.read_line().trim().parse().unwrap();
    names(&shown.look(pid), "answer");
    stop(pid);
    has_no_stack(&shown.look(pid), 'T', NO_ANSWER);
    client.send_line("sleep");
    send(pid, Signal::SIGCONT);
    until("where it is now", SOON, || {
        let answer = shown.look(pid);
        answer.contains("stacks::stuck::in_sleep (").then_some(())
    });
    names(&shown.look(pid), "in_sleep");
    ends_well(&shown.server);
}

/// It answers when it goes on, and is over its time somewhere else.
fn a_late_answer_to_a_look_is_not_told_of_a_death(world: &mut World) {
    world.deadline(Duration::from_secs(60));
    let shown = Shown::new(world, &["--timeout", "4000", "--kill-timeout", "1000"]);
    let mut client = connect(&shown.server.address());
    let pid = client.read_line().trim().parse().unwrap();
    stop(pid);
    has_no_stack(&shown.look(pid), 'T', NO_ANSWER);
    client.send_line("sleep");
    send(pid, Signal::SIGCONT);
    let exit: Exit = expect_exit(&shown.server, pid);
    assert_eq!(exit.cause, "TimedOut", "{exit:#?}");
    exit.names("in_sleep");
    ends_well(&shown.server);
}

fn a_child_that_ends_meanwhile_is_told(world: &mut World) {
    let shown = Shown::new(world, &["--timeout", "0"]);
    let (pid, _client) = stuck_in(&shown.server, "sleep");
    send(pid, Signal::SIGSTOP);
    let mut look = shown.begin(pid);
    until("the question", SOON, || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let pending = status.lines().find(|line| line.starts_with("ShdPnd:"))?;
        let pending = u64::from_str_radix(pending.split_whitespace().nth(1)?, 16).ok()?;
        (pending & 1 << (Signal::SIGURG as u64 - 1) != 0).then_some(())
    });
    send(pid, Signal::SIGKILL);
    let answer = look.read_line();
    drop(look);
    let expected = format!("child {pid} has ended meanwhile\",\"code\":\"failed\"}}");
    assert!(answer.ends_with(&expected), "{answer}");
    let gone = shown.look(pid);
    assert!(gone.ends_with("\"code\":\"unknown\"}"), "{gone}");
    ends_well(&shown.server);
}

fn a_program_is_shown_as_the_kernel_sees_it(world: &mut World) {
    let shown = Shown::new(world, &["--exec", "--timeout", "0"]);
    let pid = shown.server.expect_children(1)[0];
    let missing = "the child runs another program, which is not asked for its stack";
    until("a program that sleeps", SOON, || {
        let answer = shown.look(pid);
        answer
            .contains("nanosleep")
            .then(|| has_no_stack(&answer, 'S', missing))
    });
    assert!(shown.server.children().contains(&pid));
    ends_well(&shown.server);
}

fn a_child_with_a_handler_of_its_own_is_shown_as_the_kernel_sees_it(world: &mut World) {
    let shown = Shown::new(world, &["--own-handler", "--timeout", "0"]);
    let (pid, _client) = stuck_in(&shown.server, "loop");
    let answer = shown.look(pid);
    assert!(
        answer.ends_with(&format!("\"no_stack\":\"{NO_ANSWER}\"}}")),
        "{answer}"
    );
    ends_well(&shown.server);
}
