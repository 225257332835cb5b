//! Metrics of the program: which there are, and what the numbers in shared memory mean. Counts
//! nothing itself.
//!
//! All numbers of all metrics lie in two rows of fixed length: whole numbers, which are counters and
//! the buckets of histograms, and sums. So the numbers of several processes can be added up by who
//! does not know what they stand for.

use std::fmt;

/// How many whole numbers there are.
pub(crate) const INTEGERS: usize = 128;
/// How many sums there are.
pub(crate) const SUMS: usize = 32;
/// How many numbers there are in all. The sums come last.
pub(crate) const NUMBERS: usize = INTEGERS + SUMS;

/// No child counts so far. From there on a number would also lose digits in a scraper.
const MOST: u64 = 1 << 53;

/// The numbers of all metrics, of one process or of several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricNumbers {
    integers: [u64; INTEGERS],
    sums: [f64; SUMS],
}

impl Default for MetricNumbers {
    fn default() -> Self {
        Self {
            integers: [0; INTEGERS],
            sums: [0.0; SUMS],
        }
    }
}

impl MetricNumbers {
    /// The numbers, each from its word.
    pub(crate) fn read(word: impl Fn(usize) -> u64) -> Self {
        Self {
            integers: std::array::from_fn(&word),
            sums: std::array::from_fn(|at| f64::from_bits(word(INTEGERS + at))),
        }
    }

    /// The words of the numbers, in their order.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let sums = self.sums.iter().map(|sum| sum.to_bits());
        self.integers.iter().copied().chain(sums)
    }

    /// Adds what a child has counted, in a row for each kind of its threads: all or, if it has
    /// written impossible numbers, nothing. What is in the sum stays there for as long as the
    /// server runs.
    pub(crate) fn add_childs(&mut self, rows: &[Self; 2]) {
        if rows.iter().all(Self::is_believable) {
            rows.iter().for_each(|row| self.add(row));
        }
    }

    fn is_believable(&self) -> bool {
        let few = self.integers.iter().all(|&integer| integer < MOST);
        few && self.sums.iter().all(|sum| sum.is_finite())
    }

    /// Takes what is found now in the place of what was found before. No whole number gets smaller;
    /// a sum may, by negative observations, but not while whole numbers are missing.
    #[cfg(feature = "status")]
    pub(crate) fn follow(&mut self, now: &Self) {
        let mut integers = self.integers.iter().zip(now.integers);
        let is_whole = integers.all(|(before, now)| *before <= now);
        for (integer, now) in self.integers.iter_mut().zip(now.integers) {
            *integer = now.max(*integer);
        }
        for (sum, now) in self.sums.iter_mut().zip(now.sums) {
            *sum = if is_whole { now } else { now.max(*sum) };
        }
    }

    /// Adds the numbers of a process that is believed.
    pub(crate) fn add(&mut self, others: &Self) {
        for (integer, other) in self.integers.iter_mut().zip(others.integers) {
            *integer = integer.saturating_add(other);
        }
        for (sum, other) in self.sums.iter_mut().zip(others.sums) {
            if (*sum + other).is_finite() {
                *sum += other;
            }
        }
    }
}

/// A counter or a histogram, as [`Monitor::metrics`](crate::Monitor::metrics) shows it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// The name with which it was declared.
    pub name: String,
    /// What was counted so far.
    pub value: Value,
}

/// The value of a [`Metric`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// That of a counter.
    Counter(u64),
    /// That of a histogram.
    Histogram(Distribution),
}

/// The value of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Distribution {
    /// The upper bounds of the buckets, each inclusive.
    ///
    /// There is one bucket more, for what is larger than the last bound.
    pub bounds: Vec<f64>,
    /// How many observations are in each bucket and in no smaller one.
    pub counts: Vec<u64>,
    /// The sum of all observations.
    pub sum: f64,
}

impl Distribution {
    /// How many observations there are.
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter();
        counts.fold(0, |count, &more| count.saturating_add(more))
    }
}

/// What a metric is, and where its numbers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MetricKind {
    Counter {
        at: usize,
    },
    Histogram {
        /// The bucket of the smallest observations; the others follow.
        first: usize,
        /// The place among the sums.
        sum: usize,
        bounds: &'static [f64],
    },
}

/// Why a metric cannot be declared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    Name,
    Bounds,
    Other,
    Room,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => {
                "its name must have letters, digits and underscores, and begin with no digit"
            }
            Self::Bounds => "its bounds must be finite numbers, each larger than the one before",
            Self::Other => "it was declared as something else before",
            Self::Room => "there is no room for more metrics",
        })
    }
}

/// The metrics that were declared.
#[derive(Debug)]
pub(crate) struct Schema {
    metrics: Vec<(String, MetricKind)>,
    integers: usize,
    sums: usize,
}

impl Schema {
    pub(crate) const fn new() -> Self {
        Self {
            metrics: Vec::new(),
            integers: 0,
            sums: 0,
        }
    }

    /// Declares a counter, or finds the one with this name.
    pub(crate) fn counter(&mut self, name: &str) -> Result<MetricKind, Refused> {
        match self.find(name)? {
            Some(kind @ MetricKind::Counter { .. }) => Ok(kind),
            Some(MetricKind::Histogram { .. }) => Err(Refused::Other),
            None => {
                let at = claim(&mut self.integers, 1, INTEGERS)?;
                Ok(self.add(name, MetricKind::Counter { at }))
            }
        }
    }

    /// Declares a histogram, or finds the one with this name and these bounds.
    pub(crate) fn histogram(&mut self, name: &str, bounds: &[f64]) -> Result<MetricKind, Refused> {
        match self.find(name)? {
            Some(kind @ MetricKind::Histogram { bounds: known, .. }) if known == bounds => Ok(kind),
            Some(_) => Err(Refused::Other),
            None if !are_in_order(bounds) => Err(Refused::Bounds),
            None => {
                if self.sums == SUMS {
                    return Err(Refused::Room);
                }
                let first = claim(&mut self.integers, bounds.len() + 1, INTEGERS)?;
                let sum = claim(&mut self.sums, 1, SUMS)?;
                // A metric is there for as long as the process, and there are few.
                let bounds = Box::leak(bounds.into());
                Ok(self.add(name, MetricKind::Histogram { first, sum, bounds }))
            }
        }
    }

    fn find(&self, name: &str) -> Result<Option<MetricKind>, Refused> {
        if !is_name(name) {
            return Err(Refused::Name);
        }
        let found = self.metrics.iter().find(|(known, _)| known == name);
        Ok(found.map(|&(_, kind)| kind))
    }

    fn add(&mut self, name: &str, kind: MetricKind) -> MetricKind {
        self.metrics.push((name.to_owned(), kind));
        kind
    }

    /// What was declared, in that order, as text.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "upgrades are for Linux")
    )]
    pub(crate) fn described(&self) -> Vec<String> {
        let described = |(name, kind): &(String, MetricKind)| format!("{name} {kind:?}");
        self.metrics.iter().map(described).collect()
    }

    /// Whether the numbers of a program that has declared this mean the same here, as far as both have
    /// declared anything.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "upgrades are for Linux")
    )]
    pub(crate) fn agrees(&self, described: &[String]) -> bool {
        let own = self.described();
        own.iter().zip(described).all(|(own, other)| own == other)
    }

    /// The metrics, for a process that has not seen them being declared.
    #[cfg(feature = "status")]
    pub(crate) fn declared(&self) -> Vec<Declared> {
        self.metrics.iter().map(Declared::of).collect()
    }

    /// The metrics with these numbers, in the order of their declaration.
    pub(crate) fn show(&self, numbers: &MetricNumbers) -> Vec<Metric> {
        let show = |(name, kind): &(String, MetricKind)| Metric {
            name: name.clone(),
            value: match *kind {
                MetricKind::Counter { at } => Value::Counter(numbers.integers[at]),
                MetricKind::Histogram { first, sum, bounds } => Value::Histogram(Distribution {
                    bounds: bounds.to_vec(),
                    counts: numbers.integers[first..=first + bounds.len()].to_vec(),
                    sum: numbers.sums[sum],
                }),
            },
        };
        self.metrics.iter().map(show).collect()
    }
}

/// A metric that was declared in another process.
#[cfg(feature = "status")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// The place of the counter, or of the first bucket.
    pub(crate) first: usize,
    /// The place among the sums; `None` for a counter.
    pub(crate) sum: Option<usize>,
    pub(crate) bounds: Vec<f64>,
}

#[cfg(feature = "status")]
impl Declared {
    fn of((name, kind): &(String, MetricKind)) -> Self {
        let (first, sum, bounds) = match *kind {
            MetricKind::Counter { at } => (at, None, &[][..]),
            MetricKind::Histogram { first, sum, bounds } => (first, Some(sum), bounds),
        };
        Self {
            name: name.clone(),
            first,
            sum,
            bounds: bounds.to_vec(),
        }
    }

    /// The metric with these numbers. Its places are within them.
    pub(crate) fn show(&self, numbers: &MetricNumbers) -> Metric {
        let counts = &numbers.integers[self.first..=self.first + self.bounds.len()];
        Metric {
            name: self.name.clone(),
            value: match self.sum {
                None => Value::Counter(counts[0]),
                Some(sum) => Value::Histogram(Distribution {
                    bounds: self.bounds.clone(),
                    counts: counts.to_vec(),
                    sum: numbers.sums[sum],
                }),
            },
        }
    }
}

/// Takes the next places of a row; the first of them.
fn claim(used: &mut usize, count: usize, room: usize) -> Result<usize, Refused> {
    let first = *used;
    if count > room - first {
        return Err(Refused::Room);
    }
    *used += count;
    Ok(first)
}

/// Whether OpenMetrics and Prometheus take it for a name. The colon is for rules.
fn is_name(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
}

fn are_in_order(bounds: &[f64]) -> bool {
    bounds.iter().all(|bound| bound.is_finite()) && bounds.is_sorted_by(|one, next| one < next)
}

/// The bucket for an observation: the first whose bound is not smaller.
pub(crate) fn bucket(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|&bound| bound < value)
}

#[cfg(test)]
mod tests;
