//! Runs one object over one connection: waits, reads, writes, calls the handlers that the session
//! names. Decides nothing about them.

use super::{
    Conn, Stream,
    class::ConnClass,
    pump::ConnStep,
    session::Session,
    waiting::{is_interruption, is_wait},
};
use crate::sys::{link::Interest, sockets::Blocking};
use std::{
    io::{self, IoSlice},
    net::Shutdown,
};

/// How much is read at once, and how much output is written while handlers are still called.
const CHUNK: usize = 16 * 1024;
/// How many chunks of unread input are discarded before a connection is closed.
const LAST_CHUNKS: usize = 16;

impl<S: Stream> Conn<S> {
    /// Runs `class` over this connection, event driven, until it is disconnected.
    ///
    /// [`TcpServer::conn_class`](crate::TcpServer::conn_class) does this with each connection.
    /// While the client is silent or slow the child goes on sending ACKs.
    ///
    /// The timeouts and the deadline set on this `Conn` have no effect here; see
    /// [`Session::set_idle_timeout`] and [`Session::set_deadline`].
    ///
    /// # Errors
    ///
    /// When the operating system refuses to wait. What goes wrong with the connection is told to
    /// [`handler_error`](ConnClass::handler_error) and is no error here.
    pub fn run_class(self, class: impl ConnClass) -> io::Result<()> {
        let mut session = Session::new(self.number, self.peer());
        let comm = self.comm.share();
        session.say_ack = Box::new(move || comm.ack());
        let comm = self.comm.share();
        session.extend = Box::new(move |time| comm.extend(time));
        Driver {
            conn: &self,
            class,
            session,
            buffer: Vec::new(),
            chunk: vec![0; CHUNK],
        }
        .run()
    }
}

struct Driver<'a, S, C> {
    conn: &'a Conn<S>,
    class: C,
    session: Session,
    /// The record in hand.
    buffer: Vec<u8>,
    chunk: Vec<u8>,
}

impl<S: Stream, C: ConnClass> Driver<'_, S, C> {
    fn run(mut self) -> io::Result<()> {
        loop {
            let stopping = self.conn.comm.shutdown_requested();
            self.session.turn(self.conn.comm.now(), stopping);
            self.call_handlers();
            if self.session.is_over() {
                break;
            }
            let wrote = self.write();
            if self.session.is_late() {
                self.session.disconnect();
                continue;
            }
            let read = self.read();
            if !wrote && !read && !self.session.has_more() {
                self.wait()?;
            }
        }
        self.class.handler_stop(&mut self.session);
        if self.session.leaves {
            self.conn.leave_after_this();
        }
        self.close();
        Ok(())
    }

    fn call_handlers(&mut self) {
        while let Some(step) = self.session.next_step(&mut self.buffer) {
            self.call(step);
            // Written now, so that many answers to a client that reads them do not reach the output
            // limit.
            if self.session.writes_early(CHUNK) {
                self.write();
            }
        }
    }

    fn call(&mut self, step: ConnStep) {
        let Self {
            conn,
            class,
            session,
            buffer,
            ..
        } = self;
        match step {
            ConnStep::Start => class.handler_start(session),
            ConnStep::Input => {
                // Each record is progress, however many have arrived at once. OK to ignore: a child
                // without a parent still serves this client.
                let _ = conn.comm.begin(None);
                class.handler_input(session, buffer);
            }
            ConnStep::Put => class.handler_put(session, buffer),
            ConnStep::Error(operation, error) => class.handler_error(session, operation, &error),
            ConnStep::Flush => class.handler_flush(session),
            ConnStep::Shutdown => class.handler_shutdown(session),
            ConnStep::State(state) => class.handler_state(session, &state),
            ConnStep::Stopping => class.handler_stopping(session),
        }
    }

    /// Writes what can be written. True if something was written or failed.
    fn write(&mut self) -> bool {
        let mut progress = false;
        while !self.session.output().is_empty() {
            let parts = [IoSlice::new(self.session.output())];
            match self.conn.send(&parts, Blocking::Never) {
                Ok(count) => self.session.wrote(count),
                Err(error) if is_wait(&error) => break,
                Err(error) if is_interruption(&error) => continue,
                Err(error) => self.session.write_failed(error),
            }
            progress = true;
        }
        progress
    }

    /// Reads once, a bounded amount. True unless there was nothing to read.
    fn read(&mut self) -> bool {
        if !self.session.wants_read() {
            return false;
        }
        match self.receive() {
            Ok(0) => self.session.input_ended(),
            Ok(count) => self.session.received(&self.chunk[..count]),
            Err(error) if is_wait(&error) => return false,
            Err(error) if is_interruption(&error) => {}
            Err(error) => self.session.read_failed(error),
        }
        true
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.conn.receive(&mut self.chunk, Blocking::Never)
    }

    fn wait(&self) -> io::Result<()> {
        let comm = &self.conn.comm;
        let deadline = self.session.next_alarm();
        let stream = self.conn.stream.as_fd();
        let interest = match (self.session.wants_read(), !self.session.output().is_empty()) {
            (true, false) => Interest::Read,
            (false, true) => Interest::Write,
            (true, true) => Interest::Both,
            (false, false) => Interest::Neither,
        };
        if self.session.waits_for_stop() {
            comm.wait_request(stream, interest, deadline)?;
        } else {
            comm.wait_until(stream, interest, deadline)?;
        }
        Ok(())
    }

    /// Closing a socket with unread input resets it, and the client may lose the last answer: so
    /// input that has arrived is discarded first. Waits for the client only if the object has asked
    /// to linger.
    fn close(&mut self) {
        let linger = self.session.linger;
        if !linger.is_zero() && !self.session.is_late() {
            self.conn.linger(linger, Session::DROPPED);
            return;
        }
        if self.conn.stream.end(Shutdown::Write).is_err() {
            return;
        }
        for _ in 0..LAST_CHUNKS {
            if !matches!(self.receive(), Ok(count) if count > 0) {
                return;
            }
        }
    }
}
