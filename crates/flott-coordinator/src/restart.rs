//! Restart strategies: what follows a failure. A pure state machine, with Flink's names and defaults.

use flott_env::Instant;
use flott_types::{Configuration, RestartStrategyType, options};
use std::collections::VecDeque;
use std::time::Duration;

/// Decides after each failure whether the job is started again, and after which pause.
#[derive(Clone, Debug, PartialEq)]
pub enum RestartStrategy {
    /// Never.
    None,
    /// A number of times, each after the same pause.
    FixedDelay {
        /// Restarts that are left.
        attempts_left: u32,
        /// The pause.
        delay: Duration,
    },
    /// After pauses that grow.
    ExponentialDelay(ExponentialDelay),
    /// As long as there are not too many within a time.
    FailureRate(FailureRate),
}

/// The state of [`RestartStrategy::ExponentialDelay`].
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialDelay {
    initial: Duration,
    max: Duration,
    multiplier: f64,
    reset_threshold: Duration,
    jitter_factor: f64,
    attempts_max: u32,
    /// Failures since the pauses began small.
    n_failures: u32,
    /// When the restart after the last failure was due.
    last_restart: Option<Instant>,
}

/// The state of [`RestartStrategy::FailureRate`].
#[derive(Clone, Debug, PartialEq)]
pub struct FailureRate {
    delay: Duration,
    interval: Duration,
    failures_max: u32,
    /// The times of the last failures, at most one more than are allowed.
    failures: VecDeque<Instant>,
}

impl RestartStrategy {
    /// The configured strategy. As in Flink, a job with checkpoints whose configuration says nothing restarts with growing pauses; one
    /// without does not restart.
    pub fn new(config: &Configuration, has_checkpoints: bool) -> Self {
        let default =
            if has_checkpoints { RestartStrategyType::ExponentialDelay } else { RestartStrategyType::None };
        match config.get(options::RESTART_STRATEGY).unwrap_or(default) {
            RestartStrategyType::None => Self::None,
            RestartStrategyType::FixedDelay => Self::FixedDelay {
                attempts_left: config.get(options::RESTART_FIXED_DELAY_ATTEMPTS),
                delay: config.get(options::RESTART_FIXED_DELAY_DELAY),
            },
            RestartStrategyType::ExponentialDelay => Self::ExponentialDelay(ExponentialDelay {
                initial: config.get(options::RESTART_EXPONENTIAL_INITIAL_BACKOFF),
                max: config.get(options::RESTART_EXPONENTIAL_MAX_BACKOFF),
                multiplier: config.get(options::RESTART_EXPONENTIAL_MULTIPLIER).max(1.0),
                reset_threshold: config.get(options::RESTART_EXPONENTIAL_RESET_THRESHOLD),
                jitter_factor: config.get(options::RESTART_EXPONENTIAL_JITTER).clamp(0.0, 1.0),
                attempts_max: config.get(options::RESTART_EXPONENTIAL_ATTEMPTS),
                n_failures: 0,
                last_restart: None,
            }),
            RestartStrategyType::FailureRate => Self::FailureRate(FailureRate {
                delay: config.get(options::RESTART_FAILURE_RATE_DELAY),
                interval: config.get(options::RESTART_FAILURE_RATE_INTERVAL),
                failures_max: config.get(options::RESTART_FAILURE_RATE_MAX),
                failures: VecDeque::new(),
            }),
        }
    }

    /// The longest pause before a restart.
    pub fn longest_pause(&self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::FixedDelay { delay, .. } | Self::FailureRate(FailureRate { delay, .. }) => *delay,
            Self::ExponentialDelay(ExponentialDelay { initial, max, jitter_factor, .. }) => {
                let pause = initial.max(max).as_secs_f64() * (1.0 + jitter_factor);
                Duration::try_from_secs_f64(pause).unwrap_or(Duration::MAX)
            }
        }
    }

    /// The job has failed: after which pause it starts again; `None` if it does not. `random` are random bits.
    pub fn on_failure(&mut self, now: Instant, random: u64) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::FixedDelay { attempts_left, delay } => {
                *attempts_left = attempts_left.checked_sub(1)?;
                Some(*delay)
            }
            Self::ExponentialDelay(strategy) => strategy.on_failure(now, random),
            Self::FailureRate(strategy) => strategy.on_failure(now),
        }
    }
}

impl ExponentialDelay {
    fn on_failure(&mut self, now: Instant, random: u64) -> Option<Duration> {
        // It has run well for long: the next failure is a new one.
        if self.last_restart.is_some_and(|restart| now - restart >= self.reset_threshold) {
            self.n_failures = 0;
        }
        if self.n_failures >= self.attempts_max {
            return None;
        }
        let exponent = i32::try_from(self.n_failures).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        let pause = Duration::try_from_secs_f64(grown).unwrap_or(self.max).min(self.max);
        self.n_failures += 1;
        // Jobs that failed together do not come back together: up to the factor more or less.
        let share = random as f64 / u64::MAX as f64 * 2.0 - 1.0;
        let jittered = pause.as_secs_f64() * (1.0 + share * self.jitter_factor);
        let pause = Duration::try_from_secs_f64(jittered).unwrap_or(pause).min(self.max);
        self.last_restart = Some(now + pause);
        Some(pause)
    }
}

impl FailureRate {
    fn on_failure(&mut self, now: Instant) -> Option<Duration> {
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|failure| now - *failure > self.interval) {
            self.failures.pop_front();
        }
        (self.failures.len() <= self.failures_max as usize).then_some(self.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(settings: &[(&str, &str)]) -> RestartStrategy {
        let mut config = Configuration::default();
        for (key, value) in settings {
            config.set(&format!("restart-strategy.{key}"), value).unwrap();
        }
        RestartStrategy::new(&config, true)
    }

    /// The pauses in milliseconds after failures at these seconds; -1 where the job fails.
    fn pauses(mut strategy: RestartStrategy, at: &[u64]) -> Vec<i64> {
        let pause = |at: &u64| strategy.on_failure(Instant(Duration::from_secs(*at)), u64::MAX / 2);
        at.iter().map(pause).map(|pause| pause.map_or(-1, |pause| pause.as_millis() as i64)).collect()
    }

    #[test]
    fn a_job_without_checkpoints_does_not_restart_by_default() {
        assert_eq!(RestartStrategy::new(&Configuration::default(), false), RestartStrategy::None);
        assert_eq!(pauses(strategy(&[("type", "none")]), &[0]), [-1]);
    }

    #[test]
    fn fixed_delay_restarts_a_number_of_times() {
        assert_eq!(pauses(strategy(&[("type", "fixed-delay")]), &[0, 1]), [1000, -1]);
        let settings =
            [("type", "fixed-delay"), ("fixed-delay.attempts", "2"), ("fixed-delay.delay", "5 ms")];
        assert_eq!(pauses(strategy(&settings), &[0, 1, 2]), [5, 5, -1]);
    }

    #[test]
    fn exponential_delay_grows_to_its_limit_and_begins_anew_after_a_quiet_time() {
        let at: Vec<_> = (0..13).collect();
        let grown = pauses(strategy(&[]), &at);
        assert_eq!(grown[..4], [1000, 1500, 2250, 3375], "the default of a job with checkpoints");
        assert_eq!(grown[11..], [60_000, 60_000]);
        assert_eq!(pauses(strategy(&[]), &[0, 10, 10_000]), [1000, 1500, 1000]);
        let limited = strategy(&[("exponential-delay.attempts-before-reset-backoff", "1")]);
        assert_eq!(pauses(limited, &[0, 1, 10_000]), [1000, -1, 1000]);
        let jittered = strategy(&[]).on_failure(Instant(Duration::ZERO), 0).unwrap();
        assert_eq!(jittered, Duration::from_millis(900));
    }

    #[test]
    fn failure_rate_counts_within_its_interval() {
        let settings = [
            ("type", "failure-rate"),
            ("failure-rate.max-failures-per-interval", "2"),
            ("failure-rate.failure-rate-interval", "10 s"),
        ];
        assert_eq!(pauses(strategy(&settings), &[0, 5, 11, 12]), [1000, 1000, 1000, -1]);
    }
}
