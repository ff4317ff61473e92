//! What users see of change data capture, and its options.

use super::enumerator;
use super::reader::PostgresCdcReader;
use super::split::PostgresCdcSplit;
use crate::options::{Address, credentials};
use flott_api::{Boundedness, SourceReaderContext, SplitSource};
use flott_types::{Data, Result, RowChange};
use std::fmt;
use std::marker::PhantomData;

/// As in Flink CDC.
const CHUNK_SIZE_DEFAULT: usize = 8_096;

/// Where a source begins that was not restored: `scan.startup.mode` of Flink CDC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartupMode {
    /// With all rows of the table, then the log.
    #[default]
    Initial,
    /// With the log, from the place of the slot: if the source makes the slot, from now on.
    LatestOffset,
}

/// Which records there are: `changelog-mode` of Flink CDC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangelogMode {
    /// All: inserts, both halves of updates, deletes. The table needs `REPLICA IDENTITY FULL`.
    #[default]
    All,
    /// Without the old half of updates; of deleted rows only the key is there, and other columns are `NULL`. An update that leaves a large value as it
    /// was is a bad record, since the log does not have the value.
    Upsert,
}

/// Reads a table and what becomes of it, through logical replication.
///
/// One subtask reads. The table has a primary key, the server has `wal_level = logical`, the user may replicate. Publication and replication slot are
/// made if they are missing, and stay: drop them when the job is gone for good, as the server keeps its log for the slot.
pub struct PostgresCdcSource<T> {
    pub(crate) address: Address,
    pub(crate) table: String,
    pub(crate) slot: String,
    pub(crate) publication: Option<String>,
    pub(crate) startup_mode: StartupMode,
    pub(crate) changelog_mode: ChangelogMode,
    pub(crate) chunk_size: usize,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for PostgresCdcSource<T> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            table: self.table.clone(),
            slot: self.slot.clone(),
            publication: self.publication.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for PostgresCdcSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresCdcSource")
            .field("address", &self.address)
            .field("table", &self.table)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl<T: Data> PostgresCdcSource<T> {
    /// Changes of `table`, which is `name` or `schema.name`, of the database at `url`, through the replication slot `slot_name`, which nobody else
    /// reads. Columns become the fields of their names.
    pub fn new(url: impl Into<String>, table: impl Into<String>, slot_name: impl Into<String>) -> Self {
        Self {
            address: Address::new(url),
            table: table.into(),
            slot: slot_name.into(),
            publication: None,
            startup_mode: StartupMode::default(),
            changelog_mode: ChangelogMode::default(),
            chunk_size: CHUNK_SIZE_DEFAULT,
            record: PhantomData,
        }
    }

    credentials!(address);

    /// The publication: `publication.name`. By default it has the name of the slot.
    #[must_use]
    pub fn publication_name(mut self, name: impl Into<String>) -> Self {
        self.publication = Some(name.into());
        self
    }

    /// Where to begin: `scan.startup.mode`.
    #[must_use]
    pub fn startup_mode(mut self, mode: StartupMode) -> Self {
        self.startup_mode = mode;
        self
    }

    /// Which records there are: `changelog-mode`.
    #[must_use]
    pub fn changelog_mode(mut self, mode: ChangelogMode) -> Self {
        self.changelog_mode = mode;
        self
    }

    /// How many rows of the snapshot are read at once: `scan.incremental.snapshot.chunk.size`.
    #[must_use]
    pub fn chunk_size(mut self, n_rows: usize) -> Self {
        self.chunk_size = n_rows.max(1);
        self
    }

    pub(crate) fn publication(&self) -> &str {
        self.publication.as_deref().unwrap_or(&self.slot)
    }
}

impl<T: Data> SplitSource for PostgresCdcSource<T> {
    type Record = RowChange<T>;
    type Split = PostgresCdcSplit;
    type Reader = PostgresCdcReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::ContinuousUnbounded
    }

    fn splits(&self, _: u32) -> Result<Vec<PostgresCdcSplit>> {
        Ok(vec![enumerator::split(self)?])
    }

    fn open(&self, split: PostgresCdcSplit, ctx: &SourceReaderContext) -> Result<PostgresCdcReader<T>> {
        PostgresCdcReader::open(self.clone(), split, &ctx.env)
    }
}
