//! Barriers that may overtake: they are noticed when they come into a gate, and what they overtake is recorded.

use super::InputGate;
use super::gate::Inbox;
use crate::recorder::Recorder;
use flott_state::encode_element;
use flott_types::{CheckpointBarrier, CheckpointId, Data, Error, Result, StreamElement};
use std::sync::atomic::Ordering;
use std::task::Context;

/// How far the recording of a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Barriers are still missing.
    Partly,
    /// All that was in flight has come.
    All,
    /// A newer barrier has come instead of one that was missing.
    GivenUp,
}

/// What a gate remembers of what it has seen arrive.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The number of the gate's first channel in entries.
    first_channel: usize,
    /// Signals that have been looked at.
    n_signals: u64,
    announced: Vec<(usize, CheckpointBarrier)>,
    recorder: Option<Recorder>,
    entries: Vec<Vec<u8>>,
    /// The first record that could not be written.
    failed: Option<Error>,
}

impl Watch {
    /// Something has arrived.
    pub(super) fn see<T: Data>(&mut self, channel: usize, element: &StreamElement<T>) {
        if let StreamElement::Barrier(barrier) = element {
            self.announced.push((channel, *barrier));
        }
        self.record(channel, element);
    }

    fn record<T: Data>(&mut self, channel: usize, element: &StreamElement<T>) {
        let is_in_flight = self.recorder.as_mut().is_some_and(|recorder| recorder.see(channel, element));
        if !is_in_flight || self.failed.is_some() {
            return;
        }
        match encode_element(self.first_channel + channel, element) {
            Ok(entry) => self.entries.extend(entry),
            Err(error) => self.failed = Some(error),
        }
    }
}

impl<T: Data> InputGate<T> {
    /// Notices barriers as soon as they come into the gate, so that they may overtake. In what is recorded the gate's channels are numbered
    /// from `first_channel`.
    pub fn watch(&mut self, first_channel: usize) {
        self.inbox.watch = Some(Watch { first_channel, ..Watch::default() });
    }

    /// Puts elements before everything that arrives: what was in flight when the snapshot was taken that the subtask goes on from.
    pub fn preload(&mut self, elements: impl IntoIterator<Item = (usize, StreamElement<T>)>) {
        self.inbox.replayed.extend(elements);
    }

    /// Looks for barriers that have come. Cheap if there are none.
    pub fn look(&mut self) {
        let n_signals = self.shared.n_signals.load(Ordering::Acquire);
        if self.inbox.watch.as_ref().is_some_and(|watch| watch.n_signals != n_signals) {
            self.look_at_all(None);
        }
    }

    /// Looks for barriers, and is woken when more come: for a consumer that takes no records for now.
    pub fn listen(&mut self, cx: &Context<'_>) {
        if self.inbox.watch.is_some() {
            self.look_at_all(Some(cx));
        }
    }

    fn look_at_all(&mut self, cx: Option<&Context<'_>>) {
        let Self { shared, inbox } = self;
        let mut queue = shared.lock();
        if let Some(watch) = &mut inbox.watch {
            watch.n_signals = shared.n_signals.load(Ordering::Acquire);
        }
        if let Some(cx) = cx {
            queue.listener = Some(cx.waker().clone());
        }
        inbox.take_over(&mut queue);
    }

    /// The barriers that have come since the last call, in order of arrival.
    pub fn take_announced(&mut self) -> Vec<(usize, CheckpointBarrier)> {
        self.inbox.watch.as_mut().map(|watch| std::mem::take(&mut watch.announced)).unwrap_or_default()
    }

    /// A barrier overtakes: from here on everything before it is recorded, on the channels where it has not been `reached`.
    pub fn record(&mut self, id: CheckpointId, reached: Vec<bool>) {
        self.look_at_all(None);
        let Inbox { replayed, channels, watch, .. } = &mut self.inbox;
        let Some(watch) = watch else { return };
        watch.recorder = Some(Recorder::new(id, reached));
        watch.entries.clear();
        watch.failed = None;
        replayed.iter().for_each(|(channel, element)| watch.record(*channel, element));
        for (channel, waiting) in channels.iter().enumerate() {
            waiting.elements.iter().for_each(|(.., element)| watch.record(channel, element));
        }
    }

    /// How far the recording is.
    ///
    /// # Errors
    /// If a record cannot be written.
    pub fn poll_recorded(&mut self) -> Result<Recorded> {
        let Some(watch) = &mut self.inbox.watch else { return Ok(Recorded::All) };
        if let Some(failed) = watch.failed.take() {
            return Err(failed);
        }
        Ok(match &watch.recorder {
            Some(recorder) if recorder.is_given_up() => Recorded::GivenUp,
            Some(recorder) if !recorder.is_complete() => Recorded::Partly,
            Some(_) | None => Recorded::All,
        })
    }

    /// Records no more. Returns what has been recorded, as entries of the state [`IN_FLIGHT`](flott_state::IN_FLIGHT).
    pub fn stop_recording(&mut self) -> Vec<Vec<u8>> {
        let Some(watch) = &mut self.inbox.watch else { return Vec::new() };
        watch.recorder = None;
        watch.failed = None;
        std::mem::take(&mut watch.entries)
    }
}
