//! The programs that clients talk to: handlers and objects that obey a line. Judges nothing.

use super::*;

/// Runs `server` with one child.
fn run(args: &Args, server: TcpServer) -> Result<(), Error> {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .init();
    let timeout = args.parsed("--timeout").unwrap_or(0.0);
    let children = args.parsed("--children").unwrap_or(1);
    let server = server
        .address(args.value("--address").unwrap_or("127.0.0.1"))
        .max_requests(0);
    let mut prefork = PreFork::builder(server)
        .start_servers(children)
        .max_clients(children)
        .min_spare_servers(1)
        .timeout(Duration::from_secs_f64(timeout))
        .server_check_ack((timeout > 0.0).then(|| Duration::from_millis(100)))
        .kill_timeout(Duration::from_millis(50))
        .observe(Refused)
        .start()?;
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    let report = prefork.run()?;
    println!(
        "gone before they were served: {}",
        report.refusals[Refusal::Gone]
    );
    Ok(())
}

/// Says why connections were not served.
struct Refused;

impl Observer for Refused {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        if let Event::Refused {
            reason,
            connections,
            ..
        } = event
        {
            println!("refused {connections}: {reason}");
        }
    }
}

/// Does what the first line says, with a function.
pub(super) fn clients_plain(args: Args) -> Result<(), Error> {
    run(&args, TcpServer::new(serve))
}

fn serve(conn: TcpConn) -> io::Result<()> {
    let mut reader = BufReader::new(&conn);
    let mut order = String::new();
    reader.read_line(&mut order)?;
    match order.trim() {
        "who" => writeln!(&conn, "{} {}", conn.peer_addr()?, conn.local_addr()?),
        "reset" => {
            gate::pass("reset");
            // The end of the connection, in whatever way it is told.
            let _ = reader.read_line(&mut order);
            println!("it was {}", conn.peer_addr()?);
            conn.shutdown(std::net::Shutdown::Both)
        }
        "refuse" => refuse(&conn, SOON, u64::MAX),
        "refuse 1 MiB" => refuse(&conn, SOON, 1 << 20),
        "refuse briefly" => refuse(&conn, Duration::from_millis(300), u64::MAX),
        "hurry" => hurry(&conn, || reader.read_line(&mut String::new())),
        "hurry up" => hurry(&conn, || reader.read(&mut [0])),
        "hurry and take" => hurry(&conn, || (&conn).write(&[b'x'; 65536])),
        "keep" => keep(&conn, reader),
        "keep slowly" => {
            gate::pass("keep");
            keep(&conn, reader)
        }
        "keep each byte" => {
            gate::pass("keep");
            let mut byte = [0];
            while conn.wait_for_request(None)? && (&conn).read(&mut byte)? > 0 {
                (&conn).write_all(&byte)?;
            }
            (&conn).write_all(b"bye\n")?;
            conn.linger(SOON, u64::MAX);
            Ok(())
        }
        "idle" => {
            let arrived = conn.wait_for_request(Some(Duration::from_millis(200)))?;
            writeln!(
                &conn,
                "arrived: {arrived}, stop: {}",
                conn.shutdown_requested()
            )
        }
        "number" => writeln!(&conn, "{}", conn.requests_handled()),
        "long" => {
            gate::pass("long");
            writeln!(&conn, "done")
        }
        "look" => {
            gate::pass("look");
            let (gone, finished) = (conn.peer_is_gone(), conn.peer_has_finished());
            println!("gone: {gone}, finished: {finished}");
            Ok(())
        }
        "work" => {
            pause(Duration::from_millis(1400));
            writeln!(&conn, "done")
        }
        "pid" => writeln!(&conn, "{}", std::process::id()),
        "leave" => {
            conn.leave_after_this();
            gate::pass("leave");
            writeln!(&conn, "{}", std::process::id())
        }
        order => Err(io::Error::other(format!("what is {order:?}?"))),
    }
}

/// Answers before anything is read, and lingers.
fn refuse(conn: &TcpConn, longest: Duration, most: u64) -> io::Result<()> {
    writeln!(&mut &*conn, "refused")?;
    println!("closed: {}", conn.linger(longest, most));
    Ok(())
}

/// Does `act` for as long as the deadline allows.
fn hurry<T>(conn: &TcpConn, mut act: impl FnMut() -> io::Result<T>) -> io::Result<()> {
    let start = Instant::now();
    conn.set_deadline(Some(Duration::from_millis(500)));
    conn.set_read_timeout(Some(SOON));
    let error = loop {
        if let Err(error) = act() {
            break error;
        }
    };
    let waits = conn.wait_for_request(None)?;
    let took = start.elapsed().as_millis();
    println!("late after {took} ms: {error}; waits: {waits}");
    Err(error)
}

/// An echo service whose clients may be idle.
fn keep(conn: &TcpConn, mut reader: BufReader<&TcpConn>) -> io::Result<()> {
    let mut line = String::new();
    while !reader.buffer().is_empty() || conn.wait_for_request(None)? {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        (&mut &*conn).write_all(line.as_bytes())?;
    }
    writeln!(&mut &*conn, "bye")
}

/// Counts connections, and prints the count at its end.
pub(super) fn clients_stateful(args: Args) -> Result<(), Error> {
    let serve = |served: &mut u32, conn: TcpConn| {
        *served += 1;
        let mut order = String::new();
        BufReader::new(&conn).read_line(&mut order)?;
        match order.trim() {
            "leave" => conn.leave_after_this(),
            "panic" => panic!("on purpose"),
            _ => {}
        }
        writeln!(&conn, "{served}")
    };
    let end = |served: &mut u32| println!("the end after {served}");
    run(&args, TcpServer::per_child(|| Ok(0)).serve_then(serve, end))
}

/// Does what a line says, with an object.
pub(super) fn clients_object(args: Args) -> Result<(), Error> {
    run(&args, TcpServer::conn_class(|| Object))
}

struct Object;

impl ConnClass for Object {
    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        match input {
            b"who" => session.put(format!(
                "{:?} {:?}",
                session.remote_address(),
                session.local_address()
            )),
            b"reset" => {
                gate::pass("reset");
                // More than goes at once: the first write may still be taken.
                session.put(vec![b'x'; 100_000]);
            }
            b"big" => {
                session.put("x".repeat(500_000));
                session.shutdown();
            }
            b"stuck" => {
                session.set_output_limit(usize::MAX);
                session.put("x".repeat(64 << 20));
                session.shutdown();
            }
            b"refuse" => {
                session.put("refused");
                session.set_linger(SOON);
                session.shutdown();
            }
            b"idle" => session.set_idle_timeout(Some(Duration::from_millis(200))),
            b"hurry" => session.set_deadline(Some(Duration::from_millis(500))),
            b"hello" => session.put("hello"),
            b"pid" => session.put(std::process::id().to_string()),
            b"leave" => {
                session.leave_after_this();
                gate::pass("leave");
                session.put(std::process::id().to_string());
                session.shutdown();
            }
            order => panic!("what is {:?}?", order.escape_ascii().to_string()),
        }
    }

    fn handler_flush(&mut self, session: &mut Session) {
        println!("flushed");
        defaults::handler_flush(self, session);
    }

    fn handler_stopping(&mut self, session: &mut Session) {
        session.put("421 closing");
        session.shutdown();
    }

    fn handler_stop(&mut self, session: &mut Session) {
        println!("stopped {}", session.id());
    }
}
