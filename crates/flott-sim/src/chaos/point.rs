//! Where a process can be halted.

use flott_env::sim::SimRng;
use std::fmt;
use std::str::FromStr;

/// A step of the protocol, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step(&'static str);

/// Steps, and how often each is taken in a life of a process: once at its start, or with each checkpoint.
const STEPS: &[(Step, u64)] = &[
    (Step::CLAIM, 1),
    (Step::BASE, 1),
    (Step::RESTORE_FILES, 3),
    (Step::RESTORE_TRANSACTIONAL, 3),
    (Step::RESTORE_EAGER, 3),
    (Step::RESTORE_UPSERT, 3),
    (Step::BARRIER, 30),
    (Step::PREPARE_FILES, 20),
    (Step::PREPARE_TRANSACTIONAL, 20),
    (Step::PREPARE_EAGER, 20),
    (Step::PREPARE_UPSERT, 20),
    (Step::FILE_BEGUN, 20),
    (Step::FILE_SYNCED, 20),
    (Step::PART, 40),
    (Step::MANIFEST, 10),
    (Step::COMMIT_FILES, 20),
    (Step::FILE_NAMED, 20),
    (Step::COMMIT_TRANSACTIONAL, 20),
    (Step::COMMIT_EAGER, 20),
    (Step::SUBSUME, 10),
    (Step::COLLECT, 30),
    (Step::STATE_RUN, 10),
    (Step::END, 1),
];

impl Step {
    /// The record that claims the job.
    pub(crate) const CLAIM: Self = Self("claim");
    /// The record of what a start goes on from.
    pub(crate) const BASE: Self = Self("base");
    /// The record that the job has ended.
    pub(crate) const END: Self = Self("end");
    /// A source says where it is.
    pub(crate) const BARRIER: Self = Self("barrier");
    /// The part of a subtask becomes visible.
    pub(crate) const PART: Self = Self("part");
    /// A manifest becomes visible.
    pub(crate) const MANIFEST: Self = Self("manifest");
    /// The manifest of an old checkpoint is removed.
    pub(crate) const SUBSUME: Self = Self("subsume");
    /// Another file of an old or unfinished checkpoint is removed.
    pub(crate) const COLLECT: Self = Self("collect");
    /// A file of state that is on disk.
    pub(crate) const STATE_RUN: Self = Self("state run");
    /// A hidden file of the file sink is begun.
    pub(crate) const FILE_BEGUN: Self = Self("file begun");
    /// It is complete and made durable.
    pub(crate) const FILE_SYNCED: Self = Self("file synced");
    /// It gets its name: behind the first of several is between two commits.
    pub(crate) const FILE_NAMED: Self = Self("file named");
    pub(crate) const PREPARE_FILES: Self = Self("prepare files");
    pub(crate) const PREPARE_TRANSACTIONAL: Self = Self("prepare transactional");
    pub(crate) const PREPARE_EAGER: Self = Self("prepare eager");
    pub(crate) const PREPARE_UPSERT: Self = Self("prepare upsert");
    pub(crate) const COMMIT_FILES: Self = Self("commit files");
    pub(crate) const COMMIT_TRANSACTIONAL: Self = Self("commit transactional");
    pub(crate) const COMMIT_EAGER: Self = Self("commit eager");
    pub(crate) const RESTORE_FILES: Self = Self("restore files");
    pub(crate) const RESTORE_TRANSACTIONAL: Self = Self("restore transactional");
    pub(crate) const RESTORE_EAGER: Self = Self("restore eager");
    pub(crate) const RESTORE_UPSERT: Self = Self("restore upsert");

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        STEPS.iter().map(|(step, _)| *step)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// Which side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Before,
    Behind,
}

/// The so-manieth time that a process takes a step, before or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) step: Step,
    pub(crate) side: Side,
    pub(crate) nth: u64,
}

impl Point {
    /// Any of them, each step as often as the others.
    pub(crate) fn any(rng: &mut SimRng) -> Self {
        let idx = rng.below(STEPS.len() as u64) as usize;
        let (step, often) = *STEPS.get(idx).expect("below the number of steps");
        let side = if rng.one_in(2) { Side::Before } else { Side::Behind };
        // The first times are worth more: they come soon, and in every life.
        let bound = if rng.one_in(2) { often } else { often / 5 };
        Self { step, side, nth: rng.below(bound) }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::Behind => "behind",
        };
        write!(f, "{}/{side}/{}", self.step, self.nth)
    }
}

impl FromStr for Point {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let point = match parts.as_slice() {
            [name, side, nth] => Step::all().find(|step| step.0 == *name).and_then(|step| {
                let side = match *side {
                    "before" => Side::Before,
                    "behind" => Side::Behind,
                    _ => return None,
                };
                Some(Self { step, side, nth: nth.parse().ok()? })
            }),
            _ => None,
        };
        point.ok_or_else(|| format!("'{text}' is no point, such as manifest/before/0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_survives_its_text_form() {
        let mut rng = SimRng::new(1);
        for _ in 0..1_000 {
            let point = Point::any(&mut rng);
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        for wrong in ["", "manifest", "manifest/beside/0", "manifests/before/0", "manifest/before/x"] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong}");
        }
    }
}
