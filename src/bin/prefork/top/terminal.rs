//! The terminal: taken at the start, and given back as it was, also after a panic and when a signal
//! ends the command. Draws nothing itself.

use nix::sys::signal::{SigSet, Signal};
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// The screen. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// A signal that ends programs has come.
    end_requested: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal. Call it before any thread is started.
    pub(super) fn open() -> io::Result<Self> {
        leave_out_sizes()?;
        let end_requested = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&end_requested))?;
        }
        // This also has a panic give the terminal back before its message is printed.
        let terminal = ratatui::try_init()?;
        Ok(Self {
            terminal,
            end_requested,
        })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    pub(super) fn is_end_requested(&self) -> bool {
        self.end_requested.load(Ordering::Relaxed)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // After a panic it has been given back. A second time would move the cursor back to where it
        // was at the start, and what is written next would cover the message.
        if !thread::panicking() {
            ratatui::restore();
        }
    }
}

/// Keeps the signal for a new size from this thread and those that it starts.
///
/// The size is looked at before each drawing in any case. A key that comes together with the signal
/// would be read with the next key only: of two things that are ready crossterm reads one, and is
/// told of the other once.
fn leave_out_sizes() -> io::Result<()> {
    let mut sizes = SigSet::empty();
    sizes.add(Signal::SIGWINCH);
    Ok(sizes.thread_block()?)
}
