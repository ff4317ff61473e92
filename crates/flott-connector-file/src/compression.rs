//! Compressed files: told by their ending when read, chosen when written.

use flott_env::FileWrite;
use std::io::{self, Read, Write};
use std::path::Path;

/// How a file is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, `.gz`.
    Gzip,
    /// Zstandard, `.zst`.
    Zstd,
}

impl Compression {
    /// What the ending of a file name says.
    pub fn from_path(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz" | "gzip") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            Some(_) | None => Self::None,
        }
    }

    /// What it appends to a file name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// For messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The decompressed content of `file`. An archive that ends too early is an `UnexpectedEof`.
    pub(crate) fn decompress(self, file: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::None => file,
            // Several members one after the other are one file, as gunzip reads it.
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
        })
    }
}

/// A file being written, counting the bytes that reach it.
pub(crate) struct CountedFile {
    file: Box<dyn FileWrite>,
    n_bytes: u64,
}

impl Write for CountedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.n_bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file being written, compressed on the way.
pub(crate) enum CompressedFile {
    Plain(CountedFile),
    Gzip(flate2::write::GzEncoder<CountedFile>),
    Zstd(zstd::stream::write::Encoder<'static, CountedFile>),
}

impl CompressedFile {
    pub(crate) fn new(file: Box<dyn FileWrite>, compression: Compression) -> io::Result<Self> {
        let file = CountedFile { file, n_bytes: 0 };
        Ok(match compression {
            Compression::None => Self::Plain(file),
            Compression::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::default()))
            }
            Compression::Zstd => {
                Self::Zstd(zstd::stream::write::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?)
            }
        })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(file) => file.write_all(bytes),
            Self::Zstd(file) => file.write_all(bytes),
        }
    }

    /// Bytes in the file so far; what the compressor still holds is not among them.
    pub(crate) fn n_bytes(&self) -> u64 {
        match self {
            Self::Plain(file) => file.n_bytes,
            Self::Gzip(file) => file.get_ref().n_bytes,
            Self::Zstd(file) => file.get_ref().n_bytes,
        }
    }

    /// Ends the archive and makes the file's content survive a power failure; returns its length.
    pub(crate) fn finish(self) -> io::Result<u64> {
        let mut file = match self {
            Self::Plain(file) => file,
            Self::Gzip(file) => file.finish()?,
            Self::Zstd(file) => file.finish()?,
        };
        file.file.sync()?;
        Ok(file.n_bytes)
    }
}
