//! In place of `holder` on systems without it: a server that wants one does not run.

use super::PreFork;
use crate::{
    core::error::{Error, Operation},
    hooks::{ChildServer, PreForkHooks},
};
use std::io;

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// Fails if a holder was asked for.
    pub(super) fn split(&mut self) -> Result<(), Error> {
        match self.wants_holder {
            true => Err(Error::new(
                Operation::Start,
                "the holder",
                io::ErrorKind::Unsupported.into(),
            )),
            false => Ok(()),
        }
    }
}
