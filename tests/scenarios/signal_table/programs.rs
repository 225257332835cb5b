//! The programs that get signals: one that logs and reopens its logs, one that another program runs.
//! Judges nothing.

use super::*;

/// A log file of a child, which is reopened when it is told to.
struct Log {
    path: PathBuf,
    file: RefCell<File>,
}

impl Log {
    fn open(path: &Path) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            path: path.to_owned(),
            file: RefCell::new(appended(path)?),
        }))
    }

    fn reopen(&self) {
        *self.file.borrow_mut() = appended(&self.path).expect("a log file");
    }
}

fn appended(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A server whose parent and children write to the file `--log`.
struct Logging {
    inner: TcpServer,
    path: PathBuf,
}

thread_local! {
    /// The log of this process.
    static LOG: RefCell<Option<Rc<Log>>> = const { RefCell::new(None) };
}

fn note(line: &str) -> io::Result<()> {
    let log = LOG.with_borrow(Clone::clone).expect("a log");
    let mut file = log.file.borrow_mut();
    // In one write, so that the lines of two children do not mix.
    file.write_all(format!("{line}\n").as_bytes())
}

impl ChildServer for Logging {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        Some(&mut self.inner)
    }

    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        let log = Log::open(&self.path)?;
        LOG.set(Some(Rc::clone(&log)));
        comm.when_told_to_reopen(move || log.reopen());
        self.inner.resume_accept(comm)
    }
}

struct Reopening;

impl PreForkHooks for Reopening {
    fn reopen_logs(&mut self, monitor: &mut Monitor) {
        LOG.with_borrow(|log| log.as_ref().expect("a log").reopen());
        note("the parent has reopened its log").expect("a log");
        defaults::reopen_logs(self, monitor);
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        LOG.set(None);
        defaults::server_start(self, start)
    }
}

/// Answers each line, and notes it in the log of the child.
fn answer(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        note(&line)?;
        writeln!(&conn, "{} {line}", std::process::id())?;
    }
    Ok(())
}

pub(super) fn logging(args: Args) -> ExitCode {
    log_warnings();
    let path = PathBuf::from(args.value("--log").expect("--log FILE"));
    LOG.set(Some(Log::open(&path).expect("a log")));
    let run = || -> Result<(), Error> {
        let inner = TcpServer::new(answer).port(0).max_requests(0);
        let server = Logging { inner, path };
        let start = args.parsed("--start").unwrap_or(4);
        let builder = PreFork::builder(server).hooks(Reopening);
        let builder = builder.start_servers(start).max_spare_servers(100);
        let mut prefork = builder.start()?;
        for address in prefork.server().inner.local_addrs() {
            println!("listening on {address}");
        }
        prefork.run().map(drop)
    };
    ended(run())
}

/// Runs `--script` in a shell, as a program of an `ExecServer`.
pub(super) fn worker(args: Args) -> ExitCode {
    log_warnings();
    let script = args.value("--script").expect("--script TEXT");
    let server = ExecServer::new("sh").args(["-c", script]);
    let mut server = server.stop_signal(prefork_server::Signal::Terminate);
    if args.has("--usr1") {
        server = server.reopen_signal(prefork_server::Signal::User1);
    }
    let builder = PreFork::builder(server).start_servers(1).max_clients(1);
    // A shell may start a process just when it is told to stop, which nobody tells before SIGKILL.
    let builder = builder.shutdown_timeout(Duration::from_secs(1));
    ended(builder.run().map(drop))
}
