//! What others make ahead of its use: no more than is needed not to wait for it.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Things on their way at a time, at most. What a Kafka client needs to take an id over is half a second at most when all is well: enough for a
/// checkpoint each 62 ms.
const SPARES_MAX: usize = 8;

/// The next thing.
#[derive(Debug)]
pub(super) enum Spare<T> {
    Made(T),
    /// It has to be waited for; its maker may have gone.
    Coming(Receiver<T>),
}

/// Things that are made by others, in the order of their use.
#[derive(Debug)]
pub(super) struct Spares<T> {
    coming: VecDeque<Receiver<T>>,
    wanted: usize,
}

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self { coming: VecDeque::new(), wanted: 1 }
    }
}

impl<T> Spares<T> {
    /// Orders one more if there should be: how many come before it, and where it is to be sent.
    pub(super) fn order(&mut self) -> Option<(u64, SyncSender<T>)> {
        let ahead = self.coming.len();
        (ahead < self.wanted).then(|| {
            let (sender, receiver) = sync_channel(1);
            self.coming.push_back(receiver);
            (ahead as u64, sender)
        })
    }

    /// The next one; `None` if none was ordered.
    pub(super) fn next(&mut self) -> Option<Spare<T>> {
        let next = self.coming.pop_front()?;
        Some(next.try_recv().map_or_else(|_| Spare::Coming(next), Spare::Made))
    }

    /// They were ordered too late: from now on there is one more ahead.
    pub(super) fn order_sooner(&mut self) {
        self.wanted = SPARES_MAX.min(self.wanted + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(spares: &mut Spares<u64>) -> Vec<(u64, SyncSender<u64>)> {
        std::iter::from_fn(|| spares.order()).collect()
    }

    #[test]
    fn what_is_there_in_time_is_ordered_one_at_a_time() {
        let mut spares = Spares::default();
        for number in 0..100 {
            let orders = ordered(&mut spares);
            assert_eq!(orders.len(), 1);
            orders
                .into_iter()
                .for_each(|(ahead, sender)| sender.send(number + ahead).expect("it is awaited"));
            assert!(matches!(spares.next(), Some(Spare::Made(made)) if made == number));
        }
        assert!(spares.next().is_none(), "nothing was ordered");
    }

    #[test]
    fn what_was_ordered_too_late_is_ordered_further_ahead_up_to_a_limit_and_in_order() {
        let (mut spares, mut makers) = (Spares::default(), VecDeque::new());
        for number in 0..50 {
            makers.extend(ordered(&mut spares).into_iter().map(|(ahead, sender)| (number + ahead, sender)));
            assert_eq!(makers.len(), (number as usize + 1).min(SPARES_MAX), "in transaction {number}");
            let Some(Spare::Coming(coming)) = spares.next() else { panic!("nothing was made") };
            spares.order_sooner();
            let (made, sender) = makers.pop_front().expect("one is wanted");
            sender.send(made).expect("it is awaited");
            assert_eq!(coming.recv(), Ok(number));
        }
    }

    #[test]
    fn that_a_maker_has_gone_is_seen_by_who_waits_for_it() {
        let mut spares = Spares::<u64>::default();
        drop(ordered(&mut spares));
        assert!(matches!(spares.next(), Some(Spare::Coming(coming)) if coming.recv().is_err()));
    }
}
