//! The status and the control socket through upgrades: they are the same sockets afterwards, nobody is
//! refused meanwhile, and a client that has asked is answered on the connection on which it has asked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use crate::documents::helper;
use crate::json::Json;
use crate::support::{
    Address, Client, SOON, Scenarios, Server, Signal, World, connect, processes, scenarios,
    try_connect, until,
};
use crate::web::{document, get, status_of, until_code};

pub const SCENARIOS: Scenarios = scenarios![
    both_sockets_outlive_upgrades,
    a_status_at_a_port_of_the_systems_choice_stays_there,
    whoever_asks_is_answered_by_the_program_that_serves_on,
    a_socket_that_the_new_program_does_not_want_is_removed,
    counters_go_on_after_an_upgrade,
    a_drained_server_is_out_of_balancers_and_serves_on,
];

/// A server with a status and a control socket, and where these are.
struct Told {
    server: Server,
    status: PathBuf,
    control: PathBuf,
}

impl Told {
    fn new(world: &mut World, flags: &[&str]) -> Self {
        let [status, control] = ["status", "control"].map(|name| world.tempdir().join(name));
        let program = world.program("told").args(flags);
        let program = program.arg("--status").arg(&status);
        let server = program.arg("--control").arg(&control).spawn();
        server.address();
        Self {
            server,
            status,
            control,
        }
    }

    fn status(&self) -> Address {
        Address::Unix(self.status.clone())
    }

    fn client(&self) -> Client {
        connect(&Address::Unix(self.control.clone()))
    }

    fn ask(&self, line: &str) -> Json {
        Json::parse(&self.client().ask(line))
    }

    #[track_caller]
    fn expect_ready(&self, epoch: f64) {
        assert_eq!(until_code(&self.status(), "/ready", 200, SOON), "ready\n");
        let document = document(&self.status());
        assert_eq!(document["server"]["epoch"].number(), epoch);
        assert_eq!(
            document["server"]["pid"].number(),
            f64::from(self.server.pid())
        );
        assert_eq!(self.ask("get max_clients")["value"].text(), "2");
        let helpers = || {
            let all = processes::children(self.server.pid());
            let helpers = all
                .iter()
                .filter(|one| one.name.starts_with("prefork-status"));
            helpers.count()
        };
        until("one helper and no zombie", SOON, || {
            (helpers() == 1 && self.server.zombies().is_empty()).then_some(())
        });
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("a socket file").ino()
}

/// Connects to a socket again and again until it is told to end. Returns how often.
struct Visitor {
    ends: Arc<AtomicBool>,
    visits: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Visitor {
    fn at(path: &Path) -> Self {
        let (ends, visits) = (Arc::default(), Arc::default());
        let (its_end, its_visits) = (Arc::clone(&ends), Arc::clone(&visits));
        let address = Address::Unix(path.to_owned());
        let thread = thread::spawn(move || {
            while !AtomicBool::load(&its_end, SeqCst) {
                // What is refused is an error here. What it asks for does not matter.
                let mut client = try_connect(&address).expect("a connection");
                let _ = client.try_send_line("get max_clients");
                let _ = client.try_read_line();
                AtomicUsize::fetch_add(&its_visits, 1, SeqCst);
            }
        });
        Self {
            ends,
            visits,
            thread,
        }
    }

    fn end(self) {
        self.ends.store(true, SeqCst);
        self.thread.join().expect("nobody is refused");
        assert!(self.visits.load(SeqCst) > 0);
    }
}

fn both_sockets_outlive_upgrades(world: &mut World) {
    world.deadline(SOON * 4);
    let told = Told::new(world, &[]);
    until_code(&told.status(), "/ready", 200, SOON);
    let files = [&told.status, &told.control].map(|path| inode(path));
    let visitors = [&told.status, &told.control].map(|path| Visitor::at(path));
    let mut before = helper(&told.server);
    for epoch in [1.0, 2.0, 3.0] {
        // The same client goes on with the new program.
        let mut client = told.client();
        let answer = Json::parse(&client.ask("upgrade"));
        assert_eq!(answer["ok"], Json::Bool(true), "{answer:?}");
        assert_eq!(answer["epoch"].number(), epoch);
        assert!(answer["blind"].number() <= answer["took"].number());
        let shown = Json::parse(&client.ask("show"));
        assert_eq!(shown["epoch"].number(), epoch);
        told.expect_ready(epoch);
        let now = helper(&told.server);
        assert_ne!(before, now, "it is the new program's");
        before = now;
    }
    visitors.into_iter().for_each(Visitor::end);
    assert_eq!([&told.status, &told.control].map(|path| inode(path)), files);
    assert!(told.server.stop(Signal::SIGTERM, SOON).success());
    assert!(!told.status.exists() && !told.control.exists());
}

/// The server listens at such a port too, and neither takes the other's.
fn a_status_at_a_port_of_the_systems_choice_stays_there(world: &mut World) {
    let server = world.spawn("told", &["--status", "0", "--agent", "0"]);
    let addresses = ["listening on ", "status at ", "agent at "];
    let found = || addresses.map(|begin| status_of(&server, begin));
    let before = found();
    server.signal(Signal::SIGUSR2);
    let new = |text: &str| text.matches("agent at ").count() == 2;
    let stdout = server.expect_stdout("the addresses again", new);
    for (begin, address) in addresses.iter().zip(&before) {
        let said: Vec<_> = stdout
            .lines()
            .filter(|line| line.starts_with(begin))
            .collect();
        assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
        connect(address);
    }
    until_code(&before[1], "/ready", 200, SOON);
    until("the new epoch", SOON, || {
        (document(&before[1])["server"]["epoch"].number() == 1.0).then_some(())
    });
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// In each way in which an upgrade ends, and by whichever program.
fn whoever_asks_is_answered_by_the_program_that_serves_on(world: &mut World) {
    world.deadline(SOON * 4);
    let broken = world.tempdir().join("broken");
    let told = Told::new(world, &["--broken", broken.to_str().expect("a path")]);
    until_code(&told.status(), "/ready", 200, SOON);
    let code = |answer: &Json| answer["code"].text().to_owned();
    let error = |answer: &Json| answer["error"].text().to_owned();
    let missing = told.ask("upgrade /no/such program");
    assert_eq!(code(&missing), "failed");
    assert!(error(&missing).contains("/no/such program"), "{missing:?}");
    let refused = told.ask("upgrade /dev/null");
    assert_eq!(code(&refused), "failed", "{refused:?}");
    told.expect_ready(0.0);
    // It starts in its trial, and not in the place of the old one.
    fs::write(&broken, "").expect("a file");
    let mut idle = told.client();
    let mut half = told.client();
    idle.ask("get timeout");
    std::io::Write::write_all(&mut half, b"get max_").expect("room");
    let back = told.ask("upgrade");
    assert!(
        error(&back).contains("this program does not start"),
        "{back:?}"
    );
    told.expect_ready(0.0);
    // Those who were connected have noticed nothing.
    assert!(idle.ask("get timeout").contains("\"0s\""));
    assert!(half.ask("clients").contains("\"2\""));
    drop((idle, half));
    assert_eq!(told.ask("upgrade")["ok"], Json::Bool(true));
    told.expect_ready(1.0);
    assert!(told.server.stop(Signal::SIGTERM, SOON).success());
}

/// The client that asked for the upgrade is told all the same.
fn a_socket_that_the_new_program_does_not_want_is_removed(world: &mut World) {
    let silent = world.tempdir().join("silent");
    let told = Told::new(world, &["--silent", silent.to_str().expect("a path")]);
    until_code(&told.status(), "/ready", 200, SOON);
    fs::write(&silent, "").expect("a file");
    let mut client = told.client();
    let answer = Json::parse(&client.ask("upgrade"));
    assert_eq!(answer["ok"], Json::Bool(true), "{answer:?}");
    client.eof();
    assert!(!told.status.exists() && !told.control.exists());
    until("nobody to be left unreaped", SOON, || {
        told.server.zombies().is_empty().then_some(())
    });
    assert!(told.server.stop(Signal::SIGTERM, SOON).success());
}

/// No counter begins again while the time since the start goes on.
fn counters_go_on_after_an_upgrade(world: &mut World) {
    world.deadline(SOON * 4);
    let told = Told::new(world, &["--max-requests", "2"]);
    until_code(&told.status(), "/ready", 200, SOON);
    for _ in 0..9 {
        connect(&told.server.address()).ask("hello");
    }
    assert_eq!(told.ask("reload")["ok"], Json::Bool(true));
    let counted = |document: &Json| {
        let counters = &document["counters"];
        [&counters["connections"], &counters["reloads"]].map(Json::number)
    };
    until("nine connections and a reload", SOON, || {
        (counted(&document(&told.status())) == [9.0, 1.0]).then_some(())
    });
    let uptime = document(&told.status())["server"]["uptime_seconds"].number();
    assert_eq!(told.ask("upgrade")["ok"], Json::Bool(true));
    // The children of the program before are replaced in a reload.
    let after = until("its reload", SOON, || {
        let document = document(&told.status());
        (counted(&document)[1] == 2.0).then_some(document)
    });
    assert_eq!(after["server"]["epoch"].number(), 2.0);
    assert_eq!(counted(&after), [9.0, 2.0]);
    assert!(after["server"]["uptime_seconds"].number() >= uptime);
    assert!(told.server.stop(Signal::SIGTERM, SOON).success());
}

/// It is told before the command is answered, and by the program after an upgrade as well.
fn a_drained_server_is_out_of_balancers_and_serves_on(world: &mut World) {
    world.deadline(SOON * 4);
    let told = Told::new(world, &["--agent", "0"]);
    let agent = status_of(&told.server, "agent at ");
    let ready = || {
        let answer = get(&told.status(), "/ready");
        (answer.code, answer.body)
    };
    let line = || connect(&agent).read_rest();
    until_code(&told.status(), "/ready", 200, SOON);
    assert_eq!(told.ask("drain")["drained"], Json::Bool(true));
    assert_eq!(ready(), (503, "drained\n".to_owned()));
    assert_eq!(line(), "drain\n");
    assert_eq!(get(&told.status(), "/health").code, 200);
    assert_eq!(connect(&told.server.address()).ask("hello"), "hello");
    assert_eq!(told.ask("upgrade")["ok"], Json::Bool(true));
    until_code(&told.status(), "/ready", 503, SOON);
    assert_eq!(line(), "drain\n");
    assert_eq!(told.ask("show")["drained"], Json::Bool(true));
    assert_eq!(told.ask("ready")["drained"], Json::Bool(false));
    assert_eq!(ready(), (200, "ready\n".to_owned()));
    assert!(line().starts_with("up ready "));
    assert!(told.server.stop(Signal::SIGTERM, SOON).success());
}
