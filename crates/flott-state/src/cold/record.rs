//! How a record lies in a block, and a block in a file.
//!
//! A record is its order (8 bytes, little endian), the lengths of key and value as varints, key and value. The length of
//! a value is written plus one, and 0 is a tombstone. A block is some records and the XXH3-64 of them.

use twox_hash::XxHash3_64;

/// A key and its newest value, or that it was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// What records are sorted by, before the bytes of the key.
    pub(crate) order: u64,
    pub(crate) key: &'a [u8],
    /// `None` is a tombstone: the key was removed.
    pub(crate) value: Option<&'a [u8]>,
}

/// The bytes of the checksum at the end of a block.
pub(crate) const CHECKSUM_BYTES: usize = 8;

fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

#[inline]
fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let mut length = usize::from(first & 0x7f);
    let (mut byte, mut shift) = (first, 7);
    while byte >= 0x80 {
        let (&next, after) = rest.split_first()?;
        if shift > 56 {
            return None;
        }
        length |= usize::from(next & 0x7f) << shift;
        (byte, rest, shift) = (next, after, shift + 7);
    }
    Some((length, rest))
}

impl<'a> Record<'a> {
    /// Appends the record to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.order.to_le_bytes());
        write_length(self.key.len(), out);
        write_length(self.value.map_or(0, |value| value.len() + 1), out);
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value.unwrap_or_default());
    }

    /// The record at the start of `bytes` and what follows it; `None` if there is none.
    #[inline]
    pub(crate) fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (order, rest) = bytes.split_first_chunk()?;
        let (key_len, rest) = read_length(rest)?;
        let (value_len, rest) = read_length(rest)?;
        let (key, rest) = rest.split_at_checked(key_len)?;
        let (value, rest) = rest.split_at_checked(value_len.saturating_sub(1))?;
        let value = (value_len > 0).then_some(value);
        Some((Self { order: u64::from_le_bytes(*order), key, value }, rest))
    }
}

/// Ends the block that began at `start` of `bytes`.
pub(crate) fn seal_block(bytes: &mut Vec<u8>, start: usize) {
    let checksum = XxHash3_64::oneshot(bytes.get(start..).unwrap_or_default());
    bytes.extend_from_slice(&checksum.to_le_bytes());
}

/// The records of a sealed block; `None` if they are not what was sealed.
pub(crate) fn open_block(block: &[u8]) -> Option<&[u8]> {
    let (records, checksum) = block.split_last_chunk::<CHECKSUM_BYTES>()?;
    (XxHash3_64::oneshot(records) == u64::from_le_bytes(*checksum)).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let long = vec![7; 300];
        for (key, value) in
            [(&b"k"[..], Some(&b"v"[..])), (b"", Some(b"")), (b"gone", None), (&long, Some(&long))]
        {
            let record = Record { order: 42, key, value };
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            for len in 0..bytes.len() {
                assert_eq!(Record::read(&bytes[..len]), None, "cut off at {len}");
            }
            bytes.push(9);
            assert_eq!(Record::read(&bytes), Some((record, &[9][..])));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_block_is_seen() {
        let mut block = b"records".to_vec();
        seal_block(&mut block, 0);
        assert_eq!(open_block(&block), Some(&b"records"[..]));
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_block(&damaged), None);
        }
        assert_eq!(open_block(&[]), None);
    }
}
