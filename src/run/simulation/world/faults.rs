//! What goes wrong: forks and starts that fail by plan, a parent that stands still, strangers with
//! pids of the dead, hooks with ideas of their own, and a menu of faults for each child.

use super::{Happening, World, ms};
use crate::{
    core::child::{Child, ChildId, Reason, Signal, State},
    run::simulation::model::Fault,
};

impl World {
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let pause = ms(1 + self.random.below(200));
        self.at(pause, Happening::Fault);
        let span = ms(self.random.below(3_000));
        // Rare enough that the pool is mostly there to be hurt: failed starts slow it down for long.
        match self.random.below(60) {
            0 => self.forks_fail_until = self.now + span,
            1 => self.starts_fail_until = self.now + span / 8,
            2 => self.stand_still(span),
            3 | 4 => self.forks_to_fail = 1 + self.random.below(3),
            5..=7 => self.kernel.stranger_comes(),
            8..=10 => self.kernel.stranger_goes(),
            // Another SIGINT comes at a moment when the shutdown may have begun, and often has not.
            11..=14 if self.is_shutting_down() => self.tell_to_shut_down(),
            11..=13 => self.a_hook_forks(),
            14 => self.a_hook_retires_somebody(),
            _ => self.hurt_somebody(),
        }
    }

    /// More children than are needed.
    fn a_hook_forks(&mut self) {
        for _ in 0..self.random.below(6) {
            self.core.monitor.fork();
        }
        self.wake_soon();
    }

    fn a_hook_retires_somebody(&mut self) {
        let monitor = &mut self.core.monitor;
        let unasked = monitor
            .children()
            .find(|child| child.state() != State::Retiring);
        if let Some(id) = unasked.map(Child::id) {
            monitor.kill(id, Signal::Interrupt);
            monitor.retire(id, Reason::Asked);
        }
        self.wake_soon();
    }

    fn hurt_somebody(&mut self) {
        let Some(id) = self.kernel.any(&mut self.random) else {
            return;
        };
        let Some(model) = self.kernel.get(id) else {
            return;
        };
        if model.is_dead() {
            return;
        }
        // Who is stopped or mute stays so, but for SIGCONT.
        let lasting = matches!(model.fault, Some(Fault::Stopped | Fault::Mute));
        match self.random.below(14) {
            0..=6 if lasting => self.go_on_after_all(id),
            0 => self.hurt(id, Fault::Deaf),
            1 => self.hurt(id, Fault::Stopped),
            2 => self.close_outputs(id),
            3 => self.babble(id),
            4 => self.flood(id),
            5 if self.random.one_in(8) => self.break_output(id),
            7 => self.end(id, 0),
            8 => self.end(id, 1 << 8),
            9 => self.end(id, 11),
            _ => self.end(id, 9),
        }
    }

    /// SIGCONT, from somebody who has an eye on the machine.
    fn go_on_after_all(&mut self, id: ChildId) {
        if let Some(model) = self.kernel.get_mut(id)
            && model.hear(Signal::Continue)
        {
            self.resume(id);
        }
    }

    /// One of them, or both.
    fn close_outputs(&mut self, id: ChildId) {
        self.hurt(id, Fault::Mute);
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

    /// Words and what looks like words, cut and whole.
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

    /// More than a pipe holds, or nearly so, with or without an end of line: words find no room.
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

    fn break_output(&mut self, id: ChildId) {
        self.hurt(id, Fault::Unreadable);
        if let Some(model) = self.kernel.get_mut(id) {
            model.stdout.broken = true;
        }
        self.wake_soon();
    }
}
