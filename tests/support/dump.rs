//! The dump: what a failed scenario leaves to be read.
//!
//! It needs nothing of the scenario but its marker and its directory, so that the runner can write
//! it for a scenario that hangs. It never changes a process and never fails.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::marker::Marker;
use super::processes::{self, Process};

/// How many processes are shown in full; of a fork bomb the rest is a count.
const SHOWN: usize = 60;

/// How much of the end of an output is shown.
const TAIL_LINES: usize = 60;

/// The lines of /proc/PID/status that tell a stuck process from a waiting one.
const STATUS: [&str; 7] = [
    "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "VmRSS",
];

/// The processes of a scenario and the ends of its servers' outputs.
pub fn dump(marker: &Marker, root: Option<u32>, directory: &Path) -> String {
    let mut text = String::from("==== processes of the scenario ====\n");
    let mut found = marker.processes(root);
    let missing = root.filter(|&root| found.iter().all(|process| process.pid != root));
    found.extend(missing.and_then(Process::read));
    for process in found.iter().take(SHOWN) {
        describe(&mut text, process);
    }
    if found.len() > SHOWN {
        let _ = writeln!(text, "and {} more", found.len() - SHOWN);
    }
    for path in outputs(directory) {
        tail(&mut text, &path);
    }
    text.push_str("==== end of the dump ====\n");
    text
}

fn describe(text: &mut String, process: &Process) {
    let _ = writeln!(text, "{}", process.describe());
    if !process.is_alive() {
        return;
    }
    let pid = process.pid;
    for name in ["wchan", "syscall"] {
        let _ = writeln!(text, "    {name}: {}", processes::text(pid, name));
    }
    // Only root may read it.
    let stack = processes::text(pid, "stack");
    if !stack.is_empty() {
        let frames: Vec<&str> = stack.lines().map(str::trim).collect();
        let _ = writeln!(text, "    stack: {}", frames.join(" "));
    }
    let status = processes::text(pid, "status");
    let wanted = status.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or("");
        STATUS.contains(&name)
    });
    let wanted: Vec<String> = wanted.map(|line| line.replace('\t', " ")).collect();
    let _ = writeln!(text, "    status: {}", wanted.join(", "));
    let descriptors = processes::descriptors(pid).into_iter();
    let descriptors: Vec<_> = descriptors
        .map(|(fd, target)| format!("{fd}={target}"))
        .collect();
    let _ = writeln!(text, "    fds: {}", descriptors.join(" "));
}

/// The files that servers write to, in the order of their start.
fn outputs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_output = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("stdout" | "stderr"))
    };
    let mut outputs: Vec<PathBuf> = paths.filter(is_output).collect();
    outputs.sort();
    outputs
}

fn tail(text: &mut String, path: &Path) {
    let content = fs::read(path).unwrap_or_default();
    let content = String::from_utf8_lossy(&content);
    let lines: Vec<&str> = content.lines().collect();
    let hidden = lines.len().saturating_sub(TAIL_LINES);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let _ = writeln!(text, "---- {name} ({hidden} lines before these) ----");
    for line in &lines[hidden..] {
        let _ = writeln!(text, "{line}");
    }
}
