//! The program: a server with a holder, which tells its parents, its children and what is restored.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::FromRawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc;
use prefork_server::servers::TcpConn;
use prefork_server::{
    Child, ChildServer, Config, Confinement, Death, Error, Event, ExecServer, InetdServer, Launch,
    Monitor, Observer, PreFork, PreForkHooks, Report, Start, States, TcpServer, ThreadCheck,
    defaults, metrics,
};

use crate::support::{Args, Programs, gate, programs};
use crate::versions::{self, Mode};

mod hooks;

use self::hooks::{Hooks, Teller};

pub const PROGRAMS: Programs = programs![held, held_programs, held_inetd, serving];

/// Serves under a holder.
fn held(args: Args) -> ExitCode {
    let (version, mode) = versions::own();
    versions::misbehave(mode);
    match Launch::of_this_process() {
        Launch::Trial => gate::pass("trial"),
        _ => println!("version {version} in {}", std::process::id()),
    }
    let served = metrics::counter("served");
    let server = TcpServer::new(move |conn: TcpConn| {
        served.add(1);
        converse(&conn, version)
    });
    let mut server = server.port(0).max_requests(0);
    if args.has("--shedder") {
        server = server.max_queue_age(Duration::from_secs(10));
    }
    ended(&args, |hooks| {
        let builder = sized(&args, server, hooks);
        #[cfg(feature = "status")]
        let builder = match args.value("--status") {
            Some(address) => builder.status(address.parse().expect("an address")),
            None => builder,
        };
        let builder = match args.value("--control") {
            Some(path) => builder.control(path),
            None => builder,
        };
        let mut prefork = builder.start()?;
        println!("listening on {}", prefork.server().local_addrs()[0]);
        if args.has("--goes-on-in-a-fork") {
            go_on_in_a_fork();
        }
        if mode == Mode::Threads {
            std::thread::spawn(|| versions::hang());
        }
        #[cfg(feature = "status")]
        for address in prefork.status_addresses() {
            println!("status at {address}");
        }
        let report = prefork.run()?;
        println!("counted {:?}", prefork.monitor().metrics());
        println!("max_clients {}", prefork.monitor().max_clients());
        Ok(report)
    })
}

/// As a program that becomes a daemon, but that the process which was started waits for the other, and ends
/// as it does.
#[allow(unsafe_code)]
fn go_on_in_a_fork() {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child != 0 {
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None);
        let code = match status {
            Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => code,
            _ => 99,
        };
        std::process::exit(code);
    }
}

/// Children that are other programs: what stands after `--`, or `serving`.
fn held_programs(args: Args) -> ExitCode {
    let own = std::env::current_exe().expect("this program");
    let own = [own.to_str().expect("a path"), "--program", "serving"];
    let given = args.iter().position(|arg| arg == "--");
    let given = given.map(|at| args[at + 1..].to_vec());
    let command = given.unwrap_or_else(|| own.map(String::from).to_vec());
    let mut server = ExecServer::new(&command[0])
        .args(&command[1..])
        .listen("127.0.0.1:0");
    if args.value("--stop-signal") == Some("TERM") {
        server = server.stop_signal(prefork_server::Signal::Terminate);
    }
    if let Some(folder) = args.value("--folder") {
        std::env::set_current_dir(folder).expect("the folder");
    }
    ended(&args, |hooks| {
        let builder = sized(&args, server, hooks);
        let mut prefork = builder
            .start_timeout(milliseconds(&args, "--start-timeout"))
            .start()?;
        println!("listening on {}", prefork.server().local_addrs()[0]);
        prefork.run()
    })
}

/// Children that run a program for each connection.
fn held_inetd(args: Args) -> ExitCode {
    let server = InetdServer::new("cat").listen("127.0.0.1:0");
    ended(&args, |hooks| {
        let mut prefork = sized(&args, server, hooks).start()?;
        let listening = prefork.server_mut().listeners();
        println!("listening on {}", listening[0].name);
        prefork.run()
    })
}

/// A program that serves: says its words, and answers lines as the children of `held` do.
fn serving(_: Args) -> io::Result<()> {
    // SAFETY: it is the socket that the server has passed, and nothing else in this program owns it.
    #[allow(unsafe_code)]
    let listener = unsafe { std::net::TcpListener::from_raw_fd(3) };
    println!("\x06");
    loop {
        println!("\x11");
        let (stream, _) = listener.accept()?;
        println!("\x13");
        for line in BufReader::new(&stream).lines() {
            // A client that has gone is no failure.
            let Ok(line) = line else { break };
            if let Some(code) = line.strip_prefix("exit ") {
                std::process::exit(code.parse().map_err(io::Error::other)?);
            }
            if writeln!(&stream, "{}", std::process::id()).is_err() {
                break;
            }
        }
    }
}

fn ended(args: &Args, run: impl FnOnce(Hooks) -> Result<Report, Error>) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .format_timestamp(None)
        .init();
    let (version, mode) = versions::own();
    let hooks = Hooks {
        version,
        mode,
        saves: args.has("--saves"),
        saves_bytes: args.parsed("--saves-bytes").unwrap_or(0),
        has_bad_settings: args.has("--bad-settings"),
        settings: args.value("--settings").map(PathBuf::from),
        before: None,
        saves_once: args.has("--saves-once"),
        saved: false,
        restored: 0,
        reloads: 0,
        dies_at_fork: args.has("--dies-at-fork"),
        starts_a_thread: args.has("--starts-a-thread"),
        checks_state: args.has("--checks-state"),
        fails_at_fork: args.parsed("--fails-at-fork"),
    };
    match run(hooks) {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(args.parsed("--code").unwrap_or(0))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sized<S: ChildServer>(
    args: &Args,
    server: S,
    hooks: Hooks,
) -> prefork_server::Builder<Hooks, S> {
    let (version, mode) = (hooks.version, hooks.mode);
    let confinement = match args.has("--group") {
        true => Confinement::new().process_group(),
        false => Confinement::new(),
    };
    let builder = PreFork::builder(server)
        .config(config(args))
        .confinement(confinement)
        .hooks(hooks)
        .start_servers(args.parsed("--children").unwrap_or(4))
        .min_spare_servers(1)
        .max_spare_servers(1000)
        .max_clients(args.parsed("--max").unwrap_or(40))
        .resize_signals(true)
        .thread_check(match args.has("--starts-a-thread") {
            true => ThreadCheck::Warn,
            false => ThreadCheck::Refuse,
        })
        .pre_stop_delay(milliseconds(args, "--pre-stop-delay"))
        .observe(Teller {
            dies: args.has("--dies-at-takeover"),
            dies_until: args.value("--dies-until").map(PathBuf::from),
            dies_on_the_way_back: args.value("--dies-on-the-way-back").map(PathBuf::from),
            told: false,
            max_clients: None,
            version,
            tells_words: args.has("--tells-words"),
        });
    match mode == Mode::Plain || args.has("--plain") && version == 1 {
        true => builder,
        false => builder.holder(),
    }
}

fn milliseconds(args: &Args, flag: &str) -> Duration {
    Duration::from_millis(args.parsed(flag).unwrap_or(0))
}

/// The attributes: each `--set NAME=VALUE`.
fn config(args: &Args) -> Config {
    let mut config = Config::default().kill_timeout(Duration::from_secs(2));
    let set = args.iter().zip(args.iter().skip(1));
    for (_, text) in set.filter(|(option, _)| *option == "--set") {
        let (name, value) = text.split_once('=').expect("NAME=VALUE");
        let mut all = Config::attributes().iter();
        let attribute = all.find(|it| it.name == name).expect("an attribute");
        attribute.set(&mut config, value).expect("a value");
    }
    config
}

/// Answers each line with the pid of the child, or with the version of the program.
fn converse(conn: &TcpConn, version: u32) -> io::Result<()> {
    for line in BufReader::new(conn).lines() {
        match line?.as_str() {
            "die" => std::process::abort(),
            "version" => writeln!(&*conn, "{version}")?,
            "hang" => versions::hang(),
            "grandchild" => {
                let sleep = std::process::Command::new("sleep").arg("1000").spawn()?;
                writeln!(&*conn, "{}", sleep.id())?;
            }
            line => {
                match line {
                    "who" => {}
                    "replace" => conn.ask_for_replacement()?,
                    line => println!("served {line}"),
                }
                writeln!(&*conn, "{}", std::process::id())?;
            }
        }
    }
    Ok(())
}
