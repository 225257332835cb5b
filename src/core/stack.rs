//! The stack of a child: its frames, which of them is the program's, and when a child that is over
//! its time is asked for it. Plain data and decisions; reads no memory and sends no signal.

#[allow(dead_code, reason = "used with the feature `stacks` only")]
pub(crate) mod lines;

use crate::core::time::Time;
use std::{fmt, time::Duration};

/// How long before SIGKILL a child is asked for its stack for the last time. It needs that time to
/// run its handler.
pub(crate) const BEFORE_KILL: Duration = Duration::from_millis(250);
/// How long after it was asked a dead child keeps its record, for a stack that is still being read.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(3);

/// One function call on the stack of a child.
///
/// A function that the compiler has inlined has a frame of its own, with the address of its caller.
/// What is known depends on the build: line tables (`debug = "line-tables-only"`) give all of it, a
/// symbol table the function, a stripped program the address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frame {
    pub(crate) address: u64,
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

impl Frame {
    /// The address of the code, in the child's memory.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The name of the function, as `app::handlers::search`, without the hash.
    pub fn function(&self) -> Option<&str> {
        self.function.as_deref()
    }

    /// The path of the source file, as the compiler was given it.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The line in the file.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// Whether it is a Rust function of the program or of a package that it uses, and neither of the
    /// standard library, nor of this crate, nor of `mio` and `nix`. The file tells, if it is known: with line tables alone, an
    /// inlined function has a name without a path.
    fn is_the_programs(&self) -> bool {
        match (self.function(), self.file()) {
            (Some(_), Some(file)) => file.ends_with(".rs") && !is_a_librarys_file(file),
            (Some(name), None) => name.contains("::") && !is_a_librarys_function(name),
            (None, _) => false,
        }
    }
}

/// `<T as Trait>::method` counts as its type.
fn is_a_librarys_function(name: &str) -> bool {
    let name = name.trim_start_matches(['<', '&', '*', '[', '(']);
    let name = name.strip_prefix("mut ").unwrap_or(name);
    let name = name.strip_prefix("dyn ").unwrap_or(name);
    let first = name.split("::").next().unwrap_or(name);
    let own = matches!(first, "std" | "core" | "alloc" | "prefork_server");
    own || WRAPPERS.contains(&first) || first.starts_with("__rust")
}

/// In the sources of the toolchain, as they are recorded or installed, or in those of this crate.
fn is_a_librarys_file(file: &str) -> bool {
    let toolchain = file.starts_with("/rustc/") || file.contains("/rustlib/src/rust/");
    toolchain || is_of_this_crate(file) || WRAPPERS.iter().any(|name| is_of(name, file))
}

/// The packages through which this crate makes its system calls: who calls them is more telling.
const WRAPPERS: [&str; 2] = ["mio", "nix"];

/// In the sources of the package with this name, with or without its version.
fn is_of(package: &str, file: &str) -> bool {
    let named = |folder: &str| {
        let rest = folder.strip_prefix(package);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let folders = file
        .split("/src/")
        .filter_map(|path| path.rsplit('/').next());
    folders.take(file.matches("/src/").count()).any(named)
}

/// The compiler was given the same path for this file. It is relative in the crate's own workspace.
fn is_of_this_crate(file: &str) -> bool {
    let sources = file!().strip_suffix("core/stack.rs").unwrap_or(file!());
    let rest = file.strip_prefix(env!("CARGO_MANIFEST_DIR"));
    let relative = rest.and_then(|rest| rest.strip_prefix('/'));
    let file = relative
        .filter(|_| !sources.starts_with('/'))
        .unwrap_or(file);
    file.starts_with(sources)
}

/// `app::handlers::search (src/handlers.rs:17)`, or the address.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) => f.write_str(function)?,
            None => write!(f, "{:#x}", self.address)?,
        }
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            (None, _) => Ok(()),
        }
    }
}

/// The innermost function of the program: the first that is neither of the standard library, nor of
/// this crate and its wrappers of system calls, nor C. If there is none, the innermost function that has a name.
pub(crate) fn innermost(stack: &[Frame]) -> Option<&Frame> {
    let programs = stack.iter().find(|frame| frame.is_the_programs());
    programs.or_else(|| stack.iter().find(|frame| frame.function.is_some()))
}

/// What the parent has asked of one child that is over its time, and got.
#[derive(Clone, Debug, Default)]
pub(crate) struct StackRequest {
    /// It was asked at all. What it answers to a look before that is not where it was stuck.
    asked: bool,
    /// Until when an answer is waited for; `None` if none is expected.
    until: Option<Time>,
    /// It was asked for the last time.
    last: bool,
    frames: Vec<Frame>,
}

impl StackRequest {
    /// Asks at `now`, unless an answer has come or is expected. True if the child is to be asked.
    pub(crate) fn ask(&mut self, now: Time) -> bool {
        let asks = self.frames.is_empty() && self.until.is_none();
        if asks {
            self.asked = true;
            self.until = Some(now + READ_WITHIN);
        }
        asks
    }

    /// Asks for the last time, also while an answer to an earlier question is expected.
    pub(crate) fn ask_last(&mut self, now: Time) -> bool {
        self.last = true;
        self.until = None;
        self.ask(now)
    }

    /// When to ask for the last time a child that gets SIGKILL at `kill_at`.
    pub(crate) fn last_at(&self, told_at: Time, kill_at: Time) -> Option<Time> {
        let asks = !self.last && self.frames.is_empty();
        asks.then(|| told_at + kill_at.since(told_at).saturating_sub(BEFORE_KILL))
    }

    /// Notes the answer; no frames if there will be none.
    pub(crate) fn answered(&mut self, frames: Vec<Frame>) {
        self.until = None;
        if self.asked && !frames.is_empty() {
            self.frames = frames;
        }
    }

    /// Whether it was asked and has not answered: what it leaves may still be read.
    pub(crate) fn is_open(&self) -> bool {
        self.asked && self.frames.is_empty()
    }

    /// Until when an answer is waited for.
    pub(crate) fn awaited_until(&self) -> Option<Time> {
        self.until
    }

    pub(crate) fn into_frames(self) -> Vec<Frame> {
        self.frames
    }
}

#[cfg(test)]
mod tests;
