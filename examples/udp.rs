//! A custom server for datagrams. The children share one UDP socket; each answers in capitals.
//!
//! cargo run --release --example udp
//! Send it datagrams with `nc -u 127.0.0.1 7781`; the datagram `spin` makes its child hang.

mod common;

use common::{Flags, Result, Usage};
use prefork_server::{ChildServer, Comm, Error, Operation};
use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    process::ExitCode,
    time::Duration,
};

/// Does for datagrams what a stock server does for connections.
struct UdpServer {
    address: String,
    port: u16,
    max_requests: u64,
    send_ack: Option<Duration>,
    socket: Option<UdpSocket>,
}

impl UdpServer {
    fn new(flags: &Flags) -> Self {
        Self {
            address: flags.address.clone(),
            port: flags.port,
            max_requests: flags.max_requests,
            send_ack: None,
            socket: None,
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local_addr().ok()
    }
}

impl ChildServer for UdpServer {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    /// Non-blocking: if several children are woken for a datagram, one gets it, and the others must
    /// not block.
    fn start(&mut self) -> io::Result<()> {
        let name = format!("{}:{}", self.address, self.port);
        let socket = UdpSocket::bind((self.address.as_str(), self.port))
            .map_err(|error| Error::new(Operation::Bind, name, error))?;
        socket.set_nonblocking(true)?;
        self.socket = Some(socket);
        Ok(())
    }

    fn stop(&mut self) {
        self.socket = None;
    }

    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }

    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.send_ack = interval;
    }

    /// The loop of the stock servers, with datagrams instead of connections. It tries before it
    /// waits, and once more when it is told to stop, in case the wake-up for a datagram was spent
    /// on this child.
    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(ErrorKind::NotConnected)?;
        let mut buffer = vec![0; 65_536];
        let mut served = 0;
        loop {
            // OK to ignore: without a parent the client is still answered.
            let _ = comm.attend();
            let stopping = comm.shutdown_requested();
            match socket.recv_from(&mut buffer) {
                Ok((length, client)) => {
                    let _ = comm.busy();
                    answer(socket, &mut buffer[..length], client);
                    served += 1;
                    if stopping || served == self.max_requests {
                        return Ok(());
                    }
                    if !comm.coalesces() {
                        let _ = comm.not_busy();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // A child that leaves does not say NOT_BUSY: it cannot take another.
                    if stopping {
                        return Ok(());
                    }
                    let _ = comm.not_busy();
                    // Whatever has ended the wait: the next attempt shows it.
                    comm.wait(&[socket.as_fd()])?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn answer(socket: &UdpSocket, datagram: &mut [u8], client: SocketAddr) {
    if datagram.trim_ascii_end() == b"spin" {
        loop {
            std::hint::spin_loop();
        }
    }
    datagram.make_ascii_uppercase();
    // Errors of clients are not worth a warning.
    if let Err(error) = socket.send_to(datagram, client) {
        eprintln!("answering {client}: {error}");
    }
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let flags = Flags::parse(&Usage::new(
        "Datagrams: says in capitals what it is sent. Send `spin` to hang a child.",
        7781,
    ))?;
    let prefork = flags
        .builder(UdpServer::new(&flags))
        .kill_timeout(Duration::from_secs(1))
        .start()?;
    let address = prefork
        .server()
        .local_addr()
        .ok_or_else(|| std::io::Error::other("no address"))?;
    let hint = format!("try: nc -u {} {}", address.ip(), address.port());
    common::run(prefork, &[address.to_string()], &hint)
}
