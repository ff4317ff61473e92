//! Which differences between two outputs count.

use crate::log::Word;

/// What came out in each step.
pub(super) type StepWords = Vec<Vec<Word>>;

/// What an operator promises about the order of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputOrder {
    /// All results of an element come before the next element.
    PerElement,
    /// The sequence is determined, the time at which results come is not: an asynchronous operator with ordered output.
    Sequence,
    /// Results may change places between watermarks: an asynchronous operator with unordered output.
    BetweenWatermarks,
}

/// How two outputs are compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    /// Step by step, in order.
    Steps,
    /// Step by step, in any order.
    StepsInAnyOrder,
    /// As one sequence.
    Sequence,
    /// As one sequence, in any order between watermarks.
    Segments,
    /// The records alone, in any order.
    Records,
    /// The records alone, in order.
    OrderedRecords,
}

impl OutputOrder {
    pub(super) fn of_batches(self) -> Comparison {
        match self {
            Self::PerElement | Self::Sequence => Comparison::Sequence,
            Self::BetweenWatermarks => Comparison::Segments,
        }
    }
}

impl Comparison {
    /// What two outputs have in common that are the same. Main output and side outputs are streams of their own: their
    /// records may change places.
    pub(super) fn normal_form(self, words: &StepWords) -> StepWords {
        let is_status = |word: &Word| matches!(word.text.as_str(), "I" | "A");
        let is_barrier = |word: &Word| word.text.starts_with('B');
        let compared = |word: &&Word| word.is_record || !(is_status(word) || is_barrier(word));
        let steps = words.iter().map(|words| words.iter().filter(compared).cloned().collect::<Vec<_>>());
        match self {
            Self::Steps => steps.map(by_stream).collect(),
            Self::StepsInAnyOrder => steps.map(sorted).collect(),
            Self::Sequence => vec![by_stream(without_overtaken(steps.flatten().collect()))],
            Self::Segments => segments(without_overtaken(steps.flatten().collect())),
            Self::Records => vec![sorted(steps.flatten().filter(|word| word.is_record).collect())],
            Self::OrderedRecords => vec![by_stream(steps.flatten().filter(|word| word.is_record).collect())],
        }
    }
}

/// Leaves out watermarks that the next one follows at once: to a reader they make no difference.
fn without_overtaken(words: Vec<Word>) -> Vec<Word> {
    let is_watermark = |word: &Word| word.side.is_none() && word.text.starts_with('W');
    let next = words.iter().skip(1).map(is_watermark).chain([false]).collect::<Vec<_>>();
    let kept = words.into_iter().zip(next).filter(|(word, next)| !(is_watermark(word) && *next));
    kept.map(|(word, _)| word).collect()
}

fn by_stream(mut words: Vec<Word>) -> Vec<Word> {
    words.sort_by(|a, b| a.side.cmp(&b.side));
    words
}

fn sorted(mut words: Vec<Word>) -> Vec<Word> {
    words.sort();
    words
}

fn segments(words: Vec<Word>) -> StepWords {
    let (main, sides): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.side.is_none());
    let segments = main.split_inclusive(|word| !word.is_record).map(|segment| sorted(segment.to_vec()));
    segments.chain([sorted(sides)]).collect()
}
