//! A child that scribbles over all memory that it shares with its parent and its siblings: it harms
//! nobody but itself.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_dumpable;
use nix::unistd::{SysconfVar, Uid, setuid, sysconf};
use prefork_server::servers::TcpConn;
use prefork_server::{PreFork, TcpServer};

use crate::subject::{BusyCount, expect_busy};
use crate::support::{
    Address, Args, Client, Programs, SOON, Scenarios, Signal, World, connect, pause, programs,
    scenarios,
};

pub const PROGRAMS: Programs = programs![hostile];

pub const SCENARIOS: Scenarios = scenarios![
    a_child_that_scribbles_over_shared_memory_harms_nobody_else,
    a_child_can_write_its_own_slot_and_nothing_else,
];

const SPARE: usize = 2;

/// The exit code of a child that has scribbled enough.
const CODE: i32 = 66;

/// What a hostile child makes of each number, a second long each: all are free, all are busy, the
/// parent will look at everything, nonsense.
const LIES: [fn(u64) -> u64; 4] = [
    |word| word & !1,
    |word| word | 1,
    |_| u64::from_be_bytes(*b"look at "),
    |word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555,
];

/// The user that hostile children become: they can send no signal to their siblings.
const NOBODY: u32 = 65534;

// The program.

fn hostile(args: Args) -> Result<(), Box<dyn Error>> {
    let counted = BusyCount::new(args.value("--busy").expect("a file"))?;
    let server = TcpServer::new(answer).max_requests(0);
    let mut prefork = PreFork::builder(server)
        // No surplus before clients come: a child that is culled as it accepts counts as retiring.
        .start_servers(SPARE)
        .min_spare_servers(1)
        .max_spare_servers(SPARE)
        .max_clients(10)
        .timeout(Duration::from_secs(10))
        .cull_after(Duration::from_millis(100))
        // A child that is culled has to come to run meanwhile. Much less than they lie for.
        .kill_timeout(Duration::from_secs(2))
        .hooks(counted)
        .start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run()?;
    Ok(())
}

fn answer(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("scribble", enough)) => {
                become_somebody_else()?;
                writeln!(&conn, "scribbling")?;
                let begin = Instant::now();
                while !Path::new(enough).exists() {
                    let lie = LIES[begin.elapsed().as_secs() as usize % LIES.len()];
                    scribble::over_all_that_is_mapped(lie);
                }
                std::process::exit(CODE);
            }
            Some(("reach", "all")) => {
                become_somebody_else()?;
                writeln!(&conn, "{}", scribble::over_all_that_can_be_reached())?;
            }
            _ => writeln!(&conn, "{}", std::process::id())?,
        }
    }
    Ok(())
}

fn become_somebody_else() -> io::Result<()> {
    setuid(Uid::from_raw(NOBODY))?;
    // So that it may look into its own /proc/self.
    set_dumpable(true)?;
    Ok(())
}

/// What takes `unsafe`, as faults of this kind do.
#[allow(unsafe_code)]
mod scribble {
    use super::*;
    use nix::libc;
    use std::os::fd::AsRawFd;
    use std::ptr;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// How many bytes there are to be written that others have mapped, too.
    pub(super) fn over_all_that_is_mapped(lie: fn(u64) -> u64) -> usize {
        shared("rw-s", "").map(|range| over(range, lie)).sum()
    }

    /// The same for the boards alone, and what can be had of them besides: a short report.
    pub(super) fn over_all_that_can_be_reached() -> String {
        let own = shared("rw-s", BOARDS).map(|range| over(range, |word| !word));
        let own: usize = own.sum();
        let grown: usize = shared("rw-s", BOARDS).map(grow).sum();
        let unprotected: usize = shared("r--s", BOARDS).map(unprotect).sum();
        let mapped: usize = descriptors().into_iter().map(map).sum();
        let forced: usize = shared("r--s", BOARDS).map(force).sum();
        format!("own {own} grown {grown} unprotected {unprotected} mapped {mapped} forced {forced}")
    }

    /// The name of what tells a parent of its children, and children of their parent. Numbers that
    /// all children add to, as of connections that were refused, are in memory of another name.
    const BOARDS: &str = "memfd:prefork-";

    /// The shared mappings with these rights and this in their name.
    fn shared(rights: &str, name: &str) -> impl Iterator<Item = (usize, usize)> {
        let maps = fs::read_to_string("/proc/self/maps").expect("the mappings");
        let range = |line: &str| {
            let mut fields = line.split_whitespace();
            let (range, found) = (fields.next()?, fields.next()?);
            let (start, end) = range.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?)).filter(|_| found == rights && line.contains(name))
        };
        let ranges: Vec<_> = maps.lines().filter_map(range).collect();
        ranges.into_iter()
    }

    /// Writes over a range of memory, and returns its length.
    fn over((start, end): (usize, usize), lie: fn(u64) -> u64) -> usize {
        for address in (start..end).step_by(8) {
            // SAFETY: the memory is mapped to be written, and others expect no more of it than
            // numbers.
            let word = unsafe { &*ptr::with_exposed_provenance::<AtomicU64>(address) };
            word.store(lie(word.load(Relaxed)), Relaxed);
        }
        end - start
    }

    /// Makes a mapping of its own larger, so that it reaches what is behind it in the file.
    fn grow((start, end): (usize, usize)) -> usize {
        let (old, new) = (end - start, 2 * (end - start));
        let mut reached = 0;
        // An old length of zero makes a second mapping of the same file.
        for old in [old, 0] {
            // SAFETY: the kernel moves the mapping, or says no; nothing of ours points into it
            // that is used after this.
            let grown = unsafe {
                let start = ptr::with_exposed_provenance_mut(start);
                libc::mremap(start, old, new, libc::MREMAP_MAYMOVE)
            };
            if grown != libc::MAP_FAILED {
                let start = grown.expose_provenance();
                reached += over((start, start + new), |word| !word);
            }
        }
        reached
    }

    fn unprotect((start, end): (usize, usize)) -> usize {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: more rights for memory that is mapped.
        let changed = unsafe {
            let address = ptr::with_exposed_provenance_mut(start);
            libc::mprotect(address, end - start, rights)
        };
        if changed == 0 {
            over((start, end), |word| !word)
        } else {
            0
        }
    }

    /// The descriptors of files in memory: no others are in the parent's hands as memory.
    fn descriptors() -> Vec<File> {
        let listed = fs::read_dir("/proc/self/fd").expect("the descriptors");
        let paths = listed.filter_map(|entry| Some(entry.ok()?.path()));
        let in_memory = paths.filter(|path| {
            fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("memfd:"))
        });
        in_memory
            .filter_map(|path| File::options().read(true).write(true).open(path).ok())
            .collect()
    }

    fn map(file: File) -> usize {
        let length = file.metadata().expect("a file").len() as usize;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapped = unsafe {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                ptr::null_mut(),
                length,
                rights,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return file.write_at(&[0xff; 64], 0).unwrap_or(0);
        }
        let start = mapped.expose_provenance();
        over((start, start + length), |word| !word)
    }

    /// Writes past the rights of a mapping, as a debugger does.
    fn force((start, end): (usize, usize)) -> usize {
        let memory = File::options().write(true).open("/proc/self/mem");
        let written = |memory: File| memory.write_at(&vec![0xff; end - start], start as u64);
        memory.and_then(written).unwrap_or(0)
    }
}

// The scenarios.

fn is_root() -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        eprintln!("skipped: only root can make a child that may not signal its siblings");
    }
    is_root
}

fn hold(address: &Address, count: usize) -> Vec<(Client, String)> {
    let ask = |mut client: Client| {
        let pid = client.ask("who?");
        (client, pid)
    };
    (0..count).map(|_| ask(connect(address))).collect()
}

/// Connections one after the other from each of two clients, each of which is answered, for as long
/// as `work` takes.
fn under_load(address: &Address, work: impl FnOnce()) {
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    connect(address).ask("who?");
                }
            });
        }
        // Also after a panic.
        let _enough = Set(&enough);
        work();
    });
}

struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// For seconds a child scribbles, while clients hold connections and others come and go, so that
/// words are left to the board. (With a board that all can write, siblings counted as idle, were
/// culled and killed, and clients that had been accepted went without an answer.)
fn a_child_that_scribbles_over_shared_memory_harms_nobody_else(world: &mut World) {
    if !is_root() {
        return;
    }
    const HELD: usize = 4;
    let counted = world.tempdir().join("busy");
    let enough = world.tempdir().join("enough");
    let server = world.program("hostile").arg("--busy").arg(&counted).spawn();
    let address = server.address();
    let mut held = hold(&address, HELD);
    let mut attacker = connect(&address);
    let pid = attacker.ask("who?");
    assert_eq!(
        attacker.ask(&format!("scribble {}", enough.display())),
        "scribbling"
    );
    under_load(&address, || {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(LIES.len() as u64) {
            for (client, pid) in &mut held {
                assert_eq!(client.ask("who?"), *pid);
            }
            pause(Duration::from_millis(10));
        }
    });
    File::create(enough).unwrap();
    attacker.gone();
    // It may have called itself idle, and so been culled.
    let its_own = format!("death of {pid}: ");
    let deaths = server.expect_stdout("its death", |text| text.contains(&its_own));
    let unwanted = |line: &&str| {
        line.starts_with("death")
            && !line.starts_with(&its_own)
            && !line.ends_with("Culled Some(0)")
    };
    assert_eq!(deaths.lines().find(unwanted), None, "{deaths}");
    for (client, pid) in &mut held {
        assert_eq!(client.ask("who?"), *pid);
    }
    expect_busy(&counted, HELD);
    drop(held);
    expect_busy(&counted, 0);
    server.stop(Signal::SIGTERM, SOON);
}

/// What a child can write of all that it shares: one page, which holds its slot.
fn a_child_can_write_its_own_slot_and_nothing_else(world: &mut World) {
    if !is_root() {
        return;
    }
    let counted = world.tempdir().join("busy");
    let server = world.program("hostile").arg("--busy").arg(&counted).spawn();
    let mut client = connect(&server.address());
    let reached = client.ask("reach all");
    let page = page_size();
    let grown = if can_fix_mappings() {
        "grown 0 ".to_owned()
    } else {
        eprintln!("skipped in part: this kernel lets a mapping grow (before Linux 6.10)");
        String::new()
    };
    assert!(
        reached.starts_with(&format!("own {page} {grown}")),
        "{reached}"
    );
    assert!(
        reached.ends_with("unprotected 0 mapped 0 forced 0"),
        "{reached}"
    );
    drop(client);
    server.stop(Signal::SIGTERM, SOON);
}

fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).unwrap();
    size.unwrap() as usize
}

/// Whether the kernel has mseal(2).
fn can_fix_mappings() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
    (number(), number()) >= (Some(6), Some(10))
}
