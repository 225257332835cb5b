//! What a child does at a client's word that no child should: crashes, exits, hangs, deafness,
//! tampering with its outputs, its session, its memory.
//!
//! Each is the real thing, not a signal sent in its place. It knows nothing of the framework.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::{Pid, daemon, dup2_stdout, pause, pipe, setpgid, setsid};

use crate::support::gate;

/// Does what the words say; false if they are no misdeed. Many never return.
pub(super) fn commit(words: &str) -> io::Result<bool> {
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    match verb {
        "segv" => native::write_to_nowhere(),
        "bus" => native::read_behind_the_end_of_a_file()?,
        "ill" => native::run_no_instruction(),
        "abort" => std::process::abort(),
        "overflow" => _ = black_box(overflow(0)),
        "panic-in-drop" => drop(Bomb("the destructor panics")),
        "panic-twice" => {
            let _bomb = Bomb("and once more");
            panic!("the client asked for it");
        }
        "panic-with-a-number" => std::panic::panic_any(42),
        "panic-with-a-bomb" => std::panic::panic_any(Bomb("a payload that panics")),
        "exit" => std::process::exit(number(rest)),
        "c-exit" => native::exit(number(rest)),
        "exit-at-once" => native::exit_at_once(number(rest)),
        "slow-exit" => native::exit_slowly(),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "sleep" => loop {
            std::thread::sleep(std::time::Duration::from_secs(1000));
        },
        "mutter" => eprintln!("{rest}"),
        "exceed-files" => exceed_files()?,
        "stop" => raise(Signal::SIGSTOP)?,
        "mask" => mask_all()?,
        "wait-uninterruptibly" => native::wait_uninterruptibly()?,
        "deadlock" => deadlock(),
        "read-for-ever" => read_for_ever()?,
        "hang" => loop {
            pause();
        },
        "ignore-sigint" => native::ignore_sigint()?,
        "swallow-sigint" => native::swallow_sigint()?,
        "block-sigint" => block_sigint()?,
        "eat-with-a-limit" => eat_with_a_limit()?,
        "eat" => _ = black_box(eat(usize::MAX)),
        "last-words" => last_words(rest)?,
        "close-stdout" => native::close_stdout()?,
        "close-streams" => native::close_streams()?,
        "null-stdout" => dup2_stdout(File::options().write(true).open("/dev/null")?)?,
        "close-outputs" => native::close_outputs()?,
        "setsid" => leave_the_session()?,
        "setpgid" => setpgid(Pid::from_raw(0), Pid::from_raw(0))?,
        "daemonise" => daemon(true, true)?,
        "noise" => _ = Command::new("sh").args(["-c", NOISE]).spawn()?,
        "helper" => helper()?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Opens files until no more can be had, which is to be before there are 48.
fn exceed_files() -> io::Result<()> {
    let mut files = Vec::new();
    let error = loop {
        match File::open("/") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    let limited =
        error.raw_os_error() == Some(nix::errno::Errno::EMFILE as i32) && files.len() < 48;
    limited.then_some(()).ok_or(error)
}

/// Lines of two pages each, so that the writes of two processes run into each other, and words of
/// the wire between them, each as a line of its own.
const NOISE: &str = "line=$(head -c 8191 /dev/zero | tr '\\0' x); \
                     while printf '%s\\n\\006\\n\\023\\n' \"$line\"; do :; done";

fn number(text: &str) -> i32 {
    text.parse().unwrap_or(0)
}

fn overflow(depth: u64) -> u64 {
    let ballast = black_box([depth; 64]);
    if depth == u64::MAX {
        return 0;
    }
    black_box(overflow(depth + 1)) + ballast[7]
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

fn deadlock() {
    let mutex = Mutex::new(());
    let _first = mutex.lock();
    let _second = mutex.lock();
}

/// Reads from a pipe whose other end no other process holds.
fn read_for_ever() -> io::Result<()> {
    let (read, _write) = pipe()?;
    File::from(read).read_exact(&mut [0])
}

/// Blocks every signal that can be blocked, and hangs.
fn mask_all() -> nix::Result<()> {
    SigSet::all().thread_block()?;
    loop {
        pause();
    }
}

fn block_sigint() -> nix::Result<()> {
    let mut deaf = SigSet::empty();
    deaf.add(Signal::SIGINT);
    deaf.thread_block()
}

/// Uses memory, page by page, until there is no more of it or `blocks` MiB are used.
fn eat(blocks: usize) -> Vec<Vec<u8>> {
    let mut eaten = Vec::new();
    while eaten.len() < blocks {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
    eaten
}

fn eat_with_a_limit() -> io::Result<()> {
    const ROOM: u64 = 256 << 20;
    setrlimit(Resource::RLIMIT_AS, ROOM, ROOM)?;
    black_box(eat(usize::MAX));
    Ok(())
}

/// Fills its outputs nearly to the brim, waits at a gate for the parent to be stopped before that,
/// and ends in the given way.
fn last_words(how: &str) -> io::Result<()> {
    gate::pass("last-words");
    let line = |which: &str, number| format!("{which} {number:059}\n");
    for number in 0..900 {
        io::stdout().write_all(line("out", number).as_bytes())?;
        io::stderr().write_all(line("err", number).as_bytes())?;
    }
    print!("the end");
    io::stdout().flush()?;
    match how {
        "kill" => raise(Signal::SIGKILL)?,
        code => native::exit_at_once(number(code)),
    }
    Ok(())
}

/// A leader of a process group cannot leave its session; a child of ours is none.
fn leave_the_session() -> nix::Result<()> {
    setsid().map(drop)
}

/// A process that outlives the child and holds nothing of it.
fn helper() -> io::Result<()> {
    let mut helper = Command::new("sleep");
    helper.arg("1000").stdin(Stdio::null());
    helper.stdout(Stdio::null()).stderr(Stdio::null());
    helper.spawn().map(drop)
}

/// What takes `unsafe`, as faults of this kind do.
#[allow(unsafe_code)]
mod native {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    use nix::libc;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    pub(super) fn write_to_nowhere() {
        let nowhere = std::hint::black_box(8 as *mut u8);
        // SAFETY: none, which is the point.
        unsafe { nowhere.write_volatile(1) };
    }

    /// Maps a page of an empty file: there is nothing behind it, which is SIGBUS.
    pub(super) fn read_behind_the_end_of_a_file() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("prefork-empty-{}", std::process::id()));
        let options = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = options?;
        std::fs::remove_file(&path)?;
        let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                read,
                shared,
                file.as_raw_fd(),
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: none, which is the point.
        std::hint::black_box(unsafe { page.cast::<u8>().read_volatile() });
        Ok(())
    }

    pub(super) fn run_no_instruction() {
        // SAFETY: none is needed for an instruction that does nothing but trap.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("ud2");
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("udf #0");
        }
    }

    pub(super) fn exit(code: i32) {
        // SAFETY: a child has one thread, so no other thread uses what the exit handlers tear down.
        unsafe { libc::exit(code) }
    }

    pub(super) fn exit_at_once(code: i32) {
        // SAFETY: `_exit` has no preconditions.
        unsafe { libc::_exit(code) }
    }

    extern "C" fn wait_for_the_end(_: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the end of the parent is the end of this process too.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            nix::unistd::pause();
        }
    }

    /// Waits for a process of its own, in the kernel, in the state `D`: of all signals only SIGKILL
    /// ends that.
    pub(super) fn wait_uninterruptibly() -> io::Result<()> {
        let mut stack = vec![0_u8; 64 * 1024];
        let top = stack.as_mut_ptr_range().end;
        let flags = libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the new process has a copy of this memory, and with it of the stack.
        match unsafe { libc::clone(wait_for_the_end, top.cast(), flags, std::ptr::null_mut()) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    extern "C" fn never_done() {
        loop {
            nix::unistd::pause();
        }
    }

    /// Exits through a handler that does not come to an end.
    pub(super) fn exit_slowly() {
        // SAFETY: a function that may be called at any time.
        unsafe { libc::atexit(never_done) };
        std::process::exit(0);
    }

    pub(super) fn ignore_sigint() -> nix::Result<()> {
        set(SigHandler::SigIgn)
    }

    extern "C" fn swallow(_: libc::c_int) {}

    pub(super) fn swallow_sigint() -> nix::Result<()> {
        set(SigHandler::Handler(swallow))
    }

    fn set(handler: SigHandler) -> nix::Result<()> {
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGINT, &action) }.map(drop)
    }

    pub(super) fn close_stdout() -> io::Result<()> {
        close(libc::STDOUT_FILENO)
    }

    pub(super) fn close_streams() -> io::Result<()> {
        close(libc::STDOUT_FILENO)?;
        close(libc::STDERR_FILENO)
    }

    /// Every descriptor that leads to where 1 or 2 leads: the words' own too.
    pub(super) fn close_outputs() -> io::Result<()> {
        let target = |fd: &str| std::fs::read_link(format!("/proc/self/fd/{fd}"));
        let outputs = [target("1")?, target("2")?];
        let numbers = std::fs::read_dir("/proc/self/fd")?.flatten();
        let numbers: Vec<String> = numbers
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        for number in numbers {
            if target(&number).is_ok_and(|target| outputs.contains(&target)) {
                close(number.parse().expect("a number"))?;
            }
        }
        Ok(())
    }

    fn close(fd: libc::c_int) -> io::Result<()> {
        // SAFETY: its owner is not used any more: the child exits with `_exit`, or never
        // says another word.
        if unsafe { libc::close(fd) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
