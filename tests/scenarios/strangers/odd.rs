//! What handlers do that the library does not know of: print much, print from C, run on a small stack,
//! wait in system(3), live in a chroot.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    o04_a_file_at_its_limit_ends_no_server,
    o10_an_orphan_in_a_chroot_prints_into_nothing,
    o10_a_start_does_without_dev_null,
    o11_what_c_code_prints_comes_once_and_all_of_it,
    o15_a_signal_on_a_small_stack_is_handled_on_the_alternate_one,
    o28_a_stop_during_system_is_seen_after_it,
];

/// A server whose handler does what the line says.
pub(super) fn strangers_odd(args: Args) -> ExitCode {
    log_warnings();
    if args.has("--banner") {
        native::print(c"banner\n");
    }
    let server = TcpServer::new(do_odd_things).max_requests(0);
    let mut result = crate::subject::builder_of(&args, server).start();
    if let Ok(prefork) = &mut result {
        announce(prefork);
    }
    ended(result.and_then(|mut prefork| {
        let report = prefork.run()?;
        eprintln!("dropped {}", report.output_dropped);
        Ok(())
    }))
}

pub(super) fn do_odd_things(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("much", _) => println!("{:0>1000}", ""),
            ("flood", path) => {
                std::fs::write(path, "")?;
                (0..1000).for_each(|_| println!("{:0>1000}", ""));
            }
            ("from-c", _) => native::print(c"from C\n"),
            ("small-stack", _) => native::interrupt_on_a_small_stack(),
            ("system", path) => native::system(&format!("cat {path}")),
            _ => {}
        }
        writeln!(&conn, "{}", std::process::id())?;
    }
    Ok(())
}

#[allow(unsafe_code)]
mod native {
    use nix::libc;
    use std::ffi::{CStr, CString};

    pub(super) fn print(text: &CStr) {
        // SAFETY: the format takes one string, which is given.
        unsafe { libc::printf(c"%s".as_ptr(), text.as_ptr()) };
    }

    pub(super) fn system(command: &str) {
        let command = CString::new(command).unwrap();
        // SAFETY: a string that lives across the call.
        assert_eq!(unsafe { libc::system(command.as_ptr()) }, 0);
    }

    extern "C" fn interrupt() {
        // SAFETY: it may be called at any time.
        unsafe { libc::raise(libc::SIGINT) };
    }

    /// Raises SIGINT on a stack that has no room for a handler.
    pub(super) fn interrupt_on_a_small_stack() {
        const PAGE: usize = 4096;
        const ROOM: usize = 768;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: two pages of a new mapping, of which the first cannot be touched; the contexts live
        // across the switches, and `interrupt` returns to the first.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let stack = libc::mmap(std::ptr::null_mut(), 2 * PAGE, access, flags, -1, 0);
            assert_ne!(stack, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(stack, PAGE, libc::PROT_NONE), 0);
            let mut here: libc::ucontext_t = std::mem::zeroed();
            let mut there: libc::ucontext_t = std::mem::zeroed();
            assert_eq!(libc::getcontext(&raw mut there), 0);
            there.uc_stack.ss_sp = stack.byte_add(PAGE);
            there.uc_stack.ss_size = ROOM;
            there.uc_link = &raw mut here;
            libc::makecontext(&raw mut there, interrupt, 0);
            assert_eq!(libc::swapcontext(&raw mut here, &raw const there), 0);
        }
    }
}

/// SIGXFSZ is ignored in the parent: output that a file at its limit does not take is dropped and
/// counted, as on a full device.
///
/// Without the row of the table the signal kills the server.
fn o04_a_file_at_its_limit_ends_no_server(world: &mut World) {
    let own = std::env::current_exe().unwrap();
    let limited = world
        .command("sh")
        .args(&["-c", "ulimit -f 16; exec \"$@\"", "sh"]);
    let server = limited
        .arg(own)
        .args(&["--program", "strangers_odd"])
        .spawn();
    let mut held = crate::support::connect(&server.address());
    for _ in 0..100 {
        held.ask("much");
    }
    let child = held.ask("pid").parse().unwrap();
    assert!(has_signal(server.pid(), "SigIgn", Signal::SIGXFSZ));
    assert!(!has_signal(child, "SigIgn", Signal::SIGXFSZ));
    drop(held);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let text = server.stderr();
    let dropped = text.lines().find_map(|line| line.strip_prefix("dropped "));
    let dropped: u64 = dropped.expect(&text).parse().unwrap();
    assert!(dropped > 50_000, "{dropped} of 100 kB");
}

/// Each child keeps a descriptor of /dev/null from the start, for the case that it loses its
/// parent: it need not open the device then.
///
/// Without `keep_null` the `println!` of the handler panics.
fn o10_an_orphan_in_a_chroot_prints_into_nothing(world: &mut World) {
    if !Uid::effective().is_root() {
        return eprintln!("skipped: only root can change the root");
    }
    world.expect_orphans();
    let root = world.tempdir();
    let root = root.to_str().unwrap();
    let server = world.spawn("strangers_bare", &["--child-root", root]);
    let mut held = crate::support::connect(&server.address());
    let pid = held.ask("pid");
    server.kill9();
    let child: u32 = pid.parse().unwrap();
    until("the child to be an orphan", SOON, || {
        (world.orphans() == [child]).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(held.ask("much"), pid);
    }
}

/// If the start finds no /dev/null, a file in memory takes its place.
///
/// Without `null::substitute` the start fails.
fn o10_a_start_does_without_dev_null(world: &mut World) {
    if !Uid::effective().is_root() {
        return eprintln!("skipped: only root can change the root");
    }
    let root = world.tempdir();
    let server = world.spawn("strangers_bare", &["--root", root.to_str().unwrap()]);
    let mut held = crate::support::connect(&server.address());
    held.ask("much");
    let pid: u32 = held.ask("pid").parse().unwrap();
    let streams = processes::descriptors(pid);
    assert!(streams[0].1.contains("memfd:null"), "{streams:?}");
    drop(held);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// In a child, changes the root before it serves.
struct Rooted(Option<String>);

impl PreForkHooks for Rooted {
    fn server_start(&mut self, start: &mut prefork_server::Start<'_>) -> io::Result<()> {
        if let Some(root) = &self.0 {
            nix::unistd::chroot(root.as_str())?;
        }
        defaults::server_start(self, start)
    }
}

/// Runs a server where there are no devices: as a whole, or its children.
pub(super) fn strangers_bare(args: Args) -> ExitCode {
    if let Some(root) = args.value("--root") {
        nix::unistd::chroot(root).unwrap();
    }
    let root = args.value("--child-root").map(str::to_owned);
    let server = TcpServer::new(do_odd_things).max_requests(0);
    let builder = PreFork::builder(server).hooks(Rooted(root));
    let started = builder.start_servers(1).max_clients(1).start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    }))
}

/// A child discards its copy of output that C code has buffered in the parent, and flushes what C
/// code has buffered when it ends.
///
/// Without `stdio::flush_outputs` the banner comes once more from each child; without
/// `stdio::flush_all` no line comes.
fn o11_what_c_code_prints_comes_once_and_all_of_it(world: &mut World) {
    let server = world.spawn("strangers_odd", &["--start", "3", "--banner"]);
    let address = server.address();
    for _ in 0..7 {
        crate::support::connect(&address).ask("from-c");
    }
    ends_well(&server);
    let text = server.stdout();
    assert_eq!(text.matches("STDOUT: from C").count(), 7, "{text}");
    assert_eq!(text.matches("banner").count(), 1, "{text}");
}

/// Handlers of signals run on the alternate stack, if there is one: std gives one to each thread.
///
/// Without SA_ONSTACK the child dies of SIGSEGV.
fn o15_a_signal_on_a_small_stack_is_handled_on_the_alternate_one(world: &mut World) {
    let server = world.spawn("strangers_odd", &["--start", "1", "--max-clients", "1"]);
    let address = server.address();
    let mut held = crate::support::connect(&address);
    let pid: u32 = held.ask("small-stack").parse().unwrap();
    drop(held);
    // It was told to stop, and has done so.
    expect_exit(&server, pid, "Finished exit status: 0");
    ends_well(&server);
}

/// While system(3) runs, SIGINT is ignored and lost. So the parent also notes the stop on a board,
/// which a child reads before it accepts.
///
/// Without `Told` the child serves on until `shutdown_timeout`.
fn o28_a_stop_during_system_is_seen_after_it(world: &mut World) {
    let fifo = world.tempdir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let server = world.spawn("strangers_odd", &["--start", "1", "--max-clients", "1"]);
    let mut held = crate::support::connect(&server.address());
    let pid: u32 = held.ask("pid").parse().unwrap();
    held.send_line(&format!("system {}", fifo.display()));
    until("SIGINT to be ignored", SOON, || {
        has_signal(pid, "SigIgn", Signal::SIGINT).then_some(())
    });
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let boards: Vec<&str> = maps
        .lines()
        .filter(|it| it.contains("memfd:prefork-stops"))
        .collect();
    assert!(
        boards.len() == 1 && boards[0].contains(" r--s "),
        "{boards:?}"
    );
    server.signal(Signal::SIGTERM);
    until("the child to be told", SOON, || {
        pids(&server, "shutdown").first().copied()
    });
    std::fs::write(&fifo, "").unwrap();
    assert_eq!(held.read_line(), pid.to_string());
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, pid, "Shutdown exit status: 0");
}
