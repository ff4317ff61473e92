//! Random streams, to check operators with.

use crate::element::{Element, TwoInputElement};
use flott_env::sim::SimRng;
use flott_types::{StreamStatus, Timestamp, Watermark};

/// The clocks of a stream that is being made.
struct Clocks {
    event_time: Timestamp,
    watermark: Timestamp,
    processing_time: Timestamp,
}

impl Clocks {
    /// Timestamps start below zero: they are as good as others.
    const START: Self = Self { event_time: -20, watermark: Timestamp::MIN, processing_time: 0 };

    fn timestamp(&mut self, rng: &mut SimRng) -> Timestamp {
        self.event_time += rng.range(0..=4);
        self.event_time + rng.range(-12..=6)
    }

    /// Something other than a record, now and then.
    fn control<T>(&mut self, rng: &mut SimRng) -> Option<Element<T>> {
        match rng.below(24) {
            0..5 => {
                self.watermark = self.watermark.max(self.event_time - rng.range(0..=10));
                Some(Element::Watermark(Watermark(self.watermark)))
            }
            5..8 => {
                self.processing_time += rng.range(1..=20);
                Some(Element::ProcessingTime(self.processing_time))
            }
            8 => Some(Element::Status(StreamStatus::Idle)),
            9 => Some(Element::Barrier(rng.below(100))),
            _ => None,
        }
    }
}

/// `n` elements that `seed` determines, and the end: records that `record` makes, out of order and some of them late,
/// watermarks, steps of processing time, idle times, barriers.
///
/// ```
/// use flott_testkit::{Element, random_stream};
///
/// let stream = random_stream(7, 30, |rng| rng.below(3));
/// assert_eq!(stream.last(), Some(&Element::EndOfData));
/// assert_eq!(stream, random_stream(7, 30, |rng| rng.below(3)));
/// ```
pub fn random_stream<T>(seed: u64, n: usize, mut record: impl FnMut(&mut SimRng) -> T) -> Vec<Element<T>> {
    let (mut rng, mut clocks) = (SimRng::new(seed), Clocks::START);
    let mut elements: Vec<_> = (0..n)
        .map(|_| match clocks.control(&mut rng) {
            Some(control) => control,
            None => {
                let record = record(&mut rng);
                Element::Record(record, clocks.timestamp(&mut rng))
            }
        })
        .collect();
    elements.extend([Element::Watermark(Watermark::MAX), Element::EndOfData]);
    elements
}

/// As [`random_stream`], for two inputs, each of which has its own watermarks and idle times.
pub fn random_two_input_stream<A, B>(
    seed: u64,
    n: usize,
    mut first: impl FnMut(&mut SimRng) -> A,
    mut second: impl FnMut(&mut SimRng) -> B,
) -> Vec<TwoInputElement<A, B>> {
    let mut rng = SimRng::new(seed);
    let (mut clocks1, mut clocks2) = (Clocks::START, Clocks::START);
    let mut elements: Vec<_> = (0..n)
        .map(|_| {
            // Both inputs have the same processing time.
            let processing_time = clocks1.processing_time.max(clocks2.processing_time);
            (clocks1.processing_time, clocks2.processing_time) = (processing_time, processing_time);
            if rng.one_in(2) {
                TwoInputElement::First(clocks1.control(&mut rng).unwrap_or_else(|| {
                    let record = first(&mut rng);
                    Element::Record(record, clocks1.timestamp(&mut rng))
                }))
            } else {
                TwoInputElement::Second(clocks2.control(&mut rng).unwrap_or_else(|| {
                    let record = second(&mut rng);
                    Element::Record(record, clocks2.timestamp(&mut rng))
                }))
            }
        })
        .collect();
    elements.push(TwoInputElement::Both(Element::Watermark(Watermark::MAX)));
    elements.push(TwoInputElement::Both(Element::EndOfData));
    elements
}
