//! The hooks of `&mut H` and `Box<H>`: each calls that of `H`. Has no default of its own.

use super::{ChildServer, PreForkHooks, Start};
use crate::core::{
    child::{Child, ChildId, Death},
    error::{Error, Operation},
    monitor::Monitor,
    saturation::Saturation,
    states::States,
    wire::{Line, Output},
};
use std::{io, time::Duration};

/// Forwards every method. A method that is left out would silently use its default, so a test calls
/// all of them through each of these types.
macro_rules! forward_hooks {
    ($($type:ty),*) => {$(
        impl<H: PreForkHooks + ?Sized> PreForkHooks for $type {
            fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_ack(monitor, child);
            }
            fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_busy(monitor, child);
            }
            fn server_not_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_not_busy(monitor, child);
            }
            fn server_timeout(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_timeout(monitor, child);
            }
            fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_timeout_busy(monitor, child);
            }
            fn server_timeout_free(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_timeout_free(monitor, child);
            }
            fn server_overtime(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_overtime(monitor, child);
            }
            fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
                (**self).server_stdout(monitor, child, line);
            }
            fn server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
                (**self).server_stderr(monitor, child, line);
            }
            fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
                (**self).server_start(start)
            }
            fn create_states(&mut self, states: &mut States) {
                (**self).create_states(states);
            }
            fn handler_start(
                &mut self,
                monitor: &mut Monitor,
                server: &mut dyn ChildServer,
            ) -> io::Result<()> {
                (**self).handler_start(monitor, server)
            }
            fn handler_child(&mut self, monitor: &mut Monitor, error: &io::Error) {
                (**self).handler_child(monitor, error);
            }
            fn handler_stop(&mut self, monitor: &mut Monitor, server: &mut dyn ChildServer) {
                (**self).handler_stop(monitor, server);
            }
            fn handler_run_error(
                &mut self,
                monitor: &mut Monitor,
                operation: Operation,
                error: &io::Error,
                child: Option<ChildId>,
            ) {
                (**self).handler_run_error(monitor, operation, error, child);
            }
            fn handler_shutdown(&mut self, monitor: &mut Monitor) {
                (**self).handler_shutdown(monitor);
            }
            fn handler_server_closed(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).handler_server_closed(monitor, child);
            }
            fn handler_server_stderr(
                &mut self,
                monitor: &mut Monitor,
                child: ChildId,
                line: &Line,
            ) {
                (**self).handler_server_stderr(monitor, child, line);
            }
            fn handler_server_ack(
                &mut self,
                monitor: &mut Monitor,
                child: ChildId,
                output: Output<'_>,
            ) {
                (**self).handler_server_ack(monitor, child, output);
            }
            fn handler_server_timeout_check(&mut self, monitor: &mut Monitor) {
                (**self).handler_server_timeout_check(monitor);
            }
            fn handler_forkoff(&mut self, monitor: &mut Monitor) {
                (**self).handler_forkoff(monitor);
            }
            fn handler_server_fork(&mut self, monitor: &mut Monitor) {
                (**self).handler_server_fork(monitor);
            }
            fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
                (**self).handler_state(monitor, state);
            }
            fn reopen_logs(&mut self, monitor: &mut Monitor) {
                (**self).reopen_logs(monitor);
            }
            fn before_fork(&mut self, monitor: &mut Monitor) {
                (**self).before_fork(monitor);
            }
            fn server_forked(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_forked(monitor, child);
            }
            fn server_exiting(&mut self, start: &mut Start<'_>) {
                (**self).server_exiting(start);
            }
            fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
                (**self).server_exited(monitor, child, death);
            }
            fn handler_reload(
                &mut self,
                monitor: &mut Monitor,
                server: &mut dyn ChildServer,
            ) -> io::Result<()> {
                (**self).handler_reload(monitor, server)
            }
            fn reload_failed(&mut self, monitor: &mut Monitor, error: &Error) {
                (**self).reload_failed(monitor, error);
            }
            fn save(&mut self, monitor: &mut Monitor) -> Vec<u8> {
                (**self).save(monitor)
            }
            fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
                (**self).restore(saved)
            }
            fn upgrade_failed(&mut self, monitor: &mut Monitor, error: &Error) {
                (**self).upgrade_failed(monitor, error);
            }
            fn server_replaced(&mut self, monitor: &mut Monitor, old: ChildId, new: ChildId) {
                (**self).server_replaced(monitor, old, new);
            }
            fn fork_failed(
                &mut self,
                monitor: &mut Monitor,
                error: &io::Error,
                retry_in: Duration,
            ) {
                (**self).fork_failed(monitor, error, retry_in);
            }
            fn saturated(&mut self, monitor: &mut Monitor, episode: &Saturation) {
                (**self).saturated(monitor, episode);
            }
        }
    )*};
}
forward_hooks!(&mut H, Box<H>);
