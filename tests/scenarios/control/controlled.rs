//! The program with a control socket, and a server whose operator the scenarios are.

use super::*;

struct Hooks {
    path: PathBuf,
    settings: String,
}

impl PreForkHooks for Hooks {
    fn handler_reload(&mut self, _: &mut Monitor, _: &mut dyn ChildServer) -> io::Result<()> {
        let settings = fs::read_to_string(&self.path)?;
        if settings == "invalid" {
            return Err(io::Error::other("a key is unknown"));
        }
        self.settings = settings;
        Ok(())
    }

    fn reload_failed(&mut self, _: &mut Monitor, _: &Error) {
        self.settings = "restored".to_owned();
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        match self.settings.as_str() {
            "broken" => return Err(io::Error::other("these settings cannot be used")),
            "gated" => gate::pass("start"),
            _ => {}
        }
        defaults::server_start(self, start)
    }
}

/// Serves with settings from the file `settings` beside the socket at `--control`.
pub(super) fn controlled(args: Args) -> ExitCode {
    log_warnings();
    let control = args.value("--control").expect("a path");
    let hooks = Hooks {
        path: Path::new(control).with_file_name("settings"),
        settings: String::new(),
    };
    let server = TcpServer::new(converse).port(0).max_requests(0);
    let builder = PreFork::builder(server)
        .hooks(hooks)
        .start_servers(count(&args, "--start", 3))
        .max_spare_servers(100)
        .max_clients(count(&args, "--max-clients", 20))
        .shutdown_timeout(millis(&args, "--shutdown-timeout", 30_000))
        .kill_timeout(millis(&args, "--kill-timeout", 10_000))
        .cull_after(Duration::from_millis(50))
        .control(control);
    let result = builder.start().and_then(|mut prefork| {
        announce(&prefork);
        prefork.run()
    });
    ended(result.map(|report| println!("{report}")))
}

// What scenarios do.

/// A server, and the path of its control socket.
pub(super) struct Controlled {
    pub(super) server: Server,
    pub(super) path: PathBuf,
}

impl Controlled {
    pub(super) fn new(world: &mut World, flags: &[&str]) -> Self {
        let path = world.tempdir().join("control");
        fs::write(path.with_file_name("settings"), "first").expect("a file");
        let program = world.program("controlled").args(flags);
        let server = program.arg("--control").arg(&path).spawn();
        server.address();
        Self { server, path }
    }

    pub(super) fn client(&self) -> Client {
        connect(&Address::Unix(self.path.clone()))
    }

    /// The answer to one command, from a connection of its own.
    #[track_caller]
    pub(super) fn ask(&self, line: &str) -> String {
        self.client().ask(line)
    }

    pub(super) fn settings(&self, settings: &str) {
        fs::write(self.path.with_file_name("settings"), settings).expect("a file");
    }

    /// Begins a reload that ends when the gate is opened.
    pub(super) fn reload_slowly(&self, world: &World) -> (Client, Gate) {
        let mut gate = world.gate("start");
        self.settings("gated");
        let mut client = self.client();
        client.send_line("reload");
        gate.reached(SOON);
        (client, gate)
    }

    #[track_caller]
    pub(super) fn pids(&self, count: usize) -> Vec<u32> {
        self.server.expect_children(count)
    }

    /// The same once all of them can take connections: a reload counts whom it replaces.
    #[track_caller]
    pub(super) fn ready(&self, count: u32) -> Vec<u32> {
        until("children that are ready", SOON, || {
            (number(&self.ask("show"), "free") >= f64::from(count)).then_some(())
        });
        self.pids(count as usize)
    }

    /// Ends the server by a command; it has removed its socket.
    #[track_caller]
    pub(super) fn stop(&self) -> String {
        let answer = self.ask("stop");
        self.has_ended();
        answer
    }

    #[track_caller]
    pub(super) fn has_ended(&self) {
        assert_eq!(
            self.server.wait(SOON).code(),
            Some(0),
            "{}",
            self.server.stderr()
        );
        assert!(!self.path.exists(), "its socket is left");
    }
}

#[track_caller]
pub(super) fn expect_ok(answer: &str) {
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
}

#[track_caller]
pub(super) fn expect_error(answer: &str, code: &str) {
    let end = format!("\"code\":\"{code}\"}}");
    assert!(answer.starts_with("{\"ok\":false"), "{answer}");
    assert!(answer.ends_with(&end), "{answer}");
}

/// A number in an answer.
#[track_caller]
pub(super) fn number(answer: &str, name: &str) -> f64 {
    let (_, rest) = answer.split_once(&format!("\"{name}\":")).expect(answer);
    let end = rest.find([',', '}']).expect(answer);
    rest[..end].parse().expect(answer)
}
