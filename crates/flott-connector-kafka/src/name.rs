//! Transactional ids: whose a transaction is, and whether a checkpoint has it.
//!
//! Each transaction has an id of its own, so that nothing that is said late about one can be taken for the next (what KIP-890 repairs in clients
//! that reuse ids). An id says which job, sink and subtask the transaction is of, in which run it was begun, which checkpoint that run
//! had restored, and its number in the run.

use flott_api::SinkContext;
use flott_types::CheckpointId;
use serde::{Deserialize, Serialize};

/// What the ids of a sink begin with, whoever its subtasks are.
pub(crate) fn sink_prefix(prefix: &str, ctx: &SinkContext) -> String {
    format!("{prefix}-{:032x}-{}-", ctx.job_id.0, ctx.uid.0)
}

/// A transaction of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) subtask: u32,
    pub(crate) run: u64,
    /// What the run had restored.
    pub(crate) restored: Option<CheckpointId>,
    pub(crate) number: u64,
}

impl Name {
    pub(crate) fn id(&self, sink_prefix: &str) -> String {
        let restored = self.restored.map_or_else(|| "new".to_owned(), |checkpoint| checkpoint.0.to_string());
        format!("{sink_prefix}{}-{restored}-{:016x}-{}", self.subtask, self.run, self.number)
    }

    /// The name in an id; `None` if the id is not of this sink.
    pub(crate) fn parse(id: &str, sink_prefix: &str) -> Option<Self> {
        let mut parts = id.strip_prefix(sink_prefix)?.split('-');
        let (subtask, restored, run, number) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let restored = match restored {
            "new" => None,
            checkpoint => Some(CheckpointId(checkpoint.parse().ok()?)),
        };
        let run = u64::from_str_radix(run, 16).ok()?;
        let name = Self { subtask: subtask.parse().ok()?, run, restored, number: number.parse().ok()? };
        parts.next().is_none().then_some(name)
    }
}

/// What a writer leaves in a checkpoint: its transactions with lesser numbers are in it, or were committed before; those from `next` on are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) subtask: u32,
    pub(crate) run: u64,
    pub(crate) restored: Option<CheckpointId>,
    pub(crate) next: u64,
}

impl Held {
    /// The transactions that the run may begin yet if it is not dead but stands still: the one behind all that are known, and the one whose
    /// producer waits beside it. To abort them takes their ids over before they are there.
    pub(crate) fn to_come<'a>(self, known: impl IntoIterator<Item = &'a Name>) -> [Name; 2] {
        let Self { subtask, run, restored, next } = self;
        let of_run = known.into_iter().filter(|name| (name.subtask, name.run) == (subtask, run));
        let first = of_run.map(|name| name.number + 1).max().unwrap_or(next).max(next);
        [first, first + 1].map(|number| Name { subtask, run, restored, number })
    }
}

/// Who looks after what earlier attempts have left open.
#[derive(Clone, Debug)]
pub(crate) struct Successor<'a> {
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
    pub(crate) run: u64,
    pub(crate) restored: Option<CheckpointId>,
    /// The entries that this subtask was given; others were given the rest.
    pub(crate) held: &'a [Held],
}

impl Successor<'_> {
    /// Whether the transaction is in no checkpoint that anybody goes on from, and this subtask is the one to abort it.
    pub(crate) fn aborts(&self, name: &Name) -> bool {
        if name.run == self.run {
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
        is_later && name.subtask % self.parallelism == self.subtask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(subtask: u32, run: u64, restored: Option<u64>, number: u64) -> Name {
        Name { subtask, run, restored: restored.map(CheckpointId), number }
    }

    #[test]
    fn an_id_says_whose_it_is() {
        for name in [name(3, 0xfeed, None, 0), name(0, 1, Some(17), 4)] {
            let id = name.id("flott-job-my-sink-");
            assert_eq!(Name::parse(&id, "flott-job-my-sink-"), Some(name));
            assert_eq!(Name::parse(&id, "flott-job-my-"), None, "{id} is of another sink");
        }
        assert_eq!(Name::parse("flott-job-sink-1-new-zz-3", "flott-job-sink-"), None);
    }

    #[test]
    fn what_is_in_the_restored_checkpoint_stays_and_all_else_goes() {
        let held = [Held { subtask: 1, run: 7, restored: Some(CheckpointId(4)), next: 5 }];
        let restored = Some(CheckpointId(10));
        let successor = |subtask, held| Successor { subtask, parallelism: 2, run: 9, restored, held };
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
        let numbers = |known: &[Name]| held[0].to_come(known).map(|name| name.number);
        assert_eq!(numbers(&[name(1, 8, None, 9), name(1, 7, Some(4), 3)]), [5, 6]);
        assert_eq!(numbers(&[name(1, 7, Some(4), 5), name(1, 7, Some(4), 6)]), [7, 8]);
        let from_nothing = Successor { restored: None, ..successor(0, &[]) };
        assert!(from_nothing.aborts(&name(0, 7, None, 3)) && from_nothing.aborts(&name(4, 7, Some(2), 3)));
    }
}
