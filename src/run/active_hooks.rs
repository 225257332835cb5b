//! The hooks that the loop calls: those of the program, or the defaults while it ends the server
//! outside of `run`. Calls no hook itself.

use crate::{
    core::{child::ChildId, monitor::Monitor, wire::Line},
    hooks::PreForkHooks,
};

/// The program's hooks, and what stands in for them.
#[derive(Debug)]
pub(super) struct ActiveHooks<H> {
    /// `None` once the program has them back, after the end of the server.
    program: Option<H>,
    defaults: QuietDefaults,
    uses_defaults: bool,
}

impl<H: PreForkHooks> ActiveHooks<H> {
    pub(super) fn new(program: H) -> Self {
        Self {
            program: Some(program),
            defaults: QuietDefaults,
            uses_defaults: false,
        }
    }

    /// The hooks to call now.
    pub(super) fn current(&mut self) -> &mut dyn PreForkHooks {
        match &mut self.program {
            Some(program) if !self.uses_defaults => program,
            _ => &mut self.defaults,
        }
    }

    /// Whether the defaults are called in place of the program's hooks from now on.
    pub(super) fn use_defaults(&mut self, uses_defaults: bool) {
        self.uses_defaults = uses_defaults;
    }

    pub(super) fn uses_defaults(&self) -> bool {
        self.uses_defaults
    }

    pub(super) fn program(&self) -> &H {
        self.program.as_ref().unwrap_or_else(|| given_back())
    }

    pub(super) fn program_mut(&mut self) -> &mut H {
        self.program.as_mut().unwrap_or_else(|| given_back())
    }

    /// Gives the hooks back to the program, which has no server from then on.
    pub(super) fn take(&mut self) -> H {
        self.program.take().unwrap_or_else(|| given_back())
    }
}

fn given_back() -> ! {
    unreachable!("the program has the hooks back, and no server to ask for them")
}

/// The default hooks, except for the children's output, which is dropped and counted.
#[derive(Debug)]
struct QuietDefaults;

impl PreForkHooks for QuietDefaults {
    fn server_stdout(&mut self, monitor: &mut Monitor, _: ChildId, line: &Line) {
        drop_line(monitor, line);
    }

    fn server_stderr(&mut self, monitor: &mut Monitor, _: ChildId, line: &Line) {
        drop_line(monitor, line);
    }
}

fn drop_line(monitor: &mut Monitor, line: &Line) {
    monitor.report.output_dropped += line.bytes().len() as u64 + 1;
}
