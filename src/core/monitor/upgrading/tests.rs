//! What is handed on of a pool, and the pool that another program makes of it.

use super::*;
use crate::core::{
    config::CommChannel,
    state::EndState,
    system::{ChildPipe, PipeRead, ProcessState, Reaped},
};
use std::io;

/// A process that has these descriptors, and is never asked for anything else.
#[derive(Debug)]
struct Held(ProcessState);

impl Process for Held {
    fn read(&mut self, _: ChildPipe, _: &mut [u8]) -> io::Result<PipeRead> {
        Ok(PipeRead::Nothing)
    }
    fn pending(&self, _: ChildPipe) -> io::Result<usize> {
        Ok(7)
    }
    fn close(&mut self, _: ChildPipe) {}
    fn signal(&self, _: Signal) -> io::Result<()> {
        Ok(())
    }
    fn tell_to_leave(&self, _: crate::core::draining::QueuedClients) {}
    fn stuck(&self) -> Option<Stuck> {
        None
    }
    fn memory(&self) -> Option<u64> {
        None
    }
    fn save(&self) -> ProcessState {
        self.0
    }
    fn reap(&self) -> io::Result<Reaped> {
        Ok(Reaped::Not)
    }
}

fn held() -> Held {
    Held(ProcessState {
        pipes: [Some(10), Some(11), None],
        group: Some(ToGroup::Kill),
        stop_signal: Some(Signal::Quit),
        outlived: None,
        stops: Some(12),
    })
}

fn at(milliseconds: u64) -> Time {
    Time::at(Duration::from_millis(milliseconds))
}

fn fork(monitor: &mut Monitor, pid: u32) -> ChildId {
    let id = monitor.pool.next_id();
    let inbox = Inbox::new(id, CommWords::default(), CommChannel::Stdout, true);
    let contact: Box<Contact> = Box::new(Contact::new(inbox, held()));
    monitor.forked(pid, Some(contact))
}

/// A monitor with a busy child that was told to stop, half a line of it unread, and a free child.
fn monitor() -> (Monitor, [ChildId; 2]) {
    let mut monitor = Monitor::with_attributes(Attributes::default());
    monitor.tick(at(1_000), Duration::from_millis(20));
    let (busy, free) = (fork(&mut monitor, 100), fork(&mut monitor, 101));
    monitor.set_busy(busy);
    monitor.set_not_busy(free);
    monitor.acknowledge(free);
    monitor.kill(free, Signal::Alarm);
    monitor.retire(busy, Reason::Recycled);
    monitor.report.lost_connections = 3;
    monitor.set_max_clients(77);
    let contact = monitor.pool.contact_mut(busy).expect("a child");
    contact.inbox.feed(ChildPipe::Stderr, b"whole\nhal", |_| ());
    contact.note_end(Some(crate::core::child::WaitStatus::from_raw(9)).into());
    monitor.begin_upgrade();
    (monitor, [busy, free])
}

fn adopted(state: &Snapshot) -> Monitor {
    let mut monitor = Monitor::with_attributes(Attributes::default());
    monitor.is_now(at(1_500));
    monitor.restore_attributes(&state.attributes);
    let words = monitor.comm_words();
    let children = state.children.iter();
    let children = children.map(|child| (restored(child), reached(child, words, held())));
    monitor.adopt(state, children.collect());
    monitor.prove(state);
    monitor
}

/// The bytes in between change nothing.
fn through_bytes(state: &Snapshot) -> Snapshot {
    Snapshot::decode(&state.encode()).expect("a state")
}

#[test]
fn a_pool_that_is_adopted_is_the_one_that_was_saved() {
    let (monitor, [busy, free]) = monitor();
    let state = through_bytes(&monitor.save());
    let adopted = adopted(&state);
    assert_eq!(adopted.pool.census(), monitor.pool.census());
    assert_eq!(adopted.pool.next_id(), monitor.pool.next_id());
    assert_eq!(adopted.report(), monitor.report());
    assert_eq!(
        adopted.max_clients(),
        77,
        "it was set while the program ran"
    );
    for id in [busy, free] {
        let [old, new] = [&monitor, &adopted].map(|monitor| monitor.child(id).expect("a child"));
        assert_eq!(format!("{old:?}"), format!("{new:?}"));
    }
    assert_eq!(adopted.save().children, state.children);
}

/// A parent has the memory of its holder, which began with what an earlier program had set.
#[cfg(feature = "holder")]
#[test]
fn what_was_taken_back_after_an_upgrade_is_not_set_again_by_a_holder() {
    let mut before = Monitor::with_attributes(Attributes::default());
    before.set_max_clients(77);
    let holders = || {
        let mut holders = Monitor::with_attributes(Attributes::default());
        holders.restore_attributes(&before.save_pool().attributes);
        holders
    };
    let mut first = holders();
    let default = Config::default();
    first.set_max_clients(default.max_clients);
    first.set_cull_after(Duration::ZERO);
    let mut next = holders();
    assert_eq!(next.max_clients(), 77);
    next.unset_attributes();
    next.restore_attributes(&first.save_pool().attributes);
    assert_eq!(next.config(), first.config());
}

/// An early program of this format had no record for it.
#[test]
fn a_drain_among_the_counters_is_still_understood() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/states/v1-drained.bin");
    let bytes = std::fs::read(path).expect("a state");
    let state = Snapshot::decode(&bytes).expect("a state");
    assert_eq!(state.orders, None);
    let mut adopted = adopted(&state);
    assert!(adopted.is_drained);
    adopted.is_drained = false;
    let next = through_bytes(&adopted.save_pool());
    let counted = next.counters.counts.0.iter();
    assert!(counted.into_iter().all(|(name, _)| name != "drained"));
    adopted.is_drained = true;
    adopted.adopt(&next, Vec::new());
    assert!(!adopted.is_drained, "it was taken back");
}

/// Half a line is completed by the next program.
#[test]
fn what_was_read_of_a_line_is_not_lost() {
    let (monitor, [busy, _]) = monitor();
    let mut adopted = adopted(&through_bytes(&monitor.save()));
    let contact = adopted.pool.contact_mut(busy).expect("a child");
    let mut lines = Vec::new();
    contact.inbox.feed(ChildPipe::Stderr, b"f\n", |found| {
        if let crate::core::wire::Output::Line(line) = found {
            lines.push(line.bytes().to_vec());
        }
    });
    assert_eq!(lines, [b"half"]);
    assert_eq!(contact.allowance(ChildPipe::Stdout), 7);
    assert!(contact.is_dead());
}

#[test]
fn the_children_of_a_new_program_replace_those_that_it_adopts() {
    let (monitor, _) = monitor();
    let state = monitor.save();
    let new = adopted(&state);
    assert!(new.is_reloading() && new.is_upgrading());
    assert_eq!(new.replacement.epoch(), monitor.replacement.epoch() + 1);
    let back = Snapshot {
        program: crate::core::state::Program {
            back: Some("it is broken".to_owned()),
            ..state.program.clone()
        },
        ..state
    };
    let old = adopted(&back);
    assert!(!old.is_reloading() && !old.is_upgrading());
    assert_eq!(old.replacement.epoch(), monitor.replacement.epoch());
}

/// A child of the new program has a limit for its start also where there is no `start_timeout`.
#[test]
fn i07_children_of_a_new_program_have_a_limit_for_their_start() {
    let (old, [_, free]) = monitor();
    let mut new = adopted(&old.save());
    assert_eq!(new.first_hangs_at(), None, "it has no child of its own yet");
    let own = fork(&mut new, 200);
    let end = at(1_500) + new.upgrade_timeout();
    assert_eq!(new.first_hangs_at(), Some(end));
    assert!(new.deadline().is_some_and(|deadline| deadline <= end));
    new.set_start_timeout(Duration::from_secs(60));
    assert_eq!(new.first_hangs_at(), None, "that is for it");
    new.set_start_timeout(Duration::ZERO);
    new.set_upgrade_timeout(Duration::ZERO);
    assert_eq!(new.first_hangs_at(), None, "there is no limit");
    new.set_upgrade_timeout(Duration::from_secs(10));
    new.set_not_busy(own);
    assert_eq!(new.first_hangs_at(), None, "it is ready");

    let hangs = fork(&mut new, 201);
    new.give_up_reload();
    assert!(!new.is_reloading());
    let epoch = |id| new.child(id).expect("a child").epoch;
    assert_eq!(epoch(free), new.replacement.epoch(), "it stays");
    assert_ne!(epoch(hangs), new.replacement.epoch());
}

/// Nothing would come of the wake-up, which would be due forever.
#[test]
fn a_stop_waits_for_no_child_that_hangs() {
    let (old, _) = monitor();
    let mut new = adopted(&old.save());
    fork(&mut new, 200);
    assert!(new.first_hangs_at().is_some());
    new.begin_shutdown();
    assert_eq!(new.first_hangs_at(), None);
}

/// An attribute that this version does not have, or not with that value.
#[test]
fn attributes_that_are_not_known_are_left_out() {
    let (monitor, _) = monitor();
    let mut state = monitor.save();
    let strange = [("max_cents", "5"), ("timeout", "for ever")];
    state
        .attributes
        .extend(strange.map(|(name, text)| (name.to_owned(), text.to_owned())));
    let adopted = adopted(&state);
    assert_eq!(
        (adopted.max_clients(), adopted.timeout()),
        (77, monitor.timeout())
    );
}

/// A later version may write more, and an earlier one less.
#[test]
fn a_child_of_which_little_is_known_is_adopted() {
    let bare = ChildState {
        slot: 5,
        serial: 9,
        pid: 4711,
        end: Some(EndState::default()),
        ..ChildState::default()
    };
    let state = Snapshot {
        children: vec![bare],
        ..Snapshot::default()
    };
    let adopted = adopted(&state);
    let child = adopted.child_by_pid(4711).expect("a child");
    assert_eq!(child.state(), State::Starting);
    assert!(adopted.pool.next_id().slot() < 5, "slots below it are free");
}
