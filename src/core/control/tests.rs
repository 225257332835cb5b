//! Commands, clients and answers, without a socket and without a loop.

mod attributes;
mod clients;
mod reload;
mod retire;
mod stack;
mod stop;
mod table;
mod upgrade;

use super::{client, client_table::CLIENTS, *};
use crate::core::{
    child::{Child, ChildFlags, ChildId, Signal, State},
    config::{Config, TakesEffect},
    error::{Error, Operation},
    stop::StopEffect,
    testing::{PlainTask, asked, at, child, children, exit_code, go_to, infos, monitor, ms, sized},
    time::Time,
};
use std::{io, time::Duration};

/// A server as the control socket sees it, and its clients.
struct Talk {
    monitor: Monitor,
    client_table: ClientTable,
}

impl Talk {
    fn new(monitor: Monitor) -> Self {
        let mut talk = Self {
            monitor,
            client_table: ClientTable::default(),
        };
        talk.client_table.add(1, Time::START);
        talk
    }

    fn send(&mut self, client: u64, text: &str) {
        self.client_table.woke(Some(client));
        self.client_table
            .received(client, text.as_bytes(), self.monitor.now());
        self.client_table.read_all(client);
    }

    /// A turn of the loop, without what it performs.
    fn turn(&mut self) {
        self.client_table.begin(&mut self.monitor);
        self.tell();
        self.client_table.look(&self.monitor);
    }

    /// Tells the table of clients what has happened in the monitor.
    fn tell(&mut self) {
        while let Some(event) = self.monitor.events.pop() {
            self.client_table.event(&self.monitor, &event);
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        self.tell();
        self.client_table.event(&self.monitor, event);
    }

    /// What a client has been answered, which it reads now.
    fn read(&mut self, client: u64) -> String {
        let bytes = self.client_table.outgoing(client).to_vec();
        if !bytes.is_empty() {
            self.client_table
                .wrote(client, bytes.len(), self.monitor.now());
        }
        let text = String::from_utf8(bytes).unwrap();
        text.trim_end_matches('\n').to_owned()
    }

    /// The answer to one line of the first client; empty if it is not done.
    fn ask(&mut self, line: &str) -> String {
        self.send(1, &format!("{line}\n"));
        self.turn();
        self.read(1)
    }

    #[track_caller]
    fn expect_nothing(&mut self, client: u64) {
        self.turn();
        assert_eq!(self.read(client), "");
    }

    /// Ends a child that has this exit code.
    fn end(&mut self, id: ChildId, code: i32) {
        let ended = self.monitor.exited(id, exit_code(code));
        let (child, death) = ended.expect("a child");
        self.event(&Event::Exited {
            child: &child,
            death: &death,
        });
    }

    /// What the replacement does in a turn; the forks that it asks for come to life.
    fn replace(&mut self) -> Vec<ChildId> {
        let moves = self.monitor.replacement_step();
        for (old, new) in moves.replaced {
            self.event(&Event::Replaced { old, new });
        }
        let forks = asked(&mut self.monitor).into_iter();
        let forks = forks.filter(|task| *task == PlainTask::ServerFork).count();
        let newcomers = (0..forks).map(|_| child(&mut self.monitor, State::Starting));
        newcomers.collect()
    }
}

/// As many children, each ready to serve.
fn ready<const N: usize>(monitor: &mut Monitor) -> [ChildId; N] {
    let ids = children(monitor, [State::Free; N]);
    for id in ids {
        monitor.set_not_busy(id);
    }
    ids
}

fn code(answer: &str) -> &str {
    let (_, rest) = answer.split_once(",\"code\":\"").expect(answer);
    rest.trim_end_matches("\"}")
}
