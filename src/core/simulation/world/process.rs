//! The process of a model child, as the loop reaches it. Makes no system call.

use super::Simulated;
use crate::core::{
    brake::RunTime,
    child::{ChildId, Signal, Stuck},
    draining::QueuedClients,
    simulation::{model::Model, pipe},
    system::{ChildPipe, PipeRead, Process, Reaped},
};
use std::io;

pub(super) fn end_of(model: &mut Model, pipe: ChildPipe) -> Option<&mut pipe::ModelPipe> {
    match pipe {
        ChildPipe::Stdout => Some(&mut model.stdout),
        ChildPipe::Stderr => Some(&mut model.stderr),
        ChildPipe::Comm => model.comm.as_mut(),
    }
}

/// The loop's handle to one child.
#[derive(Debug)]
pub(crate) struct ModelProcess {
    pub(super) world: Simulated,
    pub(super) id: ChildId,
}

impl ModelProcess {
    fn with_end<R>(
        &self,
        pipe: ChildPipe,
        with: impl FnOnce(&mut pipe::ModelPipe) -> R,
    ) -> Option<R> {
        let mut world = self.world.0.borrow_mut();
        let model = world.kernel.get_mut(self.id)?;
        end_of(model, pipe).map(with)
    }
}

impl Process for ModelProcess {
    fn read(&mut self, pipe: ChildPipe, buffer: &mut [u8]) -> io::Result<PipeRead> {
        let read = self.with_end(pipe, |end| end.read(buffer));
        read.unwrap_or(Ok(PipeRead::Nothing))
    }

    fn pending(&self, pipe: ChildPipe) -> io::Result<usize> {
        Ok(self.with_end(pipe, |end| end.len()).unwrap_or(0))
    }

    fn close(&mut self, _: ChildPipe) {}

    fn tell_to_leave(&self, queued: QueuedClients) {
        if let Some(model) = self.world.0.borrow_mut().kernel.get_mut(self.id) {
            model.queued_clients = queued;
        }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.world.0.borrow_mut().signal(self.id, signal);
        Ok(())
    }

    fn stuck(&self) -> Option<Stuck> {
        None
    }

    fn memory(&self) -> Option<u64> {
        self.world.0.borrow().memory_of(self.id)
    }

    fn run_time(&self) -> Option<RunTime> {
        self.world.0.borrow_mut().run_time()
    }

    fn reap(&self) -> io::Result<Reaped> {
        Ok(self.world.0.borrow_mut().kernel.reap(self.id))
    }
}

impl Drop for ModelProcess {
    fn drop(&mut self) {
        self.world.0.borrow_mut().kernel.forget(self.id);
    }
}
