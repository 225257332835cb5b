//! What must hold after every step of a walk: the monitor against the model.

use super::*;

impl Walk {
    /// What must hold after every step.
    pub(super) fn check(&self) {
        let monitor = &self.monitor;
        let mut census = crate::core::pool::Census::default();
        for child in monitor.children() {
            *match child.state() {
                State::Starting => &mut census.starting,
                State::Free => &mut census.free,
                State::Busy => &mut census.busy,
                State::Reserved => &mut census.reserved,
                State::Retiring => &mut census.retiring,
            } += 1;
            self.check_child(child);
        }
        assert_eq!(census, monitor.pool.census());
        let named: Vec<_> = monitor.children().map(Child::id).collect();
        let known: BTreeSet<_> = named.iter().copied().collect();
        assert_eq!(named.len(), known.len());
        assert!(known.iter().eq(self.processes.keys()));
        self.check_lists(&known);
        let report = monitor.report();
        assert_eq!(report.forks, self.deaths + known.len() as u64);
        assert_eq!(report.all_deaths(), self.deaths);
        if monitor.is_shutdown() {
            assert_eq!(census.live(), census.retiring, "a child that was not told");
        }
    }

    fn check_child(&self, child: &Child) {
        let sent = &self.processes[&child.id()];
        // The shutdown also tells children that were told before.
        assert!(sent.interrupts <= 1 + self.shutdowns, "{child:?} {sent:?}");
        assert!(sent.kills <= 1, "{child:?} {sent:?}");
        let told = child.flags.contains(ChildFlags::INT_SENT);
        assert_eq!(told, sent.interrupts > 0, "{child:?} {sent:?}");
        assert_eq!(child.flags.contains(ChildFlags::KILL_SENT), sent.kills > 0);
        if child.state() != State::Retiring {
            return assert_eq!((child.reason(), sent.interrupts), (None, 0), "{child:?}");
        }
        let unjudged = self.monitor.timeout().is_zero();
        let gentle = child.reason().is_some_and(Reason::is_gentle);
        let serving = gentle && child.is_serving() && unjudged;
        let ends = sent.kills > 0 || self.monitor.next_signal(child).is_some();
        assert!(serving || ends, "nothing will end {child:?}");
    }

    fn check_lists(&self, known: &BTreeSet<ChildId>) {
        let monitor = &self.monitor;
        let mut listed: Vec<_> = monitor
            .busy_servers()
            .chain(monitor.free_servers())
            .chain(monitor.retiring_servers())
            .chain(monitor.reserved_server())
            .map(Child::id)
            .collect();
        listed.sort_unstable();
        assert!(listed.iter().eq(known), "a child in no list or in two");
    }
}
