//! The faults: forks and starts that fail, a parent that does not run, foreign processes with pids
//! of dead children, threads of the program, and a list of faults for each child.
//! Checks nothing.

use super::{ModelEvent, World, ms};
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
            15..=18 if self.signals.told() => self.tell_to_shut_down(),
            19..=26 => self.send_any_signal(),
            27 => self.parent.threads_until = self.now + span / 4,
            _ => self.hurt_any(),
        }
    }

    /// Whether a child that was just forked cannot be watched.
    pub(super) fn fails_to_watch(&mut self) -> bool {
        !self.faultless && self.random.one_in(500)
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
            let byte = self.random.of(b"\x06\x13\x11123\nx\r");
            let end: &[u8] = if self.random.one_in(2) { b"\n" } else { b"" };
            if let Some(model) = self.kernel.get_mut(id) {
                model.forges = true;
                model.stdout.write(&[byte]);
                model.stdout.write(end);
                model.stderr.write(&[byte]);
                if let Some(comm) = &mut model.comm {
                    comm.write(&[byte]);
                    comm.write(end);
                }
            }
        }
        self.wake_soon();
    }

    /// About as much as a pipe holds, with or without an end of line: words find no room.
    fn flood(&mut self, id: ChildId) {
        self.hurt(id, Fault::Babbling);
        let count = self.random.below(70_000) as usize;
        let line = self.random.one_in(2);
        let on_words = self.random.one_in(2);
        if let Some(model) = self.kernel.get_mut(id) {
            let pipe = match &mut model.comm {
                Some(comm) if on_words => comm,
                _ => &mut model.stdout,
            };
            pipe.flood(b'x', count);
            if line {
                pipe.write(b"\n");
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
