//! Memory that another program of this process has made: it is read, and never written.

use super::mapping::Mapping;
#[cfg(target_os = "linux")]
use super::mapping::map;
#[cfg(target_os = "linux")]
use nix::sys::mman::ProtFlags;
#[cfg(target_os = "linux")]
use std::num::NonZeroUsize;
use std::{
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicU64},
};

/// Memory that another program has made before this process became what it is now. It can be read.
#[derive(Clone)]
pub(crate) struct ForeignMemory(Arc<Mapping>);

impl fmt::Debug for ForeignMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignMemory").finish_non_exhaustive()
    }
}

impl ForeignMemory {
    /// Maps a file of [`SharedMemory`]. Fails if it has another length, or could be shortened.
    #[cfg(target_os = "linux")]
    pub(crate) fn map(file: &OwnedFd, length: u64) -> io::Result<Self> {
        use nix::{
            fcntl::{FcntlArg, SealFlag, fcntl},
            sys::stat::fstat,
        };
        let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS)?);
        let is_whole = u64::try_from(fstat(file)?.st_size) == Ok(length);
        if !is_whole || !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::Error::other("it is not the memory that it should be"));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        map(file, length, ProtFlags::PROT_READ).map(|mapping| Self(Arc::new(mapping)))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn map(_: &OwnedFd, _: u64) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }
}
