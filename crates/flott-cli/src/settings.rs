//! The engine's configuration on the command line.

use anyhow::Result;
use flott::env::Env;
use flott::{ConfigValue, Configuration, load_configuration};
use std::time::Duration;

/// `-D` and `-p`, for commands that run a job themselves.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// Sets a configuration key; may be repeated. `flott config` lists the keys.
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = checked_pair)]
    define: Vec<String>,
    /// Subtasks of each operator; 0 for one per core [default: parallelism.default].
    #[arg(short, long, value_name = "N")]
    parallelism: Option<u32>,
}

impl Settings {
    /// The configuration of `config.yaml`, the environment variables and the command line; later ones win.
    pub(crate) fn load(&self, env: &Env) -> Result<Configuration> {
        let mut config = configuration(env, &self.define)?;
        if let Some(parallelism) = self.parallelism {
            config.set_option(flott::options::PARALLELISM_DEFAULT, &parallelism);
        }
        Ok(config)
    }
}

/// The configuration of `config.yaml`, the environment variables and `-D` of the command line; later ones win.
pub(crate) fn configuration(env: &Env, define: &[String]) -> Result<Configuration> {
    let arguments = define.iter().map(|pair| format!("-D{pair}"));
    Ok(load_configuration(env, |name| std::env::var(name).ok(), arguments)?)
}

/// A `key=value` of which any key is accepted: the program it is for knows its keys.
pub(crate) fn pair(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err("expected key=value".to_owned()),
    }
}

pub(crate) fn checked_pair(text: &str) -> Result<String, String> {
    let pair = pair(text)?;
    let (key, value) = pair.split_once('=').unwrap_or_default();
    Configuration::default().set(key.trim(), value.trim()).map_err(|error| error.to_string())?;
    Ok(pair)
}

/// A duration as configuration values have it: `90 s`, `3h`, `30 min`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    <Duration as ConfigValue>::parse(text)
        .map_err(|()| format!("expected {}", <Duration as ConfigValue>::EXPECTED))
}

/// Whether `text` is a number of whole milliseconds and at least one.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < Duration::from_millis(1) {
        return Err("expected at least a millisecond".to_owned());
    }
    Ok(duration)
}
