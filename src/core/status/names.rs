//! The names of causes, reasons and states in the texts of the status helper. Names only.

use crate::core::child::{Cause, Reason, State};

/// All causes, in the order of their declaration.
pub(crate) const CAUSES: [Cause; 16] = [
    Cause::Culled,
    Cause::TimedOut,
    Cause::Closed,
    Cause::Faulty,
    Cause::Recycled,
    Cause::Reloaded,
    Cause::Shutdown,
    Cause::Asked,
    Cause::FailedStart,
    Cause::Finished,
    Cause::Failed,
    Cause::Killed,
    Cause::Overtime,
    Cause::StartTimeout,
    Cause::OutOfMemory,
    Cause::Lost,
];

const REASONS: [Reason; 10] = [
    Reason::Culled,
    Reason::TimedOut,
    Reason::Closed,
    Reason::Faulty,
    Reason::Recycled,
    Reason::Reloaded,
    Reason::Shutdown,
    Reason::Asked,
    Reason::Overtime,
    Reason::StartTimeout,
];

const REASON_NAMES: [&str; REASONS.len()] = [
    "culled",
    "timed_out",
    "closed",
    "faulty",
    "recycled",
    "reloaded",
    "shutdown",
    "asked",
    "overtime",
    "start_timeout",
];

/// A reason as a number of the record, from 1.
pub(crate) fn reason_word(reason: Reason) -> u64 {
    let at = REASONS.iter().position(|known| *known == reason);
    at.map_or(0, |at| at as u64 + 1)
}

pub(crate) fn reason(word: u64) -> Option<&'static str> {
    let at = usize::try_from(word).ok()?.checked_sub(1)?;
    REASON_NAMES.get(at).copied()
}

pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Free => "free",
        State::Busy => "busy",
        State::Reserved => "reserved",
        State::Retiring => "stopping",
    }
}

/// The name of a value that is written `TooOld` in the source: `too_old`.
pub(crate) fn snake_case(value: &impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for char in format!("{value:?}").chars() {
        if char.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(char.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_name_in_snake_case() {
        for reason in REASONS {
            let name = super::reason(reason_word(reason));
            assert_eq!(name, Some(&*snake_case(&reason)), "{reason:?}");
        }
        assert_eq!((super::reason(0), super::reason(99)), (None, None));
    }

    #[test]
    fn the_causes_stand_in_the_order_of_their_declaration() {
        assert!(CAUSES.is_sorted());
        assert_eq!(snake_case(&Cause::OutOfMemory), "out_of_memory");
    }
}
