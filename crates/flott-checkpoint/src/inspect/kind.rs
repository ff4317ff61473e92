//! What a state is: by the kind of map it is in, its name if the engine gave it, else its first byte.

use crate::inspect::{SOURCE_POSITIONS, SOURCE_SPLITS, STATE_SCHEMAS};
use flott_state::{IN_FLIGHT, KEY_GROUP_WATERMARKS, KeyGroupBytes};
use serde::{Serialize, Serializer};
use std::fmt;

/// How a state is divided among subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// By key group.
    Keyed,
    /// Entry by entry.
    List,
    /// All entries to each.
    Union,
    /// The same everywhere.
    Broadcast,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $text:literal,)+) => {
        /// What a state is used as.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum StateKind { $($(#[doc = $doc])+ $kind,)+ }

        impl fmt::Display for StateKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$kind => $text,)+ })
            }
        }
    };
}

kinds! {
    /// One value per key.
    Value = "value",
    /// A list per key.
    ListOfKey = "list",
    /// A map per key.
    Map = "map",
    /// One value per key into which others are reduced.
    Reducing = "reducing",
    /// One accumulator per key.
    Aggregating = "aggregating",
    /// Keyed state of which no key has any, or that this build does not know.
    Keyed = "keyed",
    /// The last value of a reduced keyed stream.
    Reduced = "reduced values",
    /// Windows with their contents.
    Windows = "windows",
    /// Contents of tumbling and sliding windows, by slice.
    Slices = "window slices",
    /// Session windows.
    Sessions = "session windows",
    /// Count windows.
    Counts = "count windows",
    /// Records of both sides that wait for each other.
    JoinBuffers = "join buffers",
    /// Timers in event time.
    EventTimers = "event-time timers",
    /// Timers in processing time.
    ProcessingTimers = "processing-time timers",
    /// Positions of splits.
    Positions = "source positions",
    /// The same for people.
    PositionsText = "source positions, as JSON",
    /// From when on a source is read.
    Span = "source start",
    /// What a sink's writer goes on from.
    SinkWriter = "sink writer",
    /// What is to be committed once the snapshot is complete.
    Committables = "committables",
    /// Records whose asynchronous call has not been answered.
    AsyncWait = "calls under way",
    /// Records that barriers had overtaken.
    InFlight = "records in flight",
    /// Event time that was reached.
    Watermark = "watermark",
    /// Schemas of other states.
    Schemas = "schemas",
    /// A list of the operator.
    OperatorList = "operator list",
    /// A union list of the operator.
    UnionList = "union list",
    /// Broadcast state.
    Broadcast = "broadcast",
    /// State of the engine that this build does not know.
    Engine = "engine",
}

impl Serialize for StateKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl StateKind {
    /// Whether it is a state of the user's, kept through a handle, with the time of last use in each element.
    pub const fn is_handle(self) -> bool {
        matches!(
            self,
            Self::Value | Self::ListOfKey | Self::Map | Self::Reducing | Self::Aggregating | Self::Keyed
        )
    }

    /// The kind of keyed state `name`. States of handles begin each section with a byte that says what they are.
    pub(crate) fn of_keyed(name: &str, groups: &KeyGroupBytes) -> Self {
        match name {
            "_reduce" => Self::Reduced,
            "_windows" => Self::Windows,
            "_windows/slices" => Self::Slices,
            "_windows/sessions" => Self::Sessions,
            "_windows/counts" => Self::Counts,
            "_interval_join" => Self::JoinBuffers,
            "_timers/event" => Self::EventTimers,
            "_timers/processing" => Self::ProcessingTimers,
            _ if name.starts_with('_') => Self::Engine,
            _ => match groups.values().next().and_then(|bytes| bytes.first_bytes().next()).flatten() {
                Some(1) => Self::Value,
                Some(2) => Self::ListOfKey,
                Some(3) => Self::Map,
                Some(4) => Self::Reducing,
                Some(5) => Self::Aggregating,
                Some(_) | None => Self::Keyed,
            },
        }
    }

    /// The kind of operator state `name`.
    pub(crate) fn of_operator(scope: Scope, name: &str) -> Self {
        match name {
            SOURCE_SPLITS => Self::Positions,
            "_sink_writer" => Self::SinkWriter,
            "_sink_committables" => Self::Committables,
            "_async_wait" => Self::AsyncWait,
            "_watermark" | KEY_GROUP_WATERMARKS | "_async_wait/watermarks" | "_closed" => Self::Watermark,
            SOURCE_POSITIONS => Self::PositionsText,
            "_from" => Self::Span,
            "_max_timestamp" => Self::Watermark,
            IN_FLIGHT => Self::InFlight,
            STATE_SCHEMAS => Self::Schemas,
            _ if name.starts_with('_') => Self::Engine,
            _ => match scope {
                Scope::Keyed => Self::Keyed,
                Scope::List => Self::OperatorList,
                Scope::Union => Self::UnionList,
                Scope::Broadcast => Self::Broadcast,
            },
        }
    }
}
