//! Messages of protocol 3.0: frames, and reading of untrusted bytes.

use super::PgError;
use std::fmt;

/// A message longer than this is no message: a row of the server is at most a gigabyte.
const BODY_BYTES_MAX: usize = 1 << 30;

/// A message of the server.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

/// How long the first message of `bytes` is, if its head has arrived.
pub(crate) fn frame_len(bytes: &[u8]) -> Result<Option<usize>, PgError> {
    let [_, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(4..=BODY_BYTES_MAX).contains(&len) {
        return Err(PgError::Protocol(format!("a message of {len} bytes")));
    }
    Ok(Some(len + 1))
}

/// Appends a message: its tag, its length and what `body` writes.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    put_untagged(out, body);
}

/// The first message of a connection has no tag.
pub(crate) fn put_untagged(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    body(out);
    let len = (out.len() - start) as u32;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

/// A text that ends with a zero.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

/// Reads what the server sent; what is missing is an error.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], PgError> {
        let Some((taken, rest)) = self.0.split_at_checked(n) else {
            return Err(PgError::Protocol("a message that ends too early".to_owned()));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PgError> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| PgError::Protocol("a message that ends too early".to_owned()))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, PgError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, PgError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, PgError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, PgError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bytes with their length before them; `None` for `NULL`.
    pub(crate) fn cell(&mut self) -> Result<Option<&'a [u8]>, PgError> {
        match i32::from_be_bytes(self.array()?) {
            -1 => Ok(None),
            n => {
                let n = usize::try_from(n).map_err(|_| PgError::Protocol(format!("a value of {n} bytes")))?;
                self.bytes(n).map(Some)
            }
        }
    }

    /// A text that ends with a zero.
    pub(crate) fn text(&mut self) -> Result<&'a str, PgError> {
        let Some(len) = self.0.iter().position(|byte| *byte == 0) else {
            return Err(PgError::Protocol("a text without an end".to_owned()));
        };
        let text = self.bytes(len)?;
        self.bytes(1)?;
        std::str::from_utf8(text).map_err(|_| PgError::Protocol("a text that is not UTF-8".to_owned()))
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The number of its type in the server's catalog.
    pub(crate) type_oid: u32,
}

pub(crate) fn columns(body: &[u8]) -> Result<Vec<Column>, PgError> {
    let mut reader = Reader(body);
    let n = reader.u16()?;
    (0..n)
        .map(|_| {
            let name = reader.text()?.to_owned();
            reader.bytes(6)?;
            let type_oid = reader.u32()?;
            reader.bytes(8)?;
            Ok(Column { name, type_oid })
        })
        .collect()
}

/// The values of a row, as text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Row(Vec<Option<String>>);

impl Row {
    pub(crate) fn new(cells: Vec<Option<String>>) -> Self {
        Self(cells)
    }

    pub(crate) fn read(body: &[u8]) -> Result<Self, PgError> {
        let mut reader = Reader(body);
        let n = reader.u16()?;
        let mut cell = || {
            let bytes = reader.cell()?;
            let text = bytes.map(|bytes| String::from_utf8(bytes.to_vec())).transpose();
            text.map_err(|_| PgError::Protocol("a value that is not UTF-8".to_owned()))
        };
        (0..n).map(|_| cell()).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn cells(&self) -> &[Option<String>] {
        &self.0
    }

    pub(crate) fn into_cells(self) -> Vec<Option<String>> {
        self.0
    }

    /// The value of a column; `None` also for `NULL`.
    pub(crate) fn get(&self, idx: usize) -> Option<&str> {
        self.0.get(idx)?.as_deref()
    }

    /// A value that is there and has this type, else the server is not what it says.
    pub(crate) fn parse<T: std::str::FromStr>(&self, idx: usize) -> Result<T, PgError> {
        let text = self.get(idx).unwrap_or("NULL");
        text.parse().map_err(|_| PgError::Protocol(format!("'{text}' in column {idx} of an answer")))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
