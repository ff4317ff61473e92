//! Finds partitions, decides where they start and end, and deals them out.

use crate::client::{Client, OffsetPosition};
use crate::config::EnumeratorOptions;
use crate::offsets::{OffsetsInitializer, TopicPartition};
use crate::split::KafkaSplit;
use flott_api::{EnumeratorInit, SplitEnumerator, SplitEnumeratorContext, StartingPosition};
use flott_env::Env;
use flott_types::{Error, ErrorKind, Result, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::warn;

/// What a new enumerator goes on from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct EnumeratorState {
    /// All partitions that were found, whether they are read or have ended.
    known: BTreeSet<TopicPartition>,
    /// Splits that no reader has, with their offsets.
    unassigned: Vec<KafkaSplit>,
}

/// How often to see whether the cluster has answered.
const ANSWER_INTERVAL: Duration = Duration::from_millis(50);

const STATE: &str = "the partitions of a Kafka source";

/// What a look at the cluster has found, by a thread that may have to wait for it.
type Found = Arc<Mutex<Look>>;

#[derive(Debug, Default)]
enum Look {
    #[default]
    Idle,
    Looking,
    Done(Result<Vec<KafkaSplit>>),
}

/// Deals out partitions.
///
/// Offsets are decided when the enumerator is made for a job that starts from nothing. With checkpoints no partition is assigned before one
/// is complete that holds these offsets: a restart would find others, and skip or repeat records.
#[derive(Debug)]
pub(crate) struct KafkaEnumerator {
    client: Arc<dyn Client>,
    env: Env,
    options: EnumeratorOptions,
    state: EnumeratorState,
    is_held: bool,
    found: Found,
}

impl KafkaEnumerator {
    pub(crate) fn new(
        client: Arc<dyn Client>,
        options: EnumeratorOptions,
        init: EnumeratorInit,
    ) -> Result<Self> {
        let mut enumerator = Self {
            client,
            env: init.env,
            options,
            state: EnumeratorState::default(),
            is_held: false,
            found: Found::default(),
        };
        match (init.restored, init.start.splits::<KafkaSplit>()?) {
            // What the cluster says now takes nothing away: it may know less than it did.
            (Some(bytes), _) => enumerator.state = flott_state::decode(STATE, &bytes)?,
            (None, Some(splits)) => {
                enumerator.start_at(splits)?;
                enumerator.is_held = enumerator.options.stopping.is_some() && init.takes_checkpoints;
            }
            (None, None) => {
                enumerator.decide(&init.start, init.has_own_timestamps)?;
                enumerator.is_held = init.takes_checkpoints;
            }
        }
        Ok(enumerator)
    }

    /// Reads exactly these splits. Other partitions of the topics are not taken for new ones.
    fn start_at(&mut self, splits: Vec<KafkaSplit>) -> Result<()> {
        self.state.known = splits.iter().map(|split| split.partition.clone()).collect();
        self.state.known.extend(self.client.partitions(&self.options.topics)?);
        self.state.unassigned = splits;
        // Positions of a job that had no end do not say where this one ends.
        let Some(stopping) = &self.options.stopping else { return Ok(()) };
        let endless = || self.state.unassigned.iter().filter(|split| split.stopping_offset.is_none());
        let partitions: Vec<_> = endless().map(|split| split.partition.clone()).collect();
        let stops = stopping.resolve(self.client.as_ref(), &partitions)?;
        for split in self.state.unassigned.iter_mut().filter(|split| split.stopping_offset.is_none()) {
            let stop = stops.get(&split.partition).copied();
            split.stopping_offset = Some(stop.ok_or_else(|| missing_offset(&split.partition))?);
        }
        Ok(())
    }

    /// Decides for all partitions where they start and end. The broker finds a time by its own timestamps: if the program has others, what is
    /// early there may be late for it, and is left to the engine to leave out.
    fn decide(&mut self, start: &StartingPosition, has_own_timestamps: bool) -> Result<()> {
        let partitions = self.client.partitions(&self.options.topics)?;
        let starting = match start {
            StartingPosition::Timestamp(from) if has_own_timestamps => OffsetsInitializer::timestamp(*from),
            StartingPosition::Timestamp(_) if self.options.starting.is_timestamp() => {
                self.options.starting.clone()
            }
            StartingPosition::Timestamp(_) => OffsetsInitializer::earliest(),
            StartingPosition::Earliest | StartingPosition::Positions(_) => self.options.starting.clone(),
        };
        let starts = starting.resolve(self.client.as_ref(), &partitions)?;
        let splits = make_splits(self.client.as_ref(), partitions, &starts, self.options.stopping.as_ref())?;
        self.state.known.extend(splits.iter().map(|split| split.partition.clone()));
        self.state.unassigned.extend(splits);
        Ok(())
    }

    fn assign_all(&mut self, ctx: &mut dyn SplitEnumeratorContext<KafkaSplit>) {
        if self.is_held {
            return;
        }
        for split in self.state.unassigned.drain(..) {
            ctx.assign_split(reader_of(&split.partition, ctx.parallelism()), split);
        }
        if self.options.discovery_interval.is_none() {
            (0..ctx.parallelism()).for_each(|subtask| ctx.signal_no_more_splits(SubtaskIndex(subtask)));
        }
    }

    /// Has a thread ask the cluster, so that nobody waits for brokers that are away.
    fn look(&self) {
        set(&self.found, Look::Looking);
        let (client, options, found) =
            (Arc::clone(&self.client), self.options.clone(), Arc::clone(&self.found));
        let known = self.state.known.clone();
        let look = async move {
            set(&found, Look::Done(find_new(client.as_ref(), &options, &known)));
        };
        // It ends by itself, when the cluster has answered or the request has timed out.
        drop(self.env.spawn_subtask("kafka partition discovery", look));
    }
}

fn set(found: &Found, look: Look) -> Look {
    std::mem::replace(&mut *found.lock().unwrap_or_else(PoisonError::into_inner), look)
}

/// Partitions that were not there when the job started: all their records are new.
fn find_new(
    client: &dyn Client,
    options: &EnumeratorOptions,
    known: &BTreeSet<TopicPartition>,
) -> Result<Vec<KafkaSplit>> {
    let mut new = client.partitions(&options.topics)?;
    new.retain(|partition| !known.contains(partition));
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let starts = client.offsets(&new, OffsetPosition::Earliest)?;
    make_splits(client, new, &starts, options.stopping.as_ref())
}

/// Partitions that begin at `starts`, and end where `stopping` finds now, if it does.
fn make_splits(
    client: &dyn Client,
    partitions: Vec<TopicPartition>,
    starts: &BTreeMap<TopicPartition, i64>,
    stopping: Option<&OffsetsInitializer>,
) -> Result<Vec<KafkaSplit>> {
    let stops = stopping.map(|stopping| stopping.resolve(client, &partitions)).transpose()?;
    let find = |offsets: &BTreeMap<TopicPartition, i64>, partition: &TopicPartition| {
        offsets.get(partition).copied().ok_or_else(|| missing_offset(partition))
    };
    let split = |partition: TopicPartition| {
        let offset = find(starts, &partition)?;
        let stopping_offset = stops.as_ref().map(|stops| find(stops, &partition)).transpose()?;
        Ok(KafkaSplit { partition, offset, stopping_offset })
    };
    partitions.into_iter().map(split).collect()
}

fn missing_offset(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::Retry, format!("the cluster told no offset of partition {partition}"))
}

/// The partitions of a topic go to the readers in turn, beginning at another one for each topic.
fn reader_of(partition: &TopicPartition, parallelism: u32) -> SubtaskIndex {
    let first = flott_types::key_hash(&partition.topic) as u32 % parallelism;
    SubtaskIndex((first + partition.partition.unsigned_abs()) % parallelism)
}

impl SplitEnumerator<KafkaSplit> for KafkaEnumerator {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<KafkaSplit>) -> Result<()> {
        self.assign_all(ctx);
        Ok(())
    }

    fn add_splits_back(&mut self, splits: Vec<KafkaSplit>, _: SubtaskIndex) {
        self.state.unassigned.extend(splits);
    }

    fn handle_split_request(
        &mut self,
        _: SubtaskIndex,
        ctx: &mut dyn SplitEnumeratorContext<KafkaSplit>,
    ) -> Result<()> {
        self.assign_all(ctx);
        Ok(())
    }

    fn discovery_interval(&self) -> Option<Duration> {
        let is_looking = matches!(*self.found.lock().unwrap_or_else(PoisonError::into_inner), Look::Looking);
        let interval = self.options.discovery_interval?;
        Some(if is_looking { interval.min(ANSWER_INTERVAL) } else { interval })
    }

    fn discover(&mut self, ctx: &mut dyn SplitEnumeratorContext<KafkaSplit>) -> Result<()> {
        match set(&self.found, Look::Idle) {
            Look::Idle => self.look(),
            Look::Looking => drop(set(&self.found, Look::Looking)),
            // Brokers that are away come back: what is known is read on meanwhile.
            Look::Done(Err(error)) => {
                warn!(error = %error.report(), "cannot look for new partitions of Kafka")
            }
            Look::Done(Ok(splits)) => {
                self.state.known.extend(splits.iter().map(|split| split.partition.clone()));
                self.state.unassigned.extend(splits);
                self.assign_all(ctx);
            }
        }
        Ok(())
    }

    fn awaits_checkpoint(&self) -> bool {
        self.is_held
    }

    fn checkpoint_complete(&mut self, ctx: &mut dyn SplitEnumeratorContext<KafkaSplit>) -> Result<()> {
        if std::mem::take(&mut self.is_held) {
            self.assign_all(ctx);
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        flott_state::encode(STATE, &self.state)
    }
}
