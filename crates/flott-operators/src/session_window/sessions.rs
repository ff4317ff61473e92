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

/// Open sessions in the order of time, one at least; none touches another. Nearly always there is only one.
#[derive(Debug)]
pub(super) struct Sessions<A> {
    pub(super) first: Session<A>,
    later: Option<Box<Later<A>>>,
    /// The time of the key's entry in the agenda: no session ends earlier.
    pub(super) look_again_at: Timestamp,
}

#[derive(Debug)]
struct Later<A> {
    /// Not empty.
    sessions: Vec<Session<A>>,
}

impl<A> Sessions<A> {
    pub(super) fn new(session: Session<A>) -> Self {
        Self { look_again_at: session.window.end, first: session, later: None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<A>> {
        std::iter::once(&self.first).chain(self.later.iter().flat_map(|later| &later.sessions))
    }

    /// The only session, extended by `window`, if there is only one and `window` touches it.
    #[inline]
    pub(super) fn extend_only(&mut self, window: TimeWindow) -> Option<&mut Session<A>> {
        if self.later.is_none() && self.first.window.intersects(&window) {
            self.first.extend(window);
            return Some(&mut self.first);
        }
        None
    }

    /// Makes one session of those that `window` touches and of `window`; `None` if it touches none.
    pub(super) fn merge_touching(
        &mut self,
        window: TimeWindow,
        mut merge: impl FnMut(&mut A, &A),
    ) -> Option<&mut Session<A>> {
        let is_touched = |session: &Session<A>| session.window.intersects(&window);
        let place = self.iter().position(is_touched)?;
        let n_touched = self.iter().skip(place).take_while(|session| is_touched(session)).count();
        // The places of the sessions after the first one that is touched.
        let absorbed = place..place + n_touched - 1;
        let absorbed: Vec<_> = match &mut self.later {
            Some(later) => later.sessions.drain(absorbed).collect(),
            None => Vec::new(),
        };
        self.later.take_if(|later| later.sessions.is_empty());
        let merged = self.get_mut(place);
        merged.extend(window);
        for later in absorbed {
            merged.extend(later.window);
            merge(&mut merged.accumulator, &later.accumulator);
        }
        Some(merged)
    }

    /// Adds a session that touches no other.
    pub(super) fn insert(&mut self, mut session: Session<A>) -> &mut Session<A> {
        let place = self.iter().take_while(|known| known.window < session.window).count();
        if place == 0 {
            std::mem::swap(&mut self.first, &mut session);
        }
        let later = self.later.get_or_insert_with(|| Box::new(Later { sessions: Vec::new() }));
        later.sessions.insert(place.saturating_sub(1), session);
        self.get_mut(place)
    }

    fn get_mut(&mut self, place: usize) -> &mut Session<A> {
        match (place, &mut self.later) {
            (1.., Some(later)) => &mut later.sessions[place - 1],
            _ => &mut self.first,
        }
    }

    /// Removes the first session; says whether there is another.
    pub(super) fn remove_first(&mut self) -> bool {
        let Some(later) = &mut self.later else { return false };
        self.first = later.sessions.remove(0);
        self.later.take_if(|later| later.sessions.is_empty());
        true
    }
}
