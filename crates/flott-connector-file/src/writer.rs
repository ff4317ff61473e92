//! Writes the records of one subtask into the parts of its partitions.

use crate::committer::Prepared;
use crate::compaction::{ClosedFile, Group};
use crate::directory::{cannot, create_durably_below};
use crate::files::files;
use crate::part::{Part, Rows};
use crate::partition_commit::{PartitionCommit, Progress, has_success};
use crate::pending::{PendingFile, Publisher, STAGING, SinkKey, remove_leftovers};
use crate::sink::FileSinkConfig;
use flott_api::{BoxError, SinkContext, SinkWriter, UserResult};
use flott_types::{CheckpointId, RecordBatch, Result, Timestamp, Watermark, duration_ms};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What entries of the snapshot are.
const PARTITION_ENTRY: &str = "a partition of a file sink";
const GROUP_ENTRY: &str = "files of a file sink that are to become one";
/// What such an entry begins with; no partition has a name with a control character.
const GROUP_MARK: &str = "\0group";

/// Writes the records of one subtask.
///
/// At a barrier every part is completed, in all formats. Flink goes on with the parts of row formats across a checkpoint and cuts them at the
/// recorded length after a restore; that needs a file that is written and referred to at once, and truncation, to save some small files. Here
/// a file belongs to one checkpoint, and after a restore there is nothing to repair.
pub struct FileWriter<T> {
    config: FileSinkConfig<T>,
    ctx: SinkContext,
    key: SinkKey,
    publisher: Publisher,
    /// By the relative path of the partition.
    parts: BTreeMap<String, Part<T>>,
    /// Complete, for the next checkpoint; always empty in a job without.
    closed: Vec<ClosedFile>,
    /// Held back to become one file, by the relative path of the partition.
    groups: BTreeMap<String, Group>,
    /// Held back by an earlier attempt: they get no more files, as those may have another header.
    restored_groups: Vec<Group>,
    /// The last checkpoint whose barrier has come.
    mark: CheckpointId,
    next_number: u64,
    has_staging: bool,
    watermark: Timestamp,
    /// With a policy for them, partitions that have records and no `_SUCCESS` yet, with their ends.
    open_partitions: BTreeMap<String, Timestamp>,
}

impl<T> fmt::Debug for FileWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWriter")
            .field("directory", &self.config.directory)
            .field("open_partitions", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> FileWriter<T> {
    pub(crate) fn new(config: FileSinkConfig<T>, ctx: SinkContext) -> Self {
        Self {
            config,
            key: SinkKey::new(&ctx),
            publisher: Publisher::new(&ctx),
            parts: BTreeMap::new(),
            closed: Vec::new(),
            groups: BTreeMap::new(),
            restored_groups: Vec::new(),
            mark: ctx.restored_checkpoint.unwrap_or(CheckpointId(0)),
            next_number: 0,
            has_staging: false,
            watermark: Timestamp::MIN,
            open_partitions: BTreeMap::new(),
            ctx,
        }
    }

    fn partition_of(&self, record: &T) -> Option<String> {
        let Some(partition) = &self.config.partition else { return Some(String::new()) };
        partition(record).relative().map(str::to_owned)
    }

    fn reject(&self, record: &T, error: impl Into<BoxError>) -> UserResult {
        let directory = format!("directory '{}'", self.config.directory.display());
        self.ctx.bad_records.reject(directory, record, error)
    }

    fn write_record(&mut self, record: &T, now: i64) -> UserResult {
        let Some(partition) = self.partition_of(record) else {
            return self.reject(record, "the partition of the record has no name, so it has no directory");
        };
        let are_tolerated = self.ctx.bad_records.are_tolerated();
        let part = if let Some(part) = self.parts.get_mut(&partition) {
            if let Err(refused) = part.rows.encode(record, are_tolerated)? {
                return self.reject(record, refused);
            }
            part
        } else {
            // Before there is a file, so that none is without records.
            let mut rows = Rows::start(&self.config)?;
            if let Err(refused) = rows.encode(record, are_tolerated)? {
                return self.reject(record, refused);
            }
            self.make_room()?;
            let part = self.begin_part(&partition, rows, now)?;
            self.parts.entry(partition.clone()).or_insert(part)
        };
        part.write(now)?;
        if part.n_bytes() >= self.config.rolling.max_part_size {
            self.complete_part(&partition)?;
        }
        Ok(())
    }

    /// Completes the part that has had no record for longest, if there are as many as may be open.
    fn make_room(&mut self) -> UserResult {
        while self.parts.len() >= self.config.open_partitions_max {
            let oldest = self.parts.iter().min_by_key(|(_, part)| part.written_at);
            let Some(partition) = oldest.map(|(partition, _)| partition.clone()) else { break };
            self.complete_part(&partition)?;
        }
        Ok(())
    }

    /// Completes a part. Without checkpoints nothing else is to come before it may be seen.
    fn complete_part(&mut self, partition: &str) -> UserResult {
        let Some(part) = self.parts.remove(partition) else { return Ok(()) };
        let closed = part.close()?;
        if self.ctx.has_checkpoints {
            self.closed.push(closed);
        } else {
            self.publisher.publish(std::iter::once(&closed.file))?;
        }
        Ok(())
    }

    fn complete_all_parts(&mut self) -> UserResult {
        while let Some(partition) = self.parts.keys().next().cloned() {
            self.complete_part(&partition)?;
        }
        Ok(())
    }

    fn begin_part(&mut self, partition: &str, rows: Rows<T>, now: i64) -> Result<Part<T>> {
        let fs = files(&self.ctx.env);
        if !self.has_staging {
            create_durably_below(fs.as_ref(), &self.config.directory, &self.config.directory.join(STAGING))?;
            self.has_staging = true;
        }
        if let Some(policy) = &self.config.partition_commit {
            self.open_partitions.entry(partition.to_owned()).or_insert_with(|| policy.due_at(partition, now));
        }
        let name = self.unused_name(partition)?;
        let becomes = PendingFile {
            base: self.config.directory.clone(),
            partition: partition.to_owned(),
            hidden_name: self.key.hidden_name(&name, self.ctx.subtask, self.mark),
            name,
            len: 0,
        };
        Part::begin(&self.config, fs.as_ref(), becomes, rows, now)
    }

    /// A name that no file has. It contains the attempt, so that an attempt that is believed dead writes other files.
    fn unused_name(&mut self, partition: &str) -> Result<String> {
        let fs = files(&self.ctx.env);
        loop {
            let name = format!(
                "{}-{}-{:016x}-{}.{}{}",
                self.config.file_prefix,
                self.ctx.subtask,
                self.key.run,
                self.next_number,
                self.config.format.extension(),
                self.config.compression.suffix(),
            );
            self.next_number += 1;
            let path: PathBuf = self.config.directory.join(partition).join(&name);
            match fs.metadata(&path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
                Err(error) => return Err(cannot("look for file", &path, error)),
            }
        }
    }

    fn due_at(&self, part: &Part<T>) -> Option<i64> {
        let after =
            |start: i64, interval: Option<Duration>| interval.map(|it| start.saturating_add(duration_ms(it)));
        let rollover = after(part.begun_at, self.config.rolling.rollover_interval);
        let inactivity = after(part.written_at, self.config.rolling.inactivity_interval);
        rollover.into_iter().chain(inactivity).min()
    }

    /// The time that decides which partitions are complete.
    fn move_time(&mut self, is_final: bool) {
        if is_final {
            self.watermark = Timestamp::MAX;
        } else if self.config.partition_commit.as_ref().is_some_and(PartitionCommit::is_by_process_time) {
            self.watermark = self.ctx.env.processing_time();
        }
    }

    /// What becomes of the files that are complete: committed as they are, or held back until there are enough of a partition.
    fn hand_out(&mut self, is_final: bool) -> Vec<Prepared> {
        let closed = self.closed.drain(..);
        let Some(strategy) = self.config.compact else {
            return closed.map(|closed| Prepared::File(closed.file)).collect();
        };
        for closed in closed {
            match self.groups.get_mut(&closed.file.partition) {
                Some(group) => group.files.push(closed),
                None => {
                    self.groups.insert(closed.file.partition.clone(), Group::new(closed));
                }
            }
        }
        self.groups
            .values_mut()
            .for_each(|group| group.n_checkpoints = group.n_checkpoints.saturating_add(1));
        // A partition must have all its files before it says that it is complete.
        let (watermark, open) = (self.watermark, &self.open_partitions);
        let is_complete =
            |partition: &String| open.get(partition).is_some_and(|end| Progress::has_passed(watermark, *end));
        let is_due = |partition: &String, group: &mut Group| {
            is_final || strategy.is_due(group) || is_complete(partition)
        };
        let due = self.groups.extract_if(.., is_due).map(|(_, group)| group);
        let groups: Vec<Group> = self.restored_groups.drain(..).chain(due).collect();
        groups.into_iter().map(Prepared::of_group).collect()
    }

    /// How far this subtask is, for the policy for partitions.
    fn progress(&mut self) -> Progress {
        let (fs, base, watermark) = (files(&self.ctx.env), &self.config.directory, self.watermark);
        self.open_partitions.retain(|partition, end| {
            !(Progress::has_passed(watermark, *end) && has_success(fs.as_ref(), base, partition))
        });
        Progress { run: self.key.execution, watermark, open: self.open_partitions.clone() }
    }
}

impl<T: Send + 'static> SinkWriter<T> for FileWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        let now = self.ctx.env.processing_time();
        batch.into_iter().try_for_each(|(record, _)| self.write_record(&record, now))
    }

    fn on_watermark(&mut self, watermark: Watermark) -> UserResult {
        self.watermark = watermark.timestamp();
        Ok(())
    }

    fn next_timer(&self) -> Option<i64> {
        self.parts.values().filter_map(|part| self.due_at(part)).min()
    }

    fn on_processing_time(&mut self, now: i64) -> UserResult {
        let is_due = |part: &Part<T>| self.due_at(part).is_some_and(|due_at| due_at <= now);
        let due: Vec<_> =
            self.parts.iter().filter(|(_, part)| is_due(part)).map(|(name, _)| name.clone()).collect();
        due.iter().try_for_each(|partition| self.complete_part(partition))
    }

    fn finish(&mut self) -> UserResult {
        self.complete_all_parts()
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        self.complete_all_parts()?;
        self.mark = checkpoint_id;
        if !self.closed.is_empty() {
            let staging = self.config.directory.join(STAGING);
            let synced = files(&self.ctx.env).sync_dir(&staging);
            synced.map_err(|error| cannot("sync directory", &staging, error))?;
        }
        // Once: by one time it is decided what is handed out, and what is said to be complete.
        self.move_time(is_final);
        let mut prepared = self.hand_out(is_final);
        if self.config.partition_commit.is_some() {
            prepared.push(Prepared::Progress(self.progress()));
        }
        Ok(prepared.iter().map(Prepared::encode).collect::<Result<_>>()?)
    }

    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        let partition = |entry: (&String, &Timestamp)| flott_state::encode(PARTITION_ENTRY, &entry);
        let group = |group: &Group| flott_state::encode(GROUP_ENTRY, &(GROUP_MARK, group));
        let partitions = self.open_partitions.iter().map(partition);
        Ok(partitions
            .chain(self.groups.values().chain(&self.restored_groups).map(group))
            .collect::<Result<_>>()?)
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>, restored_checkpoint: Option<CheckpointId>) -> UserResult {
        for entry in entries {
            if entry.get(1..=GROUP_MARK.len()).is_some_and(|mark| mark == GROUP_MARK.as_bytes()) {
                self.restore_group(&entry)?;
                continue;
            }
            let (partition, end) = flott_state::decode(PARTITION_ENTRY, &entry)?;
            self.open_partitions.insert(partition, end);
        }
        // Without checkpoints nobody knows what a hidden file is for; it stays, as it always has.
        if self.ctx.has_checkpoints {
            let fs = files(&self.ctx.env);
            remove_leftovers(fs.as_ref(), &self.config.directory, &self.ctx, restored_checkpoint)?;
        }
        Ok(())
    }
}

impl<T> FileWriter<T> {
    fn restore_group(&mut self, entry: &[u8]) -> Result<()> {
        let (_, group): (String, Group) = flott_state::decode(GROUP_ENTRY, entry)?;
        let Some(group) = group.not_yet_committed(&self.ctx, &mut self.publisher)? else { return Ok(()) };
        // It may have come to another subtask than the partition itself.
        if let Some(policy) = &self.config.partition_commit {
            let (partition, now) = (group.partition(), self.ctx.env.processing_time());
            self.open_partitions.entry(partition.to_owned()).or_insert_with(|| policy.due_at(partition, now));
        }
        self.restored_groups.push(group);
        Ok(())
    }
}
