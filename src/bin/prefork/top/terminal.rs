//! The terminal: taken at the start, and given back as it was, also after a panic and when a signal
//! ends the command. Draws nothing itself.

use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The screen. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// A signal that ends programs has come.
    told: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let told = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&told))?;
        }
        // This also has a panic give the terminal back before its message is printed.
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal, told })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    pub(super) fn is_told_to_end(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
