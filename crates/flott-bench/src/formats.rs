//! How fast messages become records: each format on the bids of Nexmark, to a struct and to Arrow, and other parsers of JSON beside ours.

mod batches;

use crate::clock::measure;
use flott_api::message::{DecodeError, DeserializationSchema, MessageDecoder, SerializationSchema};
use flott_connector_nexmark::{Bid, Event, Generator, NexmarkConfig};
use flott_format_avro::AvroFormat;
use flott_format_csv::CsvFormat;
use flott_format_json::{DebeziumJsonFormat, JsonFormat};
use flott_format_protobuf::ProtobufFormat;
use flott_types::{RowChange, RowKind};
use serde::{Deserialize, Serialize};

/// How many different messages there are: more than what caches and branch predictors remember.
const MESSAGES: usize = 100_000;

/// A bid as Nexmark has it, with its texts; Avro has no numbers without a sign.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct BidMessage {
    #[prost(int64, tag = "1")]
    auction: i64,
    #[prost(int64, tag = "2")]
    bidder: i64,
    #[prost(int64, tag = "3")]
    price: i64,
    #[prost(string, tag = "4")]
    channel: String,
    #[prost(string, tag = "5")]
    url: String,
    #[prost(int64, tag = "6")]
    date_time: i64,
    #[prost(string, tag = "7")]
    extra: String,
}

impl From<Bid> for BidMessage {
    fn from(bid: Bid) -> Self {
        let Bid { auction, bidder, price, date_time, channel, seed: _ } = bid;
        let channel_name = channel.name().into_owned();
        let [auction, bidder, price] = [auction, bidder, price].map(u64::cast_signed);
        Self { auction, bidder, price, channel: channel_name, url: bid.url(), date_time, extra: bid.extra() }
    }
}

impl BidMessage {
    fn checksum(&self) -> u64 {
        let texts = self.channel.len() + self.url.len() + self.extra.len();
        checksum([self.auction, self.bidder, self.price, self.date_time].map(i64::cast_unsigned), texts)
    }
}

fn checksum([auction, bidder, price, date_time]: [u64; 4], text_bytes: usize) -> u64 {
    auction ^ bidder.rotate_left(8) ^ price.rotate_left(16) ^ date_time ^ text_bytes as u64
}

/// Takes messages apart and returns the sum of the checksums of what they say.
type Decode = Box<dyn FnMut(&Messages) -> u64>;

/// One message at a time.
fn each(mut decode: impl FnMut(&[u8]) -> u64 + 'static) -> Decode {
    Box::new(move |messages| messages.iter().map(&mut decode).fold(0_u64, u64::wrapping_add))
}

/// Messages one behind the other, as a broker delivers them.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Messages {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends
            .iter()
            .map(move |&end| self.bytes.get(std::mem::replace(&mut start, end)..end).unwrap_or_default())
    }
}

struct Contender {
    name: &'static str,
    decode: Decode,
    messages: Messages,
    /// Megabytes a second, round by round.
    rates: Vec<f64>,
}

/// Decodes the messages of each format, in turn, `rounds` times, and returns a line for each.
pub(crate) fn measure_all(rounds: usize) -> Vec<String> {
    let bids = bids();
    let expected = bids.iter().map(BidMessage::checksum).fold(0_u64, u64::wrapping_add);
    let mut contenders = contenders(&bids);
    for _ in 0..rounds.max(1) {
        contenders.iter_mut().for_each(|contender| contender.run(expected));
    }
    contenders.into_iter().map(Contender::report).collect()
}

fn bids() -> Vec<BidMessage> {
    let generator = Generator::new(&NexmarkConfig::bounded(1)).expect("the default is valid");
    let bids = (0..).filter_map(|n| match generator.event(n) {
        Event::Bid(bid) => Some(bid.into()),
        Event::Person(_) | Event::Auction(_) => None,
    });
    bids.take(MESSAGES).collect()
}

fn contenders(bids: &[BidMessage]) -> Vec<Contender> {
    let json = || encoded(&JsonFormat::new(), bids);
    let changes: Vec<_> =
        bids.iter().map(|bid| RowChange { kind: RowKind::Insert, row: bid.clone() }).collect();
    let contender = |name, messages, decode| Contender { name, decode, messages, rates: Vec::new() };
    vec![
        contender("JsonFormat", json(), decoder::<BidMessage>(&JsonFormat::new(), BidMessage::checksum)),
        contender(
            "JSON, serde_json::from_slice",
            json(),
            each(|message| serde_json::from_slice::<BidMessage>(message).expect("JSON").checksum()),
        ),
        contender("JSON, simd-json", json(), simd_json()),
        contender(
            "JSON, sonic-rs",
            json(),
            each(|message| sonic_rs::from_slice::<BidMessage>(message).expect("JSON").checksum()),
        ),
        contender(
            "DebeziumJsonFormat",
            encoded(&DebeziumJsonFormat::new(), &changes),
            decoder(&DebeziumJsonFormat::new(), |change: &RowChange<BidMessage>| change.row.checksum()),
        ),
        contender(
            "CsvFormat",
            encoded(&CsvFormat::new(), bids),
            decoder::<BidMessage>(&CsvFormat::new(), BidMessage::checksum),
        ),
        contender("AvroFormat", encoded(&avro(), bids), decoder::<BidMessage>(&avro(), BidMessage::checksum)),
        contender(
            "ProtobufFormat",
            encoded(&ProtobufFormat::<BidMessage>::new(), bids),
            decoder::<BidMessage>(&ProtobufFormat::<BidMessage>::new(), BidMessage::checksum),
        ),
        contender("JsonFormat to Arrow", json(), batches::json()),
        contender("CsvFormat to Arrow", encoded(&CsvFormat::new(), bids), batches::csv()),
        contender("AvroFormat to Arrow", encoded(&avro(), bids), batches::avro()),
        contender(
            "ProtobufFormat to Arrow",
            encoded(&ProtobufFormat::<BidMessage>::new(), bids),
            batches::protobuf(),
        ),
    ]
}

fn avro() -> AvroFormat {
    AvroFormat::new(
        r#"{"type":"record","name":"BidMessage","fields":[
        {"name":"auction","type":"long"},{"name":"bidder","type":"long"},{"name":"price","type":"long"},
        {"name":"channel","type":"string"},{"name":"url","type":"string"},{"name":"date_time","type":"long"},
        {"name":"extra","type":"string"}]}"#,
    )
}

fn encoded<T>(schema: &impl SerializationSchema<T>, records: &[T]) -> Messages {
    let mut encoder = schema.create_encoder().expect("made");
    let mut messages = Messages::default();
    for record in records {
        encoder.encode(record, &mut messages.bytes).expect("encoded");
        messages.ends.push(messages.bytes.len());
    }
    messages
}

fn decoder<T: 'static>(schema: &impl DeserializationSchema<T>, checksum: fn(&T) -> u64) -> Decode {
    let mut decoder: Box<dyn MessageDecoder<T>> = schema.create_decoder().expect("made");
    let mut records = Vec::new();
    each(move |message| {
        let decoded: Result<(), DecodeError> = decoder.decode(message, &mut records);
        decoded.expect("decoded");
        records.drain(..).map(|record| checksum(&record)).sum()
    })
}

/// It parses in place, so a message that somebody else owns, as that of a broker, is copied first.
fn simd_json() -> Decode {
    let (mut buffers, mut copy) = (simd_json::Buffers::default(), Vec::new());
    each(move |message| {
        copy.clear();
        copy.extend_from_slice(message);
        let bid: BidMessage =
            simd_json::serde::from_slice_with_buffers(&mut copy, &mut buffers).expect("JSON");
        bid.checksum()
    })
}

impl Contender {
    fn run(&mut self, expected: u64) {
        let (took, checksum) = measure(|| (self.decode)(&self.messages));
        assert_eq!(checksum, expected, "{} reads something else", self.name);
        self.rates.push(self.messages.bytes.len() as f64 / took.as_secs_f64() / 1e6);
    }

    fn report(mut self) -> String {
        self.rates.sort_by(f64::total_cmp);
        let median = self.rates.get(self.rates.len() / 2).copied().unwrap_or_default();
        let best = self.rates.last().copied().unwrap_or_default();
        let mean_bytes = self.messages.bytes.len() as f64 / self.messages.ends.len() as f64;
        let millions = median / mean_bytes;
        let Self { name, .. } = self;
        format!(
            "{name:30} {median:5.0} MB/s (at best {best:.0}), {millions:4.1} M messages/s of {mean_bytes:.0} bytes"
        )
    }
}
