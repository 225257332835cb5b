//! A client of the status helper: requests as bytes, answers taken apart.

use std::io::Write;
use std::time::Duration;

use crate::json::Json;
use crate::support::{Address, Client, SOON, Server, World, connect, until};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Self {
            code: code.unwrap_or_else(|| panic!("no status: {head:?}")),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}

/// A server of two children with a status at a TCP port.
pub fn told(world: &mut World, arguments: &[&str]) -> (Server, Address) {
    let server = world.spawn("told", &[&["--status", "0"], arguments].concat());
    server.address();
    let status = status_of(&server, "status at ");
    (server, status)
}

/// The address on the line that begins so.
pub fn status_of(server: &Server, begin: &str) -> Address {
    let stdout = server.expect_stdout("an address", |text| text.contains(begin));
    let line = stdout.lines().find_map(|line| line.strip_prefix(begin));
    Address::parse(line.unwrap())
}

/// Sends bytes, and reads until the helper closes.
pub fn exchange(address: &Address, bytes: &[u8]) -> String {
    let mut client = connect(address);
    client.write_all(bytes).unwrap();
    client.read_rest()
}

/// Asks for a path on a connection of its own.
pub fn get(address: &Address, path: &str) -> Answer {
    get_accepting(address, path, "*/*")
}

pub fn get_accepting(address: &Address, path: &str, accept: &str) -> Answer {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    Answer::parse(&exchange(address, request.as_bytes()))
}

/// The document.
pub fn document(address: &Address) -> Json {
    let answer = get(address, "/status.json");
    assert_eq!(answer.code, 200, "{answer:?}");
    Json::parse(&answer.body)
}

/// Waits until `fact` yields something for the document.
#[track_caller]
pub fn until_told<T>(address: &Address, what: &str, mut fact: impl FnMut(&Json) -> Option<T>) -> T {
    until(what, SOON, || fact(&document(address)))
}

/// Waits until a probe says this code, and returns the text.
#[track_caller]
pub fn until_code(address: &Address, path: &str, code: u16, deadline: Duration) -> String {
    until(&format!("{path} to say {code}"), deadline, || {
        let answer = get(address, path);
        (answer.code == code).then_some(answer.body)
    })
}

/// A client whose child holds its connection, and the pid of the child.
pub fn hold(server: &Server) -> (Client, u32) {
    let mut client = connect(&server.address());
    let pid = client.ask("pid").parse().unwrap();
    (client, pid)
}
