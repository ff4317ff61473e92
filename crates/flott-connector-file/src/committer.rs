//! Commits what writers have prepared.

use crate::partition_commit::{self, Progress};
use crate::pending::{PendingFile, Publisher, SinkKey};
use crate::sink::FileSinkConfig;
use flott_api::{Committable, Committer, SinkContext, UserResult};
use flott_types::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// What a checkpoint keeps for the committer. Part of the snapshot format: new variants go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Prepared {
    /// A file.
    File(PendingFile),
    /// All files before it are committed when it is.
    Progress(Progress),
}

impl Prepared {
    const WHAT: &'static str = "a committable of a file sink";

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        flott_state::encode(Self::WHAT, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        flott_state::decode(Self::WHAT, bytes)
    }
}

/// Gives the files of complete checkpoints their names.
pub(crate) struct FileCommitter {
    ctx: SinkContext,
    directory: PathBuf,
    publisher: Publisher,
}

impl fmt::Debug for FileCommitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCommitter").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl FileCommitter {
    pub(crate) fn new<T>(config: &FileSinkConfig<T>, ctx: &SinkContext) -> Self {
        Self { ctx: ctx.clone(), directory: config.directory.clone(), publisher: Publisher::new(ctx) }
    }
}

impl Committer for FileCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let decoded: Result<Vec<Prepared>> =
            committables.iter().map(|committable| Prepared::decode(&committable.payload)).collect();
        let (mut files, mut progress) = (Vec::new(), None);
        for prepared in decoded? {
            match prepared {
                Prepared::File(file) => files.push(file),
                // What an earlier attempt had reached is in the snapshot of the writer too, which says it again.
                Prepared::Progress(of) => {
                    progress = Some(of).filter(|of| of.run == SinkKey::new(&self.ctx).run)
                }
            }
        }
        self.publisher.publish(files.iter())?;
        if let Some(progress) = progress {
            partition_commit::publish(&self.ctx, &self.directory, &progress)?;
        }
        Ok(())
    }
}
