//! Whether the client caused an error, which is routine, or something else did. Looks at errors;
//! logs nothing.

use nix::errno::Errno;
use std::{error::Error, io};

/// How many nested errors are examined.
const DEPTH: usize = 8;

/// Whether `error` only says that the client has gone, is out of reach or was too slow. Clients
/// come and go, and that is not worth a line in a log. If a library has wrapped an error, the error
/// inside counts.
pub(crate) fn is_the_clients(error: &io::Error) -> bool {
    let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    is_end_of_a_connection(error)
        || std::iter::successors(inner, |&error| error.source())
            .take(DEPTH)
            .any(|error| {
                error
                    .downcast_ref::<io::Error>()
                    .is_some_and(is_the_clients)
            })
}

fn is_end_of_a_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown,
        NetworkUnreachable, NotConnected, TimedOut, UnexpectedEof,
    };
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | NotConnected
            | TimedOut
            | UnexpectedEof
    ) || number.is_some_and(is_of_the_network)
}

/// Error numbers that std has no kind for.
fn is_of_the_network(number: Errno) -> bool {
    match number {
        Errno::EHOSTDOWN
        | Errno::ENETRESET
        | Errno::ENOPROTOOPT
        | Errno::EPROTO
        | Errno::ESHUTDOWN => true,
        #[cfg(target_os = "linux")]
        Errno::ENONET => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every error by which the kernel reports a client that is gone or out of reach.
    #[test]
    fn what_ends_because_of_the_client_is_the_clients() {
        for number in [
            Errno::ECONNRESET,
            Errno::EPIPE,
            Errno::ENOTCONN,
            Errno::ESHUTDOWN,
            Errno::ECONNABORTED,
            Errno::ETIMEDOUT,
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
            Errno::ENETDOWN,
            Errno::EHOSTDOWN,
            Errno::ENETRESET,
            Errno::EPROTO,
        ] {
            assert!(is_the_clients(&number.into()), "{number}");
        }
        assert!(is_the_clients(&io::ErrorKind::UnexpectedEof.into()));
        assert!(is_the_clients(&io::ErrorKind::TimedOut.into()));
    }

    /// A fault of the server itself is still logged.
    #[test]
    fn what_is_the_servers_is_not() {
        for number in [
            Errno::EACCES,
            Errno::ENOENT,
            Errno::ECONNREFUSED,
            Errno::EMFILE,
            Errno::ENOSPC,
            Errno::EBADF,
            Errno::EADDRINUSE,
            Errno::ENOMEM,
        ] {
            assert!(!is_the_clients(&number.into()), "{number}");
        }
        assert!(!is_the_clients(&io::Error::other("no such table")));
        assert!(!is_the_clients(&io::ErrorKind::InvalidData.into()));
    }

    #[derive(Debug)]
    struct Wrapped(io::Error);

    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("writing a response")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    /// The error is found however many libraries have wrapped it.
    #[test]
    fn a_wrapped_error_counts_as_what_is_in_it() {
        let reset = || io::Error::from(Errno::ECONNRESET);
        assert!(is_the_clients(&io::Error::other(reset())));
        assert!(is_the_clients(&io::Error::other(Wrapped(reset()))));
        assert!(is_the_clients(&io::Error::other(Wrapped(
            io::Error::other(Wrapped(reset()))
        ))));
        let full = io::Error::other(Wrapped(Errno::ENOSPC.into()));
        assert!(!is_the_clients(&full));
    }
}
