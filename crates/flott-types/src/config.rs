//! Configuration: Flink's keys, typed, with defaults; unknown keys are refused.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Settings of a job or a process, as text by key; later settings replace earlier ones.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    values: BTreeMap<String, String>,
}

/// Values of keys that hold secrets are not shown.
impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(key, value)| (key, if is_sensitive(key) { "******" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

/// Whether the value of a key is nobody's business: a password, a key of a store, a token. By Flink's list of words.
fn is_sensitive(key: &str) -> bool {
    const WORDS: &[&str] =
        &["password", "secret", "access-key", "account.key", "apikey", "api-key", "token", "service-key"];
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

impl Configuration {
    /// Sets `key` after checking that it exists and that `value` parses.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](crate::ErrorKind::UserError) that names the key and either the nearest known key or
    /// the expected form of the value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if options::FAMILIES
            .iter()
            .any(|(family, _)| key.strip_prefix(family).is_some_and(|rest| !rest.is_empty()))
        {
            self.values.insert(key.to_owned(), value.to_owned());
            return Ok(());
        }
        let of_all = of_one_source(key).map(|(_, of_all)| of_all);
        let of_all = of_all.as_deref().unwrap_or(key);
        let Some((_, check)) = options::ALL.iter().find(|(known, _)| *known == of_all) else {
            let nearest =
                options::ALL.iter().map(|(known, _)| *known).min_by_key(|known| distance(known, key));
            let hint = nearest.map(|known| format!("; did you mean '{known}'?")).unwrap_or_default();
            return Err(Error::user(format!("unknown configuration key '{key}'{hint}")));
        };
        check(key, value)?;
        self.values.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Sets a typed option.
    pub fn set_option<T: ConfigValue>(&mut self, option: ConfigOption<T>, value: &T) {
        self.values.insert(option.key.to_owned(), value.to_text());
    }

    /// The value of `option`, or its default.
    pub fn get<T: ConfigValue>(&self, option: ConfigOption<T>) -> T {
        match self.values.get(option.key) {
            // `set` has parsed it already; an unparsable value cannot be in the map.
            Some(text) => T::parse(text).unwrap_or_else(|_| (option.default)()),
            None => (option.default)(),
        }
    }

    /// The value that was set for the source `uid` alone.
    pub fn get_of_source<T: ConfigValue>(&self, option: ConfigOption<T>, uid: &str) -> Option<T> {
        let rest = option.key.strip_prefix(SOURCE_KEYS)?;
        // `set` has parsed it already.
        self.values.get(&format!("{SOURCE_KEYS}{uid}.{rest}")).and_then(|text| T::parse(text).ok())
    }

    /// The uids for which something was set alone, with the key.
    pub fn source_uids(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.keys().filter_map(|key| of_one_source(key).map(|(uid, _)| (uid, key.as_str())))
    }

    /// Whether `option` was set by somebody.
    pub fn contains<T>(&self, option: ConfigOption<T>) -> bool {
        self.values.contains_key(option.key)
    }

    /// Takes over every setting of `other`, replacing what is here.
    pub fn merge(&mut self, other: &Self) {
        self.values.extend(other.values.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    /// All settings, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// What the keys of sources begin with.
const SOURCE_KEYS: &str = "source.";

/// The uid in a key that is about one source, `source.UID.scan.…`, and the same key for all sources.
fn of_one_source(key: &str) -> Option<(&str, String)> {
    let (uid, rest) = key.strip_prefix(SOURCE_KEYS)?.split_once(".scan.")?;
    (!uid.is_empty()).then(|| (uid, format!("{SOURCE_KEYS}scan.{rest}")))
}

/// A typed key with its default.
#[derive(Debug)]
pub struct ConfigOption<T> {
    /// The key, Flink's where Flink has it.
    pub key: &'static str,
    /// Makes the default.
    pub default: fn() -> T,
}

impl<T> Clone for ConfigOption<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for ConfigOption<T> {}

/// A type that options can have.
pub trait ConfigValue: Sized {
    /// What a value looks like, for error messages.
    const EXPECTED: &'static str;
    /// Parses the text of a setting.
    ///
    /// # Errors
    /// `Err(())` if the text is not [`Self::EXPECTED`]; the caller knows the key and says so.
    #[expect(clippy::result_unit_err, reason = "the caller makes the message from EXPECTED and the key")]
    fn parse(text: &str) -> Result<Self, ()>;
    /// The text that [`ConfigValue::parse`] reads back.
    fn to_text(&self) -> String;
}

/// A number of bytes; written like `32 kb`, `64 mb`, `1 gb` or plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(pub u64);

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

impl ConfigValue for Duration {
    const EXPECTED: &'static str = "a duration such as '200 ms', '10 s', '5 min', '1 h' or '1 d'";
    fn parse(text: &str) -> Result<Self, ()> {
        let (number, unit) = number_and_unit(text).ok_or(())?;
        match unit.as_str() {
            "ns" | "nano" | "nanos" => Ok(Self::from_nanos(number)),
            "us" | "µs" | "micro" | "micros" => Ok(Self::from_micros(number)),
            "" | "ms" | "milli" | "millis" => Ok(Self::from_millis(number)),
            "s" | "sec" | "second" | "seconds" => Ok(Self::from_secs(number)),
            "m" | "min" | "minute" | "minutes" => number.checked_mul(60).map(Self::from_secs).ok_or(()),
            "h" | "hour" | "hours" => number.checked_mul(3600).map(Self::from_secs).ok_or(()),
            "d" | "day" | "days" => number.checked_mul(86_400).map(Self::from_secs).ok_or(()),
            _ => Err(()),
        }
    }
    fn to_text(&self) -> String {
        format!("{} ns", self.as_nanos())
    }
}

impl ConfigValue for MemorySize {
    const EXPECTED: &'static str = "a size such as '512 kb', '64 mb' or '1 gb'";
    fn parse(text: &str) -> Result<Self, ()> {
        let (number, unit) = number_and_unit(text).ok_or(())?;
        let shift = match unit.as_str() {
            "" | "b" | "bytes" => 0,
            "k" | "kb" | "kibibytes" => 10,
            "m" | "mb" | "mebibytes" => 20,
            "g" | "gb" | "gibibytes" => 30,
            "t" | "tb" | "tebibytes" => 40,
            _ => return Err(()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or(())
    }
    fn to_text(&self) -> String {
        format!("{} b", self.0)
    }
}

impl ConfigValue for bool {
    const EXPECTED: &'static str = "true or false";
    fn parse(text: &str) -> Result<Self, ()> {
        text.trim().to_ascii_lowercase().parse().map_err(|_| ())
    }
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl ConfigValue for u32 {
    const EXPECTED: &'static str = "a whole number";
    fn parse(text: &str) -> Result<Self, ()> {
        text.trim().parse().map_err(|_| ())
    }
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl ConfigValue for f64 {
    const EXPECTED: &'static str = "a number such as '1.5'";
    fn parse(text: &str) -> Result<Self, ()> {
        text.trim().parse().ok().filter(|number: &Self| number.is_finite()).ok_or(())
    }
    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// A setting without a default; `(none)`, as Flink's reference writes it, takes a setting back.
impl<T: ConfigValue> ConfigValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn parse(text: &str) -> Result<Self, ()> {
        if text.trim() == "(none)" { Ok(None) } else { T::parse(text).map(Some) }
    }
    fn to_text(&self) -> String {
        self.as_ref().map_or_else(|| "(none)".to_owned(), T::to_text)
    }
}

impl ConfigValue for String {
    const EXPECTED: &'static str = "text";
    fn parse(text: &str) -> Result<Self, ()> {
        Ok(text.to_owned())
    }
    fn to_text(&self) -> String {
        self.clone()
    }
}

fn check<T: ConfigValue>(key: &str, text: &str) -> Result<()> {
    match T::parse(text) {
        Ok(_) => Ok(()),
        Err(()) => {
            Err(Error::user(format!("configuration key '{key}' is '{text}': expected {}", T::EXPECTED)))
        }
    }
}

/// Levenshtein distance, to suggest a key.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = diagonal + usize::from(ca != cb);
            diagonal = *cell;
            *cell = cost.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// Every key that this version understands.
pub mod options {
    use super::{ConfigOption, MemorySize, Result, check};
    use crate::checkpoint::{
        CheckpointStorageType, CheckpointingMode, ExternalizedCheckpointRetention, FailoverStrategy,
        RecoveryClaimMode, RestartStrategyType, SourceBoundedMode, SourceStartupMode, StateBackendType,
    };
    use crate::timestamp_text::TimestampText;
    use std::time::Duration;

    macro_rules! options {
        ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $key:literal, $default:expr;)*) => {
            $($(#[doc = $doc])+ pub const $name: ConfigOption<$type> = ConfigOption { key: $key, default: || $default };)*
            /// Keys with the check of their values.
            pub(super) const ALL: &[(&str, fn(&str, &str) -> Result<()>)] = &[$(($key, check::<$type>)),*];
            /// Key, default (as text) and description of every option, for `--help` and the reference page.
            pub fn reference() -> Vec<(&'static str, String, String)> {
                let mut all = vec![$(($key, super::ConfigValue::to_text(&($default as $type)), [$($doc.trim()),+].join(" "))),*];
                all.extend(FAMILIES.iter().map(|(key, doc)| (*key, "(none)".to_owned(), (*doc).to_owned())));
                all
            }
        };
    }

    /// The key of a storage account of Azure, `fs.azure.account.key.<account>.dfs.core.windows.net`.
    pub const AZURE_ACCOUNT_KEY: &str = "fs.azure.account.key.";

    /// Keys of which the rest is a name that the user chooses: how they begin, and their description.
    pub const FAMILIES: &[(&str, &str)] = &[(
        AZURE_ACCOUNT_KEY,
        "The key of the storage account of Azure whose name follows, such as account.dfs.core.windows.net.",
    )];

    options! {
        /// Parallelism of operators that do not say; 0 means one subtask per core.
        PARALLELISM_DEFAULT: u32 = "parallelism.default", 1;
        /// Number of key groups; 0 means 4,096.
        MAX_PARALLELISM: u32 = "pipeline.max-parallelism", 0;
        /// Name of the job.
        PIPELINE_NAME: String = "pipeline.name", "Flott Streaming Job".to_owned();
        /// The identity of the job, as 32 hexadecimal digits: whoever has it goes on from the job's checkpoints. Without it, it is made of
        /// the name of the job if checkpoints have a directory, and at random if they have none.
        JOB_ID: Option<String> = "pipeline.job-id", None;
        /// Whether operators that can be are fused into one task.
        OPERATOR_CHAINING_ENABLED: bool = "pipeline.operator-chaining.enabled", true;
        /// How often, in processing time, watermark generators are asked for a watermark although no record came.
        AUTO_WATERMARK_INTERVAL: Duration = "pipeline.auto-watermark-interval", Duration::from_millis(200);
        /// Watermarks of the built-in generators are rounded down to multiples of it (in event time), so that
        /// results depend on the records of a split only, never on the batches they came in.
        WATERMARK_GRANULARITY: Duration = "pipeline.watermark-granularity", Duration::from_millis(100);
        /// A split that has had nothing to read for this long does not hold event time back; 0 turns it off.
        SOURCE_IDLE_TIMEOUT: Duration = "pipeline.source-idle-timeout", Duration::from_secs(30);
        /// How often splits of an alignment group report their watermark.
        WATERMARK_ALIGNMENT_UPDATE_INTERVAL: Duration = "pipeline.watermark-alignment.update-interval", Duration::from_millis(1000);
        /// Records in a batch at most.
        BATCH_SIZE: u32 = "execution.batch-size", 1024;
        /// A batch that waits for more records is sent after this time even while the subtask is busy.
        BUFFER_TIMEOUT: Duration = "execution.buffer-timeout.interval", Duration::from_millis(100);
        /// Bytes in flight at most in the channels into one subtask.
        CHANNEL_MEMORY: MemorySize = "taskmanager.network.memory.max-per-gate", MemorySize(1 << 20);

        /// Time between two triggers of a checkpoint; without it, or with 0, none are taken.
        CHECKPOINTING_INTERVAL: Option<Duration> = "execution.checkpointing.interval", None;
        /// EXACTLY_ONCE or AT_LEAST_ONCE: whether barriers are aligned.
        CHECKPOINTING_MODE: CheckpointingMode = "execution.checkpointing.mode", CheckpointingMode::ExactlyOnce;
        /// A checkpoint that is not complete after this time is aborted.
        CHECKPOINTING_TIMEOUT: Duration = "execution.checkpointing.timeout", Duration::from_secs(600);
        /// Time at least between the end of one checkpoint and the trigger of the next.
        CHECKPOINTING_MIN_PAUSE: Duration = "execution.checkpointing.min-pause", Duration::ZERO;
        /// Checkpoints under way at a time at most; 1 whenever a minimal pause is set.
        CHECKPOINTING_MAX_CONCURRENT: u32 = "execution.checkpointing.max-concurrent-checkpoints", 1;
        /// Checkpoints that may fail one after the other before the job fails.
        CHECKPOINTING_TOLERABLE_FAILED: u32 = "execution.checkpointing.tolerable-failed-checkpoints", 0;
        /// Complete checkpoints to keep.
        CHECKPOINTING_NUM_RETAINED: u32 = "execution.checkpointing.num-retained", 1;
        /// Whether checkpoints are files, which outlive the process. (In Flink the default is the memory of the job manager.)
        CHECKPOINTING_STORAGE: CheckpointStorageType = "execution.checkpointing.storage", CheckpointStorageType::Filesystem;
        /// Directory of checkpoints; flott-checkpoints in the working directory if it is not set.
        CHECKPOINTING_DIR: Option<String> = "execution.checkpointing.dir", None;
        /// Directory of savepoints; that of checkpoints if it is not set.
        CHECKPOINTING_SAVEPOINT_DIR: Option<String> = "execution.checkpointing.savepoint-dir", None;
        /// Whether the retained checkpoints outlive a job that was cancelled.
        CHECKPOINTING_RETENTION: ExternalizedCheckpointRetention = "execution.checkpointing.externalized-checkpoint-retention", ExternalizedCheckpointRetention::NoExternalizedCheckpoints;
        /// Whether checkpoints are taken while a part of the job has already finished.
        CHECKPOINTING_AFTER_TASKS_FINISH: bool = "execution.checkpointing.checkpoints-after-tasks-finish", true;
        /// Whether checkpoints have only what has changed since the one before, of state where that is known. Savepoints are always whole.
        CHECKPOINTING_INCREMENTAL: bool = "execution.checkpointing.incremental", false;
        /// Whether barriers may overtake records, which then become part of the checkpoint.
        CHECKPOINTING_UNALIGNED: bool = "execution.checkpointing.unaligned.enabled", false;
        /// Barriers that may overtake do so only this long after their checkpoint was triggered.
        CHECKPOINTING_ALIGNED_TIMEOUT: Duration = "execution.checkpointing.aligned-checkpoint-timeout", Duration::ZERO;
        /// Cannot be set: there are no iterations that it would allow.
        CHECKPOINTING_UNALIGNED_FORCED: bool = "execution.checkpointing.unaligned.forced", false;
        /// Cannot be set: all timers of a watermark are fired in one step.
        CHECKPOINTING_UNALIGNED_INTERRUPTIBLE_TIMERS: bool = "execution.checkpointing.unaligned.interruptible-timers.enabled", false;
        /// Can only be 1: each subtask writes what is in flight to it into its own file.
        CHECKPOINTING_UNALIGNED_MAX_SUBTASKS_PER_FILE: u32 = "execution.checkpointing.unaligned.max-subtasks-per-channel-state-file", 1;
        /// Can only be true: what is in flight is with its receiver.
        CHECKPOINTING_UNALIGNED_RECOVER_DOWNSTREAM: bool = "execution.checkpointing.unaligned.recover-output-on-downstream.enabled", true;

        /// hashmap: keyed state is in memory. disk: what is used is in memory, the rest on the local disk. (Flink's rocksdb is read as disk.)
        STATE_BACKEND: StateBackendType = "state.backend.type", StateBackendType::Hashmap;
        /// Bytes of keyed state in memory at most, roughly, for each subtask of a keyed operator if state is on disk.
        STATE_DISK_MEMORY: MemorySize = "state.backend.disk.memory", MemorySize(128 << 20);
        /// Directory of state on disk; without it a directory `flott-state` among the system's temporary files. Nothing in it outlives the process.
        STATE_LOCAL_DIR: Option<String> = "state.backend.local-dir", None;
        /// How much of keyed state is copied between two batches while a checkpoint is under way, in places of its tables.
        STATE_SNAPSHOT_PLACES: u32 = "state.backend.snapshot-places-per-step", 8192;
        /// Bytes of keyed state that a snapshot writes and reads at a time; parts of at most so many are read at once.
        STATE_SNAPSHOT_SECTION: MemorySize = "state.backend.snapshot-section-size", MemorySize(1 << 20);

        /// The savepoint or checkpoint to start from.
        STATE_RECOVERY_PATH: Option<String> = "execution.state-recovery.path", None;
        /// Whether state that no operator of the job claims is left behind instead of refused.
        STATE_RECOVERY_IGNORE_UNCLAIMED: bool = "execution.state-recovery.ignore-unclaimed-state", false;
        /// Who owns the snapshot that the job was started from.
        STATE_RECOVERY_CLAIM_MODE: RecoveryClaimMode = "execution.state-recovery.claim-mode", RecoveryClaimMode::NoClaim;

        /// region or full: whether the failure of a subtask starts only those again that it exchanges records with, or the whole job.
        FAILOVER_STRATEGY: FailoverStrategy = "jobmanager.execution.failover-strategy", FailoverStrategy::Region;
        /// Where sources start that do not go on from a snapshot: earliest, timestamp or specific-positions; without it what the other
        /// keys imply. All keys source.scan.* may also be set for one source, as source.UID.scan.*.
        SOURCE_STARTUP_MODE: Option<SourceStartupMode> = "source.scan.startup.mode", None;
        /// Records with an event time before this are left out. RFC 3339 or milliseconds since 1970.
        SOURCE_STARTUP_TIMESTAMP: Option<TimestampText> = "source.scan.startup.timestamp-millis", None;
        /// The splits to read with their positions, as `flott savepoint positions` prints them. Only for one source, by its uid.
        SOURCE_STARTUP_POSITIONS: Option<String> = "source.scan.startup.specific-positions", None;
        /// Whether sources end before their own end: unbounded or timestamp; without it what the next key implies.
        SOURCE_BOUNDED_MODE: Option<SourceBoundedMode> = "source.scan.bounded.mode", None;
        /// Records with this event time or a later one are left out, and a source ends when its watermark shows that none before it
        /// can follow. RFC 3339 or milliseconds since 1970.
        SOURCE_BOUNDED_TIMESTAMP: Option<TimestampText> = "source.scan.bounded.timestamp-millis", None;
        /// How much further the watermark goes before a source ends, for late records; without it the longest allowed lateness of the
        /// job's windows.
        SOURCE_BOUNDED_LATENESS: Option<Duration> = "source.scan.bounded.allowed-lateness", None;
        /// The key with which requests to S3 are signed. Without it the usual variables count (AWS_ACCESS_KEY_ID, ...), or the role of the machine.
        S3_ACCESS_KEY: Option<String> = "s3.access-key", None;
        /// The secret that belongs to s3.access-key.
        S3_SECRET_KEY: Option<String> = "s3.secret-key", None;
        /// Where an S3-compatible store is, such as `https://minio.example:9000`; Amazon's if it is not set.
        S3_ENDPOINT: Option<String> = "s3.endpoint", None;
        /// The region of the buckets; without it AWS_REGION counts, else us-east-1.
        S3_REGION: Option<String> = "s3.region", None;
        /// Whether the bucket is a part of the path of requests and not of the name of the host. Always so if s3.endpoint is set.
        S3_PATH_STYLE_ACCESS: bool = "s3.path-style-access", false;
        /// The same as s3.path-style-access, as older versions of Flink write it.
        S3_PATH_STYLE_ACCESS_OLD: bool = "s3.path.style.access", false;
        /// Whether requests to S3 are not signed at all.
        S3_ANONYMOUS_CREDENTIALS: bool = "s3.anonymous-credentials", false;
        /// Where Google's Cloud Storage is, such as an emulator at `http://127.0.0.1:4443`; Google's own if it is not set.
        GCS_ROOT_URL: Option<String> = "gs.storage.root.url", None;
        /// Who asks Google's Cloud Storage: SERVICE_ACCOUNT_JSON_KEYFILE or UNAUTHENTICATED. Without it the key file if there is one, else
        /// the usual variables (GOOGLE_APPLICATION_CREDENTIALS, ...), or the machine.
        GCS_AUTH_TYPE: Option<String> = "gs.auth.type", None;
        /// The file with the JSON key of the service account that asks Google's Cloud Storage, on each machine.
        GCS_KEY_FILE: Option<String> = "gs.auth.service.account.json.keyfile", None;
        /// Where Azure's Blob Storage is, such as an emulator at `http://127.0.0.1:10000`: the account is then the first part of the path of
        /// requests. Azure's own if it is not set.
        AZURE_ENDPOINT: Option<String> = "fs.azure.abfs.endpoint", None;

        /// none, fixed-delay, exponential-delay or failure-rate. Without it: exponential-delay if checkpoints are on, else none.
        RESTART_STRATEGY: Option<RestartStrategyType> = "restart-strategy.type", None;
        /// Restarts before the job fails.
        RESTART_FIXED_DELAY_ATTEMPTS: u32 = "restart-strategy.fixed-delay.attempts", 1;
        /// Pause before each restart.
        RESTART_FIXED_DELAY_DELAY: Duration = "restart-strategy.fixed-delay.delay", Duration::from_secs(1);
        /// Pause before the first restart.
        RESTART_EXPONENTIAL_INITIAL_BACKOFF: Duration = "restart-strategy.exponential-delay.initial-backoff", Duration::from_secs(1);
        /// The longest pause before a restart.
        RESTART_EXPONENTIAL_MAX_BACKOFF: Duration = "restart-strategy.exponential-delay.max-backoff", Duration::from_secs(60);
        /// What the pause is multiplied by after each failure.
        RESTART_EXPONENTIAL_MULTIPLIER: f64 = "restart-strategy.exponential-delay.backoff-multiplier", 1.5;
        /// A job that has run this long without a failure begins with the first pause again.
        RESTART_EXPONENTIAL_RESET_THRESHOLD: Duration = "restart-strategy.exponential-delay.reset-backoff-threshold", Duration::from_secs(3600);
        /// The part of the pause by which it is randomly longer or shorter.
        RESTART_EXPONENTIAL_JITTER: f64 = "restart-strategy.exponential-delay.jitter-factor", 0.1;
        /// Restarts within one such row before the job fails.
        RESTART_EXPONENTIAL_ATTEMPTS: u32 = "restart-strategy.exponential-delay.attempts-before-reset-backoff", 2_147_483_647;
        /// Pause before each restart.
        RESTART_FAILURE_RATE_DELAY: Duration = "restart-strategy.failure-rate.delay", Duration::from_secs(1);
        /// The time in which failures are counted.
        RESTART_FAILURE_RATE_INTERVAL: Duration = "restart-strategy.failure-rate.failure-rate-interval", Duration::from_secs(60);
        /// Failures within that time that the job survives.
        RESTART_FAILURE_RATE_MAX: u32 = "restart-strategy.failure-rate.max-failures-per-interval", 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        let error = Configuration::default().set("paralelism.default", "2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown configuration key 'paralelism.default'; did you mean 'parallelism.default'?"
        );
    }

    #[test]
    fn a_wrong_value_says_what_was_expected() {
        let error = Configuration::default().set("execution.buffer-timeout.interval", "soon").unwrap_err();
        assert!(error.to_string().contains("is 'soon': expected a duration such as"), "{error}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut configuration = Configuration::default();
        for key in ["s3.access-key", "s3.secret-key", "fs.azure.account.key.mine.dfs.core.windows.net"] {
            configuration.set(key, "hunter2").expect("a key");
        }
        configuration.set("s3.endpoint", "http://here").expect("a key");
        let shown = format!("{configuration:?}");
        assert!(!shown.contains("hunter2") && shown.contains("http://here"), "{shown}");
        assert!(configuration.set("fs.azure.account.key.", "x").is_err(), "an account has a name");
    }

    #[test]
    fn durations_and_sizes_are_read_as_flink_writes_them() {
        for (text, millis) in
            [("200", 200), ("200 ms", 200), ("10s", 10_000), ("5 min", 300_000), ("1 d", 86_400_000)]
        {
            assert_eq!(<Duration as ConfigValue>::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, bytes) in [("1", 1), ("32 kb", 32 << 10), ("64mb", 64 << 20), ("1 g", 1 << 30)] {
            assert_eq!(<MemorySize as ConfigValue>::parse(text), Ok(MemorySize(bytes)), "{text}");
        }
        assert!(<Duration as ConfigValue>::parse("-1 s").is_err());
        assert!(<MemorySize as ConfigValue>::parse("99999999999 tb").is_err());
    }

    #[test]
    fn keys_of_sources_are_for_all_of_them_or_for_one() {
        let mut config = Configuration::default();
        config.set("source.scan.startup.timestamp-millis", "2013-01-10").unwrap();
        config.set("source.my.flights.scan.startup.timestamp-millis", "7").unwrap();
        let option = options::SOURCE_STARTUP_TIMESTAMP;
        assert_eq!(config.get(option).map(|at| at.0), Some(1_357_776_000_000));
        assert_eq!(config.get_of_source(option, "my.flights").flatten().map(|at| at.0), Some(7));
        assert_eq!(config.get_of_source(option, "others"), None);
        assert_eq!(config.source_uids().map(|(uid, _)| uid).collect::<Vec<_>>(), ["my.flights"]);
        let error = config.set("source.flights.scan.startup.timestamp-millis", "soon").unwrap_err();
        assert!(error.to_string().contains("source.flights.scan.startup.timestamp-millis"), "{error}");
        assert!(config.set("source.flights.scan.startup.timestamp", "1").is_err());
    }

    #[test]
    fn typed_values_survive_the_text_form() {
        let mut configuration = Configuration::default();
        configuration.set_option(options::BUFFER_TIMEOUT, &Duration::from_micros(1_500));
        assert_eq!(configuration.get(options::BUFFER_TIMEOUT), Duration::from_micros(1_500));
        assert_eq!(configuration.get(options::BATCH_SIZE), 1024);
    }
}
