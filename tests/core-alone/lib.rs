//! The folder `src/core`, built as a crate of its own with nothing but the pure dependencies: what it
//! needs of a system would not compile here. Runs nothing. `.ci/run` checks it for
//! `wasm32-unknown-unknown` as well, which has no processes, descriptors or signals.
#![allow(
    dead_code,
    clippy::enum_variant_names,
    unused_macros,
    unused_imports,
    unreachable_pub,
    reason = "the floors above use it"
)]

#[path = "../../src/core/mod.rs"]
mod core;
