//! Saying that a partition is complete.
//!
//! A partition is complete when event time has passed its end in *all* subtasks, and what they had written until then is committed. No subtask
//! knows that alone. So each, when it commits, says in a small file how far it is and which partitions it waits for, and then reads those of
//! the others: whoever is last sees that all have passed the end, and writes the `_SUCCESS` files, also those that others wait for.
//! The files count only within one attempt, so nothing needs to survive a power failure: after a restart partitions without `_SUCCESS` come from the
//! snapshot.

use crate::directory::cannot;
use crate::files::files;
use crate::pending::{STAGING, SinkKey};
use flott_api::{SinkContext, UserResult};
use flott_env::FileSystem;
use flott_types::{Result, Timestamp, duration_ms};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The name of the file.
const SUCCESS: &str = "_SUCCESS";

type EndOf = dyn Fn(&str) -> Option<Timestamp> + Send + Sync;
type Policy = dyn Fn(&Path) -> UserResult + Send + Sync;

/// When a partition of a [`FileSink`](crate::FileSink) is complete. A file `_SUCCESS` in its directory says so, as batch systems expect it.
///
/// The file is written after all files with the partition's records are there, and stays. Records that come later still get into the
/// partition, and the file does not tell of them; keep them out by windows or with [`PartitionCommit::delay`]. A job whose input has ended completes all partitions.
/// Needs checkpoints if the job is not to end.
#[derive(Clone)]
pub struct PartitionCommit {
    trigger: Trigger,
    delay_ms: i64,
    policy: Option<Arc<Policy>>,
}

/// `sink.partition-commit.trigger`
#[derive(Clone)]
enum Trigger {
    PartitionTime(Arc<EndOf>),
    ProcessTime,
}

impl fmt::Debug for PartitionCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionCommit").field("delay_ms", &self.delay_ms).finish_non_exhaustive()
    }
}

impl PartitionCommit {
    /// A partition is complete when the watermark has passed the end that `end_of` finds in its path, such as `day=2013-01-31`; exclusive, in
    /// milliseconds since the epoch. One for which it says `None` is complete at the end of the input only. In Flink's SQL
    /// `sink.partition-commit.trigger: partition-time`.
    pub fn on_watermark(end_of: impl Fn(&str) -> Option<Timestamp> + Send + Sync + 'static) -> Self {
        Self { trigger: Trigger::PartitionTime(Arc::new(end_of)), delay_ms: 0, policy: None }
    }

    /// A partition is complete when it was begun, on the wall clock, so long ago as [`PartitionCommit::delay`] says; without one, when its first files
    /// are committed. In Flink's SQL `sink.partition-commit.trigger: process-time`.
    pub fn on_process_time() -> Self {
        Self { trigger: Trigger::ProcessTime, delay_ms: 0, policy: None }
    }

    /// And so much later: `sink.partition-commit.delay`.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay_ms: duration_ms(delay), ..self }
    }

    /// What else is done when a partition is complete, with its directory, before the file `_SUCCESS`: `sink.partition-commit.policy.kind: custom`, which
    /// goes with `success-file`. It is called again after a failure, until the file is there, and in several subtasks at once.
    #[must_use]
    pub fn policy(self, policy: impl Fn(&Path) -> UserResult + Send + Sync + 'static) -> Self {
        Self { policy: Some(Arc::new(policy)), ..self }
    }

    pub(crate) fn is_by_process_time(&self) -> bool {
        matches!(self.trigger, Trigger::ProcessTime)
    }

    /// When a partition that was begun at `now` is complete.
    pub(crate) fn due_at(&self, partition: &str, now: i64) -> Timestamp {
        let end = match &self.trigger {
            Trigger::PartitionTime(end_of) => end_of(partition),
            Trigger::ProcessTime => Some(now),
        };
        end.map_or(Timestamp::MAX, |end| end.saturating_add(self.delay_ms))
    }
}

/// What a subtask has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The execution of the job, see [`SinkKey`]: a region that is started again goes on from a checkpoint of the same, so what its subtasks had
    /// committed stays true.
    pub(crate) run: u64,
    /// Everything before it is committed, in event time or on the wall clock, as the policy has it. An event time of `e` is passed when this is at least `e - 1`.
    pub(crate) watermark: Timestamp,
    /// Partitions without `_SUCCESS`, with their ends.
    pub(crate) open: BTreeMap<String, Timestamp>,
}

impl Progress {
    pub(crate) fn has_passed(watermark: Timestamp, end: Timestamp) -> bool {
        watermark >= end.saturating_sub(1)
    }
}

pub(crate) fn has_success(fs: &dyn FileSystem, base: &Path, partition: &str) -> bool {
    fs.metadata(&base.join(partition).join(SUCCESS)).is_ok()
}

/// Tells the other subtasks how far this one has committed, and completes the partitions that nobody writes any more.
pub(crate) fn publish(
    ctx: &SinkContext,
    base: &Path,
    policy: &PartitionCommit,
    progress: &Progress,
) -> UserResult {
    let (fs, key) = (files(&ctx.env), SinkKey::new(ctx));
    let staging = base.join(STAGING);
    let path = staging.join(key.progress_name(ctx.subtask.0));
    let write = || -> Result<()> {
        let bytes = flott_state::encode("the progress of a file sink", progress)?;
        let written = staging.join(format!("{}.new", key.progress_name(ctx.subtask.0)));
        let replace = || {
            fs.create_dir_all(&staging)?;
            let mut file = fs.create(&written)?;
            file.write_all(&bytes)?;
            // Also what makes an object of it.
            file.sync()?;
            drop(file);
            fs.rename(&written, &path)
        };
        replace().map_err(|error| cannot("write file", &path, error))
    };
    write()?;
    let mut open = BTreeMap::new();
    let mut watermark = progress.watermark;
    for subtask in 0..ctx.parallelism {
        let path = staging.join(key.progress_name(subtask));
        let Some(other) = read(fs.as_ref(), &path)?.filter(|other| other.run == progress.run) else {
            return Ok(());
        };
        watermark = watermark.min(other.watermark);
        open.extend(other.open);
    }
    let complete = open.iter().filter(|(_, end)| Progress::has_passed(watermark, **end));
    complete
        .map(|(partition, _)| partition)
        .try_for_each(|partition| succeed(fs.as_ref(), base, policy, partition))
}

/// `None` if the subtask has not said anything, or in another format.
fn read(fs: &dyn FileSystem, path: &Path) -> Result<Option<Progress>> {
    let mut bytes = Vec::new();
    match fs.open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(flott_state::decode("the progress of a file sink", &bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read file", path, error)),
    }
}

fn succeed(fs: &dyn FileSystem, base: &Path, policy: &PartitionCommit, partition: &str) -> UserResult {
    if has_success(fs, base, partition) {
        return Ok(());
    }
    let directory = base.join(partition);
    let path = directory.join(SUCCESS);
    if let Some(policy) = &policy.policy {
        policy(&directory)
            .map_err(|error| format!("the policy for partition '{partition}' has failed: {error}"))?;
    }
    let create = || {
        fs.create(&path)?.sync()?;
        fs.sync_dir(&directory)
    };
    Ok(create().map_err(|error| cannot("create file", &path, error))?)
}
