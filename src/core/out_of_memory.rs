//! Whether the kernel has ended a child for lack of memory, from what control groups count and from
//! the kernel's log. Reads texts; opens no file and reads no clock.

use super::time::Time;
use std::{collections::BTreeMap, time::Duration};

/// The paths of a process in the two hierarchies that count such ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Membership<'a> {
    /// In the hierarchy of version 2.
    pub(crate) unified: Option<&'a str>,
    /// In the memory hierarchy of version 1.
    pub(crate) memory: Option<&'a str>,
}

impl<'a> Membership<'a> {
    /// Reads `/proc/PID/cgroup`: lines of number, controllers and path.
    pub(crate) fn parse(cgroup: &'a str) -> Self {
        let mut found = Self::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if number == "0" && controllers.is_empty() {
                found.unified = Some(path);
            } else if controllers.split(',').any(|name| name == "memory") {
                found.memory = Some(path);
            }
        }
        found
    }
}

/// The count in `memory.events` (version 2), in `memory.oom_control` (version 1), or of the whole
/// machine in `/proc/vmstat` (since Linux 4.13).
pub(crate) fn kills(events: &str) -> Option<u64> {
    let mut lines = events.lines();
    let count = lines.find_map(|line| line.strip_prefix("oom_kill "))?;
    count.trim().parse().ok()
}

/// The counts of the groups that were read so far, and the ends that belong to no known death yet.
#[derive(Debug, Default)]
pub(crate) struct Kills(BTreeMap<String, ControlGroup>);

#[derive(Clone, Copy, Debug, Default)]
struct ControlGroup {
    count: u64,
    /// Several children may be ended at once, and the first to be reaped finds the count of all.
    unclaimed: u64,
    rose_at: Time,
}

impl Kills {
    /// How long after a rise a death may belong to it. A later one belongs to another process.
    const BELONGS: Duration = Duration::from_secs(1);

    /// Notes the present count of a group.
    pub(crate) fn begin(&mut self, group: &str, count: u64) {
        let group = self.0.entry(group.to_owned()).or_default();
        group.count = count;
    }

    /// Whether a death of now in a group with this count belongs to a rise of the count. `None` if
    /// the group was never read before and may have counted an earlier end.
    pub(crate) fn claim(&mut self, group: &str, count: u64, now: Time) -> Option<bool> {
        let Some(known) = self.0.get_mut(group) else {
            self.begin(group, count);
            return (count == 0).then_some(false);
        };
        if count > known.count {
            known.unclaimed = count - known.count;
            known.rose_at = now;
        }
        known.count = count;
        let belongs = known.unclaimed > 0 && now.since(known.rose_at) <= Self::BELONGS;
        known.unclaimed = known.unclaimed.saturating_sub(1);
        Some(belongs)
    }
}

/// The count of the whole machine: while it stays, no child was ended so, and there is no need to look
/// further.
#[derive(Debug, Default)]
pub(crate) struct MachineCount {
    count: Option<u64>,
    rose_at: Option<Time>,
}

impl MachineCount {
    /// How long after a rise deaths are looked at: some of those that it counts may be reaped late.
    const LATE: Duration = Duration::from_secs(60);

    /// Notes the present count; `None` if the kernel tells none.
    pub(crate) fn begin(&mut self, count: Option<u64>) {
        self.count = count;
    }

    /// Whether a child that is reaped now, with this count, may have been ended for lack of memory.
    pub(crate) fn may_have_ended_one(&mut self, count: Option<u64>, now: Time) -> bool {
        if count.is_none() || count != self.count {
            self.count = count;
            self.rose_at = Some(now);
        }
        let age = self.rose_at.map(|rose_at| now.since(rose_at));
        age.is_some_and(|age| age <= Self::LATE)
    }
}

/// Whether the kernel's log says that it has ended `pid` for lack of memory.
///
/// Pids are used again, so a line before `forked`, in time since the boot, is about another process.
pub(crate) fn log_tells(log: &str, pid: u32, forked: Duration) -> bool {
    let killed = format!("Killed process {pid} ");
    let mut lines = log.lines().filter(|line| line.contains(&killed));
    lines.any(|line| stamp(line).is_none_or(|at| at >= forked))
}

/// The time in `<3>[   12.345678] text`.
fn stamp(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once('[')?;
    let (seconds, _) = rest.split_once(']')?;
    Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests;
