//! The program: a server whose children get stuck in the way that their clients name.

use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use prefork_server::{
    ChildServer, Error, Event, ExecServer, Frame, Monitor, Observer, PreFork, TcpServer,
};

use crate::support::{Args, Programs, programs};

pub const PROGRAMS: Programs = programs![stuck];

fn stuck(args: Args) -> ExitCode {
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    if args.has("--exec") {
        return serve(args, ExecServer::new("sleep").arg("1000"));
    }
    if args.has("--own-handler") {
        handle(Signal::SIGURG, own_handler);
    }
    let server = TcpServer::new(|conn| answer(&conn)).port(0);
    serve(args, server.max_requests(0))
}

fn serve<S: ChildServer>(args: &Args, server: S) -> Result<(), Error> {
    let time = |name, default| Duration::from_millis(args.parsed(name).unwrap_or(default));
    let clients = args.parsed("--clients").unwrap_or(1);
    let prefork = PreFork::builder(server)
        .observe(Told)
        .start_servers(clients)
        .min_spare_servers(1)
        .max_spare_servers(clients)
        .max_clients(clients)
        .timeout(time("--timeout", 1000))
        .kill_timeout(time("--kill-timeout", 1000))
        .shutdown_timeout(time("--shutdown-timeout", 1000));
    let prefork = match args.value("--control") {
        Some(path) => prefork.control(path),
        None => prefork,
    };
    prefork.run().map(drop)
}

/// Says where the server listens, and how each child has ended: a line of fields with bars between
/// them, the last of which are the frames of its stack.
struct Told;

impl Observer for Told {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        match event {
            Event::ListenerOpened { name, .. } => println!("listening on {name}"),
            Event::Exited { child, death, .. } => {
                let stuck_in = death.stuck_in().and_then(Frame::function).unwrap_or("-");
                let stack = death.stack().unwrap_or_default().iter();
                let stack: Vec<_> = stack.map(ToString::to_string).collect();
                let (pid, cause) = (child.pid(), death.cause());
                println!(
                    "exited {pid}|{cause:?}|{death}|{stuck_in}|{}",
                    stack.join("|")
                );
            }
            _ => {}
        }
    }
}

/// Says who it is, reads how to get stuck, and does.
fn answer(mut conn: impl io::Read + io::Write) -> io::Result<()> {
    writeln!(conn, "{}", process::id())?;
    let mut line = String::new();
    BufReader::new(&mut conn).read_line(&mut line)?;
    get_stuck(line.trim());
    writeln!(conn, "free again")
}

fn get_stuck(how: &str) {
    match how {
        "loop" => in_a_loop(),
        "clock" => in_a_loop_with_a_clock(),
        "inlined" => calls_an_inlined_function(),
        "sleep" => in_sleep(),
        "read" => in_read(),
        "c" => in_a_call_of_c(),
        "callback" => in_a_callback_of_c(),
        "deep" => in_deep_recursion(black_box(10_000)),
        "full" => on_a_full_stack(),
        "large" => with_a_large_frame(),
        "blocked" => with_signals_blocked(),
        "overflow" => drop(black_box(recurses_for_ever(black_box(1)))),
        "overflow-handled" => overflows_and_loops_in_the_handler(),
        "corrupted" => with_a_corrupted_stack(),
        "pointer" => with_a_wrong_stack_pointer(),
        "area" => with_shared_memory_overwritten(),
        _ => {}
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

#[inline(never)]
fn in_a_loop() {
    let mut sum = 0_u64;
    loop {
        sum = black_box(sum.wrapping_add(1));
    }
}

/// In functions of the kernel's that are mapped into the process, most of the time.
#[inline(never)]
fn in_a_loop_with_a_clock() {
    let begin = Instant::now();
    while black_box(begin.elapsed()) < Duration::from_secs(1000) {}
}

#[inline(never)]
fn calls_an_inlined_function() {
    black_box(1);
    an_inlined_function();
    black_box(2);
}

#[inline(always)]
fn an_inlined_function() {
    let mut sum = 0_u64;
    while black_box(sum) < u64::MAX {
        sum = black_box(sum / 2);
    }
}

#[inline(never)]
fn in_sleep() {
    std::thread::sleep(Duration::from_secs(1000));
    black_box(());
}

#[inline(never)]
fn in_read() {
    let (mut reads, _writes) = UnixStream::pair().unwrap();
    black_box(reads.read(&mut [0; 64])).unwrap();
}

#[inline(never)]
fn in_a_call_of_c() {
    loop {
        // SAFETY: it takes a number.
        black_box(unsafe { libc::sleep(1000) });
    }
}

/// The frames of `qsort` lie between those of two functions in Rust.
#[inline(never)]
fn in_a_callback_of_c() {
    let mut numbers = [3, 2, 1];
    // SAFETY: three numbers of four bytes, and a function that compares two.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 3, 4, Some(compares_for_ever)) };
    black_box(numbers);
}

extern "C" fn compares_for_ever(_: *const libc::c_void, _: *const libc::c_void) -> libc::c_int {
    std::thread::sleep(Duration::from_secs(1000));
    black_box(0)
}

/// More of a stack than is copied.
#[inline(never)]
fn in_deep_recursion(depth: u64) {
    if depth == 0 {
        return in_a_loop();
    }
    in_deep_recursion(black_box(depth - 1));
    black_box(depth);
}

/// On the last pages of the stack, where no handler of a signal has room.
#[inline(never)]
fn on_a_full_stack() {
    // SAFETY: an integer is returned.
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_STACK);
    let size = limit.unwrap().0.min(8 << 20) as usize;
    let here = &raw const limit as usize;
    down_to(here - size + (160 << 10));
}

#[inline(never)]
fn down_to(end: usize) {
    let room = black_box([0_u8; 1024]);
    if (&raw const room as usize) < end {
        return in_a_loop();
    }
    down_to(end);
    black_box(room);
}

/// Only the frames below its own are copied.
#[inline(never)]
fn with_a_large_frame() {
    let room = black_box([0_u8; 1 << 20]);
    in_sleep();
    black_box(room);
}

#[inline(never)]
fn with_signals_blocked() {
    SigSet::all().thread_block().unwrap();
    spin();
}

#[allow(unconditional_recursion, reason = "the stack overflows")]
#[inline(never)]
fn recurses_for_ever(depth: u64) -> u64 {
    let room = black_box([depth; 100]);
    recurses_for_ever(black_box(depth + 1)) + room[7]
}

fn handle(signal: Signal, handler: extern "C" fn(libc::c_int)) {
    let action = SigAction::new(
        SigHandler::Handler(handler),
        SaFlags::SA_ONSTACK,
        SigSet::empty(),
    );
    // SAFETY: the handlers of this program touch nothing.
    unsafe { sigaction(signal, &action) }.unwrap();
}

extern "C" fn own_handler(_: libc::c_int) {}

extern "C" fn loops_in_the_handler(_: libc::c_int) {
    spin();
}

#[inline(never)]
fn overflows_and_loops_in_the_handler() {
    handle(Signal::SIGSEGV, loops_in_the_handler);
    black_box(recurses_for_ever(black_box(1)));
}

/// Its own frame and all that lie above are overwritten.
#[inline(never)]
fn with_a_corrupted_stack() {
    let here = black_box([0_u8; 64]);
    let mut at = here.as_ptr().cast_mut();
    for byte in 0..16 * 1024 {
        // SAFETY: none. The stack goes on that far, in `main` and in the environment, and no function
        // returns from here.
        unsafe {
            at.write_volatile((byte % 251) as u8);
            at = at.add(1);
        }
    }
    spin();
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn with_a_wrong_stack_pointer() {
    // SAFETY: nothing after it uses a stack.
    unsafe { std::arch::asm!("mov rsp, 0x1234567", "2:", "jmp 2b", options(noreturn)) }
}

#[cfg(not(target_arch = "x86_64"))]
fn with_a_wrong_stack_pointer() {
    with_a_corrupted_stack();
}

/// The memory for stacks, which is the largest that processes share, holds garbage.
#[inline(never)]
fn with_shared_memory_overwritten() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let shared = maps.lines().filter(|line| line.contains(" rw-s "));
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some(hex(start)..hex(end))
    };
    let largest = shared
        .filter_map(range)
        .max_by_key(ExactSizeIterator::len)
        .unwrap();
    for at in largest {
        // SAFETY: none. It is mapped and writable.
        unsafe { (at as *mut u8).write_volatile((at % 253) as u8) };
    }
    spin();
}
