//! How the command fails: a message that says what to do, and an exit code of sysexits.h. Ends
//! nothing itself.

use prefork_server::{
    Error, Operation,
    settings::{SettingsError, Source},
};
use std::{
    error, fmt,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// The command line is wrong.
const USAGE: u8 = 64;
/// A value is wrong.
const DATA: u8 = 65;
/// A program, a server or a child cannot be had.
const UNAVAILABLE: u8 = 69;
/// What a server was told to do has failed there.
const SOFTWARE: u8 = 70;
/// Output cannot be written.
const IO_ERROR: u8 = 74;
/// A server could not do it now, and may later.
const TEMPORARY: u8 = 75;
/// A server speaks another language.
const PROTOCOL: u8 = 76;
/// It is not permitted.
const PERMISSION: u8 = 77;
/// A file of settings or a variable is wrong.
const CONFIG: u8 = 78;

/// Why the command ends, and with which code.
#[derive(Debug)]
pub(crate) struct CliError {
    code: u8,
    message: String,
    kind: io::ErrorKind,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl CliError {
    fn new(code: u8, message: String) -> Self {
        Self {
            code,
            message,
            kind: io::ErrorKind::Other,
            source: None,
        }
    }

    fn of_kind(self, kind: io::ErrorKind) -> Self {
        Self { kind, ..self }
    }

    fn because_of(self, source: impl error::Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Box::new(source)),
            ..self
        }
    }

    /// The command line is incomplete.
    pub(crate) fn usage(message: &str) -> Self {
        Self::new(USAGE, message.to_owned()).of_kind(io::ErrorKind::InvalidInput)
    }

    /// Settings are right one by one, and cannot be what is meant.
    pub(crate) fn config(message: String) -> Self {
        Self::new(CONFIG, message).of_kind(io::ErrorKind::InvalidInput)
    }

    /// The program that is to be run is not there.
    pub(crate) fn no_program(program: &str) -> Self {
        let message = format!(
            "{program}: there is no such program, or it may not be executed; a name without a \
             slash is looked for in PATH"
        );
        Self::new(UNAVAILABLE, message).of_kind(io::ErrorKind::NotFound)
    }

    /// No server can be reached at the path of a control socket.
    pub(crate) fn no_server(path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        let (code, advice) = match error.kind() {
            io::ErrorKind::NotFound => (UNAVAILABLE, "is the server running, with this --control?"),
            io::ErrorKind::ConnectionRefused => (UNAVAILABLE, "the server has ended"),
            io::ErrorKind::PermissionDenied => (
                PERMISSION,
                "only root and the user of the server may control it",
            ),
            _ => (UNAVAILABLE, "is it a control socket?"),
        };
        Self::new(code, format!("{path}: {error}; {advice}"))
    }

    /// A server does not tell its status at this address.
    pub(crate) fn no_status(address: &str, reason: &str) -> Self {
        let advice = "is the server running, with this --status?";
        Self::new(UNAVAILABLE, format!("{address}: {reason}; {advice}"))
    }

    /// What went wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The command was sent, and its answer did not come in time.
    pub(crate) fn no_answer_yet() -> Self {
        let message = "it is not done yet, and goes on; a longer --wait waits for it";
        Self::new(TEMPORARY, message.to_owned())
    }

    /// The connection ended or broke before the answer.
    pub(crate) fn no_answer(reason: &str) -> Self {
        Self::new(PROTOCOL, format!("no answer from the server: {reason}"))
    }

    /// The server has answered that the command is not done, for this reason.
    pub(crate) fn answered(code: &str, message: &str) -> Self {
        let code = match code {
            "usage" | "fixed" => USAGE,
            "value" => DATA,
            "unknown" => UNAVAILABLE,
            "failed" => SOFTWARE,
            "denied" => PERMISSION,
            "busy" | "superseded" | "stopping" => TEMPORARY,
            _ => PROTOCOL,
        };
        Self::new(code, message.to_owned())
    }

    /// Prints the message. OK to ignore errors: there is no other place to report it.
    pub(crate) fn report(&self) -> ExitCode {
        let mut stderr = io::stderr().lock();
        for line in self.message.lines() {
            let _ = writeln!(stderr, "prefork: {line}");
        }
        ExitCode::from(self.code)
    }
}

/// The message, in one line.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message.replace('\n', "; "))
    }
}

impl error::Error for CliError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// For a hook: of the same kind, and with this error as its own.
impl From<CliError> for io::Error {
    fn from(error: CliError) -> Self {
        Self::new(error.kind, error)
    }
}

/// What the parser of the command line has to say: an error, or the help that was asked for.
impl From<clap::Error> for CliError {
    fn from(error: clap::Error) -> Self {
        let code = if error.use_stderr() { USAGE } else { 0 };
        // OK to ignore: a reader like `head` may have gone.
        let _ = error.print();
        Self::new(code, String::new())
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        let is_flag = |problem: &prefork_server::settings::Problem| {
            matches!(problem.source(), Source::Flag(_))
        };
        let code = match error.problems().iter().all(is_flag) {
            true => USAGE,
            false => CONFIG,
        };
        Self::new(code, error.to_string())
            .of_kind(io::ErrorKind::InvalidInput)
            .because_of(error)
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::new(IO_ERROR, format!("cannot write: {error}"))
            .of_kind(error.kind())
            .because_of(error)
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let message = match advice(&error) {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        };
        Self::new(error.exit_code(), message)
            .of_kind(error.io_error().kind())
            .because_of(error)
    }
}

/// What to do about an error.
fn advice(error: &Error) -> Option<&'static str> {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    Some(match (error.operation(), error.io_error().kind()) {
        (Operation::Confine, PermissionDenied) => "start prefork as root",
        (Operation::Bind, PermissionDenied) => {
            "ports below 1024 need root, or the capability net_bind_service"
        }
        // The reason of a socket file names the other server.
        (_, AddrInUse) if error.io_error().get_ref().is_some() => {
            "end it, or choose another address"
        }
        (_, AddrInUse) => "another process listens there: end it, or choose another address",
        (_, AddrNotAvailable) => "no interface of this machine has that address",
        (Operation::Limit, _) => "raise the limit (ulimit -n), or lower --max-clients",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prefork_server::settings::Settings;
    use std::error::Error as _;

    fn source<T: error::Error + 'static>(error: &io::Error) -> Option<&T> {
        let own = error.get_ref()?.downcast_ref::<CliError>()?;
        own.source()?.downcast_ref()
    }

    /// For the hook that is told of a failed reload.
    #[test]
    fn an_error_keeps_its_kind_and_its_reason_on_the_way_to_a_hook() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let denied = Error::new(Operation::Bind, "127.0.0.1:80", denied);
        let error = io::Error::from(CliError::from(denied));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let bind: &Error = source(&error).expect("the error of the library");
        assert_eq!(
            (bind.operation(), bind.object()),
            (Operation::Bind, "127.0.0.1:80")
        );

        let mut settings = Settings::new();
        let wrong = settings
            .set_flag("max_clients", ["many"])
            .expect_err("no number");
        let error = io::Error::from(CliError::from(wrong.clone()));
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(source(&error), Some(&wrong));
        let missing = io::Error::from(CliError::no_program("cat"));
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_hook_is_told_stands_in_one_line() {
        let error = CliError::config("a: one\nb: two".to_owned());
        assert_eq!(io::Error::from(error).to_string(), "a: one; b: two");
    }
}
