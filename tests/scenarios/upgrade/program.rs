//! The program that becomes another one: how it behaves in each of its modes, and what it tells. Judges
//! nothing.

use super::*;

/// How a program behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    Good,
    /// Exits at once.
    Exits,
    /// Never comes as far as to read the state.
    Hangs,
    /// Is killed in its trial, 10 ms after it was executed.
    Dies,
    /// Cannot use what the hooks have handed on.
    Refuses,
    /// Its children fail.
    Childless,
    /// Fails to start, but not in its trial.
    Fails,
    /// Panics instead.
    Panics,
    /// Reads states of an older format only.
    Older,
    /// Its children fail, and it hands on what another version cannot use.
    Later,
    /// Cannot say what it hands on.
    Unsaved,
    /// Gets SIGTERM while it says for the second time what it hands on.
    Signalled,
    /// Gets SIGTERM when it has taken over, and fails then.
    SignalledFails,
    /// Its children hang in their start.
    Stuck,
    /// Panics at what the hooks have handed on, but not in its trial.
    Upset,
    /// Runs another program before its server, which tells the descriptors that it has.
    Lists,
    /// Finds a state that is not what was handed on, but not in its trial.
    Future,
    CutOff,
    Flipped,
    /// Finds a descriptor missing, or leading to something else, but not in its trial.
    Missing,
    Swapped,
}

pub(super) const MODES: [(&str, Mode); 21] = [
    ("good", Mode::Good),
    ("exits", Mode::Exits),
    ("hangs", Mode::Hangs),
    ("dies", Mode::Dies),
    ("refuses", Mode::Refuses),
    ("childless", Mode::Childless),
    ("fails", Mode::Fails),
    ("panics", Mode::Panics),
    ("older", Mode::Older),
    ("later", Mode::Later),
    ("unsaved", Mode::Unsaved),
    ("signalled", Mode::Signalled),
    ("signalled-fails", Mode::SignalledFails),
    ("stuck", Mode::Stuck),
    ("upset", Mode::Upset),
    ("lists", Mode::Lists),
    ("future", Mode::Future),
    ("cut-off", Mode::CutOff),
    ("flipped", Mode::Flipped),
    ("missing", Mode::Missing),
    ("swapped", Mode::Swapped),
];

/// The version and the behaviour of this program, from the end of its file.
fn own() -> (u32, Mode) {
    let Some((version, word)) = versions::own() else {
        return (1, Mode::Good);
    };
    let mode = MODES.iter().find(|(name, _)| *name == word);
    (version, mode.expect("a mode").1)
}

/// What the hooks hand on: how many upgrades there have been.
struct Hooks {
    version: u32,
    mode: Mode,
    launch: Launch,
    upgrades: u32,
    /// How often `save` was called.
    saves: u32,
    /// How many upgrades that fail are tried again at once.
    retries: u32,
    control: Option<ParentOnly<UnixListener>>,
    path: Option<PathBuf>,
}

impl Hooks {
    pub(super) fn new(version: u32, mode: Mode) -> Self {
        Self {
            version,
            mode,
            launch: Launch::of_this_process(),
            upgrades: 0,
            saves: 0,
            retries: 0,
            control: None,
            path: None,
        }
    }
}

impl PreForkHooks for Hooks {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
            let listener = UnixListener::bind(path).expect("a socket");
            let (_, listener) = states
                .select_read_owned(listener, "control")
                .expect("a state");
            self.control = Some(listener);
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _: &str) {
        let listener = self.control.as_ref().and_then(ParentOnly::get);
        let listener = listener.expect("a listener");
        let (connection, _) = listener.accept().expect("a connection");
        let mut line = String::new();
        BufReader::new(&connection)
            .read_line(&mut line)
            .expect("a line");
        match line.trim().split_once(' ') {
            Some(("upgrade", path)) => {
                let asked = monitor.upgrade_and_tell(Some(Path::new(path)), &connection);
                asked.expect("a duplicate");
            }
            Some(("max_clients", number)) => {
                monitor.set_max_clients(number.parse().expect("a number"));
            }
            _ => panic!("{line:?}"),
        }
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        match self.mode {
            Mode::Fails => Err(io::Error::other("this program does not start")),
            Mode::Panics => panic!("this program panics"),
            Mode::SignalledFails => {
                raise(Signal::SIGTERM).expect("a signal");
                Err(io::Error::other("this program does not start"))
            }
            _ => defaults::handler_start(self, monitor, server),
        }
    }

    fn save(&mut self, _: &mut Monitor) -> Vec<u8> {
        self.saves += 1;
        match self.mode {
            Mode::Later => b"in a format of version 2".to_vec(),
            Mode::Unsaved => panic!("this program hands on nothing"),
            Mode::Signalled if self.saves == 2 => {
                raise(Signal::SIGTERM).expect("a signal");
                b"1".to_vec()
            }
            _ => (self.upgrades + 1).to_string().into_bytes(),
        }
    }

    fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
        if self.mode == Mode::Refuses {
            return Err(io::Error::other("this is of a later version"));
        }
        if self.mode == Mode::Upset && self.launch == Launch::Upgrade {
            panic!("this program is upset");
        }
        let text = std::str::from_utf8(saved).map_err(io::Error::other)?;
        self.upgrades = text.parse().map_err(io::Error::other)?;
        Ok(())
    }

    fn upgrade_failed(&mut self, monitor: &mut Monitor, error: &Error) {
        println!("version {} serves on: {error}", self.version);
        if self.retries > 0 {
            self.retries -= 1;
            monitor.upgrade();
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        match self.mode {
            Mode::Childless | Mode::Later => {
                return Err(io::Error::other("these children cannot be used"));
            }
            Mode::Stuck => loop {
                thread::park();
            },
            _ => {}
        }
        defaults::server_start(self, start)
    }

    fn server_exited(&mut self, _: &mut Monitor, child: &Child, death: &Death) {
        println!("exited {} {:?}", child.pid(), death.cause());
    }
}

/// Tells of upgrades.
struct Teller(u32);

impl Observer for Teller {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match event {
            Event::UpgradeBegan => println!("began"),
            Event::Adopted { child, .. } => {
                let child = monitor.child(*child).expect("a record");
                println!("adopted {} {:?}", child.pid(), child.state());
            }
            Event::Upgraded { blind, .. } => {
                println!("upgraded to {}, blind for {} us", self.0, blind.as_micros());
            }
            Event::UpgradeFailed { .. } => println!("event failed"),
            _ => {}
        }
    }
}

fn misbehave(mode: Mode) {
    match mode {
        Mode::Exits => std::process::exit(3),
        Mode::Hangs => loop {
            thread::park();
        },
        Mode::Dies => {
            let script = "sleep 0.01; kill -9 $PPID";
            let killer = Command::new("sh").args(["-c", script]).spawn();
            drop(killer.expect("a shell"));
            // Faster than that, the trial would be over, and the shell of the server itself would kill it.
            loop {
                thread::park();
            }
        }
        Mode::Lists => list_inherited(),
        _ => tampering::tamper(mode),
    }
}

/// Tells the descriptors of a program that this one runs.
fn list_inherited() {
    // Asked for first, as the documents say.
    if Launch::of_this_process() == Launch::Fresh {
        return;
    }
    let list = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
    let list = String::from_utf8(list.expect("a list").stdout).expect("text");
    println!("inherited: {}", list.replace('\n', " "));
}

/// Answers each line with the pid of the child and the version of the program.
pub(super) fn upgrading(args: Args) -> ExitCode {
    let (version, mode) = own();
    tampering::put_back();
    misbehave(mode);
    log_warnings();
    match Launch::of_this_process() {
        Launch::Trial => gate::pass("trial"),
        _ => println!("version {version} in {}", std::process::id()),
    }
    let served = metrics::counter("served");
    let answer = move |line: &str| {
        served.add(1);
        match line {
            "who" => format!("{} {version}", std::process::id()),
            "launch" => format!("{:?}", Launch::of_this_process()),
            other => format!("{other}?"),
        }
    };
    let hooks = Hooks {
        path: args.value("--control").map(PathBuf::from),
        retries: args.parsed("--retries").unwrap_or(0),
        ..Hooks::new(version, mode)
    };
    if let Some(path) = args.value("--unix") {
        let server = UnixServer::new(path, move |conn: prefork_server::servers::UnixConn| {
            converse(&conn, &answer)
        })
        .max_requests(0);
        let builder = sized(PreFork::builder(server).hooks(hooks), version);
        return ended(run(builder, |_| {
            println!("listening on {path}");
            if args.has("--chdir") {
                std::env::set_current_dir("/").expect("another directory");
            }
        }));
    }
    let limit = millis(&args, "--upgrade-timeout", 10_000);
    let server = TcpServer::new(move |conn: TcpConn| converse(&conn, &answer));
    let server = server.port(0).max_requests(0);
    let server = match args.has("--listen-fds") {
        true => server.listen_fds(),
        false => server,
    };
    let builder = sized(PreFork::builder(server).hooks(hooks), version);
    let builder = builder.upgrade_timeout(limit);
    let builder = match args.has("--few") {
        true => builder.max_clients(4).drain_timeout(SOON * 60),
        false => builder,
    };
    ended(run(builder, |server: &TcpServer| {
        println!("listening on {}", server.local_addrs()[0]);
    }))
}

fn converse<C>(conn: &C, answer: &impl Fn(&str) -> String) -> io::Result<()>
where
    for<'a> &'a C: Read + Write,
{
    for line in BufReader::new(conn).lines() {
        let answer = answer(&line?);
        writeln!(&*conn, "{answer}")?;
    }
    Ok(())
}

fn sized<H: PreForkHooks, S: ChildServer>(builder: Builder<H, S>, version: u32) -> Builder<H, S> {
    builder
        .start_servers(4)
        .min_spare_servers(1)
        .max_spare_servers(1000)
        .max_clients(40)
        .observe(Teller(version))
}

fn run<S: ChildServer>(builder: Builder<Hooks, S>, announce: impl Fn(&S)) -> Result<(), Error> {
    let mut prefork = builder.start()?;
    println!("{} upgrades so far", prefork.hooks().upgrades);
    announce(prefork.server());
    let report = prefork.run()?;
    let counted = format!("{:?}", prefork.monitor().metrics());
    println!("max_clients {}", prefork.monitor().max_clients());
    println!("counted {counted}");
    println!("{report}");
    Ok(())
}

/// Runs programs that say nothing.
pub(super) fn upgrading_programs(_: Args) -> ExitCode {
    log_warnings();
    let (version, mode) = own();
    let hooks = Hooks::new(version, mode);
    let server = ExecServer::new("sleep").arg("1000");
    let builder = sized(PreFork::builder(server).hooks(hooks), version);
    ended(run(builder, |_| println!("listening on 127.0.0.1:0")))
}
