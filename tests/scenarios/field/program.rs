//! The programs that users have found trouble with: what their hooks and handlers do. Judges nothing.

use super::*;

struct Hooks {
    args: Args,
    acks: usize,
    watched: Option<UnixStream>,
}

const COMMAND: &str = "command";

impl Hooks {
    fn obey(&self, monitor: &mut Monitor, command: &str) {
        let (verb, number) = command.split_at(1);
        let ms = || Duration::from_millis(number.parse().unwrap());
        match verb {
            "t" => monitor.set_timeout(ms()),
            "b" => {
                let busy = monitor.busy_servers().count();
                monitor.print_stdout(format!("busy {busy}"));
            }
            "a" => monitor.print_stdout(format!("acks {}", self.acks)),
            "s" => steal(monitor),
            "i" => native::ignore_sigchld().unwrap(),
            _ => panic!("no such command: {command}"),
        }
        monitor.print_stdout(format!("did {command}"));
    }
}

impl PreForkHooks for Hooks {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        if self.args.has("--commanded") {
            states.select_read(io::stdin(), COMMAND).unwrap();
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _: &str) {
        let mut commands = [0; 256];
        let count = io::stdin().read(&mut commands).unwrap();
        for command in std::str::from_utf8(&commands[..count]).unwrap().lines() {
            self.obey(monitor, command);
        }
    }

    fn before_fork(&mut self, monitor: &mut Monitor) {
        if self.args.has("--watch") && self.watched.is_none() {
            let (ours, theirs) = UnixStream::pair().unwrap();
            monitor.select_read(&ours, "unheard").unwrap();
            monitor.select_read_owned(theirs, "unheard").unwrap();
            self.watched = Some(ours);
        }
    }

    fn server_forked(&mut self, monitor: &mut Monitor, _: ChildId) {
        let start = self.args.parsed::<u64>("--start").unwrap_or(2);
        if let Some(go) = self
            .args
            .value("--fill-at")
            .filter(|_| monitor.report().forks == start)
        {
            let all = usize::try_from(start).unwrap();
            // The parent does not run: it finds all of them dead, with full pipes, at once.
            File::create(go).unwrap();
            let dead = |process: &&processes::Process| processes::state(process.pid) == Some('Z');
            let own = std::process::id();
            until("all children to be dead", SOON * 6, || {
                let dead = processes::children(own).iter().filter(dead).count();
                (dead >= all).then_some(())
            });
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if let Some(go) = self.args.value("--fill-at") {
            until("the parent to say go", SOON * 6, || {
                fs::exists(go).ok()?.then_some(())
            });
            fill(io::stdout())?;
            fill(io::stderr())?;
            std::process::exit(7);
        }
        if self.args.has("--fail-busy") {
            start.comm().busy()?;
            return Err(io::Error::other("no database today"));
        }
        defaults::server_start(self, start)
    }

    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        self.acks += 1;
        defaults::server_ack(self, monitor, child);
    }

    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        if !self.args.has("--quiet") {
            defaults::server_stdout(self, monitor, child, line);
        }
    }

    fn server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        if !self.args.has("--quiet") {
            defaults::server_stderr(self, monitor, child, line);
        }
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        let (pid, cause, requests) = (child.pid(), death.cause(), child.requests());
        let since = child.busy_since().is_some();
        monitor.print_stdout(format!(
            "exited {pid} {cause:?} after {requests}, busy {since}"
        ));
        defaults::server_exited(self, monitor, child, death);
    }
}

/// Kills every tenth child, and calls wait(2) for any child.
fn steal(monitor: &mut Monitor) {
    let victims: Vec<_> = monitor.children().map(Child::pid).step_by(10).collect();
    for &victim in &victims {
        send(victim, Signal::SIGKILL);
    }
    for _ in victims {
        let found = waitpid(None, None).unwrap();
        monitor.print_stdout(format!("stolen {}", found.pid().unwrap()));
    }
}

/// Fills a pipe with newlines.
fn fill(pipe: impl AsFd) -> io::Result<()> {
    native::set_nonblocking(&pipe)?;
    loop {
        match nix::unistd::write(&pipe, &[b'\n'; 4096]) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

mod native {
    //! System calls that have no safe form.
    #![allow(unsafe_code)]

    use super::{SigHandler, signal};
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::{io, os::fd::AsFd};

    pub fn ignore_sigchld() -> nix::Result<()> {
        // SAFETY: to ignore a signal runs no code.
        unsafe { signal(nix::sys::signal::Signal::SIGCHLD, SigHandler::SigIgn) }.map(drop)
    }

    pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(())
    }
}

fn answer(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        match line?.as_str() {
            "flood" => (0..4096).for_each(|_| println!("{}", "x".repeat(100))),
            "hang" => loop {
                thread::park();
            },
            "work" => thread::sleep(Duration::from_millis(1200)),
            "forge" => forge()?,
            "full" => writeln!(&conn, "{} of {}", conn.busy_servers(), conn.max_clients())?,
            _ => {}
        }
        writeln!(&conn, "{}", std::process::id())?;
    }
    Ok(())
}

/// Writes into the child's own entry of the board that it has said many words, the last of which was
/// NOT_BUSY.
fn forge() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let slot = maps
        .lines()
        .find(|line| line.contains("rw-s") && line.contains("prefork-board"));
    let start = slot
        .and_then(|line| line.split_once('-'))
        .expect("a slot")
        .0;
    let start = u64::from_str_radix(start, 16).unwrap();
    let memory = File::options()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let mut entry = [0; 8];
    memory.read_exact_at(&mut entry, start)?;
    let forged = (u64::from_ne_bytes(entry) + 1_000_000) & !1;
    memory.write_all_at(&forged.to_ne_bytes(), start)
}

fn builder(args: &Args) -> Builder<Hooks, TcpServer> {
    let number = |flag, default| args.parsed(flag).unwrap_or(default);
    let hooks = Hooks {
        args: args.clone(),
        acks: 0,
        watched: None,
    };
    let server = TcpServer::new(answer).max_requests(0);
    PreFork::builder(server)
        .hooks(hooks)
        .start_servers(number("--start", 2))
        .min_spare_servers(number("--min-spare", 1))
        .max_spare_servers(300)
        .max_clients(300)
        .kill_timeout(Duration::from_millis(
            args.parsed("--kill-timeout").unwrap_or(10_000),
        ))
        .server_check_ack(args.parsed("--check").map(Duration::from_millis))
        .coalesce_words(!args.has("--every-word"))
        .timeout(Duration::from_millis(args.parsed("--timeout").unwrap_or(0)))
}

pub(super) fn field(args: Args) -> Result<(), Box<dyn Error>> {
    log_warnings();
    let mut prefork = builder(&args).start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    match args.value("--drive") {
        Some("kill") => kill_ninety(&mut prefork)?,
        Some("measure") => measure(&mut prefork)?,
        Some("stop") => stop_at_a_line(prefork, |mut prefork| {
            prefork.stop();
            prefork.forkoff();
            prefork.server_fork();
            println!("children {}", prefork.monitor().children().count());
        })?,
        Some("drop") => stop_at_a_line(prefork, drop)?,
        _ => drop(prefork.run()?),
    }
    Ok(())
}

/// Kills all of thirty children, three times, between two turns.
fn kill_ninety(prefork: &mut PreFork<Hooks, TcpServer>) -> Result<(), Box<dyn Error>> {
    for round in 1..=3 {
        while prefork
            .monitor()
            .free_servers()
            .filter(|child| child.has_waited())
            .count()
            < 30
        {
            let _ = prefork.turn(None)?;
        }
        let monitor = prefork.monitor_mut();
        let children: Vec<_> = monitor.children().map(Child::id).collect();
        for id in children {
            let how = [
                prefork_server::Signal::Kill,
                prefork_server::Signal::Terminate,
                prefork_server::Signal::Alarm,
            ];
            monitor.kill(id, how[round - 1]);
        }
        while prefork.monitor().report().all_deaths() < 30 * round as u64 {
            let _ = prefork.turn(None)?;
        }
    }
    println!("{}", prefork.monitor().report());
    prefork.shutdown();
    prefork.run()?;
    Ok(())
}

/// What this thread has computed: other work on the machine adds nothing.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// Turns until all the first children are dead: returns the longest turn, in CPU time, and the growth
/// of the memory.
fn measure(prefork: &mut PreFork<Hooks, TcpServer>) -> Result<(), Box<dyn Error>> {
    let mut longest = Duration::ZERO;
    let mut before = None;
    let all = prefork.monitor().start_servers() as u64;
    while prefork.monitor().report().all_deaths() < all {
        let forking = prefork.monitor().report().forks < all;
        let start = cpu_time();
        let turn = prefork.turn(Some(Duration::ZERO))?;
        // The one in which the last was forked waits for all of them to die.
        if !forking {
            before.get_or_insert_with(|| memory("VmRSS"));
            longest = longest.max(cpu_time() - start);
        }
        assert!(!turn.is_done());
    }
    let grown = memory("VmHWM").saturating_sub(before.expect("some turns"));
    println!("measured {} ms, {grown} kB", longest.as_millis());
    prefork.shutdown();
    prefork.run()?;
    Ok(())
}

/// A figure of this process from /proc/self/status, in kB.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Turns until there is a line on stdin, does nothing until there is another, and ends.
fn stop_at_a_line(
    mut prefork: PreFork<Hooks, TcpServer>,
    end: impl FnOnce(PreFork<Hooks, TcpServer>),
) -> Result<(), Box<dyn Error>> {
    while prefork
        .monitor()
        .free_servers()
        .filter(|child| child.has_waited())
        .count()
        < 2
    {
        let _ = prefork.turn(None)?;
    }
    println!("pausing");
    io::stdin().lines().next().expect("a line")?;
    let start = Instant::now();
    end(prefork);
    println!("ended in {} ms", start.elapsed().as_millis());
    Ok(())
}

/// Starts and drops many servers; returns the growth of the memory.
pub(super) fn restarter(_: Args) -> Result<(), Box<dyn Error>> {
    let restart = |times: usize| -> Result<(), prefork_server::Error> {
        (0..times).try_for_each(|_| {
            let server = TcpServer::new(|_| Ok(()));
            PreFork::builder(server).start().map(drop)
        })
    };
    restart(1000)?;
    let before = memory("VmRSS");
    restart(6000)?;
    println!("grown by {} kB", memory("VmRSS").saturating_sub(before));
    Ok(())
}

/// A server whose children also have the parent's other server.
pub(super) fn two_kinds(_: Args) -> Result<(), Box<dyn Error>> {
    let mut other = PreFork::builder(TcpServer::new(|_| Ok(()))).start()?;
    let number = other.as_fd().as_raw_fd();
    let answer = move |conn: TcpConn| {
        // Strangers, if the number that the other server had was free.
        let _files: Vec<_> = (0..64)
            .map_while(|_| File::open("/dev/null").ok())
            .collect();
        let taken = fs::exists(format!("/proc/self/fd/{number}"))?;
        let found = other.as_fd().as_raw_fd();
        let turn = other.turn(Some(Duration::ZERO)).map(drop);
        let turn = turn.map_err(|error| error.to_string());
        writeln!(&conn, "taken {taken}, found {found}, turned {turn:?}")
    };
    let mut prefork = PreFork::builder(TcpServer::new(answer)).start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run()?;
    Ok(())
}
