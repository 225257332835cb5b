//! References to server objects, and boxes of them, are server objects. Adds nothing of its own.

use super::ChildServer;
use crate::{
    core::{accept::refusal::Refusals, child::Signal},
    hooks::comm::Comm,
    listeners::ListenerStatus,
};
use std::{io, time::Duration};

macro_rules! forward_child_server {
    ($($type:ty),*) => {$(
        impl<S: ChildServer + ?Sized> ChildServer for $type {
            fn inner(&mut self) -> Option<&mut dyn ChildServer> {
                (**self).inner()
            }
            fn start(&mut self) -> io::Result<()> {
                (**self).start()
            }
            fn stop(&mut self) {
                (**self).stop();
            }
            fn send_ack(&mut self) -> Option<Duration> {
                (**self).send_ack()
            }
            fn set_send_ack(&mut self, interval: Option<Duration>) {
                (**self).set_send_ack(interval);
            }
            fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
                (**self).resume_accept(comm)
            }
            fn before_stop(&mut self) {
                (**self).before_stop();
            }
            fn begin_drain(&mut self) {
                (**self).begin_drain();
            }
            fn is_queued(&mut self) -> bool {
                (**self).is_queued()
            }
            fn close_listeners(&mut self) {
                (**self).close_listeners();
            }
            fn lost(&mut self) -> Option<io::Error> {
                (**self).lost()
            }
            fn reload(&mut self) -> io::Result<()> {
                (**self).reload()
            }
            fn execs(&mut self) -> bool {
                (**self).execs()
            }
            fn own_group(&mut self) -> bool {
                (**self).own_group()
            }
            fn only_kills_group(&mut self) -> bool {
                (**self).only_kills_group()
            }
            fn stop_signal(&mut self) -> Signal {
                (**self).stop_signal()
            }
            fn reopen_signal(&mut self) -> Option<Signal> {
                (**self).reopen_signal()
            }
            fn reopen(&mut self) -> io::Result<()> {
                (**self).reopen()
            }
            fn refusals(&mut self) -> Refusals {
                (**self).refusals()
            }
            fn can_shed(&mut self) -> bool {
                (**self).can_shed()
            }
            fn set_all_busy(&mut self, all_busy: bool) {
                (**self).set_all_busy(all_busy);
            }
            fn listeners(&mut self) -> Vec<ListenerStatus> {
                (**self).listeners()
            }
        }
    )*};
}
forward_child_server!(&mut S, Box<S>);
