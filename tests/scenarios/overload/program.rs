//! The program with a queue: handlers that hold their client, and rules that are read from a file.
//! Judges nothing.

use super::*;

/// One child, or more, whose clients may be told how long they were queued.
pub(super) fn queue(args: Args) -> ExitCode {
    log_warnings();
    ended(match args.value("--path") {
        Some(path) => serve_path(&args, path),
        None => serve_port(&args),
    })
}

fn serve_port(args: &Args) -> Result<(), Error> {
    let mut server = TcpServer::new(obey).queue_time(args.has("--queue-time"));
    if let Some(range) = args.parsed("--deny") {
        server = server.access(Access::new().deny(range));
    }
    if let Some(range) = args.parsed("--allow") {
        server = server.access(Access::new().allow(range));
    }
    if args.has("--defer") {
        server = server.defer_accept(Duration::from_secs(60));
    }
    if let Some(rules) = args.value("--rules").map(PathBuf::from) {
        server = server.reloading(move |server| set_rules(server, &rules));
    }
    if let Some(age) = args.parsed("--max-age") {
        server = server.max_queue_age(Duration::from_millis(age));
    }
    if let Some(length) = args.parsed("--canned") {
        let text = vec![b'x'; length];
        server = server.overloaded(Reply::canned(text).into_hook());
    }
    if args.has("--hook") {
        server = server.overloaded(|conn, age| {
            writeln!(&conn, "{} {}", age.as_millis(), conn.requests_handled())
        });
    }
    let mut prefork = builder(args, server.max_requests(0)).start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

/// What is in the file holds from now on.
fn set_rules(server: &mut TcpServer, rules: &Path) -> io::Result<()> {
    let text = fs::read_to_string(rules)?;
    let mut access = Access::new();
    let mut most = 0;
    for line in text.lines() {
        match line.split_once(' ').expect("a word and a value") {
            ("deny", range) => access = access.deny(range.parse().map_err(io::Error::other)?),
            (_, number) => most = number.parse().map_err(io::Error::other)?,
        }
    }
    server.set_access(access);
    server.set_max_per_peer(most);
    Ok(())
}

fn serve_path(args: &Args, path: &str) -> Result<(), Error> {
    let mut access = Access::new();
    if let Some(user) = args.parsed("--allow-user") {
        access = access.allow_user(user);
    }
    let server = UnixServer::new(path, obey)
        .access(access)
        .max_queue_age(Duration::from_millis(1))
        .max_requests(0);
    let mut prefork = builder(args, server).start()?;
    println!("listening on {path}");
    println!("{}", prefork.run()?);
    Ok(())
}

/// Says what it is told of refusals.
struct Refused;

impl Observer for Refused {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        if let Event::Refused {
            reason,
            connections,
            ..
        } = event
        {
            let all = monitor.report().refusals;
            println!("refused {connections}: {reason}, {} in all", all.all());
            assert!(all[*reason] >= *connections && Refusal::ALL.contains(reason));
        }
    }
}

fn builder<S: ChildServer>(args: &Args, server: S) -> Builder<DefaultHooks, S> {
    let children = args.parsed("--children").unwrap_or(1);
    PreFork::builder(server)
        .observe(Refused)
        .start_servers(children)
        .min_spare_servers(args.parsed("--min-spare").unwrap_or(children))
        .max_clients(args.parsed("--max").unwrap_or(children))
        .cull_after(millis(args, "--cull-after", 60_000))
}

/// Does what each line says.
fn obey<S: Stream>(conn: Conn<S>) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        match line?.as_str() {
            "who" => writeln!(&conn, "{} who", std::process::id())?,
            "age" => writeln!(&conn, "{:?}", conn.queued_for().map(|age| age.as_millis()))?,
            "number" => writeln!(&conn, "{}", conn.requests_handled())?,
            line => return Err(io::Error::other(format!("no such order: {line}"))),
        }
    }
    Ok(())
}
