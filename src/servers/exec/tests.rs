//! Sockets of a server for programs, without any program.

use super::*;
use crate::{
    core::error::{Error, Operation},
    hooks::server::ChildServer,
};

#[test]
fn a_socket_that_was_shut_down_is_named() {
    let mut server = ExecServer::new("true")
        .listen("127.0.0.1:0")
        .listen("127.0.0.1:0");
    server.start().expect("two sockets");
    assert!(server.lost().is_none());
    server.listening[1].shut_down();
    let error = server.lost().expect("an error");
    let error = error.downcast::<Error>().expect("a typed one");
    assert_eq!(error.operation(), Operation::Accept);
    assert_eq!(error.object(), server.local_addrs()[1].to_string());
}
