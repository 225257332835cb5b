//! The server for programs as the loop uses it: started, executed in a child, drained, stopped. Has no
//! attributes of its own.

use super::{
    ExecServer,
    spec::{LaunchValues, Socket},
};
use crate::{
    core::{
        child::Signal,
        error::{Error, Operation},
    },
    hooks::{comm::Comm, server::ChildServer},
    listeners::{ListenerStatus, open::shut_down},
    servers::listen::{Listening, check_taken_once},
    sys,
};
use std::{io, os::fd::BorrowedFd, time::Duration};

impl ChildServer for ExecServer {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        check_stop_signal(self.stop_signal)?;
        check_reopen_signal(self.reopen_signal)?;
        check_taken_once(&self.listen).map_err(|reason| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, reason);
            Error::new(Operation::TakeOver, "LISTEN_FDS", error)
        })?;
        self.listening.clear();
        for listen in &self.listen {
            self.listening.extend(listen.open(self.backlog)?);
        }
        // An invalid program or environment would fail in every child: it is found here, once.
        self.image(std::process::id()).map(drop)
    }

    fn stop(&mut self) {
        self.listening.clear();
    }

    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }

    /// The program learns it from PREFORK_SEND_ACK.
    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.send_ack = interval;
    }

    /// Returns only if the program cannot be run, or the child was told to stop before.
    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        let image = self.image(std::process::id())?;
        let descriptors: Vec<BorrowedFd<'_>> =
            self.listening.iter().map(Listening::as_fd).collect();
        let (stdin, stop_signal) = (self.socket_at_stdin, self.stop_signal);
        sys::exec::exec(&image, &descriptors, stdin, stop_signal, || {
            comm.shutdown_requested()
        })
    }

    fn begin_drain(&mut self) {
        self.listening.iter_mut().for_each(Listening::refuse);
    }

    fn is_queued(&mut self) -> bool {
        self.listening.iter().any(Listening::is_queued)
    }

    fn close_listeners(&mut self) {
        self.listening.iter().for_each(Listening::shut_down);
        self.listening.clear();
    }

    fn lost(&mut self) -> Option<io::Error> {
        let mut listening = self.listening.iter();
        let lost = listening.find(|listening| !listening.is_listening())?;
        Some(shut_down(lost.status().name).into())
    }

    fn execs(&mut self) -> bool {
        true
    }

    fn own_group(&mut self) -> bool {
        self.process_group
    }

    fn stop_signal(&mut self) -> Signal {
        self.stop_signal
    }

    fn reopen_signal(&mut self) -> Option<Signal> {
        self.reopen_signal
    }

    fn listeners(&mut self) -> Vec<ListenerStatus> {
        self.listening.iter().map(Listening::status).collect()
    }
}

impl ExecServer {
    fn image(&self, pid: u32) -> io::Result<sys::exec::ExecveCall> {
        let sockets: Vec<Socket> = self.listening.iter().map(Socket::from).collect();
        let launch = LaunchValues {
            pid,
            sockets: &sockets,
            send_ack: self.send_ack,
        };
        self.spec.image(std::env::vars_os(), launch)
    }
}

/// Refuses signals that stop or continue a program instead of ending it.
fn check_stop_signal(signal: Signal) -> io::Result<()> {
    use Signal::{BackgroundRead, BackgroundWrite, Continue, Stop};
    if matches!(signal, Stop | Continue | BackgroundRead | BackgroundWrite) {
        let reason = format!("{signal:?} cannot tell a program to stop");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(())
}

/// Refuses signals that stop or kill a program whatever it does.
fn check_reopen_signal(signal: Option<Signal>) -> io::Result<()> {
    if let Some(signal @ (Signal::Kill | Signal::Stop)) = signal {
        let reason = format!("{signal:?} cannot tell a program to reopen its logs");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(())
}
