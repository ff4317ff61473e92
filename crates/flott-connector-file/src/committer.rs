//! Commits what writers have prepared.

use crate::compaction::{Compaction, Group};
use crate::partition_commit::{self, PartitionCommit, Progress};
use crate::pending::{PendingFile, Publisher, SinkKey};
use crate::sink::FileSinkConfig;
use flott_api::{Committable, Committer, SinkContext, UserResult};
use flott_types::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a checkpoint keeps for the committer. Part of the snapshot format: new variants go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Prepared {
    /// A file.
    File(PendingFile),
    /// All files before it are committed when it is.
    Progress(Progress),
    /// Files that become one.
    Compact(Group),
}

impl Prepared {
    const WHAT: &'static str = "a committable of a file sink";

    /// A single file stays as it is.
    pub(crate) fn of_group(mut group: Group) -> Self {
        match group.files.pop() {
            Some(only) if group.files.is_empty() => Self::File(only.file),
            last => {
                group.files.extend(last);
                Self::Compact(group)
            }
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        flott_state::encode(Self::WHAT, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        flott_state::decode(Self::WHAT, bytes)
    }
}

/// Gives the files of complete checkpoints their names.
pub(crate) struct FileCommitter<T> {
    ctx: SinkContext,
    directory: PathBuf,
    publisher: Publisher,
    compaction: Compaction<T>,
    partition_commit: Option<PartitionCommit>,
}

impl<T> fmt::Debug for FileCommitter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCommitter").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl<T> FileCommitter<T> {
    pub(crate) fn new(config: &FileSinkConfig<T>, ctx: &SinkContext) -> Self {
        Self {
            ctx: ctx.clone(),
            directory: config.directory.clone(),
            publisher: Publisher::new(ctx),
            compaction: Compaction {
                compactor: config.compactor.clone(),
                format: Arc::clone(&config.format),
                compression: config.compression,
            },
            partition_commit: config.partition_commit.clone(),
        }
    }
}

impl<T: 'static> Committer for FileCommitter<T> {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let decoded: Result<Vec<Prepared>> =
            committables.iter().map(|committable| Prepared::decode(&committable.payload)).collect();
        let (mut files, mut groups, mut progress) = (Vec::new(), Vec::new(), None);
        for prepared in decoded? {
            match prepared {
                Prepared::File(file) => files.push(file),
                Prepared::Compact(group) => groups.push(group),
                // What an earlier attempt had reached is in the snapshot of the writer too, which says it again.
                Prepared::Progress(of) => {
                    progress = Some(of).filter(|of| of.run == SinkKey::new(&self.ctx).execution)
                }
            }
        }
        self.publisher.publish(files.iter())?;
        let Self { compaction, ctx, publisher, .. } = self;
        groups.iter().try_for_each(|group| compaction.commit(ctx, publisher, group))?;
        if let (Some(progress), Some(policy)) = (progress, &self.partition_commit) {
            partition_commit::publish(&self.ctx, &self.directory, policy, &progress)?;
        }
        Ok(())
    }
}
