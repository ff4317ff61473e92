//! What users see: the source and its options.

use crate::MAX_LINE_BYTES_DEFAULT;
use crate::reader::SocketReader;
use crate::split::SocketSplit;
use flott_api::{Boundedness, SourceReaderContext, SplitSource};
use flott_types::Result;
use std::time::Duration;

/// Connects to a TCP server and reads UTF-8 text lines until the server closes the connection, which ends the source.
///
/// One subtask reads, whatever the parallelism. A last line without a line end is a record; a line that a broken
/// connection cut off is a bad record. The connection is not encrypted.
#[derive(Clone, Debug)]
pub struct SocketSource {
    pub(crate) address: String,
    pub(crate) max_line_bytes: usize,
    pub(crate) retries_max: u32,
    pub(crate) retry_delay: Duration,
}

impl SocketSource {
    /// Lines from `address`, a `host:port`.
    pub fn lines(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            max_line_bytes: MAX_LINE_BYTES_DEFAULT,
            retries_max: 0,
            retry_delay: Duration::ZERO,
        }
    }

    /// How long a line may be; a longer one is a bad record and is not held in memory.
    #[must_use]
    pub fn max_line_bytes(self, max_line_bytes: usize) -> Self {
        Self { max_line_bytes, ..self }
    }

    /// Connects again, `delay` after an attempt that failed or a connection that broke, and gives up after
    /// `retries_max` failures in a row. By default the first failure fails the job.
    #[must_use]
    pub fn retries(self, retries_max: u32, delay: Duration) -> Self {
        Self { retries_max, retry_delay: delay, ..self }
    }
}

impl SplitSource for SocketSource {
    type Record = String;
    type Split = SocketSplit;
    type Reader = SocketReader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::ContinuousUnbounded
    }

    fn splits(&self, _: u32) -> Result<Vec<SocketSplit>> {
        Ok(vec![SocketSplit { address: self.address.clone(), n_lines: 0 }])
    }

    fn keeps_records(&self) -> bool {
        false
    }

    fn open(&self, split: SocketSplit, ctx: &SourceReaderContext) -> Result<SocketReader> {
        Ok(SocketReader::new(self, split, ctx.env.clone()))
    }
}
