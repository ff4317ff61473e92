//! Alignment of checkpoint barriers: a pure state machine over the channels of a task (Carbone et al. 2015, "Lightweight
//! asynchronous snapshots for distributed dataflows").

use flott_env::canary;
use flott_types::{CheckpointBarrier, CheckpointId, CheckpointingMode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
/// *Overtaking* ([`BarrierAligner::with_overtaking`]): whoever drives the aligner may declare a checkpoint complete whose barriers still wait
/// behind records; these are then part of the snapshot (`recorder`). Until then it is aligned like any other.
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
    /// `None` if barriers never overtake records.
    overtaking: Option<Overtaking>,
}

/// What is known of barriers that wait in a channel behind records.
#[derive(Debug)]
struct Overtaking {
    /// The channels on which no barrier overtakes.
    aligned_only: Vec<bool>,
    /// By channel, in their order.
    announced: Vec<VecDeque<CheckpointBarrier>>,
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
            overtaking: None,
        }
    }

    /// The same aligner for barriers of checkpoints that may overtake records, but on the channels that are `aligned_only`.
    #[must_use]
    pub fn with_overtaking(self, aligned_only: Vec<bool>) -> Self {
        let announced = aligned_only.iter().map(|_| VecDeque::new()).collect();
        Self { overtaking: Some(Overtaking { aligned_only, announced }), ..self }
    }

    /// Whether some barriers of a checkpoint have come and others not.
    pub fn is_aligning(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A barrier has come on `channel`.
    pub fn on_barrier(&mut self, channel: usize, barrier: CheckpointBarrier) -> AlignerOutput {
        let id = barrier.id;
        let mut output = AlignerOutput::default();
        let announced = self.overtaking.as_mut().and_then(|overtaking| overtaking.announced.get_mut(channel));
        if let Some(announced) = announced {
            announced.retain(|other| other.id > id);
        }
        // Of a checkpoint that is over here: the barrier of an ended channel that nobody waited for, or an aborted one's (FLINK-21104).
        if !self.is_open(id) {
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

    /// A barrier has come into the queue of `channel`, where it waits behind others. [`BarrierAligner::on_barrier`] follows when its turn
    /// comes, also when it has overtaken.
    pub fn on_announced(&mut self, channel: usize, barrier: CheckpointBarrier) {
        if self.is_open(barrier.id)
            && let Some(overtaking) = &mut self.overtaking
            && let Some(announced) = overtaking.announced.get_mut(channel)
        {
            announced.push_back(barrier);
        }
    }

    /// The newest checkpoint of which a barrier has come and not all have had their turn, if its barriers may overtake records. None
    /// overtakes the barrier of a savepoint, which would never be aligned then.
    pub fn overtaking(&self) -> Option<CheckpointBarrier> {
        let announced = self.overtaking.as_ref()?.announced.iter().flatten();
        let open = announced.chain(self.pending.values().map(|pending| &pending.barrier));
        let open = open.filter(|barrier| self.is_open(barrier.id));
        let savepoint =
            open.clone().filter(|barrier| barrier.kind.is_savepoint()).map(|barrier| barrier.id).min();
        let is_free = |barrier: &&CheckpointBarrier| {
            !barrier.kind.is_savepoint() && savepoint.is_none_or(|savepoint| barrier.id < savepoint)
        };
        open.filter(is_free).max_by_key(|barrier| barrier.id).copied()
    }

    /// The channels on which nothing before the barrier is left: its turn has come, or they have ended.
    pub fn reached(&self, id: CheckpointId) -> Vec<bool> {
        let arrived = self.pending.get(&id).map(|pending| &pending.arrived);
        let has_arrived =
            |channel: usize| arrived.and_then(|arrived| arrived.get(channel)).copied() == Some(true);
        self.ended.iter().enumerate().map(|(channel, ended)| *ended || has_arrived(channel)).collect()
    }

    /// Whether the barrier waits for nothing but records that it may overtake.
    pub fn may_overtake(&self, id: CheckpointId) -> bool {
        let Some(overtaking) = &self.overtaking else { return false };
        let mut channels = overtaking.aligned_only.iter().zip(self.reached(id));
        channels.all(|(aligned_only, reached)| reached || !aligned_only)
    }

    /// The barrier overtakes: its checkpoint is settled, as if all barriers had come.
    pub fn overtake(&mut self, barrier: CheckpointBarrier) -> AlignerOutput {
        let mut output =
            AlignerOutput { complete: Some(barrier), unblock_all: true, ..AlignerOutput::default() };
        let announced = self.overtaking.iter().flat_map(|overtaking| overtaking.announced.iter().flatten());
        let older = announced.filter(|older| older.id < barrier.id && self.is_open(older.id));
        let older: BTreeSet<_> = older.map(|older| older.id).collect();
        output.aborted.extend(older.iter().filter(|id| !self.pending.contains_key(*id)));
        self.abort_before(barrier.id, &mut output);
        self.pending.remove(&barrier.id);
        self.settle(barrier.id);
        output
    }

    fn is_open(&self, id: CheckpointId) -> bool {
        Some(id) > self.settled && !self.canceled.contains(&id)
    }

    fn settle(&mut self, id: CheckpointId) {
        self.settled = Some(id);
        self.canceled.retain(|canceled| *canceled > id);
        if let Some(overtaking) = &mut self.overtaking {
            overtaking.announced.iter_mut().for_each(|announced| announced.retain(|barrier| barrier.id > id));
        }
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
            self.settle(id);
        }
    }
}

#[cfg(test)]
mod tests;
