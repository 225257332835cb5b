//! The line that HAProxy's agent-check asks for: the share of free children as the weight. Decides by
//! the picture and by what it has seen before; HAProxy reads the line and closes.

use super::{Stage, picture::Picture};
use crate::core::time::Time;
use std::time::Duration;

/// How many children have been taken, on average over the last seconds; what was is forgotten bit by
/// bit.
///
/// A weight that follows each moment swings: HAProxy asks once a second, and what it sends because of
/// one answer decides the next one. Three hosts of twenty children, one of them four times slower,
/// half busy: the weight of the slow one strayed from its mean by that mean; with the average by some
/// hundredths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OccupiedAverage {
    mean: f64,
    noted_at: Option<Time>,
}

impl OccupiedAverage {
    /// After that time a change has arrived to two thirds.
    const FORGETS_AFTER: Duration = Duration::from_secs(5);

    /// Notes how many are taken now.
    pub(crate) fn note(&mut self, picture: &Picture) {
        let counts = picture.counts;
        let taken = (counts.busy + counts.reserved + counts.stopping) as f64;
        let part = self.noted_at.map_or(1.0, |before| {
            let passed = picture.now.since(before).as_secs_f64();
            1.0 - (-passed / Self::FORGETS_AFTER.as_secs_f64()).exp()
        });
        self.mean += part * (taken - self.mean);
        self.noted_at = Some(picture.now);
    }
}

/// The line for the server as it is, with its end.
///
/// A weight of 0 would take the server out for clients that are bound to it too, so the smallest is
/// 1. `ready` takes back an earlier `drain`: HAProxy keeps what an agent does not mention.
pub(crate) fn line(picture: &Picture, is_ready: bool, taken: OccupiedAverage) -> String {
    match picture.record.stage() {
        Stage::Leaving | Stage::Stopping => "drain\n".to_owned(),
        Stage::Serving if picture.record.is_drained() => "drain\n".to_owned(),
        Stage::Starting => "down #starting\n".to_owned(),
        Stage::Serving if is_ready => format!("up ready {}%\n", weight(picture, taken)),
        Stage::Serving => "down #no child is ready\n".to_owned(),
    }
}

/// How much of the pool could take a connection, in percent: a child that could still be forked counts
/// as free.
fn weight(picture: &Picture, taken: OccupiedAverage) -> u64 {
    // OK to lose digits.
    let most = picture.record.head.max_clients.max(1) as f64;
    let free = 100.0 * (most - taken.mean) / most;
    // OK to cast: it is between these.
    free.clamp(1.0, 100.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::{
        figures::Head,
        picture::{BoardLook, ReportedSums},
        record::StatusRecord,
    };
    use proptest::prelude::*;

    fn picture(stage: Stage, busy: u64, max_clients: u64) -> Picture {
        picture_at(0, stage, busy, max_clients)
    }

    fn picture_at(milliseconds: u64, stage: Stage, busy: u64, max_clients: u64) -> Picture {
        let head = Head {
            stage: stage.word(),
            max_clients,
            ..Head::default()
        };
        let record = StatusRecord {
            head,
            ..StatusRecord::default()
        };
        let now = Time::at(Duration::from_millis(milliseconds));
        let mut picture = Picture::new(
            BoardLook::default(),
            record,
            &mut ReportedSums::default(),
            now,
        );
        picture.counts.busy = busy;
        picture
    }

    /// The line of a server that is asked for the first time.
    fn first(picture: &Picture, is_ready: bool) -> String {
        let mut taken = OccupiedAverage::default();
        taken.note(picture);
        line(picture, is_ready, taken)
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
            assert_eq!(first(&picture(Stage::Serving, busy, most), true), right);
        }
    }

    /// From none to all of ten children at once, asked every second.
    #[test]
    fn the_weight_follows_a_change_within_seconds() {
        let mut taken = OccupiedAverage::default();
        taken.note(&picture(Stage::Serving, 0, 10));
        let weights = (1..=20).map(|second| {
            let picture = picture_at(second * 1_000, Stage::Serving, 10, 10);
            taken.note(&picture);
            weight(&picture, taken)
        });
        let weights: Vec<_> = weights.collect();
        assert_eq!(weights[..6], [82, 67, 55, 45, 37, 30]);
        assert_eq!(weights[19], 2);
    }

    /// Asked for twice at a moment or by several balancers, the average is the same.
    #[test]
    fn the_average_depends_on_no_rate_of_questions() {
        let after = |questions: u64| {
            let mut taken = OccupiedAverage::default();
            taken.note(&picture(Stage::Serving, 0, 10));
            for question in 1..=questions {
                let at = 4_000 * question / questions;
                taken.note(&picture_at(at, Stage::Serving, 8, 10));
            }
            taken.mean
        };
        for questions in [4, 40, 400] {
            assert!((after(questions) - after(1)).abs() < 1e-9);
        }
    }

    /// A balancer that splits requests by the weights of three hosts, which it learns once a second.
    /// Each answer decides what the hosts have next: the weights settle all the same.
    #[test]
    fn weights_that_decide_the_load_settle() {
        const MOST: u64 = 1_000;
        // Requests a second times seconds a request: one host is four times slower.
        let loads = [1_250.0, 1_250.0, 5_000.0];
        let mut taken = [OccupiedAverage::default(); 3];
        let mut weights = [100_u64; 3];
        let mut last = weights;
        for second in 0..120 {
            let all: u64 = weights.iter().sum();
            last = weights;
            for ((weight_of, taken), load) in weights.iter_mut().zip(&mut taken).zip(loads) {
                let busy = load * *weight_of as f64 / all as f64;
                let busy = (busy as u64).min(MOST);
                let picture = picture_at(second * 1_000, Stage::Serving, busy, MOST);
                taken.note(&picture);
                *weight_of = weight(&picture, *taken);
            }
        }
        let moved = weights
            .iter()
            .zip(last)
            .map(|(now, then)| now.abs_diff(then));
        assert!(moved.max() <= Some(1), "{last:?}, then {weights:?}");
    }

    proptest! {
        /// Whatever is noted, and when: the weight is a percentage that is not 0.
        #[test]
        fn a_weight_is_a_percentage(
            noted in prop::collection::vec((0_u64..100_000, 0_u64..2_000), 1..50),
            most in 0_u64..1_000,
        ) {
            let (mut taken, mut now) = (OccupiedAverage::default(), 0);
            for (passed, busy) in noted {
                now += passed;
                let picture = picture_at(now, Stage::Serving, busy, most);
                taken.note(&picture);
                prop_assert!((1..=100).contains(&weight(&picture, taken)));
            }
        }
    }

    #[test]
    fn a_server_that_an_operator_drains_is_put_back() {
        let mut picture = picture(Stage::Serving, 0, 5);
        picture.record.head.is_drained = 1;
        assert_eq!(first(&picture, false), "drain\n");
        picture.record.head.is_drained = 0;
        assert_eq!(first(&picture, true), "up ready 100%\n");
    }

    #[test]
    fn a_server_that_stops_is_drained_and_one_without_children_is_down() {
        assert_eq!(first(&picture(Stage::Leaving, 0, 5), false), "drain\n");
        assert_eq!(first(&picture(Stage::Stopping, 5, 5), false), "drain\n");
        assert!(first(&picture(Stage::Starting, 0, 5), false).starts_with("down #"));
        assert!(first(&picture(Stage::Serving, 0, 5), false).starts_with("down #"));
    }
}
