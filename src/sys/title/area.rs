//! Memory that the kernel shows as the arguments of this process. It is memory of our own, to which
//! the kernel is told to look: the real arguments and the environment stay where they are, so code
//! that holds pointers into them, or reads the arguments later, finds them unchanged.

#![allow(unsafe_code)]

use crate::{core::title::LONGEST, sys::limits};
use nix::{
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous},
};
use std::{
    ffi::CString,
    fs, io,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
};

/// The bytes: the title, a zero, and a last one that is not zero. By that one the kernel knows that
/// this is a title, and shows it up to the first zero.
const SIZE: usize = LONGEST + 2;

/// The memory; there is one in a process, and a fork has a copy of its own.
#[derive(Debug)]
pub(super) struct TitleArea {
    start: NonNull<AtomicU8>,
    /// Where the kernel has looked before.
    before: Addresses,
    is_shown: AtomicBool,
}

// SAFETY: it points at atomic bytes that are mapped until the process ends.
unsafe impl Send for TitleArea {}
// SAFETY: as above.
unsafe impl Sync for TitleArea {}

static AREA: OnceLock<Option<TitleArea>> = OnceLock::new();

impl TitleArea {
    /// The memory, shown from now on. `None` if the kernel refuses to show it.
    pub(super) fn of_this_process() -> Option<&'static Self> {
        let area = AREA.get_or_init(|| {
            let made = Self::new();
            made.inspect_err(|error| log::debug!("titles in the names of threads: {error}"))
                .ok()
        });
        area.as_ref().filter(|area| area.show().is_ok())
    }

    fn new() -> io::Result<Self> {
        let before = Addresses::read()?;
        let size = NonZeroUsize::new(SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_PRIVATE) }?;
        let area = Self {
            start: memory.cast(),
            before,
            is_shown: AtomicBool::new(false),
        };
        area.bytes()[SIZE - 1].store(b'.', Relaxed);
        area.show()?;
        Ok(area)
    }

    fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: the memory has this size and is never unmapped; a process that reads it from
        // outside of the process makes no difference.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), SIZE) }
    }

    /// Writes a title, and the zero that ends it.
    pub(super) fn write(&self, title: &[u8]) {
        let ended = title.iter().take(LONGEST).chain(&[0]);
        for (place, byte) in self.bytes().iter().zip(ended) {
            place.store(*byte, Relaxed);
        }
    }

    fn show(&self) -> io::Result<()> {
        if self.is_shown.load(Relaxed) {
            return Ok(());
        }
        let start = self.start.as_ptr() as u64;
        let ours = Addresses {
            arg_start: start,
            arg_end: start + SIZE as u64,
            ..self.before
        };
        ours.set()?;
        self.is_shown.store(true, Relaxed);
        Ok(())
    }

    /// Shows the real arguments again.
    pub(super) fn give_back(&self) {
        // OK to ignore: what was possible in one direction is so in the other.
        if self.is_shown.swap(false, Relaxed) {
            let _ = self.before.set();
        }
    }
}

/// The addresses of the parts of this process, as the kernel wants and has them:
/// `struct prctl_mm_map` of `linux/prctl.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Addresses {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

impl Addresses {
    /// What the kernel has: `/proc/self/stat`.
    fn read() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The name of the process, which may have any character in it, ends at the last bracket.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        // Fields are numbered from 1 in proc(5), and the first two stand before the bracket.
        let field = |number: usize| {
            let text = fields.get(number - 3).copied();
            let value = text.and_then(|text| text.parse().ok());
            value.ok_or_else(|| io::Error::other("the kernel does not tell where its parts are"))
        };
        Ok(Self {
            start_code: field(26)?,
            end_code: field(27)?,
            start_data: field(45)?,
            end_data: field(46)?,
            start_brk: field(47)?,
            brk: 0,
            start_stack: field(28)?,
            arg_start: field(48)?,
            arg_end: field(49)?,
            env_start: field(50)?,
            env_end: field(51)?,
            auxv: 0,
            auxv_size: 0,
            exe_fd: u32::MAX,
        })
    }

    /// Tells the kernel where the arguments are. Without privileges all parts have to be told
    /// together with them, also the end of the heap, which must not move meanwhile: so only while
    /// the process has one thread.
    fn set(mut self) -> io::Result<()> {
        if self.set_arguments().is_ok() {
            return Ok(());
        }
        if !limits::has_one_thread() {
            return Err(io::Error::other("the process has several threads"));
        }
        self.brk = end_of_heap();
        let size = size_of::<Self>();
        // SAFETY: the kernel reads the record, which lives across the call and has this size; it
        // keeps the auxiliary vector and the executable, which are left out.
        let set = unsafe {
            libc::prctl(
                libc::PR_SET_MM,
                PR_SET_MM_MAP,
                &raw const self,
                size,
                0 as libc::c_ulong,
            )
        };
        check(set)
    }

    /// Needs the capability sys_resource.
    fn set_arguments(&self) -> io::Result<()> {
        let part = |part: libc::c_int, address: u64| {
            let zero: libc::c_ulong = 0;
            // SAFETY: it changes what /proc shows, and touches no memory.
            check(unsafe { libc::prctl(libc::PR_SET_MM, part, address, zero, zero) })
        };
        // The start must never be behind the end.
        let start = || part(libc::PR_SET_MM_ARG_START, self.arg_start);
        let end = || part(libc::PR_SET_MM_ARG_END, self.arg_end);
        start()
            .and_then(|()| end())
            .or_else(|_| end().and_then(|()| start()))
    }
}

/// Not in the crate `libc`.
const PR_SET_MM_MAP: libc::c_int = 14;

fn end_of_heap() -> u64 {
    // SAFETY: an address that cannot be changes nothing; the kernel answers with the present one.
    let end = unsafe { libc::syscall(libc::SYS_brk, 0) };
    // OK to cast: it is an address.
    end as u64
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Names the calling thread.
pub(super) fn set_name(name: &[u8]) {
    // OK to ignore: there is no zero in a title, and the kernel takes any name.
    if let Ok(name) = CString::new(name) {
        let _ = nix::sys::prctl::set_name(&name);
    }
}
