//! The settings of checkpointing of one job.

use flott_types::{
    CheckpointingMode, Configuration, Error, ExternalizedCheckpointRetention, Result, options,
};
use std::time::Duration;

/// What `execution.checkpointing.*` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Time between two triggers; `None` takes savepoints only, when asked.
    pub interval: Option<Duration>,
    /// Whether barriers are aligned.
    pub mode: CheckpointingMode,
    /// A checkpoint that has not been acknowledged by all after this time is aborted.
    pub timeout: Duration,
    /// Time at least between the end of one checkpoint and the next periodic trigger.
    pub min_pause: Duration,
    /// Checkpoints under way at a time at most; savepoints do not count.
    pub max_concurrent: u32,
    /// Checkpoints that may fail in a row before the job fails.
    pub tolerable_failed: u32,
    /// Complete checkpoints to keep, at least 1.
    pub num_retained: u32,
    /// What becomes of them at the end of the job.
    pub retention: ExternalizedCheckpointRetention,
    /// Whether checkpoints are taken while a part of the job has finished, and a last one when all has.
    pub after_tasks_finish: bool,
}

impl CheckpointConfig {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) that names the key, for values that cannot be meant: no time-out, no concurrent checkpoint, nothing
    /// retained, an interval under 10 ms (as in Flink).
    pub fn new(configuration: &Configuration) -> Result<Self> {
        let interval =
            configuration.get(options::CHECKPOINTING_INTERVAL).filter(|interval| !interval.is_zero());
        let min_pause = configuration.get(options::CHECKPOINTING_MIN_PAUSE);
        let max_concurrent = configuration.get(options::CHECKPOINTING_MAX_CONCURRENT);
        let config = Self {
            interval,
            mode: configuration.get(options::CHECKPOINTING_MODE),
            timeout: configuration.get(options::CHECKPOINTING_TIMEOUT),
            min_pause,
            // A pause between checkpoints leaves no room for two at a time.
            max_concurrent: if min_pause.is_zero() { max_concurrent } else { max_concurrent.min(1) },
            tolerable_failed: configuration.get(options::CHECKPOINTING_TOLERABLE_FAILED),
            num_retained: configuration.get(options::CHECKPOINTING_NUM_RETAINED),
            retention: configuration.get(options::CHECKPOINTING_RETENTION),
            after_tasks_finish: configuration.get(options::CHECKPOINTING_AFTER_TASKS_FINISH),
        };
        let refused = [
            (
                config.interval.is_some_and(|interval| interval < Duration::from_millis(10)),
                options::CHECKPOINTING_INTERVAL.key,
                "at least 10 ms",
            ),
            (config.timeout.is_zero(), options::CHECKPOINTING_TIMEOUT.key, "more than 0"),
            (config.max_concurrent == 0, options::CHECKPOINTING_MAX_CONCURRENT.key, "at least 1"),
            (config.num_retained == 0, options::CHECKPOINTING_NUM_RETAINED.key, "at least 1"),
        ];
        match refused.iter().find(|(is_refused, ..)| *is_refused) {
            Some((_, key, expected)) => {
                Err(Error::user(format!("configuration key '{key}' must be {expected}")))
            }
            None => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[(&str, &str)]) -> Result<CheckpointConfig> {
        let mut configuration = Configuration::default();
        for (key, value) in settings {
            configuration.set(&format!("execution.checkpointing.{key}"), value).expect("the key exists");
        }
        CheckpointConfig::new(&configuration)
    }

    #[test]
    fn defaults_are_those_of_flink() {
        let config = config(&[]).expect("defaults are fine");
        assert_eq!(config.interval, None);
        assert_eq!(config.timeout, Duration::from_secs(600));
        assert_eq!((config.max_concurrent, config.tolerable_failed, config.num_retained), (1, 0, 1));
        assert!(config.after_tasks_finish);
    }

    #[test]
    fn a_minimal_pause_means_one_checkpoint_at_a_time() {
        let config = config(&[("max-concurrent-checkpoints", "3"), ("min-pause", "1 s")]).expect("fine");
        assert_eq!(config.max_concurrent, 1);
    }

    #[test]
    fn values_that_cannot_be_meant_name_the_key() {
        for (key, value) in [
            ("interval", "5 ms"),
            ("timeout", "0"),
            ("max-concurrent-checkpoints", "0"),
            ("num-retained", "0"),
        ] {
            let error = config(&[(key, value)]).expect_err("refused");
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
