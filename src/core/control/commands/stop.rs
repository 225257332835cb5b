//! `stop`: done when the last child has gone, as the last thing before the socket is closed. Sends no
//! signal itself.

use crate::core::{
    control::{Answer, BegunCommand, ErrorCode, Pending},
    event::Event,
    monitor::Monitor,
    states::PostedState,
    stop::Manner,
    time::Time,
};

pub(in super::super) fn begin(monitor: &mut Monitor, arguments: &str) -> BegunCommand {
    let manner = match arguments {
        "" => Manner::Bounded,
        "graceful" => Manner::Unbounded,
        "now" => Manner::Now,
        other => {
            let text = format!("{other:?} is none of graceful, now");
            return BegunCommand::error(ErrorCode::Usage, &text);
        }
    };
    monitor.ask_stop(manner);
    let since = monitor.now();
    BegunCommand::Pending(Box::new(StopCommand { since }))
}

/// A stop that was asked for.
#[derive(Debug)]
struct StopCommand {
    since: Time,
}

impl Pending for StopCommand {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) -> Option<Answer> {
        let Event::Ended = event else {
            return None;
        };
        let report = monitor.report();
        Some(Answer::ok(|json| {
            json.field("took", monitor.now().since(self.since));
            json.field("deaths", report.all_deaths());
            json.field("lost_connections", report.lost_connections);
        }))
    }

    /// The hook `handler_shutdown` may refuse.
    fn look(&mut self, monitor: &Monitor) -> Option<Answer> {
        let announced = monitor.stop_begins_at().is_some();
        let goes_on =
            !announced && !monitor.is_shutdown() && !monitor.queue.has(&PostedState::Shutdown);
        goes_on.then(|| {
            let text = "the hook handler_shutdown has not begun the shutdown";
            Answer::error(ErrorCode::Failed, text)
        })
    }
}
