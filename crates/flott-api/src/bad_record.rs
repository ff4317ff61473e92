//! Records that a source cannot read or a sink cannot write.

use crate::collector::OutputTag;
use crate::{BoxError, UserResult};
use flott_env::Env;
use flott_types::{Error, SplitId, Timestamp};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A record that could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    /// Of a source, the split it is in. Of a sink, where it should have gone: the topic, the table, the directory.
    pub split: SplitId,
    /// Of a source, where in the split: line, row, offset. Of a sink, which sink that is: its uid and subtask.
    pub position: String,
    /// The key that the record has beside its bytes: that of a message of a broker. Of a sink, the one that it was to be written with.
    pub key: Option<Vec<u8>>,
    /// Of a source, the bytes, as far as they are known. Of a sink, the record as JSON; one that JSON cannot say (a map whose keys are structs)
    /// as the engine keeps it in state. At most [`BadRecord::RAW_BYTES_MAX`].
    pub raw: Vec<u8>,
    /// Whether `raw` is only the beginning, behind which bytes may be missing.
    pub is_truncated: bool,
    /// How many bytes there were; `None` if nobody has counted them, because the rest of a line that is too long was passed over.
    pub original_len: Option<u64>,
    /// What was expected and what was found.
    pub message: String,
    /// When it was found, in milliseconds since the epoch: another time after a restart.
    pub time: Timestamp,
}

impl BadRecord {
    /// How much of a record is kept: more than Kafka takes by default, so that a dead letter can be sent again.
    pub const RAW_BYTES_MAX: usize = 1 << 20;

    pub(crate) fn new(
        split: SplitId,
        position: String,
        raw: &[u8],
        message: String,
        time: Timestamp,
    ) -> Self {
        let kept = raw.get(..Self::RAW_BYTES_MAX).unwrap_or(raw).to_vec();
        let (is_truncated, original_len) = (kept.len() < raw.len(), Some(raw.len() as u64));
        Self { split, position, key: None, raw: kept, is_truncated, original_len, message, time }
    }

    /// The error of a job that does not tolerate bad records.
    pub fn to_error(&self) -> Error {
        Error::user(format!(
            "bad record in {} at {}: {}; to go on without such records set on_error to skip or side output",
            self.split, self.position, self.message
        ))
    }
}

/// What happens to bad records; all of them are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The job fails and names the record.
    #[default]
    Fail,
    /// The record is left out.
    Skip,
    /// The record goes to the side output of the source or sink for bad records.
    SideOutput,
}

/// The side output of a source or sink for bad records.
pub fn bad_records_tag() -> OutputTag<BadRecord> {
    OutputTag::new("bad-records")
}

/// Where the writer of a sink puts records that its format or its destination cannot take, whatever is tried: the writer and the operator that
/// calls it share it.
///
/// A record that is rejected is gone for the writer: it goes on with the next. A record may be rejected in every call of
/// [`SinkWriter`](crate::SinkWriter) that can fail, also long after it came in, but at the latest before the barrier behind it lets a checkpoint
/// count it as written, and after [`SinkWriter::finish`](crate::SinkWriter::finish) no more. So it is in the same checkpoint as its dead letter.
///
/// Only what is the record's own fault is rejected, so that another try would find the same. An error of anything else (a broker is away, a disk
/// is full) is returned, and fails the job.
#[derive(Clone)]
pub struct BadRecords {
    env: Env,
    on_error: OnError,
    /// Which sink it is, for people.
    sink: String,
    to_bytes: fn(&dyn Any) -> Vec<u8>,
    rejected: Arc<Mutex<Rejected>>,
}

impl fmt::Debug for BadRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BadRecords").field("on_error", &self.on_error).finish_non_exhaustive()
    }
}

/// What a writer has rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many records.
    pub n_records: u64,
    /// The records, in the order in which they were rejected, with [`OnError::SideOutput`].
    pub dead_letters: Vec<BadRecord>,
}

impl BadRecords {
    /// For the writer of `sink` (a name for people), to whom records of type `T` come.
    pub fn new<T: Serialize + 'static>(env: Env, sink: String, on_error: OnError) -> Self {
        Self { env, on_error, sink, to_bytes: to_bytes::<T>, rejected: Arc::default() }
    }

    /// Whether a bad record leaves the job running. A writer that has to keep something to go on after one need not do so otherwise.
    pub fn are_tolerated(&self) -> bool {
        self.on_error != OnError::Fail
    }

    /// Rejects `record`, one of those that the writer was given, which cannot go to `destination` because of `error`.
    ///
    /// # Errors
    /// With [`OnError::Fail`], which is the default: the writer returns that.
    pub fn reject<T: 'static>(
        &self,
        destination: impl fmt::Display,
        record: &T,
        error: impl Into<BoxError>,
    ) -> UserResult {
        self.reject_message(destination, None, record, error)
    }

    /// As [`BadRecords::reject`], of a record that was to be written with this key.
    ///
    /// # Errors
    /// As [`BadRecords::reject`].
    pub fn reject_message<T: 'static>(
        &self,
        destination: impl fmt::Display,
        key: Option<&[u8]>,
        record: &T,
        error: impl Into<BoxError>,
    ) -> UserResult {
        let error = error.into();
        if self.on_error == OnError::Fail {
            let problem = report(error.as_ref());
            let remedy = "to go on without such records set on_error of the sink to skip or side output";
            return Err(format!("bad record for {destination}: {problem}; {remedy}").into());
        }
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.n_records += 1;
        if self.on_error == OnError::SideOutput {
            let (split, raw) = (SplitId(destination.to_string()), (self.to_bytes)(record));
            let (sink, now) = (self.sink.clone(), self.env.processing_time());
            let bad = BadRecord::new(split, sink, &raw, report(error.as_ref()), now);
            rejected.dead_letters.push(BadRecord { key: key.map(<[u8]>::to_vec), ..bad });
        }
        Ok(())
    }

    /// What was rejected since the last call, for the engine and for tests of writers.
    pub fn take(&self) -> Rejected {
        std::mem::take(&mut *self.rejected.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The error with its causes.
fn report(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A writer that is given other records than the sink, because it is part of another one, has its dead letters without them.
fn to_bytes<T: Serialize + 'static>(record: &dyn Any) -> Vec<u8> {
    let Some(record) = record.downcast_ref::<T>() else { return Vec::new() };
    let bytes = serde_json::to_vec(record).or_else(|_| flott_state::encode("a bad record", record));
    bytes.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_env::sim::Simulation;
    use std::collections::BTreeMap;

    fn bad_records<T: Serialize + 'static>(on_error: OnError) -> BadRecords {
        BadRecords::new::<T>(Simulation::new(1).env(), "sink 'out' subtask 1/2".to_owned(), on_error)
    }

    #[test]
    fn a_rejected_record_fails_the_writer_is_counted_or_becomes_a_dead_letter() {
        let bad = bad_records::<u8>(OnError::Fail);
        let error = bad.reject("topic 'a'", &7_u8, "it is odd").unwrap_err().to_string();
        assert!(error.starts_with("bad record for topic 'a': it is odd; to go on"), "{error}");
        assert_eq!(bad.take(), Rejected::default());

        let bad = bad_records::<u8>(OnError::Skip);
        bad.reject("topic 'a'", &7_u8, "it is odd").unwrap();
        assert_eq!(bad.take(), Rejected { n_records: 1, dead_letters: Vec::new() });

        let bad = bad_records::<u8>(OnError::SideOutput);
        bad.reject("topic 'a'", &7_u8, Error::user("it is odd").with_source(Error::user("really"))).unwrap();
        let Rejected { n_records: 1, dead_letters } = bad.take() else { panic!("not counted") };
        let [letter] = dead_letters.as_slice() else { panic!("{dead_letters:?}") };
        let BadRecord { split, position, raw, message, .. } = letter;
        assert_eq!((split.0.as_str(), position.as_str()), ("topic 'a'", "sink 'out' subtask 1/2"));
        assert_eq!((raw.as_slice(), message.as_str()), (b"7".as_slice(), "it is odd: really"));
    }

    #[test]
    fn the_bytes_of_a_dead_letter_are_json_if_json_can_say_it() {
        let letter = |bad: BadRecords| bad.take().dead_letters.remove(0);
        let bad = bad_records::<BTreeMap<(u8, u8), u8>>(OnError::SideOutput);
        let pairs = BTreeMap::from([((1_u8, 2_u8), 3_u8)]);
        bad.reject("table", &pairs, "no").unwrap();
        assert_eq!(letter(bad).raw, flott_state::encode("pairs", &pairs).unwrap());
        let bad = bad_records::<String>(OnError::SideOutput);
        bad.reject("table", &"x".repeat(2 << 20), "no").unwrap();
        let BadRecord { raw, is_truncated, original_len, .. } = letter(bad);
        // With its quotes.
        assert_eq!((raw.len(), is_truncated), (BadRecord::RAW_BYTES_MAX, true));
        assert_eq!(original_len, Some((2 << 20) + 2));
    }

    #[test]
    fn a_dead_letter_has_the_key_that_its_record_was_to_have() {
        let bad = bad_records::<u8>(OnError::SideOutput);
        bad.reject_message("topic 'a'", Some(b"key"), &7_u8, "no").unwrap();
        bad.reject("topic 'a'", &7_u8, "no").unwrap();
        let keys: Vec<_> = bad.take().dead_letters.into_iter().map(|letter| letter.key).collect();
        assert_eq!(keys, [Some(b"key".to_vec()), None]);
    }
}
