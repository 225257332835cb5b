//! What a child has said to its parent, and which words are due. Writes nothing itself.

mod channel;
mod interval;

pub use self::channel::Acker;
pub(crate) use self::{
    channel::{Channel, Sink},
    interval::Interval,
};
