//! Tests that start no process: the documents against the code, and the code against the original's
//! own test. What starts processes is in `tests/scenarios`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod catalogue;
mod container;
mod defences;
mod document;
mod events;
mod hooks;
mod http;
mod layering;
mod original;
mod paths;
mod policy;
mod prose;
mod public_api;
mod rustdoc;
#[cfg(feature = "config")]
mod settings;
mod signal_handlers;
mod source;
mod stock_servers;
mod tables;
mod warnings;
