//! Walks the copy of a stack: from the registers, frame by frame, to the addresses to which the calls
//! return. Takes any bytes: it reads within the copy only, and takes a bounded number of steps.

use super::{
    area::{Registers, StackCopy},
    modules::Modules,
};
use framehop::{CacheNative, FrameAddress, MayAllocateDuringUnwind, UnwindRegsNative, Unwinder};

/// How many calls are followed.
pub(super) const MOST_CALLS: usize = 64;

/// Where one function was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CallSite {
    /// The address at which the function goes on.
    pub(super) address: u64,
    /// An address in the instruction that it was at.
    pub(super) lookup: u64,
}

impl CallSite {
    fn of(address: FrameAddress) -> Self {
        Self {
            address: address.address(),
            lookup: address.address_for_lookup(),
        }
    }
}

/// The calls on a stack, the innermost first. They end where the stack, the copy or the knowledge of
/// how to go on ends.
pub(super) fn walk(modules: &Modules, copy: &StackCopy) -> Vec<CallSite> {
    let Registers { ip, sp, .. } = copy.registers;
    let mut read = |address: u64| {
        let at = usize::try_from(address.wrapping_sub(sp)).map_err(drop)?;
        let end = at.checked_add(size_of::<u64>()).ok_or(())?;
        let word = copy.stack.get(at..end).ok_or(())?;
        word.try_into().map(u64::from_ne_bytes).map_err(drop)
    };
    let mut cache = CacheNative::<MayAllocateDuringUnwind>::new();
    let registers = native(copy.registers);
    let mut steps = modules
        .frames
        .iter_frames(ip, registers, &mut cache, &mut read);
    let mut calls = Vec::new();
    while calls.len() < MOST_CALLS
        && let Ok(Some(address)) = steps.next()
    {
        calls.push(CallSite::of(address));
    }
    calls
}

#[cfg(target_arch = "x86_64")]
fn native(registers: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.ip, registers.sp, registers.fp)
}

/// Return addresses may be signed, in the bits that no address of a user's process has.
#[cfg(target_arch = "aarch64")]
fn native(registers: Registers) -> UnwindRegsNative {
    use framehop::aarch64::PtrAuthMask;
    const LARGEST_ADDRESS: u64 = (1 << 48) - 1;
    let mask = PtrAuthMask::from_max_known_address(LARGEST_ADDRESS);
    UnwindRegsNative::new_with_ptr_auth_mask(mask, registers.lr, registers.sp, registers.fp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Clock;
    use proptest::prelude::*;
    use std::time::Duration;

    thread_local! {
        static MODULES: Modules = Modules::of(std::process::id(), None);
    }

    fn walked(copy: &StackCopy) -> Vec<CallSite> {
        MODULES.with(|modules| walk(modules, copy))
    }

    /// An address in the code of this program, as a fault may leave it on a stack.
    fn somewhere_in_code(offset: u64) -> u64 {
        (walked as fn(&StackCopy) -> Vec<CallSite> as usize as u64).wrapping_add(offset % 1_000_000)
    }

    #[test]
    fn a_stack_without_bytes_has_the_function_that_runs() {
        let ip = somewhere_in_code(0);
        let registers = Registers {
            ip,
            ..Registers::default()
        };
        let copy = StackCopy {
            registers,
            stack: Vec::new(),
        };
        assert_eq!(
            walked(&copy),
            [CallSite {
                address: ip,
                lookup: ip
            }]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Garbage is no stack, and does no harm: bytes of chance, addresses of code among them, and
        /// registers that point anywhere.
        #[test]
        fn any_bytes_are_walked_within_bounds(
            ip in any::<u64>(),
            in_code: bool,
            sp in prop_oneof![any::<u64>(), Just(u64::MAX), Just(0), Just(1 << 46)],
            fp_at in 0_u64..70_000,
            words in proptest::collection::vec((any::<u64>(), 0_u8..3), 0..2000),
            odd in 0_usize..8,
        ) {
            let ip = if in_code { somewhere_in_code(ip) } else { ip };
            let words = words.iter().enumerate().map(|(at, (word, kind))| match kind {
                0 => *word,
                1 => somewhere_in_code(*word),
                _ => sp.wrapping_add((at as u64 + word % 64) * 8),
            });
            let mut stack: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
            stack.truncate(stack.len().saturating_sub(odd));
            let registers = Registers { ip, sp, fp: sp.wrapping_add(fp_at), lr: ip };
            let clock = Clock::new();
            let calls = walked(&StackCopy { registers, stack });
            prop_assert!(calls.len() <= MOST_CALLS);
            prop_assert!(clock.now().since_start() < Duration::from_secs(1));
            MODULES.with(|modules| modules.name(&calls[..calls.len().min(4)]));
        }
    }
}
