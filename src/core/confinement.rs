//! What children may do and what they may use: the description of it, and the order of its steps.
//! Performs none of them.

use std::{fmt, path::PathBuf};

/// A limit on what a child uses, as setrlimit(2) has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Resource {
    /// Address space, in bytes (RLIMIT_AS).
    AddressSpace,
    /// The size of a core file, in bytes (RLIMIT_CORE).
    CoreSize,
    /// CPU time, in seconds (RLIMIT_CPU).
    CpuTime,
    /// Data segment, in bytes (RLIMIT_DATA).
    DataSize,
    /// The size of files that are written, in bytes (RLIMIT_FSIZE).
    FileSize,
    /// Memory that is locked, in bytes (RLIMIT_MEMLOCK).
    LockedMemory,
    /// Descriptors (RLIMIT_NOFILE).
    OpenFiles,
    /// Processes and threads of the child's user (RLIMIT_NPROC).
    Processes,
    /// The stack of the main thread, in bytes (RLIMIT_STACK).
    StackSize,
}

impl Resource {
    fn as_str(self) -> &'static str {
        match self {
            Self::AddressSpace => "address space",
            Self::CoreSize => "core size",
            Self::CpuTime => "CPU time",
            Self::DataSize => "data size",
            Self::FileSize => "file size",
            Self::LockedMemory => "locked memory",
            Self::OpenFiles => "open files",
            Self::Processes => "processes",
            Self::StackSize => "stack size",
        }
    }
}

/// One step of a confinement, as it was asked for: users and groups are names or numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ConfinementStep {
    Session,
    ProcessGroup,
    Limit(Resource, u64, u64),
    Nice(i32),
    OomScoreAdj(i32),
    Umask(u32),
    Chroot(PathBuf),
    Directory(PathBuf),
    Groups(Vec<String>),
    Group(String),
    /// The primary group of a user.
    GroupOf(String),
    Capabilities(Vec<String>),
    User(String),
    NoNewPrivs,
}

impl fmt::Display for ConfinementStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("session"),
            Self::ProcessGroup => f.write_str("process group"),
            Self::Limit(resource, soft, hard) => {
                let (soft, hard) = (ShownLimit(*soft), ShownLimit(*hard));
                write!(f, "limit of {} {soft}:{hard}", resource.as_str())
            }
            Self::Nice(nice) => write!(f, "nice {nice}"),
            Self::OomScoreAdj(score) => write!(f, "oom_score_adj {score}"),
            Self::Umask(mask) => write!(f, "umask {mask:03o}"),
            Self::Chroot(path) => write!(f, "chroot {}", path.display()),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
            Self::Groups(groups) => write!(f, "supplementary groups {}", ShownList(groups)),
            Self::Group(group) => write!(f, "group {group}"),
            Self::GroupOf(user) => write!(f, "group of {user}"),
            Self::Capabilities(kept) => write!(f, "capability bounding set {}", ShownList(kept)),
            Self::User(user) => write!(f, "user {user}"),
            Self::NoNewPrivs => f.write_str("no_new_privs"),
        }
    }
}

/// A limit; the highest number is no limit.
struct ShownLimit(u64);

impl fmt::Display for ShownLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Confinement::UNLIMITED => f.write_str("unlimited"),
            limit => limit.fmt(f),
        }
    }
}

struct ShownList<'a>(&'a [String]);

impl fmt::Display for ShownList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("none"),
            names => f.write_str(&names.join(" ")),
        }
    }
}

/// Limits and privileges of each child, for [`Builder::confinement`](crate::Builder::confinement).
///
/// The parent keeps its own: it can bind port 80 as root while its children are `nobody`. A child
/// takes the steps before `server_start`, and so before any code of the user's, in one order, however
/// they were set; `Display` prints them in that order:
///
/// | step | why it stands there |
/// |---|---|
/// | session, or process group | needs nothing |
/// | limits, nice, oom_score_adj | root may raise them |
/// | umask | needs nothing |
/// | chroot, directory | root only; the directory is inside of the chroot |
/// | supplementary groups, group | only while the user may change groups |
/// | capability bounding set | needs a capability that the user lacks |
/// | user | gives up the rest |
/// | no_new_privs | last: it needs no privilege |
///
/// Names are turned into numbers once, at the start, so a chroot needs no `/etc/passwd`. The start
/// also takes all the steps in a process made for that, which then ends: what would fail in each
/// child is an error of the start. In a child each step is read back, and after a change of user the
/// child tries to become root, to change to group 0 and to raise its limits, which must fail. A child
/// that cannot be confined ends with exit code 102, and serves nothing.
///
/// ```
/// use prefork_server::{Confinement, Resource};
///
/// let confinement = Confinement::new()
///     .user("nobody")
///     .chroot("/var/empty")
///     .limit(Resource::OpenFiles, 64, 64)
///     .no_new_privs();
/// assert_eq!(
///     confinement.to_string(),
///     "limit of open files 64:64, chroot /var/empty, supplementary groups none, \
///      group of nobody, user nobody, no_new_privs"
/// );
/// ```
///
/// A program that an [`ExecServer`](crate::ExecServer) executes is confined in the same way; its file
/// is looked for inside of the chroot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use = "a confinement does nothing until it is given to a builder"]
pub struct Confinement {
    leads: Option<ConfinementStep>,
    limits: Vec<(Resource, u64, u64)>,
    nice: Option<i32>,
    oom_score_adj: Option<i32>,
    umask: Option<u32>,
    chroot: Option<PathBuf>,
    directory: Option<PathBuf>,
    groups: Option<Vec<String>>,
    group: Option<String>,
    capabilities: Option<Vec<String>>,
    user: Option<String>,
    no_new_privs: bool,
}

impl Confinement {
    /// No limit, for [`limit`](Self::limit).
    pub const UNLIMITED: u64 = u64::MAX;

    /// One without any step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes each child the leader of a session, without a terminal.
    ///
    /// Not for a server whose children lead process groups
    /// ([`own_group`](crate::ChildServer::own_group)), as those of an `ExecServer` do.
    pub fn session(mut self) -> Self {
        self.leads = Some(ConfinementStep::Session);
        self
    }

    /// Makes each child the leader of a process group: Ctrl-C reaches the parent only.
    pub fn process_group(mut self) -> Self {
        self.leads = Some(ConfinementStep::ProcessGroup);
        self
    }

    /// Sets a limit, the soft and the hard one. The last call for a resource stands.
    pub fn limit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.limits.retain(|(other, ..)| *other != resource);
        self.limits.push((resource, soft, hard));
        self
    }

    /// Sets the nice value: -20 has the highest priority, 19 the lowest.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// Sets how likely the kernel kills a child when memory runs out: -1000 to 1000.
    ///
    /// Linux.
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.oom_score_adj = Some(score);
        self
    }

    /// Sets which permission bits new files lack.
    pub fn umask(mut self, mask: u32) -> Self {
        self.umask = Some(mask);
        self
    }

    /// Makes a directory, with an absolute path, the root of all paths.
    ///
    /// It is the current directory as well, unless there is a [`directory`](Self::directory).
    ///
    /// `/proc` and `/dev` are not inside of it unless they are mounted there; the crate itself needs
    /// neither. A descriptor of a directory outside, opened by the program before, leads out again.
    pub fn chroot(mut self, path: impl Into<PathBuf>) -> Self {
        self.chroot = Some(path.into());
        self
    }

    /// Sets the current directory: an absolute path.
    ///
    /// It is inside of the chroot if there is one.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Sets the supplementary groups, by name or number.
    ///
    /// Default: none with a [`user`](Self::user), and those of the parent without.
    pub fn supplementary_groups<G: Into<String>>(
        mut self,
        groups: impl IntoIterator<Item = G>,
    ) -> Self {
        self.groups = Some(groups.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the group, by name or number. Default: the primary group of the [`user`](Self::user).
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Takes all capabilities but those named out of the bounding set.
    ///
    /// A name is `net_raw`, for example. Linux.
    ///
    /// Programs that the child executes cannot get them again. A child that stays root has its own
    /// until it executes a program.
    pub fn capabilities<C: Into<String>>(mut self, kept: impl IntoIterator<Item = C>) -> Self {
        self.capabilities = Some(kept.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the user, by name or number: real, effective and saved.
    ///
    /// On Linux the child is not dumpable afterwards: it leaves no core file, other processes of that
    /// user cannot trace it, and its files in `/proc` belong to root.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Has programs that the child executes gain no privileges.
    ///
    /// Set-user-ID bits do nothing then. Linux.
    pub fn no_new_privs(mut self) -> Self {
        self.no_new_privs = true;
        self
    }

    pub(crate) fn begins_session(&self) -> bool {
        self.leads == Some(ConfinementStep::Session)
    }

    /// The steps in the order in which they are taken.
    pub(crate) fn steps(&self) -> Vec<ConfinementStep> {
        let limits = self.limits.iter();
        let limits =
            limits.map(|(resource, soft, hard)| ConfinementStep::Limit(*resource, *soft, *hard));
        let steps = self.leads.iter().cloned().chain(limits);
        let steps = steps.chain(self.nice.map(ConfinementStep::Nice));
        let steps = steps.chain(self.oom_score_adj.map(ConfinementStep::OomScoreAdj));
        let steps = steps.chain(self.umask.map(ConfinementStep::Umask));
        let steps = steps.chain(self.chroot.clone().map(ConfinementStep::Chroot));
        let steps = steps.chain(self.directory.clone().map(ConfinementStep::Directory));
        let steps = steps.chain(self.groups_step()).chain(self.group_step());
        let steps = steps.chain(self.capabilities.clone().map(ConfinementStep::Capabilities));
        let steps = steps.chain(self.user.clone().map(ConfinementStep::User));
        steps
            .chain(self.no_new_privs.then_some(ConfinementStep::NoNewPrivs))
            .collect()
    }

    /// A user who keeps the groups of root has most of root's files.
    fn groups_step(&self) -> Option<ConfinementStep> {
        let default = self.user.as_ref().map(|_| Vec::new());
        self.groups.clone().or(default).map(ConfinementStep::Groups)
    }

    fn group_step(&self) -> Option<ConfinementStep> {
        let default = || self.user.clone().map(ConfinementStep::GroupOf);
        self.group
            .clone()
            .map(ConfinementStep::Group)
            .or_else(default)
    }
}

/// The steps in the order in which they are taken.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self
            .steps()
            .iter()
            .map(ConfinementStep::to_string)
            .collect();
        f.write_str(&steps.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_steps_is_not_that_of_the_setters() {
        let confinement = Confinement::new()
            .no_new_privs()
            .user("www")
            .capabilities(["net_raw", "kill"])
            .group("web")
            .supplementary_groups(["logs", "7"])
            .directory("/srv")
            .chroot("/jail")
            .umask(0o27)
            .oom_score_adj(500)
            .nice(5)
            .limit(Resource::CoreSize, 0, Confinement::UNLIMITED)
            .session();
        assert_eq!(
            confinement.to_string(),
            "session, limit of core size 0:unlimited, nice 5, oom_score_adj 500, umask 027, \
             chroot /jail, directory /srv, supplementary groups logs 7, group web, \
             capability bounding set net_raw kill, user www, no_new_privs"
        );
    }

    #[test]
    fn a_group_alone_leaves_the_supplementary_groups() {
        assert_eq!(Confinement::new().group("web").to_string(), "group web");
    }

    #[test]
    fn the_last_limit_of_a_resource_stands() {
        let limits =
            Confinement::new()
                .limit(Resource::OpenFiles, 1, 2)
                .limit(Resource::OpenFiles, 3, 4);
        assert_eq!(limits.to_string(), "limit of open files 3:4");
    }
}
