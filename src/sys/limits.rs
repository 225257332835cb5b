//! The limits of the process: threads (one, when it forks) and open files. Counts, compares, and
//! raises the limit of open files.

use super::fd_registry::Registered;
use crate::core::error::{Error, Operation};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// The directory of this process's threads, kept open: threads are counted before each fork, and
/// opening the directory takes longer than counting.
#[derive(Debug)]
pub(crate) struct Threads(Option<Registered<File>>);

impl Threads {
    pub(crate) fn open() -> Self {
        Self(File::open(TASKS).ok().map(Registered::parents))
    }

    /// Fails if this process has more than one thread, and names them. Passes where the number is
    /// unknown.
    pub(crate) fn expect_one(&self) -> Result<(), Error> {
        let Some(Ok(tasks)) = self.0.as_ref().map(|tasks| tasks.metadata()) else {
            return Ok(());
        };
        match threads(&tasks) {
            0 | 1 => Ok(()),
            many => {
                let reason = format!(
                    "{many} threads ({}); a fork would leave the locks of the others locked in \
                     the child",
                    described_threads().join(", ")
                );
                let reason = io::Error::other(reason);
                Err(Error::new(Operation::Threads, "of the parent", reason))
            }
        }
    }
}

const TASKS: &str = "/proc/self/task";

/// The number of threads. The directory's link count is their number plus two; reading it is
/// cheaper than listing the directory.
fn threads(tasks: &fs::Metadata) -> u64 {
    tasks.nlink().saturating_sub(2)
}

/// Whether this process is known to have exactly one thread.
pub(crate) fn has_one_thread() -> bool {
    fs::metadata(TASKS).is_ok_and(|tasks| threads(&tasks) == 1)
}

/// A description of each thread of this process.
fn described_threads() -> Vec<String> {
    let tasks = fs::read_dir(TASKS).into_iter().flatten().flatten();
    tasks.map(|task| described(&task.path())).collect()
}

/// A thread's number, its name, and the place in the kernel where it waits, from /proc. A thread
/// without a name of its own has the program's, and its siblings have it too.
fn described(task: &Path) -> String {
    let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
    let (name, place) = (read("comm"), read("wchan"));
    let tid = task.file_name().unwrap_or_default().display();
    // 0 for a running thread, and where the system does not tell.
    match place.trim() {
        "" | "0" => format!("{tid} {}", name.trim_end()),
        place => format!("{tid} {} in {place}", name.trim_end()),
    }
}

/// The soft limit before we raised it; `u64::MAX` if we did not. Children get it back, because a
/// program may size tables by it.
static SOFT_BEFORE: AtomicU64 = AtomicU64::new(u64::MAX);

/// How many descriptors a parent needs besides those of its children.
const RESERVE: u64 = 32;

/// Makes `children` children with `each` descriptors fit into the limit of open files. Raises the
/// soft limit if the hard limit allows it.
pub(crate) fn ensure_open_files(children: usize, each: usize) -> Result<(), Error> {
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let needed = (open as u64).saturating_add((children as u64).saturating_mul(each as u64));
    let needed = needed.saturating_add(RESERVE);
    let limit = |source: nix::Error| Error::new(Operation::Limit, "open files", source.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(limit)?;
    if needed <= count(soft) {
        return Ok(());
    }
    if needed > count(hard) {
        let reason = format!("max_clients {children} needs {needed}, the hard limit is {hard}");
        return Err(Error::new(
            Operation::Limit,
            "open files",
            io::Error::other(reason),
        ));
    }
    // To the hard limit: `max_clients` may be raised while the server runs.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(limit)?;
    // OK if it fails: an earlier server has already noted the original limit.
    let _ =
        SOFT_BEFORE.compare_exchange(u64::MAX, count(soft), Ordering::Relaxed, Ordering::Relaxed);
    Ok(())
}

/// The soft limit that the process had before a server raised it; `None` if none has.
pub(crate) fn soft_before() -> Option<u64> {
    Some(SOFT_BEFORE.load(Ordering::Relaxed)).filter(|soft| *soft != u64::MAX)
}

/// Notes the soft limit that an earlier program of this process had before its server raised it.
pub(crate) fn note_soft_before(soft: u64) {
    SOFT_BEFORE.store(soft, Ordering::Relaxed);
}

/// In a child: restores the soft limit that the parent had found.
#[allow(clippy::useless_conversion, reason = "FreeBSD's type has a sign")]
pub(crate) fn restore_open_files() {
    let soft = SOFT_BEFORE.load(Ordering::Relaxed);
    if soft == u64::MAX {
        return;
    }
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    if let (Ok((_, hard)), Ok(soft)) = (limits, soft.try_into()) {
        // OK to ignore: a child runs with the higher limit as well.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// A limit as a number: FreeBSD's type is signed.
fn count<N: TryInto<u64>>(limit: N) -> u64 {
    limit.try_into().unwrap_or(u64::MAX)
}

/// Whether a fork that failed with `error` may succeed later.
///
/// The last two are those of a message to the holder: there is no room for it, or more descriptors are
/// under way than an unprivileged user may have open.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, ETOOMANYREFS};
    matches!(
        error.raw_os_error(),
        Some(EAGAIN | ENOMEM | EMFILE | ENFILE | ENOBUFS | ETOOMANYREFS)
    )
}
