//! What the user sees and has chosen: order, filter, selection, details. Pure: keys and snapshots in,
//! orders out; draws nothing.

use super::{
    keys::Key,
    table::{self, Column},
};
use crate::snapshot::{Death, Slot, Snapshot};

/// How many rows a page has.
const PAGE: usize = 10;

/// What the user wants done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Replace the child with this process id.
    Retire(u32),
    /// Show the stack of the child with this process id.
    Look(u32),
}

/// Where a child was at a moment.
#[derive(Debug)]
pub(super) struct Sight {
    pid: u32,
    pub(super) lines: Vec<String>,
    /// The time of the server.
    at: f64,
}

/// Which list is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    Children,
    Deaths,
}

/// What the keys mean at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    Browse,
    /// A filter is being typed.
    Filter,
    /// A child is retired if the user says yes.
    Confirm(u32),
    Help,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) snapshot: Snapshot,
    /// Why the snapshot is not the newest, if so.
    pub(super) stale: Option<String>,
    pub(super) shown: Shown,
    pub(super) mode: Mode,
    pub(super) by: Column,
    pub(super) is_reversed: bool,
    pub(super) is_paused: bool,
    pub(super) has_details: bool,
    pub(super) filter: String,
    pub(super) message: Option<String>,
    /// The child that is chosen: it stays so wherever it moves to.
    selected: Option<u32>,
    /// The death that is chosen, by its place.
    death: usize,
    /// The last look at a child.
    sight: Option<Sight>,
    /// How many lines of the details are above the first that is drawn.
    pub(super) scrolled: usize,
    may_control: bool,
    is_over: bool,
}

impl View {
    pub(super) fn new(snapshot: Snapshot, may_control: bool) -> Self {
        let mut view = Self {
            snapshot,
            stale: None,
            shown: Shown::Children,
            mode: Mode::Browse,
            by: Column::Busy,
            is_reversed: false,
            is_paused: false,
            has_details: false,
            filter: String::new(),
            message: None,
            selected: None,
            death: 0,
            sight: None,
            scrolled: 0,
            may_control,
            is_over: false,
        };
        view.select(0);
        view
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The children in the order of the table.
    pub(super) fn rows(&self) -> Vec<&Slot> {
        table::rows(
            &self.snapshot.slots,
            &self.filter,
            self.by,
            self.is_reversed,
        )
    }

    /// The place of what is chosen, in the list that is shown.
    pub(super) fn at(&self) -> Option<usize> {
        match self.shown {
            Shown::Children => {
                let rows = self.rows();
                rows.iter().position(|slot| Some(slot.pid) == self.selected)
            }
            Shown::Deaths => (self.death < self.snapshot.deaths.len()).then_some(self.death),
        }
    }

    /// The child that is chosen.
    pub(super) fn child(&self) -> Option<&Slot> {
        let mut slots = self.snapshot.slots.iter();
        slots.find(|slot| Some(slot.pid) == self.selected)
    }

    /// The death that is chosen; with the children on the screen, the last in the slot of the child.
    pub(super) fn death(&self) -> Option<&Death> {
        match self.shown {
            Shown::Children => self.snapshot.last_death_in(self.child()?.slot),
            Shown::Deaths => self.snapshot.deaths.get(self.death),
        }
    }

    /// Takes what the server has told, or why it has told nothing.
    pub(super) fn update(&mut self, status: Result<Snapshot, String>) {
        match status {
            Ok(_) if self.is_paused => {}
            Ok(snapshot) => {
                self.snapshot = snapshot;
                self.stale = None;
                if self.child().is_none() {
                    self.select(0);
                }
            }
            Err(reason) => self.stale = Some(reason),
        }
    }

    pub(super) fn say(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Takes what the server has told of a child.
    pub(super) fn show_stack(&mut self, pid: u32, lines: Vec<String>) {
        let at = self.snapshot.server.now;
        self.message = None;
        self.scrolled = 0;
        self.sight = Some(Sight { pid, lines, at });
    }

    /// The last look at the child that is chosen, and how many seconds ago it was.
    pub(super) fn sight(&self) -> Option<(&Sight, f64)> {
        let sight = self.sight.as_ref()?;
        let ago = (self.snapshot.server.now - sight.at).max(0.0);
        let is_shown = self.shown == Shown::Children && self.selected == Some(sight.pid);
        is_shown.then_some((sight, ago))
    }

    /// Acts on a key. Returns what is to be done by the server.
    pub(super) fn press(&mut self, key: Key) -> Option<Order> {
        self.message = None;
        if key == Key::Interrupt {
            self.is_over = true;
            return None;
        }
        match self.mode {
            Mode::Browse if key == Key::Char('t') => return self.look(),
            Mode::Browse => self.browse(key),
            Mode::Filter => self.type_filter(key),
            Mode::Help => self.mode = Mode::Browse,
            Mode::Confirm(pid) => {
                self.mode = Mode::Browse;
                return (key == Key::Char('y')).then(|| {
                    self.message = Some(format!("retiring {pid}: it goes when it is done"));
                    Order::Retire(pid)
                });
            }
        }
        None
    }

    fn browse(&mut self, key: Key) {
        match key {
            Key::Char('q') => self.is_over = true,
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-(PAGE as isize)),
            Key::PageDown => self.step(PAGE as isize),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Right | Key::Char('s') => self.by = self.by.next(1),
            Key::Left | Key::Char('S') => self.by = self.by.next(-1),
            Key::Char('r') => self.is_reversed ^= true,
            Key::Char('p' | ' ') => self.is_paused ^= true,
            Key::Char('/') => self.mode = Mode::Filter,
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('d') | Key::Tab => self.turn_over(),
            Key::Char('x') => self.ask_to_retire(),
            Key::Char('J') => self.scroll(1),
            Key::Char('K') => self.scroll(-1),
            Key::Enter => self.has_details ^= true,
            Key::Escape => self.leave(),
            _ => {}
        }
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(char) => self.filter.push(char),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.mode = Mode::Browse,
            Key::Escape => {
                self.filter.clear();
                self.mode = Mode::Browse;
            }
            _ => {}
        }
        if self.at().is_none() {
            self.select(0);
        }
    }

    /// Closes what is open, the last first.
    fn leave(&mut self) {
        match self.has_details {
            true => self.has_details = false,
            false => self.filter.clear(),
        }
    }

    fn turn_over(&mut self) {
        self.shown = match self.shown {
            Shown::Children => Shown::Deaths,
            Shown::Deaths => Shown::Children,
        };
    }

    fn ask_to_retire(&mut self) {
        if let Some(pid) = self.child_to("retire a child") {
            self.mode = Mode::Confirm(pid);
        }
    }

    fn look(&mut self) -> Option<Order> {
        let pid = self.child_to("see the stack of a child")?;
        self.has_details = true;
        self.message = Some(format!("asking {pid} where it is"));
        Some(Order::Look(pid))
    }

    /// The child that is chosen, for a command to the server. Says so if there can be none.
    fn child_to(&mut self, what: &str) -> Option<u32> {
        let pid = self.child().map(|slot| slot.pid);
        let pid = pid.filter(|_| self.shown == Shown::Children)?;
        if !self.may_control {
            self.message = Some(format!("to {what}, add --control PATH"));
        }
        self.may_control.then_some(pid)
    }

    fn scroll(&mut self, by: isize) {
        let most = self.sight().map_or(0, |(sight, _)| sight.lines.len());
        self.scrolled = self.scrolled.saturating_add_signed(by).min(most);
    }

    fn step(&mut self, by: isize) {
        let at = self.at().unwrap_or(0);
        self.select(at.saturating_add_signed(by));
    }

    /// Chooses what is at this place, or the last.
    fn select(&mut self, at: usize) {
        match self.shown {
            Shown::Children => {
                let rows = self.rows();
                let last = rows.len().saturating_sub(1);
                self.selected = rows.get(at.min(last)).map(|slot| slot.pid);
            }
            Shown::Deaths => {
                self.death = at.min(self.snapshot.deaths.len().saturating_sub(1));
            }
        }
    }
}

#[cfg(test)]
mod tests;
