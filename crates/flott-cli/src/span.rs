//! `--from` and `--until`: which part of its sources a job reads.

use flott::{ConfigOption, ConfigValue, Configuration, TimestampText, options};

/// Which part of its sources a job reads, in event time.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SpanArgs {
    /// Leaves out records that happened before: RFC 3339, a date (midnight UTC), milliseconds since 1970, or earliest. A job that goes on from
    /// a snapshot has its positions from there.
    #[arg(long, value_name = "TIME", value_parser = start, allow_hyphen_values = true)]
    from: Option<Start>,
    /// Leaves out records that happened then or later, and ends when no earlier ones can follow.
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    until: Option<TimestampText>,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Earliest,
    At(TimestampText),
}

impl SpanArgs {
    /// The configuration keys and values that say the same.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let text =
            |option: ConfigOption<Option<TimestampText>>, at: TimestampText| (option.key, at.to_text());
        let from = self.from.map(|from| match from {
            Start::Earliest => (options::SOURCE_STARTUP_MODE.key, "earliest".to_owned()),
            Start::At(at) => text(options::SOURCE_STARTUP_TIMESTAMP, at),
        });
        from.into_iter().chain(self.until.map(|at| text(options::SOURCE_BOUNDED_TIMESTAMP, at))).collect()
    }

    pub(crate) fn configure(&self, config: &mut Configuration) -> flott::Result<()> {
        self.settings().iter().try_for_each(|(key, value)| config.set(key, value))
    }
}

fn time(text: &str) -> Result<TimestampText, String> {
    TimestampText::parse(text).map_err(|()| format!("expected {}", TimestampText::EXPECTED))
}

fn start(text: &str) -> Result<Start, String> {
    if text == "earliest" { Ok(Start::Earliest) } else { time(text).map(Start::At) }
}
