//! The source.

use crate::config::NexmarkConfig;
use crate::reader::NexmarkReader;
use crate::record::{Auction, Bid, Event, Person};
use crate::sequence::{NexmarkRecord, Sequence};
use crate::split::NexmarkSplit;
use flott_api::{Boundedness, SourceReaderContext, SplitSource};
use flott_types::{Result, Timestamp};

/// Generates Nexmark records; their timestamps are the source's own.
///
/// There are as many splits as readers at the first start. Each split reads every so many-th record, so that all of
/// them advance together in event time. `WatermarkStrategy::for_bounded_out_of_orderness` with
/// [`NexmarkConfig::max_out_of_orderness`] makes no record late. A job that starts at a point in event time generates nothing earlier but for
/// the rest of a group.
#[derive(Clone, Debug)]
pub struct NexmarkSource<R = Event> {
    config: NexmarkConfig,
    sequence: Sequence<R>,
}

impl NexmarkSource<Event> {
    /// A source of all events.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn new(config: NexmarkConfig) -> Result<Self> {
        Self::of(config)
    }

    /// A source of the persons alone.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn persons(config: NexmarkConfig) -> Result<NexmarkSource<Person>> {
        NexmarkSource::of(config)
    }

    /// A source of the auctions alone.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn auctions(config: NexmarkConfig) -> Result<NexmarkSource<Auction>> {
        NexmarkSource::of(config)
    }

    /// A source of the bids alone.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn bids(config: NexmarkConfig) -> Result<NexmarkSource<Bid>> {
        NexmarkSource::of(config)
    }
}

impl<R: NexmarkRecord> NexmarkSource<R> {
    /// A source of the records of type `R`.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn of(config: NexmarkConfig) -> Result<Self> {
        let sequence = Sequence::new(&config)?;
        Ok(Self { config, sequence })
    }

    /// The options.
    pub fn config(&self) -> &NexmarkConfig {
        &self.config
    }

    /// What it reads, for an oracle or a hand-written loop to read too.
    pub fn sequence(&self) -> &Sequence<R> {
        &self.sequence
    }
}

impl<R: NexmarkRecord> SplitSource for NexmarkSource<R> {
    type Record = R;
    type Split = NexmarkSplit;
    type Reader = NexmarkReader<R>;

    fn boundedness(&self) -> Boundedness {
        if self.config.events.is_some() { Boundedness::Bounded } else { Boundedness::ContinuousUnbounded }
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<NexmarkSplit>> {
        let stride = parallelism.max(1);
        Ok((0..stride).map(|idx| NexmarkSplit::new(idx, stride)).collect())
    }

    fn splits_from(&self, parallelism: u32, from: Timestamp) -> Result<Vec<NexmarkSplit>> {
        let (stride, position) = (parallelism.max(1), self.sequence.position_at(from));
        Ok((0..stride).map(|idx| NexmarkSplit::starting_at(idx, stride, position)).collect())
    }

    fn open(&self, split: NexmarkSplit, ctx: &SourceReaderContext) -> Result<NexmarkReader<R>> {
        Ok(NexmarkReader::new(self.sequence, split.checked()?, self.config.rate_per_second, &ctx.env))
    }
}
