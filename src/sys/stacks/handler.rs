//! The signal handler of a child that is asked: copies registers and a piece of the stack to shared
//! memory, and returns. Async-signal-safe: no allocation, no lock, and no access to memory that may
//! not be there.

#![allow(unsafe_code)]

use super::area::{Registers, StackSlot};
use crate::{core::child::ChildId, sys::signals::SavedErrno};
use nix::{
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};
use std::{
    io,
    ptr::NonNull,
    sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::Relaxed},
};

/// The signal that asks for a stack.
///
/// Its default is to do nothing, so it harms no process that does not expect it: a program that was
/// exec'd, a helper of a handler. The kernel sends it for out-of-band data, and only to a process that
/// has asked for that.
pub(crate) const QUESTION: Option<Signal> = Some(Signal::SIGURG);

/// The child's pid, its slot, as an address, and its serial. A child has one of each, so these are
/// statics.
static OWNER: AtomicI32 = AtomicI32::new(0);
static SLOT: AtomicUsize = AtomicUsize::new(0);
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// In a new child: answers the question from now on, unless the program handles this signal itself.
pub(super) fn install(slot: StackSlot, child: ChildId) -> io::Result<()> {
    SERIAL.store(child.serial(), Relaxed);
    SLOT.store(slot.address(), Relaxed);
    OWNER.store(std::process::id().cast_signed(), Relaxed);
    // On the alternate stack, which std gives each of its threads: the stack may be full. All signals
    // wait until the handler is done, which takes microseconds.
    let flags = SaFlags::SA_ONSTACK | SaFlags::SA_RESTART | SaFlags::SA_SIGINFO;
    let action = SigAction::new(SigHandler::SigAction(on_question), flags, SigSet::all());
    // SAFETY: the handler calls async-signal-safe functions only.
    let before = unsafe { sigaction(Signal::SIGURG, &action) }?;
    if !matches!(before.handler(), SigHandler::SigDfl | SigHandler::SigIgn) {
        // SAFETY: the program had this disposition before, and vouches for its handler.
        unsafe { sigaction(Signal::SIGURG, &before) }?;
    }
    Ok(())
}

extern "C" fn on_question(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let _errno = SavedErrno::save();
    // A process that the child has forked has its handler and its slot.
    // SAFETY: getpid is async-signal-safe and cannot fail.
    if unsafe { libc::getpid() } != OWNER.load(Relaxed) {
        return;
    }
    // SAFETY: the kernel passes a valid context to a handler with SA_SIGINFO.
    let registers = registers(unsafe { &*context.cast() });
    // SAFETY: `install` has stored the address of a slot. A child does not drop the area.
    if let Some(slot) = unsafe { StackSlot::at(SLOT.load(Relaxed)) } {
        slot.leave(SERIAL.load(Relaxed), registers, copy);
    }
}

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    let values = &context.uc_mcontext.gregs;
    Registers {
        ip: values[libc::REG_RIP as usize].cast_unsigned(),
        sp: values[libc::REG_RSP as usize].cast_unsigned(),
        fp: values[libc::REG_RBP as usize].cast_unsigned(),
        lr: 0,
    }
}

#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    let machine = &context.uc_mcontext;
    Registers {
        ip: machine.pc,
        sp: machine.sp,
        fp: machine.regs[29],
        lr: machine.regs[30],
    }
}

/// How much is read at a time: where a page is missing, what lies before it has been copied.
const STEP: usize = 4096;
const STEPS: usize = 17;

/// Copies memory of this process from `from` up to where it ends. The kernel does it, which notices
/// what is not there: a stack pointer that is wrong must not end the child in its handler.
fn copy(from: u64, to: NonNull<u8>, most: usize) -> usize {
    let mut pieces = [const {
        libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }
    }; STEPS];
    let (mut at, mut left, mut count) = (from as usize, most, 0);
    while left > 0 && count < STEPS {
        let piece = (STEP - at % STEP).min(left);
        pieces[count] = libc::iovec {
            iov_base: at as *mut libc::c_void,
            iov_len: piece,
        };
        at = at.wrapping_add(piece);
        left -= piece;
        count += 1;
    }
    let target = libc::iovec {
        iov_base: to.as_ptr().cast(),
        iov_len: most - left,
    };
    // Each number has the width of a register: a narrower one leaves the rest of it undefined.
    // SAFETY: getpid cannot fail. The bare system call takes no lock; it writes at most `most` bytes
    // to `to`, and reads what is mapped and nothing else.
    let copied = unsafe {
        libc::syscall(
            libc::SYS_process_vm_readv,
            libc::getpid(),
            &raw const target,
            1_usize,
            pieces.as_ptr(),
            count,
            0_usize,
        )
    };
    usize::try_from(copied).unwrap_or(0)
}

/// Whether this process may read its own memory in this way: a seccomp profile may forbid it.
pub(super) fn can_copy() -> bool {
    let (from, mut to) = ([7_u8; 64], [0_u8; 64]);
    let most = to.len();
    copy(from.as_ptr() as u64, NonNull::from(&mut to).cast(), most) == most && to == from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_copied_up_to_where_it_ends() {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
        let length = std::num::NonZeroUsize::new(3 * STEP).unwrap();
        let (read, flags) = (
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE,
        );
        // SAFETY: a new mapping, of which the last page is removed again.
        let memory = unsafe {
            let memory = mmap_anonymous(None, length, read, flags).unwrap();
            munmap(memory.add(2 * STEP), STEP).unwrap();
            memory
        };
        let mut to = vec![1_u8; 64 * 1024];
        let target = NonNull::new(to.as_mut_ptr()).unwrap();
        let from = memory.as_ptr() as u64;
        assert_eq!(copy(from + 8, target, 64 * 1024), 2 * STEP - 8);
        assert_eq!(copy(from + 2 * STEP as u64, target, 64 * 1024), 0);
        assert_eq!(copy(0, target, 64 * 1024), 0);
        assert_eq!(copy(u64::MAX - 4, target, 64 * 1024), 0);
        assert_eq!(to[2 * STEP - 8], 1, "nothing was written behind that");
        assert!(can_copy());
    }
}
