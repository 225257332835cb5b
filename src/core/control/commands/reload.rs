//! `reload`: done when no child of an older epoch takes connections, or when the reload has failed.
//! Replaces no child itself.

use crate::core::{
    control::{Answer, BegunCommand, ErrorCode, Pending, STOPPING},
    event::Event,
    monitor::Monitor,
    states::PostedState,
};

pub(in super::super) fn begin(monitor: &mut Monitor, _: &str) -> BegunCommand {
    if monitor.is_shutdown() {
        return BegunCommand::stopping();
    }
    monitor.reload();
    BegunCommand::Pending(Box::new(ReloadCommand::default()))
}

/// A reload that was asked for.
#[derive(Debug, Default)]
struct ReloadCommand {
    /// The epoch of the new children; `None` until the reload has begun.
    epoch: Option<u32>,
}

impl Pending for ReloadCommand {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) -> Option<Answer> {
        match *event {
            Event::ReloadBegan { epoch } => self.began(epoch),
            Event::Reloaded {
                epoch,
                replaced,
                took,
            } if self.epoch == Some(epoch) => Some(Answer::ok(|json| {
                json.field("epoch", epoch);
                json.field("replaced", replaced);
                json.field("took", took);
            })),
            Event::ReloadFailed { error } if self.is_over(monitor) => {
                Some(Answer::error(ErrorCode::Failed, &error.to_string()))
            }
            Event::ShuttingDown => Some(Answer::error(ErrorCode::Stopping, STOPPING)),
            _ => None,
        }
    }
}

impl ReloadCommand {
    fn began(&mut self, epoch: u32) -> Option<Answer> {
        match self.epoch.replace(epoch) {
            None => None,
            Some(_) => {
                let text = "superseded by another reload, which replaces these children first";
                Some(Answer::error(ErrorCode::Superseded, text))
            }
        }
    }

    /// Whether a failure is of this reload: another one may be waiting to begin, or under way.
    fn is_over(&self, monitor: &Monitor) -> bool {
        match self.epoch {
            Some(_) => !monitor.is_reloading(),
            None => !monitor.queue.has(&PostedState::Reload),
        }
    }
}
