//! What the benchmarks share: processes that play a role, their figures from /proc, medians and
//! tables. Measures nothing by itself.
#![allow(dead_code, reason = "each benchmark uses its part of it")]

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{ForkResult, Pid, fork, getppid},
};
use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What is written and answered in every benchmark, by every server.
pub(crate) const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n";
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Content-Length: 26\r\nConnection: close\r\n\r\nIt works, and quite fast.\n";

/// The work of one connection, the same for all servers.
pub(crate) fn answer(mut stream: impl Read + Write) -> io::Result<()> {
    let mut request = [0; 1024];
    let mut length = 0;
    while !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length += count,
        }
    }
    stream.write_all(ANSWER)
}

/// Whether to be quick rather than exact.
pub(crate) fn quick() -> bool {
    env::var_os("BENCH_QUICK").is_some_and(|value| value != "0")
}

/// `full`, or `short` in a quick run.
pub(crate) fn pick<T>(full: T, short: T) -> T {
    if quick() { short } else { full }
}

/// The same benchmark of another build, to be run beside this one: for the before and after of a
/// change, in one run.
pub(crate) fn beside() -> Option<PathBuf> {
    env::var_os("BENCH_BESIDE").map(PathBuf::from)
}

/// Runs `main` for the benchmark itself and `play` for the processes that it starts of itself.
pub(crate) fn start(main: fn(), play: fn(&[&str])) {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.split_first() {
        Some((&"--role", role)) => {
            die_with(Signal::SIGKILL, getppid());
            play(role);
        }
        _ if args.contains(&"--bench") => main(),
        _ => println!("this is a benchmark: run it with `cargo bench`"),
    }
}

/// Has the kernel end this process when its parent ends.
pub(crate) fn die_with(signal: Signal, parent: Pid) {
    prctl::set_pdeathsig(signal).expect("prctl");
    if getppid() != parent {
        process::exit(1);
    }
}

/// Forks a bare child that does `life` and ends with its parent.
pub(crate) fn bare_fork(life: impl FnOnce()) -> Pid {
    let parent = Pid::this();
    // SAFETY: the processes that play a role have one thread, so the child may do anything.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            die_with(Signal::SIGKILL, parent);
            life();
            process::exit(0);
        }
    }
}

/// Waits until stdin ends: the benchmark has no more use for this process.
pub(crate) fn until_stdin_ends() {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

/// A process that plays a role. Whatever happens, it ends with the benchmark, its children too.
pub(crate) struct Actor {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn spawn(role: &[&str]) -> Self {
        Self::spawn_from(&env::current_exe().expect("our own path"), role)
    }

    /// As `spawn`, from the same benchmark of another build.
    pub(crate) fn spawn_from(program: &Path, role: &[&str]) -> Self {
        let mut process = Command::new(program)
            .arg("--role")
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        Self {
            process,
            stdin,
            stdout,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line it prints; the benchmark fails if it prints none any more.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.stdout.read_line(&mut line).expect("read");
        assert!(count > 0, "process {} has ended too early", self.pid());
        line.trim_end().to_owned()
    }

    /// Writes a byte to it, to which it answers with a line of figures.
    pub(crate) fn ask(&mut self) -> Vec<u64> {
        let stdin = self.stdin.as_mut().expect("open");
        stdin.write_all(b"?").expect("write");
        stdin.flush().expect("flush");
        numbers(&self.line())
    }

    /// Sends SIGTERM and says how long it took to end.
    pub(crate) fn terminate(mut self) -> Duration {
        let start = Instant::now();
        kill(pid(self.process.id()), Signal::SIGTERM).expect("kill");
        self.process.wait().expect("wait");
        start.elapsed()
    }

    /// All processes of it: itself first.
    pub(crate) fn tree(&self) -> Vec<u32> {
        tree(self.pid())
    }

    /// Waits until it has `count` children that sleep.
    pub(crate) fn settle(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while tree(self.pid()).len() <= count {
            assert!(Instant::now() < deadline, "{count} children never came");
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.process.try_wait() {
            return;
        }
        // Its children end by themselves when it does; these are for when they do not.
        let children = self.tree().split_off(1);
        self.stdin = None;
        let _ = kill(pid(self.process.id()), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !matches!(self.process.try_wait(), Ok(Some(_))) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if let Ok(Some(status)) = self.process.try_wait()
            && status.code().is_some()
        {
            return; // An orderly end: there is nobody left.
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The bare servers' children are tied to their parent by the kernel; nothing is signalled
        // that may be a stranger by now.
        let deadline = Instant::now() + Duration::from_secs(10);
        while children.iter().any(|&child| is_ours(child)) {
            if Instant::now() > deadline {
                eprintln!("children of process {} are still there", self.process.id());
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn is_ours(pid: u32) -> bool {
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    exe.is_ok_and(|exe| env::current_exe().is_ok_and(|own| own == exe || Some(exe) == beside()))
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a pid"))
}

pub(crate) fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect()
}

/// `root` and its children (none of the servers has grandchildren).
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{root}/task/{root}/children"));
    let mut tree = vec![root];
    tree.extend(
        children
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|word| word.parse::<u32>().ok()),
    );
    tree
}

/// CPU time of one process, in nanoseconds, to the nanosecond.
pub(crate) fn cpu(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// CPU time of the children that a process has reaped, in nanoseconds, to the clock tick of 10 ms.
pub(crate) fn cpu_of_reaped(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    // Fields 16 and 17 of the file, 13 and 14 from the state on.
    let ticks = after
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok());
    ticks.sum::<u64>() * 10_000_000
}

/// Context switches of one process.
pub(crate) fn switches(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("ctxt_switches"))
        .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .sum()
}

/// Private memory of one process, in KiB: what it costs over its siblings.
pub(crate) fn private_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// The value at `share` (0 to 1) of the sorted values.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(at.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// The median of the ratios, round by round: what disturbs a round disturbs both.
pub(crate) fn ratio(ours: &[f64], floor: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(floor)
        .map(|(ours, floor)| ours / floor)
        .collect();
    median(&ratios)
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Prints a table as Markdown has it.
pub(crate) fn table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    println!("\n### {title}\n\n| {} |", head.join(" | "));
    println!("|{}", "---|".repeat(head.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    let _ = io::stdout().flush();
}
