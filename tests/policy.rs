//! The decision of the example `policy`, a plain function that is tested beside it. (`test = true` for
//! the example would have `cargo test` build its tests in place of the example, which
//! `tests/port.rs` drives.)
#![allow(dead_code, reason = "only the tests in it are run")]

#[path = "../examples/policy.rs"]
mod policy;
