//! The state as a file in memory: written once, then sealed, so that a reader gets what was
//! written. Knows nothing of what is in it.

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        uio::pread,
    },
    unistd::write,
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

/// No process can change the file, nor take this away.
const SEALS: SealFlag = SealFlag::F_SEAL_WRITE
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_SEAL);

/// A sealed file with these bytes, close-on-exec.
pub(crate) fn sealed(mut bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(c"prefork-state", flags)?;
    while !bytes.is_empty() {
        match write(&file, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file)
}

/// The bytes of such a file. Reading moves no offset, since others may read it as well.
pub(super) fn read(file: impl AsFd) -> io::Result<Vec<u8>> {
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    if !seals.is_ok_and(|seals| seals.contains(SEALS)) {
        return Err(io::Error::other("the state is not in sealed memory"));
    }
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let at = i64::try_from(bytes.len()).map_err(io::Error::other)?;
        match pread(&file, &mut buffer, at) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_any_number_of_times_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let file = sealed(&bytes).unwrap();
        assert_eq!(read(&file).unwrap(), bytes);
        assert_eq!(read(&file).unwrap(), bytes);
        assert_eq!(write(&file, b"x"), Err(Errno::EPERM));
    }

    #[test]
    fn a_file_that_is_not_sealed_is_refused() {
        let file = memfd_create(c"test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(read(&file).is_err());
        assert!(read(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
