//! The requests that are asked, each in one version, and the outlines of their answers.
//!
//! Who decodes an answer takes memory for as many items as an array says it has before it looks for the first one, so that four bytes could ask
//! for all the memory there is. An answer is held against its outline before: then an array has the items that it says.

use kafka_protocol::messages::{
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::Request;

/// A request that is asked.
pub(super) trait Asked: Request {
    /// Brokers since Kafka 3.0 answer it.
    const VERSION: i16;
    /// What stands in the answer, behind its header.
    const ANSWER: &[Part];
}

/// What stands in an answer. Lengths are those of the protocol: `Compact…` of the versions that it calls flexible.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// So many bytes, whatever they are.
    Fixed(usize),
    /// A text, or none.
    String,
    CompactString,
    /// Bytes, or none.
    Bytes,
    Array(&'static [Part]),
    CompactArray(&'static [Part]),
    /// Fields that later versions may add.
    Tags,
}

use Part::{Array, Bytes, CompactArray, CompactString, Fixed, String, Tags};

const INT_16: Part = Fixed(2);
const INT_32: Part = Fixed(4);
const INT_64: Part = Fixed(8);

impl Asked for MetadataRequest {
    const VERSION: i16 = 9;
    const ANSWER: &[Part] = &[
        INT_32,
        CompactArray(&[INT_32, CompactString, INT_32, CompactString, Tags]),
        CompactString,
        INT_32,
        CompactArray(&[INT_16, CompactString, Fixed(1), CompactArray(PARTITION), INT_32, Tags]),
        INT_32,
        Tags,
    ];
}

const PARTITION: &[Part] = &[
    INT_16,
    INT_32,
    INT_32,
    INT_32,
    CompactArray(&[INT_32]),
    CompactArray(&[INT_32]),
    CompactArray(&[INT_32]),
    Tags,
];

impl Asked for FindCoordinatorRequest {
    const VERSION: i16 = 3;
    const ANSWER: &[Part] = &[INT_32, INT_16, CompactString, INT_32, CompactString, INT_32, Tags];
}

impl Asked for ListTransactionsRequest {
    const VERSION: i16 = 0;
    const ANSWER: &[Part] = &[
        INT_32,
        INT_16,
        CompactArray(&[CompactString]),
        CompactArray(&[CompactString, INT_64, CompactString, Tags]),
        Tags,
    ];
}

impl Asked for DescribeTransactionsRequest {
    const VERSION: i16 = 0;
    const ANSWER: &[Part] = &[INT_32, CompactArray(TRANSACTION), Tags];
}

const TRANSACTION: &[Part] = &[
    INT_16,
    CompactString,
    CompactString,
    INT_32,
    INT_64,
    INT_64,
    INT_16,
    CompactArray(&[CompactString, CompactArray(&[INT_32]), Tags]),
    Tags,
];

impl Asked for EndTxnRequest {
    const VERSION: i16 = 3;
    const ANSWER: &[Part] = &[INT_32, INT_16, Tags];
}

impl Asked for InitProducerIdRequest {
    const VERSION: i16 = 4;
    const ANSWER: &[Part] = &[INT_32, INT_16, INT_64, INT_16, Tags];
}

impl Asked for SaslHandshakeRequest {
    const VERSION: i16 = 1;
    const ANSWER: &[Part] = &[INT_16, Array(&[String])];
}

impl Asked for SaslAuthenticateRequest {
    const VERSION: i16 = 0;
    const ANSWER: &[Part] = &[INT_16, String, Bytes];
}

/// Whether all of `bytes` are what the outline says.
pub(super) fn fits(outline: &[Part], mut bytes: &[u8]) -> bool {
    skip_all(outline, &mut bytes).is_some() && bytes.is_empty()
}

fn skip_all(outline: &[Part], bytes: &mut &[u8]) -> Option<()> {
    outline.iter().try_for_each(|part| match part {
        Fixed(n) => take(bytes, *n).map(drop),
        String => {
            let len = i16::from_be_bytes(*take_chunk(bytes)?);
            skip_nullable(bytes, len.into())
        }
        Bytes => {
            let len = i32::from_be_bytes(*take_chunk(bytes)?);
            skip_nullable(bytes, len)
        }
        CompactString => skip_compact(bytes),
        Array(item) => {
            let n_items = u32::from_be_bytes(*take_chunk(bytes)?);
            (0..n_items).try_for_each(|_| skip_all(item, bytes))
        }
        CompactArray(item) => {
            let n_items = take_varint(bytes)?.checked_sub(1)?;
            (0..n_items).try_for_each(|_| skip_all(item, bytes))
        }
        Tags => {
            let n_tags = take_varint(bytes)?;
            (0..n_tags).try_for_each(|_| {
                take_varint(bytes)?;
                let len = take_varint(bytes)?;
                take(bytes, len as usize).map(drop)
            })
        }
    })
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(taken)
}

fn take_chunk<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let [byte] = *take_chunk(bytes)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Skips so many bytes; `-1` is for none.
fn skip_nullable(bytes: &mut &[u8], len: i32) -> Option<()> {
    if len == -1 {
        return Some(());
    }
    take(bytes, usize::try_from(len).ok()?).map(drop)
}

/// Skips as many bytes as a number less one says; nought is for none.
fn skip_compact(bytes: &mut &[u8]) -> Option<()> {
    match take_varint(bytes)?.checked_sub(1) {
        None => Some(()),
        Some(len) => take(bytes, len as usize).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to a `DescribeTransactionsRequest` about one transaction with one topic of two partitions.
    const ANSWER: &[u8] =
        b"\0\0\0\0\x02\0\0\x03id\x08Ongoing\0\0\0\x3c\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\x03\
        \x02\x02t\x03\0\0\0\0\0\0\0\x01\0\0\0";

    #[test]
    fn an_answer_fits_whole_and_no_part_of_it_does() {
        let outline = DescribeTransactionsRequest::ANSWER;
        assert!(fits(outline, ANSWER));
        for len in 0..ANSWER.len() {
            assert!(!fits(outline, &ANSWER[..len]), "{len} bytes");
        }
        assert!(!fits(outline, &[ANSWER, &[0]].concat()));
    }

    #[test]
    fn an_array_without_its_items_does_not_fit() {
        assert!(!fits(DescribeTransactionsRequest::ANSWER, b"\0\0\0\0\xff\xff\xff\xff\x0f\0"));
        assert!(!fits(SaslHandshakeRequest::ANSWER, b"\0\0\x7f\xff\xff\xff\0\x01a"));
        // None, where the protocol has no such.
        assert!(!fits(SaslHandshakeRequest::ANSWER, b"\0\0\xff\xff\xff\xff"));
        assert!(!fits(DescribeTransactionsRequest::ANSWER, b"\0\0\0\0\0\0"));
    }
}
