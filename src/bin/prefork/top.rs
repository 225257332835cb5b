//! `prefork top`: a running server on the terminal, twice a second. Gets the status in a thread and
//! gives commands in others, so that the terminal answers whatever the server does.

mod draw;
mod keys;
mod table;
mod terminal;
mod view;

use crate::{args::TopArgs, control, exit::CliError, fetch, snapshot::StatusDocument, status};
use prefork_server::StatusAddress;
use ratatui::crossterm::event::{self, Event};
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};
use terminal::Screen;
use view::{TopView, UserAction};

/// How often the status is asked for.
const EVERY: Duration = Duration::from_millis(500);
/// How long a key is waited for before the rest is looked at.
const KEYS: Duration = Duration::from_millis(100);

/// What threads report.
#[derive(Debug)]
enum TopEvent {
    Status(Box<Result<StatusDocument, String>>),
    /// A command is done.
    Told(String),
    /// Where a child is.
    Seen(u32, Vec<String>),
}

pub(crate) fn top(of: &TopArgs) -> Result<(), CliError> {
    let address = status::address(of.status.as_ref(), of.config.as_deref())?;
    let control = control::path(of.control.as_ref(), of.config.as_deref())?;
    // A server that cannot be asked is told before the terminal changes.
    let first =
        look(&address).map_err(|reason| CliError::no_status(&address.to_string(), &reason))?;
    if !io::stdout().is_terminal() {
        let message = "top needs a terminal; `prefork status` prints the same once";
        return Err(CliError::usage(message));
    }
    let mut view = TopView::new(first, control.is_some());
    let (news, inbox) = channel();
    // Before the first thread: it says which signals reach any.
    let mut screen = Screen::open()?;
    watch(address, news.clone());
    run(&mut screen, &mut view, &inbox, &|action| {
        perform(action, control.clone(), news.clone())
    })?;
    Ok(())
}

/// Draws, and acts on keys and news, until the user or a signal ends it.
fn run(
    screen: &mut Screen,
    view: &mut TopView,
    inbox: &Receiver<TopEvent>,
    perform: &dyn Fn(UserAction),
) -> io::Result<()> {
    while !view.is_over() && !screen.is_end_requested() {
        screen.draw(|frame| draw::draw(frame, view))?;
        if event::poll(KEYS)?
            && let Event::Key(key) = event::read()?
            && let Some(key) = keys::key(key)
            && let Some(action) = view.press(key)
        {
            perform(action);
        }
        for news in inbox.try_iter() {
            match news {
                TopEvent::Status(status) => view.update(*status),
                TopEvent::Told(message) => view.say(message),
                TopEvent::Seen(pid, lines) => view.show_stack(pid, lines),
            }
        }
    }
    Ok(())
}

fn look(address: &StatusAddress) -> Result<StatusDocument, String> {
    let text = fetch::status(address).map_err(|error| error.to_string())?;
    StatusDocument::read(&text)
}

/// Asks for the status again and again. The thread ends with the process.
fn watch(address: StatusAddress, news: Sender<TopEvent>) {
    thread::spawn(move || {
        loop {
            thread::sleep(EVERY);
            if news
                .send(TopEvent::Status(Box::new(look(&address))))
                .is_err()
            {
                return;
            }
        }
    });
}

/// Gives a command to the server, and reports its answer when it is done.
fn perform(action: UserAction, control: Option<PathBuf>, news: Sender<TopEvent>) {
    thread::spawn(move || {
        let Some(path) = control else { return };
        let told = match action {
            UserAction::Retire(pid) => TopEvent::Told(control::retire_at(&path, pid)),
            UserAction::Look(pid) => match control::stack_at(&path, pid) {
                Ok(lines) => TopEvent::Seen(pid, lines),
                Err(reason) => TopEvent::Told(reason),
            },
        };
        // OK to ignore: the user has left meanwhile.
        let _ = news.send(told);
    });
}
