//! The programs that are reloaded: settings in a file, hooks that read it, children that fail with some.
//! Judges nothing.

use super::*;

/// The settings of the program, as its children find them.
type Settings = Rc<RefCell<String>>;

struct Hooks {
    path: PathBuf,
    settings: Settings,
}

impl PreForkHooks for Hooks {
    fn handler_reload(&mut self, _: &mut Monitor, _: &mut dyn ChildServer) -> io::Result<()> {
        let settings = fs::read_to_string(&self.path)?;
        if settings == "invalid" {
            return Err(io::Error::other("a key is unknown"));
        }
        assert!(settings != "panic", "these settings are too much");
        *self.settings.borrow_mut() = settings;
        Ok(())
    }

    fn reload_failed(&mut self, _: &mut Monitor, error: &Error) {
        println!("failed: {error}");
        *self.settings.borrow_mut() = "restored".to_owned();
    }

    fn server_replaced(&mut self, _: &mut Monitor, old: ChildId, new: ChildId) {
        println!("replaced {old} by {new}");
    }

    fn server_exited(&mut self, _: &mut Monitor, child: &Child, death: &Death) {
        println!("exited {} {:?}", child.pid(), death.cause());
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        gate::pass("start");
        let settings = self.settings.borrow().clone();
        if settings == "broken" {
            return Err(io::Error::other("these settings cannot be used"));
        }
        if settings == "hanging" {
            loop {
                thread::park();
            }
        }
        defaults::server_start(self, start)
    }
}

/// Watches how many children could serve, from the moment when all have started.
#[derive(Default)]
struct Capacity {
    most: usize,
    missing: usize,
}

impl Observer for Capacity {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match event {
            Event::Ready { .. } => println!("ready"),
            Event::ToldToStop { child, .. } => {
                let told = monitor.child(*child);
                println!("told {} to stop", told.map_or(0, Child::pid));
            }
            Event::ReloadBegan { epoch, .. } => println!("began {epoch}"),
            Event::Reloaded { replaced, .. } => println!("reloaded, {replaced} replaced"),
            Event::Turn { .. } => {
                let ready = |child: &&Child| {
                    let started = child.has_waited() || child.has_served();
                    started && child.state() != State::Retiring
                };
                let ready = monitor.children().filter(ready).count();
                self.most = self.most.max(ready);
                self.missing = self.missing.max(self.most - ready);
            }
            Event::ShuttingDown => println!("missed at most {}", self.missing),
            _ => {}
        }
    }
}

/// Serves with settings from the file at `--settings`, which SIGHUP makes it read again.
pub(super) fn reloading(args: Args) -> ExitCode {
    log_warnings();
    let path = PathBuf::from(args.value("--settings").expect("a path"));
    let settings = Rc::new(RefCell::new(fs::read_to_string(&path).expect("settings")));
    let hooks = Hooks {
        path,
        settings: Rc::clone(&settings),
    };
    let server = TcpServer::new(move |conn| answer(&conn, &settings.borrow()))
        .port(0)
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    let builder = PreFork::builder(server).hooks(hooks);
    ended(run(sized(builder, &args)))
}

fn sized<H: PreForkHooks, S: ChildServer>(builder: Builder<H, S>, args: &Args) -> Builder<H, S> {
    let start = args.parsed("--start").unwrap_or(4);
    let millis = |name, default| Duration::from_millis(args.parsed(name).unwrap_or(default));
    builder
        .start_servers(start)
        .min_spare_servers(1)
        .max_spare_servers(1000)
        .max_clients(args.parsed("--max-clients").unwrap_or(50))
        .kill_timeout(millis("--kill-timeout", 10_000))
        .drain_timeout(millis("--drain-timeout", 1_000))
        .start_timeout(millis("--start-timeout", 0))
        .max_lifetime(millis("--max-lifetime", 0))
        .max_memory(args.parsed("--max-memory").unwrap_or(0))
        .replace_at_once(args.parsed("--replace-at-once").unwrap_or(0))
        .limit_jitter(args.parsed("--jitter").unwrap_or(10))
        .observe(Capacity::default())
}

fn run(builder: Builder<Hooks, TcpServer>) -> Result<(), Error> {
    let mut prefork = builder.start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

/// Answers each line with the pid and the settings of the child; some lines ask for more.
fn answer(conn: &TcpConn, settings: &str) -> io::Result<()> {
    for line in BufReader::new(conn).lines() {
        match line?.as_str() {
            "leak" => std::mem::forget(vec![1_u8; 8 << 20]),
            "replace me" => conn.ask_for_replacement()?,
            _ => {}
        }
        writeln!(&*conn, "{} {settings}", std::process::id())?;
    }
    Ok(())
}

/// Runs programs that accept nothing and say nothing.
pub(super) fn reloading_programs(args: Args) -> ExitCode {
    log_warnings();
    let server = ExecServer::new("sleep").arg("1000");
    let hooks = Hooks {
        path: PathBuf::from(args.value("--settings").expect("a path")),
        settings: Settings::default(),
    };
    let builder = sized(PreFork::builder(server).hooks(hooks), &args);
    let result = builder.start().and_then(|mut prefork| {
        println!("listening on 127.0.0.1:0");
        prefork.run()
    });
    ended(result.map(|report| println!("{report}")))
}
