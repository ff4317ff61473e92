//! The events of an attempt, and of the regions of it that were started again.
//!
//! A subtask that was started again has the name of the one before, and what that has said may still be under way: its parts are written by threads of
//! their own. So each start has a channel of its own with a number, and what comes from an old one about a subtask that has a newer is dropped.

use flott_env::sync::mpsc;
use flott_graph::{SubtaskId, TaskEvent};
use std::collections::BTreeMap;
use std::task::{Context, Poll};

/// Reports that may wait for the master; subtasks wait when there are more.
const EVENTS_MAX: usize = 1024;

/// The number of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StartNumber(u32);

/// Where subtasks report.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    channels: Vec<(StartNumber, mpsc::Receiver<TaskEvent>)>,
    next: u32,
    /// The start that a subtask is of; the first if it is not here.
    starts: BTreeMap<SubtaskId, StartNumber>,
}

impl Inbox {
    /// A channel for the events of `subtasks`, which are started again; or of all that are started, if there are none yet.
    pub(crate) fn open<'a>(
        &mut self,
        subtasks: impl IntoIterator<Item = &'a SubtaskId>,
    ) -> mpsc::Sender<TaskEvent> {
        let start = StartNumber(self.next);
        self.next += 1;
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        self.channels.push((start, receiver));
        self.starts.extend(subtasks.into_iter().map(|id| (*id, start)));
        sender
    }

    /// The next event that counts.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TaskEvent> {
        let mut idx = 0;
        while let Some((start, channel)) = self.channels.get_mut(idx) {
            match channel.poll_recv(cx) {
                Poll::Ready(Some(event)) => {
                    let newest = self.starts.get(&event.subtask()).copied().unwrap_or(StartNumber(0));
                    if *start >= newest {
                        return Poll::Ready(event);
                    }
                }
                // All of its subtasks are gone.
                Poll::Ready(None) => drop(self.channels.remove(idx)),
                Poll::Pending => idx += 1,
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_graph::VertexId;
    use flott_types::SubtaskIndex;
    use std::task::Waker;

    #[test]
    fn what_an_earlier_start_of_a_subtask_says_is_not_heard() {
        let id = |idx| SubtaskId { vertex: VertexId(0), subtask: SubtaskIndex(idx) };
        let mut inbox = Inbox::default();
        let next = |inbox: &mut Inbox| match inbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event.subtask()),
            Poll::Pending => None,
        };
        let first = inbox.open([]);
        first.try_send(TaskEvent::Running(id(0))).expect("there is room");
        assert_eq!(next(&mut inbox), Some(id(0)));
        let second = inbox.open(&[id(0)]);
        first.try_send(TaskEvent::Ended(id(0))).expect("there is room");
        first.try_send(TaskEvent::Ended(id(1))).expect("there is room");
        second.try_send(TaskEvent::Running(id(0))).expect("there is room");
        assert_eq!(next(&mut inbox), Some(id(1)), "a region that goes on is heard");
        assert_eq!(next(&mut inbox), Some(id(0)));
        drop(second);
        assert_eq!(next(&mut inbox), None);
        first.try_send(TaskEvent::Ended(id(0))).expect("there is room");
        assert_eq!(next(&mut inbox), None);
    }
}
