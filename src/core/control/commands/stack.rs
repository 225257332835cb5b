//! `stack PID`: where a living child is. Done when the child has answered, or will not; it goes on
//! serving. Asks no child itself.

use super::named_child;
use crate::core::{
    child::ChildId,
    control::{Answer, BegunCommand, ErrorCode, Pending},
    event::Event,
    monitor::{Monitor, looks::StackLook},
    stack,
};

pub(in super::super) fn begin(monitor: &mut Monitor, arguments: &str) -> BegunCommand {
    let (child, pid) = match named_child(monitor, arguments) {
        Ok(child) => child,
        Err(answer) => return BegunCommand::Done(answer),
    };
    monitor.look_at_stack(child);
    BegunCommand::Pending(Box::new(StackCommand { child, pid }))
}

/// A look at one child.
#[derive(Debug)]
struct StackCommand {
    child: ChildId,
    pid: u32,
}

impl Pending for StackCommand {
    fn event(&mut self, _: &Monitor, _: &Event<'_>) -> Option<Answer> {
        None
    }

    fn look(&mut self, monitor: &Monitor) -> Option<Answer> {
        let child = monitor.child(self.child).filter(|child| !child.is_reaped());
        match (monitor.looks.of(self.child), child) {
            (Some(look), _) if look.stack.is_some() => Some(self.seen(look)),
            (Some(_), Some(child)) if child.pid() == self.pid => None,
            _ => {
                let text = format!("child {} has ended meanwhile", self.pid);
                Some(Answer::error(ErrorCode::Failed, &text))
            }
        }
    }
}

impl StackCommand {
    /// What the look has shown: the calls of the child, or at least where it stands in the kernel.
    fn seen(&self, look: &StackLook) -> Answer {
        let (frames, missing) = match &look.stack {
            Some(Ok(frames)) => (&frames[..], None),
            Some(Err(why)) => (&[][..], Some(why.to_string())),
            None => (&[][..], None),
        };
        if let (Some(missing), None) = (&missing, &look.place) {
            return Answer::error(ErrorCode::Failed, missing);
        }
        Answer::ok(|json| {
            json.field("pid", self.pid);
            json.field("id", self.child.to_string());
            json.field("in", stack::innermost(frames).map(ToString::to_string));
            json.field("kernel", look.place.as_ref().map(ToString::to_string));
            json.values("stack", frames.iter().map(ToString::to_string));
            json.field("no_stack", missing);
        })
    }
}
