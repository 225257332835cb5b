//! Ported overrides of the original: its example, a policy of the program, and the extension points
//! of the stock servers, in real processes.

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use prefork_server::servers::conn::{ConnClass, Session};
use prefork_server::{ChildServer, Comm, Error, PreFork, TcpServer};

use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, connect, holds, programs, scenarios,
    until,
};

pub const PROGRAMS: Programs = programs![subclass, factory_per_child];

pub const SCENARIOS: Scenarios = scenarios![
    ack_can_be_withheld,
    connection_can_be_refused,
    echo_server_of_the_original,
    factory_has_state_per_child,
    policy_follows_the_load_and_takes_orders,
    server_can_be_wrapped,
    stop_is_told_in_the_midst_of_a_connection,
];

// A subclass of PreFork::TCP with everything overridden.

struct Mine {
    tcp: TcpServer,
    sick: Rc<Cell<bool>>,
}

impl ChildServer for Mine {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        Some(&mut self.tcp)
    }

    /// `connect`.
    fn start(&mut self) -> io::Result<()> {
        println!("connect");
        self.tcp.start()
    }

    /// `handler_resume_accept`.
    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        eprintln!("resume_accept");
        let sick = Rc::clone(&self.sick);
        comm.when_ack_due(move |comm| {
            eprintln!("send_ack");
            if sick.get() { Ok(()) } else { comm.ack() }
        });
        comm.when_told_to_stop(|| eprintln!("signal_int"));
        self.tcp.resume_accept(comm)
    }
}

struct Patient(Rc<Cell<bool>>);

impl ConnClass for Patient {
    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        match input {
            b"sick" => self.0.set(true),
            b"pid" => session.put(std::process::id().to_string()),
            _ => session.put(input),
        }
    }
}

fn subclass(args: Args) -> Result<(), Error> {
    let sick = Rc::new(Cell::new(false));
    let shared = Rc::clone(&sick);
    let refuse = args.parsed("--refuse").unwrap_or(0);
    let tcp = TcpServer::conn_class(move || Patient(Rc::clone(&shared)))
        .handler_connection(move |conn, serve| {
            if conn.requests_handled() == refuse {
                eprintln!("refused");
                return Ok(());
            }
            serve(conn)
        })
        .handler_connection(|conn, serve| {
            eprintln!("outermost");
            serve(conn)
        });
    let mut prefork = PreFork::builder(Mine { tcp, sick })
        .start_servers(1)
        // Each child refuses one: with a single child, that is one in all.
        .max_clients(if refuse > 0 { 1 } else { 50 })
        .timeout(Duration::from_secs(1))
        .server_check_ack(Some(Duration::from_millis(200)))
        .kill_timeout(Duration::from_millis(300))
        .start()?;
    println!("listening on {}", prefork.server().tcp.local_addrs()[0]);
    prefork.run()?;
    Ok(())
}

struct Counting(u32);

impl ConnClass for Counting {
    fn handler_input(&mut self, session: &mut Session, _: &[u8]) {
        session.put(format!("{} {}", std::process::id(), self.0));
    }
}

fn factory_per_child(_: Args) -> Result<(), Error> {
    let server = TcpServer::per_child(|| Ok(0)).conn_class(|made: &mut u32| {
        *made += 1;
        Counting(*made)
    });
    let mut prefork = PreFork::builder(server).start_servers(1).start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run()?;
    Ok(())
}

fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn told(server: &Server, what: &str) -> String {
    server.expect_stderr(what, |text| text.contains(what))
}

// The seams.

fn server_can_be_wrapped(world: &mut World) {
    let server = world.spawn("subclass", &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("hello"), "hello");
    let stderr = told(&server, "outermost");
    let at = |what| stderr.find(what).expect(what);
    assert!(at("resume_accept") < at("outermost"), "{stderr}");
    told(&server, "send_ack");
    drop(client);
    stop(&server);
    let stdout = server.stdout();
    assert_eq!(
        stdout.matches("connect").count(),
        1,
        "in the parent, once: {stdout}"
    );
}

fn connection_can_be_refused(world: &mut World) {
    let server = world.spawn("subclass", &["--refuse", "1"]);
    connect(&server.address()).eof();
    let mut client = connect(&server.address());
    assert_eq!(client.ask("hello"), "hello");
    told(&server, "refused");
    drop(client);
    stop(&server);
}

fn ack_can_be_withheld(world: &mut World) {
    let server = world.spawn("subclass", &[]);
    let mut client = connect(&server.address());
    let child: u32 = client.ask("pid").parse().unwrap();
    holds("a well child is left alone", Duration::from_secs(2), || {
        server.children().contains(&child)
    });
    client.send_line("sick");
    client.gone();
    until("the sick child to go", SOON, || {
        (!server.children().contains(&child)).then_some(())
    });
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    stop(&server);
}

fn stop_is_told_in_the_midst_of_a_connection(world: &mut World) {
    let server = world.spawn("subclass", &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("hello"), "hello");
    let child: u32 = client.ask("pid").parse().unwrap();
    server.signal(Signal::SIGTERM);
    let line = format!("{child} STDERR: signal_int");
    told(&server, &line);
    assert_eq!(client.ask("still here"), "still here");
    drop(client);
    assert!(server.wait(SOON).success());
    let count = server.stderr().matches(&line).count();
    assert_eq!(count, 1, "once a child");
}

fn factory_has_state_per_child(world: &mut World) {
    let server = world.spawn("factory_per_child", &[]);
    let mut first = connect(&server.address());
    let mut second = connect(&server.address());
    let (one, two) = (first.ask("?"), second.ask("?"));
    assert_ne!(one, two, "two children");
    assert!(one.ends_with(" 1") && two.ends_with(" 1"), "{one}, {two}");
    assert_eq!(first.ask("?"), one, "the same object");
    drop((first, second));
    stop(&server);
}

// The examples.

fn echo_server_of_the_original(world: &mut World) {
    let server = world.run_example("prefork_echoserver", &["--port", "0"]);
    let address = server.address();
    let stdout = server.stdout();
    for created in ["Created server for", "Created prefork server with ID"] {
        assert!(stdout.contains(created), "{stdout}");
    }
    let session = format!("Created prefork session with ID {}", server.pid());
    assert!(stdout.contains(&session), "{stdout}");
    let first = server.expect_children(5);
    let mut client = connect(&address);
    assert_eq!(client.ask("good morning"), "good morning");
    server.expect_stdout("the start of the connection", |text| {
        text.contains("STDOUT: Conn session 1 started") && text.contains("STDOUT: << good morning")
    });
    client.close_write();
    client.eof();
    server.expect_stdout("its end", |text| {
        text.contains("STDOUT: Conn session 1 stopped")
    });
    // Five children of ten requests cannot serve more than fifty.
    for number in 0..60 {
        let line = format!("line {number}");
        assert_eq!(connect(&address).ask(&line), line);
    }
    until("a child to be replaced", SOON, || {
        let children = server.children();
        let replaced = first.iter().any(|child| !children.contains(child));
        (replaced && children.len() >= 3).then_some(())
    });
    stop(&server);
    let stdout = server.stdout();
    assert!(stdout.contains("Conn session 10 stopped"), "{stdout}");
    // One more than the ten while its successor is not ready: a tenth.
    assert!(!stdout.contains("Conn session 12"), "{stdout}");
}

fn policy_follows_the_load_and_takes_orders(world: &mut World) {
    let path = world.tempdir().join("orders").display().to_string();
    let arguments = [
        "--port",
        "0",
        "--path",
        &path,
        "--start-servers",
        "2",
        "--max-clients",
        "40",
    ];
    let server = world.run_example("policy", &arguments);
    let address = server.address();
    let tell = |order: &str| {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(order.as_bytes(), &path).unwrap();
    };
    server.expect_children(2);
    let mut clients: Vec<_> = (0..12).map(|_| connect(&address)).collect();
    for client in &mut clients {
        assert_eq!(client.ask("hello"), "hello");
    }
    let children = |what: &str, range: std::ops::RangeInclusive<usize>| {
        until(what, SOON, || {
            range.contains(&server.children().len()).then_some(())
        });
    };
    children("a quarter of 12 to be spare", 15..=16);
    tell("100");
    server.expect_stdout("the order", |text| text.contains("policy: Percent(100)"));
    children("as many spare as busy", 24..=28);
    tell("nonsense");
    tell("hold");
    server.expect_stdout("the order", |text| text.contains("policy: Hold"));
    server.expect_stderr("a warning", |text| text.contains("no order: \"nonsense\""));
    let held = server.children().len();
    drop(clients);
    holds("nobody is culled", Duration::from_secs(3), || {
        server.children().len() == held
    });
    tell("0");
    children("the least there is to be", 1..=2);
    assert_eq!(connect(&address).ask("on"), "on");
    stop(&server);
    assert!(
        !std::path::Path::new(&path).exists(),
        "the socket is removed"
    );
}
