//! How far the log and the snapshot have been read.

use flott_api::SourceSplit;
use flott_types::SplitId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in the server's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Lsn(pub(crate) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl std::str::FromStr for Lsn {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let part = |text| u32::from_str_radix(text, 16).map_err(drop);
        Ok(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// Values of the columns of the primary key, as text.
pub(crate) type Key = Vec<String>;

/// A table and its log from a position on. Part of the snapshot format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresCdcSplit {
    pub(crate) slot: String,
    /// All transactions whose commit stands before have been read.
    pub(crate) lsn: Lsn,
    /// And of the next one, if it has been begun, so many changes: where its commit stands, and how many.
    pub(crate) within: Option<(Lsn, u64)>,
    /// `None` when the snapshot has been read.
    pub(crate) snapshot: Option<Progress>,
}

/// How far the snapshot has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) frontier: Frontier,
    /// The last chunk, until the log has passed it.
    pub(crate) chunk: Option<Chunk>,
    /// Transactions of which changes were dropped since the last chunk: the next one must see them.
    pub(crate) dropped: Vec<u32>,
}

/// Up to which key rows have been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Frontier {
    #[default]
    Nothing,
    UpTo(Key),
    Everything,
}

/// Rows of the keys behind `after` and up to the frontier, as a snapshot saw them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) after: Option<Key>,
    pub(crate) seen: Seen,
    /// Transactions whose commit stands here or later were not seen.
    pub(crate) until: Lsn,
}

/// Which transactions a snapshot sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) xmin: u64,
    pub(crate) xmax: u64,
    pub(crate) in_progress: Vec<u64>,
}

impl Seen {
    /// Whether the snapshot sees a transaction of the log, which has been committed. The log has the lower half of its number; a snapshot is less
    /// than two thousand million transactions away from what it is compared with.
    pub(crate) fn sees(&self, xid: u32) -> bool {
        let distance = xid.wrapping_sub(self.xmax as u32).cast_signed();
        let Some(full) = self.xmax.checked_add_signed(i64::from(distance)) else { return true };
        full < self.xmin || full < self.xmax && !self.in_progress.contains(&full)
    }
}

impl std::str::FromStr for Seen {
    type Err = ();

    /// Reads `xmin:xmax:xip,xip,…`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut number = || parts.next().ok_or(())?.parse().map_err(drop);
        let (xmin, xmax) = (number()?, number()?);
        let list = parts.next().unwrap_or_default().split(',').filter(|it| !it.is_empty());
        let in_progress = list.map(|it| it.parse().map_err(drop)).collect::<Result<_, ()>>()?;
        Ok(Self { xmin, xmax, in_progress })
    }
}

impl SourceSplit for PostgresCdcSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("slot-{}", self.slot))
    }
}

#[cfg(test)]
mod tests {
    use super::{Lsn, Seen};

    #[test]
    fn a_snapshot_sees_what_was_committed_before_it() {
        let seen: Seen = "10:20:10,15".parse().unwrap();
        let visible: Vec<u32> = (5..25).filter(|xid| seen.sees(*xid)).collect();
        assert_eq!(visible, [5, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        // Numbers of transactions in the log begin again.
        let seen: Seen = format!("{0}:{0}:", (1_u64 << 32) + 5).parse().unwrap();
        assert!(seen.sees(4) && seen.sees(u32::MAX) && !seen.sees(5) && !seen.sees(1000));
        let seen: Seen = format!("{0}:{0}:", (1_u64 << 32) - 5).parse().unwrap();
        assert!(seen.sees(u32::MAX - 5) && !seen.sees(3));
        assert!(
            "1:2".parse::<Seen>().is_ok() && "1".parse::<Seen>().is_err() && "1:2:x".parse::<Seen>().is_err()
        );
    }

    #[test]
    fn places_in_the_log_are_shown_as_the_server_does() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!((lsn.0, lsn.to_string().as_str()), (0x16_B374_D848, "16/B374D848"));
        assert!("16".parse::<Lsn>().is_err());
    }
}
