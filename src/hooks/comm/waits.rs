//! The waits of a child: for a connection, for a client, for a time. Each sends the ACKs that are due
//! meanwhile; the link does the waiting.

use super::Comm;
use crate::{
    core::time::Time,
    sys::link::{Interest, Wake},
};
use std::{io, os::fd::BorrowedFd, sync::atomic::Ordering, time::Duration};

/// How long a child waits for its client before it leaves the wake-ups to other children.
const ASIDE_AFTER: Duration = Duration::from_millis(20);

impl Comm {
    /// Waits for a connection on `listeners`, or until the child should leave.
    ///
    /// It also returns when an ACK was due and has been sent. On Linux one connection wakes one
    /// child.
    ///
    /// Pass the same descriptors each time, open ones, in non-blocking mode.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached or the operating system refuses to wait.
    pub fn wait(&self, listeners: &[BorrowedFd<'_>]) -> io::Result<Wake> {
        if self.shutdown_requested() {
            return Ok(Wake::Stop);
        }
        // A child that waits for a connection can take one, even if its server has not said so.
        if !self.shared.channel.stated.load(Ordering::Relaxed) {
            self.shared.channel.say_not_busy_at_first()?;
        }
        self.say_what_is_due(|| self.now())?;
        let wake = self
            .shared
            .link
            .wait_listeners(listeners, self.shared.longest_wait(None))?;
        Ok(if self.shutdown_requested() {
            Wake::Stop
        } else {
            wake
        })
    }

    /// Takes no wake-ups for connections until the next [`wait`](Self::wait).
    ///
    /// The kernel checks every child whose epoll has the listener, also while the child is busy,
    /// before the children that wait now. That is costly where many children are busy for
    /// long.
    pub(crate) fn leave_wakeups(&self) {
        self.shared.link.leave_wakeups();
    }

    /// Waits for `duration` and sends the ACKs that are due.
    ///
    /// Returns early if the child should leave.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn pause(&self, duration: Duration) -> io::Result<()> {
        let end = self.shared.link.now() + duration;
        while !self.shutdown_requested() && self.shared.link.now() < end {
            self.say_what_is_due(|| self.now())?;
            self.shared
                .link
                .sleep(self.shared.longest_wait(Some(end)))?;
        }
        Ok(())
    }

    /// Waits until a connection is ready for `interest`.
    ///
    /// Sends the ACKs that are due meanwhile.
    ///
    /// It is for a server that reads and writes by itself in non-blocking mode. False after
    /// `timeout`; `None` waits without a limit.
    ///
    /// The wait goes on when the child is told to stop or has lost its parent, because the client
    /// in hand is served to the end. Check [`shutdown_requested`](Self::shutdown_requested) for
    /// that.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to wait.
    pub fn wait_stream(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        self.wait_until(stream, interest, self.deadline(timeout))
    }

    /// As [`wait_stream`](Self::wait_stream), with a deadline in place of a timeout.
    pub(crate) fn wait_until(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        deadline: Option<Time>,
    ) -> io::Result<bool> {
        loop {
            let wait = |longest| self.shared.link.wait_stream(stream, interest, longest);
            match self.wait_once(deadline, wait)? {
                Wake::Ready => return Ok(true),
                Wake::Stop | Wake::Timer if self.has_passed(deadline) => return Ok(false),
                Wake::Stop | Wake::Timer => {}
            }
        }
    }

    /// Waits until a connection is ready, until `deadline`, or until the child should leave. If the
    /// connection is ready, that is returned even if the child should leave.
    pub(crate) fn wait_request(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        deadline: Option<Time>,
    ) -> io::Result<Wake> {
        loop {
            let leaving = self.shutdown_requested();
            let deadline = if leaving { Some(Time::START) } else { deadline };
            let wait = |longest| self.shared.link.wait_request(stream, interest, longest);
            match self.wait_once(deadline, wait)? {
                Wake::Ready => return Ok(Wake::Ready),
                Wake::Stop | Wake::Timer if leaving => return Ok(Wake::Stop),
                Wake::Stop | Wake::Timer if self.has_passed(deadline) => return Ok(Wake::Timer),
                Wake::Stop | Wake::Timer => {}
            }
        }
    }

    /// Waits once for a client, until something else is due.
    fn wait_once(
        &self,
        deadline: Option<Time>,
        wait: impl FnOnce(Option<Duration>) -> io::Result<Wake>,
    ) -> io::Result<Wake> {
        // OK to go on without the parent: the client in hand is served to the end.
        let _ = self.say_what_is_due(|| self.now());
        self.shared.notice_stop();
        self.shared.notice_reopen();
        let mut longest = self.shared.longest_wait(deadline);
        let may_be_woken = self.shared.link.may_be_woken();
        if may_be_woken {
            longest = Some(longest.map_or(ASIDE_AFTER, |longest| longest.min(ASIDE_AFTER)));
        }
        let wake = wait(longest)?;
        match wake {
            // The same wait may have found that the parent is gone.
            Wake::Ready | Wake::Stop => self.shared.notice_orphaned(),
            Wake::Timer if may_be_woken => self.leave_wakeups(),
            Wake::Timer => {}
        }
        Ok(wake)
    }

    pub(super) fn has_passed(&self, deadline: Option<Time>) -> bool {
        deadline.is_some_and(|deadline| deadline <= self.now())
    }

    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Option<Time> {
        timeout.map(|timeout| self.shared.link.now() + timeout)
    }
}
