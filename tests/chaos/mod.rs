//! Chaos: a server under load whose children are killed, stopped and broken all the while, and the
//! record that tells whether a client paid for it who should not have.
//!
//! The definitions. A connection is *lost* if its client did not get the whole of the right answer.
//! A loss is *excused* if the connection was in the hands of a child that had been killed or
//! broken: each child writes into a file of slots which connection it has ([`hands`]), and the
//! parent reads the slot of the dead ([`server`]). Any other loss is a fault of the server's, and
//! so is a connection that is *stranded*: neither answered nor ended when the load has stopped.
//!
//! The test and the benchmark share this; neither asserts or measures here.

#![allow(
    dead_code,
    unused_imports,
    reason = "the test and the benchmark use a part each"
)]
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what the test files use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod answer;
mod book;
mod campaign;
pub mod clock;
mod dice;
mod fault;
mod hands;
mod load;
mod mass;
mod murder;
mod rampage;
mod server;
mod verdict;

pub use campaign::{Campaign, Outcome};
pub use dice::Dice;
pub use fault::{Fault, Menu};
pub use load::{Load, Plan, Tally};
pub use mass::{Recovery, kill_a_pool_at_once};
pub use murder::{Murders, murder_parents};
pub use server::chaos_server;
pub use verdict::Verdict;
