//! The program whose connections are logged: handlers that end in each way. Judges nothing.

use super::*;

fn log(args: &Args) -> Option<AccessLog> {
    let format = match args.has("--json") {
        true => AccessFormat::Json,
        false => AccessFormat::Common,
    };
    Some(AccessLog::named(args.value("--log")?).format(format))
}

pub(super) fn logged(args: Args) -> ExitCode {
    log_warnings();
    let server = TcpServer::new(|conn| match serve(&conn, &conn, Some(&conn))? {
        true => conn.into_parts().map(drop),
        false => Ok(()),
    })
    .port(0)
    .max_requests(args.parsed("--max-requests").unwrap_or(0))
    .queue_time(true);
    let server = match log(&args) {
        Some(log) => server.access_log(log),
        None => server,
    };
    let server = match args.has("--hooks") {
        true => hooked(server),
        false => server,
    };
    let server = match args.parsed("--max-age") {
        Some(age) => server.max_queue_age(Duration::from_millis(age)),
        None => server,
    };
    let server = match args.has("--deny") {
        true => server.access(Access::new().deny("127.0.0.0/8".parse().expect("a range"))),
        false => server,
    };
    ended(run(&args, server, |server| {
        server.local_addrs()[0].to_string()
    }))
}

/// Each child counts for itself.
fn hooked(server: TcpServer) -> TcpServer {
    let mut count = 0;
    server
        .connection_ended(move |end| {
            count += 1;
            println!("hook {count} {} {}", end.number, end.outcome);
        })
        .connection_ended(|end| println!("second {}", end.pid))
}

pub(super) fn logged_unix(args: Args) -> ExitCode {
    log_warnings();
    let path = args.value("--path").expect("a path").to_owned();
    let server = UnixServer::new(&path, |conn: UnixConn| serve(&conn, &conn, None).map(drop));
    let server = server.access_log(log(&args).expect("a log"));
    ended(run(&args, server, move |_| path.clone()))
}

fn run<S: ChildServer>(
    args: &Args,
    server: S,
    address: impl FnOnce(&S) -> String,
) -> Result<(), Error> {
    let children = args.parsed("--children").unwrap_or(2);
    let mut confinement = Confinement::new();
    if let Some(user) = args.value("--user") {
        confinement = confinement.user(user);
    }
    let mut prefork = PreFork::builder(server)
        .start_servers(children)
        .min_spare_servers(1)
        .max_spare_servers(children)
        .max_clients(children)
        .confinement(confinement)
        .start()?;
    println!("listening on {}", address(prefork.server()));
    prefork.run().map(drop)
}

/// Does what each line says. True if the connection is to be taken apart.
fn serve<C: Read>(input: C, mut output: impl Write, conn: Option<&TcpConn>) -> io::Result<bool> {
    for line in BufReader::new(input).lines() {
        let line = line?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match (word, conn) {
            ("panic", _) => panic!("the client asked for it"),
            ("fail", _) => return Err(io::Error::other("the client asked for it")),
            ("die", _) => nix::sys::signal::kill(Pid::this(), Signal::SIGKILL)?,
            ("describe", Some(conn)) => conn.describe(&rest.replace('|', "\n")),
            ("apart", _) => return Ok(true),
            _ => {}
        }
        output.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(false)
}
