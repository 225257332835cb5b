//! The steps of a confinement as system calls: each is taken, read back, and, where a change of user
//! has made it final, tried to be undone.

#![allow(unsafe_code)]

use super::{NOT_KEPT, capabilities, resolve::sorted};
use crate::core::confinement::Resource;
use nix::{
    errno::Errno,
    libc,
    sys::{
        resource::{self, getrlimit, rlim_t, setrlimit},
        stat::{Mode, umask},
    },
    unistd::{self, Gid, Pid, Uid},
};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A step, with nothing left to look up.
#[derive(Debug)]
pub(super) enum ResolvedStep {
    Session,
    ProcessGroup,
    Limit(Resource, u64, u64),
    Nice(i32),
    OomScoreAdj(i32),
    Umask(Mode),
    Chroot(PathBuf),
    Directory(PathBuf),
    Groups(Vec<Gid>),
    Group(Gid),
    Capabilities(u64),
    User(Uid),
    NoNewPrivs,
}

impl ResolvedStep {
    /// Takes the step and reads it back.
    pub(super) fn perform(&self) -> io::Result<()> {
        match self {
            Self::Session => Ok(unistd::setsid().map(drop)?),
            Self::ProcessGroup => Ok(unistd::setpgid(Pid::this(), Pid::from_raw(0))?),
            Self::Limit(resource, soft, hard) => limit(*resource, *soft, *hard),
            Self::Nice(nice) => set_nice(*nice),
            Self::OomScoreAdj(score) => set_oom_score_adj(*score),
            Self::Umask(mask) => set_umask(*mask),
            Self::Chroot(path) => chroot(path),
            Self::Directory(path) => Ok(unistd::chdir(path)?),
            Self::Groups(groups) => set_groups(groups),
            Self::Group(group) => set_group(*group),
            Self::Capabilities(kept) => capabilities::keep_only(*kept),
            Self::User(user) => set_user(*user),
            Self::NoNewPrivs => set_no_new_privs(),
        }
    }

    /// Whether the process has no privileges after it.
    pub(super) fn gives_up_root(&self) -> bool {
        matches!(self, Self::User(user) if !user.is_root())
    }

    /// Tries to undo it, as a process without privileges: fails if that succeeds.
    pub(super) fn expect_kept(&self) -> io::Result<()> {
        let undone = match self {
            Self::User(_) => unistd::setuid(Uid::from_raw(0)).is_ok(),
            Self::Group(group) if group.as_raw() != 0 => unistd::setgid(Gid::from_raw(0)).is_ok(),
            Self::Limit(resource, soft, hard) => is_raised(*resource, *soft, *hard),
            _ => false,
        };
        expect(!undone)
    }
}

/// A system call that returns no error has not always done what was asked.
fn expect(done: bool) -> io::Result<()> {
    done.then_some(()).ok_or_else(|| io::Error::other(NOT_KEPT))
}

fn of_system(resource: Resource) -> resource::Resource {
    use resource::Resource as System;
    match resource {
        #[cfg(not(target_os = "freebsd"))]
        Resource::AddressSpace => System::RLIMIT_AS,
        #[cfg(target_os = "freebsd")]
        Resource::AddressSpace => System::RLIMIT_VMEM,
        Resource::CoreSize => System::RLIMIT_CORE,
        Resource::CpuTime => System::RLIMIT_CPU,
        Resource::DataSize => System::RLIMIT_DATA,
        Resource::FileSize => System::RLIMIT_FSIZE,
        Resource::LockedMemory => System::RLIMIT_MEMLOCK,
        Resource::OpenFiles => System::RLIMIT_NOFILE,
        Resource::Processes => System::RLIMIT_NPROC,
        Resource::StackSize => System::RLIMIT_STACK,
    }
}

/// Where the system's type has a sign, its highest number is no limit as well.
#[allow(clippy::useless_conversion, reason = "FreeBSD's type has a sign")]
fn amount(limit: u64) -> rlim_t {
    limit.try_into().unwrap_or(rlim_t::MAX)
}

fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let (resource, limits) = (of_system(resource), (amount(soft), amount(hard)));
    setrlimit(resource, limits.0, limits.1)?;
    expect(getrlimit(resource)? == limits)
}

fn is_raised(resource: Resource, soft: u64, hard: u64) -> bool {
    let higher = amount(hard).checked_add(1);
    higher.is_some_and(|hard| setrlimit(of_system(resource), amount(soft), hard).is_ok())
}

/// The kernel takes the nearest number that it has, which then is not the one asked for.
fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: three integers; 0 is this process.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
    // SAFETY: as above. -1 is a value too, and the process that was just changed is there.
    expect(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } == nice)
}

#[cfg(target_os = "linux")]
fn set_oom_score_adj(score: i32) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::FileExt};
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .open("/proc/self/oom_score_adj")?;
    file.write_all(score.to_string().as_bytes())?;
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0)?;
    expect(text[..length].trim_ascii() == score.to_string().as_bytes())
}

#[cfg(not(target_os = "linux"))]
fn set_oom_score_adj(_score: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn set_umask(mask: Mode) -> io::Result<()> {
    umask(mask);
    expect(umask(mask) == mask)
}

/// The new root is the current directory too: with one outside, relative paths would lead out.
fn chroot(path: &Path) -> io::Result<()> {
    let wanted = fs::metadata(path)?;
    unistd::chroot(path)?;
    unistd::chdir("/")?;
    let is_it = |path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
    let wanted = (wanted.dev(), wanted.ino());
    expect(is_it("/")? == wanted && is_it("..")? == wanted)
}

/// A process that has the groups already needs no privilege.
fn set_groups(groups: &[Gid]) -> io::Result<()> {
    if sorted(unistd::getgroups()?) == groups {
        return Ok(());
    }
    unistd::setgroups(groups)?;
    expect(sorted(unistd::getgroups()?) == groups)
}

/// Real and effective, and, for a process with the privilege, saved.
fn set_group(group: Gid) -> io::Result<()> {
    unistd::setgid(group)?;
    expect([unistd::getgid(), unistd::getegid()] == [group; 2])
}

fn set_user(user: Uid) -> io::Result<()> {
    unistd::setuid(user)?;
    expect([unistd::getuid(), unistd::geteuid()] == [user; 2])
}

#[cfg(target_os = "linux")]
fn set_no_new_privs() -> io::Result<()> {
    use nix::sys::prctl;
    prctl::set_no_new_privs()?;
    expect(prctl::get_no_new_privs()?)
}

#[cfg(not(target_os = "linux"))]
fn set_no_new_privs() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
