//! The server that is walked, with a holder. It tells its parents, and never panics by itself.

use std::io;
use std::process::ExitCode;

use prefork_server::{Error, Event, Monitor, Observer};

use crate::support::{Args, Programs, gate, programs};
use crate::walked::{address_of, describe, drive, ended, say, tcp_server};

pub const PROGRAMS: Programs = programs![walked_held];

fn walked_held(args: Args) -> ExitCode {
    ended(walk(&args))
}

/// Whether all went well.
fn walk(args: &Args) -> Result<bool, Error> {
    let parents = Parents {
        dies: args.has("--dies-at-takeover"),
        told: false,
    };
    let builder = describe(tcp_server(), args).observe(parents);
    let prefork = builder.holder().start()?;
    let address = address_of(prefork.server()).unwrap_or_default();
    say(&io::stdout(), &format!("listening on {address}"));
    gate::pass("split");
    drive(prefork)
}

/// Tells who the parent is, at the end of its first turn.
struct Parents {
    /// Each parent after the first dies before that.
    dies: bool,
    told: bool,
}

impl Observer for Parents {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        match event {
            Event::TookOver { .. } if self.dies => std::process::abort(),
            Event::TookOver { .. } => {
                say(&io::stdout(), &format!("taken over {}", std::process::id()));
            }
            Event::Turn { .. } if !std::mem::replace(&mut self.told, true) => {
                say(&io::stdout(), &format!("parent {}", std::process::id()));
            }
            _ => {}
        }
    }
}
