//! Does the IO of checkpoints beside the master's loop, in the order in which it was asked for.

use crate::metrics::JobMetrics;
use flott_checkpoint::{CheckpointOwner, Manifest};
use flott_env::sync::mpsc;
use flott_types::{CheckpointId, CheckpointKind, Error, FileHandle, Result};
use std::fmt;
use std::sync::Arc;
use tracing::{info, warn};

/// IO.
pub(super) enum StorageTask {
    Complete(Box<Manifest>),
    Discard(CheckpointId, CheckpointKind),
    Subsume { replaced: Vec<CheckpointId>, kept: Vec<CheckpointId> },
    DeleteFiles(Vec<FileHandle>),
    CollectGarbage,
}

impl fmt::Display for StorageTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete(manifest) => write!(f, "complete checkpoint {}", manifest.checkpoint_id),
            Self::Discard(id, _) => write!(f, "delete the files of checkpoint {id}, which was aborted"),
            Self::Subsume { replaced, .. } => write!(f, "delete {} replaced checkpoints", replaced.len()),
            Self::DeleteFiles(files) => write!(f, "delete {} files that came too late", files.len()),
            Self::CollectGarbage => f.write_str("collect what earlier starts left"),
        }
    }
}

/// What became of a manifest.
pub(crate) type ManifestOutcome = (CheckpointId, Result<()>);

/// Storage tasks that may wait; the master waits when there are more.
pub(super) const STORAGE_TASKS_MAX: usize = 64;

/// Works until nobody can ask any more.
pub(super) async fn work(
    owner: CheckpointOwner,
    mut tasks: mpsc::Receiver<StorageTask>,
    done: mpsc::Sender<ManifestOutcome>,
    metrics: Arc<JobMetrics>,
) {
    while let Some(task) = tasks.recv().await {
        let what = task.to_string();
        let cleaned = match task {
            StorageTask::Complete(manifest) => {
                let outcome = owner.complete(&manifest);
                drop(done.send((manifest.checkpoint_id, outcome)).await);
                continue;
            }
            StorageTask::Discard(id, kind) => owner.discard(id, kind),
            StorageTask::Subsume { replaced, kept } => owner.subsume(&replaced, &kept),
            StorageTask::DeleteFiles(files) => owner.delete_files(&files),
            StorageTask::CollectGarbage => owner.collect_garbage().map(|files| {
                if files > 0 {
                    info!(files, "what earlier starts left has been deleted");
                }
            }),
        };
        if let Err(error) = cleaned {
            report_cleanup(&metrics, &what, &error);
        }
    }
}

/// The job does not depend on it: what stays is garbage, and the next start of the job collects it. But a disk that fills up needs a reason.
pub(crate) fn report_cleanup(metrics: &JobMetrics, what: &str, error: &Error) {
    metrics.on_cleanup_failed();
    warn!(error = %error.report(), "cannot {what}");
}
