//! The world as the loop sees it: `System` over the model kernel. Makes no system call.

use super::{
    ModelEvent, Simulated, World, ms,
    process::{ModelProcess, end_of},
    upgrade::ModelTrial,
    us,
};
use crate::core::{
    board::{SharedView, SlotNotes},
    brake::RunTime,
    child::{ChildId, Signal},
    comm::Interval,
    error::{Error, Operation},
    queue::PrintTo,
    signal_policy::{self, Arrived},
    simulation::{model::Model, pipe},
    stack::Frame,
    state::Snapshot,
    states::{Watch, WatchId},
    system::{ChildPipe, ChildToken, EventSource, ForkTerms, Forked, Ready, System, Wait},
    time::Time,
    upgrade::Trial,
    wire::BoardEntry,
};
use std::{convert::Infallible, io, path::Path, time::Duration};

const EAGAIN: i32 = 11;
const EINVAL: i32 = 22;

/// The wait of the parent, during which all events happen.
impl World {
    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) {
        self.board.will_look = matches!(wait, Wait::ForWords(_));
        let timeout = match wait {
            Wait::ForAnything(timeout) => timeout,
            Wait::ForWords(batch) => Some(batch),
        };
        self.parent.wakes_at = None;
        if let Some(timeout) = timeout {
            // A kernel is never early, and rarely exact.
            let late = us(self.random.below(300));
            self.wake(timeout + late);
        }
        if self.has_something_for_the_parent() {
            self.wake_soon();
        }
        let answers = self.stacks.answers.iter().map(|(at, ..)| *at);
        let trial = self.trial.as_ref().and_then(ModelTrial::changes_at);
        if let Some(at) = answers.chain(trial.filter(|at| self.now < *at)).min() {
            self.wake(at.since(self.now));
        }
        while self.goes_on_waiting() {
            self.step();
        }
        let wakes_at = self.parent.wakes_at.unwrap_or(self.now);
        self.now = self.now.max(wakes_at);
        self.board.will_look = false;
        self.collect(ready);
    }

    /// Whether something happens before the parent wakes.
    fn goes_on_waiting(&self) -> bool {
        let next = self.agenda.peek().map(|next| next.0.0);
        let wakes_at = self.parent.wakes_at;
        assert!(next.is_some() || wakes_at.is_some(), "it waits for ever");
        let sooner = next.is_some_and(|next| wakes_at.is_none_or(|wakes_at| next < wakes_at));
        sooner && self.events < self.pause_at
    }

    fn has_something_for_the_parent(&self) -> bool {
        let mut models = self.kernel.iter().map(|entry| &entry.model);
        self.signals.have_come() || models.any(Model::has_edge)
    }

    fn collect(&mut self, ready: &mut Vec<Ready>) {
        ready.clear();
        for slot in 0..self.kernel.slots() {
            let Some(entry) = self.kernel.in_slot(slot) else {
                continue;
            };
            let told = ChildToken::of(entry.id);
            for pipe in ChildPipe::ALL {
                let edge = end_of(&mut entry.model, pipe).and_then(pipe::ModelPipe::take_edge);
                ready.extend(edge.map(|hung_up| Ready {
                    source: EventSource::Pipe(told, pipe),
                    hung_up,
                }));
            }
        }
        ready.push(Ready {
            source: EventSource::Signals,
            hung_up: false,
        });
    }

    /// Lets the parent wake after `delay`, or sooner if that was planned.
    pub(super) fn wake(&mut self, delay: Duration) {
        let at = (self.now + delay).max(self.parent.stands_still_until);
        let wakes_at = self.parent.wakes_at;
        self.parent.wakes_at = Some(wakes_at.map_or(at, |planned| planned.min(at)));
    }

    /// Lets the parent wake soon, since something has arrived for it.
    pub(super) fn wake_soon(&mut self) {
        let delay = us(1 + self.random.below(200));
        self.wake(delay);
    }

    /// The same for words: they accumulate if the parent will look.
    pub(super) fn wake_for_words(&mut self) {
        if !self.board.will_look {
            self.wake_soon();
        }
    }

    /// The parent does not run for `span`: it was stopped, or starved.
    pub(super) fn stand_still(&mut self, span: Duration) {
        if self.now < self.parent.stands_still_until {
            return;
        }
        self.parent.stands_still_until = self.now + span;
        self.parent.stood_still += span;
        self.parent.pauses += 1;
        self.parent.paused += span;
        self.parent.wakes_at = None;
        self.wake(span);
    }

    pub(super) fn announce_death(&mut self) {
        if self.now < self.parent.deaths_lost_until {
            self.deaths_late = true;
        } else if !std::mem::replace(&mut self.parent.death_pending, true) {
            let delay = us(1 + self.random.below(300));
            self.at(delay, ModelEvent::Deaths);
        }
    }

    pub(super) fn hear_of_deaths(&mut self) {
        self.parent.death_pending = false;
        if let Some(row) = signal_policy::index(Signal::Child) {
            self.hear_signal(row);
        }
    }

    fn fork(&mut self, terms: ForkTerms) -> io::Result<u32> {
        let id = terms.id;
        self.check_a_fork_in_the_drain();
        let fails = self.now < self.forks_fail_until || self.forks_to_fail > 0;
        self.forks_to_fail = self.forks_to_fail.saturating_sub(1);
        if fails {
            return Err(io::Error::from_raw_os_error(EAGAIN));
        }
        let pid = self.kernel.take_pid();
        let mut model = Model::new(pid, self.capacity, self.words);
        model.reserved = terms.reserved;
        if terms.private {
            model.comm = Some(pipe::ModelPipe::new(self.capacity));
        }
        self.kernel.enter(id, model);
        // Slow now and then, as with a cold cache or a big interpreter.
        let longest = match self.random.one_in(100) {
            true => 3_000_000,
            false => 3_000,
        };
        let start_up = us(50 + self.random.below(longest));
        self.plan_step(id, start_up);
        Ok(pid)
    }

    /// Fails while the program has a second thread.
    fn check_threads(&self) -> Result<(), Error> {
        if self.now < self.parent.threads_until {
            let reason = io::Error::other("there are two threads");
            return Err(Error::new(Operation::Fork, "a child", reason));
        }
        Ok(())
    }

    /// Installs the handler of a signal that posts a state; now and then that fails.
    fn lead(&mut self, signal: Signal) -> Result<(), Error> {
        if self.random.one_in(8) {
            let reason = io::Error::from_raw_os_error(EINVAL);
            return Err(Error::new(Operation::Signal, format!("{signal:?}"), reason));
        }
        self.install(signal);
        Ok(())
    }

    /// How long a start has run: it was heavy or not.
    pub(super) fn run_time(&mut self) -> Option<RunTime> {
        self.pressure?;
        let longest = self.random.of(&[1_000, 100_000]);
        Some(RunTime {
            ran: us(self.random.below(longest)),
            waited: us(self.random.below(longest)),
        })
    }

    /// Each look finds between none and all of the time since the start.
    fn pressure(&mut self) -> Option<Duration> {
        let before = self.pressure?;
        let all = self.now.since_start().saturating_sub(before);
        let more = us(self.random.below(1 + all.as_micros() as u64));
        self.pressure = Some(before + more);
        self.pressure
    }

    /// Most children leave their stack at once, some never. Most are read soon, some are not.
    fn ask_stack(&mut self, id: ChildId) {
        let leaves = self.kernel.get(id).is_some_and(Model::acts) && !self.random.one_in(8);
        if leaves {
            self.stacks.left.push(id);
        }
        if !self.random.one_in(16) {
            let delay = ms(self.random.below(4000));
            self.stacks.answers.push((self.now + delay, id, leaves));
        }
    }

    fn stacks(&mut self) -> Vec<(ChildId, Vec<Frame>)> {
        let now = self.now;
        let come = self.stacks.answers.extract_if(.., |(at, ..)| *at <= now);
        come.map(|(_, id, leaves)| (id, vec![Frame::default(); usize::from(leaves)]))
            .collect()
    }

    pub(super) fn signal(&mut self, id: ChildId, signal: Signal) {
        let acts = self.kernel.kill(id, signal);
        if acts {
            if self.kernel.get(id).is_some_and(Model::is_dead) {
                self.announce_death();
            }
            self.go_on_if_waiting(id);
        }
    }
}

impl System for Simulated {
    type NewChild = Infallible;
    type Process = ModelProcess;

    fn now(&self) -> Time {
        self.0.borrow().now
    }

    fn pid(&self) -> u32 {
        1
    }

    fn is_owner(&self) -> bool {
        !self.0.borrow().abandoned
    }

    fn take_possession(&mut self) -> bool {
        false
    }

    fn lead(&mut self, signal: Signal) -> Result<(), Error> {
        self.0.borrow_mut().lead(signal)
    }

    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> Result<(), Error> {
        self.0.borrow_mut().wait(wait, ready);
        Ok(())
    }

    fn signals(&mut self, _: bool) -> Arrived {
        self.0.borrow_mut().take_signals()
    }

    fn check_threads(&self) -> Result<(), Error> {
        self.0.borrow().check_threads()
    }

    fn fork(&mut self, terms: ForkTerms) -> Result<Forked<ModelProcess, Infallible>, Error> {
        let forked = self.0.borrow_mut().fork(terms);
        let pid = forked.map_err(|error| Error::new(Operation::Fork, "a child", error))?;
        let fails = self.0.borrow_mut().fails_to_watch();
        let watched = match fails {
            true => Err(io::Error::other("it cannot be watched")),
            false => Ok(()),
        };
        let process = ModelProcess {
            world: self.clone(),
            id: terms.id,
        };
        Ok(Forked::Parent {
            pid,
            process,
            watched,
        })
    }

    fn is_passing(&self, error: &io::Error) -> bool {
        error.raw_os_error() == Some(EAGAIN)
    }

    fn peek(&mut self) -> Option<u32> {
        self.0.borrow().kernel.peek()
    }

    fn reap_orphan(&mut self, _: u32) -> bool {
        false
    }

    fn reap_orphans(&mut self, _: &dyn Fn(u32) -> bool) {}

    fn open_slot(&mut self, child: ChildId) -> bool {
        let entry = BoardEntry::of(child.serial());
        self.0.borrow_mut().board.set(child.slot(), entry)
    }

    fn close_slot(&mut self, slot: usize) -> bool {
        self.0.borrow_mut().board.set(slot, BoardEntry::default());
        false
    }

    fn noted(&self, slot: usize) -> BoardEntry {
        let world = self.0.borrow();
        world.board.entries.get(slot).copied().unwrap_or_default()
    }

    fn view(&self) -> SharedView {
        SharedView::default()
    }

    fn notes(&self, slot: usize) -> SlotNotes {
        let world = self.0.borrow();
        let in_hand = world.board.in_hand(slot);
        let requests = world.board.requests.get(slot).copied();
        drop(world);
        SlotNotes {
            entry: self.noted(slot),
            requests: requests.unwrap_or_default(),
            since: in_hand.since,
            extended_until: in_hand.extended_until,
            due: self.0.borrow_mut().is_due(slot),
            ..SlotNotes::default()
        }
    }

    fn ask_interval(&mut self, _: Interval) {}

    fn kept_interval(&self, _: usize) -> Option<Interval> {
        None
    }

    fn print(&mut self, _: PrintTo, _: &[u8]) {}

    fn flush(&mut self) -> u64 {
        0
    }

    fn is_printing(&self) -> bool {
        false
    }

    fn give_up_printing(&mut self) -> u64 {
        0
    }

    fn watch(&mut self, watch: Watch) -> io::Result<()> {
        panic!("{watch:?} cannot be watched here");
    }

    fn unwatch(&mut self, id: WatchId) {
        panic!("{id:?} cannot be watched here");
    }

    fn watched_state(&self, _: u64) -> Option<&str> {
        None
    }

    fn collects_stacks(&self) -> bool {
        self.0.borrow().stacks.are_collected
    }

    fn ask_stack(&mut self, id: ChildId, _: u32) -> io::Result<()> {
        self.0.borrow_mut().ask_stack(id);
        Ok(())
    }

    fn stacks(&mut self) -> Vec<(ChildId, Vec<Frame>)> {
        self.0.borrow_mut().stacks()
    }

    fn has_left_stack(&self, id: ChildId) -> bool {
        self.0.borrow().stacks.left.contains(&id)
    }

    fn clear_stack(&mut self, id: ChildId) {
        self.0.borrow_mut().stacks.left.retain(|left| *left != id);
    }

    fn begin_trial(&mut self, _: Option<&Path>, _: &mut Snapshot) -> Result<(), Error> {
        self.0.borrow_mut().begin_trial()
    }

    fn trial(&mut self) -> Trial {
        self.0.borrow().trial()
    }

    fn end_trial(&mut self) {
        self.0.borrow_mut().end_trial();
    }

    fn forget_trial(&mut self) {
        self.0.borrow_mut().forget_trial();
    }

    fn save(&self, _: &mut Snapshot) -> io::Result<()> {
        self.0.borrow_mut().save()
    }

    fn become_program(&mut self, _: &Snapshot) -> Option<Error> {
        self.0.borrow_mut().become_program()
    }

    fn pressure(&self) -> Option<Duration> {
        self.0.borrow_mut().pressure()
    }

    fn close(&mut self) {}
}
