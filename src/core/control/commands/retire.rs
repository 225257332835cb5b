//! `retire PID`: done when the child has gone and its successor is ready. Stops no child itself.

use super::named_child;
use crate::core::{
    child::{Cause, Child, ChildId, Death},
    control::{Answer, BegunCommand, ErrorCode, Pending, STOPPING},
    event::Event,
    monitor::Monitor,
    replacement::FAILURES,
};

pub(in super::super) fn begin(monitor: &mut Monitor, arguments: &str) -> BegunCommand {
    if monitor.is_shutdown() {
        return BegunCommand::stopping();
    }
    let (child, pid) = match named_child(monitor, arguments) {
        Ok(child) => child,
        Err(answer) => return BegunCommand::Done(answer),
    };
    monitor.replace(child);
    BegunCommand::Pending(Box::new(RetireCommand {
        child,
        pid,
        successor: None,
        cause: None,
        failures: 0,
    }))
}

/// The replacement of one child.
#[derive(Debug)]
struct RetireCommand {
    child: ChildId,
    pid: u32,
    /// The process id of the child that has taken its place.
    successor: Option<u32>,
    /// Why it has ended; `None` while it lives.
    cause: Option<Cause>,
    /// How many successors have ended in a row before they were ready.
    failures: u32,
}

impl Pending for RetireCommand {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) -> Option<Answer> {
        match *event {
            Event::Replaced { old, new } => self.replaced(old, monitor.child(new)),
            Event::Exited { child, death } if child.id() == self.child => {
                self.cause = Some(death.cause());
                None
            }
            Event::Exited { child, death } => self.failed(child, death),
            Event::ShuttingDown => Some(Answer::error(ErrorCode::Stopping, STOPPING)),
            _ => None,
        }
    }

    /// The child may have ended before its successor was forked, or by itself.
    fn look(&mut self, monitor: &Monitor) -> Option<Answer> {
        let cause = self.cause?;
        let awaits = self.successor.is_none() && monitor.awaits_successor(self.child);
        (!awaits).then(|| {
            Answer::ok(|json| {
                json.field("pid", self.pid);
                json.field("successor", self.successor);
                json.field("cause", format!("{cause:?}"));
            })
        })
    }
}

impl RetireCommand {
    fn replaced(&mut self, old: ChildId, new: Option<&Child>) -> Option<Answer> {
        self.failures = 0;
        if old == self.child {
            self.successor = new.map(Child::pid);
        }
        None
    }

    /// A successor, perhaps this child's, has ended. The child serves on until one is ready.
    fn failed(&mut self, child: &Child, death: &Death) -> Option<Answer> {
        let is_failure = child.role.is_some() && !child.is_ready() && death.cause().is_failure();
        self.failures += u32::from(is_failure);
        (self.failures >= FAILURES && self.cause.is_none()).then(|| {
            let text = format!(
                "{FAILURES} successors in a row have not become ready; the last, {}: {death}, last \
                 words {:?}; child {} serves on",
                child.pid(),
                child.last_lines.text(),
                self.pid,
            );
            Answer::error(ErrorCode::Failed, &text)
        })
    }
}
