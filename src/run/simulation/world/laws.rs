//! What must hold: after every event, with every signal, at rest, and at the end.

use super::{World, ms};
use crate::{
    core::{
        child::{Child, ChildId, Flags, Reason, State},
        pool::Census,
    },
    run::simulation::model::Fault,
};
use std::time::Duration;

/// How much later than planned the parent may act: a kernel is rarely exact.
const LATE: Duration = Duration::from_millis(1);

impl World {
    /// After every event. Cheap: it is the reason why a million of them take a second.
    pub(super) fn check(&self) {
        let monitor = &self.core.monitor;
        let census = monitor.pool.census();
        assert!(
            census.live() <= monitor.max_clients(),
            "more processes than max_clients"
        );
        assert!(
            monitor.pool.len() + monitor.queue.forks() <= monitor.max_clients(),
            "more forks than max_clients allows"
        );
        self.check_nobody_is_forgotten(census);
        self.check_each_has_one_state(census);
        self.check_the_loop_goes_on();
        assert_eq!(monitor.report().hook_panics, 0, "a default has panicked");
    }

    fn check_nobody_is_forgotten(&self, census: Census) {
        let monitor = &self.core.monitor;
        assert_eq!(census.live(), self.kernel.len(), "somebody was forgotten");
        let report = monitor.report();
        assert_eq!(
            report.forks - report.all_deaths(),
            census.live() as u64,
            "a death was counted twice or not at all"
        );
        if let Some((_, forks)) = self.parent.shutdown {
            assert_eq!(report.forks, forks, "forked in the shutdown");
        }
    }

    fn check_each_has_one_state(&self, census: Census) {
        let mut counted = Census::default();
        for child in self.core.monitor.children() {
            let model = self.kernel.get(child.id());
            let pid = model.map(|model| model.pid);
            assert_eq!(pid, Some(child.pid()), "{child:?} is somebody else");
            match child.state() {
                State::Starting => counted.starting += 1,
                State::Free => counted.free += 1,
                State::Busy => counted.busy += 1,
                State::Retiring => {
                    counted.retiring += 1;
                    self.check_it_retires_in_time(child);
                }
            }
        }
        assert_eq!(counted, census, "a child is in no state or in two");
    }

    /// The escalation of a retiring child is alive: the core has a deadline for it, and the loop turns
    /// then.
    fn check_it_retires_in_time(&self, child: &Child) {
        let monitor = &self.core.monitor;
        let Some((at, _)) = monitor.next_signal(child) else {
            let ends = child.flags().contains(Flags::KILL_SENT);
            // The shutdown has a bound for these as well.
            let serves = child.reason() == Some(Reason::Culled)
                && child.flags().contains(Flags::BUSY_SINCE_TOLD)
                && !monitor.is_shutdown();
            // With a timeout a silent one is judged once what it wrote has been read.
            let judged_later = serves && child.flags().contains(Flags::UNREAD);
            assert!(
                ends || judged_later || serves && monitor.timeout().is_zero(),
                "{child:?} retires for ever"
            );
            return;
        };
        let deadline = monitor.deadline();
        assert!(
            deadline.is_some_and(|deadline| deadline <= at),
            "{child:?} is to be escalated at {at}, and the core would sleep until {deadline:?}"
        );
    }

    /// Whatever is due, the loop turns when it is.
    fn check_the_loop_goes_on(&self) {
        let monitor = &self.core.monitor;
        let due = if monitor.queue.is_empty() {
            monitor.deadline()
        } else {
            Some(self.now)
        };
        let Some(due) = due else { return };
        let latest = due.max(self.now).max(self.parent.stands_still_until) + LATE;
        let turn_at = self.parent.turn_at;
        assert!(
            turn_at.is_some_and(|turn_at| turn_at <= latest),
            "due at {due}, and the loop turns at {turn_at:?}"
        );
    }

    /// One signal a reason: its retirement, the shutdown; its retirement's end, a read that failed,
    /// each SIGINT that says "now".
    pub(super) fn check_signals_to(&self, id: ChildId) {
        let Some(model) = self.kernel.get(id) else {
            return;
        };
        let faulty = u32::from(model.fault == Some(Fault::Unreadable));
        let interrupts = 1 + u32::from(self.core.monitor.is_shutdown());
        let kills = 1 + faulty + self.parent.massacres;
        assert!(
            model.sent.interrupts <= interrupts && model.sent.kills <= kills,
            "{id} was signalled twice for one reason: {:?}, {:?}",
            model.sent,
            self.core.monitor.child(id)
        );
    }

    /// At rest.
    pub(super) fn check_rest(&self) {
        let monitor = &self.core.monitor;
        let census = monitor.pool.census();
        assert_eq!(
            census.retiring,
            0,
            "somebody still retires: {:?}",
            monitor.retiring_servers().collect::<Vec<_>>()
        );
        let free = census.idle();
        let right = (monitor.min_spare_servers()..=monitor.max_spare_servers()).contains(&free);
        assert!(
            right || census.live() == monitor.max_clients(),
            "{census:?} at rest, wanted {}..={} of at most {}: {:?}",
            monitor.min_spare_servers(),
            monitor.max_spare_servers(),
            monitor.max_clients(),
            monitor.children().collect::<Vec<_>>(),
        );
    }

    /// In the shutdown, after every event: nobody lives longer than `shutdown_timeout` allows, or than
    /// a second SIGINT does.
    pub(super) fn check_end_is_near(&self) {
        let Some((began, _)) = self.parent.shutdown else {
            return;
        };
        let monitor = &self.core.monitor;
        let patient = began + monitor.shutdown_timeout();
        let end = self.parent.massacre_at.unwrap_or(patient).min(patient);
        let latest = end + self.parent.stood_still + ms(100);
        assert!(
            self.now <= latest.max(self.parent.stands_still_until + ms(100)),
            "the shutdown of {began} should have ended at {end}: {:?}",
            monitor.children().collect::<Vec<_>>()
        );
    }

    /// At the end: nobody, and nothing that would ever happen.
    pub(super) fn check_end(&self) {
        let monitor = &self.core.monitor;
        assert_eq!((monitor.pool.len(), self.kernel.len()), (0, 0));
        assert_eq!(monitor.queue.forks(), 0, "a fork waits in the queue");
        assert_eq!(monitor.deadline(), None, "something is due after the end");
    }
}
