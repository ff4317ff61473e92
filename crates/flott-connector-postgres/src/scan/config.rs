//! What users see of the source, and its options.

use super::enumerator;
use super::reader::PostgresReader;
use super::split::PostgresSplit;
use crate::options::{Address, credentials};
use flott_api::{Boundedness, SourceReaderContext, SplitSource};
use flott_types::{Data, Result};
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;

/// Rows that one query returns.
const FETCH_SIZE_DEFAULT: usize = 2_000;

/// Reads the rows of a table, or of a view, once.
///
/// The table is divided and read by ranges of the partition column, in its order, a query after the other: no transaction stays open, and reading
/// goes on after a restart behind the last value that was read. A row that nobody changes while the table is read is read once; of one that
/// is changed a state before or after is read, and one whose partition column changes may be read twice or not at all.
pub struct PostgresSource<T> {
    pub(crate) address: Address,
    pub(crate) table: String,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) filter: Option<String>,
    pub(crate) partition_column: Option<String>,
    pub(crate) partition_num: Option<u32>,
    pub(crate) bounds: (Option<i64>, Option<i64>),
    pub(crate) fetch_size: usize,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for PostgresSource<T> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            table: self.table.clone(),
            columns: self.columns.clone(),
            filter: self.filter.clone(),
            partition_column: self.partition_column.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for PostgresSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSource")
            .field("address", &self.address)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> PostgresSource<T> {
    /// Rows of `table`, which is `name` or `schema.name`, of the database at `url`: `postgres://user:password@host:port/database`. Columns become the
    /// fields of their names; of a tuple, by position.
    pub fn new(url: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            address: Address::new(url),
            table: table.into(),
            columns: None,
            filter: None,
            partition_column: None,
            partition_num: None,
            bounds: (None, None),
            fetch_size: FETCH_SIZE_DEFAULT,
            record: PhantomData,
        }
    }

    credentials!(address);

    /// Reads only these columns.
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Reads only rows for which this condition holds, in SQL. It must not come from outside the program.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<String>) -> Self {
        self.filter = Some(condition.into());
        self
    }

    /// The column by which the table is divided and ordered: `scan.partition.column` of Flink's connector for JDBC. It has no `NULL`, and better an
    /// index; rows with the same value are read at once. By default the primary key if that is one column, else the place of the row in the table.
    #[must_use]
    pub fn scan_partition_column(mut self, column: impl Into<String>) -> Self {
        self.partition_column = Some(column.into());
        self
    }

    /// Into how many parts the table is divided: `scan.partition.num`. By default as many as there are readers.
    #[must_use]
    pub fn scan_partition_num(mut self, n: u32) -> Self {
        self.partition_num = Some(n.max(1));
        self
    }

    /// The least value that is read, of an integer column: `scan.partition.lower-bound`. By default all are.
    #[must_use]
    pub fn scan_partition_lower_bound(mut self, bound: i64) -> Self {
        self.bounds.0 = Some(bound);
        self
    }

    /// The largest value that is read, of an integer column: `scan.partition.upper-bound`. By default all are.
    #[must_use]
    pub fn scan_partition_upper_bound(mut self, bound: i64) -> Self {
        self.bounds.1 = Some(bound);
        self
    }

    /// How many rows are asked for at once: `scan.fetch-size`.
    #[must_use]
    pub fn scan_fetch_size(mut self, n_rows: usize) -> Self {
        self.fetch_size = n_rows.max(1);
        self
    }
}

impl<T: Data> SplitSource for PostgresSource<T> {
    type Record = T;
    type Split = PostgresSplit;
    type Reader = PostgresReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<PostgresSplit>> {
        enumerator::splits(self, parallelism)
    }

    fn open(&self, split: PostgresSplit, ctx: &SourceReaderContext) -> Result<PostgresReader<T>> {
        PostgresReader::open(self.clone(), split, &ctx.env)
    }
}
