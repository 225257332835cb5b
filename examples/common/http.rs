//! A small part of HTTP/1.1 for the examples: reads requests one after the other and answers with
//! text.
//!
//! It never guesses where a request ends. If two parties disagree about that, one can take part of
//! a body for a request, so ambiguous requests are refused and the connection ends (RFC 9112,
//! sections 6.3 and 11.2).

#![allow(dead_code, unreachable_pub, reason = "each example uses a part of it")]

use httparse::Status::{Complete, Partial};
use prefork_server::servers::TcpConn;
use std::{
    borrow::Cow,
    io::{self, Read, Write},
    time::Duration,
};

/// How large the head of a request may be.
const LONGEST_HEAD: usize = 8 * 1024;
/// How large a body may be that is read to reach the next request on the connection.
const LONGEST_BODY: u64 = 1024 * 1024;
/// How many fields a head may have.
const MOST_FIELDS: usize = 64;
/// How long to wait for a client after the last answer, and how much it may send.
const LINGER: (Duration, u64) = (Duration::from_secs(2), 16 * 1024 * 1024);

/// The code and the phrase of a status line.
pub type Status = &'static str;

pub const OK: Status = "200 OK";
pub const BAD_REQUEST: Status = "400 Bad Request";
pub const NOT_FOUND: Status = "404 Not Found";
pub const METHOD_NOT_ALLOWED: Status = "405 Method Not Allowed";
pub const EXPECTATION_FAILED: Status = "417 Expectation Failed";
pub const HEAD_TOO_LARGE: Status = "431 Request Header Fields Too Large";
pub const NOT_IMPLEMENTED: Status = "501 Not Implemented";

/// A request, without its body.
#[derive(Debug, Eq, PartialEq)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// The length of the body; `None` if it is chunked.
    body: Option<u64>,
    /// Whether the client waits for 100 Continue before it sends its body.
    waits_for_continue: bool,
}

impl Request {
    /// The last request of a connection and the code of its answer, for an access log: `GET / 200`.
    pub fn described(&self, answer: &Answer) -> String {
        let code = answer.status.split(' ').next().unwrap_or_default();
        format!("{} {} {code}", self.method, self.path)
    }
}

/// An answer: text, and more header fields.
#[derive(Debug)]
pub struct Answer {
    pub status: Status,
    /// More fields, each with its end of line.
    pub fields: Cow<'static, str>,
    pub text: String,
}

impl Answer {
    pub const fn new(status: Status, text: String) -> Self {
        Self {
            status,
            fields: Cow::Borrowed(""),
            text,
        }
    }
}

/// The requests of a connection.
#[derive(Debug)]
pub struct Requests<C> {
    conn: C,
    /// What has been read and belongs to the next request.
    unread: Vec<u8>,
}

impl<C: Read + Write> Requests<C> {
    pub const fn new(conn: C) -> Self {
        Self {
            conn,
            unread: Vec::new(),
        }
    }

    /// What the requests come from.
    pub const fn conn(&self) -> &C {
        &self.conn
    }

    /// Whether something of the next request has been read.
    pub const fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The next request; its body has been skipped. `None` when the client has no more requests, or
    /// one was refused: then close the connection.
    pub fn next_request(&mut self) -> io::Result<Option<Request>> {
        match self.read_head()? {
            Ok(Some(request)) => self.skip_body(request).map(Some),
            Ok(None) => Ok(None),
            Err(status) => {
                let refusal = Answer::new(status, "This request is refused.\n".to_owned());
                self.send(&refusal, false, false)?;
                Ok(None)
            }
        }
    }

    /// Answers `request`. The connection is to be closed unless both sides keep it alive.
    pub fn answer(&mut self, request: &Request, answer: &Answer, keep: bool) -> io::Result<()> {
        let keep_alive = keep && request.keep_alive;
        self.send(answer, keep_alive, request.method == "HEAD")
    }

    fn send(&mut self, answer: &Answer, keep_alive: bool, head_only: bool) -> io::Result<()> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let body = if head_only { "" } else { &answer.text };
        // Written in one piece: a second one could wait for the client's ACK of the first.
        let response = format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             {}Connection: {connection}\r\n\r\n{body}",
            answer.status,
            answer.text.len(),
            answer.fields,
        );
        self.conn.write_all(response.as_bytes())?;
        self.conn.flush()
    }

    /// Reads a head and removes it from the unread bytes. `None` at the end of the connection.
    fn read_head(&mut self) -> io::Result<Result<Option<Request>, Status>> {
        loop {
            match parse(&self.unread) {
                Ok(Some((request, length))) => {
                    self.unread.drain(..length);
                    return Ok(Ok(Some(request)));
                }
                Ok(None) if self.unread.len() >= LONGEST_HEAD => return Ok(Err(HEAD_TOO_LARGE)),
                Ok(None) => {}
                Err(status) => return Ok(Err(status)),
            }
            if self.read_more()? == 0 {
                let complete = self.unread.is_empty();
                return Ok(if complete { Ok(None) } else { Err(BAD_REQUEST) });
            }
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 4096];
        let count = self.conn.read(&mut piece)?;
        self.unread.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// Skips the body. If that takes too long, the connection cannot be kept.
    fn skip_body(&mut self, mut request: Request) -> io::Result<Request> {
        match request.body {
            Some(length) if length <= LONGEST_BODY => {
                let whole = self.skip(length, request.waits_for_continue)?;
                request.keep_alive &= whole;
            }
            _ => request.keep_alive = false,
        }
        Ok(request)
    }

    /// Whether there were as many bytes.
    fn skip(&mut self, length: u64, client_waits: bool) -> io::Result<bool> {
        let buffered = length.min(self.unread.len() as u64);
        // OK because it is at most the length of the buffer.
        self.unread.drain(..buffered as usize);
        let rest = length - buffered;
        if client_waits && rest > 0 {
            self.conn.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.conn.flush()?;
        }
        let mut body = Read::by_ref(&mut self.conn).take(rest);
        Ok(io::copy(&mut body, &mut io::sink())? == rest)
    }
}

/// Waits for the next request, unless part of it has been `read`, and sets its deadline: `patience`
/// for each of the two. False if there is none, because the client is idle or the child should
/// leave.
///
/// A limit for each read is not enough: a client that sends one byte a second would hold its child
/// forever.
pub fn is_asked(conn: &TcpConn, read: bool, patience: Duration) -> io::Result<bool> {
    conn.set_deadline(None);
    let asked = read || conn.wait_for_request(Some(patience))?;
    conn.set_deadline(Some(patience));
    Ok(asked)
}

/// Lets the client read the answer before the connection is closed: a close with unread bytes
/// resets it, and the answer is lost.
pub fn linger(conn: &TcpConn) {
    let (longest, most) = LINGER;
    conn.set_deadline(None);
    conn.linger(longest, most);
}

/// The request at the beginning of `bytes` and the length of its head; `None` if more is to come.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Status> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(Complete(length)) => Ok(Some((request(&head)?, length))),
        Ok(Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(HEAD_TOO_LARGE),
        Err(_) => Err(BAD_REQUEST),
    }
}

fn request(head: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let fields = Fields::of(head)?;
    let method = head.method.unwrap_or("");
    let old = head.version == Some(0);
    check_host(&fields, old)?;
    Ok(Request {
        method: method.to_owned(),
        path: path(method, head.path.unwrap_or(""))?.to_owned(),
        keep_alive: keep_alive(&fields, old),
        body: body(&fields, old)?,
        waits_for_continue: waits_for_continue(&fields, old)?,
    })
}

/// The fields of a head, all of them text.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn of(head: &httparse::Request<'_, 'a>) -> Result<Self, Status> {
        let text = head.headers.iter().map(|field| {
            let value = std::str::from_utf8(field.value);
            Ok((field.name, value.map_err(|_| BAD_REQUEST)?))
        });
        text.collect::<Result<_, _>>().map(Self)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter();
        let found = found.filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
    }

    /// The one field of that name; a second one is refused.
    fn only(&self, name: &str) -> Result<Option<&'a str>, Status> {
        let mut found = self.all(name);
        let first = found.next();
        match found.next() {
            None => Ok(first),
            Some(_) => Err(BAD_REQUEST),
        }
    }

    /// The members of the lists of that name.
    fn members(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name)
            .flat_map(|value| value.split(',').map(str::trim))
    }

    fn has_member(&self, name: &str, member: &str) -> bool {
        self.members(name)
            .any(|other| other.eq_ignore_ascii_case(member))
    }
}

/// Exactly one valid Host; HTTP/1.0 may have none.
fn check_host(fields: &Fields<'_>, old: bool) -> Result<(), Status> {
    match fields.only("host")? {
        Some(host) if host.bytes().all(may_be_in_a_host) => Ok(()),
        None if old => Ok(()),
        _ => Err(BAD_REQUEST),
    }
}

fn may_be_in_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte)
}

/// The path of a target in origin-form or absolute-form; any other target as a whole.
fn path<'a>(method: &str, target: &'a str) -> Result<&'a str, Status> {
    let path = match (method, target) {
        ("OPTIONS", "*") | ("CONNECT", _) => return Ok(target),
        _ if target.starts_with('/') => target,
        _ => after_authority(target).ok_or(BAD_REQUEST)?,
    };
    match path.split('?').next() {
        None | Some("") => Ok("/"),
        Some(path) => Ok(path),
    }
}

/// What follows the host of `http://host/path`.
fn after_authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let known = ["http", "https"];
    known.iter().find(|it| it.eq_ignore_ascii_case(scheme))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_host = !authority.is_empty() && authority.bytes().all(may_be_in_a_host);
    is_host.then_some(path)
}

fn keep_alive(fields: &Fields<'_>, old: bool) -> bool {
    let close = fields.has_member("connection", "close");
    !close && (!old || fields.has_member("connection", "keep-alive"))
}

/// The length of the body; `None` if it comes in chunks.
fn body(fields: &Fields<'_>, old: bool) -> Result<Option<u64>, Status> {
    let length = fields.only("content-length")?;
    let codings: Vec<_> = fields.members("transfer-encoding").collect();
    match (length, codings.as_slice()) {
        (None, []) => Ok(Some(0)),
        (Some(length), []) => decimal(length).map(Some),
        // Both is a contradiction, and HTTP/1.0 has no chunks.
        (Some(_), _) => Err(BAD_REQUEST),
        _ if old => Err(BAD_REQUEST),
        (None, codings) => check_codings(codings).map(|()| None),
    }
}

/// Only digits: `parse` would accept a sign.
fn decimal(text: &str) -> Result<u64, Status> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or(BAD_REQUEST)
}

/// Only `chunked` is supported, once.
fn check_codings(codings: &[&str]) -> Result<(), Status> {
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    match codings.split_last() {
        Some((last, [])) if is_chunked(last) => Ok(()),
        Some((last, others)) if is_chunked(last) => {
            let bad = others.iter().any(|it| it.is_empty() || is_chunked(it));
            Err(if bad { BAD_REQUEST } else { NOT_IMPLEMENTED })
        }
        _ => Err(BAD_REQUEST),
    }
}

/// HTTP/1.0 has no expectations, and only 100-continue exists.
fn waits_for_continue(fields: &Fields<'_>, old: bool) -> Result<bool, Status> {
    match fields.only("expect")? {
        None => Ok(false),
        Some(_) if old => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("100-continue") => Ok(true),
        Some(_) => Err(EXPECTATION_FAILED),
    }
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
