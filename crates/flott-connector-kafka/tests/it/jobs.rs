//! The job that is killed: numbers from one topic to counts in another, and what is no number to a third.

use flott::connectors::kafka::{DeadLetter, DeliveryGuarantee, KafkaSink, KafkaSource};
use flott::formats::json::JsonFormat;
use flott::message::StringFormat;
use flott::prelude::*;
use flott_types::RestartStrategyType;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

pub(crate) const N_KEYS: u64 = 7;

/// Which topics, and where the checkpoints are.
pub(crate) struct Job<'a> {
    pub(crate) servers: &'a str,
    /// Of source and sink.
    pub(crate) properties: &'a [(String, String)],
    pub(crate) input: &'a str,
    pub(crate) output: &'a str,
    pub(crate) dead: &'a str,
    pub(crate) checkpoints: &'a Path,
    pub(crate) parallelism: u32,
}

impl Job<'_> {
    /// `number` becomes `number key count`, where the count is of the records with the same key so far: it needs state that is exact. What is no number
    /// becomes `value key partition`.
    pub(crate) fn env(&self) -> StreamExecutionEnvironment {
        let mut env = environment(self.checkpoints, self.parallelism);
        env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
        env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 1_000);
        env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(50));
        let source = KafkaSource::new(self.servers, JsonFormat::new()).topics([self.input]).group_id("job");
        let source =
            self.properties.iter().fold(source, |source, (name, value)| source.property(name, value));
        let numbers =
            env.from_source_with(source, WatermarkStrategy::no_watermarks(), "input", OnError::SideOutput);
        numbers
            .stream()
            .uid("input")
            .map(|number: u64| (number, number % N_KEYS, 1_u64))
            .key_by(|record| record.1)
            .reduce(|last, next| *last = (next.0, next.1, last.2 + 1))
            .uid("counts")
            .map(|(number, key, count): (u64, u64, u64)| format!("{number} {key} {count}"))
            .sink_to(self.sink(self.output))
            .uid("output");
        numbers.bad_records().map(describe).sink_to(self.sink(self.dead)).uid("dead");
        env
    }

    fn sink(&self, topic: &str) -> KafkaSink<String> {
        let sink = KafkaSink::new(self.servers, StringFormat)
            .topic(topic)
            .key(|record: &String| record.clone(), StringFormat)
            .delivery_guarantee(DeliveryGuarantee::ExactlyOnce);
        self.properties.iter().fold(sink, |sink, (name, value)| sink.property(name, value))
    }

    pub(crate) fn start(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child", self.servers, self.input, self.output, self.dead]).arg(self.checkpoints);
        command.arg(self.parallelism.to_string());
        command.args(self.properties.iter().map(|(name, value)| format!("{name}={value}"))).spawn().unwrap()
    }
}

fn describe(bad: BadRecord) -> String {
    let letter = DeadLetter::from_bad_record(bad).expect("it is Kafka's");
    let text = |bytes| String::from_utf8(bytes).expect("a text");
    let key = letter.key.map(text).unwrap_or_default();
    format!("{} {key} {}", text(letter.raw), letter.partition.partition)
}

/// Checkpoints often, in a directory.
pub(crate) fn environment(checkpoints: &Path, parallelism: u32) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.set_parallelism(parallelism).enable_checkpointing(Duration::from_millis(200));
    env.set(options::CHECKPOINTING_DIR, Some(checkpoints.display().to_string()));
    env
}

/// `child SERVERS INPUT OUTPUT DEAD CHECKPOINTS PARALLELISM [NAME=VALUE…]`
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let [servers, input, output, dead, checkpoints, parallelism, properties @ ..] = arguments else {
        return ExitCode::from(2);
    };
    let property = |text: &String| {
        let (name, value) = text.split_once('=').expect("a name and a value");
        (name.to_owned(), value.to_owned())
    };
    let job = Job {
        servers,
        properties: &properties.iter().map(property).collect::<Vec<_>>(),
        input,
        output,
        dead,
        checkpoints: Path::new(checkpoints),
        parallelism: parallelism.parse().unwrap(),
    };
    match job.env().execute("job") {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}
