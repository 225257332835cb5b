//! Timers that post a state, as `delay_set` sets them. Keeps them in order; never reads a clock.

use crate::core::time::Time;
use std::collections::BTreeMap;

/// Names an alarm. No two alarms have the same name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AlarmId(u64);

/// The alarms that are set, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    last: u64,
    states: BTreeMap<(Time, AlarmId), String>,
}

impl Alarms {
    pub(crate) fn set(&mut self, at: Time, state: &str) -> AlarmId {
        self.last += 1;
        let id = AlarmId(self.last);
        self.states.insert((at, id), state.to_owned());
        id
    }

    /// Whether there was such an alarm.
    pub(crate) fn remove(&mut self, id: AlarmId) -> bool {
        let key = self.states.keys().find(|(_, alarm)| *alarm == id).copied();
        key.is_some_and(|key| self.states.remove(&key).is_some())
    }

    pub(crate) fn clear(&mut self) {
        self.states.clear();
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.states.keys().next().map(|(at, _)| *at)
    }

    /// Removes an alarm that is due and returns its state.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<String> {
        let entry = self
            .states
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    #[test]
    fn alarms_go_off_in_order_of_time_then_of_setting() {
        let mut alarms = Alarms::default();
        alarms.set(at(20), "late");
        alarms.set(at(10), "first");
        alarms.set(at(10), "second");
        assert_eq!(alarms.next(), Some(at(10)));
        assert_eq!(alarms.take_due(at(9)), None);
        assert_eq!(alarms.take_due(at(10)).as_deref(), Some("first"));
        assert_eq!(alarms.take_due(at(10)).as_deref(), Some("second"));
        assert_eq!(alarms.take_due(at(10)), None);
        assert_eq!(alarms.take_due(at(99)).as_deref(), Some("late"));
    }

    #[test]
    fn a_removed_alarm_never_goes_off() {
        let mut alarms = Alarms::default();
        let id = alarms.set(at(10), "x");
        assert!(alarms.remove(id));
        assert!(!alarms.remove(id));
        assert_eq!((alarms.next(), alarms.take_due(at(99))), (None, None));
        alarms.set(at(10), "y");
        alarms.clear();
        assert_eq!(alarms.next(), None);
    }
}
