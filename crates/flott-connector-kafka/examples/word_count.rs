//! Counts words from topic to topic, exactly once: `fill`, `count` and `show`, each with the address of a broker.

use flott::connectors::kafka::{DeliveryGuarantee, KafkaSink, KafkaSource, OffsetsInitializer};
use flott::message::StringFormat;
use flott::prelude::*;

fn main() -> flott::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fill", servers] => fill(servers),
        ["count", servers] => count(servers),
        ["show", servers] => show(servers),
        _ => Err(flott::Error::user("usage: word_count fill|count|show HOST:PORT")),
    }
}

/// Writes lines into the topic `lines`.
fn fill(servers: &str) -> flott::Result<()> {
    let env = StreamExecutionEnvironment::new()?;
    let lines = ["to be or not to be", "that is the question", "whether tis nobler in the mind to suffer"];
    env.from_collection(lines.map(str::to_owned).to_vec())
        .sink_to(KafkaSink::new(servers, StringFormat).topic("lines"));
    env.execute("fill").map(|_| ())
}

/// Counts until somebody ends it, and goes on where it was when it is started again.
fn count(servers: &str) -> flott::Result<()> {
    let mut env = StreamExecutionEnvironment::new()?;
    env.enable_checkpointing(Duration::from_secs(1));
    let lines = KafkaSource::new(servers, StringFormat).topics(["lines"]).group_id("word-count");
    let counts = KafkaSink::new(servers, StringFormat)
        .topic("counts")
        .key(|line: &String| line.split(' ').next().unwrap_or_default().to_owned(), StringFormat)
        .delivery_guarantee(DeliveryGuarantee::ExactlyOnce);
    env.from_source(lines, WatermarkStrategy::no_watermarks(), "lines")
        .flat_map(|line: String| line.split(' ').map(|word| (word.to_owned(), 1_u64)).collect::<Vec<_>>())
        .key_by(|(word, _)| word.clone())
        .reduce(|count, one| count.1 += one.1)
        .map(|(word, count): (String, u64)| format!("{word} {count}"))
        .sink_to(counts);
    env.execute("word count").map(|_| ())
}

/// Prints what is committed in the topic `counts`.
fn show(servers: &str) -> flott::Result<()> {
    let env = StreamExecutionEnvironment::new()?;
    let counts =
        KafkaSource::new(servers, StringFormat).topics(["counts"]).bounded(OffsetsInitializer::latest());
    env.from_source(counts, WatermarkStrategy::no_watermarks(), "counts").print();
    env.execute("show").map(|_| ())
}
