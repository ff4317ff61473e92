//! Transactional ids: whose a transaction is, and whether a checkpoint has it.
//!
//! Each transaction has an id of its own, so that nothing that is said late about one can be taken for the next (what KIP-890 repairs in clients
//! that reuse ids). An id says which job, sink and subtask the transaction is of, in which run it was begun, of which generation that is and which
//! checkpoint it had restored, and the transaction's number in the run.

use flott_api::{SinkContext, SinkGeneration};
use flott_types::CheckpointId;
use serde::{Deserialize, Serialize};

/// What the ids of a sink begin with, whoever its subtasks are.
pub(crate) fn sink_prefix(prefix: &str, ctx: &SinkContext) -> String {
    format!("{prefix}-{:032x}-{}-", ctx.job_id.0, ctx.uid.0)
}

/// The start of a subtask among all starts of its job: see [`SinkGeneration`]. Numbers are compared within a history only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) history: u32,
    pub(crate) number: u64,
}

impl Generation {
    pub(crate) fn new(generation: SinkGeneration) -> Self {
        // A part will do: histories of the same job are few.
        Self { history: generation.history as u32, number: generation.subtask }
    }

    /// Whether it was known to be before `other`.
    fn is_before(self, other: Self) -> bool {
        self.history == other.history && self.number < other.number
    }
}

/// A transaction of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) subtask: u32,
    pub(crate) run: u64,
    pub(crate) generation: Generation,
    /// What the run had restored.
    pub(crate) restored: Option<CheckpointId>,
    pub(crate) number: u64,
}

impl Name {
    pub(crate) fn id(&self, sink_prefix: &str) -> String {
        let Self { subtask, run, generation: Generation { history, number: generation }, number, .. } = self;
        let restored = self.restored.map_or_else(|| "new".to_owned(), |checkpoint| checkpoint.0.to_string());
        format!("{sink_prefix}{subtask}-{history:08x}-{generation}-{restored}-{run:016x}-{number}")
    }

    /// The name in an id; `None` if the id is not of this sink.
    pub(crate) fn parse(id: &str, sink_prefix: &str) -> Option<Self> {
        let parts: Vec<&str> = id.strip_prefix(sink_prefix)?.split('-').collect();
        let [subtask, history, generation, restored, run, number] = parts.as_slice() else { return None };
        let restored = match *restored {
            "new" => None,
            checkpoint => Some(CheckpointId(checkpoint.parse().ok()?)),
        };
        let history = u32::from_str_radix(history, 16).ok()?;
        Some(Self {
            subtask: subtask.parse().ok()?,
            run: u64::from_str_radix(run, 16).ok()?,
            generation: Generation { history, number: generation.parse().ok()? },
            restored,
            number: number.parse().ok()?,
        })
    }
}

/// What a writer leaves in a checkpoint: its transactions with lesser numbers are in it, or were committed before; those from `next` on are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) subtask: u32,
    pub(crate) run: u64,
    /// Of the run: of entries that are handed down the newest are kept.
    pub(crate) generation: u64,
    pub(crate) next: u64,
}

/// Who looks after what earlier attempts have left open.
#[derive(Clone, Debug)]
pub(crate) struct Successor<'a> {
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
    pub(crate) run: u64,
    pub(crate) generation: Option<Generation>,
    pub(crate) restored: Option<CheckpointId>,
    /// The entries that this subtask was given; others were given the rest.
    pub(crate) held: &'a [Held],
}

impl Successor<'_> {
    /// Whether the transaction is in no checkpoint that anybody goes on from, and this subtask is the one to abort it.
    pub(crate) fn aborts(&self, name: &Name) -> bool {
        // Of a successor: this attempt was taken for dead itself, and wakes up before it has taken anything over.
        let is_of_successor = self.generation.is_some_and(|own| own.is_before(name.generation));
        if name.run == self.run || is_of_successor {
            return false;
        }
        // Committed by whoever has its committable; what it has begun later is for who has this entry.
        if let Some(held) = self.held.iter().find(|held| (held.subtask, held.run) == (name.subtask, name.run))
        {
            return name.number >= held.next;
        }
        // A run that began at the restored checkpoint or later has nothing in it. One that began before may have: who has its entry decides, and if
        // nobody has one, its transactions were aborted by those who came between.
        let is_later =
            self.restored.is_none_or(|restored| name.restored.is_some_and(|began| began >= restored));
        is_later && self.stands_for(name)
    }

    /// Whether a transaction that was not there when this attempt looked first is of an attempt that was taken for dead, which this one stands for: of
    /// one that wakes up and does not know yet that it is not wanted any more. What it prepares, no checkpoint holds.
    pub(crate) fn aborts_late(&self, name: &Name) -> bool {
        let is_older = self.generation.is_some_and(|own| name.generation.is_before(own));
        is_older && name.run != self.run && self.stands_for(name)
    }

    fn stands_for(&self, name: &Name) -> bool {
        name.subtask % self.parallelism == self.subtask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(subtask: u32, run: u64, restored: Option<u64>, number: u64) -> Name {
        let generation = Generation { history: 0xabcd, number: run };
        Name { subtask, run, generation, restored: restored.map(CheckpointId), number }
    }

    #[test]
    fn an_id_says_whose_it_is() {
        for name in [name(3, 0xfeed, None, 0), name(0, 1, Some(17), 4)] {
            let id = name.id("flott-job-my-sink-");
            assert_eq!(Name::parse(&id, "flott-job-my-sink-"), Some(name));
            assert_eq!(Name::parse(&id, "flott-job-my-"), None, "{id} is of another sink");
        }
        assert_eq!(Name::parse("flott-job-sink-1-00000001-2-new-zz-3", "flott-job-sink-"), None);
    }

    #[test]
    fn only_what_is_older_is_aborted_late() {
        let own = Generation { history: 0xabcd, number: 9 };
        let restored = Some(CheckpointId(10));
        let successor =
            Successor { subtask: 1, parallelism: 2, run: 9, generation: Some(own), restored, held: &[] };
        assert!(successor.aborts_late(&name(3, 8, Some(4), 2)), "a zombie that has woken");
        assert!(!successor.aborts_late(&name(2, 8, Some(4), 2)), "not its own to abort");
        assert!(!successor.aborts_late(&name(1, 10, Some(12), 0)), "of a successor: this one is the zombie");
        assert!(!successor.aborts(&name(1, 10, Some(12), 0)), "also when it has only begun to look");
        assert!(!successor.aborts_late(&name(1, 9, restored.map(|it| it.0), 3)), "its own");
        let mut other = name(1, 8, None, 0);
        other.generation.history = 7;
        assert!(!successor.aborts_late(&other), "numbers of another history say nothing");
        let nobody_counts = Successor { generation: None, ..successor };
        assert!(!nobody_counts.aborts_late(&name(3, 8, Some(4), 2)));
    }

    #[test]
    fn what_is_in_the_restored_checkpoint_stays_and_all_else_goes() {
        let held = [Held { subtask: 1, run: 7, generation: 7, next: 5 }];
        let restored = Some(CheckpointId(10));
        let generation = Some(Generation { history: 0xabcd, number: 9 });
        let successor =
            |subtask, held| Successor { subtask, parallelism: 2, run: 9, generation, restored, held };
        let with = successor(0, &held[..]);
        assert!(!with.aborts(&name(1, 7, Some(4), 4)), "a committable of the checkpoint");
        assert!(
            with.aborts(&name(1, 7, Some(4), 5)),
            "begun after it, by a subtask that another one stands for"
        );
        assert!(!successor(1, &[]).aborts(&name(1, 7, Some(4), 4)), "somebody else has the entry");
        assert!(successor(1, &[]).aborts(&name(3, 8, Some(10), 0)), "an attempt from the same checkpoint");
        assert!(successor(0, &[]).aborts(&name(2, 8, Some(12), 0)), "an attempt from a later checkpoint");
        assert!(!successor(0, &[]).aborts(&name(3, 8, Some(12), 0)), "not its own to abort");
        assert!(!with.aborts(&name(0, 9, restored.map(|it| it.0), 0)), "its own");
        let from_nothing = Successor { restored: None, ..successor(0, &[]) };
        assert!(from_nothing.aborts(&name(0, 7, None, 3)) && from_nothing.aborts(&name(4, 7, Some(2), 3)));
    }
}
