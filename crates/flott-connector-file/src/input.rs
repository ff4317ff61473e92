//! The bytes of a file behind a buffer in which a record is always in one piece.

use crate::compression::Compression;
use flott_api::format::DecodeInput;
use flott_env::{FileSystem, ReadSeek};
use flott_types::{Error, ErrorKind, Result};
use std::io::{self, Read, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the buffer holds unless a record is longer.
const BUFFER_BYTES: usize = 128 << 10;

enum Bytes {
    Plain(Box<dyn ReadSeek>),
    Compressed(Compression, Box<dyn Read + Send>),
}

/// What a call to fill the buffer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There is more data.
    More,
    /// The buffer is at its limit.
    Full,
    /// The file has ended; the data is its rest.
    End,
}

/// A file being read, decompressed, with a window on it that the decoders parse in place.
pub(crate) struct Input {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    bytes: Bytes,
    buffer: Vec<u8>,
    /// The window is `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Where in the decompressed file the window begins.
    offset: u64,
    at_end: bool,
    buffer_bytes_max: usize,
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    Error::user(format!("cannot {what} file '{}'", path.display())).with_source(error)
}

impl Input {
    /// Opens the file at its start. The window grows up to `buffer_bytes_max` when a record needs it.
    pub(crate) fn open(input: &DecodeInput, buffer_bytes_max: usize) -> Result<Self> {
        let path = input.path.clone();
        let mut file = input.fs.open(&path).map_err(|error| cannot("open", &path, error))?;
        let bytes = match Compression::from_path(&path) {
            Compression::None => Bytes::Plain(file),
            compression => {
                // A compressor writes a header even for no content: an empty archive has lost it, and more.
                let len = file.seek(SeekFrom::End(0)).and_then(|len| file.rewind().map(|()| len));
                if len.map_err(|error| cannot("read", &path, error))? == 0 {
                    return Err(truncated(compression, &path, 0));
                }
                let decompressed = compression.decompress(Box::new(file));
                Bytes::Compressed(compression, decompressed.map_err(|error| cannot("read", &path, error))?)
            }
        };
        Ok(Self {
            fs: Arc::clone(&input.fs),
            path,
            bytes,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
            at_end: false,
            buffer_bytes_max: buffer_bytes_max.max(1),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The window.
    #[expect(clippy::indexing_slicing, reason = "start <= end <= buffer.len() always")]
    pub(crate) fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// How many lines of a file that is not compressed end before byte `offset`; reads it again, and says nothing if that fails.
    pub(crate) fn count_lines_before(&self, offset: u64) -> Option<u64> {
        let mut file = self.fs.open(&self.path).ok()?.take(offset);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut n_lines = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return (file.limit() == 0).then_some(n_lines),
                Ok(n) => n_lines += memchr::memchr_iter(b'\n', buffer.get(..n)?).count() as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Where in the decompressed file the window begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves the beginning of the window.
    pub(crate) fn consume(&mut self, n_bytes: usize) {
        assert!(n_bytes <= self.end - self.start, "{n_bytes} consumed of {}", self.end - self.start);
        self.start += n_bytes;
        self.offset += n_bytes as u64;
    }

    /// Moves the end of the window.
    pub(crate) fn fill(&mut self) -> Result<Filled> {
        if self.at_end {
            return Ok(Filled::End);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > BUFFER_BYTES {
                // One long record does not keep its memory.
                self.buffer = Vec::new();
            }
        }
        if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            if self.buffer.len() >= self.buffer_bytes_max {
                return Ok(Filled::Full);
            }
            let len = (self.buffer.len() * 2).max(BUFFER_BYTES).min(self.buffer_bytes_max);
            self.buffer.resize(len, 0);
        }
        let n = self.read()?;
        self.end += n;
        self.at_end = n == 0;
        Ok(if self.at_end { Filled::End } else { Filled::More })
    }

    #[expect(clippy::indexing_slicing, reason = "end <= buffer.len() always")]
    fn read(&mut self) -> Result<usize> {
        let free = &mut self.buffer[self.end..];
        loop {
            let read = match &mut self.bytes {
                Bytes::Plain(file) => file.read(free),
                Bytes::Compressed(_, content) => content.read(free),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(error)),
                Ok(n) => return Ok(n),
            }
        }
    }

    fn read_error(&self, error: io::Error) -> Error {
        let offset = self.offset + (self.end - self.start) as u64;
        match self.bytes {
            Bytes::Plain(_) => cannot("read", &self.path, error),
            Bytes::Compressed(compression, _) if error.kind() == io::ErrorKind::UnexpectedEof => {
                truncated(compression, &self.path, offset).with_source(error)
            }
            Bytes::Compressed(compression, _) => Error::new(
                ErrorKind::Corruption,
                format!(
                    "file '{}' is no {} archive, or a damaged one; {offset} bytes of its content were read",
                    self.path.display(),
                    compression.name(),
                ),
            )
            .with_source(error),
        }
    }

    /// Moves the window to `offset`, which is not before it; false if the file is shorter.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<bool> {
        if let Bytes::Plain(file) = &mut self.bytes
            && offset > self.offset + (self.end - self.start) as u64
        {
            let len = file.seek(SeekFrom::End(0)).map_err(|error| cannot("read", &self.path, error))?;
            if len < offset {
                return Ok(false);
            }
            file.seek(SeekFrom::Start(offset)).map_err(|error| cannot("read", &self.path, error))?;
            (self.start, self.end, self.offset, self.at_end) = (0, 0, offset, false);
            return Ok(true);
        }
        loop {
            let missing = offset - self.offset;
            let n = self.data().len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            self.consume(n);
            if n as u64 == missing {
                return Ok(true);
            }
            if self.fill()? == Filled::End {
                return Ok(false);
            }
        }
    }

    /// Consumes up to and including the next newline, however far away; false if the file ends first.
    pub(crate) fn skip_line(&mut self) -> Result<bool> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', self.data()) {
                self.consume(at + 1);
                return Ok(true);
            }
            self.consume(self.data().len());
            if self.fill()? == Filled::End {
                return Ok(false);
            }
        }
    }

    /// Consumes the mark that some editors put before UTF-8 text.
    pub(crate) fn skip_byte_order_mark(&mut self) -> Result<()> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        while self.data().len() < MARK.len() && self.fill()? == Filled::More {}
        if self.data().starts_with(MARK) {
            self.consume(MARK.len());
        }
        Ok(())
    }
}

fn truncated(compression: Compression, path: &Path, offset: u64) -> Error {
    let message = format!(
        "{} archive '{}' is truncated: it ends in the middle, after {offset} bytes of its content",
        compression.name(),
        path.display(),
    );
    Error::new(ErrorKind::Corruption, message)
}
