//! From where and until when a source is read.

use crate::source::SourceSplit;
use flott_types::{Error, Result, Timestamp};
use std::time::Duration;

/// Where a source starts that does not go on from a snapshot. In a job that does, its positions are those of the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartingPosition {
    /// At the beginning of all there is.
    #[default]
    Earliest,
    /// At a point in event time: records with an earlier timestamp are left out, one by one, wherever they stand. The timestamp is that of
    /// the watermark strategy. A source with an index by time need not read what it knows to be earlier.
    Timestamp(Timestamp),
    /// At the positions of these splits, which are all that is read: each is a split as JSON, as `flott savepoint positions` prints them.
    Positions(Vec<String>),
}

impl StartingPosition {
    /// The positions of these splits.
    ///
    /// # Errors
    /// If a split cannot be written as JSON.
    pub fn of_splits<S: SourceSplit>(splits: &[S]) -> Result<Self> {
        splits.iter().map(split_to_json).collect::<Result<_>>().map(Self::Positions)
    }

    /// The positions of splits in a JSON array.
    ///
    /// # Errors
    /// If `text` is something else.
    pub fn of_json(text: &str) -> Result<Self> {
        let splits: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|error| {
            Error::user("the positions to start at are no JSON array of splits").with_source(error)
        })?;
        Ok(Self::Positions(splits.iter().map(ToString::to_string).collect()))
    }

    /// The splits to read, if they were given one by one.
    ///
    /// # Errors
    /// If a position is not one of a split of this source.
    pub fn splits<S: SourceSplit>(&self) -> Result<Option<Vec<S>>> {
        let Self::Positions(positions) = self else { return Ok(None) };
        let splits = positions.iter().map(|position| {
            serde_json::from_str(position).map_err(|error| {
                let message = format!("'{position}' is no position of a split of this source");
                Error::user(message).with_source(error)
            })
        });
        let splits = splits.collect::<Result<Vec<S>>>()?;
        let mut ids: Vec<_> = splits.iter().map(SourceSplit::split_id).collect();
        ids.sort();
        match ids.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
            Some(id) => Err(Error::user(format!("split {id} has two positions to start at"))),
            None => Ok(Some(splits)),
        }
    }
}

/// A split with its position as JSON, for people and for [`StartingPosition::Positions`].
///
/// # Errors
/// If the split has something that JSON cannot say, such as a map by numbers.
pub fn split_to_json<S: SourceSplit>(split: &S) -> Result<String> {
    let message = || format!("cannot write the position of split {} as JSON", split.split_id());
    serde_json::to_string(split).map_err(|error| Error::user(message()).with_source(error))
}

/// Until when a source is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// To its own end, if it has one.
    #[default]
    End,
    /// Until a point in event time. Records with this timestamp or a later one are left out, one by one; a split ends when its watermark
    /// shows that no earlier record follows. So a window that ends at this time or before has the result that it would have had if the
    /// source had gone on.
    Timestamp(Timestamp),
}

/// The part of a source that a job reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSpan {
    /// Where it starts.
    pub start: StartingPosition,
    /// Where it ends.
    pub until: Until,
    /// How far the watermark goes beyond the end before a split ends, so that late records are not cut off for which windows still wait.
    pub allowed_lateness: Duration,
}

impl SourceSpan {
    /// All of the source.
    pub fn is_everything(&self) -> bool {
        self.start == StartingPosition::Earliest && self.until == Until::End
    }

    /// The least timestamp that belongs to it.
    pub fn start_ms(&self) -> Option<Timestamp> {
        match self.start {
            StartingPosition::Timestamp(from) => Some(from),
            StartingPosition::Earliest | StartingPosition::Positions(_) => None,
        }
    }

    /// The least timestamp behind it.
    pub fn until_ms(&self) -> Option<Timestamp> {
        match self.until {
            Until::Timestamp(until) => Some(until),
            Until::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::IteratorSplit;

    #[test]
    fn positions_of_splits_are_json_and_back() {
        let text = r#"{"next":7}"#.to_owned();
        let start = StartingPosition::Positions(vec![text.clone()]);
        let splits = start.splits::<IteratorSplit>().unwrap().unwrap();
        assert_eq!(StartingPosition::of_splits(&splits).unwrap(), start);
        assert_eq!(StartingPosition::Earliest.splits::<IteratorSplit>().unwrap(), None);
        for (positions, expected) in [
            (vec![r#"{"previous":7}"#.to_owned()], "is no position of a split of this source"),
            (vec![text.clone(), text], "split iterator has two positions"),
        ] {
            let error = StartingPosition::Positions(positions).splits::<IteratorSplit>().unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
