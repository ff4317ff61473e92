//! Opening, merging and ending sessions, and knowing when.

use super::agenda::{Agenda, Entry};
use super::sessions::{Session, Sessions};
use flott_api::AggregateFunction;
use flott_api::windowing::{TimeWindow, Window};
use flott_types::{Timestamp, Watermark};

/// The part of the session operator that is not by key.
#[derive(Debug)]
pub(super) struct Calendar {
    pub(super) watermark: Watermark,
    agenda: Agenda,
    /// How many keys have a session.
    n_active: usize,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { watermark: Watermark::MIN, agenda: Agenda::default(), n_active: 0 }
    }
}

impl Calendar {
    /// How many keys have a session.
    pub(super) fn n_active(&self) -> usize {
        self.n_active
    }

    /// The session that a record with this window belongs to, which may be a new one or be made of several. `None` if
    /// the record is late: its window touches no open session and the watermark has passed it.
    pub(super) fn open_or_merge<'a, T, F: AggregateFunction<T>>(
        &mut self,
        sessions: &'a mut Sessions<F::Accumulator>,
        idx: u32,
        window: TimeWindow,
        function: &F,
    ) -> Option<&'a mut Session<F::Accumulator>> {
        let is_active = !sessions.is_empty();
        let place = is_active.then(|| sessions.merge_touching(window, |a, b| function.merge(a, b))).flatten();
        let place = match place {
            Some(place) => place,
            None if window.max_timestamp() <= self.watermark.timestamp() => return None,
            None => sessions.insert(Session { window, accumulator: function.create_accumulator() }),
        };
        self.n_active += usize::from(!is_active);
        self.enter(sessions, idx, window);
        Some(sessions.get_mut(place))
    }

    /// Adds a session from a snapshot.
    pub(super) fn restore<A>(&mut self, sessions: &mut Sessions<A>, idx: u32, session: Session<A>) {
        self.n_active += usize::from(sessions.is_empty());
        let window = session.window;
        sessions.insert(session);
        self.enter(sessions, idx, window);
    }

    /// Sees to it that the key is looked at when its first session ends.
    fn enter<A>(&mut self, sessions: &mut Sessions<A>, idx: u32, window: TimeWindow) {
        let Some(end) = sessions.first_end() else { return };
        // Not `<`: the end of time is also what a key without sessions has.
        if end <= sessions.look_again_at {
            sessions.look_again_at = end;
            self.agenda.insert(end, idx, window.end.saturating_sub(window.start));
        }
    }

    /// Takes some of the entries that are due; all of them end until the time that is returned.
    pub(super) fn take_due(&mut self, entries: &mut Vec<Entry>) -> Option<Timestamp> {
        self.agenda.take_due(self.watermark.timestamp().saturating_add(1), entries)
    }

    /// Looks at a key because of an entry: takes out its sessions that end until `until`.
    pub(super) fn look_at<A>(
        &mut self,
        sessions: &mut Sessions<A>,
        idx: u32,
        at: Timestamp,
        until: Timestamp,
        take: impl FnMut(Session<A>),
    ) {
        // An entry does not count if an earlier one has been made for the key since, or the key is gone.
        if sessions.look_again_at != at || sessions.is_empty() {
            return;
        }
        sessions.take_until(until, take);
        match sessions.first_end() {
            Some(end) => {
                sessions.look_again_at = end;
                self.agenda.insert(end, idx, 0);
            }
            None => {
                sessions.look_again_at = Timestamp::MAX;
                self.n_active -= 1;
            }
        }
    }
}
