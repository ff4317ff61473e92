//! The open sessions of one key.

use flott_api::windowing::{TimeWindow, Window};
use flott_types::Timestamp;
use serde::{Deserialize, Serialize};

/// A session and what was aggregated in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session<A> {
    pub(super) window: TimeWindow,
    pub(super) accumulator: A,
}

impl<A> Session<A> {
    #[inline]
    pub(super) fn extend(&mut self, window: TimeWindow) {
        self.window = self.window.cover(&window);
    }
}

/// Open sessions in the order of time; none touches another.
#[derive(Debug)]
pub(super) struct Sessions<A> {
    /// The first session, or none.
    first: Option<Session<A>>,
    /// The others.
    rest: Option<Box<Rest<A>>>,
    /// The time of the key's entry in the agenda: no session ends earlier.
    pub(super) look_again_at: Timestamp,
}

#[derive(Debug)]
struct Rest<A> {
    sessions: Vec<Session<A>>,
}

impl<A> Default for Sessions<A> {
    fn default() -> Self {
        Self { first: None, rest: None, look_again_at: Timestamp::MAX }
    }
}

impl<A> Sessions<A> {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<A>> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| &rest.sessions))
    }

    /// The end of the first session, which ends first.
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.first.as_ref().map(|first| first.window.end)
    }

    /// The only session, if there is only one and `window` touches it.
    #[inline]
    pub(super) fn only_touched_by(&mut self, window: TimeWindow) -> Option<&mut Session<A>> {
        match &mut self.first {
            Some(first) if self.rest.is_none() && first.window.intersects(&window) => Some(first),
            _ => None,
        }
    }

    /// Makes one session of those that `window` touches and of `window`; `None` if it touches none.
    pub(super) fn merge_touching(
        &mut self,
        window: TimeWindow,
        mut merge: impl FnMut(&mut A, &A),
    ) -> Option<&mut Session<A>> {
        let sessions = self.take_all();
        let mut merged = None;
        let n_before = sessions.len();
        let mut kept = Vec::with_capacity(n_before);
        for session in sessions {
            if !session.window.intersects(&window) {
                kept.push(session);
                continue;
            }
            match &mut merged {
                None => merged = Some(session),
                Some(earlier) => {
                    earlier.extend(session.window);
                    merge(&mut earlier.accumulator, &session.accumulator);
                }
            }
        }
        self.put_all(kept);
        let mut merged = merged?;
        merged.extend(window);
        Some(self.insert(merged))
    }

    /// Adds a session that touches no other.
    pub(super) fn insert(&mut self, session: Session<A>) -> &mut Session<A> {
        let mut all = self.take_all();
        let place = all.partition_point(|known| known.window < session.window);
        all.insert(place, session);
        self.put_all(all);
        if place == 0 {
            self.first.as_mut().expect("was just inserted")
        } else {
            &mut self.rest.as_mut().expect("was just inserted").sessions[place - 1]
        }
    }

    /// Takes out the sessions that end until `until`, in their order.
    pub(super) fn take_until(&mut self, until: Timestamp, mut take: impl FnMut(Session<A>)) {
        while let Some(first) = self.first.take_if(|first| first.window.end <= until) {
            take(first);
            if let Some(mut rest) = self.rest.take() {
                self.first = Some(rest.sessions.remove(0));
                self.rest = (!rest.sessions.is_empty()).then_some(rest);
            }
        }
    }

    fn take_all(&mut self) -> Vec<Session<A>> {
        let mut all = self.rest.take().map(|rest| rest.sessions).unwrap_or_default();
        if let Some(first) = self.first.take() {
            all.insert(0, first);
        }
        all
    }

    fn put_all(&mut self, mut all: Vec<Session<A>>) {
        if all.is_empty() {
            return;
        }
        self.first = Some(all.remove(0));
        self.rest = (!all.is_empty()).then(|| Box::new(Rest { sessions: all }));
    }
}
