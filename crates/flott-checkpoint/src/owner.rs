//! Who may complete checkpoints of a job: records in the job's directory, each created once and never changed.
//!
//! * `owner-<n>` claims generation `n`. Whoever creates it owns the job, and every owner before is fenced off.
//! * `owner-<n>.start` says from which checkpoint generation `n` goes on. Before it exists, the owner has done nothing.
//! * `owner-<n>.end` says that the job has reached its end, how, and what becomes of the checkpoints.
//! * `owner-<n>.reported` says that somebody has heard of the end: a later start begins anew. Before, it has nothing left to do but to say so.
//!
//! An owner completes a checkpoint by creating the manifest and *then* looking whether it still is the newest owner. A new
//! owner claims and *then* looks for manifests. Each writes before it reads, so one of the two sees the other: a manifest that its writer
//! believes in is seen by the next owner. One that the next owner has not seen, because it came later, is void for ever,
//! because `owner-<n>.start` names the one that was chosen. docs/design/0003-checkpoints.md has all interleavings.

use crate::codec::{Format, HEADER_LEN, corrupt, frame, unframe};
use crate::store::ObjectStore;
use flott_types::{CheckpointId, Error, ErrorKind, JobId, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::{fmt, io};

const FORMAT: Format = Format { magic: *b"FLOTTOWN", version: 1 };

/// A record is some hundred bytes, but for the path of a savepoint.
const RECORD_LEN_MAX: u64 = 1 << 16;

/// Claims that are lost to others before a start gives up.
const CLAIMS_MAX: u32 = 100;

/// The number of a start of a job: the newest one owns it, all others are fenced off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A random number that no other start of any job has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt(#[serde(with = "hex::u128")] pub u128);

impl Attempt {
    /// What all starts of a process have in common.
    fn process(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// What a process remembers of its starts of a job.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// A random number that tells them from those of others.
    process: OnceLock<u64>,
    /// The newest owner before its first.
    before: OnceLock<Generation>,
}

impl Starts {
    /// The next one, from two random numbers.
    pub(crate) fn next(&self, process: u64, random: u64) -> Attempt {
        Attempt(u128::from(*self.process.get_or_init(|| process)) << 64 | u128::from(random))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a start of a job goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Base {
    /// Nothing: the first start.
    Nothing,
    /// A checkpoint of the job.
    Checkpoint {
        /// Its number.
        checkpoint_id: CheckpointId,
        /// The generation that took it.
        generation: Generation,
    },
    /// A savepoint, or a retained checkpoint, that the user named.
    Snapshot {
        /// Where it was.
        path: String,
        /// Its number.
        checkpoint_id: CheckpointId,
        /// The checksum of its manifest: whether a later start means the same one.
        checksum: u64,
        /// Whether it is the job's now, which deletes it like a checkpoint of its own; otherwise it stays the user's.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        claimed: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(with = "hex::job_id")]
    job_id: JobId,
    generation: Generation,
    attempt: Attempt,
    /// In `.start` records only.
    base: Option<Base>,
    /// In `.end` records only: whether the checkpoints are the user's now; otherwise they are garbage.
    retains: Option<bool>,
    /// In `.end` records only: how the job ended, unless nobody is to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<JobEnding>,
}

impl Record {
    fn new(job_id: JobId, generation: Generation, attempt: Attempt) -> Self {
        Self { job_id, generation, attempt, base: None, retains: None, result: None }
    }
}

/// How a job ended, as it is kept for who asks later (FLIP-194).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobEnding {
    /// Whether somebody has stopped it at once; otherwise it has processed its input, or stopped with a savepoint.
    pub canceled: bool,
    /// How often it was started again after a failure.
    pub restarts: u32,
    /// The directory of the savepoint that it stopped with, below that of savepoints.
    pub savepoint: Option<String>,
    /// The checksum of the snapshot that the user had named at the job's start.
    pub(crate) root_checksum: Option<u64>,
}

impl JobEnding {
    /// The end of a job; where it had started is added when the end is recorded.
    pub const fn new(canceled: bool, restarts: u32, savepoint: Option<String>) -> Self {
        Self { canceled, restarts, savepoint, root_checksum: None }
    }
}

/// What the names in a job's directory say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) owners: BTreeSet<Generation>,
    pub(crate) started: BTreeSet<Generation>,
    pub(crate) ended: BTreeSet<Generation>,
    pub(crate) reported: BTreeSet<Generation>,
    pub(crate) checkpoints: BTreeSet<CheckpointId>,
}

impl Listing {
    fn new(names: &[String]) -> Self {
        let mut listing = Self::default();
        for name in names {
            // Names that are not ours are nobody's business here.
            if let Some(id) = name.strip_prefix("chk-").and_then(|id| id.parse().ok()) {
                listing.checkpoints.insert(CheckpointId(id));
            } else if let Some(owner) = name.strip_prefix("owner-") {
                let (number, into) = match owner.split_once('.') {
                    None => (owner, &mut listing.owners),
                    Some((number, "start")) => (number, &mut listing.started),
                    Some((number, "end")) => (number, &mut listing.ended),
                    Some((number, "reported")) => (number, &mut listing.reported),
                    Some(_) => continue,
                };
                if let Ok(number) = number.parse() {
                    into.insert(Generation(number));
                }
            }
        }
        listing
    }
}

/// An end that nobody has heard of.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) generation: Generation,
    pub(crate) attempt: Attempt,
    pub(crate) result: JobEnding,
}

/// The records of one job.
#[derive(Debug)]
pub(crate) struct Ownership<'a> {
    pub(crate) store: &'a dyn ObjectStore,
    pub(crate) job_id: JobId,
}

impl Ownership<'_> {
    pub(crate) fn list(&self) -> Result<Listing> {
        let dir = self.job_id.to_string();
        let names = self.store.list(&dir).map_err(|error| failed(&format!("list '{dir}'"), error))?;
        Ok(Listing::new(&names))
    }

    /// Becomes the owner: from now on nobody before can complete a checkpoint.
    ///
    /// The first start of a process takes the job from whoever has it: that is what starting it again means. A restart does not. Somebody
    /// has taken this process for dead, and meanwhile runs the job.
    pub(crate) fn claim(&self, attempt: Attempt, starts: &Starts) -> Result<Generation> {
        let before = starts.before.get().copied();
        for _ in 0..CLAIMS_MAX {
            let newest = self.list()?.owners.last().copied().unwrap_or(Generation(0));
            if let Some(before) = before.filter(|before| newest > *before) {
                self.check_is_ours(newest, before, attempt)?;
            }
            let generation = Generation(newest.0 + 1);
            let path = self.path(generation, "");
            let record = Record::new(self.job_id, generation, attempt);
            // Before the record, which may be there although the answer is lost.
            let _newest_before = starts.before.get_or_init(|| newest);
            if self.put(&path, &record)? {
                return Ok(generation);
            }
        }
        let message = format!("job {} was claimed by others {CLAIMS_MAX} times in a row", self.job_id);
        Err(Error::new(ErrorKind::Retry, message))
    }

    /// Fails if the newest owner is another process.
    fn check_is_ours(&self, newest: Generation, before: Generation, attempt: Attempt) -> Result<()> {
        let record = self.read(&self.path(newest, ""), newest)?;
        if record.attempt.process() == attempt.process() || flott_env::canary("ignore-fencing") {
            return Ok(());
        }
        let message = format!(
            "job {} belongs to generation {newest}, this process has started one after generation {before}",
            self.job_id
        );
        Err(Error::new(ErrorKind::Fenced, message))
    }

    /// Records what the generation goes on from, and that it is still the newest.
    pub(crate) fn start(&self, generation: Generation, attempt: Attempt, base: Base) -> Result<()> {
        let path = self.path(generation, ".start");
        let record = Record { base: Some(base), ..Record::new(self.job_id, generation, attempt) };
        if !self.put(&path, &record)? {
            return Err(Error::new(ErrorKind::Fenced, format!("'{path}' was written by somebody else")));
        }
        self.verify(generation)
    }

    /// Records that the job has reached its end.
    pub(crate) fn end(
        &self,
        generation: Generation,
        attempt: Attempt,
        retains: bool,
        result: Option<JobEnding>,
    ) -> Result<()> {
        self.verify(generation)?;
        let path = self.path(generation, ".end");
        let record =
            Record { retains: Some(retains), result, ..Record::new(self.job_id, generation, attempt) };
        self.put(&path, &record).map(|_| ())
    }

    /// Records that somebody has heard of the end.
    pub(crate) fn reported(&self, generation: Generation, attempt: Attempt) -> Result<()> {
        let record = Record::new(self.job_id, generation, attempt);
        // It does not matter who was told.
        self.put(&self.path(generation, ".reported"), &record).map(|_| ())
    }

    /// How the newest start has ended, if nobody has heard of it.
    pub(crate) fn unreported(&self, listing: &Listing, below: Generation) -> Result<Option<Ending>> {
        let last = listing.started.range(..below).next_back().copied();
        let is_unheard = |last: &Generation| listing.ended.contains(last) && !listing.reported.contains(last);
        let Some(generation) = last.filter(is_unheard) else { return Ok(None) };
        let Record { result, attempt, .. } = self.read(&self.path(generation, ".end"), generation)?;
        // Without a result it was recorded for nobody, or by a version that began anew.
        Ok(result.map(|result| Ending { generation, attempt, result }))
    }

    /// The random number of the job's very first start: tells histories apart if somebody deletes the directory, and numbers start again.
    pub(crate) fn history(&self) -> Result<Attempt> {
        let first = Generation(1);
        Ok(self.read(&self.path(first, ""), first)?.attempt)
    }

    /// Whether the user has the checkpoints of an ended job.
    pub(crate) fn retains(&self, ended: Generation) -> Result<bool> {
        let record = self.read(&self.path(ended, ".end"), ended)?;
        Ok(record.retains.unwrap_or(true))
    }

    /// Fails if there is a newer owner.
    pub(crate) fn verify(&self, generation: Generation) -> Result<()> {
        let newest = self.list()?.owners.last().copied();
        match newest {
            Some(newest) if newest == generation || flott_env::canary("ignore-fencing") => Ok(()),
            Some(newest) => Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "job {} belongs to generation {newest}, this is generation {generation}",
                    self.job_id
                ),
            )),
            None => Err(Error::new(
                ErrorKind::Corruption,
                format!("the record of ownership '{}' is gone", self.path(generation, "")),
            )),
        }
    }

    /// What a started generation went on from.
    pub(crate) fn base(&self, generation: Generation) -> Result<Base> {
        let path = self.path(generation, ".start");
        let base = self.read(&path, generation)?.base;
        base.ok_or_else(|| corrupt(&path, HEADER_LEN, "the record does not say what the job went on from"))
    }

    /// What the history of a started generation began with: nothing, or a snapshot that the user had named.
    pub(crate) fn root(&self, mut generation: Generation) -> Result<Base> {
        loop {
            match self.base(generation)? {
                Base::Checkpoint { generation: before, .. } if before < generation => generation = before,
                base => return Ok(base),
            }
        }
    }

    fn read(&self, path: &str, generation: Generation) -> Result<Record> {
        let bytes = self.store.get(path, RECORD_LEN_MAX);
        let record = decode(path, &bytes.map_err(|error| failed(&format!("read '{path}'"), error))?)?;
        if (record.generation, record.job_id) != (generation, self.job_id) {
            return Err(corrupt(path, HEADER_LEN, "the record is of another job or generation"));
        }
        Ok(record)
    }

    fn path(&self, generation: Generation, suffix: &str) -> String {
        format!("{}/owner-{generation}{suffix}", self.job_id)
    }

    /// Creates a record; `false` if somebody else has. An answer that was lost is looked up.
    fn put(&self, path: &str, record: &Record) -> Result<bool> {
        let bytes = frame(FORMAT, 256, |out| {
            serde_json::to_writer_pretty(out, record).expect("a record is plain data");
        });
        put_or_find(self.store, path, &bytes, RECORD_LEN_MAX)
    }
}

fn decode(path: &str, bytes: &[u8]) -> Result<Record> {
    let body = unframe(FORMAT, path, bytes)?;
    serde_json::from_slice(body)
        .map_err(|error| corrupt(path, HEADER_LEN, "the content is no ownership record").with_source(error))
}

/// Creates an object, with any number of attempts seen as one: `true` if it exists, durably, with this content, `false` if it
/// exists with another.
///
/// # Errors
/// [`ErrorKind::Retry`] if it could not be created or it is not known whether it was.
pub(crate) fn put_or_find(store: &dyn ObjectStore, path: &str, bytes: &[u8], len_max: u64) -> Result<bool> {
    let Err(error) = store.put_if_absent(path, bytes) else { return Ok(true) };
    // Also after other errors: the object may have been made and only the answer lost.
    match store.get(path, len_max.max(bytes.len() as u64)) {
        Ok(found) if found == bytes => {
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            store.sync(dir).map_err(|error| failed(&format!("sync '{dir}'"), error))?;
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(missing)
            if missing.kind() == io::ErrorKind::FileTooLarge
                && error.kind() == io::ErrorKind::AlreadyExists =>
        {
            Ok(false)
        }
        Err(_) => Err(failed(&format!("create '{path}'"), error)),
    }
}

/// What the store said, as an error that may be gone next time.
pub(crate) fn failed(attempted: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Retry, format!("cannot {attempted}")).with_source(error)
}

/// Numbers and bytes as hexadecimal text, for people who look into files.
pub(crate) mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(crate) mod u128 {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&format_args!("{value:032x}"))
        }
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
            let text = String::deserialize(deserializer)?;
            u128::from_str_radix(&text, 16).map_err(D::Error::custom)
        }
    }

    pub(crate) mod job_id {
        use super::*;
        use flott_types::JobId;

        pub(crate) fn serialize<S: Serializer>(value: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
            u128::serialize(&value.0, serializer)
        }
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
            u128::deserialize(deserializer).map(JobId)
        }
    }

    pub(crate) mod optional_bytes {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(
            value: &Option<Vec<u8>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let digit = |nibble: u8| char::from(*DIGITS.get(usize::from(nibble)).unwrap_or(&b'0'));
            let text = |bytes: &Vec<u8>| {
                bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect::<String>()
            };
            value.as_ref().map(text).serialize(serializer)
        }
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Vec<u8>>, D::Error> {
            let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let byte = |pair: &[u8]| match pair {
                [high, low] => Some((digit(high)? * 16 + digit(low)?) as u8),
                _ => None,
            };
            let bytes = text.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>();
            bytes.map(Some).ok_or_else(|| D::Error::custom("not hexadecimal"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_not_taken_for_ours() {
        let names =
            ["chk-3", "chk-12", "chk-x", "owner-1", "owner-1.start", "owner-2", "owner-2.bak", "shared"];
        let listing = Listing::new(&names.map(str::to_owned));
        assert_eq!(listing.checkpoints.into_iter().collect::<Vec<_>>(), [CheckpointId(3), CheckpointId(12)]);
        assert_eq!(listing.owners.into_iter().collect::<Vec<_>>(), [Generation(1), Generation(2)]);
        assert_eq!(listing.started.into_iter().collect::<Vec<_>>(), [Generation(1)]);
        assert!(listing.ended.is_empty());
    }
}
