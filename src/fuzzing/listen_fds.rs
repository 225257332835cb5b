//! LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES: whatever their values are, what is accepted is small,
//! consistent and for this process.

use super::FuzzInput;
use crate::listeners::inherited::{AnnouncedFd, ListenFdsError, Variables, parse};

const OWN: u32 = 4711;

/// Input: a byte that says which variables are set (and whether the pid is simply right), the value
/// of LISTEN_PID, that of LISTEN_FDS, that of LISTEN_FDNAMES.
pub fn listen_fds(data: &[u8]) {
    let mut input = FuzzInput(data);
    let set = input.byte();
    let right = OWN.to_string();
    let pid = match set & 8 {
        0 => right.as_bytes(),
        _ => input.bytes(),
    };
    let fds = input.bytes();
    let names = input.rest();
    let variables = Variables {
        pid: (set & 1 == 0).then_some(pid),
        fds: (set & 2 == 0).then_some(fds),
        names: (set & 4 == 0).then_some(names),
    };
    match parse(variables, OWN) {
        Ok(announced) => check_believed(variables, &announced),
        Err(error) => check_refused(variables, &error),
    }
}

/// The number, if the value has only digits.
fn number(value: &[u8]) -> Option<u128> {
    let digits = !value.is_empty() && value.len() < 30 && value.iter().all(u8::is_ascii_digit);
    let digits = digits.then_some(value)?;
    Some(
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + u128::from(digit - b'0')),
    )
}

fn check_believed(variables: Variables<'_>, announced: &[AnnouncedFd]) {
    let pid = variables.pid.and_then(without_zeros).and_then(number);
    assert_eq!(pid, Some(u128::from(OWN)));
    let count = variables.fds.and_then(without_zeros).and_then(number);
    assert_eq!(count, Some(announced.len() as u128));
    assert!((1..=65_536).contains(&announced.len()));
    assert!(
        announced
            .iter()
            .map(|one| one.fd)
            .eq(3..3 + announced.len() as i32)
    );
    let names: Vec<&[u8]> = announced.iter().map(|one| one.name.as_bytes()).collect();
    match variables.names {
        Some(value) => assert_eq!(names.join(&b':'), value),
        None => assert!(names.iter().all(|name| name.is_empty())),
    }
    let printable = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b':';
    assert!(names.concat().iter().all(printable));
}

/// The value without leading zeros, which do not change a number.
fn without_zeros(value: &[u8]) -> Option<&[u8]> {
    let zeros = value.iter().take_while(|byte| **byte == b'0').count();
    let zeros = zeros.min(value.len().checked_sub(1)?);
    Some(&value[zeros..])
}

/// Checks that the reason given for a refusal is true.
fn check_refused(variables: Variables<'_>, error: &ListenFdsError) {
    assert!(!error.to_string().is_empty());
    let pid = variables.pid.and_then(without_zeros).and_then(number);
    let count = variables.fds.and_then(without_zeros).and_then(number);
    let fits = pid == Some(u128::from(OWN)) && count.is_some_and(|count| count < 65_537);
    let why_not = match error {
        ListenFdsError::Missing("LISTEN_PID") => variables.pid.is_none(),
        ListenFdsError::Missing(_) => variables.fds.is_none(),
        ListenFdsError::NoNumber("LISTEN_PID", _) => pid.is_none_or(|pid| pid > u32::MAX.into()),
        ListenFdsError::NoNumber(..) => count.is_none_or(|count| count > u32::MAX.into()),
        ListenFdsError::OthersPid(found) => *found != OWN && pid == Some((*found).into()),
        ListenFdsError::None => count == Some(0),
        ListenFdsError::TooMany(found) => *found > 65_536 && count == Some((*found).into()),
        ListenFdsError::Names { names, sockets } => {
            fits && names != sockets && variables.names.is_some()
        }
        ListenFdsError::BadName(_) => fits && variables.names.is_some(),
        _ => false,
    };
    assert!(why_not, "{error:?} for {variables:?}");
}
