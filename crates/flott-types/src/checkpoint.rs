//! Words of the checkpoint protocol that several layers speak, and the values of its configuration keys.

use crate::config::ConfigValue;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A file of a checkpoint as its writer left it: enough to tell later whether it is still that file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileHandle {
    /// Where it is, relative to the directory of all checkpoints or, if the path begins with `savepoint-`, of savepoints.
    /// Components are separated by `/`.
    pub path: String,
    /// Bytes in it.
    pub len: u64,
    /// XXH3-64 of these bytes.
    pub checksum: u64,
}

impl fmt::Display for FileHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes, xxh3 {:016x})", self.path, self.len, self.checksum)
    }
}

macro_rules! config_enum {
    ($(#[doc = $doc:literal])+ $name:ident, $expected:literal,
     { $($(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal $(| $alias:literal)*,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $variant_doc])+ $variant,)+ }

        impl ConfigValue for $name {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Result<Self, ()> {
                // Flink's enumerations are written in either case and with either dash.
                match text.trim().to_ascii_lowercase().replace('_', "-").as_str() {
                    $($text $(| $alias)* => Ok(Self::$variant),)+
                    _ => Err(()),
                }
            }
            fn to_text(&self) -> String {
                match self { $(Self::$variant => $text,)+ }.to_owned()
            }
        }
    };
}

config_enum! {
    /// What a restart does to records between the last checkpoint and the failure.
    CheckpointingMode, "EXACTLY_ONCE or AT_LEAST_ONCE", {
        /// Each record has its effect on state once: barriers are aligned or overtake.
        ExactlyOnce = "exactly-once",
        /// Records may have their effect twice: barriers are not aligned.
        AtLeastOnce = "at-least-once",
    }
}

config_enum! {
    /// Where checkpoints are kept.
    CheckpointStorageType, "filesystem or jobmanager", {
        /// In a directory: the job goes on from them also when the process was killed and the program is run again.
        Filesystem = "filesystem",
        /// In the memory of the process: enough for restarts of the job within it.
        JobManager = "jobmanager",
    }
}

config_enum! {
    /// What happens to the retained checkpoints of a job that has reached its end.
    ExternalizedCheckpointRetention,
    "NO_EXTERNALIZED_CHECKPOINTS, DELETE_ON_CANCELLATION or RETAIN_ON_CANCELLATION", {
        /// Deleted when the job has finished or was cancelled. (Flink deletes them when it failed, too.)
        NoExternalizedCheckpoints = "no-externalized-checkpoints",
        /// Deleted when the job has finished or was cancelled, kept when it failed.
        DeleteOnCancellation = "delete-on-cancellation",
        /// Deleted when the job has finished, kept when it was cancelled or failed.
        RetainOnCancellation = "retain-on-cancellation",
    }
}

config_enum! {
    /// Who owns the snapshot that a job was started from.
    RecoveryClaimMode, "NO_CLAIM or CLAIM", {
        /// The user: the job never deletes it and never needs it after its first own checkpoint.
        NoClaim = "no-claim",
        /// The job: it is deleted as one of its own checkpoints would be.
        Claim = "claim",
    }
}

config_enum! {
    /// Where keyed state is. Snapshots of one restore into the other.
    StateBackendType, "hashmap or disk", {
        /// In memory, all of it.
        Hashmap = "hashmap",
        /// In memory what is used, on the local disk the rest.
        Disk = "disk" | "rocksdb",
    }
}

config_enum! {
    /// What is started again after the failure of a subtask.
    FailoverStrategy, "region or full", {
        /// Its pipelined region: the subtasks that are connected with it by channels.
        Region = "region",
        /// The whole job.
        Full = "full",
    }
}

config_enum! {
    /// What follows the failure of a job.
    RestartStrategyType, "none, fixed-delay, exponential-delay or failure-rate", {
        /// The job has failed.
        None = "none" | "off" | "disable",
        /// A number of restarts, each after the same pause.
        FixedDelay = "fixed-delay" | "fixeddelay",
        /// Restarts after pauses that grow, and begin small again when the job has run well for long.
        ExponentialDelay = "exponential-delay" | "exponentialdelay",
        /// Restarts as long as there are not too many within a time.
        FailureRate = "failure-rate" | "failurerate",
    }
}

config_enum! {
    /// Where a source starts that does not go on from a snapshot.
    SourceStartupMode, "earliest, timestamp or specific-positions", {
        /// At its beginning.
        Earliest = "earliest" | "earliest-offset",
        /// At a point in event time.
        Timestamp = "timestamp",
        /// At the positions given for its splits.
        SpecificPositions = "specific-positions" | "specific-offsets",
    }
}

config_enum! {
    /// Whether a source ends before its own end.
    SourceBoundedMode, "unbounded or timestamp", {
        /// It ends where it ends by itself, if it does.
        Unbounded = "unbounded",
        /// It ends at a point in event time.
        Timestamp = "timestamp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_every_form_that_flink_writes() {
        for text in ["EXACTLY_ONCE", "exactly-once", " Exactly_Once "] {
            assert_eq!(CheckpointingMode::parse(text), Ok(CheckpointingMode::ExactlyOnce), "{text}");
        }
        for text in ["fixed-delay", "fixeddelay", "FIXED_DELAY"] {
            assert_eq!(RestartStrategyType::parse(text), Ok(RestartStrategyType::FixedDelay), "{text}");
        }
        assert_eq!(RestartStrategyType::parse("off"), Ok(RestartStrategyType::None));
        assert_eq!(RecoveryClaimMode::parse("LEGACY"), Err(()));
        assert_eq!(
            ExternalizedCheckpointRetention::parse("RETAIN_ON_CANCELLATION"),
            Ok(ExternalizedCheckpointRetention::RetainOnCancellation)
        );
    }
}
