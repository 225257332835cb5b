//! The hooks and the observer of the program with a holder: what they do at each step, and what they tell.

use super::*;

pub(super) struct Hooks {
    pub(super) version: u32,
    pub(super) mode: Mode,
    pub(super) saves: bool,
    pub(super) saves_bytes: usize,
    /// Whether children with the settings of a reload fail.
    pub(super) has_bad_settings: bool,
    /// A file with `max_clients`, and then `bad` if children fail with it.
    pub(super) settings: Option<PathBuf>,
    /// What was in force before the last reload.
    pub(super) before: Option<Config>,
    /// It panics when it is to save again, or to restore what a parent after the first has saved.
    pub(super) saves_once: bool,
    pub(super) saved: bool,
    pub(super) restored: u32,
    pub(super) reloads: u32,
    pub(super) dies_at_fork: bool,
    pub(super) starts_a_thread: bool,
    pub(super) checks_state: bool,
    /// How many forks there are before one that is refused, for good.
    pub(super) fails_at_fork: Option<u32>,
}

impl PreForkHooks for Hooks {
    fn save(&mut self, _: &mut Monitor) -> Vec<u8> {
        if std::mem::replace(&mut self.saved, true) && self.saves_once {
            println!("cannot save in {}", std::process::id());
            panic!("it is not saved again");
        }
        match self.saves {
            true => (self.restored + 1).to_string().into_bytes(),
            false => vec![b'1'; self.saves_bytes],
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if self.has_bad_settings && self.reloads > 0 {
            return Err(io::Error::other("bad settings"));
        }
        if self.mode == Mode::Childless {
            return Err(io::Error::other("these children cannot be used"));
        }
        if self.mode == Mode::Stuck {
            versions::hang();
        }
        if self.checks_state {
            println!("state {:?}", state_of_the_c_library());
        }
        defaults::server_start(self, start)
    }

    fn reload_failed(&mut self, monitor: &mut Monitor, error: &Error) {
        println!("reload failed: {error}");
        if let Some(before) = self.before.take() {
            monitor.set_config(before);
        }
    }

    fn create_states(&mut self, states: &mut States) {
        states.add("wait");
    }

    fn handler_state(&mut self, _: &mut Monitor, state: &str) {
        gate::pass(state);
    }

    fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
        if self.mode == Mode::Refuses {
            return Err(io::Error::other("this is of a later version"));
        }
        let text = std::str::from_utf8(saved).map_err(io::Error::other)?;
        self.restored = text.parse().map_err(io::Error::other)?;
        if self.saves_once && self.restored > 1 {
            panic!("it is not restored again");
        }
        println!("restored {}", self.restored);
        Ok(())
    }

    fn handler_reload(&mut self, monitor: &mut Monitor, _: &mut dyn ChildServer) -> io::Result<()> {
        self.reloads += 1;
        if let Some(path) = &self.settings {
            let text = std::fs::read_to_string(path)?;
            let (clients, how) = text.split_once(' ').unwrap_or((&text, ""));
            self.before = Some(monitor.config().clone());
            self.has_bad_settings = how == "bad";
            monitor.set_max_clients(clients.parse().map_err(io::Error::other)?);
        }
        println!("settings read {}", self.reloads);
        Ok(())
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        if self.mode == Mode::Fails {
            return Err(io::Error::other("this program does not start"));
        }
        defaults::handler_start(self, monitor, server)
    }

    fn before_fork(&mut self, _: &mut Monitor) {
        if self.dies_at_fork {
            std::process::abort();
        }
        if std::mem::take(&mut self.starts_a_thread) {
            std::thread::spawn(std::thread::park);
        }
        self.fails_at_fork = self.fails_at_fork.map(|left| left.saturating_sub(1));
        if self.fails_at_fork == Some(0) {
            // A parent that has another thread does not fork.
            std::thread::spawn(std::thread::park);
        }
        gate::pass("fork");
    }

    fn server_exited(&mut self, _: &mut Monitor, child: &Child, death: &Death) {
        println!("exited {} {:?} {}", child.pid(), death.cause(), death);
        let is_used = death.usage().is_some_and(|usage| usage.max_resident > 0);
        println!("used: {}", if is_used { "yes" } else { "no" });
        if death.stack().is_some() {
            println!("with its stack: {}", child.pid());
        }
    }

    fn server_stdout(
        &mut self,
        monitor: &mut Monitor,
        child: prefork_server::ChildId,
        line: &prefork_server::Line,
    ) {
        match line.bytes() {
            b"signal me" => monitor.kill(child, prefork_server::Signal::User1),
            b"served reload and wait" => {
                monitor.reload();
                monitor.post("wait");
            }
            // A turn performs 32 forks.
            b"served reload behind 33 forks" => {
                (0..33).for_each(|_| _ = monitor.fork());
                monitor.reload();
            }
            _ => {}
        }
        println!("said {}", String::from_utf8_lossy(line.bytes()));
    }

    fn upgrade_failed(&mut self, _: &mut Monitor, error: &Error) {
        println!("upgrade failed: {error}");
    }
}

/// What the C library and the kernel know of this process, each as it should be.
#[derive(Debug)]
#[allow(dead_code, reason = "it is printed")]
struct CLibrary {
    pid: bool,
    tid: bool,
    robust_mutexes: bool,
    threads: bool,
}

/// A child may ask for this before it becomes another program.
#[allow(unsafe_code)]
fn state_of_the_c_library() -> CLibrary {
    let pid = std::fs::read_link("/proc/self").expect("our process");
    let tid = nix::unistd::gettid().as_raw();
    let (mut clock, mut head, mut length) = (0, 0_usize, 0_usize);
    // SAFETY: the clock of this thread, and the list that the kernel has of it; both are only written to
    // the variables.
    unsafe {
        libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock);
        libc::syscall(
            libc::SYS_get_robust_list,
            0_usize,
            &raw mut head,
            &raw mut length,
        );
    }
    CLibrary {
        pid: pid.as_os_str() == std::process::id().to_string().as_str(),
        // The kernel's number for the clock of a thread is made of its id.
        tid: clock == (!tid << 3) | 6,
        robust_mutexes: head != 0 && length > 0,
        threads: std::thread::spawn(|| 7).join().is_ok_and(|n| n == 7),
    }
}

/// Tells who the parent is, at the end of its first turn, and which children it knows.
pub(super) struct Teller {
    pub(super) version: u32,
    pub(super) dies: bool,
    /// Each parent ends at the end of its first turn until there is such a file.
    pub(super) dies_until: Option<PathBuf>,
    /// The parent that is about to execute the program before ends, unless there is such a file, which
    /// it makes.
    pub(super) dies_on_the_way_back: Option<PathBuf>,
    pub(super) told: bool,
    /// What it was at the end of the last turn.
    pub(super) max_clients: Option<usize>,
    pub(super) tells_words: bool,
}

impl Teller {
    fn tell_change(&mut self, monitor: &Monitor) {
        let now = monitor.max_clients();
        let before = self.max_clients.replace(now);
        if before.is_some_and(|before| before != now) {
            println!("max_clients is now {now}");
        }
    }

    fn dies_on_the_way_back(&self, monitor: &Monitor) -> bool {
        let is_on_it = self.version > 1 && monitor.is_upgrading() && !monitor.is_reloading();
        let path = self.dies_on_the_way_back.as_ref();
        let path = path.filter(|path| is_on_it && !path.exists());
        path.is_some_and(|path| std::fs::write(path, "").is_ok())
    }
}

impl Observer for Teller {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        if let Event::Turn { .. } = event {
            self.tell_change(monitor);
        }
        let pid = |child| monitor.child(child).map_or(0, Child::pid);
        match event {
            Event::Turn { .. } if self.told && self.dies_on_the_way_back(monitor) => {
                std::process::abort()
            }
            Event::Turn { .. } if !std::mem::replace(&mut self.told, true) => {
                println!("parent {}", std::process::id());
                if self.dies_until.as_ref().is_some_and(|path| !path.exists()) {
                    std::process::abort();
                }
            }
            Event::TookOver {
                children,
                took,
                code,
                signal,
                ..
            } => {
                if self.dies {
                    std::process::abort();
                }
                println!("the one before: {code:?} {signal:?}");
                println!("took over {children} children in {} us", took.as_micros());
            }
            Event::Forked { child, .. } => println!("forked {}", pid(*child)),
            Event::Adopted { child, .. } => {
                let state = monitor.child(*child).map(Child::state);
                println!("adopted {} {state:?}", pid(*child));
            }
            Event::Busy { child, .. } if self.tells_words => println!("busy {}", pid(*child)),
            Event::Ready { child, .. } => println!("ready {}", pid(*child)),
            Event::ToldToStop { child, reason, .. } => println!("told {} {reason:?}", pid(*child)),
            Event::Reloaded { .. } => println!("reloaded"),
            Event::UpgradeBegan => println!("upgrade began"),
            Event::Upgraded { blind, .. } => {
                println!(
                    "upgraded to {}, blind for {} us",
                    self.version,
                    blind.as_micros()
                );
            }
            Event::ShuttingDown => println!("shutting down"),
            _ => {}
        }
    }
}
