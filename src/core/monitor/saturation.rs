//! Whether clients have to wait: when all children are busy, for how long, and what was refused.
//! Looks at no queue.

use super::*;

/// What is known of a pool whose children are all busy.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    pub(super) episode: Episode,
    /// How much of the present episode the report has.
    counted: Duration,
    /// Whether no child has been free since all were busy.
    all_busy: bool,
}

/// Whether the server is saturated.
impl Monitor {
    /// What a new client finds: a free child, or only busy ones and whether more may come.
    pub(crate) fn fill(&self) -> Fill {
        let census = self.pool.census();
        let all_are_there = census.live() >= self.attributes.max_clients;
        if self.shutdown || self.is_any_free() {
            Fill::Room
        } else if all_are_there && census.busy > 0 && census.idle() == 0 {
            Fill::Full
        } else {
            Fill::Short
        }
    }

    /// Whether a child can take a client. A newcomer that has only said that it lives counts as free,
    /// but it takes its first client from the queue that has formed while all were busy.
    fn is_any_free(&self) -> bool {
        let is_free = |child: &Child| child.state == State::Free && child.is_ready();
        let free = self.pool.census().free > 0;
        free && (!self.fullness.all_busy || self.pool.iter().any(is_free))
    }

    /// Observes whether the server is saturated, and counts the episodes.
    pub(crate) fn observe_saturation(&mut self) -> Option<Change> {
        let fill = self.fill();
        self.fullness.all_busy = match fill {
            Fill::Room => false,
            Fill::Short => self.fullness.all_busy,
            Fill::Full => true,
        };
        let change = if self.shutdown {
            self.fullness.episode.end(self.now)
        } else {
            self.fullness.episode.observe(fill, self.now)
        };
        self.count_saturation(change);
        change
    }

    /// Whether no child has been free since all were busy.
    pub(crate) fn are_all_busy(&self) -> bool {
        self.fullness.all_busy
    }

    fn count_saturation(&mut self, change: Option<Change>) {
        let lasted = match change {
            Some(Change::Ends { after }) => after,
            _ => self.fullness.episode.lasted(self.now),
        };
        self.report.saturations += u64::from(matches!(change, Some(Change::Begins { .. })));
        self.report.saturated_for += lasted.saturating_sub(self.fullness.counted);
        self.fullness.counted = self.fullness.episode.lasted(self.now);
    }

    /// Notes how many connections children have not served.
    pub(crate) fn note_refusals(&mut self, found: Refusals) {
        let found = found.plus(self.refused_before);
        let before = std::mem::replace(&mut self.report.refusals, found);
        for (reason, connections) in found.since(before) {
            self.happened(Event::Refused {
                reason,
                connections,
            });
        }
    }

    /// Since when the present episode of saturation has lasted, if there is one.
    #[cfg(feature = "status")]
    pub(crate) fn saturated_since(&self) -> Option<Time> {
        self.fullness.episode.since()
    }

    /// Whether all children are busy, and it is not known yet whether that lasts.
    pub(crate) fn saturation_comes(&self) -> bool {
        self.fullness.episode.comes()
    }

    /// Whether the server is in an episode of saturation.
    pub(crate) fn is_in_saturation(&self) -> bool {
        self.fullness.episode.lasts()
    }
}
