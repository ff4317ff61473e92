//! Which files of a directory belong to a pattern.

use crate::config::glob_to_regex;
use flott_types::{Error, Result};
use regex_lite::Regex;

pub(super) struct Names(Regex);

/// How a file belongs to a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It was written to, and has been renamed or copied to this name.
    Rotated,
    /// It is written to.
    Live,
}

/// What compressed files end in: they have the content of files that were read.
const COMPRESSED: [&str; 5] = [".gz", ".zst", ".bz2", ".xz", ".zip"];

impl Names {
    pub(super) fn new(glob: &str) -> Result<Self> {
        let regex = Regex::new(&glob_to_regex(glob));
        regex
            .map(Self)
            .map_err(|error| Error::user(format!("the pattern '{glob}' is too long")).with_source(error))
    }

    pub(super) fn kind(&self, name: &str) -> Option<Kind> {
        if COMPRESSED.iter().any(|end| name.ends_with(end)) {
            return None;
        }
        if self.0.is_match(name) {
            return Some(Kind::Live);
        }
        let mut cuts = name.char_indices().filter(|(_, character)| matches!(character, '.' | '-'));
        cuts.any(|(at, _)| name.get(..at).is_some_and(|stem| self.0.is_match(stem))).then_some(Kind::Rotated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_are_those_with_more_behind_the_name() {
        let kinds = |glob: &str, names: &[&str]| {
            let pattern = Names::new(glob).unwrap();
            names.iter().map(|name| pattern.kind(name)).collect::<Vec<_>>()
        };
        let (live, rotated) = (Some(Kind::Live), Some(Kind::Rotated));
        let names = ["app.log", "app.log.1", "app.log-20261123", "app.log.2.gz", "app.logs", "x.app.log"];
        assert_eq!(kinds("app.log", &names), [live, rotated, rotated, None, None, None]);
        assert_eq!(kinds("*.log", &["a.log", "b-c.log", "a.log.1", "a.txt"]), [live, live, rotated, None]);
    }
}
