//! Gets the status of a server by HTTP, over TCP or a UNIX socket. Understands none of it.

use prefork_server::StatusAddress;
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Duration,
};

/// How long a connection, and a read, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A status is not longer: it would be one of 100,000 children.
const LONGEST: u64 = 64 << 20;

/// The document `/status.json` of the server that tells its status at `address`.
pub(crate) fn status(address: &StatusAddress) -> io::Result<String> {
    let address = address.to_string();
    match address.contains('/') {
        true => {
            let stream = UnixStream::connect(&address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            get(stream)
        }
        false => get(connect(&address)?),
    }
}

/// Tries each address of a host.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other(format!("{address} has no address"));
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn get(mut stream: impl Read + Write) -> io::Result<String> {
    stream
        .write_all(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    body(&answer)
}

/// The body of an answer that says 200.
fn body(answer: &[u8]) -> io::Result<String> {
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or_else(|| wrong("it does not answer in HTTP"))?;
    let (head, body) = answer.split_at(end + 4);
    let first = head.split(|byte| *byte == b'\r').next().unwrap_or(head);
    let line = String::from_utf8_lossy(first);
    if !line.starts_with("HTTP/1.") || line.split(' ').nth(1) != Some("200") {
        return Err(wrong(&format!("it answers {line:?}")));
    }
    String::from_utf8(body.to_vec()).map_err(|_| wrong("its answer is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_answer_has_a_body() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(body(good).ok().as_deref(), Some("{}"));
        for (bad, why) in [
            (&b""[..], "it does not answer in HTTP"),
            (b"220 smtp.example\r\n", "it does not answer in HTTP"),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
            (b"SIP/2.0 200 OK\r\n\r\n", "SIP/2.0"),
            (b"HTTP/1.1 200 OK\r\n\r\n\xff", "not UTF-8"),
        ] {
            let error = body(bad).expect_err("an error").to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
