//! The child's side of the wire: which words it has sent and the interval of ACKs. Writes nothing
//! itself.

mod channel;
mod interval;

pub use self::channel::Acker;
pub(crate) use self::{
    channel::{Channel, Sink},
    interval::Interval,
};
