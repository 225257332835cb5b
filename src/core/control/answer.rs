//! The answer to a command: one line of JSON. Sends nothing.

use crate::core::json::JsonWriter;

/// Why a command is not done, as a word that programs tell apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ErrorCode {
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

impl ErrorCode {
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

/// A line of JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer(String);

impl Answer {
    /// The command is done. `fill` adds further fields.
    pub(crate) fn ok(fill: impl FnOnce(&mut JsonWriter)) -> Self {
        Self(JsonWriter::of(|json| {
            json.field("ok", true);
            fill(json);
        }))
    }

    /// The command is not done.
    pub(crate) fn error(problem: ErrorCode, text: &str) -> Self {
        Self(JsonWriter::of(|json| {
            json.field("ok", false);
            json.field("error", text);
            json.field("code", problem.as_str());
        }))
    }

    /// The line, with its newline.
    pub(crate) fn into_line(self) -> Vec<u8> {
        let mut line = self.0.into_bytes();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_line_of_json() {
        let done = Answer::ok(|json| json.field("pid", 7_u32)).into_line();
        assert_eq!(done, b"{\"ok\":true,\"pid\":7}\n");
        let refused = Answer::error(ErrorCode::Usage, "what\nis it?").into_line();
        let expected = b"{\"ok\":false,\"error\":\"what\\nis it?\",\"code\":\"usage\"}\n";
        assert_eq!(refused, expected);
    }
}
