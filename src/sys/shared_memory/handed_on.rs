//! Memory for this program and those that take its place. It cannot be sealed against new writable
//! mappings, so what forks have is mapped by a descriptor that can only be read. For Linux alone.

use super::{
    SharedMemory,
    mapping::{file, map},
};
use nix::{
    fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open},
    sys::{
        mman::ProtFlags,
        stat::{Mode, fstat},
    },
};
use std::{
    ffi::CStr,
    io,
    num::NonZeroUsize,
    os::fd::{AsRawFd, OwnedFd},
};

const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

pub(super) fn new(name: &CStr, length: NonZeroUsize) -> io::Result<(SharedMemory, OwnedFd)> {
    let file = file(name, length)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    mapped(&file, length).map(|memory| (memory, file))
}

pub(super) fn adopted(file: &OwnedFd) -> io::Result<SharedMemory> {
    let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS)?);
    if seals != SEALS {
        return Err(io::Error::other("it is not the memory that it should be"));
    }
    let length = usize::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
    let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
    mapped(file, length)
}

fn mapped(file: &OwnedFd, length: NonZeroUsize) -> io::Result<SharedMemory> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let reader = open(&*path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let write = map(file, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    let read = map(&reader, length, ProtFlags::PROT_READ)?;
    SharedMemory::of(write, read)
}
