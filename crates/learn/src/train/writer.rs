//! Writes checkpoints beside the training, one at a time.
//!
//! The state is copied (some megabytes) and written by a thread, so that the ranks do not wait for the store. If the one
//! before is not durable when the next is due, the training waits for it: never more than one copy is held. A checkpoint
//! that cannot be written ends the run with an error, because what follows could be lost.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::{Error, Event};
use crate::checkpoint::{self, Checkpoint, Place};
use crate::store::ObjectStore;

type Outcome = Result<(u64, u64), checkpoint::Error>;

/// The thread and what it still owes.
pub(super) struct Writer {
    orders: Sender<Checkpoint>,
    outcomes: Receiver<Outcome>,
    pending: bool,
}

impl Writer {
    /// Starts the thread; it ends when this is dropped.
    pub(super) fn start(store: Arc<dyn ObjectStore>, place: Place) -> Self {
        let (orders, incoming) = channel::<Checkpoint>();
        let (outgoing, outcomes) = channel();
        thread::spawn(move || {
            for checkpoint in incoming {
                let step = checkpoint.state.step;
                let outcome = place.save(store.as_ref(), &checkpoint).map(|bytes| (step, bytes));
                if outgoing.send(outcome).is_err() {
                    return;
                }
            }
        });
        Self { orders, outcomes, pending: false }
    }

    /// Hands a checkpoint over, after the one before is durable.
    pub(super) fn submit(&mut self, checkpoint: Checkpoint, progress: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        self.finish(progress)?;
        self.orders.send(checkpoint).map_err(|_| Error::WriterLost)?;
        self.pending = true;
        Ok(())
    }

    /// Reports a checkpoint that has become durable, without waiting.
    pub(super) fn poll(&mut self, progress: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        match self.outcomes.try_recv() {
            Ok(outcome) => self.settle(outcome, progress),
            Err(_) => Ok(()),
        }
    }

    /// Waits for the checkpoint that is being written, if there is one.
    pub(super) fn finish(&mut self, progress: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        if !self.pending {
            return Ok(());
        }
        let outcome = self.outcomes.recv().map_err(|_| Error::WriterLost)?;
        self.settle(outcome, progress)
    }

    fn settle(&mut self, outcome: Outcome, progress: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        self.pending = false;
        let (step, bytes) = outcome?;
        progress(&Event::Checkpoint { step, bytes });
        Ok(())
    }
}
