//! `upgrade [PATH]`: done when the children of the new program have replaced all others, or when
//! the old program serves on. That program answers it. Executes nothing itself.

use crate::core::{
    control::{Answer, BegunCommand, ErrorCode, Pending, STOPPING, WaitsFor},
    event::Event,
    monitor::Monitor,
};

pub(in super::super) fn begin(monitor: &mut Monitor, path: &str) -> BegunCommand {
    if monitor.is_stopping() {
        return BegunCommand::stopping();
    }
    if monitor.awaits_upgrade() {
        return BegunCommand::error(ErrorCode::Busy, "another upgrade is under way");
    }
    match path {
        "" => monitor.upgrade(),
        path => monitor.upgrade_to(path),
    }
    BegunCommand::Pending(Box::new(UpgradeCommand))
}

/// An upgrade that was asked for, in this program or in the one before.
#[derive(Debug)]
pub(in super::super) struct UpgradeCommand;

impl Pending for UpgradeCommand {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) -> Option<Answer> {
        match *event {
            Event::Upgraded { took, blind } => Some(Answer::ok(|json| {
                json.field("epoch", monitor.replacement.epoch());
                json.field("took", took);
                json.field("blind", blind);
            })),
            // Another one may have been refused, while this one goes on.
            Event::UpgradeFailed { error } if !monitor.is_upgrading() => {
                Some(Answer::error(ErrorCode::Failed, &error.to_string()))
            }
            Event::ShuttingDown => Some(Answer::error(ErrorCode::Stopping, STOPPING)),
            _ => None,
        }
    }

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Upgrade
    }
}
