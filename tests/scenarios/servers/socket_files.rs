//! The socket file of a `UnixServer`: its mode, files that are in its place, and who removes it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};

use super::{ask, refused, stop, text};
use crate::support::{
    SOON, Scenarios, Server, World, holds, processes, scenarios, try_connect, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    j05_directory_that_is_locked_is_waited_for,
    j08_file_in_the_way_is_left_alone,
    j06_file_of_another_server_is_left_alone,
    j06_file_outlives_children_and_goes_with_the_server,
    j03_path_that_is_empty_is_an_error,
    j03_path_that_is_too_long_is_an_error,
    j04_server_that_lives_is_not_replaced,
    j09_socket_file_has_the_mode,
    j04_stale_file_is_replaced,
    j04_stuck_server_with_a_full_backlog_is_not_replaced,
    j05_fifty_at_once_on_one_path,
];

// UNIX sockets.

/// The socket file has the mode that was asked for, 0660 by default, whatever the umask.
fn j09_socket_file_has_the_mode(world: &mut World) {
    let path = world.tempdir().join("socket");
    for (arguments, mode) in [
        (&[][..], 0o660),
        (&["--mode", "600"][..], 0o600),
        (&["--mode", "777"][..], 0o777),
    ] {
        let arguments = [&["--path", text(&path)], arguments].concat();
        let server = world.spawn("unix", &arguments);
        ask(&server.address(), "pid");
        let metadata = path.symlink_metadata().unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        stop(&server);
        assert!(path.symlink_metadata().is_err(), "it goes with the server");
    }
}

/// A socket file without a listener (connect: ECONNREFUSED) is replaced.
fn j04_stale_file_is_replaced(world: &mut World) {
    let path = world.tempdir().join("socket");
    let arguments = ["--path", text(&path)];
    let killed = world.spawn("unix", &arguments);
    let address = killed.address();
    ask(&address, "pid");
    killed.kill9();
    until("nobody to listen", SOON, || try_connect(&address).err());
    let stale = path.symlink_metadata().unwrap().ino();
    let server = world.spawn("unix", &arguments);
    ask(&server.address(), "pid");
    let fresh = path.symlink_metadata().unwrap();
    eprintln!("inode {stale} before, {} now", fresh.ino());
    stop(&server);
    assert!(path.symlink_metadata().is_err());
}

/// A socket file with a listener is left alone, and the start is refused.
fn j04_server_that_lives_is_not_replaced(world: &mut World) {
    let path = world.tempdir().join("socket");
    let arguments = ["--path", text(&path)];
    let server = world.spawn("unix", &arguments);
    let address = server.address();
    let late = world.spawn("unix", &arguments);
    let error = format!("bind {}: another server is listening there", path.display());
    assert_eq!(refused(&late), error);
    ask(&address, "pid");
    stop(&server);
}

/// A socket file whose backlog is full (EAGAIN) is left alone too: the check is a connect that
/// never waits.
fn j04_stuck_server_with_a_full_backlog_is_not_replaced(world: &mut World) {
    let path = world.tempdir().join("socket");
    let address = UnixAddr::new(&path).unwrap();
    let open = || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
    };
    // It accepts nothing.
    let stuck = open();
    socket::bind(stuck.as_raw_fd(), &address).unwrap();
    socket::listen(&stuck, Backlog::new(1).unwrap()).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = open();
        match socket::connect(client.as_raw_fd(), &address) {
            Ok(()) => clients.push(client),
            Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
        }
    }
    let late = world.spawn("unix", &["--path", text(&path)]);
    let error = format!("bind {}: another server is listening there", path.display());
    assert_eq!(refused(&late), error);
}

/// An empty path is an error: the kernel would choose any free abstract name.
fn j03_path_that_is_empty_is_an_error(world: &mut World) {
    let server = world.spawn("unix", &["--path", ""]);
    assert_eq!(refused(&server), "bind: the path is empty");
}

/// A file that is not a socket is never removed: the start is refused.
fn j08_file_in_the_way_is_left_alone(world: &mut World) {
    let path = world.tempdir().join("notes");
    fs::write(&path, "mine").unwrap();
    let server = world.spawn("unix", &["--path", text(&path)]);
    let error = format!(
        "bind {}: there is a file that is not a socket",
        path.display()
    );
    assert_eq!(refused(&server), error);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

/// A path that is too long for a socket address is an error of the bind, and the longest one that
/// fits is served.
fn j03_path_that_is_too_long_is_an_error(world: &mut World) {
    const LONGEST: usize = 107;
    let directory = world.tempdir();
    let of_length = |length: usize| {
        let name = length - text(&directory).len() - 1;
        directory.join("x".repeat(name))
    };
    for length in [LONGEST + 1, LONGEST + 2, 200] {
        let path = of_length(length);
        let server = world.spawn("unix", &["--path", text(&path)]);
        let error = refused(&server);
        let expected = format!("bind {}: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains("name too long"), "{error}");
    }
    let server = world.spawn("unix", &["--path", text(&of_length(LONGEST))]);
    ask(&server.address(), "pid");
    stop(&server);
}

/// The file is removed by the process that bound it, never by a child.
fn j06_file_outlives_children_and_goes_with_the_server(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = world.spawn("unix", &["--path", text(&path), "--max-requests", "1"]);
    let address = server.address();
    let file = path.symlink_metadata().unwrap().ino();
    for _ in 0..5 {
        let pid: u32 = ask(&address, "pid").parse().unwrap();
        until("the child to leave", SOON, || {
            (!processes::is_alive(pid)).then_some(())
        });
        assert_eq!(path.symlink_metadata().unwrap().ino(), file);
    }
    stop(&server);
    assert!(path.symlink_metadata().is_err());
}

/// The file is removed only if device and inode are those that were bound.
///
/// Without the comparison in `unlink_same` the first server takes the file of the second.
fn j06_file_of_another_server_is_left_alone(world: &mut World) {
    let path = world.tempdir().join("socket");
    let arguments = ["--path", text(&path)];
    let first = world.spawn("unix", &arguments);
    ask(&first.address(), "pid");
    // A name of its own keeps the inode from being used again.
    fs::rename(&path, path.with_extension("old")).unwrap();
    let second = world.spawn("unix", &arguments);
    let address = second.address();
    let file = path.symlink_metadata().unwrap().ino();

    stop(&first);
    assert_eq!(path.symlink_metadata().unwrap().ino(), file);
    ask(&address, "pid");
    stop(&second);
}

/// A lock on the directory serializes two instances that start at once: it is held from the check
/// of the file to the listen.
///
/// Without `lock_directory` the server is there before the lock has been given back.
fn j05_directory_that_is_locked_is_waited_for(world: &mut World) {
    let directory = world.tempdir();
    let path = directory.join("socket");
    let lock = || {
        let directory = File::open(&directory).unwrap();
        Flock::lock(directory, FlockArg::LockExclusive).unwrap()
    };
    let locked = lock();
    let server = world.spawn("unix", &["--path", text(&path)]);
    holds("it waits", Duration::from_millis(300), || {
        path.symlink_metadata().is_err() && server.try_wait().is_none()
    });
    drop(locked);
    ask(&server.address(), "pid");
    stop(&server);
    // Not forever, and it starts then: see o13_a_directory_that_cannot_be_locked_is_a_warning.
    let _locked = lock();
    let server = world.spawn("unix", &["--path", text(&path)]);
    ask(&server.address(), "pid");
    stop(&server);
}

/// Of fifty servers that start at once on one path, with a stale file in the way, exactly one runs.
///
/// Without the check for a listener (`try_connect` in `remove_stale`) all fifty run.
fn j05_fifty_at_once_on_one_path(world: &mut World) {
    let path = world.tempdir().join("socket");
    // A stale file is in their way, which each of them wants to replace.
    drop(UnixListener::bind(&path).unwrap());
    let servers: Vec<Server> = (0..50)
        .map(|_| world.spawn("unix", &["--path", text(&path)]))
        .collect();
    let winner = until("all but one to give up", SOON, || {
        let mut running = servers.iter().filter(|server| server.try_wait().is_none());
        running.next().filter(|_| running.next().is_none())
    });
    ask(&winner.address(), "pid");
    stop(winner);
    let codes = servers.iter().map(|server| server.wait(SOON).code());
    assert_eq!(codes.filter(|code| *code == Some(0)).count(), 1);
}
