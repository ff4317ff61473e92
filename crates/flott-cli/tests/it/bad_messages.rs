//! A bad message between good ones, in every format: exactly the bad one is missing, and it comes out at the side once, wherever the job
//! stops with a savepoint and goes on. (FLINK-34474: a decoder that was given one bad message took every later one for bad.)

use flott::message::{
    DeserializationSchema, MessageCollector, MessageDecoder, RawMessage, SerializationSchema, StringFormat,
};
use flott::prelude::*;
use flott::sinks::collect_sink;
use flott::{
    Boundedness, Data, InputStatus, JobStatus, OnError, Result, SourceReaderContext, SourceSplit, SplitId,
    SplitOutput, SplitReader, SplitSource, options,
};
use flott_env::sync::Notify;
use flott_format_avro::AvroFormat;
use flott_format_csv::CsvFormat;
use flott_format_json::JsonFormat;
use flott_format_protobuf::ProtobufFormat;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One split of messages, which are decoded as connectors of brokers do. With `pause_at`, it is read up to there, and no further.
#[derive(Clone)]
struct Messages<T> {
    format: Arc<dyn DeserializationSchema<T>>,
    messages: Arc<[Vec<u8>]>,
    pause_at: Option<usize>,
    has_paused: Arc<Notify>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Next(usize);

impl SourceSplit for Next {
    fn split_id(&self) -> SplitId {
        SplitId("messages".to_owned())
    }
}

struct MessagesReader<T> {
    messages: Arc<[Vec<u8>]>,
    pause_at: Option<usize>,
    has_paused: Arc<Notify>,
    next: usize,
    decoder: Box<dyn MessageDecoder<T>>,
    collector: MessageCollector<T, usize>,
}

impl<T: Data> SplitSource for Messages<T> {
    type Record = T;
    type Split = Next;
    type Reader = MessagesReader<T>;
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _: u32) -> Result<Vec<Next>> {
        Ok(vec![Next(0)])
    }
    fn open(&self, split: Next, _: &SourceReaderContext) -> Result<MessagesReader<T>> {
        Ok(MessagesReader {
            messages: Arc::clone(&self.messages),
            pause_at: self.pause_at,
            has_paused: Arc::clone(&self.has_paused),
            next: split.0,
            decoder: self.format.create_decoder()?,
            collector: MessageCollector::default(),
        })
    }
}

impl<T: Data> SplitReader for MessagesReader<T> {
    type Record = T;
    type Split = Next;
    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        if self.pause_at == Some(self.next) {
            self.has_paused.notify_one();
            return Poll::Pending;
        }
        let Some(message) = self.messages.get(self.next) else {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        };
        let Self { decoder, collector, next, .. } = self;
        let message = RawMessage { position: *next, key: None, value: message, timestamp: None };
        collector.decode(&mut **decoder, message, out)?;
        collector.flush(&mut **decoder, out)?;
        *next += 1;
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }
    fn split(&self) -> Next {
        Next(self.next)
    }
}

/// What came out: the records, and the positions of bad messages at the side.
#[derive(Debug, PartialEq)]
struct Seen<T> {
    records: Vec<T>,
    at_the_side: Vec<String>,
}

struct Case<T> {
    format: Arc<dyn DeserializationSchema<T>>,
    messages: Arc<[Vec<u8>]>,
    on_error: OnError,
}

impl<T: Data + Debug + PartialEq + Sync> Case<T> {
    fn environment(dir: &Path) -> StreamExecutionEnvironment {
        let mut env =
            StreamExecutionEnvironment::with_configuration(Configuration::default()).expect("it starts");
        env.set_parallelism(1);
        env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(dir.display().to_string()));
        env
    }

    fn build(
        &self,
        env: &StreamExecutionEnvironment,
        pause_at: Option<usize>,
        has_paused: &Arc<Notify>,
    ) -> impl Fn() -> Seen<T> + use<T> {
        let source = Messages {
            format: Arc::clone(&self.format),
            messages: Arc::clone(&self.messages),
            pause_at,
            has_paused: Arc::clone(has_paused),
        };
        let ((sink, records), (bad_sink, bad)) = (collect_sink(), collect_sink());
        let strategy = WatermarkStrategy::no_watermarks();
        let source = env.from_source_with(source, strategy, "messages", self.on_error);
        source.bad_records().map(|bad| bad.position).seal().uid("positions").sink_to(bad_sink).uid("bad");
        source.stream().uid("messages").sink_to(sink).uid("good");
        move || Seen { records: records.take(), at_the_side: bad.take() }
    }

    /// Stops with a savepoint in front of message `at`, goes on, and returns what came out of both runs.
    fn run(&self, at: usize) -> Seen<T> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut env = Self::environment(dir.path());
        let has_paused = Arc::new(Notify::new());
        let before = self.build(&env, Some(at), &has_paused);
        let job = env.execute_async("messages").expect("it starts");
        let path = env.env().block_on(async move {
            has_paused.notified().await;
            let path = job.trigger_savepoint(None).await.expect("a savepoint");
            job.cancel().await;
            assert_eq!(job.result().await.expect("an end").status, JobStatus::Canceled);
            path
        });
        let mut seen = before();
        let n_before = seen.records.len() + seen.at_the_side.len();
        assert!(n_before <= at, "nothing behind the pause");
        env.set(options::STATE_RECOVERY_PATH, Some(path));
        let after = self.build(&env, None, &Arc::default());
        let result = env.execute("messages").expect("it continues");
        assert_eq!(result.status, JobStatus::Finished);
        let Seen { records, at_the_side } = after();
        seen.records.extend(records);
        seen.at_the_side.extend(at_the_side);
        seen
    }
}

/// Good, bad, good, bad, bad, good.
fn check<T: Data + Debug + PartialEq + Sync>(
    format: impl DeserializationSchema<T> + 'static,
    [first, second, third]: [(Vec<u8>, T); 3],
    bad: &[u8],
) {
    let format: Arc<dyn DeserializationSchema<T>> = Arc::new(format);
    let bad = bad.to_vec();
    let messages: Arc<[Vec<u8>]> =
        [first.0, bad.clone(), second.0, bad.clone(), bad, third.0].into_iter().collect();
    let records = [first.1, second.1, third.1];
    for on_error in [OnError::Skip, OnError::SideOutput] {
        let case = Case { format: Arc::clone(&format), messages: Arc::clone(&messages), on_error };
        for at in 0..messages.len() {
            let Seen { records: found, at_the_side } = case.run(at);
            assert_eq!(found, records, "{on_error:?}, stopped in front of message {at}");
            let expected: &[&str] = if on_error == OnError::Skip { &[] } else { &["1", "3", "4"] };
            assert_eq!(at_the_side, expected, "stopped in front of message {at}");
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sale {
    item: String,
    amount: i64,
}

fn sales() -> [Sale; 3] {
    [("apples", 3), ("pears", -4), ("", 0)].map(|(item, amount)| Sale { item: item.to_owned(), amount })
}

fn encoded<T>(format: &impl SerializationSchema<T>, records: [T; 3]) -> [(Vec<u8>, T); 3] {
    records.map(|record| {
        let mut message = Vec::new();
        format.create_encoder().expect("made").encode(&record, &mut message).expect("encoded");
        (message, record)
    })
}

#[test]
fn json() {
    let format = JsonFormat::new();
    check(format, encoded(&format, sales()), br#"{"item":"plums","amount":"many"}"#);
    check(format, encoded(&format, sales()), br#"{"item":"plums","amou"#);
}

#[test]
fn csv() {
    let format = CsvFormat::new();
    check(format.clone(), encoded(&format, sales()), b"plums,many");
    // A quote that nothing closes must not swallow what comes next.
    check(format.clone(), encoded(&format, sales()), b"\"plums,1");
}

#[test]
fn avro() {
    let schema = r#"{"type":"record","name":"Sale","fields":[{"name":"item","type":"string"},{"name":"amount","type":"long"}]}"#;
    let format = AvroFormat::new(schema);
    let messages = encoded(&format, sales());
    // Cut in the middle, and one that announces more text than there is.
    let (half, _) = messages[0].0.split_at(3);
    check(format.clone(), messages.clone(), half);
    check(format.clone(), messages, &[0x7e, b'p', b'l']);
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct ProtoSale {
    #[prost(string, tag = "1")]
    item: String,
    #[prost(sint64, tag = "2")]
    amount: i64,
}

#[test]
fn protobuf() {
    let format = ProtobufFormat::<ProtoSale>::new();
    let sales = sales().map(|Sale { item, amount }| ProtoSale { item, amount });
    // A field that announces more bytes than there are, and one of another wire type.
    for bad in [&[0x0a, 0x7f, b'p'][..], &[0x0d, 1]] {
        check(format.clone(), encoded(&format, sales.clone()), bad);
    }
}

#[test]
fn text() {
    let texts = ["first", "", "third"].map(str::to_owned);
    check(StringFormat, encoded(&StringFormat, texts), &[b'a', 0xff, b'b']);
}
