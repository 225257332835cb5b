//! HTTP/1.1 as the status helper speaks it: requests found in bytes as they come, each with a bound,
//! and the heads of answers. Reads no socket, and knows no document.

use std::{fmt::Write, net::IpAddr, rc::Rc};

/// The longest head of a request.
pub(crate) const LONGEST_HEAD: usize = 8 * 1024;
/// The most header fields.
const MOST_FIELDS: usize = 64;

/// What is answered under any name: it tells nothing that a page could use, and balancers ask by names
/// of their own.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// A request that can be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HttpRequest {
    /// The path, without a query.
    pub(crate) path: String,
    /// What the client accepts.
    pub(crate) accept: String,
    /// Whether only the head of the answer is wanted.
    pub(crate) is_head: bool,
    /// Whether the client may ask again on the same connection.
    pub(crate) keeps: bool,
}

/// An answer's status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StatusCode {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    MisdirectedRequest,
    FieldsTooLarge,
    ServiceUnavailable,
    VersionNotSupported,
}

impl StatusCode {
    /// Code and phrase.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::MisdirectedRequest => "421 Misdirected Request",
            Self::FieldsTooLarge => "431 Request Header Fields Too Large",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What is found in the bytes so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Parsed {
    /// No whole request.
    More,
    Request(HttpRequest),
    /// The connection ends after an answer with this status: where the next request would begin is
    /// not known, or would take too long to find.
    Refuse(StatusCode),
}

/// Under which names a server may be asked.
#[derive(Clone, Debug, Default)]
pub(crate) enum Hosts {
    #[default]
    Any,
    /// Under an address, as `localhost`, or under this name.
    ///
    /// The owner of a name can make it stand for any address: a browser then lets a page with that
    /// name read what is told at the address, also on the browser's own machine.
    Own(Rc<str>),
}

impl Hosts {
    fn take(&self, host: &str) -> bool {
        let Self::Own(own) = self else {
            return true;
        };
        let name = without_port(host);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        is("localhost") || is(own) || name.parse::<IpAddr>().is_ok()
    }
}

/// The host of `host:port`, or of `[address]:port` without the brackets.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.split(':').next().unwrap_or_default()
}

/// The requests of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpRequests {
    hosts: Hosts,
    bytes: Vec<u8>,
}

impl HttpRequests {
    /// Requests of a client that may ask under these names.
    pub(crate) fn of(hosts: Hosts) -> Self {
        let bytes = Vec::new();
        Self { hosts, bytes }
    }

    /// Takes bytes from the client. The caller feeds no more while a whole request waits, so a few
    /// more than [`LONGEST_HEAD`] are kept.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether a request has begun.
    pub(crate) fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Takes the next request, or what is wrong.
    pub(crate) fn next(&mut self) -> Parsed {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        // What lies beyond makes no difference, in whatever pieces it comes.
        let head = &self.bytes[..self.bytes.len().min(LONGEST_HEAD)];
        match request.parse(head) {
            Ok(httparse::Status::Complete(length)) => {
                let verdict = judge(&request, &self.hosts);
                self.bytes.drain(..length);
                verdict
            }
            Ok(httparse::Status::Partial) if self.bytes.len() < LONGEST_HEAD => Parsed::More,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Parsed::Refuse(StatusCode::FieldsTooLarge)
            }
            Err(httparse::Error::Version) => Parsed::Refuse(StatusCode::VersionNotSupported),
            Err(_) => Parsed::Refuse(StatusCode::BadRequest),
        }
    }
}

fn judge(request: &httparse::Request<'_, '_>, known: &Hosts) -> Parsed {
    let is_1_1 = request.version == Some(1);
    let method = request.method.unwrap_or_default();
    if !matches!(method, "GET" | "HEAD") {
        return Parsed::Refuse(StatusCode::MethodNotAllowed);
    }
    // A second Host may be what a proxy in front has believed.
    let hosts = fields(request, "host").count();
    if hosts > 1 || is_1_1 && hosts == 0 {
        return Parsed::Refuse(StatusCode::BadRequest);
    }
    let path = path(request.path.unwrap_or_default());
    let is_known = fields(request, "host").all(|host| known.take(host));
    if !is_known && !PROBES.contains(&&*path) {
        return Parsed::Refuse(StatusCode::MisdirectedRequest);
    }
    if let Some(status) = refuses_body(request) {
        return Parsed::Refuse(status);
    }
    let has = |token| has_token(request, "connection", token);
    Parsed::Request(HttpRequest {
        path,
        accept: fields(request, "accept").collect::<Vec<_>>().join(","),
        is_head: method == "HEAD",
        keeps: !has("close") && (is_1_1 || has("keep-alive")),
    })
}

/// No client sends one with GET; where it ends would have to be found out.
fn refuses_body(request: &httparse::Request<'_, '_>) -> Option<StatusCode> {
    if fields(request, "transfer-encoding").next().is_some() {
        return Some(StatusCode::ContentTooLarge);
    }
    let lengths = fields(request, "content-length");
    let mut lengths = lengths.map(
        |text| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u64>().ok(),
            false => None,
        },
    );
    match (lengths.next(), lengths.next()) {
        (None | Some(Some(0)), None) => None,
        (Some(Some(_)), None) => Some(StatusCode::ContentTooLarge),
        _ => Some(StatusCode::BadRequest),
    }
}

/// The values of all fields of that name; one that is not UTF-8 is empty.
fn fields<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    let fields = request.headers.iter();
    let named = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| std::str::from_utf8(field.value).unwrap_or_default().trim())
}

fn has_token(request: &httparse::Request<'_, '_>, name: &str, token: &str) -> bool {
    let mut tokens = fields(request, name).flat_map(|value| value.split(','));
    tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// The path of a target: `/path?query`, or `http://host/path`.
fn path(target: &str) -> String {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    target.split('?').next().unwrap_or_default().to_owned()
}

/// An answer, with its head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// Further fields, each with its end of line.
    pub(crate) fields: String,
    /// Several answers may have the same.
    pub(crate) body: Rc<str>,
    /// Whether it may be large, or take long to make: one of a client is sent in a turn.
    pub(crate) is_large: bool,
}

impl Response {
    /// A line of text.
    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        let allow = match status {
            StatusCode::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            fields: allow.to_owned(),
            body: format!("{text}\n").into(),
            is_large: false,
        }
    }

    /// That of a status alone.
    pub(crate) fn of(status: StatusCode) -> Self {
        let (_, phrase) = status.as_str().split_once(' ').unwrap_or_default();
        Self::text(status, phrase)
    }

    /// What comes before the body on the wire.
    pub(crate) fn head(&self, keeps: bool) -> Vec<u8> {
        let mut text = String::new();
        let connection = if keeps { "keep-alive" } else { "close" };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{}Connection: {connection}\r\n\r\n",
            self.status.as_str(),
            self.content_type,
            self.body.len(),
            self.fields,
        );
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests;
