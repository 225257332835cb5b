//! What stands for names: the numbers of users and groups, and checked paths and masks. Read in the
//! parent, once; nothing is looked up in a child.

use nix::{
    sys::stat::Mode,
    unistd::{Gid, Group, Uid, User},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The user of that name, or else of that number, as in chown(1).
pub(super) fn user(name: &str) -> io::Result<Uid> {
    match User::from_name(name)? {
        Some(user) => Ok(user.uid),
        None => Ok(Uid::from_raw(number(name, "no such user")?)),
    }
}

/// The primary group of a user, who must be known to the system.
pub(super) fn group_of(name: &str) -> io::Result<Gid> {
    let known = match User::from_name(name)? {
        None => User::from_uid(user(name)?)?,
        known => known,
    };
    let unknown = || missing("the user has no entry, so a group must be named");
    known.map(|user| user.gid).ok_or_else(unknown)
}

pub(super) fn group(name: &str) -> io::Result<Gid> {
    match Group::from_name(name)? {
        Some(group) => Ok(group.gid),
        None => Ok(Gid::from_raw(number(name, "no such group")?)),
    }
}

pub(super) fn groups(names: &[String]) -> io::Result<Vec<Gid>> {
    let groups: io::Result<Vec<Gid>> = names.iter().map(|name| group(name)).collect();
    groups.map(sorted)
}

/// In the order in which two lists of groups can be compared.
pub(super) fn sorted(mut groups: Vec<Gid>) -> Vec<Gid> {
    groups.sort_by_key(|group| group.as_raw());
    groups.dedup();
    groups
}

/// The highest number means "unchanged" to the system calls.
fn number(name: &str, otherwise: &'static str) -> io::Result<u32> {
    let number = name.parse().ok().filter(|number| *number != u32::MAX);
    number.ok_or_else(|| missing(otherwise))
}

fn missing(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, reason)
}

/// A relative path would mean another directory after the program has changed its own.
pub(super) fn absolute(path: &Path) -> io::Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let reason = "the path is not absolute";
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

#[allow(clippy::useless_conversion, reason = "FreeBSD's type is smaller")]
pub(super) fn mask(mask: u32) -> io::Result<Mode> {
    let reason = "a mask has the bits 0777 only";
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, reason);
    let bits = mask.try_into().ok().filter(|_| mask <= 0o777);
    bits.and_then(Mode::from_bits).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_names_or_numbers() {
        assert_eq!(user("root").unwrap().as_raw(), 0);
        assert_eq!(user("1234567").unwrap().as_raw(), 1_234_567);
        assert_eq!(group("7654321").unwrap().as_raw(), 7_654_321);
        for unknown in ["", "no-such-user", "-1", "4294967295", "4294967296"] {
            let error = user(unknown).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{unknown}");
        }
    }

    #[test]
    fn a_user_without_an_entry_has_no_group() {
        assert_eq!(group_of("0").unwrap().as_raw(), 0);
        assert!(group_of("1234567").is_err());
    }

    #[test]
    fn paths_are_absolute_and_masks_small() {
        assert!(absolute(Path::new("srv")).is_err());
        assert!(mask(0o1000).is_err());
        assert_eq!(mask(0o27).unwrap().bits(), 0o27);
    }
}
