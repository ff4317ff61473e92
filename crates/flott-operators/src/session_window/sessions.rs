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
    fn extend(&mut self, window: TimeWindow) {
        self.window = self.window.cover(&window);
    }
}

/// Open sessions in the order of time; none touches another. Nearly always there is one at most.
#[derive(Debug)]
pub(super) struct Sessions<A> {
    first: Option<Session<A>>,
    /// The sessions after the first.
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
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<A>> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| &rest.sessions))
    }

    /// The end of the first session, which ends first.
    #[inline]
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.first.as_ref().map(|first| first.window.end)
    }

    /// The only session, extended by `window`, if there is only one and `window` touches it.
    #[inline]
    pub(super) fn extend_only(&mut self, window: TimeWindow) -> Option<&mut Session<A>> {
        match &mut self.first {
            Some(first) if self.rest.is_none() && first.window.intersects(&window) => {
                first.extend(window);
                Some(first)
            }
            _ => None,
        }
    }

    /// The session at a place that another method has returned.
    pub(super) fn get_mut(&mut self, place: usize) -> &mut Session<A> {
        let session = match place {
            0 => self.first.as_mut(),
            _ => self.rest.as_mut().and_then(|rest| rest.sessions.get_mut(place - 1)),
        };
        session.expect("the place of an open session")
    }

    /// Makes one session of those that `window` touches and of `window`; `None` if it touches none.
    pub(super) fn merge_touching(
        &mut self,
        window: TimeWindow,
        mut merge: impl FnMut(&mut A, &A),
    ) -> Option<usize> {
        let touched = |session: &Session<A>| session.window.intersects(&window);
        let place = self.iter().position(touched)?;
        let n_touched = self.iter().skip(place).take_while(|session| touched(session)).count();
        let mut all = self.take_all();
        let others = all.split_off(place + 1);
        if let Some(merged) = all.last_mut() {
            merged.extend(window);
            for later in others.iter().take(n_touched - 1) {
                merged.extend(later.window);
                merge(&mut merged.accumulator, &later.accumulator);
            }
        }
        all.extend(others.into_iter().skip(n_touched - 1));
        self.put_all(all);
        Some(place)
    }

    /// Adds a session that touches no other and returns its place.
    pub(super) fn insert(&mut self, session: Session<A>) -> usize {
        if self.first.is_none() {
            self.first = Some(session);
            return 0;
        }
        let mut all = self.take_all();
        let place = all.partition_point(|known| known.window < session.window);
        all.insert(place, session);
        self.put_all(all);
        place
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
        self.first = Some(all.remove(0));
        self.rest = (!all.is_empty()).then(|| Box::new(Rest { sessions: all }));
    }
}
