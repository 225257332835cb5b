//! Clients that send nothing, that go before or while they are served, and that the server refuses.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrLike};

use super::{alone, unimpressed};
use crate::subject::{Held, ends_well, send};
use crate::support::{Client, SOON, Scenarios, Signal, World, connect, processes, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    d08_mute_clients_are_sent_away_and_the_others_served,
    d13_connections_that_are_gone_already_cost_nobody_else,
    d14_writing_to_a_client_that_has_gone_is_an_error_and_no_signal,
    d15_a_helper_does_not_keep_the_connection_open,
    d18_a_connection_can_be_refused_before_it_is_served,
];

/// A handler sets a time limit for its client (`Conn::set_read_timeout`): silent clients are
/// dropped after it, and the clients queued behind them are served. The parent times out no child
/// for that.
fn d08_mute_clients_are_sent_away_and_the_others_served(world: &mut World) {
    let arguments = ["--max-clients", "3", "--patience", "1000"];
    let server = world.spawn("shop", &arguments);
    let address = server.address();
    let mut mute: Vec<Client> = (0..12).map(|_| connect(&address)).collect();
    Held::new(&address).is_served();
    mute.iter_mut().for_each(Client::eof);
    assert!(server.children().len() <= 3);
    // That clients wait is told, and no error.
    let stderr = server.stderr();
    assert!(
        stderr.lines().all(|line| line.contains("saturated: ")),
        "{stderr}"
    );
    ends_well(&server);
}

/// A client that has reset or closed before the accept causes an end of input or an error of its
/// own: the child logs nothing and takes the next client.
fn d13_connections_that_are_gone_already_cost_nobody_else(world: &mut World) {
    let (server, address, child) = alone(world, &[]);
    let held = Held::new(&address);
    let mut half_open = Vec::new();
    for _ in 0..10 {
        connect(&address).reset();
        drop(connect(&address));
        let client = connect(&address);
        client.close_write();
        half_open.push(client);
    }
    let mut last = connect(&address);
    last.send_line("who");
    drop(held);
    assert_eq!(last.read_line(), format!("{child} who"));
    drop(last);
    half_open.iter_mut().for_each(Client::eof);
    unimpressed(&server, &address, child);
    ends_well(&server);
}

/// SIGPIPE is ignored, in the parent and in the children: the handler gets EPIPE, which is not
/// logged.
fn d14_writing_to_a_client_that_has_gone_is_an_error_and_no_signal(world: &mut World) {
    // With SIGPIPE at its default in a new child (`signals::become_child`) the child died of it.
    let (server, address, child) = alone(world, &[]);
    for _ in 0..3 {
        let mut client = connect(&address);
        client.send_line("pour");
        client.read_exact(&mut [0]).unwrap();
        drop(client);
    }
    server.expect_stdout("three errors", |text| {
        text.matches("STDOUT: broken pipe").count() == 3
    });
    unimpressed(&server, &address, child);
    ends_well(&server);
}

/// Connections are close-on-exec from the moment they are accepted, so a program that the handler starts
/// does not hold them.
fn d15_a_helper_does_not_keep_the_connection_open(world: &mut World) {
    // Without SOCK_CLOEXEC in `try_accept` the client waited for the helper.
    let (server, address, child) = alone(world, &[]);
    let mut client = connect(&address);
    let helper: u32 = client.ask("helper").parse().unwrap();
    client.eof();
    assert!(processes::is_alive(helper));
    unimpressed(&server, &address, child);
    send(helper, Signal::SIGKILL);
    world.expect_orphans();
    ends_well(&server);
}

/// There is no limit per client address, but `handler_connection` sees each connection before it is
/// served and can refuse it: it is closed, and counts as a connection of that child.
fn d18_a_connection_can_be_refused_before_it_is_served(world: &mut World) {
    let (server, address, child) = alone(world, &["--refuse", "127.0.0.2"]);
    let port = address.port();
    for _ in 0..3 {
        let Some(mut refused) = connect_from([127, 0, 0, 2], port) else {
            eprintln!("skipped: this machine has no 127.0.0.2");
            break;
        };
        let mut rest = Vec::new();
        refused.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
    unimpressed(&server, &address, child);
    ends_well(&server);
}

fn connect_from(source: [u8; 4], port: u16) -> Option<TcpStream> {
    let any = SockaddrIn::from(SocketAddrV4::new(source.into(), 0));
    let there = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let flags = SockFlag::SOCK_CLOEXEC;
    let client = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    socket::bind(client.as_raw_fd(), &any as &dyn SockaddrLike).ok()?;
    socket::connect(client.as_raw_fd(), &there).unwrap();
    let client = TcpStream::from(client);
    client.set_read_timeout(Some(SOON)).unwrap();
    Some(client)
}
