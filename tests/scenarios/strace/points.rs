//! The points of a walk: who fails, at which call, the how-manieth time, and how. They come from a
//! recorded run, not from a list.

use std::collections::BTreeMap;
use std::fmt;

use super::faults::Fault;

/// Whose calls are meant.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    Parent,
    /// The first child; those that follow it are left alone.
    Child,
    /// The parent of a server at a UNIX socket, whose children have a channel for their words.
    UnixParent,
    /// The first child of such a server.
    UnixChild,
    /// The process that becomes another program, in both programs.
    Upgrade,
    /// That process, from its exec of a program whose children fail to the end of the way back.
    WayBack,
    /// The process in which that program is tried before.
    Trial,
    /// The process that has the parent above it, until its end.
    Holder,
    /// That process once its parent is killed, where no other parent comes to work.
    GivingUp,
    /// The parent that a holder forks first.
    FirstParent,
    /// The parent that takes over from a killed one.
    NextParent,
    /// A child whose parent is killed.
    HeldChild,
}

impl Role {
    const ALL: [Self; 12] = [
        Self::Parent,
        Self::Child,
        Self::UnixParent,
        Self::UnixChild,
        Self::Upgrade,
        Self::WayBack,
        Self::Trial,
        Self::Holder,
        Self::GivingUp,
        Self::FirstParent,
        Self::NextParent,
        Self::HeldChild,
    ];

    pub fn is_parent(self) -> bool {
        matches!(self, Self::Parent | Self::UnixParent) || self.executes()
    }

    /// Whether two clients can be in hand at a time.
    pub fn serves_two(self) -> bool {
        self.is_parent() || self == Self::Trial || self.is_held()
    }

    pub fn is_the_holder(self) -> bool {
        matches!(self, Self::Holder | Self::GivingUp)
    }

    /// Whether the server has a holder.
    pub fn is_held(self) -> bool {
        let all = [
            Self::Holder,
            Self::GivingUp,
            Self::FirstParent,
            Self::NextParent,
            Self::HeldChild,
        ];
        all.contains(&self)
    }

    pub fn is_upgrade(self) -> bool {
        self.executes() || self == Self::Trial
    }

    /// Whether the process becomes another program.
    pub fn executes(self) -> bool {
        matches!(self, Self::Upgrade | Self::WayBack)
    }

    pub fn is_unix(self) -> bool {
        matches!(self, Self::UnixParent | Self::UnixChild)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parent => "parent",
            Self::Child => "child",
            Self::UnixParent => "unix-parent",
            Self::UnixChild => "unix-child",
            Self::Upgrade => "upgrade",
            Self::WayBack => "way-back",
            Self::Trial => "trial",
            Self::Holder => "holder",
            Self::GivingUp => "giving-up",
            Self::FirstParent => "first-parent",
            Self::NextParent => "next-parent",
            Self::HeldChild => "held-child",
        })
    }
}

/// One point; prints as what `WALK=` takes to walk it alone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Point {
    pub role: Role,
    pub call: String,
    /// Which of these calls, from 1; [`ALWAYS`] for all of them.
    pub nth: usize,
    pub fault: Fault,
}

/// In the place of a number: the call never works.
pub const ALWAYS: usize = 0;

impl Point {
    /// The arguments for strace.
    pub fn arguments(&self) -> Vec<String> {
        let Self {
            call, nth, fault, ..
        } = self;
        let when = if *nth == ALWAYS {
            "1+".to_owned()
        } else {
            nth.to_string()
        };
        let inject = format!("inject={call}:{}:when={when}", fault.injection());
        // An exec shows in which program a call was made.
        let also = if self.role.is_upgrade() {
            ",execveat"
        } else {
            ""
        };
        ["-e", &format!("trace={call}{also}"), "-e", &inject]
            .map(str::to_owned)
            .to_vec()
    }

    /// What was run, for people.
    pub fn command(&self) -> String {
        let who = match self.role {
            Role::Parent | Role::UnixParent | Role::Upgrade | Role::WayBack => "PARENT",
            Role::Child | Role::UnixChild => "FIRST_CHILD",
            Role::Trial => "TRIAL",
            Role::Holder | Role::GivingUp => "HOLDER",
            Role::FirstParent => "FIRST_PARENT",
            Role::NextParent => "NEXT_PARENT",
            Role::HeldChild => "A_CHILD",
        };
        format!("strace -p {who} {}", self.arguments().join(" "))
    }
}

impl Point {
    /// Reads what it prints as.
    pub fn parse(text: &str) -> Option<Self> {
        let [role, call, nth, fault] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        Some(Self {
            role: *Role::ALL.iter().find(|known| known.to_string() == role)?,
            call: call.to_owned(),
            nth: nth.parse().ok()?,
            fault: match fault {
                "KILL" => Fault::Kill,
                // As long as the test runs, like those of the table.
                errno => Fault::Errno(errno.to_owned().leak()),
            },
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            call,
            nth,
            fault,
        } = self;
        write!(f, "{role} {call} {nth} {fault}")
    }
}

/// Every point of a process that makes these calls: each call once, and all calls of a kind where a
/// kernel or a sandbox may not have it.
pub fn points(role: Role, counts: &BTreeMap<String, usize>) -> Vec<Point> {
    let mut points = Vec::new();
    // strace cannot touch a call that is newer than itself, for which it writes `syscall_0x1ce`.
    let known = counts
        .iter()
        .filter(|(call, _)| !call.starts_with("syscall_"));
    for (call, &count) in known {
        for fault in Fault::of(call) {
            let first = if fault.may_last(call) { ALWAYS } else { 1 };
            points.extend((first..=count).map(|nth| Point {
                role,
                call: call.clone(),
                nth,
                fault,
            }));
        }
    }
    points
}
