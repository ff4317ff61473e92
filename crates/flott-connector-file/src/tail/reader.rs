//! Reads what has been written since it last looked.

use super::config::FileTailSource;
use super::follow::{Found, Lost, Opened, find, open};
use super::names::{Kind, Names};
use super::split::TailSplit;
use crate::format::too_long;
use flott_api::message::{MessageCollector, MessageDecoder, RawMessage};
use flott_api::{InputStatus, SplitOutput, SplitReader};
use flott_env::{Env, FileSystem};
use flott_types::{Data, Error, ErrorKind, Result};
use std::fmt;
use std::future::Future;
use std::io::{Read, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// So much of a file is read at once, unless a line is longer.
const CHUNK_BYTES: usize = 256 << 10;

/// After so long, and so many looks, a rotated file that has not changed is not written to any more, and one that is not there is gone: a single
/// look may miss one that is just being renamed.
const SETTLED: Duration = Duration::from_secs(5);
const SETTLED_LOOKS_MIN: u128 = 25;

/// Of a line that is too long, what the bad record shows.
const RAW_BYTES_SHOWN: usize = 4096;

/// Follows the files of one pattern.
pub struct TailReader<T> {
    split: TailSplit,
    names: Names,
    decoder: Box<dyn MessageDecoder<T>>,
    env: Env,
    fs: Arc<dyn FileSystem>,
    poll_interval: Duration,
    max_record_bytes: usize,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Time has passed since the last look.
    pub(super) has_waited: bool,
    /// So many looks are [`SETTLED`].
    settled_looks: u32,
    collector: MessageCollector<T, String>,
}

impl<T> fmt::Debug for TailReader<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TailReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: Data> TailReader<T> {
    pub(super) fn new(source: &FileTailSource<T>, split: TailSplit, env: Env) -> Result<Self> {
        Ok(Self {
            names: Names::new(&split.glob)?,
            decoder: source.format.create_decoder()?,
            fs: env.fs(),
            env,
            poll_interval: source.poll_interval,
            max_record_bytes: source.max_record_bytes,
            wait: None,
            has_waited: false,
            settled_looks: (SETTLED.as_nanos() / source.poll_interval.as_nanos().max(1))
                .max(SETTLED_LOOKS_MIN)
                .try_into()
                .unwrap_or(u32::MAX),
            collector: MessageCollector::default(),
            split,
        })
    }

    /// Looks at the files, and reads some lines of the oldest that has any. Whether anything was put out.
    pub(super) fn read(&mut self, records_max: usize, out: &mut SplitOutput<T>) -> Result<bool> {
        let found = find(self.fs.as_ref(), Path::new(&self.split.directory), &self.names)?;
        let n_looks = u32::from(std::mem::take(&mut self.has_waited));
        let lost = self.split.follow(self.fs.as_ref(), &found, n_looks, self.settled_looks)?;
        for lost in &lost {
            let (position, what) = describe(lost);
            out.bad_record(position, &[], what);
        }
        let mut is_any = !lost.is_empty();
        for found in &found {
            // A line that is too long is passed over in pieces.
            while !is_any && self.read_file(found, records_max, out)? {
                is_any = !out.batch.is_empty() || !out.bad_records.is_empty();
            }
        }
        Ok(is_any)
    }

    /// Whether the position in the file has moved.
    fn read_file(&mut self, found: &Found, records_max: usize, out: &mut SplitOutput<T>) -> Result<bool> {
        let Some(idx) = self.split.files.iter().position(|file| file.id == found.id) else {
            return Ok(false);
        };
        let Some(file) = self.split.files.get(idx) else { return Ok(false) };
        if found.len <= file.offset {
            return Ok(false);
        }
        let Some(Opened { file: mut content, head }) = open(self.fs.as_ref(), found)? else {
            return Ok(false);
        };
        if !file.prefix.is_of(&head) {
            // Truncated since it was looked at: the next look says so.
            return Ok(false);
        }
        let failed = |error| {
            Error::new(ErrorKind::Retry, format!("cannot read '{}'", found.path.display())).with_source(error)
        };
        content.seek(SeekFrom::Start(file.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        let mut bytes_max = CHUNK_BYTES;
        loop {
            let n_more = bytes_max.saturating_sub(bytes.len()) as u64;
            let n_read = content.by_ref().take(n_more).read_to_end(&mut bytes).map_err(failed)?;
            if memchr::memchr(b'\n', &bytes).is_some()
                || (n_read as u64) < n_more
                || bytes.len() > self.max_record_bytes
            {
                break;
            }
            bytes_max = bytes_max.saturating_mul(2).min(self.max_record_bytes.saturating_add(1));
        }
        let offset = file.offset;
        let is_at_end = offset + bytes.len() as u64 >= found.len;
        let is_final = found.kind == Kind::Rotated && file.n_idle >= self.settled_looks && is_at_end;
        let new_offset = self.put_out(idx, &bytes, is_final, records_max, out)?;
        if new_offset == offset {
            return Ok(false);
        }
        if let Some(file) = self.split.files.get_mut(idx) {
            TailSplit::advance(file, new_offset, &head);
        }
        Ok(true)
    }

    /// Puts out the lines at the start of `bytes` and returns where they end in the file.
    fn put_out(
        &mut self,
        idx: usize,
        bytes: &[u8],
        is_final: bool,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Result<u64> {
        let Some(file) = self.split.files.get_mut(idx) else { return Ok(0) };
        let mut rest = bytes;
        let mut offset = file.offset;
        let mut n_lines = 0;
        while n_lines < records_max.max(1) && !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest);
            let len = match end {
                Some(end) => end + 1,
                None if is_final || rest.len() > self.max_record_bytes => rest.len(),
                None => break,
            };
            let (line, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            let position = format!("{}, byte {offset}", file.name);
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if file.is_in_long_line {
                file.is_in_long_line = end.is_none() && !is_final;
            } else if text.len() > self.max_record_bytes {
                let shown = text.get(..RAW_BYTES_SHOWN).unwrap_or(text);
                out.bad_record_head(position, shown, too_long(self.max_record_bytes));
                file.is_in_long_line = end.is_none() && !is_final;
                n_lines += 1;
            } else {
                let message = RawMessage { position, key: None, value: text, timestamp: None };
                self.collector.decode(self.decoder.as_mut(), message, out)?;
                n_lines += 1;
            }
            offset += len as u64;
            rest = behind;
        }
        self.collector.flush(self.decoder.as_mut(), out)?;
        Ok(offset)
    }
}

fn describe(lost: &Lost) -> (String, String) {
    match lost {
        Lost::Removed { name, n_unread } => {
            (name.clone(), format!("the file was removed before its last {n_unread} bytes were read, or had a line end"))
        }
        Lost::Truncated { name, offset } => (
            format!("{name}, byte {offset}"),
            "the file was truncated, or replaced by another with its number on the disk, and no copy of it is there: what was written \
             behind this place is lost; it is read from its start"
                .to_owned(),
        ),
    }
}

impl<T: Data> SplitReader for TailReader<T> {
    type Record = T;
    type Split = TailSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
                self.has_waited = true;
            }
            if self.read(records_max, out)? {
                return Poll::Ready(Ok(InputStatus::MoreAvailable));
            }
            self.wait = Some(self.env.sleep(self.poll_interval));
        }
    }

    fn split(&self) -> TailSplit {
        self.split.clone()
    }
}
