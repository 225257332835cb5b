//! The faults: forks and starts that fail, a parent that does not run, foreign processes with pids
//! of dead children, signals to the parent in any order, and a list of faults for each child.
//! Checks nothing.

use super::{ModelEvent, World, ms, us};
use crate::core::{
    child::{ChildId, Signal},
    simulation::model::Fault,
    wire::BoardEntry,
};

impl World {
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let pause = ms(1 + self.random.below(200));
        self.at(pause, ModelEvent::Fault);
        let span = ms(self.random.below(3_000));
        // Rare, so that the pool usually has children for other faults: failed starts slow forking
        // down for long.
        match self.random.below(64) {
            0 => self.forks_fail_until = self.now + span,
            1 => self.starts_fail_until = self.now + span / 8,
            2 => self.stand_still(span),
            3 | 4 => self.forks_to_fail = 1 + self.random.below(3),
            5..=7 => self.kernel.foreign_starts(),
            8..=10 => self.kernel.foreign_ends(),
            11 => self.kernel.other_ends(),
            12 | 13 => self.kernel.other_is_reaped(),
            14 => self.parent.deaths_lost_until = self.now + span,
            // Another signal comes at a time when the shutdown may have begun or not.
            15..=18 if self.parent.told => self.tell_to_shut_down(),
            _ => self.hurt_any(),
        }
    }

    /// Whether a child that was just forked cannot be watched.
    pub(super) fn fails_to_watch(&mut self) -> bool {
        !self.faultless && self.random.one_in(500)
    }

    /// SIGINT, sometimes from a terminal, which sends it to the children as well; or SIGTERM; or
    /// both; or SIGQUIT, alone or with one of them.
    pub(crate) fn tell_to_shut_down(&mut self) {
        let parent = &self.parent;
        let pending = parent.interrupt_pending || parent.terminate_pending || parent.quit_pending;
        match self.random.below(6) {
            0 => self.parent.terminate_pending = true,
            1 => {
                self.parent.interrupt_pending = true;
                self.interrupt_the_children();
            }
            2 => {
                self.parent.interrupt_pending = true;
                self.parent.terminate_pending = true;
            }
            3 => {
                self.parent.quit_pending = true;
                let patience = ms(self.random.below(20_000));
                self.at(patience, ModelEvent::Impatience);
            }
            4 => {
                self.parent.quit_pending = true;
                self.parent.terminate_pending = true;
            }
            _ => self.parent.interrupt_pending = true,
        }
        if !pending {
            let delay = us(1 + self.random.below(300));
            self.at(delay, ModelEvent::Told);
        }
    }

    fn interrupt_the_children(&mut self) {
        for slot in 0..self.kernel.slots() {
            if let Some(entry) = self.kernel.in_slot(slot) {
                let id = entry.id;
                if !entry.reaped && entry.model.hear(Signal::Interrupt) {
                    self.go_on_if_waiting(id);
                }
            }
        }
    }

    fn hurt_any(&mut self) {
        let Some(id) = self.kernel.any(&mut self.random) else {
            return;
        };
        let Some(model) = self.kernel.get(id) else {
            return;
        };
        if model.is_dead() || self.is_immortal(id) {
            return;
        }
        // A child that is stopped or has closed an output keeps that fault; SIGCONT may end the
        // first.
        let lasting = matches!(model.fault, Some(Fault::Stopped | Fault::ClosedOutput));
        match self.random.below(16) {
            0..=6 if lasting => self.go_on_after_all(id),
            0 => self.hurt(id, Fault::IgnoresInterrupt),
            1 => self.hurt(id, Fault::Stopped),
            2 => self.close_outputs(id),
            3 => self.babble(id),
            4 => self.flood(id),
            5 if self.random.one_in(8) => self.break_output(id),
            6 if self.random.one_in(8) => self.hurt(id, Fault::Immortal),
            7 => self.end(id, 0),
            8 => self.end(id, 1 << 8),
            9 => self.end(id, 11),
            10 => self.scribble(id),
            11 if self.random.one_in(4) => self.hook_reaps(id),
            _ => self.end(id, 9),
        }
    }

    /// SIGCONT, as an operator sends it.
    fn go_on_after_all(&mut self, id: ChildId) {
        if let Some(model) = self.kernel.get_mut(id)
            && model.hear(Signal::Continue)
        {
            self.resume(id);
        }
    }

    /// One of them, or both.
    fn close_outputs(&mut self, id: ChildId) {
        self.hurt(id, Fault::ClosedOutput);
        let which = self.random.below(4);
        if let Some(model) = self.kernel.get_mut(id) {
            if which != 0 {
                model.stdout.close();
            }
            if which != 1 {
                model.stderr.close();
            }
        }
        self.wake_soon();
    }

    /// Words, and bytes that look like words, whole and in pieces.
    fn babble(&mut self, id: ChildId) {
        self.hurt(id, Fault::Babbling);
        let count = self.random.below(20);
        for _ in 0..count {
            let byte = self.random.of(b"\x06\x13\x11\nx\r");
            let end: &[u8] = if self.random.one_in(2) { b"\n" } else { b"" };
            if let Some(model) = self.kernel.get_mut(id) {
                model.stdout.write(&[byte]);
                model.stdout.write(end);
                model.stderr.write(&[byte]);
            }
        }
        self.wake_soon();
    }

    /// About as much as a pipe holds, with or without an end of line: words find no room.
    fn flood(&mut self, id: ChildId) {
        self.hurt(id, Fault::Babbling);
        let count = self.random.below(70_000) as usize;
        let line = self.random.one_in(2);
        if let Some(model) = self.kernel.get_mut(id) {
            model.stdout.flood(b'x', count);
            if line {
                model.stdout.write(b"\n");
            }
        }
        self.wake_soon();
    }

    /// Writes random bytes into its own board entry.
    fn scribble(&mut self, id: ChildId) {
        if let Some(model) = self.kernel.get_mut(id) {
            model.lies = true;
        }
        let scribble = self.random.below(1 << 32) | u64::from(id.serial()) << 32;
        if let Some(entry) = self.board.entries.get_mut(id.slot()) {
            *entry = BoardEntry::from_bits(scribble);
        }
        self.wake_for_words();
    }

    /// A hook that calls wait(2) takes its status.
    fn hook_reaps(&mut self, id: ChildId) {
        self.end(id, 0);
        self.kernel.reap(id);
        self.deaths_late = true;
    }

    pub(super) fn is_immortal(&self, id: ChildId) -> bool {
        let model = self.kernel.get(id);
        model.is_some_and(|model| model.fault == Some(Fault::Immortal))
    }

    fn break_output(&mut self, id: ChildId) {
        self.hurt(id, Fault::Unreadable);
        if let Some(model) = self.kernel.get_mut(id) {
            model.stdout.break_off();
        }
        self.wake_soon();
    }
}
