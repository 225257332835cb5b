//! Processes and sockets in /proc. Reads; changes nothing.

use std::fs;

/// `root` and all that descend from it, itself first. Some of the peers have grandchildren.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        tree.extend(children(tree[at]));
        at += 1;
    }
    tree
}

/// The children that the main thread of a process has.
fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// CPU time of one process, in nanoseconds, to the nanosecond.
pub(crate) fn cpu(pid: u32) -> u64 {
    // The process's own file has the main thread only, and a peer may have more of them.
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.flatten().filter_map(of_thread).sum()
}

/// CPU time of the children that a process has reaped, in nanoseconds, to the clock tick of 10 ms.
pub(crate) fn cpu_of_reaped(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    // Fields 16 and 17 of the file, 13 and 14 from the state on.
    let ticks = after
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok());
    ticks.sum::<u64>() * 10_000_000
}

/// Context switches of one process: those in which it went to sleep, and all.
pub(crate) fn switches(pid: u32) -> [u64; 2] {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |name| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().last()?.parse::<u64>().ok()
    };
    let slept = of("voluntary_ctxt_switches").unwrap_or(0);
    [slept, slept + of("nonvoluntary_ctxt_switches").unwrap_or(0)]
}

/// When a process has started, in clock ticks since the boot: with its number it is one process and
/// no other.
pub(crate) fn started(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after = text.rsplit(')').next()?;
    // Field 22 of the file, 20 from the state on. A zombie has ended.
    let mut fields = after.split_whitespace();
    (fields.next()? != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// How many connections wait to be accepted at a TCP port of 127.0.0.1.
pub(crate) fn queued(port: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!(":{port:04X}");
    let listening = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let here = fields.next().is_some_and(|field| field.ends_with(&local));
        here && fields.nth(1) == Some("0A")
    };
    let line = table.lines().find(listening)?;
    let queues = line.split_whitespace().nth(4)?;
    u64::from_str_radix(queues.split(':').nth(1)?, 16).ok()
}

/// Private memory of one process, in KiB: what it costs over its siblings.
pub(crate) fn private_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}
