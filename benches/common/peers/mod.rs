//! Other preforking servers that are installed: found, started with configurations of the benchmark
//! on a port of 127.0.0.1, and ended. Installs nothing, and does not touch their system
//! configuration.

mod setup;

use super::{pid, proc, wire};
use nix::sys::signal::{Signal, kill};
use std::{
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub(crate) use setup::PEERS;

/// Another preforking server.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What answers: its simplest natural handler.
    pub(crate) how: &'static str,
    /// The most children that it can start in reasonable time and memory.
    most: usize,
    /// Whether it forks when it has too few idle children.
    pub(crate) elastic: bool,
    find: fn() -> Result<Vec<PathBuf>, String>,
    /// Writes its configuration; the command lines to start it with.
    prepare: fn(&Setup<'_>) -> Vec<Vec<String>>,
}

/// How many processes are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pool {
    Fixed(usize),
    /// The idle processes to start with and to keep, and the maximum.
    Elastic {
        idle: usize,
        most: usize,
    },
}

impl Pool {
    fn to_begin_with(self) -> usize {
        match self {
            Self::Fixed(children) => children,
            Self::Elastic { idle, .. } => idle,
        }
    }
}

/// What a peer has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// How long it sleeps before each answer.
    pub(crate) work: Duration,
    pub(crate) backlog: usize,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            work: Duration::ZERO,
            backlog: 1024,
        }
    }
}

/// The input of a configuration.
struct Setup<'a> {
    task: Task,
    directory: &'a Path,
    port: u16,
    pool: Pool,
    programs: &'a [PathBuf],
}

/// A peer that has been started.
pub(crate) struct Running {
    roots: Vec<Child>,
    port: u16,
    directory: TempDir,
}

/// The peers that were asked for: all, or those of `BENCH_PEERS` (names, or 0 for none).
pub(crate) fn wanted() -> Vec<&'static Peer> {
    let words = env::var("BENCH_PEERS");
    let is_wanted = |peer: &&Peer| match &words {
        Ok(words) => words.split(',').any(|word| word.trim() == peer.name),
        Err(_) => true,
    };
    PEERS.iter().filter(is_wanted).collect()
}

/// Prints which ones are installed.
pub(crate) fn introduce() {
    introduce_these(&wanted());
}

/// Prints which of these are installed.
pub(crate) fn introduce_these(peers: &[&Peer]) {
    println!("\nServers of others:");
    for peer in peers {
        match (peer.find)() {
            Ok(programs) => println!("- {}: {}; {}", peer.name, programs[0].display(), peer.how),
            Err(reason) => println!("- {}: absent ({reason})", peer.name),
        }
    }
}

/// Starts the installed ones, with the given number of children each. `yielding`: they run at nice
/// 19.
pub(crate) fn start(children: usize, yielding: bool) -> Vec<(&'static Peer, Running)> {
    let started = |peer: &'static Peer| match peer.start(Pool::Fixed(children), yielding) {
        Ok(running) => Some((peer, running)),
        Err(reason) => {
            println!("- {}, {children} children: left out ({reason})", peer.name);
            None
        }
    };
    wanted().into_iter().filter_map(started).collect()
}

impl Peer {
    /// Starts it and waits until it answers; otherwise returns the reason.
    pub(crate) fn start(&self, pool: Pool, yielding: bool) -> Result<Running, String> {
        self.start_for(Task::default(), pool, yielding)
    }

    /// The same for answers that take some time.
    pub(crate) fn start_for(
        &self,
        task: Task,
        pool: Pool,
        yielding: bool,
    ) -> Result<Running, String> {
        match pool {
            Pool::Fixed(children) if children > self.most => {
                return Err(format!("{} are enough for it", self.most));
            }
            Pool::Elastic { .. } if !self.elastic => {
                return Err("it has a fixed number of processes".to_owned());
            }
            _ => {}
        }
        let programs = &(self.find)()?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        // The user that it runs as needs access.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).map_err(|error| error.to_string())?;
        let port = free_port();
        let lines = (self.prepare)(&Setup {
            task,
            directory: directory.path(),
            port,
            pool,
            programs,
        });
        let mut running = Running {
            roots: Vec::new(),
            port,
            directory,
        };
        for line in lines {
            running.spawn(&line, yielding)?;
        }
        running.until_ready(pool.to_begin_with())?;
        Ok(running)
    }
}

/// A free port. If another process takes it first, the peer reports that.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("an address").port()
}

impl Running {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn roots(&self) -> Vec<u32> {
        self.roots.iter().map(Child::id).collect()
    }

    fn spawn(&mut self, line: &[String], yielding: bool) -> Result<(), String> {
        let log = self.log();
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| error.to_string())?;
        let again = file.try_clone().map_err(|error| error.to_string())?;
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let nice: &[&str] = if yielding { &["nice", "-n", "19"] } else { &[] };
        let root = Command::new(own)
            .args(["--role", "exec"])
            .args(nice)
            .args(line)
            .current_dir(self.directory.path())
            // Apache ends its whole process group with itself.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .map_err(|error| error.to_string())?;
        self.roots.push(root);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("output.log")
    }

    /// Until it answers, and all of its processes are there.
    fn until_ready(&mut self, children: usize) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(90);
        while self.processes().len() <= children || !self.answers() {
            let ended = |root: &mut Child| !matches!(root.try_wait(), Ok(None));
            if self.roots.iter_mut().any(ended) || Instant::now() > deadline {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(format!("{} processes; {last}", self.processes().len()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    fn processes(&self) -> Vec<u32> {
        self.roots().into_iter().flat_map(proc::tree).collect()
    }

    fn answers(&self) -> bool {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port);
        let Ok(mut stream) = TcpStream::connect(address) else {
            return false;
        };
        let mut answer = Vec::new();
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let asked = stream.write_all(wire::LAST_REQUEST);
        let heard = asked.and_then(|()| stream.read_to_end(&mut answer));
        heard.is_ok() && answer.ends_with(wire::BODY.as_bytes())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let known: Vec<_> = self
            .processes()
            .into_iter()
            .filter_map(|process| Some((process, proc::started(process)?)))
            .collect();
        // In the order of what depends on what: nginx is before the one that it passes on to.
        for root in &self.roots {
            let _ = kill(pid(root.id()), Signal::SIGTERM);
        }
        let is_there = |&(process, start): &(u32, u64)| proc::started(process) == Some(start);
        let wait = |seconds| {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            while known.iter().any(is_there) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        };
        wait(10);
        for &(process, _) in known.iter().filter(|known| is_there(known)) {
            let _ = kill(pid(process), Signal::SIGKILL);
        }
        wait(5);
        for root in &mut self.roots {
            let _ = root.wait();
        }
    }
}
