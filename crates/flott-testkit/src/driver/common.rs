//! What both drivers have in common.

use flott_operators::OutputMetrics;
use std::sync::atomic::Ordering;

/// The counters of an operator, over all its subtasks and restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverMetrics {
    /// `numRecordsIn`
    pub records_in: u64,
    /// `numRecordsOut`; side outputs do not count.
    pub records_out: u64,
    /// `numLateRecordsDropped`
    pub late_records_dropped: u64,
    /// `numRecordsInErrors`
    pub records_in_errors: u64,
}

impl DriverMetrics {
    pub(crate) fn read(metrics: &OutputMetrics) -> Self {
        Self {
            records_in: metrics.records_in.load(Ordering::Relaxed),
            records_out: metrics.records_out.load(Ordering::Relaxed),
            late_records_dropped: metrics.late_records_dropped.load(Ordering::Relaxed),
            records_in_errors: metrics.records_in_errors.load(Ordering::Relaxed),
        }
    }
}

/// The methods of both drivers that do not depend on the inputs. `subtasks` is the field with everything.
macro_rules! common_methods {
    () => {
        /// The name of the operator in error messages.
        #[must_use]
        pub fn with_name(mut self, name: impl Into<String>) -> Self {
            self.subtasks.assert_not_started();
            self.subtasks.name = name.into();
            self
        }

        /// The number of subtasks; 1 by default.
        #[must_use]
        pub fn with_parallelism(mut self, parallelism: u32) -> Self {
            self.subtasks.assert_not_started();
            self.subtasks.parallelism = parallelism.max(1);
            self
        }

        /// The number of key groups.
        #[must_use]
        pub fn with_max_parallelism(mut self, max_parallelism: u32) -> Self {
            self.subtasks.set_max_parallelism(max_parallelism);
            self
        }

        /// The processing time at which the test starts, in milliseconds since the epoch; 0 by default.
        #[must_use]
        pub fn with_processing_time(mut self, at: Timestamp) -> Self {
            self.subtasks.assert_not_started();
            self.subtasks.world = World::new(at);
            self
        }

        /// Starts from a snapshot, of this operator or of an older version of it, taken at any parallelism.
        #[must_use]
        pub fn restored_from(mut self, snapshot: &OperatorSnapshot) -> Self {
            self.subtasks.restore_from(vec![snapshot.clone()]);
            self
        }

        /// The simulated world in which the operator runs, for example for its files.
        pub fn env(&self) -> &Env {
            self.subtasks.world.env()
        }

        /// The number of subtasks.
        pub fn parallelism(&self) -> u32 {
            self.subtasks.parallelism
        }

        /// The virtual wall clock, in milliseconds since the epoch.
        pub fn processing_time(&self) -> Timestamp {
            self.subtasks.world.processing_time()
        }

        /// When the operator next wants to be told the processing time.
        ///
        /// # Errors
        /// If the operator cannot be opened.
        pub fn next_timer(&mut self) -> Result<Option<Timestamp>> {
            self.subtasks.next_timer()
        }

        /// Lets processing time pass: fires timers, each at its time, and goes on with asynchronous calls.
        ///
        /// # Errors
        /// That of the operator.
        pub fn advance_processing_time(&mut self, duration: Duration) -> Result<()> {
            let now = self.subtasks.world.processing_time();
            self.advance_processing_time_to(now.saturating_add(duration_ms(duration)))
        }

        /// Lets processing time pass up to a time in milliseconds since the epoch.
        ///
        /// # Errors
        /// That of the operator; also if the time has passed already.
        pub fn advance_processing_time_to(&mut self, at: Timestamp) -> Result<()> {
            self.subtasks.advance_processing_time_to(at)
        }

        /// Lets processing time pass until all asynchronous calls have ended that ever will. Tasks that calls have
        /// spawned do not outlive the method of the driver in which they run.
        ///
        /// # Errors
        /// That of the operator.
        pub fn run_async(&mut self) -> Result<()> {
            self.subtasks.run_async()
        }

        /// Advances event time, on all inputs. As in the engine, a watermark that does not advance is ignored.
        ///
        /// # Errors
        /// That of the operator.
        pub fn push_watermark(&mut self, timestamp: Timestamp) -> Result<()> {
            self.subtasks.apply(Step::Control(None, Control::Watermark(Watermark(timestamp))))
        }

        /// The input, or all inputs, become idle. The next record or watermark makes its input active.
        ///
        /// # Errors
        /// That of the operator.
        pub fn set_idle(&mut self) -> Result<()> {
            self.subtasks.apply(Step::Control(None, Control::Status(StreamStatus::Idle)))
        }

        /// The input, or all inputs, become active.
        ///
        /// # Errors
        /// That of the operator.
        pub fn set_active(&mut self) -> Result<()> {
            self.subtasks.apply(Step::Control(None, Control::Status(StreamStatus::Active)))
        }

        /// Ends the input, or all inputs, as a bounded source does: with the last watermark and the end of data.
        ///
        /// # Errors
        /// That of the operator.
        pub fn end_of_input(&mut self) -> Result<()> {
            self.subtasks.apply(Step::Control(None, Control::Watermark(Watermark::MAX)))?;
            self.subtasks.apply(Step::Control(None, Control::EndOfData))
        }

        /// Says that input pauses: an operator sends what it held back to make larger batches.
        ///
        /// # Errors
        /// That of the operator.
        pub fn flush(&mut self) -> Result<()> {
            self.subtasks.flush()
        }

        /// The records that were emitted and not taken, with their timestamps.
        pub fn outputs(&self) -> Vec<(O, Timestamp)>
        where
            O: Clone,
        {
            self.subtasks
                .log
                .lock()
                .records()
                .map(|(record, timestamp)| (record.clone(), timestamp))
                .collect()
        }

        /// Takes the records that were emitted, with their timestamps. Watermarks and the like before them are gone, too.
        pub fn take_outputs(&mut self) -> Vec<(O, Timestamp)> {
            let records = self.take_elements().into_iter().filter_map(|element| match element {
                Element::Record(record, timestamp) => Some((record, timestamp)),
                _ => None,
            });
            records.collect()
        }

        /// Takes everything that was emitted to the main output, in order.
        pub fn take_elements(&mut self) -> Vec<Element<O>> {
            self.subtasks.log.lock().take_main()
        }

        /// Takes the records of a side output, with their timestamps.
        ///
        /// # Panics
        /// If the operator has written records of another type under the tag's name.
        pub fn take_side_output<S: 'static>(&mut self, tag: &OutputTag<S>) -> Vec<(S, Timestamp)> {
            self.subtasks.log.lock().take_side(tag)
        }

        /// The watermark that was forwarded last; with several subtasks the least of theirs.
        pub fn watermark(&self) -> Watermark {
            self.subtasks.log.lock().watermark()
        }

        /// Whether the end of data was forwarded.
        pub fn has_ended(&self) -> bool {
            self.subtasks.log.lock().has_ended()
        }

        /// The operator's counters.
        pub fn metrics(&self) -> DriverMetrics {
            DriverMetrics::read(&self.subtasks.metrics)
        }

        /// The state of all subtasks, in one snapshot.
        ///
        /// # Errors
        /// That of the operator.
        pub fn snapshot(&mut self) -> Result<OperatorSnapshot> {
            // One subtask that restored them all would have got the same.
            OperatorSnapshot::reassign(&self.subtasks.snapshot()?, SubtaskIndex(0), 1)
        }

        /// Replaces the operator by a new one that goes on with its state, as a restart of the job does.
        ///
        /// # Errors
        /// That of the operator.
        pub fn restart(&mut self) -> Result<()> {
            self.subtasks.restart(self.subtasks.parallelism)
        }

        /// Replaces the operator by `parallelism` new ones that divide its state. Records of keyed operators go to the
        /// subtask of their key, those of others to all in turn; their outputs are merged.
        ///
        /// # Errors
        /// That of the operator; also if there are fewer key groups.
        pub fn rescale(&mut self, parallelism: u32) -> Result<()> {
            self.subtasks.restart(parallelism.max(1))
        }

        /// Writes a side output down too, in the text forms of the output.
        #[must_use]
        pub fn print_side_output<S: fmt::Display + 'static>(self, tag: &OutputTag<S>) -> Self {
            self.subtasks.log.lock().print_side(tag, S::to_string);
            self
        }

        /// Takes everything that was emitted as a line of text.
        pub fn take_text(&mut self) -> String
        where
            O: fmt::Display,
        {
            self.take_text_with(O::to_string)
        }

        /// Takes everything that was emitted as a line of text, with records as `print` writes them.
        pub fn take_text_with(&mut self, mut print: impl FnMut(&O) -> String) -> String {
            let print = |record: &O, timestamp| print_record(&print(record), timestamp);
            let words = self.subtasks.log.lock().take_words(print);
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            words.join(" ")
        }
    };
}
pub(crate) use common_methods;
