//! A model of the world, for tests: a kernel, children and their clients, faults, a virtual clock, all
//! made of one seed. It is a `System`, so that the loop itself runs on it. No process is made.

mod kernel;
mod model;
mod pipe;
mod world;

pub(crate) use self::world::{ShutdownBegan, Simulated, World};
