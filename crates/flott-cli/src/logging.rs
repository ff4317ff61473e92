//! What the engine says while it runs, for people: one line an event, on standard error.

use std::io;
use std::str::FromStr;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged.
#[derive(Debug, clap::Args)]
pub(crate) struct LoggingArgs {
    /// What is logged to standard error: off, error, warn, info, debug, trace, also by crate: info,flott_coordinator=debug.
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG", default_value = "warn", value_parser = Targets::from_str)]
    log_level: Targets,
    /// The same as --log-level info; -vv is debug.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl LoggingArgs {
    /// Logs from now on.
    pub(crate) fn start(self) {
        let targets = match self.verbose {
            0 => self.log_level,
            1 => Targets::new().with_default(tracing_subscriber::filter::LevelFilter::INFO),
            _ => Targets::new().with_default(tracing_subscriber::filter::LevelFilter::DEBUG),
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
        tracing_subscriber::registry().with(lines).with(targets).init();
    }
}
