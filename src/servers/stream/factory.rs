//! The handler of a child, before the child is there: what makes it, and the hooks around it. Calls no
//! handler.

use crate::servers::{accept::Handler, conn::Conn};
use std::io;

/// Makes the handler, in the child. Called once in each.
type Factory<S> = Box<dyn FnOnce() -> io::Result<Handler<S>>>;

/// What makes the handler of a child; empty once that is made.
pub(super) struct HandlerFactory<S>(Option<Factory<S>>);

impl<S: 'static> HandlerFactory<S> {
    pub(super) fn new(factory: impl FnOnce() -> io::Result<Handler<S>> + 'static) -> Self {
        Self(Some(Box::new(factory)))
    }

    /// Puts a hook around the handler: it gets each connection, and the handler as what serves it.
    pub(super) fn wrap<F>(&mut self, mut hook: F)
    where
        F: FnMut(Conn<S>, &mut dyn FnMut(Conn<S>) -> io::Result<()>) -> io::Result<()> + 'static,
    {
        self.0 = self.0.take().map(|factory| {
            let wrapped: Factory<S> = Box::new(move || {
                let mut inner = factory()?;
                let outer: Handler<S> = Box::new(move |conn| hook(conn, &mut *inner));
                Ok(outer)
            });
            wrapped
        });
    }

    /// Makes the handler of this child.
    pub(super) fn make(&mut self) -> io::Result<Handler<S>> {
        match self.0.take() {
            Some(factory) => factory(),
            None => Err(io::Error::other("served already")),
        }
    }

    /// The handler of a child that probably serves no client: made when it is called.
    pub(super) fn make_if_needed(&mut self) -> Handler<S> {
        let mut factory = self.0.take();
        let mut made = None;
        Box::new(move |conn| {
            if let Some(factory) = factory.take() {
                made = Some(factory()?);
            }
            made.as_mut().map_or(Ok(()), |handler| handler(conn))
        })
    }
}
