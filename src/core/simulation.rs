//! A model of the world, for tests: a kernel, children and their clients, faults, a virtual clock, all
//! made of one seed. It is a `System`, so that the loop itself runs on it. No process is made.

mod kernel;
mod model;
mod pipe;
pub(crate) mod random;
mod world;

pub(crate) use self::{
    random::Random,
    world::{ShutdownBegan, Simulated, World},
};
