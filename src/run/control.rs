//! The control socket in the loop: accepts and reads its clients, begins their commands, writes the
//! answers. `core/control` decides what a command does and when it is done.

use super::{child::ChildSide, parent::ParentState, turn::Loop};
use crate::{
    core::{
        control::{Answer, ErrorCode, may_control},
        notice::Notice,
        system::{ClientRead, EventSource, NewClient, Ready, System},
    },
    hooks::{ChildServer, PreForkHooks},
};

/// How many clients one turn accepts.
const ACCEPTS: usize = 16;

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Reads the clients of the control socket, and begins their commands.
    pub(super) fn serve_control(&mut self, ready: &[Ready]) {
        self.parent.hear_control(ready);
        let ParentState {
            monitor,
            client_table,
            ..
        } = &mut self.parent;
        client_table.begin(monitor);
        self.parent.status.note_drain(&self.parent.monitor);
        let effect = self.parent.monitor.take_stop_effect();
        self.apply_stop(effect);
    }
}

impl<Y: System> ParentState<Y> {
    fn hear_control(&mut self, ready: &[Ready]) {
        for event in ready {
            if let EventSource::Control(client) = event.source {
                self.client_table.woke(client);
            }
        }
        // Clients that have gone make room for others.
        self.read_control();
        for _ in 0..ACCEPTS {
            if !self.client_table.accepts(self.monitor.now()) {
                break;
            }
            self.accept_control();
        }
    }

    fn accept_control(&mut self) {
        match self.system.accept_control() {
            Ok(Some(caller)) => self.admit(caller),
            Ok(None) => self.client_table.accepted_all(),
            Err(error) => {
                self.monitor.notice(
                    Notice::ControlAccept,
                    format_args!("the control socket cannot be accepted on: {error}"),
                );
                self.client_table.accept_failed(self.monitor.now());
            }
        }
    }

    fn admit(&mut self, caller: NewClient) {
        let NewClient {
            client, pid, user, ..
        } = caller;
        if !may_control(&caller) {
            self.monitor.report.control_refusals += 1;
            let text = format!("user {user} may not control this server");
            self.monitor.notice(
                Notice::RefusedControl,
                format_args!("control client refused: {text}"),
            );
            return self.turn_away(client, Answer::error(ErrorCode::Denied, &text));
        }
        match self.client_table.make_room() {
            Ok(idle) => {
                idle.into_iter()
                    .for_each(|idle| self.system.close_control(idle));
                self.monitor.notice(
                    Notice::ControlClient,
                    format_args!("control client {client}: process {pid} of user {user}"),
                );
                self.client_table.add(client, self.monitor.now());
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
        for (client, room) in self.client_table.to_read() {
            buffer.resize(room, 0);
            match self.system.read_control(client, &mut buffer) {
                ClientRead::Bytes(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.client_table
                        .received(client, bytes, self.monitor.now());
                }
                ClientRead::Nothing => self.client_table.read_all(client),
                ClientRead::End => self.client_table.ended(client),
                ClientRead::Gone => self.client_table.left(client),
            }
        }
    }

    /// Answers the commands that are done, and closes the clients that are over.
    pub(super) fn answer_control(&mut self) {
        self.client_table.look(&self.monitor);
        self.write_control();
        for client in self.client_table.take_over(self.monitor.now()) {
            self.system.close_control(client);
        }
    }

    /// Writes as much as the kernel takes: no client is waited for.
    pub(super) fn write_control(&mut self) {
        for client in self.client_table.to_write() {
            match self
                .system
                .write_control(client, self.client_table.outgoing(client))
            {
                Ok(count) => self.client_table.wrote(client, count, self.monitor.now()),
                Err(_) => self.client_table.left(client),
            }
        }
    }
}
