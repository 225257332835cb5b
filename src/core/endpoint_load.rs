//! How loaded a server is, as its children tell a balancer with each answer: the share of children
//! that are busy and the rate of connections, in the form of ORCA (Open Request Cost Aggregation).
//! Computes and formats; reads no board and no clock.
//!
//! The form is that of the message `xds.data.orca.v3.OrcaLoadReport` (repository cncf/xds) in a
//! header of HTTP, as Envoy reads it (its `source/common/orca`): `TEXT`, then names and values.

use crate::core::time::Time;
use std::{fmt, time::Duration};

/// For how long connections are counted at least, for a rate.
const WINDOW: Duration = Duration::from_secs(1);

/// How loaded a server is, as a header of an answer tells it.
///
/// The header is [`endpoint-load-metrics`](Self::HEADER).
///
/// A balancer that knows ORCA, such as Envoy with `client_side_weighted_round_robin`, gives servers
/// that are less loaded more requests. [`Conn::endpoint_load`](crate::servers::Conn::endpoint_load)
/// makes one from what the children have noted in shared memory.
///
/// ```
/// use prefork_server::servers::EndpointLoad;
///
/// let load = EndpointLoad::new(3, 10, Some(12.5));
/// assert_eq!(
///     load.to_string(),
///     "TEXT cpu_utilization=0.300, application_utilization=0.300, rps_fractional=12.500"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EndpointLoad {
    /// The share of `max_clients` children that have a connection in hand: 0 to 1.
    ///
    /// It is told both as `application_utilization` and, for balancers that know only that, as
    /// `cpu_utilization`: a preforking server is full when its children are, whatever the processor
    /// does.
    pub utilization: f64,
    /// How many connections a second all children have taken lately.
    ///
    /// It is told as `rps_fractional`; `None` if it is not known yet. A server that answers many
    /// requests on a connection should put its own number here.
    pub rps: Option<f64>,
}

impl EndpointLoad {
    /// The name of the header.
    pub const HEADER: &'static str = "endpoint-load-metrics";

    /// The load of a server with that many busy children of `max_clients`.
    pub fn new(busy: usize, max_clients: usize, rps: Option<f64>) -> Self {
        let share = busy as f64 / max_clients.max(1) as f64;
        Self {
            utilization: share.min(1.0),
            rps,
        }
    }
}

/// The value of the header.
impl fmt::Display for EndpointLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A balancer drops a report with a value that is no number.
        let number = |value: f64| {
            if value.is_finite() {
                value.max(0.0)
            } else {
                0.0
            }
        };
        let share = number(self.utilization);
        write!(
            f,
            "TEXT cpu_utilization={share:.3}, application_utilization={share:.3}"
        )?;
        match self.rps {
            Some(rps) => write!(f, ", rps_fractional={:.3}", number(rps)),
            None => Ok(()),
        }
    }
}

/// What one child has counted: the serial number of the child, and its connections.
pub(crate) type Count = (u32, u64);

/// The rate of connections, from the counts of all children at two moments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    since: Option<Time>,
    /// The count of each slot at that moment.
    counts: Vec<Count>,
    rate: Option<f64>,
}

impl Rate {
    /// The rate lately. `counts` is asked for those of all slots once a second at most. What a
    /// child has taken that has ended since the last look is not in it.
    pub(crate) fn at(&mut self, now: Time, counts: impl FnOnce() -> Vec<Count>) -> Option<f64> {
        let passed = self.since.map(|since| now.since(since));
        if passed.is_some_and(|passed| passed < WINDOW) {
            return self.rate;
        }
        let now_counted = counts();
        if let Some(passed) = passed {
            let taken = taken(&self.counts, &now_counted);
            self.rate = Some(taken as f64 / passed.as_secs_f64());
        }
        (self.since, self.counts) = (Some(now), now_counted);
        self.rate
    }
}

fn taken(before: &[Count], now: &[Count]) -> u64 {
    let of_slot = |(slot, (serial, count)): (usize, &Count)| match before.get(slot) {
        Some((same, before)) if same == serial => count.saturating_sub(*before),
        // Another child has the slot now.
        _ => *count,
    };
    let taken = now.iter().enumerate().map(of_slot);
    taken.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(milliseconds: u64) -> Time {
        Time::at(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_load_is_a_share_and_a_rate() {
        let share = |busy, most| EndpointLoad::new(busy, most, None).utilization;
        assert_eq!([share(0, 10), share(5, 10), share(10, 10)], [0.0, 0.5, 1.0]);
        assert_eq!(share(11, 10), 1.0, "a lowered max_clients");
        assert_eq!((share(0, 0), share(1, 0)), (0.0, 1.0));
        let text = EndpointLoad::new(1, 3, None).to_string();
        assert_eq!(
            text,
            "TEXT cpu_utilization=0.333, application_utilization=0.333"
        );
    }

    #[test]
    fn a_value_that_is_no_number_is_none_for_a_balancer_either() {
        for rps in [f64::NAN, f64::INFINITY, -1.0] {
            let text = EndpointLoad::new(0, 1, Some(rps)).to_string();
            assert!(text.ends_with("rps_fractional=0.000"), "{text}");
        }
    }

    #[test]
    fn a_rate_is_that_of_the_last_second_or_more() {
        let mut rate = Rate::default();
        assert_eq!(rate.at(at(0), || vec![(1, 10), (2, 5)]), None);
        assert_eq!(rate.at(at(999), || panic!("too soon")), None);
        // The first child has taken 20 more; another one has the second slot; the third slot is new.
        assert_eq!(
            rate.at(at(2000), || vec![(1, 30), (3, 4), (4, 1)]),
            Some(12.5)
        );
        assert_eq!(rate.at(at(2500), || panic!("too soon")), Some(12.5));
        assert_eq!(rate.at(at(12_000), || vec![(1, 30)]), Some(0.0));
    }

    proptest! {
        #[test]
        fn any_counts_have_a_rate(
            before: Vec<Count>, now: Vec<Count>, passed in 1000_u64..1_000_000,
        ) {
            let mut rate = Rate::default();
            rate.at(at(0), || before);
            let found = rate.at(at(passed), || now).unwrap();
            prop_assert!(found.is_finite() && found >= 0.0);
            let text = EndpointLoad::new(3, 4, Some(found)).to_string();
            prop_assert!(!text.contains("inf") && !text.contains("NaN"));
        }
    }
}
