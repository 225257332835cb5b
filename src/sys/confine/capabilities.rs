//! The capability bounding set of Linux: its names, and how it is emptied. Elsewhere there is none.

#![allow(unsafe_code)]

use std::io;

/// The names in the order of their numbers (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// A bit for each capability that is named, with or without `CAP_` before it.
pub(super) fn numbers(kept: &[String]) -> io::Result<u64> {
    let bit = |name: &String| {
        let lower = name.to_lowercase();
        let plain = lower.strip_prefix("cap_").unwrap_or(&lower);
        let number = NAMES.iter().position(|name| *name == plain);
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no capability {name}"));
        number.map(|number| 1 << number).ok_or_else(unknown)
    };
    kept.iter()
        .map(bit)
        .try_fold(0, |bits, bit| Ok(bits | bit?))
}

/// Takes every capability that the kernel has out of the bounding set, except for those in `kept`.
#[cfg(target_os = "linux")]
pub(super) fn keep_only(kept: u64) -> io::Result<()> {
    use nix::libc;
    for number in (0..u64::BITS).filter(|number| kept & (1 << number) == 0) {
        match prctl(libc::PR_CAPBSET_READ, number) {
            Ok(false) => {}
            Ok(true) => drop_one(number)?,
            // The kernel has no more.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn drop_one(number: u32) -> io::Result<()> {
    use nix::libc;
    prctl(libc::PR_CAPBSET_DROP, number)?;
    match prctl(libc::PR_CAPBSET_READ, number)? {
        true => Err(io::Error::other("a capability is still there")),
        false => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn prctl(option: nix::libc::c_int, number: u32) -> io::Result<bool> {
    use nix::{errno::Errno, libc};
    // SAFETY: two of the options that take a number and touch no memory.
    let answer = unsafe { libc::prctl(option, libc::c_ulong::from(number), 0, 0, 0) };
    Ok(Errno::result(answer)? == 1)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn keep_only(_kept: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_numbers_of_the_kernel() {
        let bits = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            numbers(&names)
        };
        assert_eq!(bits(&[]).unwrap(), 0);
        assert_eq!(bits(&["net_bind_service"]).unwrap(), 1 << 10);
        let last = ["CAP_CHECKPOINT_RESTORE", "chown"];
        assert_eq!(bits(&last).unwrap(), 1 << 40 | 1);
        assert!(bits(&["net_bin_service"]).is_err());
    }
}
