//! What is asked and answered in every benchmark, by every server: one small HTTP exchange.

use std::io::{self, Read, Write};

/// The text of every answer. It ends the answer, and nothing but an answer ends with it.
pub(crate) const BODY: &str = "It works, and quite fast.\n";
/// Of a client that comes for one answer; the last one on a connection that was kept.
pub(crate) const LAST_REQUEST: &[u8] =
    b"GET /index.txt HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench/1\r\nConnection: close\r\n\r\n";
/// Of a client that will ask again.
pub(crate) const REQUEST: &[u8] =
    b"GET /index.txt HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n";
const LAST: &[u8] = b"Connection: close\r\n\r\n";
pub(crate) const LAST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Content-Length: 26\r\nConnection: close\r\n\r\nIt works, and quite fast.\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Content-Length: 26\r\n\r\nIt works, and quite fast.\n";

/// The work of one connection, the same for all servers of this file's kind: answers until the
/// client has asked for the last time, or has gone.
pub(crate) fn answer(mut stream: impl Read + Write) -> io::Result<()> {
    let mut request = [0; 1024];
    let mut length = 0;
    loop {
        match stream.read(&mut request[length..])? {
            0 if length == 0 => return Ok(()),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length += count,
        }
        if request[..length].ends_with(LAST) {
            return stream.write_all(LAST_ANSWER);
        }
        if request[..length].ends_with(b"\r\n\r\n") {
            stream.write_all(ANSWER)?;
            length = 0;
        }
    }
}

/// For a count of wake-ups: an answer to nobody's question, so that no child ever sleeps but for a
/// connection.
pub(crate) fn greet(mut stream: impl Write) -> io::Result<()> {
    stream.write_all(LAST_ANSWER)
}

/// The answer with the number of the child in it, in ten digits that the load reads.
pub(crate) fn signed(number: u32) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nX-Child: {number:010}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{BODY}",
        BODY.len()
    )
    .into_bytes()
}

/// The number that `signed` has put into an answer.
pub(crate) fn signature(answer: &[u8]) -> Option<usize> {
    let digits = answer.get(26..36)?;
    digits.iter().try_fold(0_usize, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + usize::from(digit - b'0'))
    })
}

/// Reads one request, and writes an answer that was made before.
pub(crate) fn answer_with(mut stream: impl Read + Write, text: &[u8]) -> io::Result<()> {
    let mut request = [0; 1024];
    let mut length = 0;
    while !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length += count,
        }
    }
    stream.write_all(text)
}
