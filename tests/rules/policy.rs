//! The decision of the example `policy`, a plain function with its tests beside it. They are run from
//! here: an example that is a test itself is not built as a program by `cargo test`.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "only its decision is of interest here"
)]
#[path = "../../examples/policy.rs"]
mod example;
