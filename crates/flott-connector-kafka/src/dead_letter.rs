//! Bad records as rows.

use crate::offsets::TopicPartition;
use flott_api::BadRecord;
use serde::{Deserialize, Serialize};

/// A record that could not be read, for the side output of bad records: what is needed to find it, to understand it and to send it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The partition it is in.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; at most [`BadRecord::RAW_BYTES_MAX`].
    pub raw: Vec<u8>,
    /// Whether `raw` has only the first bytes of the value.
    pub is_truncated: bool,
    /// How many bytes the value has.
    pub original_len: u64,
    /// What was expected and what was found.
    pub error: String,
    /// When it was found, in milliseconds since the epoch.
    pub time: i64,
}

impl DeadLetter {
    /// The bad record of a [`KafkaSource`](crate::KafkaSource); `None` if it is of another source.
    pub fn from_bad_record(bad: BadRecord) -> Option<Self> {
        let (topic, partition) = bad.split.0.rsplit_once('-')?;
        let partition = TopicPartition::new(topic, partition.parse().ok()?);
        let offset = bad.position.strip_prefix("offset ")?.parse().ok()?;
        let BadRecord { key, raw, is_truncated, original_len, message: error, time, .. } = bad;
        let original_len = original_len.unwrap_or(raw.len() as u64);
        Some(Self { partition, offset, key, raw, is_truncated, original_len, error, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_types::SplitId;

    #[test]
    fn a_bad_record_says_where_it_is() {
        let bad = BadRecord {
            split: SplitId("clicks-eu-3".to_owned()),
            position: "offset 42".to_owned(),
            key: Some(vec![2]),
            raw: vec![1],
            is_truncated: true,
            original_len: Some(9),
            message: "expected a number".to_owned(),
            time: 7,
        };
        let letter = DeadLetter::from_bad_record(bad.clone()).unwrap();
        assert_eq!((letter.partition, letter.offset), (TopicPartition::new("clicks-eu", 3), 42));
        assert_eq!((letter.key, letter.is_truncated, letter.original_len), (Some(vec![2]), true, 9));
        let other = BadRecord { position: "line 3".to_owned(), ..bad };
        assert_eq!(DeadLetter::from_bad_record(other), None);
    }
}
