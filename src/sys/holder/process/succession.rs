//! The holder in an upgrade: it gets what its parent hands over, and becomes the program that the parent
//! has tried, when that has sent its final message and is gone. Everything is prepared before; if the
//! program cannot be executed, the one that it is is executed again, and tells so.

use super::{Holder, end::complain, send};
use crate::{
    core::signal_policy::TABLE,
    sys::{
        holder::{
            handover::HolderOrders,
            messages::{self, NONE, Part},
        },
        signals::{self, number},
        upgrade::{self, LONGEST_INSTRUCTION},
    },
};
use nix::sys::prctl;
use std::os::fd::RawFd;

impl Holder<'_> {
    /// Keeps descriptors for the next program.
    pub(super) fn receive_handed(&mut self, part: Part, fds: messages::Pipes) {
        let (first, count) = (part.first as usize, part.count as usize);
        if first == 0 {
            self.drop_handed();
            self.kept.show(&self.setup.handover);
        }
        let fds = &fds[..count.min(fds.len())];
        self.handed = first + fds.len();
        self.setup.handover.receive(part.attempt, first, fds);
    }

    /// Closes them: there is no upgrade, or none any more.
    pub(super) fn drop_handed(&mut self) {
        let all = 0..std::mem::take(&mut self.handed);
        let handover = &self.setup.handover;
        all.filter_map(|index| handover.handed(index))
            .for_each(messages::close);
    }

    /// The parent is gone: does what it has left to do. Returns if that is nothing, or fails.
    pub(super) fn succeed(&mut self, parent: u32) {
        if let Some(orders) = self.setup.handover.orders_of(parent) {
            self.pass_signals_on();
            self.reap_strangers();
            self.execute(orders);
            complain(b"holder: neither the new program nor this one can be executed; it goes on\n");
        }
        self.drop_handed();
        self.setup.handover.close();
    }

    /// Signals that no parent has acted on are for the next program: they stay pending across the exec,
    /// since they are blocked.
    fn pass_signals_on(&self) {
        let journal = &self.setup.journal;
        let (asked, taken) = (journal.asked(), journal.taken());
        for index in (0..TABLE.len()).filter(|index| asked[*index] != taken[*index]) {
            send(std::process::id(), number(TABLE[index].signal));
        }
        journal.note_taken(&asked);
    }

    /// Becomes the program. Returns only if neither can be executed.
    fn execute(&mut self, orders: HolderOrders) {
        let Some(call) = &mut self.setup.call else {
            return;
        };
        // OK to ignore failures: the next program would get orphans, or ignore what this one does.
        let _ = prctl::set_child_subreaper(false);
        let _ = signals::before_exec();
        let keeps = || self.setup.handover.keeps().filter(|fd| *fd != NONE);
        keeps().for_each(|fd| close_on_exec(fd, false));
        let mut buffer = [0; LONGEST_INSTRUCTION];
        let errno = call.execute(orders.program, self.setup.handover.instruction(&mut buffer));
        let instruction = upgrade::instruction_back(&mut buffer, orders.state, errno);
        call.execute(orders.image, instruction);
        keeps().for_each(|fd| close_on_exec(fd, true));
        signals::after_failed_exec();
        let _ = prctl::set_child_subreaper(true);
    }
}

/// OK to ignore failures: the next program misses what is not there, and comes back.
fn close_on_exec(fd: RawFd, closes: bool) {
    let _ = upgrade::close_on_exec(fd, closes);
}
