//! The consumer's end of channels: what has arrived, and which channel's turn it is.

use super::watch::Watch;
use super::{Arrived, ChannelClosed, Queue, Shared};
use flott_types::{Data, StreamElement, Timestamp};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// So many elements in a row may be taken before one that has waited longer.
const OVERTAKEN_MAX: usize = 8;

/// The consumer's end of all channels into one input of a subtask.
///
/// It hands out first what is behind in event time. Producers are not equally fast, and what is ahead can do nothing for windows but fill
/// them; left in its channel it holds back who sends it, so that producers stay close to each other. Each channel has its turn at last,
/// and of those that are equally far the one that has waited longest.
pub struct InputGate<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) inbox: Inbox<T>,
}

/// What has been taken out of the shared queue. It is counted as in flight until it is handed out.
pub(super) struct Inbox<T> {
    /// Goes before everything that arrives, on whatever channel: what was in flight when the snapshot was taken. A record of it and what
    /// followed that need not be on the same channel any more.
    pub(super) replayed: VecDeque<(usize, StreamElement<T>)>,
    pub(super) channels: Vec<Waiting<T>>,
    n_arrived: u64,
    /// How often in a row the element that has waited longest was not the next.
    n_overtaken: usize,
    /// What is looked for in what arrives, if barriers may overtake.
    pub(super) watch: Option<Watch>,
}

/// What waits of one channel.
pub(super) struct Waiting<T> {
    /// Elements, each with its place in the order of arrival over all channels, and its bytes.
    pub(super) elements: VecDeque<(u64, usize, StreamElement<T>)>,
    /// How far in event time what was handed out has come.
    reached: Timestamp,
    is_blocked: bool,
}

impl<T> fmt::Debug for InputGate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputGate").field("n_channels", &self.inbox.channels.len()).finish_non_exhaustive()
    }
}

impl<T: Data> InputGate<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, n_channels: usize) -> Self {
        let waiting = || Waiting { elements: VecDeque::new(), reached: Timestamp::MIN, is_blocked: false };
        let channels = (0..n_channels).map(|_| waiting()).collect();
        Self {
            shared,
            inbox: Inbox { replayed: VecDeque::new(), channels, n_arrived: 0, n_overtaken: 0, watch: None },
        }
    }

    /// Number of channels.
    pub fn n_channels(&self) -> usize {
        self.inbox.channels.len()
    }

    /// Takes nothing more from `channel` until [`InputGate::unblock_all`]. What it delivers waits in its order and counts
    /// against the bytes of the channel, so that its producer stops in the end; the other channels go on.
    pub fn block(&mut self, channel: usize) {
        if let Some(waiting) = self.inbox.channels.get_mut(channel) {
            waiting.is_blocked = true;
        }
    }

    /// Takes again from all channels.
    pub fn unblock_all(&mut self) {
        self.inbox.channels.iter_mut().for_each(|waiting| waiting.is_blocked = false);
    }

    /// The next element and its channel.
    ///
    /// `Err` if every producer is gone: one that has ended in order sends the end of data first.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(usize, StreamElement<T>), ChannelClosed>> {
        let Self { shared, inbox } = self;
        let mut queue = shared.lock();
        inbox.take_over(&mut queue);
        let Some((channel, bytes, element)) = inbox.pop() else {
            if queue.producers.iter().all(|producer| producer.gone) {
                return Poll::Ready(Err(ChannelClosed));
            }
            queue.consumer = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let wake = queue.release(channel, bytes);
        drop(queue);
        wake.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok((channel, element)))
    }
}

impl<T: Data> Inbox<T> {
    /// Takes over what has arrived.
    pub(super) fn take_over(&mut self, queue: &mut Queue<T>) {
        while let Some(arrived) = queue.arrived.pop_front() {
            if let Some(watch) = &mut self.watch {
                watch.see(arrived.channel, &arrived.element);
            }
            self.push(arrived);
        }
    }

    /// Puts an element behind what waits of its channel.
    fn push(&mut self, arrived: Arrived<T>) {
        if let Some(waiting) = self.channels.get_mut(arrived.channel) {
            waiting.elements.push_back((self.n_arrived, arrived.bytes, arrived.element));
            self.n_arrived += 1;
        }
    }

    /// Takes the next element out, with its channel and its bytes.
    fn pop(&mut self) -> Option<(usize, usize, StreamElement<T>)> {
        if let Some((channel, element)) = self.replayed.pop_front() {
            return Some((channel, 0, element));
        }
        let channel = self.next_channel()?;
        let waiting = self.channels.get_mut(channel)?;
        let (_, bytes, element) = waiting.elements.pop_front()?;
        let time = match &element {
            StreamElement::Records(batch) => batch.timestamps().last().copied(),
            StreamElement::Watermark(watermark) => Some(watermark.timestamp()),
            StreamElement::Status(_) | StreamElement::Barrier(_) | StreamElement::EndOfData => None,
        };
        waiting.reached = time.map_or(waiting.reached, |time| waiting.reached.max(time));
        Some((channel, bytes, element))
    }

    /// The channel to take from.
    fn next_channel(&mut self) -> Option<usize> {
        let waiting = self.channels.iter().enumerate().filter(|(_, waiting)| !waiting.is_blocked);
        let heads = waiting.filter_map(|(channel, waiting)| {
            waiting.elements.front().map(|(place, ..)| (waiting.reached, *place, channel))
        });
        let (_, place, behind) = heads.clone().min()?;
        let (first_place, first) = heads.map(|(_, place, channel)| (place, channel)).min()?;
        self.n_overtaken = if first_place < place { self.n_overtaken + 1 } else { 0 };
        if self.n_overtaken > OVERTAKEN_MAX {
            self.n_overtaken = 0;
            return Some(first);
        }
        Some(behind)
    }
}

impl<T> Drop for InputGate<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.consumer_gone = true;
        let elements = std::mem::take(&mut queue.arrived);
        let waiting: Vec<_> =
            queue.producers.iter_mut().filter_map(|producer| producer.waiting.take()).collect();
        drop(queue);
        // The drops of records are user code: outside of the lock.
        drop(elements);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use crate::channel::{InputGate, Outgoing, input_gate};
    use flott_types::{RecordBatch, StreamElement, Timestamp};
    use std::collections::VecDeque;
    use std::task::{Context, Poll, Waker};

    fn batch(at: Option<Timestamp>) -> VecDeque<Outgoing<u32>> {
        let element = StreamElement::Records(RecordBatch::from_columns(vec![0], at.into_iter().collect()));
        VecDeque::from([Outgoing { bytes: 1, element }])
    }

    /// The channels in the order in which they are taken from.
    fn taken(gate: &mut InputGate<u32>) -> Vec<usize> {
        let cx = &mut Context::from_waker(Waker::noop());
        let next = || match gate.poll_next(cx) {
            Poll::Ready(Ok((channel, _))) => Some(channel),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    fn check(arrived: &[(usize, Option<Timestamp>)], expected: &[usize]) {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut gate, mut senders) = input_gate::<u32>(2, 1 << 20);
        for (channel, at) in arrived {
            assert!(senders[*channel].poll_send(cx, &mut batch(*at)).is_ready());
        }
        assert_eq!(taken(&mut gate), expected);
    }

    #[test]
    fn what_is_behind_in_event_time_comes_first() {
        let [early, late] = [1, 100].map(|start| (start..start + 3).map(Some));
        let arrived: Vec<_> = late
            .map(|at| (1, at))
            .chain(early.map(|at| (0, at)))
            .chain([(0, Some(200)), (1, None)])
            .collect();
        // Of a channel that has not delivered anything nobody knows how far it is.
        check(&arrived, &[1, 0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn without_timestamps_the_order_is_that_of_arrival() {
        check(&[1, 0, 0, 1, 0, 1].map(|channel| (channel, None)), &[1, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn a_channel_that_is_ahead_has_its_turn() {
        let ahead = [(1, Some(1_000)), (1, Some(1_001))];
        let behind = (0..20).map(|at| (0, Some(at)));
        let arrived: Vec<_> = ahead.into_iter().chain(behind).collect();
        let expected = [&[1][..], &[0; 8], &[1], &[0; 12]].concat();
        check(&arrived, &expected);
    }
}
