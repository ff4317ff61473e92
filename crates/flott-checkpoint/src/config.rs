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
    /// So long after their trigger the barriers of checkpoints begin to overtake records, which are then part of the checkpoint; `None`
    /// if they never do.
    pub unaligned_after: Option<Duration>,
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
    /// Whether checkpoints may go on from earlier ones.
    pub incremental: bool,
}

impl CheckpointConfig {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) that names the key, for values that cannot be meant: no time-out, no concurrent checkpoint, nothing
    /// retained, an interval under 10 ms (as in Flink), barriers that overtake records without exactly once or several checkpoints at a time.
    pub fn new(configuration: &Configuration) -> Result<Self> {
        let interval =
            configuration.get(options::CHECKPOINTING_INTERVAL).filter(|interval| !interval.is_zero());
        let min_pause = configuration.get(options::CHECKPOINTING_MIN_PAUSE);
        let max_concurrent = configuration.get(options::CHECKPOINTING_MAX_CONCURRENT);
        let is_unaligned = configuration.get(options::CHECKPOINTING_UNALIGNED);
        let config = Self {
            interval,
            mode: configuration.get(options::CHECKPOINTING_MODE),
            unaligned_after: is_unaligned.then(|| configuration.get(options::CHECKPOINTING_ALIGNED_TIMEOUT)),
            timeout: configuration.get(options::CHECKPOINTING_TIMEOUT),
            min_pause,
            // A pause between checkpoints leaves no room for two at a time.
            max_concurrent: if min_pause.is_zero() { max_concurrent } else { max_concurrent.min(1) },
            tolerable_failed: configuration.get(options::CHECKPOINTING_TOLERABLE_FAILED),
            num_retained: configuration.get(options::CHECKPOINTING_NUM_RETAINED),
            retention: configuration.get(options::CHECKPOINTING_RETENTION),
            after_tasks_finish: configuration.get(options::CHECKPOINTING_AFTER_TASKS_FINISH),
            incremental: configuration.get(options::CHECKPOINTING_INCREMENTAL),
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
            None => config.check_unaligned(configuration).map(|()| config),
        }
    }

    /// What does not go with barriers that overtake, or cannot be chosen.
    fn check_unaligned(&self, configuration: &Configuration) -> Result<()> {
        let is_unaligned = self.unaligned_after.is_some();
        let refused = [
            (
                is_unaligned && self.mode == CheckpointingMode::AtLeastOnce,
                options::CHECKPOINTING_UNALIGNED.key,
                "at least once nothing is aligned, so no barrier needs to overtake",
            ),
            (
                is_unaligned && self.max_concurrent > 1,
                options::CHECKPOINTING_UNALIGNED.key,
                "records in flight are kept for one checkpoint at a time: set 'execution.checkpointing.max-concurrent-checkpoints' to 1",
            ),
            (
                configuration.get(options::CHECKPOINTING_UNALIGNED_FORCED),
                options::CHECKPOINTING_UNALIGNED_FORCED.key,
                "there are no iterations that it could allow, and on forward, rescale and broadcast edges barriers never overtake",
            ),
            (
                configuration.get(options::CHECKPOINTING_UNALIGNED_INTERRUPTIBLE_TIMERS),
                options::CHECKPOINTING_UNALIGNED_INTERRUPTIBLE_TIMERS.key,
                "all timers of a watermark are fired in one step",
            ),
            (
                configuration.get(options::CHECKPOINTING_UNALIGNED_MAX_SUBTASKS_PER_FILE) != 1,
                options::CHECKPOINTING_UNALIGNED_MAX_SUBTASKS_PER_FILE.key,
                "each subtask writes what is in flight to it into its own file",
            ),
            (
                !configuration.get(options::CHECKPOINTING_UNALIGNED_RECOVER_DOWNSTREAM),
                options::CHECKPOINTING_UNALIGNED_RECOVER_DOWNSTREAM.key,
                "what is in flight is always with its receiver",
            ),
        ];
        match refused.iter().find(|(is_refused, ..)| *is_refused) {
            Some((_, key, why)) => {
                Err(Error::user(format!("configuration key '{key}' cannot be set like this: {why}")))
            }
            None => Ok(()),
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
        assert!(config.after_tasks_finish && !config.incremental);
    }

    #[test]
    fn a_minimal_pause_means_one_checkpoint_at_a_time() {
        let config = config(&[("max-concurrent-checkpoints", "3"), ("min-pause", "1 s")]).expect("fine");
        assert_eq!(config.max_concurrent, 1);
    }

    #[test]
    fn barriers_overtake_at_once_or_after_a_time_or_never() {
        let unaligned_after = |settings: &[(&str, &str)]| config(settings).expect("fine").unaligned_after;
        let enabled = ("unaligned.enabled", "true");
        assert_eq!(unaligned_after(&[("aligned-checkpoint-timeout", "1 s")]), None);
        assert_eq!(unaligned_after(&[enabled]), Some(Duration::ZERO));
        let after = unaligned_after(&[enabled, ("aligned-checkpoint-timeout", "1 s")]);
        assert_eq!(after, Some(Duration::from_secs(1)));
        for (key, value) in [
            ("mode", "AT_LEAST_ONCE"),
            ("max-concurrent-checkpoints", "2"),
            ("unaligned.forced", "true"),
            ("unaligned.interruptible-timers.enabled", "true"),
            ("unaligned.max-subtasks-per-channel-state-file", "5"),
            ("unaligned.recover-output-on-downstream.enabled", "false"),
        ] {
            let error = config(&[enabled, (key, value)]).expect_err("refused").to_string();
            assert!(error.contains("execution.checkpointing.unaligned."), "{error}");
        }
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
