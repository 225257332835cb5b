//! What children write and how they end: reading, reaping, the end of a record.

use super::{PreFork, fork::EXIT_ACCEPT, hooked::Hooked};
use crate::{
    core::{
        child::{Child, ChildId, Flags, Reason, Signal},
        error::Operation,
        states::Event,
        wire::{Output as Found, Word},
    },
    hooks::{PreForkHooks, server::ChildServer},
    sys::{
        pidfd::{self, Reaped},
        poller::{Output, Ready, Source},
        scoreboard::Scoreboard,
        shell::Shell,
        wires::Progress,
    },
};
use std::{io, process::ExitStatus};

/// How many tasks may wait for reading to stop in this turn. Each line of a child's output makes one,
/// and a line may be a single byte.
const ENOUGH_TASKS: usize = 16 * 1024;

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// Buries every child that has ended.
    pub(super) fn reap(&mut self, ready: &[Ready]) {
        for event in ready {
            if let Source::Death { slot, generation } = event.source
                && let Some(child) = self.shell.wires.find(slot, generation)
            {
                self.reap_one(child);
            }
        }
        if std::mem::take(&mut self.deaths_unknown) {
            self.look_for_deaths();
        }
    }

    /// SIGCHLD says that somebody has ended, and not who.
    fn look_for_deaths(&mut self) {
        while let Some(pid) = pidfd::peek() {
            let Some(child) = self.core.monitor.child_by_pid(pid).map(Child::id) else {
                // A child of the program's own, and it hides whoever has ended after it.
                for child in self.shell.wires.without_pidfd() {
                    self.reap_one(child);
                }
                return;
            };
            if !self.reap_one(child) {
                return;
            }
        }
    }

    /// Buries a child if it has ended, and says whether it had.
    fn reap_one(&mut self, child: ChildId) -> bool {
        match self.shell.wires.reap(child) {
            Ok(Reaped::Ended(status)) => {
                self.bury(child, status);
                true
            }
            Ok(Reaped::Not) => false,
            Err(error) => {
                self.run_error_of(Operation::Wait, &error, child);
                false
            }
        }
    }

    /// A child is dead: its last lines, then the hooks, then the end of its record.
    fn bury(&mut self, child: ChildId, status: Option<ExitStatus>) {
        for output in Output::ALL {
            let drained = self.shell.wires.drain(child, output, |found| {
                hear(
                    &mut self.core,
                    &mut self.shell.scoreboard,
                    child,
                    output,
                    found,
                )
            });
            if let Err(error) = drained {
                log::debug!("reading the last words of {child}: {error}");
            }
        }
        if self.shell.wires.has_lost(child) {
            // It may have died of that.
            self.output_lost(child);
        }
        self.hear_news(child);
        if self.core.monitor.close(child) {
            self.call_server_closed(child);
        }
        self.shell.wires.remove(&self.shell.poller, child);
        self.shell.scoreboard.leave(child);
        let Some((record, death)) = self.core.monitor.exited(child, status) else {
            return;
        };
        self.core.call("server_exited", |hooks, monitor| {
            hooks.server_exited(monitor, &record, &death);
        });
        if !self.core.monitor.is_shutdown() {
            self.core.monitor.post_event(Event::Forkoff);
        }
        if death.code() == Some(EXIT_ACCEPT)
            && let Some(error) = self.server.lost()
        {
            self.call_child(&error);
        }
    }

    /// Reads what has come, of each output no more than the budget of a turn. What would make the
    /// queue too long is left for the next turn.
    pub(super) fn read(&mut self, ready: &[Ready]) {
        for event in ready {
            if let Source::Output {
                slot,
                generation,
                output,
            } = event.source
                && let Some(child) = self.shell.wires.find(slot, generation)
            {
                self.shell.wires.set_unread(child, output, event.hung_up);
            }
        }
        let unread = self.shell.wires.take_unread();
        for &(child, _) in &unread {
            self.core.monitor.set_unread(child, false);
        }
        for (index, &(child, output)) in unread.iter().enumerate() {
            if index > 0 && self.core.monitor.queue.len() >= ENOUGH_TASKS {
                self.shell.wires.put_back(&unread[index..]);
                break;
            }
            self.read_output(child, output);
        }
        for &(child, _) in self.shell.wires.unread() {
            self.core.monitor.set_unread(child, true);
        }
    }

    fn read_output(&mut self, child: ChildId, output: Output) {
        let Self { core, shell, .. } = self;
        let Shell {
            wires,
            scoreboard,
            poller,
            ..
        } = shell;
        let mut found = |found: Found<'_>| hear(core, scoreboard, child, output, found);
        match wires.read(child, output, &mut found) {
            Ok(Progress::Drained | Progress::More) => {}
            Ok(Progress::Ended) => {
                wires.finish(poller, child, output, found);
                self.output_ended(child, output);
            }
            Ok(Progress::Lost) => {
                wires.finish(poller, child, output, found);
                self.output_lost(child);
                self.output_ended(child, output);
            }
            Err(error) => {
                self.shell.wires.close(&self.shell.poller, child, output);
                self.run_error_of(Operation::Read, &error, child);
                self.output_ended(child, output);
            }
        }
    }

    /// Hears what children have noted while the parent was going to look. What a child has printed was
    /// printed before, so the pipes come first. Where one was not read to its end there may be an older word
    /// in it, so there is another look when more has been read.
    pub(super) fn look_at_scoreboard(&mut self) {
        if !self.to_look_at_scoreboard {
            return;
        }
        self.to_look_at_scoreboard = !self.shell.wires.unread().is_empty();
        for slot in self.shell.scoreboard.to_look_at() {
            if let Some(child) = self.core.monitor.pool.in_slot(slot).map(Child::id) {
                self.hear_news(child);
            }
        }
    }

    /// A word that is printed ends a line that the handler has left unfinished, so one that is noted does too.
    /// What the handler has printed since the pipe was read comes first: it is all there by now.
    fn end_line(&mut self, child: ChildId) {
        const STDOUT: Output = Output::Stdout;
        if !self.shell.wires.is_unfinished(child, STDOUT) {
            return;
        }
        self.read_output(child, STDOUT);
        if self.shell.wires.is_unfinished(child, STDOUT) {
            let Self { core, shell, .. } = self;
            shell
                .wires
                .end_line(child, STDOUT, |found| core.deliver(child, STDOUT, found));
        }
    }

    /// Hears what one child has noted.
    fn hear_news(&mut self, child: ChildId) {
        let Some(believed) = self.core.monitor.is_busy(child) else {
            return;
        };
        let news = self.shell.scoreboard.news(child, believed);
        for &word in news {
            self.core.deliver(child, Output::Stdout, Found::Word(word));
        }
        // After that: what is read there may be a newer word.
        if news.last() == Some(&Word::NotBusy) {
            self.end_line(child);
        }
    }

    /// A child that cannot be heard any more is told to leave, once, and another takes its place.
    fn output_lost(&mut self, child: ChildId) {
        let monitor = &mut self.core.monitor;
        let told = |child: &Child| child.reason().is_some();
        if !monitor.child(child).is_none_or(told) {
            monitor.kill(child, Signal::Interrupt);
            monitor.retire(child, Reason::Faulty);
        }
    }

    fn output_ended(&mut self, child: ChildId, output: Output) {
        let flag = match output {
            Output::Stdout => Flags::STDOUT_OPEN,
            Output::Stderr => Flags::STDERR_OPEN,
            Output::Comm => return,
        };
        if self.core.monitor.output_ended(child, flag) {
            self.call_server_closed(child);
        }
    }

    /// An operation on one child has failed. Unless that shuts the server down, as the default of
    /// the hook does, that child is killed and replaced.
    fn run_error_of(&mut self, operation: Operation, error: &io::Error, child: ChildId) {
        self.call_run_error(operation, error, Some(child));
        let monitor = &mut self.core.monitor;
        if !monitor.is_shutdown() && !monitor.queue.has(&Event::Shutdown) {
            monitor.kill(child, Signal::Kill);
            monitor.retire(child, Reason::Faulty);
        }
    }
}

/// Hands on what has come through a pipe.
fn hear<H: PreForkHooks>(
    core: &mut Hooked<H>,
    scoreboard: &mut Scoreboard,
    child: ChildId,
    output: Output,
    found: Found<'_>,
) {
    if let Found::Word(Word::Busy | Word::NotBusy) = found {
        scoreboard.printed(child);
    }
    core.deliver(child, output, found);
}
