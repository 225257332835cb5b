//! What the loop asks of the operating system. Passes each question to the part that answers it (the
//! poller, the board, the holder and others) and decides nothing.

use super::{NewChild, UnixSystem};
#[cfg(all(feature = "holder", target_os = "linux"))]
use crate::core::system::PoolJournal;
use crate::{
    core::{
        board::{SharedView, SlotNotes, View},
        child::{ChildId, Signal},
        comm::Interval,
        error::{Error, Operation},
        queue::PrintTo,
        signal_policy::Arrived,
        stack::Frame,
        state::Snapshot,
        states::{Watch, WatchId},
        system::{ClientRead, ForkTerms, Forked, NewClient, Ready, System, Wait},
        time::Time,
        upgrade::Trial,
        wire::BoardEntry,
    },
    sys::{
        atfork,
        fd_registry::Registered,
        limits::{self, Threads},
        process::{self, ChildProcess},
        run_time,
        signals::{Subscription, foreign},
        upgrade,
    },
};
use std::{
    any::Any,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::Path,
    rc::Rc,
    time::Duration,
};

impl System for UnixSystem {
    type NewChild = NewChild;
    type Process = ChildProcess;

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn is_owner(&self) -> bool {
        self.owner == std::process::id()
    }

    fn take_possession(&mut self) -> bool {
        // A child of another server does not run this server: its poller is closed there.
        if !self.poller.is_open() || std::mem::replace(&mut self.is_settled, true) {
            return false;
        }
        let started_in = std::mem::replace(&mut self.owner, std::process::id());
        if started_in != self.owner {
            self.threads = Threads::open();
            self.own_boards();
        }
        self.adoption.settle();
        self.out_of_memory.begin();
        foreign::note_home(started_in);
        atfork::watch();
        true
    }

    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> Result<(), Error> {
        ready.clear();
        if !self.poller.is_open() {
            let error = io::Error::other("in a child, in which this server does not run");
            return Err(Error::new(Operation::Poll, "for events", error));
        }
        self.stacks.begin_reading(&self.poller);
        let waited = match wait {
            Wait::ForAnything(timeout) => self.poller.wait(timeout, ready),
            Wait::ForWords(batch) => self.wait_for_words(batch, ready),
        };
        waited.map_err(|error| Error::new(Operation::Poll, "for events", error))
    }

    fn lead(&mut self, signal: Signal) -> Result<(), Error> {
        let handle = |signals: &mut Subscription| signals.handle(signal).map(drop);
        let handled = self.signals.as_mut().map_or(Ok(()), handle);
        handled.map_err(|error| Error::new(Operation::Signal, format!("{signal:?}"), error))
    }

    fn signals(&mut self, woken: bool) -> Arrived {
        let arrived = self
            .signals
            .as_mut()
            .map(|signals| signals.arrived(woken))
            .unwrap_or_default();
        self.holder.arrived(arrived, woken)
    }

    fn check_threads(&self) -> Result<(), Error> {
        self.threads.expect_one()
    }

    fn fork(&mut self, terms: ForkTerms) -> Result<Forked<ChildProcess, NewChild>, Error> {
        self.fork_child(terms)
    }

    fn is_passing(&self, error: &io::Error) -> bool {
        limits::is_passing(error)
    }

    fn peek(&mut self) -> Option<u32> {
        self.stacks.reap();
        self.upgrades.reap();
        // It names each death once; a process of the program's own is named until that reaps it.
        self.holder.peek().or_else(process::peek)
    }

    fn reap_orphan(&mut self, pid: u32) -> bool {
        self.adoption.reap(pid)
    }

    fn reap_orphans(&mut self, is_child: &dyn Fn(u32) -> bool) {
        self.adoption.reap_all(is_child);
    }

    fn open_slot(&mut self, child: ChildId) -> bool {
        self.board.open(child)
    }

    fn close_slot(&mut self, slot: usize) -> bool {
        self.holder.forget(slot);
        self.board.close(slot)
    }

    fn noted(&self, slot: usize) -> BoardEntry {
        self.board.view().entry(slot)
    }

    fn view(&self) -> SharedView {
        SharedView(Rc::new(self.board.view().clone()))
    }

    fn notes(&self, slot: usize) -> SlotNotes {
        self.board.view().notes(slot, self.clock.now())
    }

    fn ask_interval(&mut self, interval: Interval) {
        self.board.ask_interval(interval);
    }

    fn kept_interval(&self, slot: usize) -> Option<Interval> {
        self.board.view().kept_interval(slot)
    }

    fn pressure(&self) -> Option<Duration> {
        run_time::pressure()
    }

    fn print(&mut self, to: PrintTo, bytes: &[u8]) {
        self.outputs.push(to, bytes);
    }

    fn flush(&mut self) -> u64 {
        self.outputs.flush()
    }

    fn is_printing(&self) -> bool {
        self.outputs.is_waiting()
    }

    fn give_up_printing(&mut self) -> u64 {
        self.outputs.give_up()
    }

    fn watch(&mut self, watch: Watch) -> io::Result<()> {
        self.watches.add(watch, &self.poller)
    }

    fn unwatch(&mut self, id: WatchId) {
        self.watches.remove(id, &self.poller);
    }

    fn watched_state(&self, number: u64) -> Option<&str> {
        self.watches.state(number, &self.poller)
    }

    fn accept_control(&mut self) -> io::Result<Option<NewClient>> {
        let control = self.control.as_mut();
        control.map_or(Ok(None), |control| control.accept(&self.poller))
    }

    fn read_control(&mut self, client: u64, buffer: &mut [u8]) -> ClientRead {
        let control = self.control.as_ref();
        control.map_or(ClientRead::Gone, |control| control.read(client, buffer))
    }

    fn write_control(&mut self, client: u64, bytes: &[u8]) -> io::Result<usize> {
        match &self.control {
            Some(control) => control.write(client, bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn close_control(&mut self, client: u64) {
        if let Some(control) = &mut self.control {
            control.close_client(client, &self.poller);
        }
    }

    fn control_fd(&self, client: u64) -> Option<u32> {
        let control = self.control.as_ref()?;
        control.client(client).map(RawFd::cast_unsigned)
    }

    fn show_title(&mut self, name: Option<&str>, busy: usize, children: usize) {
        self.title.show(name, busy, children);
    }

    fn collects_stacks(&self) -> bool {
        self.stacks.are_collected()
    }

    fn ask_stack(&mut self, child: ChildId, pid: u32) -> io::Result<()> {
        // A child of an earlier program answers where this one cannot read.
        if self.board.is_elsewhere(child.slot()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.stacks
            .ask(child, pid, self.holder.held_child(child).as_ref())
    }

    fn stacks(&mut self) -> Vec<(ChildId, Vec<Frame>)> {
        self.stacks.read(&self.poller)
    }

    fn has_left_stack(&self, child: ChildId) -> bool {
        self.stacks.has_left(child)
    }

    fn clear_stack(&mut self, child: ChildId) {
        self.stacks.clear(child);
    }

    fn begin_trial(&mut self, program: Option<&Path>, state: &mut Snapshot) -> Result<(), Error> {
        self.try_program(program, state)
    }

    fn trial(&mut self) -> Trial {
        self.upgrades.look()
    }

    #[cfg(feature = "holder")]
    fn keeps_programs(&self) -> bool {
        self.journal().is_none() || crate::sys::holder::keeps_programs()
    }

    fn end_trial(&mut self) {
        self.upgrades.end_trial();
    }

    fn forget_trial(&mut self) {
        self.upgrades.forget_trial(&self.poller);
    }

    fn save(&self, state: &mut Snapshot) -> io::Result<()> {
        self.add_to_state(state)
    }

    fn become_program(&mut self, state: &Snapshot) -> Option<Error> {
        self.leave_to_program(state)
    }

    fn forget_image(&mut self) {
        self.holder.say_proved();
        self.upgrades.forget_previous();
    }

    fn add_asker(&mut self, connection: Box<dyn Any>) {
        // OK because `upgrade_and_tell` has put a descriptor in.
        if let Ok(connection) = connection.downcast::<Registered<OwnedFd>>() {
            self.upgrades.add_asker(*connection);
        }
    }

    fn answer_asker(&mut self, connection: Box<dyn Any>, outcome: &str) {
        if let Ok(connection) = connection.downcast::<Registered<OwnedFd>>() {
            upgrade::answer_asker(connection.as_fd(), outcome);
        }
    }

    fn answer_askers(&mut self, outcome: &str) {
        self.upgrades.answer_askers(outcome);
    }

    #[cfg(all(feature = "holder", target_os = "linux"))]
    fn journal(&self) -> Option<&dyn PoolJournal> {
        self.holder.journal()
    }

    fn close(&mut self) {
        self.holder.end_death_watch();
        self.death_write = None;
        self.title.end();
        self.upgrades.close(&self.poller);
        self.stacks.close(&self.poller);
        if let Some(control) = self.control.take() {
            control.close(&self.poller);
        }
        self.watches.remove_all(&self.poller);
        if let Some(signals) = self.signals.take() {
            let _ = self.poller.remove_urgent(signals.as_fd().as_raw_fd());
        }
        self.holder.announce_end();
    }
}

impl UnixSystem {
    /// Lets words pile up, and collects what is ready then. The order is the board's: WILL_LOOK is
    /// cleared before the poller is asked.
    fn wait_for_words(&mut self, batch: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.board.set_will_look();
        let piled = self.poller.wait_urgent(batch, ready);
        self.board.clear_will_look();
        piled?;
        self.poller.wait(Some(Duration::ZERO), ready)
    }
}
