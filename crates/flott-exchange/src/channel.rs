//! Channels into one task: a queue in order of arrival, with a limit in bytes for each producer.

mod gate;
mod watch;

use flott_types::{Data, StreamElement};
pub use gate::InputGate;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
pub use watch::Recorded;

/// The other side of a channel is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelClosed;

struct Arrived<T> {
    channel: usize,
    bytes: usize,
    element: StreamElement<T>,
}

struct Producer {
    bytes_in_flight: usize,
    waiting: Option<Waker>,
    gone: bool,
}

struct Queue<T> {
    arrived: VecDeque<Arrived<T>>,
    producers: Vec<Producer>,
    consumer: Option<Waker>,
    /// A consumer that takes no records for now, but wants to know of barriers.
    listener: Option<Waker>,
    consumer_gone: bool,
    bytes_per_channel_max: usize,
}

impl<T> Queue<T> {
    /// An element has left the channel: its producer may send as much again. Whom to wake for that, without the lock: only when
    /// half of the channel is free, so that a thread that has been woken finds more to do than to send one batch.
    fn release(&mut self, channel: usize, bytes: usize) -> Option<Waker> {
        let producer = self.producers.get_mut(channel)?;
        producer.bytes_in_flight -= bytes;
        if producer.bytes_in_flight <= self.bytes_per_channel_max / 2 {
            producer.waiting.take()
        } else {
            None
        }
    }
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// Barriers and ends that have come, to be looked at without the lock.
    n_signals: AtomicU64,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the gate of one input of a subtask and the senders of its `n_channels` channels, which share `bytes_max`.
///
/// A channel takes an element whenever it holds less than its share, so one batch of any size always fits.
pub fn input_gate<T: Data>(n_channels: usize, bytes_max: usize) -> (InputGate<T>, Vec<ChannelSender<T>>) {
    let producer = || Producer { bytes_in_flight: 0, waiting: None, gone: false };
    let queue = Queue {
        arrived: VecDeque::new(),
        producers: (0..n_channels).map(|_| producer()).collect(),
        consumer: None,
        listener: None,
        consumer_gone: false,
        bytes_per_channel_max: (bytes_max / n_channels.max(1)).max(1),
    };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), n_signals: AtomicU64::new(0) });
    let sender = |channel| ChannelSender { shared: Arc::clone(&shared), channel, overdrawn: false };
    let senders = (0..n_channels).map(sender).collect();
    (InputGate::new(shared, n_channels), senders)
}

/// An element that waits to be sent.
#[derive(Debug)]
pub struct Outgoing<T> {
    /// About how many bytes it holds; 0 for what is not records.
    pub bytes: usize,
    /// The element.
    pub element: StreamElement<T>,
}

/// The producer's end of a channel.
pub struct ChannelSender<T> {
    shared: Arc<Shared<T>>,
    channel: usize,
    /// More was sent than the channel takes, so that a barrier is not held up: nothing more goes until it has room again.
    overdrawn: bool,
}

impl<T> fmt::Debug for ChannelSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl<T> ChannelSender<T> {
    /// Sends what is in `outgoing`, in order, as far as the channel takes it; what is left stays there, and a wake-up is
    /// arranged. One lock and at most one wake-up of the consumer for all of it: there may be many small elements.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut VecDeque<Outgoing<T>>,
    ) -> Poll<Result<(), ChannelClosed>> {
        if outgoing.is_empty() && !self.overdrawn {
            return Poll::Ready(Ok(()));
        }
        match self.send(outgoing, Some(cx)) {
            Err(closed) => Poll::Ready(Err(closed)),
            Ok(()) if outgoing.is_empty() && !self.overdrawn => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
        }
    }

    /// Sends all of `outgoing`, whatever the channel holds, so that a barrier in it can be seen on the other side. Until the channel has
    /// room again [`ChannelSender::poll_send`] is pending: what is in flight stays bounded, by what one input element produces more.
    ///
    /// # Errors
    /// If the consumer is gone.
    pub fn send_all(&mut self, outgoing: &mut VecDeque<Outgoing<T>>) -> Result<(), ChannelClosed> {
        self.send(outgoing, None)
    }

    /// Without `cx` for somebody who does not wait for room.
    #[expect(clippy::indexing_slicing, reason = "the gate was made with this channel")]
    fn send(
        &mut self,
        outgoing: &mut VecDeque<Outgoing<T>>,
        cx: Option<&mut Context<'_>>,
    ) -> Result<(), ChannelClosed> {
        let mut queue = self.shared.lock();
        if queue.consumer_gone {
            self.overdrawn = false;
            // One that has ended in order may be gone before this side: only what is still to be sent is lost.
            return if outgoing.is_empty() { Ok(()) } else { Err(ChannelClosed) };
        }
        let bytes_max = queue.bytes_per_channel_max;
        let Queue { arrived, producers, .. } = &mut *queue;
        let producer = &mut producers[self.channel];
        let (n_before, mut n_signals) = (arrived.len(), 0);
        self.overdrawn &= producer.bytes_in_flight >= bytes_max;
        // Watermarks and the like weigh nothing: only records can fill a channel.
        let fits = |bytes: usize, in_flight: usize| bytes == 0 || in_flight < bytes_max;
        while let Some(Outgoing { bytes, element }) =
            outgoing.pop_front_if(|next| cx.is_none() || fits(next.bytes, producer.bytes_in_flight))
        {
            self.overdrawn |= !fits(bytes, producer.bytes_in_flight);
            n_signals += u64::from(matches!(element, StreamElement::Barrier(_) | StreamElement::EndOfData));
            producer.bytes_in_flight += bytes;
            arrived.push_back(Arrived { channel: self.channel, bytes, element });
        }
        if let (Some(cx), true) = (cx, self.overdrawn || !outgoing.is_empty()) {
            producer.waiting = Some(cx.waker().clone());
        }
        let consumer = if arrived.len() > n_before { queue.consumer.take() } else { None };
        let listener = if n_signals > 0 { queue.listener.take() } else { None };
        if n_signals > 0 {
            // Under the lock: whoever sees the number finds what it counts.
            self.shared.n_signals.fetch_add(n_signals, Ordering::Release);
        }
        drop(queue);
        consumer.into_iter().chain(listener).for_each(Waker::wake);
        Ok(())
    }
}

impl<T> Drop for ChannelSender<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if let Some(producer) = queue.producers.get_mut(self.channel) {
            producer.gone = true;
        }
        let (consumer, listener) = (queue.consumer.take(), queue.listener.take());
        drop(queue);
        consumer.into_iter().chain(listener).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_types::{RecordBatch, Watermark};

    fn records(n: u32, bytes: usize) -> VecDeque<Outgoing<u32>> {
        let element = StreamElement::Records(RecordBatch::untimed((0..n).collect()));
        VecDeque::from([Outgoing { bytes, element }])
    }

    fn watermark(at: i64) -> Outgoing<u32> {
        Outgoing { bytes: 0, element: StreamElement::Watermark(Watermark(at)) }
    }

    #[test]
    fn a_full_channel_takes_watermarks_but_no_records_and_the_other_channel_goes_on() {
        let (mut gate, mut senders) = input_gate::<u32>(2, 200);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(senders[0].poll_send(cx, &mut records(3, 500)).is_ready(), "one batch of any size fits");
        let mut held = records(1, 4);
        assert!(senders[0].poll_send(cx, &mut held).is_pending());
        assert_eq!(held.len(), 1, "nothing is lost while the channel is full");
        assert!(senders[0].poll_send(cx, &mut VecDeque::from([watermark(1)])).is_ready());
        assert!(senders[1].poll_send(cx, &mut records(1, 4)).is_ready());
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok((0, StreamElement::Records(_))))));
        assert!(senders[0].poll_send(cx, &mut held).is_ready());
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok((0, StreamElement::Watermark(_))))));
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok((1, StreamElement::Records(_))))));
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok((0, StreamElement::Records(_))))));
        assert!(gate.poll_next(cx).is_pending());
    }

    #[test]
    fn what_does_not_fit_stays_behind_in_order() {
        let (mut gate, mut senders) = input_gate::<u32>(1, 10);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut outgoing = records(1, 8);
        outgoing.push_back(watermark(1));
        outgoing.append(&mut records(1, 8));
        outgoing.append(&mut records(1, 8));
        outgoing.push_back(watermark(2));
        assert!(senders[0].poll_send(cx, &mut outgoing).is_pending());
        assert_eq!(outgoing.len(), 2, "the watermark does not overtake the records before it");
        for _ in 0..3 {
            assert!(gate.poll_next(cx).is_ready());
        }
        assert!(senders[0].poll_send(cx, &mut outgoing).is_ready());
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok((0, StreamElement::Records(_))))));
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok((0, StreamElement::Watermark(Watermark(2)))))));
    }

    #[test]
    fn a_blocked_channel_waits_in_order_within_its_bytes_while_the_other_goes_on() {
        let (mut gate, mut senders) = input_gate::<u32>(2, 20);
        let cx = &mut Context::from_waker(Waker::noop());
        let next = |gate: &mut InputGate<u32>, cx: &mut Context<'_>| match gate.poll_next(cx) {
            Poll::Ready(Ok((channel, StreamElement::Records(batch)))) => format!("{channel}:{}", batch.len()),
            Poll::Ready(Ok((channel, other))) => format!("{channel}:{other:?}"),
            Poll::Ready(Err(closed)) => format!("{closed:?}"),
            Poll::Pending => "pending".to_owned(),
        };
        let mut all: VecDeque<_> =
            [records(1, 1), records(2, 9), VecDeque::from([watermark(1)])].into_iter().flatten().collect();
        assert!(senders[0].poll_send(cx, &mut all).is_ready());
        assert!(senders[1].poll_send(cx, &mut records(5, 4)).is_ready());
        assert_eq!(next(&mut gate, cx), "0:1");
        // Some of it has been taken from the queue already, and still counts.
        gate.block(0);
        gate.block(0);
        assert!(senders[0].poll_send(cx, &mut records(3, 2)).is_ready());
        let mut held = records(4, 1);
        assert!(senders[0].poll_send(cx, &mut held).is_pending(), "11 of 10 bytes are in flight");
        assert_eq!(next(&mut gate, cx), "1:5");
        assert!(senders[1].poll_send(cx, &mut records(6, 4)).is_ready());
        assert_eq!(next(&mut gate, cx), "1:6");
        assert_eq!(next(&mut gate, cx), "pending");
        gate.unblock_all();
        assert_eq!(next(&mut gate, cx), "0:2");
        assert!(senders[0].poll_send(cx, &mut held).is_ready());
        let rest: Vec<_> = (0..4).map(|_| next(&mut gate, cx)).collect();
        assert_eq!(rest, ["0:Watermark(Watermark(1))", "0:3", "0:4", "pending"]);
        drop(senders);
        assert_eq!(next(&mut gate, cx), "ChannelClosed");
    }

    #[test]
    fn both_ends_learn_that_the_other_is_gone() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut gate, mut senders) = input_gate::<u32>(1, 200);
        assert!(senders[0].poll_send(cx, &mut records(1, 4)).is_ready());
        drop(senders);
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok(_))), "what was sent is still delivered");
        assert!(matches!(gate.poll_next(cx), Poll::Ready(Err(ChannelClosed))));
        let (gate, mut senders) = input_gate::<u32>(1, 200);
        drop(gate);
        assert!(matches!(senders[0].poll_send(cx, &mut records(1, 4)), Poll::Ready(Err(ChannelClosed))));
    }
}
