//! A server whose children are programs, two such programs, and what the scenarios of `ExecServer` share.

pub mod applications;
mod ending;
pub mod example;
pub mod handover;
pub mod languages;
pub mod misfits;
pub mod wrappers;

use std::error::Error;
use std::fs;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::SigSet;
use prefork_server::servers::Listen;
use prefork_server::{
    Builder, Child, ChildId, CommChannel, CommWords, ExecServer, Monitor, PreFork, PreForkHooks,
    Start, defaults,
};

use self::ending::{Report, ready_children, signal, stop, stop_ready, until_gone};
use crate::support::{
    Args, Launch, Programs, SOON, Server, Signal, World, gate, pause, programs, until,
};

pub const PROGRAMS: Programs = programs![exec, show, mute];

// Programs.

/// Passes a gate in the child before the exec, and says whose ACKs the parent has heard.
struct Hooks;

impl PreForkHooks for Hooks {
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if let Some(pid) = monitor.child(child).map(Child::pid) {
            monitor.print_stdout(format!("heard {pid}"));
        }
        defaults::server_ack(self, monitor, child);
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> std::io::Result<()> {
        gate::pass("before-exec");
        defaults::server_start(self, start)
    }
}

/// An `ExecServer` that runs what stands after `--`.
fn exec(args: Args) -> Result<(), Box<dyn Error>> {
    let env = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(env)
        .format_timestamp(None)
        .init();
    // As a C library may do it: open across an exec.
    let leaked = fs::File::open("/dev/null")?;
    fcntl(&leaked, FcntlArg::F_SETFD(FdFlag::empty()))?;
    if args.has("--block") {
        SigSet::from_iter([Signal::SIGINT, Signal::SIGUSR1]).thread_block()?;
    }
    if args.has("--subreaper") {
        nix::sys::prctl::set_child_subreaper(true)?;
    }
    let mut prefork = builder(&args, server(&args)).start()?;
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    if let Some(path) = args.value("--path") {
        println!("listening on {path}");
    }
    println!("{}", prefork.run()?);
    Ok(())
}

/// The server, with its program and its sockets.
fn server(args: &Args) -> ExecServer {
    let at = args
        .iter()
        .position(|arg| arg == "--")
        .unwrap_or(args.len());
    let mut program = args[at..].iter().skip(1).cloned();
    let mut server = ExecServer::new(program.next().unwrap_or_default())
        .args(program)
        .server_starter(args.has("--server-starter"))
        .einhorn(args.has("--einhorn"))
        .process_group(!args.has("--no-group"))
        .stop_signal(stop_signal(args.value("--stop-signal")));
    if args.has("--env-clear") {
        server = server.env_clear();
    }
    if let Some(name) = args.value("--env") {
        server = server.env(name, "set by the builder");
    }
    if let Some(name) = args.value("--env-remove") {
        server = server.env_remove(name);
    }
    if !args.has("--no-socket") {
        let mut tcp = Listen::tcp("127.0.0.1:0");
        if let Some(name) = args.value("--name") {
            tcp = tcp.name(name);
        }
        server = server.listen(tcp);
    }
    if let Some(path) = args.value("--path") {
        server = server.listen(Listen::unix(path).mode(0o600).name("control"));
    }
    server
}

fn builder(args: &Args, server: ExecServer) -> Builder<Hooks, ExecServer> {
    let milliseconds = |flag: &str| args.parsed(flag).map(Duration::from_millis);
    let start_servers = args.parsed("--start-servers").unwrap_or(1);
    let mut builder = PreFork::builder(server)
        .hooks(Hooks)
        .start_servers(start_servers)
        .max_spare_servers(args.parsed("--max-spare-servers").unwrap_or(10))
        .cull_after(Duration::from_millis(100))
        .kill_timeout(milliseconds("--kill-timeout").unwrap_or(Duration::from_secs(10)))
        .shutdown_timeout(milliseconds("--shutdown-timeout").unwrap_or(Duration::from_secs(30)));
    if let Some(timeout) = milliseconds("--timeout") {
        builder = builder.timeout(timeout);
    }
    if args.has("--private") {
        builder = builder.comm_channel(CommChannel::Private);
    }
    if args.value("--words") == Some("poe") {
        builder = builder.comm_words(CommWords::POE);
    }
    builder
}

fn stop_signal(name: Option<&str>) -> prefork_server::Signal {
    use prefork_server::Signal;
    match name {
        None => Signal::Interrupt,
        Some("TERM") => Signal::Terminate,
        Some("USR1") => Signal::User1,
        Some("STOP") => Signal::Stop,
        Some(other) => panic!("no name of a stop signal: {other}"),
    }
}

/// Says that it runs, and what it was given that cannot be seen from outside.
fn show(_: Args) -> std::io::Result<()> {
    println!("pdeathsig {:?}", nix::sys::prctl::get_pdeathsig()?);
    println!("ready");
    loop {
        pause(Duration::from_secs(1));
    }
}

/// Closes its outputs, stays alive, and ignores SIGINT.
fn mute(_: Args) -> nix::Result<()> {
    SigSet::from(Signal::SIGINT).thread_block()?;
    nix::unistd::close(1)?;
    nix::unistd::close(2)?;
    loop {
        pause(Duration::from_secs(1));
    }
}

// Help.

/// The command line of this test's program `show`.
fn show_command() -> [String; 3] {
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap().to_owned();
    [own, "--program".to_owned(), "show".to_owned()]
}

/// What runs programs as children.
type Served = Server;

/// `exec` with these flags, for a program and its arguments.
fn launch<'w>(world: &'w mut World, flags: &[&str]) -> Launch<'w> {
    world.program("exec").args(flags).arg("--")
}

fn served(launch: Launch<'_>) -> Served {
    launch.spawn()
}

/// Starts `exec` with `flags` and `program`.
fn spawn(world: &mut World, flags: &[&str], program: &[impl AsRef<str>]) -> Served {
    let program: Vec<&str> = program.iter().map(AsRef::as_ref).collect();
    served(launch(world, flags).args(&program))
}

/// The child that is not `old`.
#[track_caller]
fn until_replaced(server: &Server, old: u32) -> u32 {
    until(&format!("a child in the place of {old}"), SOON, || {
        let children = server.children();
        let new = children.iter().copied().find(|child| *child != old);
        new.filter(|_| !children.contains(&old))
    })
}

/// All children, if each has said ACK.
fn ready(server: &Server) -> Option<Vec<u32>> {
    let stdout = server.stdout();
    let heard = |pid: &u32| stdout.lines().any(|line| line == format!("heard {pid}"));
    let children = server.children();
    children.iter().all(heard).then_some(children)
}
