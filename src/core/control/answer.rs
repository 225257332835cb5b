//! The answer to a command: one line of JSON. Sends nothing.

use crate::core::json::{Object, ToJson};

/// Why a command is not done, as a word that programs tell apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Problem {
    /// The line is no command, or its arguments are wrong.
    Usage,
    /// What it names does not exist: a child, an attribute.
    Unknown,
    /// The value is none of the attribute.
    Value,
    /// It cannot be done while the server runs.
    Fixed,
    /// The client's user may not control this server.
    Denied,
    /// Too many clients.
    Busy,
    /// It was begun and has failed.
    Failed,
    /// A later command of the same kind has taken its place.
    Superseded,
    /// The server is shutting down.
    Stopping,
}

impl Problem {
    fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Unknown => "unknown",
            Self::Value => "value",
            Self::Fixed => "fixed",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Stopping => "stopping",
        }
    }
}

/// A line of JSON, without its newline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer(Object);

impl Answer {
    /// The command is done.
    pub(crate) fn ok() -> Self {
        Self(Object::new().with("ok", true))
    }

    /// The command is not done.
    pub(crate) fn error(problem: Problem, text: &str) -> Self {
        let object = Object::new().with("ok", false);
        Self(object.with("error", text).with("code", problem.as_str()))
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn with(self, name: &str, value: impl ToJson) -> Self {
        Self(self.0.with(name, value))
    }

    /// The line, with its newline.
    pub(crate) fn into_line(self) -> Vec<u8> {
        let mut line = self.0.into_text().into_bytes();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_line_of_json() {
        let done = Answer::ok().with("pid", 7_u32).into_line();
        assert_eq!(done, b"{\"ok\":true,\"pid\":7}\n");
        let refused = Answer::error(Problem::Usage, "what\nis it?").into_line();
        let expected = b"{\"ok\":false,\"error\":\"what\\nis it?\",\"code\":\"usage\"}\n";
        assert_eq!(refused, expected);
    }
}
