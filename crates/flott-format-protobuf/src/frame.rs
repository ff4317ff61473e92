//! Where in its file the type of a message stands: behind the schema's id, as zigzag integers, how many indexes there are and they.

/// More than messages are in each other.
const INDEXES_MAX: usize = 100;

/// The indexes, and what is behind them. A single zero stands for the first message of the file.
pub(crate) fn decode_indexes(bytes: &[u8]) -> Result<(Vec<u32>, &[u8]), String> {
    let (n_indexes, mut rest) = decode_index(bytes)?;
    if n_indexes == 0 {
        return Ok((vec![0], rest));
    }
    if n_indexes as usize > INDEXES_MAX {
        return Err(format!("{n_indexes} indexes of messages in each other"));
    }
    let mut indexes = Vec::new();
    for _ in 0..n_indexes {
        let (idx, behind) = decode_index(rest)?;
        indexes.push(idx);
        rest = behind;
    }
    Ok((indexes, rest))
}

fn decode_index(bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    let mut rest = bytes;
    let zigzag = prost::encoding::decode_varint(&mut rest)
        .map_err(|_| "no index of a message behind the schema's id")?;
    let value = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    let idx = u32::try_from(value).map_err(|_| format!("{value} is no index of a message"))?;
    Ok((idx, rest))
}

/// The reverse of [`decode_indexes`].
pub(crate) fn encode_indexes(indexes: &[u32], out: &mut Vec<u8>) {
    if indexes == [0] {
        out.push(0);
        return;
    }
    prost::encoding::encode_varint(indexes.len() as u64 * 2, out);
    for idx in indexes {
        prost::encoding::encode_varint(u64::from(*idx) * 2, out);
    }
}
