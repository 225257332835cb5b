//! Children that compute in their start: how many start at the same time, with the fork brake and
//! without it.

use std::process::ExitCode;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use prefork_server::{Error, Event, Monitor, Observer, PreFork, TcpServer};

use crate::subject::{announce, converse, ended, ends_well, hold, log_warnings};
use crate::support::{Args, Programs, Scenarios, World, programs, scenarios};

pub const PROGRAMS: Programs = programs![starting_slowly];

pub const SCENARIOS: Scenarios = scenarios![
    on_one_processor_one_child_computes_in_its_start_at_a_time,
    without_the_brake_all_start_at_once,
];

const SPARE: usize = 6;
const START: Duration = Duration::from_millis(60);

/// Says how many children are starting, whenever one is forked while another is ready.
#[derive(Default)]
struct Starting {
    now: usize,
    ready: usize,
}

impl Observer for Starting {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        match event {
            Event::Forked { .. } => {
                self.now += 1;
                if self.ready >= SPARE {
                    println!("starting {}", self.now);
                }
            }
            Event::Ready { .. } => {
                self.now -= 1;
                self.ready += 1;
                println!("ready {}", self.ready);
            }
            _ => {}
        }
    }
}

fn starting_slowly(args: Args) -> ExitCode {
    log_warnings();
    use_one_processor();
    ended(serve(args.parsed("--brake").expect("true or false")))
}

fn serve(brake: bool) -> Result<(), Error> {
    let server = TcpServer::per_child(|| {
        compute(START);
        Ok(())
    });
    let server = server.serve(|(), conn| converse(conn)).max_requests(0);
    let mut prefork = PreFork::builder(server)
        .observe(Starting::default())
        .start_servers(SPARE)
        .min_spare_servers(SPARE)
        .max_spare_servers(4 * SPARE)
        .max_clients(4 * SPARE)
        .fork_brake(brake)
        .start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

fn use_one_processor() {
    let allowed = sched_getaffinity(Pid::this()).unwrap();
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap());
    let mut one = CpuSet::new();
    one.set(first.unwrap()).unwrap();
    sched_setaffinity(Pid::this(), &one).unwrap();
}

fn compute(time: Duration) {
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let begin = now();
    while now() - begin < time {}
}

/// How many children were forked while none was starting, of those that six clients have made
/// necessary, which took all that were ready.
fn forked_alone(world: &mut World, brake: &str) -> usize {
    let server = world.spawn("starting_slowly", &["--brake", brake]);
    let ready = |count| format!("ready {count}\n");
    server.expect_stdout("the first children", |text| text.contains(&ready(SPARE)));
    let held = hold(&server.address(), SPARE);
    let text = server.expect_stdout("as many more", |text| text.contains(&ready(2 * SPARE)));
    drop(held);
    ends_well(&server);
    text.lines().filter(|line| *line == "starting 1").count()
}

/// The first six start together, since none serves yet. From them it is known that a start computes.
/// On a busy machine one may take so long that it does not count any more.
fn on_one_processor_one_child_computes_in_its_start_at_a_time(world: &mut World) {
    assert!(forked_alone(world, "true") > SPARE / 2);
}

fn without_the_brake_all_start_at_once(world: &mut World) {
    assert!(forked_alone(world, "false") < SPARE / 2);
}
