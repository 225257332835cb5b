//! The program: a server with one child that tells systemd how it is.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use prefork_server::{
    ChildId, ChildServer, Error, Event, ExecServer, Monitor, Observer, PreFork, PreForkHooks,
    Systemd, TcpServer, UnixServer, defaults,
};

use crate::support::{Args, Programs, gate, programs};

pub const PROGRAMS: Programs = programs![notified];

const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Takes one client at a time.
fn notified(args: Args) -> ExitCode {
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    if args.has("--exec") {
        return serve(args, ExecServer::new("sleep").arg("1000"));
    }
    if args.has("--activated") {
        let server = UnixServer::new("/nonexistent/socket", |conn| answer(&conn, &conn));
        return serve(args, server.listen_fds().max_requests(0));
    }
    let failing = args.has("--failing");
    let broken = args.value("--failing-by").map(PathBuf::from);
    let factory = move || match failing || broken.as_ref().is_some_and(|path| path.exists()) {
        true => Err(io::Error::other("no database today")),
        false => Ok(()),
    };
    let server = TcpServer::per_child(factory).serve(|(), conn| answer(&conn, &conn));
    serve(args, server.port(0).max_requests(0))
}

fn serve<S: ChildServer>(args: &Args, server: S) -> Result<(), Error> {
    let timeout = args.parsed("--timeout").unwrap_or(0);
    let mut builder = PreFork::builder(server)
        .hooks(Gated {
            invalid: args.value("--invalid-by").map(PathBuf::from),
        })
        .observe(Announced)
        .start_servers(1)
        .max_clients(args.parsed("--max-clients").unwrap_or(1))
        .coalesce_words(!args.has("--every-word"))
        .timeout(Duration::from_millis(timeout))
        .kill_timeout(Duration::from_secs(60));
    if !args.has("--unobserved") {
        builder = builder.observe(Systemd::from_env());
    }
    let mut prefork = builder.start()?;
    if args.has("--daemon") {
        nix::unistd::daemon(true, true).unwrap();
    }
    prefork.run().map(drop)
}

/// Says where the server listens, as the scenarios expect it.
struct Announced;

impl Observer for Announced {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        if let Event::ListenerOpened { name, .. } = event {
            println!("listening on {name}");
        }
    }
}

/// Waits at a gate, if there is one, whenever a child turns busy.
struct Gated {
    /// While there is a file, the settings are invalid.
    invalid: Option<PathBuf>,
}

impl PreForkHooks for Gated {
    fn handler_reload(&mut self, _: &mut Monitor, _: &mut dyn ChildServer) -> io::Result<()> {
        match &self.invalid {
            Some(path) if path.exists() => Err(io::Error::other("the settings are invalid")),
            _ => Ok(()),
        }
    }

    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        gate::pass("stuck");
        defaults::server_busy(self, monitor, child);
    }
}

fn answer(input: impl Read, mut output: impl Write) -> io::Result<()> {
    for line in BufReader::new(input).lines() {
        let answer = match line?.as_str() {
            "variables" => VARIABLES
                .map(|name| env::var(name).unwrap_or_else(|_| "-".to_owned()))
                .join(" "),
            "shell" => shell()?,
            _ => std::process::id().to_string(),
        };
        writeln!(output, "{answer}")?;
    }
    Ok(())
}

/// The variables as a program finds them that a child runs.
fn shell() -> io::Result<String> {
    let echo = "echo ${NOTIFY_SOCKET--} ${WATCHDOG_USEC--} ${WATCHDOG_PID--}";
    let output = Command::new("/bin/sh").args(["-c", echo]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
