//! What happens in a walk: words, deaths, failures, changed attributes, and what hooks ask for.

use super::*;

impl Walk {
    pub(super) fn say_something(&mut self) {
        let word = self.random.of(&[Word::Ack, Word::Busy, Word::NotBusy]);
        if let Some(child) = self.someone() {
            self.monitor.note_word_heard(child);
            self.hooks
                .handler_server_ack(&mut self.monitor, child, Output::Word(word));
        }
    }

    pub(super) fn end_someone(&mut self) {
        let status = self
            .random
            .of(&[exit_code(0), exit_code(1), ended_by_signal(11), None]);
        if let Some(child) = self.someone() {
            self.finish(child, status);
        }
    }

    pub(super) fn finish(&mut self, child: ChildId, status: Option<WaitStatus>) {
        if self.monitor.close(child) {
            self.hooks.handler_server_closed(&mut self.monitor, child);
        }
        let entry = self.monitor.exited(child, status);
        assert_eq!(entry.is_some(), self.processes.remove(&child).is_some());
        if let Some((record, _)) = entry {
            assert_eq!(record.id(), child);
            self.deaths += 1;
            if !self.monitor.is_shutdown() {
                self.monitor.post_known(PostedState::Forkoff);
            }
        }
    }

    pub(super) fn close_an_output(&mut self) {
        let output = self
            .random
            .of(&[ChildFlags::STDOUT_OPEN, ChildFlags::STDERR_OPEN]);
        if let Some(child) = self.someone()
            && self.monitor.output_ended(child, output)
        {
            self.hooks.handler_server_closed(&mut self.monitor, child);
        }
    }

    pub(super) fn set_something(&mut self) {
        let (random, monitor) = (&mut self.random, &mut self.monitor);
        let number = random.below(14) as usize;
        let time = ms(random.of(&[100, 400, 3000, 20_000]));
        match random.below(12) {
            0 => monitor.set_min_spare_servers(number / 3),
            1 => monitor.set_max_spare_servers(number / 2),
            2 => monitor.set_start_servers(number),
            3 => monitor.set_max_clients(number),
            4 => monitor.set_timeout(if number == 0 { Duration::ZERO } else { time }),
            5 => monitor.set_kill_timeout(time),
            6 => monitor.set_shutdown_timeout(time),
            7 => monitor.set_cull_after(if number == 0 { Duration::ZERO } else { time }),
            8 => monitor.set_max_lifetime(if number < 7 { Duration::ZERO } else { time }),
            9 => monitor.set_replace_at_once(number / 4),
            10 => monitor.set_limit_jitter(number * 10),
            _ => monitor.set_server_check_ack(Some(time)),
        }
    }

    pub(super) fn fail_somehow(&mut self) {
        let Some(child) = self.someone() else { return };
        match self.random.below(4) {
            0 => {
                self.monitor.fork_failed();
            }
            1 => {
                let error = io::Error::from_raw_os_error(5);
                self.monitor.set_shutdown_on_error(false);
                let (hooks, monitor) = (&mut self.hooks, &mut self.monitor);
                hooks.handler_run_error(monitor, Operation::Read, &error, Some(child));
                let killed = |child: &Child| child.flags.contains(ChildFlags::KILL_SENT);
                if !monitor.child(child).is_some_and(killed) {
                    monitor.kill(child, Signal::Kill);
                    monitor.retire(child, Reason::Faulty);
                }
            }
            _ => self.monitor.set_unread(child, self.random.one_in(2)),
        }
    }

    /// What a hook may do, at any time.
    pub(super) fn ask_for_something(&mut self) {
        let monitor = &mut self.monitor;
        let state = self.random.of(&[
            "forkoff",
            "server_fork",
            "server_timeout_check",
            "own",
            "unheard of",
        ]);
        let after = ms(self.random.of(&[0, 10, 900]));
        match self.random.below(100) {
            0..40 => monitor.post(state),
            40..70 => {
                let alarm = monitor.delay_set(state, after);
                if self.random.one_in(3) {
                    assert!(monitor.alarm_remove(alarm));
                }
            }
            70..75 => monitor.alarm_remove_all(),
            75..83 => {
                monitor.fork();
            }
            83 => monitor.reload(),
            84 => {
                if let Some(child) = self.someone() {
                    self.monitor.replace(child);
                }
            }
            85..99 => self.signal_someone(),
            _ if self.random.one_in(20) => monitor.shutdown(),
            _ => {}
        }
    }

    fn signal_someone(&mut self) {
        let Some(child) = self.someone() else { return };
        let monitor = &mut self.monitor;
        monitor.kill(child, Signal::User1);
        if monitor.child(child).is_some_and(|child| !child.was_told()) {
            monitor.kill(child, Signal::Interrupt);
            monitor.retire(child, Reason::Asked);
        }
    }
}
