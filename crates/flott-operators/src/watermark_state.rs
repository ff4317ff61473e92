//! The watermark of a subtask as state, under the name that the timer service uses too.

use flott_state::{OperatorSnapshot, decode, encode};
use flott_types::{Result, Watermark};

const WATERMARK: &str = "_watermark";

/// Adds the watermark that a subtask has reached to a snapshot.
pub(crate) fn save(watermark: Watermark, snapshot: &mut OperatorSnapshot) -> Result<()> {
    snapshot.union.insert(WATERMARK.to_owned(), vec![encode(WATERMARK, &watermark)?]);
    Ok(())
}

/// The least watermark that any subtask had reached.
pub(crate) fn load(snapshot: &OperatorSnapshot) -> Result<Watermark> {
    let watermarks = snapshot.union.get(WATERMARK).into_iter().flatten();
    let watermarks = watermarks.map(|bytes| decode(WATERMARK, bytes)).collect::<Result<Vec<_>>>()?;
    Ok(watermarks.into_iter().min().unwrap_or(Watermark::MIN))
}
