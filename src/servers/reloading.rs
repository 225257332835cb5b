//! What a stock server reads again in a reload, by the program's own code. Reloads nothing itself.

use super::{conn::Stream, stream::StreamServer};
use crate::listeners::Listener;
use std::{cell::RefCell, io, rc::Rc};

/// The program's code, which gets the server. Shared, so that a panic in it does not lose it.
type ReloadHook<L> = dyn FnMut(&mut StreamServer<L>) -> io::Result<()>;

/// The code for a reload, if there is any.
pub(super) struct Reloading<L: Listener>(Option<Rc<RefCell<ReloadHook<L>>>>);

impl<L: Listener> Default for Reloading<L> {
    fn default() -> Self {
        Self(None)
    }
}

impl<L: Listener<Stream: Stream>> StreamServer<L> {
    /// Calls `hook` with the server in each reload, to change its settings.
    ///
    /// For example its rules of access. Default: nothing.
    ///
    /// It runs in the parent, when SIGHUP, [`Monitor::reload`](crate::Monitor::reload) or `prefork
    /// reload` has asked for a reload, before the first child is replaced: as
    /// [`ChildServer::reload`](crate::ChildServer::reload), which the default of
    /// [`handler_reload`](crate::PreForkHooks::handler_reload) calls. The children that are forked
    /// from then on have the new settings.
    ///
    /// ```no_run
    /// # use prefork_server::{TcpServer, servers::Access};
    /// # use std::{fs, io};
    /// /// A range of addresses on each line.
    /// fn denied() -> io::Result<Access> {
    ///     let text = fs::read_to_string("/etc/hello/denied")?;
    ///     text.lines().try_fold(Access::new(), |access, line| {
    ///         Ok(access.deny(line.parse().map_err(io::Error::other)?))
    ///     })
    /// }
    ///
    /// let server = TcpServer::new(|conn| Ok(())).access(denied()?).reloading(|server| {
    ///     server.set_access(denied()?);
    ///     Ok(())
    /// });
    /// # let _ = server;
    /// # Ok::<(), io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// After an error of the hook no child is replaced, and
    /// [`reload_failed`](crate::PreForkHooks::reload_failed) is called. So read first, and set then.
    #[must_use]
    pub fn reloading(mut self, hook: impl FnMut(&mut Self) -> io::Result<()> + 'static) -> Self {
        self.reloading.0 = Some(Rc::new(RefCell::new(hook)));
        self
    }

    pub(super) fn read_again(&mut self) -> io::Result<()> {
        let Some(hook) = self.reloading.0.clone() else {
            return Ok(());
        };
        // The loop calls it once a reload, so it is not borrowed.
        hook.try_borrow_mut().map_or(Ok(()), |mut hook| hook(self))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        hooks::ChildServer,
        servers::{Access, tcp::TcpServer},
    };
    use std::{cell::Cell, io, rc::Rc};

    #[test]
    fn each_reload_changes_the_server_unless_it_fails() {
        let times = Rc::new(Cell::new(0));
        let counted = Rc::clone(&times);
        let server = TcpServer::new(|_| Ok(()));
        let mut server = server.reloading(move |server| {
            counted.set(counted.get() + 1);
            match counted.get() {
                2 => return Err(io::Error::other("unreadable")),
                times => server.set_max_per_peer(times),
            }
            Ok(())
        });
        let results: Vec<_> = (0..3)
            .map(|_| (server.reload().is_ok(), server.get_max_per_peer()))
            .collect();
        assert_eq!(results, [(true, 1), (false, 1), (true, 3)]);
        assert_eq!(server.get_access(), &Access::new());
        assert!(TcpServer::new(|_| Ok(())).reload().is_ok());
    }
}
