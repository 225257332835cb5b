//! What is seen of a confined process from outside: its users, limits, groups and directory.

use super::*;

/// A field of `/proc/PID/status`, with one space between its values.
pub(super) fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(&format!("{field}:")));
    let values: Vec<&str> = line.unwrap().split_whitespace().collect();
    values.join(" ")
}

/// A field of `/proc/PID/stat`, by its number in proc(5); the name of the program before it may have
/// spaces.
pub(super) fn stat(pid: u32, number: usize) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields
        .split_whitespace()
        .nth(number - 3)
        .unwrap()
        .to_owned()
}

pub(super) const PROCESS_GROUP: usize = 5;
pub(super) const SESSION: usize = 6;
pub(super) const NICE: usize = 19;

pub(super) fn oom_score_adj(pid: u32) -> String {
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    score.trim().to_owned()
}

pub(super) fn root_directory(pid: u32) -> String {
    let root = fs::read_link(format!("/proc/{pid}/root")).unwrap();
    root.display().to_string()
}

/// The soft and the hard limit of open files.
pub(super) fn open_files(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let values: Vec<&str> = line.unwrap().split_whitespace().take(2).collect();
    values.join(" ")
}
