//! Where in a directory tree a record belongs.

use std::fmt::{Display, Write};

/// The subdirectory of a partition: levels, each one directory whatever its text is.
///
/// Text becomes a level, so a `/` in it does not make two. What cannot stand in the name of a directory, or would lead
/// out of it or hide it, is written as `%` and two hexadecimal digits, as Hive does: `/`, `\`, `%`, control
/// characters, and a `.` or `_` in front.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionPath {
    /// Escaped levels, joined by `/`.
    path: String,
    has_empty_level: bool,
}

impl PartitionPath {
    /// The sink's directory itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// A level `key=value` below.
    #[must_use]
    pub fn with(self, key: &str, value: impl Display) -> Self {
        self.level(&format!("{key}={value}"))
    }

    /// A level with this name below.
    #[must_use]
    pub fn level(mut self, name: &str) -> Self {
        if !self.path.is_empty() {
            self.path.push('/');
        }
        self.has_empty_level |= name.is_empty();
        for (idx, character) in name.char_indices() {
            let hides = idx == 0 && matches!(character, '.' | '_');
            if hides || matches!(character, '/' | '\\' | '%') || character.is_ascii_control() {
                // Writing to a string does not fail; the character is ASCII.
                let _infallible = write!(self.path, "%{:02X}", character as u32);
            } else {
                self.path.push(character);
            }
        }
        self
    }

    /// The relative path, `None` if a level has no name.
    pub(crate) fn relative(&self) -> Option<&str> {
        (!self.has_empty_level).then_some(&self.path)
    }
}

impl From<String> for PartitionPath {
    fn from(name: String) -> Self {
        Self::new().level(&name)
    }
}

impl From<&str> for PartitionPath {
    fn from(name: &str) -> Self {
        Self::new().level(name)
    }
}

#[cfg(test)]
mod tests {
    use super::PartitionPath;

    #[test]
    fn no_text_leads_out_of_its_directory_or_hides_it() {
        for (name, expected) in [
            ("origin=JFK", "origin=JFK"),
            ("origin=a/b", "origin=a%2Fb"),
            ("../../etc", "%2E.%2F..%2Fetc"),
            ("..", "%2E."),
            (".", "%2E"),
            ("_tmp", "%5Ftmp"),
            ("a_b.c", "a_b.c"),
            ("100%", "100%25"),
            ("a\\b\n", "a%5Cb%0A"),
            ("größe=Ä", "größe=Ä"),
        ] {
            assert_eq!(PartitionPath::from(name).relative(), Some(expected));
        }
        assert_eq!(PartitionPath::from("").relative(), None);
        let two = PartitionPath::new().with("year", 2013).with("name", "x/y");
        assert_eq!(two.relative(), Some("year=2013/name=x%2Fy"));
        assert_eq!(PartitionPath::new().relative(), Some(""));
    }
}
