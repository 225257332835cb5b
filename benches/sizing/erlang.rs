//! Erlang's formulas: how long clients wait for a free child, if they arrive at random and one queue
//! feeds all children (M/M/c). Computes; simulates nothing.

/// What comes, and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Connections a second.
    pub(crate) rate: f64,
    /// How long one keeps a child, in seconds, on average.
    pub(crate) service: f64,
}

impl Load {
    /// How many children would be busy on average if there were enough: Erlangs.
    pub(crate) fn offered(self) -> f64 {
        self.rate * self.service
    }

    /// The share of a connection's time in a child that the child is busy.
    pub(crate) fn utilisation(self, children: u64) -> f64 {
        self.offered() / children as f64
    }

    /// The probability that a client has to wait: Erlang C. One where the children cannot keep up.
    pub(crate) fn waits(self, children: u64) -> f64 {
        let utilisation = self.utilisation(children);
        if utilisation >= 1.0 {
            return 1.0;
        }
        let blocked = blocked(self.offered(), children);
        blocked / (1.0 - utilisation * (1.0 - blocked))
    }

    /// How long a client waits on average, in seconds, those included that do not.
    pub(crate) fn mean_wait(self, children: u64) -> f64 {
        self.waits(children) / self.spare_rate(children)
    }

    /// The wait that a share of all clients stays below, in seconds.
    pub(crate) fn wait_of(self, share: f64, children: u64) -> f64 {
        let waits = self.waits(children);
        let beyond = 1.0 - share;
        match waits <= beyond {
            true => 0.0,
            false => (waits / beyond).ln() / self.spare_rate(children),
        }
    }

    /// How many connections a second more the children could serve. Zero where they cannot keep up,
    /// which makes waits infinite.
    fn spare_rate(self, children: u64) -> f64 {
        (children as f64 / self.service - self.rate).max(0.0)
    }

    /// The fewest children with which a share of the clients waits no longer than `wait` seconds.
    pub(crate) fn children_for(self, share: f64, wait: f64) -> u64 {
        let enough = |&children: &u64| self.wait_of(share, children) <= wait;
        let least = self.offered().floor() as u64 + 1;
        (least..).find(enough).unwrap_or(least)
    }
}

/// The probability that all children are busy if nobody waited: Erlang B, by its recurrence, which
/// stays exact for any number of children.
fn blocked(offered: f64, children: u64) -> f64 {
    (1..=children).fold(1.0, |blocked, children| {
        offered * blocked / (children as f64 + offered * blocked)
    })
}
