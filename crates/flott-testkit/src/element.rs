//! What a driver is fed with and what comes out, with its text form.

use crate::text;
use flott_types::{Error, Result, StreamStatus, Timestamp, Watermark};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// One element of a stream in a test.
///
/// Its text form is one word, and a stream is a line of them:
///
/// | text | element |
/// |---|---|
/// | `+a@10`, `+a` | the record `a` with timestamp 10, or without one |
/// | `+"a b"@10` | the same for text with blanks, quotes or a confusing `@`; escapes as in Rust |
/// | `W12`, `W-inf`, `W+inf` | a watermark |
/// | `I`, `A` | the stream becomes idle, active |
/// | `P20` | processing time advances to 20, if it has not passed that; input only |
/// | `B3` | the barrier of checkpoint 3: a snapshot is taken |
/// | `E` | the end of data |
///
/// What side outputs get is printed as `tag:+a@10`; with two inputs, `1:` and `2:` say which one is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element<T> {
    /// A record and its timestamp, [`flott_types::NO_TIMESTAMP`] if it has none.
    Record(T, Timestamp),
    /// Event time has advanced.
    Watermark(Watermark),
    /// The stream becomes idle or active.
    Status(StreamStatus),
    /// The wall clock advances to this time, in milliseconds since the epoch.
    ProcessingTime(Timestamp),
    /// The barrier of a checkpoint, with its id.
    Barrier(u64),
    /// Nothing follows.
    EndOfData,
}

/// One element of the two streams of a [`TwoInputTestDriver`](crate::TwoInputTestDriver).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwoInputElement<A, B> {
    /// Of the first stream; text `1:…`.
    First(Element<A>),
    /// Of the second stream; text `2:…`.
    Second(Element<B>),
    /// Of both at once, which no record is; text without a prefix.
    Both(Element<Infallible>),
}

impl<T: fmt::Display> fmt::Display for Element<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(|record, timestamp| text::print_record(&record.to_string(), timestamp)))
    }
}

impl<T> Element<T> {
    /// The text form, with records as `print` writes them.
    pub(crate) fn to_text(&self, print: impl FnOnce(&T, Timestamp) -> String) -> String {
        match self {
            Self::Record(record, timestamp) => print(record, *timestamp),
            Self::Watermark(watermark) => watermark.to_string(),
            Self::Status(StreamStatus::Active) => "A".to_owned(),
            Self::Status(StreamStatus::Idle) => "I".to_owned(),
            Self::ProcessingTime(at) => format!("P{at}"),
            Self::Barrier(checkpoint_id) => format!("B{checkpoint_id}"),
            Self::EndOfData => "E".to_owned(),
        }
    }
}

impl<A: fmt::Display, B: fmt::Display> fmt::Display for TwoInputElement<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(element) => write!(f, "1:{element}"),
            Self::Second(element) => write!(f, "2:{element}"),
            Self::Both(element) => element.fmt(f),
        }
    }
}

impl<T> Element<T> {
    fn parse(word: &str, parse_record: impl FnOnce(&str) -> Result<T>) -> Result<Self> {
        let number = |from: usize| word.get(from..).and_then(|digits| digits.parse::<i64>().ok());
        let element = match word.chars().next() {
            Some('+') => {
                let (record, timestamp) = text::parse_record(word)?;
                return Ok(Self::Record(parse_record(&record)?, timestamp));
            }
            Some('W') => match word {
                "W-inf" => Some(Self::Watermark(Watermark::MIN)),
                "W+inf" => Some(Self::Watermark(Watermark::MAX)),
                _ => number(1).map(Watermark).map(Self::Watermark),
            },
            Some('P') => number(1).map(Self::ProcessingTime),
            Some('B') => number(1).and_then(|id| u64::try_from(id).ok()).map(Self::Barrier),
            Some('I') if word == "I" => Some(Self::Status(StreamStatus::Idle)),
            Some('A') if word == "A" => Some(Self::Status(StreamStatus::Active)),
            Some('E') if word == "E" => Some(Self::EndOfData),
            _ => None,
        };
        element.ok_or_else(|| {
            Error::user(format!("'{word}' is no stream element: +record@timestamp, W12, I, A, P20, B3 or E"))
        })
    }
}

fn parse_record_as<T: FromStr<Err: fmt::Display>>(record: &str) -> Result<T> {
    record.parse().map_err(|error| Error::user(format!("'{record}' is no record of this stream: {error}")))
}

impl<T: FromStr<Err: fmt::Display>> FromStr for Element<T> {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Self::parse(word, parse_record_as)
    }
}

impl<A, B> FromStr for TwoInputElement<A, B>
where
    A: FromStr<Err: fmt::Display>,
    B: FromStr<Err: fmt::Display>,
{
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        if let Some(first) = word.strip_prefix("1:") {
            return first.parse().map(Self::First);
        }
        if let Some(second) = word.strip_prefix("2:") {
            return second.parse().map(Self::Second);
        }
        let no_record = |record: &str| {
            Err(Error::user(format!("the record '{record}' must say of which input it is: 1:+{record}")))
        };
        Element::parse(word, no_record).map(Self::Both)
    }
}

/// Reads a line of elements.
///
/// ```
/// use flott_testkit::{Element, parse_stream};
/// use flott_types::Watermark;
///
/// let elements = parse_stream::<Element<u64>>("+1@10 W12")?;
/// assert_eq!(elements, [Element::Record(1, 10), Element::Watermark(Watermark(12))]);
/// # Ok::<(), flott_types::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if a word is no element, or its record cannot be read.
pub fn parse_stream<E: FromStr<Err = Error>>(line: &str) -> Result<Vec<E>> {
    text::words(line)?.into_iter().map(|word| word.parse()).collect()
}

/// Writes a line of elements, which [`parse_stream`] reads.
pub fn print_stream<E: fmt::Display>(elements: &[E]) -> String {
    let words: Vec<_> = elements.iter().map(ToString::to_string).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[expect(clippy::needless_pass_by_value, reason = "expectations are written in place")]
    fn check<E: FromStr<Err = Error> + fmt::Display + fmt::Debug + PartialEq>(line: &str, printed: Expect) {
        let outcome = parse_stream::<E>(line).map(|elements| {
            let text = print_stream(&elements);
            assert_eq!(parse_stream::<E>(&text).unwrap(), elements, "printed and read again");
            text
        });
        printed.assert_eq(&outcome.unwrap_or_else(|error| format!("error: {error}")));
    }

    #[test]
    fn streams_are_read_and_printed() {
        check::<Element<i64>>(
            "+1@10   +-2 W12 W-5 W-inf I A P20 B3 W+inf E",
            expect!["+1@10 +-2 W12 W-5 W-inf I A P20 B3 W+inf E"],
        );
        check::<TwoInputElement<i64, String>>(
            "1:+1@10 2:+a 1:W5 W9 2:I B1 1:E E",
            expect!["1:+1@10 2:+a 1:W5 W9 2:I B1 1:E E"],
        );
        check::<Element<String>>(
            r#"+"a b"@1 +a@b +a@b@2 +"a@2" +"" +"q\"\\\n"@-3 +a"b"#,
            expect![[r#"+"a b"@1 +a@b +a@b@2 +"a@2" +"" +"q\"\\\n"@-3 +a"b"#]],
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        check::<Element<i64>>(
            "+1@10 +x@11",
            expect!["error: 'x' is no record of this stream: invalid digit found in string"],
        );
        check::<Element<i64>>(
            "+1 X",
            expect!["error: 'X' is no stream element: +record@timestamp, W12, I, A, P20, B3 or E"],
        );
        check::<Element<i64>>(
            "Wx",
            expect!["error: 'Wx' is no stream element: +record@timestamp, W12, I, A, P20, B3 or E"],
        );
        check::<Element<i64>>(
            "IA",
            expect!["error: 'IA' is no stream element: +record@timestamp, W12, I, A, P20, B3 or E"],
        );
        check::<Element<i64>>(
            "B-1",
            expect!["error: 'B-1' is no stream element: +record@timestamp, W12, I, A, P20, B3 or E"],
        );
        check::<Element<String>>(r#"+"ab"#, expect![[r#"error: the quotation "ab does not end"#]]);
        check::<Element<String>>(r#"+"a\q""#, expect![[r#"error: '\q' is no escape of a quoted record"#]]);
        check::<Element<String>>(
            r#"+"a"b@3"#,
            expect!["error: 'b@3' follows a quoted record: expected @timestamp"],
        );
        check::<TwoInputElement<i64, i64>>(
            "+1@10",
            expect!["error: the record '1' must say of which input it is: 1:+1"],
        );
    }
}
