//! x
mod subject;
mod support;
fn main() {}
