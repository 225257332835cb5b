//! Counters and histograms of the program: declared in the parent, counted in the children, read as
//! one number in the parent.
//!
//! Each child counts in memory of its own that the parent can read, so nothing is lost when a child
//! is killed, at whatever moment. What a child has counted stays in the total after its end. There
//! are no files and no labels for processes, and the memory has a fixed size.
//!
//! ```no_run
//! use prefork_server::{TcpServer, PreFork, metrics, servers::TcpConn};
//! use std::{io::Write, time::Instant};
//!
//! // Before the server is started, or in a hook of the parent.
//! let pages = metrics::counter("pages");
//! let render = metrics::histogram("render_seconds", &metrics::SECONDS);
//!
//! let server = TcpServer::new(move |conn: TcpConn| {
//!     let begun = Instant::now();
//!     writeln!(&conn, "hello")?;
//!     render.observe(begun.elapsed().as_secs_f64());
//!     pages.increment();
//!     Ok(())
//! });
//! let mut prefork = PreFork::builder(server).start()?;
//! // In a hook or between two turns: `prefork.monitor().metrics()`.
//! prefork.run()?;
//! # Ok::<(), prefork_server::Error>(())
//! ```
//!
//! # What is counted where
//!
//! - There is room for 128 counters and buckets, and for 32 histograms. A histogram has a bucket
//!   more than bounds.
//! - A child beyond the `max_clients` of the start has no such memory, and what it counts is lost.
//!   So is what a process counts that a handler has forked.
//! - A metric that is declared in a child alone is unknown to the parent.
//! - What the parent itself counts, in hooks, is part of the values of each of its servers.
//! - Adding takes about a nanosecond in the thread that serves, and ten in other threads. It must not
//!   be done in a signal handler, which may interrupt another addition.

use crate::{
    core::metrics::{self, MetricKind, Refused},
    sys::cells,
};

pub use crate::core::metrics::{Distribution, Metric, Value};

/// Bounds for durations in seconds.
///
/// They are those of OpenTelemetry for the duration of HTTP requests.
pub const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// A number that only grows. Made by [`counter`].
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    at: usize,
}

impl Counter {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds to the number.
    #[inline]
    pub fn add(&self, more: u64) {
        cells::add(self.at, more);
    }
}

/// The distribution of a quantity. Made by [`histogram`].
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    first: usize,
    sum: usize,
    bounds: &'static [f64],
}

impl Histogram {
    /// Counts one observation.
    ///
    /// One that is not a number is left out. An infinite one counts in its bucket and is left out
    /// of the sum, which would be infinite from then on; so is an observation with which the sum
    /// would be.
    #[inline]
    pub fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        cells::add(self.first + metrics::bucket(self.bounds, value), 1);
        if value.is_finite() {
            cells::add_to_sum(self.sum, value);
        }
    }
}

/// Declares a counter, or finds the counter that was declared with this name.
///
/// Call it in the parent, before the children that count are forked. `name` is as Prometheus wants
/// it, without the suffix `_total`.
///
/// # Panics
///
/// When the name is not one, or is that of a histogram, or when there is no room for another metric.
pub fn counter(name: &str) -> Counter {
    match declared(name, cells::declare(|schema| schema.counter(name))) {
        MetricKind::Counter { at } => Counter { at },
        MetricKind::Histogram { .. } => unreachable!("{name} is declared as a counter"),
    }
}

/// Declares a histogram.
///
/// If there is one with this name and these bounds, returns that one.
///
/// Call it in the parent, before the children that count are forked. `name` is as Prometheus wants
/// it, and best ends with the unit: `render_seconds`. Each of `bounds` is the largest value of its
/// bucket; one bucket more is for larger values. [`SECONDS`] are bounds for most durations.
///
/// # Panics
///
/// When the name is not one, or is that of another metric, when the bounds are not finite numbers in
/// ascending order, or when there is no room for another metric.
pub fn histogram(name: &str, bounds: &[f64]) -> Histogram {
    match declared(
        name,
        cells::declare(|schema| schema.histogram(name, bounds)),
    ) {
        MetricKind::Histogram { first, sum, bounds } => Histogram { first, sum, bounds },
        MetricKind::Counter { .. } => unreachable!("{name} is declared as a histogram"),
    }
}

fn declared(name: &str, kind: Result<MetricKind, Refused>) -> MetricKind {
    match kind {
        Ok(kind) => kind,
        Err(refused) => panic!("metric {name:?}: {refused}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Value {
        let mut metrics = cells::show(metrics::MetricNumbers::default()).into_iter();
        metrics.find(|metric| metric.name == name).unwrap().value
    }

    /// Outside of a child, in any thread.
    #[test]
    fn all_threads_count() {
        let (pages, seconds) = (counter("pages"), histogram("seconds", &[1.0]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        pages.increment();
                        seconds.observe(0.5);
                        seconds.observe(1.5);
                        seconds.observe(f64::NAN);
                    }
                });
            }
        });
        counter("pages").add(5);
        assert_eq!(value("pages"), Value::Counter(4005));
        let Value::Histogram(seconds) = value("seconds") else {
            panic!("a histogram");
        };
        assert_eq!((&*seconds.counts, seconds.sum), (&[4000, 4000][..], 8000.0));
    }

    #[test]
    fn what_is_infinite_is_in_a_bucket_and_in_no_sum() {
        let sizes = histogram("sizes", &[1.0]);
        for size in [0.5, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MAX] {
            sizes.observe(size);
        }
        sizes.observe(-f64::MAX);
        sizes.observe(2.0);
        let Value::Histogram(sizes) = value("sizes") else {
            panic!("a histogram");
        };
        assert_eq!((&*sizes.counts, sizes.sum), (&[3, 4][..], 2.0));
    }

    #[test]
    #[should_panic(expected = "metric \"a-b\": its name must have letters")]
    fn a_name_that_is_none_is_refused() {
        counter("a-b");
    }
}
