//! State: what an operator remembers, by key group, with snapshot and restore.
//!
//! * [`KeyedTable`]: a hash map of the user's types; the hot path of every keyed operator.
//! * [`KeyedStateBackend`]: the named states of one operator subtask, and the key in whose scope they are read.
//! * [`ValueState`], [`ListState`], [`MapState`], [`ReducingState`], [`AggregatingState`]: what users hold.
//! * [`OperatorStateBackend`], [`OperatorListState`], [`BroadcastState`]: state that belongs to no key.
//! * [`TimerService`]: event- and processing-time timers, which are keyed state too; [`KeyedEventTime`]: how far event time has come.
//! * [`OperatorSnapshot`]: what a subtask leaves behind, and how a new set of subtasks divides it; [`BegunSnapshot`]: the
//!   same on its way, while records go on.
//!
//! * [`IN_FLIGHT`]: records that barriers have overtaken, as part of a snapshot.
//! * [`KeyedSchemas`]: of which types the entries of keyed states are, and how those of older types are read. Entries of other states
//!   have their types beside them in [`OperatorSnapshot::schemas`].
//! * [`LocalState`]: whether tables keep what is not used on the local disk, and where.
//!
//! Values in memory are the user's own types and nothing is serialized on access; entries that are not used may go to disk
//! (`cold`, docs/design/0004). The crate sits below `flott-api` so that the contexts which user functions get are concrete
//! types over it and a state access is no virtual call (docs/design/0001).
//!
//! Invariants: every key of a table lies in the subtask's [`KeyGroupRange`](flott_types::KeyGroupRange); a snapshot
//! taken at one parallelism restores at any other up to the recorded `max_parallelism`; a state that a snapshot
//! holds and nobody has asked for yet is kept and written again; names of states that start with `_` are the
//! engine's.

#![deny(missing_docs)]

mod backend;
mod begun;
mod codec;
mod cold;
mod event_time;
mod handles;
mod in_flight;
mod local;
mod operator_state;
mod schemas;
mod snapshot;
mod table;
#[cfg(test)]
mod testing;
mod timers;
mod ttl;

pub use backend::{KeyScope, KeyedState, KeyedStateBackend, KeyedStateStore};
pub use begun::{
    BegunSnapshot, ChainSnapshot, GroupLayout, KeyedStream, KeyedStreamSender, Piece, SectionSink,
    SnapshotProgress, SnapshotWriter,
};
pub use codec::{decode, encode, encode_into};
pub use event_time::{KEY_GROUP_WATERMARKS, KeyedEventTime};
pub use handles::{AggregatingState, ListState, MapState, ReducingState, ValueState};
pub use in_flight::{
    IN_FLIGHT, InFlightChannel, InFlightEdge, InFlightElement, InFlightLayout, InFlightPart, Routing,
    assign_in_flight, count_records, decode_parts, decode_records, encode_element, encode_layout,
    record_schema,
};
pub use local::{LocalState, StateSettings};
pub use operator_state::{
    BroadcastState, OperatorListState, OperatorStateBackend, OperatorStateStore, OperatorStateStoreMut,
};
pub use schemas::{EntryReader, HandleTypes, KeyedSchemas, STATE_SCHEMAS, StateFit, StateTypes};
pub use snapshot::{
    GroupBytes, KeyGroupBytes, OperatorSnapshot, SectionKind, StoredSection, groups_in_memory,
};
pub use table::{FoundSlot, KeyedTable, PlainTable, Slot, VacantSlot};
pub use timers::{TimerQueue, TimerService};
pub use ttl::{StateTtlConfig, TtlUpdate, TtlVisibility};
