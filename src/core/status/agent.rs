//! The line that HAProxy's agent-check asks for: the share of free children as the weight. Decides by
//! the picture; HAProxy reads the line and closes.

use super::{Stage, picture::Picture};

/// The line for the server as it is, with its end.
///
/// A weight of 0 would take the server out for clients that are bound to it too, so the smallest is
/// 1. `ready` takes back an earlier `drain`: HAProxy keeps what an agent does not mention.
pub(crate) fn line(picture: &Picture, is_ready: bool) -> String {
    match picture.record.stage() {
        Stage::Leaving | Stage::Stopping => "drain\n".to_owned(),
        Stage::Starting => "down #starting\n".to_owned(),
        Stage::Serving if is_ready => format!("up ready {}%\n", weight(picture)),
        Stage::Serving => "down #no child is ready\n".to_owned(),
    }
}

/// How much of the pool could take a connection now, in percent: a child that could still be forked
/// counts as free.
fn weight(picture: &Picture) -> u64 {
    let most = picture.record.head.max_clients.max(1);
    let counts = picture.counts;
    let taken = counts.busy + counts.reserved + counts.stopping;
    (100 * most.saturating_sub(taken))
        .div_ceil(most)
        .clamp(1, 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        board::SharedView,
        status::{figures::Head, picture::Look, record::Record},
        time::Time,
    };

    fn picture(stage: Stage, busy: u64, max_clients: u64) -> Picture {
        let head = Head {
            stage: stage.word(),
            max_clients,
            ..Head::default()
        };
        let record = Record {
            head,
            ..Record::default()
        };
        let view = SharedView::default();
        let mut picture = Picture::new(Look::default(), record, &*view.0, Time::START);
        picture.counts.busy = busy;
        picture
    }

    #[test]
    fn the_weight_is_the_share_of_children_that_could_take_a_connection() {
        for (busy, most, right) in [
            (0, 50, "up ready 100%\n"),
            (25, 50, "up ready 50%\n"),
            (49, 50, "up ready 2%\n"),
            (50, 50, "up ready 1%\n"),
            (60, 50, "up ready 1%\n"),
            (1, 3, "up ready 67%\n"),
            (0, 0, "up ready 100%\n"),
        ] {
            assert_eq!(line(&picture(Stage::Serving, busy, most), true), right);
        }
    }

    #[test]
    fn a_server_that_stops_is_drained_and_one_without_children_is_down() {
        assert_eq!(line(&picture(Stage::Leaving, 0, 5), false), "drain\n");
        assert_eq!(line(&picture(Stage::Stopping, 5, 5), false), "drain\n");
        assert!(line(&picture(Stage::Starting, 0, 5), false).starts_with("down #"));
        assert!(line(&picture(Stage::Serving, 0, 5), false).starts_with("down #"));
    }
}
