//! Why a server ends, as a word of the journal: a parent that goes on with the stop of another one ends
//! with the same exit code. Keeps the operation and the errno, and no text.

use super::PoolNote;
use crate::core::{
    error::{Error, Operation},
    stop::StopState,
};
use std::io;

/// A failure for which the server ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FailureNote {
    operation: Operation,
    /// If the reason is no error of the system, one of the two below.
    errno: i32,
}

const NO_ERRNO: i32 = 0;
/// A missing permission has an exit code of its own.
const NO_PERMISSION: i32 = -1;

impl FailureNote {
    pub(crate) fn of(error: &Error) -> Self {
        let reason = error.io_error();
        let without = match reason.kind() {
            io::ErrorKind::PermissionDenied => NO_PERMISSION,
            _ => NO_ERRNO,
        };
        Self {
            operation: error.operation(),
            errno: reason.raw_os_error().unwrap_or(without),
        }
    }

    /// The word; zero for none.
    pub(crate) fn word(note: Option<Self>) -> u64 {
        note.map_or(0, |note| {
            let operation = note.operation as u64 + 1;
            operation << 32 | u64::from(note.errno.cast_unsigned())
        })
    }

    pub(crate) fn read(word: u64) -> Option<Self> {
        // OK to cut: that is how it was written.
        let operation = (word >> 32) as u32;
        Some(Self {
            operation: Operation::numbered(operation.checked_sub(1)?)?,
            errno: (word as u32).cast_signed(),
        })
    }

    /// The error with which the server ends.
    fn error(self) -> Error {
        const TOLD: &str = "that parent has told the reason";
        let reason = match self.errno {
            NO_ERRNO => io::Error::other(TOLD),
            NO_PERMISSION => io::Error::new(io::ErrorKind::PermissionDenied, TOLD),
            errno => io::Error::from_raw_os_error(errno),
        };
        Error::new(self.operation, "under an earlier parent", reason)
    }
}

impl PoolNote {
    /// Why the server ends. A failure that was noted without a stop is none: the parent was killed
    /// between the two.
    pub(crate) fn ends_for(&self) -> Option<Error> {
        match self.stop {
            StopState::Begun(_) => self.failure.map(FailureNote::error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::stop::StopTerms;

    #[test]
    fn a_failure_keeps_its_operation_its_errno_and_its_exit_code() {
        let operations: Vec<_> = (0..).map_while(Operation::numbered).collect();
        assert_eq!(operations.last(), Some(&Operation::Write));
        for operation in operations {
            let reasons = [
                io::Error::other("why"),
                io::ErrorKind::PermissionDenied.into(),
                io::Error::from_raw_os_error(13),
            ];
            for reason in reasons {
                let error = Error::new(operation, "child 7", reason);
                let word = FailureNote::word(Some(FailureNote::of(&error)));
                let read = FailureNote::read(word).expect("a failure").error();
                assert_eq!(read.operation(), operation);
                assert_eq!(
                    read.io_error().raw_os_error(),
                    error.io_error().raw_os_error()
                );
                assert_eq!(read.exit_code(), error.exit_code());
            }
        }
    }

    #[test]
    fn a_failure_counts_once_the_stop_has_begun() {
        let terms = StopTerms::default();
        let error = Error::new(Operation::Fork, "", io::Error::other("why"));
        let failure = Some(FailureNote::of(&error));
        let ends = |stop| {
            let note = PoolNote {
                stop,
                failure,
                ..PoolNote::default()
            };
            note.ends_for().is_some()
        };
        assert!(!ends(StopState::None) && !ends(StopState::Announced(terms)));
        assert!(ends(StopState::Begun(terms)));
    }

    #[test]
    fn no_failure_is_zero_and_an_unknown_one_is_none() {
        assert_eq!(FailureNote::word(None), 0);
        assert_eq!(FailureNote::read(0), None);
        assert_eq!(FailureNote::read(u64::MAX), None);
    }
}
