//! A file of the engine's file system as the Parquet reader wants it.

use bytes::Bytes;
use flott_api::format::DecodeInput;
use flott_env::ReadSeek;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

/// Readers of one file take turns: each seeks before it reads.
#[derive(Clone)]
pub(crate) struct ParquetFile {
    file: Arc<Mutex<Box<dyn ReadSeek>>>,
    len: u64,
}

impl ParquetFile {
    pub(crate) fn open(input: &DecodeInput) -> io::Result<Self> {
        let mut file = input.fs.open(&input.path)?;
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Self { file: Arc::new(Mutex::new(file)), len })
    }
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for ParquetFile {
    type T = BufReader<ParquetFileReader>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(ParquetFileReader { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // A damaged index may ask for anything; do not make room for what cannot be there.
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            let message = format!("bytes {start}..+{length} lie beyond the end of the file at {}", self.len);
            return Err(ParquetError::EOF(message));
        }
        let mut bytes = vec![0; length];
        ParquetFileReader { file: self.clone(), at: start }.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

pub(crate) struct ParquetFileReader {
    file: ParquetFile,
    at: u64,
}

impl Read for ParquetFileReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.at))?;
        let n = file.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }
}
