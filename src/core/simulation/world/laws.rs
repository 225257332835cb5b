//! The laws that must hold: after every turn, with every signal, at rest, and at the end. Compares
//! the monitor's state with the model kernel; changes neither.

use super::{Reachability, World, children::CLOCK_LAG, ms, signals::StopStage, us};
use crate::core::{
    child::{
        AFTER_KILL, Cause, Child, ChildFlags, ChildId, Death, Reason, Retirement, Signal, State,
    },
    monitor::Monitor,
    pool::Census,
    simulation::{
        kernel::KernelEntry,
        model::{Fault, Model, ModelActivity},
    },
    stack::READ_WITHIN,
    time::Time,
    upgrade::{CALM, ENDS_WITHIN, PROBATION},
};
use std::time::Duration;

/// How late the parent may learn of a death when no signal reports it.
const LATE_DEATH: Duration = Duration::from_millis(1_100);
/// How long the loop waits at most while it has children.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How late the parent may find that a child is busy: where the word had no room in the pipe, it
/// reads the notes once a second.
const HEARD_AFTER: Duration = Duration::from_millis(1_100);

/// When a shutdown began, and how many children had been forked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShutdownBegan {
    at: Time,
    forks: u64,
}

impl World {
    /// Checks what holds after every turn; `wait` is the time until the next.
    pub(crate) fn check(
        &mut self,
        monitor: &Monitor,
        wait: Option<Duration>,
        shutdown: &mut Option<ShutdownBegan>,
    ) {
        if monitor.is_shutdown() && shutdown.is_none() {
            let (at, forks) = (self.now, monitor.report().forks);
            *shutdown = Some(ShutdownBegan { at, forks });
            self.parent.stood_still = Duration::ZERO;
        }
        self.check_the_stop_is_asked_for(monitor);
        let census = monitor.pool.census();
        self.check_the_number_of_children(monitor);
        self.check_no_child_is_forgotten(monitor, census, *shutdown);
        self.check_each_has_one_state(monitor, census);
        self.check_the_loop_goes_on(monitor, wait);
        self.check_everybody_was_killed(monitor);
        self.check_each_signal_was_obeyed(monitor);
        self.check_the_upgrade_ends(monitor);
        self.check_signals(monitor);
        self.check_clocks(monitor);
        self.check_end_is_near(monitor, *shutdown);
        self.check_the_door(monitor);
        self.check_who_is_queued_is_served(monitor);
        assert_eq!(monitor.report().hook_panics, 0, "a default has panicked");
    }

    /// Raised and lowered by signals, `max_clients` holds: after it was lowered the number of
    /// children falls to it, and does not rise on its way.
    fn check_the_number_of_children(&mut self, monitor: &Monitor) {
        let clients = monitor.max_clients();
        assert_eq!(clients, self.signals.max_clients, "SIGTTIN and SIGTTOU");
        let most = self.most.max(clients);
        let children = monitor.pool.len() + monitor.queue.forks();
        assert!(children <= most, "{children} forks, allowed are {most}");
        self.most = children.min(most).max(clients);
    }

    /// A stop begins with the signal that asks for it or, announced, on time; and not before, unless
    /// the program or an error has ended the server.
    fn check_the_stop_is_asked_for(&mut self, monitor: &Monitor) {
        let stage = self.signals.stage;
        let now = monitor.now();
        let may_stop = self.program.may_stop || self.socket_lost;
        let begins = match stage {
            StopStage::Running => None,
            StopStage::Announced { begins_at } => Some(begins_at),
            StopStage::Begun => Some(now),
        };
        if monitor.is_shutdown() {
            let is_due = begins.is_some_and(|at| at <= now);
            assert!(is_due || may_stop, "a stop has begun at {now}: {stage:?}");
            self.signals.stage = StopStage::Begun;
            return;
        }
        assert_ne!(stage, StopStage::Begun, "a stop has not begun");
        if let (Some(at), true) = (begins, monitor.queue.is_empty()) {
            assert!(now < at, "a stop was to begin at {at}, not after {now}");
            assert_eq!(monitor.stop_begins_at(), Some(at), "it begins late");
        }
    }

    /// What a signal asks for has been done once the queue is empty: each state of the program was
    /// handled, the settings were read, an upgrade has begun or failed, and each child was told to
    /// reopen its logs.
    fn check_each_signal_was_obeyed(&mut self, monitor: &Monitor) {
        let program = std::mem::take(&mut self.program.since_signals);
        if !monitor.queue.is_empty() {
            self.program.since_signals = program;
            return;
        }
        let stops = monitor.is_shutdown();
        let [reloads, upgrades] =
            [&mut self.signals.reloads, &mut self.signals.upgrades].map(std::mem::take);
        assert!(!reloads || stops || program.reads > 0, "SIGHUP was lost");
        let upgraded = monitor.is_upgrading() || program.failed_upgrades > 0;
        assert!(!upgrades || upgraded, "SIGUSR2 was lost");
        assert_eq!(self.program.states, self.signals.states, "a state was lost");
        for (id, before) in std::mem::take(&mut self.signals.reopeners) {
            let model = self.kernel.get(id).filter(|model| !model.is_dead());
            let told = model.is_none_or(|model| model.sent.reopenings > before);
            assert!(told, "{id} was not told to reopen its logs");
        }
    }

    /// An upgrade ends, whatever the new program does.
    fn check_the_upgrade_ends(&mut self, monitor: &Monitor) {
        let paused = self.paused();
        if !monitor.is_upgrading() {
            self.upgrades_since = None;
            return;
        }
        let (since, before) = *self.upgrades_since.get_or_insert((self.now, paused));
        // Without a limit the trial of this world takes a second at most.
        let trial = self.upgrade_timeout.max(ms(1_100));
        let pauses = paused - before + LONGEST_WAIT;
        let rest = PROBATION + ENDS_WITHIN + CALM + ms(500);
        let latest = since + trial + rest + pauses;
        assert!(self.now <= latest, "an upgrade has begun at {since}");
    }

    fn check_no_child_is_forgotten(
        &self,
        monitor: &Monitor,
        census: Census,
        shutdown: Option<ShutdownBegan>,
    ) {
        let known = self.kernel.iter().count();
        assert_eq!(census.live(), known, "a child was forgotten");
        let report = monitor.report();
        let gone = report.forks - report.all_deaths();
        assert!(gone >= known as u64, "a death was counted twice");
        let given_up = gone - known as u64;
        assert!(
            given_up == 0 || shutdown.is_some(),
            "a death was not counted"
        );
        if let Some(began) = shutdown {
            // The one that serves who is queued.
            let last = began.forks..=began.forks + self.last_child.tries;
            assert!(last.contains(&report.forks), "forked in the shutdown");
        }
    }

    fn check_each_has_one_state(&self, monitor: &Monitor, census: Census) {
        let mut counted = Census::default();
        for child in monitor.children() {
            let model = self.kernel.get(child.id());
            let pid = model.map(|model| model.pid);
            assert_eq!(pid, Some(child.pid()), "{child:?} has another pid");
            match child.state() {
                State::Starting => counted.starting += 1,
                State::Free => counted.free += 1,
                State::Busy => counted.busy += 1,
                State::Reserved => counted.reserved += 1,
                State::Retiring => {
                    counted.retiring += 1;
                    check_it_retires_in_time(monitor, child);
                }
            }
        }
        assert_eq!(counted, census, "a child is in no state or in two");
    }

    /// The loop never waits past its next deadline.
    fn check_the_loop_goes_on(&self, monitor: &Monitor, wait: Option<Duration>) {
        let due = match monitor.queue.is_empty() {
            true => monitor.deadline().map(|due| due.since(self.now)),
            false => Some(Duration::ZERO),
        };
        if let Some(due) = due {
            let in_time = wait.is_some_and(|wait| wait <= due);
            assert!(in_time, "due in {due:?}, and the loop turns in {wait:?}");
        }
    }

    /// A SIGINT that came after another signal, in an earlier turn or in the same, has killed every
    /// living child.
    fn check_everybody_was_killed(&mut self, monitor: &Monitor) {
        if std::mem::take(&mut self.signals.kills_all) {
            let spared = monitor
                .children()
                .find(|child| !child.was_killed() && !child.is_reaped());
            assert!(spared.is_none(), "{spared:?} was spared");
        }
    }

    /// No work takes longer than its limit allows, and no child is told before that.
    fn check_clocks(&self, monitor: &Monitor) {
        // With each pause the wait before it counts for no clock either.
        let pauses = self.parent.paused + LONGEST_WAIT * self.parent.pauses;
        for child in monitor.children() {
            let Some(model) = self.kernel.get(child.id()).filter(|model| !model.is_dead()) else {
                continue;
            };
            let notes = self.board.owns_slot(child.id());
            let (since, limit, reason) = match (model.activity, model.client_since) {
                // It may have said that it has started.
                (ModelActivity::Starting, _) if model.forges => continue,
                // Without notes a forged NOT_BUSY ends a connection, and a child whose output is
                // closed says nothing of it.
                _ if !notes && (model.forges || model.is_mute()) => continue,
                (ModelActivity::Starting, _) => {
                    let (since, limit) = (child.start_time(), monitor.start_timeout());
                    (since, limit, Reason::StartTimeout)
                }
                (_, Some(since)) => (since, monitor.busy_timeout(), Reason::Overtime),
                _ => continue,
            };
            let took = self.now.since(since);
            // A hook may have killed it, and it hangs all the same.
            let bounded = child.reason().is_some() || child.was_killed();
            assert!(
                limit.is_zero() || bounded || took <= limit + pauses + HEARD_AFTER,
                "{child:?} has taken {took:?} of {limit:?}"
            );
            // Without notes a forged BUSY begins a connection.
            let now = |told: &Retirement| told.at == monitor.now() && told.reason == reason;
            let late = notes && child.retirement.as_ref().is_some_and(now);
            let in_time = took + us(CLOCK_LAG) >= limit;
            assert!(!late || in_time, "{child:?} was told after {took:?}");
        }
    }

    /// A child gets one signal for each reason. SIGINT: its retirement, a connection that takes too
    /// long after a cull or in the shutdown, the shutdown. SIGKILL: the end of its retirement's time,
    /// a failed read, each second SIGINT, a hook.
    fn check_signals(&self, monitor: &Monitor) {
        for entry in self.kernel.iter() {
            let child = monitor.child(entry.id);
            let judged = child.is_some_and(|child| child.judged_at.is_some());
            let sent = entry.model.sent;
            let told_again = u32::from(monitor.is_shutdown()) + u32::from(judged);
            let interrupts = 1 + told_again + sent.interrupts_asked;
            let faulty = u32::from(entry.model.fault == Some(Fault::Unreadable));
            let kills = 1 + faulty + self.signals.kill_alls + sent.kills_asked;
            assert!(
                sent.interrupts <= interrupts && sent.kills <= kills,
                "{} was signalled twice for one reason: {sent:?}",
                entry.id,
            );
            assert!(
                sent.reopenings <= self.signals.reopenings,
                "{} was told too often to reopen its logs",
                entry.id,
            );
        }
    }

    /// Notes that a hook sends a signal to the child.
    pub(crate) fn hook_sends(&mut self, id: ChildId, signal: Signal) {
        if let Some(model) = self.kernel.get_mut(id) {
            model.sent.kills_asked += u32::from(signal == Signal::Kill);
            model.sent.interrupts_asked += u32::from(signal == Signal::Interrupt);
            let sent = self.program.sent.entry(id).or_default();
            sent.insert(signal);
        }
    }

    /// A child that a signal of a hook has ended was asked to, unless it was told to stop before for
    /// another reason.
    pub(crate) fn check_cause(&mut self, child: &Child, death: &Death) {
        let sent = self.program.sent.remove(&child.id()).unwrap_or_default();
        let ends = |(signal, number): (Signal, i32)| {
            sent.contains(signal) && death.signal() == Some(number)
        };
        let by_a_hook = [(Signal::Kill, 9), (Signal::Alarm, 14)]
            .into_iter()
            .any(ends);
        let untold = child.reason().is_none();
        assert!(
            !(by_a_hook && untold) || death.cause() == Cause::Asked,
            "{child:?}: {death:?}"
        );
    }

    /// The children that have started, live, and were not told to stop.
    pub(crate) fn ready_children(&self) -> Vec<ChildId> {
        let ready = |entry: &&KernelEntry| {
            let model = &entry.model;
            matches!(
                model.activity,
                ModelActivity::Waiting | ModelActivity::Serving
            ) && !model.told
        };
        self.kernel
            .iter()
            .filter(ready)
            .map(|entry| entry.id)
            .collect()
    }

    /// Checks what holds at rest.
    pub(crate) fn check_rest(&self, monitor: &Monitor) {
        let census = monitor.pool.census();
        let retiring: Vec<_> = monitor.retiring_servers().collect();
        assert!(retiring.is_empty(), "a child still retires: {retiring:?}");
        assert!(!monitor.is_reloading(), "a reload does not end");
        assert!(!monitor.is_upgrading(), "an upgrade does not end");
        assert!(
            census.live() <= monitor.max_clients(),
            "{census:?} after max_clients was lowered to {}",
            monitor.max_clients()
        );
        let spare = monitor.min_spare_servers()..=monitor.max_spare_servers();
        let right = spare.contains(&census.idle());
        assert!(
            right || census.live() == monitor.max_clients(),
            "{census:?} at rest, wanted {spare:?} of at most {}: {:?}",
            monitor.max_clients(),
            monitor.children().collect::<Vec<_>>(),
        );
    }

    /// In the shutdown no child lives longer than `shutdown_timeout` or a second SIGINT allows; and
    /// a child that SIGKILL does not end is waited for as long as documented.
    fn check_end_is_near(&mut self, monitor: &Monitor, shutdown: Option<ShutdownBegan>) {
        let Some(began) = shutdown else {
            return;
        };
        self.check_no_start_is_awaited(monitor, began);
        if self.signals.is_unbounded {
            return;
        }
        let from = self.signals.bounded_at.unwrap_or(began.at);
        let patient = from + monitor.shutdown_timeout();
        let end = self.signals.kill_all_at.unwrap_or(patient).min(patient);
        let late = if self.deaths_late {
            LATE_DEATH
        } else {
            Duration::ZERO
        };
        // When it has been given up, the listeners are still to be closed.
        self.parent.waited_for_immortal |=
            monitor.children().any(|child| self.is_immortal(child.id()));
        let hangs = match self.parent.waited_for_immortal {
            true => AFTER_KILL,
            false => Duration::ZERO,
        };
        let read = match self.stacks.are_collected {
            true => READ_WITHIN,
            false => Duration::ZERO,
        };
        let latest = end + self.parent.stood_still + late + hangs + read + ms(100);
        assert!(
            self.now <= latest.max(self.parent.stands_still_until + ms(100)),
            "the shutdown of {began:?} should have ended at {end}: {:?}",
            monitor.children().collect::<Vec<_>>()
        );
    }

    /// In a stop one child is forked at most: when clients are queued and no other child is left, but
    /// none after a second signal has killed them.
    pub(super) fn check_a_fork_in_the_drain(&mut self) {
        if self.reachability == Reachability::Open {
            return;
        }
        self.last_child.tries += 1;
        assert_eq!(self.last_child.tries, 1, "it is forked again in the stop");
        assert!(self.queued_clients > 0, "it is forked for nobody");
        assert_eq!(self.kernel.iter().count(), 0, "a child is left");
        assert_eq!(self.signals.kill_alls, 0, "all were to be killed");
    }

    /// After a gentle stop a queued client is reset, without a child, only if a last one was forked for
    /// it or could not be forked, or the time of the stop was over.
    fn check_who_is_queued_is_served(&self, monitor: &Monitor) {
        let Some((began, reset_at)) = self.last_child.missed else {
            return;
        };
        let from = self.signals.bounded_at.unwrap_or(began);
        let is_over = reset_at >= from + monitor.shutdown_timeout();
        assert!(
            is_over && !self.signals.is_unbounded || monitor.backoff.is_closed(reset_at),
            "clients were reset, and no child was forked for them"
        );
    }

    /// Whether there is a reason for no last child, other than that failures delay forks.
    fn needs_no_last_child(&self) -> bool {
        let is_killed = self.signals.kill_alls > 0;
        let is_forked = self.last_child.tries > 0;
        // The fork fails before the kernel is asked.
        let has_threads = self.now < self.parent.threads_until;
        is_killed || is_forked || has_threads || self.socket_lost
    }

    /// A queued client is reset only if no child could have served it in time. The listeners stay
    /// open while a child has not been told to stop.
    pub(super) fn check_close(&mut self) {
        let Reachability::Shut { since } = self.reachability else {
            panic!("the listeners are closed while {:?}", self.reachability);
        };
        let in_time = self.now < since + self.drain_timeout;
        let models = self.kernel.iter().map(|entry| &entry.model);
        let serves = |model: &&Model| !model.is_dead() && !model.reserved;
        let mut living = models.filter(serves).peekable();
        let no_child = living.peek().is_none();
        let reset = in_time && no_child && self.queued_clients > 0;
        let was_missed = reset && !self.needs_no_last_child();
        self.last_child.missed = was_missed.then_some((since, self.now));
        assert!(
            !in_time || no_child || self.queued_clients == 0,
            "{} clients are reset in {:?}",
            self.queued_clients,
            self.reachability,
        );
        assert!(
            !in_time || living.all(|model| model.told),
            "it was told nothing"
        );
    }

    /// In a shutdown the listeners are closed at the end of the drain or earlier.
    fn check_the_door(&self, monitor: &Monitor) {
        if let Reachability::Shut { since } = self.reachability {
            let latest = since + self.drain_timeout + self.parent.stood_still + ms(100);
            let in_time = self.now <= latest.max(self.parent.stands_still_until + ms(100));
            assert!(in_time, "clients can still queue: {:?}", self.reachability);
        }
        assert_eq!(
            monitor.is_shutdown(),
            self.reachability != Reachability::Open
        );
    }

    /// The shutdown does not wait for a slow start, unless the child lies that it has started.
    fn check_no_start_is_awaited(&self, monitor: &Monitor, began: ShutdownBegan) {
        let latest = began.at + self.drain_timeout + self.parent.stood_still + ms(100);
        if self.now <= latest.max(self.parent.stands_still_until + ms(100)) {
            return;
        }
        let starts = |entry: &&KernelEntry| {
            let model = &entry.model;
            let can_be_known = model.fault != Some(Fault::Immortal) && !model.lies && !model.forges;
            model.activity == ModelActivity::Starting && can_be_known
        };
        let late = self.kernel.iter().find(starts);
        let late = late.map(|entry| monitor.child(entry.id));
        assert!(
            late.is_none(),
            "{late:?} is still waited for since {began:?}"
        );
    }

    /// Checks what holds at the end: no child is left, the listeners are closed for all, and nothing
    /// is due.
    pub(crate) fn check_end(&self, monitor: &Monitor) {
        assert_eq!((monitor.pool.len(), self.kernel.iter().count()), (0, 0));
        assert_eq!(monitor.queue.forks(), 0, "a fork waits in the queue");
        assert_eq!(monitor.deadline(), None, "something is due after the end");
        // A child that was given up may hold them as well.
        assert_eq!(self.reachability, Reachability::Closed);
        self.check_who_is_queued_is_served(monitor);
    }
}

/// The escalation of a retiring child continues: the core has a deadline for it.
fn check_it_retires_in_time(monitor: &Monitor, child: &Child) {
    if child.is_reaped() {
        return check_its_record_ends_in_time(monitor, child);
    }
    let Some((at, _)) = monitor.next_signal(child) else {
        // The shutdown bounds these children as well.
        let gentle = child.reason().is_some_and(Reason::is_gentle);
        let serves = gentle && child.is_serving() && !monitor.is_shutdown();
        // With a timeout a silent child is judged once its output has been read.
        let judged_later = serves && child.flags.contains(ChildFlags::UNREAD);
        assert!(
            child.was_killed()
                || judged_later
                || serves && monitor.timeout().is_zero()
                || monitor.stop.is_unbounded() && child.reason() == Some(Reason::Shutdown),
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

/// A dead child keeps its record while its output or its stack is being read, and the core has a
/// deadline for the stack.
fn check_its_record_ends_in_time(monitor: &Monitor, child: &Child) {
    if let Some(until) = child.stack.awaited_until()
        && child.was_stuck()
    {
        let deadline = monitor.deadline();
        assert!(
            deadline.is_some_and(|deadline| deadline <= until),
            "the stack of {child:?} is awaited until {until}, and the core would sleep until {deadline:?}"
        );
    }
}
