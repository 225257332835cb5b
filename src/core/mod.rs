//! The pure core: what the parent knows of its children, and what it decides about them and when.
//! No system call, no clock, no descriptor: time is an argument, effects are queued as tasks.

pub(crate) mod accept;
pub(crate) mod access;
pub(crate) mod alarms;
pub(crate) mod backoff;
pub(crate) mod board;
pub(crate) mod brake;
pub(crate) mod child;
pub(crate) mod comm;
pub(crate) mod config;
pub(crate) mod confinement;
pub(crate) mod conn_end;
pub(crate) mod control;
#[cfg(any(test, fuzzing))]
pub(crate) mod cut;
pub(crate) mod draining;
pub(crate) mod endpoint_load;
pub(crate) mod error;
pub(crate) mod event;
#[cfg(feature = "holder")]
pub(crate) mod holder;
pub(crate) mod inbox;
#[cfg(feature = "holder")]
pub(crate) mod journal;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod monitor;
pub(crate) mod nearest;
#[cfg(feature = "holder")]
pub(crate) mod notes;
pub(crate) mod notice;
pub(crate) mod out_of_memory;
pub(crate) mod pool;
#[cfg(feature = "proxy-protocol")]
pub(crate) mod proxy;
pub(crate) mod queue;
pub(crate) mod queue_times;
#[cfg(test)]
pub(crate) mod random;
pub(crate) mod repeats;
pub(crate) mod replacement;
pub(crate) mod report;
#[cfg(feature = "holder")]
pub(crate) mod restarts;
pub(crate) mod saturation;
pub(crate) mod say;
pub(crate) mod signal_policy;
#[cfg(test)]
pub(crate) mod simulation;
pub(crate) mod slow_hooks;
pub(crate) mod stack;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "upgrades are for Linux")
)]
pub(crate) mod state;
pub(crate) mod states;
#[cfg(feature = "status")]
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod system;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod time;
pub(crate) mod time_limits;
pub(crate) mod title;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "upgrades are for Linux")
)]
pub(crate) mod upgrade;
pub(crate) mod wire;
