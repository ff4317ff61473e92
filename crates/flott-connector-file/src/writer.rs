//! Writes the records of one subtask into the parts of its partitions.

use crate::config::FileSinkConfig;
use crate::part::Part;
use flott_api::{SinkContext, SinkWriter, UserResult};
use flott_types::{Error, RecordBatch, Result, duration_ms};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes the records of one subtask.
pub struct FileWriter<T> {
    config: FileSinkConfig<T>,
    ctx: SinkContext,
    /// By the relative path of the partition.
    parts: BTreeMap<String, Part<T>>,
    next_number: u64,
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
        Self { config, ctx, parts: BTreeMap::new(), next_number: 0 }
    }

    fn partition_of(&self, record: &T) -> Result<String> {
        let Some(partition) = &self.config.partition else { return Ok(String::new()) };
        let path = partition(record);
        let relative = path.relative().map(str::to_owned);
        relative.ok_or_else(|| Error::user("the partition of a record has no name, so it has no directory"))
    }

    fn write_record(&mut self, record: T, now: i64) -> UserResult {
        let partition = self.partition_of(&record)?;
        let part = match self.parts.get_mut(&partition) {
            Some(part) => part,
            None => {
                self.make_room()?;
                let part = self.begin_part(&partition, now)?;
                self.parts.entry(partition.clone()).or_insert(part)
            }
        };
        part.write(record, now)?;
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

    fn complete_part(&mut self, partition: &str) -> UserResult {
        match self.parts.remove(partition) {
            Some(part) => part.complete(self.ctx.env.fs().as_ref()),
            None => Ok(()),
        }
    }

    fn begin_part(&mut self, partition: &str, now: i64) -> Result<Part<T>> {
        let directory = self.config.directory.join(partition);
        self.create_directory(&directory)?;
        let name = self.unused_name(&directory)?;
        Part::begin(&self.config, self.ctx.env.fs().as_ref(), &directory, &name, now)
    }

    /// Creates a partition's directory so that it survives a power failure.
    fn create_directory(&self, directory: &Path) -> Result<()> {
        let fs = self.ctx.env.fs();
        if fs.metadata(directory).is_ok_and(|metadata| metadata.is_dir) {
            return Ok(());
        }
        let parents =
            || directory.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.config.directory));
        let created = fs.create_dir_all(directory);
        let synced = created.and_then(|()| parents().try_for_each(|parent| fs.sync_dir(parent)));
        synced.map_err(|error| {
            Error::subtask(format!("cannot create directory '{}'", directory.display())).with_source(error)
        })
    }

    /// A name that no file has. A subtask that restarts counts from zero again, and renaming replaces the target.
    fn unused_name(&mut self, directory: &Path) -> Result<String> {
        let fs = self.ctx.env.fs();
        loop {
            let name = format!(
                "{}-{}-{:016x}-{}.{}{}",
                self.config.file_prefix,
                self.ctx.subtask,
                self.ctx.run_id,
                self.next_number,
                self.config.format.extension(),
                self.config.compression.suffix(),
            );
            self.next_number += 1;
            let path: PathBuf = directory.join(&name);
            match fs.metadata(&path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
                Err(error) => {
                    let message = format!("cannot look for file '{}'", path.display());
                    return Err(Error::subtask(message).with_source(error));
                }
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
}

impl<T: Send + 'static> SinkWriter<T> for FileWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        let now = self.ctx.env.processing_time();
        batch.into_iter().try_for_each(|(record, _)| self.write_record(record, now))
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
        while let Some((_, part)) = self.parts.pop_first() {
            part.complete(self.ctx.env.fs().as_ref())?;
        }
        Ok(())
    }
}
