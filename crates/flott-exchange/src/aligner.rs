//! Alignment of checkpoint barriers: a pure state machine over the channels of a task (Carbone et al. 2015, "Lightweight
//! asynchronous snapshots for distributed dataflows").

use flott_env::canary;
use flott_types::{CheckpointBarrier, CheckpointId, CheckpointingMode};
use std::collections::{BTreeMap, BTreeSet};

/// What the task does after a call, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlignerOutput {
    /// These checkpoints will never be complete here: the task declines them.
    pub aborted: Vec<CheckpointId>,
    /// All channels may be read again.
    pub unblock_all: bool,
    /// The channel that delivered the barrier is not read until `unblock_all`.
    pub block: bool,
    /// The barrier has come on all channels: the task takes its snapshot and forwards the barrier.
    pub complete: Option<CheckpointBarrier>,
}

#[derive(Debug)]
struct Pending {
    barrier: CheckpointBarrier,
    arrived: Vec<bool>,
}

/// Waits for the barriers of a checkpoint on all channels of a task.
///
/// *Exactly once*: a channel that has delivered the barrier is blocked until all have, so that no record behind it gets into
/// the snapshot. *At least once*: nothing is blocked, and records that overtake the barriers are processed again after a restart.
///
/// A channel that has ended counts as aligned: nothing comes on it that could be on the wrong side. Barriers do come on it, behind
/// the end of data, and begin an alignment as any other.
#[derive(Debug)]
pub struct BarrierAligner {
    mode: CheckpointingMode,
    ended: Vec<bool>,
    /// By checkpoint; with exactly once never more than one.
    pending: BTreeMap<CheckpointId, Pending>,
    /// Barriers of this checkpoint and of older ones come too late.
    settled: Option<CheckpointId>,
    /// Canceled before their first barrier came.
    canceled: BTreeSet<CheckpointId>,
}

impl BarrierAligner {
    /// An aligner of `n_channels` channels.
    pub fn new(n_channels: usize, mode: CheckpointingMode) -> Self {
        Self {
            mode,
            ended: vec![false; n_channels],
            pending: BTreeMap::new(),
            settled: None,
            canceled: BTreeSet::new(),
        }
    }

    /// Whether some barriers of a checkpoint have come and others not.
    pub fn is_aligning(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A barrier has come on `channel`.
    pub fn on_barrier(&mut self, channel: usize, barrier: CheckpointBarrier) -> AlignerOutput {
        let id = barrier.id;
        let mut output = AlignerOutput::default();
        // Of a checkpoint that is over here: the barrier of an ended channel that nobody waited for, or an aborted one's (FLINK-21104).
        if Some(id) <= self.settled || self.canceled.contains(&id) {
            return output;
        }
        if self.mode == CheckpointingMode::ExactlyOnce {
            // Where a newer one has come this one does not come any more, even if the newer one has been canceled since.
            self.settled = self.settled.max(id.0.checked_sub(1).map(CheckpointId));
            // The channels that wait for the older one would wait for ever: its barrier is behind this one, if anywhere.
            self.abort_before(id, &mut output);
        }
        let n_channels = self.ended.len();
        let pending =
            self.pending.entry(id).or_insert_with(|| Pending { barrier, arrived: vec![false; n_channels] });
        if let Some(arrived) = pending.arrived.get_mut(channel) {
            *arrived = true;
        }
        output.block = self.mode == CheckpointingMode::ExactlyOnce && !canary("never-block");
        self.complete(&mut output);
        output
    }

    /// No record follows on `channel`.
    pub fn on_end_of_data(&mut self, channel: usize) -> AlignerOutput {
        if let Some(ended) = self.ended.get_mut(channel) {
            *ended = true;
        }
        let mut output = AlignerOutput::default();
        self.complete(&mut output);
        output
    }

    /// Somebody else has aborted the checkpoint.
    pub fn on_canceled(&mut self, id: CheckpointId) -> AlignerOutput {
        let mut output = AlignerOutput::default();
        if self.pending.remove(&id).is_some() {
            output.unblock_all = self.mode == CheckpointingMode::ExactlyOnce;
        }
        if Some(id) > self.settled {
            self.canceled.insert(id);
        }
        output
    }

    fn abort_before(&mut self, id: CheckpointId, output: &mut AlignerOutput) {
        let newer = self.pending.split_off(&id);
        let older = std::mem::replace(&mut self.pending, newer);
        output.unblock_all |= !older.is_empty() && self.mode == CheckpointingMode::ExactlyOnce;
        output.aborted.extend(older.into_keys());
    }

    /// Settles the newest checkpoint whose barriers are all there, and with it all older ones.
    fn complete(&mut self, output: &mut AlignerOutput) {
        let ended = &self.ended;
        let is_complete = |pending: &Pending| {
            canary("align-first-channel-only")
                || pending.arrived.iter().zip(ended).all(|(arrived, ended)| *arrived || *ended)
        };
        let Some(id) = self.pending.iter().rev().find(|(_, pending)| is_complete(pending)).map(|(id, _)| *id)
        else {
            return;
        };
        self.abort_before(id, output);
        if let Some(pending) = self.pending.remove(&id) {
            output.complete = Some(pending.barrier);
            output.block = false;
            output.unblock_all |= self.mode == CheckpointingMode::ExactlyOnce;
            self.settled = Some(id);
            self.canceled.retain(|canceled| *canceled > id);
        }
    }
}

#[cfg(test)]
mod tests;
