//! Ready-made answers to clients that are not served. Sends what fits at once; waits for no client.

use super::conn::{Conn, Stream};
use std::{borrow::Cow, io, net::Shutdown, time::Duration};

/// How much of a request that has come is read away. More makes the answer unsure.
const READ_AWAY: u64 = 64 * 1024;

/// A ready-made answer to a client that is not served.
///
/// For [`overloaded`](crate::servers::StreamServer::overloaded), or any other place where a child has
/// no time for a client.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Reply(Cow<'static, [u8]>);

impl Reply {
    /// An answer of these bytes.
    pub fn canned(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self(bytes.into())
    }

    /// HTTP: 503, with Retry-After in whole seconds, rounded up, and Connection: close.
    pub fn http_503(retry_after: Duration) -> Self {
        const TEXT: &str = "The server is too busy. Please try again later.\n";
        let seconds = retry_after.as_millis().div_ceil(1_000);
        let length = TEXT.len();
        let bytes = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nRetry-After: {seconds}\r\nConnection: close\r\n\r\n{TEXT}"
        );
        Self(bytes.into_bytes().into())
    }

    /// SMTP: 421, from the host of that name. The client tries again later.
    pub fn smtp_421(host: &str) -> Self {
        let bytes = format!("421 {host} Too busy, try again later\r\n");
        Self(bytes.into_bytes().into())
    }

    /// What is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Sends the answer, without waiting for the client, and ends the writing side.
    ///
    /// What the client has sent is read away, up to 64 KiB, since a close with unread bytes resets
    /// the connection and the answer is lost. A client that is still sending may be reset; for one
    /// that must not be, call [`Conn::linger`] after this. Of an answer that is longer than the
    /// socket's buffer, the rest is not sent.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub fn send<S: Stream>(&self, conn: &Conn<S>) -> io::Result<()> {
        conn.write_at_once(&self.0)?;
        conn.shutdown(Shutdown::Write)?;
        conn.read_away_at_once(READ_AWAY);
        Ok(())
    }

    /// This answer as a hook for [`overloaded`](crate::servers::StreamServer::overloaded).
    pub fn into_hook<S: Stream>(self) -> impl FnMut(Conn<S>, Duration) -> io::Result<()> + 'static {
        move |conn, _| self.send(&conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(reply: &Reply) -> Vec<String> {
        let text = String::from_utf8(reply.bytes().to_vec()).unwrap();
        text.split("\r\n").map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_503_says_when_to_come_back_and_how_long_its_text_is() {
        for (after, seconds) in [(1_000, 1), (1_001, 2), (0, 0), (90_000, 90)] {
            let lines = lines(&Reply::http_503(Duration::from_millis(after)));
            assert_eq!(lines[0], "HTTP/1.1 503 Service Unavailable");
            assert!(
                lines.contains(&format!("Retry-After: {seconds}")),
                "{lines:?}"
            );
            assert!(lines.contains(&"Connection: close".to_owned()));
            let end = lines.iter().position(String::is_empty).unwrap();
            let body = lines[end + 1..].join("\r\n");
            assert!(lines[..end].contains(&format!("Content-Length: {}", body.len())));
        }
    }

    #[test]
    fn a_421_is_one_line() {
        let lines = lines(&Reply::smtp_421("mail.example.org"));
        assert_eq!(
            lines,
            ["421 mail.example.org Too busy, try again later", ""]
        );
    }

    #[test]
    fn what_is_canned_is_sent_as_it_is() {
        assert_eq!(Reply::canned(&b"busy\0"[..]).bytes(), b"busy\0");
        assert_eq!(Reply::canned(vec![1, 2]).bytes(), [1, 2]);
    }
}
