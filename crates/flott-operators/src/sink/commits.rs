//! What a sink has prepared and not yet committed.

use super::sink_result;
use flott_api::{Committable, CommittableId, Committer, SinkContext};
use flott_env::{Env, canary};
use flott_types::{CheckpointId, Error, Result, SubtaskIndex};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Attempts before a commit that fails fails the subtask: with the pauses between them, about 13 seconds.
const ATTEMPTS_MAX: u32 = 8;
/// The pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The committables of one sink subtask, from when they are prepared until they are committed. Whatever happens in between they
/// are part of each snapshot.
pub(crate) struct Commits {
    committer: Box<dyn Committer>,
    env: Env,
    subtask: SubtaskIndex,
    /// In the order in which they were prepared, so by checkpoint.
    pending: Vec<Committable>,
    /// The last checkpoint that is complete: what was prepared for it or before may be committed.
    authorized: Option<CheckpointId>,
    failures: u32,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commits")
            .field("pending", &self.pending)
            .field("authorized", &self.authorized)
            .finish_non_exhaustive()
    }
}

impl Commits {
    pub(crate) fn new(committer: Box<dyn Committer>, ctx: &SinkContext) -> Self {
        Self {
            committer,
            env: ctx.env.clone(),
            subtask: ctx.subtask,
            pending: Vec::new(),
            authorized: None,
            failures: 0,
            pause: None,
        }
    }

    pub(crate) fn prepared(&mut self, checkpoint_id: CheckpointId, payloads: Vec<Vec<u8>>) {
        for payload in payloads {
            let id =
                CommittableId(u128::from(self.env.random_u64()) << 64 | u128::from(self.env.random_u64()));
            self.pending.push(Committable { id, checkpoint_id, subtask: self.subtask, payload });
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Vec<Vec<u8>>> {
        self.pending.iter().map(|committable| flott_state::encode("a committable", committable)).collect()
    }

    /// Takes over the committables of the checkpoint that the job goes on from. It is complete, so all of them may be committed.
    pub(crate) fn restore(&mut self, entries: &[Vec<u8>]) -> Result<()> {
        for entry in entries {
            self.pending.push(flott_state::decode("a committable", entry)?);
        }
        // Those of several subtasks may have come together; the order within a checkpoint and subtask stays.
        self.pending.sort_by_key(|committable| committable.checkpoint_id);
        self.authorized = self.pending.last().map(|committable| committable.checkpoint_id);
        Ok(())
    }

    /// The checkpoint is complete: commits all that it covers, or sees to it that it is tried again.
    pub(crate) fn authorize(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.authorized = self.authorized.max(Some(checkpoint_id));
        // A pause after a failure is kept: completions come as often as checkpoints, whatever the destination needs.
        if self.pause.is_none() { self.attempt() } else { Ok(()) }
    }

    fn n_due(&self) -> usize {
        self.pending.partition_point(|committable| Some(committable.checkpoint_id) <= self.authorized)
    }

    fn attempt(&mut self) -> Result<()> {
        self.pause = None;
        let n_due = self.n_due();
        let Some(due) = self.pending.get(..n_due).filter(|due| !due.is_empty()) else { return Ok(()) };
        match sink_result(self.committer.commit(due)) {
            Ok(()) => {
                self.pending.drain(..n_due);
                self.failures = 0;
                Ok(())
            }
            Err(_) if canary("swallow-commit-errors") => {
                self.pending.drain(..n_due);
                Ok(())
            }
            Err(error) => {
                self.failures += 1;
                if self.failures >= ATTEMPTS_MAX {
                    return Err(self.give_up(n_due, error));
                }
                self.pause = Some(self.env.sleep(FIRST_PAUSE * (1 << (self.failures - 1))));
                Ok(())
            }
        }
    }

    #[cold]
    fn give_up(&self, n_due: usize, error: Error) -> Error {
        let of = |committable: Option<&Committable>| committable.map_or(0, |it| it.checkpoint_id.0);
        let (first, last) =
            (of(self.pending.first()), of(n_due.checked_sub(1).and_then(|idx| self.pending.get(idx))));
        Error::subtask(format!(
            "{n_due} committables of checkpoints {first} to {last} are not committed after {ATTEMPTS_MAX} attempts; they stay in the \
             checkpoint and are committed when the job is restored from it"
        ))
        .with_source(error)
    }

    /// Goes on with commits that have failed; `Ready` when nothing that may be committed is left.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.n_due() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(pause) = &mut self.pause
                && pause.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            self.attempt()?;
        }
    }
}
