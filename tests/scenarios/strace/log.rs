//! What strace wrote: calls, by process, in their order. Reads the text and nothing else.

use std::collections::BTreeMap;

/// One system call that a process has begun.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// Who made it; 0 if strace followed one process, and so does not say.
    pub pid: u32,
    pub name: String,
    /// Arguments and result as strace wrote them; of an interrupted line, both parts.
    pub text: String,
}

impl Call {
    /// Whether it failed with that errno.
    pub fn failed_with(&self, errno: &str) -> bool {
        self.text.contains(&format!("= -1 {errno} "))
    }

    /// Whether it is one of this name that has worked, and returned nothing.
    fn has_worked(&self, name: &str) -> bool {
        self.name == name && self.text.ends_with("= 0")
    }
}

/// All calls of a run.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub calls: Vec<Call>,
    /// Whether a fault was injected.
    pub injected: bool,
    /// How many of the calls were begun before somebody got SIGTERM.
    pub until_stopped: usize,
}

impl Log {
    pub fn parse(text: &str) -> Self {
        let mut log = Self {
            injected: text.contains("(INJECTED") || text.contains("killed by SIGKILL"),
            ..Self::default()
        };
        let mut unfinished: BTreeMap<u32, usize> = BTreeMap::new();
        let mut stopped = None;
        for line in text.lines() {
            let (pid, rest) = split_pid(line);
            if rest.starts_with("--- SIGTERM ") {
                stopped = stopped.or(Some(log.calls.len()));
            } else if rest.starts_with("<... ") {
                if let Some(at) = unfinished.remove(&pid) {
                    log.calls[at].text.push_str(rest);
                }
            } else if let Some((name, text)) = rest.split_once('(')
                && is_name(name)
            {
                if text.contains("<unfinished ...>") {
                    unfinished.insert(pid, log.calls.len());
                }
                log.calls.push(Call {
                    pid,
                    name: name.to_owned(),
                    text: text.to_owned(),
                });
            }
        }
        log.until_stopped = stopped.unwrap_or(log.calls.len());
        log
    }

    /// How often each call was made.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        counts(&self.calls)
    }

    /// The same until somebody got SIGTERM.
    pub fn counts_until_stopped(&self) -> BTreeMap<String, usize> {
        counts(&self.calls[..self.until_stopped])
    }

    /// How often each was made before the first call of this name that has worked.
    pub fn counts_before(&self, name: &str) -> BTreeMap<String, usize> {
        let first = self.calls.iter().position(|call| call.has_worked(name));
        counts(&self.calls[..first.unwrap_or(0)])
    }

    /// How many calls of this name have worked.
    pub fn worked(&self, name: &str) -> usize {
        let calls = self.calls.iter();
        calls.filter(|call| call.has_worked(name)).count()
    }

    /// Whether a fault was injected after a call of this name that had worked.
    pub fn injected_after(&self, name: &str) -> bool {
        let mut after = self.calls.iter().skip_while(|call| !call.has_worked(name));
        after.any(|call| call.text.contains("(INJECTED"))
    }
}

fn counts(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.name.clone()).or_default() += 1;
    }
    counts
}

/// The process id that begins each line when strace follows forks.
fn split_pid(line: &str) -> (u32, &str) {
    let Some((word, rest)) = line.split_once(' ') else {
        return (0, line);
    };
    word.parse()
        .map_or((0, line), |pid| (pid, rest.trim_start()))
}

/// Signals and ends of processes look different.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
