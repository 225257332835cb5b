//! The control socket in the loop: accepts and reads its clients, begins their commands, writes the
//! answers. `core/control` decides what a command does and when it is done.

use super::{child::ChildSide, parent::Parent, turn::Loop};
use crate::{
    core::{
        control::{Answer, Problem, may_control},
        notice::Notice,
        system::{Caller, Heard, Ready, Source, System},
    },
    hooks::{ChildServer, PreForkHooks},
};

/// How many clients one turn accepts.
const ACCEPTS: usize = 16;

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Reads the clients of the control socket, and begins their commands.
    pub(super) fn serve_control(&mut self, ready: &[Ready]) {
        self.parent.hear_control(ready);
        let Parent { monitor, desk, .. } = &mut self.parent;
        desk.begin(monitor);
        self.parent.status.note_drain(&self.parent.monitor);
        let wish = self.parent.monitor.take_wish();
        self.obey(wish);
    }
}

impl<Y: System> Parent<Y> {
    fn hear_control(&mut self, ready: &[Ready]) {
        for event in ready {
            if let Source::Control(client) = event.source {
                self.desk.woke(client);
            }
        }
        // Clients that have gone make room for others.
        self.read_control();
        for _ in 0..ACCEPTS {
            if !self.desk.accepts(self.monitor.now()) {
                break;
            }
            self.accept_control();
        }
    }

    fn accept_control(&mut self) {
        match self.system.accept_control() {
            Ok(Some(caller)) => self.admit(caller),
            Ok(None) => self.desk.accepted_all(),
            Err(error) => {
                self.monitor.notice(
                    Notice::ControlAccept,
                    format_args!("the control socket cannot be accepted on: {error}"),
                );
                self.desk.accept_failed(self.monitor.now());
            }
        }
    }

    fn admit(&mut self, caller: Caller) {
        let Caller {
            client, pid, user, ..
        } = caller;
        if !may_control(&caller) {
            self.monitor.report.control_refusals += 1;
            let text = format!("user {user} may not control this server");
            self.monitor.notice(
                Notice::RefusedControl,
                format_args!("control client refused: {text}"),
            );
            return self.turn_away(client, Answer::error(Problem::Denied, &text));
        }
        match self.desk.make_room() {
            Ok(idle) => {
                idle.into_iter()
                    .for_each(|idle| self.system.close_control(idle));
                self.monitor.notice(
                    Notice::ControlClient,
                    format_args!("control client {client}: process {pid} of user {user}"),
                );
                self.desk.add(client, self.monitor.now());
            }
            Err(answer) => self.turn_away(client, answer),
        }
    }

    /// Tells a client why it is not served. OK to ignore errors: it is not there to read it.
    fn turn_away(&mut self, client: u64, answer: Answer) {
        let _ = self.system.write_control(client, &answer.into_line());
        self.system.close_control(client);
    }

    /// Reads each client once: one that sends without end does not keep the loop.
    fn read_control(&mut self) {
        let mut buffer = Vec::new();
        for (client, room) in self.desk.to_read() {
            buffer.resize(room, 0);
            match self.system.read_control(client, &mut buffer) {
                Heard::Bytes(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.desk.received(client, bytes, self.monitor.now());
                }
                Heard::Nothing => self.desk.read_all(client),
                Heard::End => self.desk.ended(client),
                Heard::Gone => self.desk.left(client),
            }
        }
    }

    /// Answers the commands that are done, and closes the clients that are over.
    pub(super) fn answer_control(&mut self) {
        self.desk.look(&self.monitor);
        self.write_control();
        for client in self.desk.take_over(self.monitor.now()) {
            self.system.close_control(client);
        }
    }

    /// Writes as much as the kernel takes: no client is waited for.
    pub(super) fn write_control(&mut self) {
        for client in self.desk.to_write() {
            match self
                .system
                .write_control(client, self.desk.outgoing(client))
            {
                Ok(count) => self.desk.wrote(client, count, self.monitor.now()),
                Err(_) => self.desk.left(client),
            }
        }
    }
}
