//! The format and its options.

use flott_types::{Error, Result};

/// Messages that are one row of CSV each, without a header: the fields of a struct are found by position. `csv` of Flink.
///
/// An empty field is `None` for an `Option`. A line end behind the row may stand or lack; none is written. An empty message (a tombstone)
/// gives no record. A row with too few fields is malformed, unless those that lack have a `#[serde(default)]`. What Flink calls
/// `csv.ignore-parse-errors` is said to the source, for all formats: [`OnError::Skip`](flott_api::OnError).
#[derive(Clone, Debug)]
pub struct CsvFormat {
    pub(crate) field_delimiter: u8,
    pub(crate) quote_character: Option<u8>,
    pub(crate) escape_character: Option<u8>,
    pub(crate) null_literal: Option<String>,
    pub(crate) allow_comments: bool,
    pub(crate) ignore_trailing_unmappable: bool,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self {
            field_delimiter: b',',
            quote_character: Some(b'"'),
            escape_character: None,
            null_literal: None,
            allow_comments: false,
            ignore_trailing_unmappable: false,
        }
    }
}

impl CsvFormat {
    /// Commas and double quotes.
    pub fn new() -> Self {
        Self::default()
    }

    /// `csv.field-delimiter`: what separates fields.
    #[must_use]
    pub fn field_delimiter(self, field_delimiter: u8) -> Self {
        Self { field_delimiter, ..self }
    }

    /// `csv.quote-character`: what encloses fields that contain delimiters, quotes or line ends; doubled, it stands for itself.
    #[must_use]
    pub fn quote_character(self, quote_character: u8) -> Self {
        Self { quote_character: Some(quote_character), ..self }
    }

    /// `csv.disable-quote-character`: quotes have no meaning. A field that would need them cannot be written.
    #[must_use]
    pub fn disable_quote_character(self) -> Self {
        Self { quote_character: None, ..self }
    }

    /// `csv.escape-character`: within quotes it makes the character behind it stand for itself, instead of a doubled quote.
    #[must_use]
    pub fn escape_character(self, escape_character: u8) -> Self {
        Self { escape_character: Some(escape_character), ..self }
    }

    /// `csv.null-literal`: what stands for `None`, for example `NULL`. An empty field stands for it, too, when reading; a text that
    /// is the literal cannot be written.
    #[must_use]
    pub fn null_literal(self, null_literal: impl Into<String>) -> Self {
        Self { null_literal: Some(null_literal.into()), ..self }
    }

    /// `csv.allow-comments`: a message that begins with `#` gives no record. `false` unless said otherwise.
    #[must_use]
    pub fn allow_comments(self, allow_comments: bool) -> Self {
        Self { allow_comments, ..self }
    }

    /// `csv.ignore-trailing-unmappable`: fields behind those of the record's type are left out, instead of making the row malformed.
    /// `false` unless said otherwise.
    #[must_use]
    pub fn ignore_trailing_unmappable(self, ignore_trailing_unmappable: bool) -> Self {
        Self { ignore_trailing_unmappable, ..self }
    }

    /// Refuses characters that cannot be told from each other, or from a part of a longer one.
    pub(crate) fn check(&self) -> Result<()> {
        let all = [Some(self.field_delimiter), self.quote_character, self.escape_character];
        let taken: Vec<u8> = all.into_iter().flatten().collect();
        let differ = taken
            .iter()
            .enumerate()
            .all(|(idx, byte)| !taken.iter().skip(idx + 1).any(|other| other == byte));
        if differ && taken.iter().all(|byte| byte.is_ascii() && !matches!(byte, b'\r' | b'\n')) {
            return Ok(());
        }
        let shown: Vec<char> = taken.into_iter().map(char::from).collect();
        Err(Error::user(format!(
            "field_delimiter, quote_character and escape_character of the CSV format are {shown:?}: they must be different \
             ASCII characters and no line ends"
        )))
    }
}
