//! What requests and samples say: shares, quantiles, swings. Pure.

use std::time::Duration;

use super::HOSTS;
use super::load::Request;

/// How a host was at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub host: &'static str,
    pub at: Duration,
    /// How many children could have taken a request, as its own metrics tell it.
    pub free: f64,
    /// What the balancer had learnt of that, if it shows it.
    pub weight: f64,
}

/// What a host had of all.
#[derive(Clone, Debug)]
pub struct Share {
    pub host: &'static str,
    /// Its part of the requests.
    pub requests: f64,
    /// Its part of the free children.
    pub free: f64,
    /// The smallest and the largest weight, and the standard deviation in parts of the mean.
    pub weights: (f64, f64),
    pub swing: f64,
}

impl Share {
    /// How far its part of the requests is from its part of the free children, in parts of the
    /// latter.
    pub fn error(&self) -> f64 {
        (self.requests / self.free - 1.0).abs()
    }
}

/// The shares of the hosts in one span of time.
pub fn shares(requests: &[Request], samples: &[Sample], span: (Duration, Duration)) -> Vec<Share> {
    let within = |at: Duration| span.0 <= at && at < span.1;
    let answered = requests.iter().filter(|request| within(request.due));
    let answered: Vec<_> = answered
        .filter_map(|request| request.by.as_ref().ok())
        .collect();
    let samples: Vec<_> = samples.iter().filter(|sample| within(sample.at)).collect();
    let all_free: f64 = samples.iter().map(|sample| sample.free).sum();
    let share = |host: &'static str| {
        let own = samples.iter().filter(|sample| sample.host == host);
        let weights: Vec<f64> = own.clone().map(|sample| sample.weight).collect();
        let count = answered.iter().filter(|by| **by == host).count();
        let free: f64 = own.map(|sample| sample.free).sum();
        Share {
            host,
            requests: count as f64 / answered.len() as f64,
            free: free / all_free,
            weights: extremes(&weights),
            swing: deviation(&weights),
        }
    };
    HOSTS.map(share).into()
}

fn extremes(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    (least, most)
}

/// The standard deviation, in parts of the mean.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    (squares.sum::<f64>() / count).sqrt() / mean
}

/// The time that so many of all requests took at most.
pub fn quantile(requests: &[Request], part: f64, span: (Duration, Duration)) -> Duration {
    let within = requests
        .iter()
        .filter(|request| span.0 <= request.due && request.due < span.1);
    let mut times: Vec<_> = within.map(|request| request.took).collect();
    times.sort();
    let at = (part * times.len() as f64) as usize;
    times
        .get(at.min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}
