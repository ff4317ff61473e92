//! The manifest: what a checkpoint consists of. A checkpoint is complete once its manifest exists.
//!
//! The body is JSON, so that a person with `tail -c +21 _metadata | jq` can read what a checkpoint is made of; large state is in
//! part files, only positions of enumerators are in here (as hexadecimal text).

use crate::codec::{Format, HEADER_LEN, corrupt, frame, unframe};
use crate::coordinator::{ManifestRequest, SubtaskPart};
use crate::owner::{Attempt, Generation, hex};
use crate::plan::CheckpointPlan;
use flott_types::{
    CheckpointId, CheckpointKind, FileHandle, JobId, KEY_HASH_VERSION, OperatorUid, Result, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const FORMAT: Format = Format { magic: *b"FLOTTCHK", version: 1 };

/// The name of a manifest in the directory of its checkpoint.
pub(crate) const MANIFEST_NAME: &str = "_metadata";

/// A manifest of more bytes is not read: enumerator state of a million files is about 100 MB.
pub(crate) const MANIFEST_LEN_MAX: u64 = 1 << 30;

/// Everything a checkpoint or savepoint consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The job that took it.
    #[serde(with = "hex::job_id")]
    pub job_id: JobId,
    /// The start of the job that took it: only the owner of a generation completes its checkpoints.
    pub generation: Generation,
    /// The same as a number that no other start of any job has.
    pub attempt: Attempt,
    /// Its number.
    pub checkpoint_id: CheckpointId,
    /// Whether and how it is a savepoint.
    pub kind: CheckpointKind,
    /// When it was triggered, in milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// Whether it was taken after all input had been processed: a job that is restored from it has nothing left to do but to commit.
    pub is_final: bool,
    /// The version of the key hash that all keyed state was divided by.
    pub key_hash_version: u32,
    /// Where the manifest was written, as file handles see it: when the directory was moved, files with this prefix moved along.
    pub directory: String,
    /// Of a savepoint, where the directory was that it was put into: its manifest may lie among the checkpoints once more, without its
    /// files. Not in manifests of early versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoints: Option<String>,
    /// Every operator of the job, by uid.
    pub operators: Vec<OperatorManifest>,
}

/// One operator in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorManifest {
    /// Under which its state is found again.
    pub uid: OperatorUid,
    /// As people call it.
    pub name: String,
    /// Number of subtasks, and of entries in `subtasks`.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// By index.
    pub subtasks: Vec<SubtaskManifest>,
    /// What the split enumerator remembered, if the operator is a source.
    #[serde(with = "hex::optional_bytes")]
    pub enumerator: Option<Vec<u8>>,
}

/// One subtask of an operator in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubtaskManifest {
    /// The file with its snapshot, and with those of the other operators in its chain; `None` if it had finished before
    /// the checkpoint began.
    pub part: Option<FileHandle>,
    /// The files of earlier checkpoints that this one goes on from, oldest first: of keyed states it may have only what has changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<FileHandle>,
    /// Whether it had processed all its input, end of data included.
    pub finished: bool,
}

impl Manifest {
    /// Puts together what the coordinator asks for and what only the job master knows: the plan, whose checkpoint it is, and the
    /// state of split enumerators, taken when the checkpoint was triggered.
    pub fn new(
        (job_id, generation, attempt): (JobId, Generation, Attempt),
        (directory, savepoints): (String, Option<String>),
        plan: &CheckpointPlan,
        request: &ManifestRequest,
        enumerators: &BTreeMap<OperatorUid, Vec<u8>>,
    ) -> Self {
        let subtask = |id| match request.parts.get(&id) {
            Some(SubtaskPart { file, bases, finished }) => {
                SubtaskManifest { part: file.clone(), bases: bases.clone(), finished: *finished }
            }
            // The coordinator asks for a manifest only when everybody has answered or finished.
            None => SubtaskManifest { part: None, bases: Vec::new(), finished: true },
        };
        let mut operators: Vec<_> = plan
            .operators
            .iter()
            .map(|operator| OperatorManifest {
                uid: operator.uid.clone(),
                name: operator.name.clone(),
                parallelism: operator.parallelism,
                max_parallelism: operator.max_parallelism,
                subtasks: plan.subtasks_of(operator).map(subtask).collect(),
                enumerator: enumerators.get(&operator.uid).cloned(),
            })
            .collect();
        operators.sort_by(|a, b| a.uid.cmp(&b.uid));
        Self {
            job_id,
            generation,
            attempt,
            checkpoint_id: request.barrier.id,
            kind: request.barrier.kind,
            timestamp: request.barrier.timestamp,
            is_final: request.is_final,
            key_hash_version: KEY_HASH_VERSION,
            directory,
            savepoints,
            operators,
        }
    }

    /// Every file, once, though the operators of a chain share one; also those of earlier checkpoints that this one goes on from.
    pub fn files(&self) -> BTreeSet<&FileHandle> {
        let parts = self.parts().into_iter();
        parts.flat_map(|(part, bases)| bases.iter().chain([part])).collect()
    }

    /// The file of each subtask that has one, once, though the operators of a chain share it, with those that it goes on from, oldest first.
    pub fn parts(&self) -> BTreeMap<&FileHandle, &[FileHandle]> {
        let subtasks = self.operators.iter().flat_map(|operator| &operator.subtasks);
        subtasks.filter_map(|subtask| Some((subtask.part.as_ref()?, subtask.bases.as_slice()))).collect()
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        frame(FORMAT, 4096, |out| {
            // Serializing maps with string keys, numbers and text into memory cannot fail.
            serde_json::to_writer_pretty(out, self).expect("a manifest is plain data");
        })
    }

    /// Reads a file; `file` is for messages.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption) with file and position if it is not what was written,
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if it is of another format version.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Self> {
        let body = unframe(FORMAT, file, bytes)?;
        let manifest: Self = serde_json::from_slice(body).map_err(|error| {
            corrupt(file, position(body, &error), "the content is no manifest").with_source(error)
        })?;
        manifest.check().map_err(|what| corrupt(file, HEADER_LEN, what))?;
        Ok(manifest)
    }

    /// What a hostile or wrongly made manifest with a right checksum could make go wrong later.
    fn check(&self) -> Result<(), String> {
        if !is_safe(&self.directory) {
            return Err(format!("directory '{}' leads elsewhere", self.directory));
        }
        for pair in self.operators.windows(2) {
            if let [a, b] = pair
                && a.uid >= b.uid
            {
                return Err(format!("operators '{}' and '{}' are not in order", a.uid, b.uid));
            }
        }
        for operator in &self.operators {
            if operator.subtasks.len() != operator.parallelism as usize || operator.parallelism == 0 {
                return Err(format!(
                    "operator '{}' has {} subtasks at parallelism {}",
                    operator.uid,
                    operator.subtasks.len(),
                    operator.parallelism
                ));
            }
            if operator.subtasks.iter().any(|subtask| subtask.part.is_none() && !subtask.finished) {
                return Err(format!(
                    "a subtask of operator '{}' has no file and has not finished",
                    operator.uid
                ));
            }
        }
        let parts = self.parts();
        for subtask in self.operators.iter().flat_map(|operator| &operator.subtasks) {
            let agreed = subtask.part.as_ref().and_then(|part| parts.get(part)).copied().unwrap_or_default();
            if agreed != subtask.bases.as_slice() {
                return Err("operators do not agree about what a file goes on from".to_owned());
            }
        }
        match self.files().into_iter().find(|file| !is_safe(&file.path)) {
            Some(file) => Err(format!("path '{}' leads elsewhere", file.path)),
            None => Ok(()),
        }
    }
}

/// Whether a path stays below where it begins: no root, no `..`, no other system's separators.
fn is_safe(path: &str) -> bool {
    let is_plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    path.split('/').all(is_plain)
}

/// The byte in the file that a JSON error is at.
fn position(body: &[u8], error: &serde_json::Error) -> usize {
    let lines_before = body.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    HEADER_LEN + lines_before.map(<[u8]>::len).sum::<usize>() + error.column()
}

#[cfg(test)]
mod tests;
