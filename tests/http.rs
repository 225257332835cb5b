//! The little of HTTP that examples share, with its table of tests beside it. They are run from here:
//! an example that is a test itself is not built as a program by `cargo test`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

#[path = "../examples/common/http.rs"]
mod http;
