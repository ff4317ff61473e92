//! What is on its way in a checkpoint: records that barriers have overtaken, and rows that wait for something slow.

use super::expected::{Numbered, Row};
use super::program::{FIRE, KEYED, PROCESS, RAW, SECOND_SINK, SINK, SLOW};
use flott_checkpoint::{Manifest, RestoredState};
use flott_state::{IN_FLIGHT, InFlightElement, OperatorSnapshot, decode_parts, decode_records};
use flott_types::{Result, Timestamp, Watermark};
use std::collections::BTreeSet;

/// The list state with what waits for something slow.
const WAITING: &str = "_async_wait";

/// What is on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flight {
    /// Records that the keyed operator has not seen.
    pub(crate) to_state: BTreeSet<Numbered>,
    /// Records of which no row has been made that says just that.
    pub(crate) to_rows: BTreeSet<Numbered>,
    /// Rows that no sink has seen.
    pub(crate) rows: BTreeSet<Row>,
    /// Subtasks for which barriers have overtaken something.
    pub(crate) n_subtasks: u64,
    /// Rows that wait.
    pub(crate) n_waiting: usize,
}

impl Flight {
    /// Reads it from all subtasks of all operators.
    ///
    /// # Errors
    /// If something cannot be read.
    pub(crate) fn read(manifest: &Manifest, state: &RestoredState) -> Result<Self> {
        let mut flight = Self::default();
        let parts = manifest.operators.iter().filter_map(|operator| state.parts(&operator.uid));
        parts.flatten().try_for_each(|part| flight.add(part))?;
        Ok(flight)
    }

    fn add(&mut self, part: &OperatorSnapshot) -> Result<()> {
        for waiting in part.list.get(WAITING).into_iter().flatten() {
            let (row, _, _): (Row, Timestamp, Watermark) = flott_state::decode("a waiting row", waiting)?;
            self.rows.insert(row);
            self.n_waiting += 1;
        }
        let entries = part.list.get(IN_FLIGHT).map(Vec::as_slice).unwrap_or_default();
        self.n_subtasks += u64::from(!entries.is_empty());
        for part in decode_parts(entries)? {
            for (channel, element) in &part.elements {
                let (InFlightElement::Records(bytes), Some(edge)) = (element, part.layout.edge_of(*channel))
                else {
                    continue;
                };
                self.add_records(&edge.target.0, bytes)?;
            }
        }
        Ok(())
    }

    /// Records in flight to the operator `target`; those of sinks that only other programs have are of types that nobody knows here.
    fn add_records(&mut self, target: &str, bytes: &[u8]) -> Result<()> {
        if [FIRE, SLOW, SINK, SECOND_SINK].contains(&target) {
            self.rows.extend(decode_records::<Row>(bytes, None)?.into_columns().0);
        }
        if PROCESS.contains(&target) || target == RAW {
            self.to_rows.extend(decode_records::<Numbered>(bytes, None)?.into_columns().0);
        }
        if PROCESS.contains(&target) || KEYED.contains(&target) {
            self.to_state.extend(decode_records::<Numbered>(bytes, None)?.into_columns().0);
        }
        Ok(())
    }

    /// Whether anything that was read has not reached a sink.
    pub(crate) fn is_open(&self) -> bool {
        self.n_subtasks > 0 || self.n_waiting > 0
    }
}
