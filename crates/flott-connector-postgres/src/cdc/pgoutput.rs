//! Messages of the plugin `pgoutput`, version 1 of its protocol.

use super::split::Lsn;
use crate::client::{Column, PgError, Reader};

/// What the log says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogMessage {
    /// A transaction, all of it, in the order of commits.
    Begin {
        commit: Lsn,
        committed_at_ms: i64,
        xid: u32,
    },
    Commit {
        end: Lsn,
    },
    /// What a table looks like from now on.
    Relation {
        oid: u32,
        relation: Relation,
    },
    Change {
        oid: u32,
        change: RawChange,
    },
    Truncate {
        oids: Vec<u32>,
    },
    /// What does not concern tables.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    /// A large value that the update has not touched: the log does not have it.
    Unchanged,
    Text(String),
}

pub(crate) type Tuple = Vec<Value>;

/// What the log has of a row before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Old {
    Nothing,
    /// Only the columns of its key are there.
    Key(Tuple),
    Full(Tuple),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RawChange {
    Insert(Tuple),
    Update(Old, Tuple),
    Delete(Old),
}

/// 2000-01-01, from which the server counts, in milliseconds since 1970.
const EPOCH_MS: i64 = 946_684_800_000;

pub(crate) fn read(bytes: &[u8]) -> Result<LogMessage, PgError> {
    let mut reader = Reader(bytes);
    Ok(match reader.u8()? {
        b'B' => {
            let commit = Lsn(reader.u64()?);
            let committed_at_ms = reader.u64()?.cast_signed() / 1000 + EPOCH_MS;
            LogMessage::Begin { commit, committed_at_ms, xid: reader.u32()? }
        }
        b'C' => {
            reader.bytes(9)?;
            LogMessage::Commit { end: Lsn(reader.u64()?) }
        }
        b'R' => relation(&mut reader)?,
        b'I' => {
            let oid = reader.u32()?;
            reader.u8()?;
            LogMessage::Change { oid, change: RawChange::Insert(tuple(&mut reader)?) }
        }
        b'U' => {
            let oid = reader.u32()?;
            let old = match reader.u8()? {
                b'N' => Old::Nothing,
                kind => {
                    let old = old(kind, &mut reader)?;
                    reader.u8()?;
                    old
                }
            };
            LogMessage::Change { oid, change: RawChange::Update(old, tuple(&mut reader)?) }
        }
        b'D' => {
            let oid = reader.u32()?;
            let kind = reader.u8()?;
            LogMessage::Change { oid, change: RawChange::Delete(old(kind, &mut reader)?) }
        }
        b'T' => {
            let n = reader.u32()?;
            reader.u8()?;
            LogMessage::Truncate { oids: (0..n).map(|_| reader.u32()).collect::<Result<_, _>>()? }
        }
        b'O' | b'Y' | b'M' => LogMessage::Other,
        tag => return Err(PgError::Protocol(format!("a message '{}' in the log", tag.escape_ascii()))),
    })
}

fn relation(reader: &mut Reader<'_>) -> Result<LogMessage, PgError> {
    let oid = reader.u32()?;
    let (schema, name) = (reader.text()?.to_owned(), reader.text()?.to_owned());
    reader.u8()?;
    let n = reader.u16()?;
    let mut columns = Vec::new();
    for _ in 0..n {
        reader.u8()?;
        let name = reader.text()?.to_owned();
        columns.push(Column { name, type_oid: reader.u32()? });
        reader.u32()?;
    }
    Ok(LogMessage::Relation { oid, relation: Relation { schema, name, columns } })
}

fn old(kind: u8, reader: &mut Reader<'_>) -> Result<Old, PgError> {
    match kind {
        b'K' => Ok(Old::Key(tuple(reader)?)),
        b'O' => Ok(Old::Full(tuple(reader)?)),
        kind => Err(PgError::Protocol(format!("an old row '{}' in the log", kind.escape_ascii()))),
    }
}

fn tuple(reader: &mut Reader<'_>) -> Result<Tuple, PgError> {
    let n = reader.u16()?;
    let value = |_| match reader.u8()? {
        b'n' => Ok(Value::Null),
        b'u' => Ok(Value::Unchanged),
        b't' => {
            let bytes = reader.cell()?.unwrap_or_default().to_vec();
            let text = String::from_utf8(bytes);
            text.map(Value::Text).map_err(|_| PgError::Protocol("a value that is not UTF-8".to_owned()))
        }
        kind => Err(PgError::Protocol(format!("a value '{}' in the log", kind.escape_ascii()))),
    };
    (0..n).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::{LogMessage, Old, RawChange, Value, read};

    fn update() -> Vec<u8> {
        let mut bytes = b"U\x00\x00\x00\x05O\x00\x02nt\x00\x00\x00\x01a".to_vec();
        bytes.extend(b"N\x00\x02ut\x00\x00\x00\x02bc");
        bytes
    }

    #[test]
    fn messages_are_read() {
        let text = |text: &str| Value::Text(text.to_owned());
        let old = Old::Full(vec![Value::Null, text("a")]);
        let change = RawChange::Update(old, vec![Value::Unchanged, text("bc")]);
        assert_eq!(read(&update()).unwrap(), LogMessage::Change { oid: 5, change });
    }

    #[test]
    fn messages_that_end_too_early_or_are_none_are_errors() {
        let whole = update();
        for len in 0..whole.len() {
            read(&whole[..len]).expect_err("it ends too early");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                // It may be another message, and it always returns.
                drop(read(&changed));
            }
        }
    }
}
