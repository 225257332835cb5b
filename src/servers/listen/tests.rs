//! Addresses as text, and the sockets that are opened at them.

use super::*;
use nix::sys::socket::{getsockopt, sockopt};
use std::net::SocketAddr;

/// A socket that `ExecServer` opens for a program has the option too.
#[test]
fn o01_nothing_is_delayed_on_a_socket_of_a_program_unless_it_is_asked_for() {
    for (listen, expected) in [
        (Listen::tcp("127.0.0.1:0"), true),
        (Listen::tcp("127.0.0.1:0").no_delay(false), false),
    ] {
        let listening = listen.open(8).expect("a socket").remove(0);
        let found = getsockopt(&listening.as_fd(), sockopt::TcpNoDelay);
        assert_eq!(found, Ok(expected));
        let status = listening.status();
        assert_eq!(status.queued, Some(0));
        assert!(status.name.starts_with("127.0.0.1:"));
    }
}

#[test]
fn an_address_is_read_with_its_options() {
    let read = |text: &str| text.parse::<Listen>();
    let tcp = read("[::1]:80, name=http, no_delay=false").expect("an address");
    assert!(matches!(tcp.at, ListenAddress::Tcp(address) if address == "[::1]:80"));
    assert_eq!((tcp.name.as_deref(), tcp.no_delay), (Some("http"), false));
    let unix = read("./x.sock,mode=600").expect("a path");
    assert!(matches!(unix.at, ListenAddress::Unix { mode: 0o600, .. }));
    assert!(read(":80").is_ok());
    let taken = |text: &str| match read(text).expect("a word").at {
        ListenAddress::Inherited(WantedSockets::All) => String::new(),
        ListenAddress::Inherited(WantedSockets::Named(name)) => name,
        ListenAddress::Tcp(_) | ListenAddress::Unix { .. } => panic!("{text} is not taken over"),
    };
    assert_eq!(
        (taken("systemd"), taken("systemd:a b")),
        ("".into(), "a b".into())
    );
    for bad in [
        "",
        "80",
        "localhost",
        ":http",
        ":80,mode=600",
        "systemd,mode=600",
        "/run/x.sock,mode=9",
        "/run/x.sock,mode=1777",
        "/run/x.sock,no_delay=false",
        ":80,nmae=x",
        ":80,name=a:b",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_comma_after_a_backslash_is_no_end() {
    let read = |text: &str| text.parse::<Listen>().expect("an address");
    let path = |listen: &Listen| match &listen.at {
        ListenAddress::Unix { path, .. } => path.display().to_string(),
        other => panic!("{other:?}"),
    };
    let odd = read(r"/run/a\,b\,mode=1,mode=600,name=x\,y");
    assert_eq!(path(&odd), "/run/a,b,mode=1");
    assert!(matches!(odd.at, ListenAddress::Unix { mode: 0o600, .. }));
    assert_eq!(odd.name.as_deref(), Some("x,y"));
    assert_eq!(path(&read("/run/a\\x2d.sock\\")), "/run/a\\x2d.sock\\");
    let cut = "/run/a,b.sock".parse::<Listen>().expect_err("a refusal");
    assert!(cut.ends_with(r"A comma of a path is written \,"), "{cut}");
    assert_eq!(path(&"/run/a,b.sock".into()), "/run/a,b.sock", "as it is");
}

#[test]
fn no_socket_of_systemds_is_taken_twice() {
    let check = |texts: &[&str]| {
        let listen = texts.iter().map(|text| text.parse().expect("an address"));
        check_taken_once(&listen.collect::<Vec<_>>())
    };
    for good in [
        &["systemd", ":0", ":0"][..],
        &["systemd:a", "systemd:b", "/run/x"],
    ] {
        assert_eq!(check(good), Ok(()));
    }
    for (bad, named) in [
        (["systemd:a", "systemd"], "\"systemd:a\""),
        (["systemd", "systemd:a"], "\"systemd:a\""),
        (["systemd", "systemd"], "\"systemd\" is there twice"),
        (["systemd:a", "systemd:a"], "\"systemd:a\" is there twice"),
    ] {
        let reason = check(&bad).expect_err("a refusal");
        assert!(reason.contains(named), "{reason}");
    }
}

/// Clients of both families reach it, where the system has both.
#[test]
fn a_port_alone_is_all_addresses() {
    let listening = Listen::tcp(":0").open(8).expect("a socket");
    let address = listening[0].tcp_address().expect("an address");
    assert!(address.ip().is_unspecified());
    let loopback = SocketAddr::from(([127, 0, 0, 1], address.port()));
    std::net::TcpStream::connect(loopback).expect("a connection");
}

#[test]
fn an_address_in_use_is_refused() {
    let first = Listen::tcp("127.0.0.1:0").open(8).expect("a socket");
    let again = Listen::tcp(first[0].status().name).open(8);
    let error = again.expect_err("a refusal");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}
