//! What operators have emitted, in order.

use crate::element::Element;
use crate::text;
use flott_api::{OutputTag, SideBuffer};
use flott_exchange::{ValveOutput, WatermarkValve};
use flott_operators::{Output, OutputControl};
use flott_state::OperatorSnapshot;
use flott_types::{OperatorUid, RecordBatch, Result, StreamStatus, TagId, Timestamp, Watermark};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

enum Emitted<O> {
    Main(Element<O>),
    Side(SideBuffer),
}

type Print = Box<dyn Fn(&dyn Any) -> Vec<String> + Send>;

/// How the records of a side output are written.
struct SidePrinter {
    tag: TagId,
    print: Print,
}

/// Stands for records of a side output that nobody knows to print; those that are printed start with `+`.
pub(crate) const UNPRINTABLE: &str = "?";

/// A word of the text form of the output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Word {
    /// The tag of a side output.
    pub(crate) side: Option<String>,
    pub(crate) is_record: bool,
    pub(crate) text: String,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.side {
            Some(tag) => write!(f, "{tag}:{}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What all subtasks of an operator have emitted and nobody has taken.
pub(crate) struct Log<O> {
    emitted: Vec<Emitted<O>>,
    printers: Vec<SidePrinter>,
    /// With several subtasks: what a reader of all of them makes of their watermarks.
    merge: Option<WatermarkValve>,
    watermark: Watermark,
    ended: bool,
}

impl<O> Default for Log<O> {
    fn default() -> Self {
        Self {
            emitted: Vec::new(),
            printers: Vec::new(),
            merge: None,
            watermark: Watermark::MIN,
            ended: false,
        }
    }
}

impl<O> fmt::Debug for Log<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("emitted", &self.emitted.len())
            .field("watermark", &self.watermark)
            .finish()
    }
}

impl<O> Log<O> {
    /// New subtasks will write.
    pub(crate) fn start(&mut self, parallelism: u32) {
        self.merge = (parallelism > 1).then(|| WatermarkValve::new(parallelism as usize));
        self.watermark = Watermark::MIN;
        self.ended = false;
    }

    pub(crate) fn push(&mut self, element: Element<O>) {
        self.emitted.push(Emitted::Main(element));
    }

    fn control(&mut self, direct: Element<O>, merge: impl FnOnce(&mut WatermarkValve) -> ValveOutput) {
        let Some(valve) = &mut self.merge else {
            match direct {
                Element::Watermark(watermark) => self.watermark = watermark,
                Element::EndOfData => self.ended = true,
                _ => {}
            }
            return self.push(direct);
        };
        let ValveOutput { status, watermark, end_of_data } = merge(valve);
        if status == Some(StreamStatus::Active) {
            self.push(Element::Status(StreamStatus::Active));
        }
        if let Some(watermark) = watermark {
            self.watermark = watermark;
            self.push(Element::Watermark(watermark));
        }
        if status == Some(StreamStatus::Idle) {
            self.push(Element::Status(StreamStatus::Idle));
        }
        if end_of_data {
            self.ended = true;
            self.push(Element::EndOfData);
        }
    }

    pub(crate) fn watermark(&self) -> Watermark {
        self.watermark
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = (&O, Timestamp)> {
        self.emitted.iter().filter_map(|emitted| match emitted {
            Emitted::Main(Element::Record(record, timestamp)) => Some((record, *timestamp)),
            _ => None,
        })
    }

    /// Takes the main output.
    pub(crate) fn take_main(&mut self) -> Vec<Element<O>> {
        let taken = self.emitted.extract_if(.., |emitted| matches!(emitted, Emitted::Main(_)));
        taken
            .filter_map(|emitted| match emitted {
                Emitted::Main(element) => Some(element),
                Emitted::Side(_) => None,
            })
            .collect()
    }

    /// Takes a side output.
    pub(crate) fn take_side<T: 'static>(&mut self, tag: &OutputTag<T>) -> Vec<(T, Timestamp)> {
        let is_of_tag =
            |emitted: &mut Emitted<O>| matches!(emitted, Emitted::Side(side) if side.tag == *tag.id());
        let taken = self.emitted.extract_if(.., is_of_tag).filter_map(|emitted| match emitted {
            Emitted::Side(side) => Some(side.batch),
            Emitted::Main(_) => None,
        });
        let batches = taken.map(|batch| {
            batch.downcast::<RecordBatch<T>>().unwrap_or_else(|_| {
                panic!("side output '{}' is taken as another record type than it is written with", tag.id())
            })
        });
        batches.flat_map(|batch| *batch).collect()
    }

    /// Says how a side output is written by [`Log::take_words`].
    pub(crate) fn print_side<T: 'static>(
        &mut self,
        tag: &OutputTag<T>,
        print: impl Fn(&T) -> String + Send + 'static,
    ) {
        let print = move |batch: &dyn Any| {
            let batch = batch.downcast_ref::<RecordBatch<T>>();
            let records = batch.into_iter().flat_map(RecordBatch::iter);
            records.map(|(record, timestamp)| text::print_record(&print(record), timestamp)).collect()
        };
        self.printers.retain(|printer| printer.tag != *tag.id());
        self.printers.push(SidePrinter { tag: tag.id().clone(), print: Box::new(print) });
    }

    /// Takes everything, as text. Side outputs that nobody knows to print are question marks.
    pub(crate) fn take_words(&mut self, mut print: impl FnMut(&O, Timestamp) -> String) -> Vec<Word> {
        let mut words = Vec::new();
        for emitted in std::mem::take(&mut self.emitted) {
            match emitted {
                Emitted::Main(element) => {
                    let is_record = matches!(element, Element::Record(..));
                    words.push(Word { side: None, is_record, text: element.to_text(&mut print) });
                }
                Emitted::Side(SideBuffer { tag, batch }) => {
                    let printer = self.printers.iter().find(|printer| printer.tag == tag);
                    let texts = printer.map(|printer| (printer.print)(batch.as_ref()));
                    let texts = texts.unwrap_or_else(|| vec![UNPRINTABLE.to_owned()]);
                    words.extend(texts.into_iter().map(|text| Word {
                        side: Some(tag.to_string()),
                        is_record: true,
                        text,
                    }));
                }
            }
        }
        words
    }
}

/// A log that several subtasks write.
pub(crate) struct SharedLog<O>(Arc<Mutex<Log<O>>>);

impl<O> Clone for SharedLog<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O> Default for SharedLog<O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<O> SharedLog<O> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Log<O>> {
        // A record whose `Clone` or `Display` panics leaves the log as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push_side(&self, side: SideBuffer) {
        self.lock().emitted.push(Emitted::Side(side));
    }
}

/// The output of one subtask. It holds the operator to what a stream is: watermarks do not go back, and nothing follows
/// the end of data.
pub(crate) struct Recorder<O> {
    subtask: usize,
    log: SharedLog<O>,
    watermark: Watermark,
    ended: bool,
}

impl<O> Recorder<O> {
    pub(crate) fn new(subtask: usize, log: SharedLog<O>) -> Self {
        Self { subtask, log, watermark: Watermark::MIN, ended: false }
    }

    fn assert_not_ended(&self, what: &str) {
        assert!(!self.ended, "the operator emits {what} after the end of data");
    }
}

impl<O: Send> OutputControl for Recorder<O> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.assert_not_ended("a watermark");
        let reached = self.watermark;
        assert!(watermark >= reached, "the operator emits {watermark} after {reached}");
        self.watermark = watermark;
        let subtask = self.subtask;
        self.log
            .lock()
            .control(Element::Watermark(watermark), |valve| valve.on_watermark(subtask, watermark));
        Ok(())
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.assert_not_ended("a status");
        let subtask = self.subtask;
        self.log.lock().control(Element::Status(status), |valve| valve.on_status(subtask, status));
        Ok(())
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.assert_not_ended("the end of data");
        self.ended = true;
        let subtask = self.subtask;
        self.log.lock().control(Element::EndOfData, |valve| valve.on_end_of_data(subtask));
        Ok(())
    }
    fn processing_time(&mut self, _: Timestamp) -> Result<()> {
        Ok(())
    }
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn snapshot(&mut self, _: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        Ok(())
    }
}

impl<O: Send> Output<O> for Recorder<O> {
    fn emit(&mut self, batch: RecordBatch<O>) -> Result<()> {
        self.assert_not_ended("records");
        let mut log = self.log.lock();
        batch.into_iter().for_each(|(record, timestamp)| log.push(Element::Record(record, timestamp)));
        Ok(())
    }
}
