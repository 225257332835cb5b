//! The hooks that the loop calls: those of the program, or the defaults while it ends the server
//! outside of `run`. Calls no hook itself.

use crate::{
    core::{child::ChildId, monitor::Monitor, wire::Line},
    hooks::PreForkHooks,
};

/// The program's hooks, and what stands in for them.
#[derive(Debug)]
pub(super) struct Asked<H> {
    /// `None` once the program has them back, after the end of the server.
    program: Option<H>,
    nobody: Nobody,
    asks_nobody: bool,
}

impl<H: PreForkHooks> Asked<H> {
    pub(super) fn new(program: H) -> Self {
        Self {
            program: Some(program),
            nobody: Nobody,
            asks_nobody: false,
        }
    }

    /// The hooks to call now.
    pub(super) fn asked(&mut self) -> &mut dyn PreForkHooks {
        match &mut self.program {
            Some(program) if !self.asks_nobody => program,
            _ => &mut self.nobody,
        }
    }

    /// Has the defaults stand in for the program's hooks, or not any more.
    pub(super) fn ask_nobody(&mut self, asks_nobody: bool) {
        self.asks_nobody = asks_nobody;
    }

    pub(super) fn asks_nobody(&self) -> bool {
        self.asks_nobody
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

/// The default hooks, but for the children's output: who would print it is not asked.
#[derive(Debug)]
struct Nobody;

impl PreForkHooks for Nobody {
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
