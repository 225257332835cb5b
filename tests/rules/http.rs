//! The little of HTTP that examples share, with its table of tests beside it. They are run from here:
//! an example that is a test itself is not built as a program by `cargo test`.

#[path = "../../examples/common/http.rs"]
mod example;
