//! A program that runs for one connection: its start, the time that it may take, its end. Accepts
//! nothing.

use super::environment;
use crate::{
    core::time::Time,
    hooks::server::complain,
    servers::{
        conn::{Conn, Stream},
        exec::ExecSpec,
        listen::AnyStream,
    },
    sys::{connection_program::ConnectionProgram, exec::explain, sockets},
};
use std::{
    io,
    net::Shutdown,
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

/// How often to look whether a program has ended, where no descriptor tells.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// For how long, and how much, a client may go on sending what the program has not read.
const LINGER: (Duration, u64) = (Duration::from_secs(2), 16 << 20);

/// What is run, and how long it may take.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) spec: ExecSpec,
    pub(super) deadline: Option<Duration>,
    pub(super) kill_after: Duration,
}

impl Program {
    /// Runs the program for one connection, to its end. Runs in the child.
    pub(super) fn serve(&self, conn: &Conn<AnyStream>) -> io::Result<()> {
        conn.stream().block()?;
        conn.note_shared();
        let command = self.command(conn)?;
        let file = PathBuf::from(command.get_program());
        let helper = ConnectionProgram::start(command, conn.as_fd());
        let mut running = Running {
            helper: helper.map_err(|error| explain(&file, error))?,
            conn,
        };
        let status = self.wait(&mut running)?;
        if !status.success() {
            let program = self.spec.program.display();
            conn.describe(&status.to_string());
            complain!(
                "{program} for {}: {status}",
                environment::client(&conn.peer())
            );
        }
        if sockets::is_unread(conn.stream()) {
            conn.linger(LINGER.0, LINGER.1);
        }
        // A process that the program has left behind may have a copy. OK to ignore errors: the client
        // has gone.
        let _ = conn.shutdown(Shutdown::Both);
        Ok(())
    }

    fn command(&self, conn: &Conn<AnyStream>) -> io::Result<Command> {
        let mut environment = self.spec.environment(std::env::vars_os())?;
        environment::describe(&conn.peer(), &mut environment);
        let file = self.spec.find(&environment);
        let mut command = Command::new(file.unwrap_or_else(|| self.spec.program.clone().into()));
        command.arg0(&self.spec.program).args(&self.spec.args);
        command.env_clear().envs(environment);
        Ok(command)
    }

    /// Waits for the program's end, and brings it about after the deadline.
    fn wait(&self, running: &mut Running<'_>) -> io::Result<ExitStatus> {
        if let Some(status) = running.ends_within(self.deadline)? {
            return Ok(status);
        }
        complain!(
            "{} for {} has had its time",
            self.spec.program.display(),
            environment::client(&running.conn.peer())
        );
        // What it has started is ended by the parent, with the rest of the group.
        running.conn.leave_after_this();
        running.helper.terminate()?;
        match running.ends_within(Some(self.kill_after))? {
            Some(status) => Ok(status),
            None => running.kill(),
        }
    }
}

/// A program that runs for a connection.
struct Running<'a> {
    helper: ConnectionProgram,
    conn: &'a Conn<AnyStream>,
}

impl Running<'_> {
    /// Its status if it ends within this time. The child goes on sending ACKs meanwhile.
    fn ends_within(&mut self, time: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        let deadline = self.conn.time_after(time);
        loop {
            let waited = self.wait(deadline)?;
            let status = self.helper.status()?;
            if status.is_some() || !waited {
                return Ok(status);
            }
        }
    }

    /// Waits until it may have ended. False after the deadline.
    fn wait(&self, deadline: Option<Time>) -> io::Result<bool> {
        match self.helper.end() {
            Some(end) => self.conn.wait_for(end, deadline),
            None => self.conn.wait_a_little(LOOK_AGAIN, deadline),
        }
    }

    fn kill(&mut self) -> io::Result<ExitStatus> {
        self.helper.kill()?;
        let status = self.ends_within(None)?;
        status.ok_or_else(|| io::Error::other("a killed program did not end"))
    }
}
