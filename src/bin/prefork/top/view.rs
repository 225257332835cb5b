//! What the user sees and has chosen: order, filter, selection, details. Pure: keys and snapshots in,
//! orders out; draws nothing.

use super::{
    keys::KeyPress,
    table::{self, Column},
};
use crate::snapshot::{ChildEntry, DeathEntry, StatusDocument};

/// How many rows a page has.
const PAGE: usize = 10;

/// What the user wants done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UserAction {
    /// Replace the child with this process id.
    Retire(u32),
    /// Show the stack of the child with this process id.
    Look(u32),
}

/// Where a child was at a moment.
#[derive(Debug)]
pub(super) struct ShownPosition {
    pid: u32,
    pub(super) lines: Vec<String>,
    /// The time of the server.
    at: f64,
}

/// Which list is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TopList {
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
pub(super) struct TopView {
    pub(super) snapshot: StatusDocument,
    /// Why the snapshot is not the newest, if so.
    pub(super) stale: Option<String>,
    pub(super) shown: TopList,
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
    sight: Option<ShownPosition>,
    /// How many lines of the details are above the first that is drawn.
    pub(super) scrolled: usize,
    may_control: bool,
    is_over: bool,
}

impl TopView {
    pub(super) fn new(snapshot: StatusDocument, may_control: bool) -> Self {
        let mut view = Self {
            snapshot,
            stale: None,
            shown: TopList::Children,
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
    pub(super) fn rows(&self) -> Vec<&ChildEntry> {
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
            TopList::Children => {
                let rows = self.rows();
                rows.iter().position(|slot| Some(slot.pid) == self.selected)
            }
            TopList::Deaths => (self.death < self.snapshot.deaths.len()).then_some(self.death),
        }
    }

    /// The child that is chosen.
    pub(super) fn child(&self) -> Option<&ChildEntry> {
        let mut slots = self.snapshot.slots.iter();
        slots.find(|slot| Some(slot.pid) == self.selected)
    }

    /// The death that is chosen; with the children on the screen, the last in the slot of the child.
    pub(super) fn death(&self) -> Option<&DeathEntry> {
        match self.shown {
            TopList::Children => self.snapshot.last_death_in(self.child()?.slot),
            TopList::Deaths => self.snapshot.deaths.get(self.death),
        }
    }

    /// Takes what the server has told, or why it has told nothing.
    pub(super) fn update(&mut self, status: Result<StatusDocument, String>) {
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
        self.sight = Some(ShownPosition { pid, lines, at });
    }

    /// The last look at the child that is chosen, and how many seconds ago it was.
    pub(super) fn sight(&self) -> Option<(&ShownPosition, f64)> {
        let sight = self.sight.as_ref()?;
        let ago = (self.snapshot.server.now - sight.at).max(0.0);
        let is_shown = self.shown == TopList::Children && self.selected == Some(sight.pid);
        is_shown.then_some((sight, ago))
    }

    /// Acts on a key. Returns what is to be done by the server.
    pub(super) fn press(&mut self, key: KeyPress) -> Option<UserAction> {
        self.message = None;
        if key == KeyPress::Interrupt {
            self.is_over = true;
            return None;
        }
        match self.mode {
            Mode::Browse if key == KeyPress::Char('t') => return self.look(),
            Mode::Browse => self.browse(key),
            Mode::Filter => self.type_filter(key),
            Mode::Help => self.mode = Mode::Browse,
            Mode::Confirm(pid) => {
                self.mode = Mode::Browse;
                return (key == KeyPress::Char('y')).then(|| {
                    self.message = Some(format!("retiring {pid}: it goes when it is done"));
                    UserAction::Retire(pid)
                });
            }
        }
        None
    }

    fn browse(&mut self, key: KeyPress) {
        match key {
            KeyPress::Char('q') => self.is_over = true,
            KeyPress::Up | KeyPress::Char('k') => self.step(-1),
            KeyPress::Down | KeyPress::Char('j') => self.step(1),
            KeyPress::PageUp => self.step(-(PAGE as isize)),
            KeyPress::PageDown => self.step(PAGE as isize),
            KeyPress::Home | KeyPress::Char('g') => self.select(0),
            KeyPress::End | KeyPress::Char('G') => self.select(usize::MAX),
            KeyPress::Right | KeyPress::Char('s') => self.by = self.by.next(1),
            KeyPress::Left | KeyPress::Char('S') => self.by = self.by.next(-1),
            KeyPress::Char('r') => self.is_reversed ^= true,
            KeyPress::Char('p' | ' ') => self.is_paused ^= true,
            KeyPress::Char('/') => self.mode = Mode::Filter,
            KeyPress::Char('?' | 'h') => self.mode = Mode::Help,
            KeyPress::Char('d') | KeyPress::Tab => self.turn_over(),
            KeyPress::Char('x') => self.ask_to_retire(),
            KeyPress::Char('J') => self.scroll(1),
            KeyPress::Char('K') => self.scroll(-1),
            KeyPress::Enter => self.has_details ^= true,
            KeyPress::Escape => self.leave(),
            _ => {}
        }
    }

    fn type_filter(&mut self, key: KeyPress) {
        match key {
            KeyPress::Char(char) => self.filter.push(char),
            KeyPress::Backspace => drop(self.filter.pop()),
            KeyPress::Enter => self.mode = Mode::Browse,
            KeyPress::Escape => {
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
            TopList::Children => TopList::Deaths,
            TopList::Deaths => TopList::Children,
        };
    }

    fn ask_to_retire(&mut self) {
        if let Some(pid) = self.child_to("retire a child") {
            self.mode = Mode::Confirm(pid);
        }
    }

    fn look(&mut self) -> Option<UserAction> {
        let pid = self.child_to("see the stack of a child")?;
        self.has_details = true;
        self.message = Some(format!("asking {pid} where it is"));
        Some(UserAction::Look(pid))
    }

    /// The child that is chosen, for a command to the server. Says so if there can be none.
    fn child_to(&mut self, what: &str) -> Option<u32> {
        let pid = self.child().map(|slot| slot.pid);
        let pid = pid.filter(|_| self.shown == TopList::Children)?;
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
            TopList::Children => {
                let rows = self.rows();
                let last = rows.len().saturating_sub(1);
                self.selected = rows.get(at.min(last)).map(|slot| slot.pid);
            }
            TopList::Deaths => {
                self.death = at.min(self.snapshot.deaths.len().saturating_sub(1));
            }
        }
    }
}

#[cfg(test)]
mod tests;
