//! Which elements a barrier has overtaken. A pure state machine.

use flott_env::canary;
use flott_types::{CheckpointId, StreamElement};

/// Follows the channels of a gate from the moment in which a barrier overtakes until it has come on all of them.
///
/// Everything that a channel delivers before its barrier is in flight and belongs into the snapshot, whenever it arrives. A channel is
/// done when its barrier comes, or its end, behind which there are only barriers. (Carbone et al. call it the channel state; Chandy
/// and Lamport 1985.)
#[derive(Clone, Debug)]
pub struct Recorder {
    id: CheckpointId,
    done: Vec<bool>,
    given_up: bool,
}

impl Recorder {
    /// Follows the channels that are not `done`: of these the barrier has had its turn already, or they have ended.
    pub fn new(id: CheckpointId, done: Vec<bool>) -> Self {
        Self { id, done, given_up: false }
    }

    /// A channel delivers something, each thing once and in order. Whether that is part of the snapshot.
    pub fn see<T>(&mut self, channel: usize, element: &StreamElement<T>) -> bool {
        let Some(done) = self.done.get_mut(channel).filter(|done| !**done) else {
            return canary("record-behind-the-barrier") && matches!(element, StreamElement::Records(_));
        };
        match element {
            StreamElement::Records(_) => !canary("forget-input-in-flight"),
            StreamElement::Watermark(_) | StreamElement::Status(_) => true,
            StreamElement::Barrier(barrier) => {
                *done = barrier.id >= self.id;
                // Then this one does not come any more (FLINK-21104).
                self.given_up |= barrier.id > self.id;
                false
            }
            StreamElement::EndOfData => {
                *done = true;
                false
            }
        }
    }

    /// Whether all that was in flight has been seen.
    pub fn is_complete(&self) -> bool {
        self.done.iter().all(|done| *done)
    }

    /// Whether a newer barrier has come where this one was waited for: the checkpoint will never be complete.
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }
}

#[cfg(test)]
mod tests;
