//! What the process may have: threads (one, when it forks) and open files. Counts and compares.

use crate::error::{Error, Operation};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Fails if this process has more than one thread, naming them. Where it cannot be known, it passes.
pub(crate) fn single_thread() -> Result<(), Error> {
    // The link count of the directory is the number of threads plus two; cheaper than listing it.
    let Ok(tasks) = fs::metadata("/proc/self/task") else {
        return Ok(());
    };
    let threads = tasks.nlink().saturating_sub(2);
    if threads <= 1 {
        return Ok(());
    }
    let reason = format!(
        "{threads} threads ({}); a fork would leave the locks of the others locked in the child",
        thread_names().join(", ")
    );
    Err(Error::new(
        Operation::Threads,
        "of the parent",
        io::Error::other(reason),
    ))
}

/// Whether this process certainly has one thread.
pub(crate) fn has_one_thread() -> bool {
    fs::metadata("/proc/self/task").is_ok_and(|tasks| tasks.nlink() == 3)
}

fn thread_names() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// The soft limit that we found, where we raised it; `u64::MAX` where we did not. Children get it
/// back: a program may size tables by it.
static SOFT_BEFORE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Descriptors that a parent needs besides those of its children.
const RESERVE: u64 = 32;

/// Sees to it that `children` children with `each` descriptors fit into the limit of open files,
/// raising the soft limit if the hard one allows it.
pub(crate) fn ensure_open_files(children: usize, each: usize) -> Result<(), Error> {
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let needed = (open as u64).saturating_add((children as u64).saturating_mul(each as u64));
    let needed = needed.saturating_add(RESERVE);
    let limit = |source: nix::Error| Error::new(Operation::Limit, "open files", source.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(limit)?;
    if needed <= soft {
        return Ok(());
    }
    if needed > hard {
        let reason = format!("max_clients {children} needs {needed}, the hard limit is {hard}");
        return Err(Error::new(
            Operation::Limit,
            "open files",
            io::Error::other(reason),
        ));
    }
    // All the way: `max_clients` may be raised while the server runs.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(limit)?;
    // OK if it fails: then an earlier server has noted the limit that was there first.
    let _ = SOFT_BEFORE.compare_exchange(u64::MAX, soft, Ordering::Relaxed, Ordering::Relaxed);
    Ok(())
}

/// In a child: gives it the limit that the parent had found.
pub(crate) fn restore_open_files() {
    let soft = SOFT_BEFORE.load(Ordering::Relaxed);
    if soft == u64::MAX {
        return;
    }
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // OK to ignore: the child runs as well with the higher limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// Whether a fork that failed with `error` may succeed later.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
    matches!(
        error.raw_os_error(),
        Some(EAGAIN | ENOMEM | EMFILE | ENFILE)
    )
}
