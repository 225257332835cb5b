//! Control groups for what only they can do to a process: freeze it so that not even SIGKILL ends it
//! before the thaw, and take its memory away.
//!
//! They take root, and the first kind is there in version 1 only. A group is gone with its value.

use std::fs;
use std::path::{Path, PathBuf};

use super::SOON;
use crate::support::{processes, until};

/// A group of its own in one hierarchy.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// A group of version 1 that can freeze. `None`, with a message, where it cannot be made.
    pub fn freezer() -> Option<Self> {
        Self::make(&["/sys/fs/cgroup/freezer"], "freezer.state")
    }

    /// A group that limits memory, of either version. `None`, with a message, as above.
    pub fn memory(limit: &str) -> Option<Self> {
        let version_1 = Self::make(&["/sys/fs/cgroup/memory"], "memory.limit_in_bytes");
        if let Some(group) = version_1 {
            group.write("memory.limit_in_bytes", limit);
            // Without it, what does not fit goes to a disk, if there is one for that.
            let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), limit);
            return Some(group);
        }
        let group = Self::make(&["/sys/fs/cgroup/unified", "/sys/fs/cgroup"], "memory.max")?;
        group.write("memory.max", limit);
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        Some(group)
    }

    fn make(roots: &[&str], control: &str) -> Option<Self> {
        for root in roots {
            clear_stale(Path::new(root));
            let path = Path::new(root).join(format!("prefork-{}", std::process::id()));
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self(path);
            if group.0.join(control).exists() {
                return Some(group);
            }
        }
        let roots = roots.join(" and ");
        eprintln!("skipped: no group with {control} can be made in {roots}: it takes root");
        None
    }

    /// Moves a process into it.
    pub fn enter(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// Freezes what is in it, and waits until it is.
    pub fn freeze(&self) {
        self.set_state("FROZEN");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.set_state("THAWED");
    }

    fn set_state(&self, state: &str) {
        self.write("freezer.state", state);
        until(&format!("the group to be {state}"), SOON, || {
            let text = fs::read_to_string(self.0.join("freezer.state")).unwrap();
            (text.trim() == state).then_some(())
        });
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        let written = fs::write(&path, text);
        written.unwrap_or_else(|error| panic!("{text} to {}: {error}", path.display()));
    }
}

/// Removes what scenarios that failed have left: their groups were not empty yet.
fn clear_stale(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("prefork-"));
        let pid = pid.and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !processes::is_alive(pid)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A failed scenario must leave nothing behind that cannot be ended.
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        if !std::thread::panicking() {
            until("the group to be empty", SOON, || {
                fs::remove_dir(&self.0).ok()
            });
        }
    }
}
