//! Frames around everything that is stored: what it is, which version, how long, and a checksum.
//!
//! ```text
//! magic (8 bytes) | version (u32) | length of the body (u64) | body | XXH3-64 of all before (u64)
//! ```
//!
//! Integers are little-endian. The checksum covers the header, so that no bit of a file can flip unseen. Decoding is total:
//! every input gives a value or an error with file and position, and nothing is allocated by what a length field says before the
//! bytes were seen to be there.

use flott_types::{Error, ErrorKind, Result};
use twox_hash::XxHash3_64;

/// Where the body begins.
pub(crate) const HEADER_LEN: usize = 8 + 4 + 8;
const CHECKSUM_LEN: usize = 8;

/// The bytes of a file beyond those of its body.
#[cfg(test)]
pub(crate) const FRAME_LEN: usize = HEADER_LEN + CHECKSUM_LEN;

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// The first bytes of the file.
    pub(crate) magic: [u8; 8],
    /// The version that is written; older ones are read as far as the body's decoder knows them.
    pub(crate) version: u32,
}

/// The checksum of a whole file or of a part of it.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// An error that names file and position.
pub(crate) fn corrupt(file: &str, position: usize, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corruption, format!("file '{file}' is damaged at byte {position}: {what}"))
}

/// Puts a body, written by `write` and of about `len_hint` bytes, into its frame.
pub(crate) fn frame(format: Format, len_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len_hint + HEADER_LEN + CHECKSUM_LEN);
    bytes.extend(format.magic);
    bytes.extend(format.version.to_le_bytes());
    bytes.extend([0; 8]);
    write(&mut bytes);
    let len = (bytes.len() - HEADER_LEN) as u64;
    if let Some(field) = bytes.get_mut(12..HEADER_LEN) {
        field.copy_from_slice(&len.to_le_bytes());
    }
    bytes.extend(checksum(&bytes).to_le_bytes());
    bytes
}

/// Takes the body out of its frame, with everything checked. `file` is for the message.
pub(crate) fn unframe<'a>(format: Format, file: &str, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let mut reader = Reader::new(file, bytes);
    let magic = reader.take(8)?;
    if magic != format.magic {
        let expected = String::from_utf8_lossy(&format.magic).into_owned();
        return Err(corrupt(file, 0, format_args!("does not begin with '{expected}'")));
    }
    let version = reader.u32()?;
    let len = reader.u64()?;
    let rest = bytes.len() - HEADER_LEN;
    if len.checked_add(CHECKSUM_LEN as u64) != Some(rest as u64) {
        let what = format_args!("says that {len} bytes and a checksum follow, and there are {rest} bytes");
        return Err(corrupt(file, 12, what));
    }
    let body = reader.take(rest - CHECKSUM_LEN)?;
    let position = reader.at;
    let stored = reader.u64()?;
    let computed = checksum(bytes.get(..position).unwrap_or_default());
    if stored != computed {
        let what = format_args!("checksum {stored:016x} is stored, the content has {computed:016x}");
        return Err(corrupt(file, position, what));
    }
    // Not damage: the checksum is right.
    if version != format.version {
        return Err(Error::user(format!(
            "file '{file}' has format version {version}, this build reads version {}",
            format.version
        )));
    }
    Ok(body)
}

/// Appends a length and bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a number of entries.
pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend((len as u64).to_le_bytes());
}

/// Reads what `put_…` wrote, never beyond the end.
#[derive(Debug)]
pub(crate) struct Reader<'f, 'b> {
    file: &'f str,
    bytes: &'b [u8],
    at: usize,
    /// Where `bytes` begin in the file.
    base: usize,
}

impl<'f, 'b> Reader<'f, 'b> {
    pub(crate) fn new(file: &'f str, bytes: &'b [u8]) -> Self {
        Self::at(file, 0, bytes)
    }

    /// For bytes that begin at `base` in the file.
    pub(crate) fn at(file: &'f str, base: usize, bytes: &'b [u8]) -> Self {
        Self { file, bytes, at: 0, base }
    }

    /// An error at the present position.
    pub(crate) fn error(&self, what: impl std::fmt::Display) -> Error {
        self.error_at(self.at, what)
    }

    fn error_at(&self, at: usize, what: impl std::fmt::Display) -> Error {
        corrupt(self.file, self.base + at, what)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'b [u8]> {
        let taken = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            let left = self.bytes.len() - self.at;
            return Err(self.error(format_args!("{len} bytes are expected, {left} are left")));
        };
        self.at += len;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.take(1)?.first().copied().ok_or_else(|| self.error("no byte"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| self.error("no u32"))?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| self.error("no u64"))?))
    }

    /// A number of entries, each of which takes `entry_len_min` bytes or more.
    pub(crate) fn len(&mut self, entry_len_min: usize) -> Result<usize> {
        let start = self.at;
        let len = self.u64()?;
        let left = (self.bytes.len() - self.at) as u64;
        match len.checked_mul(entry_len_min as u64) {
            Some(needed) if needed <= left => Ok(len as usize),
            _ => {
                let what = format_args!("{len} entries are announced, {left} bytes are left");
                Err(self.error_at(start, what))
            }
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        let len = self.len(1)?;
        Ok(self.take(len)?.to_vec())
    }

    pub(crate) fn string(&mut self) -> Result<String> {
        let start = self.at;
        let bytes = self.bytes()?;
        String::from_utf8(bytes).map_err(|_| self.error_at(start, "text is not UTF-8"))
    }

    /// There is nothing behind the last entry.
    pub(crate) fn finish(self) -> Result<()> {
        let left = self.bytes.len() - self.at;
        if left == 0 { Ok(()) } else { Err(self.error(format_args!("{left} bytes too many"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { magic: *b"FLOTTTST", version: 3 };

    #[test]
    fn a_frame_gives_back_its_body() {
        let bytes = frame(FORMAT, 0, |out| out.extend(b"body"));
        assert_eq!(bytes.len(), 4 + FRAME_LEN);
        assert_eq!(unframe(FORMAT, "f", &bytes).expect("it is whole"), b"body");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_position() {
        let whole = frame(FORMAT, 0, |out| out.extend(b"body"));
        let mut other_length = whole.clone();
        other_length[12] = 200;
        let mut other_body = whole.clone();
        other_body[21] ^= 1;
        let mut longer = whole.clone();
        longer.push(0);
        for (bytes, expected) in [
            (&b"FLOT"[..], "file 'f' is damaged at byte 0: 8 bytes are expected, 4 are left"),
            (b"NOTFLOTT\0\0\0\0", "file 'f' is damaged at byte 0: does not begin with 'FLOTTTST'"),
            (
                &other_length,
                "file 'f' is damaged at byte 12: says that 200 bytes and a checksum follow, and there are 12 bytes",
            ),
            (
                &longer,
                "file 'f' is damaged at byte 12: says that 4 bytes and a checksum follow, and there are 13 bytes",
            ),
        ] {
            let error = unframe(FORMAT, "f", bytes).expect_err("damaged");
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Corruption, expected));
        }
        let error = unframe(FORMAT, "f", &other_body).expect_err("damaged");
        assert!(error.to_string().starts_with("file 'f' is damaged at byte 24: checksum"), "{error}");
        let error = unframe(Format { version: 4, ..FORMAT }, "f", &whole).expect_err("another version");
        assert_eq!(error.kind(), ErrorKind::UserError);
    }

    #[test]
    fn lengths_are_compared_with_what_is_there_before_anything_is_allocated() {
        for len in [6_u64, u64::MAX, u64::MAX / 2] {
            let mut bytes = len.to_le_bytes().to_vec();
            bytes.extend(b"short");
            assert!(Reader::new("f", &bytes).bytes().is_err());
            assert!(Reader::new("f", &bytes).len(8).is_err());
        }
    }
}
