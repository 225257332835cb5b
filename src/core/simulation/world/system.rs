//! The world as the loop sees it: `System` over the model kernel. Makes no system call.

use super::{
    ModelEvent, Simulated, World, ms,
    process::{ModelProcess, end_of},
    us,
};
use crate::core::{
    board::{SharedView, SlotNotes},
    child::{ChildId, Signal},
    comm::Interval,
    error::{Error, Operation},
    queue::PrintTo,
    signal_policy::{Arrived, TABLE},
    simulation::{model::Model, pipe},
    stack::Frame,
    states::{Watch, WatchId},
    system::{ChildPipe, ChildToken, EventSource, ForkTerms, Forked, Ready, System, Wait},
    time::Time,
    wire::BoardEntry,
};
use std::{convert::Infallible, io, time::Duration};

const EAGAIN: i32 = 11;

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
        if let Some(at) = self.stacks.answers.iter().map(|(at, ..)| *at).min() {
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
        let parent = &self.parent;
        let signals = parent.deaths + parent.interrupts + parent.terminations + parent.quits > 0;
        let has_edge = |pipe: &pipe::ModelPipe| pipe.has_edge();
        let mut models = self.kernel.iter().map(|entry| &entry.model);
        signals || models.any(|model| has_edge(&model.stdout) || has_edge(&model.stderr))
    }

    fn collect(&mut self, ready: &mut Vec<Ready>) {
        ready.clear();
        for slot in 0..self.kernel.slots() {
            let Some(entry) = self.kernel.in_slot(slot) else {
                continue;
            };
            let told = ChildToken::of(entry.id);
            for pipe in [ChildPipe::Stdout, ChildPipe::Stderr] {
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
        self.parent.deaths += 1;
        self.wake_soon();
    }

    pub(super) fn hear_signal(&mut self) {
        let parent = &mut self.parent;
        parent.interrupts += u64::from(std::mem::take(&mut parent.interrupt_pending));
        parent.terminations += u64::from(std::mem::take(&mut parent.terminate_pending));
        parent.quits += u64::from(std::mem::take(&mut parent.quit_pending));
        self.wake_soon();
    }

    /// Returns the signals that have arrived, and notes what must follow: the first begins the
    /// shutdown, the first SIGTERM or SIGINT gives it a bound, the second kills all children.
    fn signals(&mut self) -> Arrived {
        let parent = &mut self.parent;
        let interrupts = std::mem::take(&mut parent.interrupts);
        let terminations = std::mem::take(&mut parent.terminations);
        let deaths = std::mem::take(&mut parent.deaths);
        let quits = std::mem::take(&mut parent.quits);
        let stops = interrupts + terminations;
        parent.stops += stops;
        parent.kill_all_now = stops > 0 && parent.stops > 1;
        if parent.kill_all_now {
            parent.kill_alls += 1;
            parent.kill_all_at.get_or_insert(self.now);
        }
        parent.patient |= quits > 0 && !parent.told;
        if parent.patient && stops > 0 {
            parent.patient = false;
            parent.bounded_at = Some(self.now);
        }
        parent.told |= stops + quits > 0;
        TABLE.map(|row| match row.signal {
            Signal::Interrupt => interrupts,
            Signal::Terminate => terminations,
            Signal::Quit => quits,
            Signal::Child => deaths,
            _ => 0,
        })
    }

    fn fork(&mut self, id: ChildId) -> io::Result<u32> {
        let fails = self.now < self.forks_fail_until || self.forks_to_fail > 0;
        self.forks_to_fail = self.forks_to_fail.saturating_sub(1);
        if fails {
            return Err(io::Error::from_raw_os_error(EAGAIN));
        }
        let pid = self.kernel.take_pid();
        self.kernel.enter(id, pid, self.capacity);
        // Slow now and then, as with a cold cache or a big interpreter.
        let longest = match self.random.one_in(100) {
            true => 3_000_000,
            false => 3_000,
        };
        let start_up = us(50 + self.random.below(longest));
        self.plan_step(id, start_up);
        Ok(pid)
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

    fn is_owner(&self) -> bool {
        // When a test fails, the model's children are not to be ended as well.
        !std::thread::panicking()
    }

    fn take_possession(&mut self) -> bool {
        false
    }

    fn lead(&mut self, signal: Signal) -> Result<(), Error> {
        panic!("{signal:?} cannot be led to a state here");
    }

    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> Result<(), Error> {
        self.0.borrow_mut().wait(wait, ready);
        Ok(())
    }

    fn signals(&mut self, _: bool) -> Arrived {
        self.0.borrow_mut().signals()
    }

    fn check_threads(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fork(&mut self, terms: ForkTerms) -> Result<Forked<ModelProcess, Infallible>, Error> {
        let forked = self.0.borrow_mut().fork(terms.id);
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

    fn close(&mut self) {}
}
