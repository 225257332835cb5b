//! Why an upgrade has failed: a reason that programs can match, and its text. Decides nothing.

use super::CALM;
use std::{fmt, io, time::Duration};

/// Why an upgrade has failed, where the reason is not an error of the system.
///
/// The error of the hook [`upgrade_failed`](crate::PreForkHooks::upgrade_failed) contains it:
///
/// ```
/// use prefork_server::{Error, UpgradeFailure};
///
/// fn is_to_be_tried_again(error: &Error) -> bool {
///     let reason = error.io_error().get_ref();
///     let reason = reason.and_then(|reason| reason.downcast_ref());
///     matches!(reason, Some(UpgradeFailure::Hangs(_)))
/// }
/// ```
///
/// A program that cannot be opened or executed is an error with a path as its object.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum UpgradeFailure {
    /// In its trial the new program could not use the state, for this reason.
    Refused(String),
    /// The new program has ended in its trial, in this way.
    Ended(String),
    /// In its trial the new program has not answered for `upgrade_timeout`.
    Hangs(Duration),
    /// The trial does not end, though its process got SIGKILL.
    Stays,
    /// A stop was asked for meanwhile.
    Stop,
    /// There was no moment in which nothing was queued.
    ///
    /// The program's own states, or a slow reader of its output, have left none.
    NeverCalm,
    /// The hook [`save`](crate::PreForkHooks::save) has panicked.
    Unsaved,
    /// The server has a holder, and its children are programs.
    ///
    /// They would end with this parent.
    EndsPrograms,
    /// The new program was executed and has given the place back, for this reason.
    ///
    /// It could not take over, or its children have failed.
    CameBack(String),
}

impl fmt::Display for UpgradeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "it cannot use the state of this server: {reason}"),
            Self::Ended(how) => write!(f, "in its trial it has ended: {how}"),
            Self::Hangs(limit) => write!(
                f,
                "in its trial it has not answered in {limit:?} (upgrade_timeout)"
            ),
            Self::Stays => f.write_str("its trial cannot be ended"),
            Self::Stop => f.write_str("the server stops"),
            Self::NeverCalm => write!(
                f,
                "for {CALM:?} tasks of the program were queued, or output was not read"
            ),
            Self::Unsaved => f.write_str("the hook save has panicked"),
            Self::EndsPrograms => f.write_str(
                "the server has a holder, and children that are programs would end with their parent",
            ),
            Self::CameBack(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for UpgradeFailure {}

impl From<UpgradeFailure> for io::Error {
    fn from(failure: UpgradeFailure) -> Self {
        Self::other(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::error::{Error, Operation};

    #[test]
    fn the_reason_can_be_matched_in_the_error_and_its_text_is_the_same() {
        let reasons = [
            (
                UpgradeFailure::Refused("no".to_owned()),
                "it cannot use the state of this server: no",
            ),
            (
                UpgradeFailure::Hangs(Duration::from_secs(10)),
                "in its trial it has not answered in 10s (upgrade_timeout)",
            ),
            (UpgradeFailure::Stop, "the server stops"),
            (
                UpgradeFailure::CameBack("it failed".to_owned()),
                "it failed",
            ),
        ];
        for (reason, text) in reasons {
            let error = Error::new(Operation::Upgrade, "the new program", reason.clone().into());
            let found = error.io_error().get_ref();
            let found = found.and_then(|found| found.downcast_ref::<UpgradeFailure>());
            assert_eq!(found, Some(&reason));
            assert_eq!(
                error.to_string(),
                format!("upgrade the new program: {text}")
            );
        }
    }
}
