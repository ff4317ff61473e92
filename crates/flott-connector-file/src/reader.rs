//! Reads one split.

use crate::files::files;
use crate::split::FileSplit;
use flott_api::format::{DecodeFormat, DecodeInput, RecordDecoder};
use flott_api::{InputStatus, SourceReaderContext, SplitOutput, SplitReader};
use flott_types::Result;
use std::fmt;
use std::path::PathBuf;
use std::task::{Context, Poll};

/// Reads one split. Files are read without waiting for anybody, so it is always ready.
pub(crate) struct FileSplitReader<T> {
    split: FileSplit,
    decoder: Box<dyn RecordDecoder<T>>,
}

impl<T> fmt::Debug for FileSplitReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSplitReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: 'static> FileSplitReader<T> {
    pub(crate) fn open(
        format: &dyn DecodeFormat<T>,
        split: FileSplit,
        ctx: &SourceReaderContext,
    ) -> Result<Self> {
        let decoder = format.open(DecodeInput {
            fs: files(&ctx.env),
            path: PathBuf::from(split.path()),
            range: split.range(),
            position: split.position(),
        })?;
        Ok(Self { split, decoder })
    }
}

impl<T: 'static> SplitReader for FileSplitReader<T> {
    type Record = T;
    type Split = FileSplit;

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        Poll::Ready(self.decoder.decode(records_max, out))
    }

    fn split(&self) -> FileSplit {
        self.split.clone().at(self.decoder.position())
    }
}
