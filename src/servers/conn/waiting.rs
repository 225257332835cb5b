//! Reading and writing that wait for the client, however slow it is, and go on sending ACKs meanwhile.
//! Knows no bounds of its own: see `bounds`.

use super::{Conn, Stream, bounds::too_slow};
use crate::{
    core::time::Time,
    sys::{link::Interest, sockets::Blocking},
};
use std::{
    io::{self, IoSlice, Read, Write},
    os::fd::BorrowedFd,
    time::Duration,
};

impl<S: Stream> Conn<S> {
    /// Waits, in place of for the client, for another descriptor that tells of its service. False
    /// after the deadline.
    pub(in crate::servers) fn wait_for(
        &self,
        fd: BorrowedFd<'_>,
        until: Option<Time>,
    ) -> io::Result<bool> {
        self.comm.wait_until(fd, Interest::Read, until)
    }

    /// Waits for a short time. False after the deadline.
    pub(in crate::servers) fn wait_a_little(
        &self,
        time: Duration,
        until: Option<Time>,
    ) -> io::Result<bool> {
        let end = self.comm.now() + time;
        let end = until.map_or(end, |until| until.min(end));
        let stream = self.stream.as_fd();
        self.comm.wait_until(stream, Interest::Neither, Some(end))?;
        Ok(until.is_none_or(|until| self.comm.now() < until))
    }

    /// Repeats `attempt` until it has moved bytes or fails for good, and waits in between. All this
    /// counts as a wait for the client.
    pub(super) fn wait_for_client(
        &self,
        interest: Interest,
        timeout: Option<Duration>,
        attempt: impl FnMut(&S, Blocking) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let start = self.bounds.is_paced().then(|| self.comm.now());
        let moved = self.try_until_ready(interest, timeout, attempt);
        if let Some(start) = start {
            let bytes = *moved.as_ref().unwrap_or(&0);
            self.bounds.note(self.comm.now().since(start), bytes);
        }
        moved
    }

    fn try_until_ready(
        &self,
        interest: Interest,
        timeout: Option<Duration>,
        mut attempt: impl FnMut(&S, Blocking) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // With a client that is never slow the connection never waits, so the ACK is sent here. OK
        // to ignore: the connection in hand is served to its end in any case.
        let _ = self.comm.begin(None);
        let timeout = self.cut_paced(timeout)?;
        self.look_around().map_err(|_| too_slow())?;
        let mut blocking = self.first_attempt(timeout);
        let mut waited = false;
        let mut deadline = match blocking {
            Blocking::Allowed => self.comm.deadline(timeout),
            Blocking::Never => None,
        };
        loop {
            match attempt(&self.stream, blocking) {
                // A signal came: it may be the stop signal, which the wait below checks.
                Err(error) if is_wait(&error) || is_interruption(&error) => {}
                result => {
                    if waited {
                        // OK to ignore, as above. What the handler does next may take long.
                        let _ = self.comm.begin(None);
                    }
                    return result;
                }
            }
            blocking = Blocking::Never;
            waited = true;
            deadline = deadline.or_else(|| self.comm.deadline(timeout));
            self.wait_patiently(interest, deadline)?;
        }
    }

    /// Waits until the client is ready for `interest`. An error after `deadline`, or when others
    /// wait for this child and the client has had its time.
    fn wait_patiently(&self, interest: Interest, deadline: Option<Time>) -> io::Result<()> {
        let stream = self.stream.as_fd();
        loop {
            let look_at = self.look_around().map_err(|_| too_slow())?;
            let until = [deadline, look_at].into_iter().flatten().min();
            if self.comm.wait_until(stream, interest, until)? {
                return Ok(());
            }
            if until == deadline {
                return Err(too_slow());
            }
        }
    }

    /// Whether an operation that is to take `timeout` at most may begin by blocking.
    fn first_attempt(&self, timeout: Option<Duration>) -> Blocking {
        match (self.first_wait, timeout) {
            (None, _) => Blocking::Never,
            (Some(first_wait), Some(timeout)) if timeout < first_wait => Blocking::Never,
            (Some(_), _) => Blocking::Allowed,
        }
    }
}

impl<S: Stream> Read for &Conn<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = self.bounds.read.get();
        let count = self.wait_for_client(Interest::Read, timeout, |_, blocking| {
            self.receive(buffer, blocking)
        })?;
        self.bounds.heard.set(true);
        Ok(count)
    }
}

impl<S: Stream> Write for &Conn<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let timeout = self.bounds.write.get();
        self.wait_for_client(Interest::Write, timeout, |_, blocking| {
            self.send(parts, blocking)
        })
    }

    /// Nothing is buffered.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Stream> Read for Conn<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl<S: Stream> Write for Conn<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn is_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

pub(super) fn is_interruption(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}
